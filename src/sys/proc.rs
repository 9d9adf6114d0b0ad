//! What `/proc` and the control groups tell of memory and CPU time.
//!
//! Only what is so now; rates, and what is too much, are left to whoever asks.

use std::str::SplitWhitespace;
use std::time::Duration;
use std::{fs, io};

use nix::unistd::{SysconfVar, gettid, sysconf};

use super::cgroup::{self, Version};
use super::process::Pid;

/// How much memory a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What of it lies in memory now, in bytes, with all that it shares with other processes.
    pub(crate) rss_bytes: u64,
    /// The same with each shared page divided by the number of those who share it, so that the sum
    /// over forked workers is what they take together. `None` where this process may not know.
    pub(crate) pss_bytes: Option<u64>,
}

/// How much memory a process has. The kernel walks through all its pages for this, which takes
/// longer the more it has; [`rss`] is the cheap half.
///
/// # Errors
///
/// As [`rss`].
pub(crate) fn memory(pid: Pid) -> io::Result<Memory> {
    let rss_bytes = rss(pid)?;
    let rollup = fs::read(format!("/proc/{pid}/smaps_rollup")).ok();
    Ok(Memory {
        rss_bytes,
        pss_bytes: rollup.and_then(|text| parse_pss(&text)),
    })
}

/// How much of a process lies in memory now, in bytes, with all that it shares with others; see
/// proc_pid_statm(5). The kernel counts in batches, and may be behind by some hundred kilobytes. Of
/// one that has ended and was not waited for it is 0.
///
/// # Errors
///
/// `NotFound` when there is no such process.
pub(crate) fn rss(pid: Pid) -> io::Result<u64> {
    let pages = read_parsed(&format!("/proc/{pid}/statm"), parse_statm)?;
    Ok(pages.saturating_mul(page_size()))
}

/// How much CPU time a process took so far, with all its threads, for itself and in the kernel; see
/// proc_pid_stat(5). In steps of (usually) 10 ms. Children do not count.
///
/// # Errors
///
/// `NotFound` when there is no such process.
pub(crate) fn cpu_time(pid: Pid) -> io::Result<Duration> {
    read_parsed(&format!("/proc/{pid}/stat"), parse_stat).map(ticks)
}

/// As [`cpu_time`], with the children that have ended and were waited for, and theirs.
///
/// # Errors
///
/// `NotFound` when there is no such process.
#[cfg_attr(
    not(feature = "compare"),
    allow(dead_code, reason = "the comparison alone asks")
)]
pub(crate) fn cpu_time_with_children(pid: Pid) -> io::Result<Duration> {
    read_parsed(&format!("/proc/{pid}/stat"), |text| sum_times(text, 4)).map(ticks)
}

/// As [`cpu_time`], for one thread of this process, by its [`thread_id`].
///
/// # Errors
///
/// `NotFound` when there is no such thread.
pub(crate) fn thread_cpu_time(thread: i32) -> io::Result<Duration> {
    read_parsed(&format!("/proc/self/task/{thread}/stat"), parse_stat).map(ticks)
}

/// How long the calling thread was ready to run so far and had no CPU, to the nanosecond; see
/// `schedstat` in the kernel's documentation. `None` where the kernel does not count it.
#[cfg(feature = "loadtest")]
pub(crate) fn run_delay() -> Option<Duration> {
    parse_schedstat(&fs::read("/proc/thread-self/schedstat").ok()?)
}

/// The number that the kernel knows the calling thread by; see gettid(2).
pub(crate) fn thread_id() -> i32 {
    gettid().as_raw()
}

/// How many processes of this one's control group were killed so far because memory ran out, the
/// group's or the machine's; see `memory.events` in the kernel's cgroup-v2 document. It only grows.
/// `None` where it cannot be told: in no group, or in the topmost.
pub(crate) fn memory_kills() -> Option<u64> {
    let groups = cgroup::own("memory");
    groups.iter().find_map(|group| {
        let file = match group.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        parse_kills(&fs::read_to_string(group.own.join(file)).ok()?)
    })
}

/// Reads a file, which may hold a process's name and so any bytes.
fn read_parsed<T>(path: &str, parse: impl Fn(&[u8]) -> Option<T>) -> io::Result<T> {
    let text = fs::read(path).map_err(|error| {
        // ESRCH when it ended between open and read.
        let kind = match error.raw_os_error() {
            Some(libc::ESRCH) => io::ErrorKind::NotFound,
            _ => error.kind(),
        };
        io::Error::new(kind, format!("{path}: {error}"))
    })?;
    parse(&text).ok_or_else(|| {
        let what = format!("{path} is not as expected");
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// The pages in memory, of `/proc/PID/statm`.
fn parse_statm(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.split(' ').nth(1)?.parse().ok()
}

/// The bytes of the line `Pss:` in `/proc/PID/smaps_rollup`.
fn parse_pss(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The ticks in user and in kernel mode, together, of `/proc/PID/stat`.
fn parse_stat(text: &[u8]) -> Option<u64> {
    sum_times(text, 2)
}

/// The first `count` of the ticks in user and in kernel mode and those of children, together.
fn sum_times(text: &[u8], count: usize) -> Option<u64> {
    let mut fields = stat_fields(text)?;
    // Fields 14 to 17.
    let first: u64 = fields.nth(14 - 3)?.parse().ok()?;
    (1..count).try_fold(first, |sum, _| {
        sum.checked_add(fields.next()?.parse().ok()?)
    })
}

/// The fields of `/proc/PID/stat` from the third on.
pub(super) fn stat_fields(text: &[u8]) -> Option<SplitWhitespace<'_>> {
    // The second field is the process's name in parentheses, and may hold any of the separators.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    Some(str::from_utf8(&text[end + 1..]).ok()?.split_whitespace())
}

/// The second number: nanoseconds on a run queue.
#[cfg(feature = "loadtest")]
fn parse_schedstat(text: &[u8]) -> Option<Duration> {
    let nanos = str::from_utf8(text).ok()?.split_whitespace().nth(1)?;
    nanos.parse().ok().map(Duration::from_nanos)
}

/// The number behind `oom_kill` in `memory.events` or `memory.oom_control`.
fn parse_kills(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    value?.trim().parse().ok()
}

fn page_size() -> u64 {
    constant(SysconfVar::PAGE_SIZE).unwrap_or(4096)
}

fn ticks(count: u64) -> Duration {
    let per_second = constant(SysconfVar::CLK_TCK).unwrap_or(100);
    let nanos = (count % per_second).saturating_mul(1_000_000_000) / per_second;
    Duration::from_secs(count / per_second) + Duration::from_nanos(nanos)
}

/// A constant of the machine, above zero; see sysconf(3).
fn constant(name: SysconfVar) -> Option<u64> {
    let value = sysconf(name).ok()??;
    u64::try_from(value).ok().filter(|&value| value > 0)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::thread;

    use super::super::process::pid;
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let held = vec![1_u8; 32 << 20];
        let memory = memory(pid()).expect("ourselves");
        assert!(memory.rss_bytes >= held.len() as u64, "{memory:?}");
        assert!(memory.rss_bytes < 1 << 40, "{memory:?}");
        if let Some(pss) = memory.pss_bytes {
            assert!(pss >= held.len() as u64, "{memory:?}");
        }
        black_box(held);
    }

    #[test]
    fn work_takes_cpu_time() {
        let worker = thread::spawn(|| {
            let own = || thread_cpu_time(thread_id()).expect("ourselves");
            let (before, all_before) = (own(), cpu_time(pid()).expect("ourselves"));
            while own() < before + Duration::from_millis(20) {
                black_box((0..10_000).map(black_box).sum::<u64>());
            }
            assert!(cpu_time(pid()).expect("ourselves") > all_before);
        });
        worker.join().expect("no panic");
    }

    #[test]
    fn nobody_has_nothing() {
        // Over any limit of process ids.
        let nobody = Pid::from_raw(i32::MAX);
        for error in [
            rss(nobody).expect_err("nobody"),
            memory(nobody).expect_err("nobody"),
            cpu_time(nobody).map(drop).expect_err("nobody"),
            thread_cpu_time(i32::MAX).map(drop).expect_err("nobody"),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        }
    }

    #[test]
    fn statm_is_read() {
        assert_eq!(parse_statm(b"4300 1200 900 300 0 500 0\n"), Some(1200));
        assert_eq!(parse_statm(b"0 0 0 0 0 0 0\n"), Some(0));
        for bad in [&b""[..], b"4300", b"4300 x", b"4300 -1 0", b"\xff 1"] {
            assert_eq!(parse_statm(bad), None);
        }
    }

    #[test]
    fn pss_is_read() {
        let text = b"5574-7ffd ---p 00000000 00:00 0    [rollup]\n\
            Rss:                1772 kB\n\
            Pss:                 329 kB\n\
            Pss_Dirty:           150 kB\n";
        assert_eq!(parse_pss(text), Some(329 * 1024));
        for bad in [
            &b""[..],
            b"Pss: kB\n",
            b"Pss: 3 MB\n",
            b"Pss: 18446744073709551615 kB\n",
        ] {
            assert_eq!(parse_pss(bad), None);
        }
    }

    #[test]
    fn stat_is_read_whatever_the_name() {
        let rest = "S 1 70 70 0 -1 4194560 100 200 0 0 12 34 5 6 20 0 1 0 9000 100 50";
        for name in ["mcluster", "a b", "a) R 1 (b", "))", "", "\u{fffd} 1 2"] {
            let text = format!("70 ({name}) {rest}\n");
            assert_eq!(parse_stat(text.as_bytes()), Some(46), "{name:?}");
            assert_eq!(sum_times(text.as_bytes(), 4), Some(57), "{name:?}");
        }
        assert_eq!(
            parse_stat(&[b"70 (cut \xc3) ", rest.as_bytes()].concat()),
            Some(46)
        );
        for bad in ["", "70 (x", "70 (x)", "70 (x) S 1 70 70 0 -1 4 1 2 0 0 12"] {
            assert_eq!(parse_stat(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[cfg(feature = "loadtest")]
    #[test]
    fn schedstat_is_read() {
        let delay = parse_schedstat(b"800012 1500000 7\n");
        assert_eq!(delay, Some(Duration::from_micros(1500)));
        for bad in [&b""[..], b"1", b"1 x 2", b"\xff 1 2"] {
            assert_eq!(parse_schedstat(bad), None);
        }
        if let Some(before) = run_delay() {
            assert!(run_delay().is_some_and(|after| after >= before));
        }
    }

    #[test]
    fn ticks_are_time() {
        let second = constant(SysconfVar::CLK_TCK).expect("every Linux has ticks");
        assert_eq!(ticks(0), Duration::ZERO);
        assert_eq!(ticks(3 * second), Duration::from_secs(3));
        assert_eq!(ticks(second / 2), Duration::from_secs(1) / 2);
        assert!(ticks(u64::MAX) > ticks(u64::MAX - second));
    }

    #[test]
    fn kills_are_read() {
        let events = "low 0\nhigh 7\nmax 3\noom 2\noom_kill 5\noom_group_kill 1\n";
        assert_eq!(parse_kills(events), Some(5));
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n";
        assert_eq!(parse_kills(control), Some(4));
        // Before Linux 4.13.
        assert_eq!(parse_kills("oom_kill_disable 0\nunder_oom 0\n"), None);
        assert_eq!(parse_kills("oom_kill many\n"), None);
        // What this machine has, it can have less of never.
        if let Some(kills) = memory_kills() {
            assert!(memory_kills() >= Some(kills));
        }
    }
}
