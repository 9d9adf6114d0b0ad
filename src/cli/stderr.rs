//! The log on stderr, which holds nobody up for long.
//!
//! Owns that a line goes out whole where that can be, and that those which nobody takes are counted
//! and spoken of. What a line looks like is env_logger's.

use crate::sys::lines::{self, Kind, WHOLE_IN_A_PIPE};
use crate::sys::process::{self, Pid};
use env_logger::{Builder, Env, Target, WriteStyle};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What is logged where nobody says so.
const USUAL: &str = "info";

/// How long a line waits for whoever reads, where the one before did not wait in vain.
const PATIENCE: Duration = Duration::from_millis(100);

/// The descriptor that lines go to, where that is one of its own.
static OWN: OnceLock<RawFd> = OnceLock::new();

/// The number of the descriptor that the log is written to, if it is not stderr's: for a forked process
/// that closes whatever else it has.
pub(super) fn descriptor() -> Option<RawFd> {
    OWN.get().copied()
}

/// Begins the log of a command that comes to its end by itself.
pub(super) fn start() {
    // A second start only happens to a program that has a log already; then that one is right.
    let _ = builder().try_init();
}

/// Begins the log of a cluster: it goes on where nobody reads it.
pub(super) fn start_of_cluster() {
    let mut log = builder();
    match Unblocking::stderr() {
        Ok(Some(stderr)) => {
            let style = env_logger::DEFAULT_WRITE_STYLE_ENV;
            let said = std::env::var(style).is_ok_and(|said| said == "always" || said == "never");
            if !said {
                log.write_style(style_of_stderr());
            }
            let _ = OWN.set(stderr.file.as_raw_fd());
            log.target(Target::Pipe(Box::new(stderr)));
        }
        // A file takes what it is given, and has a place that others who write to it share.
        Ok(None) => {}
        Err(_) => {
            // There is no stderr, and nobody to tell.
        }
    }
    let _ = log.try_init();
}

fn builder() -> Builder {
    let mut log = Builder::from_env(Env::default().default_filter_or(USUAL));
    // To env_logger it would mean errors alone; here what is empty is not set.
    if std::env::var_os(env_logger::DEFAULT_FILTER_ENV).is_some_and(|words| words.is_empty()) {
        log.parse_filters(USUAL);
    }
    // What it finds is said here, in other words.
    log.filter_module("notify", log::LevelFilter::Off);
    log.format_target(false);
    log
}

/// As env_logger would find it, if it knew what it writes to.
fn style_of_stderr() -> WriteStyle {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
    match io::stderr().is_terminal() && !is_dumb && !is_set("NO_COLOR") {
        true => WriteStyle::Always,
        false => WriteStyle::Never,
    }
}

/// What takes lines, or does not.
#[derive(Debug)]
struct Unblocking {
    file: File,
    kind: Kind,
    patience: Duration,
    /// The process that this is of: a child of it has the same lines before it.
    pid: Pid,
    /// What has yet to be written of a line whose beginning is out.
    rest: Vec<u8>,
    lost: u64,
    /// The last line waited in vain.
    stuck: bool,
}

impl Unblocking {
    /// Stderr, if it is anything that may hold its writers up.
    fn stderr() -> io::Result<Option<Self>> {
        let file = lines::stderr()?;
        let kind = lines::kind(&file)?;
        Ok((kind != Kind::File).then(|| Self::of(file, kind, PATIENCE)))
    }

    fn of(file: File, kind: Kind, patience: Duration) -> Self {
        Self {
            file,
            kind,
            patience,
            pid: process::pid(),
            rest: Vec::new(),
            lost: 0,
            stuck: false,
        }
    }

    /// Writes a line; one that cannot be begun is lost.
    fn line(&mut self, line: &[u8]) {
        let pid = process::pid();
        if std::mem::replace(&mut self.pid, pid) != pid {
            // Its parent writes what is left, and speaks of what was lost.
            self.rest.clear();
            self.lost = 0;
        }
        let until = Instant::now() + self.patience;
        let rest = std::mem::take(&mut self.rest);
        if self.begin(&rest, until) == 0 {
            self.rest = rest;
        }
        if self.rest.is_empty() && self.lost > 0 {
            let word = format!(
                "mcluster: {} lines of the log are lost: nobody read them\n",
                self.lost
            );
            if self.begin(word.as_bytes(), until) > 0 {
                self.lost = 0;
            }
        }
        if !self.rest.is_empty() || self.lost > 0 || self.begin(line, until) == 0 {
            self.lost += 1;
        }
    }

    /// Writes as much of `bytes` as is taken, and keeps the rest if that is the beginning; how much it
    /// was.
    fn begin(&mut self, bytes: &[u8], until: Instant) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let piece = &bytes[taken..];
            // More at once might wait, where writing is not set to do otherwise.
            let piece = match self.kind {
                Kind::Pipe => &piece[..piece.len().min(WHOLE_IN_A_PIPE)],
                Kind::File | Kind::Socket => piece,
            };
            match lines::write(&self.file, self.kind, piece) {
                Ok(count) => {
                    taken += count;
                    self.stuck = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.stuck => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.stuck = !lines::wait_for_room(&self.file, left).unwrap_or(false);
                }
                Err(_) => break,
            }
        }
        if taken > 0 {
            self.rest = bytes[taken..].to_vec();
        }
        taken
    }
}

impl Write for Unblocking {
    /// Takes all, whatever becomes of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, PipeReader, Read};
    use std::os::fd::OwnedFd;

    fn pipe() -> (PipeReader, Unblocking) {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        (reader, Unblocking::of(file, Kind::Pipe, Duration::ZERO))
    }

    #[test]
    fn lines_that_nobody_reads_are_lost_and_counted() {
        let (reader, mut log) = pipe();
        let long = [vec![b'x'; 2 * WHOLE_IN_A_PIPE], b"\n".to_vec()].concat();
        let mut written = 0;
        while log.lost < 3 {
            log.write_all(&long).unwrap();
            written += 1;
        }
        assert!(!log.rest.is_empty() && log.stuck);
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        let whole = written - 3;
        for number in 0..whole {
            line.clear();
            if number + 1 == whole {
                // Where it was cut it goes on.
                log.write_all(b"after\n").unwrap();
            }
            reader.read_until(b'\n', &mut line).unwrap();
            assert_eq!(line.len(), long.len(), "line {number} of {whole}");
        }
        drop(log);
        let mut end = String::new();
        reader.read_to_string(&mut end).unwrap();
        assert!(
            end.starts_with("mcluster: 3 lines") && end.ends_with("\nafter\n"),
            "{end}"
        );
    }

    #[test]
    fn one_that_reads_slowly_loses_nothing() {
        let (mut reader, mut log) = pipe();
        log.patience = Duration::from_secs(60);
        let slow = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let line = [vec![b'x'; 3000], b"\n".to_vec()].concat();
        for _ in 0..200 {
            log.write_all(&line).unwrap();
        }
        assert_eq!(log.lost, 0);
        drop(log);
        assert_eq!(slow.join().unwrap().unwrap(), line.repeat(200));
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        let (reader, mut log) = pipe();
        drop(reader);
        log.write_all(b"x\n").unwrap();
        assert_eq!(log.lost, 1);
    }

    #[test]
    fn a_child_says_nothing_of_what_its_parent_began() {
        let (mut reader, mut log) = pipe();
        log.rest = b"the end of a line\n".to_vec();
        log.lost = 7;
        log.pid = Pid::from_raw(log.pid.as_raw() + 1);
        log.write_all(b"own\n").unwrap();
        drop(log);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "own\n");
    }
}
