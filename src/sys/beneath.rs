//! Opening files below a directory and nowhere else; see openat2(2).
//!
//! Symbolic links are followed as long as they stay below: a path that leaves the directory, by
//! `..`, by an absolute link or by one that climbs out, opens nothing, whatever others rename
//! meanwhile. Where the kernel lacks openat2(2), or a filter refuses it, a walk by components does
//! the same. What may be opened at all is left to whoever asks: nothing here looks at names.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::retry;

/// How many symbolic links the walk follows; the kernel's own limit.
const MAX_LINKS: u32 = 40;

/// How deep the walk goes: it holds a descriptor for each directory on its way.
const MAX_DEPTH: usize = 64;

/// How often openat2(2) is asked again when somebody renamed what it looked at.
const ATTEMPTS: u32 = 8;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Regular,
    Directory,
    /// A FIFO, a socket, a device.
    Other,
}

/// What the kernel knows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// Changes with each change of its content, its owner or its rights, whatever anybody sets
    /// `modified` to: seconds and nanoseconds.
    pub(crate) changed: (i64, i64),
    /// Seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, i64),
    /// Device and inode: the same for two names of one file.
    pub(crate) identity: (u64, u64),
    /// No name leads to it any more.
    pub(crate) gone: bool,
}

impl Facts {
    fn of(stat: &FileStat) -> Self {
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::Regular,
            SFlag::S_IFDIR => Kind::Directory,
            _ => Kind::Other,
        };
        Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            identity: (stat.st_dev, stat.st_ino),
            gone: stat.st_nlink == 0,
        }
    }

    /// The facts of a file that is open.
    ///
    /// # Errors
    ///
    /// Those of fstat(2).
    pub(crate) fn of_open(file: &File) -> io::Result<Self> {
        Ok(Self::of(&retry(|| fstat(file))?))
    }

    /// When the content was last modified, as its owner would have it; not before 1970.
    pub(crate) fn modified(&self) -> SystemTime {
        let (seconds, nanos) = self.modified;
        match (u64::try_from(seconds), u32::try_from(nanos)) {
            (Ok(seconds), Ok(nanos)) => UNIX_EPOCH
                .checked_add(Duration::new(seconds, nanos))
                .unwrap_or(UNIX_EPOCH),
            _ => UNIX_EPOCH,
        }
    }
}

/// How paths are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Kernel,
    Walk,
}

/// Set once openat2(2) has turned out not to be there.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// A directory to look below.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: OwnedFd,
}

impl Beneath {
    /// # Errors
    ///
    /// Those of open(2): `NotFound`, `NotADirectory`, `PermissionDenied`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = retry(|| open(path, flags, Mode::empty()))?;
        Ok(Self { root })
    }

    /// The facts of the directory itself.
    pub(crate) fn own_facts(&self) -> io::Result<Facts> {
        let stat = retry(|| fstat(&self.root))?;
        Ok(Facts::of(&stat))
    }

    /// What `path` leads to now, below the directory as well: no more is asked of what lies outside
    /// than whether a path leads there. It opens a place and no file, and so never waits.
    ///
    /// # Errors
    ///
    /// As for [`file`](Self::file).
    pub(crate) fn facts(&self, path: &[u8]) -> io::Result<Facts> {
        // One call of fstatat(2) would be cheaper by a microsecond, and would follow every link.
        let fd = self.resolve(path, OFlag::O_PATH | OFlag::O_CLOEXEC)?;
        Ok(Facts::of(&retry(|| fstat(&fd))?))
    }

    /// Opens a file to read, and says what it is. Opening a FIFO does not wait for its writer.
    ///
    /// # Errors
    ///
    /// `CrossesDevices` when the path leads out of the directory; `NotFound`, `PermissionDenied`
    /// and others of open(2); `EMFILE` and `ENFILE` when no descriptor is left.
    pub(crate) fn file(&self, path: &[u8]) -> io::Result<(File, Facts)> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = self.resolve(path, flags)?;
        let facts = Facts::of(&retry(|| fstat(&fd))?);
        Ok((File::from(fd), facts))
    }

    /// The names in a directory, `most` at most and without `.` and `..`, and what they lead to;
    /// what leads out is [`Kind::Other`]. Only a link costs a look at where it leads.
    ///
    /// # Errors
    ///
    /// As for [`file`](Self::file).
    pub(crate) fn names(&self, path: &[u8], most: usize) -> io::Result<Vec<(OsString, Kind)>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = self.resolve(path, flags)?;
        let mut directory = Dir::from_fd(fd)?;
        let mut found = Vec::new();
        for entry in directory.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if found.len() == most {
                break;
            }
            found.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
        }
        let kind = |name: &OsStr, noted: Option<Type>| match noted {
            Some(Type::File) => Kind::Regular,
            Some(Type::Directory) => Kind::Directory,
            // A link, or a file system that does not say.
            None | Some(Type::Symlink) => {
                let place = [path, b"/", name.as_bytes()].concat();
                self.facts(&place).map_or(Kind::Other, |facts| facts.kind)
            }
            Some(_) => Kind::Other,
        };
        let known = found.into_iter().map(|(name, noted)| {
            let kind = kind(&name, noted);
            (name, kind)
        });
        Ok(known.collect())
    }

    fn resolve(&self, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
        if NO_OPENAT2.load(Ordering::Relaxed) {
            return self.resolve_by(Way::Walk, path, flags);
        }
        match self.resolve_by(Way::Kernel, path, flags) {
            // A kernel before 5.6, or a filter of system calls. EPERM may mean the file too, so
            // that it is the call is found out by one that cannot fail for another reason.
            Err(error) if is(&error, Errno::ENOSYS) || is(&error, Errno::EPERM) => {
                if self
                    .resolve_by(Way::Kernel, b".", OFlag::O_PATH | OFlag::O_CLOEXEC)
                    .is_ok()
                {
                    return Err(error);
                }
                NO_OPENAT2.store(true, Ordering::Relaxed);
                self.resolve_by(Way::Walk, path, flags)
            }
            answer => answer,
        }
    }

    fn resolve_by(&self, way: Way, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
        match way {
            Way::Kernel => by_kernel(self.root.as_fd(), path, flags),
            Way::Walk => by_walk(self.root.as_fd(), path, flags),
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn by_kernel(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut attempts = 0;
    loop {
        match retry(|| openat2(root, path, how)) {
            // Something was renamed meanwhile and the path has a `..`, of a link: see openat2(2).
            Err(error) if is(&error, Errno::EAGAIN) && attempts < ATTEMPTS => attempts += 1,
            answer => return answer,
        }
    }
}

/// The same by hand. Each component is opened by itself and never through a link, below a
/// directory that was opened so; a link is read, and its components take its place. `..` goes back
/// to the directory that was come from, which is held open, and not to where the kernel finds its
/// parent now: so nothing that is renamed meanwhile leads out.
fn by_walk(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
    let out = || io::Error::from(Errno::EXDEV);
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    // Last one first.
    let mut ahead: Vec<Vec<u8>> = Vec::new();
    let mut next = path.to_vec();
    loop {
        if next.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        if next.starts_with(b"/") {
            return Err(out());
        }
        // A slash at the end wants a directory: as a component it is `.`.
        let parts = next.split(|&byte| byte == b'/').rev().enumerate();
        for (at, part) in parts {
            match (at, part) {
                (0, b"") => ahead.push(b".".to_vec()),
                (_, b"") => {}
                _ => ahead.push(part.to_vec()),
            }
        }
        next = loop {
            let here = way.last().map_or(root, |fd| fd.as_fd());
            let Some(part) = ahead.pop() else {
                // The path ended at a directory that is open as a place only.
                return retry(|| openat(here, ".", flags, Mode::empty()));
            };
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    way.pop().ok_or_else(out)?;
                    continue;
                }
                _ => {}
            }
            if way.len() == MAX_DEPTH {
                return Err(Errno::ENAMETOOLONG.into());
            }
            let place = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let name = part.as_slice();
            let fd = retry(|| openat(here, name, place, Mode::empty()))?;
            let mode = retry(|| fstat(&fd))?.st_mode;
            match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
                SFlag::S_IFLNK => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    let target = retry(|| readlinkat(&fd, ""))?;
                    break target.into_vec();
                }
                SFlag::S_IFDIR => way.push(fd),
                _ if ahead.is_empty() => {
                    // What has that name now; should it be a link by now, that is an error.
                    return retry(|| openat(here, name, flags | OFlag::O_NOFOLLOW, Mode::empty()));
                }
                _ => return Err(Errno::ENOTDIR.into()),
            }
        };
    }
}

#[cfg(test)]
mod tests;
