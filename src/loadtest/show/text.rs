//! A report as text: first in the words and the order of the npm tool loadtest, for eyes and scripts
//! that know it; then what that one does not say.
//!
//! Each label here has its explanation in mcluster-loadtest(1), which a test keeps true.

use super::Threshold;
use super::words::{MOST_WORKERS, bytes, far_apart, percent, plain};
use crate::loadtest::report::told_apart;
use crate::loadtest::{Agent, Latency, Report, Stage};
use std::fmt::Write;
use std::time::Duration;

/// The longest name that a table has room for.
const LONGEST_NAME: usize = 60;

/// What is said of the latencies, in percent; all of them is the longest.
const PERCENTAGES: [(&str, f64); 6] = [
    ("50%", 0.5),
    ("90%", 0.9),
    ("95%", 0.95),
    ("99%", 0.99),
    ("99.9%", 0.999),
    ("100%", 1.0),
];

/// The whole report, with what came of the thresholds.
pub(crate) fn text(report: &Report, thresholds: &[Threshold]) -> String {
    let mut text = String::from("\n");
    for (label, value) in wanted(report) {
        line(&mut text, label, &value);
    }
    text.push('\n');
    for (label, value) in found(report) {
        line(&mut text, label, &value);
    }
    percentages(&mut text, &report.latency);
    if let Some(planned) = &report.planned {
        from_the_plan(&mut text, report, planned);
    }
    statuses(&mut text, report);
    errors(&mut text, report);
    text.push('\n');
    for (label, value) in wires(report) {
        line(&mut text, label, &value);
    }
    workers(&mut text, report);
    stages(&mut text, &report.stages);
    if !thresholds.is_empty() {
        text += "\nThresholds\n";
        let rows = thresholds.iter().map(|one| {
            let word = if one.ok { "ok" } else { "missed" };
            vec![word.to_owned(), one.to_string()]
        });
        text += &aligned(&rows.collect::<Vec<_>>(), &[0, 1]);
    }
    if let Some(why) = &report.generator.bottleneck {
        text += "\nWarning: the generator may have been the bottleneck, not the server: ";
        text += &plain(why);
        text.push('\n');
    }
    text
}

/// As the npm tool has it: values begin in column 21.
fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{:<20} {}", format!("{label}:"), plain(value));
}

fn wanted(report: &Report) -> Vec<(&'static str, String)> {
    let mut lines = vec![("Target URL", report.url.clone())];
    if report.method != "GET" {
        lines.push(("Method", report.method.clone()));
    }
    if let Some(requests) = report.max_requests {
        lines.push(("Max requests", requests.to_string()));
    }
    if let Some(time) = report.max_time {
        lines.push(("Max time (s)", time.as_secs_f64().to_string()));
    }
    if let Some(rate) = report.target_rps {
        lines.push(("Target rps", rate.to_string()));
    }
    lines.push(("Concurrent clients", report.concurrency.to_string()));
    lines.push(("Running on cores", report.cores.to_string()));
    lines.push(("Agent", report.agent.name().to_owned()));
    if report.pipeline > 1 {
        lines.push(("Pipelined requests", report.pipeline.to_string()));
    }
    lines
}

fn found(report: &Report) -> Vec<(&'static str, String)> {
    // No answer has no latency, not one of 0.
    let mean = match report.latency.count() {
        0 => "-".to_owned(),
        _ => millis(report.latency.mean()),
    };
    vec![
        ("Completed requests", report.completed.to_string()),
        ("Total errors", report.total_errors.to_string()),
        (
            "Total time",
            format!("{:.6} s", report.elapsed.as_secs_f64()),
        ),
        ("Mean latency", mean),
        ("Effective rps", format!("{:.1}", report.effective_rps)),
    ]
}

fn wires(report: &Report) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("Bytes read", octets(report.bytes.read)),
        ("Bytes written", octets(report.bytes.written)),
        ("Connections opened", report.connections.to_string()),
    ];
    if report.retried > 0 {
        lines.push(("Requests sent again", report.retried.to_string()));
    }
    let generator = &report.generator;
    let cpu = format!(
        "{:.3} s, the busiest thread {:.0} % of the time",
        generator.cpu.as_secs_f64(),
        generator.busiest * 100.0
    );
    lines.push(("Generator's CPU", cpu));
    lines
}

fn percentages(text: &mut String, latency: &Latency) {
    if latency.count() == 0 {
        return;
    }
    *text += "\nPercentage of requests served within a certain time\n";
    for (name, share) in PERCENTAGES {
        let longest = match share < 1.0 {
            true => "",
            false => " (longest request)",
        };
        let time = millis(latency.quantile(share));
        let _ = writeln!(text, "{name:>5}      {time}{longest}");
    }
}

fn from_the_plan(text: &mut String, report: &Report, planned: &Latency) {
    let own = &report.latency;
    if own.count() == 0 {
        return;
    }
    let mut rows = vec![row(["Latency", "from its start", "from its planned time"])];
    rows.push(row(["mean", &millis(own.mean()), &millis(planned.mean())]));
    for (name, share) in PERCENTAGES {
        let (own, planned) = (own.quantile(share), planned.quantile(share));
        rows.push(row([name, &millis(own), &millis(planned)]));
    }
    text.push('\n');
    *text += &aligned(&rows, &[0]);
    if let Some((own, planned)) = far_apart(report) {
        let _ = writeln!(
            text,
            "The server stood still or could not keep up: counted from when they should have been sent,\n\
             99 of 100 requests took up to {}; from when they could be sent, up to {}.",
            millis(planned),
            millis(own)
        );
    }
}

fn statuses(text: &mut String, report: &Report) {
    // Echoes count as the status that their connections began with.
    let usual = match report.agent {
        Agent::WebSocket => 101,
        Agent::None | Agent::KeepAlive => 200,
    };
    if report.statuses.keys().all(|status| *status == usual) {
        return;
    }
    let of = report.answered();
    let mut rows = vec![row(["Status", "answers", "share"])];
    for (status, count) in &report.statuses {
        rows.push(row([
            &status.to_string(),
            &count.to_string(),
            &percent(*count, of),
        ]));
    }
    text.push('\n');
    *text += &aligned(&rows, &[0]);
}

fn errors(text: &mut String, report: &Report) {
    if report.errors.total() == 0 {
        return;
    }
    let mut rows = vec![row(["Error", "requests", "share"])];
    for (trouble, count) in report.errors.iter() {
        rows.push(row([
            trouble.name(),
            &count.to_string(),
            &percent(count, report.completed),
        ]));
    }
    text.push('\n');
    *text += &aligned(&rows, &[0]);
}

fn workers(text: &mut String, report: &Report) {
    let Some(jain) = report.jain.filter(|_| !report.workers.is_empty()) else {
        return;
    };
    let of: u64 = report.workers.iter().map(|worker| worker.requests).sum();
    let mut rows = vec![row(["Worker", "requests", "share"])];
    for worker in report.workers.iter().take(MOST_WORKERS) {
        let name: String = plain(&worker.worker).chars().take(LONGEST_NAME).collect();
        let count = worker.requests;
        rows.push(row([&name, &count.to_string(), &percent(count, of)]));
    }
    text.push('\n');
    *text += &aligned(&rows, &[0]);
    let more = report.workers.len().saturating_sub(MOST_WORKERS);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
    let fairness = match told_apart(&report.workers).count() {
        all if all == report.workers.len() => format!("{jain:.3}"),
        some => format!("{jain:.3} (of the {some} that are told apart)"),
    };
    line(text, "Fairness (Jain)", &fairness);
}

fn stages(text: &mut String, stages: &[Stage]) {
    if stages.len() < 2 {
        return;
    }
    let heads = [
        "Stage",
        "at",
        "took",
        "answers",
        "failures",
        "lost",
        "again",
        "longest",
        "lost by kind",
        "outcome",
    ];
    let mut rows = vec![row(heads)];
    for stage in stages {
        let or_dash = |words: Option<String>| words.unwrap_or_else(|| "-".to_owned());
        let lost = stage.errors.iter();
        let lost: Vec<_> = lost.map(|(trouble, n)| format!("{trouble} {n}")).collect();
        rows.push(row([
            &plain(&stage.what),
            &format!("{:.3} s", stage.at.as_secs_f64()),
            &or_dash(stage.took.map(millis)),
            &stage.answers.to_string(),
            &stage.failures.to_string(),
            &stage.errors.total().to_string(),
            &stage.retried.to_string(),
            &or_dash(stage.longest().map(millis)),
            &or_dash((!lost.is_empty()).then(|| lost.join(", "))),
            &or_dash(stage.outcome.as_deref().map(plain)),
        ]));
    }
    text.push('\n');
    *text += &aligned(&rows, &[0, 8, 9]);
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> String {
    format!("{:.3} ms", time.as_nanos() as f64 / 1e6)
}

/// All of them, and in the unit that fits.
fn octets(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        _ => format!("{number} ({})", bytes(number)),
    }
}

/// Columns that are as wide as they must be, words in `left` to the left and numbers to the right.
fn aligned(rows: &[Vec<String>], left: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let gap = if column == 0 { "" } else { "  " };
            // Writing to a string does not fail.
            let _ = match left.contains(&column) {
                true => write!(line, "{gap}{cell:<width$}"),
                false => write!(line, "{gap}{cell:>width$}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::loadtest::Share;
    use crate::loadtest::report::fairness;

    #[test]
    fn it_begins_as_the_npm_tool_does() {
        let expected = "
Target URL:          http://127.0.0.1:3000/
Max requests:        1000
Concurrent clients:  10
Running on cores:    1
Agent:               none

Completed requests:  1000
Total errors:        0
Total time:          10.000000 s
Mean latency:        25.504 ms
Effective rps:       100.0

Percentage of requests served within a certain time
  50%      25.007 ms
  90%      45.023 ms
  95%      48.031 ms
  99%      50.015 ms
99.9%      50.015 ms
 100%      50.015 ms (longest request)

Bytes read:          123456 (123 kB)
Bytes written:       65432 (65.4 kB)
Connections opened:  1000
Generator's CPU:     0.500 s, the busiest thread 5 % of the time

Worker      requests    share
process 11       600  60.00 %
process 12       400  40.00 %
Fairness (Jain):     0.962
";
        assert_eq!(text(&sample::report(), &[]), expected);
    }

    #[test]
    fn errors_and_statuses_have_tables() {
        let thresholds = [Threshold {
            name: "max-errors",
            unit: "percent",
            wanted: 2.0,
            got: Some(1.5),
            ok: true,
        }];
        let text = text(&sample::with_errors(), &thresholds);
        for expected in [
            "\nStatus  answers    share\n200         985  99.49 %\n503           5   0.51 %\n",
            "\nError     requests   share\nreset            7  0.70 %\ntime-out         3  0.30 %\n",
            "\nRequests sent again: 2\n",
            "\nThresholds\nok  max-errors: wanted at most 2.000 %, got 1.500 %\n",
        ] {
            assert!(text.contains(expected), "{expected}\nin\n{text}");
        }
    }

    #[test]
    fn the_plan_is_beside_what_was_seen() {
        let text = text(&sample::at_a_rate(), &[]);
        for expected in [
            "\nMax requests:        1000\nMax time (s):        10\nTarget rps:          100\n",
            "\nPipelined requests:  4\n",
            "\nLatency  from its start  from its planned time\n",
            "The server stood still or could not keep up",
            "\nWarning: the generator may have been the bottleneck",
        ] {
            assert!(text.contains(expected), "{expected}\nin\n{text}");
        }
        let stage = text.lines().find(|line| line.starts_with("kill:any"));
        let words: Vec<_> = stage.unwrap().split("  ").map(str::trim).collect();
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let expected = [
            "kill:any (worker 2)",
            "5.000 s",
            "12.000 ms",
            "498",
            "1",
            "10",
            "3",
            "900.000 ms",
            "reset 7, time-out 3",
            "2 workers listen again",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn others_are_no_worker() {
        let mut report = sample::report();
        let names = (0..4096).map(|at| (format!("w{at}"), 1));
        report.workers = names
            .chain([("others".to_owned(), 9000)])
            .map(|(worker, requests)| Share { worker, requests })
            .collect();
        report.jain = fairness(&report.workers);
        let text = text(&report, &[]);
        let expected = "\nFairness (Jain):     1.000 (of the 4096 that are told apart)\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_stage_without_answers_has_no_longest() {
        let mut report = sample::at_a_rate();
        report.stages[1].answers = 0;
        let text = text(&report, &[]);
        let stage = text.lines().find(|line| line.starts_with("kill:any"));
        let words: Vec<_> = stage.unwrap().split_whitespace().collect();
        assert!(
            words.windows(3).any(|three| three == ["3", "-", "reset"]),
            "{text}"
        );
    }

    #[test]
    fn usual_statuses_need_no_table() {
        let mut report = sample::report();
        report.statuses = [(101, 1000)].into();
        assert!(text(&report, &[]).contains("\nStatus"));
        report.agent = Agent::WebSocket;
        assert!(!text(&report, &[]).contains("\nStatus"));
    }

    #[test]
    fn nothing_is_no_trouble() {
        let text = text(&sample::without_answers(), &[]);
        assert!(
            text.contains("\nMean latency:        -\n") && !text.contains("50%"),
            "{text}"
        );
        assert!(text.contains("\nrefused        10  100.00 %\n"), "{text}");
        assert!(!text.contains("Worker") && !text.contains("NaN"));
    }

    #[test]
    fn what_peers_say_stays_plain_and_short() {
        let mut report = sample::report();
        report.workers = (0..50)
            .map(|at| Share {
                worker: format!("\x1b[31m\u{202e}{at}\n{}", "a".repeat(1000)),
                requests: 50 - at,
            })
            .collect();
        report.stages = vec![Stage::default(); 2];
        report.stages[1].what = "\x07\n".to_owned();
        let text = text(&report, &[]);
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']));
        assert!(text.contains("\n  and 30 more\n"));
        assert!(text.lines().all(|line| line.len() < 200));
    }
}
