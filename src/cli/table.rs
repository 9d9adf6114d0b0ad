//! Tables for people: the workers of one cluster, and the clusters of one user.
//!
//! Values in, text out; what is not known is a dash, and nothing that came from elsewhere reaches
//! a terminal but as plain text.

use crate::status::{Status, Worker};
use std::collections::HashMap;

/// A cluster: a line about it, its workers, and what is unusual. With what it was `before`,
/// requests a second are those since then, else those since the worker began.
pub(super) fn cluster(status: &Status, before: Option<&Status>) -> String {
    let mut text = plain(&head(status));
    text.push('\n');
    let before = before.map(|before| (status.uptime_s - before.uptime_s, requests(before)));
    let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
    for worker in &status.workers {
        rows.push(row(worker, rate(worker, before.as_ref())));
    }
    text += &aligned(&rows, &LEFT);
    for line in notes(status) {
        text += &plain(&line);
        text.push('\n');
    }
    text
}

fn head(status: &Status) -> String {
    let of = match status.workers.len() == status.wanted as usize {
        true => String::new(),
        false => format!(" of {} wanted", status.wanted),
    };
    format!(
        "{} {} (pid {}): {} workers{of} as {}, schedule {}, up {}, on {}",
        status.name,
        status.version,
        status.pid,
        status.workers.len(),
        status.mode,
        status.schedule,
        duration(status.uptime_s),
        status.listeners.join(" "),
    )
}

const HEADINGS: [&str; 14] = [
    "ID", "PID", "STATE", "UPTIME", "REQ/S", "REQUESTS", "OPEN", "BUSY", "CPU", "RSS", "P50",
    "P99", "LAG", "RESTARTS",
];

/// The columns that are words.
const LEFT: [usize; 1] = [2];

fn row(worker: &Worker, rate: f64) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        worker.id.to_string(),
        worker.pid.to_string(),
        worker.state.word().to_owned(),
        duration(worker.uptime_s),
        format!("{rate:.0}"),
        worker.requests.to_string(),
        worker.connections.to_string(),
        worker.in_flight.to_string(),
        or_dash(worker.cpu_percent.map(|percent| format!("{percent:.0}%"))),
        or_dash(worker.rss_bytes.map(size)),
        or_dash(worker.latency_us.p50.map(micros)),
        or_dash(worker.latency_us.p99.map(micros)),
        micros(worker.loop_lag_ms.saturating_mul(1000)),
        worker.restarts.to_string(),
    ]
}

fn notes(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    for worker in &status.workers {
        if let Some(stuck) = &worker.stuck {
            let time = duration(stuck.for_ms as f64 / 1e3);
            let line = format!(
                "worker {} stands still in {} for {time}",
                worker.id, stuck.route
            );
            lines.push(line);
        }
    }
    if status.workers.len() > 1 && status.totals.connections > 0 {
        let spread = &status.distribution;
        let share = spread.max_share * 100.0;
        lines.push(format!(
            "connections: Jain's index {:.3}, largest share {share:.1}%",
            spread.jain
        ));
    }
    let lost = &status.lost;
    if lost.workers + lost.connections + lost.requests > 0 {
        lines.push(format!(
            "lost: {} workers, {} connections, {} requests",
            lost.workers, lost.connections, lost.requests
        ));
    }
    lines
}

/// Requests so far, by worker.
fn requests(status: &Status) -> HashMap<u32, u64> {
    let workers = status.workers.iter();
    workers.map(|worker| (worker.id, worker.requests)).collect()
}

/// Requests a second.
fn rate(worker: &Worker, before: Option<&(f64, HashMap<u32, u64>)>) -> f64 {
    let known = before.and_then(|(time, all)| Some((*time, *all.get(&worker.id)?)));
    let (time, requests) = known.unwrap_or((worker.uptime_s, 0));
    let count = worker.requests.saturating_sub(requests) as f64;
    match time > 0.0 {
        true => count / time,
        false => 0.0,
    }
}

/// One cluster in the list.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    /// What it says of itself, or why it does not.
    pub(super) status: Result<Status, String>,
}

/// All clusters, a line each.
pub(super) fn clusters(all: &[Listed]) -> String {
    let mut rows = vec![
        ["NAME", "PID", "WORKERS", "MODE", "UPTIME", "LISTENERS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for one in all {
        let mut row = vec![one.name.clone()];
        match &one.status {
            Ok(status) => row.extend([
                status.pid.to_string(),
                status.workers.len().to_string(),
                status.mode.clone(),
                duration(status.uptime_s),
                status.listeners.join(" "),
            ]),
            Err(why) => {
                row.extend(["-", "-", "-", "-"].map(str::to_owned));
                row.push(format!("stale: {why}"));
            }
        }
        rows.push(row);
    }
    aligned(&rows, &[0, 3, 5])
}

/// Rows with their columns one below the other: numbers to the right, the columns `left` not.
fn aligned(rows: &[Vec<String>], left: &[usize]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| match left.contains(&column) {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Text without anything that a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// Seconds, in the two largest units.
fn duration(seconds: f64) -> String {
    // Casting ends at the bounds, and makes 0 of what is no number.
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{:.1}s", seconds.max(0.0)),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

fn micros(micros: u64) -> String {
    match micros {
        0 => "0".to_owned(),
        1..1000 => format!("{micros}µs"),
        1000..100_000 => format!("{:.1}ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{}ms", micros / 1000),
        _ => format!("{:.1}s", micros as f64 / 1e6),
    }
}

fn size(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    match bytes >> 10 {
        0..1024 => format!("{kib:.0}k"),
        1024..1_048_576 => format!("{:.1}M", kib / 1024.0),
        _ => format!("{:.1}G", kib / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Latency, State, Stuck};

    fn status() -> Status {
        let worker = Worker {
            id: 1,
            pid: 101,
            state: State::Listening,
            uptime_s: 100.0,
            requests: 5000,
            cpu_percent: Some(12.4),
            rss_bytes: Some(3 << 20),
            latency_us: Latency {
                p50: Some(31),
                p99: Some(2300),
                ..Latency::default()
            },
            ..Worker::default()
        };
        let young = Worker {
            id: 12,
            pid: 1012,
            state: State::Forked,
            ..Worker::default()
        };
        Status {
            name: "shop".to_owned(),
            version: "0.1.0".to_owned(),
            mode: "processes".to_owned(),
            schedule: "rr".to_owned(),
            pid: 100,
            uptime_s: 3661.0,
            listeners: vec!["http://127.0.0.1:3000".to_owned(), "unix:/a".to_owned()],
            wanted: 3,
            workers: vec![worker, young],
            ..Status::default()
        }
    }

    #[test]
    fn one_cluster() {
        let expected = "\
shop 0.1.0 (pid 100): 2 workers of 3 wanted as processes, schedule rr, up 1h01m, on http://127.0.0.1:3000 unix:/a
ID   PID  STATE      UPTIME  REQ/S  REQUESTS  OPEN  BUSY  CPU   RSS   P50    P99  LAG  RESTARTS
 1   101  listening   1m40s     50      5000     0     0  12%  3.0M  31µs  2.3ms    0         0
12  1012  forked       0.0s      0         0     0     0    -     -     -      -    0         0
";
        assert_eq!(cluster(&status(), None), expected);
    }

    #[test]
    fn rates_between_two_looks() {
        let (before, mut after) = (status(), status());
        after.uptime_s += 2.0;
        after.workers[0].requests += 34;
        let text = cluster(&after, Some(&before));
        assert!(text.contains("1m40s     17      5034"), "{text}");
        // The same moment twice, and a clock that went back, divide by nothing.
        assert!(cluster(&before, Some(&before)).contains("     0      5000"));
        assert!(cluster(&before, Some(&after)).contains("     0      5000"));
    }

    #[test]
    fn what_is_unusual_is_said_and_harms_no_terminal() {
        let mut status = status();
        status.lost.workers = 1;
        status.totals.connections = 2;
        status.workers[0].stuck = Some(Stuck {
            route: "GET /\x1b[2Jhang".to_owned(),
            for_ms: 1200,
        });
        let text = cluster(&status, None);
        let notes: Vec<_> = text.lines().skip(4).collect();
        let expected = [
            "worker 1 stands still in GET /?[2Jhang for 1.2s",
            "connections: Jain's index 1.000, largest share 0.0%",
            "lost: 1 workers, 0 connections, 0 requests",
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn all_clusters() {
        let all = [
            Listed {
                name: "a".to_owned(),
                status: Err("Connection refused".to_owned()),
            },
            Listed {
                name: "shop".to_owned(),
                status: Ok(status()),
            },
        ];
        let expected = "\
NAME  PID  WORKERS  MODE       UPTIME  LISTENERS
a       -        -  -               -  stale: Connection refused
shop  100        2  processes   1h01m  http://127.0.0.1:3000 unix:/a
";
        assert_eq!(clusters(&all), expected);
    }

    #[test]
    fn figures() {
        let durations = [
            (f64::NAN, "0.0s"),
            (-1.0, "0.0s"),
            (9.96, "10.0s"),
            (59.9, "59s"),
            (60.0, "1m00s"),
            (86_400.0 * 2.5, "2d12h"),
            (f64::INFINITY, "213503982334601d07h"),
        ];
        for (seconds, words) in durations {
            assert_eq!(duration(seconds), words);
        }
        for (value, words) in [
            (0, "0"),
            (999, "999µs"),
            (150_000, "150ms"),
            (2_000_000, "2.0s"),
        ] {
            assert_eq!(micros(value), words);
        }
        for (bytes, words) in [(2048, "2k"), (5 << 29, "2.5G")] {
            assert_eq!(size(bytes), words);
        }
    }
}
