//! The primary: keeps the workers alive and, where its policy says so, deals them connections.
//!
//! [`Primary::run`] is the loop. What should happen is decided by `supervisor` and `scheduler`,
//! which are pure; `life` launches and buries workers, which `vessel` carries; `deal` accepts and
//! deals, `grants` leaves accepting to the workers, `peek` looks at what clients say first, `edge`
//! opens the access log, `hands` keeps what was granted or handed over, `courtesy` deals after the
//! workers and several at a time, `ports` the listeners;
//! `talk` is the conversation, `broadcast` tells all workers, `link` other clusters, `watch` finds
//! who stands still, `sweeps` has old sessions forgotten, `wishes` does what the application asks
//! by `handle`, `systemd` keeps a service manager informed.
//! [`Cluster`] is what users build one with. May use everything below.

mod begin;
mod beside;
mod broadcast;
mod cluster;
#[cfg(feature = "control")]
mod control;
#[cfg(not(feature = "control"))]
#[path = "no_control.rs"]
mod control;
mod courtesy;
mod deal;
mod edge;
mod error;
mod event;
mod grants;
mod handle;
mod hands;
mod life;
#[cfg(feature = "redis")]
mod link;
#[cfg(not(feature = "redis"))]
#[path = "no_link.rs"]
mod link;
mod members;
mod peek;
mod ports;
#[cfg(feature = "programs")]
mod program;
#[cfg(not(feature = "programs"))]
#[path = "no_program.rs"]
mod program;
mod rendezvous;
mod scheduler;
mod steering;
mod supervisor;
mod sweeps;
mod systemd;
mod talk;
#[cfg(feature = "control")]
mod upgrade;
#[cfg(not(feature = "control"))]
#[path = "no_upgrade.rs"]
mod upgrade;
mod vessel;
mod watch;
mod wishes;
mod workers;

#[cfg(feature = "cli")]
pub(crate) use beside::Beside;
pub use cluster::Cluster;
pub use error::{Error, Result};
pub use event::{Event, Reload, Settings};
pub use handle::{ClusterHandle, WorkerHandle, WorkerState};
#[cfg(feature = "programs")]
pub use program::{Program, Protocol};
pub use scheduler::SchedulingPolicy;
pub use vessel::Mode;
pub use workers::Workers;

use crate::app::App;
use crate::board::Board;
use crate::net::token::FIRST;
#[cfg(feature = "programs")]
use crate::net::token::NOTICES;
use crate::net::{Reactor, Ready};
use crate::sorted::SortedSet;
use crate::sys::process;
use crate::sys::signal::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SignalFd,
};
use crate::worker::{OnWorker, Seat, WorkerId};
use control::Console;
use courtesy::Courtesy;
use hands::Arrival;
use life::Past;
use link::{LINK, Link};
use members::Members;
use peek::{Peeks, is_peeked};
use ports::Ports;
#[cfg(not(feature = "programs"))]
use program::Program;
#[cfg(feature = "programs")]
use program::is_notice;
use program::{Output, is_output};
use scheduler::Round;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::{Action, Patience, Supervisor};
use upgrade::{TRIAL, Trial};

const SIGNALS: usize = 0;

type Observer = Box<dyn FnMut(&ClusterHandle, &Event)>;

/// What can wake the primary.
enum Wake {
    /// Signals came.
    Signals,
    /// Connections wait at the socket with this token.
    Listener(usize),
    /// A worker said something, or is gone.
    Worker(WorkerId),
    /// More has come of a connection that is looked at.
    Peeked(Ready),
    /// Something at the control interface.
    Console(Ready),
    /// The trial of a program that is to take over has said something, or ended.
    Trial,
    /// Something on the way to other clusters.
    Link(Ready),
    /// A worker that is a program says how it is.
    #[cfg(feature = "programs")]
    Notice(WorkerId),
    /// A worker that is a program has written something.
    Output(Ready),
}

/// How the loop ended.
enum Ended {
    /// As it should.
    Stopped,
    /// This process is a worker now.
    Child(Box<Seat>),
}

/// What workers are told and the primary goes by, beside what may change.
struct Rules {
    mode: Mode,
    /// What workers are, if not of our own kind.
    program: Option<Arc<Program>>,
    /// What every worker is told; some of it is made out for each.
    settings: crate::worker::Settings,
    on_worker: Option<OnWorker>,
    /// A worker whose loop stands still for longer is replaced.
    worker_timeout: Option<Duration>,
    /// Requests after which a worker is replaced, and how much that may differ.
    max_requests: Option<(u64, u64)>,
    /// Memory, in bytes, past which a worker is replaced.
    max_memory: Option<u64>,
    /// How long to go on serving between being told to stop and draining.
    drain_delay: Duration,
    patience: Patience,
    /// Where the pages on TCP are, in the words of the settings.
    admin: Option<String>,
    /// Where the access log is.
    access_log: Option<PathBuf>,
    /// Connections that the primary may hold itself, so that its descriptors suffice.
    most_held: usize,
}

struct Primary {
    app: Arc<App>,
    rules: Rules,
    policy: SchedulingPolicy,
    observer: Option<Observer>,
    beside: Option<Box<dyn beside::Beside>>,
    handle: ClusterHandle,
    reactor: Reactor,
    signals: SignalFd,
    ports: Ports,
    board: Arc<Board>,
    /// The control interface, where there is one.
    console: Option<Console>,
    /// What a service manager is told.
    service: systemd::State,
    /// Whose the ids are that programs have made.
    owned: program::Owned,
    /// When this cluster began.
    began: Instant,
    members: Members,
    supervisor: Supervisor,
    round: Round,
    wishes: wishes::State,
    watch: watch::State,
    sweeps: sweeps::State,
    buffer: Vec<u8>,
    /// A stop was asked for, and begins then.
    stop_at: Option<Instant>,
    /// When it begins at the latest, if it waits for somebody to serve what has come.
    stop_until: Option<Instant>,
    /// Workers that have connections to hand back, and are not heard until there is room.
    unheard: SortedSet<WorkerId>,
    /// A stop was asked for then, and waits for what was accepted before to be dealt.
    stop_asked: Option<Instant>,
    /// Accepted, or handed back, and not dealt yet.
    waiting: VecDeque<Arrival>,
    /// Accepted, and it is not known yet whose they are.
    peeks: Peeks,
    /// When to offer them again.
    offer_at: Option<Instant>,
    /// When to look at the kernel's queues again.
    grant_at: Option<Instant>,
    /// When to look for connections that were handed over and not taken.
    inspect_at: Option<Instant>,
    /// When to say again what a worker had no room for.
    flush_at: Option<Instant>,
    /// No worker lives, so clients are refused.
    refusing: bool,
    /// Somebody has died, or hung up.
    deaths: bool,
    announced: bool,
    /// How the last worker ended.
    last_exit: String,
    /// Workers of an older generation run the program that this one took over from.
    own_generation: u32,
    /// The slots of the board that are taken.
    slots: SortedSet<usize>,
    /// What the dead have done, and what was lost with them.
    past: Past,
    /// What is executed to take over from this program, and its trial.
    program: PathBuf,
    /// What is known of workers that are programs.
    programs: program::State,
    trial: Option<Trial>,
    /// The way to other clusters, where there is one.
    link: Link,
    /// What workers write that are programs.
    output: Option<Output>,
    /// The trial went well: the next program takes over at the end of the turn.
    willing: bool,
    /// This program has taken over workers of another, which it replaces.
    reload_first: bool,
    /// How it takes its turn beside its workers.
    courtesy: Courtesy,
    /// How often the kernel had ended somebody of this group for memory.
    memory_kills: Option<u64>,
}

impl Primary {
    fn run(&mut self) -> Result<Ended> {
        self.set_up();
        if std::mem::take(&mut self.reload_first) {
            self.reload();
        }
        // Whether a worker has said something in the turn before.
        let mut conversing = false;
        loop {
            self.tend_link();
            if let Some(ended) = self.reconcile()? {
                return Ok(ended);
            }
            self.hand_on();
            self.deal();
            self.mind_the_listeners();
            self.keep_informed();
            self.send_to_link();
            self.tend_output();
            let deadline = self.deadline();
            let began = self.reactor.now();
            // Programs are to have the next connection when they have taken one, and a worker that
            // says something is to be heard when it goes on.
            let talks = std::mem::take(&mut conversing) || self.rules.program.is_some();
            let until = if talks { Some(began) } else { deadline };
            if let Some(now) = self.courtesy.gather(began, until) {
                self.reactor.set_now(now);
            }
            self.reactor
                .wait(deadline)
                .map_err(Error::io("waiting for events"))?;
            let mut console = Vec::new();
            for wake in self.wakes() {
                match wake {
                    Wake::Signals => self.heed_signals()?,
                    Wake::Listener(token) => self.accept(token),
                    Wake::Worker(id) => {
                        conversing = true;
                        self.hear(id);
                    }
                    Wake::Peeked(ready) => self.look_again(ready),
                    Wake::Console(ready) => console.push(ready),
                    Wake::Trial => self.hear_trial(),
                    Wake::Link(ready) => self.hear_link(ready),
                    #[cfg(feature = "programs")]
                    Wake::Notice(id) => self.hear_notices(id),
                    Wake::Output(ready) => self.hear_output(ready),
                }
            }
            self.serve_console(&console);
            self.watch();
            self.have_swept();
            if self
                .trial
                .as_ref()
                .is_some_and(|trial| trial.until() <= self.reactor.now())
            {
                self.hear_trial();
            }
            if std::mem::take(&mut self.deaths) {
                self.hear_the_leaving();
                for (id, exit) in self.members.ended(&self.unheard) {
                    self.bury(id, &exit);
                }
                self.reap_strangers();
            }
        }
    }

    /// Acts until nothing is left to do: an action that fails is a fact, and what the application
    /// is told may give it a wish.
    fn reconcile(&mut self) -> Result<Option<Ended>> {
        loop {
            self.grant_wishes();
            self.mind_programs();
            self.stop_when_dealt();
            self.conclude();
            let actions = self.supervisor.reconcile(self.reactor.now());
            if actions.is_empty() && !self.has_wishes() {
                return Ok(None);
            }
            if let Some(ended) = self.act(&actions)? {
                return Ok(Some(ended));
            }
        }
    }

    fn wakes(&self) -> Vec<Wake> {
        let wake = |ready: Ready| match ready.token {
            SIGNALS => Wake::Signals,
            TRIAL => Wake::Trial,
            #[cfg(feature = "programs")]
            token if is_notice(token) => Wake::Notice(WorkerId((token - NOTICES) as u32)),
            token if is_peeked(token) => Wake::Peeked(ready),
            token if is_output(token) => Wake::Output(ready),
            LINK => Wake::Link(ready),
            token if Console::owns(token) => Wake::Console(ready),
            token if token < FIRST => Wake::Listener(token),
            token => Wake::Worker(WorkerId((token - FIRST) as u32)),
        };
        self.reactor.ready().map(wake).collect()
    }

    fn deadline(&self) -> Option<Instant> {
        let all = [
            self.supervisor.deadline(),
            self.ports.deadline(),
            self.deaths.then(|| self.reactor.now()),
            self.stop_at,
            self.wishes.held_until,
            self.offer_at,
            self.grant_at,
            self.peeks.deadline(),
            self.inspect_at,
            self.flush_at,
            self.watch.deadline(),
            self.sweeps.deadline(),
            self.service.deadline(),
            self.console.as_ref().and_then(Console::deadline),
            self.trial.as_ref().map(Trial::until),
            self.link.deadline(),
            self.output.as_ref().and_then(Output::deadline),
            self.programs_deadline(),
        ];
        all.into_iter().flatten().min()
    }

    fn act(&mut self, actions: &[Action]) -> Result<Option<Ended>> {
        for action in actions {
            match *action {
                Action::Fork {
                    place,
                    id,
                    generation,
                } => {
                    // A child must not go on acting: it is nobody's parent.
                    if let Some(seat) = self.fork(place, id, generation)? {
                        return Ok(Some(Ended::Child(seat)));
                    }
                }
                Action::Disconnect { id, hand_back } => {
                    let programs = self.rules.program.is_some();
                    match self.members.get_mut(id) {
                        Some(_) if programs => self.see_off_program(id, hand_back),
                        Some(member) => member.disconnect(hand_back),
                        None => {}
                    }
                }
                Action::Kill(id) => self.kill(id),
                Action::Finish => return Ok(Some(Ended::Stopped)),
                Action::GiveUp { deaths } => return Err(self.hopeless(deaths)),
            }
        }
        Ok(None)
    }

    fn heed_signals(&mut self) -> Result<()> {
        while let Some(signal) = self.signals.read().map_err(Error::io("reading signals"))? {
            let wanted = self.supervisor.wanted();
            match signal {
                SIGTERM | SIGINT | SIGQUIT => self.stop(),
                SIGHUP => self.reload_or_later(),
                SIGTTIN => self.scale_by_signal(wanted + 1),
                SIGTTOU => self.scale_by_signal(wanted.saturating_sub(1)),
                SIGUSR1 => self.reopen_logs(),
                SIGUSR2 => self.upgrade(),
                // SIGCHLD, one of which may stand for several: who died is found by asking.
                _ => self.deaths = true,
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: &Event) {
        self.note(event);
        self.inform(event);
        // Taken out, since the application may ask for something meanwhile.
        if let Some(mut observer) = self.observer.take() {
            self.courtesy.end();
            observer(&self.handle, event);
            self.observer = Some(observer);
        }
    }

    /// The last act of a primary that stops: what must be undone outside of this process.
    fn clean_up(&mut self, failed: Option<&str>) {
        self.courtesy.end();
        self.abandon_upgrade();
        self.close_console(failed);
        self.inform_of_the_end(failed);
        self.finish_output();
        self.ports.close_all(self.reactor.registry());
        self.handle.clear();
        // A signal more while it was stopping has been heeded.
        while let Ok(Some(_)) = self.signals.read() {}
        self.signals.restore_mask();
        log::info!("primary {} has stopped", process::pid());
    }
}

/// The signals that a primary reads from a descriptor.
const HEEDED: [i32; 9] = [
    SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU,
];
