//! Listeners on paths: see unix(7).
//!
//! Owns what lies at a path before, the file's mode, and names longer than the kernel takes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, UnixAddr, bind, connect};
use nix::sys::stat::{Mode, fchmod};

use super::super::retry;
use super::{Address, Listener, listen, stream_socket};

impl Listener {
    /// Listens on a Unix socket's path. A socket that lies there is asked: one that nobody answers
    /// at was left by a process that died, and is replaced. (Two processes that find the same one
    /// at the same moment may both replace it, and the first is then deaf; the kernel offers no
    /// better.)
    ///
    /// # Errors
    ///
    /// `AddrInUse` when somebody answers, or when what lies there is no socket; `InvalidInput` for
    /// an empty path; `ENAMETOOLONG` for one over 107 bytes; `PermissionDenied`, `NotFound` for the
    /// directory.
    pub(crate) fn unix(path: &Path, backlog: i32) -> io::Result<Listener> {
        let name = Name::of(path)?;
        Listener::unix_named(path, &name, backlog, None, 0)
    }

    /// As [`Listener::unix`], but only this user may connect: the file has mode 0600 from the
    /// moment it appears.
    ///
    /// # Errors
    ///
    /// As [`Listener::unix`].
    pub(crate) fn unix_private(path: &Path, backlog: i32) -> io::Result<Listener> {
        let name = Name::of(path)?;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Listener::unix_named(path, &name, backlog, Some(mode), 0)
    }

    /// As [`Listener::unix`], where everybody may do `more` than the umask says, in the bits of
    /// chmod(2); and at a path that the kernel would find too long, as long as its last part is not,
    /// or it is short as seen from the working directory.
    ///
    /// # Errors
    ///
    /// As [`Listener::unix`].
    pub(crate) fn unix_for_all(path: &Path, backlog: i32, more: u32) -> io::Result<Listener> {
        let name = Name::of_any_length(path)?;
        Listener::unix_named(path, &name, backlog, None, more)
    }

    fn unix_named(
        path: &Path,
        name: &Name,
        backlog: i32,
        mode: Option<Mode>,
        more: u32,
    ) -> io::Result<Listener> {
        let name = &name.address;
        remove_stale(path, name)?;
        let fd = stream_socket(AddressFamily::Unix)?;
        if let Some(mode) = mode {
            // On Linux the file gets the mode of the socket that is bound to it, less the umask.
            // Changing the file after bind(2) would leave a moment in which others can connect.
            fchmod(&fd, mode)?;
        }
        bind(fd.as_raw_fd(), name)?;
        if more != 0 {
            allow(path, more)?;
        }
        listen(fd.as_fd(), backlog)?;
        Ok(Listener {
            fd,
            address: Address::Unix(path.to_owned()),
            inherited: false,
        })
    }
}

/// A path as the kernel takes it, for as long as this is kept.
struct Name {
    address: UnixAddr,
    /// What a path that was too long goes by.
    _directory: Option<OwnedFd>,
}

impl Name {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().is_empty() {
            // The kernel would choose an abstract name.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a Unix socket's path is empty",
            ));
        }
        Ok(Self {
            address: UnixAddr::new(path)?,
            _directory: None,
        })
    }

    fn of_any_length(path: &Path) -> io::Result<Self> {
        let too_long = match Self::of(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => error,
            short => return short,
        };
        let here = env::current_dir().ok();
        let below = here.and_then(|here| path.strip_prefix(here).ok());
        if let Some(Ok(name)) = below.map(Self::of) {
            return Ok(name);
        }
        let (Some(directory), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(too_long);
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = retry(|| open(directory, flags, Mode::empty()))?;
        Ok(Self {
            address: UnixAddr::new(&link_to(&directory).join(file))?,
            _directory: Some(directory),
        })
    }
}

/// The path by which this process finds what it has open; see proc_pid_fd(5).
fn link_to(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Gives everybody `more` rights to the socket at `path`.
fn allow(path: &Path, more: u32) -> io::Result<()> {
    // Not by the path alone: where others may write to the directory, it could lead elsewhere.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = retry(|| open(path, flags, Mode::empty()))?;
    let link = link_to(&file);
    let found = fs::metadata(&link)?;
    if !found.file_type().is_socket() {
        return Err(Errno::ENOTSOCK.into());
    }
    let mode = found.permissions().mode();
    fs::set_permissions(&link, fs::Permissions::from_mode(mode | more))
}

/// Makes way for a new socket at `path`, if what lies there is one that nobody answers at.
fn remove_stale(path: &Path, name: &UnixAddr) -> io::Result<()> {
    let in_use = |what| {
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("{} {what}", path.display()),
        ))
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return in_use("exists and is not a socket"),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let probe = stream_socket(AddressFamily::Unix)?;
    match retry(|| connect(probe.as_raw_fd(), name)) {
        Ok(()) => in_use("is in use: somebody answers there"),
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => remove(path),
            Some(libc::ENOENT) => Ok(()),
            // A full backlog, and a socket of datagrams: somebody's.
            Some(libc::EAGAIN | libc::EPROTOTYPE) => in_use("is in use"),
            _ => Err(error),
        },
    }
}

/// Removes a file, or finds that it is gone.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
