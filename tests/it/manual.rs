//! The manual pages, held against what the program says of itself and against its sources.

use crate::tidy::{is_word, none, read, root};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Command;

pub(crate) const MAN: [&str; 7] = [
    "man/mcluster.1",
    "man/mcluster-compare.1",
    "man/mcluster-loadtest.1",
    "man/mcluster-start.1",
    "man/mcluster.toml.5",
    "man/mcluster-security.7",
    "man/mcluster-state.7",
];

/// An option as `--help` shows it.
pub(crate) struct Flag {
    pub(crate) name: String,
    pub(crate) default: Option<String>,
}

/// What the program says of itself.
pub(crate) fn help(arguments: &[&str]) -> String {
    let program = Command::new(env!("CARGO_BIN_EXE_mcluster"))
        .args(arguments)
        .output()
        .expect("the program runs");
    assert!(program.status.success());
    String::from_utf8(program.stdout).expect("text")
}

/// What stands in `text` between `start` and `end`.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split(end).next()
}

pub(crate) fn flags(help: &str) -> Vec<Flag> {
    let options = help
        .split("\nOptions:\n")
        .nth(1)
        .unwrap_or_default()
        .lines();
    let mut flags: Vec<Flag> = Vec::new();
    for line in options {
        let words = line.split_whitespace();
        let long = words.take(2).find_map(|word| word.strip_prefix("--"));
        if let Some(name) = long.filter(|_| line.trim_start().starts_with('-')) {
            let name = name.trim_end_matches(',').to_owned();
            let default = None;
            flags.push(Flag { name, default });
        }
        if let (Some(default), Some(flag)) = (between(line, "[default: ", "]"), flags.last_mut()) {
            flag.default = default.split(',').next().map(str::to_owned);
        }
    }
    flags
}

fn man() -> String {
    read(MAN[0])
}

/// One section of the command's manual page, as it was written.
fn section(name: &str) -> String {
    section_of(&man(), name)
}

/// One section of a manual page.
pub(crate) fn section_of(man: &str, name: &str) -> String {
    let text = between(man, &format!("\n.Sh {name}\n"), "\n.Sh ");
    text.unwrap_or_else(|| panic!("no section {name}"))
        .to_owned()
}

/// The items of a section: the line of `.It`, and what follows it.
pub(crate) fn items(section: &str) -> impl Iterator<Item = (&str, &str)> {
    let items = section.split("\n.It ").skip(1);
    items.map(|item| item.split_once('\n').unwrap_or((item, "")))
}

/// The long flags in a line of the manual page.
pub(crate) fn long_flags(line: &str) -> impl Iterator<Item = &str> {
    let words: Vec<_> = line.split_whitespace().collect();
    let pairs = (1..words.len()).filter(move |&at| words[at - 1] == "Fl");
    let words: Vec<_> = line.split_whitespace().collect();
    pairs.filter_map(move |at| words[at].strip_prefix('-'))
}

/// The commands for a cluster that runs already.
const STEERING: [&str; 11] = [
    "status", "top", "scale", "reload", "restart", "stop", "schedule", "kill", "events", "logs",
    "list",
];

#[test]
fn the_manual_page_has_every_command() {
    let help = help(&["--help"]);
    let commands = between(&help, "\nCommands:\n", "\n\n").unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  "));
    let names: BTreeSet<_> = names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    let others = [
        "serve",
        "start",
        "unit",
        "check",
        "config",
        "completions",
        "loadtest",
        "compare",
    ];
    let known: BTreeSet<_> = others.into_iter().chain(STEERING).collect();
    assert_eq!(names, known);
    let synopsis = section("SYNOPSIS");
    for name in names {
        let mut words = synopsis.split_whitespace();
        assert!(words.any(|word| word == name), "SYNOPSIS lacks {name}");
    }
}

#[test]
fn the_manual_page_has_every_option_of_steering() {
    let steering = section("STEERING");
    let item = |flag: &str| between(&steering, &format!("\n.It Fl -{flag}"), "\n.It ");
    let mut problems = Vec::new();
    for command in STEERING {
        if !steering.contains(&format!("\n.It Cm {command}")) {
            problems.push(format!("STEERING lacks {command}"));
        }
        for Flag { name, default } in flags(&help(&[command, "--help"])) {
            if name == "help" {
                continue;
            }
            match (item(&name), default) {
                (None, _) => problems.push(format!("STEERING lacks --{name}")),
                (Some(text), Some(default)) => {
                    let word = default.split(' ').next().unwrap_or_default();
                    if !text.contains(word) {
                        problems.push(format!("no default of --{name}: {default}"));
                    }
                }
                (Some(_), None) => {}
            }
        }
    }
    none(&problems);
}

#[test]
fn the_manual_page_has_every_option_and_no_other() {
    let serve = flags(&help(&["serve", "--help"]));
    assert!(serve.len() > 10, "the help was understood");
    let options = section("OPTIONS");
    let mut described = BTreeMap::new();
    for (line, text) in items(&options) {
        described.extend(long_flags(line).map(|flag| (flag, text)));
    }
    let mut problems = Vec::new();
    for Flag { name, default } in &serve {
        match (described.get(name.as_str()), default) {
            (None, _) => problems.push(format!("OPTIONS lacks --{name}")),
            (Some(text), Some(default)) if !text.contains(default.as_str()) => {
                problems.push(format!("OPTIONS lacks the default of --{name}: {default}"));
            }
            _ => {}
        }
    }
    let others = [&["--help"][..], &["config", "--help"]].map(|words| flags(&help(words)));
    let steering = STEERING.map(|command| flags(&help(&[command, "--help"])));
    let everywhere = others.into_iter().chain(steering).flatten().chain(serve);
    let known: BTreeSet<String> = everywhere.map(|flag| flag.name).collect();
    let man = man();
    let mentioned = man.lines().flat_map(long_flags);
    let unknown = mentioned.filter(|flag| !known.contains(*flag));
    problems.extend(unknown.map(|flag| format!("there is no --{flag}")));
    none(&problems);
}

/// All words that begin with `MCLUSTER_`.
pub(crate) fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c| !is_word(c));
    words
        .filter(|word| word.len() > "MCLUSTER_".len() && word.starts_with("MCLUSTER_"))
        .collect()
}

#[test]
fn the_manual_page_has_every_variable_and_no_other() {
    let mut helps = help(&["serve", "--help"]);
    helps.extend(STEERING.map(|command| help(&[command, "--help"])));
    let environment = section("ENVIRONMENT");
    assert_eq!(variables(&environment), variables(&helps));
    let man = man();
    assert_eq!(variables(&man), variables(&helps));
    for name in [
        "WEB_CONCURRENCY",
        "HOST",
        "PORT",
        "LISTEN_FDS",
        "RUST_LOG",
        "XDG_RUNTIME_DIR",
    ] {
        assert!(environment.contains(name), "{name}");
    }
}

#[test]
fn the_manual_page_has_every_route_and_no_other() {
    let demo = read("src/demo.rs");
    let calls = [".get(\"", ".post(\"", ".put(\"", ".delete(\"", ".patch(\""];
    let found = calls.iter().flat_map(|call| demo.split(call).skip(1));
    let routes: BTreeSet<&str> = found
        .filter_map(|rest| rest.split(['"', '{']).next())
        .collect();
    assert!(routes.contains("/heavy"), "the routes were found");
    let section = section("ROUTES");
    let described: BTreeSet<&str> = items(&section)
        .filter_map(|(line, _)| line.split_once("Pa ")?.1.split_whitespace().next())
        .collect();
    assert_eq!(described, routes);
}

#[test]
fn the_manual_page_has_every_exit_status_and_no_other() {
    let error = read("src/primary/error.rs");
    let body = between(&error, "fn exit_code", "\n    }\n").unwrap();
    let numbers = body
        .split("=> ")
        .skip(1)
        .filter_map(|rest| rest.split(',').next());
    let mut codes: BTreeSet<u8> = numbers.filter_map(|number| number.parse().ok()).collect();
    assert!(!codes.is_empty(), "the numbers were found");
    codes.insert(0);
    let section = section("EXIT STATUS");
    let described: BTreeSet<u8> = items(&section)
        .map(|(line, _)| line.trim().parse().unwrap())
        .collect();
    assert_eq!(described, codes);
}

#[test]
fn the_manual_pages_are_well_formed() {
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(MAN)
        .current_dir(root())
        .output();
    match lint {
        Ok(lint) => {
            let said = String::from_utf8_lossy(&lint.stdout).into_owned();
            let said = said + &String::from_utf8_lossy(&lint.stderr);
            assert!(lint.status.success() && said.is_empty(), "{said}");
        }
        // Past libtest, which would keep the line of a test that passes to itself.
        Err(error) => {
            let line = format!("skipped: the manual pages are not checked: mandoc: {error}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}
