//! What one worker has been granted or handed and has not taken yet.
//!
//! Owns the primary's copies of what was handed over: each is kept until the worker's word on the
//! board says that it took the connection, or a program has answered, so that what a dead or stopped
//! worker never took goes to another. What was granted is in the kernel's queue, and goes to another
//! as well.

use super::rendezvous::Affinity;
use crate::board::Slot;
use crate::ipc::Handed;
use crate::sys::listener::Peer;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// A connection that the primary deals.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Nothing while it waits in the kernel's queue of its listener, for whom it is granted to to
    /// accept it. Which one that is nobody knows before.
    pub(super) socket: Option<OwnedFd>,
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
            socket: Some(socket),
            handed,
            listener,
            affinity: None,
            late: false,
        }
    }

    /// One that waits in the kernel's queue.
    pub(super) fn queued(listener: u32) -> Self {
        Self {
            socket: None,
            handed: Handed::fresh(Peer::Elsewhere),
            listener,
            affinity: None,
            late: false,
        }
    }

    /// Whether it is still in the kernel's queue.
    pub(super) fn is_queued(&self) -> bool {
        self.socket.is_none()
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
    /// How many of those it was granted, less what was taken back.
    granted: u64,
}

/// What a worker may still accept of a listener's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    /// What it has not taken.
    pub(super) untaken: usize,
    /// What it has taken, of this listener or of another, and may have accepted already.
    pub(super) in_doubt: usize,
}

impl Grants {
    /// How many they are at most.
    pub(super) fn most(self) -> usize {
        self.untaken + self.in_doubt
    }
}

impl Hand {
    /// Notes what was sent to the worker.
    pub(super) fn add(&mut self, arrivals: impl Iterator<Item = Arrival>, now: Instant) {
        let before = self.untaken.len();
        self.untaken.extend(arrivals.map(|arrival| (arrival, now)));
        self.handed += (self.untaken.len() - before) as u64;
        let new = self.untaken.iter().skip(before);
        self.granted += new.filter(|(arrival, _)| arrival.is_queued()).count() as u64;
    }

    /// Lets go of what the worker has taken by now.
    pub(super) fn settle(&mut self, slot: &Slot) {
        let left = self.handed.saturating_sub(slot.taken());
        while self.untaken.len() as u64 > left {
            self.untaken.pop_front();
        }
    }

    /// What the worker may still accept of the queue of `listener`: never less than what it will,
    /// whatever it does meanwhile.
    pub(super) fn grants(&mut self, listener: u32, slot: &Slot) -> Grants {
        // In this order: what is counted as tried was counted as taken before.
        let tried = slot.tried();
        self.settle(slot);
        let (mut all, mut untaken) = (0, 0);
        for (arrival, _) in self.untaken.iter().filter(|(one, _)| one.is_queued()) {
            all += 1;
            untaken += usize::from(arrival.listener == listener);
        }
        Grants {
            untaken,
            in_doubt: self.granted.saturating_sub(all + tried) as usize,
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

    /// Of how many of those the primary has a copy.
    pub(super) fn held(&self) -> usize {
        let all = self.untaken.iter();
        all.filter(|(arrival, _)| !arrival.is_queued()).count()
    }

    /// How many it was handed in all, how many it was granted, and those that it has not taken, for
    /// who goes on with it.
    pub(super) fn parts(&self) -> (u64, u64, impl Iterator<Item = &Arrival>) {
        let untaken = self.untaken.iter().map(|(arrival, _)| arrival);
        (self.handed, self.granted, untaken)
    }

    /// One that goes on where another was; see [`Hand::parts`].
    pub(super) fn resumed(handed: u64, granted: u64, untaken: Vec<Arrival>, now: Instant) -> Self {
        let untaken = untaken.into_iter().map(|arrival| (arrival, now)).collect();
        Self {
            untaken,
            handed,
            granted,
        }
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
        let back: Vec<_> = self.untaken.drain(..).map(|(arrival, _)| arrival).collect();
        self.granted -= back.iter().filter(|arrival| arrival.is_queued()).count() as u64;
        back
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
    fn what_was_granted_counts_until_it_is_accepted() {
        let slot = Board::new().unwrap().slot(0);
        let now = Instant::now();
        let mut hand = Hand::default();
        let queued = |count, listener| (0..count).map(move |_| Arrival::queued(listener));
        let grants = |most, in_doubt| Grants {
            untaken: most - in_doubt,
            in_doubt,
        };
        // Others among them are not of the queue, nor are those of another one.
        hand.add(queued(2, 7).chain(arrivals(1)).chain(queued(3, 8)), now);
        assert_eq!(hand.grants(7, &slot), grants(2, 0));
        assert_eq!(hand.grants(8, &slot), grants(3, 0));
        // Taken, it may have been accepted or not, and who knows of which.
        assert!(slot.take(0));
        assert_eq!(hand.grants(7, &slot), grants(2, 1));
        assert_eq!(hand.grants(8, &slot), grants(4, 1));
        slot.count_tried();
        assert_eq!(hand.grants(7, &slot), grants(1, 0));
        assert!(slot.take(1) && slot.take(2));
        slot.count_tried();
        assert_eq!(hand.grants(7, &slot), grants(0, 0));
        assert_eq!(hand.len(), 3);
        // What is taken back is nobody's.
        let back = hand.take_back(&slot);
        assert!(back.len() == 3 && back.iter().all(Arrival::is_queued));
        assert_eq!(hand.grants(8, &slot), grants(0, 0));
        // The next program goes on with it.
        hand.add(queued(2, 8), now);
        let (handed, granted, untaken) = hand.parts();
        let untaken = untaken.map(|arrival| Arrival::queued(arrival.listener));
        let untaken = untaken.collect();
        // Whatever is taken while that begins.
        assert!(slot.take(6));
        slot.count_tried();
        let mut next = Hand::resumed(handed, granted, untaken, now);
        assert_eq!(next.grants(8, &slot), grants(1, 0));
        assert_eq!(next.into_untaken(&slot).len(), 1);
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
