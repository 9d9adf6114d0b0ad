//! When session stores are swept, and by whom: a worker at a time, in turn.
//!
//! The primary opens no store itself: what it had open its children would inherit. A store that all share is
//! swept by each of them in turn, one that each has for itself as often as there are workers less.

use super::Primary;
use crate::ipc::Message;
use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// How often one worker sweeps.
const EVERY: Duration = Duration::from_secs(60);

/// Whose turn it is, and when.
#[derive(Debug, Default)]
pub(super) struct State {
    at: Option<Instant>,
    last: Option<WorkerId>,
}

impl State {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it is time. The first time is after a while.
    fn is_due(&mut self, now: Instant) -> bool {
        let at = *self.at.get_or_insert(now + EVERY);
        if at <= now {
            self.at = Some(now + EVERY);
        }
        at <= now
    }

    /// Who is next: the first behind the one before, else the first.
    fn next(&mut self, workers: impl Iterator<Item = WorkerId>) -> Option<WorkerId> {
        let last = self.last;
        // Those behind it go before those that have had their turn.
        self.last = workers.min_by_key(|id| (Some(*id) <= last, *id));
        self.last
    }
}

/// Whether this program has stores.
fn is_wanted() -> bool {
    #[cfg(feature = "sessions")]
    return crate::app::session::sweep::is_wanted();
    #[cfg(not(feature = "sessions"))]
    return false;
}

impl Primary {
    /// Has a worker sweep when it is time.
    pub(super) fn have_swept(&mut self) {
        let now = self.reactor.now();
        // Asked until there is one: with threads an application may make it in a worker.
        if self.sweeps.at.is_none() && !is_wanted() {
            return;
        }
        if !self.sweeps.is_due(now) {
            return;
        }
        let ready = self.members.iter().filter(|member| member.ready);
        let next = self.sweeps.next(ready.map(|member| member.id));
        if let Some(member) = next.and_then(|id| self.members.get_mut(id)) {
            member.say(&Message::Sweep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_sweep_in_turn() {
        let mut state = State::default();
        let mut turn = |workers: &[u32]| {
            let next = state.next(workers.iter().map(|id| WorkerId(*id)));
            next.map(|id| id.0)
        };
        assert_eq!(turn(&[2, 1, 3]), Some(1));
        assert_eq!(turn(&[2, 1, 3]), Some(2));
        assert_eq!(turn(&[1, 4]), Some(4), "three is gone");
        assert_eq!(turn(&[1, 4]), Some(1));
        assert_eq!(turn(&[]), None);
        assert_eq!(turn(&[5]), Some(5));
    }

    #[test]
    fn it_is_time_once_in_a_while() {
        let mut state = State::default();
        let begin = Instant::now();
        assert!(!state.is_due(begin) && !state.is_due(begin + EVERY / 2));
        assert!(state.is_due(begin + EVERY) && !state.is_due(begin + EVERY));
        assert_eq!(state.deadline(), Some(begin + EVERY * 2));
        assert!(state.is_due(begin + EVERY * 5));
        assert_eq!(state.deadline(), Some(begin + EVERY * 6));
    }
}
