//! Servers that misbehave: each request ends as one kind of trouble, and the run goes on.

use super::*;
use crate::loadtest::Trouble;
use std::time::{Duration, Instant};

/// Runs so many requests, all of which must end in that kind of trouble.
fn all_end(plan: Loadtest, number: u64, trouble: Trouble) -> Report {
    let report = plan.requests(number).run().unwrap();
    assert_eq!(report.completed, number, "{report:?}");
    assert_eq!(report.errors.of(trouble), number, "{report:?}");
    assert_eq!(report.total_errors, number);
    assert_adds_up(&report);
    report
}

/// The requests that were lost though nobody had read them: a server that stands still for long between
/// its answer and the end that it puts to the connection looks like one that died at its work.
fn lost_to_a_stall(report: &Report) -> u64 {
    let lost = report.errors.of(Trouble::Reset);
    assert_eq!(lost, report.total_errors, "{report:?}");
    assert!(lost <= report.completed / 4, "{report:?}");
    lost
}

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let plan = Loadtest::new(&format!("http://{address}/"));
    for keep in [true, false] {
        let plan = plan.clone().keep_alive(keep).concurrency(3).cores(2);
        let report = all_end(plan, 20, Trouble::Refused);
        assert_eq!(report.connections, 0);
    }
    // A dead server costs no CPU.
    let report = plan
        .concurrency(5)
        .time(Duration::from_millis(300))
        .run()
        .unwrap();
    assert_eq!(report.errors.of(Trouble::Refused), report.completed);
    assert!(
        (5..=200).contains(&report.completed),
        "{}",
        report.completed
    );
}

#[test]
fn localhost_is_found_where_a_browser_finds_it() {
    let server = Server::polite();
    let url = format!("http://localhost:{}/", server.address.port());
    let report = Loadtest::new(&url)
        .requests(20)
        .concurrency(4)
        .run()
        .unwrap();
    assert_eq!(
        (report.completed, report.total_errors),
        (20, 0),
        "{report:?}"
    );
    assert_eq!(report.connections, 20);
}

#[test]
fn garbage() {
    let server = Server::new(|client| {
        client.take();
        client.say(b"SSH-2.0-nothing\r\n");
    });
    for keep in [true, false] {
        all_end(
            server.plan().keep_alive(keep).concurrency(2),
            10,
            Trouble::Parse,
        );
    }
}

#[test]
fn half_an_answer() {
    let server = Server::new(|client| {
        client.take();
        client.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal");
    });
    for keep in [true, false] {
        let plan = server.plan().keep_alive(keep).concurrency(2);
        let report = all_end(plan, 10, Trouble::Closed);
        assert_eq!(report.retried, 0);
    }
}

#[test]
fn hung_up_on() {
    let server = Server::new(|client| {
        client.take();
    });
    all_end(server.plan().concurrency(2), 10, Trouble::Closed);
    // The first request of a connection is never sent again.
    let report = all_end(server.plan().keep_alive(true), 10, Trouble::Closed);
    assert_eq!(report.retried, 0);
    assert_eq!(server.seen(), 20);
}

#[test]
fn resets() {
    let server = Server::new(|client| {
        client.take();
        client.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal");
        crate::sys::socket::reset(std::os::fd::AsFd::as_fd(&client.stream));
    });
    for keep in [true, false] {
        all_end(
            server.plan().keep_alive(keep).concurrency(2),
            10,
            Trouble::Reset,
        );
    }
}

#[test]
fn no_answer_in_time() {
    // Takes requests and says nothing until the client hangs up.
    let server = Server::new(|client| while client.take() {});
    let plan = server
        .plan()
        .concurrency(2)
        .timeout(Duration::from_millis(30));
    for plan in [
        plan.clone(),
        plan.clone().keep_alive(true),
        plan.pipeline(3),
    ] {
        let begin = Instant::now();
        all_end(plan, 6, Trouble::TimedOut);
        let took = begin.elapsed();
        assert!((30..3000).contains(&took.as_millis()), "{took:?}");
    }
}

#[test]
fn a_stalled_server_does_not_hold_up_the_end() {
    let server = Server::new(|client| while client.take() {});
    let plan = server.plan().concurrency(2).keep_alive(true);
    let plan = plan.timeout(Duration::from_millis(100));
    let report = plan
        .clone()
        .rate(50.0)
        .time(Duration::from_millis(200))
        .run()
        .unwrap();
    assert_eq!(report.completed, 10, "all that were planned: {report:?}");
    assert_eq!(report.errors.of(Trouble::TimedOut), 10);
    assert_adds_up(&report);

    let running = plan.timeout(Duration::from_secs(600)).start().unwrap();
    while server.seen() < 3 {
        thread::yield_now();
        if running.wait(Duration::ZERO) {
            break;
        }
    }
    drop(running);
}

#[test]
fn connections_that_are_closed_between_requests_are_no_errors() {
    // Without a word, with one, and with both after a while.
    for (at, last) in [ANSWER, LAST_ANSWER].into_iter().enumerate() {
        for every in [1, 3, 10] {
            let server = Server::new(move |client| {
                for _ in 1..every {
                    if !(client.take() && client.answer()) {
                        return;
                    }
                }
                if client.take() {
                    client.say(last);
                }
            });
            // What was sent behind an answer that did not say so may have been read, and lost.
            for pipeline in [1, 4].into_iter().take(1 + at) {
                let plan = server.plan().requests(60).concurrency(3).keep_alive(true);
                let report = plan.pipeline(pipeline).run().unwrap();
                assert_eq!(report.completed, 60, "{report:?}");
                let lost = lost_to_a_stall(&report);
                assert!(lost == 0 || at == 0, "{report:?}");
                assert!(
                    report.connections >= report.answered() / every,
                    "{report:?}"
                );
                if at == 1 && pipeline == 1 {
                    assert_eq!(report.retried, 0);
                }
                assert_adds_up(&report);
            }
        }
    }
}

#[test]
fn what_nobody_has_read_is_sent_again_where_it_may_be() {
    let server = Server::new(|client| {
        if client.take() && client.answer() {
            client.peek();
        }
    });
    let plan = server.plan().requests(20).concurrency(1).keep_alive(true);
    let report = plan.clone().method("POST").run().unwrap();
    assert_eq!((report.completed, report.retried), (20, 0), "{report:?}");
    assert_eq!(report.errors.of(Trouble::Reset), 10, "{report:?}");
    assert_eq!(server.seen(), 10);
    let report = plan.run().unwrap();
    let lost = lost_to_a_stall(&report);
    // One that is lost is not sent again, nor is the next, which has a new connection, if there is one.
    let retried = report.retried + 2 * lost;
    assert!((19..=19 + lost.min(1)).contains(&retried), "{report:?}");
    assert_eq!(report.stages[0].retried, report.retried);
}

#[test]
fn what_was_read_is_lost_though_the_connection_was_kept() {
    // At once, and after far longer than a round trip, which is far less than people call a while.
    for work in [Duration::ZERO, Duration::from_millis(20)] {
        let server = Server::new(move |client| {
            if client.take() && client.answer() && client.take() {
                thread::sleep(work);
            }
        });
        let plan = server.plan().requests(8).concurrency(1).keep_alive(true);
        for method in ["GET", "POST"] {
            let report = plan.clone().method(method).run().unwrap();
            assert_eq!(report.errors.of(Trouble::Closed), 4, "{report:?}");
            assert_eq!((report.completed, report.retried), (8, 0), "{report:?}");
        }
    }
}

#[test]
fn a_parting_word_on_an_idle_connection_is_nobodys_answer() {
    let server = Server::new(|client| {
        if client.take() && client.answer() {
            client.say(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
        }
    });
    // A request that meets the word on its way has it for an answer: they are far apart.
    let plan = server.plan().requests(5).rate(10.0).concurrency(1);
    let report = plan.keep_alive(true).run().unwrap();
    assert_eq!(
        (report.statuses[&200], report.completed),
        (5, 5),
        "{report:?}"
    );
}

/// Answers in pieces that never end.
fn flood(client: &mut Client) {
    if client.take() && client.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n") {
        let chunks = b"1\r\na\r\n".repeat(100_000);
        while client.say(&chunks) {}
    }
}

#[test]
fn an_answer_without_an_end_takes_nobodys_turn() {
    let server = Server::new(flood);
    let plan = server.plan().concurrency(2);
    let late = plan.clone().timeout(Duration::from_millis(100));
    all_end(late.clone().keep_alive(true), 4, Trouble::TimedOut);
    let begin = Instant::now();
    let timed = late.time(Duration::from_millis(150)).run().unwrap();
    assert_eq!(timed.errors.of(Trouble::TimedOut), timed.completed);
    let running = plan.start().unwrap();
    while server.seen() < 6 {
        running.wait(Duration::from_millis(1));
    }
    assert!(!running.wait(Duration::from_millis(50)));
    drop(running);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn each_request_has_its_own_time() {
    // One connection answers for a while and then falls silent, beside one that is slow all the time.
    let number = AtomicU64::new(0);
    let begin = Instant::now();
    let server = Server::new(move |client| {
        let is_slow = number.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        while client.take() {
            let time = if is_slow { 250 } else { 40 };
            thread::sleep(Duration::from_millis(time));
            if !is_slow && begin.elapsed() > Duration::from_millis(450) {
                while client.take() {}
                return;
            }
            client.answer();
        }
    });
    let limit = Duration::from_millis(300);
    let plan = server.plan().concurrency(2).timeout(limit);
    let plan = plan.pipeline(2).time(Duration::from_millis(700));
    let report = plan.run().unwrap();
    assert!(report.errors.of(Trouble::TimedOut) > 0, "{report:?}");
    // Nothing that took longer was an answer, nor was it waited for.
    assert!(report.latency.max() < limit + limit / 3, "{report:?}");
    let end = Duration::from_millis(700) + 2 * limit;
    assert!(report.elapsed < end, "{report:?}");
    assert_adds_up(&report);
}

#[test]
fn those_behind_one_that_is_late_have_time_of_their_own() {
    // The third request of the first connection is never answered.
    let number = AtomicU64::new(0);
    let server = Server::new(move |client| {
        let is_first = number.fetch_add(1, Ordering::SeqCst) == 0;
        let mut count = 0;
        while client.take() {
            count += 1;
            if is_first && count == 3 {
                while client.take() {}
                return;
            }
            // So the fourth is sent 150 ms after it, and has as much time left when it is given up.
            thread::sleep(Duration::from_millis(if is_first { 150 } else { 1 }));
            client.answer();
        }
    });
    let plan = server.plan().requests(12).concurrency(1).pipeline(2);
    let plan = plan.timeout(Duration::from_millis(500));
    let report = plan.run().unwrap();
    assert_eq!(report.errors.of(Trouble::TimedOut), 1, "{report:?}");
    assert_eq!((report.total_errors, report.retried), (1, 1), "{report:?}");
    assert_adds_up(&report);
}
