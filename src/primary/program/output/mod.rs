//! What workers write to stdout and stderr.
//!
//! Owns both pipes of each worker, from which `split` makes lines; what stands before each
//! (`style`); where they go (`settings`, `sink`, `rotation`); and what is told of them to those who
//! ask (`recent`, `follow`). Lines go on as they are: a program's colours are kept, and so is what
//! else it says to a terminal, as by docker and PM2.
//!
//! A worker is read at most so much of in a turn, so one that floods waits in its own pipe. Where
//! lines go to somebody who does not read, those whose lines they are wait for a moment, then lines
//! are lost; so the primary grows by none of them, and no worker stands still for long.

mod follow;
mod left;
mod recent;
mod rotation;
mod settings;
mod sink;
mod split;
mod style;

pub(in crate::primary) use follow::Wish;
pub(super) use left::Lasting;
pub(in crate::primary) use settings::Wanted;
pub(super) use split::Lines as Partial;

use super::super::members::Members;
use super::super::{Cluster, Error, Primary, Result};
use crate::net::token::{NOTICES, OUTPUT};
use crate::net::{Ready, deregister, register_reader};
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::privilege::Identity;
use crate::sys::socket;
use crate::worker::WorkerId;
use follow::Follower;
use recent::Recent;
use sink::Sink;
use split::Lines;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};
use style::Style;

/// Of one stream so much is read in a turn.
const READ_BYTES: usize = 32 * 1024;

/// What is read of a stream whose worker has ended: more than a pipe holds by itself, and bounded,
/// since somebody else may still write there.
const LAST_READS: usize = 8;

/// So many lines of a worker are looked at for why it has ended.
const LAST_LINES: usize = 40;

/// How long the last lines may take to get out when the primary ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One stream of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    worker: WorkerId,
    /// 0 for stdout, 1 for stderr.
    stream: usize,
}

impl Source {
    fn token(self) -> usize {
        OUTPUT + 2 * self.worker.0 as usize + self.stream
    }

    fn of(token: usize) -> Self {
        Self {
            worker: WorkerId(((token - OUTPUT) / 2) as u32),
            stream: (token - OUTPUT) % 2,
        }
    }
}

/// Whether an event with this token is of what a worker writes.
pub(in crate::primary) fn is_output(token: usize) -> bool {
    (OUTPUT..NOTICES).contains(&token)
}

/// Lines of workers, on their way.
#[derive(Debug)]
pub(in crate::primary) struct Output {
    style: Style,
    sinks: Vec<Sink>,
    /// Which of them stdout and stderr go to.
    to: [usize; 2],
    lines: SortedMap<Source, Lines>,
    /// Those that are not read, because somebody else has to read first.
    held: SortedSet<Source>,
    recent: Recent,
    followers: Vec<Follower>,
    /// Whom workers become, for files that are opened later.
    workers: Option<Identity>,
}

impl Output {
    fn open(wanted: &Wanted, workers: Option<&Identity>) -> Result<Self> {
        wanted.check().map_err(Error::Settings)?;
        let (mut sinks, mut to) = (Vec::<Sink>::new(), [0; 2]);
        for (to, path) in to.iter_mut().zip(&wanted.paths) {
            let sink = match path {
                None => Sink::stderr().map_err(Error::io("stderr"))?,
                Some(path) => {
                    let sink = Sink::open(path, wanted.rotation, workers);
                    let named = |error: std::io::Error| {
                        let what = format!("{}: {error}", path.display());
                        std::io::Error::new(error.kind(), what)
                    };
                    let sink = sink.map_err(named);
                    sink.map_err(Error::io("opening the log of workers"))?
                }
            };
            *to = sinks
                .iter()
                .position(|one| one.is(&sink))
                .unwrap_or_else(|| {
                    sinks.push(sink);
                    sinks.len() - 1
                });
        }
        Ok(Self {
            style: Style {
                time: wanted.log_time,
                prefix: !wanted.no_prefix,
            },
            sinks,
            to,
            lines: SortedMap::new(),
            held: SortedSet::new(),
            recent: Recent::default(),
            followers: Vec::new(),
            workers: workers.cloned(),
        })
    }

    pub(in crate::primary) fn deadline(&self) -> Option<Instant> {
        self.sinks.iter().filter_map(Sink::deadline).min()
    }

    fn is_stuck(&self, source: Source) -> bool {
        self.sinks[self.to[source.stream]].is_stuck()
    }

    /// Passes on the lines that `bytes` complete; all that there are, when nothing more comes.
    fn take(&mut self, source: Source, bytes: &[u8], ended: bool, now: Instant) {
        let time = SystemTime::now();
        let before = self.style.before(source.worker, time);
        let named = Style {
            prefix: true,
            ..self.style
        };
        let named = named.before(source.worker, time);
        let (mut batch, mut plain) = (Vec::new(), Vec::new());
        let differ = before != named;
        let mut each = |line: &[u8]| {
            style::add(&mut batch, &named, line);
            if differ {
                style::add(&mut plain, &before, line);
            }
        };
        let lines = self.lines.get_or_default(source);
        lines.feed(bytes, &mut each);
        if ended {
            lines.end(&mut each);
            self.lines.remove(&source);
        }
        if batch.is_empty() {
            return;
        }
        self.recent.add(source.worker, &batch);
        self.tell_followers(source.worker, &batch);
        let written = if differ { &plain } else { &batch };
        self.sinks[self.to[source.stream]].write(written, self.workers.as_ref(), now);
    }

    /// The last lines of a worker.
    pub(in crate::primary) fn last_of(&self, worker: WorkerId) -> Vec<u8> {
        self.recent.last(LAST_LINES, Some(worker))
    }

    fn tend(&mut self, now: Instant) {
        for sink in &mut self.sinks {
            sink.tend(self.workers.as_ref(), now);
        }
    }

    /// Those that can be read again.
    fn freed(&mut self) -> Vec<Source> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let stuck = |source: &Source| self.is_stuck(*source);
        let (held, free) = self.held.iter().copied().partition::<Vec<_>, _>(stuck);
        self.held = held.into_iter().collect();
        free
    }
}

impl Cluster {
    /// Makes ready for what the workers will write, where they are programs.
    pub(in crate::primary) fn open_output(
        &self,
        workers: Option<&Identity>,
    ) -> Result<Option<Output>> {
        let program = self.program.as_ref();
        let opened = program.map(|program| Output::open(&program.output, workers));
        opened.transpose()
    }
}

impl Primary {
    /// Begins to read what a new worker writes.
    pub(in crate::primary) fn begin_output(&mut self, id: WorkerId) {
        for stream in 0..2 {
            self.register_output(Source { worker: id, stream });
        }
    }

    fn register_output(&mut self, source: Source) {
        let registry = self.reactor.registry();
        if let Some(fd) = stream_of(&self.members, source)
            && let Err(error) = register_reader(registry, fd, source.token())
        {
            log::error!("what worker {} writes is not read: {error}", source.worker);
            // Nobody will read it, so its worker must not wait for that.
            self.forget_output(source);
        }
    }

    /// Something was written, or a stream has ended.
    pub(in crate::primary) fn hear_output(&mut self, ready: Ready) {
        let source = Source::of(ready.token);
        let Some(output) = &mut self.output else {
            return;
        };
        if output.is_stuck(source) {
            if let Some(fd) = stream_of(&self.members, source)
                && output.held.insert(source)
                && let Err(error) = deregister(self.reactor.registry(), fd)
            {
                log::error!("worker {} cannot be kept waiting: {error}", source.worker);
            }
            return;
        }
        self.read_output(source);
    }

    /// Reads once; whether there may be more.
    fn read_output(&mut self, source: Source) -> bool {
        let (Some(output), Some(fd)) = (&mut self.output, stream_of(&self.members, source)) else {
            return false;
        };
        let most = self.buffer.len().min(READ_BYTES);
        let buffer = &mut self.buffer[..most];
        match socket::read(fd.as_fd(), buffer) {
            Ok(0) => {}
            Ok(count) => {
                let now = self.reactor.now();
                output.take(source, &self.buffer[..count], false, now);
                return true;
            }
            Err(error) if socket::would_block(&error) => return false,
            Err(error) => log::error!("what worker {} writes: {error}", source.worker),
        }
        if let Err(error) = deregister(self.reactor.registry(), fd) {
            log::debug!("worker {}: {error}", source.worker);
        }
        self.forget_output(source);
        false
    }

    /// A stream has ended, or nobody is to read on.
    fn forget_output(&mut self, source: Source) {
        if let Some(member) = self.members.get_mut(source.worker)
            && let Some(child) = &mut member.program
        {
            child.streams[source.stream] = None;
        }
        if let Some(output) = &mut self.output {
            output.take(source, &[], true, self.reactor.now());
            output.held.remove(&source);
        }
    }

    /// Reads what a worker wrote that has ended: its last words say most.
    pub(in crate::primary) fn hear_last_output(&mut self, id: WorkerId) {
        for stream in 0..2 {
            let source = Source { worker: id, stream };
            for _ in 0..LAST_READS {
                if !self.read_output(source) {
                    break;
                }
            }
            let Some(fd) = stream_of(&self.members, source) else {
                continue;
            };
            let held = self
                .output
                .as_ref()
                .is_some_and(|one| one.held.contains(&source));
            if !held && let Err(error) = deregister(self.reactor.registry(), fd) {
                log::debug!("worker {id}: {error}");
            }
            self.forget_output(source);
        }
    }

    /// Writes what could not be written before, and reads on where that was waited for.
    pub(in crate::primary) fn tend_output(&mut self) {
        let Some(output) = &mut self.output else {
            return;
        };
        output.tend(self.reactor.now());
        for source in output.freed() {
            self.register_output(source);
        }
    }

    /// Opens the files again; whether there are any. Lines that go to this process's own log go to the
    /// new one if that was opened again, too.
    pub(in crate::primary) fn reopen_output(&mut self, own_log: bool) -> bool {
        let Some(output) = &mut self.output else {
            return false;
        };
        for sink in output.sinks.iter_mut().filter(|_| own_log) {
            if let Err(error) = sink.follow_log() {
                log::error!("what workers write goes where it did: {error}");
            }
        }
        let files = output.sinks.iter_mut().filter(|sink| sink.has_path());
        files
            .map(|sink| sink.reopen(output.workers.as_ref()))
            .count()
            > 0
    }

    /// The primary ends: what was written goes out, if it does so soon.
    pub(in crate::primary) fn finish_output(&mut self) {
        let Some(output) = &mut self.output else {
            return;
        };
        let end = Instant::now() + LAST_WORDS;
        while output.sinks.iter().any(Sink::is_stuck) {
            let now = Instant::now();
            let Some(at) = output.deadline().filter(|_| now < end) else {
                return;
            };
            std::thread::sleep(at.saturating_duration_since(now));
            output.tend(Instant::now());
        }
    }
}

/// The primary's end of a stream, unless it has ended.
fn stream_of(members: &Members, source: Source) -> Option<&OwnedFd> {
    let child = members.get(source.worker)?.program.as_ref()?;
    child.streams[source.stream].as_ref()
}

/// What the tests of several files need.
#[cfg(test)]
mod testing {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of its own, removed when dropped.
    pub(super) struct TempDir(PathBuf);

    impl TempDir {
        pub(super) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("mcluster-output-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).expect("a fresh directory");
            Self(path)
        }

        pub(super) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::TempDir;
    use super::*;
    use std::fs;

    const FIRST: Source = Source {
        worker: WorkerId(1),
        stream: 0,
    };

    #[test]
    fn tokens_are_nobody_elses() {
        for worker in [1, 2, u32::MAX] {
            for stream in 0..2 {
                let worker = WorkerId(worker);
                let source = Source { worker, stream };
                let token = source.token();
                assert!(is_output(token) && Source::of(token) == source);
                assert!(!crate::primary::peek::is_peeked(token));
                assert!(!crate::primary::control::Console::owns(token));
            }
        }
        assert!(!is_output(crate::net::token::PEEKED) && !is_output(1 << 33));
        assert!(!is_output((1 << 63) + (1 << 33)));
    }

    #[test]
    fn lines_go_where_they_should() {
        let place = TempDir::new();
        let now = Instant::now();
        for (one_file, prefix) in [(true, true), (false, true), (true, false)] {
            let (out, error) = match one_file {
                true => (place.join("both"), place.join("both")),
                false => (place.join("out"), place.join("error")),
            };
            let wanted = Wanted {
                paths: [Some(out.clone()), Some(error.clone())],
                no_prefix: !prefix,
                ..Wanted::default()
            };
            let mut output = Output::open(&wanted, None).unwrap();
            assert_eq!(output.sinks.len(), if one_file { 1 } else { 2 });
            let second = Source {
                worker: WorkerId(2),
                stream: 1,
            };
            output.take(FIRST, b"begun ", false, now);
            output.take(second, b"oh\r\n", false, now);
            output.take(FIRST, b"and ended\nlast", false, now);
            output.take(FIRST, b"", true, now);
            let said = [
                fs::read_to_string(&out).unwrap(),
                fs::read_to_string(&error).unwrap(),
            ];
            let expected = match (one_file, prefix) {
                (true, true) => ["2| oh\n1| begun and ended\n1| last\n"; 2],
                (false, _) => ["1| begun and ended\n1| last\n", "2| oh\n"],
                (true, false) => ["oh\nbegun and ended\nlast\n"; 2],
            };
            assert_eq!(said, expected);
            assert!(output.lines.contains_key(&second) && !output.lines.contains_key(&FIRST));
            // Whoever asks is told whose they are in any case.
            let recent = output.recent.last(usize::MAX, None);
            assert_eq!(recent, b"2| oh\n1| begun and ended\n1| last\n");
            let _ = (fs::remove_file(&out), fs::remove_file(&error));
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let place = TempDir::new();
        let wanted = Wanted {
            paths: [Some(place.join("none/log")), None],
            ..Wanted::default()
        };
        let error = Output::open(&wanted, None).unwrap_err().to_string();
        assert!(error.contains("none/log"), "{error}");
    }
}
