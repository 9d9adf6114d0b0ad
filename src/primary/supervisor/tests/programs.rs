//! What is different with workers that are programs: when the next one comes.

use super::*;

const OF_PROGRAMS: Patience = Patience {
    restart: Duration::from_millis(250),
    ..PATIENCE
};

#[test]
fn a_place_stays_empty_for_a_while() {
    let mut stage = Stage::with(1, OF_PROGRAMS);
    stage.acts();
    let deaths = [Death::InOrder, Death::Killed, Death::Crash, Death::Crash];
    let mut delays = Vec::new();
    for (id, death) in (1..).zip(deaths.into_iter().chain([Death::Crash; 4])) {
        stage.ready(id);
        let then = stage.exits(id, death);
        let delay = stage.delay(then);
        assert_eq!(stage.waits(), Some(u128::from(delay)));
        stage.later(delay - 1);
        assert_eq!(stage.acts(), "", "too early");
        stage.later(1);
        assert_eq!(stage.acts(), format!("fork {} at 0", id + 1));
        delays.push(delay);
    }
    assert_eq!(delays, [250, 250, 250, 250, 250, 400, 800, 1600]);
    // Whoever is told to go leaves nothing to wait for.
    stage.ready(9);
    stage.supervisor.leaves(WorkerId(9), stage.now);
    assert_eq!(stage.acts(), "fork 10 at 0, tell 9");
    stage.exits(9, Death::InOrder);
    assert_eq!(stage.acts(), "");
}

#[test]
fn ends_soon_after_the_start_are_crashes() {
    let soon = Duration::from_secs(5);
    let by_wish = |stage: &mut Stage, id: u32, wish: bool| {
        if wish {
            stage.supervisor.leaves(WorkerId(id), stage.now);
        }
        stage.exits(id, Death::InOrder)
    };
    for (name, wish) in [("by code 0", false), ("by its own wish", true)] {
        let end = |stage: &mut Stage, id| by_wish(stage, id, wish);
        let mut stage = Stage::with(1, Patience { soon, ..PATIENCE });
        stage.acts();
        let mut delays = Vec::new();
        for id in 1..=5 {
            stage.ready(id);
            let then = end(&mut stage, id);
            delays.push(stage.delay(then));
            stage.later(delays[delays.len() - 1]);
            assert_eq!(stage.acts(), format!("fork {} at 0", id + 1), "{name}");
        }
        assert_eq!(delays, [0, 100, 200, 400, 800], "{name}");
        // One that has lived for a while has only come to its end.
        stage.ready(6);
        stage.later(5000);
        let then = end(&mut stage, 6);
        assert_eq!(stage.delay(then), 0, "{name}");
    }
}
