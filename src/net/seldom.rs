//! What would be said again and again, said now and then.

use std::time::{Duration, Instant};

/// Tells when it is worth a line in the log once more.
#[derive(Debug)]
pub(crate) struct Seldom {
    every: Duration,
    silent_until: Option<Instant>,
}

impl Default for Seldom {
    /// Every ten seconds at most.
    fn default() -> Self {
        Self::every(Duration::from_secs(10))
    }
}

impl Seldom {
    /// Once in so long at most.
    pub(crate) const fn every(every: Duration) -> Self {
        Self {
            every,
            silent_until: None,
        }
    }

    /// Whether it is time; then it is not for a while.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.silent_until.is_none_or(|until| until <= now);
        if due {
            self.silent_until = Some(now + self.every);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_now_and_then() {
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let mut seldom = Seldom::every(2 * second);
        let due: Vec<_> = (0..6).map(|n| seldom.is_due(begin + n * second)).collect();
        assert_eq!(due, [true, false, true, false, true, false]);
    }
}
