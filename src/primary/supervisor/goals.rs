//! What should be: wishes that the supervisor is told, and what has become of them.

use super::{Occupant, Step, Supervisor};
use crate::board::MAX_WORKERS;
use crate::sorted::sort_by;
use crate::worker::WorkerId;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

/// What all of it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Serve,
    Stop,
}

/// A reload that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reload {
    /// What `oldest_wanted` was before.
    before: u32,
    failed: bool,
}

/// A change that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::primary) enum Change {
    /// To that many workers.
    Scale,
    /// All of them to this generation, without a gap.
    Reload { generation: u32 },
    /// All of them to this generation, at once.
    Restart { generation: u32 },
}

/// What has become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::primary) enum Outcome {
    /// It is under way.
    Pending,
    Done,
    /// A new worker died, or took too long, before it listened.
    Failed,
}

impl Supervisor {
    /// Stop: in an orderly way (asked for at `now`) the first time, and at once the second.
    /// Whether it is at once.
    pub(in crate::primary) fn stop(&mut self, now: Instant) -> bool {
        let at_once = self.goal == Goal::Stop;
        self.goal = Goal::Stop;
        let deadline = if at_once {
            now
        } else {
            now + self.patience.drain
        };
        for one in self.occupants.values_mut() {
            let told = at_once;
            one.step = Step::Leaving { deadline, told };
            // One that could not be killed is tried again: then nobody waits for it any more.
            one.killed = false;
        }
        // What was never launched need not end.
        self.occupants.retain(|_, one| one.launched);
        at_once
    }

    /// Whether it is stopping.
    pub(in crate::primary) fn stopping(&self) -> bool {
        self.goal == Goal::Stop
    }

    /// So many workers from now on, and that many are kept, whoever managed them before.
    ///
    /// # Errors
    ///
    /// When that is none, or more than there can be.
    pub(in crate::primary) fn scale(&mut self, workers: usize) -> Result<Change, String> {
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(format!(
                "{workers} workers: from 1 to {MAX_WORKERS} are possible"
            ));
        }
        self.wanted = workers;
        self.managed = true;
        Ok(Change::Scale)
    }

    /// How many workers there should be.
    pub(in crate::primary) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Which reload the workers should be of, by number.
    pub(in crate::primary) fn generation(&self) -> u32 {
        self.generation
    }

    /// Replaces all workers one by one, each when its successor listens.
    ///
    /// # Errors
    ///
    /// When another reload is under way, or the application manages the workers.
    pub(in crate::primary) fn reload(&mut self) -> Result<Change, String> {
        self.must_manage()?;
        if self.reload.is_some() {
            return Err("a reload is under way already".to_owned());
        }
        self.reload = Some(Reload {
            before: self.oldest_wanted,
            failed: false,
        });
        let generation = self.next_generation();
        Ok(Change::Reload { generation })
    }

    /// Whether a reload is under way.
    pub(in crate::primary) fn reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// Replaces all workers at once: the old ones finish while the new ones start.
    ///
    /// # Errors
    ///
    /// When the application manages the workers.
    pub(in crate::primary) fn restart(&mut self, now: Instant) -> Result<Change, String> {
        self.must_manage()?;
        self.reload = None;
        let generation = self.next_generation();
        self.disconnect(now);
        for place in self.places.values_mut() {
            place.not_before = None;
        }
        Ok(Change::Restart { generation })
    }

    /// Begins another generation, the only one wanted.
    fn next_generation(&mut self) -> u32 {
        self.generation += 1;
        self.oldest_wanted = self.generation;
        self.generation
    }

    /// Has all workers leave. What comes after is for whoever manages them.
    pub(in crate::primary) fn disconnect(&mut self, now: Instant) {
        let deadline = now + self.patience.drain;
        for one in self.occupants.values_mut() {
            one.leave(deadline);
        }
    }

    /// Leaves forking to the application: nobody is replaced, or missed.
    pub(in crate::primary) fn set_unmanaged(&mut self) {
        self.managed = false;
        self.wanted = 0;
    }

    /// For what only makes sense where it does that.
    ///
    /// # Errors
    ///
    /// When the application manages the workers.
    pub(in crate::primary) fn must_manage(&self) -> Result<(), String> {
        match self.managed {
            true => Ok(()),
            false => Err("the application manages its workers".to_owned()),
        }
    }

    /// Whether it sees to it by itself that there are workers.
    pub(in crate::primary) fn managed(&self) -> bool {
        self.managed
    }

    /// One worker more, as the application asks, with an id taken from [`Supervisor::ids`].
    ///
    /// # Errors
    ///
    /// When there are as many as can be, or none is wanted any more.
    pub(in crate::primary) fn fork(&mut self, id: WorkerId, now: Instant) -> Result<(), String> {
        if self.goal == Goal::Stop {
            return Err("the cluster is stopping".to_owned());
        }
        if self.occupants.len() >= super::MAX_ALIVE {
            return Err(format!("{} workers are alive already", super::MAX_ALIVE));
        }
        let place = if self.managed {
            // Then it is a wish for one more.
            let place = self.wanted;
            self.scale(self.wanted + 1)?;
            place
        } else {
            self.free_place()
        };
        self.places.get_or_default(place);
        self.settle_in_as(id, place, now);
        Ok(())
    }

    fn free_place(&self) -> usize {
        let stays = |one: &&Occupant| !one.is_leaving();
        let mut taken: Vec<usize> = self
            .occupants
            .values()
            .filter(stays)
            .map(|one| one.place)
            .collect();
        sort_by(&mut taken, Ord::cmp);
        let first_gap = taken.iter().enumerate().find(|(at, place)| at != *place);
        first_gap.map_or(taken.len(), |(at, _)| at)
    }

    /// Where ids come from.
    pub(in crate::primary) fn ids(&self) -> Rc<Cell<u32>> {
        Rc::clone(&self.last_id)
    }

    /// Whether every place has a worker that listens.
    pub(in crate::primary) fn all_listening(&self) -> bool {
        let listens = |place: usize| {
            let mut here = self.occupants.values();
            here.any(|one| one.place == place && one.is_ready())
        };
        (0..self.wanted).all(listens)
    }

    /// How many deaths before being ready there have been: what a change is compared against.
    pub(in crate::primary) fn failed_starts(&self) -> u64 {
        self.failed_starts
    }

    /// What has become of `change`, which was asked for when there had been `failed_starts`.
    pub(in crate::primary) fn outcome(&self, change: Change, failed_starts: u64) -> Outcome {
        let failed = self.failed_starts > failed_starts;
        // Whoever stands still may do so for good: the change has come about without it.
        let beyond = |one: &Occupant| self.managed && one.place >= self.wanted;
        let awaited =
            |one: &Occupant| (one.is_leaving() || beyond(one)) && !one.stuck && !one.abandoned;
        let settled = self.all_listening() && !self.occupants.values().any(awaited);
        match change {
            Change::Reload { generation } if generation > self.oldest_wanted => Outcome::Failed,
            Change::Reload { .. } if self.reload.is_some() => Outcome::Pending,
            Change::Scale | Change::Restart { .. } if failed => Outcome::Failed,
            _ if settled => Outcome::Done,
            _ => Outcome::Pending,
        }
    }

    /// Fact: one that belonged to a reload was never ready.
    pub(super) fn reload_lost(&mut self, one: &Occupant) {
        if let Some(reload) = &mut self.reload
            && one.generation == self.generation
        {
            reload.failed = true;
        }
    }

    /// Ends a reload: when all are new, or when the first new one has failed. Then the old ones
    /// are wanted after all.
    pub(in crate::primary) fn conclude_reload(&mut self) {
        let Some(reload) = self.reload else {
            return;
        };
        if reload.failed {
            self.oldest_wanted = reload.before;
            self.reload = None;
            return;
        }
        let old = |one: &Occupant| one.generation < self.oldest_wanted && !one.is_leaving();
        if self.all_listening() && !self.occupants.values().any(old) {
            self.reload = None;
        }
    }
}
