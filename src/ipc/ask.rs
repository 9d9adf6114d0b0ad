//! Where a worker wants to listen, in the words of the log.

use super::{Ask, Place};
use std::fmt;
use std::net::SocketAddr;

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured(index) => write!(f, "listener {index} of the settings"),
            Self::Address { words, .. } => f.write_str(words),
            Self::Bind(bind) => bind.place.fmt(f),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp {
                address: Some(address),
                port,
                ..
            } => SocketAddr::new(*address, *port).fmt(f),
            Self::Tcp { port, .. } => write!(f, "port {port}"),
            Self::Udp { address, port, .. } => {
                write!(f, "udp://{}", SocketAddr::new(*address, *port))
            }
            // It is a program that says so: nothing of it may look like the end of a line.
            Self::Unix { path, .. } => {
                write!(
                    f,
                    "unix:{}",
                    path.as_os_str().as_encoded_bytes().escape_ascii()
                )
            }
            Self::Fd { fd, .. } => write!(f, "descriptor {fd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bind;
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn places_are_said_in_plain_words() {
        let tcp = |address, port| Place::Tcp {
            address,
            port,
            v6_only: false,
        };
        let unix = |path: &str| Place::Unix {
            path: path.into(),
            readable_all: false,
            writable_all: false,
        };
        let cases = [
            (
                tcp(Some(Ipv4Addr::LOCALHOST.into()), 3000),
                "127.0.0.1:3000",
            ),
            (tcp(Some(Ipv6Addr::LOCALHOST.into()), 1), "[::1]:1"),
            (tcp(None, 80), "port 80"),
            (unix("/run/a b"), "unix:/run/a b"),
            (unix("\0a\nb"), "unix:\\x00a\\nb"),
            (
                Place::Udp {
                    address: Ipv4Addr::UNSPECIFIED.into(),
                    port: 53,
                    v6_only: false,
                    reuse_address: true,
                },
                "udp://0.0.0.0:53",
            ),
            (
                Place::Fd {
                    fd: 3,
                    datagrams: false,
                },
                "descriptor 3",
            ),
        ];
        for (place, words) in cases {
            let bind = Bind {
                place,
                nth: 0,
                backlog: None,
                data: None,
            };
            assert_eq!(Ask::Bind(bind).to_string(), words);
        }
        let asked = Ask::Address {
            words: "localhost:0".to_owned(),
            nth: 2,
        };
        assert_eq!(asked.to_string(), "localhost:0");
        assert_eq!(Ask::Configured(1).to_string(), "listener 1 of the settings");
    }
}
