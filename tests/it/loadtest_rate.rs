//! When `mcluster loadtest` sends: by its rate, by its time, and until a signal.
//!
//! What is held against its promise is the server's own clock. Requests of a rate are late when the
//! machine is busy, never early, and a plan that does not slip makes up for it: so early ones and
//! slips fail, single late ones do not.

use crate::generator::{Run, Started, plain, report, start, start_plain};
use crate::plain_server::{Asked, PlainServer, Step, ok};
use crate::support::wait_until;
use crate::turns::alone;
use nix::sys::signal::Signal;
use std::thread;
use std::time::{Duration, Instant};

/// A rate that is being sent to a server of its own, for five seconds.
struct Rate {
    rate: f64,
    server: PlainServer,
    run: Started,
}

impl Rate {
    fn start(rate: f64, more: &[&str]) -> Self {
        let server = PlainServer::good();
        let (url, rps) = (server.url(), rate.to_string());
        let arguments = [&["--rps", &rps, "-t", "5", &url], more].concat();
        let run = start(&arguments);
        Self { rate, server, run }
    }

    /// Checks that its requests came by the plan.
    #[track_caller]
    fn holds(self) {
        let (rate, run) = (self.rate, self.run.report());
        let planned = (5.0 * rate).ceil() as u64;
        // All that were planned before the end, and each of them once: 1 % is not even needed.
        assert_eq!(self.server.count(), planned, "{rate}: {:#}", run.json);
        run.all_good(&format!("--rps {rate}"), planned);
        assert_eq!(run.json["planned_latency_us"]["count"], planned);
        assert_eq!(run.json["target_rps"].as_f64(), Some(rate));
        arrivals_by_plan(rate, &self.server.asked());
        if rate >= 1.0 {
            let effective = run.float("effective_rps") / rate;
            assert!((0.98..=1.011).contains(&effective), "{rate}: {effective}");
        }
    }
}

/// How far the middle one of some values is from where it should be.
fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[track_caller]
fn arrivals_by_plan(rate: f64, asked: &[Asked]) {
    let first = asked.iter().map(|one| one.at).min().unwrap();
    let mut at: Vec<f64> = asked
        .iter()
        .map(|one| (one.at - first).as_secs_f64())
        .collect();
    at.sort_by(f64::total_cmp);
    // By how much each came behind its place in the plan of the first one. That one may be late
    // itself, by as much as the others may seem early.
    let lag = |(number, at): (usize, &f64)| at - number as f64 / rate;
    let lags: Vec<f64> = at.iter().enumerate().map(lag).collect();
    let start = lags.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(start > -0.25, "{rate}: {start} s early");
    // It does not slip: the usual lag at the end is that at the beginning, within 1 % of 5 s.
    let quarter = lags.len().div_ceil(4);
    let (begin, end) = (
        middle(&lags[..quarter]),
        middle(&lags[lags.len() - quarter..]),
    );
    assert!(
        (end - begin).abs() < 0.05,
        "{rate}: lag {begin}, then {end}"
    );
    if rate < 10.0 {
        return;
    }
    // Evenly: every second has its share, but for those that came late into the next one.
    let usual = middle(&lags);
    for second in 0..5 {
        let begin = f64::from(second) + usual - 0.5 / rate;
        let inside = |at: &&f64| (begin..begin + 1.0).contains(*at);
        let count = at.iter().filter(inside).count() as f64;
        let late = |lag: &&f64| (**lag - usual).abs() > 0.5 / rate;
        let place = (second as f64 * rate) as usize;
        let near = lags.iter().skip(place.saturating_sub(rate as usize));
        let late = near.take(3 * rate as usize).filter(late).count() as f64;
        let allowed = (0.01 * rate).max(1.0) + late.min(0.05 * rate);
        assert!(
            (count - rate).abs() <= allowed,
            "{rate}: {count} in second {second}"
        );
    }
}

/// Answers at once, but stands still in the last of every four seconds.
fn freezing() -> PlainServer {
    let start = Instant::now();
    PlainServer::start(move |_| {
        let now = start.elapsed().as_secs_f64() % 4.0;
        let rest = if now < 3.0 { 0.0 } else { 4.0 - now };
        vec![
            Step::Wait(Duration::from_secs_f64(rest)),
            Step::Say(ok("x")),
        ]
    })
}

/// Those that need hardly a processor run beside each other, so that they take ten seconds in all.
#[test]
fn rates_hold_and_standstills_show() {
    let _alone = alone();
    let rates = [
        Rate::start(0.5, &[]),
        Rate::start(1.0, &["-k"]),
        Rate::start(100.0, &["-k", "--cores", "2"]),
        Rate::start(100.0, &["-c", "3"]),
    ];
    let server = freezing();
    let url = server.url();
    let flags = ["-k", "--rps", "50", "-t", "8", &url];
    let one = start(&[&flags[..], &["-c", "1"]].concat());
    let ten = start(&[&flags[..], &["-c", "10"]].concat());
    let text = start_plain(&[&flags[..], &["-c", "1"]].concat());
    for rate in rates {
        rate.holds();
    }
    standstill_shows(&one.report(), &ten.report(), text.text());
}

#[track_caller]
fn standstill_shows(one: &Run, ten: &Run, (status, text): (i32, String)) {
    for run in [one, ten] {
        run.all_good("a server that stands still", 400);
        let planned = run.seconds("planned_latency_us", "p99");
        assert!((0.8..1.1).contains(&planned), "{planned}: {:#}", run.json);
        let plain = run.seconds("latency_us", "p99");
        assert!(plain <= planned * 1.01, "{plain} {planned}");
        // A quarter of all were planned while it stood still.
        let three_quarters = run.seconds("planned_latency_us", "p75");
        let ninety = run.seconds("planned_latency_us", "p90");
        assert!(three_quarters < 0.3, "{three_quarters}");
        assert!((0.4..0.8).contains(&ninety), "{ninety}");
    }
    // One connection asks only twice while the server stands still, so the plain p99 hides it.
    assert!(one.seconds("latency_us", "p99") < 0.3, "{:#}", one.json);
    assert!(one.seconds("latency_us", "max") > 0.8, "{:#}", one.json);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("stood still"), "{text}");
    assert!(text.to_lowercase().contains("plan"), "{text}");
}

#[test]
fn five_thousand_a_second() {
    let _alone = alone();
    Rate::start(5000.0, &["-k", "-c", "32"]).holds();
}

#[test]
fn a_number_of_requests_ends_a_rate() {
    let server = PlainServer::good();
    let url = server.url();
    let run = report(&["--rps", "200", "-n", "100", "-c", "4", &url]);
    run.all_good("-n 100 --rps 200", 100);
    assert_eq!(server.count(), 100);
    let took = run.float("total_time_s");
    assert!(took >= 0.49, "99 steps of 5 ms: {took}");
}

#[test]
fn a_rate_that_no_server_holds_still_ends() {
    // Two connections, 50 ms an answer: 40 a second of 1000 that are asked for.
    let slow = |_: &Asked| vec![Step::Wait(Duration::from_millis(50)), Step::Say(ok("x"))];
    let server = PlainServer::start(slow);
    let url = server.url();
    let run = report(&["-k", "-c", "2", "--rps", "1000", "-n", "30", &url]);
    run.all_good("--rps 1000 of a slow server", 30);
    assert!(
        run.seconds("planned_latency_us", "max") > 0.5,
        "{:#}",
        run.json
    );
    assert!(run.seconds("latency_us", "p50") < 0.5, "{:#}", run.json);
    // And one that never answers, by its time-out.
    let server = PlainServer::start(|_| vec![Step::Hang]);
    let url = server.url();
    let run = report(&["-k", "-c", "2", "--rps", "50", "-t", "1", "-d", "300", &url]);
    run.all_failed("--rps 50 of a silent server", 50, "time-out");
    let took = run.float("total_time_s");
    assert!((1.0..10.0).contains(&took), "{took}");
}

#[test]
fn a_time_ends_it() {
    for more in [
        &["-k"][..],
        &[],
        &["-k", "--pipeline", "4"],
        &["-n", "1000000000"],
    ] {
        let server = PlainServer::good();
        let url = server.url();
        let arguments = [&["-t", "1", "-c", "4", &url], more].concat();
        let run = report(&arguments);
        let completed = run.number("completed");
        run.all_good(&arguments.join(" "), completed);
        assert_eq!(server.count(), completed, "{arguments:?}");
        let took = run.float("total_time_s");
        assert!(
            completed > 4 && (0.9..3.0).contains(&took),
            "{completed} {took}"
        );
        let inside: u64 = run.json["timeline"]
            .as_array()
            .unwrap()
            .iter()
            .map(|interval| interval["answers"].as_u64().unwrap())
            .sum();
        assert_eq!(inside, completed, "{:#}", run.json["timeline"]);
    }
    // The number comes first where it is reached first.
    let server = PlainServer::good();
    let run = report(&["-t", "60", "-n", "10", &server.url()]);
    run.all_good("-t 60 -n 10", 10);
}

#[test]
fn an_interrupt_ends_it_with_its_report() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let server = PlainServer::good();
        let url = server.url();
        let run = start(&["-k", "-t", "600", "-c", "3", &url]);
        wait_until("requests", || server.count() > 50);
        run.0.signal(signal);
        let run = run.report();
        let completed = run.number("completed");
        run.all_good("interrupted", completed);
        assert_eq!(server.count(), completed);

        let run = start_plain(&["-n", "1000000000", &url]);
        let before = server.count();
        wait_until("requests", || server.count() > before + 50);
        run.0.signal(signal);
        let (status, text) = run.text();
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("Completed requests:"), "{text}");
    }
}

#[test]
fn a_second_interrupt_waits_for_nobody() {
    // One connection hangs and the other goes on, so that what the first interrupt does can be seen.
    let server = PlainServer::start(|asked| match asked.connection {
        1 => vec![Step::Hang],
        _ => vec![Step::Wait(Duration::from_millis(5)), Step::Say(ok("x"))],
    });
    let mut run = start(&["-k", "-n", "1000000", "-c", "2", &server.url()]);
    wait_until("requests", || server.count() > 10);
    run.0.signal(Signal::SIGINT);
    wait_until("nothing more to be sent", || {
        let before = server.count();
        thread::sleep(Duration::from_millis(300));
        server.count() == before
    });
    assert!(run.0.exited().is_none(), "it waits for what hangs");
    run.0.signal(Signal::SIGINT);
    wait_until("its end", || run.0.exited().is_some());
}

#[test]
fn the_shape_of_the_npm_tool() {
    let server = PlainServer::good();
    let url = server.url();
    let ended = plain(&["-n", "20", "-c", "2", &url]);
    let text = ended.out.join("\n");
    let mut rest = text.as_str();
    for label in [
        "Target URL:",
        "Max requests:",
        "Concurrent clients:",
        "Running on cores:",
        "Agent:",
        "Completed requests:",
        "Total errors:",
        "Total time:",
        "Mean latency:",
        "Effective rps:",
        "Percentage of requests served within a certain time",
        "50%",
        "90%",
        "95%",
        "99%",
        "100%",
    ] {
        let found = rest.find(label);
        rest = &rest[found.unwrap_or_else(|| panic!("no {label} in order: {text}"))..];
    }
    assert!(ended.log.is_empty(), "{:?}", ended.log);
    let ended = plain(&["-n", "20", "--quiet", &url]);
    assert_eq!((ended.status.code(), ended.out.len()), (Some(0), 0));
}
