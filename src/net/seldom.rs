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

/// Lets so much be said in a while, and counts what is more than that.
#[derive(Debug)]
pub(crate) struct Few {
    most: u32,
    every: Duration,
    until: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl Few {
    /// So much in so long at most.
    pub(crate) const fn of(most: u32, every: Duration) -> Self {
        Self {
            most,
            every,
            until: None,
            said: 0,
            unsaid: 0,
        }
    }

    /// Whether one more may be said.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        if self.until.is_none_or(|until| until <= now) {
            self.until = Some(now + self.every);
            self.said = 0;
        }
        let admitted = self.said < self.most;
        match admitted {
            true => self.said += 1,
            false => self.unsaid += 1,
        }
        admitted
    }

    /// How many were too many, once their while is over: to be asked before the next is admitted.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<u64> {
        let over = self.until.is_none_or(|until| until <= now);
        over.then(|| self.rest()).flatten()
    }

    /// How many nobody has spoken of.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.unsaid)).filter(|unsaid| *unsaid > 0)
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
    fn few_are_said_and_the_others_counted() {
        let begin = Instant::now();
        let later = begin + Duration::from_secs(1);
        let mut few = Few::of(2, Duration::from_secs(1));
        let said = (0..5).filter(|_| few.admits(begin)).count();
        assert_eq!((said, few.overdue(begin)), (2, None));
        assert_eq!((few.overdue(later), few.overdue(later)), (Some(3), None));
        assert!(few.admits(later) && few.admits(later) && !few.admits(later));
        assert_eq!((few.rest(), few.rest()), (Some(1), None));
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
