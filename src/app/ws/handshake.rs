//! The opening handshake, judged (RFC 6455 section 4.2).
//!
//! Owns what a client's request must say; leaves the answer to `upgrade` and the server.

use crate::app::Request;
use crate::http::{Method, Version, is_token, members, websocket_accept};
use base64ct::{Base64, Encoding};

/// Subprotocols in one handshake: each is compared with those before it.
const MOST_PROTOCOLS: usize = 64;

/// Octets of a key (4.1).
const KEY: usize = 16;

/// A handshake that is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The value of `Sec-WebSocket-Accept`.
    pub(super) accept: String,
    /// The subprotocols that the client speaks, best first.
    pub(super) protocols: Vec<String>,
    /// The page that asks, as its browser says; `Some(None)` if that cannot be told.
    pub(super) origin: Option<Option<String>>,
}

/// A handshake that is not: the status of the answer, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) what: &'static str,
}

const fn bad(what: &'static str) -> Refusal {
    Refusal { status: 400, what }
}

const fn upgrade_required(what: &'static str) -> Refusal {
    Refusal { status: 426, what }
}

/// Judges a request.
///
/// # Errors
///
/// Says how it is to be answered.
pub(super) fn judge(request: &Request) -> Result<Accepted, Refusal> {
    match request.method() {
        Method::Get | Method::Head => {}
        _ => {
            return Err(Refusal {
                status: 405,
                what: "a WebSocket begins with GET",
            });
        }
    }
    let fields = || request.headers();
    judge_fields(request.method(), request.version(), fields)
}

/// The same by the parts of a request. `fields` gives all of them each time.
fn judge_fields<'r, F, I>(method: Method, version: Version, fields: F) -> Result<Accepted, Refusal>
where
    F: Fn() -> I,
    I: Iterator<Item = (&'r str, &'r [u8])>,
{
    // RFC 6455 section 4.2.1, by its numbers, with what RFC 9110 7.8 says of Upgrade:
    //
    // 1. GET, HTTP/1.1 at least. A body would be the first frames of the other protocol.
    // 2. Host: the server has seen to it.
    // 3. Upgrade names websocket, 4. Connection names upgrade: else this is no handshake at all.
    // 6. Sec-WebSocket-Version, once, is 13: else the answer says which is served (4.4).
    // 5. Sec-WebSocket-Key, once, is sixteen octets.
    // 7. Origin, 8. subprotocols, 9. extensions: if present, by their grammar.
    let all = |name: &'static str| {
        let same = move |(known, _): &(&str, _)| known.eq_ignore_ascii_case(name);
        fields().filter(same).map(|(_, value)| value)
    };
    let names = |field, token: &str| {
        let token = token.as_bytes();
        all(field).any(|value| members(value).any(|one| one.eq_ignore_ascii_case(token)))
    };
    if version != Version::Http11 {
        return Err(bad("HTTP/1.0 has no upgrade"));
    }
    if method != Method::Get || !names("upgrade", "websocket") {
        return Err(upgrade_required("this is for WebSocket clients"));
    }
    if !names("connection", "upgrade") {
        return Err(bad("Connection does not name upgrade"));
    }
    let announced = |value: &[u8]| value != b"0";
    if all("transfer-encoding").next().is_some() || all("content-length").any(announced) {
        return Err(bad("a handshake has no body"));
    }
    if once(all("sec-websocket-version")) != Some(b"13") {
        return Err(upgrade_required("version 13 is served"));
    }
    let key = once(all("sec-websocket-key"))
        .filter(|key| is_key(key))
        .ok_or(bad("Sec-WebSocket-Key is not one key of 16 octets"))?;
    let mut protocols = Vec::new();
    for name in all("sec-websocket-protocol").flat_map(members) {
        let name = str::from_utf8(name)
            .ok()
            .filter(|name| is_token(name.as_bytes()));
        let name = name.ok_or(bad("a malformed Sec-WebSocket-Protocol"))?;
        if protocols.len() == MOST_PROTOCOLS {
            return Err(bad("too many subprotocols"));
        }
        if protocols.iter().any(|known| known == name) {
            return Err(bad("a subprotocol stands twice"));
        }
        protocols.push(name.to_owned());
    }
    if !all("sec-websocket-extensions").all(is_extension_list) {
        return Err(bad("a malformed Sec-WebSocket-Extensions"));
    }
    let mut origins = all("origin");
    let origin = origins.next().map(|first| match origins.next() {
        None => str::from_utf8(first).ok().map(str::to_owned),
        Some(_) => None,
    });
    Ok(Accepted {
        accept: websocket_accept(key),
        protocols,
        origin,
    })
}

/// The one value.
fn once<'r>(mut values: impl Iterator<Item = &'r [u8]>) -> Option<&'r [u8]> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn is_key(key: &[u8]) -> bool {
    let mut octets = [0; KEY + 2];
    Base64::decode(key, &mut octets).is_ok_and(|octets| octets.len() == KEY)
}

/// Whether `value` is a list of extensions (9.1): names with parameters, whose values are tokens,
/// perhaps in quotes. None is ever accepted, but what breaks the grammar is refused.
fn is_extension_list(value: &[u8]) -> bool {
    let parameter = |one: &[u8]| {
        let mut sides = one.splitn(2, |&b| b == b'=').map(<[u8]>::trim_ascii);
        let name = sides.next().is_some_and(is_token);
        name && sides.next().is_none_or(|value| is_token(unquoted(value)))
    };
    members(value).all(|extension| {
        let mut parts = extension.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        parts.next().is_some_and(is_token) && parts.all(parameter)
    })
}

/// The inside of quotes, which holds a token after unescaping, so nothing needs an escape.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inside @ .., b'"'] => inside,
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("Host", "test"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn judged(fields: &[(&str, &str)]) -> Result<Accepted, u16> {
        let fields = || fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        judge_fields(Method::Get, Version::Http11, fields).map_err(|refusal| refusal.status)
    }

    /// The good one with `name` as given: absent, once, or more often.
    fn with(name: &str, values: &[&str]) -> Result<Accepted, u16> {
        let others = GOOD.iter().copied().filter(|(known, _)| *known != name);
        let fields: Vec<_> = others
            .chain(values.iter().map(|value| (name, *value)))
            .collect();
        judged(&fields)
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let accepted = judged(&GOOD).unwrap();
        assert_eq!(accepted.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accepted.protocols.is_empty() && accepted.origin.is_none());
    }

    #[test]
    fn each_field_is_judged_by_its_rule() {
        let key = "Sec-WebSocket-Key";
        let cases: [(&str, &[&str], u16); 40] = [
            ("Upgrade", &[], 426),
            ("Upgrade", &["WebSocket"], 0),
            ("Upgrade", &["h2c, WEBSOCKET"], 0),
            ("Upgrade", &["h2c", "websocket"], 0),
            ("Upgrade", &["websockets"], 426),
            ("Upgrade", &["xwebsocket"], 426),
            ("Upgrade", &["h2c"], 426),
            ("Connection", &[], 400),
            ("Connection", &["keep-alive, upgrade"], 0),
            ("Connection", &["keep-alive", "Upgrade"], 0),
            ("Connection", &["keep-alive"], 400),
            ("Connection", &["upgrades"], 400),
            ("Sec-WebSocket-Version", &[], 426),
            ("Sec-WebSocket-Version", &["8"], 426),
            ("Sec-WebSocket-Version", &["013"], 426),
            ("Sec-WebSocket-Version", &["13, 8"], 426),
            ("Sec-WebSocket-Version", &["13", "13"], 426),
            (key, &[], 400),
            (key, &[""], 400),
            (key, &["dGhlIHNhbXBsZSBub25jZQ"], 400),
            (key, &["dGhlIHNhbXBsZSBub25jZR=="], 400),
            (key, &["dGhlIHNhbXBsZSBub25jZQ==="], 400),
            (key, &["dGhlIHNhbXBsZSBub25j"], 400),
            (key, &["dGhlIHNhbXBsZSBub25jZWU="], 400),
            (key, &["dGhl IHNhbXBsZSBub25jZQ=="], 400),
            (
                key,
                &["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="],
                400,
            ),
            (key, &["AAAAAAAAAAAAAAAAAAAAAA=="], 0),
            ("Content-Length", &["0"], 0),
            ("Content-Length", &["5"], 400),
            ("Transfer-Encoding", &["chunked"], 400),
            ("Sec-WebSocket-Protocol", &["chat, superchat"], 0),
            ("Sec-WebSocket-Protocol", &["chat", "superchat"], 0),
            ("Sec-WebSocket-Protocol", &["chat, chat"], 400),
            ("Sec-WebSocket-Protocol", &["a b"], 400),
            (
                "Sec-WebSocket-Extensions",
                &["permessage-deflate; client_max_window_bits"],
                0,
            ),
            ("Sec-WebSocket-Extensions", &["x; a=\"b\"; c=d, y"], 0),
            ("Sec-WebSocket-Extensions", &["x; a=\"b c\""], 400),
            ("Sec-WebSocket-Extensions", &["x;; a"], 400),
            ("Sec-WebSocket-Extensions", &["x y"], 400),
            ("Origin", &["https://example.org"], 0),
        ];
        for (name, values, status) in cases {
            let judged = with(name, values).err().unwrap_or(0);
            assert_eq!(judged, status, "{name}: {values:?}");
        }
    }

    #[test]
    fn only_get_of_http_1_1_is_a_handshake() {
        let fields = || GOOD.iter().map(|(name, value)| (*name, value.as_bytes()));
        let status = |method, version| {
            let judged = judge_fields(method, version, fields);
            judged.err().map(|refusal| refusal.status)
        };
        assert_eq!(status(Method::Get, Version::Http11), None);
        assert_eq!(status(Method::Head, Version::Http11), Some(426));
        assert_eq!(status(Method::Get, Version::Http10), Some(400));
    }

    #[test]
    fn what_the_client_offers_is_kept() {
        let accepted = with("Sec-WebSocket-Protocol", &["b, a", "c"]).unwrap();
        assert_eq!(accepted.protocols, ["b", "a", "c"]);
        let origin = |values: &[&str]| with("Origin", values).unwrap().origin;
        assert_eq!(origin(&["null"]), Some(Some("null".to_owned())));
        assert_eq!(origin(&["a", "b"]), Some(None));
    }
}
