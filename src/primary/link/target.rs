//! Where the Redis server is, and what is said to it first: from a user's URL.
//!
//! The URL is the redis crate's to read. Owns what of it is taken and what is refused, and the words
//! about it, which never hold the password.

use super::super::{Error, Result};
use crate::sys::socket::{self, Place};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

/// What clusters have in common that share a server, unless the settings say otherwise.
const USUAL_PREFIX: &str = "mcluster:";

/// What the settings ask for.
#[derive(Default)]
pub(in crate::primary) struct Wanted {
    pub(super) url: Option<String>,
    pub(super) prefix: Option<String>,
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Wanted")
            .field("url", &self.url.is_some())
            .field("prefix", &self.prefix)
            .finish()
    }
}

/// A server and a channel there.
pub(super) struct Target {
    /// The server in words.
    pub(super) name: String,
    pub(super) channel: String,
    /// What the connection begins with, as it is sent.
    pub(super) greeting: Vec<u8>,
    /// Where it may be; they are tried in turn.
    places: Vec<Place>,
    next: usize,
    /// How many of them have failed in a row.
    failed: usize,
}

impl Wanted {
    /// Whether the settings make sense.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`].
    pub(in crate::primary) fn check(&self) -> Result<()> {
        match &self.url {
            Some(url) => read(url).map(drop),
            None => Ok(()),
        }
    }

    /// Looks up where the server is, once; not at all where that is `known` by its name.
    ///
    /// # Errors
    ///
    /// When its name is unknown.
    pub(super) fn target(
        &self,
        known: impl FnOnce(&str) -> Option<Vec<SocketAddr>>,
    ) -> Result<Option<Target>> {
        let Some(url) = &self.url else {
            return Ok(None);
        };
        let info = read(url)?;
        let places = match info.addr() {
            ConnectionAddr::Unix(path) => vec![Place::Unix(path.clone())],
            ConnectionAddr::Tcp(host, port) => {
                let places = match known(&info.addr().to_string()) {
                    Some(places) => places,
                    None => (host.as_str(), *port)
                        .to_socket_addrs()
                        .map_err(Error::io("looking up the Redis server to publish through"))?
                        .collect(),
                };
                places.into_iter().map(Place::Inet).collect()
            }
            _ => Vec::new(),
        };
        if places.is_empty() {
            return Err(wrong("the server has no address"));
        }
        let prefix = self.prefix.as_deref().unwrap_or(USUAL_PREFIX);
        let channel = format!("{prefix}publish");
        Ok(Some(Target {
            name: info.addr().to_string(),
            greeting: greeting(&info, &channel),
            channel,
            places,
            next: 0,
            failed: 0,
        }))
    }
}

impl Target {
    /// Begins to connect to the one of its places whose turn it is.
    ///
    /// # Errors
    ///
    /// As connect(2), if it fails at once.
    pub(super) fn connect(&mut self) -> io::Result<OwnedFd> {
        socket::connect(&self.places[self.next])
    }

    /// The server is not at that place. Whether there is another that has not been tried since it
    /// was last reached, or since all were tried.
    pub(super) fn failed(&mut self) -> bool {
        self.next = (self.next + 1) % self.places.len();
        self.failed = (self.failed + 1) % self.places.len();
        self.failed != 0
    }

    /// It is.
    pub(super) fn reached(&mut self) {
        self.failed = 0;
    }

    /// The addresses among its places.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let address = |place: &Place| match place {
            Place::Inet(address) => Some(*address),
            Place::Unix(_) => None,
        };
        self.places.iter().filter_map(address).collect()
    }
}

fn wrong(why: &str) -> Error {
    Error::Settings(format!(
        "publish_through: {why} (redis://[[USER]:PASSWORD@]HOST[:PORT] or redis+unix:///PATH)"
    ))
}

fn read(url: &str) -> Result<ConnectionInfo> {
    if url.starts_with("rediss:") || url.starts_with("valkeys:") {
        return Err(wrong(
            "no TLS here: a tunnel or a private network has to do",
        ));
    }
    // What the crate says of a URL has no part of it that could be a password.
    let info = url.into_connection_info();
    info.map_err(|error| wrong(&error.to_string()))
}

/// HELLO, which changes to the protocol in which one connection may both publish and subscribe, and
/// SUBSCRIBE.
fn greeting(info: &ConnectionInfo, channel: &str) -> Vec<u8> {
    let settings = info.redis_settings();
    let mut hello = redis::cmd("HELLO");
    hello.arg(3);
    if let Some(password) = settings.password() {
        let user = settings.username().unwrap_or("default");
        hello.arg("AUTH").arg(user).arg(password);
    }
    let mut greeting = hello.get_packed_command();
    let subscribe = redis::cmd("SUBSCRIBE").arg(channel).get_packed_command();
    greeting.extend(subscribe);
    greeting
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target> {
        let wanted = Wanted {
            url: Some(url.to_owned()),
            prefix: None,
        };
        wanted.check()?;
        Ok(wanted.target(|_| None)?.expect("a URL was given"))
    }

    #[test]
    fn urls_are_read() {
        let plain = target("redis://127.0.0.1:7000").unwrap();
        assert_eq!(plain.name, "127.0.0.1:7000");
        assert_eq!(plain.channel, "mcluster:publish");
        assert!(
            plain
                .greeting
                .starts_with(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n")
        );
        assert_eq!(plain.places.len(), 1);
        let secret = target("redis://:s%20cret@127.0.0.1").unwrap();
        assert_eq!(secret.name, "127.0.0.1:6379");
        let text = String::from_utf8(secret.greeting).unwrap();
        assert!(text.contains("AUTH\r\n$7\r\ndefault\r\n$6\r\ns cret\r\n"));
        let named = target("redis://me:secret@127.0.0.1/3").unwrap();
        let text = String::from_utf8(named.greeting).unwrap();
        assert!(text.contains("AUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n"));
        let unix = target("redis+unix:///run/redis.sock?pass=secret").unwrap();
        assert!(matches!(&unix.places[..], [Place::Unix(path)] if path.ends_with("redis.sock")));
        assert!(Wanted::default().target(|_| None).unwrap().is_none());
    }

    #[test]
    fn what_is_known_is_not_looked_up() {
        let address: SocketAddr = "192.0.2.1:6379".parse().unwrap();
        let wanted = Wanted {
            url: Some("redis://no.such.host.invalid".to_owned()),
            prefix: None,
        };
        let known = |name: &str| (name == "no.such.host.invalid:6379").then(|| vec![address]);
        let target = wanted.target(known).unwrap().unwrap();
        assert_eq!(target.addresses(), [address]);
    }

    #[test]
    fn all_places_are_tried_and_the_good_one_stays() {
        let mut target = target("redis://127.0.0.1").unwrap();
        let place = |port| Place::Inet(([127, 0, 0, 1], port).into());
        target.places = vec![place(1), place(2), place(3)];
        assert!(target.failed());
        assert_eq!(target.next, 1);
        target.reached();
        assert_eq!(target.next, 1);
        assert!(target.failed() && target.failed());
        assert!(!target.failed(), "all of them");
        assert_eq!(target.next, 1);
    }

    #[test]
    fn what_is_no_url_is_an_error_without_secrets() {
        for bad in [
            "",
            "nonsense",
            "http://127.0.0.1",
            "redis://",
            "redis://:hunter2@127.0.0.1/x",
            "redis://:hunter2@127.0.0.1:hunter2",
            "redis://:hunter2@127.0.0.1?protocol=9",
            "rediss://:hunter2@127.0.0.1",
        ] {
            let error = target(bad).err().expect(bad);
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let wanted = Wanted {
            url: Some("redis://:hunter2@h".to_owned()),
            prefix: None,
        };
        assert!(!format!("{wanted:?}").contains("hunter2"));
    }
}
