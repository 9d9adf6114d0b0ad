//! A body whose pieces come from outside while it is being sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What may wait for a client that does not take it.
const MOST: usize = 1024 * 1024;

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

/// Both ends of a body that is fed: one clone is the response's, the other its maker's.
#[derive(Clone, Debug, Default)]
pub struct Feed(Arc<Mutex<Waiting>>);

impl Feed {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that could panic happens under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a piece. False when the client is gone, or has not taken a megabyte of earlier ones;
    /// then the body ends.
    pub(crate) fn put(&self, piece: &[u8]) -> bool {
        if Arc::strong_count(&self.0) == 1 {
            return false;
        }
        let mut waiting = self.waiting();
        if waiting.bytes + piece.len() > MOST {
            waiting.closed = true;
        }
        if !waiting.closed && !piece.is_empty() {
            waiting.bytes += piece.len();
            waiting.pieces.push_back(piece.to_vec());
        }
        !waiting.closed
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        self.waiting().closed = true;
    }

    /// The next piece.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut waiting = self.waiting();
        let piece = waiting.pieces.pop_front()?;
        waiting.bytes -= piece.len();
        Some(piece)
    }

    /// Whether no more will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.waiting().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_order_until_the_end() {
        let feed = Feed::default();
        assert!(!feed.put(b"x"), "nobody is there");
        let other = feed.clone();
        assert!(feed.put(b"one") && feed.put(b"") && feed.put(b"two"));
        assert_eq!(other.take().as_deref(), Some(&b"one"[..]));
        feed.close();
        assert!(!feed.put(b"three"));
        assert_eq!(other.take().as_deref(), Some(&b"two"[..]));
        assert!(other.take().is_none() && other.is_closed());
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        let feed = Feed::default();
        let _other = feed.clone();
        let piece = vec![0; MOST / 4];
        for _ in 0..4 {
            assert!(feed.put(&piece));
        }
        assert!(!feed.put(&piece));
        assert!(feed.is_closed());
    }
}
