//! Taking connections from the listeners of one loop, up to the limit.

use super::gate::Accepted;
use super::{Handed, Server};
use crate::net::token::LISTENERS;
use crate::sys::listener::Peer;
use std::os::fd::OwnedFd;

impl Server {
    /// Accepts a bounded burst.
    pub(super) fn accept(&mut self, registry: &mio::Registry, token: usize) {
        let expected = self.burst.expected();
        let mut count = 0;
        while count < expected {
            if self.pause_when_full(registry) {
                return;
            }
            match self.gate.accept(registry, token, self.turn.now) {
                Accepted::Connection(socket, peer) => self.accepted(registry, socket, peer, token),
                Accepted::Nothing => break,
            }
            count += 1;
        }
        self.burst.came(count, count < expected);
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
