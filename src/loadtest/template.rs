//! The bytes of a request, made once for a whole test.
//!
//! Owns which fields are sent and which of them are the user's to say; the framing is ours. The handshake
//! of a WebSocket is `echo`'s, with the fields that are the same.

use super::target::Target;
use super::{Error, Loadtest, Result};
use crate::http::{field, is_field_value, is_token};

const USER_AGENT: &str = concat!("mcluster/", env!("CARGO_PKG_VERSION"));

/// The media type of a body, unless another is said.
const USUAL_TYPE: &str = "text/plain";

/// The method in capitals: what is said, else POST with a body and GET without.
///
/// # Errors
///
/// For what is no name of a method, and for CONNECT, which asks for a tunnel.
pub(crate) fn method(plan: &Loadtest) -> Result<String> {
    let method = match &plan.method {
        Some(method) => method.to_ascii_uppercase(),
        None if plan.body.is_empty() => "GET".to_owned(),
        None => "POST".to_owned(),
    };
    if !is_token(method.as_bytes()) {
        return Err(Error::Usage(format!("{method:?} is no method")));
    }
    if method == "CONNECT" {
        let what = "CONNECT asks for a tunnel, which is not tested here";
        return Err(Error::Usage(what.to_owned()));
    }
    Ok(method)
}

/// Whether doing it twice is as good as once (RFC 9110 section 9.2.2).
pub(crate) fn is_idempotent(method: &str) -> bool {
    let known = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"];
    known.contains(&method)
}

/// A request as it is sent each time.
///
/// # Errors
///
/// For a method, field or cookie that cannot be sent, and for fields that say the framing.
pub(crate) fn request(plan: &Loadtest, target: &Target) -> Result<Vec<u8>> {
    let method = method(plan)?;
    let length = plan.body.len().to_string();
    let mut ours = vec![("Accept", "*/*")];
    if !plan.body.is_empty() {
        ours.push((
            "Content-Type",
            plan.content_type.as_deref().unwrap_or(USUAL_TYPE),
        ));
    }
    // Without a body too where one is to be expected (RFC 9110 section 8.6).
    if !plan.body.is_empty() || matches!(method.as_str(), "POST" | "PUT" | "PATCH") {
        ours.push(("Content-Length", &length));
    }
    if !plan.keep_alive {
        ours.push(("Connection", "close"));
    }
    let framing = ["Content-Length", "Transfer-Encoding"];
    let mut out = head(plan, target, &method, &ours, &framing)?;
    out.extend_from_slice(&plan.body);
    Ok(out)
}

/// A request's head, with its empty line: Host and User-Agent, `ours`, the cookies, and the user's fields,
/// each in place of one of the same name but for those in `reserved`.
///
/// # Errors
///
/// For a field or cookie that cannot be sent, and for one in `reserved`.
pub(super) fn head(
    plan: &Loadtest,
    target: &Target,
    method: &str,
    ours: &[(&str, &str)],
    reserved: &[&str],
) -> Result<Vec<u8>> {
    let theirs = theirs(plan, reserved)?;
    let said = |name: &str| {
        theirs
            .iter()
            .any(|(said, _)| said.eq_ignore_ascii_case(name))
    };
    let mut out = format!("{method} {} HTTP/1.1\r\n", target.target()).into_bytes();
    let host = target.host_field();
    let usual = [("Host", host.as_str()), ("User-Agent", USER_AGENT)];
    for (name, value) in usual.iter().chain(ours) {
        if !said(name) {
            // What the plan says of the body's type.
            check_value(name, value)?;
            field(&mut out, name, value.as_bytes());
        }
    }
    // One field for all, for servers may read but one (RFC 6265 section 5.4).
    let is_cookie = |name: &str| name.eq_ignore_ascii_case("Cookie");
    let fields = theirs.iter().filter(|(name, _)| is_cookie(name));
    let cookies: Vec<_> = fields
        .map(|(_, value)| *value)
        .chain(plan.cookies.iter().map(|pair| trim(pair)))
        .collect();
    if !cookies.is_empty() {
        let cookies = cookies.join("; ");
        check_value("Cookie", &cookies)?;
        field(&mut out, "Cookie", cookies.as_bytes());
    }
    for (name, value) in theirs.iter().filter(|(name, _)| !is_cookie(name)) {
        field(&mut out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

/// The user's fields, once all are right.
fn theirs<'p>(plan: &'p Loadtest, reserved: &[&str]) -> Result<Vec<(&'p str, &'p str)>> {
    let checked = plan.headers.iter().map(|(name, value)| {
        let (name, value) = (trim(name), trim(value));
        if !is_token(name.as_bytes()) {
            return Err(Error::Usage(format!("{name:?} is no name of a header")));
        }
        if reserved.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            return Err(Error::Usage(format!(
                "the header {name} is not to be given: what is sent decides it"
            )));
        }
        check_value(name, value)?;
        Ok((name, value))
    });
    checked.collect()
}

fn check_value(name: &str, value: &str) -> Result<()> {
    match is_field_value(value.as_bytes()) {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "{value:?} cannot be the value of the header {name}"
        ))),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(plan: &Loadtest) -> Result<String> {
        let target = Target::parse(&plan.url)?;
        let bytes = request(plan, &target)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn plan() -> Loadtest {
        Loadtest::new("http://localhost:3000/a?b").keep_alive(true)
    }

    fn refused(plan: &Loadtest) -> String {
        match made(plan) {
            Err(Error::Usage(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_plainest_request() {
        let version = env!("CARGO_PKG_VERSION");
        let fields = format!(
            "GET /a?b HTTP/1.1\r\nHost: localhost:3000\r\nUser-Agent: mcluster/{version}\r\nAccept: */*\r\n"
        );
        assert_eq!(made(&plan()).unwrap(), format!("{fields}\r\n"));
        assert_eq!(
            made(&plan().keep_alive(false)).unwrap(),
            format!("{fields}Connection: close\r\n\r\n")
        );
    }

    #[test]
    fn bodies_and_their_fields() {
        let text = made(&plan().body("hello")).unwrap();
        assert!(text.starts_with("POST /a?b "));
        let end = "\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
        assert!(text.ends_with(end), "{text}");
        let json = plan().method("put").body("{}");
        let text = made(&json.content_type("application/json")).unwrap();
        assert!(
            text.starts_with("PUT ") && text.contains("\r\nContent-Type: application/json\r\n")
        );
        let text = made(&plan().body("{}").header("content-type", "a/b")).unwrap();
        assert!(text.contains("\r\ncontent-type: a/b\r\n") && !text.contains("text/plain"));
        for method in ["POST", "PUT", "patch"] {
            let text = made(&plan().method(method)).unwrap();
            assert!(text.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{text}");
        }
        assert!(!made(&plan().method("DELETE")).unwrap().contains("Content-"));
    }

    #[test]
    fn what_the_user_says_replaces_ours_and_stands_twice_if_said_twice() {
        let own = plan()
            .header("host", "example.org")
            .header("USER-AGENT", "me")
            .header("Accept", "text/html")
            .header("X-A", " 1 ")
            .header("X-A", "2")
            .header("X-Empty", "");
        let end = "host: example.org\r\nUSER-AGENT: me\r\nAccept: text/html\r\nX-A: 1\r\nX-A: 2\r\nX-Empty: \r\n\r\n";
        assert_eq!(made(&own).unwrap(), format!("GET /a?b HTTP/1.1\r\n{end}"));
        let closing = made(&plan().keep_alive(false).header("connection", "x")).unwrap();
        assert!(!closing.contains("close"));
    }

    #[test]
    fn cookies_share_a_field() {
        let text = made(&plan().cookie("a=b").cookie("c=d")).unwrap();
        assert!(text.contains("\r\nCookie: a=b; c=d\r\n"));
        let text = made(&plan().cookie("c=d").header("cookie", "a=b")).unwrap();
        assert!(text.contains("\r\nCookie: a=b; c=d\r\n") && !text.contains("cookie"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let cases = [
            plan().method("G T"),
            plan().method(""),
            plan().method("GET / HTTP/1.1\r\n"),
            plan().method("connect"),
            plan().header("", "a"),
            plan().header("A B", "a"),
            plan().header("A:", "a"),
            plan().header("A", "a\r\nB: c"),
            plan().header("A", "\0"),
            plan().cookie("a=b\nc"),
            plan().body("a").content_type("a\r\nb"),
        ];
        for case in &cases {
            refused(case);
        }
        for name in ["content-length", "Transfer-Encoding"] {
            assert!(refused(&plan().header(name, "1")).contains(name));
        }
    }

    #[test]
    fn methods_that_may_be_repeated() {
        assert!(is_idempotent("GET") && is_idempotent("PUT"));
        assert!(!is_idempotent("POST") && !is_idempotent("PATCH") && !is_idempotent("OTHER"));
    }
}
