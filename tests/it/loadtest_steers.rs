//! Which cluster `mcluster loadtest --at` acts on, what it can do to it, and how a server that was started
//! for a run ends, whatever ends the run.

use crate::loadtest_faults::{all_gone, answered, loadtest, report, serve};
use crate::support::{Directory, Server, command, output, wait_until};
use crate::watch;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A cluster of two workers that runs already.
fn other(directory: &Directory) -> Server {
    let words = [
        "--workers",
        "2",
        "--listen",
        "127.0.0.1:0",
        "--name",
        "other",
    ];
    let mut command = command(&words);
    command.env("XDG_RUNTIME_DIR", directory.file(""));
    let server = Server::launch(command);
    server.urls(1);
    server
}

/// How many workers it has ever had.
fn forked(server: &Server) -> usize {
    let lines = server.log.all();
    lines
        .iter()
        .filter(|line| line.contains("is online"))
        .count()
}

/// What became of a load test with a server of its own.
#[track_caller]
fn measured(directory: &Directory, arguments: &[&str], serve: &str) -> Output {
    let all = [arguments, &["--spawn", serve]].concat();
    output(loadtest(directory, &all))
}

#[track_caller]
fn ended(output: &Output, status: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.contains(words), "{said}");
}

/// What came of each fault.
#[track_caller]
fn outcomes(report: &Value) -> Vec<(String, String)> {
    let stages = report["stages"].as_array().unwrap().iter().skip(1);
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |stage: &Value| (word(&stage["what"]), word(&stage["outcome"]));
    stages.map(of).collect()
}

#[track_caller]
fn no_sockets(directory: &Directory) {
    let left = std::fs::read_dir(directory.file("mcluster")).unwrap();
    assert_eq!(left.count(), 0, "no control socket is left");
}

#[test]
fn a_cluster_of_the_environment_is_not_the_one_that_was_started() {
    let directory = Directory::new();
    let other = other(&directory);
    let serve = serve("");
    let all = [
        "--json",
        "--quiet",
        "-k",
        "--rps",
        "50",
        "-t",
        "1",
        "--at",
        "100ms=scale:3",
        "--spawn",
        &serve,
    ];
    for (variable, value) in [
        ("MCLUSTER_NAME", "other".into()),
        ("MCLUSTER_CONTROL", directory.file("mcluster/other.sock")),
    ] {
        let mut loadtest = loadtest(&directory, &all);
        loadtest.env(variable, value);
        let output = output(loadtest);
        ended(&output, 0, "");
        assert_eq!(outcomes(&report(&output)).len(), 1, "{variable}");
    }
    assert_eq!(forked(&other), 2, "{:#?}", other.log.all());
    other.stop();
}

#[test]
fn a_cluster_by_its_flag_is_the_one_that_was_started() {
    let directory = Directory::new();
    let other = other(&directory);
    let serve = serve("--name own");
    let all = [
        "--quiet",
        "-t",
        "1",
        "--at",
        "100ms=restart",
        "--name",
        "other",
    ];
    let output = measured(&directory, &all, &serve);
    ended(&output, 6, "it is not what --spawn started");
    assert_eq!(forked(&other), 2);
    other.stop();
    // Stopped in good order, though there was no run.
    no_sockets(&directory);
}

#[test]
fn a_cluster_that_runs_is_the_one_at_the_address() {
    let directory = Directory::new();
    let other = other(&directory);
    let url = &other.urls(1)[0];
    let all = [
        "--json",
        "--quiet",
        "-t",
        "1",
        "--rps",
        "50",
        "--at",
        "100ms=scale:3",
    ];
    let by_name = ["--name", "other"];
    let elsewhere = [&all[..], &by_name, &["http://127.0.0.1:9/"]].concat();
    let output_of = |all: &[&str]| output(loadtest(&directory, all));
    ended(&output_of(&elsewhere), 6, "it is not what is measured");
    assert_eq!(forked(&other), 2);
    let here = output_of(&[&all[..], &by_name, &[url]].concat());
    ended(&here, 0, "");
    assert_eq!(outcomes(&report(&here)).len(), 1);
    // Here the environment counts.
    let mut by_environment = loadtest(&directory, &[&all[..], &[url]].concat());
    by_environment.env("MCLUSTER_NAME", "other");
    ended(&output(by_environment), 0, "");
    other.stop();
}

#[test]
fn all_are_restarted_it_is_scheduled_otherwise_and_stopped() {
    let directory = Directory::new();
    let serve = serve("");
    let mut all = vec![
        "--json",
        "--quiet",
        "-t",
        "3",
        "--rps",
        "50",
        "--max-errors",
        "100",
    ];
    let faults = ["0.2=restart", "1.2s=schedule:shared", "2s=stop"];
    all.extend(faults.iter().flat_map(|fault| ["--at", fault]));
    let output = measured(&directory, &all, &serve);
    ended(&output, 0, "");
    let outcomes = outcomes(&report(&output));
    let names: Vec<_> = outcomes.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(names, ["restart", "schedule:shared", "stop"]);
    for (what, outcome) in &outcomes {
        assert!(!outcome.starts_with("failed"), "{what}: {outcome}");
    }
    no_sockets(&directory);
}

/// One that a worker may take as it likes: here it does not end it.
#[test]
fn a_signal_that_ends_no_worker_is_sent() {
    let directory = Directory::new();
    let serve = serve("");
    let all = [
        "--json",
        "--quiet",
        "-t",
        "1",
        "--rps",
        "50",
        "--at",
        "0=kill:any:CONT",
    ];
    let output = measured(&directory, &all, &serve);
    ended(&output, 0, "");
    let (_, outcome) = &outcomes(&report(&output))[0];
    assert!(!outcome.contains("listen"), "{outcome}");
}

#[test]
fn two_listeners_of_which_one_has_an_address() {
    let directory = Directory::new();
    let socket = directory.file("a.sock").display().to_string();
    let serve = serve("").replace("--listen", &format!("--listen unix:{socket} --listen"));
    let all = ["--quiet", "-n", "3", "--spawn", &serve];
    ended(&output(loadtest(&directory, &all)), 0, "");
    let alone = serve.replace("--listen 127.0.0.1:0", "");
    let all = ["--quiet", "-n", "3", "--spawn", &alone];
    ended(&output(loadtest(&directory, &all)), 2, "on no URL");
    no_sockets(&directory);
}

#[test]
fn nothing_is_started_for_a_run_that_makes_no_sense() {
    let directory = Directory::new();
    let started = directory.file("started");
    let touch = format!("touch {}", started.display());
    for wrong in ["https://a/", "http://a b/", "http://a:0/", "/a%zz"] {
        let output = output(loadtest(&directory, &["-n", "1", "--spawn", &touch, wrong]));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(!started.exists(), "{wrong}");
    }
}

#[test]
fn a_server_that_ends_early_is_a_failure_however_it_ends() {
    let directory = Directory::new();
    let gone = "echo listening on http://127.0.0.1:9; exit 0";
    let all = ["--quiet", "-n", "3", "--max-errors", "100", "--spawn", gone];
    let output = output(loadtest(&directory, &all));
    ended(&output, 1, "ended before the run was over (exit status: 0)");
}

/// Nobody reads what it says, and it says more than a pipe takes.
#[test]
fn stderr_that_nobody_reads_holds_nobody_up() {
    let directory = Directory::new();
    let serve = serve("--access-log -");
    let all = ["--json", "-k", "-n", "5000", "--spawn", &serve, "/"];
    let mut loadtest = loadtest(&directory, &all);
    let mut child = loadtest
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut status = None;
    wait_until("the load test ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn an_interrupt_while_the_server_starts() {
    let directory = Directory::new();
    let all = ["-n", "1", "--spawn", "echo up >&2; exec sleep 600"];
    let mut server = Server::launch(loadtest(&directory, &all));
    server.log.wait(0, "up");
    let pids = watch::children(server.pid());
    server.signal(Signal::SIGINT);
    assert_eq!(server.status().code(), Some(1));
    server.log.wait(0, "before the server listened");
    all_gone(&pids);
}

/// The run is over: what is asked for then is that the server ends, not that there is no report.
#[test]
fn an_interrupt_while_the_server_stops() {
    let directory = Directory::new();
    let serve = serve("").replace("exec ", "");
    let stubborn =
        format!("trap 'echo told to go >&2' TERM; {serve} & while :; do sleep 0.05; done");
    let mut server = Server::launch(loadtest(&directory, &["-n", "3", "--spawn", &stubborn]));
    server.log.wait(0, "told to go");
    let start = Instant::now();
    let pids = watch::children(server.pid());
    server.signal(Signal::SIGINT);
    assert_eq!(server.status().code(), Some(0), "{:#?}", server.log.all());
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "it was not waited for"
    );
    server.out.wait(0, "Completed requests");
    all_gone(&pids);
}

/// A reload waits for the slowest request; the run that was interrupted waits for the reload.
#[test]
fn an_interrupt_while_something_is_done() {
    let directory = Directory::new();
    let serve = serve("");
    let all = [
        "--json",
        "-k",
        "-c",
        "2",
        "-t",
        "600",
        "--at",
        "200ms=reload",
        "--spawn",
        &serve,
        "/slow?ms=700",
    ];
    let server = Server::launch(loadtest(&directory, &all));
    server.log.wait(0, "reload");
    server.signal(Signal::SIGINT);
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.log);
    let outcomes = outcomes(&serde_json::from_str(&ended.out.join("\n")).unwrap());
    assert!(!outcomes[0].1.starts_with("failed"), "{outcomes:?}");
}

/// A primary that says nothing holds up neither signals nor the report.
#[test]
fn an_interrupt_while_the_primary_hangs() {
    let directory = Directory::new();
    let serve = serve("--schedule shared --access-log -");
    let all = [
        "--json",
        "-t",
        "600",
        "--rps",
        "50",
        "--at",
        "1500ms=kill:any",
        "--spawn",
        &serve,
        "/",
    ];
    let server = Server::launch(loadtest(&directory, &all));
    let pids = answered(&server);
    let primary = pids
        .iter()
        .copied()
        .find(|&pid| watch::children(pid).len() >= 2);
    let primary = Pid::from_raw(primary.unwrap());
    signal::kill(primary, Signal::SIGSTOP).unwrap();
    thread::sleep(Duration::from_millis(1800));
    let start = Instant::now();
    // To end the run, to wait for no fault, and to wait for no server.
    for _ in 0..3 {
        server.signal(Signal::SIGINT);
        thread::sleep(Duration::from_secs(1));
    }
    let ended = server.ended();
    let took = start.elapsed();
    assert_eq!(ended.status.code(), Some(1), "{:#?}", ended.log);
    assert!(took < Duration::from_secs(8), "{took:?}");
    let outcomes = outcomes(&serde_json::from_str(&ended.out.join("\n")).unwrap());
    assert_eq!(outcomes[0].0, "kill:any");
    assert!(outcomes[0].1.starts_with("failed"), "{outcomes:?}");
    all_gone(&pids);
}
