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

/// Counts what is said now and then, so that nothing of it goes unsaid.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: u64,
    seldom: Seldom,
}

impl Tally {
    /// So many more; how many there are to speak of, if it is time.
    pub(crate) fn add(&mut self, more: u64, now: Instant) -> Option<u64> {
        self.count += more;
        let due = self.count > 0 && self.seldom.is_due(now);
        due.then(|| self.rest())
    }

    /// How many nobody has spoken of.
    pub(crate) fn rest(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_counted_is_said_once() {
        let begin = Instant::now();
        let mut tally = Tally::default();
        assert_eq!(tally.add(0, begin), None);
        assert_eq!(tally.add(1, begin), Some(1));
        for _ in 0..1000 {
            assert_eq!(tally.add(2, begin), None);
        }
        assert_eq!(tally.add(0, begin + Duration::from_secs(10)), Some(2000));
        assert_eq!(tally.add(3, begin + Duration::from_secs(11)), None);
        assert_eq!((tally.rest(), tally.rest()), (3, 0));
    }

    #[test]
    fn it_is_said_at_once_and_then_now_and_then() {
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let mut seldom = Seldom::every(2 * second);
        let due: Vec<_> = (0..6).map(|n| seldom.is_due(begin + n * second)).collect();
        assert_eq!(due, [true, false, true, false, true, false]);
    }
}
