//! What this cluster publishes and other clusters have yet to get: a bounded queue in front of the
//! connection, which whoever publishes fills and the link empties.

use std::collections::VecDeque;

/// More than this waiting, in bytes, and nothing more is taken; one message always is.
const MOST: usize = 64 * 1024 * 1024;

/// What an entry costs beside its bytes.
const COST: usize = 64;

/// Where it leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// There is no link.
    #[default]
    Nowhere,
    /// The server is away.
    Closed,
    Open,
}

#[derive(Debug, Default)]
pub(in crate::primary) struct Relay {
    way: Way,
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Messages that came while the server was away, or were not sent when it went.
    missed: u64,
    /// Messages that came while too much waited.
    dropped: u64,
}

impl Relay {
    /// There is a link.
    pub(super) fn begin(&mut self) {
        self.way = Way::Closed;
    }

    /// The server is there. How many messages it missed.
    pub(super) fn open(&mut self) -> u64 {
        self.way = Way::Open;
        std::mem::take(&mut self.missed)
    }

    /// It is away, and what waits stays here: it would come late, or twice.
    pub(super) fn close(&mut self) {
        self.way = Way::Closed;
        self.missed += self.queue.len() as u64;
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    /// Takes what was published, if it can leave.
    pub(super) fn push(&mut self, written: &[u8]) {
        let cost = written.len() + COST;
        match self.way {
            Way::Nowhere => {}
            Way::Closed => self.missed += 1,
            Way::Open if self.bytes > 0 && self.bytes + cost > MOST => self.dropped += 1,
            Way::Open => {
                self.bytes += cost;
                self.queue.push_back(written.to_vec());
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let one = self.queue.pop_front()?;
        self.bytes -= one.len() + COST;
        Some(one)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// What waits, for who goes on in this one's place.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.iter().map(Vec::as_slice)
    }

    /// How many have stayed in this cluster, and nobody has heard of it.
    pub(super) fn missed(&self) -> u64 {
        self.missed + self.dropped
    }

    /// So many more have.
    pub(super) fn misses(&mut self, count: u64) {
        self.missed += count;
    }

    /// How many were not taken since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_nobody_is_there_is_counted() {
        let mut relay = Relay::default();
        relay.push(b"nowhere");
        relay.begin();
        relay.push(b"away");
        assert_eq!((relay.open(), relay.pop()), (1, None));
        relay.push(b"a");
        relay.push(b"b");
        assert_eq!(relay.pop().as_deref(), Some(&b"a"[..]));
        relay.close();
        assert_eq!((relay.bytes, relay.pop()), (0, None));
        assert_eq!(relay.open(), 1);
        assert_eq!(relay.open(), 0);
    }

    #[test]
    fn too_much_is_not_taken() {
        let mut relay = Relay::default();
        relay.begin();
        relay.open();
        let large = vec![0; MOST + 1];
        relay.push(&large);
        relay.push(b"small");
        assert_eq!(relay.take_dropped(), 1);
        assert_eq!(relay.pop(), Some(large));
        relay.push(b"small");
        assert_eq!((relay.take_dropped(), relay.queue.len()), (0, 1));
        relay.pop();
        assert_eq!(relay.bytes, 0);
    }
}
