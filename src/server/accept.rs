//! Taking connections from the listeners of one loop, up to the limit.

use super::gate::{Accepted, BURST, Burst};
use super::{Handed, Server};
use crate::net::Gathering;
use crate::net::token::LISTENERS;
use crate::sys::listener::Peer;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// While connections gather, a turn of the loop begins so long after the one before. Short, since
/// others' requests wait as long.
const PERIOD: Duration = Duration::from_micros(150);

/// How connections come that this loop accepts.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// How many to accept at one event, where the kernel is not asked.
    burst: Burst,
    gathering: Gathering,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            burst: Burst::default(),
            gathering: Gathering::new(PERIOD),
        }
    }
}

impl Server {
    /// The turn is over: lets connections gather for the next one, if they come fast; see
    /// [`Gathering::pause`].
    pub(crate) fn gather(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        self.arrivals.gathering.pause(self.turn.now, deadline)
    }

    /// Accepts a bounded burst.
    pub(super) fn accept(&mut self, registry: &mio::Registry, token: usize) {
        let gathers = self.arrivals.gathering.is_on();
        // Of several the kernel knows how many they are, which costs less than one too many.
        let queued = gathers.then(|| self.gate.queued(token)).flatten();
        let expected = queued.unwrap_or_else(|| self.arrivals.burst.expected());
        let expected = expected.min(BURST);
        let mut count = 0;
        while count < expected {
            if self.pause_when_full(registry) {
                break;
            }
            match self.gate.accept(registry, token, self.turn.now) {
                Accepted::Connection(socket, peer) => self.accepted(registry, socket, peer, token),
                Accepted::Nothing => break,
            }
            count += 1;
        }
        let Arrivals { burst, gathering } = &mut self.arrivals;
        if queued.is_none() && !self.gate.paused() {
            burst.came(count, count < expected);
        }
        if let Some(rate) = gathering.came(self.turn.now, count) {
            // Who waits for an answer that is being made had better have it at once.
            gathering.judge(rate, self.turn.counters.in_flight == 0);
        }
        self.pause_when_full(registry);
    }

    /// Stops accepting at the limit: with the last connection that there is room for, and not when
    /// the loop wakes for the next. That wake would be lost on the other loops, of which the kernel
    /// wakes but one.
    pub(super) fn pause_when_full(&mut self, registry: &mio::Registry) -> bool {
        let full = self.connections.len() >= self.turn.limits.connections;
        if full && self.gate.listeners().len() > 0 && !self.gate.paused() {
            self.say_full();
            self.gate.pause(registry, None);
        }
        full
    }

    /// Says that there is no room: seldom, since at the limit it is so with every connection.
    fn say_full(&mut self) {
        if self.full.is_due(self.turn.now) {
            log::warn!("no room for more connections; accepting goes on when one ends");
        }
    }

    /// Takes a connection that the worker accepted when it was granted one of `listener`.
    pub(crate) fn accept_granted(
        &mut self,
        registry: &mio::Registry,
        socket: OwnedFd,
        peer: Peer,
        listener: u32,
    ) {
        self.open(registry, socket, Handed::fresh(peer, listener), false);
        self.pause_when_full(registry);
    }

    /// Takes a connection that somebody else accepted and may still hold a copy of.
    pub(crate) fn adopt(&mut self, registry: &mio::Registry, socket: OwnedFd, handed: Handed) {
        self.open(registry, socket, handed, true);
        self.pause_when_full(registry);
    }

    /// Who hands connections over does so again, so that of most of those before there is no copy
    /// left: what is left of them, to be closed behind the next ones.
    pub(crate) fn take_parted(&mut self) -> Vec<OwnedFd> {
        self.parted.take(self.generation | self.mark)
    }

    pub(super) fn accepted(
        &mut self,
        registry: &mio::Registry,
        socket: OwnedFd,
        peer: Peer,
        token: usize,
    ) {
        let listener = token.saturating_sub(LISTENERS) as u32;
        self.open(registry, socket, Handed::fresh(peer, listener), false);
    }
}
