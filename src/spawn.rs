//! Servers that are started to be measured: from their start to their end, with all that they start.
//!
//! Owns the group of processes, what they say on stdout and stderr, and that nothing of them is left,
//! not even when this process is killed. What they are, and what is asked of them, is left to whoever
//! starts one.

#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, reason = "the command is what uses all of it")
)]

use crate::sys::group;
use crate::sys::process::{self, Pid};
use crate::sys::signal::{SIGKILL, SIGTERM};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Waits for the end of its stdin, which comes when whoever holds the other end is gone, however that came
/// about, and then ends its group, of which it is the first. A signal that the kernel sends at a
/// parent's death would reach one process alone, and would come when a thread ends.
///
/// It ignores all that can be ignored, since a server may signal its whole group. Nobody is started until
/// it says that it does, and it starts nobody who would inherit that. Not every shell knows the signals
/// from 34 on.
const GUARD: &str = "\
    trap '' 1 2 3 4 5 6 7 8 10 11 12 13 14 15 16 18 20 21 22 23 24 25 26 27 28 29 30 31; \
    for signal in 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 \
        60 61 62 63 64; do command trap '' $signal 2>/dev/null; done; \
    echo; read -r _; kill -KILL 0";

/// The longest line that is read as one; the rest of a longer one is dropped.
const LONGEST_LINE: usize = 8 << 10;

/// The most addresses that are kept.
const MOST_URLS: usize = 64;

/// The last lines that are kept for an error's words.
const LAST_LINES: usize = 3;

/// How long what ends may take to do so: one that has closed its stdout, or was killed.
const TO_END: Duration = Duration::from_secs(1);

/// How long those who read what it said may need to come to its end, once everybody is gone.
const TO_HEAR: Duration = Duration::from_millis(200);

/// Where a server's lines go, each without its end. It must not wait: the server would wait with it.
pub(crate) type Sink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// Whether what a server says is passed on.
#[derive(Clone)]
pub(crate) enum Voice {
    /// Yes, but for the lines that say where it listens.
    Aloud(Sink),
    /// No; the last lines are kept for the case that it does not start.
    Quiet,
}

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aloud(_) => "Aloud",
            Self::Quiet => "Quiet",
        })
    }
}

/// A server that was started by this process. Dropped, it and all that it has started are killed.
///
/// Its processes form a group of their own, with one more in it that ends it when this process is gone;
/// who leaves the group, as a daemon does, is not found.
#[derive(Debug)]
pub(crate) struct Spawned {
    child: Child,
    guard: Child,
    said: Arc<Said>,
    voice: Voice,
    began: Instant,
    /// Whether everything is reaped.
    over: bool,
}

/// What words mean to a shell, compound ones too.
pub(crate) fn shell(words: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", words]);
    command
}

impl Spawned {
    /// Starts a server and does not wait. It gets no stdin, and no blocked signals from this thread.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn launch(mut command: Command, voice: Voice) -> io::Result<Self> {
        let mut guard = guard()?;
        command
            .process_group(guard.id() as i32)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        group::unblock_signals(&mut command);
        let began = Instant::now();
        let child = command.spawn().inspect_err(|_| {
            let _ = guard.kill();
            let _ = guard.wait();
        })?;
        let mut spawned = Self {
            child,
            guard,
            said: Arc::default(),
            voice,
            began,
            over: false,
        };
        let (out, err) = (spawned.child.stdout.take(), spawned.child.stderr.take());
        if let (Some(out), Some(err)) = (out, err) {
            let mut words = spawned.said.lock();
            (words.open, words.talks) = (true, 2);
            drop(words);
            spawned.hear(out, true)?;
            spawned.hear(err, false)?;
        }
        Ok(spawned)
    }

    /// Waits, at most so long, until it has said that it listens at an address with `://`; whether it
    /// has. For a caller that has other things to look at meanwhile. One that has closed its stdout says no
    /// more, so what it said must do.
    ///
    /// # Errors
    ///
    /// When it will never say so: it has ended, or closed its stdout.
    pub(crate) fn listens(&mut self, at_most: Duration) -> io::Result<bool> {
        let waits = |words: &mut Words| !words.has_url() && words.open;
        let words = self.said.lock();
        let words = self.said.changed.wait_timeout_while(words, at_most, waits);
        let (words, _) = words.unwrap_or_else(PoisonError::into_inner);
        let open = words.open;
        let listens = words.has_url() || (!open && !words.urls.is_empty());
        drop(words);
        if listens {
            return Ok(true);
        }
        // One that puts itself into the background ends well before it listens.
        let failed = self.try_wait()?.is_some_and(|status| !status.success());
        match open && !failed {
            true => Ok(false),
            false => Err(self.will_not()),
        }
    }

    /// Where it listens, as far as it has said so.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.said.lock().urls.clone()
    }

    /// The process that was started first.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Whether a process is one of its own.
    pub(crate) fn has(&self, pid: Pid) -> bool {
        !self.over && group::of(pid).is_ok_and(|group| group == self.group())
    }

    /// The processes of it that live, the lowest number first.
    ///
    /// # Errors
    ///
    /// When `/proc` cannot be read.
    pub(crate) fn processes(&self) -> io::Result<Vec<Pid>> {
        if self.over {
            return Ok(Vec::new());
        }
        let mut all = group::members(self.group())?;
        all.retain(|&pid| pid != self.group());
        Ok(all)
    }

    /// How the process that was started first has ended, if it has.
    ///
    /// # Errors
    ///
    /// None that a caller may expect.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Has it end: asks the first process by SIGTERM, then those that outlive it, and kills what is
    /// left after `patience`. How the first one ended.
    ///
    /// # Errors
    ///
    /// None that a caller may expect; whatever comes, nothing of it is left.
    pub(crate) fn stop(self, patience: Duration) -> io::Result<ExitStatus> {
        self.stop_unless(patience, || false)
    }

    /// The same, where somebody may have had `enough` of waiting: then the rest is killed at once.
    ///
    /// # Errors
    ///
    /// As [`Spawned::stop`].
    pub(crate) fn stop_unless(
        mut self,
        patience: Duration,
        mut enough: impl FnMut() -> bool,
    ) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        let mut hurry = false;
        if self.try_wait()?.is_none() {
            process::kill(self.pid(), SIGTERM)?;
        }
        wait_until(deadline, || {
            hurry |= enough();
            hurry || !matches!(self.try_wait(), Ok(None))
        });
        // A shell that runs several commands passes nothing on.
        if self.try_wait()?.is_some() && !self.processes()?.is_empty() {
            group::signal(self.group(), SIGTERM)?;
            wait_until(deadline, || {
                hurry |= enough();
                hurry || self.processes().map_or(true, |left| left.is_empty())
            });
        }
        self.end();
        self.child.wait()
    }

    /// Its group has the guard's number, which stays the guard's until that is reaped.
    fn group(&self) -> Pid {
        Pid::from_raw(self.guard.id() as i32)
    }

    /// Kills and reaps everything.
    fn end(&mut self) {
        if self.over {
            return;
        }
        // The guard is not reaped: the group is there, and ours.
        let _ = group::signal(self.group(), SIGKILL);
        let _ = self.child.wait();
        // The others are not this process's children; a killed one still takes a moment to go.
        wait_until(Instant::now() + TO_END, || {
            self.processes().map_or(true, |left| left.is_empty())
        });
        let _ = self.guard.wait();
        // Its last words are in the pipes still.
        let words = self.said.lock();
        let talks = |words: &mut Words| words.talks > 0;
        drop(self.said.changed.wait_timeout_while(words, TO_HEAR, talks));
        self.over = true;
    }

    /// Reads a pipe to its end, so that the server is never held up, whatever it writes.
    fn hear(&self, mut pipe: impl Read + Send + 'static, is_out: bool) -> io::Result<()> {
        let (said, voice) = (self.said.clone(), self.voice.clone());
        let listen = move || {
            let mut lines = Lines::default();
            let mut buffer = vec![0; LONGEST_LINE];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => {
                        lines.take(&buffer[..length], |line| said.hear(line, is_out, &voice));
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            lines.rest(|line| said.hear(line, is_out, &voice));
            let mut words = said.lock();
            words.talks -= 1;
            words.open &= !is_out;
            drop(words);
            said.changed.notify_all();
        };
        thread::Builder::new()
            .name("server's words".to_owned())
            .spawn(listen)
            .map(drop)
    }

    /// Why it will never listen.
    fn will_not(&mut self) -> io::Error {
        wait_until(Instant::now() + TO_END, || {
            !matches!(self.try_wait(), Ok(None)) && self.said.lock().talks == 0
        });
        let what = match self.try_wait() {
            Ok(Some(status)) => format!("it ended before it listened ({status})"),
            _ => "it closed its stdout without a line `listening on URL`".to_owned(),
        };
        io::Error::new(ErrorKind::UnexpectedEof, what + &self.last_words())
    }

    /// The error for one that did not listen within `patience`.
    pub(crate) fn too_slow(&self, patience: Duration) -> io::Error {
        let what = format!("no line `listening on URL` on its stdout within {patience:?}");
        io::Error::new(ErrorKind::TimedOut, what + &self.last_words())
    }

    /// When the process was started; who guards it was there before.
    #[cfg_attr(
        not(feature = "compare"),
        allow(dead_code, reason = "the comparison alone asks")
    )]
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Its last lines, to be put behind an error's words; nothing where it speaks aloud.
    pub(crate) fn last_words(&self) -> String {
        // Who could hear them has.
        let words = match self.voice {
            Voice::Aloud(_) => return String::new(),
            Voice::Quiet => self.said.lock(),
        };
        let lines = words.last.iter().map(|line| line.as_str());
        match lines.collect::<Vec<_>>().join(" / ") {
            none if none.is_empty() => none,
            some => format!(": {some}"),
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looks again and again, since none of these ends wakes anybody: at first often, then less so.
fn wait_until(deadline: Instant, mut done: impl FnMut() -> bool) {
    let mut pause = Duration::from_millis(1);
    while !done() && Instant::now() < deadline {
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// The first of a new group: who ends it when this process is gone. It is ready.
fn guard() -> io::Result<Child> {
    let guard = shell(GUARD)
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("sh: {error}"));
    let mut guard = guard.map_err(failed)?;
    let ready = guard.stdout.take().map(|mut out| out.read_exact(&mut [0]));
    match ready {
        Some(Err(error)) => {
            let _ = guard.kill();
            let _ = guard.wait();
            Err(failed(error))
        }
        _ => Ok(guard),
    }
}

/// What a server has said, for those who wait for it.
#[derive(Debug, Default)]
struct Said {
    words: Mutex<Words>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Words {
    urls: Vec<String>,
    last: VecDeque<String>,
    /// Whether more may come on stdout.
    open: bool,
    /// How many of stdout and stderr have not ended.
    talks: u32,
}

impl Words {
    /// Whether an address that can be asked is among them: no path of a socket.
    fn has_url(&self) -> bool {
        self.urls.iter().any(|url| url.contains("://"))
    }
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, Words> {
        // Nothing that could panic happens under the lock.
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line.
    fn hear(&self, line: &[u8], is_out: bool, voice: &Voice) {
        if let Some(url) = url(line).filter(|_| is_out) {
            let mut words = self.lock();
            if words.urls.len() < MOST_URLS {
                words.urls.push(url);
            }
            self.changed.notify_all();
            return;
        }
        match voice {
            Voice::Aloud(sink) => sink(line),
            Voice::Quiet => {
                let mut words = self.lock();
                if words.last.len() == LAST_LINES {
                    words.last.pop_front();
                }
                let line = String::from_utf8_lossy(line);
                words.last.push_back(line.trim().to_owned());
            }
        }
    }
}

/// The address in a line that says where a server listens; other servers put words before these, marks
/// around the address, or colours on it.
fn url(line: &[u8]) -> Option<String> {
    let line = uncoloured(str::from_utf8(line).ok()?);
    let (_, rest) = line.split_once("istening on ")?;
    let word = rest.split_whitespace().next()?;
    let word = word
        .trim_start_matches(['"', '\'', '`', '<', '('])
        .trim_end_matches(['"', '\'', '`', '>', ')', '.', ',', ';', '!']);
    let is_url = word.contains("://") || word.starts_with("unix:");
    is_url.then(|| word.to_owned())
}

/// A line without what a terminal takes for colours (ECMA-48 section 5.4).
fn uncoloured(line: &str) -> String {
    let mut pieces = line.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c| ('@'..='~').contains(&c));
        plain += end.map_or("", |end| &piece[end + 1..]);
    }
    plain
}

/// Bytes as lines, however they come, in bounded memory.
#[derive(Debug, Default)]
struct Lines {
    /// Of the line that is not whole.
    begun: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (piece, whole) = match piece.split_last() {
                Some((b'\n', piece)) => (piece, true),
                _ => (piece, false),
            };
            let room = LONGEST_LINE - self.begun.len();
            self.begun
                .extend_from_slice(&piece[..piece.len().min(room)]);
            if whole {
                each(&self.begun);
                self.begun.clear();
            }
        }
    }

    /// What came after the last end of a line.
    fn rest(self, mut each: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            each(&self.begun);
        }
    }
}

#[cfg(test)]
mod tests;
