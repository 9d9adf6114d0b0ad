//! One event loop's worth of HTTP connections.
//!
//! [`Server`] holds the connections of one loop and drives them when the loop's owner says that
//! something is ready: a worker, or the primary for its own pages. `conn` is one connection from
//! its first byte to its last, `requests` its way from bytes to answers, `respond` a response as
//! bytes, `output` what could not be written at once, `gate` the listeners that a loop accepts
//! from by itself, `drain` what becomes of connections when their loop ends, `sticky` the cookie
//! by which clients come back to a worker. May use `app`, `net`,
//! `http`, `board` and `pool`; knows of no workers.
//!
//! The cost of a keep-alive request is one read and one write; see the speed rules in the crate's
//! documentation.

mod accept;
mod access;
mod alarms;
mod body;
mod conn;
mod date;
mod drain;
mod edge;
#[cfg(feature = "internals")]
mod encoder;
pub(crate) mod gate;
mod limits;
mod linger;
mod opening;
mod output;
mod pace;
mod parted;
mod pools;
mod requests;
mod respond;
pub(crate) mod sticky;
#[cfg(test)]
mod tests;
mod upgraded;

use crate::app::{App, Response};
use crate::board::Slot;
use crate::http::HeadLimits;
use crate::ipc::HAND;
pub(crate) use crate::ipc::HANDED_BYTES;
use crate::metrics::Counters;
pub(crate) use crate::net::MAX_BACKLOG;
use crate::net::token::{FIRST, Key};
use crate::net::{Mailbox, Ready, Seldom, Timers, Waker, register};
use crate::pool::OnStart;
use crate::sys::listener::{Listener, Peer};
use accept::Arrivals;
use alarms::Alarms;
use conn::{Connection, Step};
pub(crate) use edge::EdgeSettings;
#[cfg(feature = "internals")]
pub use encoder::Encoder;
use gate::Gate;
pub(crate) use limits::LONGEST;
use limits::Limit;
pub use limits::Limits;
use opening::Opening;
use parted::Parted;
use pools::Pools;
use slab::Slab;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Instant;
pub use {access::LogFormat, edge::Trust};

/// What one read takes at most; the loop has one such buffer for all connections.
const INPUT_BYTES: usize = 64 * 1024;

/// What tells the connections of a loop's second server from those of its first.
pub(crate) const BESIDE: u64 = 1 << 63;

/// What becomes of connections that wait for their next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    /// They wait on.
    No,
    /// They are closed, and every answer is its connection's last.
    Close,
    /// Another loop goes on with them.
    HandBack,
}

/// What a loop knows of a connection that comes from, or goes to, another one.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// The listener that it came in by.
    pub(crate) listener: u32,
    /// It is between two requests, not before its first.
    pub(crate) served: bool,
    /// No header of the PROXY protocol is to come, or it has come: the peer is who it named.
    pub(crate) announced: bool,
    /// Nobody is there whose it is: its client is to be told where it is now.
    pub(crate) strayed: bool,
    /// What was read and not consumed.
    pub(crate) bytes: Vec<u8>,
}

/// What all connections of a loop share during one turn of it.
#[derive(Debug)]
struct Turn {
    app: Arc<App>,
    edge: edge::Edge,
    limits: Limits,
    head_limits: HeadLimits,
    worker: u32,
    slot: Option<Slot>,
    pools: Pools,
    alarms: Alarms,
    /// Which connections other threads have something for.
    mailbox: Arc<Mailbox>,
    now: Instant,
    opening: Opening,
    input: Box<[u8]>,
    out: Vec<u8>,
    spare: Option<Box<crate::app::Parts>>,
    counters: Counters,
    /// Answers that handlers on the loop gave in this turn.
    answered: u64,
    draining: Draining,
}

/// The connections of one loop.
#[derive(Debug)]
pub(crate) struct Server {
    turn: Turn,
    connections: Slab<Connection>,
    generation: u32,
    /// What all generations have set: see [`Server::beside`].
    mark: u32,
    timers: Timers,
    /// Connections that have more to do than one turn allows.
    again: Vec<Key>,
    gate: Gate,
    arrivals: Arrivals,
    /// Connections that ended as they were handed over.
    parted: Parted,
    /// Connections for others to go on with.
    given_back: Vec<(OwnedFd, Handed)>,
    /// When it is to be said that there is no room.
    full: Seldom,
}

impl Server {
    /// A server for `app` on this thread's loop, which `waker` wakes. CPU-heavy handlers run on so
    /// many `threads`, if there are any; `worker` is the number that requests carry; what it is
    /// doing is noted in `slot`.
    pub(crate) fn new(
        app: Arc<App>,
        limits: Limits,
        worker: u32,
        threads: usize,
        waker: Option<Waker>,
        slot: Option<Slot>,
    ) -> Self {
        let now = Instant::now();
        Self {
            timers: Timers::new(&Limit::durations(&limits)),
            turn: Turn {
                app,
                edge: edge::Edge::default(),
                head_limits: HeadLimits {
                    bytes: limits.head,
                    fields: limits.fields,
                },
                limits,
                worker,
                slot,
                pools: Pools::new(worker, threads, waker.as_ref()),
                alarms: Alarms::default(),
                mailbox: Mailbox::new(waker),
                now,
                opening: Opening::new(now),
                input: vec![0; INPUT_BYTES].into_boxed_slice(),
                out: Vec::new(),
                spare: None,
                counters: Counters::default(),
                answered: 0,
                draining: Draining::No,
            },
            connections: Slab::new(),
            generation: 0,
            mark: 0,
            again: Vec::new(),
            gate: Gate::default(),
            arrivals: Arrivals::default(),
            parted: Parted::default(),
            given_back: Vec::new(),
            full: Seldom::default(),
        }
    }

    /// The second server of a loop, beside one of its own: tokens and tickets of its connections
    /// have [`BESIDE`] set.
    pub(crate) fn beside(mut self) -> Self {
        self.mark = (BESIDE >> 32) as u32;
        self
    }

    /// Has each thread of the pool do `on_start` first.
    pub(crate) fn on_pool_thread(&mut self, on_start: OnStart) {
        self.turn.pools.on_start(&on_start);
    }

    /// Accepts from `listener`, which other loops may accept from as well, in place of the one
    /// that had its `token` before. Its events come with that token, and its connections know it
    /// by the number that `token` is above [`LISTENERS`].
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
        self.unlisten(registry, token);
        if self.turn.draining != Draining::No {
            return Ok(());
        }
        self.gate.add(registry, listener, token, true)
    }

    /// Accepts no longer from the listener with `token`.
    pub(crate) fn unlisten(&mut self, registry: &mio::Registry, token: usize) {
        drop(self.gate.remove(registry, token));
    }

    /// Removes the file of the listener with `token`, if it is a unix socket: for one that no
    /// other loop accepts from.
    pub(crate) fn unlink(&self, token: usize) {
        if let Some(listener) = self.gate.listener(token)
            && let Err(error) = listener.unlink()
        {
            log::warn!("{} cannot be removed: {error}", listener.address());
        }
    }

    /// A turn of the loop begins at `now`.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.turn.now = now;
        self.turn.opening.refresh(now);
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

    fn open(
        &mut self,
        registry: &mio::Registry,
        socket: OwnedFd,
        mut handed: Handed,
        copied: bool,
    ) {
        handed.announced |= !self.turn.edge.must_announce(handed.peer);
        self.turn.counters.connections += 1;
        self.turn.counters.open += 1;
        // Zero is never used: tokens with it belong to the loop.
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        self.generation = self.generation.max(1);
        let entry = self.connections.vacant_entry();
        let key = Key {
            index: entry.key() as u32,
            generation: self.generation | self.mark,
        };
        entry.insert(Connection::new(key, socket, handed, copied));
        // The request is often there already: answered before the socket ever meets epoll.
        self.drive(registry, key);
    }

    /// Lets a connection do what it can, then sees to its registration and its time limit.
    fn drive(&mut self, registry: &mio::Registry, key: Key) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else {
            return;
        };
        let mut step = connection.drive(&mut self.turn);
        if matches!(step, Step::Wait { .. } | Step::Again) && !connection.registered {
            match register(registry, connection, key.token()) {
                Ok(()) => connection.registered = true,
                Err(error) => {
                    log::warn!("a connection cannot be waited for: {error}");
                    step = Step::Close;
                }
            }
        }
        // A peer that does not take what is there has one limit; nothing more could be said to it.
        if matches!(step, Step::Wait { limit, .. } if limit != Some(Limit::Write))
            && let Some(at) = connection.alarm_at()
            && connection.alarm.is_none_or(|alarm| at < alarm)
        {
            connection.alarm = Some(at);
            self.turn.alarms.set(at, key);
        }
        match step {
            Step::Close => self.close(registry, key),
            Step::HandBack => self.give_back(registry, key),
            Step::Again => {
                self.timers.disarm(key.index);
                if !std::mem::replace(&mut connection.queued, true) {
                    self.again.push(key);
                }
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

    fn remove(&mut self, key: Key) -> Connection {
        self.timers.disarm(key.index);
        self.turn.counters.open -= 1;
        let connection = self.connections.remove(key.index as usize);
        if connection.alarm.is_some() {
            self.turn.alarms.lost();
            let holds = |key| holds(&self.connections, key);
            self.turn.alarms.forget_stale(holds);
        }
        connection
    }

    fn close(&mut self, registry: &mio::Registry, key: Key) {
        let connection = self.remove(key);
        let (number, left) = (connection.key.generation, connection.close(&mut self.turn));
        // Not more descriptors than there may be connections, with those of the next hand.
        let kept = self.connections.len() + self.parted.len() + HAND;
        if let Some(socket) = left
            && kept < self.turn.limits.connections
        {
            self.parted.keep(socket, number, self.turn.now);
        }
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
        while let Some(done) = self.turn.pools.next_done() {
            log::trace!("job waited {:?}, ran {:?}", done.waited, done.ran);
            // Only a handler that gives its worker up gets here as a panic.
            let response = done.outcome.unwrap_or_else(|panic| resume_unwind(panic));
            self.resume(registry, Key::from_token(done.ticket as usize), response);
        }
        for number in self.turn.mailbox.take() {
            let key = Key::from_token(number as usize);
            self.look_at(registry, key);
        }
        for (at, key) in self.turn.alarms.due(self.turn.now) {
            self.alarm(registry, at, key);
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
        self.parted.let_go_at(self.turn.now);
        self.turn.edge.proceed(self.turn.now);
    }

    /// The time has come to look at a connection.
    fn alarm(&mut self, registry: &mio::Registry, at: Instant, key: Key) {
        if !self.holds(key) {
            self.turn.alarms.was_stale();
            return;
        }
        let connection = &mut self.connections[key.index as usize];
        // One of an earlier request's says nothing about this one's job.
        let own = connection.alarm == Some(at);
        if own {
            connection.alarm = None;
        }
        match own.then(|| connection.delayed_job()).flatten() {
            Some(job) => self.resume(registry, key, job.run()),
            None => self.look_at(registry, key),
        }
    }

    /// Lets a connection do what it can, unless it will have its turn anyway.
    fn look_at(&mut self, registry: &mio::Registry, key: Key) {
        if self.holds(key) && !self.connections[key.index as usize].queued {
            self.drive(registry, key);
        }
    }

    fn holds(&self, key: Key) -> bool {
        holds(&self.connections, key)
    }

    /// The answer that a connection waited for is there.
    fn resume(&mut self, registry: &mio::Registry, key: Key, response: Response) {
        if self.holds(key) {
            let connection = &mut self.connections[key.index as usize];
            connection.resume(response);
            self.drive(registry, key);
        }
    }

    /// Answers the request that a handler sent elsewhere with this ticket; see
    /// [`Elsewhere`](crate::app::Elsewhere). Nothing happens when its client is gone.
    pub(crate) fn answer(&mut self, registry: &mio::Registry, ticket: u64, response: Response) {
        self.resume(registry, Key::from_token(ticket as usize), response);
    }

    /// When [`Server::proceed`] must be called next, if nothing becomes ready before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if !self.again.is_empty() || self.turn.mailbox.has_any() {
            return Some(self.turn.now);
        }
        let (alarm, log) = (self.turn.alarms.next(), self.turn.edge.deadline());
        [
            self.timers.next_deadline(),
            alarm,
            log,
            self.gate.deadline(),
            self.parted.deadline(),
        ]
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
        self.turn.pools.waiting()
    }

    /// Whether no connection is left, neither here nor put aside.
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.given_back.is_empty()
    }
}

fn holds(connections: &Slab<Connection>, key: Key) -> bool {
    let connection = connections.get(key.index as usize);
    connection.is_some_and(|connection| connection.key == key)
}
