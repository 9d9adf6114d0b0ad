//! One place where lines go: a file, or what this process's stderr or stdout is connected to.
//!
//! Owns that writing holds nobody up for long, and that lines which cannot be written are counted
//! and spoken of in the very place where they are missing. Files are kept within their size by
//! `rotation`.

use super::rotation::Rotating;
use super::settings::Rotation;
use super::style::{count, notice};
use crate::net::Seldom;
use crate::primary::edge;
use crate::sys::lines::{self, Kind, WHOLE_IN_A_PIPE};
use crate::sys::privilege::Identity;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How soon to try again where somebody has to read first, and how long those whose lines they are
/// wait for that: a reader that is only slower loses nothing.
const AGAIN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(1);

/// How soon to try again where lines are lost already.
const AGAIN_LATER: Duration = Duration::from_secs(1);

/// What may wait to be written, beside one batch.
const MOST_BYTES: usize = 256 * 1024;

/// What of it is kept allocated.
const KEPT_BYTES: usize = 16 * 1024;

/// The file that takes all, which is opened as it is.
const NOTHING: &str = "/dev/null";

/// Where lines go.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    kind: Kind,
    /// Of a file, which can be opened again.
    path: Option<PathBuf>,
    rotating: Option<Rotating>,
    /// Not written yet.
    waiting: Vec<u8>,
    /// What was written last ends within a line.
    torn: bool,
    /// Since when nothing could be written, though somebody may yet read.
    stuck_since: Option<Instant>,
    /// Why lines are lost at present.
    failing: Option<String>,
    lost: u64,
    again_at: Option<Instant>,
    saying: Seldom,
}

impl Sink {
    /// This process's stderr.
    pub(super) fn stderr() -> io::Result<Self> {
        Self::on(lines::stderr()?, None, None)
    }

    /// Goes on where this process's log does now, if this is no file of its own: what is written to
    /// stdout and to stderr is one for whoever has such a log.
    ///
    /// # Errors
    ///
    /// As dup(2).
    pub(super) fn follow_log(&mut self) -> io::Result<()> {
        if self.path.is_none() {
            self.file = lines::stderr()?;
            self.kind = lines::kind(&self.file)?;
        }
        Ok(())
    }

    /// The file at `path`, with care where `workers` are somebody else than this process.
    pub(super) fn open(
        path: &Path,
        rotation: Option<Rotation>,
        workers: Option<&Identity>,
    ) -> io::Result<Self> {
        let file = open(path, workers)?;
        let path = (path != edge::STDOUT).then(|| std::path::absolute(path));
        Self::on(file, path.transpose()?, rotation)
    }

    fn on(file: File, path: Option<PathBuf>, rotation: Option<Rotation>) -> io::Result<Self> {
        let kind = lines::kind(&file)?;
        let size = file.metadata()?.len();
        let rotation = rotation.filter(|_| path.is_some() && kind == Kind::File);
        Ok(Self {
            rotating: rotation.map(|rotation| Rotating::new(rotation, size)),
            file,
            kind,
            path,
            waiting: Vec::new(),
            torn: false,
            stuck_since: None,
            failing: None,
            lost: 0,
            again_at: None,
            saying: Seldom::default(),
        })
    }

    /// Whether both are the same file, by whatever names.
    pub(super) fn is(&self, other: &Self) -> bool {
        let number = |sink: &Self| {
            let facts = sink.file.metadata().ok();
            facts.map(|facts| (facts.dev(), facts.ino()))
        };
        let number = (number(self), number(other));
        number.0.is_some() && number.0 == number.1
    }

    /// What waits to be written.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.waiting
    }

    /// Whether those whose lines come here should wait: somebody has to read first.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck_since.is_some()
    }

    /// When to try again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.again_at
    }

    /// Writes the lines of `batch`, as far as they are taken.
    pub(super) fn write(&mut self, batch: &[u8], workers: Option<&Identity>, now: Instant) {
        if let Some(why) = &self.failing {
            // First a word about what is missing; as long as not even that can be written, more is.
            let word = notice(self.lost, why);
            if !self.try_failing(&word, now) {
                self.lost += count(batch);
                return;
            }
        }
        if !self.waiting.is_empty() && self.waiting.len() + batch.len() > MOST_BYTES {
            return self.fail("nobody reads them".to_owned(), count(batch), now);
        }
        self.waiting.extend_from_slice(batch);
        self.flush(workers, now);
    }

    /// Tries again, if it is time.
    pub(super) fn tend(&mut self, workers: Option<&Identity>, now: Instant) {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            match self.failing {
                Some(_) => self.write(&[], workers, now),
                None => self.flush(workers, now),
            }
        }
    }

    /// Whether `word`, a line about the lines before it, is taken.
    fn try_failing(&mut self, word: &[u8], now: Instant) -> bool {
        let start: &[u8] = if self.torn { b"\n" } else { b"" };
        let word = [start, word].concat();
        match lines::write(&self.file, self.kind, &word) {
            Ok(written) if written > 0 => {
                self.note_written(&word[..written]);
                self.waiting.extend_from_slice(&word[written..]);
                if let Some(path) = &self.path {
                    let (lost, path) = (self.lost, path.display());
                    log::warn!("{path} takes lines again; {lost} are lost");
                }
                (self.failing, self.lost) = (None, 0);
                true
            }
            _ => {
                self.again_at.get_or_insert(now + AGAIN_LATER);
                false
            }
        }
    }

    fn note_written(&mut self, bytes: &[u8]) {
        self.torn = bytes.last() != Some(&b'\n');
        if let Some(rotating) = &mut self.rotating {
            rotating.grown(bytes.len());
        }
    }

    fn flush(&mut self, workers: Option<&Identity>, now: Instant) {
        let mut done = 0;
        while done < self.waiting.len() {
            let rest = &self.waiting[done..];
            let most = match (self.kind, &mut self.rotating, &self.path) {
                // What others write there comes between lines, not into them.
                (Kind::Pipe, ..) => WHOLE_IN_A_PIPE,
                (Kind::File, Some(rotating), Some(path)) if !self.torn => {
                    let next = whole_lines(rest, 0).len();
                    if let Some(file) = rotating.make_room(&self.file, path, next, workers) {
                        self.file = file;
                    }
                    rotating.room()
                }
                _ => usize::MAX,
            };
            let piece = whole_lines(rest, most);
            match lines::write(&self.file, self.kind, piece) {
                Ok(0) => {
                    self.lose_the_rest(done, &io::ErrorKind::WriteZero.into(), now);
                    done = 0;
                }
                Ok(written) => {
                    let written = done..done + written;
                    done = written.end;
                    self.torn = self.waiting[done - 1] != b'\n';
                    if let Some(rotating) = &mut self.rotating {
                        rotating.grown(written.len());
                    }
                    self.stuck_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.lose_the_rest(done, &error, now);
                    done = 0;
                }
            }
        }
        self.waiting.drain(..done);
        self.waiting.shrink_to(KEPT_BYTES);
        if self.waiting.is_empty() {
            (self.stuck_since, self.again_at) = (None, None);
            return;
        }
        let since = *self.stuck_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= PATIENCE {
            return self.fail("nobody reads them".to_owned(), 0, now);
        }
        self.again_at = Some(now + AGAIN);
    }

    /// What waits behind `done` cannot be written.
    fn lose_the_rest(&mut self, done: usize, why: &io::Error, now: Instant) {
        self.waiting.drain(..done);
        self.fail(why.to_string(), 0, now);
    }

    /// What waits is lost, and `more` lines with it.
    fn fail(&mut self, why: String, more: u64, now: Instant) {
        self.lost += count(&self.waiting) + more;
        self.waiting = Vec::new();
        self.stuck_since = None;
        self.again_at = Some(now + AGAIN_LATER);
        // Of stderr it cannot be said elsewhere.
        if let Some(path) = &self.path
            && self.saying.is_due(now)
        {
            log::error!("{}: {why}; lines of workers are lost", path.display());
        }
        self.failing = Some(why);
    }

    /// Opens the file again, for whoever has moved it aside; one that cannot be opened leaves all as
    /// it is.
    pub(super) fn reopen(&mut self, workers: Option<&Identity>) {
        let Some(path) = &self.path else {
            return;
        };
        let shown = path.display();
        let opened = open(path, workers).and_then(|file| {
            let (kind, size) = (lines::kind(&file)?, file.metadata()?.len());
            Ok((file, kind, size))
        });
        match opened {
            Ok((file, kind, size)) => {
                (self.file, self.kind, self.torn) = (file, kind, false);
                if let Some(rotating) = &mut self.rotating {
                    rotating.begin(size);
                }
                log::info!("{shown} is open again");
            }
            Err(error) => log::error!("{shown} cannot be opened again: {error}"),
        }
    }

    /// Whether it is a file that can be opened again.
    pub(super) fn has_path(&self) -> bool {
        self.path.is_some()
    }
}

/// Opens a file of lines.
pub(super) fn open(path: &Path, workers: Option<&Identity>) -> io::Result<File> {
    match path == NOTHING {
        true => lines::open(path),
        false => edge::open(path, workers),
    }
}

/// As many whole lines as `most` bytes hold; at least one.
fn whole_lines(lines: &[u8], most: usize) -> &[u8] {
    if lines.len() <= most {
        return lines;
    }
    let end = match memchr::memrchr(b'\n', &lines[..most]) {
        Some(end) => Some(end),
        None => memchr::memchr(b'\n', lines),
    };
    end.map_or(lines, |end| &lines[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primary::program::output::testing::TempDir;
    use std::io::{Read, pipe};
    use std::os::fd::OwnedFd;

    fn piped() -> (io::PipeReader, Sink) {
        let (reader, writer) = pipe().unwrap();
        let sink = Sink::on(File::from(OwnedFd::from(writer)), None, None).unwrap();
        (reader, sink)
    }

    /// A batch of lines of 1000 bytes.
    fn batch(number: usize, lines: usize) -> Vec<u8> {
        format!("{number:999}\n").repeat(lines).into_bytes()
    }

    fn read(reader: &mut io::PipeReader) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let count = reader.read(&mut bytes).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn a_reader_that_is_slower_loses_nothing() {
        let (mut reader, mut sink) = piped();
        let (mut now, mut sent, mut got) = (Instant::now(), Vec::new(), Vec::new());
        for number in 0..100 {
            let lines = batch(number, 30);
            sent.extend_from_slice(&lines);
            sink.write(&lines, None, now);
            while sink.is_stuck() {
                got.extend(read(&mut reader));
                now = sink.deadline().unwrap();
                sink.tend(None, now);
            }
        }
        drop(sink);
        reader.read_to_end(&mut got).unwrap();
        assert!(got == sent);
    }

    #[test]
    fn a_reader_that_stalls_loses_lines_and_is_told_how_many() {
        let (mut reader, mut sink) = piped();
        let begin = Instant::now();
        let mut now = begin;
        let mut sent = 0;
        while !sink.is_stuck() {
            sink.write(&batch(1, 10), None, now);
            sent += 10;
        }
        // Those whose lines they are wait for so long.
        while sink.is_stuck() {
            now = sink.deadline().unwrap();
            sink.tend(None, now);
        }
        assert!(now - begin >= PATIENCE && now - begin < PATIENCE + 2 * AGAIN);
        for _ in 0..1000 {
            sink.write(&batch(2, 10), None, now);
            sent += 10;
            assert!(sink.waiting.is_empty() && !sink.is_stuck());
        }
        let mut got = read(&mut reader);
        assert!(got.ends_with(b"\n"), "no line is torn");
        // When there is room again, that is said by itself.
        now = sink.deadline().unwrap();
        sink.tend(None, now);
        assert_eq!((sink.lost, sink.deadline()), (0, None));
        sink.write(b"more\n", None, now);
        let before = count(&got);
        got.clear();
        drop(sink);
        reader.read_to_end(&mut got).unwrap();
        let lost = sent - before;
        let expected = format!("mcluster: {lost} lines are lost here: nobody reads them\nmore\n");
        assert_eq!(String::from_utf8(got).unwrap(), expected);
    }

    #[test]
    fn a_full_disk_is_tried_again() {
        let place = TempDir::new();
        let path = place.join("log");
        let mut sink = Sink::open(Path::new("/dev/full"), None, None).unwrap();
        let now = Instant::now();
        sink.write(b"1| a\n1| b\n", None, now);
        sink.write(b"1| c\n", None, now);
        assert_eq!(sink.lost, 3);
        assert!(sink.failing.as_deref().unwrap().contains("No space left"));
        assert!(!sink.is_stuck());
        // The disk has room again.
        sink.file = lines::open(&path).unwrap();
        sink.torn = true;
        sink.write(b"1| d\n", None, now);
        let text = std::fs::read_to_string(&path).unwrap();
        let lost = "\nmcluster: 3 lines are lost here: No space left on device";
        assert!(
            text.starts_with(lost) && text.ends_with("\n1| d\n"),
            "{text}"
        );
        assert_eq!((sink.lost, &sink.failing), (0, &None));
    }

    #[test]
    fn nobody_at_the_other_end_is_no_reason_to_wait() {
        let (reader, mut sink) = piped();
        drop(reader);
        sink.write(b"one\n", None, Instant::now());
        assert!(!sink.is_stuck() && sink.lost == 1);
    }

    #[test]
    fn files_are_opened_again_and_known_by_any_name() {
        let place = TempDir::new();
        let (path, moved) = (place.join("log"), place.join("moved"));
        let now = Instant::now();
        let mut sink = Sink::open(&path, None, None).unwrap();
        std::fs::hard_link(&path, place.join("same")).unwrap();
        assert!(sink.is(&Sink::open(&place.join("same"), None, None).unwrap()));
        assert!(!sink.is(&Sink::open(&place.join("other"), None, None).unwrap()));
        sink.write(b"one\n", None, now);
        std::fs::rename(&path, &moved).unwrap();
        sink.write(b"two\n", None, now);
        sink.reopen(None);
        sink.write(b"three\n", None, now);
        assert_eq!(std::fs::read(&moved).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        sink.reopen(None);
        sink.write(b"four\n", None, now);
        assert!(sink.failing.is_none(), "it goes on where it was");
    }

    #[test]
    fn lines_are_kept_whole() {
        let cases: [(&str, usize, &str); 5] = [
            ("a\nb\nc\n", 100, "a\nb\nc\n"),
            ("a\nb\nc\n", 5, "a\nb\n"),
            ("a\nb\nc\n", 0, "a\n"),
            ("abc\nd\n", 2, "abc\n"),
            ("abc", 2, "abc"),
        ];
        for (text, most, expected) in cases {
            let found = whole_lines(text.as_bytes(), most);
            assert_eq!(found, expected.as_bytes(), "{text:?} {most}");
        }
    }
}
