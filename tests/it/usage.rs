//! What may be said on the command line and in the environment, and what is answered to nonsense.

use crate::client::Client;
use crate::support::{Server, address_of, command, output, run};
use std::net::TcpListener;
use std::process::Command;

/// Variables, flags, and what comes of them.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);

/// The binary with `variables` in its environment.
fn with(variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.envs(variables.iter().copied());
    command
}

/// Starts a server, which must say `banner` about itself, and where it listens.
#[track_caller]
fn banner(variables: &[(&str, &str)], arguments: &[&str], banner: &str) -> String {
    let server = Server::launch(with(variables, arguments));
    let url = server.urls(1).remove(0);
    let line = server.log.wait(0, "mcluster ");
    assert!(line.contains(banner), "{variables:?} {arguments:?}: {line}");
    Client::greeted(address_of(&url));
    server.stop();
    url
}

/// Nothing on stdout, something on stderr, and a status.
#[track_caller]
fn refused(variables: &[(&str, &str)], arguments: &[&str], status: i32, words: &str) {
    let ended = run(with(variables, arguments));
    let log = ended.log.join("\n");
    let what = format!("{variables:?} {arguments:?}: {log}");
    assert_eq!(ended.status.code(), Some(status), "{what}");
    assert!(ended.out.is_empty(), "{:?} {what}", ended.out);
    assert!(log.contains(words), "no {words:?} in {what}");
}

#[test]
fn nonsense_on_the_command_line() {
    let cases: [(&[&str], &str); 36] = [
        (&["--nonsense"], "--nonsense"),
        (&["--worker", "2"], "--workers"),
        (&["nonsense"], "nonsense"),
        (&["serve", "nonsense"], "nonsense"),
        (&["--mode", "fibers"], "processes or threads"),
        (&["--mode"], "--mode"),
        (&["--schedule", "fair"], "least-connections"),
        (&["--schedule", "sticky-cookie"], "sticky-cookie:NAME"),
        (
            &["--schedule", "sticky-cookie:a b"],
            "is no name of a cookie",
        ),
        (&["--schedule", "sticky-query:"], "it is empty"),
        (
            &["--schedule", "sticky-query:a=b"],
            "is no name of a query's key",
        ),
        (&["--workers", "0"], "--workers"),
        (&["--workers", "-1"], "-1"),
        (&["--workers", "1025"], "1025"),
        (&["--workers", "many"], "many"),
        (&["--workers", "0%"], "0%"),
        (&["--workers", "99999999999999999999"], "--workers"),
        (&["--listen", "3000"], "port is missing"),
        (&["--listen", "127.0.0.1:65536"], "0 to 65535"),
        (&["--listen", "127.0.0.1:http"], "0 to 65535"),
        (&["--listen", "::1:3000"], "brackets"),
        (&["--listen", "unix:"], "path is empty"),
        (&["--listen", "fd:1"], "standard streams"),
        (&["--listen", "fd:x"], "number"),
        (&["--pool", "-1"], "-1"),
        (&["--pool", "1025"], "1025"),
        (&["--max-head", "255"], "256"),
        (&["--max-head", "17M"], "17M"),
        (&["--max-headers", "0"], "--max-headers"),
        (&["--max-body", "1T"], "1T"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--max-connections", "1000001"], "1000001"),
        (&["--header-timeout", "10"], "30s"),
        (&["--idle-timeout", "0s"], "0"),
        (&["--drain-timeout", "soon"], "soon"),
        (&["--chaos=perhaps"], "--chaos"),
    ];
    for (arguments, words) in cases {
        refused(&[], arguments, 2, words);
    }
}

#[test]
fn nonsense_in_the_environment() {
    let cases = [
        ("MCLUSTER_MODE", "fibers"),
        ("MCLUSTER_WORKERS", "0"),
        ("MCLUSTER_LISTEN", "3000"),
        ("MCLUSTER_SCHEDULE", "fair"),
        ("MCLUSTER_SCHED_POLICY", "fair"),
        ("MCLUSTER_POOL", "-1"),
        ("MCLUSTER_MAX_HEAD", "1"),
        ("MCLUSTER_DRAIN_TIMEOUT", "5"),
        ("MCLUSTER_CHAOS", "perhaps"),
        ("WEB_CONCURRENCY", "0"),
        ("PORT", "http"),
        ("HOST", "my host"),
    ];
    for (name, value) in cases {
        refused(&[(name, value)], &[], 2, value);
    }
}

#[test]
fn help_and_version() {
    for flag in ["--version", "-V"] {
        let output = output(command(&[flag]));
        assert!(output.status.success());
        let expected = format!("mcluster {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert!(output.stderr.is_empty());
    }
    for arguments in [&["--help"][..], &["-h"], &["serve", "--help"], &["help"]] {
        let output = output(command(arguments));
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Usage: mcluster"), "{arguments:?}: {text}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn numbers_of_workers() {
    let cases: [Case<'_>; 8] = [
        (&[], &["-w", "3"], "3 workers"),
        (&[], &["-i", "2"], "2 workers"),
        (&[], &["serve", "--workers", "3"], "3 workers"),
        (&[("MCLUSTER_WORKERS", "3")], &[], "3 workers"),
        (&[("MCLUSTER_WORKERS", "3")], &["-w", "2"], "2 workers"),
        (&[("WEB_CONCURRENCY", "3")], &[], "3 workers"),
        (
            &[("WEB_CONCURRENCY", "3"), ("MCLUSTER_WORKERS", "2")],
            &[],
            "2 workers",
        ),
        (
            &[("WEB_CONCURRENCY", ""), ("MCLUSTER_WORKERS", "2")],
            &[],
            "2 workers",
        ),
    ];
    for (variables, arguments, words) in cases {
        let mut all = arguments.to_vec();
        all.extend(["-l", "127.0.0.1:0"]);
        banner(variables, &all, words);
    }
}

#[test]
fn modes_and_policies() {
    let cases: [Case<'_>; 9] = [
        (&[], &[], "as processes, schedule rr"),
        (
            &[],
            &["--mode", "threads", "-s", "shared"],
            "as threads, schedule shared",
        ),
        (&[("MCLUSTER_MODE", "threads")], &[], "as threads"),
        (
            &[("MCLUSTER_MODE", "threads")],
            &["--mode", "processes"],
            "as processes",
        ),
        (&[("MCLUSTER_SCHEDULE", "shared")], &[], "schedule shared"),
        (
            &[("MCLUSTER_SCHEDULE", "shared")],
            &["-s", "rr"],
            "schedule rr",
        ),
        (&[("MCLUSTER_SCHED_POLICY", "none")], &[], "schedule shared"),
        (&[("MCLUSTER_SCHED_POLICY", "rr")], &[], "schedule rr"),
        (
            &[("MCLUSTER_SCHED_POLICY", "none")],
            &["--schedule", "rr"],
            "schedule rr",
        ),
    ];
    for (variables, arguments, words) in cases {
        let mut all = arguments.to_vec();
        all.extend(["-w", "1", "-l", "127.0.0.1:0"]);
        banner(variables, &all, words);
    }
}

#[test]
fn addresses_by_flag_and_by_variable() {
    let v4 = "http://127.0.0.1:";
    let v6 = "http://[::1]:";
    let elsewhere = "127.0.0.2:0";
    let there = "http://127.0.0.2:";
    let cases: [Case<'_>; 8] = [
        (&[("PORT", "0")], &[], v4),
        (&[("HOST", "127.0.0.2"), ("PORT", "0")], &[], there),
        (&[("HOST", "::1"), ("PORT", "0")], &[], v6),
        (&[("HOST", "[::1]"), ("PORT", "0")], &[], v6),
        (&[("MCLUSTER_LISTEN", elsewhere)], &[], there),
        (&[("MCLUSTER_LISTEN", elsewhere), ("PORT", "1")], &[], there),
        (
            &[("MCLUSTER_LISTEN", elsewhere)],
            &["-l", "127.0.0.1:0"],
            v4,
        ),
        (
            &[("HOST", "127.0.0.2"), ("PORT", "1")],
            &["-l", "127.0.0.1:0"],
            v4,
        ),
    ];
    for (variables, arguments, start) in cases {
        let mut all = arguments.to_vec();
        all.extend(["-w", "1"]);
        let url = banner(variables, &all, "1 workers");
        assert!(url.starts_with(start) && !url.ends_with(":0"), "{url}");
    }
}

#[test]
fn other_flags_by_variable() {
    let variables = [
        ("MCLUSTER_CHAOS", "true"),
        ("MCLUSTER_POOL", "7"),
        ("MCLUSTER_MAX_BODY", "4"),
        ("MCLUSTER_DRAIN_TIMEOUT", "300ms"),
    ];
    let server = Server::launch(with(&variables, &["-w", "1", "-l", "127.0.0.1:0"]));
    let mut client = Client::connect(server.address()).unwrap();
    assert!(server.log.wait(0, "mcluster ").contains("pool 7"));
    assert_eq!(client.get("/hang?ms=0").unwrap().status, 200);
    let answer = client.request("POST", "/echo", "Content-Length: 4\r\n", "four");
    assert_eq!(answer.unwrap().status, 200);
    let answer = client.request("POST", "/echo", "Content-Length: 5\r\n", "fives");
    assert_eq!(answer.unwrap().status, 413);
    server.stop();
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    let words = format!("cannot listen on {address}");
    refused(&[], &["-l", &address.to_string()], 4, &words);
    refused(&[("PORT", &port)], &[], 4, &words);
    // What could be had of several is let go of again.
    let several = ["-l", "127.0.0.1:0", "-l", &address.to_string()];
    refused(&[], &several, 4, &words);
}

#[test]
fn the_log_is_on_stderr_as_quiet_as_asked() {
    let variables = [("RUST_LOG", "off")];
    let server = Server::launch(with(&variables, &["-w", "1", "-l", "127.0.0.1:0"]));
    Client::greeted(server.address());
    let ended = server.stop();
    assert!(ended.log.is_empty(), "{:?}", ended.log);
    assert_eq!(ended.out.len(), 1);
    let variables = [("RUST_LOG", "debug")];
    let server = Server::launch(with(&variables, &["-w", "1", "-l", "127.0.0.1:0"]));
    Client::greeted(server.address());
    let ended = server.stop();
    assert!(ended.log.iter().any(|line| line.contains("DEBUG")));
    assert_eq!(ended.out.len(), 1);
}
