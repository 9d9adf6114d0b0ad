//! Compares an application of its own; so it is each contestant too.

use mcluster::compare::Compare;
use mcluster::{App, Mode, Workers};
use std::time::Duration;

/// Only as long as it takes to see that it works.
const DURATION: Duration = Duration::from_millis(200);

pub(super) fn run() -> mcluster::Result<()> {
    // Answers only in a process that is as it was said to be.
    let app = |setup: &mcluster::compare::Setup| {
        let expected = match setup.mode() {
            Mode::Processes => "processes",
            Mode::Threads => "threads",
        };
        let name = setup.contestant().name();
        let right = name.starts_with(expected) || (name, setup.workers()) == ("one", 1);
        let clean = std::env::var_os("MCLUSTER_COMPARE_AS").is_none();
        match right && clean {
            true => App::new().get("/light", |_| "light\n"),
            false => App::new(),
        }
    };
    Compare::new(app)
        .light("/light")
        .workers(Workers::Count(2))
        .rounds(1)
        .duration(DURATION)
        .run()
}
