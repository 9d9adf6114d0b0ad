//! Reports that nobody measured, for the tests of those who show or judge them.

use crate::loadtest::{
    Agent, Bytes, Errors, Generator, Interval, Latency, Report, SCHEMA, Share, Stage, Trouble,
};
use crate::metrics::jain;
use std::collections::BTreeMap;
use std::time::Duration;

/// The millisecond, two and so on, over and over.
fn latencies(count: u64, up_to_ms: u64) -> Latency {
    let mut all = Latency::default();
    for at in 0..count {
        all.record(Duration::from_millis(1 + at % up_to_ms));
    }
    all
}

fn interval(at_ms: u64, length_ms: u64, answers: u64, errors: u64) -> Interval {
    Interval {
        at: Duration::from_millis(at_ms),
        length: Duration::from_millis(length_ms),
        answers,
        errors,
        p50: Duration::from_millis(1),
        p99: Duration::from_millis(2),
        max: Duration::from_millis(3),
    }
}

/// A thousand requests in ten seconds, all well.
pub(crate) fn report() -> Report {
    let workers = [("process 11", 600), ("process 12", 400)];
    Report {
        schema: SCHEMA,
        url: "http://127.0.0.1:3000/".to_owned(),
        method: "GET".to_owned(),
        max_requests: Some(1000),
        max_time: None,
        target_rps: None,
        concurrency: 10,
        cores: 1,
        agent: Agent::None,
        pipeline: 1,
        completed: 1000,
        total_errors: 0,
        elapsed: Duration::from_secs(10),
        effective_rps: 100.0,
        latency: latencies(1000, 50),
        planned: None,
        statuses: BTreeMap::from([(200, 1000)]),
        errors: Errors::default(),
        bytes: Bytes {
            read: 123_456,
            written: 65_432,
        },
        connections: 1000,
        retried: 0,
        workers: workers
            .map(|(worker, requests)| Share {
                worker: worker.to_owned(),
                requests,
            })
            .to_vec(),
        jain: jain([600, 400].into_iter()),
        generator: Generator {
            cpu: Duration::from_millis(500),
            busiest: 0.05,
            ..Generator::default()
        },
        timeline: vec![interval(0, 1000, 100, 0), interval(1000, 500, 50, 2)],
        stages: vec![Stage {
            what: "start".to_owned(),
            answers: 1000,
            ..Stage::default()
        }],
    }
}

/// The same where 15 of them failed.
pub(crate) fn with_errors() -> Report {
    let mut errors = Errors::default();
    (0..7).for_each(|_| errors.count_many(Trouble::Reset, 1));
    (0..3).for_each(|_| errors.count_many(Trouble::TimedOut, 1));
    Report {
        total_errors: 15,
        effective_rps: 99.0,
        latency: latencies(990, 200),
        statuses: BTreeMap::from([(200, 985), (503, 5)]),
        errors,
        retried: 2,
        ..report()
    }
}

/// The same at a rate, where the server stood still for a while, and things were done to it.
pub(crate) fn at_a_rate() -> Report {
    Report {
        target_rps: Some(100.0),
        max_time: Some(Duration::from_secs(10)),
        agent: Agent::KeepAlive,
        pipeline: 4,
        planned: Some(latencies(1000, 1000)),
        generator: Generator {
            bottleneck: Some("a thread was busy for 95 % of the run".to_owned()),
            ..Generator::default()
        },
        stages: vec![
            Stage {
                what: "start".to_owned(),
                answers: 500,
                max: Duration::from_millis(5),
                ..Stage::default()
            },
            Stage {
                at: Duration::from_secs(5),
                what: "kill:any (worker 2)".to_owned(),
                outcome: Some("2 workers listen again".to_owned()),
                took: Some(Duration::from_millis(12)),
                answers: 498,
                failures: 1,
                retried: 3,
                errors: with_errors().errors,
                max: Duration::from_millis(900),
            },
        ],
        ..report()
    }
}

/// One whom nobody answered.
pub(crate) fn without_answers() -> Report {
    let mut errors = Errors::default();
    (0..10).for_each(|_| errors.count_many(Trouble::Refused, 1));
    Report {
        completed: 10,
        total_errors: 10,
        effective_rps: 0.0,
        latency: Latency::default(),
        statuses: BTreeMap::new(),
        errors,
        bytes: Bytes::default(),
        workers: Vec::new(),
        jain: None,
        timeline: Vec::new(),
        ..report()
    }
}
