//! The address that is tested: a URL taken apart, and where its host is found.
//!
//! Owns what may stand in a URL here, and the order in which addresses are tried; connecting is left to
//! `conn`.

use super::{Error, Result};
use crate::sys::socket::Place;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The port of both schemes, unless another is said.
const USUAL_PORT: u16 = 80;

/// What a URL of a load test says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    is_websocket: bool,
    host: Host,
    port: u16,
    /// Path and query as they are sent (RFC 9112 section 3.2.1).
    origin_form: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    /// In small letters.
    Name(String),
}

impl Target {
    /// Takes a URL apart: `http://HOST[:PORT][/PATH][?QUERY]`, the same with `ws://`, or without a scheme.
    ///
    /// # Errors
    ///
    /// When it says something else, or something that is not served here, such as TLS.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let refuse = |what: &str| Error::Usage(format!("{url:?}: {what}"));
        if url.contains(|c: char| c == ' ' || c.is_control()) {
            return Err(refuse(
                "a URL has no spaces and no control characters: write %20",
            ));
        }
        let (scheme, rest) = split_scheme(url);
        let is_websocket = match scheme.unwrap_or("http").to_ascii_lowercase().as_str() {
            "http" => false,
            "ws" => true,
            "https" | "wss" => {
                return Err(refuse(
                    "there is no TLS here: test what listens behind it, by http:// or ws://",
                ));
            }
            _ => return Err(refuse("the scheme is http or ws")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err(refuse(
                "no user and password in a URL: give them with -H 'Authorization: Basic ...'",
            ));
        }
        let (host, port) = split_port(authority).map_err(refuse)?;
        let host = parse_host(host).map_err(refuse)?;
        let port = match port {
            "" => USUAL_PORT,
            digits => parse_port(digits).ok_or_else(|| refuse("a port is a number up to 65535"))?,
        };
        Ok(Self {
            is_websocket,
            host,
            port,
            origin_form: origin_form(rest).map_err(refuse)?,
        })
    }

    /// Whether messages are to be sent, not requests.
    pub(crate) const fn is_websocket(&self) -> bool {
        self.is_websocket
    }

    /// The value of the field Host: the port is in it where it is not the usual one (RFC 9110 section 7.2).
    pub(crate) fn host_field(&self) -> String {
        let mut field = match &self.host {
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Name(name) => name.clone(),
        };
        if self.port != USUAL_PORT {
            // Into a String, which takes everything.
            let _ = write!(field, ":{}", self.port);
        }
        field
    }

    /// Path and query, as they stand in a request line.
    pub(crate) fn target(&self) -> &str {
        &self.origin_form
    }

    /// Where it is, best first: there is at least one.
    ///
    /// `localhost` is `[::1]`, then `127.0.0.1`, as for a browser, and nobody is asked (RFC 6761 section 6.3).
    ///
    /// # Errors
    ///
    /// When nobody knows the host's name.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let at = |address: IpAddr| SocketAddr::new(address, self.port);
        let name = match &self.host {
            Host::Address(address) => return Ok(vec![at(*address)]),
            Host::Name(name) if is_localhost(name) => {
                let both = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
                return Ok(both.map(at).to_vec());
            }
            Host::Name(name) => name.as_str(),
        };
        let found = (name, self.port).to_socket_addrs().and_then(|found| {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            match addresses.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
                false => Ok(addresses),
            }
        });
        found.map_err(|error| {
            let error = io::Error::new(error.kind(), format!("{name}: {error}"));
            Error::io("finding the host")(error)
        })
    }

    /// One of these, for `sys`.
    pub(crate) const fn connect_place(address: SocketAddr) -> Place {
        Place::Inet(address)
    }
}

/// What stands before `://`, and what behind it. A host with a port has a colon too, but no slashes there.
fn split_scheme(url: &str) -> (Option<&str>, &str) {
    match url.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#']) => (Some(scheme), rest),
        _ => (None, url),
    }
}

/// Host and port, each perhaps empty.
fn split_port(authority: &str) -> std::result::Result<(&str, &str), &'static str> {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[bracket..].find(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(bracket + colon);
            (host, &port[1..])
        }
        None => (authority, ""),
    };
    match port.contains(':') {
        true => Err("an IPv6 address stands in brackets, as in http://[::1]:3000/"),
        false => Ok((host, port)),
    }
}

fn parse_host(host: &str) -> std::result::Result<Host, &'static str> {
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.strip_suffix(']');
        let address = inside.and_then(|inside| inside.parse::<Ipv6Addr>().ok());
        return address
            .map(|address| Host::Address(address.into()))
            .ok_or("no IPv6 address is in the brackets");
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let may_stand = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    match host {
        "" => Err("the host is missing"),
        _ if !host.is_ascii() => Err("a host is written in ASCII, as in xn--bcher-kva.example"),
        _ if !host.bytes().all(may_stand) => Err("a host is of letters, digits, '-', '.' and '_'"),
        _ => Ok(Host::Name(host.to_ascii_lowercase())),
    }
}

/// By hand, for a number may come with a sign.
fn parse_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let port = digits.parse().ok().filter(|_| plain);
    port.filter(|port| *port > 0)
}

/// Path and query as they are sent; what no target may hold is escaped, as curl and browsers do.
fn origin_form(rest: &str) -> std::result::Result<String, &'static str> {
    let end = rest.find('#').unwrap_or(rest.len());
    let rest = &rest[..end];
    let mut form = String::with_capacity(rest.len() + 1);
    if !rest.starts_with('/') {
        form.push('/');
    }
    for (at, byte) in rest.bytes().enumerate() {
        let digits = || rest.as_bytes().get(at + 1..at + 3);
        match byte {
            b'%' if !digits().is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) => {
                return Err("a '%' is followed by two digits: write %25 for itself");
            }
            b'"' | b'<' | b'>' | b'\\' | b'`' | b'{' | b'}' | 0x80.. => {
                let _ = write!(form, "%{byte:02X}");
            }
            _ => form.push(char::from(byte)),
        }
    }
    Ok(form)
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            ("http://localhost:3000/x", "localhost:3000", "/x"),
            ("localhost:3000/x", "localhost:3000", "/x"),
            ("localhost", "localhost", "/"),
            ("HTTP://Example.ORG", "example.org", "/"),
            ("http://example.org:80/", "example.org", "/"),
            ("http://example.org:/", "example.org", "/"),
            ("http://a?b=c", "a", "/?b=c"),
            ("http://a/?b=http://c", "a", "/?b=http://c"),
            ("a:1/?b=http://c", "a:1", "/?b=http://c"),
            ("http://a/b#c?d", "a", "/b"),
            ("http://a#b", "a", "/"),
            ("http://127.0.0.1:8080/a@b:c", "127.0.0.1:8080", "/a@b:c"),
            ("http://[::1]:3000/", "[::1]:3000", "/"),
            ("http://[0:0::1]", "[::1]", "/"),
            ("[2001:DB8::1]/x", "[2001:db8::1]", "/x"),
            ("http://a/%41%2f", "a", "/%41%2f"),
            (
                "http://a/ä\"<>\\`{}[]|^",
                "a",
                "/%C3%A4%22%3C%3E%5C%60%7B%7D[]|^",
            ),
            ("http://a//b/../c", "a", "//b/../c"),
        ];
        for (url, host, form) in cases {
            let target = Target::parse(url).unwrap();
            assert_eq!(
                (target.host_field().as_str(), target.target()),
                (host, form),
                "{url}"
            );
            assert!(!target.is_websocket());
        }
        assert!(Target::parse("WS://a/b").unwrap().is_websocket());
    }

    #[test]
    fn what_is_no_url_for_us_is_refused_with_a_reason() {
        let cases = [
            ("https://a/", "no TLS"),
            ("wss://a/", "no TLS"),
            ("ftp://a/", "http or ws"),
            ("://a/", "http or ws"),
            ("http:///x", "is missing"),
            ("http://:80/", "is missing"),
            ("", "is missing"),
            ("http://u:p@a/", "Authorization"),
            ("http://a:0/", "port"),
            ("http://a:65536/", "port"),
            ("http://a:+80/", "port"),
            ("http://a:b/", "port"),
            ("http://::1:3000/", "brackets"),
            ("::1", "brackets"),
            ("http://[::1/", "brackets"),
            ("http://[]/", "brackets"),
            ("http://[::1]x/", "brackets"),
            ("http://[1.2.3.4]/", "brackets"),
            ("http://a b/", "spaces"),
            ("http://a/b c", "spaces"),
            ("http://a/\r\nX: y", "control"),
            ("http://a/\u{85}", "control"),
            ("http://bücher.example/", "ASCII"),
            ("http://a\\b/", "letters"),
            ("http://a%41/", "letters"),
            ("http://a/%", "%25"),
            ("http://a/%4", "%25"),
            ("http://a/%zz", "%25"),
            ("http://a/%4é", "%25"),
        ];
        for (url, why) in cases {
            match Target::parse(url) {
                Err(Error::Usage(what)) => assert!(what.contains(why), "{url}: {what}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    fn resolved(url: &str) -> Vec<String> {
        let addresses = Target::parse(url).unwrap().resolve().unwrap();
        addresses.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn localhost_is_both_and_addresses_are_themselves() {
        let both = ["[::1]:3000", "127.0.0.1:3000"];
        for name in ["localhost", "LocalHost.", "app.localhost"] {
            assert_eq!(resolved(&format!("http://{name}:3000/")), both);
        }
        assert_eq!(resolved("http://127.0.0.2/"), ["127.0.0.2:80"]);
        assert_eq!(resolved("http://[::2]:1/"), ["[::2]:1"]);
    }

    #[test]
    fn a_name_that_nobody_knows_is_an_error() {
        // No label may be empty, so no server is asked.
        let target = Target::parse("http://a..b/").unwrap();
        match target.resolve() {
            Err(Error::Io { source, .. }) => assert!(source.to_string().starts_with("a..b: ")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_place_is_for_tcp() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(Target::connect_place(address), Place::Inet(address));
    }
}
