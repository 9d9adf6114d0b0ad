//! A file of sessions that is open: its tables, and what one transaction does to them.
//!
//! Leaves to the store above it when the file is opened, and what is done where it has no room.

use super::SharedStore;
use super::entry::{Entry, end_key, ends_by, id_of, millis};
use crate::app::session::{Record, StoreError};
use crate::sys::lmdb;
use heed::types::{Bytes, Unit};
use heed::{CommitOrAbort, Database, Env, EnvClosingEvent, Error, MdbError, RwTxn, WithoutTls};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Reads at the same time, in all processes.
const READERS: u32 = 1024;

/// A file of no more than two pages may be one that is being made: how often to look again.
const YOUNG: u64 = 2 * 65536;
const BEGINNINGS: u32 = 20;

/// The tables; the names are the format's, and its version.
const SESSIONS: &str = "mcluster sessions 1";
const ENDS: &str = "mcluster session ends 1";

type Table = Database<'static, Bytes, Bytes>;
type Ends = Database<'static, Bytes, Unit>;

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) env: Env<WithoutTls>,
    sessions: Table,
    ends: Ends,
    /// Pages in use, beyond which there is no room: the rest of the map is for the copies that changes make, without which
    /// nothing could be forgotten either.
    most_bytes: usize,
}

/// What an operation came to: LMDB's errors, and ours.
pub(super) enum Failure {
    Lmdb(Error),
    Store(StoreError),
}

impl Failure {
    /// Whether the file is not what it should be.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::Broken(_)),
            Self::Lmdb(error) => matches!(said(Path::new(""), error), StoreError::Broken(_)),
        }
    }
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

pub(super) fn strange(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What is said of a file with damaged pages.
pub(super) fn damaged(path: &Path) -> StoreError {
    StoreError::Broken(format!(
        "{}: it is damaged; remove it, and {}, while no cluster runs",
        path.display(),
        lmdb::locks(path).display()
    ))
}

/// What came of the file, for people.
pub(super) fn said(path: &Path, error: &Error) -> StoreError {
    if let Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound) = error {
        return damaged(path);
    }
    let path = path.display();
    match error {
        Error::Mdb(MdbError::MapFull) => StoreError::Full,
        Error::Io(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            io::ErrorKind::InvalidData => StoreError::Broken(format!("{path}: {error}")),
            _ => StoreError::Unavailable(format!("{path}: {error}")),
        },
        Error::EnvAlreadyOpened => StoreError::Unavailable(format!(
            "{path}: this process has it open already, or the primary had when it forked this worker; a \
             primary must not use the store before the cluster runs"
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
    pub(super) fn open(path: &Path, map_bytes: usize) -> Result<Self, StoreError> {
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
        let wrong = |error: Error| match &error {
            // Of the file system, not of the store: the operator needs to know which.
            Error::Io(why) if why.kind() == io::ErrorKind::StorageFull => {
                StoreError::Unavailable(format!("{}: {why}", path.display()))
            }
            error => said(path, error),
        };
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

    /// What tells when it is closed, once nobody has it any more.
    pub(super) fn close(&self) -> EnvClosingEvent {
        self.env.clone().prepare_for_closing()
    }

    pub(super) fn get(&self, id: &[u8]) -> Result<Option<(Record, u64)>, Failure> {
        let txn = self.env.read_txn()?;
        let Some(bytes) = self.sessions.get(&txn, id)? else {
            return Ok(None);
        };
        let entry = entry(bytes)?;
        Ok(Some((entry.record(), entry.version)))
    }

    pub(super) fn put(
        &self,
        id: &[u8],
        record: &Record,
        expected: Option<u64>,
    ) -> Result<u64, Failure> {
        let mut txn = self.env.write_txn()?;
        let old = self.sessions.get(&txn, id)?.map(entry).transpose()?;
        let known = old.map(|old| (old.version, old.expires, old.data.len()));
        if known.map(|(version, ..)| version) != expected {
            return Err(StoreError::Conflict.into());
        }
        let before = known.map(|(.., length)| length);
        if before.is_none_or(|before| before < record.data.len())
            && self.used(&txn)?.saturating_add(record.data.len()) > self.most_bytes
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
            let others = [stat.leaf_pages, stat.overflow_pages];
            let pages = others
                .into_iter()
                .fold(stat.branch_pages, usize::saturating_add);
            // A damaged file may say anything.
            pages.saturating_mul(stat.page_size as usize)
        });
        Ok(bytes.into_iter().fold(0, usize::saturating_add))
    }

    pub(super) fn remove(&self, id: &[u8]) -> Result<(), Failure> {
        let mut txn = self.env.write_txn()?;
        let old = self.sessions.get(&txn, id)?.map(entry).transpose()?;
        let Some(expires) = old.map(|old| old.expires) else {
            return Ok(());
        };
        self.ends.delete(&mut txn, &end_key(expires, id))?;
        self.sessions.delete(&mut txn, id)?;
        Ok(txn.commit()?)
    }

    pub(super) fn touch(&self, id: &[u8], expires: u64) -> Result<bool, Failure> {
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
    pub(super) fn settle(&self) -> Result<(), Failure> {
        let mut txn = self.env.write_txn()?;
        // Behind all ends, so it is none to whoever looks.
        let last = end_key(u64::MAX, &[0xff; 16]);
        self.ends.put(&mut txn, &last, &())?;
        self.ends.delete(&mut txn, &last)?;
        Ok(txn.commit()?)
    }

    /// Reads all that is there, as far as it is what it should be, and writes what it takes back. Of a file that
    /// is damaged it may not return: LMDB ends the process, or the kernel does.
    pub(super) fn walk(&self) -> Result<(), Failure> {
        let damaged = || Failure::from(Error::Io(strange("it is damaged")));
        let txn = self.env.read_txn()?;
        let (sessions, ends) = (self.sessions.stat(&txn)?, self.ends.stat(&txn)?);
        // Counted on the way, since a damaged table may have no end.
        let mut left = sessions.entries;
        for one in self.sessions.iter(&txn)? {
            let (_, bytes) = one?;
            std::hint::black_box(entry(bytes)?.record());
            left = left.checked_sub(1).ok_or_else(damaged)?;
        }
        let mut left_of_ends = ends.entries;
        for one in self.ends.iter(&txn)? {
            let (key, ()) = one?;
            left_of_ends = left_of_ends.checked_sub(1).ok_or_else(damaged)?;
            if self.sessions.get(&txn, id_of(key))?.is_none() {
                return Err(damaged());
            }
        }
        drop(txn);
        match (left, left_of_ends, sessions.entries == ends.entries) {
            (0, 0, true) => {}
            _ => return Err(damaged()),
        }
        let mut txn = self.env.write_txn()?;
        let last = end_key(u64::MAX, &[0xff; 16]);
        match self.ends.put(&mut txn, &last, &()) {
            Err(Error::Mdb(MdbError::MapFull)) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Forgets up to `most` of what has ended by `now`.
    pub(super) fn sweep(&self, now: u64, most: usize) -> Result<usize, Failure> {
        // Who has nothing to forget holds up nobody.
        let reading = self.env.read_txn()?;
        let first = self.ends.first(&reading)?;
        if !first.is_some_and(|(key, ())| ends_by(key, now)) {
            return Ok(0);
        }
        drop(reading);
        let mut txn = self.env.write_txn()?;
        let mut keys = Vec::new();
        for end in self.ends.iter(&txn)?.take(most) {
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
