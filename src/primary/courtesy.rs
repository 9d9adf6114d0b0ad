//! How the primary deals while connections come fast: after its workers, and several at a time.
//!
//! Where it shares a CPU with them, a primary that runs the moment a connection comes deals them
//! out one by one, and each costs two changes of process. As `SCHED_BATCH` it waits until the
//! worker has nothing left to do or has had its time, finds more connections, and deals them in
//! hands. What it must not do is wait for those who compute, so it makes way only while nobody's
//! pool has anything to do. And it is the primary's alone, so it ends before something is forked,
//! started, executed or told to the application, and begins anew behind it.
//!
//! Where there is CPU to spare that changes nothing: the primary would still wake for each. There
//! it lets them gather.

use crate::net::Gathering;
use crate::sys::cpu;
use std::time::{Duration, Instant};

/// Connections a second that are many. With fewer, what dealing them costs is little.
const MANY: u64 = 3_200;

/// While connections gather, a turn of the primary begins so long after the one before. Long, since
/// for each worker that has some a turn costs a message and a change of process.
const PERIOD: Duration = Duration::from_micros(800);

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
#[derive(Clone, Copy, Debug)]
pub(super) struct Courtesy {
    turn: Turn,
    gathering: Gathering,
}

impl Default for Courtesy {
    fn default() -> Self {
        Self {
            turn: Turn::default(),
            gathering: Gathering::new(PERIOD),
        }
    }
}

impl Courtesy {
    /// So many connections have been accepted in the turn that began at `now`; `computing` says
    /// whether somebody's handlers are at work beside their loop.
    pub(super) fn accepted(
        &mut self,
        now: Instant,
        connections: usize,
        computing: impl FnOnce() -> bool,
    ) {
        if let Some(rate) = self.gathering.came(now, connections) {
            let free = rate >= MANY && !computing();
            match free {
                true => self.begin(),
                false => self.end(),
            }
            self.gathering.judge(rate, free);
        }
    }

    /// The turn that began at `began` is over: see [`Gathering::pause`].
    pub(super) fn gather(&mut self, began: Instant, deadline: Option<Instant>) -> Option<Instant> {
        self.gathering.pause(began, deadline)
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

    /// Something else than dealing follows, which others might inherit it from: the primary takes its
    /// turn as any other until it deals again.
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
            let window = Duration::from_millis(20);
            let mut window_of = |courtesy: &mut Courtesy, connections, computing| {
                courtesy.accepted(now, connections, || computing);
                now += window;
                courtesy.accepted(now, 0, || computing);
                courtesy.turn
            };
            let few = MANY as usize / 50 - 1;
            assert_eq!(window_of(&mut courtesy, few, false), Turn::Usual);
            assert_eq!(window_of(&mut courtesy, few + 1, true), Turn::Usual);
            let last = window_of(&mut courtesy, few + 1, false);
            if last == Turn::Fixed {
                return;
            }
            assert_eq!(last, Turn::Last);
            assert_eq!(window_of(&mut courtesy, few + 1, true), Turn::Usual);
            assert_eq!(window_of(&mut courtesy, few + 1, false), Turn::Last);
            // Many, but long ago.
            courtesy.accepted(now, few + 1, || false);
            courtesy.accepted(now + 2 * window, 1, || false);
            assert_eq!(courtesy.turn, Turn::Usual);
        });
    }
}
