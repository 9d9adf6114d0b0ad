//! The run in stretches of equal length. Owns how they are kept within bounds; a lane fills a stretch
//! of its own and hands it over when it is past.
//!
//! Several lanes hand in the same stretch, so its histograms are added up until all have moved on;
//! only then do its percentiles become numbers. When more than [`MOST`] stretches are kept, each two
//! neighbours become one of twice the length: its counts are their sums, its percentiles and its longest
//! the larger ones of the two. So a run of days takes no more memory than one of ten minutes.

use super::{Interval, Latency};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most stretches that are kept.
const MOST: usize = 600;

/// The most stretches whose histograms are kept for lanes that are late.
const OPEN: usize = 8;

/// A last stretch that is shorter than the others by this factor is a part of the one before it.
const CRUMB: u32 = 2;

/// How long a stretch is at first, for a run of that time.
pub(super) fn length(limit: Option<Duration>) -> Duration {
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(1));
    limit.map_or(most, |limit| (limit / 60).clamp(least, most))
}

/// What one lane has seen in one stretch.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) latency: Latency,
    pub(super) errors: u64,
}

impl Default for Stretch {
    fn default() -> Self {
        Self {
            latency: Latency::with_digits(2),
            errors: 0,
        }
    }
}

impl Stretch {
    fn is_empty(&self) -> bool {
        self.errors == 0 && self.latency.count() == 0
    }

    fn clear(&mut self) {
        self.latency.clear();
        self.errors = 0;
    }

    fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.errors += other.errors;
    }
}

/// The stretches of all lanes.
#[derive(Debug)]
pub(super) struct Timeline {
    length: Duration,
    /// Those that lanes may still hand in, by number.
    open: BTreeMap<u64, Stretch>,
    /// Used again for the next one.
    spare: Vec<Stretch>,
    kept: Vec<Interval>,
    /// How many stretches of the first length each of `kept` stands for.
    scale: u64,
}

impl Timeline {
    /// None yet, each to be so long.
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            open: BTreeMap::new(),
            spare: Vec::new(),
            kept: Vec::new(),
            scale: 1,
        }
    }

    /// The number of the stretch that lies so long after the start, and when it ends.
    pub(super) fn number(length: Duration, after: Duration) -> (u64, Duration) {
        let number = u64::try_from(after.as_nanos() / length.as_nanos()).unwrap_or(u64::MAX);
        let end = u32::try_from(number + 1).unwrap_or(u32::MAX);
        (number, length.saturating_mul(end))
    }

    /// Takes what a lane has seen in stretch `number`, and empties it.
    pub(super) fn take(&mut self, number: u64, stretch: &mut Stretch) {
        if !stretch.is_empty() {
            let sum = self.open.entry(number);
            sum.or_insert_with(|| self.spare.pop().unwrap_or_default())
                .add(stretch);
            stretch.clear();
        }
        while self.open.len() > OPEN {
            self.close_first();
        }
    }

    /// All stretches, of a run that took so long.
    pub(super) fn finish(&mut self, elapsed: Duration) -> Vec<Interval> {
        while !self.open.is_empty() {
            self.close_first();
        }
        if elapsed > Duration::ZERO {
            // What ends exactly with the run begins no stretch of its own.
            let last = elapsed.saturating_sub(Duration::from_nanos(1));
            self.place(Self::number(self.length, last).0);
        }
        let mut kept = std::mem::take(&mut self.kept);
        let Some(mut last) = kept.pop() else {
            return kept;
        };
        let whole = last.length;
        last.length = elapsed.saturating_sub(last.at).min(whole);
        match kept.last_mut() {
            // A rate of the last microseconds would say nothing.
            Some(before) if last.length < whole / CRUMB => {
                add(before, &last);
                before.length += last.length;
            }
            _ => kept.push(last),
        }
        kept
    }

    fn close_first(&mut self) {
        let Some((number, mut stretch)) = self.open.pop_first() else {
            return;
        };
        let found = Interval {
            answers: stretch.latency.count(),
            errors: stretch.errors,
            p50: stretch.latency.quantile(0.5),
            p99: stretch.latency.quantile(0.99),
            max: stretch.latency.max(),
            ..Interval::default()
        };
        add(self.place(number), &found);
        stretch.clear();
        self.spare.push(stretch);
    }

    /// Where stretch `number` is kept; those before it are there from then on, empty or not.
    fn place(&mut self, number: u64) -> &mut Interval {
        while number / self.scale >= MOST as u64 {
            self.fold();
        }
        let index = (number / self.scale) as usize;
        while self.kept.len() <= index {
            let nth = u32::try_from(self.kept.len() as u64 * self.scale).unwrap_or(u32::MAX);
            let scale = u32::try_from(self.scale).unwrap_or(u32::MAX);
            self.kept.push(Interval {
                at: self.length.saturating_mul(nth),
                length: self.length.saturating_mul(scale),
                ..Interval::default()
            });
        }
        &mut self.kept[index]
    }

    fn fold(&mut self) {
        self.scale *= 2;
        let pairs = self.kept.chunks(2).map(|pair| {
            let mut sum = pair[0].clone();
            sum.length *= 2;
            if let Some(second) = pair.get(1) {
                add(&mut sum, second);
            }
            sum
        });
        self.kept = pairs.collect();
    }
}

fn add(sum: &mut Interval, other: &Interval) {
    sum.answers += other.answers;
    sum.errors += other.errors;
    sum.p50 = sum.p50.max(other.p50);
    sum.p99 = sum.p99.max(other.p99);
    sum.max = sum.max.max(other.max);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stretch(millis: &[u64], errors: u64) -> Stretch {
        let mut stretch = Stretch {
            errors,
            ..Stretch::default()
        };
        for &millis in millis {
            stretch.latency.record(Duration::from_millis(millis));
        }
        stretch
    }

    #[test]
    fn lengths_and_numbers() {
        assert_eq!(length(None), SECOND);
        assert_eq!(length(Some(SECOND)), SECOND / 10);
        assert_eq!(length(Some(30 * SECOND)), SECOND / 2);
        assert_eq!(length(Some(9000 * SECOND)), SECOND);
        assert_eq!(Timeline::number(SECOND, 5 * SECOND / 2), (2, 3 * SECOND));
        assert_eq!(Timeline::number(SECOND, SECOND), (1, 2 * SECOND));
    }

    #[test]
    fn lanes_meet_in_a_stretch_and_silence_is_there_too() {
        let mut all = Timeline::new(SECOND);
        all.take(0, &mut stretch(&[1, 1, 1], 0));
        all.take(3, &mut stretch(&[], 2));
        all.take(0, &mut stretch(&[9], 0));
        let kept = all.finish(7 * SECOND / 2);
        let answers: Vec<_> = kept.iter().map(|one| (one.answers, one.errors)).collect();
        assert_eq!(answers, [(4, 0), (0, 0), (0, 0), (0, 2)]);
        assert_eq!(kept[0].max.as_millis(), 9);
        assert!(kept[0].p50 < Duration::from_millis(2));
        assert_eq!((kept[3].at, kept[3].length), (3 * SECOND, SECOND / 2));
        assert_eq!(kept[1].length, SECOND);
    }

    #[test]
    fn the_last_crumb_is_no_stretch_of_its_own() {
        let mut all = Timeline::new(SECOND);
        all.take(0, &mut stretch(&[1], 0));
        all.take(1, &mut stretch(&[5], 1));
        let kept = all.finish(SECOND + SECOND / 50);
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].answers, kept[0].errors), (2, 1));
        assert_eq!(kept[0].length, SECOND + SECOND / 50);
        assert!(kept[0].max >= Duration::from_millis(5));
    }

    #[test]
    fn days_take_no_more_than_minutes() {
        let mut all = Timeline::new(SECOND);
        let days = 200_000;
        for number in 0..days {
            all.take(number, &mut stretch(&[1 + number % 7], 1));
        }
        let kept = all.finish(u32::try_from(days).unwrap() * SECOND);
        assert!((MOST / 2..=MOST).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.iter().map(|one| one.answers).sum::<u64>(), days);
        assert_eq!(kept.iter().map(|one| one.errors).sum::<u64>(), days);
        for pair in kept.windows(2) {
            assert_eq!(pair[0].at + pair[0].length, pair[1].at);
            assert!(pair[0].p50 >= Duration::from_millis(6), "the larger ones");
        }
        assert!(all.spare.len() <= OPEN + 1);
    }

    #[test]
    fn a_late_lane_is_counted() {
        let mut all = Timeline::new(SECOND);
        for number in 0..20 {
            all.take(number, &mut stretch(&[1], 0));
        }
        all.take(0, &mut stretch(&[50], 0));
        let kept = all.finish(20 * SECOND);
        assert_eq!((kept.len(), kept[0].answers), (20, 2));
        assert!(kept[0].max >= Duration::from_millis(50));
    }
}
