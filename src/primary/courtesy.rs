//! Whether the primary lets its workers finish before it deals them more.
//!
//! Where it shares a CPU with them, a primary that runs the moment a connection comes deals them
//! out one by one, and each costs two changes of process. As `SCHED_BATCH` it waits until the
//! worker has nothing left to do or has had its time, finds more connections, and deals them in
//! hands; on a CPU of its own nothing changes. What it must not do is wait for those who compute,
//! so it makes way only while connections come fast and nobody's pool has anything to do. And it is
//! the primary's alone, so it ends before something is forked, started, executed or told to the
//! application, and begins anew behind it.

use super::Primary;
use crate::sys::cpu;
use std::time::{Duration, Instant};

/// How long it is looked how fast connections come.
const WINDOW: Duration = Duration::from_millis(20);

/// Connections in a window that are many. With fewer, what dealing them costs is little.
const MANY: u32 = 64;

/// How the primary takes its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// As any other.
    #[default]
    Usual,
    /// After its workers.
    Last,
    /// Somebody else has said how, or it cannot be changed.
    Fixed,
}

/// How the primary takes its turn, and how fast connections come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Courtesy {
    turn: Turn,
    /// When the window began, and the connections since.
    since: Option<Instant>,
    dealt: u32,
}

impl Courtesy {
    /// Connections are there to be dealt; `computing` says whether somebody's pool has work.
    pub(super) fn deals(
        &mut self,
        now: Instant,
        connections: usize,
        computing: impl FnOnce() -> bool,
    ) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= WINDOW {
            let many = elapsed < 2 * WINDOW && self.dealt >= MANY;
            match many && !computing() {
                true => self.begin(),
                false => self.end(),
            }
            (self.since, self.dealt) = (Some(now), 0);
        }
        let more = u32::try_from(connections).unwrap_or(u32::MAX);
        self.dealt = self.dealt.saturating_add(more);
    }

    fn begin(&mut self) {
        if self.turn == Turn::Usual {
            self.turn = match cpu::yield_to_running() {
                Ok(true) => Turn::Last,
                Ok(false) => Turn::Fixed,
                Err(error) => {
                    log::debug!("the primary deals without making way: {error}");
                    Turn::Fixed
                }
            };
        }
    }

    /// Something else than dealing, which others might inherit it from.
    pub(super) fn end(&mut self) {
        if self.turn == Turn::Last {
            self.turn = Turn::Usual;
            if let Err(error) = cpu::yield_no_more() {
                log::warn!("the primary goes on making way: {error}");
                self.turn = Turn::Fixed;
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

    /// In a thread of its own, whose policy is nobody else's.
    fn apart(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn it_ends_as_it_was_and_begins_again() {
        apart(|| {
            let mut courtesy = Courtesy::default();
            courtesy.end();
            assert_eq!(courtesy.turn, Turn::Usual);
            for _ in 0..2 {
                courtesy.begin();
                if courtesy.turn == Turn::Fixed {
                    // Not in a sandbox that allows no such call, or under another policy.
                    return;
                }
                assert_eq!(courtesy.turn, Turn::Last);
                assert!(!cpu::yield_to_running().unwrap(), "it is so already");
                courtesy.end();
                assert_eq!(courtesy.turn, Turn::Usual);
            }
        });
    }

    #[test]
    fn it_lasts_while_connections_come_fast_and_nobody_computes() {
        apart(|| {
            let mut courtesy = Courtesy::default();
            let mut now = Instant::now();
            let mut window = |courtesy: &mut Courtesy, connections, computing| {
                courtesy.deals(now, connections, || computing);
                now += WINDOW;
                courtesy.deals(now, 0, || computing);
                courtesy.turn
            };
            let few = MANY as usize - 1;
            assert_eq!(window(&mut courtesy, few, false), Turn::Usual);
            assert_eq!(window(&mut courtesy, few + 1, true), Turn::Usual);
            let last = window(&mut courtesy, few + 1, false);
            if last == Turn::Fixed {
                return;
            }
            assert_eq!(last, Turn::Last);
            assert_eq!(window(&mut courtesy, few + 1, true), Turn::Usual);
            assert_eq!(window(&mut courtesy, few + 1, false), Turn::Last);
            // Many, but long ago.
            courtesy.deals(now, few + 1, || false);
            courtesy.deals(now + 2 * WINDOW, 1, || false);
            assert_eq!(courtesy.turn, Turn::Usual);
        });
    }
}
