//! The cluster's figures, gathered from the scoreboard and /proc when somebody asks.

use crate::metrics::{Counters, quantile, upper_bound};
use crate::primary::members::Member;
use crate::primary::{Mode, Primary, WorkerState};
use crate::sorted::SortedMap;
use crate::status::{
    Latency, Lost, Pool, SCHEMA, State, Status, Stuck, Totals, Worker, distribution,
};
use crate::sys::proc::{self, Memory};
use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// A share of a CPU is known only over a while; and for its memory the kernel walks through all of
/// a worker's pages, which is not to be had as often as somebody asks.
const SHORTEST: Duration = Duration::from_millis(500);

/// What /proc said of a worker at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    time: Option<Duration>,
    /// Its share of a CPU up to then.
    percent: f64,
    memory: Option<Memory>,
}

/// The last one of each worker.
#[derive(Debug, Default)]
pub(in crate::primary) struct Samples(SortedMap<WorkerId, Sample>);

impl Samples {
    /// The share of a CPU that a worker has had lately, in percent, and its memory. `since` is when
    /// it was forked; `read` says how much CPU time it took so far, and its memory.
    fn of(
        &mut self,
        id: WorkerId,
        since: Instant,
        now: Instant,
        read: impl FnOnce() -> (Option<Duration>, Option<Memory>),
    ) -> (Option<f64>, Option<Memory>) {
        let last = self.0.get(&id).copied();
        let sample = match last {
            Some(last) if now.saturating_duration_since(last.at) < SHORTEST => last,
            _ => {
                let (time, memory) = read();
                let (from, before) = match last {
                    Some(last) => (last.at, last.time.unwrap_or_default()),
                    None => (since, Duration::ZERO),
                };
                let passed = now.saturating_duration_since(from);
                let used = time.unwrap_or(before).saturating_sub(before);
                let percent = match passed < SHORTEST {
                    true => 0.0,
                    false => 100.0 * used.as_secs_f64() / passed.as_secs_f64(),
                };
                Sample {
                    at: now,
                    time,
                    percent,
                    memory,
                }
            }
        };
        self.0.insert(id, sample);
        (sample.time.map(|_| sample.percent), sample.memory)
    }
}

impl Primary {
    /// Everything there is to say of the cluster now.
    pub(super) fn status(&mut self) -> Status {
        let now = self.reactor.now();
        let Some(mut console) = self.console.take() else {
            return Status::default();
        };
        let samples = &mut console.samples;
        let workers: Vec<Worker> = self
            .members
            .iter()
            .map(|member| self.worker(member, samples, now))
            .collect();
        samples.0.retain(|id, _| self.members.get(*id).is_some());
        let accepted: Vec<u64> = workers.iter().map(|worker| worker.accepted).collect();
        let mut all = self.past.counters.clone();
        for member in self.members.iter() {
            all.add(&member.slot.read().0);
        }
        let name = console.name.clone();
        self.console = Some(console);
        Status {
            schema: SCHEMA,
            name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.rules.mode.to_string(),
            schedule: self.policy.to_string(),
            pid: crate::sys::process::pid().as_raw(),
            uptime_s: seconds(now.saturating_duration_since(self.began)),
            listeners: self.ports.iter().map(|port| port.url()).collect(),
            wanted: self.supervisor.wanted() as u32,
            generation: u64::from(self.supervisor.generation()),
            workers,
            distribution: distribution(&accepted),
            lost: Lost {
                workers: self.past.lost_workers,
                connections: self.past.lost_connections,
                requests: self.past.lost_requests,
            },
            totals: totals(&all),
        }
    }

    fn worker(&self, member: &Member, samples: &mut Samples, now: Instant) -> Worker {
        let (counters, waiting) = member.slot.read();
        let pid = member.carrier.pid();
        let (cpu_percent, memory) =
            samples.of(member.id, member.since, now, || match self.rules.mode {
                Mode::Processes => (proc::cpu_time(pid).ok(), proc::memory(pid).ok()),
                // Memory is the process's, not a thread's.
                Mode::Threads => {
                    let thread = member.slot.thread();
                    let time = thread.and_then(|thread| proc::thread_cpu_time(thread).ok());
                    (time, None)
                }
            });
        let lag = member.slot.busy_for_ms(now).unwrap_or(0);
        let still = member.stuck || (member.ready && member.stands_still(now));
        let doing = still.then(|| self.doing(member.id)).flatten();
        Worker {
            id: member.id.0,
            pid: pid.as_raw(),
            place: member.place as u32,
            generation: u64::from(member.generation),
            state: match member.handle.state() {
                _ if member.stuck => State::Stuck,
                _ if member.leaving => State::Disconnecting,
                WorkerState::Forked => State::Forked,
                WorkerState::Online => State::Online,
                WorkerState::Listening => State::Listening,
                WorkerState::Disconnecting => State::Disconnecting,
                WorkerState::Dead => State::Dead,
            },
            uptime_s: seconds(now.saturating_duration_since(member.since)),
            restarts: self.past.launched_before(member.place),
            connections: counters.open,
            accepted: counters.connections,
            requests: counters.requests,
            in_flight: counters.in_flight,
            cpu_percent: cpu_percent.map(|percent| (percent * 10.0).round() / 10.0),
            rss_bytes: memory.as_ref().map(|memory| memory.rss_bytes),
            pss_bytes: memory.and_then(|memory| memory.pss_bytes),
            loop_lag_ms: lag,
            pool: Pool {
                threads: self.rules.settings.pool as u64,
                waiting,
            },
            latency_us: latency(&counters),
            stuck: doing.map(|(route, for_ms)| Stuck { route, for_ms }),
        }
    }
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

fn latency(counters: &Counters) -> Latency {
    let at = |q| quantile(&counters.latency, q);
    let last = counters.latency.iter().rposition(|&count| count > 0);
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: last.map(upper_bound),
    }
}

fn totals(counters: &Counters) -> Totals {
    let buckets = counters.latency.iter().enumerate();
    Totals {
        connections: counters.connections,
        requests: counters.requests,
        classes: counters.classes,
        bytes_in: counters.bytes_in,
        bytes_out: counters.bytes_out,
        latency: buckets
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (upper_bound(bucket), *count))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_now_and_then_however_often_somebody_asks() {
        let (mut samples, begin) = (Samples::default(), Instant::now());
        let mut reads = 0;
        let mut ask = |millis: u64| {
            let (time, bytes) = (Duration::from_millis(millis / 4), millis);
            samples.of(
                WorkerId(1),
                begin,
                begin + Duration::from_millis(millis),
                || {
                    reads += 1;
                    let memory = Memory {
                        rss_bytes: bytes,
                        pss_bytes: None,
                    };
                    (Some(time), Some(memory))
                },
            )
        };
        // Too young for a share of a CPU; its memory is known.
        let (percent, memory) = ask(100);
        assert_eq!(
            (percent, memory.map(|one| one.rss_bytes)),
            (Some(0.0), Some(100))
        );
        for millis in 101..600 {
            assert_eq!(ask(millis), (percent, memory));
        }
        let (percent, memory) = ask(600);
        assert_eq!(
            (percent, memory.map(|one| one.rss_bytes)),
            (Some(25.0), Some(600))
        );
        assert_eq!(reads, 2);
    }
}
