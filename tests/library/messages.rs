//! Messages: whole, in order, both ways, whatever their size and whenever they are sent; and a
//! worker that answers requests all the while.

use crate::harness::Tests;
use crate::http::{Connection, get};
use crate::programs::FLOOD;
use crate::run::{Mode, PATIENCE, Run};
use std::time::{Duration, Instant};

/// No request waits longer for its answer, flood or not.
const WORST: Duration = Duration::from_secs(2);

fn kinds_and_sizes(mode: Mode) {
    let all = Run::start("echo", mode, &[]).end();
    for who in ["primary", "worker"] {
        let line = format!("{who}: too large, back true");
        assert!(all.contains(&line), "{all:#?}");
    }
    let answers: Vec<_> = all.iter().filter(|line| line.starts_with("same")).collect();
    let kinds = if cfg!(feature = "json") { 9 } else { 8 };
    assert_eq!(answers.len(), kinds, "{all:#?}");
    let right = |line: &&String| line.starts_with("same true");
    assert!(answers.iter().all(right), "{answers:#?}");
}

/// Nothing is lost that was sent before the worker ran, or before it wanted messages; the sender
/// is told to pause, and told once to go on; and meanwhile the worker serves.
fn early_ones_wait(mode: Mode) {
    let mut run = Run::start("late", mode, &[]);
    let address = run.address(1);
    let count: u64 = run.line("pause after ").parse().unwrap();
    // More than 128 KiB in messages of a little more than 1000 bytes.
    assert!((125..=132).contains(&count), "{count}");
    for _ in 0..20 {
        assert_eq!(get(address, "/"), "served\n");
    }
    assert_eq!(run.count("drain"), 0, "nobody has taken anything");
    assert_eq!(get(address, "/hear"), "listening to messages\n");
    assert_eq!(
        run.line("heard "),
        format!("{count}, then Some(\"the end\")")
    );
    let all = run.stop();
    let drains = all.iter().filter(|line| *line == "drain 1").count();
    assert_eq!(drains, 1, "{all:#?}");
    assert!(all.contains(&"room again: true".to_owned()), "{all:#?}");
    let heard = all.iter().filter(|line| line.starts_with("heard"));
    assert_eq!(heard.count(), 1, "{all:#?}");
}

fn last_words_arrive(mode: Mode) {
    let mut run = Run::start("last", mode, &[]);
    assert_eq!(get(run.address(1), "/leave"), "leaving\n");
    let all = run.end();
    let place = |wanted: &str| {
        let found = all.iter().position(|line| line == wanted);
        found.unwrap_or_else(|| panic!("{wanted}: {all:#?}"))
    };
    let order = [
        place("right true, None"),
        place("right false, Some(\"goodbye\")"),
        place("right false, Some(\"from the callback\")"),
        place("1 disconnect: disconnecting"),
        place("1 exit code 0: dead, is dead, voluntary"),
    ];
    assert!(order.is_sorted(), "{all:#?}");
    if mode == Mode::Threads {
        place("the worker's own handle: gone true");
    }
    let mut run = Run::start("last", mode, &[]);
    assert_eq!(get(run.address(1), "/bye"), "bye\n");
    let all = run.end();
    for heard in ["true, None", "false, Some(\"goodbye, worker\")"] {
        let heard = format!("worker 1 heard {heard}");
        assert!(all.contains(&heard), "{all:#?}");
    }
}

fn everybody_hears(mode: Mode) {
    let all = Run::start("all", mode, &[]).end();
    let said = |id: &u32| all.contains(&format!("{id} said Some(\"hello, all\")"));
    assert!([1, 2, 3].iter().all(said), "{all:#?}");
}

fn a_flood(mode: Mode) {
    let mut run = Run::start("flood", mode, &[]);
    let address = run.address(1);
    let mut kept = Connection::open(address);
    assert_eq!(kept.get("/go"), "going\n");
    let mut waits = Vec::new();
    let start = Instant::now();
    while run.count("worker heard") + run.count("primary heard") < 2 {
        assert!(start.elapsed() < PATIENCE, "{:#?}", run.said());
        let asked = Instant::now();
        assert_eq!(kept.get("/"), "served\n");
        waits.push(asked.elapsed());
        let asked = Instant::now();
        assert_eq!(get(address, "/"), "served\n");
        waits.push(asked.elapsed());
    }
    let took = start.elapsed();
    for who in ["worker", "primary"] {
        let line = run.line(&format!("{who} heard "));
        let pauses = line.strip_prefix(&format!("{FLOOD}, "));
        let pauses = pauses.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        assert!(pauses.is_some_and(|pauses| pauses > 0), "{line}");
    }
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    let worst = waits[waits.len() - 1];
    println!(
        "     {}: 2 x {FLOOD} messages in {took:.1?}; {} requests, p99 {p99:.1?}, worst {worst:.1?}",
        mode.name(),
        waits.len(),
    );
    assert!(worst < WORST, "a request waited for {worst:?}");
    let all = run.stop();
    let wrong = all.iter().find(|line| line.contains("in place of"));
    assert_eq!(wrong, None);
}

pub(crate) fn add(tests: &mut Tests) {
    tests.both_modes("messages::kinds_and_sizes", kinds_and_sizes);
    tests.both_modes("messages::early_ones_wait", early_ones_wait);
    tests.both_modes("messages::last_words_arrive", last_words_arrive);
    tests.both_modes("messages::everybody_hears", everybody_hears);
    tests.both_modes("messages::a_flood", a_flood);
}
