//! Requests at a rate: the plan never slips, and waiting for a server that stands still is counted.

use super::*;
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[test]
fn a_rate_is_kept() {
    let server = Server::polite();
    for (rate, time) in [(20.0, 500), (1000.0, 500), (2.5, 1000)] {
        let before = server.seen();
        let time = Duration::from_millis(time);
        let plan = server.plan().rate(rate).time(time).keep_alive(true);
        let report = plan.cores(2).run().unwrap();
        let expected = (rate * time.as_secs_f64()).ceil() as u64;
        assert_eq!(
            (report.completed, report.total_errors),
            (expected, 0),
            "{report:?}"
        );
        assert_eq!(server.seen() - before, expected);
        assert!(report.elapsed >= time);
        assert_adds_up(&report);
    }
}

#[test]
fn a_server_that_freezes_is_seen_from_the_plan() {
    let frozen = Arc::new(Mutex::new(()));
    let gate = Arc::clone(&frozen);
    let server = Server::new(move |client| {
        while client.take() {
            drop(gate.lock());
            if !client.answer() {
                return;
            }
        }
    });
    let plan = server.plan().rate(200.0).time(Duration::from_millis(1500));
    let running = plan.concurrency(2).keep_alive(true).start().unwrap();
    while running.progress().completed < 50 {
        assert!(!running.wait(Duration::from_millis(1)));
    }
    let freeze = Duration::from_millis(600);
    let held = frozen.lock().unwrap();
    let begin = Instant::now();
    while begin.elapsed() < freeze {
        assert!(!running.wait(freeze - begin.elapsed().min(freeze)));
    }
    drop(held);
    let report = running.finish();
    // All were sent, and those who would have come during the freeze have waited.
    assert_eq!(
        (report.completed, report.total_errors),
        (300, 0),
        "{report:?}"
    );
    let planned = report.planned.as_ref().unwrap();
    assert!(planned.quantile(0.9) > freeze / 3, "{planned:?}");
    // Two connections: two requests saw the freeze, as a closed loop counts.
    assert!(report.latency.longer_than(freeze / 3) <= 4);
    assert!(report.latency.max() >= freeze / 2);
    assert_adds_up(&report);
}

#[test]
fn a_free_connection_sends_in_time() {
    let server = Server::polite();
    let plan = server.plan().rate(500.0).requests(200).keep_alive(true);
    let report = plan.run().unwrap();
    let planned = report.planned.as_ref().unwrap();
    assert!(
        planned.quantile(0.5) < Duration::from_millis(5),
        "{report:?}"
    );
    assert!(report.generator.busiest < 0.9, "no spinning: {report:?}");
    assert!(report.connections <= 10);
}
