//! Counters and the latency histogram's buckets: pure arithmetic.
//!
//! Owns what is counted and how latencies are binned; leaves publishing to `board` and reading
//! the clock to the loop.

use std::time::Duration;

/// Buckets of the latency histogram: four a power of two of microseconds, so a value is known
/// within a fifth; the last one takes everything from 67 seconds up.
pub(crate) const BUCKETS: usize = 4 * 25;

/// What one worker counts for itself; published to its slot of the board once a turn.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    /// Connections taken since the start.
    pub(crate) connections: u64,
    /// Connections open now.
    pub(crate) open: u64,
    /// Requests answered.
    pub(crate) requests: u64,
    /// Requests at a handler now: on the pool, or waiting for their time.
    pub(crate) in_flight: u64,
    /// Bytes read from connections.
    pub(crate) bytes_in: u64,
    /// Bytes written to connections.
    pub(crate) bytes_out: u64,
    /// Answers by class: 1xx to 5xx.
    pub(crate) classes: [u64; 5],
    /// Answers by the time from the request's last byte to the answer's encoding.
    pub(crate) latency: [u64; BUCKETS],
    /// The buckets that have changed since the last publication, a bit each.
    pub(crate) changed: u128,
}

const _: () = assert!(BUCKETS <= u128::BITS as usize, "a bit for each bucket");

impl Default for Counters {
    fn default() -> Self {
        Self {
            connections: 0,
            open: 0,
            requests: 0,
            in_flight: 0,
            bytes_in: 0,
            bytes_out: 0,
            classes: [0; 5],
            latency: [0; BUCKETS],
            changed: 0,
        }
    }
}

impl Counters {
    /// Adds what another has counted, which may be anything (it comes from shared memory), but for what is open or in flight at the moment.
    pub(crate) fn add(&mut self, other: &Self) {
        self.connections = self.connections.wrapping_add(other.connections);
        self.requests = self.requests.wrapping_add(other.requests);
        self.bytes_in = self.bytes_in.wrapping_add(other.bytes_in);
        self.bytes_out = self.bytes_out.wrapping_add(other.bytes_out);
        for (sum, one) in self.classes.iter_mut().zip(other.classes) {
            *sum = sum.wrapping_add(one);
        }
        for (sum, one) in self.latency.iter_mut().zip(other.latency) {
            *sum = sum.wrapping_add(one);
        }
    }

    /// Counts one answer.
    pub(crate) fn answered(&mut self, status: u16) {
        self.requests += 1;
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.classes[class] += 1;
    }

    /// Counts the time that `answers` answers took.
    pub(crate) fn took(&mut self, time: Duration, answers: u64) {
        let bucket = bucket(time);
        self.latency[bucket] += answers;
        self.changed |= 1 << bucket;
    }
}

/// The bucket that a latency falls into.
pub(crate) fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    if micros < 4 {
        return micros as usize;
    }
    // The top bit gives the group of four, the next two the place in it.
    let top = 63 - micros.leading_zeros();
    let place = (micros >> (top - 2)) & 3;
    ((top as usize - 1) * 4 + place as usize).min(BUCKETS - 1)
}

/// The largest latency of a bucket, in microseconds.
pub(crate) fn upper_bound(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (group, place) = (bucket / 4, bucket % 4);
    let width = 1u64 << (group - 1);
    (4 + place as u64 + 1) * width - 1
}

/// The latency in microseconds below or at which the share `q` (0 to 1) of all answers lies;
/// `None` when nothing was counted.
pub(crate) fn quantile(latency: &[u64], q: f64) -> Option<u64> {
    let total = latency
        .iter()
        .fold(0u64, |sum, count| sum.saturating_add(*count));
    if total == 0 {
        return None;
    }
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    for (bucket, count) in latency.iter().enumerate() {
        seen = u64::saturating_add(seen, *count);
        if seen >= rank {
            return Some(upper_bound(bucket));
        }
    }
    None
}

/// Jain's fairness index: 1 when all are equal, 1/n when one has everything. None of nothing.
pub(crate) fn jain(shares: impl Iterator<Item = u64> + Clone) -> Option<f64> {
    let sum: f64 = shares.clone().map(|share| share as f64).sum();
    let squares: f64 = shares.clone().map(|share| (share as f64).powi(2)).sum();
    let count = shares.count() as f64;
    (squares > 0.0).then(|| sum * sum / (count * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_in_its_bucket() {
        let mut last = 0;
        for micros in 0..5000 {
            let found = bucket(Duration::from_micros(micros));
            assert!(found == last || found == last + 1, "{micros}");
            last = found;
        }
        for micros in (0..5000).chain((0..60).map(|shift| 1 << shift)) {
            let found = bucket(Duration::from_micros(micros));
            if found < BUCKETS - 1 {
                assert!(micros <= upper_bound(found), "{micros}");
                assert!(found == 0 || micros > upper_bound(found - 1), "{micros}");
            }
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles() {
        let mut counters = Counters::default();
        assert_eq!(quantile(&counters.latency, 0.5), None);
        counters.took(Duration::from_micros(1), 98);
        counters.took(Duration::from_millis(1), 2);
        assert_eq!(quantile(&counters.latency, 0.5), Some(1));
        assert_eq!(quantile(&counters.latency, 0.98), Some(1));
        assert_eq!(quantile(&counters.latency, 0.99), Some(1023));
    }

    #[test]
    fn fairness() {
        assert_eq!(jain([5, 5, 5, 5].into_iter()), Some(1.0));
        assert_eq!(jain([8, 0, 0, 0].into_iter()), Some(0.25));
        assert_eq!(jain([].into_iter()), None);
    }

    #[test]
    fn classes() {
        let mut counters = Counters::default();
        for status in [200, 204, 404, 503, 999] {
            counters.answered(status);
        }
        assert_eq!(counters.classes, [0, 2, 0, 1, 2]);
        assert_eq!(counters.requests, 5);
    }
}
