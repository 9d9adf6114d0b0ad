//! Signals as data: a descriptor to read them from, and the masks that make it so.
//!
//! What a signal means is left to whoever reads it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal};
use nix::sys::signalfd;

pub(crate) use libc::{
    SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};

use super::retry;

/// Signals to be read from a descriptor; see signalfd(2).
///
/// Dropping one closes the descriptor and leaves the mask as it is. Unblocking lets signals that
/// wait take effect, by default the end of the process; a forked child that drops what its parent
/// left it, or a process on its way out, must not die of that. Who wants the old mask back says so,
/// by [`SignalFd::restore_mask`].
#[derive(Debug)]
pub(crate) struct SignalFd {
    fd: signalfd::SignalFd,
    previous: SigSet,
}

impl SignalFd {
    /// Blocks `signals` in this thread and makes a descriptor that tells of them, non-blocking and
    /// close-on-exec.
    ///
    /// Threads started later inherit the mask; those that run already do not, and a signal meant
    /// for the process may then go to one of them. After fork(2) the child reads its own signals
    /// from the same descriptor.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that is no signal or a real-time one, and those of signalfd(2); then
    /// the mask is as before.
    pub(crate) fn new(signals: &[i32]) -> io::Result<SignalFd> {
        let mut set = SigSet::empty();
        for &number in signals {
            set.add(Signal::try_from(number)?);
        }
        let flags = signalfd::SfdFlags::SFD_NONBLOCK | signalfd::SfdFlags::SFD_CLOEXEC;
        let fd = signalfd::SignalFd::with_flags(&set, flags)?;
        let previous = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(SignalFd { fd, previous })
    }

    /// The next signal's number, or `None` when none waits. The kernel merges equal signals that
    /// wait: one `SIGCHLD` may stand for several children.
    ///
    /// # Errors
    ///
    /// Those of read(2).
    pub(crate) fn read(&self) -> io::Result<Option<i32>> {
        let info = retry(|| self.fd.read_signal())?;
        Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok()))
    }

    /// The program before this one, in the same process, had blocked them: let
    /// [`SignalFd::restore_mask`] open them all the same.
    pub(crate) fn inherited_mask(mut self, signals: &[i32]) -> SignalFd {
        for signal in signals
            .iter()
            .filter_map(|&number| Signal::try_from(number).ok())
        {
            self.previous.remove(signal);
        }
        self
    }

    /// Gives this thread the mask back that it had before [`SignalFd::new`]. Signals that wait take
    /// effect at once.
    pub(crate) fn restore_mask(&self) {
        let restored = self.previous.thread_set_mask();
        debug_assert_eq!(restored, Ok(()), "a mask the kernel gave us is valid");
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

/// Whether this process was told to ignore a signal, as nohup(1) does; see `SigIgn` in
/// proc_pid_status(5). False where that cannot be read.
#[cfg(feature = "compare")]
pub(crate) fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(number - 1).unwrap_or(u32::MAX);
    mask.unwrap_or_default()
        .checked_shr(bit)
        .unwrap_or_default()
        & 1
        == 1
}

/// Has writing to a closed pipe or socket fail with `EPIPE` and nothing else; see `SIGPIPE` in
/// signal(7).
///
/// Rust programs start so; a library in a program of another language cannot know. Executed
/// programs inherit it.
pub(crate) fn ignore_broken_pipe() {
    // SAFETY: no handler is installed that could do anything unsafe; SIG_IGN only drops the signal.
    let ignored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    debug_assert!(ignored.is_ok(), "SIGPIPE can be ignored");
}

/// Has the kernel keep what it knows of children that ended until somebody asks: a program that was
/// started with `SIGCHLD` ignored would be told nothing; see wait(2).
pub(crate) fn heed_children() {
    // SAFETY: no handler is installed that could do anything unsafe; the default does nothing.
    let heeded = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    debug_assert!(heeded.is_ok(), "SIGCHLD has a default");
}

#[cfg(test)]
mod tests {
    use libc::{SIGHUP, SIGUSR1, SIGUSR2};
    use std::thread;

    use super::super::testing;
    use super::*;

    // Masks belong to threads, so each test uses one of its own, and a signal directed to that
    // thread.

    fn in_a_thread(test: impl FnOnce() + Send + 'static) {
        thread::spawn(test).join().expect("no panic");
    }

    fn send_to_this_thread(number: i32) {
        // SAFETY: pthread_self is this very thread, and it blocks the signal, so that nothing is
        // interrupted.
        let sent = unsafe { libc::pthread_kill(libc::pthread_self(), number) };
        assert_eq!(sent, 0);
    }

    #[test]
    fn signals_are_read_and_the_mask_comes_back() {
        in_a_thread(|| {
            let before = SigSet::thread_get_mask().expect("a mask");
            let signals = SignalFd::new(&[SIGUSR1, SIGUSR2]).expect("a signalfd");
            testing::assert_flags(&signals);
            assert_eq!(signals.read().expect("readable"), None);
            send_to_this_thread(SIGUSR2);
            send_to_this_thread(SIGUSR2);
            send_to_this_thread(SIGUSR1);
            let mut read = [
                signals.read().expect("readable"),
                signals.read().expect("readable"),
            ];
            read.sort();
            assert_eq!(read, [Some(SIGUSR1), Some(SIGUSR2)]);
            assert_eq!(
                signals.read().expect("readable"),
                None,
                "equal signals merge"
            );
            signals.restore_mask();
            assert_eq!(SigSet::thread_get_mask().expect("a mask"), before);
        });
    }

    #[test]
    fn dropping_leaves_the_mask() {
        in_a_thread(|| {
            drop(SignalFd::new(&[SIGHUP]).expect("a signalfd"));
            assert!(
                SigSet::thread_get_mask()
                    .expect("a mask")
                    .contains(Signal::SIGHUP)
            );
            SigSet::empty().thread_set_mask().expect("a mask");
            assert_eq!(SigSet::thread_get_mask().expect("a mask"), SigSet::empty());
        });
    }

    #[test]
    fn what_is_no_signal_is_refused_and_blocks_nothing() {
        in_a_thread(|| {
            let before = SigSet::thread_get_mask().expect("a mask");
            let error = SignalFd::new(&[SIGTERM, 1000]).expect_err("no signal");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert_eq!(SigSet::thread_get_mask().expect("a mask"), before);
        });
    }

    #[test]
    fn broken_pipes_can_be_ignored() {
        ignore_broken_pipe();
        #[cfg(feature = "compare")]
        {
            assert!(is_ignored(libc::SIGPIPE));
            assert!(!is_ignored(libc::SIGSEGV) && !is_ignored(0) && !is_ignored(1000));
        }
        let (ours, theirs) = super::super::socket::pair_stream().expect("a pair");
        drop(theirs);
        let error = super::super::socket::write(ours.as_fd(), b"x").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
