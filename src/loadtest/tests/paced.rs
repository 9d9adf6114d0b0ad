//! Requests at a rate: the plan never slips, and waiting for a server that stands still is counted.

use super::*;
use crate::loadtest::Trouble;
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
        planned.quantile(0.2) < Duration::from_millis(2),
        "{report:?}"
    );
    assert!(report.generator.busiest < 0.9, "no spinning: {report:?}");
    assert!(report.connections <= 10);
}

#[test]
fn an_outage_costs_what_was_planned_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plan = Loadtest::new(&format!("http://{address}/")).rate(2000.0);
    let time = Duration::from_millis(400);
    for plan in [plan.clone(), plan.keep_alive(true).pipeline(3)] {
        // Two places, each with a pause, would try 80 times.
        let report = plan.concurrency(2).time(time).run().unwrap();
        assert_eq!(report.errors.of(Trouble::Refused), 800, "{report:?}");
        assert_eq!(report.completed, 800);
        assert!(report.elapsed < time + time / 2, "{report:?}");
    }
}

#[test]
fn a_hung_request_does_not_make_the_others_slower() {
    let server = Server::new(|client| {
        while client.take() {
            if client.seen.load(Ordering::SeqCst) == 20 {
                while client.take() {}
                return;
            }
            client.answer();
        }
    });
    let plan = server.plan().rate(100.0).time(Duration::from_millis(400));
    let plan = plan.keep_alive(true).timeout(Duration::from_millis(1500));
    let report = plan.run().unwrap();
    assert_eq!(
        (report.completed, report.total_errors),
        (40, 1),
        "{report:?}"
    );
    assert!(report.elapsed > Duration::from_millis(1500));
    assert!((60.0..=100.0).contains(&report.effective_rps), "{report:?}");
}
