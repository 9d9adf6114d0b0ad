//! `mcluster compare`: what it promises of its answer, and that nothing of it is left, however it ends.
//!
//! Its figures are not judged here: the machine is busy with other tests.

use crate::support::{Directory, ended_by};
use crate::support::{Ended, Server, command, run, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::process::Command;

const CONTESTANTS: [&str; 4] = ["one", "processes", "threads", "processes+pool"];

/// A comparison with a place of its own for what it leaves behind, by which its processes are found.
struct Place(Directory);

impl Place {
    fn new() -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.file("tmp")).unwrap();
        Self(directory)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut all = vec!["compare", "--workers", "2"];
        all.extend(words);
        let mut command = command(&all);
        command.env("TMPDIR", self.0.file("tmp"));
        command
    }

    /// A short one, to its end.
    #[track_caller]
    fn short(&self, words: &[&str]) -> Ended {
        let mut all = vec!["--duration", "200ms", "--rounds", "1"];
        all.extend(words);
        run(self.command(&all))
    }

    /// All that a short one has to say.
    #[track_caller]
    fn json(&self, workloads: &str) -> Value {
        let ended = self.short(&["--workloads", workloads, "--json"]);
        assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.log);
        assert_eq!(ended.out.len(), 1, "{:#?}", ended.out);
        serde_json::from_str(&ended.out[0]).unwrap()
    }

    /// Processes that live and were started with this place in their environment.
    fn processes(&self) -> Vec<i32> {
        let variable = format!("TMPDIR={}", self.0.file("tmp").display());
        let all = fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &i32| {
            // One that has ended has no environment any more.
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = variables.split(|byte| *byte == 0);
            variables.any(|one| one == variable.as_bytes())
        })
        .collect()
    }

    fn files(&self) -> usize {
        fs::read_dir(self.0.file("tmp")).unwrap().count()
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), Vec::<i32>::new());
        assert_eq!(self.files(), 0);
    }

    /// One that would take long, once its first contestant runs with all its processes.
    #[track_caller]
    fn long(&self) -> Server {
        let words = ["--duration", "30s", "--workloads", "hello"];
        let server = Server::launch(self.command(&words));
        server.log.wait(0, "comparing, which takes about");
        // Itself, who guards the group, the primary and its worker.
        wait_until("a contestant", || self.processes().len() >= 4);
        server
    }
}

#[track_caller]
fn median(all: &Value, figure: &str, contestant: &str) -> f64 {
    let found = &all["figures"][figure][contestant];
    let median = found["median"].as_f64();
    let median = median.unwrap_or_else(|| panic!("no {figure} of {contestant}: {all:#}"));
    assert!(found["min"].as_f64().unwrap() <= median);
    assert!(found["max"].as_f64().unwrap() >= median);
    median
}

#[test]
fn figures_of_speed_and_of_the_start() {
    let place = Place::new();
    let all = place.json("hello,startup");
    assert_eq!(all["schema"], 1);
    assert_eq!(all["workers"], 2);
    assert_eq!(all["workloads"], serde_json::json!(["hello", "startup"]));
    for one in CONTESTANTS {
        for figure in ["hello_rps", "hello_p50_us", "hello_p99_us", "startup_ms"] {
            assert!(median(&all, figure, one) > 0.0, "{figure} of {one}");
        }
        assert!(median(&all, "hello_cpu_us", one) >= 0.0);
        let jain = median(&all, "hello_jain", one);
        assert!(jain > 0.0 && jain <= 1.0, "{jain}");
        let starts = &all["figures"]["startup_ms"][one]["rounds"];
        assert_eq!(starts.as_array().unwrap().len(), 3);
    }
    assert_eq!(median(&all, "hello_jain", "one"), 1.0);
    assert!(all["figures"]["crash_failed"].is_null());
    assert!(!all["sentences"].as_array().unwrap().is_empty());
    place.assert_nothing_left();
}

#[test]
fn figures_of_a_crash() {
    let place = Place::new();
    let all = place.json("crash");
    for one in CONTESTANTS {
        assert!(median(&all, "crash_recovery_ms", one) > 0.0);
        let (failed, sent) = (
            median(&all, "crash_failed", one),
            median(&all, "crash_requests", one),
        );
        assert!(failed <= sent && sent >= 100.0, "{failed} of {sent}");
    }
    // Nobody is there until the process has been started again.
    assert!(median(&all, "crash_failed", "threads") > 0.0);
    place.assert_nothing_left();
}

#[test]
fn figures_of_heavy_work_and_of_memory_in_a_table_and_on_a_page() {
    let place = Place::new();
    let page = place.0.file("page.html");
    let ended = place.short(&[
        "--workloads",
        "mixed,heavy,memory",
        "--html",
        page.to_str().unwrap(),
    ]);
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.log);
    let out = ended.out.join("\n");
    for words in [
        "2 workers on ",
        "processes+pool",
        "p99 of / while heavy is busy, ms",
        "PSS under load, MiB",
        "While /heavy was busy, visitors of / at ",
        "Under load, ",
        "On /heavy, ",
    ] {
        assert!(out.contains(words), "{words:?}:\n{out}");
    }
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("Memory (PSS) under load"));
    place.assert_nothing_left();
}

#[test]
fn a_signal_leaves_nothing() {
    let place = Place::new();
    let server = place.long();
    server.signal(Signal::SIGINT);
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.out, Vec::<String>::new());
    let last = ended.log.last().unwrap();
    assert_eq!(last, "mcluster: ended by SIGINT: nothing was compared");
    place.assert_nothing_left();
}

#[test]
fn killed_it_leaves_no_process() {
    let place = Place::new();
    let mut server = place.long();
    server.signal(Signal::SIGKILL);
    assert_eq!(ended_by(server.status()), Some(Signal::SIGKILL));
    wait_until("its processes end", || place.processes().is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_runs() {
    let place = Place::new();
    for words in [
        &["--workloads", "hello,hallo"][..],
        &["--workloads", ""],
        &["--workers", "0"],
        &["--duration", "0s"],
        &["--duration", "2h"],
        &["--rounds", "0"],
        &["--html", "no/such/place/x.html"],
        &["more"],
    ] {
        let ended = run(command(&[&["compare"][..], words].concat()));
        assert_eq!(ended.status.code(), Some(2), "{words:?}: {:?}", ended.log);
        assert!(ended.out.is_empty(), "{words:?}");
    }
    place.assert_nothing_left();
}
