//! From what the lanes have found to the report. Owns the sums, and the verdict on the generator itself.

use super::lane::Found;
use super::report::fairness;
use super::tally::Tally;
use super::timeline::Timeline;
use super::{Agent, Generator, Loadtest, Report, SCHEMA, Share, Stage};
use crate::sorted::sort_by;
use crate::sys::cpu;
use std::time::{Duration, Instant};

/// From this share of its time on, a busy thread is what limits.
const BUSY: f64 = 0.9;

/// Of its time on, that it was not waiting: below this share of it on a CPU, a thread waited for one.
const STARVED: f64 = 0.7;

/// From this share of its run on, that a thread waited for a CPU, the machine is what was measured.
const DELAYED: f64 = 0.1;

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
    let stopped = found.iter().filter_map(|lane| lane.stopped).min();
    let delayed = found.iter().filter_map(|lane| lane.delayed).max();
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
    sort_by(&mut workers, |a: &Share, b| {
        (b.requests, &a.worker).cmp(&(a.requests, &b.worker))
    });

    let sending = sending(plan, start, sum.completed, sum.last, stopped);
    let felt = sum.planned.as_ref().unwrap_or(&sum.latency);
    let generator = Generator {
        cpu,
        busiest,
        late_max: sum.late_max,
        bottleneck: bottleneck(&Signs {
            busiest,
            its_cpu,
            delayed: delayed.unwrap_or_default(),
            elapsed,
            late: sum.late_max,
            p99: felt.quantile(0.99),
            can_grow: cores < plan.concurrency && cores < cpu::available().count,
        }),
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
        effective_rps: rate(sum.latency.count(), sending),
        statuses: sum.statuses().collect(),
        errors: all.errors,
        bytes: sum.bytes,
        connections: sum.connections,
        retried: all.retried,
        jain: fairness(&workers),
        workers,
        generator,
        timeline: timeline.finish(elapsed),
        stages,
        latency: sum.latency,
        planned: sum.planned,
    }
}

/// How long answers could come: until the last one did, or the last request was sent. What was waited
/// for in vain after that is no time of the server's.
///
/// A run of a time had all of it, unless it was stopped or its number was reached before. A plan that was
/// carried out has room after its last request as after any other: five requests, one a second, are sent
/// in four seconds, and are one a second nonetheless.
fn sending(
    plan: &Loadtest,
    start: Instant,
    completed: u64,
    last: Instant,
    stopped: Option<Instant>,
) -> Duration {
    let after = |at: Instant| at.saturating_duration_since(start);
    let is_whole = plan.requests == Some(completed);
    let wanted = match (plan.rate, plan.limit()) {
        (Some(rate), _) if is_whole => {
            Duration::try_from_secs_f64(completed as f64 / rate).unwrap_or_default()
        }
        (_, Some(limit)) if !is_whole => stopped.map_or(limit, |at| after(at).min(limit)),
        _ => Duration::ZERO,
    };
    wanted.max(after(last))
}

/// Answers a second.
fn rate(answers: u64, sending: Duration) -> f64 {
    let seconds = sending.as_secs_f64();
    if seconds > 0.0 {
        answers as f64 / seconds
    } else {
        0.0
    }
}

/// What tells of the generator.
struct Signs {
    busiest: f64,
    /// The CPU time of the busiest thread.
    its_cpu: Duration,
    /// How long a thread was ready to run and had no CPU, the worst.
    delayed: Duration,
    elapsed: Duration,
    late: Duration,
    p99: Duration,
    /// Whether more threads would find connections and CPUs.
    can_grow: bool,
}

/// Why the generator is likely to have been the bottleneck, if it is. Lateness counts where it is a good
/// part of what is measured.
fn bottleneck(signs: &Signs) -> Option<String> {
    let share = |time: Duration| time.as_secs_f64() / signs.elapsed.as_secs_f64();
    let is_long = signs.elapsed >= LONG_ENOUGH;
    if is_long && share(signs.delayed) > DELAYED {
        return Some(format!(
            "a thread of the load generator waited for a CPU for {:.0} % of the run: this machine was \
             too busy to measure",
            share(signs.delayed) * 100.0
        ));
    }
    if is_long && signs.busiest > BUSY {
        let percent = signs.busiest * 100.0;
        let its_share = share(signs.its_cpu);
        return Some(match its_share >= STARVED * signs.busiest {
            true if signs.can_grow => format!(
                "a thread of the load generator was busy for {percent:.0} % of the run: with more \
                 threads the server may show more"
            ),
            true => format!(
                "a thread of the load generator was busy for {percent:.0} % of the run: the server may \
                 show more to several machines"
            ),
            false => format!(
                "a thread of the load generator had work for {percent:.0} % of the run, but a CPU for \
                 {:.0} % only: this machine was too busy for both",
                its_share * 100.0
            ),
        });
    }
    (signs.late > LATE && signs.late > signs.p99 / 10).then(|| {
        format!(
            "the load generator sent requests up to {:.1} ms behind their plan although a \
             connection was free: this machine was too busy to keep it",
            signs.late.as_secs_f64() * 1000.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn words(busiest: f64, cpu: u32, run: u32, late: u32, change: impl Fn(&mut Signs)) -> String {
        let mut signs = Signs {
            busiest,
            its_cpu: cpu * MILLI,
            delayed: Duration::ZERO,
            elapsed: run * MILLI,
            late: late * MILLI,
            p99: 300 * MILLI,
            can_grow: true,
        };
        change(&mut signs);
        bottleneck(&signs).unwrap_or_default()
    }

    #[test]
    fn who_was_the_bottleneck() {
        let same = |_: &mut Signs| {};
        assert_eq!(words(0.9, 900, 1000, 20, same), "");
        assert!(words(0.97, 900, 1000, 1, same).contains("busy for 97 %"));
        assert!(words(0.97, 400, 1000, 1, same).contains("a CPU for 40 % only"));
        assert_eq!(words(0.99, 3, 3, 1, same), "", "too short to say so");
        assert!(words(0.1, 100, 1000, 40, same).contains("40.0 ms behind"));
    }

    #[test]
    fn a_thread_that_waited_for_a_cpu_says_so() {
        let delayed = |millis: u32| move |signs: &mut Signs| signs.delayed = millis * MILLI;
        assert_eq!(words(0.5, 400, 1000, 1, delayed(100)), "");
        assert!(words(0.5, 400, 1000, 1, delayed(110)).contains("a CPU for 11 % of the run"));
        assert_eq!(words(0.5, 40, 100, 1, delayed(50)), "", "too short");
        let many = words(0.97, 900, 1000, 1, |_| {});
        let full = words(0.97, 900, 1000, 1, |signs| signs.can_grow = false);
        assert!(
            many.contains("more threads") && !full.contains("threads"),
            "{full}"
        );
    }

    #[test]
    fn the_rate_is_that_of_the_time_in_which_answers_could_come() {
        let start = Instant::now();
        let over = |plan: &Loadtest, completed, last: u32| {
            sending(plan, start, completed, start + last * SECOND, None)
        };
        let plan = Loadtest::new("").rate(1.0).requests(5);
        assert_eq!(over(&plan, 5, 4), 5 * SECOND);
        assert_eq!(over(&plan, 5, 10), 10 * SECOND);
        assert_eq!(over(&plan, 4, 4), 4 * SECOND);
        // Whatever was waited for after the last answer.
        let closed = Loadtest::new("").requests(5);
        assert_eq!(over(&closed, 5, 2), 2 * SECOND);
        // But the time that was given counts, unless its number was reached, or somebody has stopped it.
        let timed = closed.time(10 * SECOND);
        assert_eq!(over(&timed, 5, 2), 2 * SECOND);
        assert_eq!(over(&timed, 4, 2), 10 * SECOND);
        assert_eq!(over(&timed, 4, 11), 11 * SECOND);
        let stopped =
            |at: u32| sending(&timed, start, 4, start + SECOND, Some(start + at * SECOND));
        assert_eq!((stopped(3), stopped(20)), (3 * SECOND, 10 * SECOND));
        assert_eq!((rate(5, SECOND / 2), rate(0, Duration::ZERO)), (10.0, 0.0));
    }
}
