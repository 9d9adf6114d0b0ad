//! One worker: its channel to the primary and its server, in one loop.
//!
//! Owns the worker's half of the conversation (online, queryServer, listening, newconn, message,
//! disconnect) and when a worker ends: `talk` is what it hears and says, `handle` what its
//! application sees of it, `topics` what it publishes and subscribes to. Does not know whether it is a process or a thread: what differs comes
//! in its [`Seat`].

mod handle;
mod sticky;
mod talk;
mod topics;

pub use handle::Worker;
pub use topics::Subscription;

use crate::app::App;
use crate::board::Slot;
use crate::ipc::user::{Inbox, Message as UserMessage};
use crate::ipc::{Ask, BUFFER_BYTES, Channel, FLUSH_AGAIN, Message};
use crate::net::token::{FIRST, LISTENERS};
use crate::net::{Reactor, register, register_reader};
use crate::server::{EdgeSettings, Limits, Server};
use crate::sorted::SortedMap;
use crate::sys::listener::Listener;
use crate::sys::privilege::Identity;
use crate::sys::signal::{SIGQUIT, SIGTERM, SignalFd};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use talk::Query;

const CHANNEL: usize = 0;
const WAKER: usize = 1;
const SIGNALS: usize = 2;

/// The number of a worker's first listener of its own; the primary's are below.
const EXCLUSIVE: usize = 1 << 19;

/// Which worker: from 1, and never reused in the life of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Limits of its connections.
    pub(crate) limits: Limits,
    /// Whom it believes, and what it notes of its answers.
    pub(crate) edge: EdgeSettings,
    /// Threads of its pool; with 0 CPU-heavy handlers run on its loop.
    pub(crate) pool: usize,
    /// How many listeners of the cluster's settings it is to listen on.
    pub(crate) listeners: u32,
    /// How long it may take to finish when it is alone.
    pub(crate) drain_timeout: Duration,
    /// How often its loop shows that it lives when there is nothing to do.
    pub(crate) heartbeat: Option<Duration>,
    /// Requests after which it asks to be replaced.
    pub(crate) max_requests: Option<u64>,
    /// Variables for its environment, where it has one of its own.
    pub(crate) env: Vec<(String, String)>,
    /// Who it becomes, where it is a process.
    pub(crate) identity: Option<Identity>,
    /// Which of the places is its own, from 0.
    pub(crate) place: usize,
    /// Whether it keeps to one CPU, by its place.
    pub(crate) pinned: bool,
    /// Its nice value, if not its primary's.
    pub(crate) nice: Option<i32>,
}

/// What the application does in each worker before it serves.
pub(crate) type OnWorker = Arc<dyn Fn(&Worker) + Send + Sync>;

/// What one worker works with. Whoever holds it is the worker.
pub(crate) struct Seat {
    pub(crate) id: WorkerId,
    pub(crate) channel: Channel,
    pub(crate) slot: Slot,
    pub(crate) settings: Settings,
    pub(crate) on_worker: Option<OnWorker>,
    /// Signals meant for this worker alone, if it can have any.
    pub(crate) signals: Option<SignalFd>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("id", &self.id)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Why a worker stops, when it stops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The primary said so, by itself or because this worker had asked to leave.
    Disconnected,
    /// A second signal: at once.
    Interrupted,
    /// The primary is gone.
    Orphaned,
}

/// Works until there is a reason to end, and everything in flight is finished or out of time.
///
/// # Errors
///
/// When the loop's own descriptors fail, or the primary talks nonsense.
///
/// # Panics
///
/// When a handler abandons the worker; see [`crate::abandon_worker`].
pub(crate) fn run(app: Arc<App>, mut seat: Seat) -> io::Result<StopReason> {
    let on_worker = seat.on_worker.take();
    let mut life = Life::new(app, seat)?;
    life.worker.enter(true);
    life.slot.set_thread(crate::sys::proc::thread_id());
    life.say(&Message::Online)?;
    for number in 0..life.settings.listeners {
        life.query(Ask::Configured(number), Query::Configured)?;
    }
    if let Some(on_worker) = on_worker {
        on_worker(&life.worker);
    }
    loop {
        if let Some(reason) = life.ending
            && (life.is_done() || life.out_of_time())
        {
            life.server.abandon();
            return Ok(reason);
        }
        life.turn()?;
    }
}

/// A worker at work.
struct Life {
    worker: Worker,
    reactor: Reactor,
    server: Server,
    channel: Channel,
    buffer: Vec<u8>,
    slot: Slot,
    settings: Settings,
    signals: Option<SignalFd>,
    /// What it has asked and not heard about.
    queries: SortedMap<u32, Query>,
    next_query: u32,
    /// It has said that it is ready, or never will.
    said_ready: bool,
    /// The addresses that were asked for, to know the n-th port 0.
    asked: Vec<String>,
    /// Listeners of its own.
    exclusive: usize,
    /// Messages of the primary that nobody wants yet, and the rest of one that is arriving.
    early: VecDeque<UserMessage>,
    /// How much they take.
    early_bytes: usize,
    inbox: Inbox,
    /// Pieces that are in `early`, and so not taken yet.
    owed: u32,
    /// The listeners that it accepts from when it is granted connections there.
    queues: SortedMap<u32, Listener>,
    /// Connections that the primary has granted or handed over, taken or not.
    handed: u64,
    /// It has asked the primary to deal to others.
    leaving: bool,
    /// The primary has messages for the application that it has not sent yet.
    more: bool,
    /// It has asked to be replaced.
    worn: bool,
    /// A hand was lost, so what comes in later ones cannot be told apart.
    lost_count: bool,
    ending: Option<StopReason>,
    /// When an ending worker stops waiting.
    deadline: Option<Instant>,
}

impl Drop for Life {
    /// The application may have kept its handle, in threads mode for longer than the worker lives.
    fn drop(&mut self) {
        self.worker.closed();
    }
}

impl Life {
    fn new(app: Arc<App>, seat: Seat) -> io::Result<Self> {
        let Seat {
            id,
            channel,
            slot,
            mut settings,
            signals,
            on_worker: _,
        } = seat;
        let reactor = Reactor::new()?;
        register_reader(reactor.registry(), &channel, CHANNEL)?;
        if let Some(signals) = &signals {
            register(reactor.registry(), signals, SIGNALS)?;
        }
        let waker = reactor.waker(WAKER)?;
        let worker = Worker::new(id, settings.place, waker.clone());
        let mut server = Server::new(
            app,
            settings.limits.clone(),
            id.0,
            settings.pool,
            Some(waker),
            Some(slot.clone()),
        )
        .at_edge(std::mem::take(&mut settings.edge));
        let of_pool = worker.clone();
        server.on_pool_thread(Arc::new(move || of_pool.enter(false)));
        Ok(Self {
            worker,
            server,
            reactor,
            channel,
            buffer: vec![0; BUFFER_BYTES],
            slot,
            settings,
            signals,
            queries: SortedMap::new(),
            next_query: 0,
            said_ready: false,
            asked: Vec::new(),
            exclusive: 0,
            early: VecDeque::new(),
            early_bytes: 0,
            inbox: Inbox::default(),
            owed: 0,
            queues: SortedMap::new(),
            handed: 0,
            leaving: false,
            more: false,
            worn: false,
            lost_count: false,
            ending: None,
            deadline: None,
        })
    }

    /// One turn: wait, do what became ready, publish.
    fn turn(&mut self) -> io::Result<()> {
        let unsent = self.channel.has_unsent() || self.server.has_given_back();
        let begun = self.reactor.now();
        // What the application asked for on the loop itself, while its last wishes were granted or
        // before the first turn: that wakes nobody.
        let at_once = self.worker.is_poked() || self.is_ready();
        let deadlines = [
            at_once.then_some(begun),
            self.server.deadline(),
            self.deadline,
            unsent.then(|| begun + FLUSH_AGAIN),
            self.settings.heartbeat.map(|beat| begun + beat),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        if let Some(now) = self.server.gather(deadline) {
            self.reactor.set_now(now);
        }
        self.reactor.wait(deadline)?;
        let now = self.reactor.now();
        self.slot.busy(now);
        self.server.begin(now);
        let mut channel = unsent;
        let mut signals = false;
        for ready in self.reactor.ready() {
            match ready.token {
                CHANNEL => channel = true,
                SIGNALS => signals = true,
                WAKER => {}
                _ => {
                    debug_assert!(ready.token >= LISTENERS && LISTENERS < FIRST);
                    self.server.ready(self.reactor.registry(), ready);
                }
            }
        }
        self.server.proceed(self.reactor.registry());
        if channel {
            self.listen_to_primary()?;
        }
        if signals {
            self.heed_signals()?;
        }
        if self.worker.take_poke() {
            self.grant_wishes()?;
        }
        self.report_ready()?;
        if self.ending.is_some() {
            self.hand_back()?;
        }
        if let Some(now) = self.server.end() {
            self.reactor.set_now(now);
        }
        let waiting = self.server.pool_waiting();
        self.slot.publish(self.server.counters_mut(), waiting);
        self.slot.idle();
        let requests = self.server.counters_mut().requests;
        if self
            .settings
            .max_requests
            .is_some_and(|most| requests >= most)
            && !std::mem::replace(&mut self.worn, true)
        {
            self.say(&Message::Worn)?;
        }
        Ok(())
    }

    fn heed_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.as_ref().map_or(Ok(None), SignalFd::read)? {
            match signal {
                // Whoever asks twice does not want to wait for a primary that does not answer.
                SIGTERM | SIGQUIT if self.leaving => self.end(StopReason::Interrupted, false),
                SIGTERM | SIGQUIT => self.leave()?,
                // An interrupt from the terminal reaches primary and workers alike; what becomes
                // of the workers is the primary's decision.
                _ => {}
            }
        }
        Ok(())
    }

    /// Asks to end. The primary answers with `Disconnect` when it has dealt its last to this
    /// worker, so what is on its way is still taken.
    fn leave(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.leaving, true) || self.ending.is_some() {
            return Ok(());
        }
        let (hand_back, more) = (true, false);
        self.say(&Message::Disconnect { hand_back, more })
    }

    /// Begins to end: nothing new, what is in flight gets the time to finish.
    fn end(&mut self, reason: StopReason, hand_back: bool) {
        for number in 0..self.exclusive {
            self.server.unlink(LISTENERS + EXCLUSIVE + number);
        }
        // Nothing more is granted, and who has a copy keeps the queue open.
        self.queues = SortedMap::new();
        self.server.drain(self.reactor.registry(), hand_back);
        if self.ending.is_none() {
            log::debug!("worker {} is ending: {reason:?}", self.worker.id());
            self.ending = Some(reason);
            self.deadline = Some(self.reactor.now() + self.settings.drain_timeout);
            self.worker.stops(reason);
        }
    }

    /// Whether nothing is left to do: no connection, nothing to say.
    fn is_done(&self) -> bool {
        let silent =
            !self.worker.is_connected() || (self.worker.all_sent() && !self.channel.has_unsent());
        // Messages that nobody wants are not waited for.
        let heard = !self.more || !self.worker.is_connected() || !self.worker.wants_messages();
        self.server.is_empty() && silent && heard
    }

    fn out_of_time(&self) -> bool {
        self.deadline.is_some_and(|at| at <= self.reactor.now())
    }
}
