//! The primary: keeps the workers alive and, under round robin, deals them their connections.
//!
//! [`Primary::run`] is the loop. What should happen is decided by `supervisor` and `scheduler`,
//! which are pure; `vessel` carries workers, `hands` keeps what they were handed, `listen` makes
//! listeners. [`Cluster`] is what users build one with. May use everything below.

mod cluster;
mod error;
mod event;
mod hands;
mod listen;
mod members;
mod scheduler;
mod supervisor;
mod talk;
mod vessel;

pub use cluster::{Cluster, Workers};
pub use error::{Error, Result};
pub use event::Event;
pub use listen::Listen;
pub use scheduler::SchedulingPolicy;
pub use vessel::Mode;

use crate::app::App;
use crate::board::Board;
use crate::ipc::{Channel, FLUSH_AGAIN};
use crate::net::token::FIRST;
use crate::net::{Reactor, register_reader};
use crate::server::MAX_BACKLOG;
use crate::server::gate::{Accepted, Gate};
use crate::sys::listener::Address;
use crate::sys::process;
use crate::sys::signal::{SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SignalFd};
use crate::worker::{Seat, Settings, WorkerId};
use hands::Arrival;
use members::{Member, Members};
use scheduler::RoundRobin;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::{Action, Supervisor};
use vessel::{Exit, Launched};

const SIGNALS: usize = 0;
const LISTENERS: usize = 16;

/// How long connections wait for a worker with room before they are offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(5);

/// How often the primary looks after connections that were handed over and not taken.
const INSPECT: Duration = Duration::from_millis(100);

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 256;

type Observer = Box<dyn FnMut(&Event)>;

/// What can wake the primary.
enum Wake {
    /// Signals came.
    Signals,
    /// Connections wait at the listener with this token.
    Listener(usize),
    /// A worker said something, or is gone.
    Worker(WorkerId),
}

/// How the loop ended.
enum Ended {
    /// As it should.
    Stopped,
    /// This process is a worker now.
    Child(Box<Seat>),
}

struct Primary {
    app: Arc<App>,
    mode: Mode,
    policy: SchedulingPolicy,
    settings: Settings,
    observer: Option<Observer>,
    reactor: Reactor,
    signals: SignalFd,
    gate: Gate,
    board: Arc<Board>,
    members: Members,
    supervisor: Supervisor,
    round: RoundRobin,
    /// A stop was asked for then, and waits for what was accepted before to be dealt.
    stop_asked: Option<Instant>,
    /// Accepted and not dealt yet.
    waiting: VecDeque<Arrival>,
    /// When to offer them again.
    offer_at: Option<Instant>,
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
}

impl Primary {
    fn run(&mut self) -> Result<Ended> {
        loop {
            if let Some(ended) = self.reconcile()? {
                return Ok(ended);
            }
            self.deal();
            self.mind_the_listeners();
            self.reactor
                .wait(self.deadline())
                .map_err(Error::io("waiting for events"))?;
            for wake in self.wakes() {
                match wake {
                    Wake::Signals => self.heed_signals()?,
                    Wake::Listener(token) => self.accept(token),
                    Wake::Worker(id) => self.hear(id),
                }
            }
            if !std::mem::take(&mut self.deaths) {
                continue;
            }
            for (id, exit) in self.members.ended() {
                // A child must not go on burying: it is nobody's parent.
                if let Some(ended) = self.bury(id, &exit)? {
                    return Ok(ended);
                }
            }
        }
    }

    /// Acts until nothing is left to do: an action that fails is a fact, too.
    fn reconcile(&mut self) -> Result<Option<Ended>> {
        loop {
            self.stop_when_dealt();
            let actions = self.supervisor.reconcile(self.reactor.now());
            if actions.is_empty() {
                return Ok(None);
            }
            if let Some(ended) = self.act(&actions)? {
                return Ok(Some(ended));
            }
        }
    }

    fn wakes(&self) -> Vec<Wake> {
        let wake = |token| match token {
            SIGNALS => Wake::Signals,
            token if token < FIRST => Wake::Listener(token),
            token => Wake::Worker(WorkerId((token - FIRST) as u32)),
        };
        self.reactor
            .ready()
            .map(|ready| wake(ready.token))
            .collect()
    }

    fn deadline(&self) -> Option<Instant> {
        let all = [
            self.supervisor.deadline(),
            self.gate.deadline(),
            self.offer_at,
            self.inspect_at,
            self.flush_at,
        ];
        all.into_iter().flatten().min()
    }

    fn act(&mut self, actions: &[Action]) -> Result<Option<Ended>> {
        for action in actions {
            match *action {
                Action::Fork { place, id } => {
                    if let Some(seat) = self.fork(place, id)? {
                        return Ok(Some(Ended::Child(seat)));
                    }
                }
                Action::Disconnect(id) => {
                    if let Some(member) = self.members.get_mut(id) {
                        member.disconnect();
                    }
                }
                Action::Kill(id) => self.kill(id),
                Action::Finish => return Ok(Some(Ended::Stopped)),
                Action::GiveUp { deaths } => {
                    let last = std::mem::take(&mut self.last_exit);
                    return Err(Error::Crashing { deaths, last });
                }
            }
        }
        Ok(None)
    }

    /// Launches a worker. In the child it returns the seat to work on.
    fn fork(&mut self, place: usize, id: WorkerId) -> Result<Option<Box<Seat>>> {
        let launched = self.launch(place, id);
        match launched {
            Ok((Launched::Child(seat), _)) => return Ok(Some(seat)),
            Ok((Launched::Parent(carrier), channel)) => {
                let token = FIRST + id.0 as usize;
                let heard = register_reader(self.reactor.registry(), &channel, token);
                let slot = self.board.slot(place);
                self.members.add(Member::new(id, carrier, channel, slot));
                log::debug!("worker {id} is forked");
                self.tell(&Event::Fork { worker: id });
                if let Err(error) = heard {
                    log::error!("worker {id} cannot be heard: {error}");
                    self.kill(id);
                }
            }
            // Nothing will change while this process has threads; but those that serve go on.
            Err(source)
                if source.kind() == io::ErrorKind::Unsupported && self.members.is_empty() =>
            {
                let what = "forking a worker";
                return Err(Error::Io { what, source });
            }
            Err(error) => {
                log::error!("worker {id} cannot be launched: {error}");
                self.last_exit = error.to_string();
                self.supervisor.exited(id, false, self.reactor.now());
            }
        }
        Ok(None)
    }

    fn launch(&self, place: usize, id: WorkerId) -> io::Result<(Launched, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        let slot = self.board.slot(place);
        slot.clear();
        let seat = Seat {
            id,
            channel: theirs,
            slot,
            settings: self.settings.clone(),
            signals: None,
        };
        Ok((self.mode.launch(&self.app, seat)?, ours))
    }

    fn kill(&mut self, id: WorkerId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match member.carrier.kill() {
            Ok(true) => log::warn!("{member} is killed: it did not finish in time"),
            Ok(false) => {
                log::warn!(
                    "worker {id} is a thread and cannot be killed; it ends with its process"
                );
                // Otherwise its place stays taken: a successor would share its slot of the board.
                if self.supervisor.stopping() {
                    self.members.remove(id);
                    self.supervisor.exited(id, false, self.reactor.now());
                }
            }
            Err(error) => log::error!("{member} cannot be killed: {error}"),
        }
    }

    fn heed_signals(&mut self) -> Result<()> {
        while let Some(signal) = self.signals.read().map_err(Error::io("reading signals"))? {
            match signal {
                SIGTERM | SIGINT | SIGQUIT => self.stop(),
                // SIGCHLD, one of which may stand for several: who died is found by asking.
                _ => self.deaths = true,
            }
        }
        Ok(())
    }

    fn stop(&mut self) {
        let now = self.reactor.now();
        if self.stop_asked.is_some() || self.supervisor.stopping() {
            log::info!("stopping at once");
            self.stop_asked = None;
            // Twice, if need be: the second time there is no more waiting.
            while !self.supervisor.stop(now) {}
            return;
        }
        let workers = self.members.len();
        log::info!("stopping: {workers} workers finish what they have");
        // What has come so far is still served; from here on clients are refused. Bounded: more
        // than a queue's length has come after the signal.
        for _ in 0..MAX_BACKLOG {
            let Some((socket, peer, token)) = self.arrived_before_stop() else {
                break;
            };
            let listener = (token - LISTENERS) as u32;
            self.waiting.push_back(Arrival {
                socket,
                peer,
                listener,
            });
        }
        self.close_listeners();
        self.stop_asked = Some(now);
    }

    /// Workers are told to go when all that was accepted before a stop is theirs: one that has
    /// nothing to do goes at once, and what waits would find nobody.
    fn stop_when_dealt(&mut self) {
        let Some(asked) = self.stop_asked else {
            return;
        };
        let patience_ends = asked + self.settings.drain_timeout;
        let dealt = self.waiting.is_empty() && !self.members.any_untaken();
        if dealt || self.reactor.now() >= patience_ends || self.members.is_empty() {
            self.stop_asked = None;
            self.supervisor.stop(asked);
        }
    }

    fn arrived_before_stop(
        &mut self,
    ) -> Option<(std::os::fd::OwnedFd, crate::sys::listener::Peer, usize)> {
        match self.policy {
            SchedulingPolicy::RoundRobin if !self.refusing => self.gate.take_waiting(),
            SchedulingPolicy::RoundRobin | SchedulingPolicy::Shared => None,
        }
    }

    /// Accepts as many connections as the workers have room for.
    fn accept(&mut self, token: usize) {
        let listener = (token - LISTENERS) as u32;
        let room = self.members.room(self.settings.limits.connections);
        let room = room.saturating_sub(self.waiting.len());
        if room == 0 {
            self.pause();
            return;
        }
        let now = self.reactor.now();
        for _ in 0..room.min(ACCEPTS_PER_TURN) {
            match self.gate.accept(self.reactor.registry(), token, now) {
                Accepted::Connection(socket, peer) => {
                    self.waiting.push_back(Arrival {
                        socket,
                        peer,
                        listener,
                    });
                }
                Accepted::Nothing => break,
            }
        }
    }

    /// Nobody has room: connections wait in the kernel's queues.
    fn pause(&mut self) {
        let until = self.reactor.now() + OFFER_AGAIN;
        self.gate.pause(self.reactor.registry(), Some(until));
    }

    /// Deals what waits, in hands: one message a worker.
    fn deal(&mut self) {
        let now = self.reactor.now();
        self.gate.resume_at(self.reactor.registry(), now);
        if self.inspect_at.is_some_and(|at| at <= now) {
            self.inspect_at = None;
            self.waiting.extend(self.members.take_back(now));
        }
        self.offer_at = None;
        if !self.waiting.is_empty() {
            let limit = self.settings.limits.connections;
            self.members
                .deal(&mut self.waiting, &mut self.round, limit, now);
        }
        if !self.waiting.is_empty() || self.stop_asked.is_some() {
            self.offer_at = Some(now + OFFER_AGAIN);
        }
        self.flush_at = self.members.flush().then(|| now + FLUSH_AGAIN);
        if self.inspect_at.is_none() && self.members.any_untaken() {
            self.inspect_at = Some(now + INSPECT);
        }
    }

    /// A worker is gone: what it never took goes to others, and its place is filled again.
    fn bury(&mut self, id: WorkerId, exit: &Exit) -> Result<Option<Ended>> {
        let Some(member) = self.members.remove(id) else {
            return Ok(None);
        };
        let now = self.reactor.now();
        let empty_until = self.supervisor.exited(id, exit.in_order(), now);
        let actions = self.supervisor.reconcile(now);
        let next = match (empty_until, actions.first()) {
            (Some(at), _) if !self.supervisor.stopping() => {
                format!("; forking another in {:?}", at - now)
            }
            (None, Some(Action::Fork { id, .. })) => format!("; forking worker {id}"),
            _ => String::new(),
        };
        if exit.in_order() {
            log::info!("{member} exited: {exit}{next}");
        } else {
            log::warn!("{member} died: {exit}{next}");
        }
        self.last_exit = exit.to_string();
        member.log_figures();
        let pid = member.carrier.pid().as_raw();
        let untaken = member.into_untaken();
        if !untaken.is_empty() {
            log::info!(
                "{} connections that worker {id} never took go to others",
                untaken.len()
            );
        }
        self.waiting.extend(untaken);
        self.tell(&Event::Exit {
            worker: id,
            pid,
            how: exit.to_string(),
            in_order: exit.in_order(),
        });
        self.act(&actions)
    }

    /// While no worker lives clients are refused at once, rather than left waiting.
    fn mind_the_listeners(&mut self) {
        let stopping = self.supervisor.stopping() || self.stop_asked.is_some();
        if self.members.is_empty() && !self.refusing && !stopping {
            let waiting = self.waiting.len();
            log::warn!("no worker is alive: clients are refused, {waiting} that wait included");
            self.refusing = true;
            self.waiting.clear();
            // First out of the epoll set, where a listener that does not listen is an endless event.
            self.gate.pause(self.reactor.registry(), None);
            for listener in self.gate.listeners() {
                if let Err(error) = listener.suspend() {
                    log::error!("{} cannot be closed: {error}", listener.address());
                }
            }
        }
    }

    /// Somebody lives again: clients wait rather than being refused.
    fn stop_refusing(&mut self) {
        for listener in self.gate.listeners() {
            if let Err(error) = listen::resume(listener) {
                log::error!("{} cannot be opened again: {error}", listener.address());
                return;
            }
        }
        self.refusing = false;
        if self.policy == SchedulingPolicy::RoundRobin {
            self.gate.resume(self.reactor.registry());
        }
    }

    fn tell(&mut self, event: &Event) {
        if let Some(observer) = &mut self.observer {
            observer(event);
        }
    }

    /// Closes the listeners; what only looked like one, the file of a unix socket, goes as well.
    fn close_listeners(&mut self) {
        for listener in self.gate.listeners() {
            if let Err(error) = listener.unlink() {
                log::warn!("{} cannot be removed: {error}", listener.address());
            }
        }
        self.gate.close();
    }

    /// The last act of a primary that stops: what must be undone outside of this process.
    fn clean_up(&mut self) {
        self.close_listeners();
        // A signal more while it was stopping has been heeded.
        while let Ok(Some(_)) = self.signals.read() {}
        self.signals.restore_mask();
        log::info!("primary {} has stopped", process::pid());
    }
}

/// An address as users write it.
fn url(address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("http://{address}"),
        Address::Unix(_) => address.to_string(),
    }
}

/// The signals that a primary reads from a descriptor.
const HEEDED: [i32; 4] = [SIGCHLD, SIGTERM, SIGINT, SIGQUIT];
