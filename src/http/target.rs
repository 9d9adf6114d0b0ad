//! The request target: its forms, its path and query, and the authority in it or in Host (RFC 9112 section 3.2).
//! Decoding a query is `form`'s; dot segments are left to whoever maps a path to something.

use std::net::Ipv6Addr;

use super::error::{Error, bad};
use super::grammar::{escape, is_host_byte, is_plain, is_target_byte, is_unreserved};
use super::method::Method;

/// A range of a text, in bytes; `u32` because a head is bounded and there are many of these.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// The range from `start` to `end`, both below [`u32::MAX`] as the head's limit promises.
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(end <= u32::MAX as usize);
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn of(self, text: &str) -> &str {
        // Out of range only for a bug here, and an empty text beats a panic in a server.
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    pub(super) fn of_bytes(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Where the parts of a target lie in the text it was read from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) authority: Option<Span>,
}

/// Splits the target, which `text` holds and nothing else. A path that is not there as it should be read (an empty
/// one, or one with unreserved characters escaped) is appended to `text`.
///
/// # Errors
///
/// 400 for anything but the origin-form, the absolute-form, or the asterisk-form of an OPTIONS request.
pub(super) fn split(method: Method, text: &mut String) -> Result<Parts, Error> {
    let target = text.as_bytes();
    match target {
        [b'/', ..] => {
            let (path, query) = path_and_query(text, 0)?;
            Ok(Parts {
                path,
                query,
                authority: None,
            })
        }
        // 3.2.4: the asterisk-form is only for a server-wide OPTIONS.
        b"*" if method == Method::Options => Ok(Parts {
            path: Span::new(0, 1),
            ..Parts::default()
        }),
        // 3.2.3: the authority-form is only for CONNECT, which is not served.
        _ => absolute(text),
    }
}

/// The absolute-form: `http://authority/path?query` (RFC 9112 section 3.2.2).
fn absolute(text: &mut String) -> Result<Parts, Error> {
    let target = text.as_bytes();
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| starts_with_ignore_case(target, scheme))
        .ok_or(bad("a request target of no known form"))?;
    let from = scheme.len();
    let to = target[from..]
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .map_or(target.len(), |n| from + n);
    // RFC 9110 section 4.2.1: no empty host; section 4.2.4: userinfo is an error. The grammar has no '@'.
    authority(&target[from..to])?;
    if from == to {
        return Err(bad("an empty host in the request target"));
    }
    let (mut path, query) = path_and_query(text, to)?;
    if path.start == path.end {
        let at = text.len();
        text.push('/');
        path = Span::new(at, at + 1);
    }
    Ok(Parts {
        path,
        query,
        authority: Some(Span::new(from, to)),
    })
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .get(..prefix.len())
        .is_some_and(|front| front.eq_ignore_ascii_case(prefix))
}

/// Splits `text` from `start` on into path and query, and undoes the path's needless escapes.
fn path_and_query(text: &mut String, start: usize) -> Result<(Span, Option<Span>), Error> {
    let end = text.len();
    let bytes = text.as_bytes();
    let mut at = start;
    let mut decodable = false;
    loop {
        at += bytes[at..].iter().take_while(|&&b| is_plain(b)).count();
        match bytes.get(at) {
            None | Some(b'?') => break,
            Some(b'%') => {
                let decoded = escape(&bytes[at..]).ok_or(bad("a bad escape in the path"))?;
                decodable |= is_unreserved(decoded);
                at += 3;
            }
            Some(_) => return Err(bad("a bad byte in the request target")),
        }
    }
    let query = if at < end {
        if !bytes[at..].iter().all(|&b| is_target_byte(b)) {
            return Err(bad("a bad byte in the request target"));
        }
        Some(Span::new(at + 1, end))
    } else {
        None
    };
    let path = Span::new(start, at);
    if !decodable {
        return Ok((path, query));
    }
    decode_unreserved(text, start, at);
    Ok((Span::new(end, text.len()), query))
}

/// Appends `text[start..end]` to `text`, its escaped unreserved characters decoded. Only those mean the same either
/// way (RFC 3986 section 6.2.2.2); an escaped slash, for one, does not.
fn decode_unreserved(text: &mut String, start: usize, end: usize) {
    let mut at = start;
    while at < end {
        let byte = text.as_bytes()[at];
        match escape(&text.as_bytes()[at..end]) {
            Some(decoded) if is_unreserved(decoded) => {
                text.push(char::from(decoded));
                at += 3;
            }
            // ASCII, or the target would have been refused.
            _ => {
                text.push(char::from(byte));
                at += 1;
            }
        }
    }
}

/// Checks `uri-host [ ":" port ]` (RFC 9110 sections 4.2 and 7.2, RFC 3986 section 3.2.2) which is ASCII then.
///
/// Empty is allowed, as a Host for a target without authority; a port without a host is not.
///
/// # Errors
///
/// 400 for everything else.
pub(super) fn authority(value: &[u8]) -> Result<(), Error> {
    const BAD: Error = bad("a bad host");
    let host_len = match value {
        [] => return Ok(()),
        [b'[', ..] => {
            let close = memchr::memchr(b']', value).ok_or(BAD)?;
            // No zone identifiers and no IPvFuture: neither means anything to a server.
            let address = str::from_utf8(&value[1..close]).map_err(|_| BAD)?;
            address.parse::<Ipv6Addr>().map_err(|_| BAD)?;
            close + 1
        }
        _ => registered_name(value)?,
    };
    match &value[host_len..] {
        [] => Ok(()),
        [b':', port @ ..] if host_len > 0 => check_port(port),
        _ => Err(BAD),
    }
}

/// How many bytes of `value` are a registered name or an IPv4 address.
fn registered_name(value: &[u8]) -> Result<usize, Error> {
    let mut at = 0;
    loop {
        let rest = &value[at..];
        at += rest.iter().take_while(|&&b| is_host_byte(b)).count();
        match value.get(at) {
            Some(b'%') => {
                escape(&value[at..]).ok_or(bad("a bad escape in the host"))?;
                at += 3;
            }
            _ => return Ok(at),
        }
    }
}

/// A port is digits, perhaps none (RFC 3986 section 3.2.3), and fits sixteen bits.
fn check_port(digits: &[u8]) -> Result<(), Error> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("a bad port"));
    }
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits = &digits[zeros..];
    let add = |port: u32, digit: &u8| port * 10 + u32::from(digit - b'0');
    // Five digits fit thirty-two bits.
    match digits.len() <= 5 && digits.iter().fold(0, add) <= u32::from(u16::MAX) {
        true => Ok(()),
        false => Err(bad("a port above 65535")),
    }
}
