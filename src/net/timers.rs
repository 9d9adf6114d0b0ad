//! Time limits. All limits of one kind are equally long, so each kind is a list in the order of
//! expiry: arming is taking out and putting at the end, and only the heads are ever looked at.
//!
//! Owns the order of deadlines; leaves to the caller what an expiry means. Reads no clock.

use std::time::{Duration, Instant};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
    kind: u8,
    armed: bool,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    limit: Duration,
}

/// One deadline for each place of a table, in lists by kind.
#[derive(Debug)]
pub(crate) struct Timers {
    lists: Vec<List>,
    nodes: Vec<Node>,
}

impl Timers {
    /// Lists for the given limits; a kind is the index into them.
    pub(crate) fn new(limits: &[Duration]) -> Self {
        let empty = |&limit| List {
            first: NONE,
            last: NONE,
            limit,
        };
        Self {
            lists: limits.iter().map(empty).collect(),
            nodes: Vec::new(),
        }
    }

    /// Gives place `index` the deadline `now` plus the limit of `kind`, instead of any it had.
    ///
    /// `now` must not go backwards between calls, or the order of expiry is off by as much.
    pub(crate) fn arm(&mut self, index: u32, kind: u8, now: Instant) {
        self.disarm(index);
        let at = index as usize;
        if at >= self.nodes.len() {
            let unused = Node {
                previous: NONE,
                next: NONE,
                kind: 0,
                armed: false,
                deadline: now,
            };
            self.nodes.resize(at + 1, unused);
        }
        let list = &mut self.lists[kind as usize];
        self.nodes[at] = Node {
            previous: list.last,
            next: NONE,
            kind,
            armed: true,
            deadline: now + list.limit,
        };
        match list.last {
            NONE => list.first = index,
            last => self.nodes[last as usize].next = index,
        }
        list.last = index;
    }

    /// Takes the deadline of place `index` away, if it has one.
    pub(crate) fn disarm(&mut self, index: u32) {
        let Some(node) = self.nodes.get_mut(index as usize) else {
            return;
        };
        if !node.armed {
            return;
        }
        node.armed = false;
        let Node {
            previous,
            next,
            kind,
            ..
        } = *node;
        let list = &mut self.lists[kind as usize];
        match previous {
            NONE => list.first = next,
            before => self.nodes[before as usize].next = next,
        }
        match next {
            NONE => list.last = previous,
            after => self.nodes[after as usize].previous = previous,
        }
    }

    /// The kind that place `index` is armed with.
    pub(crate) fn armed(&self, index: u32) -> Option<u8> {
        let node = self.nodes.get(index as usize)?;
        node.armed.then_some(node.kind)
    }

    /// The earliest deadline of all.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lists
            .iter()
            .filter(|list| list.first != NONE)
            .map(|list| self.nodes[list.first as usize].deadline)
            .min()
    }

    /// Takes out one place whose deadline is not after `now`: which, and of what kind.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<(u32, u8)> {
        let expired =
            |list: &&List| list.first != NONE && self.nodes[list.first as usize].deadline <= now;
        let index = self.lists.iter().find(expired)?.first;
        let kind = self.nodes[index as usize].kind;
        self.disarm(index);
        Some((index, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn expiry_comes_in_order_and_rearming_moves_to_the_end() {
        let start = Instant::now();
        let mut timers = Timers::new(&[SECOND, 10 * SECOND]);
        for index in 0..4 {
            timers.arm(index, 0, start);
        }
        timers.arm(4, 1, start);
        timers.arm(1, 0, start + SECOND / 2);
        timers.disarm(2);
        assert_eq!(timers.next_deadline(), Some(start + SECOND));
        assert_eq!(timers.pop_expired(start), None);
        assert_eq!(timers.pop_expired(start + SECOND), Some((0, 0)));
        assert_eq!(timers.pop_expired(start + SECOND), Some((3, 0)));
        assert_eq!(timers.pop_expired(start + SECOND), None);
        assert_eq!(timers.pop_expired(start + 2 * SECOND), Some((1, 0)));
        assert_eq!(timers.armed(1), None);
        assert_eq!(timers.armed(4), Some(1));
        assert_eq!(timers.pop_expired(start + 10 * SECOND), Some((4, 1)));
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn any_order_of_arming_and_disarming_keeps_the_lists_whole() {
        let start = Instant::now();
        let mut timers = Timers::new(&[SECOND, 2 * SECOND, 3 * SECOND]);
        let mut model: Vec<Option<(u8, Instant)>> = vec![None; 64];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..20_000u32 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let now = start + Duration::from_millis(u64::from(step));
            let index = (seed % 64) as u32;
            match (seed >> 32) % 4 {
                0 => {
                    timers.disarm(index);
                    model[index as usize] = None;
                }
                kind => {
                    let kind = (kind - 1) as u8;
                    timers.arm(index, kind, now);
                    let limit = SECOND * (u32::from(kind) + 1);
                    model[index as usize] = Some((kind, now + limit));
                }
            }
            while let Some((index, kind)) = timers.pop_expired(now) {
                let (expected, deadline) = model[index as usize].take().unwrap();
                assert_eq!(kind, expected);
                assert!(deadline <= now);
            }
            let earliest = model.iter().flatten().map(|&(_, at)| at).min();
            assert_eq!(timers.next_deadline(), earliest);
        }
    }
}
