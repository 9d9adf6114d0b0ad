//! How a session is written in the file, and the key of its end.

use crate::app::session::Record;
use std::time::{Duration, SystemTime};

/// Before the application's bytes: version, beginning, end, as big-endian numbers; times in ms since 1970.
const HEAD: usize = 24;

/// Milliseconds since 1970; what is before it is then.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn time(millis: u64) -> SystemTime {
    let since = Duration::from_millis(millis);
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A session as its table has it.
pub(super) struct Entry<'a> {
    pub(super) version: u64,
    pub(super) created: u64,
    pub(super) expires: u64,
    pub(super) data: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|chunk| {
            let mut number = [0; 8];
            number.copy_from_slice(chunk);
            u64::from_be_bytes(number)
        });
        Some(Self {
            version: numbers.next().filter(|version| *version != 0)?,
            created: numbers.next()?,
            expires: numbers.next()?,
            data: bytes.get(HEAD..)?,
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.data.len());
        for number in [self.version, self.created, self.expires] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(self.data);
        bytes
    }

    pub(super) fn record(&self) -> Record {
        Record {
            data: self.data.to_vec(),
            created: time(self.created),
            expires: time(self.expires),
        }
    }
}

/// The key of a session among the ends: in their order.
pub(super) fn end_key(expires: u64, id: &[u8]) -> Vec<u8> {
    [&expires.to_be_bytes(), id].concat()
}

/// Whether what has that key has ended by `now`.
pub(super) fn ends_by(key: &[u8], now: u64) -> bool {
    let end = key.first_chunk().map(|end| u64::from_be_bytes(*end));
    end.is_some_and(|end| end <= now)
}

/// The session that a key is of.
pub(super) fn id_of(key: &[u8]) -> &[u8] {
    key.get(8..).unwrap_or_default()
}
