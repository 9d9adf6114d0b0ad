//! Groups of processes, and programs that start with a clean signal mask; see setpgid(2).
//!
//! Which processes form a group, and when it is to end, is left to whoever asks.

use crate::sorted::sort_by;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{fs, io, mem, ptr};

use nix::errno::Errno;
use nix::unistd;

use super::proc::stat_fields;
use super::process::Pid;
use super::retry;

/// Sends a signal to every process of a group; see kill(2). The number of a group is free for another one
/// as soon as nobody is in it, not even one that has ended and was not waited for.
///
/// # Errors
///
/// `ESRCH` when nobody is in it, `EINVAL` for an unknown signal, and `InvalidInput` for what would
/// mean more than one group.
pub(crate) fn signal(group: Pid, signal: i32) -> io::Result<()> {
    // Minus one means everybody.
    if group.as_raw() <= 1 {
        let what = format!("{group} is not the id of one group");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    // SAFETY: kill takes two numbers and touches no memory of ours.
    retry(|| Errno::result(unsafe { libc::kill(-group.as_raw(), signal) })).map(drop)
}

/// The group of a process; see getpgid(2).
///
/// # Errors
///
/// `ESRCH` when there is no such process.
pub(crate) fn of(pid: Pid) -> io::Result<Pid> {
    let group = unistd::getpgid(Some(unistd::Pid::from_raw(pid.as_raw())))?;
    Ok(Pid::from_raw(group.as_raw()))
}

/// The processes of a group that have not ended, by the lowest number first: a walk through `/proc`.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub(crate) fn members(group: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Whoever has gone meanwhile is no member.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if parse_stat(&stat) == Some((true, group.as_raw())) {
            found.push(pid);
        }
    }
    sort_by(&mut found, Ord::cmp);
    Ok(found.into_iter().map(Pid::from_raw).collect())
}

/// Whether it lives, and its group, of `/proc/PID/stat`; see proc_pid_stat(5).
fn parse_stat(text: &[u8]) -> Option<(bool, i32)> {
    let mut fields = stat_fields(text)?;
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    Some((!["Z", "X"].contains(&state), group))
}

/// Has a program start with no signal blocked, as it would from a shell, whatever this thread blocks
/// to read it from a descriptor.
pub(crate) fn unblock_signals(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed, which pthread_sigmask
    // is; the function allocates nothing and takes no lock.
    unsafe { command.pre_exec(open_mask) };
}

/// Has this thread block no signal; see pthread_sigmask(3).
fn open_mask() -> io::Result<()> {
    // SAFETY: all zeros is a valid, empty sigset_t.
    let none: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `none` is initialised and outlives the call, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn what_stat_says() {
        let cases = [
            ("7 (sh) S 1 7 7 0", Some((true, 7))),
            ("7 (a) b) R 9 c) Z 1 8 7 0", Some((false, 8))),
            ("7 (sh) S 1", None),
            ("7 (sh)", None),
            ("7 (sh) S 1 x 7", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_stat(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_group_is_seen_and_ended() {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).process_group(0);
        unblock_signals(&mut command);
        let mut child = command.spawn().expect("cat");
        let pid = Pid::from_raw(child.id() as i32);
        assert_eq!(of(pid).expect("it lives"), pid);
        assert_eq!(members(pid).expect("/proc"), [pid]);
        signal(pid, libc::SIGKILL).expect("ours");
        child.wait().expect("a child");
        assert!(members(pid).expect("/proc").is_empty());
    }

    #[test]
    fn not_everybody() {
        for number in [-7, -1, 0, 1] {
            let error = signal(Pid::from_raw(number), 0).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
