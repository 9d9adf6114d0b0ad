//! What stands between the server and its network: whom it believes, what it says of itself, and
//! what it notes of each answer.
//!
//! Owns [`Trust`] and what comes of it for a connection and its requests; leaves grammar to `http`
//! and the lines of the log to `access`.

use super::access::{Entry, Log, LogFormat};
use super::conn::{Connection, Ending};
use super::date::Date;
use super::respond::Meta;
use super::sticky::Sticky;
use super::{Server, Turn};
use crate::app::{Parts, Response, Trusted, next_id};
use crate::http::{Error, ForwardedFields, ProxyHeader};
use crate::net::{Networks, Seldom};
use crate::sys::listener::Peer;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

/// Whose word counts about who is at the other end. Nobody's, unless it is set.
///
/// # Examples
///
/// ```
/// use mcluster::Trust;
///
/// let trust = Trust {
///     proxy_protocol: "10.0.0.5".parse().unwrap(),
///     forwarded: "10.0.0.0/8, unix".parse().unwrap(),
///     ..Trust::default()
/// };
/// # assert!(!trust.forwarded.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Peers that must begin each connection by a header of the PROXY protocol, version 1 or 2.
    /// To all others such a header is a malformed request.
    pub proxy_protocol: Networks,
    /// Proxies that are believed about their clients, by the `fields`, and about the ids of
    /// requests, by `X-Request-Id`.
    pub forwarded: Networks,
    /// The fields that these proxies overwrite or add to. All others are the clients' own words.
    pub fields: ForwardedFields,
}

/// What a server is told about its edge.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeSettings {
    pub(crate) trust: Trust,
    /// The Server field of every answer.
    pub(crate) server_header: Option<String>,
    /// Every answer carries the id of its request.
    pub(crate) request_ids: bool,
    /// Where lines about answers go.
    pub(crate) access_log: Option<Arc<File>>,
    pub(crate) log_format: LogFormat,
    /// The cookie by which clients come back.
    pub(crate) sticky: Option<Sticky>,
}

/// The edge of one server at work.
#[derive(Debug, Default)]
pub(super) struct Edge {
    proxies: Networks,
    /// Shared with the requests: nothing is where nobody is believed, so that it costs them nothing.
    trusted: Option<Arc<Trusted>>,
    server_header: Option<String>,
    request_ids: bool,
    log: Option<Log>,
    /// The cookie by which clients come back. In a box, since most servers have none.
    pub(super) sticky: Option<Box<Sticky>>,
    /// When it is to be said that a balancer is not set up as it should be.
    unannounced: Seldom,
}

impl Edge {
    fn new(settings: EdgeSettings, worker: u32) -> Self {
        let EdgeSettings {
            trust,
            server_header,
            request_ids,
            access_log,
            log_format,
            sticky,
        } = settings;
        let trusted = Trusted {
            proxies: trust.forwarded,
            fields: trust.fields,
        };
        let trusted = Some(trusted).filter(|trusted| !trusted.proxies.is_empty());
        Self {
            proxies: trust.proxy_protocol,
            trusted: trusted.map(Arc::new),
            server_header,
            request_ids,
            log: access_log.map(|file| Log::new(file, log_format, worker)),
            sticky: sticky.map(Box::new),
            unannounced: Seldom::default(),
        }
    }

    /// Whether `peer` must say first who is behind it.
    pub(super) fn must_announce(&self, peer: Peer) -> bool {
        self.proxies.has(peer)
    }

    /// Says, now and then, that a peer which must name its clients does not.
    fn complain(&mut self, peer: Peer, error: Error, now: Instant) {
        if self.unannounced.is_due(now) {
            let who = match peer {
                Peer::Inet(address) => address.ip().to_string(),
                _ => "a unix peer".to_owned(),
            };
            log::warn!("{who}, of --proxy-protocol, sent no good PROXY header: {error}");
        }
    }

    /// Notes in a request whose head is there what it may be asked. What is to be known of it when
    /// its answer goes out, if anything is.
    pub(super) fn arrived(&self, parts: &mut Parts, peer: Peer) -> Option<Box<Entry>> {
        parts.peer = Some(peer);
        parts.trusted.clone_from(&self.trusted);
        if self.request_ids {
            parts.id();
        } else if self.log.is_none() {
            return None;
        }
        Some(Box::new(Entry::of(parts, peer, Instant::now())))
    }

    /// The same of what begins like `input` and cannot be read as a request.
    pub(super) fn unreadable(&self, peer: Peer, input: &[u8]) -> Option<Box<Entry>> {
        let entry = self.refused(peer)?;
        Some(Box::new(entry.began(input)))
    }

    /// The same of what was no request.
    #[inline]
    pub(super) fn refused(&self, peer: Peer) -> Option<Box<Entry>> {
        if !self.request_ids && self.log.is_none() {
            return None;
        }
        self.note_refused(peer)
    }

    fn note_refused(&self, peer: Peer) -> Option<Box<Entry>> {
        let id = self.request_ids.then(next_id);
        Some(Box::new(Entry::unknown(peer, id, Instant::now())))
    }

    /// Whether there are fields that all answers carry.
    pub(super) fn dresses(&self) -> bool {
        self.request_ids || self.server_header.is_some()
    }

    /// An answer with these fields.
    pub(super) fn dressed(&self, mut answer: Response, entry: Option<&Entry>) -> Response {
        if let Some(text) = &self.server_header {
            answer = answer.or_header("Server", text);
        }
        match entry.and_then(Entry::id) {
            Some(id) if self.request_ids => answer.or_header("X-Request-Id", id),
            _ => answer,
        }
    }

    /// An answer is sent, or will be no further.
    pub(super) fn concluded(&mut self, entry: &Entry, date: &Date, now: Instant) {
        if let Some(log) = &mut self.log {
            log.add(entry, date, now);
        }
    }

    /// When [`Edge::proceed`] must be called at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.log.as_ref().and_then(Log::deadline)
    }

    /// Writes the lines that have waited long enough.
    pub(super) fn proceed(&mut self, now: Instant) {
        if let Some(log) = &mut self.log
            && log.deadline().is_some_and(|at| at <= now)
        {
            log.flush(now);
        }
    }

    /// Writes all lines.
    pub(super) fn flush(&mut self, now: Instant) {
        if let Some(log) = &mut self.log {
            log.flush(now);
        }
    }
}

impl Server {
    /// Has it stand where `settings` say; nobody is believed and nothing logged without.
    pub(crate) fn at_edge(mut self, settings: EdgeSettings) -> Self {
        self.turn.edge = Edge::new(settings, self.turn.worker);
        self
    }

    /// Goes on with the access log in `file`.
    pub(crate) fn reopen_log(&mut self, file: File) {
        let now = self.turn.now;
        if let Some(log) = &mut self.turn.edge.log {
            log.reopen(file, now);
        }
    }
}

impl Connection {
    /// Reads who is behind the proxy at the other end. How much of `input` that took: nothing while
    /// it is incomplete, all of it when it is none and the connection ends.
    pub(super) fn announce(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        match ProxyHeader::parse(input) {
            Ok(None) => 0,
            Ok(Some((header, used))) => {
                self.announced = true;
                match header {
                    ProxyHeader::Inet(address) => self.peer = Peer::Inet(address),
                    ProxyHeader::Unix => self.peer = Peer::Elsewhere,
                    ProxyHeader::Unknown => {}
                }
                used
            }
            Err(error) if ProxyHeader::is_binary(input) => {
                // Whoever speaks that reads no answer.
                turn.edge.complain(self.peer, error, turn.now);
                self.ending = Some(Ending::Plain);
                input.len()
            }
            Err(error) => {
                turn.edge.complain(self.peer, error, turn.now);
                self.fail(turn, error, Meta::unknown());
                input.len()
            }
        }
    }

    /// An answer is encoded, and `ahead` bytes that wait go out before its body. Its line is
    /// written now, if all of it is in the loop's buffer, or else when it is sent.
    pub(super) fn note_answer(
        &mut self,
        turn: &mut Turn,
        entry: Option<Box<Entry>>,
        status: u16,
        ahead: usize,
    ) {
        let Some(mut entry) = entry else {
            return;
        };
        entry.answered(status, ahead);
        if self.output.is_some() {
            self.entry = Some(entry);
        } else {
            entry.sent(turn.out.len() as u64);
            turn.edge.concluded(&entry, turn.opening.date(), turn.now);
        }
    }

    /// Something was sent: `before` is how many bytes had been in all.
    pub(super) fn account(&mut self, turn: &mut Turn, before: u64) {
        let Some(entry) = self.entry.as_deref_mut().filter(|one| one.is_answered()) else {
            return;
        };
        entry.sent(turn.counters.bytes_out - before);
        if self.output.is_none() {
            turn.edge.concluded(entry, turn.opening.date(), turn.now);
            self.entry = None;
        }
    }

    /// The connection ends: so does the answer under way, or the request that has had none.
    pub(super) fn cut_short(&mut self, turn: &mut Turn) {
        if let Some(entry) = self.entry.take() {
            turn.edge.concluded(&entry, turn.opening.date(), turn.now);
        }
    }
}
