//! Replacing this program by another, and what passes from one to the other: descriptors that stay
//! open across execve(2), and bytes in a memfd.
//!
//! Which descriptors those are, and what the bytes say, is left to whoever calls.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{convert, io};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, SealFlag, fcntl};
use nix::libc::off_t;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::sys::uio::pread;
use nix::unistd;

use super::retry;

/// Tells a program that it is to take over from another, or to say whether it would: `take:FD`,
/// `back:FD`, `try:FD:FD`.
pub(crate) const TAKE_OVER: &str = "MCLUSTER_TAKE_OVER";

/// Whether this program stands in the place of another, and has not yet taken over.
#[cfg(feature = "sessions")]
pub(crate) fn takes_over() -> bool {
    std::env::var_os(TAKE_OVER).is_some() && !is_trial()
}

/// Whether this program is only to say whether it would.
#[cfg(any(feature = "sessions", feature = "cli"))]
pub(crate) fn is_trial() -> bool {
    let words = std::env::var_os(TAKE_OVER);
    words.is_some_and(|words| words.as_encoded_bytes().starts_with(b"try:"))
}

/// Says whether a descriptor stays open when this program is replaced; see `FD_CLOEXEC` in
/// fcntl(2). It concerns programs that any thread executes, from now on.
///
/// One that is kept looks as if it had been inherited: nothing must look for such until it is
/// replaced with the program, or until it is not kept any more, as after an [`exec`] that failed.
///
/// # Errors
///
/// Those of fcntl.
pub(crate) fn keep_across_exec(fd: BorrowedFd<'_>, keep: bool) -> io::Result<()> {
    let mut flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD)?);
    flags.set(FdFlag::FD_CLOEXEC, !keep);
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Takes over a descriptor that this program was started with, by its number.
///
/// A number is no proof of ownership, so what else this process may have open is refused, as
/// [`Listener::inherited`](super::listener::Listener::inherited) says. As this function makes it
/// close-on-exec, it takes a descriptor but once. Its other flags stay as they are. Call it early,
/// while nothing else looks for inherited descriptors.
///
/// # Errors
///
/// `InvalidInput`, naming the descriptor and what is wrong with it; then it is left as it was.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    look_at(number)?;
    // SAFETY: the descriptor is open and was inherited, as just seen, so nobody in this program
    // opened it; it was not taken here before, or it would have been close-on-exec.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// The descriptor with this number, if it can only have come through execve(2): it is open, is none
/// of the standard ones, and is not close-on-exec, as all are that Rust opened.
///
/// # Errors
///
/// As [`adopt`].
pub(crate) fn look_at(number: RawFd) -> io::Result<BorrowedFd<'static>> {
    let refuse = |what| Err(refusal(number, what));
    if (0..=2).contains(&number) {
        return refuse("is standard input, output or error");
    }
    if number < 0 {
        return refuse("is not a descriptor");
    }
    // SAFETY: fcntl with F_GETFD only looks, and takes any number: it answers EBADF where nothing
    // is open.
    match Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) }) {
        Err(_) => refuse("is not open"),
        Ok(flags) if flags & libc::FD_CLOEXEC != 0 => {
            refuse("was not inherited: it is close-on-exec")
        }
        // SAFETY: the descriptor is open, and as nobody in this program opened it, nobody closes
        // it. That none which was opened here is kept across exec meanwhile is what the
        // documentation asks of the caller; if one was, calls with it would fail once it is closed.
        Ok(_) => Ok(unsafe { BorrowedFd::borrow_raw(number) }),
    }
}

/// Why a descriptor is not taken over.
pub(super) fn refusal(number: RawFd, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("fd {number} {what}"))
}

/// Replaces this program by another, and comes back only if that fails; see execve(2). The process
/// stays the same: its id, its children, its blocked and ignored signals, its working directory.
/// Descriptors stay open if [`keep_across_exec`] said so; all other threads end.
///
/// `args` are all of them, with the program's own name first, and `env` is the whole environment.
/// The path is taken as it is: it is not searched for.
///
/// Answers what went wrong: `NotFound`, `PermissionDenied`, `ENOEXEC`, `E2BIG`; `InvalidInput`
/// where something has a zero byte, or a variable's name is empty or has a `=`.
pub(crate) fn exec(program: &Path, args: &[OsString], env: &[(OsString, OsString)]) -> io::Error {
    let replaced = (|| {
        let program = c_string(program.as_os_str())?;
        let (args, env) = (arguments(args)?, environment(env)?);
        Ok(unistd::execve(&program, &args, &env)?)
    })();
    failure(replaced)
}

/// As [`exec`], but for the program that was opened, whatever became of its path; see execveat(2).
/// A script must not be close-on-exec, since its interpreter opens it again: that is `NotFound`.
pub(crate) fn exec_fd(
    program: BorrowedFd<'_>,
    args: &[OsString],
    env: &[(OsString, OsString)],
) -> io::Error {
    let replaced = (|| {
        let (args, env) = (arguments(args)?, environment(env)?);
        let flags = AtFlags::AT_EMPTY_PATH;
        Ok(unistd::execveat(program, c"", &args, &env, flags)?)
    })();
    failure(replaced)
}

fn failure(replaced: io::Result<convert::Infallible>) -> io::Error {
    match replaced {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn arguments(args: &[OsString]) -> io::Result<Vec<CString>> {
    args.iter().map(|argument| c_string(argument)).collect()
}

fn environment(env: &[(OsString, OsString)]) -> io::Result<Vec<CString>> {
    let entry = |(name, value): &(OsString, OsString)| {
        // The one who reads it would find another name.
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            let what = format!("{name:?} is not the name of a variable");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let mut entry = name.clone();
        entry.push("=");
        entry.push(value);
        c_string(&entry)
    };
    env.iter().map(entry).collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| {
        let what = format!("{text:?} has a zero byte");
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })
}

/// Bytes in memory as a file, which nobody can change any more; see memfd_create(2). Close-on-exec,
/// and read from its start. The `name` is shown in `/proc/PID/fd`.
///
/// # Errors
///
/// Those of memfd_create, such as `EMFILE` and, for a name over 249 bytes, `EINVAL`; `ENOMEM`.
pub(crate) fn sealed_memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    sealed(name, bytes, MFdFlags::empty())
}

/// The same with bytes that are a program, to be executed by the descriptor's path.
///
/// # Errors
///
/// As [`sealed_memfd`], and `EACCES` where the system forbids such programs; see
/// `vm.memfd_noexec` in the kernel's documentation.
#[cfg(feature = "compare")]
pub(crate) fn sealed_program(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    // Where a system has it off unless it is asked for. nix has no name for it.
    let executable = MFdFlags::from_bits_retain(nix::libc::MFD_EXEC);
    match sealed(name, bytes, executable) {
        // Before Linux 6.3 nobody had to ask.
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
            sealed(name, bytes, MFdFlags::empty())
        }
        other => other,
    }
}

fn sealed(name: &str, bytes: &[u8], more: MFdFlags) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | more;
    let file = File::from(retry(|| memfd_create(name, flags))?);
    file.write_all_at(bytes, 0)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// All that a file has, such as one of [`sealed_memfd`]; where it is being read stays as it is.
///
/// # Errors
///
/// `InvalidInput` when it is no memfd that can have no more bytes and no fewer; `OutOfMemory` when
/// it is larger than what can be had; those of pread(2).
pub(crate) fn read_memfd(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let seals =
        fcntl(fd, FcntlArg::F_GET_SEALS).map_or(SealFlag::empty(), SealFlag::from_bits_retain);
    if !seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW) {
        return Err(refusal(fd.as_raw_fd(), "is not a sealed memfd"));
    }
    let length = usize::try_from(fstat(fd)?.st_size).unwrap_or(0);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length)?;
    bytes.resize(length, 0);
    let mut done = 0;
    while done < length {
        match retry(|| pread(fd, &mut bytes[done..], done as off_t))? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => done += more,
        }
    }
    Ok(bytes)
}

/// That a program takes over is tested from outside: here it would take the tests with it.
#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::{AsFd, IntoRawFd};
    use std::os::unix::fs::PermissionsExt;

    use super::super::socket;
    use super::super::testing::{TempDir, assert_flags};
    use super::*;

    fn close_on_exec(fd: impl AsFd) -> bool {
        fcntl(&fd, FcntlArg::F_GETFD).expect("open") & libc::FD_CLOEXEC != 0
    }

    #[test]
    fn a_descriptor_is_kept_or_not() {
        let (a, _b) = socket::pair_stream().expect("a pair");
        for keep in [true, true, false, false, true, false] {
            keep_across_exec(a.as_fd(), keep).expect("open");
            assert_eq!(close_on_exec(&a), !keep);
        }
        assert_flags(&a);
    }

    #[test]
    fn what_was_kept_is_adopted_once() {
        let (a, _b) = socket::pair_stream().expect("a pair");
        keep_across_exec(a.as_fd(), true).expect("open");
        let number = a.into_raw_fd();
        let a = adopt(number).expect("as if it came through exec");
        assert_eq!(a.as_raw_fd(), number);
        assert_flags(&a);
        let again = adopt(number).expect_err("it is owned now");
        let what = format!("fd {number} was not inherited: it is close-on-exec");
        assert_eq!(again.to_string(), what);
        for number in [i32::MIN, -1, 0, 1, 2, 1_000_000_000] {
            let error = adopt(number).expect_err("not ours");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_cannot_be_executed_comes_back() {
        let dir = TempDir::new();
        let plain = dir.join("plain");
        fs::write(&plain, "no program").expect("a file");
        let args = words(&["x"]);
        let cases = [
            (dir.join("missing"), io::ErrorKind::NotFound),
            (plain.clone(), io::ErrorKind::PermissionDenied),
            (dir.join("zero\0byte"), io::ErrorKind::InvalidInput),
        ];
        for (path, kind) in cases {
            assert_eq!(exec(&path, &args, &[]).kind(), kind);
        }
        let error = exec(&dir.join("missing"), &words(&["a\0b"]), &[]);
        assert_eq!(error.to_string(), r#""a\0b" has a zero byte"#);
        for (name, value) in [("", "x"), ("a=b", "x"), ("a", "\0")] {
            let env = [(name.into(), value.into())];
            let error = exec(&dir.join("missing"), &args, &env);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let file = File::open(&plain).expect("a file");
        let error = exec_fd(file.as_fd(), &args, &[]);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o700)).expect("our file");
        for error in [exec(&plain, &args, &[]), exec_fd(file.as_fd(), &args, &[])] {
            assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC));
        }
    }

    #[test]
    fn the_environment_is_as_programs_read_it() {
        let env = [("A", "1"), ("B", ""), ("C", "x=y")];
        let env = env.map(|(name, value)| (name.into(), value.into()));
        let entries = environment(&env).expect("plain text");
        assert_eq!(entries, [c"A=1", c"B=", c"C=x=y"].map(CString::from));
    }

    #[test]
    fn bytes_in_memory_are_read_whole_and_never_change() {
        let many: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        for bytes in [&b""[..], b"state", &many] {
            let fd = sealed_memfd("mcluster-test", bytes).expect("memory");
            assert!(close_on_exec(&fd));
            assert_eq!(read_memfd(fd.as_fd()).expect("memory"), bytes);
            let mut file = File::from(fd);
            let mut read = Vec::new();
            file.read_to_end(&mut read).expect("memory");
            assert_eq!(read, bytes, "it begins at the start");
            assert_eq!(read_memfd(file.as_fd()).expect("memory"), bytes);
            let at = file.stream_position().expect("a file");
            assert_eq!(at, bytes.len() as u64, "where it was");
            file.seek(SeekFrom::Start(0)).expect("a file");
            assert!(file.write(b"x").is_err());
            assert!(file.set_len(1 + bytes.len() as u64).is_err());
        }
    }

    #[test]
    fn only_what_cannot_change_is_read() {
        let (a, _b) = socket::pair_stream().expect("a pair");
        let file = memfd_create("mcluster-test", MFdFlags::MFD_CLOEXEC).expect("memory");
        for fd in [a, file] {
            let error = read_memfd(fd.as_fd()).expect_err("not sealed");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
