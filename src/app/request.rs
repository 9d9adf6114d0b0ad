//! A request as a handler sees it: one owned value.
//!
//! Owns the recycling of its own memory, so that a request on the loop allocates nothing; leaves
//! parsing to `http`.

use super::BodyReader;
use crate::http::{self, ForwardedClient, ForwardedFields, Head, Method, Version};
use crate::net::Networks;
use crate::sys::listener::Peer;
use crate::sys::random;
use crate::sys::spool::View;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Spare parts a thread keeps; more would only be memory.
const SPARES: usize = 16;

/// A larger head than this is freed rather than kept.
const KEPT_HEAD: usize = 4096;

thread_local! {
    #[allow(clippy::vec_box, reason = "they move in and out of requests, which hold a Box")]
    static SPARE: RefCell<Vec<Box<Parts>>> = const { RefCell::new(Vec::new()) };
}

/// The longest id that is taken from a proxy, in bytes.
const LONGEST_ID: usize = 128;

/// An id that no other request has: a process's own random beginning, and the request's number
/// where a permutation of the process's own puts it, so that it does not tell how many there were.
/// Unique, that is, and no secret.
pub(crate) fn next_id() -> Box<str> {
    /// Filled by the first request that asks: after the fork, so that no two processes share it.
    /// (What std's `RandomState` begins with, a fork would double.)
    static OWN: OnceLock<[u64; 2]> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let [beginning, key] = OWN.get_or_init(|| [random::number(), random::number()]);
    let number = shuffled(*key, NUMBER.fetch_add(1, Ordering::Relaxed));
    format!("{beginning:016x}{number:016x}").into()
}

/// Another number for each: four rounds of a Feistel network, a permutation whatever stirs it.
fn shuffled(key: u64, number: u64) -> u64 {
    let stirred = |round: u8, half: u32| {
        let mut hasher = DefaultHasher::new();
        (key, round, half).hash(&mut hasher);
        hasher.finish() as u32
    };
    let halves = ((number >> 32) as u32, number as u32);
    let (left, right) = (0..4).fold(halves, |(left, right), round| {
        (right, left ^ stirred(round, right))
    });
    u64::from(left) << 32 | u64::from(right)
}

/// Whose word about clients and request ids counts, and by which fields.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) proxies: Networks,
    pub(crate) fields: ForwardedFields,
}

/// What a request is made of, reusable.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The body, where it is too large for memory.
    pub(crate) spooled: Option<View>,
    /// The body, where it is still arriving.
    pub(crate) reader: Option<BodyReader>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    /// Nothing before it is known.
    pub(crate) peer: Option<Peer>,
    pub(crate) worker: u32,
    /// Whose word about clients and request ids counts, where anybody's does.
    pub(crate) trusted: Option<Arc<Trusted>>,
    id: OnceLock<Box<str>>,
    names: Option<Arc<[String]>>,
    values: Vec<(u32, u32)>,
}

impl Parts {
    /// Used ones, or new ones.
    pub(crate) fn take() -> Box<Self> {
        SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// The address at the other end of the connection, where it has one.
    fn address(&self) -> Option<SocketAddr> {
        match self.peer? {
            Peer::Inet(address) => Some(address),
            Peer::Unix | Peer::Elsewhere => None,
        }
    }

    /// Whether the other end is a proxy that is believed; all who are, then.
    fn believed(&self) -> Option<&Trusted> {
        let trusted = self.trusted.as_deref()?;
        trusted.proxies.has(self.peer?).then_some(trusted)
    }

    /// Who sent the request, by its connection or by what trusted proxies say.
    pub(crate) fn client(&self) -> ForwardedClient {
        let peer = self.address().map(|address| address.ip());
        match self.believed() {
            Some(trusted) => {
                let Trusted { proxies, fields } = trusted;
                let known = |ip| proxies.contains(ip);
                http::forwarded_client(self.head.fields(), *fields, peer, known)
            }
            None => ForwardedClient {
                ip: peer.map(|ip| ip.to_canonical()),
                https: false,
            },
        }
    }

    /// The id that the request has or came with.
    pub(crate) fn known_id(&self) -> Option<&str> {
        if let Some(id) = self.id.get() {
            return Some(id);
        }
        self.believed()?;
        let mut given = self.head.get_all("x-request-id");
        let id = given.next()?;
        let plain = (1..=LONGEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
        let quiet = !id.iter().any(|byte| b"\"\\<>".contains(byte));
        // Two are none: the next reader might take the other.
        let single = given.next().is_none();
        (plain && quiet && single).then(|| std::str::from_utf8(id).ok())?
    }

    /// The id that the request has, came with, or is given now.
    pub(crate) fn id(&self) -> &str {
        self.id.get_or_init(|| match self.known_id() {
            Some(id) => id.into(),
            None => next_id(),
        })
    }
}

/// One HTTP request, with its whole body.
///
/// # Examples
///
/// ```
/// use mcluster::{App, Request};
///
/// let app = App::new().get("/greet/{name}", |request: Request| {
///     let name = request.param("name").unwrap_or_default().into_owned();
///     let times = request.query_value("times").and_then(|n| n.parse().ok()).unwrap_or(1);
///     format!("hello {name}\n").repeat(times)
/// });
/// # assert!(app.check().is_ok());
/// ```
pub struct Request {
    // Some until dropped; a Box, so that moving a request into a handler is cheap.
    parts: Option<Box<Parts>>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("body", &self.body().len())
            .finish_non_exhaustive()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else {
            return;
        };
        if parts.head.capacity() > KEPT_HEAD {
            return;
        }
        parts.body = Vec::new();
        parts.spooled = None;
        parts.reader = None;
        parts.trailers.clear();
        parts.names = None;
        parts.values.clear();
        parts.id = OnceLock::new();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(parts);
            }
        });
    }
}

impl Request {
    pub(crate) fn new(parts: Box<Parts>) -> Self {
        Self { parts: Some(parts) }
    }

    fn parts(&self) -> &Parts {
        self.parts.as_deref().expect("only drop takes them")
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.parts().head.method()
    }

    /// The version that the client speaks.
    pub fn version(&self) -> Version {
        self.parts().head.version()
    }

    /// The request target as it was sent (RFC 9112 3.2).
    pub fn target(&self) -> &str {
        self.parts().head.target()
    }

    /// The path of the target, still percent-encoded but for characters that need no encoding;
    /// `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        self.parts().head.path()
    }

    /// The query, without its `?` and still encoded.
    pub fn query(&self) -> Option<&str> {
        self.parts().head.query()
    }

    /// The first value of `name` in the query, decoded as a form's field.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut pairs = http::query_pairs(self.query()?);
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The host that the request is for: of an absolute target, else of the `Host` field.
    pub fn host(&self) -> Option<&str> {
        self.parts().head.host()
    }

    /// A parameter of the route's path, percent-decoded; bytes that are not UTF-8 are replaced.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        let parts = self.parts();
        let names = parts.names.as_deref()?;
        let at = names.iter().position(|known| known == name)?;
        let (start, end) = *parts.values.get(at)?;
        let value = self.path().get(start as usize..end as usize)?;
        let bytes: Cow<'_, [u8]> = http::percent_decode(value)?;
        Some(match bytes {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
        })
    }

    /// The first field of that name, in any case, as the bytes that were sent.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.parts().head.get(name)
    }

    /// The values of all fields of that name, in any case, in order.
    pub(crate) fn header_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.parts().head.get_all(name)
    }

    /// All fields, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.parts().head.fields()
    }

    /// A field of the trailer section of a chunked body (RFC 9112 7.1.2).
    pub fn trailer(&self, name: &str) -> Option<&[u8]> {
        let mut trailers = self.parts().trailers.iter();
        let found = trailers.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// The body; empty when there is none, and where its handler reads it while it arrives. A large
    /// one lies in a file without a name, and is read from there as it is looked at; see
    /// [`Limits::body_memory`](crate::Limits::body_memory).
    pub fn body(&self) -> &[u8] {
        let parts = self.parts();
        parts.spooled.as_deref().unwrap_or(&parts.body)
    }

    /// The body, taken out, in memory.
    pub fn into_body(mut self) -> Vec<u8> {
        match &mut self.parts {
            Some(parts) => match parts.spooled.take() {
                Some(view) => view.to_vec(),
                None => std::mem::take(&mut parts.body),
            },
            None => Vec::new(),
        }
    }

    /// What reads the body while it arrives.
    pub(super) fn take_reader(&mut self) -> Option<BodyReader> {
        self.parts.as_mut()?.reader.take()
    }

    /// A request with nothing but this one's body and trailers, which leave it.
    pub(super) fn split_body(&mut self) -> Self {
        let mut other = Parts::take();
        if let Some(parts) = &mut self.parts {
            std::mem::swap(&mut parts.body, &mut other.body);
            std::mem::swap(&mut parts.trailers, &mut other.trailers);
            other.spooled = parts.spooled.take();
        }
        Self::new(other)
    }

    /// The address at the other end of the connection; `None` on a unix socket. Behind a proxy
    /// that is to say so by the PROXY protocol, what it says: `None` for a unix socket of its own
    /// machine.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.parts().address()
    }

    /// The client's address: of the other end of the connection, or where that is a trusted proxy
    /// ([`Trust::forwarded`](crate::Trust)) what it says by `X-Forwarded-For`, or by `Forwarded`
    /// where [`Trust::fields`](crate::Trust) names it, followed back through as many trusted
    /// proxies as there are. `None` for a process that came by a unix socket. Read from the fields
    /// whenever it is asked for.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.parts().client().ip
    }

    /// `https` when a trusted proxy says that the client spoke it, else `http`.
    pub fn scheme(&self) -> &'static str {
        match self.parts().client().https {
            true => "https",
            false => "http",
        }
    }

    /// A name for this request that no other one has, to find it by in the logs of several
    /// programs: what a trusted proxy gave it by `X-Request-Id` (up to 128 visible characters), or
    /// one that is made now, 32 digits that do not tell how many requests there were. It is unique,
    /// not secret.
    pub fn id(&self) -> &str {
        self.parts().id()
    }

    /// The id of the worker that serves this request, from 1; never reused in a cluster.
    pub fn worker(&self) -> u32 {
        self.parts().worker
    }

    pub(super) fn set_params(&mut self, names: &Arc<[String]>, values: Vec<(u32, u32)>) {
        if let Some(parts) = &mut self.parts {
            parts.names = Some(Arc::clone(names));
            parts.values = values;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_differ_and_do_not_count() {
        let ids: BTreeSet<_> = (0..1000).map(|_| next_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32));
        let numbers = ids
            .iter()
            .map(|id| u64::from_str_radix(&id[16..], 16).unwrap());
        // Of numbers in turn, each would be here.
        let numbers: BTreeSet<_> = numbers.collect();
        let next = |number: &&u64| numbers.contains(&number.wrapping_add(1));
        assert_eq!(numbers.iter().filter(next).count(), 0);
        assert!(numbers.iter().any(|number| *number > u64::from(u32::MAX)));
    }

    #[test]
    fn a_shuffle_gives_each_number_another_place() {
        let places = |key| (0..10_000).map(move |number| shuffled(key, number));
        assert_eq!(places(7).collect::<BTreeSet<_>>().len(), 10_000);
        assert!(places(7).zip(places(8)).all(|(one, other)| one != other));
    }
}
