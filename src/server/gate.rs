//! The listeners that a loop accepts from by itself, beside other loops.
//!
//! Owns when to accept and when to pause: at the limit of connections, and when descriptors have
//! run out, where trying again at once would spin.

use crate::net::{deregister, register, register_listener, register_once};
use crate::sys::listener::{Listener, Peer};
use crate::sys::socket;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Connections accepted at one event. More would let the loop that wakes first take all of a
/// burst; fewer would wait once a connection.
pub(super) const BURST: usize = 8;

/// Events at which as many connections waited as were expected, before twice as many are.
const SURE: u32 = 4;

/// How long to wait for descriptors when the process has none left.
const PAUSE: Duration = Duration::from_millis(100);

/// What accepting found.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(OwnedFd, Peer),
    Nothing,
}

#[derive(Debug)]
struct Entry {
    listener: Listener,
    token: usize,
    /// Whether this loop accepts from it at all.
    open: bool,
    /// This loop only counts what waits, and says who is to accept it.
    counted: bool,
    /// Others accept from it; this loop wants to know when there is something.
    watched: bool,
    registered: Registered,
    held: Held,
}

/// How many connections to accept at one event. To ask for one more than there are costs more than
/// the next event does, so one is expected until events have brought as many as expected for a while.
#[derive(Debug)]
pub(super) struct Burst {
    expected: usize,
    met: u32,
}

impl Default for Burst {
    fn default() -> Self {
        Self {
            expected: 1,
            met: 0,
        }
    }
}

impl Burst {
    pub(super) fn expected(&self) -> usize {
        self.expected
    }

    /// So many came; with `ended` that was all.
    pub(super) fn came(&mut self, count: usize, ended: bool) {
        self.met += 1;
        if ended {
            self.expected = count.max(1);
            self.met = 0;
        } else if self.met >= SURE {
            self.expected = (self.expected * 2).min(BURST);
            self.met = 0;
        }
    }
}

/// Whether one listener alone is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    No,
    /// Until then, or until all go on.
    Until(Instant),
    /// It does not listen at present: waiting for it would wake the loop without end.
    Deaf,
}

/// How the loop is told of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    No,
    /// While there are any.
    Always,
    /// Of each new one.
    Each,
    /// Of the next one.
    Once,
}

impl Entry {
    /// Has the loop told of connections as it should be; in a `paused` gate, of none.
    fn register(&mut self, registry: &mio::Registry, paused: bool) -> io::Result<()> {
        let wanted = match (self.open, self.watched) {
            _ if paused || self.held != Held::No => Registered::No,
            (true, _) if self.counted => Registered::Each,
            (true, _) => Registered::Always,
            (false, true) => Registered::Once,
            (false, false) => Registered::No,
        };
        let before = mem::replace(&mut self.registered, wanted);
        if before == wanted {
            return Ok(());
        }
        if before != Registered::No {
            // Level-triggered: while registered, it would wake the loop without end.
            deregister(registry, self)?;
        }
        match wanted {
            Registered::No => Ok(()),
            Registered::Always => register_listener(registry, self, self.token),
            Registered::Each => register(registry, self, self.token),
            Registered::Once => register_once(registry, self, self.token, false),
        }
    }
}

impl AsRawFd for Entry {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_fd().as_raw_fd()
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// There is nothing else to do about it.
fn resumed(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log::error!("a listener cannot be waited for: {error}");
    }
}

/// All listeners of one loop.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// By token, and so in the order in which they were added.
    entries: BTreeMap<usize, Entry>,
    paused: bool,
    /// When to try again, if no connection ends before.
    until: Option<Instant>,
    /// When to try again at the first of the listeners that are paused alone.
    held_until: Option<Instant>,
}

impl Gate {
    /// The listeners, in the order in which they were added.
    pub(crate) fn listeners(&self) -> impl ExactSizeIterator<Item = &Listener> {
        self.entries.values().map(|entry| &entry.listener)
    }

    /// The listener with `token`.
    pub(crate) fn listener(&self, token: usize) -> Option<&Listener> {
        self.entries.get(&token).map(|entry| &entry.listener)
    }

    /// Keeps `listener`, and accepts from it as well if it is `open`.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    pub(crate) fn add(
        &mut self,
        registry: &mio::Registry,
        listener: Listener,
        token: usize,
        open: bool,
    ) -> io::Result<()> {
        let mut entry = Entry {
            listener,
            token,
            open,
            counted: false,
            watched: false,
            registered: Registered::No,
            held: Held::No,
        };
        entry.register(registry, self.paused)?;
        self.entries.insert(token, entry);
        Ok(())
    }

    /// Accepts from the listener with `token`, or only keeps it.
    pub(crate) fn set_open(&mut self, registry: &mio::Registry, token: usize, open: bool) {
        self.set(registry, token, |entry| &mut entry.open, open);
    }

    /// Has the loop told once of each connection that comes to the open listener with `token`, rather
    /// than for as long as any waits; or no longer.
    pub(crate) fn set_counted(&mut self, registry: &mio::Registry, token: usize, counted: bool) {
        self.set(registry, token, |entry| &mut entry.counted, counted);
    }

    /// Sets what decides of which connections the loop is told.
    fn set(
        &mut self,
        registry: &mio::Registry,
        token: usize,
        what: fn(&mut Entry) -> &mut bool,
        value: bool,
    ) {
        let paused = self.paused;
        if let Some(entry) = self.entries.get_mut(&token)
            && mem::replace(what(entry), value) != value
        {
            resumed(entry.register(registry, paused));
        }
    }

    /// Whether this loop accepts from the listener with `token`.
    pub(crate) fn is_open(&self, token: usize) -> bool {
        self.entries.get(&token).is_some_and(|entry| entry.open)
    }

    /// Has the loop told, by `token`, when a connection comes to a listener that others accept
    /// from: once, and again after the next call.
    pub(crate) fn watch(&mut self, registry: &mio::Registry, token: usize) {
        let paused = self.paused;
        let entry = self.entries.get_mut(&token);
        let Some(entry) = entry else {
            return;
        };
        let watched = match entry.registered {
            Registered::Once => register_once(registry, entry, token, true),
            Registered::Always | Registered::Each | Registered::No => {
                entry.watched = true;
                entry.register(registry, paused)
            }
        };
        if let Err(error) = watched {
            log::error!("a listener cannot be watched: {error}");
        }
    }

    /// The contrary of [`Gate::watch`].
    pub(crate) fn unwatch(&mut self, registry: &mio::Registry, token: usize) {
        let paused = self.paused;
        let entry = self.entries.get_mut(&token);
        if let Some(entry) = entry
            && mem::take(&mut entry.watched)
            && let Err(error) = entry.register(registry, paused)
        {
            log::error!("a listener cannot be forgotten: {error}");
        }
    }

    /// Gives a listener up: it closes when the answer is dropped, unless others have it as well.
    pub(crate) fn remove(&mut self, registry: &mio::Registry, token: usize) -> Option<Listener> {
        let mut entry = self.entries.remove(&token)?;
        if let Err(error) = entry.register(registry, true) {
            log::error!("a listener cannot be forgotten: {error}");
        }
        Some(entry.listener)
    }

    /// How many connections wait in the kernel's queue of the listener with `token`, where it tells:
    /// one at least, for who was told that there is something.
    pub(crate) fn queued(&self, token: usize) -> Option<usize> {
        let queued = self.entries.get(&token)?.listener.queued()?;
        Some((queued as usize).max(1))
    }

    /// Accepts one connection from the listener with `token`.
    pub(crate) fn accept(
        &mut self,
        registry: &mio::Registry,
        token: usize,
        now: Instant,
    ) -> Accepted {
        let Some(entry) = self.entries.get(&token) else {
            return Accepted::Nothing;
        };
        if self.paused || !entry.open || entry.held != Held::No {
            return Accepted::Nothing;
        }
        match entry.listener.accept() {
            Ok((socket, peer)) => Accepted::Connection(socket, peer),
            Err(error) if socket::would_block(&error) => Accepted::Nothing,
            Err(error) => {
                log::error!("accepting pauses for {PAUSE:?}: {error}");
                self.pause(registry, Some(now + PAUSE));
                Accepted::Nothing
            }
        }
    }

    /// One of the connections that wait in the kernel's queues of the open listeners, with the
    /// token of its listener: for what came before the listeners close.
    pub(crate) fn take_waiting(&mut self) -> Option<(OwnedFd, Peer, usize)> {
        let mut open = self.entries.values().filter(|entry| entry.open);
        open.find_map(|entry| {
            let (socket, peer) = entry.listener.accept().ok()?;
            Some((socket, peer, entry.token))
        })
    }

    /// Closes the listeners; other processes may hold them open.
    pub(crate) fn close(&mut self, registry: &mio::Registry) {
        for entry in self.entries.values_mut() {
            // Where another process has a copy, closing would not take it out.
            if let Err(error) = entry.register(registry, true) {
                log::debug!("a listener cannot be forgotten: {error}");
            }
        }
        self.entries.clear();
        self.until = None;
        self.held_until = None;
    }

    /// Whether accepting is paused.
    pub(crate) fn paused(&self) -> bool {
        self.paused
    }

    /// When [`Gate::resume_at`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.until, self.held_until].into_iter().flatten().min()
    }

    /// Accepts again if the pause is over.
    pub(crate) fn resume_at(&mut self, registry: &mio::Registry, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.resume(registry);
        }
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
            for entry in self.entries.values_mut() {
                match entry.held {
                    Held::Until(at) if at <= now => {
                        entry.held = Held::No;
                        resumed(entry.register(registry, self.paused));
                    }
                    Held::Until(at) => {
                        self.held_until = Some(self.held_until.map_or(at, |one| one.min(at)));
                    }
                    Held::No | Held::Deaf => {}
                }
            }
        }
    }

    /// Accepts again.
    pub(crate) fn resume(&mut self, registry: &mio::Registry) {
        self.until = None;
        self.held_until = None;
        self.paused = false;
        for entry in self.entries.values_mut() {
            if let Held::Until(_) = entry.held {
                entry.held = Held::No;
            }
            resumed(entry.register(registry, false));
        }
    }

    /// Accepts nothing from the listener with `token` alone until `until`, or until
    /// [`Gate::resume`] if that comes first.
    pub(crate) fn hold(&mut self, registry: &mio::Registry, token: usize, until: Instant) {
        let Some(entry) = self.entries.get_mut(&token) else {
            return;
        };
        if entry.held == Held::Deaf {
            return;
        }
        entry.held = Held::Until(until);
        self.held_until = Some(self.held_until.map_or(until, |one| one.min(until)));
        resumed(entry.register(registry, self.paused));
    }

    /// The contrary of [`Gate::hold`], before its time.
    pub(crate) fn go_on(&mut self, registry: &mio::Registry, token: usize) {
        if let Some(entry) = self.entries.get_mut(&token)
            && let Held::Until(_) = entry.held
        {
            entry.held = Held::No;
            resumed(entry.register(registry, self.paused));
        }
    }

    /// The listener with `token` does not listen at present, or does so again.
    pub(crate) fn set_deaf(&mut self, registry: &mio::Registry, token: usize, deaf: bool) {
        if let Some(entry) = self.entries.get_mut(&token) {
            entry.held = if deaf { Held::Deaf } else { Held::No };
            resumed(entry.register(registry, self.paused));
        }
    }

    /// Accepts nothing until [`Gate::resume`], or until `until` if that comes first.
    pub(crate) fn pause(&mut self, registry: &mio::Registry, until: Option<Instant>) {
        self.paused = true;
        self.until = until;
        // All go on together.
        self.held_until = None;
        for entry in self.entries.values_mut() {
            if let Err(error) = entry.register(registry, true) {
                log::error!("a listener cannot be paused: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_asked_for_as_came_before() {
        let mut burst = Burst::default();
        for expected in [1, 2, 4, BURST, BURST] {
            for _ in 0..SURE {
                assert_eq!(burst.expected(), expected);
                burst.came(expected, false);
            }
        }
        for (count, expected) in [(5, 5), (0, 1)] {
            burst.came(count, true);
            assert_eq!(burst.expected(), expected);
        }
    }
    use crate::net::{Listen, Reactor};
    use std::net::TcpStream;

    fn accepts(gate: &mut Gate, reactor: &Reactor, token: usize) -> bool {
        let accepted = gate.accept(reactor.registry(), token, reactor.now());
        matches!(accepted, Accepted::Connection(..))
    }

    #[test]
    fn one_listener_is_held_and_the_others_go_on() {
        let mut reactor = Reactor::new().unwrap();
        let mut gate = Gate::default();
        let mut clients = Vec::new();
        for token in [20, 21] {
            let listener = "127.0.0.1:0".parse::<Listen>().unwrap().bind().unwrap();
            let address = listener.address().to_string();
            gate.add(reactor.registry(), listener, token, true).unwrap();
            for _ in 0..2 {
                clients.push(TcpStream::connect(&address).unwrap());
            }
        }
        let now = reactor.now();
        let until = now + Duration::from_secs(3600);
        gate.hold(reactor.registry(), 20, until);
        assert_eq!(gate.deadline(), Some(until));
        reactor.wait(Some(until)).unwrap();
        let ready: Vec<_> = reactor.ready().map(|one| one.token).collect();
        assert_eq!(ready, [21]);
        assert!(!accepts(&mut gate, &reactor, 20));
        assert!(accepts(&mut gate, &reactor, 21));
        gate.resume_at(reactor.registry(), until);
        assert_eq!(gate.deadline(), None);
        assert!(accepts(&mut gate, &reactor, 20));
        // One that does not listen stays out when all go on.
        gate.set_deaf(reactor.registry(), 20, true);
        gate.pause(reactor.registry(), None);
        gate.resume(reactor.registry());
        assert!(!accepts(&mut gate, &reactor, 20));
        assert!(accepts(&mut gate, &reactor, 21));
        gate.set_deaf(reactor.registry(), 20, false);
        assert!(accepts(&mut gate, &reactor, 20));
    }
}
