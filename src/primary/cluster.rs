//! What users build a cluster with. Owns the settings and their defaults; leaves making a primary
//! of them to `begin`, and running to [`Primary`](super::Primary).

use super::scheduler::SchedulingPolicy;
use super::vessel::{Mode, work_and_exit};
use super::{ClusterHandle, Ended, Event, Observer, Result, Workers};
use crate::app::App;
use crate::server::Limits;
use crate::sys::process;
use crate::worker::{OnWorker, Worker};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

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
    pub(super) app: App,
    pub(super) program: Option<super::program::Program>,
    pub(super) mode: Mode,
    pub(super) workers: Workers,
    pub(super) listen: Vec<String>,
    pub(super) schedule: SchedulingPolicy,
    pub(super) pool: Option<usize>,
    pub(super) limits: Limits,
    pub(super) edge: super::edge::Wanted,
    pub(super) drain_timeout: Duration,
    pub(super) drain_delay: Duration,
    pub(super) start_timeout: Duration,
    pub(super) worker_timeout: Option<Duration>,
    pub(super) max_requests: Option<(u64, u64)>,
    pub(super) max_memory: Option<u64>,
    pub(super) health_path: Option<String>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) pinned: bool,
    pub(super) nice: Option<i32>,
    pub(super) managed: bool,
    pub(super) silent: bool,
    #[cfg(feature = "control")]
    pub(super) access: super::control::Access,
    pub(super) link: super::link::Wanted,
    pub(super) on_worker: Option<OnWorker>,
    pub(super) observer: Option<Observer>,
    pub(super) beside: Option<Box<dyn super::beside::Beside>>,
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
            program: None,
            mode: Mode::default(),
            workers: Workers::default(),
            listen: Vec::new(),
            schedule: SchedulingPolicy::default(),
            pool: None,
            limits: Limits::default(),
            edge: super::edge::Wanted::default(),
            drain_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            start_timeout: Duration::from_secs(30),
            worker_timeout: Some(Duration::from_secs(30)),
            max_requests: None,
            max_memory: None,
            health_path: None,
            user: None,
            group: None,
            env: Vec::new(),
            pinned: false,
            nice: None,
            managed: true,
            silent: false,
            #[cfg(feature = "control")]
            access: super::control::Access::default(),
            link: super::link::Wanted::default(),
            on_worker: None,
            observer: None,
            beside: None,
        }
    }

    /// A cluster whose workers are programs of another kind, one a CPU, which say by themselves where
    /// to listen unless [`Cluster::listen`] does. Those that inherit their sockets
    /// ([`Protocol::Sockets`](crate::Protocol::Sockets)) share them, unless
    /// [`Cluster::schedule`] gives each worker one of its own by
    /// [`SchedulingPolicy::ReusePort`]; no other policy is for them.
    #[cfg(feature = "programs")]
    pub fn of_program(program: super::Program) -> Self {
        Self {
            schedule: program.usual_policy(),
            program: Some(program),
            ..Self::new(App::new())
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

    /// Listens on `address` (see [`Listen`](crate::Listen)); on several when called again. Without, on the
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
    ///
    /// They make way for the event loops: their nice value is 5 above the worker's, and their
    /// scheduling slice 20 ms, so that a loop that wakes up (the usual slice is a few milliseconds)
    /// need not wait for one of them; see sched_setattr(2). Threads and programs that a handler starts
    /// on them inherit both.
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

    /// How long the cluster goes on serving after it was told to stop, before it drains: while
    /// the health path says 503, so that load balancers turn away in time.
    #[must_use]
    pub fn drain_delay(mut self, time: Duration) -> Self {
        self.drain_delay = time;
        self
    }

    /// How long a new worker may take until it listens; then it is killed, and has failed.
    #[must_use]
    pub fn start_timeout(mut self, time: Duration) -> Self {
        self.start_timeout = time;
        self
    }

    /// A worker whose loop stands still for longer is killed and replaced; `None` lets it be. A
    /// worker that is a thread cannot be killed: another takes its place until it goes on.
    #[must_use]
    pub fn worker_timeout(mut self, time: Option<Duration>) -> Self {
        self.worker_timeout = time;
        self
    }

    /// Replaces a worker that has answered `requests`, and up to `jitter` more, so that not all
    /// are replaced at a time.
    #[must_use]
    pub fn max_requests(mut self, requests: u64, jitter: u64) -> Self {
        self.max_requests = Some((requests, jitter));
        self
    }

    /// Replaces a worker whose process has more than so many bytes of memory resident. Looked at
    /// once a second; in processes mode only.
    #[must_use]
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// Answers GET at `path` by 200, and by 503 once the cluster was told to stop.
    #[must_use]
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.health_path = Some(path.into());
        self
    }

    /// Has workers run as this user, by name or number; in threads mode the whole process, once
    /// it listens. (`uid`)
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Has workers run in this group, by name or number; without it, in their user's. (`gid`)
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Adds a variable to the environment of every worker; in processes mode only.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Keeps each worker to one CPU, by its place.
    #[must_use]
    pub fn cpu_affinity(mut self, pinned: bool) -> Self {
        self.pinned = pinned;
        self
    }

    /// The nice value of the workers, from -20 to 19; see setpriority(2).
    #[must_use]
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// Whether the cluster sees to it by itself that there are workers: it does unless this says
    /// false. Then none is forked but by [`ClusterHandle::fork`], none is replaced, and
    /// [`Cluster::run`] returns when the last one is gone and no other was wished for; signals and
    /// control clients that ask for a reload, a restart or another number are refused.
    #[must_use]
    pub fn managed(mut self, managed: bool) -> Self {
        self.managed = managed;
        self
    }

    /// Listens nowhere by itself: workers say where, by [`Worker::listen`](crate::Worker::listen).
    #[must_use]
    pub fn listen_by_workers(mut self) -> Self {
        self.silent = true;
        self
    }

    /// The cluster's name, by which `mcluster status --name NAME` and its like find it: it has a
    /// control socket of that name in this user's runtime directory. Without a name and a path it
    /// has none. 1 to 64 letters, digits, dots, dashes and underscores.
    #[cfg(feature = "control")]
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.access.name = Some(name.into());
        self
    }

    /// The control socket, where it is not to be in the runtime directory. Its directory must not
    /// be open to changes by other users.
    #[cfg(feature = "control")]
    #[must_use]
    pub fn control(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.access.path = Some(path.into());
        self
    }

    /// Shows what the control socket shows at this `HOST:PORT` as well; changes are refused there.
    #[cfg(feature = "control")]
    #[must_use]
    pub fn admin(mut self, address: impl fmt::Display) -> Self {
        self.access.admin = Some(address.to_string());
        self
    }

    /// Calls `start` in each worker before it serves, on its loop.
    #[must_use]
    pub fn on_worker(mut self, start: impl Fn(&Worker) + Send + Sync + 'static) -> Self {
        self.on_worker = Some(Arc::new(start));
        self
    }

    /// Tells `observer` what happens, in the primary, whose loop waits meanwhile. By the handle it
    /// may ask for changes.
    #[must_use]
    pub fn on_event(mut self, observer: impl FnMut(&ClusterHandle, &Event) + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Has `beside` look after what was started beside the primary. All children that end and are no
    /// workers are waited for then. Only for programs: other workers leave from inside [`Cluster::run`].
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn beside(mut self, beside: impl super::beside::Beside + 'static) -> Self {
        self.beside = Some(Box::new(beside));
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
    /// before one of them was ready. [`Error::exit_code`](crate::Error::exit_code) has the matching status.
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
                Box::leak(Box::new(std::mem::take(&mut primary.wishes)));
                // Everything else that belongs to the primary closes here, by ownership.
                drop(primary);
                work_and_exit(app, *seat, parent)
            }
            Ok(Ended::Stopped) => {
                primary.finish_link();
                primary.clean_up(None);
                Ok(())
            }
            Err(error) => {
                primary.members.kill_all();
                primary.clean_up(Some(&error.to_string()));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
