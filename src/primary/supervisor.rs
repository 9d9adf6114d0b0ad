//! What should be, against what is: decided in pure code, acted on by the primary.
//!
//! Owns the places of the workers, when to fork again and when to give up, and the steps of a
//! stop. Start, crash and stop are one path: [`Supervisor::reconcile`]. Has no clock and makes no
//! system call.

use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// A worker that dies sooner after its fork died young, as does one that never listened.
const YOUNG: Duration = Duration::from_secs(1);

/// After the second young death in a row a place waits this long, then twice as long each time.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Young deaths in a row at one place after which the cluster gives up, if no worker at all was
/// ever ready.
const HOPELESS: u32 = 5;

/// What the primary must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Launch a worker at a place.
    Fork {
        /// From 0; no two living workers share one.
        place: usize,
        /// The new worker's id.
        id: WorkerId,
    },
    /// Ask a worker to finish and go.
    Disconnect(WorkerId),
    /// End a worker at once.
    Kill(WorkerId),
    /// Nothing is left to do: stopped.
    Finish,
    /// Nothing is left to hope for: `deaths` workers died and none was ever ready.
    GiveUp {
        /// How many.
        deaths: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Occupant {
    id: WorkerId,
    since: Instant,
    listening: bool,
    told: bool,
    killed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    occupant: Option<Occupant>,
    /// Young deaths in a row.
    streak: u32,
    /// Stays empty until then.
    not_before: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Serve,
    Stop { deadline: Instant },
}

/// The state of all places.
#[derive(Debug)]
pub(super) struct Supervisor {
    places: Vec<Place>,
    goal: Goal,
    drain_timeout: Duration,
    last_id: u32,
    deaths: u32,
    ever_ready: bool,
}

impl Supervisor {
    /// For `workers` workers, which get `drain_timeout` to finish when told to go.
    pub(super) fn new(workers: usize, drain_timeout: Duration) -> Self {
        Self {
            places: vec![Place::default(); workers],
            goal: Goal::Serve,
            drain_timeout,
            last_id: 0,
            deaths: 0,
            ever_ready: false,
        }
    }

    fn occupant(&mut self, id: WorkerId) -> Option<&mut Occupant> {
        let mut occupants = self.places.iter_mut().flat_map(|place| &mut place.occupant);
        occupants.find(|occupant| occupant.id == id)
    }

    /// Fact: a worker listens on everything it should.
    pub(super) fn listening(&mut self, id: WorkerId) {
        if let Some(occupant) = self.occupant(id) {
            occupant.listening = true;
            self.ever_ready = true;
        }
    }

    /// Fact: a worker is gone, or could not be launched. `in_order` is whether it went by itself.
    /// Until when its place stays empty, if it does.
    pub(super) fn exited(&mut self, id: WorkerId, in_order: bool, now: Instant) -> Option<Instant> {
        self.deaths += 1;
        let mut empty_until = None;
        for place in &mut self.places {
            let Some(occupant) = place.occupant.take_if(|occupant| occupant.id == id) else {
                continue;
            };
            let young = now.saturating_duration_since(occupant.since) < YOUNG;
            let served = occupant.listening && (in_order || !young);
            place.streak = if served {
                0
            } else {
                place.streak.saturating_add(1)
            };
            // Once may be bad luck; the second time is worth a pause.
            place.not_before = place.streak.checked_sub(2).map(|doublings| {
                let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
                now + FIRST_DELAY.saturating_mul(factor).min(LONGEST_DELAY)
            });
            empty_until = place.not_before;
        }
        empty_until
    }

    /// Wish: stop, in an orderly way (asked for at `now`) the first time, and at once the second.
    /// Whether it is at once.
    pub(super) fn stop(&mut self, now: Instant) -> bool {
        let at_once = self.stopping();
        let wait = if at_once {
            Duration::ZERO
        } else {
            self.drain_timeout
        };
        let deadline = now + wait;
        self.goal = Goal::Stop { deadline };
        at_once
    }

    /// Whether it is stopping.
    pub(super) fn stopping(&self) -> bool {
        self.goal != Goal::Serve
    }

    /// Whether every place has a worker that listens.
    pub(super) fn all_listening(&self) -> bool {
        let listens = |place: &Place| place.occupant.is_some_and(|one| one.listening);
        self.places.iter().all(listens)
    }

    /// What must be done now, and is then taken for done.
    pub(super) fn reconcile(&mut self, now: Instant) -> Vec<Action> {
        match self.goal {
            Goal::Serve => self.serve(now),
            Goal::Stop { deadline } => self.wind_down(deadline <= now),
        }
    }

    fn serve(&mut self, now: Instant) -> Vec<Action> {
        let hopeless = self.places.iter().any(|place| place.streak >= HOPELESS);
        if hopeless && !self.ever_ready {
            let deaths = self.deaths;
            return vec![Action::GiveUp { deaths }];
        }
        let mut actions = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate() {
            let waits = place.not_before.is_some_and(|at| at > now);
            if place.occupant.is_some() || waits {
                continue;
            }
            self.last_id += 1;
            let id = WorkerId(self.last_id);
            place.not_before = None;
            place.occupant = Some(Occupant {
                id,
                since: now,
                listening: false,
                told: false,
                killed: false,
            });
            actions.push(Action::Fork { place: index, id });
        }
        actions
    }

    fn wind_down(&mut self, by_force: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut left = false;
        for occupant in self.places.iter_mut().flat_map(|place| &mut place.occupant) {
            left = true;
            if by_force && !occupant.killed {
                occupant.killed = true;
                actions.push(Action::Kill(occupant.id));
            } else if !by_force && !occupant.told {
                occupant.told = true;
                actions.push(Action::Disconnect(occupant.id));
            }
        }
        if !left {
            actions.push(Action::Finish);
        }
        actions
    }

    /// When [`Supervisor::reconcile`] must be asked again, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.goal {
            Goal::Serve => {
                let empty = self.places.iter().filter(|place| place.occupant.is_none());
                empty.filter_map(|place| place.not_before).min()
            }
            Goal::Stop { deadline } => {
                let mut occupants = self.places.iter().flat_map(|place| &place.occupant);
                occupants.any(|one| !one.killed).then_some(deadline)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(30);

    fn fork(place: usize, id: u32) -> Action {
        let id = WorkerId(id);
        Action::Fork { place, id }
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn places_are_filled_and_filled_again() {
        let start = Instant::now();
        let mut supervisor = Supervisor::new(2, DRAIN);
        assert_eq!(supervisor.reconcile(start), [fork(0, 1), fork(1, 2)]);
        assert_eq!(supervisor.reconcile(start), []);
        assert!(!supervisor.all_listening());
        supervisor.listening(WorkerId(1));
        supervisor.listening(WorkerId(2));
        assert!(supervisor.all_listening());
        let later = start + millis(5000);
        supervisor.exited(WorkerId(1), false, later);
        assert!(!supervisor.all_listening());
        assert_eq!(supervisor.reconcile(later), [fork(0, 3)]);
        // One that was told to go, however young, has not failed.
        supervisor.listening(WorkerId(3));
        supervisor.exited(WorkerId(3), true, later);
        assert_eq!(supervisor.reconcile(later), [fork(0, 4)]);
        supervisor.listening(WorkerId(4));
        supervisor.exited(WorkerId(4), true, later);
        assert_eq!(supervisor.reconcile(later), [fork(0, 5)]);
        // One that nobody knows changes nothing.
        supervisor.exited(WorkerId(77), false, later);
        assert_eq!(supervisor.reconcile(later), []);
    }

    #[test]
    fn young_deaths_slow_the_next_fork_of_their_place_alone() {
        let mut now = Instant::now();
        let mut supervisor = Supervisor::new(2, DRAIN);
        supervisor.reconcile(now);
        supervisor.listening(WorkerId(2));
        let mut id = 1;
        let mut delays = Vec::new();
        for _ in 0..14 {
            supervisor.exited(WorkerId(id), false, now);
            let delay = supervisor.deadline().map_or(Duration::ZERO, |at| at - now);
            if delay > Duration::ZERO {
                assert_eq!(supervisor.reconcile(now + delay - millis(1)), []);
            }
            now += delay;
            id = if id == 1 { 3 } else { id + 1 };
            assert_eq!(supervisor.reconcile(now), [fork(0, id)]);
            delays.push(delay.as_millis());
        }
        let expected = [
            0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000, 30000,
        ];
        assert_eq!(delays, expected);
        // One that has served for a while is forgiven.
        supervisor.listening(WorkerId(id));
        now += millis(1000);
        supervisor.exited(WorkerId(id), false, now);
        assert_eq!(supervisor.reconcile(now), [fork(0, id + 1)]);
    }

    #[test]
    fn it_gives_up_when_nobody_was_ever_ready() {
        let mut now = Instant::now();
        let mut supervisor = Supervisor::new(1, DRAIN);
        for id in 1..=5 {
            assert_eq!(supervisor.reconcile(now), [fork(0, id)]);
            supervisor.exited(WorkerId(id), false, now);
            now = supervisor.deadline().unwrap_or(now);
        }
        assert_eq!(supervisor.reconcile(now), [Action::GiveUp { deaths: 5 }]);
    }

    #[test]
    fn a_stop_tells_waits_and_then_forces() {
        let start = Instant::now();
        let mut supervisor = Supervisor::new(2, DRAIN);
        supervisor.reconcile(start);
        supervisor.stop(start);
        let [one, two] = [WorkerId(1), WorkerId(2)];
        let told = [Action::Disconnect(one), Action::Disconnect(two)];
        assert_eq!(supervisor.reconcile(start), told);
        assert_eq!(supervisor.reconcile(start), []);
        assert_eq!(supervisor.deadline(), Some(start + DRAIN));
        supervisor.exited(one, false, start);
        assert_eq!(supervisor.reconcile(start), [], "nobody is forked any more");
        assert_eq!(supervisor.reconcile(start + DRAIN), [Action::Kill(two)]);
        assert_eq!(supervisor.reconcile(start + DRAIN), []);
        assert_eq!(supervisor.deadline(), None);
        supervisor.exited(two, false, start + DRAIN);
        assert_eq!(supervisor.reconcile(start + DRAIN), [Action::Finish]);
    }

    #[test]
    fn a_second_stop_forces_at_once() {
        let start = Instant::now();
        let mut supervisor = Supervisor::new(1, DRAIN);
        supervisor.reconcile(start);
        supervisor.stop(start);
        supervisor.reconcile(start);
        supervisor.stop(start + millis(10));
        let killed = [Action::Kill(WorkerId(1))];
        assert_eq!(supervisor.reconcile(start + millis(10)), killed);
    }
}
