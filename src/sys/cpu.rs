//! How many CPUs this process may use, and what says so: its affinity, or a control group's quota.
//! Which of them a thread runs on, and how willingly it makes way.
//!
//! How many workers that makes, and where they belong, is left to whoever asks. See
//! sched_setaffinity(2).

use std::path::Path;
use std::time::Duration;
use std::{fs, io, thread};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::cgroup::{self, Hierarchy, Version};
use super::retry;

#[cfg(test)]
mod tests;

/// How many CPUs this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    /// The number, at least 1.
    pub(crate) count: usize,
    /// What decided it, for people: `2 CPUs by affinity`, `1 CPU by cgroup quota 0.5 of 8`.
    pub(crate) why: String,
}

/// The CPUs that this process may use now: those of its affinity, or fewer where a control group
/// limits CPU time, in which case parts count as a whole one. What cannot be read does not limit.
pub(crate) fn available() -> Cpus {
    decide(affinity(), quota())
}

fn decide(affinity: usize, quota: Option<f64>) -> Cpus {
    let affinity = affinity.max(1);
    let plural = |count| if count == 1 { "" } else { "s" };
    if let Some(quota) = quota {
        // From a float `as` goes to the nearest number there is.
        let count = (quota.ceil() as usize).max(1);
        if count < affinity {
            let shown = (quota * 1000.0).round() / 1000.0;
            let why = format!(
                "{count} CPU{} by cgroup quota {shown} of {affinity}",
                plural(count)
            );
            return Cpus { count, why };
        }
    }
    Cpus {
        count: affinity,
        why: format!("{affinity} CPU{} by affinity", plural(affinity)),
    }
}

/// How many CPUs the calling thread may run on; see sched_getaffinity(2).
fn affinity() -> usize {
    match sched_getaffinity(Pid::from_raw(0)) {
        Ok(set) => members(&set).count(),
        // EINVAL on a machine with more CPUs than a cpu_set_t has bits; the standard library asks
        // again with more.
        Err(_) => thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The numbers of the CPUs in a set, in order.
fn members(set: &CpuSet) -> impl Iterator<Item = usize> + Clone {
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true))
}

/// Has the calling thread, and those it starts or forks from now on, run on one CPU alone: the
/// `index`-th of those that it may use, counted round from 0. Answers the CPU's number; see
/// sched_setaffinity(2).
///
/// Called again it finds the one CPU that is left, so the thread that starts others is not the one
/// to call it.
///
/// # Errors
///
/// `EINVAL` on a machine with more than 1024 CPUs; those of the call named.
pub(crate) fn pin(index: usize) -> io::Result<usize> {
    let this_thread = Pid::from_raw(0);
    let usable = sched_getaffinity(this_thread)?;
    let cpu = members(&usable)
        .nth(index % members(&usable).count().max(1))
        .ok_or_else(|| io::Error::from(Errno::EINVAL))?;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(this_thread, &set)?;
    Ok(cpu)
}

/// Sets how willingly the calling thread, and those it starts or forks from now on, make way for
/// others: from -20 (not at all) to 19 (always), and what is beyond counts as those; see
/// setpriority(2). In a process of one thread that is the process.
///
/// # Errors
///
/// `PermissionDenied` for less than now without privilege.
pub(crate) fn renice(nice: i32) -> io::Result<()> {
    // SAFETY: setpriority takes numbers and touches no memory of ours.
    retry(|| Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })).map(drop)
}

/// Has the calling thread make way for the others of its process: its nice value is `nicer` than
/// now, and what the scheduler gives it at a time is `slice`, so that whoever has the usual slice and
/// wakes up takes its CPU at once. Long slices do not make its share of the CPU smaller, nor larger;
/// see sched_setattr(2). Kernels before 6.12 know the nice value alone.
///
/// A thread that is under no ordinary policy is left as it is.
///
/// # Errors
///
/// Those of the call named.
pub(crate) fn make_way(nicer: i32, slice: Duration) -> io::Result<()> {
    const THIS_THREAD: i32 = 0;
    const NO_FLAGS: u32 = 0;
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: numbers alone, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let at = &raw mut attributes;
    retry(|| {
        // SAFETY: the call writes at most `size` bytes, which are ours.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_sched_getattr, THIS_THREAD, at, size, NO_FLAGS)
        })
    })?;
    let policy = attributes.sched_policy as i32;
    if !matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH) {
        return Ok(());
    }
    attributes.size = size;
    attributes.sched_nice = (attributes.sched_nice + nicer).min(19);
    attributes.sched_runtime = slice.as_nanos() as u64;
    let at = &raw const attributes;
    retry(|| {
        // SAFETY: the call reads as many bytes as `size` says, which are ours.
        Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, THIS_THREAD, at, NO_FLAGS) })
    })
    .map(drop)
}

/// Has the calling thread, and those it starts or forks from now on, interrupt nobody who runs when
/// it has something to do: it waits until they wait, or have had their time. `SCHED_BATCH` in
/// sched(7); it takes no privilege, and its share of the CPU stays as it is. False, and all is as it
/// was, where the thread does not run under the usual policy.
///
/// # Errors
///
/// Those of sched_setscheduler(2).
pub(crate) fn yield_to_running() -> io::Result<bool> {
    // SAFETY: sched_getscheduler takes a number and touches no memory of ours.
    let policy = Errno::result(unsafe { libc::sched_getscheduler(0) })?;
    if policy != libc::SCHED_OTHER {
        return Ok(false);
    }
    set_policy(libc::SCHED_BATCH).map(|()| true)
}

/// The contrary of [`yield_to_running`].
///
/// # Errors
///
/// Those of sched_setscheduler(2).
pub(crate) fn yield_no_more() -> io::Result<()> {
    set_policy(libc::SCHED_OTHER)
}

fn set_policy(policy: libc::c_int) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: sched_setscheduler only reads `param`, which outlives the call.
    let set = unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
    Ok(Errno::result(set).map(drop)?)
}

/// The lowest quota, in CPUs, of the process's control group and all above it.
fn quota() -> Option<f64> {
    cgroup::own("cpu")
        .iter()
        .flat_map(Hierarchy::directories)
        .filter_map(|(version, dir)| read_quota(version, dir))
        .reduce(f64::min)
}

fn read_quota(version: Version, dir: &Path) -> Option<f64> {
    let read = |name| fs::read_to_string(dir.join(name)).ok();
    match version {
        Version::V1 => parse_cfs(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?),
        Version::V2 => parse_cpu_max(&read("cpu.max")?),
    }
}

/// Reads `cpu.max`: `max 100000` for no limit, or microseconds of CPU time in each period of so
/// many.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let mut fields = text.split_whitespace();
    ratio(fields.next()?, fields.next()?)
}

/// Reads `cpu.cfs_quota_us`, where -1 is no limit, and `cpu.cfs_period_us`.
fn parse_cfs(quota: &str, period: &str) -> Option<f64> {
    ratio(quota.trim(), period.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}
