//! Files that several processes append lines to: a log.
//!
//! Owns that writing to one does not stop the writer for as long as somebody else likes, where the
//! kernel allows it, and that root opens nothing that others laid there; leaves to `server` what is
//! written, and what becomes of what cannot be.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::sys::socket::{MsgFlags, send};

use super::is_ready;

/// What goes into a pipe whole or not at all (pipe(7)).
pub(crate) const WHOLE_IN_A_PIPE: usize = libc::PIPE_BUF;

/// Neither a FIFO without a reader nor a terminal holds the opener up or becomes its own.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// What lines are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file: takes all, or has no room.
    File,
    /// A pipe, or a terminal: takes so much at a time.
    Pipe,
    /// A socket.
    Socket,
}

/// Opens the file at `path` to append to, and makes it for its user and group where there is none.
///
/// # Errors
///
/// As open(2): `ENXIO` for a FIFO that nobody reads.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, 0)
}

/// The same for root, where `user` may have laid something else there: a link to a file that is not
/// theirs to write, or a second name of it. Only the last name of `path` is looked at; whoever may
/// write the directories on the way can lead anywhere.
///
/// # Errors
///
/// As [`open`]; and for what is no regular file, has a second name, or belongs neither to root nor
/// to `user`.
pub(crate) fn open_as_root(path: &Path, user: u32) -> io::Result<File> {
    let refused = |what: &str| {
        let what = format!("{what}, which root does not open where workers are user {user}");
        io::Error::new(io::ErrorKind::PermissionDenied, what)
    };
    let file = open_with(path, libc::O_NOFOLLOW).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => refused("it is a symbolic link"),
        _ => error,
    })?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(refused("it is no regular file"));
    }
    if ![0, user].contains(&facts.uid()) {
        return Err(refused(&format!("it belongs to user {}", facts.uid())));
    }
    if facts.nlink() > 1 {
        return Err(refused("it has several names"));
    }
    Ok(file)
}

fn open_with(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(FLAGS | flags)
        .open(path)
}

/// What stdout is connected to: opened anew where that is possible, since whether writing waits is
/// not ours to set on a description that others share.
///
/// # Errors
///
/// As dup(2).
pub(crate) fn stdout() -> io::Result<File> {
    opened_anew(io::stdout().as_fd())
}

/// The same of stderr.
///
/// # Errors
///
/// As dup(2).
#[cfg(feature = "programs")]
pub(crate) fn stderr() -> io::Result<File> {
    opened_anew(io::stderr().as_fd())
}

fn opened_anew(shared: BorrowedFd<'_>) -> io::Result<File> {
    let copy = File::from(shared.try_clone_to_owned()?);
    if kind(&copy)? != Kind::Pipe {
        return Ok(copy);
    }
    let again = OpenOptions::new()
        .write(true)
        .custom_flags(FLAGS)
        .open(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    Ok(again.unwrap_or(copy))
}

/// What kind of file it is.
///
/// # Errors
///
/// As fstat(2).
pub(crate) fn kind(file: &File) -> io::Result<Kind> {
    let kind = file.metadata()?.file_type();
    Ok(if kind.is_socket() {
        Kind::Socket
    } else if kind.is_fifo() || kind.is_char_device() {
        Kind::Pipe
    } else {
        Kind::File
    })
}

/// Writes once; how much was taken.
///
/// # Errors
///
/// `WouldBlock` when whoever reads must read first; otherwise as write(2).
pub(crate) fn write(file: &File, kind: Kind, bytes: &[u8]) -> io::Result<usize> {
    match kind {
        Kind::Socket => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            super::retry(|| send(file.as_raw_fd(), bytes, flags))
        }
        // Where it could not be opened anew, the question is all that keeps this from waiting.
        Kind::Pipe if !has_room(file)? => Err(io::ErrorKind::WouldBlock.into()),
        Kind::Pipe | Kind::File => super::retry(|| nix::unistd::write(file, bytes)),
    }
}

/// Waits until there may be room, for so long at most; whether there is.
///
/// # Errors
///
/// As poll(2).
#[cfg(feature = "cli")]
pub(crate) fn wait_for_room(file: &File, most: std::time::Duration) -> io::Result<bool> {
    let ms = most.as_micros().div_ceil(1000);
    is_ready(file.as_fd(), libc::POLLOUT, ms.min(i32::MAX as u128) as i32)
}

fn has_room(file: &File) -> io::Result<bool> {
    // An error is there to be found by the write.
    is_ready(file.as_fd(), libc::POLLOUT, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_full_pipe_holds_nobody_up() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        assert_eq!(kind(&file).unwrap(), Kind::Pipe);
        let line = [b'x'; WHOLE_IN_A_PIPE];
        let mut written = 0;
        let error = loop {
            match write(&file, Kind::Pipe, &line) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(written >= WHOLE_IN_A_PIPE && written % WHOLE_IN_A_PIPE == 0);
        #[cfg(feature = "cli")]
        assert!(!wait_for_room(&file, std::time::Duration::from_millis(1)).unwrap());
        drop(reader);
        let error = write(&file, Kind::Pipe, &line).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_socket_holds_nobody_up() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let file = File::from(OwnedFd::from(ours));
        assert_eq!(kind(&file).unwrap(), Kind::Socket);
        while write(&file, Kind::Socket, &[b'x'; 65_536]).is_ok() {}
        drop(theirs);
        let error = write(&file, Kind::Socket, b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_disk_says_so() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write(&full, kind(&full).unwrap(), b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn root_opens_nothing_that_others_laid_there() {
        let place = super::super::testing::TempDir::new();
        let own = nix::unistd::geteuid().as_raw();
        let refused = |name: &str, user: u32, words: &str| {
            let error = open_as_root(&place.join(name), user).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}");
            assert!(error.to_string().contains(words), "{name}: {error}");
        };
        let path = place.join("log");
        for line in [b"one\n", b"two\n"] {
            let file = open_as_root(&path, own).unwrap();
            assert_eq!(write(&file, Kind::File, line).unwrap(), 4);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        for (name, target) in [("link", "log"), ("dangling", "made")] {
            std::os::unix::fs::symlink(place.join(target), place.join(name)).unwrap();
            refused(name, own, "symbolic link");
        }
        assert!(!place.join("made").exists());
        std::fs::hard_link(&path, place.join("second")).unwrap();
        refused("second", own, "several names");
        let fifo = place.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = open_as_root(&fifo, own).unwrap_err();
        assert!(error.raw_os_error() == Some(libc::ENXIO) || own != 0);
        let others = place.join("others");
        std::fs::write(&others, "").unwrap();
        if own == 0 {
            std::os::unix::fs::chown(&others, Some(12_345), None).unwrap();
            assert!(open_as_root(&others, 12_345).is_ok());
        }
        refused("others", own + 1, "belongs to user");
        let error = open_as_root(Path::new("/dev/full"), own).unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error}");
    }

    #[test]
    fn lines_are_appended() {
        let place = super::super::testing::TempDir::new();
        let path = place.join("log");
        for line in [b"one\n", b"two\n"] {
            let file = open(&path).unwrap();
            assert_eq!(kind(&file).unwrap(), Kind::File);
            assert_eq!(write(&file, Kind::File, line).unwrap(), 4);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        assert!(open(&place.join(".")).is_err(), "a directory");
    }
}
