//! Where to listen: from a user's words to a listening socket.
//!
//! Owns the grammar of `--listen`; parsing opens nothing, binding does.

use crate::sys::listener::{Address, Listener};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

/// Connections that the kernel keeps until they are accepted; capped by `net.core.somaxconn`.
pub(crate) const MAX_BACKLOG: i32 = 4096;

/// An address to listen on.
///
/// # Examples
///
/// ```
/// use mcluster::Listen;
///
/// for good in ["127.0.0.1:3000", "localhost:0", ":8080", "[::1]:80", "unix:/run/app.sock", "fd:3"] {
///     let listen: Listen = good.parse().unwrap();
///     assert_eq!(listen.to_string(), good);
/// }
/// assert!("127.0.0.1".parse::<Listen>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A name or an address, and a port; port 0 picks a free one that all workers share.
    Host(String, u16),
    /// Every address of this machine, v6 and v4.
    Any(u16),
    /// A unix socket.
    Unix(PathBuf),
    /// A listening socket that this process has inherited. It belongs to the cluster from then on.
    Fd(RawFd),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Any(port) => write!(f, ":{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "{words:?} is no address: {why} (HOST:PORT, :PORT, [V6]:PORT, unix:PATH or fd:N)"
            )
        };
        if let Some(path) = words.strip_prefix("unix:") {
            return match path {
                "" => Err(wrong("the path is empty")),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Some(number) = words.strip_prefix("fd:") {
            return match number.parse() {
                Ok(number) if number > 2 => Ok(Self::Fd(number)),
                Ok(_) => Err(wrong("descriptors 0 to 2 are the standard streams")),
                Err(_) => Err(wrong("after fd: comes a number")),
            };
        }
        let (host, port) = words
            .rsplit_once(':')
            .ok_or_else(|| wrong("the port is missing"))?;
        // A sign would be taken by the standard library.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port.parse() {
            Ok(port) if digits => port,
            _ => return Err(wrong("a port is a number from 0 to 65535")),
        };
        if let Some(host) = host.strip_prefix('[') {
            return match host.strip_suffix(']') {
                Some(host) if host.parse::<Ipv6Addr>().is_ok() => {
                    Ok(Self::Host(host.to_owned(), port))
                }
                _ => Err(wrong("between brackets stands an IPv6 address")),
            };
        }
        match host {
            "" => Ok(Self::Any(port)),
            host if host.contains(':') => Err(wrong("an IPv6 address stands in brackets")),
            host if host.contains(char::is_whitespace) => Err(wrong("a host has no spaces")),
            host => Ok(Self::Host(host.to_owned(), port)),
        }
    }
}

impl Listen {
    /// Makes the listener.
    ///
    /// # Errors
    ///
    /// As socket(2), bind(2) and listen(2), and what resolving the name says.
    pub(crate) fn bind(&self) -> io::Result<Listener> {
        match self {
            Self::Unix(path) => Listener::unix(path, MAX_BACKLOG),
            Self::Fd(fd) => Listener::inherited(*fd),
            Self::Any(port) => bind_tcp(None, *port, false, MAX_BACKLOG),
            Self::Host(host, port) => resolved(host, *port),
        }
    }

    /// The same with the first address of its name, where that has to be looked up: `localhost`
    /// has not, being this machine's by any name.
    ///
    /// # Errors
    ///
    /// What resolving the name says.
    pub(crate) fn resolved(&self) -> io::Result<Self> {
        let Self::Host(host, port) = self else {
            return Ok(self.clone());
        };
        if host == "localhost" || host.parse::<IpAddr>().is_ok() {
            return Ok(self.clone());
        }
        let first = (host.as_str(), *port).to_socket_addrs()?.next();
        let first = first.ok_or_else(no_address)?;
        Ok(Self::Host(first.ip().to_string(), *port))
    }

    /// Whether the kernel chooses the port, so that asking twice gives two listeners.
    pub(crate) fn is_any_port(&self) -> bool {
        matches!(self, Self::Host(_, 0) | Self::Any(0))
    }
}

/// Listens on a port of `address`; without one on `::`, of both families unless it is `v6_only`,
/// and as in Node on `0.0.0.0` where there is no IPv6.
///
/// # Errors
///
/// As socket(2), bind(2) and listen(2).
pub(crate) fn bind_tcp(
    address: Option<IpAddr>,
    port: u16,
    v6_only: bool,
    backlog: i32,
) -> io::Result<Listener> {
    let on = |address: IpAddr| Listener::tcp((address, port).into(), backlog, !v6_only);
    match on(address.unwrap_or(Ipv6Addr::UNSPECIFIED.into())) {
        Err(error) if address.is_none() && no_ipv6(&error) => on(Ipv4Addr::UNSPECIFIED.into()),
        result => result,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT)
    )
}

/// The first address of the name that can be listened on.
fn resolved(host: &str, port: u16) -> io::Result<Listener> {
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        match Listener::tcp(address, MAX_BACKLOG, false) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = last.or(Some(error)),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

/// An address as users write it.
pub(crate) fn url(address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("http://{address}"),
        Address::Unix(_) => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_addresses_are_refused_with_a_reason() {
        let cases = [
            ("", "port is missing"),
            ("3000", "port is missing"),
            ("host:", "0 to 65535"),
            ("host:65536", "0 to 65535"),
            ("host:+80", "0 to 65535"),
            ("host:-1", "0 to 65535"),
            ("::1:80", "in brackets"),
            ("[::1:80", "between brackets"),
            ("[nonsense]:80", "between brackets"),
            ("unix:", "path is empty"),
            ("fd:x", "a number"),
            ("fd:1", "standard streams"),
            ("my host:80", "no spaces"),
        ];
        for (words, why) in cases {
            let error = words.parse::<Listen>().unwrap_err();
            assert!(error.contains(why), "{words:?}: {error}");
        }
    }

    #[test]
    fn only_names_are_looked_up() {
        for words in [
            "127.0.0.1:80",
            "[::1]:0",
            "localhost:1",
            ":80",
            "unix:/x",
            "fd:3",
        ] {
            let listen: Listen = words.parse().unwrap();
            assert_eq!(listen.resolved().unwrap(), listen);
        }
    }

    #[test]
    fn an_address_in_use_is_refused() {
        let taken = Listen::Host("127.0.0.1".into(), 0).bind().unwrap();
        let again: Listen = taken.address().to_string().parse().unwrap();
        let error = again.bind().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
