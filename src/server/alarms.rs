//! When to look at a connection although nothing has happened to it: answers that wait for their
//! time, signs of life, whatever a protocol waits for.
//!
//! Owns the order of those times, which differ from connection to connection; time limits, which
//! do not, are `net`'s timers.

use crate::net::token::Key;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The times of one loop's connections.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    heap: BinaryHeap<Reverse<(Instant, Key)>>,
    /// How many of them have lost their connection.
    stale: usize,
}

impl Alarms {
    /// Has the connection looked at at `at`, and possibly before.
    pub(super) fn set(&mut self, at: Instant, key: Key) {
        self.heap.push(Reverse((at, key)));
    }

    /// A connection has ended that had an alarm.
    pub(super) fn lost(&mut self) {
        self.stale += 1;
    }

    /// Takes out all that are due: those that are set meanwhile are for the next turn.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Instant, Key)> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            due.extend(self.heap.pop().map(|Reverse(one)| one));
        }
        due
    }

    /// One of them had lost its connection.
    pub(super) fn was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Forgets those that have lost their connection, once they are the most of them.
    pub(super) fn forget_stale(&mut self, holds: impl Fn(Key) -> bool) {
        if self.stale > 64 && self.stale * 2 > self.heap.len() {
            self.heap.retain(|Reverse((_, key))| holds(*key));
            self.stale = 0;
        }
    }
}
