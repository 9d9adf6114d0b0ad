//! Compares an application of its own; so it is each contestant too.

use mcluster::compare::{Compare, Workload};
use mcluster::{App, Mode, Workers};
use std::time::Duration;

/// Only as long as it takes to see that it works.
const DURATION: Duration = Duration::from_millis(200);

pub(super) fn run(words: &[String]) -> mcluster::Result<()> {
    if words.iter().any(|word| word == "twice") {
        return twice();
    }
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

/// Two comparisons, of applications that can be told apart: each has an answer that the other has not.
fn twice() -> mcluster::Result<()> {
    let compare = |path: &'static str| {
        Compare::new(move |_| App::new().get(path, |_| "light\n"))
            .light(path)
            .workers(Workers::Count(1))
            .workloads([Workload::Startup])
            .rounds(1)
            .duration(DURATION)
    };
    compare("/first").run()?;
    let found = compare("/second").measure()?;
    // Only who compares comes here with something.
    let starts = found.median("startup_ms", mcluster::compare::Contestant::One);
    if !found.is_empty() {
        println!("the second start took {} ms", starts.unwrap_or_default());
    }
    // Fails: a path that nobody serves.
    let failed = Compare::new(|_| App::new())
        .workloads([Workload::Startup])
        .workers(Workers::Count(1))
        .rounds(1)
        .duration(DURATION)
        .measure();
    match failed {
        Ok(_) => println!("it came past a failure"),
        Err(error) => println!("failed: {error}"),
    }
    Ok(())
}
