//! The files of `examples/two-machines`, as their own programs read them.
//!
//! Owns finding these programs, and copies of the files with words replaced; leaves running them to
//! `machines`. Where a program is absent, one line says so and the test passes.

use crate::support::Directory;
use crate::tidy::read;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "examples/two-machines";

/// What is not there, and so nothing can be tested.
#[derive(Debug)]
pub(crate) struct Missing(String);

impl Missing {
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a program is. Those of administrators are often not on the path.
pub(crate) fn tool(name: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let folders = folders.chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut places = folders.map(|folder| folder.join(name));
    let found = places.find(|place| place.is_file());
    found.ok_or_else(|| Missing(format!("{name} is not installed")))
}

/// Says past libtest why nothing is tested: it would keep the line of a test that passes to itself.
pub(crate) fn skipped(what: &str, missing: &Missing) {
    let line = format!("skipped: {what}: {missing}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

/// A file of the example with some of its words replaced, each of which must be there.
#[track_caller]
pub(crate) fn example(directory: &Directory, name: &str, words: &[(&str, &str)]) -> String {
    let mut text = read(format!("{FOLDER}/{name}"));
    for (there, here) in words {
        assert!(text.contains(there), "{name} lacks {there}");
        text = text.replace(there, here);
    }
    let path = directory.file(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Whether a tool takes its file.
#[track_caller]
fn accepts(name: &str, arguments: impl Fn(&Directory) -> Vec<String>) {
    let path = match tool(name) {
        Ok(path) => path,
        Err(missing) => return skipped(FOLDER, &missing),
    };
    let directory = Directory::new();
    let check = Command::new(path)
        .args(arguments(&directory))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    // It is a module of its own.
    if said.contains("unknown directive \"stream\"") {
        return skipped(FOLDER, &Missing::of("nginx has no stream module"));
    }
    assert!(check.status.success(), "{said}");
    assert!(!said.to_lowercase().contains("warn"), "{said}");
}

#[test]
fn haproxy_accepts_its_file() {
    accepts("haproxy", |directory| {
        let conf = example(directory, "haproxy.cfg", &[]);
        ["-c", "-f", &conf].map(str::to_owned).to_vec()
    });
}

/// With the lines that it has as comments, in place of those that they are for.
#[test]
fn haproxy_accepts_its_other_lines() {
    accepts("haproxy", |directory| {
        let text = read(format!("{FOLDER}/haproxy.cfg"));
        let is_other = |line: &str| {
            ["# cookie ", "# server "]
                .iter()
                .any(|w| line.starts_with(w))
        };
        let lines = text.lines().map(str::trim_start);
        let lines = lines.filter(|line| !line.starts_with("server "));
        let lines = lines.map(|line| match is_other(line) {
            true => &line[2..],
            false => line,
        });
        let lines: Vec<_> = lines.collect();
        assert!(lines.iter().any(|line| line.ends_with("cookie b")));
        let conf = directory.file("haproxy.cfg");
        fs::write(&conf, lines.join("\n") + "\n").unwrap();
        ["-c", "-f", conf.to_str().unwrap()]
            .map(str::to_owned)
            .to_vec()
    });
}

#[test]
fn nginx_accepts_its_file() {
    accepts("nginx", |directory| {
        // It binds even when it only checks.
        let socket = format!("unix:{}", directory.file("socket").display());
        let pid = directory.file("pid");
        let words = [
            ("10.0.0.5:80", socket.as_str()),
            ("/run/nginx.pid", pid.to_str().unwrap()),
        ];
        let conf = example(directory, "nginx.conf", &words);
        ["-t", "-e", "stderr", "-c", &conf]
            .map(str::to_owned)
            .to_vec()
    });
}

/// The addresses of the manual page and those of the files are the same.
#[test]
fn the_page_on_state_has_the_lines_of_the_files() {
    let page = read("man/mcluster-state.7").replace("\\(dq", "\"");
    let toml = read(Path::new(FOLDER).join("machine-a.toml"));
    let lines = toml.lines().filter(|line| line.contains(" = "));
    let missing: Vec<_> = lines.filter(|line| !page.contains(line)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
