//! A process on its own: without the terminal it was started from, and without what others had open.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::signal::SigSet;
use nix::unistd;

use super::launch::FIRST_FD;
use super::retry;

/// Begins a session without a terminal, of which this process is the first.
///
/// # Errors
///
/// When it is the first of a process group already; a forked child is not.
pub(crate) fn begin_session() -> io::Result<()> {
    unistd::setsid()?;
    Ok(())
}

/// Opens a log for its owner alone, made where there is none, to be appended to.
///
/// # Errors
///
/// As open(2), and `InvalidInput` for what is no regular file.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true);
    let file = options.mode(0o600).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "that is no regular file",
        )),
    }
}

/// Reads nothing from now on, and writes stdout and stderr to `log`.
///
/// # Errors
///
/// As dup2(2), and open(2) of /dev/null.
pub(crate) fn redirect(log: &File) -> io::Result<()> {
    let nothing = File::open("/dev/null")?;
    retry(|| unistd::dup2_stdin(&nothing))?;
    retry(|| unistd::dup2_stdout(log))?;
    retry(|| unistd::dup2_stderr(log))
}

/// Closes what this program was started with beyond standard input, output and error, but for what is
/// `kept`: a lock that a shell holds by such a descriptor would be held as long as this process lives.
///
/// That is whatever stays open at execve(2): nothing that this program has opened does.
///
/// # Errors
///
/// Those of reading /proc.
pub(crate) fn close_inherited(kept: &[RawFd]) -> io::Result<()> {
    for number in open_descriptors()? {
        if kept.contains(&number) {
            continue;
        }
        // SAFETY: fcntl with F_GETFD reads flags of whatever number it is given.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: it came through execve(2), as all that this program opens is close-on-exec, and
            // nobody has taken it, or it would be so too.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    Ok(())
}

/// For a forked child that is to live by itself: in a process group of its own, it heeds every signal
/// and has no descriptors but standard input, output and error and those that are `kept`.
///
/// It must leave by [`exit_now`](super::process::exit_now): what it closes belongs to variables of its
/// parent, none of which may be dropped or used any more.
///
/// # Errors
///
/// Those of the calls for it, and of reading /proc.
pub(crate) fn stand_alone(kept: &[RawFd]) -> io::Result<()> {
    let itself = unistd::Pid::from_raw(0);
    unistd::setpgid(itself, itself)?;
    SigSet::empty().thread_set_mask()?;
    for number in open_descriptors()? {
        if !kept.contains(&number) {
            // SAFETY: whose descriptors those are is said above. One that is closed already, as the
            // directory's that was read, is refused.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}

/// The descriptors of this process but standard input, output and error; and one that is closed again.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    open.retain(|&number| number >= FIRST_FD);
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::super::testing::TempDir;
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_log_is_for_its_owner_and_goes_on() {
        let directory = TempDir::new();
        let path = directory.join("log");
        for line in ["one\n", "two\n"] {
            let mut log = open_log(&path).expect("a fresh directory");
            log.write_all(line.as_bytes()).expect("a file");
        }
        assert_eq!(
            std::fs::read_to_string(&path).expect("a file"),
            "one\ntwo\n"
        );
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let link = directory.join("link");
        symlink(&path, &link).expect("a link");
        assert!(open_log(&link).is_err());
        assert!(open_log(Path::new("/dev/null")).is_err());
    }
}
