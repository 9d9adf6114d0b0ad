//! A contestant that runs: this program executed anew, in a process group of its own.
//!
//! Owns its start, what its control socket and `/proc` tell of it, its crash and its end.

use super::setup::{Seat, Setup, VARIABLE};
use super::watch::Watch;
use crate::client;
use crate::metrics::jain;
use crate::sorted::sort_by;
use crate::spawn::{Spawned, Voice};
use crate::status::{State, Status};
use crate::sys::directory::private_directory;
use crate::sys::exec::sealed_program;
use crate::sys::proc;
use crate::sys::process::{self, Pid};
use crate::sys::random;
use crate::sys::signal::SIGKILL;
use crate::{Error, Mode, Result};
use std::cell::Cell;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a contestant may take to listen, and to be whole again after a crash.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take to answer one question, and to end.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at signals while one starts.
const LOOK_AT_START: Duration = Duration::from_millis(50);

/// How long a cluster that recovers may take to say how it is; then it is asked again.
const PATIENCE_OF_A_LOOK: Duration = Duration::from_millis(250);

/// How long something that went wrong may be ahead of the end that it tells of.
const TO_END: Duration = Duration::from_millis(200);

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

/// What contestants have for themselves: a directory for control sockets that nobody else may enter,
/// and a copy of the program. All of it goes when it is dropped.
///
/// The copy lies in memory. Pages of a program's file are shared by all that run it, and where memory is
/// divided among those who share it, this process and any other cluster would take their part.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    sockets: Cell<u32>,
    program: OwnedFd,
}

impl Directory {
    /// # Errors
    ///
    /// When it cannot be made.
    pub(super) fn new() -> Result<Self> {
        // What the path of the program leads to may have been replaced since; this is the one that runs.
        let program = fs::read("/proc/self/exe").and_then(|all| sealed_program("contestant", &all));
        let program = program.map_err(Error::io("a copy of this program in memory"))?;
        let name = format!(
            "mcluster-{}-{:08x}",
            process::pid(),
            random::number() as u32
        );
        let path = std::env::temp_dir().join(name);
        private_directory(&path).map_err(Error::io("the directory for control sockets"))?;
        let sockets = Cell::new(0);
        Ok(Self {
            path,
            sockets,
            program,
        })
    }

    /// What starts the copy, with the words that this process was started with.
    fn command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        let mut words = std::env::args_os();
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        command.args(words);
        for name in NOT_THEIRS {
            command.env_remove(name);
        }
        command
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
pub(super) struct Server<'a> {
    directory: &'a Directory,
    spawned: Spawned,
    seat: Seat,
    url: String,
}

/// What a contestant has done so far.
#[derive(Debug)]
pub(super) struct Look {
    /// CPU time of all its processes, those too that have ended.
    pub(super) cpu: Duration,
    /// Place, process and answers of each worker.
    workers: Vec<(u32, i32, u64)>,
}

/// Which process is to be killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Victim(i32);

/// What came of waiting for a contestant to be whole again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Recovery {
    After(Duration),
    /// Not within [`PATIENCE`].
    TooLong,
    /// It could not be started again.
    Failed,
}

impl<'a> Server<'a> {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub(super) fn start(
        setup: Setup,
        call: u32,
        directory: &'a Directory,
        watch: &mut Watch<'_>,
    ) -> Result<Self> {
        let seat = Seat {
            call,
            setup,
            listen: "127.0.0.1:0".to_owned(),
            control: directory.socket(),
        };
        Self::begin(seat, directory, watch)
    }

    fn begin(seat: Seat, directory: &'a Directory, watch: &mut Watch<'_>) -> Result<Self> {
        let mut command = directory.command();
        command.env(VARIABLE, seat.words()?);
        let failed = |why: io::Error| Error::Failed(why.to_string());
        let deadline = Instant::now() + PATIENCE;
        let mut spawned = Spawned::launch(command, Voice::Quiet).map_err(failed)?;
        while !spawned.listens(LOOK_AT_START).map_err(failed)? {
            watch.tick()?;
            if Instant::now() >= deadline {
                return Err(failed(spawned.too_slow(PATIENCE)));
            }
        }
        let url = spawned.urls().into_iter().next().unwrap_or_default();
        Ok(Self {
            directory,
            spawned,
            seat,
            url,
        })
    }

    /// When its program was started.
    pub(super) fn began(&self) -> Instant {
        self.spawned.began()
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
    /// Those of the connection, and when a signal ends the comparison.
    pub(super) fn ask(&self, path: &str, watch: &mut Watch<'_>) -> Result<u16> {
        let (address, path) = (self.address().to_owned(), path.to_owned());
        let asked = watch.wait(PATIENCE, move || -> io::Result<u16> {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(client::request(stream, "GET", &path)?.whole()?.status)
        })?;
        asked.map_err(Error::io("its first answer"))
    }

    /// How it is.
    ///
    /// # Errors
    ///
    /// When it does not say, and when a signal ends the comparison.
    fn known(&self, watch: &mut Watch<'_>) -> Result<Status> {
        let control = self.seat.control.clone();
        let asked = watch.wait(SHORT_PATIENCE, move || status(&control, SHORT_PATIENCE))?;
        asked.map_err(Error::io("its status"))
    }

    /// All its processes.
    fn processes(&self) -> Result<Vec<Pid>> {
        self.spawned.processes().map_err(Error::io("its processes"))
    }

    /// What it has done so far.
    ///
    /// # Errors
    ///
    /// When it does not say which workers it has, and when a signal ends the comparison.
    pub(super) fn look(&self, watch: &mut Watch<'_>) -> Result<Look> {
        let workers = self.known(watch)?.workers.into_iter();
        let mut workers: Vec<_> = workers
            .map(|worker| (worker.place, worker.pid, worker.requests))
            .collect();
        sort_by(&mut workers, Ord::cmp);
        let pids = self.processes()?.into_iter();
        let cpu = pids.filter_map(|pid| proc::cpu_time_with_children(pid).ok());
        Ok(Look {
            cpu: cpu.sum(),
            workers,
        })
    }

    /// Memory of all its processes in bytes, what they share counted once; None where the system does
    /// not say.
    ///
    /// # Errors
    ///
    /// When it cannot be seen which they are.
    pub(super) fn memory(&self) -> Result<Option<u64>> {
        let pids = self.processes()?.into_iter();
        Ok(pids.map(|pid| proc::memory(pid).ok()?.pss_bytes).sum())
    }

    /// The process of one worker. Where workers are threads, that is the process of all.
    ///
    /// # Errors
    ///
    /// When there is no worker, and when a signal ends the comparison.
    pub(super) fn victim(&self, watch: &mut Watch<'_>) -> Result<Victim> {
        let pid = match self.seat.setup.mode() {
            Mode::Threads => self.spawned.pid().as_raw(),
            Mode::Processes => {
                let workers = self.known(watch)?.workers;
                let mut listening = workers.iter().filter(|one| one.state == State::Listening);
                let none = || Error::Failed("no worker listens".to_owned());
                listening.next().ok_or_else(none)?.pid
            }
        };
        Ok(Victim(pid))
    }

    /// Kills it, waits until the contestant is whole again, and starts that again at the same address
    /// where nothing of it is left, as a service manager would.
    ///
    /// # Errors
    ///
    /// When it cannot be killed, or a signal ends the comparison.
    pub(super) fn crash(&mut self, victim: Victim, watch: &mut Watch<'_>) -> Result<Recovery> {
        let Victim(pid) = victim;
        let killed = Instant::now();
        process::kill(Pid::from_raw(pid), SIGKILL).map_err(Error::io("kill"))?;
        if pid != self.spawned.pid().as_raw() {
            return match self.whole_without(Some(pid), killed, watch)? {
                true => Ok(Recovery::After(killed.elapsed())),
                false => Ok(Recovery::TooLong),
            };
        }
        while self
            .spawned
            .try_wait()
            .map_err(Error::io("wait"))?
            .is_none()
        {
            watch.pause(LOOK)?;
        }
        let gone = killed.elapsed();
        let mut seat = self.seat.clone();
        seat.listen = self.address().to_owned();
        let new = match Self::begin(seat, self.directory, watch) {
            Err(error) if watch.is_over() => return Err(error),
            Err(error) => {
                log::warn!("it could not be started again: {error}");
                return Ok(Recovery::Failed);
            }
            Ok(new) => new,
        };
        let whole = new.whole_without(None, killed, watch)?;
        // Without what started only to guard it, as a service manager is there already.
        let took = gone + new.began().elapsed();
        // The old one is cleared away now, when the time is taken.
        *self = new;
        Ok(match whole {
            true => Recovery::After(took),
            false => Recovery::TooLong,
        })
    }

    /// Waits until all its workers listen, and that process is not among them; whether they do before
    /// the patience ends, which began at `since`.
    fn whole_without(
        &self,
        pid: Option<i32>,
        since: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<bool> {
        while since.elapsed() < PATIENCE {
            watch.tick()?;
            let known = status(&self.seat.control, PATIENCE_OF_A_LOOK);
            let workers = known.map_or_else(|_| Vec::new(), |status| status.workers);
            let listening = workers
                .iter()
                .filter(|worker| worker.state == State::Listening && Some(worker.pid) != pid);
            if listening.count() >= self.seat.setup.workers() {
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
        Ok(false)
    }

    /// What went wrong, and if it has ended, how, with its last words.
    pub(super) fn explain(&mut self, error: &Error) -> String {
        let deadline = Instant::now() + TO_END;
        loop {
            match self.spawned.try_wait() {
                Ok(Some(status)) => {
                    return format!("{error}; it ended ({status}){}", self.spawned.last_words());
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
                _ => return error.to_string(),
            }
        }
    }

    /// Ends it in good order, or else at once.
    pub(super) fn stop(self) {
        if let Err(error) = self.spawned.stop(SHORT_PATIENCE) {
            log::debug!("the end of a contestant: {error}");
        }
    }
}

fn status(control: &Path, patience: Duration) -> io::Result<Status> {
    let stream = client::connect(control, Some(patience))?;
    let answer = client::request(stream, "GET", "/status")?.whole()?;
    serde_json::from_slice(&answer.body).map_err(io::Error::from)
}

impl Look {
    /// Whether the same workers live as then.
    pub(super) fn same_workers(&self, before: &Self) -> bool {
        let pids = |look: &Self| -> Vec<_> {
            let workers = look.workers.iter();
            workers.map(|(place, pid, _)| (*place, *pid)).collect()
        };
        pids(self) == pids(before)
    }

    /// Jain's index over what each worker answered since then.
    pub(super) fn fairness(&self, before: &Self) -> f64 {
        let answers = |look: &Self| -> Vec<_> {
            let workers = look.workers.iter();
            workers.map(|(_, _, answers)| *answers).collect()
        };
        fairness(&answers(before), &answers(self))
    }
}

/// Jain's index over what each worker answered between two looks.
fn fairness(before: &[u64], after: &[u64]) -> f64 {
    let pairs = after.iter().zip(before);
    jain(pairs.map(|(after, before)| after.saturating_sub(*before))).unwrap_or(f64::NAN)
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

    #[test]
    fn who_died_is_missed() {
        let look = |workers: &[(u32, i32, u64)]| Look {
            cpu: Duration::ZERO,
            workers: workers.to_vec(),
        };
        let before = look(&[(0, 7, 5), (1, 8, 5)]);
        assert!(look(&[(0, 7, 9), (1, 8, 5)]).same_workers(&before));
        assert!(!look(&[(0, 9, 0), (1, 8, 5)]).same_workers(&before));
        assert!(!look(&[(0, 7, 9)]).same_workers(&before));
    }
}
