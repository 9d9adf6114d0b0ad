//! Sessions in one file that all workers of a machine share, by LMDB.

mod entry;

use super::{Record, SessionId, SessionStore, StoreError};
use crate::sys::lmdb;
use entry::{Entry, end_key, ends_by, id_of, millis};
use heed::types::{Bytes, Unit};
use heed::{CommitOrAbort, Database, Env, Error, MdbError, RwTxn, WithoutTls};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// What the file may grow to, unless said otherwise: its length, though most of it is a hole.
const MAP_BYTES: usize = 256 << 20;

/// Maps are multiples of it, which is one of every page's size.
const MAP_STEP: usize = 1 << 20;

/// Reads at the same time, in all processes.
const READERS: u32 = 1024;

/// What one transaction of a sweep forgets, so that no request waits for long.
const BATCH: usize = 1000;

/// A file of no more than two pages may be one that is being made: how often to look again.
const YOUNG: u64 = 2 * 65536;
const BEGINNINGS: u32 = 20;

/// The tables; the names are the format's, and its version.
const SESSIONS: &str = "mcluster sessions 1";
const ENDS: &str = "mcluster session ends 1";

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
/// file system, and do not remove it while a cluster runs. A process that is stopped in the middle of a
/// change (SIGSTOP) holds up the others until it goes on.
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
    /// Of the process with that number. What came by a fork is neither used nor closed.
    opened: Mutex<Option<(u32, Arc<Opened>)>>,
}

type Table = Database<'static, Bytes, Bytes>;
type Ends = Database<'static, Bytes, Unit>;

#[derive(Debug)]
struct Opened {
    env: Env<WithoutTls>,
    sessions: Table,
    ends: Ends,
    /// Pages in use, beyond which there is no room: the rest of the map is for the copies that changes make, without which
    /// nothing could be forgotten either.
    most_bytes: usize,
}

/// What an operation came to: LMDB's errors, and ours.
enum Failure {
    Lmdb(Error),
    Store(StoreError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lmdb(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl SharedStore {
    /// The store in that file, of which a process has one: to use it several times clone its
    /// [`Sessions`](super::Sessions). The file is made where there is none: opened, looked at, and closed again, so that each worker opens it
    /// for itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::Broken`] when the file is another program's, cut off or damaged,
    /// [`StoreError::Unavailable`] when it cannot be opened for reading and writing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let store = Self::at(path);
        // No larger than it is: what it may grow to has not been said yet.
        let opened = Opened::open(&store.path, MAP_STEP)?;
        // A child must not find it open.
        opened.env.prepare_for_closing().wait();
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
            opened: Mutex::new(None),
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

    fn state(&self) -> MutexGuard<'_, Option<(u32, Arc<Opened>)>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> Result<Arc<Opened>, StoreError> {
        let own = std::process::id();
        let mut state = self.state();
        if let Some((_, opened)) = state.as_ref().filter(|(pid, _)| *pid == own) {
            return Ok(Arc::clone(opened));
        }
        if let Some(inherited) = state.take() {
            // Its locks are the parent's: closing it would give them up.
            let _ = ManuallyDrop::new(inherited);
        }
        let opened = Arc::new(Opened::open(&self.path, self.map_bytes)?);
        *state = Some((own, Arc::clone(&opened)));
        Ok(opened)
    }

    /// Does it, once more where the table of readers was full of dead ones.
    fn with<T>(&self, act: impl Fn(&Opened) -> Result<T, Failure>) -> Result<T, StoreError> {
        let opened = self.opened()?;
        let mut outcome = act(&opened);
        if let Err(Failure::Lmdb(Error::Mdb(MdbError::ReadersFull))) = outcome {
            let cleared = opened.env.clear_stale_readers();
            outcome = cleared.map_err(Failure::from).and_then(|_| act(&opened));
        }
        outcome.map_err(|failure| match failure {
            Failure::Store(error) => error,
            Failure::Lmdb(error) => {
                let again = matches!(error, Error::Mdb(MdbError::MapResized | MdbError::Panic));
                if again {
                    // What is mapped is no longer right: the next call opens it anew.
                    let mut state = self.state();
                    if state
                        .as_ref()
                        .is_some_and(|(_, known)| Arc::ptr_eq(known, &opened))
                    {
                        *state = None;
                    }
                }
                said(&self.path, &error)
            }
        })
    }
}

fn strange(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What came of the file, for people.
fn said(path: &Path, error: &Error) -> StoreError {
    let path = path.display();
    match error {
        Error::Mdb(MdbError::MapFull) => StoreError::Full,
        Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            io::ErrorKind::InvalidData => StoreError::Broken(format!("{path}: {error}")),
            _ => StoreError::Unavailable(format!("{path}: {error}")),
        },
        Error::EnvAlreadyOpened => StoreError::Unavailable(format!(
            "{path}: this process has it open already, or had when it was forked"
        )),
        Error::Mdb(MdbError::ReadersFull | MdbError::MapResized | MdbError::Other(_)) => {
            StoreError::Unavailable(format!("{path}: {error}"))
        }
        error => StoreError::Broken(format!("{path}: {error}")),
    }
}

fn entry(bytes: &[u8]) -> Result<Entry<'_>, Failure> {
    Entry::read(bytes).ok_or_else(|| Error::Io(strange("an entry is damaged")).into())
}

impl Opened {
    fn open(path: &Path, map_bytes: usize) -> Result<Self, StoreError> {
        let mut judged = SharedStore::judge(path);
        for _ in 0..BEGINNINGS {
            // Another process may be writing its very first pages.
            let young = std::fs::metadata(path).is_ok_and(|about| about.len() <= YOUNG);
            match judged {
                Err(StoreError::Broken(_)) if young => {}
                _ => break,
            }
            thread::sleep(Duration::from_millis(5));
            judged = SharedStore::judge(path);
        }
        judged?;
        let wrong = |error: Error| said(path, &error);
        let env = lmdb::open(path, map_bytes, READERS, 2).map_err(wrong)?;
        env.clear_stale_readers().map_err(wrong)?;
        let (sessions, ends) = tables(&env).map_err(wrong)?;
        Ok(Self {
            env,
            sessions,
            ends,
            most_bytes: map_bytes - map_bytes / 8,
        })
    }

    fn get(&self, id: &[u8]) -> Result<Option<(Record, u64)>, Failure> {
        let txn = self.env.read_txn()?;
        let Some(bytes) = self.sessions.get(&txn, id)? else {
            return Ok(None);
        };
        let entry = entry(bytes)?;
        Ok(Some((entry.record(), entry.version)))
    }

    fn put(&self, id: &[u8], record: &Record, expected: Option<u64>) -> Result<u64, Failure> {
        let mut txn = self.env.write_txn()?;
        let old = self.sessions.get(&txn, id)?.map(entry).transpose()?;
        let known = old.map(|old| (old.version, old.expires, old.data.len()));
        if known.map(|(version, ..)| version) != expected {
            return Err(StoreError::Conflict.into());
        }
        let before = known.map(|(.., length)| length);
        if before.is_none_or(|before| before < record.data.len())
            && self.used(&txn)? + record.data.len() > self.most_bytes
        {
            return Err(StoreError::Full.into());
        }
        if let Some((_, expires, _)) = known {
            self.ends.delete(&mut txn, &end_key(expires, id))?;
        }
        let entry = Entry {
            version: expected.unwrap_or(0) + 1,
            created: millis(record.created),
            expires: millis(record.expires),
            data: &record.data,
        };
        self.sessions.put(&mut txn, id, &entry.bytes())?;
        self.ends.put(&mut txn, &end_key(entry.expires, id), &())?;
        txn.commit()?;
        Ok(entry.version)
    }

    /// The bytes of all pages that hold something.
    fn used(&self, txn: &RwTxn<'_>) -> Result<usize, Failure> {
        let stats = [self.sessions.stat(txn)?, self.ends.stat(txn)?];
        let bytes = stats.map(|stat| {
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            pages * stat.page_size as usize
        });
        Ok(bytes.iter().sum())
    }

    fn remove(&self, id: &[u8]) -> Result<(), Failure> {
        let mut txn = self.env.write_txn()?;
        let old = self.sessions.get(&txn, id)?.map(entry).transpose()?;
        let Some(expires) = old.map(|old| old.expires) else {
            return Ok(());
        };
        self.ends.delete(&mut txn, &end_key(expires, id))?;
        self.sessions.delete(&mut txn, id)?;
        Ok(txn.commit()?)
    }

    fn touch(&self, id: &[u8], expires: u64) -> Result<bool, Failure> {
        let mut txn = self.env.write_txn()?;
        let Some(bytes) = self.sessions.get(&txn, id)? else {
            return Ok(false);
        };
        let entry = entry(bytes)?;
        let (before, bytes) = (entry.expires, Entry { expires, ..entry }.bytes());
        self.ends.delete(&mut txn, &end_key(before, id))?;
        self.ends.put(&mut txn, &end_key(expires, id), &())?;
        self.sessions.put(&mut txn, id, &bytes)?;
        txn.commit()?;
        Ok(true)
    }

    /// Changes nothing: LMDB gives the pages of one transaction to the next but one.
    fn settle(&self) -> Result<(), Failure> {
        let mut txn = self.env.write_txn()?;
        // Behind all ends, so it is none to whoever looks.
        let last = end_key(u64::MAX, &[0xff; 16]);
        self.ends.put(&mut txn, &last, &())?;
        self.ends.delete(&mut txn, &last)?;
        Ok(txn.commit()?)
    }

    /// Forgets up to a batch of what has ended by `now`.
    fn sweep(&self, now: u64) -> Result<usize, Failure> {
        // Who has nothing to forget holds up nobody.
        let reading = self.env.read_txn()?;
        let first = self.ends.first(&reading)?;
        if !first.is_some_and(|(key, ())| ends_by(key, now)) {
            return Ok(0);
        }
        drop(reading);
        let mut txn = self.env.write_txn()?;
        let mut keys = Vec::new();
        for end in self.ends.iter(&txn)?.take(BATCH) {
            let (key, ()) = end?;
            if !ends_by(key, now) {
                break;
            }
            keys.push(key.to_vec());
        }
        for key in &keys {
            self.ends.delete(&mut txn, key)?;
            self.sessions.delete(&mut txn, id_of(key))?;
        }
        txn.commit()?;
        Ok(keys.len())
    }
}

/// The tables of a file that has them, or of one that has nothing yet.
fn tables(env: &Env<WithoutTls>) -> Result<(Table, Ends), Error> {
    let found = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
        let sessions = opener.open_database::<Bytes, Bytes>(txn, Some(SESSIONS))?;
        let ends = opener.open_database::<Bytes, Unit>(txn, Some(ENDS))?;
        Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit((sessions, ends)))
    })?;
    match found.unwrap_commit() {
        (Some(sessions), Some(ends)) => return Ok((sessions, ends)),
        (None, None) if env.unnamed_database_stat().entries == 0 => {}
        _ => return Err(Error::Io(strange("it is LMDB's, but no file of sessions"))),
    }
    let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        let sessions = opener.create_database::<Bytes, Bytes>(txn, Some(SESSIONS))?;
        let ends = opener.create_database::<Bytes, Unit>(txn, Some(ENDS))?;
        Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit((sessions, ends)))
    })?;
    Ok(made.unwrap_commit())
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
                match self.with(|opened| opened.sweep(now)) {
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
        let mut all = 0;
        loop {
            let count = self.with(|opened| opened.sweep(millis(now)))?;
            all += count;
            if count < BATCH {
                break;
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
