//! `mcluster unit`: a unit of systemd's for a cluster that runs, or for an application of a file.
//!
//! Values in, text out; what a running cluster was started with is read from /proc.

use super::super::flags::{Cli, Command};
use super::super::table::plain;
use super::flags::{Manager, Start, Unit};
use super::plan;
use crate::{Error, Result};
use clap::{Arg, Args, Parser};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What systemd waits beyond our own limit before it kills.
const BEYOND: Duration = Duration::from_secs(5);

/// How a cluster is started.
#[derive(Debug)]
struct Started {
    name: String,
    program: PathBuf,
    /// Without the program's own name.
    arguments: Vec<OsString>,
    directory: PathBuf,
    /// Its user, where that is not the one who asks.
    user: Option<u32>,
}

/// Prints the unit that is asked for.
///
/// # Errors
///
/// When there is neither such a cluster nor such an application.
pub(in crate::cli) fn print_unit(unit: &Unit) -> Result<()> {
    let Manager::Systemd = unit.manager;
    let started = match unit.cluster.status() {
        Ok((_, status)) => running(status.name, status.pid)?,
        Err(error) => of_file(unit)?.ok_or(error)?,
    };
    super::super::print(&text(&started, crate::sys::process::user_id() == 0))
}

/// What /proc says of a cluster that runs.
fn running(name: String, pid: i32) -> Result<Started> {
    let place = PathBuf::from(format!("/proc/{pid}"));
    let failed = Error::io("what the cluster was started with");
    let look = || {
        let program = fs::read_link(place.join("exe"))?;
        let directory = fs::read_link(place.join("cwd"))?;
        let line = fs::read(place.join("cmdline"))?;
        Ok((program, directory, line, fs::metadata(&place)?.uid()))
    };
    let (program, directory, line, user) = look().map_err(failed)?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let words = line.split(|&byte| byte == 0).skip(1);
    let words = words.map(|word| OsString::from_vec(word.to_vec()));
    Ok(Started {
        name,
        program: without_deleted(program),
        arguments: in_foreground(words),
        directory,
        user: Some(user),
    })
}

/// The kernel's name for a file that was replaced since, by an upgrade say, is not that of the new one.
fn without_deleted(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => PathBuf::from(OsStr::from_bytes(path)),
        None => path,
    }
}

/// The same command without what puts it into the background, or makes it a part of another one.
fn in_foreground(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let words: Vec<_> = words.collect();
    if words.first().is_none_or(|first| first != "start") {
        return words;
    }
    let command = Start::augment_args(clap::Command::new("start"));
    let mut kept: Vec<Word> = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            kept.push(Word::other(word));
            kept.extend(words.map(Word::other));
            break;
        }
        if let Some(flag) = text.strip_prefix("--") {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.into())),
                None => (flag, None),
            };
            match command.get_arguments().find(|arg| is_long(arg, name)) {
                None => kept.push(Word::other(word)),
                Some(arg) => kept.push(Word::of(arg, format!("--{name}"), value, &mut words)),
            }
        } else if let Some(mut flags) = text.strip_prefix('-').filter(|flags| !flags.is_empty()) {
            while let Some(flag) = flags.chars().next() {
                flags = &flags[flag.len_utf8()..];
                let Some(arg) = command.get_arguments().find(|arg| is_short(arg, flag)) else {
                    continue;
                };
                let mut value = None;
                if arg.get_action().takes_values() && !flags.is_empty() {
                    let rest = std::mem::take(&mut flags);
                    value = Some(rest.strip_prefix('=').unwrap_or(rest).into());
                }
                kept.push(Word::of(arg, format!("-{flag}"), value, &mut words));
            }
        } else {
            kept.push(Word::other(word));
        }
    }
    written(kept)
}

/// A flag with its value, or what is none.
struct Word {
    /// clap's name for it.
    id: String,
    words: Vec<OsString>,
}

impl Word {
    fn other(word: OsString) -> Self {
        Self {
            id: String::new(),
            words: vec![word],
        }
    }

    /// A flag, whose value is here or in the next word.
    fn of(
        arg: &Arg,
        flag: String,
        value: Option<OsString>,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Self {
        let mut words = vec![OsString::from(flag)];
        if arg.get_action().takes_values() {
            words.extend(value.or_else(|| rest.next()));
        }
        let id = arg.get_id().to_string();
        Self { id, words }
    }
}

fn is_long(arg: &Arg, name: &str) -> bool {
    let others = arg.get_all_aliases().unwrap_or_default();
    arg.get_long() == Some(name) || others.contains(&name)
}

fn is_short(arg: &Arg, flag: char) -> bool {
    let others = arg.get_all_short_aliases().unwrap_or_default();
    arg.get_short() == Some(flag) || others.contains(&flag)
}

/// What runs in the foreground, and of several applications the one that it is.
fn written(words: Vec<Word>) -> Vec<OsString> {
    let is_part = words.iter().any(|word| word.id == "part");
    let mut all = Vec::new();
    for word in words {
        match word.id.as_str() {
            "detach" => {}
            "only" if is_part => {}
            "part" => {
                let part = word.words.last().map(|part| part.to_string_lossy());
                if let Some((_, name)) = part.unwrap_or_default().split_once(':') {
                    all.extend([OsString::from("--only"), name.into()]);
                }
            }
            "node_args" => {
                // With the sign it may begin with a dash, whoever reads it.
                let mut flag = word.words.into_iter();
                let mut one = flag.next().unwrap_or_default();
                one.push("=");
                one.push(flag.next().unwrap_or_default());
                all.push(one);
            }
            _ => all.extend(word.words),
        }
    }
    all
}

/// The application of that name in a file.
fn of_file(unit: &Unit) -> Result<Option<Started>> {
    let path = match &unit.config {
        Some(path) => path.as_path(),
        None => Path::new(super::super::file::USUAL),
    };
    let name = unit.cluster.name();
    if !plan::of_file(path)?.iter().any(|app| app.name == name) {
        return Ok(None);
    }
    let failed = Error::io("where this program is");
    let look = || Ok((std::env::current_exe()?, std::env::current_dir()?));
    let (program, directory) = look().map_err(failed)?;
    let words = ["start", "--config"].map(OsString::from);
    let mut arguments = words.to_vec();
    arguments.push(
        std::path::absolute(path)
            .unwrap_or_else(|_| path.into())
            .into(),
    );
    arguments.extend(["--only".into(), name.into()]);
    Ok(Some(Started {
        name: name.to_owned(),
        program,
        arguments,
        directory,
        user: None,
    }))
}

/// How long the cluster takes to stop, by what it was started with.
fn stop_time(started: &Started) -> Duration {
    let words = [OsString::from("mcluster")].into_iter();
    let words = words.chain(started.arguments.iter().cloned()).collect();
    let cli = Cli::try_parse_from(super::super::with_subcommand(words));
    let time = match cli.map(|cli| cli.command) {
        Ok(Command::Start(start)) => start.options.drain_timeout,
        Ok(Command::Serve(serve)) => serve.drain_timeout.saturating_add(serve.drain_delay),
        _ => Duration::from_secs(30),
    };
    time.saturating_add(BEYOND)
}

fn text(started: &Started, is_root: bool) -> String {
    let Started { name, user, .. } = started;
    let mut words = vec![quoted(started.program.as_os_str(), true)];
    words.extend(started.arguments.iter().map(|word| quoted(word, false)));
    let line = words.join(" ");
    let directory = path(&started.directory);
    let stop = stop_time(started).as_secs();
    let user = match (is_root, user) {
        (true, Some(user)) => format!("User={user}\n"),
        (true, None) => "User=root\n".to_owned(),
        (false, _) => String::new(),
    };
    let target = match is_root {
        true => "multi-user.target",
        false => "default.target",
    };
    format!(
        "\
[Unit]
Description=mcluster {name}
After=network.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={line}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={directory}
{user}KillMode=mixed
TimeoutStopSec={stop}
Restart=always

[Install]
WantedBy={target}
"
    )
}

/// One word of a command as systemd takes it apart (systemd.service(5), COMMAND LINES): `$` and `%`
/// doubled where they would be replaced, quotes where blanks or the like are in it.
fn quoted(word: &OsStr, is_program: bool) -> String {
    let mut text = String::new();
    for chunk in word.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '%' => text.push_str("%%"),
                // No variable is put in for the program's own name.
                '$' if !is_program => text.push_str("$$"),
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                c if c.is_control() => text.push_str(&bytes(c.encode_utf8(&mut [0; 4]).as_bytes())),
                c => text.push(c),
            }
        }
        text.push_str(&bytes(chunk.invalid()));
    }
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@+%$[]*".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("\"{text}\""),
    }
}

fn bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// A path as a value: all of the line, where `%` alone means something.
fn path(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    plain(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(words: &[&str]) -> Started {
        Started {
            name: "api".to_owned(),
            program: "/usr/bin/mcluster".into(),
            arguments: in_foreground(words.iter().map(OsString::from)),
            directory: "/srv/100% api".into(),
            user: Some(33),
        }
    }

    #[test]
    fn a_unit() {
        let words = [
            "start",
            "-d",
            "app.js",
            "-i",
            "4",
            "--drain-timeout",
            "1m",
            "--env",
            "A=b c",
            "--",
            "-d",
            "50%",
            "$HOME",
        ];
        let expected = "\
[Unit]
Description=mcluster api
After=network.target

[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/mcluster start app.js -i 4 --drain-timeout 1m --env \"A=b c\" -- -d 50%% $$HOME
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory=/srv/100%% api
User=33
KillMode=mixed
TimeoutStopSec=65
Restart=always

[Install]
WantedBy=multi-user.target
";
        assert_eq!(text(&started(&words), true), expected);
        let of_user = text(&started(&["--workers", "2"]), false);
        assert!(!of_user.contains("User=") && of_user.contains("default.target"));
        assert!(of_user.contains("TimeoutStopSec=35\n"), "{of_user}");
    }

    #[test]
    fn words_of_a_command() {
        let cases = [
            ("app.js", "app.js"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("it's", "\"it's\""),
            ("\"\\", "\"\\\"\\\\\""),
            ("a;b", "\"a;b\""),
            ("a\nb\u{1b}", "\"a\\nb\\x1b\""),
            ("100%", "100%%"),
            ("$A ${B}", "\"$$A $${B}\""),
        ];
        for (word, expected) in cases {
            assert_eq!(quoted(OsStr::new(word), false), expected, "{word:?}");
        }
        assert_eq!(quoted(OsStr::new("/a$b"), true), "/a$b");
        assert_eq!(quoted(OsStr::from_bytes(b"\xff"), false), "\"\\xff\"");
    }

    #[test]
    fn parts_and_what_was_in_the_background() {
        let cases: [(&[&str], &[&str]); 6] = [
            (
                &["start", "--part", "7:api", "--config", "a", "--detach"],
                &["start", "--only", "api", "--config", "a"],
            ),
            (
                &["start", "-di", "1", "app.js"],
                &["start", "-i", "1", "app.js"],
            ),
            (
                &["start", "-di4", "-w=2", "app.js", "--instances=3"],
                &["start", "-i", "4", "-w", "2", "app.js", "--instances", "3"],
            ),
            (
                &["start", "--part", "0:a", "--only", "a,b", "-d"],
                &["start", "--only", "a"],
            ),
            (
                &[
                    "start",
                    "--node-args",
                    "-d",
                    "--node-args=--x",
                    "a.js",
                    "-d",
                ],
                &["start", "--node-args=-d", "--node-args=--x", "a.js"],
            ),
            (
                &["--workers", "2", "--log-format", "json"],
                &["--workers", "2", "--log-format", "json"],
            ),
        ];
        for (words, expected) in cases {
            assert_eq!(started(words).arguments, expected, "{words:?}");
        }
        assert_eq!(
            without_deleted("/usr/bin/mcluster (deleted)".into()),
            Path::new("/usr/bin/mcluster")
        );
    }
}
