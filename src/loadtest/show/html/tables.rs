//! The tables of a report: thresholds, faults, statuses, errors, workers, and the generator itself.

use super::super::words::{MOST_WORKERS, bytes, percent};
use super::super::{Threshold, bars, table};
use super::{figure, heading, many, paragraph, span, whole};
use crate::loadtest::report::{Trouble, told_apart};
use crate::loadtest::{Report, Stage};

/// The thresholds, and what came of them.
pub(super) fn wishes(thresholds: &[Threshold]) -> String {
    if thresholds.is_empty() {
        return String::new();
    }
    let rows = thresholds.iter().map(|one| {
        let word = if one.ok { "ok" } else { "missed" };
        vec![
            one.name.to_owned(),
            one.wish(),
            one.found(),
            word.to_owned(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let head = ["threshold", "wanted", "got", "result"];
    heading("Thresholds") + &table(&head, &rows)
}

/// The kinds of errors in a few words.
fn kinds(stage: &Stage) -> String {
    let kinds = stage.errors.iter();
    let words: Vec<_> = kinds
        .map(|(trouble, number)| format!("{} {trouble}", whole(number)))
        .collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

pub(super) fn stages(report: &Report) -> String {
    if report.stages.len() < 2 {
        return String::new();
    }
    let head = [
        "stage",
        "from",
        "what came of it",
        "took",
        "answers",
        "status 400 or more",
        "no answer",
        "sent again",
        "longest",
    ];
    let rows: Vec<_> = report
        .stages
        .iter()
        .map(|stage| {
            vec![
                stage.what.clone(),
                format!("{:.2} s", stage.at.as_secs_f64()),
                stage.outcome.clone().unwrap_or_default(),
                stage.took.map_or("–".to_owned(), span),
                whole(stage.answers),
                whole(stage.failures),
                kinds(stage),
                whole(stage.retried),
                stage.longest().map_or("–".to_owned(), span),
            ]
        })
        .collect();
    let words = "From each fault to the next: what ended in that time, well or badly.";
    heading("What each fault cost") + &paragraph("", words) + &table(&head, &rows)
}

/// What a kind of error means, for who reads the report.
fn meaning(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Refused => "nobody listened there",
        Trouble::Reset => "the connection was reset",
        Trouble::Closed => "the connection was closed before the answer was whole",
        Trouble::TimedOut => "no whole answer in time",
        Trouble::Parse => "what came was no answer",
        Trouble::Unreachable => "no way to the host",
        Trouble::Exhausted => "this machine was out of descriptors or ports",
        Trouble::Other => "anything else",
    }
}

pub(super) fn endings(report: &Report) -> String {
    let mut text = String::new();
    if !report.statuses.is_empty() {
        let of = report.answered();
        let rows = report
            .statuses
            .iter()
            .map(|(status, number)| vec![status.to_string(), whole(*number), percent(*number, of)]);
        let rows: Vec<_> = rows.collect();
        text += &heading("Statuses");
        text += &table(&["status", "answers", "of the answers"], &rows);
    }
    if report.errors.total() > 0 {
        let rows = report.errors.iter().map(|(trouble, number)| {
            vec![
                trouble.name().to_owned(),
                whole(number),
                percent(number, report.completed),
                meaning(trouble).to_owned(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        text += &heading("Requests without an answer");
        text += &table(&["kind", "requests", "of all requests", "meaning"], &rows);
    }
    text
}

pub(super) fn workers(report: &Report) -> String {
    let all: u64 = report.workers.iter().map(|share| share.requests).sum();
    if all == 0 {
        return String::new();
    }
    let (shown, rest) = report
        .workers
        .split_at(report.workers.len().min(MOST_WORKERS));
    let mut rows: Vec<_> = shown
        .iter()
        .map(|share| {
            vec![
                share.worker.clone(),
                whole(share.requests),
                percent(share.requests, all),
            ]
        })
        .collect();
    if !rest.is_empty() {
        let requests: u64 = rest.iter().map(|share| share.requests).sum();
        let name = format!("and {}", many(rest.len() as u64, "other", "others"));
        rows.push(vec![name, whole(requests), percent(requests, all)]);
    }
    let names: Vec<_> = shown.iter().map(|share| share.worker.as_str()).collect();
    let values = shown
        .iter()
        .map(|share| Some(share.requests as f64))
        .collect();
    let plot = bars(
        "Answers by worker",
        "answers",
        &names,
        &[("answers", values)],
    );
    let mut text = heading("Who answered");
    if let Some(jain) = report.jain {
        let those = told_apart(&report.workers).count();
        let mut words = format!(
            "Jain's fairness index is {jain:.3}: 1 when all answer equally often, {:.3} if one of these \
             {those} did everything.",
            1.0 / those as f64,
        );
        if those < report.workers.len() {
            words += " The others, which are not told apart, are left out of it.";
        }
        text += &paragraph("", &words);
    }
    text + &figure(&plot) + &table(&["worker", "answers", "share"], &rows)
}

pub(super) fn generator(report: &Report) -> String {
    let own = &report.generator;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("threads", whole(report.cores as u64)),
        row("connections opened", whole(report.connections)),
        row("bytes read", bytes(report.bytes.read)),
        row("bytes written", bytes(report.bytes.written)),
        row("CPU time", span(own.cpu)),
        row(
            "busiest thread",
            format!("{:.0} % busy", own.busiest * 100.0),
        ),
    ];
    if report.retried > 0 {
        // The server closed a kept connection just then.
        rows.push(row("sent once more", whole(report.retried)));
    }
    if report.target_rps.is_some() {
        rows.push(row("sent late by at most", span(own.late_max)));
    }
    let verdict = match own.bottleneck {
        Some(_) => "likely the bottleneck: see above",
        None => "not the bottleneck, as far as it can tell",
    };
    rows.push(row("verdict", verdict.to_owned()));
    heading("The generator") + &table(&["figure", "value"], &rows)
}
