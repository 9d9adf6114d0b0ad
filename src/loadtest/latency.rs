//! Latencies, in an HDR histogram: microseconds, three significant digits, up to an hour.

use hdrhistogram::Histogram;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::time::Duration;

/// The longest that is told apart: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// Of three digits, so that a value is known within a thousandth.
const DIGITS: u8 = 3;

/// How long things took.
///
/// As JSON: an object of whole microseconds with `mean`, `min`, `p50`, `p75`, `p90`, `p95`, `p99`,
/// `p999`, `max`, and `count`. Where nothing was counted all but the count are null.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self::with_digits(DIGITS)
    }
}

impl Latency {
    /// One that takes less memory the fewer digits it keeps (1 to 5).
    pub(crate) fn with_digits(digits: u8) -> Self {
        // It grows with the longest that is counted: what is quick takes little memory.
        let histogram = Histogram::new(digits);
        Self(histogram.expect("digits up to five"))
    }

    /// Counts one that took so long.
    pub(crate) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // Refused only where a machine has no addresses for so many counts.
        let recorded = self.0.record(micros.min(LONGEST_US));
        debug_assert!(recorded.is_ok(), "an hour is within what can be counted");
    }

    /// Counts what another one has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        // As above.
        let added = self.0.add(&other.0);
        debug_assert!(added.is_ok(), "an hour is within what can be counted");
    }

    /// Forgets everything, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The mean; 0 when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        match self.0.is_empty() {
            true => Duration::ZERO,
            false => Duration::from_nanos((self.0.mean() * 1000.0) as u64),
        }
    }

    /// The shortest; 0 when nothing was counted.
    #[must_use]
    pub fn min(&self) -> Duration {
        match self.0.is_empty() {
            true => Duration::ZERO,
            false => Duration::from_micros(self.0.min()),
        }
    }

    /// The longest; 0 when nothing was counted.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// The time within which the share `q` (0 to 1) of all was done; 0 when nothing was counted.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        // The histogram gives the upper end of a bucket, which may lie beyond the longest.
        Duration::from_micros(self.0.value_at_quantile(q).min(self.0.max()))
    }

    /// How many took longer than that.
    #[must_use]
    pub fn longer_than(&self, time: Duration) -> u64 {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.len() - self.0.count_between(0, micros.min(LONGEST_US))
    }

    /// Pairs of a share (0 to 1) and the time within which it was done, closer towards 1: a curve.
    pub fn curve(&self) -> impl Iterator<Item = (f64, Duration)> + '_ {
        let steps = self.0.iter_quantiles(5);
        steps.map(|step| {
            let time = Duration::from_micros(step.value_iterated_to().min(self.0.max()));
            (step.quantile_iterated_to(), time)
        })
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = |time: Duration| (self.count() > 0).then_some(time.as_micros() as u64);
        let mut object = serializer.serialize_struct("Latency", 10)?;
        object.serialize_field("count", &self.count())?;
        object.serialize_field("mean", &micros(self.mean()))?;
        object.serialize_field("min", &micros(self.min()))?;
        object.serialize_field("p50", &micros(self.quantile(0.5)))?;
        object.serialize_field("p75", &micros(self.quantile(0.75)))?;
        object.serialize_field("p90", &micros(self.quantile(0.9)))?;
        object.serialize_field("p95", &micros(self.quantile(0.95)))?;
        object.serialize_field("p99", &micros(self.quantile(0.99)))?;
        object.serialize_field("p999", &micros(self.quantile(0.999)))?;
        object.serialize_field("max", &micros(self.max()))?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counted() {
        let none = Latency::default();
        assert_eq!((none.count(), none.longer_than(Duration::ZERO)), (0, 0));
        for time in [none.mean(), none.min(), none.max(), none.quantile(0.99)] {
            assert_eq!(time, Duration::ZERO);
        }
        let json = serde_json::to_value(&none).unwrap();
        assert_eq!(json["count"], 0);
        let figures = json.as_object().unwrap().iter();
        assert!(
            figures
                .filter(|(key, _)| *key != "count")
                .all(|(_, value)| value.is_null())
        );
    }

    #[test]
    fn quantiles_within_a_thousandth() {
        let mut all = Latency::default();
        for millis in 1..=1000 {
            all.record(Duration::from_millis(millis));
        }
        for (q, expected) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = all.quantile(q).as_secs_f64() * 1000.0;
            assert!((found / f64::from(expected) - 1.0).abs() < 0.001, "{found}");
        }
        assert_eq!(all.min().as_millis(), 1);
        assert!(all.max() >= Duration::from_secs(1));
        assert_eq!(all.longer_than(Duration::from_millis(901)), 99);
        let curve: Vec<_> = all.curve().collect();
        assert!(
            curve
                .windows(2)
                .all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1)
        );
    }

    #[test]
    fn what_takes_forever_still_counts() {
        let mut all = Latency::with_digits(2);
        all.record(Duration::MAX);
        all.record(Duration::ZERO);
        let mut sum = Latency::with_digits(2);
        sum.add(&all);
        sum.add(&all);
        assert_eq!(sum.count(), 4);
        assert_eq!(sum.longer_than(Duration::from_secs(3000)), 2);
        sum.clear();
        assert_eq!(sum.count(), 0);
    }
}
