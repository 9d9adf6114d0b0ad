//! What a running program says, for the tests of the command and for those of the library.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes that works, on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What carries the workers of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Processes,
    Threads,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Threads => "threads",
        }
    }
}

/// What came out of a pipe, and whether that is all.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

/// What came out of a pipe, line by line, read by a thread of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<(Mutex<Said>, Condvar)>);

impl Lines {
    /// Reads a pipe to its end.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let told = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                told.0.0.lock().unwrap().lines.push(line);
                told.0.1.notify_all();
            }
            told.0.0.lock().unwrap().ended = true;
            told.0.1.notify_all();
        });
        lines
    }

    /// All that has come so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Waits until `found` makes something of what has come so far; it is also told whether that
    /// is all.
    #[track_caller]
    pub(crate) fn until<T>(
        &self,
        what: &str,
        mut found: impl FnMut(&[String], bool) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        let (said, changed) = &*self.0;
        let mut said = said.lock().unwrap();
        loop {
            if let Some(it) = found(&said.lines, said.ended) {
                return it;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            if said.ended || left.is_zero() {
                let all = said.lines.join("\n");
                drop(said);
                panic!("waited in vain for {what}; it said:\n{all}\n");
            }
            said = changed.wait_timeout(said, left).unwrap().0;
        }
    }
}
