//! Processes: fork, wait, kill, exit, the parent's death, and the descriptor limit.
//!
//! Each function concerns one process, by its id. Which processes there should be, and what an exit
//! means, is decided by whoever calls.

#[cfg(feature = "programs")]
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fmt, fs, io, mem, ptr, thread};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd;

use super::retry;

#[cfg(test)]
mod tests;

/// The id of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pid(i32);

impl Pid {
    /// The process with this number, as the kernel or `std::process::Child::id` gave it.
    pub(crate) const fn from_raw(raw: i32) -> Pid {
        Pid(raw)
    }

    /// The number.
    pub(crate) const fn as_raw(self) -> i32 {
        self.0
    }

    /// The number, unless it is one that system calls take for a group of processes (zero and
    /// below).
    fn of_one_process(self) -> io::Result<i32> {
        if self.0 > 0 {
            return Ok(self.0);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{self} is not the id of one process"),
        ))
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which side of [`fork`] this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forked {
    /// The process that called, with the id of its new child.
    Parent(Pid),
    /// The new process.
    Child,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It left with this code.
    Code(i32),
    /// A signal killed it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel says that it wrote a core file.
        core_dumped: bool,
    },
}

impl Exit {
    /// Reads the status word of `waitpid`.
    fn from_status(status: i32) -> Option<Exit> {
        if libc::WIFEXITED(status) {
            Some(Exit::Code(libc::WEXITSTATUS(status)))
        } else if libc::WIFSIGNALED(status) {
            Some(Exit::Signal {
                signal: libc::WTERMSIG(status),
                core_dumped: libc::WCOREDUMP(status),
            })
        } else {
            None
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "code {code}"),
            Exit::Signal {
                signal,
                core_dumped,
            } => {
                write!(f, "signal {signal}")?;
                if let Some(name) = signal_name(signal) {
                    write!(f, " ({name})")?;
                }
                if core_dumped {
                    f.write_str(", core dumped")?;
                }
                Ok(())
            }
        }
    }
}

/// Makes a copy of this process; see fork(2).
///
/// A child of a process with several threads may only make async-signal-safe calls, since the other
/// threads' locks stay locked in it for ever. So such a process is refused, and with one thread the
/// child may do whatever its parent might.
///
/// # Errors
///
/// `Unsupported` when this process has more than one thread; fork's own errors, such as `EAGAIN` at
/// the limit of processes; those of [`thread_count`].
pub(crate) fn fork() -> io::Result<Forked> {
    let threads = settled_thread_count()?;
    if threads != 1 {
        let what = format!(
            "cannot fork: this process has {threads} threads; fork before starting any, \
             or use threads mode"
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    #[allow(clippy::disallowed_methods, reason = "this is what to use instead")]
    // SAFETY: fork is unsafe for the sake of other threads, and there is none: only this thread
    // could have started one since it counted.
    let forked = unsafe { unistd::fork() }?;
    Ok(match forked {
        unistd::ForkResult::Parent { child } => Forked::Parent(Pid::from_raw(child.as_raw())),
        unistd::ForkResult::Child => Forked::Child,
    })
}

/// How this process's `child` ended, or `None` while it has not; see waitpid(2) with `WNOHANG`.
///
/// An ended child is reported once, and its id is free for another process from then on.
///
/// # Errors
///
/// `ECHILD` when `child` is no child of this process, or was waited for already.
pub(crate) fn try_wait(child: Pid) -> io::Result<Option<Exit>> {
    let child = child.of_one_process()?;
    let mut status = 0;
    // libc's, since nix reports a child killed by a real-time signal as EINVAL, when it has been
    // reaped already.
    // SAFETY: waitpid writes an int to `status`, which outlives the call.
    let reaped =
        retry(|| Errno::result(unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) }))?;
    Ok(if reaped == 0 {
        None
    } else {
        Exit::from_status(status)
    })
}

/// A child that has ended and that nobody has waited for yet, or `None`; see `WNOWAIT` in waitid(2).
/// It stays so, and is answered again, until [`try_wait`] takes it.
///
/// For a process that gets children which it never started, as process 1 of a container does:
/// which to wait for it must be told.
///
/// # Errors
///
/// None that a caller may expect; to have no children is none.
pub(crate) fn peek_ended() -> io::Result<Option<Pid>> {
    // SAFETY: all zeros is a valid siginfo_t, of no signal.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // libc's, as with waitpid above.
    // SAFETY: waitid writes a siginfo_t to `info`, which outlives the call.
    let asked =
        retry(|| Errno::result(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) }));
    match asked {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        Err(error) => return Err(error),
    }
    // SAFETY: `info` is as it was, all zeros, or of SIGCHLD, which has the field; it is 0 when
    // nobody has ended.
    let child = unsafe { info.si_pid() };
    Ok((child > 0).then_some(Pid::from_raw(child)))
}

/// Waits until this process's `child` has ended; see waitpid(2). Only for one that is sure to.
///
/// # Errors
///
/// As [`try_wait`].
#[cfg(feature = "programs")]
pub(crate) fn wait(child: Pid) -> io::Result<()> {
    let child = child.of_one_process()?;
    // SAFETY: waitpid is given nowhere to write to.
    retry(|| Errno::result(unsafe { libc::waitpid(child, ptr::null_mut(), 0) })).map(drop)
}

/// Whether this process's `child` has ended, which it stays, and keeps its id, until [`try_wait`]
/// takes it.
///
/// # Errors
///
/// As [`try_wait`].
#[cfg(feature = "programs")]
pub(crate) fn has_ended(child: Pid) -> io::Result<bool> {
    let child = child.of_one_process()?.unsigned_abs();
    // SAFETY: all zeros is a valid siginfo_t, of no signal.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid writes a siginfo_t to `info`, which outlives the call.
    retry(|| Errno::result(unsafe { libc::waitid(libc::P_PID, child, &raw mut info, flags) }))?;
    // SAFETY: as in `peek_ended`.
    Ok(unsafe { info.si_pid() } != 0)
}

/// A descriptor of this process's `child`, which is readable when that has ended; see pidfd_open(2).
/// Close-on-exec.
///
/// # Errors
///
/// `ENOSYS` before Linux 5.3; `EMFILE`.
#[cfg(feature = "programs")]
pub(crate) fn descriptor(child: Pid) -> io::Result<OwnedFd> {
    let child = child.of_one_process()?;
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    let fd = retry(|| Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) }))?;
    // SAFETY: the kernel has just made it, so it is open and nobody else's; it is a small number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Whether the process with this [`descriptor`] has ended.
///
/// # Errors
///
/// As poll(2).
#[cfg(feature = "programs")]
pub(crate) fn is_over(process: BorrowedFd<'_>) -> io::Result<bool> {
    super::is_ready(process, libc::POLLIN, 0)
}

/// Sends a signal to one process; see kill(2). Signal 0 only asks whether it could.
///
/// # Errors
///
/// `ESRCH` when there is no such process, `EPERM` when it is not ours, `EINVAL` for an unknown
/// signal, and `InvalidInput` for an id that would mean a group of processes.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    let pid = pid.of_one_process()?;
    // SAFETY: kill takes two numbers and touches no memory of ours.
    retry(|| Errno::result(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// Ends this process at once: no destructors, no exit handlers, nothing flushed; see _exit(2).
///
/// The way out for a forked child, whose exit handlers and unwritten output belong to its parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// The id of this process; see getpid(2).
pub(crate) fn pid() -> Pid {
    Pid::from_raw(unistd::getpid().as_raw())
}

/// The id of the process that this one is now a child of; see getppid(2). It changes when the
/// parent dies.
pub(crate) fn parent_pid() -> Pid {
    Pid::from_raw(unistd::getppid().as_raw())
}

/// The effective user of this process; see geteuid(2).
#[cfg(feature = "control")]
pub(crate) fn user_id() -> u32 {
    unistd::geteuid().as_raw()
}

/// The name of a signal, such as `SIGTERM`; see signal(7). Real-time signals have none.
pub(crate) fn signal_name(signal: i32) -> Option<&'static str> {
    Signal::try_from(signal).ok().map(Signal::as_str)
}

/// The number of a signal by its name, with or without `SIG`, or by its number; see signal(7).
pub(crate) fn signal_number(words: &str) -> Option<i32> {
    const LAST: i32 = 64;
    if let Ok(number) = words.parse() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let upper = words.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    (1..=LAST).find(|&number| {
        let name = signal_name(number).and_then(|name| name.strip_prefix("SIG"));
        name == Some(short)
    })
}

/// How many threads this process has; see proc_pid_status(5).
///
/// A thread that has just been joined may be counted a moment longer.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub(crate) fn thread_count() -> io::Result<usize> {
    let path = "/proc/self/status";
    // Not read_to_string: a process's name may be cut within a character.
    let status = fs::read(path)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot count threads: {path}: {e}")))?;
    parse_thread_count(&status).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} has no count of threads"),
        )
    })
}

fn parse_thread_count(status: &[u8]) -> Option<usize> {
    let value = status
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Threads:"))?;
    str::from_utf8(value).ok()?.trim().parse().ok()
}

/// As [`thread_count`], but gives threads that were joined a moment to leave the kernel's list:
/// joining waits only until a thread has let go of its memory, which comes a little earlier.
fn settled_thread_count() -> io::Result<usize> {
    const ATTEMPTS: u32 = 20;
    for _ in 1..ATTEMPTS {
        if thread_count()? == 1 {
            return Ok(1);
        }
        thread::sleep(Duration::from_millis(1));
    }
    thread_count()
}

/// Removes variables from the environment, so that programs executed later do not take them for
/// theirs. Does nothing in a process with several threads, where one could be reading the
/// environment.
pub(crate) fn clear_variables(names: &[&str]) {
    if !settled_thread_count().is_ok_and(|count| count == 1) {
        return;
    }
    for name in names {
        // SAFETY: remove_var is unsafe for the sake of other threads, and there is none: only this
        // thread could have started one since it counted.
        unsafe { env::remove_var(name) };
    }
}

/// Whether a variable can have this name and this value; see setenv(3).
pub(crate) fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// Sets variables in this process's environment: for a child right after [`fork`]. False, and
/// nothing is set, in a process with several threads, where one could be reading the environment.
pub(crate) fn set_variables<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
    if !settled_thread_count().is_ok_and(|count| count == 1) {
        return false;
    }
    for (name, value) in pairs {
        // SAFETY: set_var is unsafe for the sake of other threads, and there is none: only this
        // thread could have started one since it counted.
        unsafe { env::set_var(name, value) };
    }
    true
}

/// Seconds from the parent's death to this process's, for [`on_parent_death`].
static GRACE_SECONDS: AtomicU32 = AtomicU32::new(1);

/// Whose death that is about.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Handles the signal that tells of the parent's death, and anybody else's `SIGCONT`. Only
/// async-signal-safe calls may stand here, and both of these are; they leave errno alone.
extern "C" fn on_parent_death(_signal: libc::c_int) {
    // SAFETY: getppid has no preconditions; alarm takes a number and touches no memory of ours.
    unsafe {
        if libc::getppid() != PARENT.load(Ordering::Relaxed) {
            libc::alarm(GRACE_SECONDS.load(Ordering::Relaxed));
        }
    }
}

/// Has the kernel end this process `grace` after its parent died; see `PR_SET_PDEATHSIG` in
/// prctl(2), and alarm(2).
///
/// To be called in a child right after [`fork`], with its parent's id. The signal of the parent's
/// death starts an alarm, and `SIGALRM` with its default action ends the process: a process that
/// notices by itself has `grace` (in whole seconds, rounded up, at least one) to finish, and one
/// that is stuck in a loop ends all the same; and so does one that is stopped, since the signal is
/// `SIGCONT`. Uses that one and `SIGALRM`, and unblocks both.
///
/// Answers false when `parent` had died before: then no signal will come, and the caller should
/// leave.
///
/// The kernel takes the parent's *thread* for the parent, so the thread that forks must be the one
/// that lives longest. The setting ends with execve(2) of a privileged program only, while handlers
/// end with any: a program executed afterwards dies of the signal with no grace.
///
/// # Errors
///
/// None that a child may expect; those of the calls named.
pub(crate) fn kill_after_parent_death(parent: Pid, grace: Duration) -> io::Result<bool> {
    // Every other one would wait for this process to be continued.
    let signal = libc::SIGCONT;
    PARENT.store(parent.as_raw(), Ordering::Relaxed);
    GRACE_SECONDS.store(whole_seconds(grace), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = on_parent_death;
    set_action(signal, handler as libc::sighandler_t)?;
    set_action(libc::SIGALRM, libc::SIG_DFL)?;
    unblock(&[signal, libc::SIGALRM])?;
    signal_at_parent_death(parent, signal)
}

/// Has the kernel send this process a signal when its parent has died; see `PR_SET_PDEATHSIG` in
/// prctl(2), and [`kill_after_parent_death`], which says more of it. It holds for a program that is
/// executed afterwards, unless that is privileged.
///
/// Answers false when `parent` had died before: then no signal will come.
///
/// # Errors
///
/// `EINVAL` for what is no signal.
pub(crate) fn signal_at_parent_death(parent: Pid, signal: i32) -> io::Result<bool> {
    let argument = libc::c_ulong::from(signal.unsigned_abs());
    // SAFETY: this option of prctl takes a number and touches no memory of ours.
    retry(|| Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, argument) }))?;
    // Only now: a parent that dies between the question and the setting would go unseen.
    Ok(parent_pid() == parent)
}

/// Whole seconds, rounded up, at least one: `alarm(0)` would mean never.
fn whole_seconds(time: Duration) -> u32 {
    let seconds = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// Sets what a signal does; see sigaction(2). libc's, since nix has no real-time signals.
fn set_action(signal: i32, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all zeros is a valid sigaction: the default action, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised and outlives the call, the old action is not asked for, and
    // `handler` is either SIG_DFL or on_parent_death, which is async-signal-safe and has the
    // signature that goes without SA_SIGINFO.
    retry(|| Errno::result(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }))
        .map(drop)
}

/// Lets signals through to this thread; see pthread_sigmask(3).
fn unblock(signals: &[i32]) -> io::Result<()> {
    // SAFETY: all zeros is a valid, empty sigset_t.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    for &signal in signals {
        // SAFETY: `set` is initialised; sigaddset itself refuses numbers that are no signals.
        Errno::result(unsafe { libc::sigaddset(&raw mut set, signal) })?;
    }
    // SAFETY: `set` is initialised and outlives the call, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Raises this process's limit of descriptors to the highest it may have without privilege, and
/// answers with it; see `RLIMIT_NOFILE` in getrlimit(2). Children inherit it.
///
/// # Errors
///
/// Those of getrlimit and setrlimit.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
