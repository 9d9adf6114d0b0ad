//! Every system call that the standard library and mio do not already wrap, and the only `unsafe`
//! code of this crate.
//!
//! A file in here offers safe functions over one corner of the kernel. It may use `std`, `nix`,
//! `libc` and its neighbours; it knows nothing of workers, requests or messages, writes no log and
//! keeps no policy. What it promises:
//!
//! - a descriptor is an `OwnedFd` from birth, close-on-exec and non-blocking by the call that
//!   creates it;
//! - `EINTR` ends here; every other error is the kernel's own `io::Error`, or says which rule was
//!   broken;
//! - dropping a value closes what it owns and has no other effect, so that a forked child can drop
//!   what its parent left it: no file is unlinked, no mask restored, no epoll set changed.
//!
//! Linux only.
#![allow(
    unsafe_code,
    reason = "the one room for it; each block says why it is sound"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

#[cfg(feature = "programs")]
pub(crate) mod accepting;
pub(crate) mod beneath;
mod cgroup;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod datagram;
#[cfg(feature = "cli")]
pub(crate) mod detached;
pub(crate) mod directory;
pub(crate) mod epoll;
pub(crate) mod exec;
pub(crate) mod fds;
#[cfg(any(feature = "loadtest", feature = "programs"))]
pub(crate) mod group;
#[cfg(feature = "programs")]
pub(crate) mod launch;
pub(crate) mod lines;
pub(crate) mod listener;
#[cfg(feature = "sessions")]
pub(crate) mod lmdb;
pub(crate) mod memory;
#[cfg(feature = "programs")]
pub(crate) mod notices;
pub(crate) mod notify;
pub(crate) mod privilege;
pub(crate) mod proc;
pub(crate) mod process;
#[cfg(feature = "cli")]
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod spool;
#[cfg(feature = "programs")]
pub(crate) mod stream;

/// Makes a call again for as long as a signal interrupts it.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Whether a descriptor has one of `events`, an error or its end, or comes to it within so many
/// milliseconds; see poll(2).
fn is_ready(fd: BorrowedFd<'_>, events: i16, ms: i32) -> io::Result<bool> {
    let mut question = libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one entry, which is ours and outlives the call.
    let ready = retry(|| Errno::result(unsafe { libc::poll(&raw mut question, 1, ms) }))?;
    Ok(ready > 0)
}

/// What the tests of several files need.
#[cfg(test)]
mod testing {
    use std::os::fd::{AsFd, AsRawFd};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::{env, fs, process};

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

    /// A directory of its own, removed when dropped.
    pub(super) struct TempDir(PathBuf);

    impl TempDir {
        pub(super) fn new() -> TempDir {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("mcluster-sys-{}-{number}", process::id()));
            fs::create_dir(&path).expect("a fresh directory");
            TempDir(path)
        }

        pub(super) fn join(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Panics unless the descriptor is close-on-exec and non-blocking.
    pub(super) fn assert_flags(fd: impl AsFd) {
        let descriptor = FdFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFD).expect("F_GETFD"));
        assert!(descriptor.contains(FdFlag::FD_CLOEXEC), "no CLOEXEC");
        let status = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL).expect("F_GETFL"));
        assert!(status.contains(OFlag::O_NONBLOCK), "no NONBLOCK");
    }

    /// Panics unless the descriptor is close-on-exec.
    #[cfg(feature = "programs")]
    pub(super) fn assert_close_on_exec(fd: impl AsFd) {
        let flags = FdFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFD).expect("F_GETFD"));
        assert!(flags.contains(FdFlag::FD_CLOEXEC), "no CLOEXEC");
    }

    /// What a descriptor points to, such as `pipe:[12345]`: unique to one pipe, however many tests
    /// run beside.
    pub(super) fn link_of(fd: impl AsFd) -> PathBuf {
        let fd = fd.as_fd().as_raw_fd();
        fs::read_link(format!("/proc/self/fd/{fd}")).expect("an open descriptor")
    }

    /// How many descriptors of this process point to `link`.
    pub(super) fn open_count(link: &Path) -> usize {
        fs::read_dir("/proc/self/fd")
            .expect("/proc")
            .flatten()
            .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == link))
            .count()
    }
}
