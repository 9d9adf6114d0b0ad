//! From settings to a primary: checks them, binds, and makes everything that the loop needs.

use super::control::{Console, Sockets};
use super::courtesy::Courtesy;
use super::event::Settings;
use super::life::Past;
use super::members::Members;
use super::peek::Peeks;
use super::ports::Ports;
use super::scheduler::Round;
use super::supervisor::{Patience, Supervisor};
use super::upgrade::{self, Inheritance};
use super::{
    Cluster, ClusterHandle, Error, HEEDED, Mode, Primary, Result, Rules, Workers, systemd, watch,
    wishes,
};
use crate::app::Response;
use crate::board::{Board, MAX_WORKERS};
use crate::ipc::{BUFFER_BYTES, HAND};
use crate::net::{Listen, Reactor, register};
#[cfg(feature = "control")]
use crate::runtime::USUAL_NAME;
use crate::server::{LONGEST, Limits};
use crate::sorted::SortedSet;
use crate::sys::listener::{Listener, activation_fds, clear_activation_env};
use crate::sys::privilege::{self, Identity};
use crate::sys::signal::{SignalFd, heed_children, ignore_broken_pipe};
use crate::sys::{cpu, proc, process};
use crate::worker;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Descriptors that a worker needs for other things than connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// The address listened on when none is given.
const DEFAULT_ADDRESS: &str = "127.0.0.1:3000";

/// The scoreboard, once there is one: for the health path.
type Health = Arc<OnceLock<Arc<Board>>>;

impl Cluster {
    pub(super) fn into_primary(mut self) -> Result<Primary> {
        let health = Arc::new(OnceLock::new());
        let judged = self.judged(&health);
        let mut inheritance = Inheritance::find(&self)?;
        let given_up = |error| match &inheritance {
            Some(inheritance) => inheritance.give_up(error),
            None => error,
        };
        let identity = judged.map_err(given_up)?;
        // First of all that opens anything: inherited descriptors must not be mistaken for ours.
        let asked = self.asked(inheritance.as_ref()).map_err(given_up)?;
        let listeners = bind(&asked, inheritance.as_ref()).map_err(given_up)?;
        let edge = self.edge.settings(identity.as_ref()).map_err(given_up)?;
        let output = self.open_output(identity.as_ref()).map_err(given_up)?;
        // Threads share their process with the primary, so all of it becomes somebody else; before
        // the control socket is made, which is that user's.
        if let (Mode::Threads, Some(identity)) = (self.mode, &identity) {
            identity
                .assume()
                .map_err(Error::io("becoming another user"))?;
        }
        let passage = inheritance.as_ref().and_then(Inheritance::passage);
        let link = self.link.open(passage).map_err(given_up)?;
        let control = self
            .control_sockets(inheritance.as_ref())
            .map_err(given_up)?;
        let reactor = Reactor::new().map_err(Error::io("making an epoll set"));
        let reactor = reactor.map_err(given_up)?;
        let signals = SignalFd::new(&HEEDED).map_err(Error::io("reading signals"));
        let mut signals = signals.map_err(given_up)?;
        if let Some(inheritance) = &inheritance {
            inheritance.conclude_trial(made(&listeners, &control));
            inheritance.look_over().map_err(given_up)?;
            signals = signals.inherited_mask(&HEEDED);
        }
        // From here on what was inherited is ours, and there is no way back.
        let cpus = cpu::available();
        let (workers, why) = match self.managed {
            true => self.workers.resolve(&cpus),
            false => (0, "the application forks them".to_owned()),
        };
        // While this process has one thread, since it changes the environment.
        let service = systemd::State::from_env();
        let board = match &inheritance {
            None => Board::new(),
            Some(inheritance) => inheritance.board(),
        };
        let board = board.map_err(Error::io("making the scoreboard"))?;
        let _ = health.set(Arc::clone(&board));
        ignore_broken_pipe();
        heed_children();
        let pool = self
            .pool
            .unwrap_or_else(|| (cpus.count / workers.max(1)).max(1));
        let (version, schedule) = (env!("CARGO_PKG_VERSION"), &self.schedule);
        let what = match &self.program {
            Some(program) => format!("of {}, schedule {schedule}", program.label()),
            None => format!("as {}, schedule {schedule}, pool {pool}", self.mode),
        };
        log::info!("mcluster {version}: {workers} workers ({why}) {what}");
        let registry = reactor.registry();
        let ports = match &mut inheritance {
            None => Ok(Ports::new()),
            Some(inheritance) => inheritance.ports(registry),
        };
        let mut ports = ports.map_err(Error::io("taking listeners over"))?;
        for (listen, listener) in asked.iter().zip(listeners) {
            let words = listen.to_string();
            match listener {
                Some(listener) => {
                    if let Some(program) = &self.program {
                        let prepared = program.prepare(&listener);
                        prepared.map_err(Error::io("preparing a listener"))?;
                    }
                    ports
                        .add(registry, listener, words)
                        .map_err(Error::io("waiting for a listener"))?;
                }
                None => ports.add_again(&words),
            }
        }
        ports.keeps = self.program.is_some();
        let console = self.console(control, inheritance.as_ref(), registry)?;
        register(reactor.registry(), &signals, super::SIGNALS)
            .map_err(Error::io("waiting for signals"))?;
        // When nothing can fail any more, since the program before may have to go on.
        ports.close_others(registry);
        log::info!("primary {} is running", process::pid());
        let patience = match &self.program {
            Some(program) => program.patience(self.drain_timeout),
            None => Patience {
                drain: self.drain_timeout,
                start: self.start_timeout,
                restart: Duration::ZERO,
                soon: Duration::ZERO,
            },
        };
        let mut supervisor = Supervisor::new(workers, patience);
        if !self.managed {
            supervisor.set_unmanaged();
        }
        let handle = ClusterHandle::default();
        let settings = Settings {
            mode: self.mode,
            workers,
            schedule: self.schedule.clone(),
            addresses: ports.addresses(),
            pool,
            drain_timeout: self.drain_timeout,
        };
        handle.begin(supervisor.ids(), settings);
        handle.open_relay(&link);
        // Whoever watches must see an idle loop turn.
        let watched = [self.worker_timeout, service.interval()];
        let descriptors = process::raise_descriptor_limit()
            .inspect_err(|error| log::warn!("the limit of descriptors is unknown: {error}"))
            .ok();
        let limits = self.limits_within_reach(workers, descriptors);
        let settings = worker::Settings {
            limits,
            edge,
            pool,
            listeners: ports.configured(),
            drain_timeout: self.drain_timeout,
            heartbeat: watched.into_iter().flatten().min().map(watch::heartbeat),
            max_requests: None,
            env: self.env,
            identity: identity.filter(|_| self.mode == Mode::Processes),
            place: 0,
            pinned: self.pinned,
            nice: self.nice,
        };
        let mut primary = Primary {
            app: Arc::new(self.app),
            rules: Rules {
                mode: self.mode,
                program: self.program.map(Arc::new),
                settings,
                on_worker: self.on_worker,
                worker_timeout: self.worker_timeout,
                max_requests: self.max_requests,
                max_memory: self.max_memory,
                drain_delay: self.drain_delay,
                patience,
                #[cfg(feature = "control")]
                admin: self.access.admin.clone(),
                #[cfg(not(feature = "control"))]
                admin: None,
                access_log: self.edge.path().map(Into::into),
                most_held: most_held(descriptors),
            },
            policy: self.schedule,
            observer: self.observer,
            beside: self.beside,
            handle,
            reactor,
            signals,
            ports,
            board,
            console,
            output,
            service,
            owned: super::program::Owned::default(),
            began: Instant::now(),
            members: Members::default(),
            supervisor,
            round: Round::default(),
            wishes: wishes::State::default(),
            watch: watch::State::default(),
            sweeps: super::sweeps::State::default(),
            buffer: vec![0; BUFFER_BYTES],
            waiting: VecDeque::new(),
            peeks: Peeks::default(),
            stop_at: None,
            stop_asked: None,
            offer_at: None,
            grant_at: None,
            inspect_at: None,
            flush_at: None,
            refusing: false,
            deaths: false,
            announced: false,
            last_exit: String::new(),
            own_generation: 0,
            slots: SortedSet::new(),
            past: Past::default(),
            program: upgrade::program(),
            programs: super::program::State::default(),
            trial: None,
            link,
            willing: false,
            unheard: SortedSet::new(),
            stop_until: None,
            reload_first: false,
            courtesy: Courtesy::default(),
            memory_kills: proc::memory_kills(),
        };
        if let Some(inheritance) = inheritance {
            primary
                .resume(inheritance)
                .map_err(Error::io("taking workers over"))?;
        }
        Ok(primary)
    }

    /// Whether the settings make sense; whom workers become by them.
    fn judged(&mut self, health: &Health) -> Result<Option<Identity>> {
        self.check()?;
        self.add_health_path(health);
        self.app.check().map_err(Error::Settings)?;
        self.identity()
    }

    /// Whether a cluster could be run by these settings, as far as can be told without opening
    /// anything: [`Cluster::run`] says the same, and more.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`], naming what makes no sense.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Cluster};
    ///
    /// let cluster = Cluster::new(App::new().get("/health", |_| "mine")).health_path("/health");
    /// assert!(cluster.judge().is_err(), "the path is taken");
    /// ```
    pub fn judge(mut self) -> Result<()> {
        self.judged(&Health::default()).map(drop)
    }

    /// Whether the settings make sense, as far as can be told before anything is opened.
    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Settings(what));
        if let Workers::Count(count) = self.workers
            && !(1..=MAX_WORKERS).contains(&count)
        {
            return wrong(format!(
                "{count} workers: from 1 to {MAX_WORKERS} are possible"
            ));
        }
        self.limits.check().map_err(Error::Settings)?;
        #[cfg(feature = "programs")]
        if let Some(program) = &self.program {
            program.check(self).map_err(Error::Settings)?;
        }
        self.edge.check()?;
        let policy = self.schedule.check();
        policy.or_else(|why| wrong(format!("schedule: {why}")))?;
        self.link.check()?;
        #[cfg(feature = "control")]
        self.access.check()?;
        let times = [
            ("drain_timeout", self.drain_timeout),
            ("drain_delay", self.drain_delay),
            ("start_timeout", self.start_timeout),
            ("worker_timeout", self.worker_timeout.unwrap_or_default()),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time > LONGEST) {
            return wrong(format!("{name} is longer than any clock goes"));
        }
        if self.start_timeout.is_zero() || self.worker_timeout.is_some_and(|time| time.is_zero()) {
            return wrong("a time limit of 0 would end every worker".to_owned());
        }
        if self.max_requests.is_some_and(|(most, _)| most == 0) {
            return wrong("max_requests is 0, so no worker could answer anything".to_owned());
        }
        if self.nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
            return wrong("a nice value is from -20 to 19".to_owned());
        }
        if self.mode == Mode::Threads && self.max_memory.is_some() {
            return wrong("max_memory: threads share the memory of one process".to_owned());
        }
        if self.mode == Mode::Threads && !self.env.is_empty() {
            return wrong("env: threads share the environment of one process".to_owned());
        }
        let senseless = |(name, value): &&(String, String)| !process::is_variable(name, value);
        if let Some((name, _)) = self.env.iter().find(senseless) {
            return wrong(format!("env: {name:?} is no name of a variable"));
        }
        if self.silent && !self.listen.is_empty() {
            return wrong("listen and listen_by_workers exclude each other".to_owned());
        }
        Ok(())
    }

    /// The sockets of the control interface that must be made: those that are not inherited.
    #[cfg(feature = "control")]
    fn control_sockets(&self, inheritance: Option<&Inheritance>) -> Result<Sockets> {
        let mut wanted = self.access.clone();
        if let Some(inheritance) = inheritance {
            inheritance.leave_out(&mut wanted);
        }
        Sockets::make(&wanted)
    }

    #[cfg(feature = "control")]
    fn console(
        &self,
        mut sockets: Sockets,
        inheritance: Option<&Inheritance>,
        registry: &mio::Registry,
    ) -> Result<Option<Console>> {
        if let Some(inheritance) = inheritance {
            inheritance.add_sockets(&self.access, &mut sockets)?;
        }
        let name = self.access.name.as_deref().unwrap_or(USUAL_NAME);
        Console::on(name, sockets.control, sockets.admin, registry)
    }

    #[cfg(not(feature = "control"))]
    fn control_sockets(&self, _inheritance: Option<&Inheritance>) -> Result<Sockets> {
        Ok(Sockets)
    }

    #[cfg(not(feature = "control"))]
    fn console(
        &self,
        _sockets: Sockets,
        _inheritance: Option<&Inheritance>,
        _registry: &mio::Registry,
    ) -> Result<Option<Console>> {
        Ok(None)
    }

    fn identity(&self) -> Result<Option<Identity>> {
        let identity = privilege::identity(self.user.as_deref(), self.group.as_deref())
            .map_err(|error| Error::Settings(error.to_string()))?;
        if let Some(identity) = &identity
            && !privilege::may_change()
        {
            let what = format!("workers cannot become {identity}: only root may change users");
            return Err(Error::Settings(what));
        }
        Ok(identity)
    }

    fn add_health_path(&mut self, board: &Health) {
        let Some(path) = self.health_path.take() else {
            return;
        };
        let board = Arc::clone(board);
        let app = std::mem::take(&mut self.app);
        self.app = app.get(&path, move |_| {
            match board.get().is_some_and(|one| one.is_draining()) {
                false => Response::text("ok\n"),
                true => Response::text("draining\n").with_status(503),
            }
        });
    }

    /// Where to listen.
    fn asked(&self, inheritance: Option<&Inheritance>) -> Result<Vec<Listen>> {
        let inherited = activation_fds();
        if self.silent {
            return Ok(Vec::new());
        }
        if !self.listen.is_empty() {
            let parsed = self.listen.iter().map(|address| address.parse());
            return parsed
                .collect::<std::result::Result<_, _>>()
                .map_err(Error::Settings);
        }
        if let Some(inheritance) = inheritance {
            return Ok(inheritance.listened());
        }
        if !inherited.is_empty() {
            clear_activation_env();
            return Ok(inherited.into_iter().map(Listen::Fd).collect());
        }
        if self.program.is_some() {
            // They say by themselves where to listen.
            return Ok(Vec::new());
        }
        let usual = DEFAULT_ADDRESS.parse().map_err(Error::Settings)?;
        Ok(vec![usual])
    }

    /// The limits, with no more connections than there can be descriptors: running out of them
    /// would cost connections that had been accepted. An answer may hold a file open as well, so
    /// where there are files a third is theirs, or more where connections need less.
    fn limits_within_reach(&mut self, workers: usize, descriptors: Option<u64>) -> Limits {
        let mut limits = self.limits.clone();
        let Some(descriptors) = descriptors else {
            return limits;
        };
        let sharing = match self.mode {
            Mode::Processes => 1,
            Mode::Threads => workers.max(1) as u64,
        };
        let reach = (descriptors / sharing)
            .saturating_sub(SPARE_DESCRIPTORS)
            .max(1);
        let most = match self.app.has_files() {
            true => reach - reach / 3,
            false => reach,
        };
        if self.program.is_some() {
            // Theirs are their own matter.
            return limits;
        }
        if (limits.connections as u64) > most {
            log::info!("at most {most} connections a worker, by the limit of descriptors");
            limits.connections = most as usize;
        }
        let rest = reach.saturating_sub(limits.connections as u64).max(1);
        self.app
            .set_most_open(usize::try_from(rest).unwrap_or(usize::MAX));
        limits
    }
}

/// The listeners that were made, not inherited.
fn made<'a>(
    listeners: &'a [Option<Listener>],
    control: &'a Sockets,
) -> impl Iterator<Item = &'a Listener> {
    listeners.iter().flatten().chain(control.iter())
}

/// How many connections the primary may hold itself: half of what it may open, and a few hands.
fn most_held(descriptors: Option<u64>) -> usize {
    let half = descriptors.unwrap_or(0) / 2;
    usize::try_from(half).unwrap_or(usize::MAX).max(2 * HAND)
}

/// Makes the listeners; nothing for those that are inherited.
fn bind(asked: &[Listen], inheritance: Option<&Inheritance>) -> Result<Vec<Option<Listener>>> {
    let mut there = inheritance.map(Inheritance::listened).unwrap_or_default();
    let bind = |listen: &Listen| {
        // One for one: port 0 may stand there several times.
        if let Some(at) = there.iter().position(|one| one == listen) {
            there.swap_remove(at);
            return Ok(None);
        }
        listen.bind().map(Some).map_err(|source| Error::Bind {
            address: listen.to_string(),
            source,
        })
    };
    asked.iter().map(bind).collect()
}
