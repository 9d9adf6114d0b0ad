//! Running the real binary: start it, read what it says, wait for what should happen, end it.
//!
//! Owns the child process and everything that came of it; whatever a test does, nothing is left
//! behind when its [`Server`] is dropped. Tests wait for lines and states; the one limit of time
//! here is there to turn a hang into a failure.

pub(crate) use crate::lines::{Lines, Mode, PATIENCE};
use crate::turns::{Turn, beside_others};
use crate::watch;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_mcluster");

/// Runs a promise in each mode.
macro_rules! both_modes {
    ($(fn $name:ident($mode:ident) $body:block)*) => { $(
        mod $name {
            use super::*;

            fn promise($mode: $crate::support::Mode) $body

            #[test]
            fn processes() {
                promise($crate::support::Mode::Processes);
            }

            #[test]
            fn threads() {
                promise($crate::support::Mode::Threads);
            }
        }
    )* };
}
pub(crate) use both_modes;

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until each of these numbers has grown by two: of rounds that began after this, all have ended
/// one. One that stands at half of what there is counts no more.
#[track_caller]
pub(crate) fn all_go_on(what: &str, rounds: &[AtomicU64]) {
    let count = |one: &AtomicU64| one.load(Ordering::Relaxed);
    let before: Vec<u64> = rounds.iter().map(count).collect();
    wait_until(what, || {
        let mut both = rounds.iter().map(count).zip(&before);
        both.all(|(now, before)| now >= before + 2 || now >= u64::MAX / 2)
    });
}

impl Lines {
    /// A place to search from: after everything said so far.
    pub(crate) fn mark(&self) -> usize {
        self.all().len()
    }

    /// Waits for the first line from `mark` on that `found` makes something of.
    #[track_caller]
    pub(crate) fn find<T>(&self, mark: usize, found: impl Fn(&str) -> Option<T>) -> T {
        let mut next = mark;
        self.until("a line", |lines, _| {
            let new = lines.get(next..).unwrap_or_default();
            next = next.max(lines.len());
            new.iter().find_map(|line| found(line))
        })
    }

    /// Waits for a line that contains `words`.
    #[track_caller]
    pub(crate) fn wait(&self, mark: usize, words: &str) -> String {
        self.find(mark, |line| line.contains(words).then(|| line.to_owned()))
    }

    /// All lines, once whoever holds the other end has let go of it.
    #[track_caller]
    fn complete(&self) -> Vec<String> {
        self.until(
            "the end of a pipe: somebody still holds it",
            |lines, ended| ended.then(|| lines.to_vec()),
        )
    }
}

/// A worker, by the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    pub(crate) id: u32,
    pub(crate) pid: i32,
}

impl Worker {
    /// The worker that a line is about, and what it says of it.
    pub(crate) fn of_line(line: &str) -> Option<(Self, &str)> {
        let (_, rest) = line.split_once("worker ")?;
        let (id, rest) = rest.split_once(" (pid ")?;
        let (pid, rest) = rest.split_once(") ")?;
        let (id, pid) = (id.parse().ok()?, pid.parse().ok()?);
        Some((Self { id, pid }, rest))
    }

    /// What `GET /` answers when this worker does.
    pub(crate) fn name(self, mode: Mode) -> String {
        match mode {
            Mode::Processes => format!("Handled by process {}", self.pid),
            Mode::Threads => format!("Handled by process {} thread {}", self.pid, self.id),
        }
    }

    pub(crate) fn signal(self, signal: Signal) {
        signal::kill(Pid::from_raw(self.pid), signal).unwrap();
    }
}

/// Whether that is said of a worker which serves; of a program it may not be known where.
fn is_up(said: &str) -> bool {
    said.starts_with("is listening") || said.starts_with("is taken for ready")
}

/// How a server ended and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<String>,
    pub(crate) log: Vec<String>,
}

/// The binary, running.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Its exit status, once it has been reaped.
    status: Option<ExitStatus>,
    /// Workers that lost their primary.
    orphans: Vec<i32>,
    pub(crate) log: Lines,
    pub(crate) out: Lines,
    _turn: Option<Turn>,
}

/// The binary with `arguments` and nothing in its environment that could mean something to it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    bare(&mut command);
    command
}

/// The binary started by a shell: `script` ends in `exec "$0" "$@"`, so the process is the same.
/// So limits and descriptors can be set between fork and exec without unsafe code here.
pub(crate) fn command_by_shell(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, BINARY]).args(arguments);
    bare(&mut command);
    command
}

fn bare(command: &mut Command) {
    // Some tests abort the binary on purpose: that must not leave core files.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    command.env_clear().stdin(Stdio::null());
    for kept in ["PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
}

/// Runs a command that ends by itself.
#[track_caller]
pub(crate) fn run(command: Command) -> Ended {
    Server::launch(command).ended()
}

/// Runs a command that ends by itself, and gives its output as it is.
pub(crate) fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

impl Server {
    /// Starts the binary on a free port of 127.0.0.1 and waits until it listens.
    #[track_caller]
    pub(crate) fn start(mode: Mode, arguments: &[&str]) -> Self {
        let mut all = vec!["--mode", mode.name(), "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        let server = Self::launch(command(&all));
        server.urls(1);
        server
    }

    /// Starts a command and does not wait.
    #[track_caller]
    pub(crate) fn launch(command: Command) -> Self {
        Self::launch_to(command, Stdio::piped())
    }

    /// The same with a standard output of the caller's, of which nothing is read here.
    #[track_caller]
    pub(crate) fn launch_to(mut command: Command, out: Stdio) -> Self {
        let turn = beside_others();
        // Clusters of one name exclude each other, so one that is not steered has no socket.
        let steered = ["MCLUSTER_CONTROL", "XDG_RUNTIME_DIR"];
        let by_flag = command
            .get_args()
            .any(|one| one == "--control" || one == "--name");
        let by_name = |(name, _): (&OsStr, _)| steered.iter().any(|one| name == *one);
        if !by_flag && !command.get_envs().any(by_name) {
            command.env("MCLUSTER_CONTROL", "off");
        }
        command.stdout(out).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            log: Lines::of(child.stderr.take().unwrap()),
            out: match child.stdout.take() {
                Some(pipe) => Lines::of(pipe),
                None => Lines::of(std::io::empty()),
            },
            child,
            status: None,
            orphans: Vec::new(),
            _turn: turn,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until it says that it listens, and where: `count` addresses.
    #[track_caller]
    pub(crate) fn urls(&self, count: usize) -> Vec<String> {
        let url = |number: usize| {
            self.out.find(number, |line| {
                let url = line.strip_prefix("listening on ");
                Some(url.unwrap_or_else(|| panic!("{line}")).to_owned())
            })
        };
        (0..count).map(url).collect()
    }

    /// Where it listens, if that is one TCP address.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        address_of(&self.urls(1)[0])
    }

    /// The workers that listen and are not gone, by the log.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        let mut workers: Vec<Worker> = Vec::new();
        for line in self.log.all() {
            match Worker::of_line(&line) {
                Some((worker, rest)) if is_up(rest) => workers.push(worker),
                Some((worker, rest))
                    if rest.starts_with("died: ") || rest.starts_with("exited: ") =>
                {
                    workers.retain(|one| one.id != worker.id);
                }
                _ => {}
            }
        }
        workers
    }

    /// Waits until `count` workers listen.
    #[track_caller]
    pub(crate) fn wait_for_workers(&self, count: usize) -> Vec<Worker> {
        let mut workers = Vec::new();
        wait_until("all workers listening", || {
            workers = self.workers();
            workers.len() == count
        });
        workers
    }

    /// Waits for the line that says how `worker` ended, which starts with `how`, and then until its
    /// successor listens.
    #[track_caller]
    pub(crate) fn successor(&self, worker: Worker, how: &str) -> Worker {
        let next: u32 = self.log.find(0, |line| {
            let (who, rest) = Worker::of_line(line)?;
            let rest = rest.strip_prefix(how).filter(|_| who == worker)?;
            let (_, next) = rest.split_once("; forking worker ")?;
            next.parse().ok()
        });
        self.log.find(0, |line| {
            let (who, rest) = Worker::of_line(line)?;
            (who.id == next && is_up(rest)).then_some(who)
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Kills the primary alone; its workers are this process's children from then on.
    pub(crate) fn kill_primary(&mut self) {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        self.signal(Signal::SIGSTOP);
        self.orphans = watch::children(self.pid());
        self.signal(Signal::SIGKILL);
        self.status = Some(self.child.wait().unwrap());
    }

    /// Waits until the workers that lost their primary have ended, and how they did.
    #[track_caller]
    pub(crate) fn orphans_end(&mut self) -> Vec<WaitStatus> {
        let mut ends = Vec::new();
        wait_until("workers without a primary end", || {
            self.orphans.retain(|&pid| {
                let flag = Some(WaitPidFlag::WNOHANG);
                match waitpid(Pid::from_raw(pid), flag).unwrap() {
                    WaitStatus::StillAlive => true,
                    end => {
                        ends.push(end);
                        false
                    }
                }
            });
            self.orphans.is_empty()
        });
        ends
    }

    /// How the primary has ended, if it has.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.status = self.status.or_else(|| self.child.try_wait().unwrap());
        self.status
    }

    /// Waits until the primary has ended.
    #[track_caller]
    pub(crate) fn status(&mut self) -> ExitStatus {
        wait_until("the primary ends", || self.exited().is_some());
        self.status.unwrap()
    }

    /// Waits for the end of it and of all that it said.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        Ended {
            status: self.status(),
            out: self.out.complete(),
            log: self.log.complete(),
        }
    }

    /// Stops it gracefully, and checks that this is what happens.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        let ended = self.ended();
        assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.log);
        ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of {}:\n{}", self.pid(), self.log.all().join("\n"));
        }
        if self.status.is_none() {
            // Stopped it neither forks nor buries, so the numbers of its children stay theirs.
            self.signal(Signal::SIGSTOP);
            for pid in watch::children(self.pid()) {
                let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for pid in self.orphans.drain(..) {
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(pid), None);
        }
    }
}

/// The address in `http://ADDRESS`.
#[track_caller]
pub(crate) fn address_of(url: &str) -> SocketAddr {
    let address = url
        .strip_prefix("http://")
        .unwrap_or_else(|| panic!("{url}"));
    address.parse().unwrap()
}

/// How a process ended, for assertions: its code, or none after a signal.
pub(crate) fn ended_by(status: ExitStatus) -> Option<Signal> {
    status
        .signal()
        .and_then(|number| Signal::try_from(number).ok())
}

/// A directory of its own that goes with its owner.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mcluster-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
