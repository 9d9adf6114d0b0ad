//! A number of requests is that number, however many connections and threads share it.

use super::*;
use std::time::Duration;

const NUMBERS: [u64; 3] = [1, 7, 1000];
const CONNECTIONS: [usize; 4] = [1, 3, 10, 64];

/// Runs all combinations against one server; each must have sent just what it should.
fn all(server: &Server, change: impl Fn(Loadtest) -> Loadtest) -> Vec<Report> {
    let mut reports = Vec::new();
    for number in NUMBERS {
        for connections in CONNECTIONS {
            for cores in [1, 2] {
                let before = server.seen();
                let plan = server.plan().requests(number).concurrency(connections);
                let report = change(plan).cores(cores).run().unwrap();
                let what = format!("-n {number} -c {connections}, {cores} threads: {report:?}");
                assert_eq!(report.completed, number, "{what}");
                assert_eq!(report.total_errors, 0, "{what}");
                assert_eq!(server.seen() - before, number, "{what}");
                assert_eq!(report.statuses[&200], number, "{what}");
                assert_eq!(report.cores, cores.min(connections));
                assert!(report.effective_rps > 0.0 && report.bytes.read > 0);
                assert_adds_up(&report);
                reports.push(report);
            }
        }
    }
    reports
}

#[test]
fn with_kept_connections() {
    let server = Server::polite();
    let connections = server.connections();
    let reports = all(&server, |plan| plan.keep_alive(true));
    let opened: u64 = reports.iter().map(|report| report.connections).sum();
    // The last ones may be accepted after the run.
    while server.connections() - connections < opened {
        thread::yield_now();
    }
    assert_eq!(server.connections() - connections, opened);
    for report in reports {
        assert!(report.connections <= report.concurrency as u64);
        assert_eq!(report.retried, 0);
    }
}

#[test]
fn with_a_connection_for_each() {
    let server = Server::new(|client| {
        if client.take() {
            client.say(LAST_ANSWER);
        }
    });
    for report in all(&server, |plan| plan) {
        assert_eq!(report.connections, report.completed);
    }
}

#[test]
fn with_a_connection_for_each_against_a_server_that_would_keep_it() {
    let server = Server::polite();
    for report in all(&server, |plan| plan) {
        assert_eq!(report.connections, report.completed);
    }
}

#[test]
fn with_a_pipeline() {
    let server = Server::polite();
    for pipeline in [2, 5, 100] {
        all(&server, |plan| plan.pipeline(pipeline));
    }
}

#[test]
fn with_a_rate() {
    let server = Server::polite();
    for keep in [true, false] {
        let report = server.plan().requests(300).rate(3000.0).keep_alive(keep);
        let report = report.cores(2).run().unwrap();
        assert_eq!(
            (report.completed, report.total_errors),
            (300, 0),
            "{report:?}"
        );
        assert_adds_up(&report);
    }
    assert_eq!(server.seen(), 600);
}

#[test]
fn answers_in_all_shapes() {
    // Pieces of an answer, each sent by itself; the last connection's answer ends with it.
    let shapes: [&[&[u8]]; 4] = [
        &[b"HTTP/1.1 200 OK\r\nContent-", b"Length: 3\r\n\r\na", b"bc"],
        &[
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            b"c\r\n0\r\n\r\n",
        ],
        &[
            b"HTTP/1.1 103 Early Hints\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ],
        &[b"HTTP/1.1 200 OK\r\n\r\nuntil", b" the end"],
    ];
    for (at, pieces) in shapes.into_iter().enumerate() {
        let until_close = at == 3;
        let server = Server::new(move |client| {
            while client.take() && pieces.iter().all(|piece| client.say(piece)) && !until_close {}
        });
        let report = server.plan().requests(20).concurrency(2).keep_alive(true);
        let report = report.run().unwrap();
        assert_eq!(
            (report.statuses[&200], report.total_errors),
            (20, 0),
            "{report:?}"
        );
        assert_eq!(report.connections, if until_close { 20 } else { 2 });
        assert_adds_up(&report);
    }
}

#[test]
fn large_bodies_both_ways() {
    const LARGE: usize = 3 << 20;
    let server = Server::new(|client| {
        while client.take() {
            let mut body = vec![0; LARGE];
            std::io::Read::read_exact(&mut client.reader, &mut body).unwrap();
            assert!(body.iter().all(|&byte| byte == b'x'));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            if !(client.say(head.as_bytes()) && client.say(&body)) {
                break;
            }
        }
    });
    for pipeline in [1, 3] {
        let plan = server.plan().requests(6).concurrency(2).keep_alive(true);
        let report = plan
            .pipeline(pipeline)
            .body(vec![b'x'; LARGE])
            .run()
            .unwrap();
        assert_eq!(
            (report.completed, report.total_errors),
            (6, 0),
            "{report:?}"
        );
        assert!(report.bytes.read > 6 * LARGE as u64 && report.bytes.written > 6 * LARGE as u64);
    }
}

#[test]
fn who_answered_and_how() {
    let server = Server::new(|client| {
        for status in ["200 OK", "200 OK", "404 Not Found"] {
            let who = if status == "200 OK" { "one" } else { "two" };
            let head = format!("HTTP/1.1 {status}\r\nX-Worker: {who}\r\nContent-Length: 0\r\n\r\n");
            if !(client.take() && client.say(head.as_bytes())) {
                return;
            }
        }
    });
    let plan = server.plan().requests(30).concurrency(1).keep_alive(true);
    let report = plan.run().unwrap();
    assert_eq!((report.statuses[&200], report.statuses[&404]), (20, 10));
    assert_eq!((report.total_errors, report.errors.total()), (10, 0));
    let workers: Vec<_> = report
        .workers
        .iter()
        .map(|share| (&share.worker[..], share.requests))
        .collect();
    assert_eq!(workers, [("one", 20), ("two", 10)]);
    assert!(report.jain.is_some_and(|jain| (jain - 0.9).abs() < 1e-9));
    assert_adds_up(&report);
}

#[test]
fn a_run_of_a_time_ends_then() {
    let server = Server::polite();
    let time = Duration::from_millis(300);
    let running = server.plan().time(time).keep_alive(true).start().unwrap();
    assert!(!running.wait(Duration::from_millis(1)));
    let stage = running.mark("half");
    running.settle(stage, "done", time);
    assert!(running.wait(Duration::from_secs(20)));
    let progress = running.progress();
    let report = running.finish();
    assert_eq!((progress.completed, progress.errors), (report.completed, 0));
    assert!(
        report.elapsed >= time && report.elapsed < 20 * time,
        "{:?}",
        report.elapsed
    );
    assert_eq!(report.stages[1].outcome.as_deref(), Some("done"));
    assert!(report.stages[1].answers > 0);
    assert!(report.timeline.len() >= 3, "{:?}", report.timeline);
    assert!(report.generator.cpu > Duration::ZERO);
    assert_adds_up(&report);
}

#[test]
fn a_run_can_be_stopped_or_dropped() {
    let server = Server::polite();
    let running = server
        .plan()
        .requests(u64::MAX)
        .keep_alive(true)
        .start()
        .unwrap();
    while running.progress().completed == 0 {
        running.wait(Duration::from_millis(1));
    }
    running.stop();
    let report = running.finish();
    assert_eq!((report.completed, report.total_errors), (server.seen(), 0));
    drop(
        server
            .plan()
            .requests(u64::MAX)
            .keep_alive(true)
            .start()
            .unwrap(),
    );
}
