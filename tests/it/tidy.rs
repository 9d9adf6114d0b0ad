//! What must stay true of the sources and the documents, as tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The floors of ARCHITECTURE: a file uses its own module and those of lower floors.
const FLOORS: [(&str, u8); 15] = [
    ("cli", 7),
    ("demo", 7),
    ("main", 7),
    ("internals", 7),
    ("primary", 6),
    ("worker", 5),
    ("server", 4),
    ("app", 3),
    ("ipc", 2),
    ("pool", 2),
    ("net", 1),
    ("http", 1),
    ("metrics", 1),
    ("board", 1),
    ("sys", 0),
];

/// Uses of a module that is not on a lower floor, and why they are right.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("board", "metrics", "the scoreboard is counters, published"),
    ("cli", "demo", "the command serves the built-in application"),
];

/// The floor from which on the crate's public names are used as a user would.
const PUBLIC_FLOOR: u8 = 7;

/// What pure modules must not touch.
const PURE: [&str; 2] = ["http", "metrics"];
const IMPURE: [&str; 11] = [
    "std::net::",
    "std::fs",
    "std::io",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "log::",
    "libc::",
    "nix::",
    "mio::",
    "println!",
];
/// Values, not sockets.
const PURE_AFTER_ALL: [&str; 2] = ["std::net::Ipv4Addr", "std::net::Ipv6Addr"];

const MAN: [&str; 2] = ["man/mcluster.1", "man/mcluster.toml.5"];

const LONGEST_FILE: usize = 500;

const TOP_LEVEL: [&str; 17] = [
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "examples",
    "man",
    "src",
    "target",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust files below `folder`, by their paths from the top, with their text.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
            let path = folder.join(entry.expect("an entry").file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path);
                found.insert(path.display().to_string(), text);
            }
        }
    }
    found
}

/// `src` but for its unit tests.
fn library() -> BTreeMap<String, String> {
    let all = sources("src").into_iter();
    let tests = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    all.filter(|(path, _)| !tests(path))
        .map(|(path, mut text)| {
            let end = text.find("#[cfg(test)]\nmod tests {");
            text.truncate(end.unwrap_or(text.len()));
            (path, text)
        })
        .collect()
}

/// The same without comments.
fn code() -> BTreeMap<String, String> {
    let without = |line: &str| match line.trim_start().starts_with("//") {
        true => String::new(),
        false => line.split(" // ").next().unwrap_or_default().to_owned(),
    };
    library()
        .into_iter()
        .map(|(path, text)| {
            let lines: Vec<_> = text.lines().map(without).collect();
            (path, lines.join("\n"))
        })
        .collect()
}

/// The top module of a file, and how many modules deep the file's own is.
fn module(path: &str) -> (&str, usize) {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.trim_end_matches("/mod");
    let top = inner.split('/').next().unwrap_or_default();
    (top, inner.split('/').count())
}

fn floor(module: &str) -> Option<u8> {
    let mut floors = FLOORS.iter();
    floors.find(|(name, _)| *name == module).map(|(_, n)| *n)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The names right below the crate's root that `code` mentions, in a module `depth` deep.
fn root_names(code: &str, depth: usize) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let starts = ["crate::".to_owned(), "super::".repeat(depth)];
    for start in &starts {
        for (at, _) in code.match_indices(start.as_str()) {
            if code[..at].ends_with(|c| is_word(c) || c == ':' || c == '$') {
                continue;
            }
            let rest = &code[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(group) => names.extend(group_heads(group)),
                None => names.extend(rest.split(|c| !is_word(c)).next()),
            }
        }
    }
    names
}

/// The first name of each path in a braced list, which begins right before `group`.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let head = group[start..at].trim().split(|c| !is_word(c)).next();
                heads.extend(head.filter(|head| !head.is_empty()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn names_are_found() {
    let code = "use crate::{a::{b, c}, D};\nuse crate::e::F; super::super::g(); super::h()";
    let names: Vec<_> = root_names(code, 2).into_iter().collect();
    assert_eq!(names, ["D", "a", "e", "g"]);
}

#[test]
fn a_file_uses_its_own_module_and_lower_floors() {
    let mut problems = Vec::new();
    for (path, code) in code() {
        let (own, depth) = module(&path);
        if own == "lib" {
            continue;
        }
        let Some(height) = floor(own) else {
            problems.push(format!("{path}: {own} has no floor"));
            continue;
        };
        for name in root_names(&code, depth) {
            let excepted = EXCEPTIONS
                .iter()
                .any(|(user, used, _)| (*user, *used) == (own, name));
            let fine = match floor(name) {
                Some(other) => name == own || other < height || excepted,
                // A re-export of the crate's root.
                None => height >= PUBLIC_FLOOR,
            };
            if !fine {
                problems.push(format!("{path} (floor {height}) uses crate::{name}"));
            }
        }
    }
    none(&problems);
}

#[test]
fn protocol_and_counters_are_pure() {
    let mut problems = Vec::new();
    for (path, mut code) in code() {
        if !PURE.contains(&module(&path).0) {
            continue;
        }
        for fine in PURE_AFTER_ALL {
            code = code.replace(fine, "");
        }
        let touched = IMPURE.iter().filter(|word| code.contains(**word));
        problems.extend(touched.map(|word| format!("{path} uses {word}")));
    }
    none(&problems);
}

#[test]
fn unsafe_stays_in_one_room() {
    let mut problems = Vec::new();
    for (path, code) in code() {
        let words = code.split(|c| !is_word(c)).filter(|word| *word == "unsafe");
        if !path.starts_with("src/sys/") && words.count() > 0 {
            problems.push(format!("{path} has unsafe code"));
        }
    }
    none(&problems);
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let mut problems = Vec::new();
    let folders = ["src", "tests", "benches", "examples"];
    for (path, text) in folders.iter().flat_map(|folder| sources(folder)) {
        if !text.starts_with("//!") {
            problems.push(format!("{path} does not begin with //!"));
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            problems.push(format!("{path} has {lines} lines, over {LONGEST_FILE}"));
        }
    }
    none(&problems);
}

#[test]
fn nothing_speaks_of_one_machine() {
    let documents = ["README.md", "CHANGELOG.md", MAN[0], MAN[1]];
    let documents = documents.map(|path| (path.to_owned(), read(path)));
    let mut problems = Vec::new();
    for (path, text) in library().into_iter().chain(documents) {
        let paths = ["/home/", "/root/", "/tmp/"].into_iter();
        let found = paths.filter(|place| text.contains(place));
        problems.extend(found.map(|place| format!("{path} mentions {place}")));
    }
    none(&problems);
}

#[test]
fn the_top_level_is_tidy() {
    let entries = fs::read_dir(root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strange: Vec<_> = names
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    none(&strange);
}

/// The example of README, the crate's documentation and `examples/hello.rs` is one program. Its
/// layout differs: rustfmt sees but one of them.
#[test]
fn the_first_example_is_the_same_everywhere() {
    let readme = read("README.md");
    let library = read("src/lib.rs").replace("//! ", "").replace("//!", "");
    let hello = read("examples/hello.rs");
    let plain = |text: &str| {
        let start = text.find("fn main()").unwrap();
        let text = text[start..].split("```").next().unwrap_or_default();
        // rustfmt breaks lines, adds commas before the breaks, and braces a closure it breaks.
        text.replace(|c: char| c.is_whitespace() || ",{}".contains(c), "")
    };
    assert_eq!(plain(&readme), plain(&library), "README.md, src/lib.rs");
    assert_eq!(
        plain(&readme),
        plain(&hello),
        "README.md, examples/hello.rs"
    );
}

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
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
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
fn long_flags(line: &str) -> impl Iterator<Item = &str> {
    let words: Vec<_> = line.split_whitespace().collect();
    let pairs = (1..words.len()).filter(move |&at| words[at - 1] == "Fl");
    let words: Vec<_> = line.split_whitespace().collect();
    pairs.filter_map(move |at| words[at].strip_prefix('-'))
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
    let everywhere = others.into_iter().flatten().chain(serve);
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
    let help = help(&["serve", "--help"]);
    let environment = section("ENVIRONMENT");
    assert_eq!(variables(&environment), variables(&help));
    let man = man();
    assert_eq!(variables(&man), variables(&help));
    for name in ["WEB_CONCURRENCY", "HOST", "PORT", "LISTEN_FDS", "RUST_LOG"] {
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
