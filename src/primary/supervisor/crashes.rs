//! How often workers of one place have crashed of late, and what that means for the next fork.

use std::time::{Duration, Instant};

/// A crash counts half after so long: the rate is what matters, not the age of who crashed.
const HALF_LIFE: Duration = Duration::from_secs(60);

/// So many crashes in short order are bad luck; from then on the next fork waits.
const FREE: f64 = 2.0;

/// The first wait, which doubles with each crash more, and the longest.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// How a worker went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::primary) enum Death {
    /// By itself, in good order.
    InOrder,
    /// Somebody ended it, who is not its primary: no fault of its own.
    Killed,
    /// By a fault of its own.
    Crash,
}

/// The crashes of one place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crashes {
    score: f64,
    at: Option<Instant>,
    /// In a row, without one that was ready between.
    pub(super) before_ready: u32,
}

impl Crashes {
    /// Counts one; how long the place should stay empty.
    pub(super) fn count(&mut self, was_ready: bool, now: Instant) -> Option<Duration> {
        self.before_ready = if was_ready { 0 } else { self.before_ready + 1 };
        let since = self
            .at
            .map_or(HALF_LIFE, |at| now.saturating_duration_since(at));
        let halves = since.as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.score = self.score * 0.5f64.powf(halves) + 1.0;
        self.at = Some(now);
        // The first moments of a series differ by a little less than whole crashes.
        let doublings = (self.score + 0.1 - FREE).floor();
        (doublings >= 0.0).then(|| {
            let factor = 2f64.powf(doublings.min(20.0));
            FIRST_DELAY.mul_f64(factor).min(LONGEST_DELAY)
        })
    }
}
