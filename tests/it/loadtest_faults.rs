//! `mcluster loadtest` with a server of its own, and what is done to that while it is measured.

use crate::support::{BINARY, Directory, Server, command, output, wait_until};
use crate::watch;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::{Command, Output};

/// The words that start a cluster of ours on a free port.
pub(crate) fn serve(more: &str) -> String {
    format!("exec '{BINARY}' serve --workers 2 --pool 0 --listen 127.0.0.1:0 {more}")
}

/// A load test whose clusters have their control sockets in a directory of its own.
pub(crate) fn loadtest(directory: &Directory, arguments: &[&str]) -> Command {
    let mut command = command(&["loadtest"]);
    command.args(arguments);
    command.env("XDG_RUNTIME_DIR", directory.file(""));
    command
}

#[track_caller]
fn refused(arguments: &[&str], status: i32, words: &str) {
    let directory = Directory::new();
    let output = output(loadtest(&directory, arguments));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

#[track_caller]
pub(crate) fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {said}")
    })
}

/// What `loadtest` has started, once its first request was answered: the server, its workers, and who
/// watches over them.
#[track_caller]
pub(crate) fn answered(loadtest: &Server) -> Vec<i32> {
    loadtest.log.wait(0, "\"GET / HTTP/1.1\" 200");
    let mut all = watch::children(loadtest.pid());
    let workers: Vec<_> = all.iter().flat_map(|&pid| watch::children(pid)).collect();
    all.extend(workers);
    assert!(all.len() >= 4, "a guard, a primary, two workers: {all:?}");
    all
}

#[track_caller]
pub(crate) fn all_gone(pids: &[i32]) {
    // Whoever takes in the orphans of this place may not bury them.
    let is_gone = |pid: &i32| watch::is_unburied(*pid) || watch::status(pid, "Pid").is_none();
    wait_until("no process is left", || pids.iter().all(is_gone));
}

#[test]
fn words_that_make_no_sense() {
    refused(&["--at", "1s=explode", "http://a"], 2, "kill:any");
    refused(&["--at", "x=reload", "http://a"], 2, "no time of the run");
    let late = ["-t", "2", "--at", "5s=reload", "http://127.0.0.1:9"];
    refused(&late, 2, "the run is over after 2s");
    refused(&[], 2, "URL");
    refused(&["-n", "1", "/heavy"], 2, "/heavy");
}

#[test]
fn nobody_to_steer() {
    let nobody = ["-t", "2", "--at", "1s=reload", "http://127.0.0.1:9"];
    refused(&nobody, 6, "\"mcluster\"");
    let other = "echo listening on http://127.0.0.1:9; exec sleep 600";
    let other = ["--at", "1s=reload", "--spawn", other];
    refused(&other, 6, "no control socket");
}

#[test]
fn a_server_that_does_not_start() {
    let quiet = ["--quiet", "--spawn", "echo trouble >&2; exit 3"];
    refused(
        &quiet,
        1,
        "it ended before it listened (exit status: 3): trouble",
    );
    refused(&["--spawn", "no-such-program-here"], 1, "127");
}

#[test]
fn a_worker_is_killed_all_are_replaced_one_is_added() {
    let directory = Directory::new();
    let faults = ["500ms=kill:any", "1500ms=reload", "2500ms=scale:3"];
    let mut all = vec![
        "--json", "--quiet", "-k", "-c", "8", "--rps", "200", "-t", "4",
    ];
    all.extend(faults.iter().flat_map(|fault| ["--at", fault]));
    let serve = serve("");
    // What the killed worker was at is lost.
    all.extend(["--max-errors", "50", "--spawn", &serve, "/"]);
    let output = output(loadtest(&directory, &all));
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<_> = stages
        .iter()
        .map(|stage| stage["what"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["start", "kill:any", "reload", "scale:3"]);
    for (stage, at) in stages.iter().zip([0.0, 0.5, 1.5, 2.5]).skip(1) {
        let outcome = stage["outcome"].as_str().unwrap();
        assert!(!outcome.starts_with("failed"), "{stage:#}");
        assert!(stage["took_s"].as_f64().unwrap() > 0.0, "{stage:#}");
        assert!(stage["at_s"].as_f64().unwrap() >= at, "{stage:#}");
    }
    let outcome = stages[1]["outcome"].as_str().unwrap();
    assert!(outcome.starts_with("worker "), "{outcome}");
    assert!(outcome.ends_with(": 2 workers listen again"), "{outcome}");
    for stage in &stages[2..] {
        assert_eq!(stage["errors"], serde_json::json!({}), "{stage:#}");
        assert_eq!(stage["failures"], 0, "{stage:#}");
        assert!(stage["answers"].as_u64().unwrap() > 0, "{stage:#}");
    }
    // It went in good order.
    let left = std::fs::read_dir(directory.file("mcluster")).unwrap();
    assert_eq!(left.count(), 0, "no control socket");
}

#[test]
fn what_cannot_be_done_is_said() {
    let directory = Directory::new();
    let serve = serve("");
    let all = [
        "--json",
        "--quiet",
        "--rps",
        "50",
        "-t",
        "1",
        "--at",
        "100ms=kill:99",
    ];
    let output = output(loadtest(
        &directory,
        &[&all[..], &["--spawn", &serve]].concat(),
    ));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("--at kill:99: there is no worker 99"),
        "{said}"
    );
    let report = report(&output);
    assert_eq!(
        report["stages"][1]["outcome"],
        "failed: there is no worker 99"
    );
}

#[test]
fn an_end_by_a_signal_leaves_no_process() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let directory = Directory::new();
        let serve = serve("--access-log -");
        let all = ["-t", "600", "--rps", "50", "--spawn", &serve, "/"];
        let server = Server::launch(loadtest(&directory, &all));
        let pids = answered(&server);
        server.signal(signal);
        let ended = server.ended();
        if signal == Signal::SIGINT {
            assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.log);
            let mut out = ended.out.iter();
            assert!(out.any(|line| line.contains("Completed requests")));
        }
        all_gone(&pids);
    }
}
