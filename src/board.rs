//! The scoreboard: one shared mapping, made before the first fork, a slot a worker.
//!
//! Owns the layout of a slot and who writes which word. A worker publishes without a system call
//! and the primary reads without asking. Leaves judging the figures to the primary.
//!
//! Every word has one writer, the worker, but for `taken`, where worker and primary meet: see
//! [`Slot::take`]. For a worker that is a program of another kind the primary writes the little that
//! it knows.

use crate::metrics::{BUCKETS, Counters};
use crate::sys::memory::SharedWords;
use std::io;
#[cfg(feature = "control")]
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many workers a cluster can have.
pub const MAX_WORKERS: usize = 1024;

// Words of a slot. `taken` has a cache line of its own, since both sides write it; `tried` changes
// with it.
const TAKEN: usize = 0;
const TRIED: usize = 1;
const TICK: usize = 8;
const BUSY_SINCE: usize = 9;
const CONNECTIONS: usize = 10;
const OPEN: usize = 11;
const REQUESTS: usize = 12;
const IN_FLIGHT: usize = 13;
const BYTES_IN: usize = 14;
const BYTES_OUT: usize = 15;
const CLASSES: usize = 16;
const POOL_WAITING: usize = 21;
const DOING: usize = 22;
const THREAD: usize = 23;
const LATENCY: usize = 24;
/// Slots of a board: as many workers again may be on their way out.
pub(crate) const SLOTS: usize = 2 * MAX_WORKERS;

/// A multiple of eight words, so that each slot begins a cache line.
const WORDS: usize = (LATENCY + BUCKETS).next_multiple_of(8);

/// The word behind the slots that concerns all workers.
const DRAINING: usize = WORDS * SLOTS;
const ALL_WORDS: usize = DRAINING + 8;

/// The mapping that the primary and all of its workers share.
#[derive(Debug)]
pub(crate) struct Board {
    words: SharedWords,
    epoch: Instant,
}

impl Board {
    /// A board of [`SLOTS`] slots; pages that are never used cost nothing.
    ///
    /// # Errors
    ///
    /// As memfd_create(2) and mmap(2).
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            words: SharedWords::new("mcluster-board", ALL_WORDS)?,
            epoch: Instant::now(),
        }))
    }

    /// The board of the program before this one, made at `epoch`.
    ///
    /// # Errors
    ///
    /// When `fd` is none.
    #[cfg(feature = "control")]
    pub(crate) fn restored(fd: OwnedFd, epoch: Instant) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            words: SharedWords::from_fd(fd, ALL_WORDS)?,
            epoch,
        }))
    }

    /// When it was made: what times on it count from.
    #[cfg(feature = "control")]
    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Primary: the cluster was told to stop.
    pub(crate) fn set_draining(&self) {
        self.words[DRAINING].store(1, Ordering::Relaxed);
    }

    /// Whether the cluster was told to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.words[DRAINING].load(Ordering::Relaxed) != 0
    }

    /// The slot with number `index`, below [`SLOTS`].
    pub(crate) fn slot(self: &Arc<Self>, index: usize) -> Slot {
        assert!(index < SLOTS, "the caller hands out slots");
        Slot {
            board: Arc::clone(self),
            base: index * WORDS,
        }
    }
}

impl AsFd for Board {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }
}

/// One worker's place on the board.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    board: Arc<Board>,
    base: usize,
}

impl Slot {
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.board.words[self.base + index]
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// Milliseconds since the board was made, from 1 on, so that 0 can mean "never".
    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.board.epoch).as_millis() as u64 + 1
    }

    /// Makes the slot ready for a new worker; for the primary, before it launches one.
    pub(crate) fn clear(&self) {
        for index in 0..WORDS {
            self.set(index, 0);
        }
    }

    /// Worker: claims the handed connection number `sequence` (from 0). False when the primary
    /// has taken it back; then the descriptor must be closed unread.
    ///
    /// Both sides decide by one compare-and-swap on one word, so a connection has one owner
    /// whoever is slow, stopped or dead.
    pub(crate) fn take(&self, sequence: u64) -> bool {
        self.word(TAKEN)
            .compare_exchange(sequence, sequence + 1, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Worker: one that it was granted and took has been accepted, or was not there. After that, so
    /// that who sees it sees the kernel's queue without it.
    pub(crate) fn count_tried(&self) {
        let tried = self.get(TRIED) + 1;
        self.word(TRIED).store(tried, Ordering::Release);
    }

    /// Primary: how many of those that it granted are no longer in the kernel's queue.
    pub(crate) fn tried(&self) -> u64 {
        self.word(TRIED).load(Ordering::Acquire)
    }

    /// Worker: a connection is about to be taken. Counted before, or the primary would believe for
    /// the rest of the turn that there is room for one more; the next publication puts it right.
    pub(crate) fn opening(&self) {
        self.set(OPEN, self.get(OPEN) + 1);
    }

    /// Primary: a program, which does not write here, has taken a connection.
    pub(crate) fn count_taken(&self) {
        self.set(CONNECTIONS, self.get(CONNECTIONS) + 1);
    }

    /// Primary: how many of the connections it handed over are settled.
    pub(crate) fn taken(&self) -> u64 {
        self.word(TAKEN).load(Ordering::Acquire)
    }

    /// Primary: takes back all handed connections from number `taken` on, up to `handed`. False
    /// when the worker took one in between.
    pub(crate) fn take_back(&self, taken: u64, handed: u64) -> bool {
        self.word(TAKEN)
            .compare_exchange(taken, handed, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Worker: says which thread it runs on.
    pub(crate) fn set_thread(&self, thread: i32) {
        self.set(THREAD, u64::from(thread.unsigned_abs()));
    }

    /// Primary: the thread that the worker runs on, once it has said so.
    pub(crate) fn thread(&self) -> Option<i32> {
        i32::try_from(self.get(THREAD))
            .ok()
            .filter(|&thread| thread > 0)
    }

    /// Worker: a turn of the loop begins.
    pub(crate) fn busy(&self, now: Instant) {
        self.set(TICK, self.get(TICK).wrapping_add(1));
        self.set(BUSY_SINCE, self.millis(now));
    }

    /// Primary: how many turns the worker's loop has made.
    pub(crate) fn turns(&self) -> u64 {
        self.get(TICK)
    }

    /// Worker: a handler is about to be called, for a request with this method by this route.
    pub(crate) fn doing(&self, method: u64, route: Option<usize>) {
        let route = route.map_or(0, |route| route as u64 + 1);
        self.set(DOING, method << 32 | route);
    }

    /// Primary: the method and the route of the last request that a handler was called for.
    pub(crate) fn last_doing(&self) -> (u64, Option<usize>) {
        let doing = self.get(DOING);
        let route = (doing & u64::from(u32::MAX)).checked_sub(1);
        (doing >> 32, route.map(|route| route as usize))
    }

    /// Worker: the turn is over, the loop is about to wait.
    pub(crate) fn idle(&self) {
        self.set(BUSY_SINCE, 0);
    }

    /// Primary: for how many milliseconds the worker's loop has been in its present turn; `None`
    /// while it waits for something to do.
    pub(crate) fn busy_for_ms(&self, now: Instant) -> Option<u64> {
        match self.get(BUSY_SINCE) {
            0 => None,
            since => Some(self.millis(now).saturating_sub(since)),
        }
    }

    /// Worker: publishes what it counted.
    pub(crate) fn publish(&self, counters: &mut Counters, pool_waiting: usize) {
        self.set(CONNECTIONS, counters.connections);
        self.set(OPEN, counters.open);
        self.set(REQUESTS, counters.requests);
        self.set(IN_FLIGHT, counters.in_flight);
        self.set(BYTES_IN, counters.bytes_in);
        self.set(BYTES_OUT, counters.bytes_out);
        for (index, count) in counters.classes.iter().enumerate() {
            self.set(CLASSES + index, *count);
        }
        self.set(POOL_WAITING, pool_waiting as u64);
        let mut changed = std::mem::take(&mut counters.changed);
        while changed != 0 {
            let bucket = changed.trailing_zeros() as usize;
            self.set(LATENCY + bucket, counters.latency[bucket]);
            changed &= changed - 1;
        }
    }

    /// Primary: connections open now.
    pub(crate) fn open(&self) -> u64 {
        self.get(OPEN)
    }

    /// Primary: requests at a handler elsewhere than on the loop.
    pub(crate) fn in_flight(&self) -> u64 {
        self.get(IN_FLIGHT)
    }

    /// Primary: what the worker has published.
    pub(crate) fn read(&self) -> (Counters, u64) {
        let mut counters = Counters {
            connections: self.get(CONNECTIONS),
            open: self.get(OPEN),
            requests: self.get(REQUESTS),
            in_flight: self.get(IN_FLIGHT),
            bytes_in: self.get(BYTES_IN),
            bytes_out: self.get(BYTES_OUT),
            ..Counters::default()
        };
        for (index, class) in counters.classes.iter_mut().enumerate() {
            *class = self.get(CLASSES + index);
        }
        for (index, bucket) in counters.latency.iter_mut().enumerate() {
            *bucket = self.get(LATENCY + index);
        }
        (counters, self.get(POOL_WAITING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_connection_has_one_owner() {
        let slot = Board::new().unwrap().slot(3);
        // Five were handed over; the worker takes two, the primary takes the rest back.
        assert!(slot.take(0));
        assert!(slot.take(1));
        assert_eq!(slot.taken(), 2);
        assert!(!slot.take_back(1, 5), "number 1 is the worker's");
        assert!(slot.take_back(2, 5));
        assert!(!slot.take(2) && !slot.take(3) && !slot.take(4));
        assert!(slot.take(5), "the next hand is the worker's again");
    }

    #[test]
    fn both_sides_racing_never_own_the_same() {
        const HANDED: u64 = 20_000;
        let slot = Board::new().unwrap().slot(0);
        let worker = {
            let slot = slot.clone();
            std::thread::spawn(move || (0..HANDED).filter(|&n| slot.take(n)).count() as u64)
        };
        let mut back = 0;
        let mut handed = 0;
        while handed < HANDED {
            handed = (handed + 7).min(HANDED);
            let taken = slot.taken();
            if taken < handed && slot.take_back(taken, handed) {
                back += handed - taken;
            }
        }
        let owned = worker.join().unwrap();
        let taken = slot.taken();
        // What neither side has settled yet would be dealt again after the worker's death.
        assert_eq!(owned + back, taken);
    }

    #[test]
    fn figures_go_across() {
        let board = Board::new().unwrap();
        let (mine, other) = (board.slot(1), board.slot(2));
        let mut counters = Counters::default();
        counters.answered(200);
        counters.open = 7;
        counters.took(Duration::from_micros(100), 1);
        mine.publish(&mut counters, 4);
        let bucket = crate::metrics::bucket(Duration::from_micros(100));
        let (read, waiting) = mine.read();
        assert_eq!((read.requests, read.open, waiting), (1, 7, 4));
        assert_eq!(read.classes[1], 1);
        assert_eq!(read.latency[bucket], 1);
        assert_eq!(other.read().0.requests, 0);
        let now = Instant::now();
        assert_eq!(mine.busy_for_ms(now), None);
        mine.busy(now);
        let later = now + Duration::from_millis(300);
        assert_eq!(mine.busy_for_ms(later), Some(300));
        mine.idle();
        assert_eq!(mine.busy_for_ms(later), None);
        mine.clear();
        assert_eq!(mine.read().0.requests, 0);
    }
}
