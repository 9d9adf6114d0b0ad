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
    assert_eq!(
        (&all["light"], &all["heavy"]),
        (&"/".into(), &"/heavy".into())
    );
    assert!(all["ended"].is_null());
    assert_eq!(all["workers"], 2);
    assert_eq!(all["workloads"], serde_json::json!(["hello", "startup"]));
    for one in CONTESTANTS {
        for figure in ["hello_rps", "hello_p50_us", "hello_p99_us", "startup_ms"] {
            assert!(median(&all, figure, one) > 0.0, "{figure} of {one}");
        }
        // Less than 100 ms of CPU time are no figure, and on a busy machine it may be less.
        let cpu = &all["figures"]["hello_cpu_us"][one]["median"];
        if let Some(cpu) = cpu.as_f64() {
            let cpus = median(&all, "hello_rps", one) * cpu / 1e6;
            assert!(
                cpus > 0.0 && cpus <= 1.5 * all["cpus"].as_f64().unwrap(),
                "{cpus}"
            );
        }
        let (p50, p99) = (
            median(&all, "hello_p50_us", one),
            median(&all, "hello_p99_us", one),
        );
        assert!(p50 <= p99);
        // 32 clients, each with one request at a time.
        assert!(median(&all, "hello_rps", one) * p50 / 1e6 <= 2.0 * 32.0);
        assert_eq!(median(&all, "hello_failed", one), 0.0);
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
        // Counted from the kill on, and until well after the recovery: at 1,000 a second.
        let time = median(&all, "crash_recovery_ms", one) + 100.0;
        assert!(
            failed <= sent && sent >= time * 0.5,
            "{failed} of {sent} in {time} ms"
        );
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
    assert_eq!(last, "mcluster: ended by SIGINT");
    place.assert_nothing_left();
}

#[test]
fn what_was_measured_before_a_signal_is_shown() {
    let place = Place::new();
    let page = place.0.file("page.html");
    let words = [
        "--duration",
        "100ms",
        "--workloads",
        "startup",
        "--rounds",
        "1000",
    ];
    let mut command = place.command(&words);
    command.args(["--html", page.to_str().unwrap()]);
    let server = Server::launch(command);
    server.log.wait(0, "comparing, which takes about");
    let whole = || -> bool {
        // One of the last contestant has begun: the others have figures.
        place.processes().iter().any(|pid| {
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&variables).contains("MCLUSTER_COMPARE_AS=0 processes+pool")
        })
    };
    wait_until("the last contestant", whole);
    server.signal(Signal::SIGQUIT);
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.log.last().unwrap(), "mcluster: ended by SIGQUIT");
    let out = ended.out.join("\n");
    assert!(out.contains("start to first answer, ms"), "{out}");
    assert!(
        out.contains("Not all of it was measured: ended by SIGQUIT."),
        "{out}"
    );
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .contains("ended by SIGQUIT")
    );
    place.assert_nothing_left();
}

#[test]
fn contestants_share_no_page_of_the_program_with_others() {
    let place = Place::new();
    let server = place.long();
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_mcluster")).unwrap();
    let program = program.to_str().unwrap();
    let maps = |pid: i32| fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let all = place.processes();
    let with = all.iter().filter(|pid| maps(**pid).contains(program));
    assert_eq!(with.count(), 1, "but who compares");
    let own = all
        .iter()
        .filter(|pid| maps(**pid).contains("/memfd:contestant"));
    assert!(own.count() >= 2, "the primary and its worker");
    server.signal(Signal::SIGINT);
    server.ended();
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
        &["--duration", "99ms"],
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
