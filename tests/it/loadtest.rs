//! What `mcluster loadtest` counts, against a server that is not ours and counts by itself.
//!
//! How many requests, how many connections, answers of every shape, and every kind of error. When
//! requests are sent is in `loadtest_rate`, what they say in `loadtest_asks`.

use crate::generator::{plain, report};
use crate::plain_server::{Asked, PlainServer, Step, answer, ok};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Every number of requests with every number of clients, with `more` flags; whether connections
/// are kept.
fn exact(more: &[&str], kept: bool) {
    for n in ["1", "7", "1000"] {
        for c in ["1", "2", "10", "64"] {
            for cores in ["1", "2"] {
                let server = PlainServer::good();
                let url = server.url();
                let mut arguments = vec!["-n", n, "-c", c, "--cores", cores, &url];
                arguments.extend(more);
                let what = arguments.join(" ");
                let run = report(&arguments);
                let (count, clients): (u64, u64) = (n.parse().unwrap(), c.parse().unwrap());
                assert_eq!(server.count(), count, "{what}");
                run.all_good(&what, count);
                let opened = run.number("connections");
                assert_eq!(opened, server.connections(), "{what}");
                match kept {
                    true => assert!(opened <= clients.min(count), "{what}: {opened}"),
                    false => assert_eq!(opened, count, "{what}"),
                }
            }
        }
    }
}

#[test]
fn exact_with_a_connection_for_each() {
    exact(&[], false);
}

#[test]
fn exact_with_connections_that_are_kept() {
    exact(&["-k"], true);
}

#[test]
fn exact_with_a_pipeline() {
    exact(&["-k", "--pipeline", "4"], true);
}

#[test]
fn never_more_connections_than_clients() {
    let slow = |_: &Asked| vec![Step::Wait(Duration::from_millis(5)), Step::Say(ok("x"))];
    for more in [
        &["-k"][..],
        &["--rps", "2000", "-k"],
        &["--cores", "2", "-k"],
    ] {
        let server = PlainServer::start(slow);
        let url = server.url();
        let arguments = [&["-n", "100", "-c", "3", &url], more].concat();
        report(&arguments).all_good(&arguments.join(" "), 100);
        assert!(server.most() <= 3, "{}", server.most());
    }
}

/// What a server of a name says, to which method.
fn shapes() -> Vec<(&'static str, &'static str, Vec<Step>)> {
    let say = |text: &str| Step::Say(text.as_bytes().to_vec());
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n00a\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let huge = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n".to_vec(),
        vec![b'x'; 10 * 1024 * 1024],
    ]
    .concat();
    vec![
        ("chunked", "GET", vec![say(chunks)]),
        (
            "chunked, octet by octet",
            "GET",
            vec![Step::Trickle(chunks.into())],
        ),
        ("octet by octet", "GET", vec![Step::Trickle(ok("a few"))]),
        ("no body", "GET", vec![Step::Say(ok(""))]),
        ("204", "GET", vec![say("HTTP/1.1 204 No Content\r\n\r\n")]),
        (
            "304 with a length",
            "GET",
            vec![say(
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
            )],
        ),
        (
            "HEAD",
            "HEAD",
            vec![say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")],
        ),
        (
            "HEAD, chunked",
            "HEAD",
            vec![say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")],
        ),
        (
            "until close",
            "GET",
            vec![say("HTTP/1.1 200 OK\r\n\r\nup to here"), Step::Close],
        ),
        (
            "until close, HTTP/1.0",
            "GET",
            vec![say("HTTP/1.0 200 OK\r\n\r\nup to here"), Step::Close],
        ),
        (
            "HTTP/1.0 with a length",
            "GET",
            vec![
                say("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"),
                Step::Close,
            ],
        ),
        (
            "1xx before",
            "GET",
            vec![
                say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
                Step::Say(ok("after")),
            ],
        ),
        (
            "a head in two parts",
            "GET",
            vec![
                say("HTTP/1.1 200 OK\r\nContent-Le"),
                Step::Wait(Duration::from_millis(5)),
                say("ngth: 2\r\n\r"),
                Step::Wait(Duration::from_millis(5)),
                say("\nok"),
            ],
        ),
        ("ten megabytes", "GET", vec![Step::Say(huge)]),
    ]
}

#[test]
fn answers_of_every_shape() {
    for (name, method, steps) in shapes() {
        for more in [&["-k"][..], &[]] {
            let script = steps.clone();
            let server = PlainServer::start(move |_| script.clone());
            let url = server.url();
            let arguments = [&["-n", "5", "-c", "2", "-m", method, &url], more].concat();
            let what = format!("{name}: {}", arguments.join(" "));
            report(&arguments).all_good(&what, 5);
            assert_eq!(server.count(), 5, "{what}");
            let connections = match (more, name.contains("close") || name.contains("1.0")) {
                ([], _) | (_, true) => 5..=5,
                _ => 1..=2,
            };
            assert!(connections.contains(&server.connections()), "{what}");
        }
    }
}

/// A server that ends its connections after so many answers costs no request.
fn ends_each_connection(said: bool) {
    // What is pipelined behind an end that was not said may have been read, and be lost.
    let pipelines: &[_] = if said { &["1", "4"] } else { &["1"] };
    for pipeline in pipelines {
        let server = PlainServer::start(move |asked| match asked.number {
            100 if said => vec![
                Step::Say(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx".to_vec(),
                ),
                Step::Close,
            ],
            100 => vec![Step::Say(ok("x")), Step::Leave],
            _ => vec![Step::Say(ok("x"))],
        });
        let url = server.url();
        let run = report(&["-k", "-n", "1000", "-c", "4", "--pipeline", pipeline, &url]);
        run.all_good(pipeline, 1000);
        assert_eq!(server.count(), 1000, "pipeline {pipeline}");
        assert_eq!(run.number("connections"), server.connections());
        assert!(
            (10..=14).contains(&server.connections()),
            "{}",
            server.connections()
        );
    }
}

#[test]
fn connections_that_end_as_announced() {
    ends_each_connection(true);
}

#[test]
fn connections_that_end_without_a_word() {
    ends_each_connection(false);
}

/// The second request of every connection meets those ends; the first is answered.
fn second(ends: &[Step]) -> PlainServer {
    let ends = ends.to_vec();
    PlainServer::start(move |asked| match asked.number {
        1 => [&[Step::Say(ok("x"))], &ends[..]].concat(),
        _ => Vec::new(),
    })
}

#[test]
fn a_kept_connection_that_nobody_reads_costs_what_may_be_repeated_nothing() {
    let server = second(&[Step::LeaveUnread]);
    let run = report(&["-k", "-n", "10", "-c", "1", &server.url()]);
    // On a machine that is busy for too long one may seem to have been at work.
    let lost = run.number("total_errors");
    assert!(lost <= 2, "{:#}", run.json);
    assert_eq!(run.number("retried") + 2 * lost, 9, "{:#}", run.json);
    assert_eq!(server.count(), 10 - lost);
    // What is not idempotent is not repeated (RFC 9110 section 9.2.2).
    let server = second(&[Step::LeaveUnread]);
    let run = report(&["-k", "-n", "10", "-c", "1", "-m", "POST", &server.url()]);
    assert_eq!(run.counts("statuses"), BTreeMap::from([("200".into(), 5)]));
    assert_eq!(run.counts("errors"), BTreeMap::from([("reset".into(), 5)]));
    assert_eq!((server.count(), run.number("retried")), (5, 0));
}

#[test]
fn what_was_read_and_not_answered_is_lost() {
    let server = PlainServer::start(|asked| match asked.number {
        2 => vec![Step::Wait(Duration::from_millis(30)), Step::Close],
        _ => vec![Step::Say(ok("x"))],
    });
    let url = server.url();
    for method in ["GET", "POST"] {
        let run = report(&["-k", "-n", "10", "-c", "1", "-m", method, &url]);
        let closed = BTreeMap::from([("closed".into(), 5)]);
        assert_eq!(run.counts("errors"), closed, "{method}: {:#}", run.json);
        assert_eq!(run.number("retried"), 0, "{method}");
    }
    assert_eq!(server.count(), 20);
}

#[test]
fn what_dies_at_work_is_not_excused() {
    // Long after the request was sent: that is no end of an idle connection.
    let server = PlainServer::start(|asked| match asked.number {
        2 => vec![Step::Wait(Duration::from_millis(60)), Step::Reset],
        _ => vec![Step::Say(ok("x"))],
    });
    let run = report(&["-k", "-n", "4", "-c", "1", &server.url()]);
    let reset = BTreeMap::from([("reset".into(), 2)]);
    assert_eq!(run.counts("errors"), reset, "{:#}", run.json);
    assert_eq!((server.count(), run.number("retried")), (4, 0));
}

#[test]
fn an_idle_connection_may_end() {
    let server = PlainServer::start(|_| {
        let wait = Step::Wait(Duration::from_millis(30));
        vec![Step::Say(ok("x")), wait, Step::Close]
    });
    let run = report(&["-k", "-n", "5", "-c", "1", "--rps", "5", &server.url()]);
    run.all_good("idle connections that end", 5);
    assert_eq!((server.count(), server.connections()), (5, 5));
}

#[test]
fn octets_that_nobody_asked_for() {
    for more in [
        &["-k"][..],
        &[],
        &["--pipeline", "2"],
        &["-k", "--rps", "100"],
    ] {
        let server = PlainServer::start(|_| vec![Step::Say([ok("x"), ok("more")].concat())]);
        let url = server.url();
        let run = report(&[&["-n", "10", "-c", "2", &url], more].concat());
        assert_eq!(run.number("completed"), 10, "{:#}", run.json);
        assert!(server.count() <= 20, "{}", server.count());
    }
}

/// Runs 10 requests against `steps`, all of which must fail in one way.
fn fails(steps: &[Step], kind: &str) {
    for more in [&["-k"][..], &[], &["-k", "--pipeline", "3"]] {
        let script = steps.to_vec();
        let server = PlainServer::start(move |_| script.clone());
        let url = server.url();
        let arguments = [&["-n", "10", "-c", "3", &url], more].concat();
        let what = format!("{steps:?}: {}", arguments.join(" "));
        report(&arguments).all_failed(&what, 10, kind);
        assert!(server.count() <= 10, "{what}: {}", server.count());
    }
}

#[test]
fn refused() {
    // A port that is taken by a socket which does not listen: nobody else gets it.
    let flags = SockFlag::SOCK_CLOEXEC;
    let holder = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(holder.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let name: SockaddrIn = getsockname(holder.as_raw_fd()).unwrap();
    let url = format!("http://127.0.0.1:{}/", name.port());
    for more in [&["-k"][..], &[], &["--cores", "2"], &["--rps", "1000"]] {
        let arguments = [&["-n", "20", "-c", "5", &url], more].concat();
        let run = report(&arguments);
        run.all_failed(&arguments.join(" "), 20, "refused");
        assert_eq!(run.number("connections"), 0);
    }
    // By time a dead server costs no processor: far from as many attempts as would be possible.
    let run = report(&["-t", "0.5", "-c", "2", &url]);
    let attempts = run.number("completed");
    assert!((2..=200).contains(&attempts), "{attempts}");
    assert_eq!(run.status, 1);
    // And nothing at all is no success, whatever is allowed.
    let run = report(&["-n", "2", "--max-errors", "100", &url]);
    assert_eq!(run.status, 1, "{:#?}", run.log);
}

#[test]
fn reset() {
    fails(&[Step::Reset], "reset");
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec();
    let wait = Step::Wait(Duration::from_millis(5));
    fails(&[Step::Say(half), wait, Step::Reset], "reset");
}

#[test]
fn closed_half_way() {
    fails(&[Step::Close], "closed");
    for part in [
        "HTT",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        fails(&[Step::Say(part.into()), Step::Close], "closed");
    }
}

#[test]
fn timed_out() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec();
    for steps in [vec![Step::Hang], vec![Step::Say(half), Step::Hang]] {
        let server = PlainServer::start(move |_| steps.clone());
        let url = server.url();
        for more in [&["-k"][..], &[]] {
            let arguments = [&["-n", "6", "-c", "3", "--timeout", "100", &url], more].concat();
            let run = report(&arguments);
            run.all_failed(&arguments.join(" "), 6, "time-out");
            let took = run.float("total_time_s");
            assert!((0.19..10.0).contains(&took), "{took}");
        }
    }
    // Some answers in time, some not.
    let server = PlainServer::start(|asked| match asked.number % 2 {
        1 => vec![Step::Say(ok("x"))],
        _ => vec![Step::Hang],
    });
    let url = server.url();
    let run = report(&["-k", "-n", "10", "-c", "1", "-d", "500", &url]);
    assert_eq!(
        run.counts("errors"),
        BTreeMap::from([("time-out".into(), 5)])
    );
    assert_eq!(run.counts("statuses"), BTreeMap::from([("200".into(), 5)]));
    assert_eq!(run.number("connections"), 5);
}

#[test]
fn no_answer_in_what_came() {
    let bad = [
        "garbage\r\n\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ];
    for text in bad {
        fails(&[Step::Say(text.into()), Step::Hang], "parse");
    }
    // A head that has no end is given up, not kept.
    let mut endless = b"HTTP/1.1 200 OK\r\n".to_vec();
    for number in 0..20_000 {
        endless.extend(format!("X-{number}: y\r\n").bytes());
    }
    fails(&[Step::Say(endless), Step::Hang], "parse");
}

#[test]
fn statuses_are_told_apart() {
    let server = PlainServer::start(|asked| {
        let status = ["200 OK", "404 Not Found", "500 Oops", "302 Found"];
        vec![Step::Say(answer(status[(asked.number % 4) as usize], "x"))]
    });
    let url = server.url();
    let run = report(&["-k", "-n", "40", "-c", "1", &url]);
    let statuses = ["200", "302", "404", "500"].map(|status| (status.to_owned(), 10));
    assert_eq!(run.counts("statuses"), BTreeMap::from(statuses));
    assert_eq!(run.number("total_errors"), 20);
    assert!(run.counts("errors").is_empty());
    assert_eq!(run.status, 1);
    assert!(run.log.join("\n").contains("20 of 40"), "{:?}", run.log);

    let ended = plain(&["-k", "-n", "40", "-c", "1", &url]);
    let text = ended.out.join("\n");
    for status in ["200", "302", "404", "500"] {
        let row = |line: &&String| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.first() == Some(&status) && words.contains(&"10")
        };
        assert!(ended.out.iter().any(|line| row(&line)), "{status}: {text}");
    }
    assert_eq!(ended.status.code(), Some(1), "{text}");
}

#[test]
fn thresholds_decide_the_exit_status() {
    let server = PlainServer::start(|asked| match asked.number % 4 {
        0 => vec![Step::Say(answer("503 Busy", "x"))],
        _ => vec![Step::Wait(Duration::from_millis(3)), Step::Say(ok("x"))],
    });
    let url = server.url();
    let cases: [(&[&str], i32); 8] = [
        (&[], 1),
        (&["--max-errors", "25"], 0),
        (&["--max-errors", "24.9"], 7),
        (&["--max-errors", "100", "--max-p99", "30s"], 0),
        (&["--max-errors", "100", "--max-p99", "2ms"], 7),
        (&["--max-errors", "100", "--min-rps", "0.1"], 0),
        (&["--max-errors", "100", "--min-rps", "100000"], 7),
        (&["--max-errors", "1", "--min-rps", "100000"], 7),
    ];
    for (more, expected) in cases {
        let arguments = [&["-k", "-n", "40", "-c", "1", &url], more].concat();
        let run = report(&arguments);
        assert_eq!(run.status, expected, "{arguments:?}: {:#?}", run.log);
        let thresholds = run.json["thresholds"].as_array().unwrap();
        assert_eq!(thresholds.len(), more.len() / 2, "{:#}", run.json);
        if !more.is_empty() {
            let good = thresholds.iter().all(|one| one["ok"] == true);
            assert_eq!(good, expected == 0, "{:#}", run.json);
        }
    }
}

#[test]
fn bytes_are_those_on_the_wire() {
    let server = PlainServer::good();
    let url = server.url();
    let run = report(&[
        "-k", "-n", "100", "-c", "3", "--data", "12345", "-m", "PUT", &url,
    ]);
    let sent = |asked: &Asked| asked.head.len() + asked.body.len();
    let written: usize = server.asked().iter().map(sent).sum();
    assert_eq!(run.json["bytes"]["written"], written);
    assert_eq!(run.json["bytes"]["read"], ok("hello\n").len() * 100);
}

#[test]
fn latency_is_that_of_the_server() {
    let server = PlainServer::start(|asked| {
        let time = if asked.number == 10 { 300 } else { 20 };
        vec![Step::Wait(Duration::from_millis(time)), Step::Say(ok("x"))]
    });
    let url = server.url();
    let run = report(&["-k", "-n", "20", "-c", "1", &url]);
    for (quantile, least, most) in [("min", 0.02, 0.2), ("p50", 0.02, 0.2), ("max", 0.3, 0.6)] {
        let found = run.seconds("latency_us", quantile);
        assert!((least..most).contains(&found), "{quantile} {found}");
    }
    assert!(run.json["planned_latency_us"].is_null());
}
