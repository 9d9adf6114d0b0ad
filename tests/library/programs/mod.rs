//! The programs: each a small cluster that says what happens, a line at a time.
//!
//! Owns what they have in common: how a program is found by its name, how events are put into
//! lines, and the log. Which lines are right is for the driver to judge.

#[cfg(feature = "compare")]
mod compare;
mod ends;
#[cfg(feature = "programs")]
mod executed;
mod farewells;
mod listens;
mod messages;
#[cfg(feature = "programs")]
mod nodes;
#[cfg(feature = "programs")]
mod outputs;
#[cfg(feature = "sessions")]
mod sessions;
#[cfg(feature = "websocket")]
mod shouts;
mod topics;

pub(crate) use messages::FLOOD;
#[cfg(feature = "websocket")]
pub(crate) use shouts::LARGE;
pub(crate) use topics::{LARGE as PUBLISHED, MANY};

use mcluster::{App, Cluster, ClusterHandle, Event, Mode, WorkerHandle, WorkerId};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// What a program is called with.
pub(crate) struct Call {
    pub(crate) mode: Mode,
    pub(crate) words: Vec<String>,
}

impl Call {
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }

    /// A cluster in this mode that kills nobody for being slow.
    fn cluster(&self, app: App) -> Cluster {
        Cluster::new(app)
            .mode(self.mode)
            .pool(1)
            .managed(!self.has("unmanaged"))
    }
}

/// Runs the program that `words` name.
pub(crate) fn main(words: &str) -> ExitCode {
    log::set_logger(&Log).expect("the first logger");
    log::set_max_level(log::LevelFilter::Debug);
    let mut words = words.split(' ').map(str::to_owned);
    let name = words.next().unwrap_or_default();
    let mode = words.next().unwrap_or_default();
    let call = Call {
        mode: mode.parse().expect("a mode"),
        words: words.collect(),
    };
    #[cfg(feature = "compare")]
    if name == "compare" {
        return ended(compare::run(&call.words));
    }
    let cluster = match name.as_str() {
        "ends" => ends::cluster(&call),
        "farewells" => farewells::cluster(&call),
        "hasty" => farewells::hasty(&call),
        #[cfg(feature = "programs")]
        "executed" => executed::cluster(&call),
        "reloads" => ends::reloads(&call),
        "echo" => messages::echo(&call),
        "late" => messages::late(&call),
        "last" => messages::last(&call),
        "flood" => messages::flood(&call),
        "all" => messages::to_all(&call),
        "listens" => listens::cluster(&call),
        #[cfg(feature = "websocket")]
        "shouts" => shouts::cluster(&call),
        #[cfg(feature = "programs")]
        "outputs" => outputs::cluster(&call),
        "topics" => topics::cluster(&call),
        #[cfg(feature = "programs")]
        "nodes" => nodes::cluster(&call),
        #[cfg(feature = "sessions")]
        "sessions" => sessions::cluster(&call),
        "env" => listens::with_env(&call),
        _ => panic!("no program {name:?}"),
    };
    ended(cluster.run())
}

/// Says how it ended.
fn ended(result: mcluster::Result<()>) -> ExitCode {
    match result {
        Ok(()) => {
            say("ran: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(format!("ran: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says a line, in one piece: the workers share the pipe.
fn say(line: impl Into<String>) {
    let mut line = line.into();
    line.push('\n');
    let mut out = std::io::stdout().lock();
    // Whoever does not listen any more misses nothing.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// The log goes to stderr, where the driver shows it when a test fails.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}\n", record.level(), record.args());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// What a handle says of its worker.
fn standing(worker: &WorkerHandle) -> String {
    let mut all = vec![worker.state().to_string()];
    if worker.is_connected() {
        all.push("connected".to_owned());
    }
    if worker.is_dead() {
        all.push("is dead".to_owned());
    }
    match worker.exited_after_disconnect() {
        None => {}
        Some(true) => all.push("voluntary".to_owned()),
        Some(false) => all.push("by accident".to_owned()),
    }
    all.join(", ")
}

/// Says what happens. Keeps a handle of each worker for what comes after its end.
#[derive(Default)]
struct Reporter {
    known: BTreeMap<WorkerId, WorkerHandle>,
}

impl Reporter {
    fn handle(&self, id: WorkerId) -> &WorkerHandle {
        self.known.get(&id).expect("a worker that was forked")
    }

    fn tell(&mut self, cluster: &ClusterHandle, event: &Event) {
        for worker in cluster.workers() {
            self.known.entry(worker.id()).or_insert(worker);
        }
        let line = |id: &WorkerId, what: &str| {
            say(format!("{id} {what}: {}", standing(self.handle(*id))));
        };
        match event {
            Event::Setup { settings } => say(format!("setup: {} workers", settings.workers)),
            Event::Fork { worker } => line(worker, "fork"),
            Event::Online { worker, pid } => {
                assert_eq!(self.handle(*worker).pid(), Some(*pid));
                say(format!("{worker} pid {pid}"));
                line(worker, "online");
            }
            Event::Listening { worker, address } => {
                line(worker, "listening");
                say(format!("{worker} listens on {address}"));
            }
            Event::Ready { addresses } => say(format!("ready: {addresses:?}")),
            Event::Message { worker, .. } => line(worker, "message"),
            Event::Drain { worker } => say(format!("drain {worker}")),
            Event::Disconnect { worker } => line(worker, "disconnect"),
            Event::Exit {
                worker,
                code,
                signal,
                exited_after_disconnect,
                ..
            } => {
                let handle = self.handle(*worker);
                let told = handle.exited_after_disconnect();
                assert_eq!(told, Some(*exited_after_disconnect));
                assert!(cluster.worker(*worker).is_none());
                let how = match (code, signal) {
                    (Some(code), None) => format!("code {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    both => format!("{both:?}"),
                };
                line(worker, &format!("exit {how}"));
            }
            Event::Reload { reload } => say(format!("reload: {reload:?}")),
            other => say(format!("{other:?}")),
        }
    }
}

/// For how long an idle loop sleeps at most is of no help to a test.
const NO_HEARTBEAT: Option<Duration> = None;
