//! Connections that stay in the kernel's queue until the worker accepts them whose they are to be.
//!
//! Where it does not matter which connection a worker has, only how many, the primary need not
//! accept any: it asks the kernel how many wait, and grants so many, each worker its share. So a
//! connection costs no descriptor here and none on its way, and what is granted to a worker that
//! dies or stands still waits where it was.
//!
//! Owns that no more are granted than wait, and that none is left without a grant. The kernel says
//! how many wait but not how many came; a worker says on the board what it has accepted, a moment
//! after it did. While that is in doubt fewer are granted, and it is looked again.

use super::Primary;
use super::deal::{ACCEPTS_PER_TURN, INSPECT};
use super::hands::Arrival;
use std::time::Duration;

/// When it is looked again where there may be more to grant in a moment: a worker is about to say
/// that it has accepted something, or has room for one at a time.
const SOON: Duration = Duration::from_millis(1);

impl Primary {
    /// Grants what waits at a listener and was not granted before, as far as there is `room`.
    pub(super) fn grant(&mut self, token: usize, listener: u32, room: usize) {
        let now = self.reactor.now();
        let Some(queue) = self.ports.gate.listener(token) else {
            return;
        };
        let waiting = || queue.queued().unwrap_or_default() as usize;
        let before = self.members.grants(listener, now);
        // In this order: what is accepted in between is counted twice, and not forgotten.
        let count = waiting();
        let after = self.members.grants(listener, now);
        let of_it = |one: &&Arrival| one.is_queued() && one.listener == listener;
        let undealt = self.waiting.iter().filter(of_it).count();
        if count == 0 && before.most() == 0 && queue.has_waiting() && waiting() == 0 {
            // As in sandboxes that have no such figure.
            return self.ports.cannot_count(listener);
        }
        let new = count.saturating_sub(before.most() + undealt);
        let granted = new.min(room).min(ACCEPTS_PER_TURN);
        let arrivals = std::iter::repeat_with(|| Arrival::queued(listener));
        self.waiting.extend(arrivals.take(granted));
        let computing = || self.members.any_computing();
        self.courtesy.accepted(now, granted, computing);
        let again = if granted == ACCEPTS_PER_TURN {
            Duration::ZERO
        } else if granted < new || count > new + undealt && (after.in_doubt > 0 || after != before)
        {
            SOON
        } else if count > 0 {
            // Somebody may have been unable to accept what it was granted.
            INSPECT
        } else {
            return;
        };
        self.grant_again_in(again);
    }

    /// Deals what a worker did not take to others; but for what is left in a queue when nothing new
    /// is accepted any more.
    pub(super) fn deal_again(&mut self, arrivals: Vec<Arrival>) {
        let stopping = self.is_stopping();
        let arrivals = arrivals.into_iter();
        self.waiting
            .extend(arrivals.filter(|arrival| !(stopping && arrival.is_queued())));
    }

    /// Looks at the queues again after `time`, at the latest.
    pub(super) fn grant_again_in(&mut self, time: Duration) {
        let at = self.reactor.now() + time;
        self.grant_at = Some(self.grant_at.map_or(at, |before| before.min(at)));
    }

    /// Looks at the queues, if it is time to.
    pub(super) fn grant_again(&mut self) {
        let now = self.reactor.now();
        if self.grant_at.take_if(|at| *at <= now).is_some() {
            for token in self.ports.granted(&self.policy) {
                self.accept(token);
            }
        }
    }
}
