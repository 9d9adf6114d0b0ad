//! A program, running: starts it, reads what it says, signals it, ends it.
//!
//! Owns the child process and its workers: whatever a test does, nothing is left behind when its
//! [`Run`] is dropped. Waits are for lines; the one limit of time turns a hang into a failure.

use crate::PROGRAM;
use crate::lines::Lines;
pub(crate) use crate::lines::{Mode, PATIENCE};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

/// A program, running.
pub(crate) struct Run {
    child: Child,
    status: Option<ExitStatus>,
    out: Lines,
    log: Lines,
    /// Workers that lost their primary.
    orphans: Vec<i32>,
}

impl Run {
    /// Starts the program `name` in `mode`, with further `words` for it.
    #[track_caller]
    pub(crate) fn start(name: &str, mode: Mode, words: &[&str]) -> Self {
        // Some programs abort on purpose: that must not leave core files.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let mut all = vec![name, mode.name()];
        all.extend(words);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env_clear().env(PROGRAM, all.join(" "));
        for kept in ["PATH", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            out: Lines::of(child.stdout.take().unwrap()),
            log: Lines::of(child.stderr.take().unwrap()),
            child,
            status: None,
            orphans: Vec::new(),
        }
    }

    /// All that it has said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.out.all()
    }

    /// Waits for a line that begins with `start`; what follows that.
    #[track_caller]
    pub(crate) fn line(&self, start: &str) -> String {
        self.nth_line(start, 0)
    }

    /// Waits for the n-th such line, from 0.
    #[track_caller]
    pub(crate) fn nth_line(&self, start: &str, nth: usize) -> String {
        let what = format!("line {nth} with {start:?}");
        self.out.until(&what, |lines, _| {
            let mut rest = lines.iter().filter_map(|line| line.strip_prefix(start));
            rest.nth(nth).map(str::to_owned)
        })
    }

    /// How many lines so far begin with `start`.
    pub(crate) fn count(&self, start: &str) -> usize {
        let lines = self.out.all();
        lines.iter().filter(|line| line.starts_with(start)).count()
    }

    /// Waits for a line of the log that contains `words`.
    #[track_caller]
    pub(crate) fn log_line(&self, words: &str) -> String {
        self.log.until(words, |lines, _| {
            let mut lines = lines.iter();
            lines.find(|line| line.contains(words)).cloned()
        })
    }

    /// The log so far, and what programs write beside it.
    #[cfg(feature = "programs")]
    pub(crate) fn logged(&self) -> Vec<String> {
        self.log.all()
    }

    /// Waits until worker `id` listens, and where.
    #[track_caller]
    pub(crate) fn address(&self, id: u32) -> SocketAddr {
        address_of(&self.line(&format!("{id} listens on ")))
    }

    /// The process of the primary.
    #[cfg(feature = "programs")]
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The process of worker `id`.
    #[track_caller]
    pub(crate) fn pid_of(&self, id: u32) -> i32 {
        self.line(&format!("{id} pid ")).parse().unwrap()
    }

    /// Sends the primary a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.status.is_none());
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Sends worker `id` a signal.
    #[track_caller]
    pub(crate) fn signal_worker(&self, id: u32, signal: Signal) {
        kill(Pid::from_raw(self.pid_of(id)), signal).unwrap();
    }

    /// Kills the primary alone.
    pub(crate) fn kill_primary(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.orphans = children(self.child.id() as i32);
        self.signal(Signal::SIGKILL);
        self.status = Some(self.child.wait().unwrap());
    }

    /// Waits until nobody holds its output any more, workers included; all that was said.
    #[track_caller]
    pub(crate) fn silence(&mut self) -> Vec<String> {
        let all = self
            .out
            .until("the end of all that it said", |lines, ended| {
                ended.then(|| lines.to_vec())
            });
        self.orphans.clear();
        all
    }

    /// Waits for its end, which is one in good order; all that it said.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Vec<String> {
        let all = self.silence();
        let status = self.child.wait().unwrap();
        self.status = Some(status);
        assert!(status.success(), "{status}");
        assert_eq!(all.last().map(String::as_str), Some("ran: ok"));
        all
    }

    /// Has it stop, and waits for its end as [`Run::end`] does.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        self.end()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if thread::panicking() {
            let (out, log) = (self.out.all().join("\n"), self.log.all().join("\n"));
            eprintln!("-- it said:\n{out}\n-- its log:\n{log}\n--");
        }
        if self.status.is_none() {
            // Stopped it neither forks nor buries, so the numbers of its children stay theirs.
            self.signal(Signal::SIGSTOP);
            for pid in children(self.child.id() as i32) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for &pid in &self.orphans {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The living and the unburied children of a process, by proc(5).
fn children(parent: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let of = |pid: i32| -> Option<i32> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain anything, even parentheses; behind it stand state and parent.
        let (_, fields) = text.rsplit_once(") ")?;
        fields.split_whitespace().nth(1)?.parse().ok()
    };
    pids.filter(|&pid| of(pid) == Some(parent)).collect()
}

/// The address in `http://ADDRESS`.
#[track_caller]
pub(crate) fn address_of(url: &str) -> SocketAddr {
    let address = url.strip_prefix("http://");
    let address = address.unwrap_or_else(|| panic!("{url}"));
    address.parse().unwrap()
}
