//! Sessions in one file that all workers of a machine share, by LMDB.

mod entry;
mod files;
mod opened;
mod probe;

use super::{Record, SessionId, SessionStore, StoreError};
use crate::sys::{exec, lmdb};
use entry::millis;
use files::Files;
use heed::{Error, MdbError};
use opened::{Failure, Opened, said, strange};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// What the file may grow to, unless said otherwise: its length, though most of it is a hole.
const MAP_BYTES: usize = 256 << 20;

/// Maps are multiples of it, which is one of every page's size.
const MAP_STEP: usize = 1 << 20;

/// What one transaction of a sweep forgets, so that no request waits for long.
const BATCH: usize = 1000;

/// How long a process believes that the files it has open are still those at the path.
const BELIEVED: Duration = Duration::from_secs(1);

/// How long a call waits until others have let go of what was mapped too small.
const CLOSING: Duration = Duration::from_secs(1);

/// Sessions in one file, for all workers of a machine: the embedded default.
///
/// All processes that open the file see each other's changes at once. They take turns in writing, each for
/// microseconds; who reads waits for nobody. The death of a process, at any moment and by any signal, loses
/// nothing that was confirmed and breaks nothing. A machine that loses its power may lose the changes since
/// the last [`sweep`](SessionStore::sweep), a minute in a cluster, and in the worst case the file, since nothing
/// waits for the disk: then remove it, with its locks, before the cluster starts. Where sessions need not outlive the machine's run put the file on a tmpfs, such
/// as the runtime directory: then no disk is written at all.
///
/// The file is for its owner alone (mode 0600), with its locks in `PATH-lock` beside it; do not put it on a network's
/// file system, and remove or replace neither while a cluster runs. Where that has happened every call is
/// [`StoreError::Broken`], within a second, until the cluster is started anew: otherwise half of its workers would
/// keep another file than the rest. Only workers that make the file themselves ([`at`](Self::at)) cannot all
/// tell: one that is new takes what is at the path for the file. A process that is stopped in the middle of a
/// change (SIGSTOP) holds up the others until it goes on.
///
/// In processes mode the primary must not read or write sessions before the cluster runs: what it has open its
/// workers inherit, and can neither use nor open again.
///
/// # Examples
///
/// ```no_run
/// use mcluster::session::{Keys, Sessions, SharedStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = SharedStore::open("/var/lib/shop/sessions")?;
/// let keys = Keys::from_file_or_new("/var/lib/shop/sessions.key")?;
/// let sessions = Sessions::new(store, keys);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SharedStore {
    path: PathBuf,
    map_bytes: usize,
    /// Which files these are, as they were found first; workers have it from their primary.
    files: OnceLock<Files>,
    held: Mutex<Option<Held>>,
}

/// What a process has open.
#[derive(Debug)]
struct Held {
    /// Whose it is. What came by a fork is neither used nor closed.
    pid: u32,
    opened: Arc<Opened>,
    /// When the files at the path were last seen to be these.
    seen: Instant,
}

impl SharedStore {
    /// The store in that file, of which a process has one: to use it several times clone its
    /// [`Sessions`](super::Sessions). The file is made where there is none: opened, looked at, and closed again, so that each worker opens it
    /// for itself. Where this process has one thread, as a primary in processes mode has, a child looks through all
    /// of it before, for 5 s at most: LMDB ends a process that comes upon a damaged page.
    ///
    /// # Errors
    ///
    /// [`StoreError::Broken`] when the file is another program's, cut off or damaged,
    /// [`StoreError::Unavailable`] when it cannot be opened for reading and writing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let store = Self::at(path);
        if exec::takes_over() {
            // Its trial has just been through this, and there is no way back: workers will say.
            return Ok(store);
        }
        probe::look_through(&store.path)?;
        // No larger than it is: what it may grow to has not been said yet.
        let opened = Opened::open(&store.path, MAP_STEP)?;
        // A child must not find it open.
        let closing = opened.close();
        drop(opened);
        closing.wait();
        // Nobody else has this store yet, so it is not set.
        let _ = store.files.set(Files::at(&store.path)?);
        Ok(store)
    }

    /// The store in that file, which is opened and made where it is first used: for a primary whose
    /// workers become another user ([`Cluster::user`](crate::Cluster::user)), who must be able to write to the file's
    /// directory. What is wrong with it is then said to the first request.
    pub fn at(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Self {
            // A worker may go elsewhere before it opens it.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            map_bytes: MAP_BYTES,
            files: OnceLock::new(),
            held: Mutex::new(None),
        }
    }

    /// What the file may grow to, in bytes; 256 MiB unless said otherwise, 1 MiB at least. An eighth of it is for
    /// changes under way: beyond the rest a new session or a larger one is [`StoreError::Full`].
    #[must_use]
    pub fn map_size(mut self, bytes: usize) -> Self {
        let steps = bytes.div_ceil(MAP_STEP).max(1);
        self.map_bytes = steps.saturating_mul(MAP_STEP);
        self
    }

    /// Whether the file, if it is there, looks like one of these; changes nothing.
    ///
    /// # Errors
    ///
    /// As [`SharedStore::open`], as far as can be told.
    pub(crate) fn judge(path: &Path) -> Result<(), StoreError> {
        let looked = std::fs::metadata(path).and_then(|about| match about.is_file() {
            true => lmdb::judge(&mut File::open(path)?),
            false => Err(strange("it is no file")),
        });
        match looked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            looked => looked.map_err(|error| said(path, &Error::Io(error))),
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error when the files at the path are no longer those that this store has.
    fn look(&self) -> Result<(), StoreError> {
        match self.files.get() {
            Some(files) => files.are_at(&self.path),
            None => Ok(()),
        }
    }

    fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        let own = std::process::id();
        let mut state = self.held();
        if let Some(held) = state.as_mut().filter(|held| held.pid == own) {
            if held.seen.elapsed() >= BELIEVED {
                self.look()?;
                held.seen = Instant::now();
            }
            return Ok(Arc::clone(&held.opened));
        }
        if let Some(inherited) = state.take() {
            // Its locks are the parent's: closing it would give them up.
            let _ = ManuallyDrop::new(inherited);
        }
        // Before, so that none is made in place of one that was removed; and behind.
        self.look()?;
        let opened = Arc::new(Opened::open(&self.path, self.map_bytes)?);
        let found = Files::at(&self.path)?;
        self.files.get_or_init(|| found);
        self.look()?;
        *state = Some(Held {
            pid: own,
            opened: Arc::clone(&opened),
            seen: Instant::now(),
        });
        Ok(opened)
    }

    /// Closes what is open, if it is that still, so that the next call opens it anew.
    fn give_up(&self, stale: *const Opened) {
        let mut state = self.held();
        let held = state.take_if(|held| Arc::as_ptr(&held.opened) == stale);
        let Some(held) = held else {
            return;
        };
        // Whoever else is in a call lets go without asking for what is held here.
        let closing = held.opened.close();
        drop(held);
        closing.wait_timeout(CLOSING);
    }

    /// Does it, once more where the table of readers was full of dead ones, or where another process has
    /// made the file longer than what is mapped.
    fn with<T>(&self, act: impl Fn(&Opened) -> Result<T, Failure>) -> Result<T, StoreError> {
        let opened = self.opened()?;
        let mut outcome = act(&opened);
        if let Err(Failure::Lmdb(Error::Mdb(MdbError::ReadersFull))) = outcome {
            let cleared = opened.env.clear_stale_readers();
            outcome = cleared.map_err(Failure::from).and_then(|_| act(&opened));
        }
        let stale = Arc::as_ptr(&opened);
        drop(opened);
        match outcome {
            // Said before anything was done.
            Err(Failure::Lmdb(Error::Mdb(MdbError::MapResized))) => {
                self.give_up(stale);
                outcome = act(&*self.opened()?);
            }
            Err(Failure::Lmdb(Error::Mdb(MdbError::Panic))) => self.give_up(stale),
            _ => {}
        }
        outcome.map_err(|failure| match failure {
            Failure::Store(error) => error,
            Failure::Lmdb(error) => said(&self.path, &error),
        })
    }

    /// Forgets up to a batch of what has ended by `now`. Sessions lie anywhere, so a batch may change as many pages as it
    /// has sessions, and all of them are copied: where there is no room for so many it is made smaller.
    fn forget(&self, now: u64, batch: &mut usize) -> Result<usize, StoreError> {
        loop {
            match self.with(|opened| opened.sweep(now, *batch)) {
                Err(StoreError::Full) if *batch > 1 => {
                    *batch /= 2;
                    self.with(Opened::settle)?;
                }
                other => return other,
            }
        }
    }
}

impl SessionStore for SharedStore {
    fn get(&self, id: &SessionId) -> Result<Option<(Record, u64)>, StoreError> {
        self.with(|opened| opened.get(id.as_bytes()))
    }

    fn put(
        &self,
        id: &SessionId,
        record: &Record,
        expected: Option<u64>,
    ) -> Result<u64, StoreError> {
        let put = || self.with(|opened| opened.put(id.as_bytes(), record, expected));
        match put() {
            Err(StoreError::Full) => {
                let now = millis(SystemTime::now());
                match self.forget(now, &mut { BATCH }) {
                    Ok(0) | Err(_) => Err(StoreError::Full),
                    Ok(_) => {
                        self.with(Opened::settle)?;
                        put()
                    }
                }
            }
            other => other,
        }
    }

    fn remove(&self, id: &SessionId) -> Result<(), StoreError> {
        self.with(|opened| opened.remove(id.as_bytes()))
    }

    fn touch(&self, id: &SessionId, expires: SystemTime) -> Result<bool, StoreError> {
        self.with(|opened| opened.touch(id.as_bytes(), millis(expires)))
    }

    fn sweep(&self, now: SystemTime) -> Result<usize, StoreError> {
        // Now, whatever was believed: whoever sweeps tells the operator.
        self.look()?;
        let (mut all, mut batch) = (0, BATCH);
        loop {
            let count = self.forget(millis(now), &mut batch)?;
            all += count;
            if count < batch {
                break;
            }
            if batch < BATCH {
                // The pages of this one are to be there for the next.
                self.with(Opened::settle)?;
                batch = BATCH.min(batch * 2);
            }
        }
        self.with(|opened| {
            opened.env.clear_stale_readers()?;
            Ok(opened.env.force_sync()?)
        })?;
        Ok(all)
    }

    fn waits(&self) -> bool {
        true
    }
}
