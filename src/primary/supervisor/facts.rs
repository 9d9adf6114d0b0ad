//! What has happened: facts that the supervisor is told.

use super::{Death, Goal, HOPELESS, Occupant, Step, Supervisor};
use crate::worker::WorkerId;
use std::time::Instant;

/// What becomes of the place of a worker that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::primary) enum Then {
    /// It is taken already, or not wanted any more.
    Nothing,
    /// This worker is launched next.
    Fork(WorkerId),
    /// It stays empty until then.
    Wait(Instant),
}

impl Supervisor {
    /// A worker listens on everything it should.
    pub(in crate::primary) fn listening(&mut self, id: WorkerId) {
        if let Some(one) = self.occupants.get_mut(&id) {
            if one.step == Step::Starting {
                one.step = Step::Ready;
            }
            self.ever_ready = true;
            if let Some(place) = self.places.get_mut(&one.place) {
                place.crashes.before_ready = 0;
            }
        }
    }

    /// A worker is gone, or could not be launched. What becomes of its place.
    pub(in crate::primary) fn exited(&mut self, id: WorkerId, death: Death, now: Instant) -> Then {
        let Some(one) = self.occupants.remove(&id) else {
            return Then::Nothing;
        };
        // Of one that was given up, that was said then.
        if !one.abandoned {
            self.died(&one, death, now);
        }
        if self.goal != Goal::Serve || !self.managed {
            return Then::Nothing;
        }
        // A reload that has failed with it wants the old ones again, before anybody is forked.
        self.conclude_reload();
        self.fill(now);
        let mut here = self
            .occupants
            .iter()
            .filter(|(_, other)| other.place == one.place);
        match here.find(|(_, other)| !other.launched) {
            Some((id, _)) => Then::Fork(*id),
            None => {
                let place = self.places.get(&one.place);
                let waits = place.and_then(|place| place.not_before);
                waits.map_or(Then::Nothing, Then::Wait)
            }
        }
    }

    /// A worker that should have been ended cannot be: its place is free for another, and nobody
    /// waits for it any more. What it holds is its own until it has ended after all.
    pub(in crate::primary) fn abandoned(&mut self, id: WorkerId, now: Instant) {
        let deadline = now + self.patience.drain;
        let Some(one) = self.occupants.get_mut(&id).filter(|one| !one.abandoned) else {
            return;
        };
        let before = *one;
        (one.abandoned, one.killed) = (true, true);
        // Should it come to itself, it hears that it is not wanted.
        one.leave(deadline);
        self.died(&before, Death::Crash, now);
        self.conclude_reload();
    }

    fn died(&mut self, one: &Occupant, death: Death, now: Instant) {
        self.deaths += 1;
        let was_ready = one.step != Step::Starting;
        if !was_ready {
            self.failed_starts += 1;
            self.reload_lost(one);
        }
        let is_soon = self.is_soon(one, now);
        let Some(place) = self.places.get_mut(&one.place) else {
            return;
        };
        // One that was told to go, or killed by us for it, has not failed.
        if one.is_leaving() {
            return;
        }
        let restart = self.patience.restart;
        let least = (!restart.is_zero()).then(|| now + restart);
        match death {
            // Whoever kills one by hand wants another.
            Death::Killed | Death::InOrder if was_ready && (!is_soon || death == Death::Killed) => {
                place.not_before = place.not_before.max(least);
            }
            Death::InOrder | Death::Killed | Death::Crash => {
                let delay = place.crashes.count(was_ready, now);
                self.hopeless |= place.crashes.before_ready >= HOPELESS;
                place.not_before = delay.map(|delay| now + delay).max(least);
            }
        }
    }

    /// Whether a worker ends so soon that the next one may do the same, and so on without end.
    fn is_soon(&self, one: &Occupant, now: Instant) -> bool {
        now.saturating_duration_since(one.since) < self.patience.soon
    }

    /// A worker goes by its own wish: its place is free for another.
    pub(in crate::primary) fn leaves(&mut self, id: WorkerId, now: Instant) {
        let deadline = now + self.patience.drain;
        let Some(one) = self.occupants.get_mut(&id) else {
            return;
        };
        let before = *one;
        one.leave(deadline);
        let is_soon = self.is_soon(&before, now);
        if !before.is_leaving()
            && is_soon
            && let Some(place) = self.places.get_mut(&before.place)
        {
            let delay = place.crashes.count(before.step != Step::Starting, now);
            self.hopeless |= place.crashes.before_ready >= HOPELESS;
            place.not_before = place.not_before.max(delay.map(|delay| now + delay));
            if before.step == Step::Starting {
                // It was never ready, and a reload must not wait for one after the other.
                self.failed_starts += 1;
                self.reload_lost(&before);
            }
        }
    }

    /// A worker has done its share: another should take its place, and be ready before it goes.
    /// Whether that is new.
    pub(in crate::primary) fn worn(&mut self, id: WorkerId) -> bool {
        let one = self.occupants.get_mut(&id);
        one.is_some_and(|one| !std::mem::replace(&mut one.worn, true))
    }

    /// A worker's loop stands still and it cannot be killed: its place is free for another. False
    /// when that was known.
    pub(in crate::primary) fn stuck(&mut self, id: WorkerId, stuck: bool) -> bool {
        let one = self.occupants.get_mut(&id);
        one.is_some_and(|one| std::mem::replace(&mut one.stuck, stuck) != stuck)
    }
}
