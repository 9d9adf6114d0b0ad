//! A load test as a page: what it found in words, figures, plots and tables.
//!
//! Owns what is said and in which order. The parts that have nothing to tell are left out.

mod plots;
mod tables;

use super::scale::{count, precise, time};
use super::words::far_apart;
use super::{Threshold, escape, page};
use crate::loadtest::Report;
use plots::{latencies, over_time};
use std::fmt::Write;
use std::time::Duration;
use tables::{endings, generator, stages, wishes, workers};

/// The report as a page that stands alone, with what came of the thresholds.
pub(crate) fn html(report: &Report, thresholds: &[Threshold]) -> String {
    let mut body = String::new();
    body += "<header>\n";
    body += &format!("<h1>Load test of {}</h1>\n", escape(&report.url));
    body += &paragraph("quiet", &wanted(report));
    body += "</header>\n<main>\n";
    for warning in warnings(report) {
        body += &paragraph("warning", &warning);
    }
    body += &headline(report, thresholds);
    body += &wishes(thresholds);
    body += &over_time(report);
    body += &latencies(report);
    body += &stages(report);
    body += &endings(report);
    body += &workers(report);
    body += &generator(report);
    body += "</main>\n";
    let version = env!("CARGO_PKG_VERSION");
    body += &format!(
        "<footer>mcluster {version}, report {}</footer>",
        report.schema
    );
    page(&format!("Load test of {}", report.url), &body)
}

fn paragraph(class: &str, text: &str) -> String {
    format!("<p class=\"{class}\">{}</p>\n", escape(text))
}

fn heading(text: &str) -> String {
    format!("<h2>{}</h2>\n", escape(text))
}

fn figure(svg: &str) -> String {
    format!("<figure class=\"card\" tabindex=\"0\">\n{svg}</figure>\n")
}

fn span(duration: Duration) -> String {
    precise(duration.as_secs_f64())
}

fn whole(number: u64) -> String {
    count(number as f64)
}

/// With its noun in the right number.
fn many(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", whole(number), if number == 1 { one } else { more })
}

/// What was asked for, as a sentence.
fn wanted(report: &Report) -> String {
    let mut text = report.method.clone();
    if let Some(requests) = report.max_requests {
        let _ = write!(text, ", {}", many(requests, "request", "requests"));
    }
    if let Some(limit) = report.max_time {
        let _ = write!(text, ", for {}", time(limit.as_secs_f64()));
    }
    let connections = many(report.concurrency as u64, "connection", "connections");
    let _ = match report.target_rps {
        Some(rate) => write!(text, ", {} a second on at most {connections}", count(rate)),
        None => write!(text, ", as fast as answers come on {connections}"),
    };
    let _ = write!(text, ", agent {}", report.agent.name());
    if report.pipeline > 1 {
        let _ = write!(text, ", {} requests on their way on each", report.pipeline);
    }
    text + "."
}

/// What one has to know before one looks at any figure.
fn warnings(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    if report.answered() == 0 {
        found.push("Nothing was answered: there are no latencies.".to_owned());
    }
    if let Some(why) = &report.generator.bottleneck {
        found.push(format!(
            "The generator itself is likely to have been the bottleneck, not the server: {}.",
            why.trim().trim_end_matches('.'),
        ));
    }
    found.extend(omission(report));
    found
}

/// What the two ways of measuring say together, where they say different things.
fn omission(report: &Report) -> Option<String> {
    far_apart(report).map(|(own, planned)| {
        format!(
            "Requests waited before they could be sent: 99 of 100 were answered within {} of the moment \
             that they were planned for, but within {} of being sent. The server stood still or was too \
             slow for the rate. A client that waits for an answer before it asks again would have left \
             out just the requests that met the worst (coordinated omission); the figures here count \
             them from the planned time.",
            span(planned),
            span(own),
        )
    })
}

fn headline(report: &Report, thresholds: &[Threshold]) -> String {
    let felt = report.felt();
    let known = |value: Duration| match felt.count() {
        0 => "–".to_owned(),
        _ => span(value),
    };
    let part = match report.total_errors {
        0 => String::new(),
        _ => format!("{} % of all requests", count(report.errors_percent())),
    };
    let wanted = report
        .target_rps
        .map(|rate| format!("{} were wanted", count(rate)));
    let figures = [
        (
            "Answers a second",
            count(report.effective_rps),
            wanted.unwrap_or_default(),
        ),
        (
            "Half took at most",
            known(felt.quantile(0.5)),
            String::new(),
        ),
        (
            "99 of 100 took at most",
            known(felt.quantile(0.99)),
            String::new(),
        ),
        ("Longest", known(felt.max()), String::new()),
        ("Requests", whole(report.completed), String::new()),
        ("Errors", whole(report.total_errors), part),
        ("Total time", span(report.elapsed), String::new()),
        (
            "Connections opened",
            whole(report.connections),
            String::new(),
        ),
    ];
    let missed = thresholds.iter().filter(|one| !one.ok).count();
    let judged = match (thresholds.len(), missed) {
        (0, _) => None,
        (all, 0) => Some(("ok".to_owned(), format!("all {all}"))),
        (all, missed) => Some(("missed".to_owned(), format!("{missed} of {all}"))),
    };
    let judged = judged.map(|(word, more)| ("Thresholds", word, more));
    let mut text = "<dl class=\"figures\">\n".to_owned();
    for (name, value, more) in judged.into_iter().chain(figures) {
        let more = match more.is_empty() {
            true => more,
            false => format!(" <small>{}</small>", escape(&more)),
        };
        let value = escape(&value);
        let _ = writeln!(text, "<div><dt>{name}</dt><dd>{value}{more}</dd></div>");
    }
    text + "</dl>\n"
}

#[cfg(test)]
mod tests;
