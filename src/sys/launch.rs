//! Executing a program in a child process, with exactly the descriptors that it is given.
//!
//! Owns what lies between fork(2) and execve(2), and hearing whether it went well. Which program,
//! with what words and what descriptors, and when it is to end, is left to whoever calls.

use crate::sorted::SortedMap;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::SigSet;
use nix::unistd;

use super::exec;
use super::privilege::Identity;
use super::process::{self, Forked, Pid};
use super::{is_ready, retry};

/// The first descriptor behind standard input, output and error.
pub(crate) const FIRST_FD: RawFd = 3;

/// The status of a child that came to execute nothing: what shells answer then.
const NOT_EXECUTED: i32 = 127;

/// How long it may take to execute a program, in milliseconds: more than a file system needs that
/// answers at all.
const TO_EXECUTE_MS: i32 = 10_000;

/// Where programs are looked for by whoever has no `PATH`, as in execvp(3).
const USUAL_PATH: &str = "/bin:/usr/bin";

/// The highest signal of Linux.
const LAST_SIGNAL: i32 = 64;

/// What is executed, and how.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// A path, which is looked for from `directory`, or a name that is looked for in the `PATH` of
    /// `env`.
    pub(crate) executable: &'a OsStr,
    /// Without the program's own name.
    pub(crate) args: &'a [OsString],
    /// The whole environment; of two with the same name the later one counts.
    pub(crate) env: &'a [(OsString, OsString)],
    /// The name of a variable whose value is to be the id of the new process.
    pub(crate) pid_variable: Option<&'a str>,
    /// Where it is run, if not where this process is.
    pub(crate) directory: Option<&'a Path>,
    /// Its standard output and standard error.
    pub(crate) outputs: [BorrowedFd<'a>; 2],
    /// Its descriptors from [`FIRST_FD`] on, in this order.
    pub(crate) inherited: &'a [BorrowedFd<'a>],
    /// Whom it becomes.
    pub(crate) identity: Option<&'a Identity>,
    /// What the kernel sends it at this process's death; see `PR_SET_PDEATHSIG` in prctl(2).
    pub(crate) orphan_signal: i32,
}

/// What failed in the child, in words.
type Failure = (io::Error, String);

/// Leaves the process with this code when it is dropped: a child that panics must not unwind into what
/// its parent was about to do.
#[derive(Debug)]
pub(crate) struct Leave(pub(crate) i32);

impl Drop for Leave {
    fn drop(&mut self) {
        process::exit_now(self.0);
    }
}

/// Executes a program in a child process and answers with its id. It is the first of a group of its
/// own, reads nothing on standard input, blocks no signal and has each at its default, and has no
/// other descriptors than those named. `prepare` is called in the child before anything of that
/// happens, while it has what this process has.
///
/// Waits until it is executed. This thread must be the one that lives longest: its end is what the
/// kernel takes for the parent's death.
///
/// # Errors
///
/// As [`process::fork`] and pipe(2); and in words what the child could not do, up to execve(2): then
/// there is no such child any more.
pub(crate) fn launch(launch: &Launch<'_>, prepare: impl FnOnce()) -> io::Result<Pid> {
    let (hear, tell) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    let parent = process::pid();
    match process::fork()? {
        Forked::Child => {
            let leave = Leave(NOT_EXECUTED);
            drop(hear);
            prepare();
            launch.execute(parent, tell);
            drop(leave);
            process::exit_now(NOT_EXECUTED)
        }
        Forked::Parent(pid) => {
            drop(tell);
            // The child does the same: whoever comes first. What fails here has been done there.
            let _ = unistd::setpgid(raw(pid), raw(pid));
            hear_word(hear).inspect_err(|_| bury(pid))?;
            Ok(pid)
        }
    }
}

fn raw(pid: Pid) -> unistd::Pid {
    unistd::Pid::from_raw(pid.as_raw())
}

/// Ends a child that came to execute nothing, and waits for it.
fn bury(pid: Pid) {
    let _ = process::kill(pid, libc::SIGKILL);
    let _ = process::wait(pid);
}

/// Nothing if the program is executed: that closes the other end. Otherwise why not.
fn hear_word(hear: OwnedFd) -> io::Result<()> {
    if !is_ready(hear.as_fd(), libc::POLLIN, TO_EXECUTE_MS)? {
        let what = "the program could not be executed in time";
        return Err(io::Error::new(io::ErrorKind::TimedOut, what));
    }
    let mut word = Vec::new();
    File::from(hear).read_to_end(&mut word)?;
    if word.is_empty() {
        return Ok(());
    }
    Err(parse_word(&word))
}

/// What a child says that failed: errno, or 0, and the words.
fn word_of((error, what): &Failure) -> Vec<u8> {
    let errno = error.raw_os_error().unwrap_or(0);
    let why = match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    };
    let mut word = errno.to_le_bytes().to_vec();
    word.extend(format!("{what}: {why}").bytes());
    word
}

fn parse_word(word: &[u8]) -> io::Error {
    let Some((errno, words)) = word.split_first_chunk() else {
        return io::ErrorKind::UnexpectedEof.into();
    };
    let kind = match i32::from_le_bytes(*errno) {
        0 => io::ErrorKind::Other,
        errno => io::Error::from_raw_os_error(errno).kind(),
    };
    io::Error::new(kind, String::from_utf8_lossy(words))
}

impl Launch<'_> {
    /// In the child: comes back only if it failed, and has said so then.
    fn execute(&self, parent: Pid, tell: OwnedFd) {
        // Where no other descriptor is to be placed; the old one is gone before that.
        let moved = self.out_of_the_way(tell.as_fd());
        let tell = match moved {
            Ok(moved) => {
                drop(tell);
                moved
            }
            Err(_) => tell,
        };
        let Err(failure) = self.become_it(parent);
        let _ = File::from(tell).write_all(&word_of(&failure));
    }

    fn become_it(&self, parent: Pid) -> Result<Infallible, Failure> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| (error, what)
        };
        let group = unistd::setpgid(raw(process::pid()), raw(process::pid()));
        group.map_err(|error| failed("cannot have a process group")(error.into()))?;
        self.place_descriptors()
            .map_err(failed("cannot have its descriptors"))?;
        if let Some(directory) = self.directory {
            let what = format!("cannot run in {}", directory.display());
            std::env::set_current_dir(directory).map_err(failed(&what))?;
        }
        if let Some(identity) = self.identity {
            identity
                .assume()
                .map_err(failed("cannot give up privileges"))?;
        }
        // Only now: becoming another user forgets it.
        let dies_with_it = process::signal_at_parent_death(parent, self.orphan_signal);
        if !dies_with_it.map_err(failed("cannot notice its primary's death"))? {
            process::exit_now(NOT_EXECUTED);
        }
        let what = format!("cannot execute {}", self.executable.display());
        let args: Vec<_> = [self.executable.to_owned()]
            .into_iter()
            .chain(self.args.iter().cloned())
            .collect();
        let env = self.variables();
        let candidates = candidates(self.executable, env.get(&"PATH".into()));
        let env: Vec<_> = env.into_iter().collect();
        default_signals();
        // Last: a signal that waits may end it now.
        let opened = SigSet::empty().thread_set_mask();
        opened.map_err(|error| failed("cannot unblock signals")(error.into()))?;
        Err((exec_first(&candidates, &args, &env), what))
    }

    /// The environment, each name once. What has no name that could be given to a program is left
    /// out, as it came from this program's own.
    fn variables(&self) -> SortedMap<OsString, OsString> {
        let named = |name: &OsStr| {
            let bytes = name.as_encoded_bytes();
            !bytes.is_empty() && !bytes.contains(&b'=')
        };
        let given = self.env.iter().filter(|(name, _)| named(name));
        let mut all: SortedMap<_, _> = given.cloned().collect();
        if let Some(variable) = self.pid_variable {
            all.insert(variable.into(), process::pid().to_string().into());
        }
        all
    }

    /// A copy of a descriptor with a number that none is to be placed at.
    fn out_of_the_way(&self, fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let first_free = FIRST_FD + self.inherited.len() as RawFd;
        let copy = retry(|| fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(first_free)))?;
        // SAFETY: fcntl has just made it, so it is open and nobody else's.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    }

    /// Places the descriptors at their numbers, over whatever is open there; all others are left to
    /// close at execve(2). Whoever owns what was there must not be dropped any more.
    fn place_descriptors(&self) -> io::Result<()> {
        let null = self.out_of_the_way(File::open("/dev/null")?.as_fd())?;
        let given = self.outputs.iter().chain(self.inherited);
        let given = given.map(|fd| self.out_of_the_way(*fd));
        let given = given.collect::<io::Result<Vec<_>>>()?;
        for (number, fd) in [null].iter().chain(&given).enumerate() {
            // SAFETY: dup2 takes two numbers. What it closes belongs to the parent's variables, of
            // which none is dropped or used in this process any more: it executes or leaves, by
            // `Leave` even if it panics.
            let placed = || Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number as RawFd) });
            retry(placed)?;
        }
        keep_none_from(FIRST_FD + self.inherited.len() as RawFd)
    }
}

/// Where the program may lie, by execvp(3)'s rules.
fn candidates(executable: &OsStr, path: Option<&OsString>) -> Vec<PathBuf> {
    if executable.as_encoded_bytes().contains(&b'/') {
        return vec![executable.into()];
    }
    let path = path.map_or(OsStr::new(USUAL_PATH), OsString::as_os_str);
    std::env::split_paths(path)
        .map(|place| match place.as_os_str().is_empty() {
            true => Path::new(".").join(executable),
            false => place.join(executable),
        })
        .collect()
}

/// Executes the first that is there and may be executed. Unlike execvp(3) it leaves a file that is no
/// program to nobody: a shell would try to run anything as a script.
fn exec_first(
    candidates: &[PathBuf],
    args: &[OsString],
    env: &[(OsString, OsString)],
) -> io::Error {
    let mut found = io::Error::from_raw_os_error(libc::ENOENT);
    for program in candidates {
        let error = exec::exec(program, args, env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT) => {}
            // Another may do; but if none does, that says more.
            Some(libc::EACCES) => found = error,
            _ => return error,
        }
    }
    found
}

/// Has all descriptors from `first` on close at execve(2): also those that this program was started
/// with and knows nothing of.
fn keep_none_from(first: RawFd) -> io::Result<()> {
    let (first, last) = (first.unsigned_abs(), u32::MAX);
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: close_range takes three numbers, and with this flag closes nothing now.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if marked == 0 {
        return Ok(());
    }
    // Before Linux 5.11 one by one.
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number: &RawFd| number.unsigned_abs() >= first) {
            // SAFETY: fcntl with F_SETFD changes what happens at execve(2) alone, and takes any
            // number: it answers EBADF where nothing is open.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Has every signal do what it does by default. A program inherits which are ignored, and some
/// believe that they were told so on purpose.
fn default_signals() {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: no handler is installed that could do anything unsafe. It is refused for the two
        // that cannot be changed, and for those that the C library keeps for itself.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// A pipe for a program to write to: the reading end, non-blocking, and the writing one, which
/// blocks, as programs expect of their output. Both are close-on-exec.
///
/// # Errors
///
/// Those of pipe(2), such as `EMFILE`.
pub(crate) fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    // Each end has its own; the flag has no other in a pipe that was just made.
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn what_failed_is_said_in_words() {
        let cases = [
            (
                io::Error::from_raw_os_error(libc::ENOENT),
                "cannot execute x: No such file or directory",
                io::ErrorKind::NotFound,
            ),
            (
                io::Error::other("no root"),
                "cannot execute x: no root",
                io::ErrorKind::Other,
            ),
        ];
        for (error, words, kind) in cases {
            let heard = parse_word(&word_of(&(error, "cannot execute x".to_owned())));
            assert_eq!((heard.to_string().as_str(), heard.kind()), (words, kind));
        }
        assert_eq!(parse_word(b"x").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn programs_are_looked_for_in_the_path() {
        let found = |name: &str, path: Option<&str>| {
            let path = path.map(OsString::from);
            let found = candidates(OsStr::new(name), path.as_ref());
            found
                .iter()
                .map(|one| one.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(found("x", Some("/a::b")), ["/a/x", "./x", "b/x"]);
        assert_eq!(found("x", None), ["/bin/x", "/usr/bin/x"]);
        assert_eq!(found("./x", Some("/a")), ["./x"]);
    }

    #[test]
    fn what_is_no_program_is_run_by_no_shell() {
        use std::os::unix::fs::PermissionsExt;
        let directory = testing::TempDir::new();
        let [text, locked] = ["text", "locked"].map(|name| directory.join(name));
        fs::write(&text, "exit 0\n").expect("a file");
        fs::write(&locked, "").expect("a file");
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("ours");
        let missing = directory.join("missing");
        let why = |candidates: &[PathBuf]| {
            let args = [OsString::from("x")];
            exec_first(candidates, &args, &[]).raw_os_error()
        };
        assert_eq!(why(&[missing.clone(), text.clone()]), Some(libc::ENOEXEC));
        assert_eq!(why(&[locked, missing.clone()]), Some(libc::EACCES));
        assert_eq!(why(&[missing, text.join("x")]), Some(libc::ENOENT));
    }

    #[test]
    fn the_parent_hears_a_word_or_the_end() {
        let (hear, tell) = unistd::pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        drop(tell);
        hear_word(hear).expect("executed");
        let (hear, tell) = unistd::pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let failure = (io::Error::from_raw_os_error(libc::EACCES), "it".to_owned());
        File::from(tell)
            .write_all(&word_of(&failure))
            .expect("room");
        let error = hear_word(hear).expect_err("not executed");
        assert_eq!(error.to_string(), "it: Permission denied");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn programs_write_to_pipes_that_wait() {
        let (reader, writer) = output_pipe().expect("a pipe");
        testing::assert_flags(&reader);
        let flags = fcntl(&writer, FcntlArg::F_GETFL).expect("open");
        assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
        testing::assert_close_on_exec(&writer);
    }

    #[test]
    fn a_process_with_threads_launches_nothing() {
        let (_, writer) = output_pipe().expect("a pipe");
        let nothing = Launch {
            executable: OsStr::new("true"),
            args: &[],
            env: &[],
            pid_variable: None,
            directory: None,
            outputs: [writer.as_fd(); 2],
            inherited: &[],
            identity: None,
            orphan_signal: libc::SIGTERM,
        };
        let (wait, waiter) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || waiter.recv().is_err());
        let error = launch(&nothing, || ()).expect_err("threads");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        drop(wait);
        assert!(other.join().expect("no panic"));
    }
}
