//! When the next request may be sent. Owns the schedule and the number of requests; reads no clock.
//!
//! Closed loop: whenever a connection is free. Open loop: request `i` at `start + i / rate`, by
//! multiplication and not by adding up, so that neither a late request nor a rounded one moves those
//! behind it. Each of several lanes takes the requests whose number leaves its own as the remainder.

use super::Loadtest;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// One request, with the moment that it was planned for, where there is a plan.
    Now(Option<Instant>),
    /// Nothing before that.
    At(Instant),
    /// Nothing any more.
    Over,
}

/// The schedule of one lane.
#[derive(Debug)]
pub(super) struct Pace {
    /// The number of requests over all lanes.
    most: Option<u64>,
    /// No request is planned for then or later, and without a plan none is sent.
    until: Option<Instant>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Closed {
        /// Requests that lanes have taken.
        taken: Arc<AtomicU64>,
    },
    Open {
        start: Instant,
        rate: f64,
        /// The next request.
        next: u64,
        /// As many as there are lanes.
        step: u64,
    },
}

impl Pace {
    /// The schedule of lane `lane` of `lanes`. All of a run have the same `taken`.
    pub(super) fn new(
        plan: &Loadtest,
        start: Instant,
        lane: usize,
        lanes: usize,
        taken: &Arc<AtomicU64>,
    ) -> Self {
        let kind = match plan.rate {
            None => Kind::Closed {
                taken: Arc::clone(taken),
            },
            Some(rate) => Kind::Open {
                start,
                rate,
                next: lane as u64,
                step: lanes as u64,
            },
        };
        Self {
            most: plan.requests,
            until: plan.limit().and_then(|limit| start.checked_add(limit)),
            kind,
        }
    }

    /// Whether there is a plan that does not wait for answers.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Open { .. })
    }

    /// Takes the next request, if it may be sent at `now`.
    pub(super) fn take(&mut self, now: Instant) -> Turn {
        match &mut self.kind {
            Kind::Closed { taken } => {
                let late = self.until.is_some_and(|until| now >= until);
                let one_more = || {
                    let most = self.most.unwrap_or(u64::MAX);
                    // The load keeps the number from growing for ever once all are taken.
                    taken.load(Ordering::Relaxed) < most
                        && taken.fetch_add(1, Ordering::Relaxed) < most
                };
                match !late && one_more() {
                    true => Turn::Now(None),
                    false => Turn::Over,
                }
            }
            Kind::Open {
                start,
                rate,
                next,
                step,
            } => {
                let at = match self.most {
                    Some(most) if *next >= most => return Turn::Over,
                    _ => planned(*start, *rate, *next),
                };
                match (at, self.until) {
                    // A run of a known time takes that time.
                    (at, Some(until)) if at.is_none_or(|at| at >= until) => match now < until {
                        true => Turn::At(until),
                        false => Turn::Over,
                    },
                    (None, _) => Turn::Over,
                    (Some(at), _) if at > now => Turn::At(at),
                    (Some(at), _) => {
                        *next += *step;
                        Turn::Now(Some(at))
                    }
                }
            }
        }
    }

    /// How many requests the plan has for before its end that were not taken: what waits in vain.
    pub(super) fn left(&self) -> u64 {
        let (
            Some(until),
            Kind::Open {
                start,
                rate,
                next,
                step,
            },
        ) = (self.until, &self.kind)
        else {
            return 0;
        };
        // The first that is not before the end, by halves.
        let (mut before, mut after) = (0, self.most.unwrap_or(u64::MAX));
        while before < after {
            let middle = before + (after - before) / 2;
            match planned(*start, *rate, middle).is_some_and(|at| at < until) {
                true => before = middle + 1,
                false => after = middle,
            }
        }
        before.saturating_sub(*next).div_ceil(*step)
    }

    /// No request from now on, whatever was planned.
    pub(super) fn stop(&mut self) {
        self.most = Some(0);
    }

    /// When no further request may be sent because of the time.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// When request `number` is planned for; None beyond what a clock can show.
fn planned(start: Instant, rate: f64, number: u64) -> Option<Instant> {
    let after = Duration::try_from_secs_f64(number as f64 / rate).ok()?;
    start.checked_add(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(plan: &Loadtest, start: Instant, lane: usize, lanes: usize) -> Pace {
        Pace::new(plan, start, lane, lanes, &Arc::default())
    }

    #[test]
    fn a_number_is_shared_by_all_lanes() {
        let (start, taken) = (Instant::now(), Arc::default());
        let plan = Loadtest::new("").requests(5);
        let mut lanes: Vec<_> = (0..2)
            .map(|lane| Pace::new(&plan, start, lane, 2, &taken))
            .collect();
        for n in 0..5 {
            assert_eq!(lanes[n % 2].take(start + 1000 * SECOND), Turn::Now(None));
        }
        for lane in &mut lanes {
            assert_eq!(lane.take(start), Turn::Over);
            assert_eq!(lane.left(), 0);
        }
    }

    #[test]
    fn a_closed_loop_ends_with_its_time() {
        let start = Instant::now();
        let mut pace = pace(&Loadtest::new("").time(SECOND), start, 0, 1);
        assert_eq!(pace.take(start), Turn::Now(None));
        assert_eq!(pace.take(start + SECOND), Turn::Over);
        pace.stop();
        assert_eq!(pace.take(start), Turn::Over);
    }

    #[test]
    fn a_plan_never_slips() {
        let start = Instant::now();
        let plan = Loadtest::new("").rate(3.0).requests(3_000_000);
        let mut lanes: Vec<_> = (0..2).map(|lane| pace(&plan, start, lane, 2)).collect();
        assert_eq!(lanes[0].take(start), Turn::Now(Some(start)));
        assert_eq!(
            lanes[1].take(start),
            Turn::At(planned(start, 3.0, 1).unwrap())
        );
        // However late one is, the plan of the others stays, to the last of them.
        let late = start + 2_000_000 * SECOND;
        let mut last = start;
        while let Turn::Now(at) = lanes[1].take(late) {
            last = at.unwrap();
        }
        let expected = start + Duration::from_secs_f64(2_999_999.0 / 3.0);
        assert!(last.max(expected) - last.min(expected) < Duration::from_micros(1));
        assert_eq!(lanes[1].take(late), Turn::Over);
    }

    #[test]
    fn a_plan_with_a_time_sends_all_that_lie_before_it_and_takes_that_time() {
        let start = Instant::now();
        let plan = Loadtest::new("").rate(10.0).time(SECOND);
        let mut pace = pace(&plan, start, 0, 1);
        for _ in 0..4 {
            assert!(matches!(pace.take(start + 5 * SECOND), Turn::Now(Some(_))));
        }
        assert_eq!(pace.left(), 6);
        for _ in 0..6 {
            assert!(matches!(pace.take(start + 5 * SECOND), Turn::Now(Some(_))));
        }
        assert_eq!(pace.left(), 0);
        assert_eq!(pace.take(start), Turn::At(start + SECOND));
        assert_eq!(pace.take(start + SECOND), Turn::Over);
        pace.stop();
        assert_eq!(pace.left(), 0);
    }

    #[test]
    fn rates_beyond_all_clocks() {
        let start = Instant::now();
        let mut slow = pace(&Loadtest::new("").rate(1e-300), start, 1, 2);
        assert_eq!(slow.take(start), Turn::At(slow.until().unwrap()));
        let mut fast = pace(&Loadtest::new("").rate(1e300).requests(2), start, 0, 1);
        for _ in 0..2 {
            assert_eq!(fast.take(start), Turn::Now(Some(start)));
        }
        assert_eq!(fast.take(start), Turn::Over);
        let endless = pace(&Loadtest::new("").rate(1e300).time(SECOND), start, 0, 2);
        assert_eq!(endless.left(), u64::MAX / 2 + 1);
        let some = pace(&Loadtest::new("").rate(2.5).time(SECOND), start, 1, 2);
        assert_eq!(some.left(), 1, "of 0, 1, 2 the second");
    }
}
