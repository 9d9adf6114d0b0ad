//! Readiness of descriptors. Owns the epoll set; leaves reading and writing to whom it wakes.

use crate::sys;
use mio::unix::SourceFd;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Instant;

/// How many events one wait may bring: enough for a busy turn, small enough to stay in cache.
const EVENTS_PER_TURN: usize = 512;

/// What became ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The token given at registration.
    pub(crate) token: usize,
    /// There is something to read (or an end of file, or an error to collect).
    pub(crate) readable: bool,
    /// There is room to write.
    pub(crate) writable: bool,
    /// The peer has shut down its sending half (or all of it).
    pub(crate) read_closed: bool,
    /// The connection is gone: reset, or both halves closed.
    pub(crate) gone: bool,
}

/// An epoll set and the clock of the current turn.
#[derive(Debug)]
pub(crate) struct Reactor {
    poll: mio::Poll,
    events: mio::Events,
    now: Instant,
}

impl Reactor {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// When no descriptor is left for the set.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: mio::Poll::new()?,
            events: mio::Events::with_capacity(EVENTS_PER_TURN),
            now: Instant::now(),
        })
    }

    /// Waits for readiness, at most until `deadline`, then reads the clock: once a turn.
    ///
    /// # Errors
    ///
    /// As epoll_wait(2), but an interrupted wait is a turn without events.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        // From the last reading: the turn since then is short, or somebody has said how long.
        let timeout = deadline.map(|at| at.saturating_duration_since(self.now));
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) => self.events.clear(),
            Ok(()) => {}
        }
        self.now = Instant::now();
        Ok(())
    }

    /// As [`Reactor::wait`] with a deadline that is kept to the microsecond, for a system call more:
    /// epoll_wait(2) knows whole milliseconds only.
    ///
    /// # Errors
    ///
    /// As [`Reactor::wait`].
    #[cfg(feature = "loadtest")]
    pub(crate) fn wait_finely(&mut self, deadline: Instant) -> io::Result<()> {
        let time = deadline.saturating_duration_since(Instant::now());
        if !time.is_zero() {
            sys::epoll::wait_finely(self.poll.as_raw_fd(), time)?;
        }
        self.wait(Some(self.now))
    }

    /// Somebody has read the clock in the meantime.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// When the current turn began.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// What the last wait brought.
    pub(crate) fn ready(&self) -> impl Iterator<Item = Ready> + '_ {
        self.events.iter().map(|event| Ready {
            token: event.token().0,
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            gone: event.is_error() || (event.is_read_closed() && event.is_write_closed()),
        })
    }

    /// What sources are registered with; usable while the events are looked at.
    pub(crate) fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// A handle by which another thread ends the wait.
    ///
    /// # Errors
    ///
    /// When no descriptor is left.
    pub(crate) fn waker(&self, token: usize) -> io::Result<Waker> {
        Ok(Waker(Arc::new(mio::Waker::new(
            self.registry(),
            mio::Token(token),
        )?)))
    }
}

/// Ends the wait of a reactor from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Makes the reactor's next (or present) wait return.
    pub(crate) fn wake(&self) {
        // The only failure left (a full eventfd counter) means that a wake is pending already.
        if let Err(error) = self.0.wake() {
            log::debug!("waking the loop: {error}");
        }
    }
}

/// Registers a descriptor once, for both directions, edge-triggered.
///
/// Closing the descriptor takes it out again, unless another process holds a copy: a late event
/// must then be recognised by its token.
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn register(
    registry: &mio::Registry,
    fd: &impl AsRawFd,
    token: usize,
) -> io::Result<()> {
    registry.register(
        &mut SourceFd(&fd.as_raw_fd()),
        mio::Token(token),
        mio::Interest::READABLE | mio::Interest::WRITABLE,
    )
}

/// Registers a listener that several processes or threads wait for: one of them is woken for a
/// connection, and woken again while connections wait (level-triggered, EPOLLEXCLUSIVE).
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn register_listener(
    registry: &mio::Registry,
    fd: &impl AsFd,
    token: usize,
) -> io::Result<()> {
    // mio registers edge-triggered and knows no EPOLLEXCLUSIVE, but it does give its descriptor.
    sys::epoll::add_exclusive(registry.as_raw_fd(), fd.as_fd(), token as u64)
}

/// Registers a descriptor for reading alone, level-triggered: for one that brings a message at a
/// time, where reading until nothing is left would cost a call more each time.
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn register_reader(
    registry: &mio::Registry,
    fd: &impl AsFd,
    token: usize,
) -> io::Result<()> {
    sys::epoll::add_reader(registry.as_raw_fd(), fd.as_fd(), token as u64)
}

/// Has the loop told once that a descriptor is readable; again after the same call with `again`.
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn register_once(
    registry: &mio::Registry,
    fd: &impl AsFd,
    token: usize,
    again: bool,
) -> io::Result<()> {
    let epoll = registry.as_raw_fd();
    match again {
        false => sys::epoll::add_once(epoll, fd.as_fd(), token as u64),
        true => sys::epoll::rearm(epoll, fd.as_fd(), token as u64),
    }
}

/// Takes a descriptor out of the set.
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn deregister(registry: &mio::Registry, fd: &impl AsFd) -> io::Result<()> {
    registry.deregister(&mut SourceFd(&fd.as_fd().as_raw_fd()))
}

/// Tokens that name a place in a table and its occupant, so that a late event of one connection
/// is never taken for its successor's.
pub(crate) mod token {
    /// Tokens below this one belong to the loop itself: channel, waker, listeners.
    pub(crate) const FIRST: usize = 1 << 20;

    /// The token of a loop's listener number 0; that of number `n` is `n` more.
    pub(crate) const LISTENERS: usize = 16;

    /// The primary's connections that have not said whose they are: tokens from here on, up to
    /// twice as much. No [`Key`] comes there before a place has had 2^30 occupants.
    pub(crate) const PEEKED: usize = 1 << 62;

    /// What workers that are programs write, as the primary reads it: tokens from here on, up to
    /// [`NOTICES`], two for each worker. No [`Key`] comes there before a place has had 2^29
    /// occupants.
    #[cfg(feature = "programs")]
    pub(crate) const OUTPUT: usize = 1 << 61;

    /// Where a worker of the primary's that is a program says how it is: tokens from here on, by
    /// the worker's id, up to [`PEEKED`]. No [`Key`] comes there either; one with the highest bit is
    /// of another server.
    #[cfg(feature = "programs")]
    pub(crate) const NOTICES: usize = OUTPUT + (1 << 60);

    /// A place in a table and which occupant of it is meant.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Key {
        pub(crate) index: u32,
        pub(crate) generation: u32,
    }

    impl Key {
        /// As an epoll token: the generation above the index. Generations start at 1, so no key
        /// is below [`FIRST`].
        pub(crate) fn token(self) -> usize {
            (self.generation as usize) << 32 | self.index as usize
        }

        /// The key in a token that is at least [`FIRST`].
        pub(crate) fn from_token(token: usize) -> Self {
            Self {
                index: token as u32,
                generation: (token >> 32) as u32,
            }
        }
    }
}

#[cfg(all(test, feature = "loadtest"))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_fine_wait_ends_neither_early_nor_by_the_millisecond() {
        let mut reactor = Reactor::new().expect("a set");
        let waker = reactor.waker(0).expect("a waker");
        let shortest = (0..20)
            .map(|_| {
                let begin = Instant::now();
                let deadline = begin + Duration::from_micros(200);
                reactor.wait_finely(deadline).expect("a wait");
                assert!(reactor.now() >= deadline);
                reactor.now() - begin
            })
            .min();
        assert!(shortest < Some(Duration::from_micros(900)), "{shortest:?}");

        waker.wake();
        let far = Instant::now() + Duration::from_secs(60);
        reactor.wait_finely(far).expect("a wait");
        assert!(reactor.now() < far);
        assert_eq!(reactor.ready().count(), 1);
    }
}
