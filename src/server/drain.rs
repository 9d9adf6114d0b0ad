//! The end of a server, and of its share of the work: what becomes of its connections.

use super::{Draining, Handed, MAX_BACKLOG, Server};
use crate::net::deregister;
use crate::net::token::Key;
use crate::sys::listener::Peer;
use std::os::fd::OwnedFd;

impl Handed {
    /// One that was just accepted.
    pub(crate) fn fresh(peer: Peer, listener: u32) -> Self {
        Self {
            peer,
            listener,
            served: false,
            announced: false,
            strayed: false,
            bytes: Vec::new(),
        }
    }
}

impl Server {
    /// Takes nothing new and closes the listeners. With `hand_back`, connections that wait for a
    /// request are put aside for another loop ([`Server::take_given_back`]), those in the middle
    /// of something as soon as they have finished. Without, they are closed, what waits in the
    /// queues of the listeners is still served, and every answer is its connection's last.
    pub(crate) fn drain(&mut self, registry: &mio::Registry, hand_back: bool) {
        let draining = if hand_back {
            Draining::HandBack
        } else {
            Draining::Close
        };
        if self.turn.draining == Draining::Close || self.turn.draining == draining {
            return;
        }
        self.turn.draining = draining;
        self.turn.edge.flush(self.turn.now);
        if !hand_back {
            self.given_back.clear();
            // Bounded: more than a queue's length has come after the drain began.
            for _ in 0..MAX_BACKLOG {
                match self.gate.take_waiting() {
                    Some((socket, peer, token)) => self.accepted(registry, socket, peer, token),
                    None => break,
                }
            }
        }
        self.gate.close(registry);
        let all: Vec<Key> = self.connections.iter().map(|(_, c)| c.key).collect();
        for key in all {
            let connection = &mut self.connections[key.index as usize];
            // A request may have come since the last look; then it is answered.
            connection.look_again();
            self.drive(registry, key);
        }
    }

    /// Ends all connections where they are: the time is over. Whoever waits for one is told, and
    /// what there is to say of them goes to the access log.
    pub(crate) fn abandon(&mut self) {
        for connection in self.connections.drain() {
            self.turn.counters.open -= 1;
            connection.close(&mut self.turn);
        }
        self.turn.edge.flush(self.turn.now);
    }

    /// Puts a connection aside for another loop.
    pub(super) fn give_back(&mut self, registry: &mio::Registry, key: Key) {
        let connection = self.remove(key);
        // The socket lives on in another process: closing our copy would not take it out.
        if connection.registered
            && let Err(error) = deregister(registry, &connection)
        {
            log::debug!("a connection cannot be forgotten: {error}");
        }
        self.given_back.push(connection.into_handed());
    }

    /// Connections that another loop must go on with: at most `count` that came in by the same
    /// listener.
    pub(crate) fn take_given_back(&mut self, count: usize) -> Vec<(OwnedFd, Handed)> {
        let listener = self.given_back.last().map(|(_, handed)| handed.listener);
        let same = |(_, handed): &&(OwnedFd, Handed)| Some(handed.listener) == listener;
        let count = self
            .given_back
            .iter()
            .rev()
            .take_while(same)
            .take(count)
            .count();
        self.given_back.split_off(self.given_back.len() - count)
    }

    /// Whether connections wait for another loop.
    pub(crate) fn has_given_back(&self) -> bool {
        !self.given_back.is_empty()
    }

    /// Puts back what could not be sent away.
    pub(crate) fn keep_given_back(&mut self, kept: Vec<(OwnedFd, Handed)>) {
        self.given_back.extend(kept);
    }
}
