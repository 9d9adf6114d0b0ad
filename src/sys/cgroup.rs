//! Where this process stands among the control groups; see cgroups(7).
//!
//! Which files lie in a group's directory, and what they say, is left to whoever asks.

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Where this process stands in the hierarchies that may limit what `controller` is for. What
/// cannot be read is not there.
pub(super) fn own(controller: &str) -> Vec<Hierarchy> {
    let read = |name| fs::read_to_string(Path::new("/proc/self").join(name)).ok();
    match (read("cgroup"), read("mountinfo")) {
        (Some(groups), Some(mounts)) => hierarchies(controller, &groups, &mounts),
        _ => Vec::new(),
    }
}

/// Which kernel interface a hierarchy of control groups has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// Where this process stands in one hierarchy of control groups.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// The directory where the hierarchy, or the part of it that one sees, is mounted.
    top: PathBuf,
    /// The directory of the process's own group, `top` or below.
    pub(super) own: PathBuf,
}

impl Hierarchy {
    /// The directories of the process's group and those above it, up to the mount.
    pub(super) fn directories(&self) -> impl Iterator<Item = (Version, &Path)> {
        self.own
            .ancestors()
            .take_while(|dir| dir.starts_with(&self.top))
            .map(|dir| (self.version, dir))
    }
}

/// Finds the hierarchies that may limit what `controller` is for, from `/proc/self/cgroup` and
/// `/proc/self/mountinfo`: the unified one, and the old one that has the controller. A machine
/// may have both.
fn hierarchies(controller: &str, groups: &str, mounts: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mounts
        .lines()
        .filter_map(|line| parse_mount(controller, line))
        .collect();
    groups
        .lines()
        .filter_map(|line| {
            let (version, group) = parse_group(controller, line)?;
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

/// A line of `/proc/self/cgroup`, `ID:CONTROLLERS:PATH`, if it is of such a hierarchy.
fn parse_group<'l>(controller: &str, line: &'l str) -> Option<(Version, &'l str)> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if controllers.split(',').any(|name| name == controller) {
        Some((Version::V1, path))
    } else if id == "0" && controllers.is_empty() {
        Some((Version::V2, path))
    } else {
        None
    }
}

/// Where a hierarchy of control groups is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// Which of the hierarchy's directories one sees at `point`.
    root: PathBuf,
    point: PathBuf,
}

/// A line of `/proc/self/mountinfo`, if it is of such a hierarchy; see proc_pid_mountinfo(5).
fn parse_mount(controller: &str, line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let version = match (filesystem.next()?, filesystem.nth(1)) {
        ("cgroup2", _) => Version::V2,
        ("cgroup", Some(options)) if options.split(',').any(|option| option == controller) => {
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
