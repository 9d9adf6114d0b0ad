//! The configuration file: what it may say, what it wins over, and what `check` and `config` say of
//! it. Holds the keys of mcluster.toml(5) and the flags of `serve --help` equal.

use crate::client::Client;
use crate::manual::{flags, help, items, section_of};
use crate::support::{Directory, Server, address_of, command, output};
use crate::tidy::read;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

/// A directory with this `mcluster.toml` in it.
fn directory(text: &str) -> Directory {
    let directory = Directory::new();
    fs::write(directory.file("mcluster.toml"), text).unwrap();
    directory
}

/// The binary in a directory.
fn inside(directory: &Directory, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = command(arguments);
    command.current_dir(directory.file("."));
    command.envs(variables.iter().copied());
    command
}

/// What it says on stdout, where nothing is wrong.
#[track_caller]
fn said(directory: &Directory, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = output(inside(directory, arguments, variables));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    assert_eq!(errors, "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says on stderr, and nothing on stdout, with that exit status.
#[track_caller]
fn refused(
    directory: &Directory,
    arguments: &[&str],
    variables: &[(&str, &str)],
    status: i32,
) -> String {
    let output = output(inside(directory, arguments, variables));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {errors}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?}");
    errors
}

/// The line of one key in what `config` prints.
fn line<'a>(text: &'a str, key: &str) -> &'a str {
    let starts = [format!("{key} = "), format!("# {key}  ")];
    let mut lines = text.lines();
    lines
        .find(|line| starts.iter().any(|start| line.starts_with(start)))
        .unwrap_or_else(|| panic!("no {key} in {text}"))
}

/// The lines without the comments.
fn values(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split("  # ").next().unwrap())
        .collect()
}

#[test]
fn flag_before_variable_before_file_before_platform_before_default() {
    let nothing = Directory::new();
    let file = directory("workers = 5\nschedule = 'shared'\nmax-body = '5M'\n");
    let platform = ("WEB_CONCURRENCY", "7");
    let node = ("MCLUSTER_SCHED_POLICY", "none");
    type Case<'a> = (
        &'a Directory,
        &'a [&'a str],
        &'a [(&'a str, &'a str)],
        &'a str,
        &'a str,
    );
    let own = ("MCLUSTER_WORKERS", "6");
    let cases: [Case<'_>; 13] = [
        (
            &nothing,
            &[],
            &[],
            "workers",
            "workers = \"max\"  # default",
        ),
        (
            &nothing,
            &[],
            &[platform],
            "workers",
            "workers = 7  # WEB_CONCURRENCY",
        ),
        (
            &file,
            &[],
            &[platform],
            "workers",
            "workers = 5  # mcluster.toml",
        ),
        (
            &file,
            &[],
            &[platform, own],
            "workers",
            "workers = 6  # MCLUSTER_WORKERS",
        ),
        (
            &file,
            &["-i", "8"],
            &[platform, own],
            "workers",
            "workers = 8  # --workers",
        ),
        // A variable that would not count is not looked at.
        (
            &file,
            &[],
            &[("WEB_CONCURRENCY", "x")],
            "workers",
            "workers = 5  # mcluster.toml",
        ),
        (
            &nothing,
            &[],
            &[node],
            "schedule",
            "schedule = \"shared\"  # MCLUSTER_SCHED_POLICY",
        ),
        (
            &nothing,
            &["-s", "rr"],
            &[node],
            "schedule",
            "schedule = \"rr\"  # --schedule",
        ),
        (
            &file,
            &[],
            &[node],
            "schedule",
            "schedule = \"shared\"  # mcluster.toml",
        ),
        (
            &file,
            &[],
            &[],
            "max-body",
            "max-body = \"5M\"  # mcluster.toml",
        ),
        (
            &file,
            &[],
            &[("MCLUSTER_MAX_BODY", "6M")],
            "max-body",
            "max-body = \"6M\"  # MCLUSTER_MAX_BODY",
        ),
        // Empty is not set.
        (
            &file,
            &[],
            &[("MCLUSTER_WORKERS", "")],
            "workers",
            "workers = 5  # mcluster.toml",
        ),
        (
            &nothing,
            &[],
            &[("WEB_CONCURRENCY", "")],
            "workers",
            "workers = \"max\"  # default",
        ),
    ];
    for (place, flags, variables, key, expected) in cases {
        let text = said(place, &[&["config"], flags].concat(), variables);
        assert_eq!(line(&text, key), expected, "{flags:?} {variables:?}");
    }
}

#[test]
fn addresses_are_lists_wherever_they_are_from() {
    let nothing = Directory::new();
    let file = directory("listen = [':5', 'unix:a,b.sock']\n");
    let own = ("MCLUSTER_LISTEN", ":6, :7");
    let platform = [("HOST", "::1"), ("PORT", "8")];
    let expected = "listen = [\"[::1]:8\"]  # HOST and PORT";
    assert_eq!(
        line(&said(&nothing, &["config"], &platform), "listen"),
        expected
    );
    let expected = "listen = [\":5\", \"unix:a,b.sock\"]  # mcluster.toml";
    assert_eq!(
        line(&said(&file, &["config"], &platform), "listen"),
        expected
    );
    let expected = "listen = [\":6\", \":7\"]  # MCLUSTER_LISTEN";
    assert_eq!(line(&said(&file, &["config"], &[own]), "listen"), expected);
    let flags = ["config", "-l", "unix:c,d", "-l", ":9"];
    let expected = "listen = [\"unix:c,d\", \":9\"]  # --listen";
    assert_eq!(line(&said(&file, &flags, &[own]), "listen"), expected);
    let text = said(&nothing, &["config"], &[]);
    assert!(line(&text, "listen").starts_with("# listen  # default: 127.0.0.1:3000"));
    // The sockets of a service manager come after all of these: nothing is set.
    let text = said(&file, &["config"], &[("MCLUSTER_LISTEN", "")]);
    assert!(line(&text, "listen").ends_with("# mcluster.toml"));
}

#[test]
fn flags_that_take_no_value() {
    let on = directory("chaos = true\n");
    let off = directory("chaos = false\n");
    for (place, flags, variable, expected) in [
        (&on, &["config"][..], "", "chaos = true  # mcluster.toml"),
        (&off, &["config"], "", "chaos = false  # mcluster.toml"),
        (&off, &["config"], "yes", "chaos = true  # MCLUSTER_CHAOS"),
        (&on, &["config"], "off", "chaos = false  # MCLUSTER_CHAOS"),
        (
            &off,
            &["config", "--chaos"],
            "off",
            "chaos = true  # --chaos",
        ),
    ] {
        let text = said(place, flags, &[("MCLUSTER_CHAOS", variable)]);
        assert_eq!(line(&text, "chaos"), expected);
    }
}

#[test]
fn no_variable_that_is_empty_counts() {
    let nothing = Directory::new();
    let usual = said(&nothing, &["config"], &[]);
    let serve = help(&["serve", "--help"]);
    let names = crate::manual::variables(&serve);
    assert!(names.len() > 10 && names.contains("MCLUSTER_CONFIG"));
    let mut all: Vec<_> = names.into_iter().map(|name| (name, "")).collect();
    all.extend([("HOST", ""), ("PORT", ""), ("WEB_CONCURRENCY", "")]);
    assert_eq!(said(&nothing, &["config"], &all), usual);
}

#[test]
fn the_server_does_what_the_file_says() {
    let file = directory(
        "mode = 'threads'\nworkers = 2\nlisten = ['127.0.0.1:0', 'unix:a.sock']\nchaos = true\n",
    );
    let empty = [("MCLUSTER_LISTEN", ""), ("RUST_LOG", "")];
    let server = Server::launch(inside(&file, &[], &empty));
    let urls = server.urls(2);
    server.log.wait(0, "configuration from mcluster.toml");
    assert!(
        server
            .log
            .wait(0, "mcluster ")
            .contains("2 workers (as asked) as threads")
    );
    let mut client = Client::connect(address_of(&urls[0])).unwrap();
    assert_eq!(client.get("/hang?ms=0").unwrap().status, 200);
    assert!(urls[1].ends_with("a.sock"));
    server.stop();
}

#[test]
fn a_file_may_lie_elsewhere() {
    let place = directory("workers = 1\n");
    let other = place.file("other.toml");
    let other = other.to_str().unwrap();
    fs::write(other, "workers = 2\n").unwrap();
    let by_flag = said(&place, &["config", "--config", "other.toml"], &[]);
    assert_eq!(line(&by_flag, "workers"), "workers = 2  # other.toml");
    let variable = [("MCLUSTER_CONFIG", other)];
    let by_variable = said(&Directory::new(), &["config"], &variable);
    assert_eq!(
        line(&by_variable, "workers"),
        format!("workers = 2  # {other}")
    );
    let both = said(&place, &["config", "--config", "mcluster.toml"], &variable);
    assert_eq!(line(&both, "workers"), "workers = 1  # mcluster.toml");
}

#[test]
fn what_is_wrong_with_a_file() {
    let cases = [
        (
            "worker = 2\n",
            "mcluster.toml:1: worker: there is no such key; did you mean workers?",
        ),
        ("# one\n\nmax_body = 1", "mcluster.toml:3: max_body: "),
        (
            "workers = true",
            "workers: it is a string or a number, no boolean",
        ),
        ("mode = 'fibers'", "mode: \"fibers\" is no mode"),
        ("workers = ", "mcluster.toml:1: "),
        (
            "[serve]\nworkers = 1",
            "mcluster.toml:1: serve: there is no such table",
        ),
    ];
    for (text, expected) in cases {
        let place = directory(text);
        let path = place.file("mcluster.toml");
        let named = ["--config", path.to_str().unwrap()];
        for arguments in [
            &["check"][..],
            &["config"],
            &["config", "--json"],
            &["serve"],
            &[],
        ] {
            let said = refused(&place, arguments, &[], 3);
            assert!(said.starts_with("mcluster: "), "{text:?}: {said}");
            assert!(said.contains(expected), "{text:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{text:?}: {said}");
            refused(&Directory::new(), &[arguments, &named].concat(), &[], 3);
        }
    }
}

#[test]
fn files_that_are_none() {
    let place = Directory::new();
    fs::create_dir(place.file("folder")).unwrap();
    fs::write(place.file("bytes"), b"workers = '\xff'").unwrap();
    fs::write(place.file("long"), "#\n".repeat(1 << 20)).unwrap();
    for (path, why) in [
        ("absent", "No such file"),
        ("folder", "Is a directory"),
        ("bytes", "UTF-8"),
        ("long", "longer than 1M"),
        ("/dev/zero", "longer than 1M"),
    ] {
        for command in ["check", "config", "serve"] {
            let said = refused(&place, &[command, "--config", path], &[], 3);
            assert!(said.contains(&format!("mcluster: {path}: ")), "{said}");
            assert!(said.contains(why), "{said}");
        }
    }
    // What nobody asked for may be absent, but what is there must be a file.
    fs::create_dir(place.file("mcluster.toml")).unwrap();
    let said = refused(&place, &["check"], &[], 3);
    assert!(said.contains("mcluster.toml: Is a directory"), "{said}");
}

#[test]
fn check_says_what_it_checked() {
    let place = directory("listen = '192.0.2.1:1'\n");
    assert_eq!(said(&place, &["check"], &[]), "mcluster.toml: ok\n");
    let path = place.file("mcluster.toml");
    let path = path.to_str().unwrap();
    let nothing = Directory::new();
    assert_eq!(
        said(&nothing, &["check", "--config", path], &[]),
        format!("{path}: ok\n")
    );
    assert_eq!(said(&nothing, &["check"], &[]), "no mcluster.toml: ok\n");
    // Flags and variables are usage, wherever they stand.
    refused(&place, &["check", "--mode", "fibers"], &[], 2);
    refused(&place, &["check"], &[("MCLUSTER_MODE", "fibers")], 2);
    refused(&place, &["check"], &[("MCLUSTER_LISTEN", "3000")], 2);
    let said = refused(&nothing, &["check"], &[("PORT", "http")], 2);
    assert!(said.contains("HOST and PORT: "), "{said}");
}

#[test]
fn what_config_prints_is_a_file() {
    let place =
        directory("chaos = true\nlisten = ['unix:a\"b\\é,#.sock', ':0']\nworkers = '50%'\n");
    let flags = ["config", "--max-body", "7M", "--max-headers", "50"];
    let first = said(&place, &flags, &[("MCLUSTER_DRAIN_TIMEOUT", "3s")]);
    fs::write(place.file("again.toml"), &first).unwrap();
    let second = said(&place, &["config", "--config", "again.toml"], &[]);
    assert_eq!(values(&second), values(&first));
    for line in second.lines() {
        assert!(
            line.ends_with("  # again.toml") || line.starts_with("# "),
            "{line}"
        );
    }
    fs::write(
        place.file("defaults.toml"),
        said(&Directory::new(), &["config"], &[]),
    )
    .unwrap();
    said(&place, &["check", "--config", "defaults.toml"], &[]);
}

#[test]
fn config_as_json() {
    let place = directory("chaos = true\nlisten = [':0', 'unix:\"']\nworkers = 3\n");
    let text = said(&place, &["config", "--json", "--mode", "threads"], &[]);
    assert!(text.starts_with("{\n") && text.ends_with("}\n"), "{text}");
    for expected in [
        "\"mode\": {\"value\": \"threads\", \"source\": \"--mode\"}",
        "\"workers\": {\"value\": 3, \"source\": \"mcluster.toml\"}",
        "\"listen\": {\"value\": [\":0\", \"unix:\\\"\"], \"source\": \"mcluster.toml\"}",
        "\"chaos\": {\"value\": true, \"source\": \"mcluster.toml\"}",
        "\"max-head\": {\"value\": \"16k\", \"source\": \"default\"}",
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
    let text = said(&Directory::new(), &["config", "--json"], &[]);
    assert!(
        text.contains("\"listen\": {\"value\": null, \"source\": \"default\"}"),
        "{text}"
    );
}

#[test]
fn every_option_is_printed() {
    let text = said(&Directory::new(), &["config"], &[]);
    for key in keys() {
        line(&text, &key);
    }
}

#[test]
fn completions_for_each_shell() {
    // A broken file is of no concern to them.
    let place = directory("nonsense");
    for (shell, words) in [
        ("bash", "complete "),
        ("zsh", "#compdef"),
        ("fish", "complete "),
    ] {
        let script = said(&place, &["completions", shell], &[]);
        assert!(script.contains(words), "{shell}");
        // fish has the name without its dashes.
        assert!(
            script.contains("workers") && script.contains("max-head"),
            "{shell}"
        );
        assert_eq!(script.contains("--workers"), shell != "fish", "{shell}");
    }
    let said = refused(&place, &["completions", "tcsh"], &[], 2);
    assert!(said.contains("bash, zsh, fish"), "{said}");
}

/// The flags of `serve` that a file may have.
fn keys() -> BTreeSet<String> {
    let serve = flags(&help(&["serve", "--help"]));
    let names = serve.into_iter().map(|flag| flag.name);
    names
        .filter(|name| !["help", "config"].contains(&name.as_str()))
        .collect()
}

#[test]
fn the_manual_page_has_every_key_with_its_default() {
    let page = read("man/mcluster.toml.5");
    let section = section_of(&page, "KEYS");
    let mut described = BTreeMap::new();
    for (line, text) in items(&section) {
        let key = line.strip_prefix("Ic ").unwrap_or_else(|| panic!("{line}"));
        described.insert(key.split(' ').next().unwrap().to_owned(), text.to_owned());
    }
    let found: BTreeSet<String> = described.keys().cloned().collect();
    assert_eq!(found, keys());
    for flag in flags(&help(&["serve", "--help"])) {
        if let (Some(text), Some(default)) = (described.get(&flag.name), flag.default) {
            assert!(
                text.contains(&default),
                "the default of {}: {default}",
                flag.name
            );
        }
    }
}

#[test]
fn the_examples_of_the_manual_page_are_valid() {
    let page = read("man/mcluster.toml.5");
    let examples = section_of(&page, "EXAMPLES");
    let blocks = examples.split(".Bd -literal -offset indent\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split(".Ed").next()).collect();
    assert!(!blocks.is_empty(), "the examples were found");
    for text in blocks {
        let place = directory(&text.replace("\\(dq", "\""));
        assert_eq!(
            said(&place, &["check"], &[]),
            "mcluster.toml: ok\n",
            "{text}"
        );
    }
}
