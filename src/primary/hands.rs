//! What one worker has been handed and has not taken yet.
//!
//! Owns the primary's copies: each is kept until the worker's word on the board says that it took
//! the connection, so that what a dead or stopped worker never took goes to another.

use super::rendezvous::Affinity;
use crate::board::Slot;
use crate::ipc::{HAND, Handed};
use crate::sys::listener::Peer;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// A connection that the primary holds.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: OwnedFd,
    pub(super) handed: Handed,
    /// The listener it came in by.
    pub(super) listener: u32,
    /// Whose it is, where the policy keeps clients with their workers.
    pub(super) affinity: Option<Affinity>,
    /// It waits for that worker alone, which has its hands full.
    pub(super) late: bool,
}

impl Arrival {
    /// Whether nothing has been read of it.
    pub(super) fn is_fresh(&self) -> bool {
        !self.handed.served && self.handed.bytes.is_empty()
    }

    /// One that was just accepted.
    pub(super) fn fresh(socket: OwnedFd, peer: Peer, listener: u32) -> Self {
        let handed = Handed::fresh(peer);
        Self {
            socket,
            handed,
            listener,
            affinity: None,
            late: false,
        }
    }
}

/// The hand of one worker.
#[derive(Debug, Default)]
pub(super) struct Hand {
    untaken: VecDeque<(Arrival, Instant)>,
    /// How many it was handed in all.
    handed: u64,
}

impl Hand {
    /// Notes what was sent to the worker.
    pub(super) fn add(&mut self, arrivals: impl Iterator<Item = Arrival>, now: Instant) {
        let before = self.untaken.len();
        self.untaken.extend(arrivals.map(|arrival| (arrival, now)));
        self.handed += (self.untaken.len() - before) as u64;
    }

    /// Lets go of what the worker has taken by now.
    pub(super) fn settle(&mut self, slot: &Slot) {
        let left = self.handed.saturating_sub(slot.taken());
        while self.untaken.len() as u64 > left {
            self.untaken.pop_front();
        }
    }

    /// How many more it may be handed.
    pub(super) fn room(&self) -> usize {
        HAND.saturating_sub(self.untaken.len())
    }

    /// How many it has not taken.
    pub(super) fn len(&self) -> usize {
        self.untaken.len()
    }

    /// How many it was handed in all, and those that it has not taken, for who goes on with it.
    pub(super) fn parts(&self) -> (u64, impl Iterator<Item = &Arrival>) {
        (self.handed, self.untaken.iter().map(|(arrival, _)| arrival))
    }

    /// One that goes on where another was.
    pub(super) fn resumed(handed: u64, untaken: Vec<Arrival>, now: Instant) -> Self {
        let untaken = untaken.into_iter().map(|arrival| (arrival, now)).collect();
        Self { untaken, handed }
    }

    /// Whether it has one that would be as well off with another worker.
    pub(super) fn has_free(&self) -> bool {
        let mut all = self.untaken.iter();
        all.any(|(arrival, _)| arrival.affinity.is_none())
    }

    /// Since when the oldest untaken one waits.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.untaken.front().map(|(_, since)| *since)
    }

    /// Takes everything untaken back, unless the worker takes one at this very moment.
    pub(super) fn take_back(&mut self, slot: &Slot) -> Vec<Arrival> {
        let taken = slot.taken();
        self.settle(slot);
        if self.untaken.is_empty() || !slot.take_back(taken, self.handed) {
            return Vec::new();
        }
        self.untaken.drain(..).map(|(arrival, _)| arrival).collect()
    }

    /// What a worker that is gone never took.
    pub(super) fn into_untaken(mut self, slot: &Slot) -> Vec<Arrival> {
        self.settle(slot);
        self.untaken
            .into_iter()
            .map(|(arrival, _)| arrival)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use std::fs::File;

    fn arrivals(count: u32) -> impl Iterator<Item = Arrival> {
        let socket = || File::open("/dev/null").unwrap().into();
        (0..count).map(move |listener| Arrival::fresh(socket(), Peer::Unix, listener))
    }

    #[test]
    fn copies_are_kept_until_taken() {
        let slot = Board::new().unwrap().slot(0);
        let now = Instant::now();
        let mut hand = Hand::default();
        hand.add(arrivals(5), now);
        assert_eq!(hand.room(), HAND - 5);
        assert!(slot.take(0) && slot.take(1));
        hand.settle(&slot);
        assert_eq!(hand.room(), HAND - 3);
        assert_eq!(hand.waiting_since(), Some(now));
        let back = hand.take_back(&slot);
        let numbers: Vec<_> = back.iter().map(|arrival| arrival.listener).collect();
        assert_eq!(numbers, [2, 3, 4]);
        assert!(!slot.take(2), "the worker comes too late");
        assert_eq!(hand.room(), HAND);
        hand.add(arrivals(2), now);
        assert!(slot.take(5));
        assert_eq!(hand.into_untaken(&slot).len(), 1);
    }
}
