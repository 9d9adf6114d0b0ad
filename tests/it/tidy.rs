//! What must stay true of the sources, as tests.

use crate::manual::MAN;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of ARCHITECTURE: a file uses its own module and those of lower floors.
const FLOORS: [(&str, u8); 22] = [
    ("cli", 7),
    ("demo", 7),
    ("main", 7),
    ("internals", 7),
    ("compare", 7),
    ("primary", 6),
    ("loadtest", 6),
    ("worker", 5),
    ("server", 4),
    ("app", 3),
    ("client", 2),
    ("ipc", 2),
    ("pool", 2),
    ("spawn", 2),
    ("net", 1),
    ("http", 1),
    ("metrics", 1),
    ("board", 1),
    ("status", 1),
    ("runtime", 1),
    ("sorted", 0),
    ("sys", 0),
];

/// Uses of a module that is not on a lower floor, and why they are right.
const EXCEPTIONS: [(&str, &str, &str); 5] = [
    (
        "sys",
        "sorted",
        "vectors in order, which ask the system for nothing",
    ),
    ("board", "metrics", "the scoreboard is counters, published"),
    (
        "status",
        "metrics",
        "what it tells is arithmetic of counters",
    ),
    ("cli", "demo", "the command serves the built-in application"),
    ("cli", "compare", "the command compares it with itself"),
];

/// All that the load generator may see: it knows nothing of servers.
const LOADTEST: [&str; 6] = ["loadtest", "net", "http", "metrics", "sorted", "sys"];

/// The floor from which on the crate's public names are used as a user would.
const PUBLIC_FLOOR: u8 = 7;

/// What pure modules must not touch.
const PURE: [&str; 3] = ["http", "metrics", "status"];
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
const PURE_AFTER_ALL: [&str; 4] = [
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
];

const LONGEST_FILE: usize = 500;

const TOP_LEVEL: [&str; 18] = [
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
    "build.rs",
    "clippy.toml",
    "examples",
    "man",
    "src",
    "target",
    "tests",
];

pub(crate) fn root() -> &'static Path {
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

pub(crate) fn is_word(c: char) -> bool {
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

pub(crate) fn none(problems: &[String]) {
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
fn the_load_generator_knows_no_server() {
    let mut problems = Vec::new();
    for (path, code) in code() {
        let (own, depth) = module(&path);
        if own != "loadtest" {
            continue;
        }
        let names = root_names(&code, depth).into_iter();
        let strange = names.filter(|name| !LOADTEST.contains(name));
        problems.extend(strange.map(|name| format!("{path} uses crate::{name}")));
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
    let documents = ["README.md", "CHANGELOG.md"].into_iter().chain(MAN);
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
