//! A comparison as a page: bars for what is worth a look, the table, and the sentences.

use super::Comparison;
use super::figures::Figure;
use super::setup::Contestant;
use super::{text, words};
use crate::loadtest::show::{bars, escape, page, table};

/// What has bars, with a title for each.
const PLOTS: [(Figure, &str); 9] = [
    (Figure::HelloRate, "Requests for {light} a second"),
    (Figure::HelloCpu, "CPU time for a request to {light}"),
    (Figure::HelloP99, "p99 of {light} under full load"),
    (Figure::HeavyRate, "Requests for {heavy} a second"),
    (Figure::MixedP99, "p99 of {light} while {heavy} is busy"),
    (Figure::CrashFailed, "Requests that failed in a crash"),
    (Figure::CrashRecovery, "From a crash to full strength"),
    (Figure::MemoryLoad, "Memory (PSS) under load"),
    (Figure::StartUp, "From start to first answer"),
];

const TITLE: &str = "Processes and threads compared";

/// The whole page.
pub(super) fn html(all: &Comparison) -> String {
    let headline = escape(&text::headline(all));
    let mut body = format!("<h1>{TITLE}</h1>\n<p class=\"quiet\">{headline}</p>\n");
    body.push_str("<h2>What the figures say</h2>\n<ul>\n");
    for sentence in words::sentences(all) {
        body.push_str(&format!("<li>{}</li>\n", escape(&sentence)));
    }
    body.push_str("</ul>\n<h2>Side by side</h2>\n");
    let names = Contestant::ALL.map(Contestant::name);
    for (figure, title) in PLOTS {
        if !all.found.figures.has(figure) {
            continue;
        }
        let median = |one| {
            let found = all.found.figures.spread(figure, one);
            let known = found.map(|found| found.median);
            known.filter(|value| value.is_finite())
        };
        let series = [("median", Contestant::ALL.map(median).to_vec())];
        let title = text::with_paths(all, title);
        let plot = bars(&title, figure.shown().unit, &names, &series);
        body.push_str(&format!("<figure class=\"card\">{plot}</figure>\n"));
    }
    body.push_str("<h2>All figures</h2>\n<p class=\"quiet\">The median of the rounds.</p>\n");
    let mut head = vec![""];
    head.extend(names);
    let rows: Vec<Vec<String>> = text::rows(all)
        .into_iter()
        .map(|(figure, cells)| {
            let label = text::label(all, figure);
            let name = format!("{}: {}", figure.workload(), label.trim());
            [name].into_iter().chain(cells).collect()
        })
        .collect();
    body.push_str(&table(&head, &rows));
    page(TITLE, &body)
}
