//! Saying goodbye to all workers: the callback comes once, when the last is gone, and not before;
//! after it the application may fork again. And wishes for workers that have yet to be launched.

use crate::harness::Tests;
use crate::run::{Mode, Run};
use nix::sys::signal::Signal;

fn position(all: &[String], line: &str) -> usize {
    let mut hits = all.iter().enumerate().filter(|(_, one)| *one == line);
    let first = hits.next().unwrap_or_else(|| panic!("{line}: {all:#?}")).0;
    assert!(hits.next().is_none(), "{line} twice: {all:#?}");
    first
}

fn exits(all: &[String]) -> usize {
    all.iter().filter(|line| line.contains(" exit ")).count()
}

fn the_callback_comes_once(mode: Mode, words: &[&str]) {
    let all = Run::start("farewells", mode, words).end();
    let first = position(&all, "first: 0 are left");
    let second = position(&all, "second: 0 are left");
    assert_eq!(exits(&all[..first]), 3, "{all:#?}");
    assert_eq!(exits(&all[first..second]), 1, "{all:#?}");
    assert_eq!(exits(&all[second..]), 0, "{all:#?}");
    for id in 1..=4 {
        position(&all, &format!("{id} disconnect: disconnecting"));
        position(&all, &format!("{id} exit code 0: dead, is dead, voluntary"));
    }
}

/// The lines of a program that asks for `what` in setup.
fn hasty(mode: Mode, what: &str) -> Vec<String> {
    let mut run = Run::start("hasty", mode, &[what]);
    let all = run.end();
    assert_eq!(all[0], "setup: 0 workers");
    all
}

fn without_a_fork_it_ends(mode: Mode) {
    assert_eq!(hasty(mode, "nothing"), ["setup: 0 workers", "ran: ok"]);
}

fn without_workers_the_callback_comes(mode: Mode) {
    let all = hasty(mode, "nobody");
    assert_eq!(all[1..], ["nobody: 0 are left", "ran: ok"]);
    let all = hasty(mode, "again");
    assert_eq!(all[1], "nobody: 0 are left");
    position(&all, "1 exit code 0: dead, is dead, voluntary");
}

fn one_that_is_not_launched_is_waited_for(mode: Mode) {
    let all = hasty(mode, "all");
    let exit = position(&all, "1 exit code 0: dead, is dead, voluntary");
    assert!(position(&all, "all: 0 are left") > exit, "{all:#?}");
}

fn one_that_is_not_launched_goes(mode: Mode) {
    for what in ["one", "kill"] {
        let all = hasty(mode, what);
        position(&all, "1 exit code 0: dead, is dead, voluntary");
    }
}

fn one_that_is_not_launched_is_not_forgotten_by_a_stop(mode: Mode) {
    for what in ["stop", "stop-first"] {
        let all = hasty(mode, what);
        assert_eq!(exits(&all), 1, "{all:#?}");
    }
}

fn an_application_that_manages_its_workers_is_not_steered(mode: Mode) {
    let mut run = Run::start("ends", mode, &["unmanaged"]);
    run.address(1);
    for (signal, refused) in [
        (Signal::SIGHUP, "not reloaded"),
        (Signal::SIGTTIN, "not scaled"),
        (Signal::SIGTTOU, "not scaled"),
    ] {
        run.signal(signal);
        run.log_line(&format!("{refused}: the application manages its workers"));
    }
    let all = run.stop();
    assert_eq!(exits(&all), 1, "{all:#?}");
    assert!(
        !all.iter()
            .any(|line| line.starts_with("2 ") || line.starts_with("reload"))
    );
}

pub(crate) fn add(tests: &mut Tests) {
    tests.both_modes("farewells::managed", |mode| {
        the_callback_comes_once(mode, &[]);
    });
    tests.both_modes("farewells::unmanaged", |mode| {
        the_callback_comes_once(mode, &["unmanaged"]);
    });
    tests.both_modes("farewells::without_a_fork", without_a_fork_it_ends);
    tests.both_modes(
        "farewells::without_workers",
        without_workers_the_callback_comes,
    );
    tests.both_modes(
        "farewells::not_launched_all",
        one_that_is_not_launched_is_waited_for,
    );
    tests.both_modes("farewells::not_launched_one", one_that_is_not_launched_goes);
    tests.both_modes(
        "farewells::not_launched_stop",
        one_that_is_not_launched_is_not_forgotten_by_a_stop,
    );
    tests.both_modes(
        "farewells::unmanaged_not_steered",
        an_application_that_manages_its_workers_is_not_steered,
    );
}
