//! How many CPUs this process may use, and what says so: its affinity, or a control group's quota.
//!
//! Only counts; how many workers that makes is left to whoever asks. See sched_setaffinity(2).

use std::path::Path;
use std::{fs, thread};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::cgroup::{self, Hierarchy, Version};

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
        Ok(set) => (0..CpuSet::count())
            .filter(|&cpu| set.is_set(cpu) == Ok(true))
            .count(),
        // EINVAL on a machine with more CPUs than a cpu_set_t has bits; the standard library asks
        // again with more.
        Err(_) => thread::available_parallelism().map_or(1, usize::from),
    }
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
