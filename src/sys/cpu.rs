//! How many CPUs this process may use, and what says so: its affinity, or a control group's quota.
//!
//! Only counts; how many workers that makes is left to whoever asks. See sched_setaffinity(2),
//! cgroups(7).

use std::path::{Path, PathBuf};
use std::{fs, thread};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

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
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let hierarchies = cpu_hierarchies(&groups, &mounts);
    hierarchies
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

/// Which kernel interface a hierarchy of control groups has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where this process stands in one hierarchy of control groups.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// The directory where the hierarchy, or the part of it that one sees, is mounted.
    top: PathBuf,
    /// The directory of the process's own group, `top` or below.
    own: PathBuf,
}

impl Hierarchy {
    /// The directories of the process's group and those above it, up to the mount.
    fn directories(&self) -> impl Iterator<Item = (Version, &Path)> {
        self.own
            .ancestors()
            .take_while(|dir| dir.starts_with(&self.top))
            .map(|dir| (self.version, dir))
    }
}

/// Finds the hierarchies that may limit CPU time, from `/proc/self/cgroup` and
/// `/proc/self/mountinfo`: the unified one, and the old one that has the `cpu` controller. A
/// machine may have both.
fn cpu_hierarchies(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mounts.lines().filter_map(parse_mount).collect();
    groups
        .lines()
        .filter_map(|line| {
            let (version, group) = parse_group(line)?;
            let mut candidates = mounts.iter().filter(|mount| mount.version == version);
            // A group outside of what is mounted is that of a container which sees its own part
            // only, as the mount's top; so it is also with a group namespace, whose outside looks
            // like `/..`.
            let inside = candidates
                .clone()
                .find_map(|mount| Some((mount, below(group, &mount.root)?)));
            let (mount, rest) = inside.or_else(|| Some((candidates.next()?, Path::new(""))))?;
            // Joining nothing would add a slash.
            let own = if rest == Path::new("") {
                mount.point.clone()
            } else {
                mount.point.join(rest)
            };
            Some(Hierarchy {
                version,
                top: mount.point.clone(),
                own,
            })
        })
        .collect()
}

/// The part of `group` below `root`, if it is there, and no way back out of it.
fn below<'g>(group: &'g str, root: &Path) -> Option<&'g Path> {
    let rest = Path::new(group).strip_prefix(root).ok()?;
    rest.iter().all(|part| part != "..").then_some(rest)
}

/// A line of `/proc/self/cgroup`, `ID:CONTROLLERS:PATH`, if it is of a hierarchy that may limit CPU
/// time.
fn parse_group(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if controllers.split(',').any(|controller| controller == "cpu") {
        Some((Version::V1, path))
    } else if id == "0" && controllers.is_empty() {
        Some((Version::V2, path))
    } else {
        None
    }
}

/// Where a hierarchy that may limit CPU time is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// Which of the hierarchy's directories one sees at `point`.
    root: PathBuf,
    point: PathBuf,
}

/// A line of `/proc/self/mountinfo`, if it is of such a hierarchy; see proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let version = match (filesystem.next()?, filesystem.nth(1)) {
        ("cgroup2", _) => Version::V2,
        ("cgroup", Some(options)) if options.split(',').any(|option| option == "cpu") => {
            Version::V1
        }
        _ => return None,
    };
    Some(Mount {
        version,
        root: unescape(root),
        point: unescape(point),
    })
}

/// Undoes the escapes of `/proc/self/mountinfo`: a backslash and three octal digits for each of
/// space, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).map(|digits| u8::from_str_radix(digits, 8)) {
            Some(Ok(byte)) if byte.is_ascii() => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    PathBuf::from(plain)
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
