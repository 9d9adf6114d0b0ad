//! A contestant that runs: this program executed anew, in a process group of its own.
//!
//! Owns its start, what its control socket and `/proc` tell of it, its crash and its end.

use super::setup::{Seat, Setup, VARIABLE};
use super::watch::Watch;
use crate::client;
use crate::loadtest::report::jain;
use crate::spawn::{Spawned, Voice};
use crate::status::{State, Status};
use crate::sys::directory::private_directory;
use crate::sys::proc;
use crate::sys::process::{self, Pid};
use crate::sys::random;
use crate::sys::signal::SIGKILL;
use crate::{Error, Mode, Result};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a contestant may take to listen, and to be whole again after a crash.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take to answer one question, and to end.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at signals while one starts.
const LOOK_AT_START: Duration = Duration::from_millis(50);

/// Between two looks at a cluster that recovers.
const LOOK: Duration = Duration::from_millis(1);

/// Variables by which a service manager speaks to the program itself, not to what it compares.
const NOT_THEIRS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// A directory for control sockets that nobody else may enter. It goes when it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    sockets: Cell<u32>,
}

impl Directory {
    /// # Errors
    ///
    /// When it cannot be made.
    pub(super) fn new() -> Result<Self> {
        let name = format!(
            "mcluster-{}-{:08x}",
            process::pid(),
            random::number() as u32
        );
        let path = std::env::temp_dir().join(name);
        private_directory(&path).map_err(io("the directory for control sockets"))?;
        let sockets = Cell::new(0);
        Ok(Self { path, sockets })
    }

    /// A path that was not used before.
    fn socket(&self) -> PathBuf {
        self.sockets.set(self.sockets.get() + 1);
        self.path.join(format!("{}.sock", self.sockets.get()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is empty but for sockets that nobody listens on.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A contestant. It ends when it is dropped, with all its processes.
#[derive(Debug)]
pub(super) struct Server {
    spawned: Spawned,
    seat: Seat,
    url: String,
}

/// Which process was killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim {
    pid: i32,
    at: Instant,
}

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub(super) fn start(
        setup: Setup,
        directory: &Directory,
        watch: &mut Watch<'_>,
    ) -> Result<Self> {
        let seat = Seat {
            setup,
            listen: "127.0.0.1:0".to_owned(),
            control: directory.socket(),
        };
        Self::begin(seat, watch)
    }

    fn begin(seat: Seat, watch: &mut Watch<'_>) -> Result<Self> {
        // What the path of the program leads to may have been replaced since; this is the one that runs.
        let mut command = Command::new("/proc/self/exe");
        let mut words = std::env::args_os();
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        command.args(words).env(VARIABLE, seat.words()?);
        for name in NOT_THEIRS {
            command.env_remove(name);
        }
        let failed = |why: io::Error| Error::Failed(format!("{}: {why}", seat.setup.contestant()));
        let deadline = Instant::now() + PATIENCE;
        let mut spawned = Spawned::launch(command, Voice::Quiet).map_err(failed)?;
        while !spawned.listens(LOOK_AT_START).map_err(failed)? {
            watch.tick()?;
            if Instant::now() >= deadline {
                return Err(failed(spawned.too_slow(PATIENCE)));
            }
        }
        let url = spawned.urls().into_iter().next().unwrap_or_default();
        Ok(Self { spawned, seat, url })
    }

    /// The URL of a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    /// `HOST:PORT`.
    fn address(&self) -> &str {
        let address = self.url.strip_prefix("http://").unwrap_or(&self.url);
        address.trim_end_matches('/')
    }

    /// Waits for one answer, on a connection of its own; its status.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(super) fn ask(&self, path: &str) -> Result<u16> {
        let asked = || -> io::Result<u16> {
            let stream = TcpStream::connect(self.address())?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(client::request(stream, "GET", path)?.whole()?.status)
        };
        asked().map_err(io("a contestant's first answer"))
    }

    fn status(&self) -> io::Result<Status> {
        let stream = client::connect(&self.seat.control, Some(SHORT_PATIENCE))?;
        let answer = client::request(stream, "GET", "/status")?.whole()?;
        serde_json::from_slice(&answer.body).map_err(io::Error::from)
    }

    /// How it is.
    ///
    /// # Errors
    ///
    /// When it does not say.
    fn known(&self) -> Result<Status> {
        self.status().map_err(io("a contestant's status"))
    }

    /// All its processes.
    fn processes(&self) -> Result<BTreeSet<i32>> {
        let workers = self.known()?.workers;
        let workers = workers.into_iter().map(|worker| worker.pid);
        let own = self.spawned.pid().as_raw();
        Ok(workers.chain([own]).filter(|pid| *pid > 0).collect())
    }

    /// CPU time of all its processes that live, since they began.
    ///
    /// # Errors
    ///
    /// When it does not say which they are.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let pids = self.processes()?.into_iter().map(Pid::from_raw);
        Ok(pids.filter_map(|pid| proc::cpu_time(pid).ok()).sum())
    }

    /// Memory of all its processes in bytes, what they share counted once; None where the system does
    /// not say.
    ///
    /// # Errors
    ///
    /// When it does not say which they are.
    pub(super) fn memory(&self) -> Result<Option<u64>> {
        let pids = self.processes()?.into_iter().map(Pid::from_raw);
        Ok(pids.map(|pid| proc::memory(pid).ok()?.pss_bytes).sum())
    }

    /// How many requests each worker has answered, by its place.
    ///
    /// # Errors
    ///
    /// When it does not say.
    pub(super) fn answers(&self) -> Result<Vec<u64>> {
        let mut workers = self.known()?.workers;
        workers.sort_by_key(|worker| worker.place);
        Ok(workers.iter().map(|worker| worker.requests).collect())
    }

    /// Kills one worker's process. Where workers are threads, that is the process of all.
    ///
    /// # Errors
    ///
    /// When there is no worker, or it cannot be killed.
    pub(super) fn crash(&self) -> Result<Victim> {
        let pid = match self.seat.setup.mode() {
            Mode::Threads => self.spawned.pid().as_raw(),
            Mode::Processes => {
                let workers = self.known()?.workers;
                let mut listening = workers.iter().filter(|one| one.state == State::Listening);
                let none = || Error::Failed("no worker listens".to_owned());
                listening.next().ok_or_else(none)?.pid
            }
        };
        let at = Instant::now();
        process::kill(Pid::from_raw(pid), SIGKILL).map_err(io("kill"))?;
        Ok(Victim { pid, at })
    }

    /// Waits until it is whole again, and starts it again at the same address where nothing of it is
    /// left, as a service manager would. How long that took from the crash; None when it takes too long.
    ///
    /// # Errors
    ///
    /// When it cannot be started again, or a signal ends the comparison.
    pub(super) fn recover(
        &mut self,
        victim: Victim,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Duration>> {
        while victim.at.elapsed() < PATIENCE {
            let whole_process = victim.pid == self.spawned.pid().as_raw();
            if whole_process && self.spawned.try_wait().map_err(io("wait"))?.is_some() {
                let mut seat = self.seat.clone();
                seat.listen = self.address().to_owned();
                *self = Self::begin(seat, watch)?;
            } else if !whole_process && self.is_whole_without(victim.pid) {
                return Ok(Some(victim.at.elapsed()));
            } else {
                watch.tick()?;
                std::thread::sleep(LOOK);
            }
        }
        Ok(None)
    }

    /// Whether all its workers listen, and that one is not among them.
    fn is_whole_without(&self, pid: i32) -> bool {
        let Ok(status) = self.status() else {
            return false;
        };
        let listening = status
            .workers
            .iter()
            .filter(|worker| worker.state == State::Listening && worker.pid != pid);
        listening.count() >= self.seat.setup.workers()
    }

    /// Ends it in good order, or else at once.
    pub(super) fn stop(self) {
        if let Err(error) = self.spawned.stop(SHORT_PATIENCE) {
            log::debug!("the end of a contestant: {error}");
        }
    }
}

/// Jain's index over what each worker answered between two looks.
pub(super) fn fairness(before: &[u64], after: &[u64]) -> f64 {
    let pairs = after.iter().zip(before);
    jain(pairs.map(|(after, before)| after.saturating_sub(*before))).unwrap_or(f64::NAN)
}

/// For `map_err`: what was tried.
pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_counts_who_got_nothing() {
        assert_eq!(fairness(&[5, 5], &[15, 15]), 1.0);
        assert_eq!(fairness(&[5, 5], &[15, 5]), 0.5);
        assert!(fairness(&[5, 5], &[5, 5]).is_nan());
    }

    #[test]
    fn the_directory_goes() {
        let directory = Directory::new().unwrap();
        let path = directory.path.clone();
        assert_ne!(directory.socket(), directory.socket());
        fs::write(directory.socket(), "").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
