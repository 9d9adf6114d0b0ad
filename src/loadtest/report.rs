//! What a load test found, as values. How they are shown is left to the files below.

use super::Latency;
use crate::metrics::jain;
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeStruct, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How a request can end without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// Nobody listens there (`ECONNREFUSED`).
    Refused,
    /// The connection was reset (`ECONNRESET`, `EPIPE`).
    Reset,
    /// The connection was closed in good order before the answer was whole.
    Closed,
    /// No whole answer within the time-out.
    TimedOut,
    /// What came is no HTTP/1.1 answer, or no echo of the message.
    Parse,
    /// No way to the host (`EHOSTUNREACH`, `ENETUNREACH`, and time-outs of the network itself).
    Unreachable,
    /// This machine is out of descriptors or ports (`EMFILE`, `ENFILE`, `EADDRNOTAVAIL`, `ENOBUFS`).
    Exhausted,
    /// Anything else.
    Other,
}

impl Trouble {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::Reset,
        Self::Closed,
        Self::TimedOut,
        Self::Parse,
        Self::Unreachable,
        Self::Exhausted,
        Self::Other,
    ];

    /// Its name in reports: `refused`, `reset`, `closed`, `time-out`, `parse`, `unreachable`,
    /// `exhausted`, `other`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::TimedOut => "time-out",
            Self::Parse => "parse",
            Self::Unreachable => "unreachable",
            Self::Exhausted => "exhausted",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many requests ended without an answer, by kind. As JSON: an object of those that happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors([u64; Trouble::ALL.len()]);

impl Errors {
    /// Counts so many.
    pub(crate) fn count_many(&mut self, trouble: Trouble, count: u64) {
        self.0[trouble as usize] += count;
    }

    /// Counts what another one has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, one) in self.0.iter_mut().zip(other.0) {
            *sum += one;
        }
    }

    /// How many of that kind.
    #[must_use]
    pub fn of(&self, trouble: Trouble) -> u64 {
        self.0[trouble as usize]
    }

    /// How many of any kind.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The kinds that happened, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (Trouble, u64)> + '_ {
        let all = Trouble::ALL.into_iter();
        all.map(|trouble| (trouble, self.of(trouble)))
            .filter(|(_, count)| *count > 0)
    }
}

impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for (trouble, count) in self.iter() {
            object.serialize_entry(trouble.name(), &count)?;
        }
        object.end()
    }
}

/// What carries the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Agent {
    /// A connection for each request.
    None,
    /// Connections that are kept.
    KeepAlive,
    /// WebSocket connections.
    WebSocket,
}

impl Agent {
    /// As loadtest calls it: `none`, `keepalive`, `websocket`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::KeepAlive => "keepalive",
            Self::WebSocket => "websocket",
        }
    }
}

/// Bytes on the wire, heads included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// One worker's share of the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// What it calls itself: the value of `X-Worker`, or what the body says, such as `process 4711`.
    pub worker: String,
    /// Answers.
    pub requests: u64,
}

/// The generator itself, for whoever asks whether it was the bottleneck.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Generator {
    /// CPU time of all its threads.
    #[serde(rename = "cpu_s", serialize_with = "seconds")]
    pub cpu: Duration,
    /// The share of its run that the busiest thread was not waiting for anything, 0 to 1.
    pub busiest: f64,
    /// With a rate: how late requests were sent behind their plan although a connection was free, the worst.
    #[serde(rename = "late_max_us", serialize_with = "micros")]
    pub late_max: Duration,
    /// Why it is likely that the generator was the bottleneck and not the server; None where it was not.
    pub bottleneck: Option<String>,
}

/// What happened in one stretch of the run. Latencies are from the planned time where there is a rate,
/// and nothing where nothing was answered: then they are zero here, and null as JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// When it began, from the start of the run.
    pub at: Duration,
    /// How long it is. The last one may be shorter than the others.
    pub length: Duration,
    /// Answers in it.
    pub answers: u64,
    /// Requests that ended in it without an answer, or with a status of 400 or more.
    pub errors: u64,
    /// Half of its answers took at most so long.
    pub p50: Duration,
    /// 99 of 100.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Interval {
    /// One of its latencies; None where nothing was answered, and hence nothing took any time.
    pub(crate) fn known(&self, latency: Duration) -> Option<Duration> {
        (self.answers > 0).then_some(latency)
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = |latency| self.known(latency).map(whole_micros);
        let mut object = serializer.serialize_struct("Interval", 7)?;
        object.serialize_field("at_s", &self.at.as_secs_f64())?;
        object.serialize_field("length_s", &self.length.as_secs_f64())?;
        object.serialize_field("answers", &self.answers)?;
        object.serialize_field("errors", &self.errors)?;
        object.serialize_field("p50_us", &micros(self.p50))?;
        object.serialize_field("p99_us", &micros(self.p99))?;
        object.serialize_field("max_us", &micros(self.max))?;
        object.end()
    }
}

/// The time from one mark of the run to the next: what a fault cost. The first begins with the run.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// When it began, from the start of the run.
    pub at: Duration,
    /// What was done then: `start` for the first.
    pub what: String,
    /// What came of it, once that is known.
    pub outcome: Option<String>,
    /// How long it took to be done, once that is known.
    pub took: Option<Duration>,
    /// Answers in it.
    pub answers: u64,
    /// Of these, statuses of 400 or more.
    pub failures: u64,
    /// Requests that ended in it without an answer.
    pub errors: Errors,
    /// Requests that were sent once more in it, as [`Report::retried`].
    pub retried: u64,
    /// The longest that an answer in it took (from its planned time, where there is a rate); zero where
    /// there was none, and null as JSON.
    pub max: Duration,
}

impl Stage {
    /// The longest that an answer in it took; None where there was none.
    pub(crate) fn longest(&self) -> Option<Duration> {
        (self.answers > 0).then_some(self.max)
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let took = self.took.map(|took| took.as_secs_f64());
        let mut object = serializer.serialize_struct("Stage", 9)?;
        object.serialize_field("at_s", &self.at.as_secs_f64())?;
        object.serialize_field("what", &self.what)?;
        object.serialize_field("outcome", &self.outcome)?;
        object.serialize_field("took_s", &took)?;
        object.serialize_field("answers", &self.answers)?;
        object.serialize_field("failures", &self.failures)?;
        object.serialize_field("errors", &self.errors)?;
        object.serialize_field("retried", &self.retried)?;
        object.serialize_field("max_us", &self.longest().map(whole_micros))?;
        object.end()
    }
}

/// What a load test found.
///
/// A request is *completed* when it has ended, well or badly. It is *answered* when an answer came
/// whole, whatever its status. *Errors* are requests without an answer, and statuses of 400 or more.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`](super::SCHEMA).
    pub schema: u32,
    /// What was asked for.
    pub url: String,
    /// By which method.
    pub method: String,
    /// The number of requests that was asked for, if one was.
    pub max_requests: Option<u64>,
    /// The time that was asked for, if one was.
    #[serde(rename = "max_seconds", serialize_with = "maybe_seconds")]
    pub max_time: Option<Duration>,
    /// The rate that was asked for, if one was, a second.
    pub target_rps: Option<f64>,
    /// Connections at most, over all threads.
    pub concurrency: usize,
    /// Threads.
    pub cores: usize,
    /// What carried the requests.
    pub agent: Agent,
    /// Requests on their way on one connection, at most.
    pub pipeline: usize,
    /// Requests that ended, well or badly.
    pub completed: u64,
    /// Those without an answer and those with a status of 400 or more.
    pub total_errors: u64,
    /// How long the run took, from the first connection to the last answer.
    #[serde(rename = "total_time_s", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Answers a second, until the last one came; at least for as long as requests were sent, or were to
    /// be sent. What was waited for in vain after that does not count.
    pub effective_rps: f64,
    /// Of the answers: from the beginning of writing the request (for the first one of a connection, of
    /// connecting) to the last byte of the answer.
    #[serde(rename = "latency_us")]
    pub latency: Latency,
    /// With a rate: from the moment that the request was planned for. What a client would have seen that
    /// does not wait for others.
    #[serde(rename = "planned_latency_us")]
    pub planned: Option<Latency>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// What ended without an answer, by kind.
    pub errors: Errors,
    /// On the wire.
    pub bytes: Bytes,
    /// Connections that were opened.
    pub connections: u64,
    /// Requests that were sent once more on a new connection, since the server had closed the kept one
    /// before it read them (RFC 9112 section 9.3.1), as far as TCP tells: by a reset right after the
    /// request, or by an end in good order that did not acknowledge it; or since they were behind the last
    /// answer of their connection, or behind a request that was given up for its time. They count once in
    /// everything else, and are no errors.
    pub retried: u64,
    /// Who answered, most answers first; empty where nobody says.
    pub workers: Vec<Share>,
    /// Jain's fairness index over them, from 1/n to 1; None where nobody says who answered. Of more than
    /// 4096 the rest counts as `others` and is left out of it.
    pub jain: Option<f64>,
    /// The generator itself.
    pub generator: Generator,
    /// The run in stretches of equal length.
    pub timeline: Vec<Interval>,
    /// The run from mark to mark.
    pub stages: Vec<Stage>,
}

impl Report {
    /// Requests that were answered, whatever the status.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Errors, in percent of what was completed.
    #[must_use]
    pub fn errors_percent(&self) -> f64 {
        match self.completed {
            0 => 0.0,
            completed => self.total_errors as f64 * 100.0 / completed as f64,
        }
    }

    /// The latency that a user of the server would speak of: from the planned time where there is one.
    #[must_use]
    pub fn felt(&self) -> &Latency {
        self.planned.as_ref().unwrap_or(&self.latency)
    }
}

/// The most workers that are told apart by their names.
pub(super) const MOST_WORKERS: usize = 4096;

/// All others, which are none of them.
pub(super) const OTHERS: &str = "others";

/// Those workers whose answers were counted one by one.
pub(crate) fn told_apart(workers: &[Share]) -> impl Iterator<Item = &Share> + Clone {
    let are_all = workers.len() <= MOST_WORKERS;
    let apart = move |share: &&Share| are_all || share.worker != OTHERS;
    workers.iter().filter(apart)
}

/// Jain's index over the workers that are told apart.
pub(crate) fn fairness(workers: &[Share]) -> Option<f64> {
    jain(told_apart(workers).map(|share| share.requests))
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn maybe_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

fn micros<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_micros(*time))
}

fn whole_micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_kind() {
        let mut errors = Errors::default();
        for trouble in Trouble::ALL {
            errors.count_many(trouble, 1);
        }
        errors.count_many(Trouble::Reset, 1);
        let mut sum = errors;
        sum.add(&errors);
        assert_eq!((errors.total(), sum.total()), (9, 18));
        assert_eq!(sum.of(Trouble::Reset), 4);
        let names: Vec<_> = errors.iter().map(|(trouble, _)| trouble.name()).collect();
        assert_eq!(names.len(), Trouble::ALL.len());
        assert_eq!(
            serde_json::to_value(Errors::default()).unwrap(),
            serde_json::json!({})
        );
    }

    #[test]
    fn what_nobody_answered_took_no_time_at_all() {
        let quick = Duration::from_micros(3);
        let interval = |answers| {
            serde_json::to_value(Interval {
                answers,
                max: quick,
                ..Interval::default()
            })
            .unwrap()
        };
        let stage = |answers| {
            serde_json::to_value(Stage {
                answers,
                max: quick,
                took: Some(quick * 1_000_000),
                ..Stage::default()
            })
            .unwrap()
        };
        for key in ["p50_us", "p99_us", "max_us"] {
            assert!(interval(0)[key].is_null() && interval(1)[key].is_u64());
        }
        assert!(stage(0)["max_us"].is_null());
        assert_eq!(
            (&stage(1)["max_us"], &stage(1)["took_s"]),
            (&3.into(), &3.0.into())
        );
    }

    #[test]
    fn fairness_of_those_who_are_told_apart() {
        let share = |worker: &str, requests| Share {
            worker: worker.to_owned(),
            requests,
        };
        let few = [share("a", 1), share(OTHERS, 3)];
        assert_eq!(fairness(&few), jain([1, 3].into_iter()), "its own name");
        let mut many = vec![share("a", 2); MOST_WORKERS];
        many.push(share(OTHERS, 900));
        assert_eq!(fairness(&many), Some(1.0));
    }
}
