//! The listeners that a loop accepts from by itself, beside other loops.
//!
//! Owns when to accept and when to pause: at the limit of connections, and when descriptors have
//! run out, where trying again at once would spin.

use crate::net::{deregister, register_listener};
use crate::sys::listener::{Listener, Peer};
use crate::sys::socket;
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
}

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// All listeners of one loop.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    entries: Vec<Entry>,
    paused: bool,
    /// When to try again, if no connection ends before.
    until: Option<Instant>,
}

impl Gate {
    /// A gate that keeps listeners for others and accepts nothing by itself.
    pub(crate) fn closed() -> Self {
        Self {
            paused: true,
            ..Self::default()
        }
    }

    /// The listeners, in the order in which they were added.
    pub(crate) fn listeners(&self) -> impl ExactSizeIterator<Item = &Listener> {
        self.entries.iter().map(|entry| &entry.listener)
    }

    /// Accepts from `listener` as well.
    pub(crate) fn add(
        &mut self,
        registry: &mio::Registry,
        listener: Listener,
        token: usize,
    ) -> io::Result<()> {
        let entry = Entry { listener, token };
        if !self.paused {
            register_listener(registry, &entry, token)?;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Accepts one connection from the listener with `token`.
    pub(crate) fn accept(
        &mut self,
        registry: &mio::Registry,
        token: usize,
        now: Instant,
    ) -> Accepted {
        let Some(entry) = self.entries.iter().find(|entry| entry.token == token) else {
            return Accepted::Nothing;
        };
        if self.paused {
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

    /// One of the connections that wait in the kernel's queues, with the token of its listener:
    /// for what came before the listeners close.
    pub(crate) fn take_waiting(&mut self) -> Option<(OwnedFd, Peer, usize)> {
        self.entries.iter().find_map(|entry| {
            let (socket, peer) = entry.listener.accept().ok()?;
            Some((socket, peer, entry.token))
        })
    }

    /// Closes the listeners; other processes may hold them open.
    pub(crate) fn close(&mut self) {
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
        if !mem::replace(&mut self.paused, false) {
            return;
        }
        for entry in &self.entries {
            if let Err(error) = register_listener(registry, entry, entry.token) {
                log::error!("a listener cannot be waited for: {error}");
            }
        }
    }

    /// Accepts nothing until [`Gate::resume`], or until `until` if that comes first.
    pub(crate) fn pause(&mut self, registry: &mio::Registry, until: Option<Instant>) {
        if mem::replace(&mut self.paused, true) {
            self.until = until;
            return;
        }
        self.until = until;
        for entry in &self.entries {
            // Level-triggered: while registered, it would wake the loop without end.
            if let Err(error) = deregister(registry, entry) {
                log::error!("a listener cannot be paused: {error}");
            }
        }
    }
}
