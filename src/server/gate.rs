//! The listeners that a loop accepts from by itself, beside other loops.
//!
//! Owns when to accept and when to pause: at the limit of connections, and when descriptors have
//! run out, where trying again at once would spin.

use crate::net::{deregister, register_listener, register_once};
use crate::sys::listener::{Listener, Peer};
use crate::sys::socket;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Connections accepted at one event. More would let the loop that wakes first take all of a
/// burst; fewer would wait once a connection.
pub(super) const BURST: usize = 8;

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
    /// Others accept from it; this loop wants to know when there is something.
    watched: bool,
    registered: Registered,
}

/// How the loop is told of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    No,
    /// Of each.
    Always,
    /// Of the next one.
    Once,
}

impl Entry {
    /// Has the loop told of connections as it should be; in a `paused` gate, of none.
    fn register(&mut self, registry: &mio::Registry, paused: bool) -> io::Result<()> {
        let wanted = match (self.open, self.watched) {
            _ if paused => Registered::No,
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
            Registered::Once => register_once(registry, self, self.token, false),
        }
    }
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
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
            watched: false,
            registered: Registered::No,
        };
        entry.register(registry, self.paused)?;
        self.entries.insert(token, entry);
        Ok(())
    }

    /// Accepts from the listener with `token`, or only keeps it.
    pub(crate) fn set_open(&mut self, registry: &mio::Registry, token: usize, open: bool) {
        let paused = self.paused;
        let entry = self.entries.get_mut(&token);
        if let Some(entry) = entry
            && mem::replace(&mut entry.open, open) != open
            && let Err(error) = entry.register(registry, paused)
        {
            log::error!("a listener cannot be waited for: {error}");
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
            Registered::Always | Registered::No => {
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
        if self.paused || !entry.open {
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
    }

    /// Whether accepting is paused.
    pub(crate) fn paused(&self) -> bool {
        self.paused
    }

    /// When [`Gate::resume_at`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Accepts again if the pause is over.
    pub(crate) fn resume_at(&mut self, registry: &mio::Registry, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.resume(registry);
        }
    }

    /// Accepts again.
    pub(crate) fn resume(&mut self, registry: &mio::Registry) {
        self.until = None;
        self.paused = false;
        for entry in self.entries.values_mut() {
            if let Err(error) = entry.register(registry, false) {
                log::error!("a listener cannot be waited for: {error}");
            }
        }
    }

    /// Accepts nothing until [`Gate::resume`], or until `until` if that comes first.
    pub(crate) fn pause(&mut self, registry: &mio::Registry, until: Option<Instant>) {
        self.paused = true;
        self.until = until;
        for entry in self.entries.values_mut() {
            if let Err(error) = entry.register(registry, true) {
                log::error!("a listener cannot be paused: {error}");
            }
        }
    }
}
