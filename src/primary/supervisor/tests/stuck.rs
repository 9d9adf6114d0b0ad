//! Workers that stand still, or cannot be ended: threads.

use super::*;

#[test]
fn a_stuck_one_gives_up_its_place_and_goes_when_it_comes_back() {
    let mut stage = Stage::serving(2);
    assert!(stage.supervisor.stuck(WorkerId(1), true));
    assert!(!stage.supervisor.stuck(WorkerId(1), true));
    assert_eq!(stage.acts(), "fork 3 at 0");
    stage.ready(3);
    assert_eq!(stage.acts(), "tell 1");
    stage.exits(1, Death::InOrder);
    assert_eq!(stage.acts(), "");
    // One that comes back before its successor is ready stays until then.
    stage.supervisor.stuck(WorkerId(2), true);
    assert_eq!(stage.acts(), "fork 4 at 1");
    stage.supervisor.stuck(WorkerId(2), false);
    assert_eq!(stage.acts(), "");
    stage.ready(4);
    assert_eq!(stage.acts(), "tell 2");
}

#[test]
fn a_stop_tries_again_to_kill_what_could_not_be_killed() {
    let mut stage = Stage::serving(1);
    stage.supervisor.stuck(WorkerId(1), true);
    assert_eq!(stage.acts(), "fork 2 at 0");
    stage.ready(2);
    assert_eq!(stage.acts(), "tell 1");
    stage.later(30_000);
    assert_eq!(stage.acts(), "kill 1");
    stage.supervisor.stop(stage.now);
    assert_eq!(stage.acts(), "stop 1, stop 2");
    stage.exits(2, Death::InOrder);
    assert_eq!(stage.waits(), Some(30_000));
    stage.later(30_000);
    assert_eq!(stage.acts(), "kill 1");
    stage.exits(1, Death::Killed);
    assert_eq!(stage.acts(), "finish");
}

#[test]
fn a_reload_fails_by_one_that_hangs_and_cannot_be_killed() {
    let mut stage = Stage::serving(1);
    let change = stage.supervisor.reload().unwrap();
    stage.acts();
    stage.later(10_000);
    assert_eq!(stage.acts(), "kill 2");
    stage.supervisor.abandoned(WorkerId(2), stage.now);
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Failed);
    assert_eq!(stage.supervisor.failed_starts(), 1);
    assert_eq!(stage.acts(), "tell 2", "should it ever listen");
    assert_eq!(stage.waits(), None);
    // It counts once, and is in nobody's way.
    stage.supervisor.abandoned(WorkerId(2), stage.now);
    let change = stage.supervisor.reload().unwrap();
    assert_eq!(stage.acts(), "fork 3 at 0");
    stage.ready(2);
    stage.ready(3);
    assert_eq!(stage.acts(), "tell 1");
    stage.exits(1, Death::InOrder);
    assert_eq!(stage.supervisor.outcome(change, 1), Outcome::Done);
    assert_eq!(stage.exits(2, Death::InOrder), Then::Nothing);
    assert_eq!(stage.supervisor.failed_starts(), 1);
}

#[test]
fn nobody_waits_for_those_that_cannot_be_ended() {
    // One that stands still is replaced; a change is done without it.
    let mut stage = Stage::serving(2);
    stage.supervisor.stuck(WorkerId(1), true);
    assert_eq!(stage.acts(), "fork 3 at 0");
    stage.ready(3);
    assert_eq!(stage.acts(), "tell 1");
    let change = stage.supervisor.scale(2).unwrap();
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Done);
    // A place whose first worker hangs gets another.
    let change = stage.supervisor.scale(3).unwrap();
    assert_eq!(stage.acts(), "fork 4 at 2");
    stage.later(10_000);
    assert_eq!(stage.acts(), "kill 4");
    stage.supervisor.abandoned(WorkerId(4), stage.now);
    assert_eq!(stage.supervisor.outcome(change, 0), Outcome::Failed);
    assert_eq!(stage.acts(), "fork 5 at 2, tell 4");
    stage.ready(5);
    assert_eq!(stage.supervisor.outcome(change, 1), Outcome::Done);
    assert_eq!(stage.supervisor.occupants.len(), 5, "it keeps its slot");
}
