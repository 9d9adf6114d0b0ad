//! The page of a report: of a full one, an empty one, and a hostile one.

use super::super::page::tests::well_formed;
use super::plots::share;
use super::*;
use crate::loadtest::report::Trouble;
use crate::loadtest::{Agent, Bytes, Errors, Generator, Interval, Latency, Share, Stage};

const HOSTILE: &str = "\"><script>alert('1')</script><img src=x onerror=alert(2)>&amp;\u{202e}\0";

fn empty() -> Report {
    Report {
        schema: 1,
        url: String::new(),
        method: "GET".to_owned(),
        max_requests: None,
        max_time: None,
        target_rps: None,
        concurrency: 0,
        cores: 0,
        agent: Agent::None,
        pipeline: 1,
        completed: 0,
        total_errors: 0,
        elapsed: Duration::ZERO,
        effective_rps: 0.0,
        latency: Latency::default(),
        planned: None,
        statuses: Default::default(),
        errors: Errors::default(),
        bytes: Bytes::default(),
        connections: 0,
        retried: 0,
        workers: Vec::new(),
        jain: None,
        generator: Generator::default(),
        timeline: Vec::new(),
        stages: Vec::new(),
    }
}

/// Twenty seconds at a fixed rate: the server stood still in the sixth, and lost a worker in the tenth.
fn full(words: &str) -> Report {
    let (mut latency, mut planned) = (Latency::default(), Latency::default());
    for request in 0..10_000u64 {
        let time = Duration::from_micros(300 + request * 7919 % 900);
        latency.record(time);
        let queued = Duration::from_millis(request.saturating_sub(9_500) * 2);
        planned.record(time + queued);
    }
    let mut errors = Errors::default();
    for trouble in [Trouble::Reset, Trouble::Reset, Trouble::Refused] {
        errors.count_many(trouble, 1);
    }
    let timeline = (0..20).map(|second| {
        let (answers, slow) = match second {
            6 => (0, 0),
            7 => (980, 900_000),
            10 => (430, 12_000),
            _ => (500 + second % 3, 1_150),
        };
        Interval {
            at: Duration::from_secs(second),
            length: Duration::from_secs(1),
            answers,
            errors: if second == 10 { 3 } else { 0 },
            p50: Duration::from_micros(740 + second * 7),
            p99: Duration::from_micros(1_180.max(slow)),
            max: Duration::from_micros(2_400 + slow * 11 / 10),
        }
    });
    let stage = |at, what: &str, answers| Stage {
        at: Duration::from_secs_f64(at),
        what: what.to_owned(),
        answers,
        max: Duration::from_millis(3),
        ..Stage::default()
    };
    let killed = Stage {
        outcome: Some(format!("worker 2 (pid 4712) died {words}")),
        took: Some(Duration::from_millis(84)),
        errors,
        failures: 1,
        ..stage(10.2, &format!("kill:any {words}"), 2_600)
    };
    let share = |worker: &str, requests| Share {
        worker: format!("{worker} {words}"),
        requests,
    };
    Report {
        url: format!("http://127.0.0.1:3000/{words}"),
        max_time: Some(Duration::from_secs(20)),
        target_rps: Some(500.0),
        concurrency: 64,
        cores: 2,
        agent: Agent::KeepAlive,
        pipeline: 4,
        completed: 10_003,
        total_errors: 4,
        elapsed: Duration::from_millis(20_012),
        effective_rps: 499.7,
        latency,
        planned: Some(planned),
        statuses: [(200, 9_999), (503, 1)].into(),
        errors,
        bytes: Bytes {
            read: 1_234_567,
            written: 456_789,
        },
        connections: 67,
        retried: 0,
        workers: vec![
            share("process 4711", 3_400),
            share("process 4712", 3_300),
            share("process 4713", 3_300),
        ],
        jain: Some(0.9998),
        generator: Generator {
            cpu: Duration::from_millis(5_120),
            busiest: 0.31,
            late_max: Duration::from_micros(412),
            bottleneck: Some(format!("its busiest thread had no pause. {words}")),
        },
        timeline: timeline.collect(),
        stages: vec![
            stage(0.0, "start", 5_100),
            killed,
            stage(15.0, "reload", 2_300),
        ],
        ..empty()
    }
}

fn checked(report: &Report) -> String {
    let page = html(report, &[]);
    well_formed(&page);
    for strange in ["NaN", "inf ", "=\"#", "https:", "<script", "<img", "url("] {
        assert!(!page.contains(strange), "{strange}");
    }
    page
}

#[test]
fn a_full_report() {
    let page = checked(&full(""));
    for words in [
        "<h1>Load test of http://127.0.0.1:3000/</h1>",
        "<title>Latency over time",
        "<title>Throughput over time",
        "<title>Latency by share",
        "<title>Answers by worker",
        "coordinated omission",
        "likely to have been the bottleneck",
        "0.04 % of all requests",
        "99.99 %",
        "1 refused, 2 reset",
        "worker 2 (pid 4712) died",
        "84.0 ms",
        "33.00 %",
        "1.23 MB",
        "index is 1.000",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn thresholds_have_a_word_and_a_table() {
    let mut thresholds =
        [("max-p99", "us"), ("min-rps", "per_second")].map(|(name, unit)| Threshold {
            name,
            unit,
            wanted: 50_000.0,
            got: Some(49_000.0),
            ok: true,
        });
    let page = html(&full(""), &thresholds);
    well_formed(&page);
    assert!(page.contains("<dt>Thresholds</dt><dd>ok <small>all 2</small></dd>"));
    thresholds[0].got = None;
    thresholds[0].ok = false;
    let page = html(&full(""), &thresholds);
    assert!(page.contains("<dd>missed <small>1 of 2</small></dd>"));
    for cell in [
        "at most 50.000 ms",
        "nothing",
        "missed",
        "at least 50000.000 a second",
    ] {
        assert!(page.contains(&format!(">{cell}</td>")), "{cell}");
    }
    assert!(!html(&full(""), &[]).contains("Thresholds"));
}

#[test]
fn shares_of_statuses_are_of_the_answers() {
    let page = checked(&Report {
        completed: 200,
        statuses: [(200, 75), (503, 25)].into(),
        ..full("")
    });
    assert!(page.contains(">75.00 %</td>") && page.contains(">25.00 %</td>"));
}

#[test]
fn a_run_that_nobody_answered_has_no_empty_grid() {
    let silent = |at| Interval {
        at: Duration::from_secs(at),
        length: Duration::from_secs(1),
        errors: 5,
        ..Interval::default()
    };
    let page = checked(&Report {
        timeline: vec![silent(0), silent(1)],
        ..empty()
    });
    assert_eq!(page.matches("nothing to show").count(), 1, "of two plots");
}

#[test]
fn an_empty_report() {
    let page = checked(&empty());
    assert!(page.contains("Nothing was answered"));
    assert!(!page.contains("<svg") && !page.contains("coordinated omission"));
}

#[test]
fn a_hostile_report() {
    let page = checked(&full(HOSTILE));
    assert!(page.contains("&lt;script&gt;") && !page.contains('\u{202e}') && !page.contains('\0'));
    // Where it is no address of the report's own, there is none.
    assert_eq!(
        page.matches("http:").count(),
        page.matches("http://127.0.0.1:3000/").count()
    );
}

#[test]
fn many_workers_and_a_single_interval() {
    let workers = (0..100).map(|number| Share {
        worker: format!("process {number}"),
        requests: 1,
    });
    let mut latency = Latency::default();
    latency.record(Duration::from_micros(1));
    let page = checked(&Report {
        workers: workers.collect(),
        latency,
        timeline: vec![Interval::default()],
        statuses: [(200, 100)].into(),
        ..full("")
    });
    assert!(page.contains("and 80 others") && !page.contains("process 20<"));
}

#[test]
fn without_a_rate_there_is_one_latency() {
    let page = checked(&Report {
        planned: None,
        target_rps: None,
        ..full("")
    });
    assert!(page.contains("answered within") && !page.contains("from the planned time"));
    assert!(!page.contains("coordinated omission"));
}

#[test]
fn shares_in_words() {
    let found = [0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999].map(share);
    assert_eq!(
        found,
        ["0 %", "50 %", "90 %", "95 %", "99 %", "99.9 %", "99.99 %"]
    );
}
