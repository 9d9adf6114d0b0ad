//! What one lane counts. Owns the counting of ends of requests; when one ends is the lane's to say.

use super::report::{Errors, MOST_WORKERS, OTHERS, Stage, Trouble};
use super::timeline::{Stretch, Timeline};
use super::{Bytes, Latency};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Statuses have three digits.
const STATUSES: usize = 1000;

/// What is counted in one stage of the run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) answers: u64,
    pub(super) failures: u64,
    pub(super) errors: Errors,
    pub(super) retried: u64,
    pub(super) max: Duration,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.errors.add(&other.errors);
        self.retried += other.retried;
        self.max = self.max.max(other.max);
    }

    /// Puts the numbers where the report has them.
    pub(super) fn fill(&self, stage: &mut Stage) {
        stage.answers = self.answers;
        stage.failures = self.failures;
        stage.errors = self.errors;
        stage.retried = self.retried;
        stage.max = self.max;
    }
}

/// One request, from the lane's point of view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// When it was about to be written or, for the first of a connection, the connection to be opened.
    pub(super) began: Instant,
    /// When it was planned for, where there is a plan.
    pub(super) planned: Option<Instant>,
}

/// The numbers of one lane.
#[derive(Debug)]
pub(super) struct Tally {
    start: Instant,
    pub(super) latency: Latency,
    pub(super) planned: Option<Latency>,
    /// By status.
    statuses: Vec<u64>,
    pub(super) bytes: Bytes,
    pub(super) connections: u64,
    /// Requests that ended, well or badly.
    pub(super) completed: u64,
    /// Those without an answer and those with a status of 400 or more.
    pub(super) failed: u64,
    workers: HashMap<Box<[u8]>, u64>,
    stages: Vec<Counts>,
    /// How late requests were sent although a connection was free, the worst.
    pub(super) late_max: Duration,
    /// When the last request was sent, or the last answer came, whichever was later.
    pub(super) last: Instant,
    stretch: Stretch,
    number: u64,
    length: Duration,
    /// When the present stretch ends.
    stretch_end: Instant,
}

impl Tally {
    /// Nothing counted yet, of a run that begins then, in stretches of that length.
    pub(super) fn new(start: Instant, length: Duration, is_planned: bool) -> Self {
        Self {
            start,
            latency: Latency::default(),
            planned: is_planned.then(Latency::default),
            statuses: vec![0; STATUSES],
            bytes: Bytes::default(),
            connections: 0,
            completed: 0,
            failed: 0,
            workers: HashMap::new(),
            stages: Vec::new(),
            late_max: Duration::ZERO,
            last: start,
            stretch: Stretch::default(),
            number: 0,
            length,
            stretch_end: start + length,
        }
    }

    /// A request was answered, whole at `done`.
    pub(super) fn answered(&mut self, sent: Sent, done: Instant, status: u16, stage: usize) {
        let took = done.saturating_duration_since(sent.began);
        self.latency.record(took);
        self.last = done;
        let mut felt = took;
        if let (Some(planned), Some(at)) = (&mut self.planned, sent.planned) {
            felt = done.saturating_duration_since(at);
            planned.record(felt);
        }
        let failure = u64::from(status >= 400);
        self.statuses[usize::from(status).min(STATUSES - 1)] += 1;
        self.completed += 1;
        self.failed += failure;
        self.stretch.latency.record(felt);
        self.stretch.errors += failure;
        let counts = self.stage(stage);
        counts.answers += 1;
        counts.failures += failure;
        counts.max = counts.max.max(felt);
    }

    /// So many requests ended without an answer.
    pub(super) fn troubled(&mut self, trouble: Trouble, count: u64, stage: usize) {
        self.completed += count;
        self.failed += count;
        self.stretch.errors += count;
        self.stage(stage).errors.count_many(trouble, count);
    }

    /// So many requests are to be sent once more.
    pub(super) fn resent(&mut self, count: u64, stage: usize) {
        self.stage(stage).retried += count;
    }

    /// A worker, by the name that it gave itself, has answered.
    pub(super) fn answered_by(&mut self, worker: &[u8]) {
        if let Some(count) = self.workers.get_mut(worker) {
            *count += 1;
        } else {
            let room = self.workers.len() < MOST_WORKERS;
            let name = if room { worker } else { OTHERS.as_bytes() };
            *self.workers.entry(name.into()).or_default() += 1;
        }
    }

    /// When [`Tally::turn_over`] is due.
    pub(super) fn stretch_end(&self) -> Instant {
        self.stretch_end
    }

    /// Hands the present stretch over if it has ended by `now`, or in any case `at_end` of the run.
    pub(super) fn turn_over(&mut self, now: Instant, at_end: bool, timeline: &Mutex<Timeline>) {
        if now < self.stretch_end && !at_end {
            return;
        }
        let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
        timeline.take(self.number, &mut self.stretch);
        let after = now.saturating_duration_since(self.start);
        let (number, end) = Timeline::number(self.length, after);
        self.number = number;
        self.stretch_end = self.start + end;
    }

    /// Counts what another lane has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        if let (Some(sum), Some(one)) = (&mut self.planned, &other.planned) {
            sum.add(one);
        }
        for (sum, one) in self.statuses.iter_mut().zip(&other.statuses) {
            *sum += one;
        }
        self.bytes.read += other.bytes.read;
        self.bytes.written += other.bytes.written;
        self.connections += other.connections;
        self.completed += other.completed;
        self.failed += other.failed;
        self.late_max = self.late_max.max(other.late_max);
        self.last = self.last.max(other.last);
        for (worker, count) in &other.workers {
            *self.workers.entry(worker.clone()).or_default() += count;
        }
        for (index, counts) in other.stages.iter().enumerate() {
            self.stage(index).add(counts);
        }
    }

    /// Answers by status.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let all = (0..).zip(self.statuses.iter().copied());
        all.filter(|(_, count)| *count > 0)
    }

    /// Answers by who gave them.
    pub(super) fn workers(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let all = self.workers.iter();
        all.map(|(name, count)| (String::from_utf8_lossy(name).into_owned(), *count))
    }

    /// What was counted in all stages together.
    pub(super) fn all_stages(&self) -> Counts {
        let mut sum = Counts::default();
        self.stages.iter().for_each(|counts| sum.add(counts));
        sum
    }

    /// What was counted in one stage.
    pub(super) fn stage(&mut self, index: usize) -> &mut Counts {
        if index >= self.stages.len() {
            self.stages.resize(index + 1, Counts::default());
        }
        &mut self.stages[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn each_end_is_counted_once_everywhere() {
        let start = Instant::now();
        let timeline = Mutex::new(Timeline::new(1000 * MILLI));
        let mut tally = Tally::new(start, 1000 * MILLI, true);
        let sent = Sent {
            began: start + 3 * MILLI,
            planned: Some(start),
        };
        tally.answered(sent, start + 5 * MILLI, 200, 0);
        tally.answered(sent, start + 7 * MILLI, 503, 2);
        tally.troubled(Trouble::Reset, 2, 2);
        tally.resent(3, 2);
        tally.answered_by(b"process 7");
        let mut sum = Tally::new(start, 1000 * MILLI, true);
        sum.add(&tally);
        sum.add(&tally);
        assert_eq!((sum.completed, sum.failed), (8, 6));
        assert_eq!(sum.statuses().collect::<Vec<_>>(), [(200, 2), (503, 2)]);
        assert_eq!(
            sum.workers().collect::<Vec<_>>(),
            [("process 7".to_owned(), 2)]
        );
        let last = *sum.stage(2);
        assert_eq!((last.answers, last.failures, last.retried), (2, 2, 6));
        assert_eq!((last.errors.total(), last.max), (4, 7 * MILLI));
        assert_eq!(sum.all_stages().answers, 4);
        let (plain, planned) = (sum.latency, sum.planned.unwrap());
        assert_eq!(
            (plain.min(), plain.max(), planned.min()),
            (2 * MILLI, 4 * MILLI + MILLI / 1000, 5 * MILLI),
            "within a thousandth"
        );

        tally.turn_over(start + 10 * MILLI, false, &timeline);
        assert_eq!(tally.stretch.errors, 3, "its time is not over");
        tally.turn_over(start + 2500 * MILLI, false, &timeline);
        assert_eq!(
            (tally.number, tally.stretch_end()),
            (2, start + 3000 * MILLI)
        );
        tally.answered(sent, start + 2600 * MILLI, 200, 0);
        tally.turn_over(start + 2600 * MILLI, true, &timeline);
        let kept = timeline.into_inner().unwrap().finish(2600 * MILLI);
        let kept: Vec<_> = kept.iter().map(|one| (one.answers, one.errors)).collect();
        assert_eq!(kept, [(2, 3), (0, 0), (1, 0)]);
    }

    #[test]
    fn endless_names_take_bounded_memory() {
        let mut tally = Tally::new(Instant::now(), MILLI, false);
        for name in 0..5000u32 {
            tally.answered_by(&name.to_be_bytes());
        }
        assert_eq!(tally.workers.len(), MOST_WORKERS + 1);
        assert_eq!(tally.workers[OTHERS.as_bytes()], 5000 - MOST_WORKERS as u64);
    }
}
