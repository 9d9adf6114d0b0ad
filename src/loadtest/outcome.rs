//! From what the lanes have found to the report. Owns the sums, and the verdict on the generator itself.

use super::lane::Found;
use super::report::jain;
use super::tally::Tally;
use super::timeline::Timeline;
use super::{Agent, Generator, Latency, Loadtest, Report, SCHEMA, Share, Stage};
use std::time::{Duration, Instant};

/// From this share of its time on, a busy thread is what limits.
const BUSY: f64 = 0.9;

/// Of its time on, that it was not waiting: below this share of it on a CPU, a thread waited for one.
const STARVED: f64 = 0.7;

/// In a shorter run a busy thread says nothing: it made connections.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// Requests that were sent less late than that say nothing.
const LATE: Duration = Duration::from_millis(10);

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) start: Instant,
    pub(super) plan: &'a Loadtest,
    pub(super) method: &'a str,
    pub(super) is_websocket: bool,
    pub(super) stages: Vec<Stage>,
}

/// Adds all up.
pub(super) fn report(run: Run<'_>, found: Vec<Found>, timeline: &mut Timeline) -> Report {
    let Run {
        start,
        plan,
        method,
        is_websocket,
        mut stages,
    } = run;
    let ended = found.iter().map(|lane| lane.ended).max();
    let elapsed = ended.unwrap_or(start).saturating_duration_since(start);
    let cpu = found.iter().map(|lane| lane.cpu).sum();
    let busiest = found.iter().max_by(|a, b| a.busy.total_cmp(&b.busy));
    let (busiest, its_cpu) = busiest.map_or_else(Default::default, |lane| (lane.busy, lane.cpu));
    let cores = found.len();

    let mut tallies = found.into_iter().map(|lane| lane.tally);
    let none = || Tally::new(start, Duration::from_secs(1), plan.rate.is_some());
    let mut sum = tallies.next().unwrap_or_else(none);
    tallies.for_each(|tally| sum.add(&tally));

    for (index, stage) in stages.iter_mut().enumerate() {
        sum.stage(index).fill(stage);
    }
    let all = sum.all_stages();
    let mut workers: Vec<_> = sum
        .workers()
        .map(|(worker, requests)| Share { worker, requests })
        .collect();
    workers.sort_by(|a, b| (b.requests, &a.worker).cmp(&(a.requests, &b.worker)));

    let felt = sum.planned.as_ref().unwrap_or(&sum.latency);
    let generator = Generator {
        cpu,
        busiest,
        late_max: sum.late_max,
        bottleneck: bottleneck(busiest, its_cpu, elapsed, sum.late_max, felt),
    };
    Report {
        schema: SCHEMA,
        url: plan.url.clone(),
        method: method.to_owned(),
        max_requests: plan.requests,
        max_time: plan.limit(),
        target_rps: plan.rate,
        concurrency: plan.concurrency,
        cores,
        agent: match (is_websocket, plan.keep_alive) {
            (true, _) => Agent::WebSocket,
            (false, true) => Agent::KeepAlive,
            (false, false) => Agent::None,
        },
        pipeline: plan.pipeline,
        completed: sum.completed,
        total_errors: sum.failed,
        elapsed,
        effective_rps: rate(plan, sum.completed, sum.latency.count(), elapsed),
        statuses: sum.statuses().collect(),
        errors: all.errors,
        bytes: sum.bytes,
        connections: sum.connections,
        retried: all.retried,
        jain: jain(workers.iter().map(|share| share.requests)),
        workers,
        generator,
        timeline: timeline.finish(elapsed),
        stages,
        latency: sum.latency,
        planned: sum.planned,
    }
}

/// Answers a second. A plan that was carried out has room after its last request as after any other:
/// five requests, one a second, are sent in four seconds, and are one a second nonetheless.
fn rate(plan: &Loadtest, completed: u64, answers: u64, elapsed: Duration) -> f64 {
    let planned = match (plan.rate, plan.requests) {
        (Some(rate), Some(requests)) if completed == requests => requests as f64 / rate,
        _ => 0.0,
    };
    let seconds = elapsed.as_secs_f64().max(planned);
    if seconds > 0.0 {
        answers as f64 / seconds
    } else {
        0.0
    }
}

/// Why the generator is likely to have been the bottleneck, if it is. Lateness counts where it is a good
/// part of what is measured.
fn bottleneck(
    busiest: f64,
    its_cpu: Duration,
    elapsed: Duration,
    late: Duration,
    felt: &Latency,
) -> Option<String> {
    if busiest > BUSY && elapsed >= LONG_ENOUGH {
        let percent = busiest * 100.0;
        let worked = its_cpu.as_secs_f64() >= STARVED * busiest * elapsed.as_secs_f64();
        return Some(match worked {
            true => format!(
                "a thread of the load generator was busy for {percent:.0} % of the run: with more \
                 threads the server may show more"
            ),
            false => format!(
                "a thread of the load generator had work for {percent:.0} % of the run, but a CPU for \
                 {:.0} % only: this machine was too busy for both",
                its_cpu.as_secs_f64() / elapsed.as_secs_f64() * 100.0
            ),
        });
    }
    (late > LATE && late > felt.quantile(0.99) / 10).then(|| {
        format!(
            "the load generator sent requests up to {:.1} ms behind their plan although a \
             connection was free: this machine was too busy to keep it",
            late.as_secs_f64() * 1000.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn who_was_the_bottleneck() {
        let mut felt = Latency::default();
        (0..100).for_each(|_| felt.record(300 * MILLI));
        let words = |busy, cpu, run, late| {
            bottleneck(busy, cpu * MILLI, run * MILLI, late * MILLI, &felt).unwrap_or_default()
        };
        assert_eq!(words(0.9, 900, 1000, 20), "");
        assert!(words(0.97, 900, 1000, 1).contains("busy for 97 %"));
        assert!(words(0.97, 400, 1000, 1).contains("a CPU for 40 % only"));
        assert_eq!(words(0.99, 3, 3, 1), "", "too short to say so");
        assert!(words(0.1, 100, 1000, 40).contains("40.0 ms behind"));
    }

    #[test]
    fn the_rate_of_a_plan_is_that_of_its_whole_time() {
        let second = Duration::from_secs(1);
        let plan = Loadtest::new("").rate(1.0).requests(5);
        assert_eq!(rate(&plan, 5, 5, 4 * second), 1.0);
        assert_eq!(rate(&plan, 5, 5, 10 * second), 0.5);
        assert_eq!(rate(&plan, 4, 4, 4 * second), 1.0);
        let closed = Loadtest::new("").requests(5);
        assert_eq!(rate(&closed, 5, 5, second / 2), 10.0);
        assert_eq!(rate(&closed, 0, 0, Duration::ZERO), 0.0);
    }
}
