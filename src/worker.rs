//! One worker: its channel to the primary and its server, in one loop.
//!
//! Owns the worker's half of the conversation (online, queryServer, listening, newconn,
//! disconnect) and when a worker ends. Does not know whether it is a process or a thread: what
//! differs comes in its [`Seat`].

use crate::app::App;
use crate::board::Slot;
use crate::ipc::{Channel, FLUSH_AGAIN, Message, Received};
use crate::net::token::FIRST;
use crate::net::{Reactor, deregister, register, register_reader};
use crate::server::{Limits, Server};
use crate::sys::listener::Listener;
use crate::sys::signal::{SIGQUIT, SIGTERM, SignalFd};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CHANNEL: usize = 0;
const WAKER: usize = 1;
const SIGNALS: usize = 2;
const LISTENERS: usize = 16;

/// Which worker: from 1, and never reused in the life of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What every worker of a cluster is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Limits of its connections.
    pub(crate) limits: Limits,
    /// Threads of its pool; with 0 CPU-heavy handlers run on its loop.
    pub(crate) pool: usize,
    /// How many listeners the primary has.
    pub(crate) listeners: u32,
    /// How long it may take to finish when it is alone.
    pub(crate) drain_timeout: Duration,
}

/// What one worker works with. Whoever holds it is the worker.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) id: WorkerId,
    pub(crate) channel: Channel,
    pub(crate) slot: Slot,
    pub(crate) settings: Settings,
    /// Signals meant for this worker alone, if it can have any.
    pub(crate) signals: Option<SignalFd>,
}

/// Why a worker has ended, when it ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
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
pub(crate) fn run(app: Arc<App>, seat: Seat) -> io::Result<Reason> {
    let mut worker = Worker::new(app, seat)?;
    worker.say(&Message::Online)?;
    for listener in 0..worker.settings.listeners {
        worker.say(&Message::QueryServer { listener })?;
    }
    loop {
        if let Some(reason) = worker.ending
            && (worker.server.is_empty() || worker.out_of_time())
        {
            return Ok(reason);
        }
        worker.turn()?;
    }
}

struct Worker {
    id: WorkerId,
    reactor: Reactor,
    server: Server,
    channel: Channel,
    slot: Slot,
    settings: Settings,
    signals: Option<SignalFd>,
    /// Connections that the primary has handed over, taken or not.
    handed: u64,
    /// It has asked the primary to deal to others.
    leaving: bool,
    /// A hand was lost, so what comes in later ones cannot be told apart.
    lost_count: bool,
    ending: Option<Reason>,
    /// When an ending worker stops waiting.
    deadline: Option<Instant>,
}

impl Worker {
    fn new(app: Arc<App>, seat: Seat) -> io::Result<Self> {
        let Seat {
            id,
            channel,
            slot,
            settings,
            signals,
        } = seat;
        let reactor = Reactor::new()?;
        register_reader(reactor.registry(), &channel, CHANNEL)?;
        if let Some(signals) = &signals {
            register(reactor.registry(), signals, SIGNALS)?;
        }
        let pool = match settings.pool {
            0 => None,
            threads => Some((threads, reactor.waker(WAKER)?)),
        };
        Ok(Self {
            id,
            server: Server::new(app, settings.limits.clone(), id.0, pool),
            reactor,
            channel,
            slot,
            settings,
            signals,
            handed: 0,
            leaving: false,
            lost_count: false,
            ending: None,
            deadline: None,
        })
    }

    /// One turn: wait, do what became ready, publish.
    fn turn(&mut self) -> io::Result<()> {
        let unsent = self.channel.has_unsent();
        let flush = unsent.then(|| self.reactor.now() + FLUSH_AGAIN);
        let deadlines = [self.server.deadline(), self.deadline, flush];
        self.reactor.wait(deadlines.into_iter().flatten().min())?;
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
        if let Some(now) = self.server.end() {
            self.reactor.set_now(now);
        }
        let waiting = self.server.pool_waiting();
        self.slot.publish(self.server.counters_mut(), waiting);
        self.slot.idle();
        Ok(())
    }

    fn listen_to_primary(&mut self) -> io::Result<()> {
        if let Err(error) = self.channel.flush() {
            log::debug!("worker {} is not heard: {error}", self.id);
        }
        // One message a turn: a flood of connections does not starve those that are open.
        match self.channel.receive() {
            Ok(Received::Message(message, with)) => self.heard(message, with),
            Ok(Received::Nothing) => Ok(()),
            Ok(Received::Closed) => {
                // The end stays readable, so the loop must not be told of it again.
                deregister(self.reactor.registry(), &self.channel)?;
                self.end(Reason::Orphaned);
                Ok(())
            }
            // Most likely descriptors ran out, and a hand was cut short. The primary has copies
            // of it; this worker has lost count, so it finishes what it has and goes.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                log::error!("worker {} makes room for another: {error}", self.id);
                self.lost_count = true;
                self.leave()
            }
            Err(error) => Err(error),
        }
    }

    fn heard(&mut self, message: Message, with: Vec<OwnedFd>) -> io::Result<()> {
        match message {
            Message::Server {
                listener, address, ..
            } => {
                // A descriptor comes along when this worker is to accept by itself.
                for fd in with {
                    let socket = Listener::from_fd(fd)?;
                    let token = LISTENERS + listener as usize;
                    self.server.listen(self.reactor.registry(), socket, token)?;
                }
                log::debug!("worker {} listens on {address}", self.id);
                self.say(&Message::Listening { listener })
            }
            Message::Newconn { peers, .. } => {
                for (socket, peer) in with.into_iter().zip(peers) {
                    let sequence = self.handed;
                    self.handed += 1;
                    self.slot.opening();
                    // What the primary took back is another's by now, and closed unread.
                    if !self.lost_count && self.slot.take(sequence) {
                        self.server.adopt(self.reactor.registry(), socket, peer);
                    }
                }
                Ok(())
            }
            Message::Disconnect => {
                self.end(Reason::Disconnected);
                Ok(())
            }
            Message::Online | Message::QueryServer { .. } | Message::Listening { .. } => {
                log::warn!(
                    "worker {} heard {message:?}, which is for a primary",
                    self.id
                );
                Ok(())
            }
        }
    }

    fn heed_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.as_ref().map_or(Ok(None), SignalFd::read)? {
            match signal {
                // Whoever asks twice does not want to wait for a primary that does not answer.
                SIGTERM | SIGQUIT if self.leaving => self.end(Reason::Interrupted),
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
        self.say(&Message::Disconnect)
    }

    /// Begins to end: nothing new, what is in flight gets the time to finish.
    fn end(&mut self, reason: Reason) {
        if self.ending.is_none() {
            log::debug!("worker {} is ending: {reason:?}", self.id);
            self.ending = Some(reason);
            self.deadline = Some(self.reactor.now() + self.settings.drain_timeout);
            self.server.drain(self.reactor.registry());
        }
    }

    fn out_of_time(&self) -> bool {
        self.deadline.is_some_and(|at| at <= self.reactor.now())
    }

    fn say(&mut self, message: &Message) -> io::Result<()> {
        match self.channel.send(message, &[]) {
            // The end of the channel will be read, and is the better news of the two.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}
