//! The supervisor as tables: facts and wishes in, actions out.

mod programs;
mod stuck;
mod walks;

use super::*;

const PATIENCE: Patience = Patience {
    drain: Duration::from_secs(30),
    start: Duration::from_secs(10),
    restart: Duration::ZERO,
    soon: Duration::ZERO,
};

/// A supervisor with a clock that the test turns.
struct Stage {
    supervisor: Supervisor,
    now: Instant,
}

impl Stage {
    fn new(workers: usize) -> Self {
        Self::with(workers, PATIENCE)
    }

    fn with(workers: usize, patience: Patience) -> Self {
        Self {
            supervisor: Supervisor::new(workers, patience),
            now: Instant::now(),
        }
    }

    /// One that serves with all its workers.
    fn serving(workers: u32) -> Self {
        let mut stage = Self::new(workers as usize);
        stage.acts();
        for id in 1..=workers {
            stage.ready(id);
        }
        assert_eq!(stage.acts(), "");
        stage
    }

    /// What it does now, in short: `fork ID at PLACE`, `tell ID`, `kill ID`.
    fn acts(&mut self) -> String {
        let actions = self.supervisor.reconcile(self.now);
        let words = actions.iter().map(|action| match action {
            Action::Fork { place, id, .. } => format!("fork {id} at {place}"),
            Action::Disconnect {
                id,
                hand_back: true,
            } => format!("tell {id}"),
            Action::Disconnect { id, .. } => format!("stop {id}"),
            Action::Kill(id) => format!("kill {id}"),
            Action::Finish => "finish".to_owned(),
            Action::GiveUp { deaths } => format!("give up after {deaths}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn ready(&mut self, id: u32) {
        self.supervisor.listening(WorkerId(id));
    }

    fn dies(&mut self, id: u32) -> Then {
        self.exits(id, Death::Crash)
    }

    fn exits(&mut self, id: u32, death: Death) -> Then {
        self.supervisor.exited(WorkerId(id), death, self.now)
    }

    fn later(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// How long a place stays empty, in milliseconds.
    fn delay(&self, then: Then) -> u64 {
        match then {
            Then::Wait(at) => (at - self.now).as_millis() as u64,
            Then::Fork(_) => 0,
            Then::Nothing => panic!("the place is not filled again"),
        }
    }

    /// How long until it wants to be asked again, in milliseconds.
    fn waits(&self) -> Option<u128> {
        let at = self.supervisor.deadline()?;
        Some(at.saturating_duration_since(self.now).as_millis())
    }
}

#[test]
fn places_are_filled_and_filled_again() {
    let mut stage = Stage::new(2);
    assert_eq!(stage.acts(), "fork 1 at 0, fork 2 at 1");
    assert_eq!(stage.acts(), "");
    stage.ready(1);
    assert!(!stage.supervisor.all_listening());
    stage.ready(2);
    assert!(stage.supervisor.all_listening());
    assert_eq!(stage.waits(), None);
    assert_eq!(stage.dies(1), Then::Fork(WorkerId(3)));
    assert!(!stage.supervisor.all_listening());
    assert_eq!(stage.acts(), "fork 3 at 0");
    // One that nobody knows changes nothing.
    assert_eq!(stage.dies(77), Then::Nothing);
    assert_eq!(stage.acts(), "");
}

#[test]
fn the_rate_of_crashes_slows_the_next_fork_of_their_place_alone() {
    let mut stage = Stage::new(2);
    stage.acts();
    stage.ready(1);
    stage.ready(2);
    let mut id = 1;
    let mut delays = Vec::new();
    for _ in 0..8 {
        let then = stage.dies(id);
        let delay = stage.delay(then);
        if delay > 0 {
            assert_eq!(stage.waits(), Some(u128::from(delay)));
            stage.later(delay - 1);
            assert_eq!(stage.acts(), "", "too early");
            stage.later(1);
        }
        id = if id == 1 { 3 } else { id + 1 };
        assert_eq!(stage.acts(), format!("fork {id} at 0"));
        // Each of them served: being ready forgives nothing.
        stage.ready(id);
        delays.push(delay);
    }
    assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 1600, 3200]);
    // The rate falls with time, so an hour later all is well.
    stage.later(3_600_000);
    assert_eq!(stage.dies(id), Then::Fork(WorkerId(id + 1)));
}

#[test]
fn age_alone_excuses_nothing() {
    // Each serves for five seconds, longer than "young" by any rule, and crashes.
    let mut stage = Stage::serving(1);
    let mut delays = Vec::new();
    for id in 1..12 {
        stage.later(5000);
        let then = stage.dies(id);
        let delay = stage.delay(then);
        delays.push(delay);
        stage.later(delay);
        stage.acts();
        stage.ready(id + 1);
    }
    assert!(delays.iter().any(|&delay| delay >= 1600), "{delays:?}");
}

#[test]
fn one_that_somebody_ended_is_replaced_at_once() {
    let mut stage = Stage::serving(1);
    for id in 1..50 {
        let death = match id % 2 {
            0 => Death::Killed,
            _ => Death::InOrder,
        };
        assert_eq!(stage.exits(id, death), Then::Fork(WorkerId(id + 1)));
        stage.acts();
        stage.ready(id + 1);
    }
}

#[test]
fn it_gives_up_when_nobody_was_ever_ready() {
    let mut stage = Stage::new(1);
    for id in 1..=5 {
        assert_eq!(stage.acts(), format!("fork {id} at 0"));
        let then = stage.exits(id, Death::InOrder);
        let delay = stage.delay(then);
        stage.later(delay);
    }
    assert_eq!(stage.acts(), "give up after 5");
}

#[test]
fn one_that_takes_too_long_to_start_is_killed() {
    let mut stage = Stage::new(1);
    stage.acts();
    assert_eq!(stage.waits(), Some(10_000));
    stage.later(10_000);
    assert_eq!(stage.acts(), "kill 1");
    assert_eq!((stage.acts(), stage.waits()), (String::new(), None));
    stage.exits(1, Death::Killed);
    assert_eq!(stage.acts(), "fork 2 at 0");
}

#[test]
fn a_stop_tells_waits_and_then_forces() {
    let mut stage = Stage::serving(2);
    stage.supervisor.stop(stage.now);
    assert_eq!(stage.acts(), "stop 1, stop 2");
    assert_eq!(stage.acts(), "");
    assert_eq!(stage.waits(), Some(30_000));
    assert_eq!(stage.dies(1), Then::Nothing);
    assert_eq!(stage.acts(), "", "nobody is forked any more");
    stage.later(30_000);
    assert_eq!(stage.acts(), "kill 2");
    assert_eq!((stage.acts(), stage.waits()), (String::new(), None));
    stage.dies(2);
    assert_eq!(stage.acts(), "finish");
}

#[test]
fn a_second_stop_does_not_wait() {
    let mut stage = Stage::serving(1);
    assert!(!stage.supervisor.stop(stage.now));
    stage.acts();
    assert!(stage.supervisor.stop(stage.now));
    assert_eq!(stage.acts(), "kill 1");
}

#[test]
fn a_reload_brings_the_new_before_the_old_goes() {
    let mut stage = Stage::serving(2);
    let change = stage.supervisor.reload().unwrap();
    assert!(stage.supervisor.reload().is_err(), "one at a time");
    assert_eq!(stage.acts(), "fork 3 at 0");
    assert_eq!(stage.acts(), "", "one at a time");
    stage.ready(3);
    assert_eq!(stage.acts(), "fork 4 at 1, tell 1");
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Pending);
    stage.ready(4);
    assert_eq!(stage.acts(), "tell 2");
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Pending);
    stage.exits(1, Death::InOrder);
    stage.exits(2, Death::InOrder);
    assert_eq!(stage.acts(), "");
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Done);
    assert!(stage.supervisor.reload().is_ok());
}

#[test]
fn a_reload_whose_first_worker_fails_keeps_the_old_ones() {
    let mut stage = Stage::serving(2);
    let change = stage.supervisor.reload().unwrap();
    assert_eq!(stage.acts(), "fork 3 at 0");
    stage.dies(3);
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Failed);
    assert_eq!(stage.acts(), "", "the old ones are wanted after all");
    stage.later(60_000);
    assert_eq!(stage.acts(), "");
    // It can be tried again.
    stage.supervisor.reload().unwrap();
    assert_eq!(stage.acts(), "fork 4 at 0");
}

#[test]
fn a_reload_that_hangs_fails_as_well() {
    let mut stage = Stage::serving(1);
    let change = stage.supervisor.reload().unwrap();
    stage.acts();
    stage.later(10_000);
    assert_eq!(stage.acts(), "kill 2");
    stage.exits(2, Death::Killed);
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Failed);
    assert_eq!(stage.acts(), "");
}

#[test]
fn an_old_one_that_dies_in_a_reload_is_replaced_by_a_new_one() {
    let mut stage = Stage::serving(2);
    stage.supervisor.reload().unwrap();
    stage.acts();
    stage.dies(2);
    assert_eq!(stage.acts(), "fork 4 at 1");
    stage.ready(3);
    stage.ready(4);
    assert_eq!(stage.acts(), "tell 1");
}

#[test]
fn scaling_adds_and_removes_places() {
    let mut stage = Stage::serving(2);
    let change = stage.supervisor.scale(4).unwrap();
    assert_eq!(stage.acts(), "fork 3 at 2, fork 4 at 3");
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Pending);
    stage.ready(3);
    stage.ready(4);
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Done);
    let change = stage.supervisor.scale(1).unwrap();
    // Before anybody has been told.
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Pending);
    assert_eq!(stage.acts(), "tell 2, tell 3, tell 4");
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Pending);
    for id in 2..=4 {
        assert_eq!(stage.exits(id, Death::InOrder), Then::Nothing);
    }
    assert_eq!(stage.acts(), "");
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Done);
    // Up again while those before are still on their way out.
    stage.supervisor.scale(2).unwrap();
    assert_eq!(stage.acts(), "fork 5 at 1");
    stage.ready(5);
    stage.supervisor.scale(1).unwrap();
    assert_eq!(stage.acts(), "tell 5");
    let change = stage.supervisor.scale(2).unwrap();
    assert_eq!(stage.acts(), "fork 6 at 1");
    stage.dies(6);
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Failed);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let mut stage = Stage::serving(1);
    for workers in [0, MAX_WORKERS + 1, 1_000_000, usize::MAX] {
        assert!(stage.supervisor.scale(workers).is_err(), "{workers}");
    }
    assert_eq!(stage.supervisor.wanted(), 1);
    assert_eq!(stage.acts(), "");
}

#[test]
fn a_worn_one_is_replaced_like_in_a_reload() {
    let mut stage = Stage::serving(2);
    assert!(stage.supervisor.worn(WorkerId(2)));
    assert!(!stage.supervisor.worn(WorkerId(2)), "that was known");
    assert_eq!(stage.acts(), "fork 3 at 1");
    // A successor that fails costs nothing but time.
    stage.dies(3);
    assert_eq!(stage.acts(), "fork 4 at 1");
    stage.dies(4);
    assert_eq!(stage.waits(), Some(100));
    assert_eq!(stage.acts(), "");
    stage.later(100);
    assert_eq!(stage.acts(), "fork 5 at 1");
    stage.ready(5);
    assert_eq!(stage.acts(), "tell 2");
}

#[test]
fn a_wait_that_is_over_wakes_nobody() {
    let mut stage = Stage::serving(2);
    stage.supervisor.worn(WorkerId(1));
    stage.supervisor.worn(WorkerId(2));
    for id in 3..5 {
        assert_eq!(stage.acts(), format!("fork {id} at 0"));
        stage.dies(id);
    }
    // While the first place waits, it is the other's turn.
    assert_eq!(stage.acts(), "fork 5 at 1");
    assert_eq!(stage.waits(), Some(100));
    stage.later(100);
    assert_eq!(stage.acts(), "", "replacements come one at a time");
    assert_eq!(
        stage.waits(),
        Some(9900),
        "until that one has taken too long"
    );
    stage.ready(5);
    assert_eq!(stage.acts(), "fork 6 at 0, tell 2");
}

#[test]
fn a_place_whose_worker_leaves_is_filled_at_once() {
    let mut stage = Stage::serving(2);
    stage.supervisor.leaves(WorkerId(1), stage.now);
    assert_eq!(stage.acts(), "fork 3 at 0, tell 1");
    stage.later(30_000);
    stage.ready(3);
    assert_eq!(stage.acts(), "kill 1");
    assert_eq!(stage.exits(1, Death::Killed), Then::Nothing);
    assert_eq!(stage.acts(), "");
}

#[test]
fn a_restart_does_not_wait_for_the_new() {
    let mut stage = Stage::serving(2);
    let change = stage.supervisor.restart(stage.now).unwrap();
    assert_eq!(stage.acts(), "fork 3 at 0, fork 4 at 1, tell 1, tell 2");
    for id in [1, 2] {
        stage.exits(id, Death::InOrder);
        stage.ready(id + 2);
    }
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Done);
}

#[test]
fn an_application_that_manages_its_workers_gets_what_it_asks_for() {
    let mut stage = Stage::new(2);
    stage.supervisor.set_unmanaged();
    assert_eq!(stage.acts(), "");
    let ids = stage.supervisor.ids();
    for place in 0..3 {
        let id = next_id(&ids);
        stage.supervisor.fork(id, stage.now).unwrap();
        assert_eq!(stage.acts(), format!("fork {id} at {place}"));
        stage.ready(id.0);
    }
    assert_eq!(stage.dies(2), Then::Nothing);
    assert_eq!(stage.acts(), "", "nobody is replaced");
    assert!(stage.supervisor.reload().is_err());
    assert!(stage.supervisor.restart(stage.now).is_err());
    assert!(stage.supervisor.must_manage().is_err());
    assert_eq!(stage.acts(), "", "refused");
    let id = next_id(&ids);
    stage.supervisor.fork(id, stage.now).unwrap();
    assert_eq!(stage.acts(), "fork 4 at 1", "the place that is free");
    stage.supervisor.disconnect(stage.now);
    assert_eq!(stage.acts(), "tell 1, tell 3, tell 4");
    for id in [1, 3, 4] {
        stage.exits(id, Death::InOrder);
    }
    assert!(!stage.supervisor.expects_anybody());
    stage.supervisor.stop(stage.now);
    let id = next_id(&ids);
    assert!(stage.supervisor.fork(id, stage.now).is_err());
    assert_eq!(stage.acts(), "finish");
}

#[test]
fn an_application_that_forks_whenever_one_fails_is_slowed_down() {
    let mut stage = Stage::new(1);
    stage.supervisor.set_unmanaged();
    let mut delays = Vec::new();
    for number in 1..=8 {
        let id = next_id(&stage.supervisor.ids());
        stage.supervisor.fork(id, stage.now).unwrap();
        let mut acts = stage.acts();
        let mut delay = 0;
        if acts.is_empty() {
            delay = stage.waits().unwrap() as u64;
            stage.later(delay - 1);
            assert_eq!(stage.acts(), "", "too early");
            stage.later(1);
            acts = stage.acts();
        }
        delays.push(delay);
        assert_eq!(acts, format!("fork {id} at 0"));
        assert_eq!(stage.waits(), Some(10_000), "all of the time to start");
        if number == 1 {
            stage.ready(id.0);
        }
        assert_eq!(stage.dies(id.0), Then::Nothing);
        assert_eq!(stage.waits(), None, "nobody is wished for");
    }
    assert_eq!(delays, [0, 0, 100, 200, 400, 800, 1600, 1600]);
    // One that waits, and is not wanted any more, comes at once and goes.
    let id = next_id(&stage.supervisor.ids());
    stage.supervisor.fork(id, stage.now).unwrap();
    assert_eq!(stage.acts(), "");
    stage.supervisor.leaves(id, stage.now);
    assert_eq!(stage.acts(), format!("fork {id} at 0, tell {id}"));
    stage.exits(id.0, Death::InOrder);
    let id = next_id(&stage.supervisor.ids());
    stage.supervisor.fork(id, stage.now).unwrap();
    stage.supervisor.stop(stage.now);
    assert_eq!(stage.acts(), "finish", "it is never launched");
}

#[test]
fn a_wish_for_one_more_is_a_place_more() {
    let mut stage = Stage::serving(1);
    let id = next_id(&stage.supervisor.ids());
    stage.supervisor.fork(id, stage.now).unwrap();
    assert_eq!(stage.acts(), "fork 2 at 1");
    stage.ready(2);
    assert_eq!(stage.dies(2), Then::Fork(WorkerId(3)));
}

#[test]
fn there_are_never_more_alive_than_slots() {
    let mut stage = Stage::new(MAX_WORKERS);
    stage.acts();
    for id in 1..=MAX_WORKERS as u32 {
        stage.ready(id);
    }
    for _ in 0..2 {
        stage.supervisor.restart(stage.now).unwrap();
        stage.acts();
    }
    assert!(stage.supervisor.occupants.len() <= MAX_ALIVE);
    assert_eq!(stage.acts(), "");
}
