//! The commands that look at a running cluster and change it, by its control socket.
//!
//! Owns what each asks for and what an answer means for the exit status. `client` carries the
//! words, `table` and `events` show what came.

use super::events::Parser;
use super::logs::{self, Logs};
use super::table::{self, Listed};
use super::values::{duration, name, signal};
use super::which::{Named, kill_words, scale_words, schedule_words};
use super::{print, put};
use crate::client::{self, Answer, Incoming};
use crate::runtime;
use crate::sorted::sort_by;
use crate::status::{Outcome, SCHEMA, Status};
use crate::{Error, Result};
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a cluster that runs well never takes to say how it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same where one silent cluster should not hold up the rest.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Subcommand)]
pub(super) enum Steer {
    /// Show the workers of a running cluster
    Status {
        #[command(flatten)]
        wanted: Named,
    },
    /// Show the workers of a running cluster again and again
    Top {
        /// The cluster's name, as --name has it
        #[arg(value_name = "NAME", value_parser = name)]
        which: Option<String>,
        #[command(flatten)]
        cluster: Cluster,
        /// The time between two looks
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
        interval: Duration,
    },
    /// Change how many workers a running cluster has
    #[command(override_usage = "mcluster scale [OPTIONS] [NAME] <N>")]
    Scale {
        /// How many; the cluster's name may stand before it
        #[arg(value_name = "N", num_args = 1..=2, required = true)]
        words: Vec<String>,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Replace the workers of a running cluster one by one, without losing a request
    Reload {
        #[command(flatten)]
        wanted: Named,
    },
    /// Replace all workers of a running cluster at once
    Restart {
        #[command(flatten)]
        wanted: Named,
    },
    /// Stop a running cluster; its workers finish what they have
    Stop {
        #[command(flatten)]
        wanted: Named,
    },
    /// Change who accepts the connections of a running cluster
    #[command(override_usage = "mcluster schedule [OPTIONS] [NAME] <POLICY>")]
    Schedule {
        /// What --schedule takes; the cluster's name may stand before it
        #[arg(value_name = "POLICY", num_args = 1..=2, required = true)]
        words: Vec<String>,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Send a signal to one worker of a running cluster
    #[command(override_usage = "mcluster kill [OPTIONS] [NAME] <ID>")]
    Kill {
        /// Which worker; the cluster's name may stand before it
        #[arg(value_name = "ID", num_args = 1..=2, required = true)]
        words: Vec<String>,
        /// Its name, with or without SIG, or its number
        #[arg(long, value_name = "SIGNAL", value_parser = signal, default_value = "TERM")]
        signal: String,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Print what happens in a running cluster, a line for each event
    Events {
        #[command(flatten)]
        wanted: Named,
    },
    /// Print what the workers of a running cluster write, if they are programs
    Logs(Logs),
    /// Show every running cluster of this user
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which cluster.
#[derive(Args, Clone, Debug)]
pub(super) struct Cluster {
    /// The cluster's name
    #[arg(long, env = "MCLUSTER_NAME", value_parser = name, default_value = runtime::USUAL_NAME)]
    pub(super) name: String,

    /// Its control socket
    /// [default: NAME.sock in the runtime directory]
    #[arg(long, value_name = "PATH", env = "MCLUSTER_CONTROL")]
    pub(super) control: Option<PathBuf>,
}

/// Which cluster, and for whom the answer is.
#[derive(Args, Debug)]
pub(super) struct Wanted {
    #[command(flatten)]
    pub(super) cluster: Cluster,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `words` as they stand in a query: all but what means nothing there by its number.
pub(super) fn escaped(words: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    words.bytes().map(escape).collect()
}

/// Does what was asked for.
///
/// # Errors
///
/// When the cluster cannot be reached, refuses, or fails.
pub(super) fn obey(steer: &Steer) -> Result<()> {
    match steer {
        Steer::Status { wanted } => status(&wanted.wanted()),
        Steer::Top {
            which,
            cluster,
            interval,
        } => top(&cluster.of(which.as_deref()), *interval),
        Steer::Scale { words, wanted } => {
            let (which, workers) = scale_words(words)?;
            let target = format!("/scale?workers={workers}");
            change(&wanted.of(which), "scale", &target)
        }
        Steer::Reload { wanted } => change(&wanted.wanted(), "reload", "/reload"),
        Steer::Restart { wanted } => change(&wanted.wanted(), "restart", "/restart"),
        Steer::Stop { wanted } => change(&wanted.wanted(), "stop", "/stop"),
        Steer::Schedule { words, wanted } => {
            let (which, policy) = schedule_words(words)?;
            let target = format!("/schedule?policy={}", escaped(&policy.to_string()));
            change(&wanted.of(which), "schedule", &target)
        }
        Steer::Kill {
            words,
            signal,
            wanted,
        } => {
            let (which, worker) = kill_words(words)?;
            let target = format!("/workers/{worker}/kill?signal={signal}");
            change(&wanted.of(which), "kill", &target)
        }
        Steer::Events { wanted } => events(&wanted.wanted()),
        Steer::Logs(logs) => logs::print(logs),
        Steer::List { json } => list(*json),
    }
}

impl Cluster {
    pub(super) fn path(&self) -> Result<PathBuf> {
        match &self.control {
            Some(path) if path == Path::new("off") => Err(Error::Settings(
                "--control off: a cluster without a control socket cannot be steered".to_owned(),
            )),
            Some(path) => Ok(path.clone()),
            None => Ok(runtime::control_path(&self.name)),
        }
    }

    /// Sends a request and waits for the beginning of its answer.
    pub(super) fn ask(
        &self,
        method: &str,
        target: &str,
        patience: Option<Duration>,
    ) -> Result<Incoming<UnixStream>> {
        let path = self.path()?;
        let stream = client::connect(&path, patience).map_err(|why| self.unreachable(why))?;
        client::request(stream, method, target).map_err(|why| self.failed(why))
    }

    pub(super) fn unreachable(&self, source: io::Error) -> Error {
        Error::Unreachable {
            name: self.name.clone(),
            path: self.path().unwrap_or_default(),
            source,
        }
    }

    /// Somebody is there. Who says nothing is as good as nobody.
    pub(super) fn failed(&self, source: io::Error) -> Error {
        match source.kind() {
            ErrorKind::TimedOut => self.unreachable(source),
            _ => Error::Io {
                what: "the control socket",
                source,
            },
        }
    }

    /// Adds what comes next of an answer without end; whether more may come. A primary that dies says
    /// no goodbye.
    pub(super) fn next(
        &self,
        incoming: &mut Incoming<UnixStream>,
        bytes: &mut Vec<u8>,
    ) -> Result<bool> {
        match incoming.next(bytes) {
            Ok(more) => Ok(more),
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(why) if why.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(why) => Err(self.failed(why)),
        }
    }

    /// Asks how the cluster is, and what it has said.
    pub(super) fn status(&self) -> Result<(Vec<u8>, Status)> {
        let answer = self.ask("GET", "/status", Some(PATIENCE))?.whole();
        let answer = answer.map_err(|why| self.failed(why))?;
        let status = understood(&answer).map_err(|why| self.failed(io::Error::other(why)))?;
        Ok((answer.body, status))
    }
}

/// The status in an answer, or what is wrong with it.
fn understood(answer: &Answer) -> std::result::Result<Status, String> {
    if answer.status != 200 {
        return Err(said(answer));
    }
    let status: Status = serde_json::from_slice(&answer.body)
        .map_err(|why| format!("the answer is no status: {why}"))?;
    match status.schema {
        SCHEMA => Ok(status),
        other => Err(format!(
            "the cluster speaks schema {other}, this command {SCHEMA}"
        )),
    }
}

/// What an answer says, as one line.
pub(super) fn said(answer: &Answer) -> String {
    let what = match serde_json::from_slice::<Outcome>(&answer.body) {
        Ok(outcome) => outcome.what,
        Err(_) => {
            let text = String::from_utf8_lossy(&answer.body);
            text.lines().next().unwrap_or_default().to_owned()
        }
    };
    match what.trim() {
        "" => format!("answered {}", answer.status),
        what => table::plain(what),
    }
}

fn status(wanted: &Wanted) -> Result<()> {
    let (body, status) = wanted.cluster.status()?;
    match wanted.json {
        true => print(&as_it_is(body)),
        false => print(&table::cluster(&status, None)),
    }
}

/// JSON as it came, with the end of a line.
fn as_it_is(body: Vec<u8>) -> String {
    let mut text = String::from_utf8_lossy(&body).into_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Waits as long as it takes: a worker may need all of its time to finish.
fn change(wanted: &Wanted, what: &'static str, target: &str) -> Result<()> {
    let cluster = &wanted.cluster;
    let answer = cluster.ask("POST", target, None)?.whole();
    let answer = answer.map_err(|why| cluster.failed(why))?;
    let (status, said) = (answer.status, said(&answer));
    match wanted.json {
        true => print(&as_it_is(answer.body))?,
        false if status == 200 => print(&format!("{said}\n"))?,
        false => {}
    }
    match status {
        200 => Ok(()),
        400 => Err(Error::Settings(said)),
        409 | 500 => Err(Error::Refused(said)),
        _ => Err(Error::Io {
            what,
            source: io::Error::other(said),
        }),
    }
}

/// Until somebody ends it, or nobody reads on.
fn top(cluster: &Cluster, interval: Duration) -> Result<()> {
    let repaint = io::stdout().is_terminal();
    let mut before: Option<Status> = None;
    loop {
        let (_, status) = cluster.status()?;
        let table = table::cluster(&status, before.as_ref());
        let text = match (repaint, &before) {
            (true, None) => painted(&table, "\x1b[H\x1b[2J"),
            (true, Some(_)) => painted(&table, "\x1b[H"),
            (false, None) => table,
            (false, Some(_)) => format!("\n{table}"),
        };
        if !put(&text)? {
            return Ok(());
        }
        before = Some(status);
        std::thread::sleep(interval);
    }
}

/// A table over what stood on the terminal before, without a moment of nothing in between.
fn painted(table: &str, start: &str) -> String {
    format!("{start}{}\x1b[J", table.replace('\n', "\x1b[K\n"))
}

fn events(wanted: &Wanted) -> Result<()> {
    let cluster = &wanted.cluster;
    let mut incoming = cluster.ask("GET", "/events", None)?;
    if incoming.status != 200 {
        let answer = incoming.whole().map_err(|why| cluster.failed(why))?;
        return Err(cluster.failed(io::Error::other(said(&answer))));
    }
    let (mut parser, mut bytes) = (Parser::default(), Vec::new());
    loop {
        let more = cluster.next(&mut incoming, &mut bytes)?;
        let events = parser.take(&bytes);
        let events = events.map_err(|why| cluster.failed(io::Error::other(why)))?;
        bytes.clear();
        let lines: String = events
            .iter()
            .map(|event| match wanted.json {
                true => event.json() + "\n",
                false => table::plain(&event.words()) + "\n",
            })
            .collect();
        if !put(&lines)? || !more {
            return Ok(());
        }
    }
}

fn list(json: bool) -> Result<()> {
    let mut all: Vec<(PathBuf, Listed)> = Vec::new();
    for path in sockets(&runtime::directory())? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = name.into_owned();
        let status = look(&path);
        all.push((path, Listed { name, status }));
    }
    if json {
        let all: Vec<_> = all.iter().map(|(path, one)| object(path, one)).collect();
        return print(&format!("{}\n", json!(all)));
    }
    let all: Vec<_> = all.into_iter().map(|(_, one)| one).collect();
    print(&table::clusters(&all))
}

/// The control sockets in a directory, by name; none where there is no directory.
pub(super) fn sockets(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Io {
        what: "the runtime directory",
        source,
    };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|end| end == runtime::EXTENSION)
        {
            paths.push(path);
        }
    }
    sort_by(&mut paths, PathBuf::cmp);
    Ok(paths)
}

/// How the cluster behind a socket is, or why it does not say.
pub(super) fn look(path: &Path) -> std::result::Result<Status, String> {
    let answer = client::connect(path, Some(SHORT_PATIENCE))
        .and_then(|stream| client::request(stream, "GET", "/status"))
        .and_then(Incoming::whole);
    understood(&answer.map_err(|why| why.to_string())?)
}

fn object(path: &Path, one: &Listed) -> serde_json::Value {
    let control = path.to_string_lossy();
    match &one.status {
        Ok(status) => json!({
            "name": one.name,
            "control": control,
            "stale": false,
            "pid": status.pid,
            "workers": status.workers.len(),
            "mode": status.mode,
            "uptime_s": status.uptime_s,
            "listeners": status.listeners,
        }),
        Err(why) => json!({
            "name": one.name,
            "control": control,
            "stale": true,
            "why": why,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let body = body.as_bytes().to_vec();
        Answer { status, body }
    }

    #[test]
    fn what_an_answer_says_is_one_plain_line() {
        let cases = [
            (r#"{"outcome":"done","what":"2 workers"}"#, "2 workers"),
            (r#"{"outcome":"done","what":"a\nb\u001b[2J"}"#, "a?b?[2J"),
            (r#"{"outcome":"done"}"#, "answered 409"),
            ("", "answered 409"),
            ("Conflict\nmore\n", "Conflict"),
            ("\u{7}", "?"),
        ];
        for (body, expected) in cases {
            assert_eq!(said(&answer(409, body)), expected, "{body:?}");
        }
    }

    #[test]
    fn a_status_of_another_time_is_not_guessed_at() {
        let good = r#"{"schema":1,"name":"a","workers":[]}"#;
        assert!(understood(&answer(200, good)).is_ok());
        let wrong = [
            answer(404, good),
            answer(200, "hello"),
            answer(200, &good.replace('1', "2")),
        ];
        for answer in wrong {
            assert!(understood(&answer).is_err(), "{answer:?}");
        }
    }
}
