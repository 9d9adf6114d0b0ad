//! When to try a server again that was out of reach.
//!
//! Pure: whoever asks says what time it is, and how much of the jitter it gets. Owns nothing but the
//! decision; leaves trying to `redis`.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// How much longer a pause may be by chance, as a part of it: processes that lost the server together
/// are not to come back together.
const JITTER: u32 = 4;

/// Pauses after failures, each twice the last, and one try after each.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
    /// Nobody tries before that, since a try has failed.
    until: Option<Instant>,
    era: Era,
}

/// What was known when a call began. Calls of one era that fail together are one failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Era(u64);

impl BackOff {
    /// Whether a call may be made. After a failure one is let through when its pause is over, and no other
    /// until it is told how that went; or until the longest pause is over, so that a call that is never told
    /// of locks out nobody.
    pub(super) fn may_try(&mut self, now: Instant) -> Option<Era> {
        if let Some(until) = self.until {
            if now < until {
                return None;
            }
            self.until = Some(now + LONGEST);
        }
        Some(self.era)
    }

    /// A call was answered. Whether that is news.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.until.take().is_some()
    }

    /// A call of `era` has failed; `chance` is any number.
    pub(super) fn failed(&mut self, era: Era, now: Instant, chance: u64) {
        if era != self.era {
            return;
        }
        self.era.0 += 1;
        let pause = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let more = pause / JITTER * (chance % 1000) as u32 / 1000;
        self.until = Some(now + pause + more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut now = Instant::now();
        let mut off = BackOff::default();
        for pause in [100, 200, 400, 800, 1600, 2000, 2000, 2000] {
            let era = off.may_try(now).expect("it is due");
            off.failed(era, now, 0);
            assert_eq!(off.may_try(now + ms(pause - 1)), None, "{pause}");
            now += ms(pause);
        }
        for _ in 0..100 {
            let era = off.may_try(now).expect("it is due");
            off.failed(era, now, 0);
            now += LONGEST;
        }
    }

    #[test]
    fn chance_makes_a_pause_a_quarter_longer_at_most() {
        let now = Instant::now();
        for (chance, pause) in [
            (0, 100),
            (1000, 100),
            (500, 112),
            (999, 124),
            (u64::MAX, 115),
        ] {
            let mut off = BackOff::default();
            let era = off.may_try(now).expect("nothing has failed");
            off.failed(era, now, chance);
            assert_eq!(off.may_try(now + ms(pause - 1)), None, "{chance}");
            assert!(off.may_try(now + ms(pause + 1)).is_some(), "{chance}");
        }
    }

    #[test]
    fn one_tries_at_a_time() {
        let now = Instant::now();
        let mut off = BackOff::default();
        let era = off.may_try(now).expect("nothing has failed");
        off.failed(era, now, 0);
        let later = now + ms(150);
        assert!(off.may_try(later).is_some());
        assert_eq!(off.may_try(later), None);
        assert!(off.succeeded(), "it is back");
        // Everybody at once.
        assert!((0..3).all(|_| off.may_try(later).is_some()));
        assert!(!off.succeeded());
    }

    #[test]
    fn a_try_without_an_end_locks_out_nobody() {
        let now = Instant::now();
        let mut off = BackOff::default();
        let era = off.may_try(now).expect("nothing has failed");
        off.failed(era, now, 0);
        let later = now + ms(100);
        assert!(off.may_try(later).is_some());
        assert_eq!(off.may_try(later + LONGEST - ms(1)), None);
        assert!(off.may_try(later + LONGEST).is_some());
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let mut off = BackOff::default();
        let eras: Vec<_> = (0..16).filter_map(|_| off.may_try(now)).collect();
        for era in &eras {
            off.failed(*era, now, 0);
        }
        assert!(off.may_try(now + ms(100)).is_some());
        // One of the old ones fails late, after it was back.
        off.succeeded();
        off.failed(eras[0], now + ms(101), 0);
        assert!(off.may_try(now + ms(101)).is_some());
        // The next failure is a first one.
        let era = off.may_try(now + ms(102)).expect("it is back");
        off.failed(era, now + ms(102), 0);
        assert!(off.may_try(now + ms(202)).is_some());
    }
}
