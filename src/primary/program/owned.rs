//! Whose an id is that a program has made by itself: learned from the worker that made it.
//!
//! Owns a bounded memory of such ids, in which the oldest is forgotten first; leaves what an id is,
//! and where it stands in a request, to the preload and to `peek`.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Ids that are remembered at most: of sessions that last, those that have begun last.
const MOST: usize = 1 << 16;

/// Ids and the places that they belong to.
#[derive(Debug, Default)]
pub(in crate::primary) struct Owned {
    hasher: RandomState,
    /// By the hash alone: two that have the same, of 2^64, would be one.
    places: HashMap<u64, u32>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl Owned {
    /// Notes that `value` belongs to whoever is at `place`.
    pub(in crate::primary) fn learn(&mut self, value: &[u8], place: usize) {
        let hash = self.hasher.hash_one(value);
        if self.places.insert(hash, place as u32).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
    }

    /// The place that `value` belongs to, if that is known.
    pub(in crate::primary) fn place(&self, value: &[u8]) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let place = self.places.get(&self.hasher.hash_one(value))?;
        Some(*place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_known_until_it_is_the_oldest_of_too_many() {
        let mut owned = Owned::default();
        assert_eq!(owned.place(b"a"), None);
        owned.learn(b"a", 3);
        owned.learn(b"b", 1);
        owned.learn(b"a", 2);
        assert_eq!(owned.place(b"a"), Some(2));
        assert_eq!(owned.place(b"b"), Some(1));
        for number in 0..MOST as u32 - 1 {
            owned.learn(&number.to_le_bytes(), 0);
        }
        assert_eq!(owned.place(b"a"), None);
        assert_eq!(owned.place(b"b"), Some(1));
        assert_eq!(owned.order.len(), owned.places.len());
    }
}
