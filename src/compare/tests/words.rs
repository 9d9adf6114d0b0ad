//! Each rule in each direction, on figures that are made up.

use super::super::figures::Figures;
use super::super::measure::{Bottleneck, Found, Plan};
use super::*;
use Contestant::{One, Pool, Processes, Threads};
use std::time::Duration;

/// Three rounds of each figure, two in a hundred apart.
fn comparison(values: &[(Figure, Contestant, f64)]) -> Comparison {
    let mut figures = Figures::default();
    for (figure, one, value) in values {
        for factor in [0.99, 1.0, 1.01] {
            figures.add(*figure, *one, value * factor);
        }
    }
    Comparison {
        plan: Plan {
            workloads: Workload::ALL.to_vec(),
            workers: 2,
            rounds: 3,
            duration: Duration::from_secs(1),
            light: "/".to_owned(),
            heavy: "/heavy".to_owned(),
        },
        cpus: 2,
        found: Found {
            figures,
            bottlenecks: Vec::new(),
            deaths: Vec::new(),
        },
        ended: None,
    }
}

/// Two values of one figure.
fn two(figure: Figure, a: (Contestant, f64), b: (Contestant, f64)) -> Comparison {
    comparison(&[(figure, a.0, a.1), (figure, b.0, b.1)])
}

#[track_caller]
fn says(all: &Comparison, words: &str) {
    let said = sentences(all);
    assert!(
        said.iter().any(|one| one.contains(words)),
        "{words:?} in {said:#?}"
    );
}

#[test]
fn nothing_measured_is_nothing_said() {
    assert_eq!(sentences(&comparison(&[])), Vec::<String>::new());
}

#[test]
fn verdicts() {
    let of = |values: &[f64]| Spread::of(values).unwrap();
    let cases = [
        (of(&[10.0, 10.1, 10.2]), of(&[5.0, 5.1, 5.2]), "More"),
        (of(&[5.0, 5.1, 5.2]), of(&[10.0, 10.1, 10.2]), "Less"),
        (of(&[5.0, 8.0, 12.0]), of(&[10.0, 10.1, 10.2]), "Alike"),
        // Steady, but not worth a word.
        (of(&[100.0, 100.0]), of(&[101.0, 101.0]), "Alike"),
        // One round each.
        (of(&[100.0]), of(&[108.0]), "Alike"),
        (of(&[100.0]), of(&[150.0]), "Less"),
        (of(&[0.0, 0.0]), of(&[0.0, 0.0]), "Alike"),
        (of(&[3.0, 3.0]), of(&[0.0, 0.0]), "More(inf"),
    ];
    for (a, b, expected) in cases {
        let found = format!("{:?}", judge(a, b));
        assert!(found.starts_with(expected), "{a:?} {b:?}: {found}");
    }
}

#[test]
fn one_against_another() {
    let cases = [
        (
            Figure::HelloRate,
            12_000.0,
            10_000.0,
            "On /, processes answered 20 % more requests a second than threads (12,000 against 10,000).",
        ),
        (
            Figure::HelloRate,
            10_000.0,
            12_000.0,
            "On /, threads answered 20 % more requests a second than processes (12,000 against 10,000).",
        ),
        (
            Figure::HelloRate,
            10_000.0,
            30_000.0,
            "threads answered 3 times as many requests a second as processes",
        ),
        (
            Figure::HelloRate,
            10_000.0,
            10_100.0,
            "processes and threads answered as many requests a second (10,000 against 10,100): no difference beyond the noise.",
        ),
        (
            Figure::HelloCpu,
            30.0,
            20.0,
            "For one request to /, processes took 50 % more CPU time than threads (30 against 20 µs).",
        ),
        (
            Figure::HelloCpu,
            20.0,
            30.0,
            "threads took 50 % more CPU time than processes",
        ),
        (
            Figure::StartUp,
            20.0,
            10.0,
            "From start to first answer, processes took 2 times as much time as threads (20 against 10 ms).",
        ),
        (
            Figure::StartUp,
            10.0,
            20.0,
            "threads took 2 times as much time as processes",
        ),
        (
            Figure::MemoryLoad,
            8.0,
            5.0,
            "Isolation costs 1.50 MiB a worker.",
        ),
        (
            Figure::MemoryLoad,
            5.0,
            8.0,
            "Sharing saved no memory here.",
        ),
        (
            Figure::MemoryLoad,
            5.0,
            5.0,
            "Isolation costs no memory here.",
        ),
        (
            Figure::CrashFailed,
            3.0,
            60.0,
            "processes lost fewer than threads (3 against 60)",
        ),
        (
            Figure::CrashFailed,
            60.0,
            3.0,
            "processes lost more than threads",
        ),
        (
            Figure::CrashFailed,
            6.0,
            6.0,
            "Processes and threads lost as many requests in a crash",
        ),
    ];
    for (figure, processes, threads, words) in cases {
        says(
            &two(figure, (Processes, processes), (Threads, threads)),
            words,
        );
    }
}

#[test]
fn what_the_pool_changed() {
    let waits = |plain, pool| two(Figure::MixedP99, (Processes, plain), (Pool, pool));
    says(
        &waits(30.0, 3.0),
        "visitors of / at processes waited (p99) 10 times as much time as processes+pool",
    );
    says(
        &waits(3.0, 30.0),
        "processes+pool waited (p99) 10 times as much time as processes",
    );
    says(&waits(3.0, 3.0), "no difference beyond the noise");
    let works = |plain, pool| two(Figure::HeavyRate, (Processes, plain), (Pool, pool));
    says(
        &works(100.0, 80.0),
        "On /heavy, processes answered 25 % more requests a second than processes+pool",
    );
}

#[test]
fn what_several_workers_gave() {
    let scaled = |one, several| two(Figure::HeavyRate, (One, one), (Processes, several));
    says(
        &scaled(100.0, 195.0),
        "2 workers gave 1.95 times what one gave (195 against 100): as good as all",
    );
    says(
        &scaled(100.0, 150.0),
        "gave 1.50 times what one gave (150 against 100), not 2 times. The figures do not tell why.",
    );
    let busy = |mut all: Comparison, cpus: f64| {
        all.found.figures.add(Figure::HeavyCpus, Processes, cpus);
        all
    };
    says(
        &busy(scaled(100.0, 150.0), 1.7),
        "The figures do not tell why.",
    );
    says(
        &busy(scaled(100.0, 150.0), 1.85),
        "not 2 times: the load generator and the primary need their part of the 2 CPUs.",
    );
    says(
        &scaled(100.0, 101.0),
        "gave no more than one (101 against 100): no difference beyond the noise.",
    );
    says(
        &scaled(150.0, 100.0),
        "one worker answered 50 % more requests a second than 2 workers (150 against 100).",
    );
    let mut few = busy(scaled(100.0, 190.0), 2.0);
    few.plan.workers = 8;
    says(
        &few,
        "8 workers gave 1.90 times what one gave (190 against 100), not 8 times: there are but 2 CPUs.",
    );
    let mut alone = busy(scaled(100.0, 101.0), 1.0);
    alone.cpus = 1;
    says(&alone, "there is but one CPU");
    alone.plan.workers = 1;
    says(&alone, "nothing to scale");
}

#[test]
fn what_heavy_work_did() {
    let busy = |idle, busy| {
        comparison(&[
            (Figure::MixedIdle, Threads, idle),
            (Figure::MixedP99, Threads, busy),
        ])
    };
    says(
        &busy(1.0, 22.0),
        "threads: while /heavy was busy, p99 of / rose from 1 to 22 ms (22 times).",
    );
    says(
        &busy(1.0, 5000.0),
        "p99 of / rose from 1 ms to more than 5 s (at least 5,000 times).",
    );
    says(&busy(22.0, 11.0), "p99 of / fell from 22 to 11 ms.");
    says(
        &busy(2.0, 2.0),
        "p99 of / did not change beyond the noise (from 2 to 2 ms).",
    );
}

#[test]
fn what_a_crash_cost() {
    let mut values = vec![
        (Figure::CrashSent, Threads, 1000.0),
        (Figure::CrashFailed, Threads, 60.0),
        (Figure::CrashReset, Threads, 20.0),
        (Figure::CrashRefused, Threads, 40.0),
        (Figure::CrashClosed, Threads, 0.0),
    ];
    says(
        &comparison(&values),
        "threads: a crash took the whole process, which was started again at once: 60 of 1,000 requests failed (20 reset, 40 refused), and it could not be started again.",
    );
    let mut late = values.clone();
    late.push((Figure::CrashRecovery, Threads, f64::INFINITY));
    says(&comparison(&late), "not at full strength within 30 s.");
    let cells = |text: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.contains("time to full"));
        line.unwrap()
            .split("  ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    assert!(cells(&comparison(&late).text()).contains(&"> 30 s".to_owned()));
    let json: serde_json::Value = serde_json::from_str(&comparison(&late).json()).unwrap();
    let recovery = &json["figures"]["crash_recovery_ms"]["threads"];
    assert!(recovery["median"].is_null() && recovery["rounds"][2].is_null());
    assert_eq!(comparison(&late).median("crash_recovery_ms", Threads), None);
    values.push((Figure::CrashRecovery, Threads, 80.0));
    says(&comparison(&values), "at full strength after 80 ms.");
    let none = [
        (Figure::CrashSent, Processes, 1000.0),
        (Figure::CrashFailed, Processes, 0.0),
    ];
    says(
        &comparison(&none),
        "processes: a crash took one worker: 0 of 1,000 requests failed, ",
    );
}

#[test]
fn who_shared_and_who_held_up() {
    let jain = |value| comparison(&[(Figure::HelloFairness, Processes, value)]);
    says(
        &jain(0.6),
        "processes: the workers did not share / evenly (Jain index 0.60).",
    );
    assert_eq!(sentences(&jain(0.99)), Vec::<String>::new());
    let mut all = comparison(&[
        (Figure::HelloGenerator, One, 0.4),
        (Figure::HelloGenerator, Pool, 0.9),
    ]);
    says(
        &all,
        "shared the 2 CPUs with the servers and took up to 0.9 of them",
    );
    let held_up = |contestant| Bottleneck {
        workload: Workload::Hello,
        contestant,
        why: "its thread never waited".to_owned(),
    };
    all.found.bottlenecks = vec![held_up(Processes), held_up(Threads)];
    says(
        &all,
        "In hello the load generator was likely the bottleneck with processes (its thread never waited); also with threads.",
    );
}

#[test]
fn the_noise_of_one_round_is_spoken_of_where_it_was_assumed() {
    let once = |values: &[(Figure, Contestant, f64)]| {
        let mut all = comparison(&[]);
        for (figure, one, value) in values {
            all.found.figures.add(*figure, *one, *value);
        }
        sentences(&all).iter().any(|one| one.contains("One round"))
    };
    let rates = [
        (Figure::HelloRate, Processes, 1.0),
        (Figure::HelloRate, Threads, 2.0),
    ];
    assert!(once(&rates));
    assert!(!once(&rates[..1]), "nothing was compared");
    // Several starts a round are a spread.
    let starts = two(Figure::StartUp, (Processes, 1.0), (Threads, 2.0));
    assert!(
        !sentences(&starts)
            .iter()
            .any(|one| one.contains("One round"))
    );
}

#[test]
fn paths_have_their_names() {
    let mut all = comparison(&[
        (Figure::HelloRate, Processes, 2.0),
        (Figure::HelloRate, Threads, 1.0),
        (Figure::HeavyRate, One, 1.0),
        (Figure::HeavyRate, Processes, 2.0),
        (Figure::HeavyRate, Pool, 2.0),
        (Figure::MixedIdle, One, 1.0),
        (Figure::MixedP99, One, 2.0),
        (Figure::MixedP99, Processes, 2.0),
        (Figure::MixedP99, Pool, 2.0),
        (Figure::MixedFailed, One, 2.0),
        (Figure::HelloFairness, Processes, 0.5),
    ]);
    all.plan.light = "/page".to_owned();
    all.plan.heavy = "/report".to_owned();
    for words in [
        "On /page, ",
        "On /report, 2 workers",
        "visitors of /page at",
        "one: while /report was busy, p99 of /page rose",
        "did not share /page evenly",
        "visits of /page failed",
    ] {
        says(&all, words);
    }
    let text = all.text() + &all.html() + &all.json();
    assert!(
        text.contains("p99 of /page while heavy is busy, ms"),
        "{text}"
    );
    assert!(
        text.contains("p99 of /page while /report is busy"),
        "{text}"
    );
    for words in ["{light}", "{heavy}", "/heavy", "of / "] {
        assert!(!text.contains(words), "{words}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&all.json()).unwrap();
    assert_eq!(
        (&json["light"], &json["heavy"]),
        (&"/page".into(), &"/report".into())
    );
}

#[test]
fn what_went_wrong_is_said() {
    let mut all = comparison(&[
        (Figure::HelloCpu, Processes, 30.0),
        (Figure::HelloFailed, One, 0.0),
        (Figure::HelloFailed, Threads, 200.0),
        (Figure::HeavyFailed, One, 0.0),
    ]);
    says(
        &all,
        "In hello, requests for / failed (up to 202 with threads): rates and CPU times are those of good answers.",
    );
    assert_eq!(all.text().matches("requests failed").count(), 1);
    all.found.deaths = vec![(Workload::Hello, Processes)];
    says(
        &all,
        "In hello, workers died with processes: that round has no CPU time and no fairness.",
    );
    // Of nothing there is no multiple.
    let none = two(Figure::HelloCpu, (Processes, 30.0), (Threads, 0.0));
    assert_eq!(sentences(&none), Vec::<String>::new());
    all.ended = Some("hello, one: it ended".to_owned());
    says(&all, "Not all of it was measured: hello, one: it ended.");
}

#[test]
fn what_is_shown() {
    let all = comparison(&[
        (Figure::HelloRate, One, 10_000.0),
        (Figure::HelloRate, Processes, 19_000.0),
        (Figure::HelloP99, One, 1500.0),
        (Figure::HelloP99, Threads, 5e6),
        (Figure::CrashReset, One, 0.0),
    ]);
    let text = all.text();
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("2 workers on 2 CPUs, 3 rounds of 1 s for each workload; medians")
    );
    let table: Vec<Vec<_>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(
        table.contains(&vec!["one", "processes", "threads", "processes+pool"]),
        "{text}"
    );
    assert!(
        table.contains(&vec![
            "requests", "a", "second", "10,000", "19,000", "-", "-"
        ]),
        "{text}"
    );
    assert!(
        table.contains(&vec!["p99,", "µs", "1,500", "-", ">", "5", "s", "-"]),
        "{text}"
    );
    assert!(!text.contains("reset"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&all.json()).unwrap();
    let rate = &json["figures"]["hello_rps"];
    assert_eq!(rate["one"]["median"], 10_000.0);
    assert_eq!(rate["one"]["rounds"].as_array().unwrap().len(), 3);
    assert!(rate["threads"].is_null());
    assert_eq!(rate["unit"], "1/s");
    assert_eq!(json["contestants"][3]["name"], "processes+pool");
    assert_eq!(all.median("hello_rps", Processes), Some(19_000.0));
    assert_eq!(all.median("hello_rps", Pool), None);
    assert_eq!(all.median("nonsense", One), None);
    let page = all.html();
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("<svg") && page.contains("19,000")
    );
}
