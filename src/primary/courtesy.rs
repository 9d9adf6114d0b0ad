//! Whether the primary lets its workers finish before it deals them more.
//!
//! Where it shares a CPU with them, a primary that runs the moment a connection comes deals them
//! out one by one, and each costs two changes of process. As `SCHED_BATCH` it waits until the
//! worker has nothing left to do or has had its time, finds more connections, and deals them in
//! hands; on a CPU of its own nothing changes. Only who deals needs it, so the first connection
//! that is dealt begins it; and it is the primary's alone, so it ends before something is forked,
//! started, executed or told to the application, and begins anew behind it.

use super::Primary;
use crate::sys::cpu;

/// How the primary takes its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Courtesy {
    /// As any other.
    #[default]
    Usual,
    /// After its workers.
    Last,
    /// Somebody else has said how, or it cannot be changed.
    Fixed,
}

impl Courtesy {
    /// There is something to deal.
    pub(super) fn begin(&mut self) {
        if *self == Self::Usual {
            *self = match cpu::yield_to_running() {
                Ok(true) => Self::Last,
                Ok(false) => Self::Fixed,
                Err(error) => {
                    log::debug!("the primary deals without making way: {error}");
                    Self::Fixed
                }
            };
        }
    }

    /// Something else than dealing, which others might inherit it from.
    pub(super) fn end(&mut self) {
        if *self == Self::Last {
            *self = Self::Usual;
            if let Err(error) = cpu::yield_no_more() {
                log::warn!("the primary goes on making way: {error}");
                *self = Self::Fixed;
            }
        }
    }
}

impl Primary {
    /// Runs as any other from here on, until it deals again: for what others inherit it from.
    pub(super) fn end_courtesy(&mut self) {
        self.courtesy.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_as_it_was_and_begins_again() {
        // In a thread of its own, whose policy is nobody else's.
        let thread = std::thread::spawn(|| {
            let mut courtesy = Courtesy::default();
            courtesy.end();
            assert_eq!(courtesy, Courtesy::Usual);
            for _ in 0..2 {
                courtesy.begin();
                if courtesy == Courtesy::Fixed {
                    // Not in a sandbox that allows no such call, or under another policy.
                    return;
                }
                assert_eq!(courtesy, Courtesy::Last);
                assert!(!cpu::yield_to_running().unwrap(), "it is so already");
                courtesy.end();
                assert_eq!(courtesy, Courtesy::Usual);
            }
        });
        thread.join().unwrap();
    }
}
