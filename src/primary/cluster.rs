//! What users build a cluster with. Owns the settings and their defaults; leaves running to
//! [`Primary`].

use super::listen::Listen;
use super::members::Members;
use super::scheduler::{RoundRobin, SchedulingPolicy};
use super::supervisor::Supervisor;
use super::vessel::{Mode, work_and_exit};
use super::{Ended, Error, Event, HEEDED, LISTENERS, Observer, Primary, Result};
use crate::app::App;
use crate::board::{Board, MAX_WORKERS};
use crate::net::{Reactor, register};
use crate::server::gate::Gate;
use crate::server::{LONGEST, Limits};
use crate::sys::listener::{Listener, activation_fds, clear_activation_env};
use crate::sys::signal::{SignalFd, heed_children, ignore_broken_pipe};
use crate::sys::{cpu, process};
use crate::worker::Settings;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Descriptors that a worker needs for other things than connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// The address listened on when none is given.
const DEFAULT_ADDRESS: &str = "127.0.0.1:3000";

/// How many workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU that this process may use, by affinity and cgroup quota.
    #[default]
    Max,
    /// One fewer than that, and at least one.
    MaxMinusOne,
    /// That share of them in percent, rounded down, and at least one.
    Percent(u32),
    /// So many.
    Count(usize),
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(words: &str) -> std::result::Result<Self, String> {
        let wrong = |why| format!("{words:?} is no number of workers: {why}");
        match words {
            "max" => return Ok(Self::Max),
            "max-1" => return Ok(Self::MaxMinusOne),
            _ => {}
        }
        if let Some(percent) = words.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 1..=1000) => Ok(Self::Percent(percent)),
                _ => Err(wrong("a share is from 1% to 1000%".to_owned())),
            };
        }
        match words.parse() {
            Ok(0) => Err(wrong("there must be at least one".to_owned())),
            Ok(count) if count <= MAX_WORKERS => Ok(Self::Count(count)),
            Ok(_) => Err(wrong(format!("at most {MAX_WORKERS}"))),
            Err(_) => Err(wrong(
                "a number, max, max-1 or a share such as 50%".to_owned(),
            )),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::MaxMinusOne => f.write_str("max-1"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Workers {
    /// The number, and why that many.
    fn resolve(self, cpus: &cpu::Cpus) -> (usize, String) {
        let (count, how) = match self {
            Self::Max => (cpus.count, "max"),
            Self::MaxMinusOne => (cpus.count - 1, "max-1"),
            Self::Percent(percent) => (cpus.count * percent as usize / 100, "a share"),
            Self::Count(count) => return (count, "as asked".to_owned()),
        };
        let count = count.clamp(1, MAX_WORKERS);
        (count, format!("{how} of {}", cpus.why))
    }
}

/// An application on a cluster of workers that share its ports.
///
/// # Examples
///
/// ```no_run
/// use mcluster::{App, Cluster, Mode};
///
/// fn main() -> mcluster::Result<()> {
///     let app = App::new()
///         .get("/", |_| format!("Handled by process {}\n", std::process::id()));
///
///     Cluster::new(app).mode(Mode::Processes).listen("127.0.0.1:3000").run()
/// }
/// ```
pub struct Cluster {
    app: App,
    mode: Mode,
    workers: Workers,
    listen: Vec<String>,
    schedule: SchedulingPolicy,
    pool: Option<usize>,
    limits: Limits,
    drain_timeout: Duration,
    observer: Option<Observer>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("app", &self.app)
            .field("mode", &self.mode)
            .field("workers", &self.workers)
            .field("listen", &self.listen)
            .field("schedule", &self.schedule)
            .field("pool", &self.pool)
            .field("limits", &self.limits)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster of forked processes, one a CPU, on 127.0.0.1:3000.
    pub fn new(app: App) -> Self {
        Self {
            app,
            mode: Mode::default(),
            workers: Workers::default(),
            listen: Vec::new(),
            schedule: SchedulingPolicy::default(),
            pool: None,
            limits: Limits::default(),
            drain_timeout: Duration::from_secs(30),
            observer: None,
        }
    }

    /// What carries a worker: a forked process or a thread.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How many workers.
    #[must_use]
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = workers;
        self
    }

    /// Listens on `address` (see [`Listen`]); on several when called again. Without, on the
    /// sockets that systemd passes (`LISTEN_FDS`), else on 127.0.0.1:3000.
    #[must_use]
    pub fn listen(mut self, address: impl fmt::Display) -> Self {
        self.listen.push(address.to_string());
        self
    }

    /// Who accepts connections and which worker gets them.
    #[must_use]
    pub fn schedule(mut self, policy: SchedulingPolicy) -> Self {
        self.schedule = policy;
        self
    }

    /// Threads in each worker for handlers marked [`pooled`](crate::pooled); with 0 they run on
    /// the event loop. Without this, the CPUs divided by the workers, and at least one.
    #[must_use]
    pub fn pool(mut self, threads: usize) -> Self {
        self.pool = Some(threads);
        self
    }

    /// Limits on what clients may send.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long workers may finish what is in flight before they are killed.
    #[must_use]
    pub fn drain_timeout(mut self, time: Duration) -> Self {
        self.drain_timeout = time;
        self
    }

    /// Tells `observer` what happens, in the primary.
    #[must_use]
    pub fn on_event(mut self, observer: impl FnMut(&Event) + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Runs the cluster until a signal stops it (TERM, INT or QUIT; a second one stops at once).
    ///
    /// In processes mode this must be called before the program starts any thread. A worker
    /// leaves its process from inside this call, so nothing after it runs there. In threads mode,
    /// handlers that are still running when the time to finish is over go on running; they end
    /// with the process.
    ///
    /// # Errors
    ///
    /// When the settings make no sense, an address cannot be listened on, or workers keep dying
    /// before one of them was ready. [`Error::exit_code`] has the matching status.
    pub fn run(self) -> Result<()> {
        let mode = self.mode;
        let mut primary = self.into_primary()?;
        let parent = process::pid();
        let ended = primary.run();
        match ended {
            Ok(Ended::Child(seat)) => {
                let app = Arc::clone(&primary.app);
                debug_assert_eq!(mode, Mode::Processes);
                // The observer is the primary's: what it holds (a buffered file, a directory that
                // goes with it) must not be finished once a worker. The memory is shared anyway.
                if let Some(observer) = primary.observer.take() {
                    Box::leak(observer);
                }
                // Everything else that belongs to the primary closes here, by ownership.
                drop(primary);
                work_and_exit(app, *seat, parent)
            }
            Ok(Ended::Stopped) => {
                primary.clean_up();
                Ok(())
            }
            Err(error) => {
                primary.members.kill_all();
                primary.clean_up();
                Err(error)
            }
        }
    }

    fn into_primary(self) -> Result<Primary> {
        self.app.check().map_err(Error::Settings)?;
        if let Workers::Count(count) = self.workers
            && !(1..=MAX_WORKERS).contains(&count)
        {
            let what = format!("{count} workers: from 1 to {MAX_WORKERS} are possible");
            return Err(Error::Settings(what));
        }
        self.limits.check().map_err(Error::Settings)?;
        if self.drain_timeout > LONGEST {
            let what = "drain_timeout is longer than any clock goes".to_owned();
            return Err(Error::Settings(what));
        }
        let cpus = cpu::available();
        let (workers, why) = self.workers.resolve(&cpus);
        let listeners = self.bind()?;
        ignore_broken_pipe();
        heed_children();
        let pool = self.pool.unwrap_or_else(|| (cpus.count / workers).max(1));
        log::info!(
            "mcluster {}: {workers} workers ({why}) as {}, schedule {}, pool {pool}",
            env!("CARGO_PKG_VERSION"),
            self.mode,
            self.schedule,
        );
        let settings = Settings {
            limits: self.limits_within_reach(workers),
            pool,
            listeners: listeners.len() as u32,
            drain_timeout: self.drain_timeout,
        };
        let reactor = Reactor::new().map_err(Error::io("making an epoll set"))?;
        let mut gate = match self.schedule {
            SchedulingPolicy::RoundRobin => Gate::default(),
            SchedulingPolicy::Shared => Gate::closed(),
        };
        for (number, listener) in listeners.into_iter().enumerate() {
            gate.add(reactor.registry(), listener, LISTENERS + number)
                .map_err(Error::io("waiting for a listener"))?;
        }
        let signals = SignalFd::new(&HEEDED).map_err(Error::io("reading signals"))?;
        register(reactor.registry(), &signals, super::SIGNALS)
            .map_err(Error::io("waiting for signals"))?;
        log::info!("primary {} is running", process::pid());
        Ok(Primary {
            app: Arc::new(self.app),
            mode: self.mode,
            policy: self.schedule,
            settings,
            observer: self.observer,
            reactor,
            signals,
            gate,
            board: Board::new().map_err(Error::io("making the scoreboard"))?,
            members: Members::default(),
            supervisor: Supervisor::new(workers, self.drain_timeout),
            round: RoundRobin::default(),
            waiting: VecDeque::new(),
            stop_asked: None,
            offer_at: None,
            inspect_at: None,
            flush_at: None,
            refusing: false,
            deaths: false,
            announced: false,
            last_exit: String::new(),
        })
    }

    fn bind(&self) -> Result<Vec<Listener>> {
        let inherited = activation_fds();
        let asked: Vec<Listen> = if !self.listen.is_empty() {
            let parsed = self.listen.iter().map(|address| address.parse());
            parsed
                .collect::<std::result::Result<_, _>>()
                .map_err(Error::Settings)?
        } else if !inherited.is_empty() {
            clear_activation_env();
            inherited.into_iter().map(Listen::Fd).collect()
        } else {
            vec![DEFAULT_ADDRESS.parse().map_err(Error::Settings)?]
        };
        asked.iter().map(Listen::bind).collect()
    }

    /// The limits, with no more connections than there can be descriptors: running out of them
    /// would cost connections that had been accepted.
    fn limits_within_reach(&self, workers: usize) -> Limits {
        let mut limits = self.limits.clone();
        match process::raise_descriptor_limit() {
            Ok(descriptors) => {
                let sharing = match self.mode {
                    Mode::Processes => 1,
                    Mode::Threads => workers as u64,
                };
                let reach = (descriptors / sharing)
                    .saturating_sub(SPARE_DESCRIPTORS)
                    .max(1);
                if (limits.connections as u64) > reach {
                    log::info!("at most {reach} connections a worker, by the limit of descriptors");
                    limits.connections = reach as usize;
                }
            }
            Err(error) => log::warn!("the limit of descriptors is unknown: {error}"),
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_workers() {
        let cpus = cpu::Cpus {
            count: 4,
            why: "4 CPUs".to_owned(),
        };
        let cases = [
            ("max", 4),
            ("max-1", 3),
            ("50%", 2),
            ("10%", 1),
            ("200%", 8),
            ("7", 7),
        ];
        for (words, expected) in cases {
            let workers: Workers = words.parse().unwrap();
            assert_eq!(workers.resolve(&cpus).0, expected, "{words}");
            assert_eq!(workers.to_string(), words);
        }
        for words in ["", "0", "-1", "1025", "x", "0%", "%", "max-2", "1.5"] {
            assert!(words.parse::<Workers>().is_err(), "{words}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_opened() {
        let bad = Cluster::new(App::new())
            .listen("nowhere")
            .run()
            .unwrap_err();
        assert_eq!(bad.exit_code(), 2);
        let app = App::new().get("relative", |_| "");
        assert_eq!(Cluster::new(app).run().unwrap_err().exit_code(), 2);
        let limits = Limits {
            connections: 0,
            ..Limits::default()
        };
        let closed = Cluster::new(App::new()).limits(limits);
        assert_eq!(closed.run().unwrap_err().exit_code(), 2);
        let none = Cluster::new(App::new()).workers(Workers::Count(0));
        assert_eq!(none.run().unwrap_err().exit_code(), 2);
    }
}
