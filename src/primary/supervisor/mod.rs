//! What should be, against what is: decided in pure code, acted on by the primary.
//!
//! Owns which workers there should be, at which place, of which generation, when to fork again
//! and when to give up, and the steps of a stop. Start, crash, scale, reload, recycling and stop
//! are one path: [`Supervisor::reconcile`]. Has no clock and makes no system call.
//!
//! A place is where one worker should be. During a replacement it has two: the new one until it
//! listens, and the old one that is told to leave only then.

mod crashes;
mod facts;
mod goals;
#[cfg(feature = "control")]
mod inherit;
#[cfg(test)]
mod tests;

pub(super) use crashes::Death;
pub(super) use facts::Then;
pub(super) use goals::{Change, Outcome};
#[cfg(feature = "control")]
pub(super) use inherit::Record;

use crate::board::MAX_WORKERS;
use crate::sorted::SortedMap;
use crate::worker::WorkerId;
use crashes::Crashes;
use goals::Goal;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Workers alive at a time, those that leave included: each has a slot of the board.
pub(super) const MAX_ALIVE: usize = 2 * MAX_WORKERS;

/// Deaths at one place before any worker at all was ever ready, after which the cluster gives up.
const HOPELESS: u32 = 5;

/// What the primary must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Launch a worker at a place.
    Fork {
        /// From 0.
        place: usize,
        /// The new worker's id.
        id: WorkerId,
        /// Which reload it belongs to.
        generation: u32,
    },
    /// Ask a worker to finish and go. With `hand_back`, others go on with its idle connections.
    Disconnect {
        /// Which.
        id: WorkerId,
        /// Whether the cluster goes on without it.
        hand_back: bool,
    },
    /// End a worker at once: it did not finish, or did not begin, in time.
    Kill(WorkerId),
    /// Nothing is left to do: stopped.
    Finish,
    /// Nothing is left to hope for: `deaths` workers died and none was ever ready.
    GiveUp {
        /// How many.
        deaths: u32,
    },
}

/// What a worker is on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Starting,
    Ready,
    /// It goes; `told` that it should.
    Leaving {
        deadline: Instant,
        told: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Occupant {
    place: usize,
    generation: u32,
    since: Instant,
    step: Step,
    /// To be replaced, though there is nothing wrong with it.
    worn: bool,
    killed: bool,
    /// Its loop stands still, and it cannot be killed.
    stuck: bool,
    /// It should have been ended, and cannot be: nobody waits for it any more.
    abandoned: bool,
    /// The primary has launched it.
    launched: bool,
}

impl Occupant {
    fn is_leaving(&self) -> bool {
        matches!(self.step, Step::Leaving { .. })
    }

    /// It goes from now on, and is told so; one that goes already keeps its time.
    fn leave(&mut self, deadline: Instant) {
        if !self.is_leaving() {
            let told = false;
            self.step = Step::Leaving { deadline, told };
        }
    }

    fn is_ready(&self) -> bool {
        self.step == Step::Ready && !self.stuck
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    crashes: Crashes,
    /// Stays empty until then.
    not_before: Option<Instant>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a worker to finish, once told to go.
    pub(super) drain: Duration,
    /// For a worker to listen, once forked.
    pub(super) start: Duration,
    /// For a place to stay empty at least, when its worker has ended by itself.
    pub(super) restart: Duration,
    /// An end within so long of its launch counts as a crash, however orderly.
    pub(super) soon: Duration,
}

/// An id that no worker has had.
pub(super) fn next_id(last: &Cell<u32>) -> WorkerId {
    last.set(last.get() + 1);
    WorkerId(last.get())
}

/// The state of all places.
#[derive(Debug)]
pub(super) struct Supervisor {
    occupants: SortedMap<WorkerId, Occupant>,
    places: SortedMap<usize, Place>,
    /// Places that should have a worker; with `managed` false the application forks by itself.
    wanted: usize,
    managed: bool,
    goal: Goal,
    patience: Patience,
    /// The last id that was given out; the application takes from it as well.
    last_id: Rc<Cell<u32>>,
    generation: u32,
    /// Workers of an older generation are to be replaced.
    oldest_wanted: u32,
    reload: Option<goals::Reload>,
    deaths: u32,
    /// Deaths of workers that had not been ready yet.
    failed_starts: u64,
    ever_ready: bool,
    hopeless: bool,
}

impl Supervisor {
    /// For `wanted` workers.
    pub(super) fn new(wanted: usize, patience: Patience) -> Self {
        Self {
            occupants: SortedMap::new(),
            places: SortedMap::new(),
            wanted,
            managed: true,
            goal: Goal::Serve,
            patience,
            last_id: Rc::default(),
            generation: 0,
            oldest_wanted: 0,
            reload: None,
            deaths: 0,
            failed_starts: 0,
            ever_ready: false,
            hopeless: false,
        }
    }

    /// What must be done now, and is then taken for done.
    pub(super) fn reconcile(&mut self, now: Instant) -> Vec<Action> {
        if self.hopeless && !self.ever_ready && self.goal == Goal::Serve {
            let deaths = self.deaths;
            return vec![Action::GiveUp { deaths }];
        }
        let mut actions = Vec::new();
        if self.goal == Goal::Serve {
            self.conclude_reload();
            if self.managed {
                self.retire(now);
                self.fill(now);
            }
            self.launch(now, &mut actions);
        }
        self.see_off(now, &mut actions);
        if self.goal == Goal::Stop && self.occupants.is_empty() {
            actions.push(Action::Finish);
        }
        actions
    }

    /// Has those leave that are not wanted: beyond the number of places, or replaced.
    fn retire(&mut self, now: Instant) {
        let deadline = now + self.patience.drain;
        let mut newest: SortedMap<usize, WorkerId> = SortedMap::new();
        for (id, one) in self.occupants.iter() {
            if one.is_ready() {
                newest.insert(one.place, *id);
            }
        }
        for (id, one) in self.occupants.iter_mut() {
            let unwanted = one.place >= self.wanted;
            let replaced = newest.get(&one.place).is_some_and(|other| other > id);
            if unwanted || replaced {
                one.leave(deadline);
            }
        }
        self.places.retain(|place, _| *place < self.wanted);
    }

    /// Has workers come where one is missing, or where one is to be replaced.
    fn fill(&mut self, now: Instant) {
        let mut starting = self
            .occupants
            .values()
            .any(|one| one.step == Step::Starting && self.is_a_replacement(one));
        for place in 0..self.wanted {
            let present = self.occupants.values();
            let present = present.filter(|one| one.place == place && !one.is_leaving());
            let (mut serving, mut coming, mut worn) = (false, false, false);
            for one in present.filter(|one| !one.stuck) {
                serving |= one.step == Step::Ready;
                coming |= one.step == Step::Starting;
                worn |= one.worn || one.generation < self.oldest_wanted;
            }
            // A wait that is over is forgotten, whoever comes: else it would wake the loop forever.
            let not_before = &mut self.places.get_or_default(place).not_before;
            not_before.take_if(|at| *at <= now);
            if coming || not_before.is_some() || self.occupants.len() >= MAX_ALIVE {
                continue;
            }
            // Replacements come one at a time, so that a bad one costs nothing.
            if !serving || (worn && !starting) {
                starting |= serving;
                self.settle_in(place, now);
            }
        }
    }

    fn is_a_replacement(&self, one: &Occupant) -> bool {
        let mut others = self.occupants.values();
        others.any(|other| other.place == one.place && other.step == Step::Ready)
    }

    /// Gives a place a new worker, which is then launched.
    fn settle_in(&mut self, place: usize, now: Instant) {
        let id = next_id(&self.last_id);
        self.settle_in_as(id, place, now);
    }

    fn settle_in_as(&mut self, id: WorkerId, place: usize, now: Instant) {
        let occupant = Occupant {
            place,
            generation: self.generation,
            since: now,
            step: Step::Starting,
            worn: false,
            killed: false,
            stuck: false,
            abandoned: false,
            launched: false,
        };
        self.occupants.insert(id, occupant);
    }

    /// Has those launched that should come. Whom the application forks waits for its place as well:
    /// one that forks whenever a worker is gone would else do nothing but that.
    fn launch(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for (id, one) in self.occupants.iter_mut().filter(|(_, one)| !one.launched) {
            let place = self.places.get(&one.place);
            let not_before = place.and_then(|place| place.not_before);
            let waits = not_before.is_some_and(|at| at > now);
            // One that is not wanted any more comes at once, to go.
            if !waits || one.is_leaving() {
                one.launched = true;
                one.since = now;
                actions.push(Action::Fork {
                    place: one.place,
                    id: *id,
                    generation: one.generation,
                });
            }
        }
    }

    /// Tells those that leave, and ends those that take too long.
    fn see_off(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let hand_back = self.goal == Goal::Serve;
        for (id, one) in self.occupants.iter_mut().filter(|(_, one)| one.launched) {
            let id = *id;
            let too_late = match &mut one.step {
                Step::Leaving { deadline, told } => {
                    if *deadline > now && !std::mem::replace(told, true) {
                        actions.push(Action::Disconnect { id, hand_back });
                    }
                    *deadline <= now
                }
                Step::Starting => now.saturating_duration_since(one.since) >= self.patience.start,
                Step::Ready => false,
            };
            if too_late && !std::mem::replace(&mut one.killed, true) {
                actions.push(Action::Kill(id));
            }
        }
    }

    /// Whether anybody is there or about to come.
    pub(super) fn expects_anybody(&self) -> bool {
        !self.occupants.is_empty()
    }

    /// Whether this worker is there or about to come.
    pub(super) fn expects(&self, id: WorkerId) -> bool {
        self.occupants.contains_key(&id)
    }

    /// Who is there or about to come.
    pub(super) fn expected(&self) -> impl Iterator<Item = WorkerId> {
        self.occupants.keys().copied()
    }

    /// When [`Supervisor::reconcile`] must be asked again, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ends = self.occupants.values();
        let ends = ends.filter(|one| one.launched && !one.killed);
        let ends = ends.filter_map(|one| match one.step {
            Step::Leaving { deadline, .. } => Some(deadline),
            Step::Starting => Some(one.since + self.patience.start),
            Step::Ready => None,
        });
        let stays = |one: &Occupant| {
            let replaced = one.worn || one.generation < self.oldest_wanted;
            !one.is_leaving() && !one.stuck && !replaced
        };
        let waits = |place: usize| {
            let here = || self.occupants.values().filter(|one| one.place == place);
            here().any(|one| !one.launched) || (self.managed && !here().any(stays))
        };
        let waiting = self.places.iter().filter(|(place, _)| waits(**place));
        let waiting = waiting.filter_map(|(_, place)| place.not_before);
        let serves = self.goal == Goal::Serve;
        ends.chain(waiting.filter(|_| serves)).min()
    }
}
