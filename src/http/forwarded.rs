//! Who sent a request, by what proxies say of it: `Forwarded` (RFC 7239), `X-Forwarded-For` and
//! `X-Forwarded-Proto`.
//!
//! Owns the grammar and the walk from the nearest hop back to the client. Whom to believe comes
//! from the caller: what stands left of the first hop that is not trusted may be anybody's words.

use super::grammar::{is_ows, is_token, members, trim_ows};
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The fields by which the proxies in front name their clients: those that they overwrite or add to
/// in every request. Whatever a client sends of the other kind passes them by, and so is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardedFields {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl fmt::Display for ForwardedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XForwarded => "x-forwarded",
            Self::Forwarded => "forwarded",
        })
    }
}

impl FromStr for ForwardedFields {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "x-forwarded" => Ok(Self::XForwarded),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(format!(
                "{word:?} names no fields of proxies (x-forwarded or forwarded)"
            )),
        }
    }
}

/// Who sent a request, as far as can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedClient {
    /// The address; nothing when the hop that is known is a unix socket.
    pub ip: Option<IpAddr>,
    /// It spoke HTTPS.
    pub https: bool,
}

/// What one proxy says of the hop before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hop {
    /// Nothing where it is hidden or not known.
    ip: Option<IpAddr>,
    https: Option<bool>,
}

/// Walks back from a trusted `peer` (nothing is a unix socket) by what those of the `fields` say
/// that are of the `kind` which its proxies write, for as long as each hop is `trusted`, up to the
/// first that is not. Anything malformed or hidden ends the walk at the hop before it.
///
/// # Examples
///
/// ```
/// use mcluster::http::{ForwardedFields, forwarded_client};
///
/// let fields = [("X-Forwarded-For", &b"6.6.6.6, 192.0.2.7, 10.0.0.2"[..])];
/// let trusted = |ip: std::net::IpAddr| ip.to_string().starts_with("10.");
/// let (peer, kind) = ("10.0.0.1".parse().ok(), ForwardedFields::XForwarded);
/// let found = forwarded_client(fields.into_iter(), kind, peer, trusted);
/// assert_eq!(found.ip, "192.0.2.7".parse().ok());
/// ```
pub fn forwarded_client<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    kind: ForwardedFields,
    peer: Option<IpAddr>,
    trusted: impl Fn(IpAddr) -> bool,
) -> ForwardedClient {
    let nearest = ForwardedClient {
        ip: peer.map(|ip| ip.to_canonical()),
        https: false,
    };
    let values = |wanted: &'static str| {
        let fields = fields.clone();
        fields
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    let hops = match kind {
        ForwardedFields::XForwarded => {
            hops_of_x_forwarded(values("x-forwarded-for"), values("x-forwarded-proto"))
        }
        ForwardedFields::Forwarded => hops_of_forwarded(values("forwarded")),
    };
    walk(nearest, hops, trusted)
}

/// Goes through `hops`, nearest first; nothing in their place is where sense ends.
fn walk(
    nearest: ForwardedClient,
    hops: Vec<Option<Hop>>,
    trusted: impl Fn(IpAddr) -> bool,
) -> ForwardedClient {
    let mut found = nearest;
    for hop in hops {
        let Some(hop) = hop else {
            break;
        };
        found.https = hop.https.unwrap_or(found.https);
        let Some(ip) = hop.ip else {
            break;
        };
        found.ip = Some(ip);
        if !trusted(ip) {
            break;
        }
    }
    found
}

/// The hops of all `Forwarded` fields, nearest first. A field that is malformed anywhere ends the
/// list: where its elements are is then anybody's guess.
fn hops_of_forwarded<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Hop>> {
    let values: Vec<_> = values.collect();
    let mut hops = Vec::new();
    for value in values.into_iter().rev() {
        let Some(of_field) = elements(value) else {
            hops.push(None);
            break;
        };
        hops.extend(of_field.into_iter().rev().map(Some));
    }
    hops
}

/// The elements of one field, in its order (RFC 7239 section 4).
fn elements(value: &[u8]) -> Option<Vec<Hop>> {
    let mut found = Vec::new();
    let mut rest = value;
    loop {
        let (hop, empty, after) = element(rest)?;
        // RFC 9110 5.6.1: empty elements of a list count for nothing.
        if !empty {
            found.push(hop);
        }
        match after {
            [] => return Some(found),
            [_comma, behind @ ..] => rest = behind,
        }
    }
}

/// One element, whether it is empty, and what follows, which begins by a comma if by anything.
fn element(mut rest: &[u8]) -> Option<(Hop, bool, &[u8])> {
    let mut hop = Hop::default();
    let (mut has_for, mut has_proto, mut empty) = (false, false, true);
    loop {
        rest = skip_ows(rest);
        match rest {
            [] | [b',', ..] => return Some((hop, empty, rest)),
            [b';', behind @ ..] => {
                empty = false;
                rest = behind;
                continue;
            }
            _ => empty = false,
        }
        let equals = memchr::memchr(b'=', rest)?;
        let (name, behind) = (&rest[..equals], &rest[equals + 1..]);
        if !is_token(name) {
            return None;
        }
        let (value, after) = match behind {
            [b'"', quoted @ ..] => unquoted(quoted)?,
            _ => {
                let ends = |byte: &u8| matches!(byte, b';' | b',') || is_ows(*byte);
                let end = behind.iter().position(ends).unwrap_or(behind.len());
                if !is_token(&behind[..end]) {
                    return None;
                }
                (behind[..end].to_vec(), &behind[end..])
            }
        };
        rest = skip_ows(after);
        if !matches!(rest, [] | [b',' | b';', ..]) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") {
            if std::mem::replace(&mut has_for, true) {
                return None;
            }
            hop.ip = node(&value)?;
        } else if name.eq_ignore_ascii_case(b"proto") {
            if std::mem::replace(&mut has_proto, true) {
                return None;
            }
            hop.https = Some(scheme(&value)?);
        }
    }
}

fn skip_ows(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_ows(byte));
    &bytes[start.unwrap_or(bytes.len())..]
}

/// The text of a quoted string after its first quote, and what follows its last (RFC 9110 5.6.4).
fn unquoted(quoted: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    let mut rest = quoted;
    loop {
        match rest {
            [b'"', after @ ..] => return Some((text, after)),
            [b'\\', escaped, after @ ..] => {
                text.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

/// A node (RFC 7239 section 6): nothing inside for one that is hidden or not known, nothing at all
/// for what is none.
fn node(words: &[u8]) -> Option<Option<IpAddr>> {
    let words = std::str::from_utf8(words).ok()?;
    let (name, rest) = match words.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (Some(IpAddr::from(address).to_canonical()), rest)
        }
        None => {
            let end = words.find(':').unwrap_or(words.len());
            let (name, rest) = words.split_at(end);
            let hidden = name == "unknown" || is_obfuscated(name);
            let address = name.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            if address.is_none() && !hidden {
                return None;
            }
            (address, rest)
        }
    };
    let port = |words: &str| is_obfuscated(words) || is_port(words);
    match rest.strip_prefix(':') {
        Some(words) if !port(words) => None,
        None if !rest.is_empty() => None,
        _ => Some(name),
    }
}

fn is_obfuscated(words: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    words.len() > 1 && words.starts_with('_') && words.bytes().all(letter)
}

fn is_port(words: &str) -> bool {
    let digits = (1..=5).contains(&words.len()) && words.bytes().all(|one| one.is_ascii_digit());
    digits && words.parse::<u16>().is_ok()
}

fn scheme(words: &[u8]) -> Option<bool> {
    if words.eq_ignore_ascii_case(b"https") {
        Some(true)
    } else if words.eq_ignore_ascii_case(b"http") {
        Some(false)
    } else {
        None
    }
}

/// The hops of `X-Forwarded-For`, nearest first, with what `X-Forwarded-Proto` says of each if it
/// says as much; else with its last word for all of them.
fn hops_of_x_forwarded<'a>(
    hosts: impl Iterator<Item = &'a [u8]>,
    schemes: impl Iterator<Item = &'a [u8]>,
) -> Vec<Option<Hop>> {
    let hosts: Vec<_> = hosts.flat_map(members).collect();
    let schemes: Vec<_> = schemes.flat_map(members).collect();
    let last = schemes.last().and_then(|words| scheme(words));
    if hosts.is_empty() {
        return vec![Some(Hop {
            ip: None,
            https: last,
        })];
    }
    let hop = |(at, words): (usize, &&[u8])| {
        let https = match schemes.len() == hosts.len() {
            true => scheme(schemes[at]),
            false => last,
        };
        let ip = Some(host(words)?);
        Some(Hop { ip, https })
    };
    hosts.iter().enumerate().rev().map(hop).collect()
}

/// An address as proxies write it there: bare, or with a port as some do.
fn host(words: &[u8]) -> Option<IpAddr> {
    let words = std::str::from_utf8(trim_ows(words)).ok()?;
    if let Ok(ip) = words.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    node(words.as_bytes()).flatten()
}

#[cfg(test)]
mod tests;
