//! Small maps and sets in vectors that stay sorted, and an order by comparison.
//!
//! Owns what the machinery knows of its workers, listeners and places: a few entries that are looked up
//! often and changed seldom. A type more of these costs some hundred bytes of code, one of
//! `std::collections::BTreeMap` several thousand; a removal moves what comes after it, so that what may have
//! thousands of entries (connections, sessions, clients) stays in std's. The same for sorting: what is short
//! and not on a request's way is sorted here, by code that is there once.

use std::cmp::Ordering;
use std::fmt;

/// Sorts by a comparison; equal ones keep their order.
pub(crate) fn sort_by<T>(all: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let mut places = order(all.len(), &mut |one, other| compare(&all[one], &all[other]));
    // Where each belongs is followed around, so that nothing is copied: no `T` needs to be `Clone`.
    for at in 0..places.len() {
        let mut from = places[at];
        while from < at {
            from = places[from];
        }
        places[at] = from;
        all.swap(at, from);
    }
}

/// Sorts by a key; equal ones keep their order.
pub(crate) fn sort_by_key<T, K: Ord>(all: &mut [T], mut key: impl FnMut(&T) -> K) {
    sort_by(all, |one, other| key(one).cmp(&key(other)));
}

/// The places of `count` values in their order.
fn order(count: usize, compare: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|one, other| compare(*one, *other));
    places
}

/// A map in the order of its keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> SortedMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Leaves those of which `stays` is true.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| stays(key, value));
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(one, _)| one.cmp(key))
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let at = self.place(key).ok()?;
        Some(&self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.place(key).ok()?;
        Some(&mut self.0[at].1)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    /// Puts it in; what was there under the same key comes back.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// What is there, or else what `make` makes and is put there.
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = match self.place(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, make()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// What is there, or else the default, which is put there.
    pub(crate) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.get_or_insert_with(key, V::default)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.place(key).ok()?;
        Some(self.0.remove(at).1)
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    /// Of equal keys the last one's value stays.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord, V> Extend<(K, V)> for SortedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

#[cfg(feature = "json")]
impl<K: serde::Serialize, V: serde::Serialize> serde::Serialize for SortedMap<K, V> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

#[cfg(feature = "json")]
impl<'de, K, V> serde::Deserialize<'de> for SortedMap<K, V>
where
    K: Ord + serde::Deserialize<'de>,
    V: serde::Deserialize<'de>,
{
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(SortedMap<K, V>);

        impl<'de, K, V> serde::de::Visitor<'de> for Entries<K, V>
        where
            K: Ord + serde::Deserialize<'de>,
            V: serde::Deserialize<'de>,
        {
            type Value = SortedMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A>(mut self, mut entries: A) -> Result<Self::Value, A::Error>
            where
                A: serde::de::MapAccess<'de>,
            {
                while let Some((key, value)) = entries.next_entry()? {
                    self.0.insert(key, value);
                }
                Ok(self.0)
            }
        }

        from.deserialize_map(Entries(SortedMap::new()))
    }
}

/// A set in its order.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "json",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        from = "Vec<K>",
        bound(deserialize = "K: Ord + serde::Deserialize<'de>")
    )
)]
pub(crate) struct SortedSet<K>(Vec<K>);

impl<K> SortedSet<K> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, K> {
        self.0.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<K: Ord> SortedSet<K> {
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.binary_search(key).is_ok()
    }

    /// What is in this one and not in the other.
    pub(crate) fn difference(&self, other: &Self) -> impl Iterator<Item = &K> {
        self.0.iter().filter(|key| !other.contains(key))
    }

    /// Puts it in; false when it was there.
    pub(crate) fn insert(&mut self, key: K) -> bool {
        let place = self.0.binary_search(&key);
        if let Err(at) = place {
            self.0.insert(at, key);
        }
        place.is_err()
    }

    /// Takes it out; false when it was not there.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let place = self.0.binary_search(key);
        if let Ok(at) = place {
            self.0.remove(at);
        }
        place.is_ok()
    }
}

impl<K> Default for SortedSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug> fmt::Debug for SortedSet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.0).finish()
    }
}

impl<K> IntoIterator for SortedSet<K> {
    type Item = K;
    type IntoIter = std::vec::IntoIter<K>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K> IntoIterator for &'a SortedSet<K> {
    type Item = &'a K;
    type IntoIter = std::slice::Iter<'a, K>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord> FromIterator<K> for SortedSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut set = Self::new();
        set.extend(keys);
        set
    }
}

#[cfg(feature = "json")]
impl<K: Ord> From<Vec<K>> for SortedSet<K> {
    fn from(keys: Vec<K>) -> Self {
        keys.into_iter().collect()
    }
}

impl<K: Ord> Extend<K> for SortedSet<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Some hundred numbers in no order, many of them more than once.
    fn numbers() -> impl Iterator<Item = u32> {
        (0..500u32).map(|n| n.wrapping_mul(2_654_435_761) >> 24)
    }

    #[test]
    fn a_sort_is_stable() {
        for count in [0, 1, 2, 3, 20, 21, 500] {
            let mut ours: Vec<(u32, usize)> = numbers().zip(0..count).collect();
            let mut std = ours.clone();
            sort_by_key(&mut ours, |one| one.0 % 16);
            std.sort_by_key(|one| one.0 % 16);
            assert_eq!(ours, std, "{count}");
        }
    }

    #[test]
    fn a_map_is_one() {
        let mut ours = SortedMap::new();
        let mut std = BTreeMap::new();
        for (n, key) in numbers().enumerate() {
            assert_eq!(ours.insert(key, n), std.insert(key, n));
            if n % 3 == 0 {
                assert_eq!(ours.remove(&(key / 2)), std.remove(&(key / 2)));
            }
            assert_eq!(ours.get(&(n as u32)), std.get(&(n as u32)));
            *ours.get_or_insert_with(7, || 1) += 1;
            *std.entry(7).or_insert(1) += 1;
            assert_eq!(ours.len(), std.len());
        }
        assert!(ours.iter().eq(&std));
        assert_eq!(format!("{ours:?}"), format!("{std:?}"));
        ours.retain(|key, _| key % 2 == 0);
        std.retain(|key, _| key % 2 == 0);
        assert!(ours.into_iter().eq(std));
    }

    #[test]
    fn a_set_is_one() {
        let mut ours = SortedSet::new();
        let mut std = BTreeSet::new();
        for (n, key) in numbers().enumerate() {
            assert_eq!(ours.insert(key), std.insert(key));
            if n % 3 == 0 {
                assert_eq!(ours.remove(&(key / 2)), std.remove(&(key / 2)));
            }
            assert_eq!(ours.contains(&(n as u32)), std.contains(&(n as u32)));
        }
        assert_eq!(format!("{ours:?}"), format!("{std:?}"));
        assert_eq!((ours.len(), ours.is_empty()), (std.len(), false));
        assert!(ours.into_iter().eq(std));
    }
}
