//! The epoll(7) calls that mio does not make: level-triggered ones, and a wait finer than milliseconds. Owns nothing;
//! leaves events to `net`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
#[cfg(feature = "loadtest")]
use std::{ptr, time::Duration};

/// Adds a listener with `EPOLLIN | EPOLLEXCLUSIVE`, level-triggered, to the epoll set `epoll`:
/// of all sets that wait for it one is woken, see epoll_ctl(2).
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn add_exclusive(epoll: RawFd, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    add(epoll, fd, token, libc::EPOLLIN | libc::EPOLLEXCLUSIVE)
}

/// Adds a descriptor with `EPOLLIN`, level-triggered.
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn add_reader(epoll: RawFd, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    add(epoll, fd, token, libc::EPOLLIN)
}

/// Adds a descriptor with `EPOLLIN | EPOLLONESHOT`: told of once, and again only after
/// [`rearm`].
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn add_once(epoll: RawFd, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    add(epoll, fd, token, libc::EPOLLIN | libc::EPOLLONESHOT)
}

/// Has the set tell once more of a descriptor that was added by [`add_once`].
///
/// # Errors
///
/// As epoll_ctl(2).
pub(crate) fn rearm(epoll: RawFd, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
    let events = libc::EPOLLIN | libc::EPOLLONESHOT;
    control(epoll, libc::EPOLL_CTL_MOD, fd, token, events)
}

/// Waits until the epoll set has an event, at most so long, to the nanosecond; which events stays to
/// be asked. A signal ends the wait too. See ppoll(2), which takes an epoll set as any descriptor.
///
/// # Errors
///
/// Those of ppoll.
#[cfg(feature = "loadtest")]
pub(crate) fn wait_finely(epoll: RawFd, at_most: Duration) -> io::Result<()> {
    let mut set = libc::pollfd {
        fd: epoll,
        events: libc::POLLIN,
        revents: 0,
    };
    let time = libc::timespec {
        tv_sec: at_most.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // SAFETY: one valid pollfd and a valid timespec, both for the length of the call; no mask is set.
    let result = unsafe { libc::ppoll(&raw mut set, 1, &raw const time, ptr::null()) };
    match result {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}

fn add(epoll: RawFd, fd: BorrowedFd<'_>, token: u64, events: i32) -> io::Result<()> {
    control(epoll, libc::EPOLL_CTL_ADD, fd, token, events)
}

fn control(
    epoll: RawFd,
    operation: i32,
    fd: BorrowedFd<'_>,
    token: u64,
    events: i32,
) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: events as u32,
        u64: token,
    };
    // SAFETY: `event` is a valid epoll_event for the length of the call, which copies it; a wrong
    // descriptor is an error, not undefined behaviour.
    let result = unsafe { libc::epoll_ctl(epoll, operation, fd.as_raw_fd(), &raw mut event) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
