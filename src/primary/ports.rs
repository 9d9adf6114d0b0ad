//! The listeners of a cluster: what was asked for, who listens there, and who accepts.
//!
//! Owns every listening socket, for the life of the cluster: workers get copies. So a policy can
//! change, and a worker can die, without a connection being lost with a socket. Under `reuseport` a
//! listener has one socket a place; what has no worker that serves, the primary accepts from. Which
//! socket is whose, and who accepts from it, is left to `split`.

mod asked;
mod bind;
mod datagrams;
#[cfg(feature = "control")]
mod restored;
mod split;

use super::scheduler::SchedulingPolicy;
use crate::ipc::{Ask, Refusal};
use crate::net::token::LISTENERS;
use crate::net::url;
use crate::server::gate::Gate;
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::datagram::DatagramSocket;
use crate::sys::listener::{Address, Listener};
use crate::worker::WorkerId;
use std::io;
#[cfg(feature = "programs")]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

#[cfg(feature = "control")]
pub(super) use restored::{First, Restored};
pub(super) use split::Steering;

/// How often an address that was lost is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// One listener, which may have several sockets.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) number: u32,
    /// In the words of the settings, if they name it.
    pub(super) configured: Option<String>,
    /// As it was asked for by a worker, if it was.
    pub(super) ask: Option<Ask>,
    pub(super) address: Address,
    /// The token of its first socket.
    pub(super) first: usize,
    /// Those of its other sockets, by place.
    pub(super) beside: SortedMap<usize, usize>,
    /// It can have no other sockets.
    alone: bool,
    /// The kernel tells how many wait in its queue.
    counted: bool,
    pub(super) steering: Steering,
    /// Who listens there.
    pub(super) users: SortedSet<WorkerId>,
    /// What all who ask are told: the first one who had something to tell said so.
    pub(super) data: Option<String>,
    /// Its socket, if datagrams come to it and no connections.
    pub(super) datagrams: Option<DatagramSocket>,
}

impl Port {
    fn new(number: u32, address: Address, first: usize, ask: Option<Ask>) -> Self {
        Self {
            number,
            configured: None,
            ask,
            address,
            first,
            beside: SortedMap::new(),
            alone: false,
            counted: false,
            steering: Steering::default(),
            users: SortedSet::new(),
            data: None,
            datagrams: None,
        }
    }

    /// Where it is, as users write it.
    pub(super) fn url(&self) -> String {
        match self.datagrams {
            None => url(&self.address),
            Some(_) => format!("udp://{}", self.address),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) gate: Gate,
    ports: SortedMap<u32, Port>,
    /// Which listener a socket belongs to.
    by_token: SortedMap<usize, u32>,
    /// The numbers of those that the settings name, in their order.
    configured: Vec<u32>,
    next_number: u32,
    next_token: usize,
    /// The sockets that could not be opened again, and when to try that next.
    closed: SortedSet<usize>,
    retry_at: Option<Instant>,
    /// What workers accept from by themselves has changed.
    untold: bool,
    /// Where the primary has to deal, though by the policy workers accept by themselves.
    dealt: SortedSet<u32>,
    /// What workers have asked for stays open when they die, as for programs: whoever comes in
    /// their place asks again. Until [`Ports::close_unused`].
    pub(super) keeps: bool,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self {
            gate: Gate::default(),
            ports: SortedMap::new(),
            by_token: SortedMap::new(),
            configured: Vec::new(),
            next_number: 0,
            next_token: LISTENERS,
            closed: SortedSet::new(),
            retry_at: None,
            untold: false,
            dealt: SortedSet::new(),
            keeps: false,
        }
    }

    /// Adds a listener of the settings, in whose words it is `words`.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    pub(super) fn add(
        &mut self,
        registry: &mio::Registry,
        listener: Listener,
        words: String,
    ) -> io::Result<()> {
        let number = self.insert(registry, listener, None)?;
        self.configured.push(number);
        if let Some(port) = self.ports.get_mut(&number) {
            port.configured = Some(words);
        }
        Ok(())
    }

    /// A listener of the settings that is there already.
    pub(super) fn add_again(&mut self, words: &str) {
        let mut ports = self.ports.values();
        let unused = |port: &&Port| !self.configured.contains(&port.number);
        let found = ports.find(|port| port.configured.as_deref() == Some(words) && unused(port));
        self.configured.extend(found.map(|port| port.number));
    }

    /// Closes those that the settings no longer name and no worker has asked for.
    pub(super) fn close_others(&mut self, registry: &mio::Registry) {
        let other = |port: &&Port| port.ask.is_none() && !self.configured.contains(&port.number);
        let others: Vec<u32> = self
            .ports
            .values()
            .filter(other)
            .map(|port| port.number)
            .collect();
        for number in others {
            self.close(registry, number);
        }
    }

    /// The number of the next new one.
    #[cfg(feature = "control")]
    pub(super) fn next_number(&self) -> u32 {
        self.next_number
    }

    fn insert(
        &mut self,
        registry: &mio::Registry,
        listener: Listener,
        ask: Option<Ask>,
    ) -> io::Result<u32> {
        let number = self.next_number;
        let address = listener.address().clone();
        let alone = listener.is_inherited() || matches!(address, Address::Unix(_));
        let counted = listener.queued().is_some();
        let first = self.keep(registry, listener, number)?;
        Ok(self.enter(Port {
            alone,
            counted,
            ..Port::new(number, address, first, ask)
        }))
    }

    fn enter(&mut self, port: Port) -> u32 {
        let number = port.number;
        self.next_number = number + 1;
        self.ports.insert(number, port);
        number
    }

    /// Keeps a socket, closed at first; its token.
    fn keep(
        &mut self,
        registry: &mio::Registry,
        listener: Listener,
        number: u32,
    ) -> io::Result<usize> {
        let token = self.next_token;
        self.gate.add(registry, listener, token, false)?;
        self.by_token.insert(token, number);
        self.next_token += 1;
        Ok(token)
    }

    /// The sockets of the settings' listeners, for a program at `place` to inherit: its own where it
    /// has one.
    #[cfg(feature = "programs")]
    pub(super) fn configured_sockets(&self, place: usize) -> Vec<BorrowedFd<'_>> {
        let numbers = self.configured.iter();
        let ports = numbers.filter_map(|number| self.ports.get(number));
        let token = |port: &Port| *port.beside.get(&place).unwrap_or(&port.first);
        let listeners = ports.filter_map(|port| self.gate.listener(token(port)));
        listeners.map(AsFd::as_fd).collect()
    }

    /// How many listeners the settings name.
    pub(super) fn configured(&self) -> u32 {
        self.configured.len() as u32
    }

    /// Whether the settings name the listener with this number.
    pub(super) fn is_configured(&self, number: u32) -> bool {
        self.configured.contains(&number)
    }

    /// The listener that a socket belongs to.
    pub(super) fn number_of(&self, token: usize) -> Option<u32> {
        self.by_token.get(&token).copied()
    }

    /// The listener with this number.
    pub(super) fn get(&self, number: u32) -> Option<&Port> {
        self.ports.get(&number)
    }

    /// All listeners.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }

    /// Where the settings have the cluster listen; and where programs have it do so as well.
    pub(super) fn addresses(&self) -> Vec<String> {
        if self.keeps {
            return self.iter().map(Port::url).collect();
        }
        let configured = self.configured.iter();
        configured
            .filter_map(|number| Some(self.ports.get(number)?.url()))
            .collect()
    }

    /// The listener that a worker asks for, made if nobody has asked for it before. Workers that
    /// have `dropped` the primary's rights have nothing made that takes them.
    ///
    /// # Errors
    ///
    /// Why it cannot be had.
    pub(super) fn find(
        &mut self,
        registry: &mio::Registry,
        ask: &Ask,
        who: WorkerId,
        dropped: bool,
    ) -> Result<u32, Refusal> {
        let number = match ask {
            Ask::Configured(index) => match self.configured.get(*index as usize) {
                Some(number) => *number,
                None => {
                    let why = format!("there is no listener {index}");
                    return Err(Refusal { errno: 0, why });
                }
            },
            Ask::Address { words, .. } => {
                let asked = |port: &&Port| port.ask.as_ref() == Some(ask);
                let known = self.ports.values().find(asked).map(|port| port.number);
                match known {
                    Some(number) => number,
                    None => self.make(registry, ask, words, dropped)?,
                }
            }
            Ask::Bind(bind) => self.find_bound(registry, bind, who, dropped)?,
        };
        if let Some(port) = self.ports.get_mut(&number) {
            port.users.insert(who);
        }
        Ok(number)
    }

    fn make(
        &mut self,
        registry: &mio::Registry,
        ask: &Ask,
        words: &str,
        dropped: bool,
    ) -> Result<u32, Refusal> {
        let listen = asked::judge(words, dropped, self.count_asked())?;
        let listener = listen.bind().map_err(refusal)?;
        log::info!("listening on {} as well", url(listener.address()));
        let made = self.insert(registry, listener, Some(ask.clone()));
        made.map_err(refusal)
    }

    /// How many listeners workers have had made.
    fn count_asked(&self) -> usize {
        self.iter().filter(|port| port.ask.is_some()).count()
    }

    /// A worker is gone: listeners that only workers wanted close with their last one, unless they
    /// are kept.
    pub(super) fn forget(&mut self, registry: &mio::Registry, who: WorkerId) {
        let mut unused = Vec::new();
        for port in self.ports.values_mut() {
            if port.users.remove(&who) && port.is_unused() && !self.keeps {
                unused.push(port.number);
            }
        }
        for number in unused {
            self.close(registry, number);
        }
    }

    fn close(&mut self, registry: &mio::Registry, number: u32) {
        let Some(port) = self.ports.remove(&number) else {
            return;
        };
        log::info!("no longer listening on {}", url(&port.address));
        let tokens = port.beside.values().copied().chain([port.first]);
        for token in tokens.collect::<Vec<_>>() {
            self.close_socket(registry, token);
        }
    }

    /// Closes one socket for all: workers may have copies, and so may what they have started.
    fn close_socket(&mut self, registry: &mio::Registry, token: usize) {
        self.by_token.remove(&token);
        self.closed.remove(&token);
        if let Some(listener) = self.gate.remove(registry, token) {
            let ended = listener.suspend().and_then(|_| listener.unlink());
            if let Err(error) = ended {
                log::warn!("{} cannot be removed: {error}", listener.address());
            }
        }
    }

    /// Clients are refused until [`Ports::open_again`].
    pub(super) fn shut(&mut self, registry: &mio::Registry) {
        // First out of the epoll set, where a listener that does not listen is an endless event.
        self.gate.pause(registry, None);
        self.retry_at = None;
        // With its last socket a group ends, and what the kernel was told of it. They join the next
        // one in the order of their tokens, which is that of the places.
        for port in self.ports.values_mut() {
            port.steering = Steering::default();
        }
        for (token, number) in self.by_token.iter() {
            if let Some(listener) = self.gate.listener(*token)
                && let Err(error) = listener.suspend()
            {
                log::error!("{} cannot be closed: {error}", listener.address());
                if let Some(port) = self.ports.get_mut(number) {
                    port.steering.disordered = !self.closed.contains(token);
                }
            }
        }
    }

    /// Somebody lives again: clients wait rather than being refused. An address that was lost in the
    /// meantime is tried again by [`Ports::resume_at`], and keeps no other one from its clients.
    pub(super) fn open_again(&mut self, registry: &mio::Registry, now: Instant) {
        let all: Vec<usize> = self.by_token.keys().copied().collect();
        self.resume_sockets(registry, &all, now);
        self.gate.resume(registry);
    }

    /// When [`Ports::resume_at`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let all = [self.gate.deadline(), self.retry_at];
        all.into_iter().flatten().min()
    }

    /// Accepts again where a pause is over; whether a listener could be opened that could not be
    /// before.
    pub(super) fn resume_at(&mut self, registry: &mio::Registry, now: Instant) -> bool {
        self.gate.resume_at(registry, now);
        if self.retry_at.is_none_or(|at| at > now) {
            return false;
        }
        let before = self.closed.len();
        let closed: Vec<usize> = self.closed.iter().copied().collect();
        self.resume_sockets(registry, &closed, now);
        self.closed.len() < before
    }

    fn resume_sockets(&mut self, registry: &mio::Registry, tokens: &[usize], now: Instant) {
        for &token in tokens {
            let Some(listener) = self.gate.listener(token) else {
                continue;
            };
            let address = listener.address();
            match listener.resume(self.backlog_of(token)) {
                Ok(()) if self.closed.remove(&token) => {
                    log::info!("{address} is open again");
                    self.gate.set_deaf(registry, token, false);
                }
                Ok(()) => {}
                Err(error) => {
                    if self.closed.insert(token) {
                        log::error!("{address} cannot be opened again, and is tried on: {error}");
                        self.gate.set_deaf(registry, token, true);
                    }
                    let number = self.by_token.get(&token);
                    if let Some(port) = number.and_then(|number| self.ports.get_mut(number)) {
                        // Those after it are counted in its place, and it after them.
                        port.steering.disordered |= !port.beside.is_empty();
                    }
                }
            }
        }
        self.retry_at = (!self.closed.is_empty()).then(|| now + RETRY);
    }

    /// Closes all listeners; what only looked like one, the file of a unix socket, goes as well.
    pub(super) fn close_all(&mut self, registry: &mio::Registry) {
        for listener in self.gate.listeners() {
            if let Err(error) = listener.unlink() {
                log::warn!("{} cannot be removed: {error}", listener.address());
            }
        }
        self.gate.close(registry);
        self.ports.clear();
        self.by_token.clear();
        self.closed.clear();
        self.retry_at = None;
    }
}

fn refusal(error: io::Error) -> Refusal {
    Refusal {
        errno: error.raw_os_error().unwrap_or(0),
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
