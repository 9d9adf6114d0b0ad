//! What is asked of a place that keeps sessions.

use std::fmt;
use std::time::SystemTime;

/// The bytes of an id: 128 bits that nobody can guess.
const ID_BYTES: usize = 16;

/// What a session is found by. A secret of its client: it is shown to nobody, in no log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; ID_BYTES]);

impl SessionId {
    /// An id of these bytes.
    pub fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a store to find it by.
    pub fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// One session as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The application's bytes.
    pub data: Vec<u8>,
    /// When the session began. Stores keep it to the millisecond.
    pub created: SystemTime,
    /// When it ends, unless it is touched before. Stores keep it to the millisecond.
    pub expires: SystemTime,
}

/// Where sessions are kept.
///
/// Changes are by compare-and-swap: each has the version of what was read, and is refused with
/// [`StoreError::Conflict`] where another request has changed the session since. Versions are the
/// store's own: from 1, and another one after each change. Calls come from any thread, and from the
/// worker's loop unless the store [`waits`](SessionStore::waits). What has expired may be given or
/// be gone: whoever asks looks at [`Record::expires`].
pub trait SessionStore: Send + Sync + 'static {
    /// The session with that id and its version.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when that cannot be known.
    fn get(&self, id: &SessionId) -> Result<Option<(Record, u64)>, StoreError>;

    /// Keeps `record` in place of the one with the version `expected`, or of none for `None`. The
    /// new version. A record may have expired already: the one before it is gone then as well.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when what is there is not what was expected; others when it is not
    /// known to be kept.
    fn put(
        &self,
        id: &SessionId,
        record: &Record,
        expected: Option<u64>,
    ) -> Result<u64, StoreError>;

    /// Forgets the session with that id, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when it may still be there.
    fn remove(&self, id: &SessionId) -> Result<(), StoreError>;

    /// Has a session end then, and its version and bytes stay as they are. Whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when it may end as before.
    fn touch(&self, id: &SessionId, expires: SystemTime) -> Result<bool, StoreError>;

    /// Forgets what has expired by `now`, as far as the store does not do so by itself. How many.
    ///
    /// # Errors
    ///
    /// [`StoreError`], when some may be left.
    fn sweep(&self, now: SystemTime) -> Result<usize, StoreError> {
        let _ = now;
        Ok(0)
    }

    /// Whether a call may wait for a disk, a lock of another process or the network. Then handlers
    /// that use sessions do not run on the worker's loop.
    fn waits(&self) -> bool {
        false
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// Another request has changed the session in the meantime.
    Conflict,
    /// There is no room for more.
    Full,
    /// The store cannot be reached, or does not answer in time.
    Unavailable(String),
    /// What is there is not what a store of this kind keeps, or cannot be read.
    Broken(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("another request has changed the session"),
            Self::Full => f.write_str("the session store is full"),
            Self::Unavailable(why) => write!(f, "the session store is out of reach: {why}"),
            Self::Broken(why) => write!(f, "the session store cannot be used: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
