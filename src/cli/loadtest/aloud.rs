//! Stderr while a server is measured: the server's words and the bar, written by one thread.
//!
//! Whoever reads stderr may have stopped, as a terminal does after Ctrl-S. Then this thread waits; the
//! server, the measurement and the end of the command do not. What is shown is left to whoever says it.

use crate::spawn::Sink;
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most lines that wait to be written, each of which is bounded itself.
const MOST_LINES: usize = 1000;

/// How long what waits may take to be written when nothing more comes.
const TO_END: Duration = Duration::from_secs(1);

/// What writes to stderr. Dropped, it has what waits written, for as long as somebody reads.
#[derive(Debug)]
pub(super) struct Aloud(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Lines that found no room.
    left_out: u64,
    bar: Look,
    over: bool,
    written: bool,
}

/// What becomes of the bar next: only the latest counts.
#[derive(Debug, Default)]
enum Look {
    #[default]
    AsItIs,
    Shows(String, u64),
    Gone,
}

impl Aloud {
    /// A thread that writes, and draws `bar` below what it writes. It blocks the signals that this one does.
    ///
    /// # Errors
    ///
    /// When there is no room for a thread.
    pub(super) fn start(bar: Option<ProgressBar>) -> io::Result<Self> {
        Self::to(io::stderr(), bar)
    }

    fn to(out: impl Write + Send + 'static, bar: Option<ProgressBar>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(move || theirs.write(out, bar))?;
        Ok(Self(shared))
    }

    /// For the lines of a server.
    pub(super) fn sink(&self) -> Sink {
        let shared = self.0.clone();
        Arc::new(move |line: &[u8]| {
            let mut waiting = shared.lock();
            match waiting.lines.len() < MOST_LINES {
                true => waiting.lines.push_back(line.to_vec()),
                false => waiting.left_out += 1,
            }
            drop(waiting);
            shared.changed.notify_all();
        })
    }

    /// Draws the bar.
    pub(super) fn show(&self, words: String, position: u64) {
        self.look(Look::Shows(words, position));
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.look(Look::Gone);
    }

    fn look(&self, look: Look) {
        self.0.lock().bar = look;
        self.0.changed.notify_all();
    }

    /// Has what waits written, within `at_most`.
    fn end(&self, at_most: Duration) {
        let mut waiting = self.0.lock();
        waiting.over = true;
        self.0.changed.notify_all();
        let waits = |waiting: &mut Waiting| !waiting.written;
        drop(self.0.changed.wait_timeout_while(waiting, at_most, waits));
    }
}

impl Drop for Aloud {
    fn drop(&mut self) {
        self.end(TO_END);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that could panic happens under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes until nothing more does.
    fn write(&self, mut out: impl Write, mut bar: Option<ProgressBar>) {
        let mut is_drawn = false;
        loop {
            let waits = |waiting: &mut Waiting| {
                waiting.lines.is_empty() && matches!(waiting.bar, Look::AsItIs) && !waiting.over
            };
            let waiting = self.changed.wait_while(self.lock(), waits);
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut waiting.lines);
            let left_out = std::mem::take(&mut waiting.left_out);
            let look = std::mem::take(&mut waiting.bar);
            let over = waiting.over;
            drop(waiting);

            if let (Look::Gone, Some(bar)) = (&look, &bar) {
                bar.finish_and_clear();
            }
            if matches!(look, Look::Gone) {
                bar = None;
            }
            if !lines.is_empty() {
                let text = text(&lines, left_out);
                // Where nobody can read it, nobody misses it.
                let mut write = || drop(out.write_all(&text).and_then(|()| out.flush()));
                match &bar {
                    Some(bar) if is_drawn => bar.suspend(write),
                    _ => write(),
                }
            }
            if let (Look::Shows(words, position), Some(bar)) = (look, &bar) {
                is_drawn = true;
                bar.set_message(words);
                bar.set_position(position);
            }
            if over {
                self.lock().written = true;
                self.changed.notify_all();
                return;
            }
        }
    }
}

/// Lines, and how many are missing behind them.
fn text(lines: &VecDeque<Vec<u8>>, left_out: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    if left_out > 0 {
        text.extend_from_slice(format!("mcluster: {left_out} lines left out\n").as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Instant;

    /// What nobody reads until they are told to.
    struct Slow {
        may: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the other end is gone, everything is read.
            let _ = self.may.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Aloud, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (go, may) = mpsc::channel();
        let written = Arc::default();
        let out = Slow {
            may,
            written: Arc::clone(&written),
        };
        (Aloud::to(out, None).unwrap(), go, written)
    }

    #[test]
    fn lines_in_their_order() {
        let (aloud, go, written) = slow();
        drop(go);
        let sink = aloud.sink();
        sink(b"one");
        aloud.show("no bar, no matter".to_owned(), 1);
        sink(b"");
        aloud.clear();
        sink(b"two");
        drop(aloud);
        assert_eq!(*written.lock().unwrap(), b"one\n\ntwo\n");
    }

    #[test]
    fn who_does_not_read_holds_nobody_up() {
        let (aloud, go, written) = slow();
        let sink = aloud.sink();
        sink(b"first");
        let much = 10 * MOST_LINES;
        (0..much).for_each(|_| sink(b"more"));
        let start = Instant::now();
        aloud.end(Duration::from_millis(10));
        assert!(start.elapsed() < Duration::from_secs(60));
        assert!(written.lock().unwrap().is_empty());
        drop(go);
        drop(aloud);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| ["first", "more"].contains(line));
        let lines = lines.count();
        let left_out: usize = text
            .lines()
            .filter_map(|line| line.strip_prefix("mcluster: ")?.split(' ').next())
            .map(|number| number.parse::<usize>().unwrap())
            .sum();
        assert_eq!(lines + left_out, 1 + much, "{text}");
        assert!(lines <= 2 * MOST_LINES + 1, "{lines}");
    }
}
