//! Sessions in the memory of one process.

use super::{Record, SessionId, SessionStore, StoreError};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

/// What all of them take together, unless said otherwise.
const MAX_BYTES: usize = 64 << 20;

/// What a session takes beside its bytes: the record, its entries in both tables.
const OVERHEAD: usize = 256;

/// How many that have expired each change forgets: more than it adds, so they cannot pile up.
const SWEPT_BY_A_PUT: usize = 2;

/// How many are forgotten at once, while other threads wait.
const BATCH: usize = 1000;

/// Sessions in the memory of one process: gone when it ends.
///
/// With [`Mode::Threads`](crate::Mode::Threads) all workers share it, because they share the application. With
/// [`Mode::Processes`](crate::Mode::Processes) each worker has its own, and a client whose connections
/// reach several workers has as many sessions: use [`SharedStore`](super::SharedStore) there.
#[derive(Debug)]
pub struct MemoryStore {
    max_bytes: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<SessionId, (Record, u64)>,
    /// The same by their end.
    ends: BTreeSet<(SystemTime, SessionId)>,
    bytes: usize,
    /// The last version that was given: by the table's count, so an id that comes again has other ones.
    version: u64,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("sessions", &self.sessions.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store for 64 MiB of sessions.
    pub fn new() -> Self {
        Self {
            max_bytes: MAX_BYTES,
            table: Mutex::default(),
        }
    }

    /// What all sessions may take together, in bytes, their tables included. Beyond it a new session or a larger one is
    /// [`StoreError::Full`]; none that lives is forgotten for it.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics between two changes that belong together.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(record: &Record) -> usize {
    OVERHEAD + record.data.len()
}

impl Table {
    fn remove(&mut self, id: &SessionId) -> bool {
        let Some((record, _)) = self.sessions.remove(id) else {
            return false;
        };
        self.bytes -= size(&record);
        self.ends.remove(&(record.expires, *id));
        true
    }

    fn sweep(&mut self, now: SystemTime, most: usize) -> usize {
        let mut count = 0;
        while count < most
            && let Some(&(end, id)) = self.ends.first()
            && end <= now
        {
            self.remove(&id);
            count += 1;
        }
        count
    }
}

impl SessionStore for MemoryStore {
    fn get(&self, id: &SessionId) -> Result<Option<(Record, u64)>, StoreError> {
        Ok(self.table().sessions.get(id).cloned())
    }

    fn put(
        &self,
        id: &SessionId,
        record: &Record,
        expected: Option<u64>,
    ) -> Result<u64, StoreError> {
        let mut table = self.table();
        let now = SystemTime::now();
        table.sweep(now, SWEPT_BY_A_PUT);
        if table.bytes + size(record) > self.max_bytes {
            table.sweep(now, BATCH);
        }
        let old = table.sessions.get(id);
        if old.map(|(_, version)| *version) != expected {
            return Err(StoreError::Conflict);
        }
        let freed = old.map_or(0, |(record, _)| size(record));
        // What takes no more than before always has its place.
        if size(record) > freed && table.bytes - freed + size(record) > self.max_bytes {
            return Err(StoreError::Full);
        }
        table.remove(id);
        table.version += 1;
        let version = table.version;
        table.bytes += size(record);
        table.ends.insert((record.expires, *id));
        table.sessions.insert(*id, (record.clone(), version));
        Ok(version)
    }

    fn remove(&self, id: &SessionId) -> Result<(), StoreError> {
        self.table().remove(id);
        Ok(())
    }

    fn touch(&self, id: &SessionId, expires: SystemTime) -> Result<bool, StoreError> {
        let mut table = self.table();
        let Table { sessions, ends, .. } = &mut *table;
        let Some((record, _)) = sessions.get_mut(id) else {
            return Ok(false);
        };
        ends.remove(&(record.expires, *id));
        ends.insert((expires, *id));
        record.expires = expires;
        Ok(true)
    }

    fn sweep(&self, now: SystemTime) -> Result<usize, StoreError> {
        let mut all = 0;
        loop {
            let count = self.table().sweep(now, BATCH);
            all += count;
            if count < BATCH {
                return Ok(all);
            }
            // Whoever has waited comes first.
            thread::yield_now();
        }
    }
}
