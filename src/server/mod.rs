//! One event loop's worth of HTTP connections.
//!
//! [`Server`] holds the connections of one loop and drives them when the loop's owner says that
//! something is ready: a worker, or the primary for its own pages. `conn` is one connection from
//! its first byte to its last, `requests` its way from bytes to answers, `respond` a response as
//! bytes, `output` what could not be written at once, `gate` the listeners that a loop accepts
//! from by itself. May use `app`, `net`,
//! `http` and `pool`; knows of no workers.
//!
//! The cost of a keep-alive request is one read and one write; see the speed rules in the crate's
//! documentation.

mod conn;
mod date;
pub(crate) mod gate;
mod output;
mod requests;
mod respond;
#[cfg(test)]
mod tests;

use crate::app::{App, Response};
use crate::http::{HeadLimits, MAX_FIELDS};
use crate::metrics::Counters;
use crate::net::token::{FIRST, Key};
use crate::net::{Ready, Timers, Waker, register};
use crate::pool::Pool;
use crate::sys::listener::{Listener, Peer};
use conn::{Connection, Step};
use date::Date;
use gate::{Accepted, Gate};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one read takes at most; the loop has one such buffer for all connections.
const INPUT_BYTES: usize = 64 * 1024;

/// Connections that the kernel keeps until they are accepted; capped by `net.core.somaxconn`.
pub(crate) const MAX_BACKLOG: i32 = 4096;

/// How often it is worth a line in the log that there is no room.
const SILENCE: Duration = Duration::from_secs(10);

/// How long an idle loop may keep a lingering close, and a new connection without a request once
/// draining.
const LINGER: Duration = Duration::from_secs(5);
const DRAIN_FRESH: Duration = Duration::from_secs(1);

/// Limits on what a client may send, and how slowly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head: more is 431, or 414 when the request line alone is longer.
    pub head: usize,
    /// Fields in a head: more is 431.
    pub fields: usize,
    /// Bytes of a body: more is 413.
    pub body: u64,
    /// From a connection's first moment, or a later request's first byte, to the end of its head.
    pub header_timeout: Duration,
    /// The longest pause in a body.
    pub body_timeout: Duration,
    /// How long a connection may wait between two requests.
    pub idle_timeout: Duration,
    /// The longest pause of a client that does not take its answer.
    pub write_timeout: Duration,
    /// Connections of one worker; beyond it takes no new one until one ends.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 16 * 1024,
            fields: 100,
            body: 1024 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            connections: 10_000,
        }
    }
}

impl Limits {
    /// The smallest head that makes sense: room for a request line and a Host.
    pub const SMALLEST_HEAD: usize = 256;

    /// Whether anything could be served within these limits.
    ///
    /// # Errors
    ///
    /// Names the first one that makes no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        let times = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
            ("write_timeout", self.write_timeout),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(format!("{name} is 0, so nothing could happen in time"));
        }
        if let Some((name, _)) = times.iter().find(|(_, time)| *time > LONGEST) {
            return Err(format!("{name} is longer than any clock goes"));
        }
        if self.head < Self::SMALLEST_HEAD {
            let least = Self::SMALLEST_HEAD;
            return Err(format!("a head of {} bytes: at least {least}", self.head));
        }
        if !(1..=MAX_FIELDS).contains(&self.fields) {
            return Err(format!("{} fields: from 1 to {MAX_FIELDS}", self.fields));
        }
        match self.connections {
            0 => Err("0 connections: at least one".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A century: as good as never, and no clock overflows.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The kinds of time limit, as indices into the timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Head,
    Body,
    Idle,
    Write,
    Linger,
    Fresh,
}

impl Limit {
    fn durations(limits: &Limits) -> [Duration; 6] {
        [
            limits.header_timeout,
            limits.body_timeout,
            limits.idle_timeout,
            limits.write_timeout,
            LINGER,
            DRAIN_FRESH,
        ]
    }

    fn of(kind: u8) -> Self {
        match kind {
            0 => Self::Head,
            1 => Self::Body,
            2 => Self::Idle,
            3 => Self::Write,
            4 => Self::Linger,
            _ => Self::Fresh,
        }
    }
}

/// What all connections of a loop share during one turn of it.
#[derive(Debug)]
struct Turn {
    app: Arc<App>,
    limits: Limits,
    head_limits: HeadLimits,
    worker: u32,
    pool: Option<Pool<Response>>,
    /// Answers that wait for their time.
    delayed: BinaryHeap<Reverse<(Instant, Key)>>,
    /// How many of them have lost their connection.
    stale_delays: usize,
    now: Instant,
    date: Date,
    input: Box<[u8]>,
    out: Vec<u8>,
    spare: Option<Box<crate::app::Parts>>,
    counters: Counters,
    /// Answers that handlers on the loop gave in this turn.
    answered: u64,
    draining: bool,
}

/// The connections of one loop.
#[derive(Debug)]
pub(crate) struct Server {
    turn: Turn,
    connections: Slab<Connection>,
    generation: u32,
    timers: Timers,
    /// Connections that have more to do than one turn allows.
    again: Vec<Key>,
    gate: Gate,
    /// Until when it need not be said again that there is no room.
    silent_until: Option<Instant>,
}

impl Server {
    /// A server for `app`. Responses of CPU-heavy handlers come from `pool` where there is one;
    /// `worker` is the number that requests carry.
    pub(crate) fn new(
        app: Arc<App>,
        limits: Limits,
        worker: u32,
        pool: Option<(usize, Waker)>,
    ) -> Self {
        let now = Instant::now();
        let pool = pool.map(|(size, waker)| Pool::new(&format!("pool {worker}"), size, waker));
        Self {
            timers: Timers::new(&Limit::durations(&limits)),
            turn: Turn {
                app,
                head_limits: HeadLimits {
                    bytes: limits.head,
                    fields: limits.fields,
                },
                limits,
                worker,
                pool,
                delayed: BinaryHeap::new(),
                stale_delays: 0,
                now,
                date: Date::new(now),
                input: vec![0; INPUT_BYTES].into_boxed_slice(),
                out: Vec::new(),
                spare: None,
                counters: Counters::default(),
                answered: 0,
                draining: false,
            },
            connections: Slab::new(),
            generation: 0,
            again: Vec::new(),
            gate: Gate::default(),
            silent_until: None,
        }
    }

    /// Accepts from `listener`, which other loops may accept from as well. Its events come with
    /// `token`.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    pub(crate) fn listen(
        &mut self,
        registry: &mio::Registry,
        listener: Listener,
        token: usize,
    ) -> io::Result<()> {
        self.gate.add(registry, listener, token)
    }

    /// A turn of the loop begins at `now`.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.turn.now = now;
        self.turn.date.refresh(now);
    }

    /// Something happened to the descriptor with `ready.token`, which is this server's.
    pub(crate) fn ready(&mut self, registry: &mio::Registry, ready: Ready) {
        if ready.token < FIRST {
            self.accept(registry, ready.token);
            return;
        }
        let key = Key::from_token(ready.token);
        let Some(connection) = self.connections.get_mut(key.index as usize) else {
            return;
        };
        if connection.key != key {
            // A late event of a connection that another process still holds a copy of.
            return;
        }
        if connection.ready(ready) && !connection.queued {
            self.drive(registry, key);
        }
    }

    /// Takes a connection that somebody else accepted and may still hold a copy of.
    pub(crate) fn adopt(&mut self, registry: &mio::Registry, socket: OwnedFd, peer: Peer) {
        self.open(registry, socket, peer, true);
    }

    /// Accepts a bounded burst.
    fn accept(&mut self, registry: &mio::Registry, token: usize) {
        for _ in 0..gate::BURST {
            if self.connections.len() >= self.turn.limits.connections {
                self.say_full();
                self.gate.pause(registry, None);
                return;
            }
            match self.gate.accept(registry, token, self.turn.now) {
                Accepted::Connection(socket, peer) => self.open(registry, socket, peer, false),
                Accepted::Nothing => break,
            }
        }
    }

    /// Says that there is no room: seldom, since at the limit it is so with every connection.
    fn say_full(&mut self) {
        let now = self.turn.now;
        if self.silent_until.is_none_or(|until| until <= now) {
            self.silent_until = Some(now + SILENCE);
            log::warn!("no room for more connections; accepting goes on when one ends");
        }
    }

    fn open(&mut self, registry: &mio::Registry, socket: OwnedFd, peer: Peer, handed: bool) {
        self.turn.counters.connections += 1;
        self.turn.counters.open += 1;
        // Zero is never used: tokens with it belong to the loop.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let entry = self.connections.vacant_entry();
        let key = Key {
            index: entry.key() as u32,
            generation: self.generation,
        };
        entry.insert(Connection::new(key, socket, peer, handed));
        // The request is often there already: answered before the socket ever meets epoll.
        self.drive(registry, key);
    }

    /// Lets a connection do what it can, then sees to its registration and its time limit.
    fn drive(&mut self, registry: &mio::Registry, key: Key) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else {
            return;
        };
        let mut step = connection.drive(&mut self.turn);
        if step != Step::Close && !connection.registered {
            match register(registry, connection, key.token()) {
                Ok(()) => connection.registered = true,
                Err(error) => {
                    log::warn!("a connection cannot be waited for: {error}");
                    step = Step::Close;
                }
            }
        }
        match step {
            Step::Close => self.close(registry, key),
            Step::Again => {
                connection.queued = true;
                self.timers.disarm(key.index);
                self.again.push(key);
            }
            Step::Wait { limit, restart } => match limit {
                None => self.timers.disarm(key.index),
                Some(limit) => {
                    if restart || self.timers.armed(key.index) != Some(limit as u8) {
                        self.timers.arm(key.index, limit as u8, self.turn.now);
                    }
                }
            },
        }
    }

    fn close(&mut self, registry: &mio::Registry, key: Key) {
        self.timers.disarm(key.index);
        let connection = self.connections.remove(key.index as usize);
        connection.close(&mut self.turn);
        self.turn.counters.open -= 1;
        self.forget_stale_delays();
        if self.gate.paused() && self.connections.len() < self.turn.limits.connections {
            self.gate.resume(registry);
        }
    }

    /// Goes on with all that does not wait for a descriptor: connections with more to do, results
    /// of the pool, answers whose time has come, time limits.
    pub(crate) fn proceed(&mut self, registry: &mio::Registry) {
        for key in std::mem::take(&mut self.again) {
            if self.holds(key) {
                self.connections[key.index as usize].queued = false;
                self.drive(registry, key);
            }
        }
        while let Some(done) = self.turn.pool.as_ref().and_then(Pool::next_done) {
            log::trace!("job waited {:?}, ran {:?}", done.waited, done.ran);
            // Only a handler that gives its worker up gets here as a panic.
            let response = done.outcome.unwrap_or_else(|panic| resume_unwind(panic));
            self.resume(registry, Key::from_token(done.ticket as usize), response);
        }
        while let Some(&Reverse((at, key))) = self.turn.delayed.peek() {
            if at > self.turn.now {
                break;
            }
            self.turn.delayed.pop();
            if !self.holds(key) {
                self.turn.stale_delays = self.turn.stale_delays.saturating_sub(1);
                continue;
            }
            let job = self.connections[key.index as usize].delayed_job();
            if let Some(job) = job {
                let response = job.run();
                self.resume(registry, key, response);
            }
        }
        while let Some((index, kind)) = self.timers.pop_expired(self.turn.now) {
            let connection = &mut self.connections[index as usize];
            let key = connection.key;
            if connection.expired(&mut self.turn, Limit::of(kind)) {
                self.drive(registry, key);
            } else {
                self.close(registry, key);
            }
        }
        self.gate.resume_at(registry, self.turn.now);
    }

    /// Forgets delayed answers whose connections have ended, once they are the most of them.
    fn forget_stale_delays(&mut self) {
        if self.turn.stale_delays > 64 && self.turn.stale_delays * 2 > self.turn.delayed.len() {
            let mut delayed = std::mem::take(&mut self.turn.delayed);
            delayed.retain(|Reverse((_, key))| self.holds(*key));
            self.turn.delayed = delayed;
            self.turn.stale_delays = 0;
        }
    }

    fn holds(&self, key: Key) -> bool {
        let connection = self.connections.get(key.index as usize);
        connection.is_some_and(|connection| connection.key == key)
    }

    /// The answer that a connection waited for is there.
    fn resume(&mut self, registry: &mio::Registry, key: Key, response: Response) {
        if self.holds(key) {
            let connection = &mut self.connections[key.index as usize];
            connection.resume(response);
            self.drive(registry, key);
        }
    }

    /// When [`Server::proceed`] must be called next, if nothing becomes ready before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if !self.again.is_empty() {
            return Some(self.turn.now);
        }
        let delayed = self.turn.delayed.peek().map(|Reverse((at, _))| *at);
        [self.timers.next_deadline(), delayed, self.gate.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The turn is over: accounts for the time that its answers took. The time, if it had to be
    /// asked for.
    pub(crate) fn end(&mut self) -> Option<Instant> {
        let answers = std::mem::take(&mut self.turn.answered);
        if answers == 0 {
            return None;
        }
        let now = Instant::now();
        let took = now.saturating_duration_since(self.turn.now);
        self.turn.counters.took(took, answers);
        Some(now)
    }

    /// What this server has counted.
    pub(crate) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.turn.counters
    }

    /// Jobs that wait for a thread of the pool.
    pub(crate) fn pool_waiting(&self) -> usize {
        self.turn.pool.as_ref().map_or(0, Pool::waiting)
    }

    /// Takes nothing new: closes the listeners (after what waits in their queues) and the idle
    /// connections; every answer from now on is its connection's last.
    pub(crate) fn drain(&mut self, registry: &mio::Registry) {
        if self.turn.draining {
            return;
        }
        self.turn.draining = true;
        // Bounded: more than a queue's length has come after the drain began.
        for _ in 0..MAX_BACKLOG {
            match self.gate.take_waiting() {
                Some((socket, peer, _)) => self.open(registry, socket, peer, false),
                None => break,
            }
        }
        self.gate.close();
        let all: Vec<Key> = self.connections.iter().map(|(_, c)| c.key).collect();
        for key in all {
            let connection = &mut self.connections[key.index as usize];
            // A request may have come since the last look; then it is answered.
            connection.look_again();
            self.drive(registry, key);
        }
    }

    /// Whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }
}
