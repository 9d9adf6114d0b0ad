//! Whose a new connection is, by what its client says first, which is looked at and left there.
//!
//! Owns connections that have been accepted and whose first words have not all come: each waits
//! here for a bounded time, in bounded company. Leaves dealing to `deal`, and judging heads to the
//! worker: one that is bad, or too slow, is dealt in turn.

use super::hands::Arrival;
use super::program::Owned;
use super::rendezvous::Affinity;
use super::{Primary, SchedulingPolicy};
use crate::http::{Head, HeadLimits, MAX_PROXY_BLOCK, Parsed, ProxyHeader, query_pairs};
use crate::net::token::PEEKED;
use crate::net::{Ready, deregister, register};
use crate::server::sticky::cookie_of;
use crate::sys::listener::Peer;
use crate::sys::socket;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long a client may take to say whose it is, before it has its turn: browsers open connections
/// before they need them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections that wait here at most; of more, the oldest has its turn.
const MOST_WAITING: usize = 4096;

/// Bytes of a head that are looked at, whatever the limits say.
const MOST_BYTES: usize = 48 * 1024;

/// A head that is parsed again whatever came of it, as at the worker.
const SHORT_HEAD: usize = 1024;

/// Whether an event with this token is of a connection that waits here.
pub(super) fn is_peeked(token: usize) -> bool {
    token & (PEEKED | PEEKED << 1) == PEEKED
}

/// What is looked for in the first bytes of a connection.
#[derive(Clone, Copy, Debug)]
struct Sought<'a> {
    /// Whose ids are that programs have made.
    owned: &'a Owned,
    /// What says whose it is.
    what: What<'a>,
    /// A header of the PROXY protocol comes first.
    announced: bool,
    /// The peer's own address.
    ip: Option<IpAddr>,
    limits: HeadLimits,
}

#[derive(Clone, Copy, Debug)]
enum What<'a> {
    Client,
    Cookie(&'a str),
    Query(&'a str),
}

/// What a look at the first bytes says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing yet: more must come.
    Partial,
    /// Whose it is; nobody's where the client does not say, or says what is none.
    Whose(Option<Affinity>),
}

impl Sought<'_> {
    fn look(&self, mut input: &[u8]) -> Seen {
        if self.announced {
            let (header, used) = match ProxyHeader::parse(input) {
                Ok(Some(found)) => found,
                Ok(None) => return Seen::Partial,
                Err(_) => return Seen::Whose(None),
            };
            if let What::Client = self.what {
                let ip = match header {
                    ProxyHeader::Inet(address) => Some(address.ip()),
                    ProxyHeader::Unix => None,
                    ProxyHeader::Unknown => self.ip,
                };
                return Seen::Whose(ip.map(Affinity::of_ip));
            }
            input = &input[used..];
        }
        let mut head = Head::new();
        let whole = match head.parse(input, &self.limits) {
            Ok(Parsed::Complete(_)) => true,
            Ok(Parsed::Partial) => false,
            Err(_) => return Seen::Whose(None),
        };
        let value = match self.what {
            What::Client => None,
            What::Cookie(name) if whole => cookie_of(head.get_all("cookie"), name),
            What::Cookie(name) => match cookie_of(cookie_fields(input), name) {
                Some(value) => Some(value),
                None => return Seen::Partial,
            },
            What::Query(key) => {
                if !whole && !self.parse_line(&mut head, input) {
                    return Seen::Partial;
                }
                let mut pairs = query_pairs(head.query().unwrap_or_default());
                pairs.find_map(|(known, value)| (known == key).then_some(value))
            }
        };
        let whose = |value: &str| {
            let value = value.as_bytes();
            match self.owned.place(value) {
                Some(place) => Affinity::of_owned(value, place),
                None => Affinity::of_value(value),
            }
        };
        Seen::Whose(value.as_deref().map(whose))
    }

    /// Reads the request line of a head that is not all there, if all of that is.
    fn parse_line(&self, head: &mut Head, input: &[u8]) -> bool {
        let start = input.iter().position(|byte| !b"\r\n".contains(byte));
        let lines = &input[start.unwrap_or(input.len())..];
        let Some(end) = memchr::memchr(b'\n', lines) else {
            return false;
        };
        // As good as any rest; what does not parse has no query.
        let whole = [&lines[..=end], b"Host: x\r\n\r\n"].concat();
        let limits = HeadLimits::default();
        let bytes = limits.bytes.max(whole.len() + 1);
        let _ = head.parse(&whole, &HeadLimits { bytes, ..limits });
        true
    }
}

/// The values of the Cookie fields that are there, of a head that is good so far.
fn cookie_fields(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = memchr::memrchr(b'\n', input).map_or(0, |end| end + 1);
    let lines = input[..whole].split(|&byte| byte == b'\n');
    lines.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let is_cookie = line[..colon].eq_ignore_ascii_case(b"cookie");
        is_cookie.then(|| line[colon + 1..].trim_ascii())
    })
}

/// One that waits.
#[derive(Debug)]
struct Shy {
    arrival: Arrival,
    until: Instant,
    /// How much of it was there at the last look.
    seen: usize,
}

impl Shy {
    /// Nothing is waited for any more, whoever else will have a copy.
    fn leaves(&self, registry: &mio::Registry) {
        if let Some(socket) = &self.arrival.socket
            && let Err(error) = deregister(registry, socket)
        {
            log::error!("a connection cannot be forgotten: {error}");
        }
    }
}

/// Those that have not said yet whose they are, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Peeks {
    /// By the token.
    waiting: BTreeMap<usize, Shy>,
    count: usize,
}

impl Peeks {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many came in by a listener that is a `rival`.
    pub(super) fn of_rivals(&self, rival: impl Fn(u32) -> bool) -> usize {
        let mut known: Option<(u32, bool)> = None;
        let all = self.waiting.values().filter(|shy| {
            let listener = shy.arrival.listener;
            // Mostly they are all of one.
            match known {
                Some((last, is_one)) if last == listener => is_one,
                _ => known.insert((listener, rival(listener))).1,
            }
        });
        all.count()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arrival> {
        self.waiting.values().map(|shy| &shy.arrival)
    }

    /// When the first of them has waited for long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().next().map(|shy| shy.until)
    }

    fn add(&mut self, registry: &mio::Registry, shy: Shy) -> Result<(), Box<Shy>> {
        let token = PEEKED + self.count;
        if let Some(socket) = &shy.arrival.socket
            && let Err(error) = register(registry, socket, token)
        {
            log::warn!("a connection cannot be waited for: {error}");
            return Err(Box::new(shy));
        }
        self.count = (self.count + 1) % PEEKED;
        self.waiting.insert(token, shy);
        Ok(())
    }

    fn remove(&mut self, registry: &mio::Registry, token: usize) -> Option<Arrival> {
        let shy = self.waiting.remove(&token)?;
        shy.leaves(registry);
        Some(shy.arrival)
    }

    /// Lets go of the oldest, if there is one.
    fn remove_first(&mut self, registry: &mio::Registry) -> Option<Arrival> {
        let token = *self.waiting.first_key_value()?.0;
        self.remove(registry, token)
    }

    /// Closes those that are not to be kept; see [`Vec::retain`].
    pub(super) fn retain(&mut self, registry: &mio::Registry, keep: impl Fn(&Arrival) -> bool) {
        let all = self.waiting.iter();
        let lost = all.filter(|(_, shy)| !keep(&shy.arrival));
        for token in lost.map(|(token, _)| *token).collect::<Vec<_>>() {
            self.remove(registry, token);
        }
    }
}

impl Primary {
    /// What the policy looks for in the connections of `peer`, if anything.
    fn sought(&self, peer: Peer) -> Option<Sought<'_>> {
        let edge = &self.rules.settings.edge;
        let announced = edge.trust.proxy_protocol.has(peer);
        let what = match &self.policy {
            SchedulingPolicy::StickyIp if announced => What::Client,
            SchedulingPolicy::StickyCookie(name) => What::Cookie(name),
            SchedulingPolicy::StickyQuery(key) => What::Query(key),
            SchedulingPolicy::RoundRobin
            | SchedulingPolicy::Shared
            | SchedulingPolicy::ReusePort
            | SchedulingPolicy::LeastConnections
            | SchedulingPolicy::StickyIp
            | SchedulingPolicy::StickyIpReusePort => return None,
        };
        let limits = &self.rules.settings.limits;
        Some(Sought {
            owned: &self.owned,
            what,
            announced,
            ip: match peer {
                Peer::Inet(address) => Some(address.ip()),
                Peer::Unix | Peer::Elsewhere => None,
            },
            limits: HeadLimits {
                bytes: limits.head,
                fields: limits.fields,
            },
        })
    }

    /// A look at what has come of a connection, of which `seen` bytes were there before; and how
    /// many are now.
    fn look(&mut self, arrival: &Arrival, seen: usize) -> (Seen, usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let window = buffer.len().min(MOST_BYTES + MAX_PROXY_BLOCK + SHORT_HEAD);
        let looked = match (self.sought(arrival.handed.peer), &arrival.socket) {
            (None, _) | (_, None) => (Seen::Whose(None), seen),
            (Some(sought), Some(socket)) => {
                match socket::peek(socket.as_fd(), &mut buffer[..window]) {
                    Ok(0) => (Seen::Whose(None), seen),
                    Ok(count) => {
                        // A long head cannot say more without a line end, unless it is too long.
                        let new = &buffer[seen.min(count)..count];
                        let long = SHORT_HEAD..sought.limits.bytes;
                        let no_line = memchr::memchr(b'\n', new).is_none();
                        match seen > 0 && no_line && !sought.announced && long.contains(&count) {
                            // It may be one that its worker takes, but it says too late whose it is.
                            _ if count >= MOST_BYTES && no_line => (Seen::Whose(None), count),
                            true => (Seen::Partial, count),
                            false => match sought.look(&buffer[..count]) {
                                Seen::Partial if count >= MOST_BYTES => (Seen::Whose(None), count),
                                seen => (seen, count),
                            },
                        }
                    }
                    Err(error) if socket::would_block(&error) => (Seen::Partial, seen),
                    // The worker will find out.
                    Err(_) => (Seen::Whose(None), seen),
                }
            }
        };
        self.buffer = buffer;
        looked
    }

    /// A connection has been accepted: it is to be dealt once it is known whose it is.
    pub(super) fn arrived(&mut self, mut arrival: Arrival) {
        if self.sought(arrival.handed.peer).is_none() {
            if self.policy.goes_by_address()
                && let Peer::Inet(address) = arrival.handed.peer
            {
                arrival.affinity = Some(Affinity::of_ip(address.ip()));
            }
            self.waiting.push_back(arrival);
            return;
        }
        let (found, seen) = self.look(&arrival, 0);
        if let Seen::Whose(affinity) = found {
            arrival.affinity = affinity;
            self.waiting.push_back(arrival);
            return;
        }
        let registry = self.reactor.registry();
        if self.peeks.len() >= MOST_WAITING.min(self.rules.most_held / 2) {
            self.waiting.extend(self.peeks.remove_first(registry));
        }
        let patience = PATIENCE.min(self.rules.settings.limits.header_timeout);
        let until = self.reactor.now() + patience;
        let shy = Shy {
            arrival,
            until,
            seen,
        };
        if let Err(shy) = self.peeks.add(registry, shy) {
            self.waiting.push_back(shy.arrival);
        }
    }

    /// More has come of a connection that was looked at, or its end.
    pub(super) fn look_again(&mut self, ready: Ready) {
        // Out of the table while it is looked at. Late events are of those that are gone.
        let Some(mut shy) = self.peeks.waiting.remove(&ready.token) else {
            return;
        };
        let (found, seen) = self.look(&shy.arrival, shy.seen);
        shy.seen = seen;
        let ended = ready.read_closed || ready.gone;
        let affinity = match found {
            Seen::Whose(affinity) => affinity,
            Seen::Partial if ended => None,
            Seen::Partial => {
                self.peeks.waiting.insert(ready.token, shy);
                return;
            }
        };
        shy.leaves(self.reactor.registry());
        shy.arrival.affinity = affinity;
        self.waiting.push_back(shy.arrival);
    }

    /// Those that have waited for long enough have their turn.
    pub(super) fn end_peeks(&mut self) {
        let (registry, now) = (self.reactor.registry(), self.reactor.now());
        while self.peeks.deadline().is_some_and(|until| until <= now) {
            self.waiting.extend(self.peeks.remove_first(registry));
        }
    }

    /// All of them have their turn: for the end, where it no longer matters whose they are.
    pub(super) fn end_all_peeks(&mut self) {
        let registry = self.reactor.registry();
        while let Some(arrival) = self.peeks.remove_first(registry) {
            self.waiting.push_back(arrival);
        }
    }

    /// All of them are looked at again: by another policy it is something else that counts.
    pub(super) fn peek_anew(&mut self) {
        let registry = self.reactor.registry();
        let mut all = Vec::new();
        while let Some(arrival) = self.peeks.remove_first(registry) {
            all.push(arrival);
        }
        for arrival in all {
            self.arrived(arrival);
        }
    }
}

#[cfg(test)]
mod tests;
