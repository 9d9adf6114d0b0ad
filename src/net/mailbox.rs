//! Words to a loop about its connections, from any thread.
//!
//! Owns who has something for the loop to look at; leaves what that is to whoever rings.

use super::Waker;
use std::cell::Cell;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

thread_local! {
    /// Whether a loop runs on this thread.
    static IS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Whose lines have been rung, each with its own mark of that.
type Rung = Vec<(u64, Arc<AtomicBool>)>;

/// One loop's mailbox: the numbers of the connections that it should look at.
pub(crate) struct Mailbox {
    /// Without one, only the loop's own thread may ring.
    waker: Option<Waker>,
    /// The loop's thread, which needs no waking.
    thread: ThreadId,
    any: AtomicBool,
    rung: Mutex<Rung>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("any", &self.any)
            .finish_non_exhaustive()
    }
}

impl Mailbox {
    /// The mailbox of the loop that runs on this thread.
    pub(crate) fn new(waker: Option<Waker>) -> Arc<Self> {
        IS_LOOP.set(true);
        Arc::new(Self {
            waker,
            thread: std::thread::current().id(),
            any: AtomicBool::new(false),
            rung: Mutex::default(),
        })
    }

    /// A line for the connection with this number.
    pub(crate) fn line(self: &Arc<Self>, number: u64) -> Line {
        Line {
            mailbox: Arc::clone(self),
            number,
            rung: Arc::default(),
        }
    }

    /// Whether somebody has rung since the last look.
    pub(crate) fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The numbers of all who have rung, each once.
    pub(crate) fn take(&self) -> Vec<u64> {
        // Read first: a swap would take the cache line on every turn.
        if !self.has_any() {
            return Vec::new();
        }
        self.any.store(false, Ordering::Release);
        let rung = mem::take(&mut *self.rung());
        // Before anybody is looked at, so that what comes after the look rings anew.
        let heard = rung.into_iter().map(|(number, mark)| {
            mark.swap(false, Ordering::AcqRel);
            number
        });
        heard.collect()
    }

    fn rung(&self) -> MutexGuard<'_, Rung> {
        // Nothing that could panic happens under the lock.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a loop look at one connection. Clones are the same line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    mailbox: Arc<Mailbox>,
    number: u64,
    rung: Arc<AtomicBool>,
}

impl Line {
    /// Has the loop look, soon; once for all who ring before it does.
    pub(crate) fn ring(&self) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mark = Arc::clone(&self.rung);
        self.mailbox.rung().push((self.number, mark));
        let own = std::thread::current().id() == self.mailbox.thread;
        if self.mailbox.any.swap(true, Ordering::AcqRel) || own {
            return;
        }
        if let Some(waker) = &self.mailbox.waker {
            waker.wake();
        }
    }
}

/// Whether a loop runs on this thread, its own or another's: it must not wait for a client.
pub(crate) fn on_loop() -> bool {
    IS_LOOP.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Reactor;

    #[test]
    fn each_line_rings_once_until_it_is_heard() {
        let mailbox = Mailbox::new(None);
        let (one, two) = (mailbox.line(1), mailbox.line(2));
        assert!(!mailbox.has_any() && mailbox.take().is_empty());
        one.ring();
        two.ring();
        one.clone().ring();
        assert!(mailbox.has_any());
        assert_eq!(mailbox.take(), [1, 2]);
        assert!(!mailbox.has_any() && mailbox.take().is_empty());
        one.ring();
        assert_eq!(mailbox.take(), [1]);
    }

    #[test]
    fn another_thread_wakes_the_loop() {
        let mut reactor = Reactor::new().unwrap();
        let mailbox = Mailbox::new(Some(reactor.waker(1).unwrap()));
        let line = mailbox.line(7);
        assert!(on_loop());
        let other = std::thread::spawn(move || {
            assert!(!on_loop());
            line.ring();
        });
        reactor.wait(None).unwrap();
        other.join().unwrap();
        assert_eq!(mailbox.take(), [7]);
    }
}
