//! `-d`: the cluster in a process and a session of its own, with a log in this user's state directory.
//!
//! The command that was typed goes on as the parent: it waits until the cluster is ready or has failed,
//! which it is told by a pipe, and says so.

use super::plan::App;
use crate::sys::detached;
use crate::sys::launch::FIRST_FD;
use crate::sys::process::{self, Exit, Forked, Pid};
use crate::{Error, Listen, Result};
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// The last line of a cluster that is ready.
const READY: &str = "ready";

/// How the line begins that is followed by why it is not.
const FAILED: &str = "failed ";

/// How the parent of a cluster hears of it.
#[derive(Debug)]
pub(super) struct Teller(PipeWriter);

impl Teller {
    pub(super) fn ready(mut self, addresses: &[String]) {
        let mut text = String::new();
        for address in addresses {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{address}");
        }
        // Who has not waited does not want to know.
        let _ = writeln!(self.0, "{text}{READY}");
    }

    pub(super) fn failed(mut self, error: &Error) {
        let _ = write!(self.0, "{FAILED}{}\n{error}", error.exit_code());
    }
}

/// Which of the two processes goes on.
pub(super) enum Side {
    /// The cluster's, which tells how it begins.
    Cluster(Teller),
    /// That of the command, which has said all there is to say.
    Command,
}

/// Goes on in the background, and in the foreground until it is known how that begins.
///
/// # Errors
///
/// When there can be no log or no process, and when the cluster fails to begin.
pub(super) fn detach(app: &App) -> Result<Side> {
    let path = log_path(&app.name)?;
    let log = detached::open_log(&path).map_err(|why| log_error(&path, &why))?;
    let (reader, writer) = io::pipe().map_err(Error::io("a pipe"))?;
    match process::fork().map_err(Error::io("a process for the background"))? {
        Forked::Child => {
            drop(reader);
            detached::begin_session().map_err(Error::io("a session"))?;
            detached::redirect(&log).map_err(Error::io("the log"))?;
            let closed = detached::close_inherited(&kept(app));
            closed.map_err(Error::io("what this program was started with"))?;
            Ok(Side::Cluster(Teller(writer)))
        }
        Forked::Parent(child) => {
            drop(writer);
            let text = hear(reader, child)?;
            match understood(&text) {
                Ok(addresses) => {
                    let mut lines: String = addresses
                        .iter()
                        .map(|address| format!("listening on {address}\n"))
                        .collect();
                    let _ = writeln!(
                        lines,
                        "{} runs as pid {child}, log {}",
                        app.name,
                        path.display()
                    );
                    super::super::print(&lines)?;
                    if addresses.is_empty() {
                        eprintln!("mcluster: {}: nothing listens yet", app.name);
                    }
                    Ok(Side::Command)
                }
                Err((status, why)) => Err(Error::Elsewhere {
                    status,
                    what: format!("{}: {why} (log: {})", app.name, path.display()),
                }),
            }
        }
    }
}

/// The descriptors that this program was started with to listen there.
fn kept(app: &App) -> Vec<RawFd> {
    let named = app.options.listen.iter().filter_map(|place| match place {
        Listen::Fd(number) => Some(*number),
        _ => None,
    });
    // By whoever passes sockets as systemd does.
    let count = env::var("LISTEN_FDS").ok();
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    named.chain((FIRST_FD..).take(count)).collect()
}

/// Opens the log of a cluster in the background again, for whoever has moved it aside.
///
/// # Errors
///
/// When there can be none: then this process writes where it did.
pub(super) fn reopen(name: &str) -> Result<PathBuf> {
    let path = log_path(name)?;
    detached::open_log(&path)
        .and_then(|log| detached::redirect(&log))
        .map_err(|why| log_error(&path, &why))?;
    Ok(path)
}

/// What the cluster has said until it was ready, or has failed.
fn hear(mut reader: PipeReader, child: Pid) -> Result<String> {
    let mut text = String::new();
    reader
        .read_to_string(&mut text)
        .map_err(Error::io("the process in the background"))?;
    if !text.is_empty() {
        return Ok(text);
    }
    // It is ending: nothing else closes a pipe of which nothing was said.
    let exit = loop {
        match process::try_wait(child).map_err(Error::io("the process in the background"))? {
            Some(exit) => break exit,
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    let status = match exit {
        Exit::Code(code) => u8::try_from(code).unwrap_or(1).max(1),
        Exit::Signal { .. } => 1,
    };
    Ok(format!(
        "{FAILED}{status}\nit ended with {exit} before it was ready"
    ))
}

/// Where the cluster listens; else the status to end with, and why.
fn understood(text: &str) -> std::result::Result<Vec<&str>, (u8, &str)> {
    if let Some(failed) = text.strip_prefix(FAILED) {
        let (status, why) = failed.split_once('\n').unwrap_or((failed, "it failed"));
        return Err((status.parse().unwrap_or(1), why));
    }
    let mut lines: Vec<_> = text.lines().collect();
    match lines.pop() {
        Some(READY) => Ok(lines),
        _ => Err((1, "it ended before it was ready")),
    }
}

/// The log of a cluster in the background, in a directory that is there.
pub(super) fn log_path(name: &str) -> Result<PathBuf> {
    let directory = directory(env::var_os("XDG_STATE_HOME"), env::home_dir()).ok_or_else(|| {
        Error::Settings(
            "--detach: the log has no place: neither XDG_STATE_HOME nor HOME is set".to_owned(),
        )
    })?;
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(&directory);
    made.map_err(|why| log_error(&directory, &why))?;
    Ok(directory.join(format!("{name}.log")))
}

fn directory(state: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    // The variable has no meaning when relative, by the specification that has it.
    let state = state.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = home.filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(home?.join(".local/state")));
    Some(state?.join("mcluster"))
}

fn log_error(path: &std::path::Path, why: &io::Error) -> Error {
    Error::Failed(format!("the log {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let (mut reader, writer) = io::pipe().unwrap();
        let addresses = ["http://127.0.0.1:1".to_owned(), "unix:a".to_owned()];
        Teller(writer).ready(&addresses);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(understood(&text).unwrap(), addresses);
        let (mut reader, writer) = io::pipe().unwrap();
        Teller(writer).failed(&Error::Refused("no\nmore".to_owned()));
        text.clear();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(understood(&text), Err((8, "no\nmore")));
        for text in ["", "http://127.0.0.1:1\n", "failed", "ready\nx"] {
            assert!(understood(text).is_err(), "{text:?}");
        }
        assert_eq!(understood("ready\n"), Ok(Vec::new()));
    }

    #[test]
    fn logs_are_in_the_state_directory() {
        let cases = [
            (Some("/s"), Some("/h"), Some("/s/mcluster")),
            (Some("s"), Some("/h"), Some("/h/.local/state/mcluster")),
            (Some(""), Some("/h"), Some("/h/.local/state/mcluster")),
            (None, None, None),
            (None, Some(""), None),
        ];
        for (state, home, expected) in cases {
            let found = directory(state.map(OsString::from), home.map(PathBuf::from));
            assert_eq!(found, expected.map(PathBuf::from), "{state:?} {home:?}");
        }
    }
}
