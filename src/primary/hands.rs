//! What one worker has been handed and has not taken yet.
//!
//! Owns the primary's copies: each is kept until the worker's word on the board says that it took
//! the connection, or a program has answered, so that what a dead or stopped worker never took goes
//! to another.

use super::rendezvous::Affinity;
use crate::board::Slot;
use crate::ipc::Handed;
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

/// What a program's word for a connection comes to.
#[derive(Debug)]
pub(super) enum Answer {
    /// It has taken it.
    Taken,
    /// It will not have it, so another should.
    Refused(Box<Arrival>),
    /// There was no such question.
    Unasked,
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

    /// A program has answered for the connection with this number, from 0 in the order of handing
    /// over: it has it from now on (`accepted`), or will not have it and it comes back. Nothing
    /// where it was not asked.
    pub(super) fn answer(&mut self, connection: u64, accepted: bool) -> Answer {
        // It has one at a time, and answers in that order where it has more.
        let asked = self.handed.checked_sub(self.untaken.len() as u64);
        if asked != Some(connection) {
            return Answer::Unasked;
        }
        match self.untaken.pop_front() {
            None => Answer::Unasked,
            Some(_) if accepted => Answer::Taken,
            Some((arrival, _)) => Answer::Refused(Box::new(arrival)),
        }
    }

    /// How many more it may be handed, of so many at `most`.
    pub(super) fn room(&self, most: usize) -> usize {
        most.saturating_sub(self.untaken.len())
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
    use crate::ipc::HAND;
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
        assert_eq!(hand.room(HAND), HAND - 5);
        assert!(slot.take(0) && slot.take(1));
        hand.settle(&slot);
        assert_eq!(hand.room(HAND), HAND - 3);
        assert_eq!(hand.waiting_since(), Some(now));
        let back = hand.take_back(&slot);
        let numbers: Vec<_> = back.iter().map(|arrival| arrival.listener).collect();
        assert_eq!(numbers, [2, 3, 4]);
        assert!(!slot.take(2), "the worker comes too late");
        assert_eq!(hand.room(HAND), HAND);
        hand.add(arrivals(2), now);
        assert!(slot.take(5));
        assert_eq!(hand.into_untaken(&slot).len(), 1);
    }

    #[test]
    fn programs_answer_for_each() {
        let slot = Board::new().unwrap().slot(0);
        let now = Instant::now();
        let mut hand = Hand::default();
        let said = |hand: &mut Hand, connection, accepted| match hand.answer(connection, accepted) {
            Answer::Taken => "taken".to_owned(),
            Answer::Refused(arrival) => format!("refused {}", arrival.listener),
            Answer::Unasked => "unasked".to_owned(),
        };
        assert_eq!(said(&mut hand, 0, true), "unasked");
        let cases = [
            (0, true, "taken"),
            (1, false, "refused 0"),
            (2, true, "taken"),
        ];
        for (connection, accepted, expected) in cases {
            hand.add(arrivals(1), now);
            assert_eq!(hand.room(1), 0);
            for wrong in [connection + 1, u64::MAX] {
                assert_eq!(said(&mut hand, wrong, accepted), "unasked");
            }
            assert_eq!(said(&mut hand, connection, accepted), expected);
            assert_eq!(said(&mut hand, connection, accepted), "unasked", "twice");
            assert_eq!(hand.room(1), 1);
        }
        // What it leaves unanswered when it dies is another's.
        hand.add(arrivals(1), now);
        hand.settle(&slot);
        assert_eq!(hand.waiting_since(), Some(now));
        assert_eq!(hand.into_untaken(&slot).len(), 1);
    }
}
