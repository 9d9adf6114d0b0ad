//! How fast a client is, over the time that it was waited for.

use std::time::{Duration, Instant};

/// What a client has sent, or taken, while it was waited for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when it is waited for.
    since: Option<Instant>,
    /// How long it was waited for before that, and how many bytes that brought.
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// So many bytes went through at `now`; from here on the client is waited for, or not.
    pub(super) fn note(&mut self, now: Instant, bytes: u64, waiting: bool) {
        if let Some(since) = self.since {
            self.waited += now.saturating_duration_since(since);
            self.bytes += bytes;
        }
        self.since = waiting.then_some(now);
    }

    /// Whether it has been slower than `rate` bytes a second, for longer than `grace`.
    pub(super) fn is_below(&self, rate: u64, grace: Duration) -> bool {
        self.waited > grace && (self.bytes as f64) < rate as f64 * self.waited.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_that_it_was_waited_for_counts() {
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        let mut pace = Pace::default();
        pace.note(begin, 1_000_000, true);
        for n in 1..=10 {
            pace.note(begin + n * second, 1, true);
        }
        assert!(!pace.is_below(2, 10 * second), "within its grace");
        assert!(pace.is_below(2, 9 * second) && !pace.is_below(1, 9 * second));
        // A pause of ours is no fault of the client's.
        pace.note(begin + 10 * second, 0, false);
        pace.note(begin + 1000 * second, 20, true);
        pace.note(begin + 1001 * second, 20, true);
        assert!(!pace.is_below(2, 9 * second));
        assert!(!pace.is_below(0, Duration::ZERO), "0 is off");
    }
}
