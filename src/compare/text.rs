//! The table for people, and numbers as they stand in it. Pure.

use super::Comparison;
use super::figures::Figure;
use super::setup::Contestant;

/// What is not known.
const UNKNOWN: &str = "-";

/// A number with three digits that count, thousands apart.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        size if !size.is_finite() => return UNKNOWN.to_owned(),
        size if size >= 99.95 || size.fract() == 0.0 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = match plain.find('.') {
        Some(point) => plain.split_at(point),
        None => (plain.as_str(), ""),
    };
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let behind = whole.len() - at;
        if at > 0 && behind % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// Figures that are shown, with their rows: the median for each contestant.
pub(super) fn rows(all: &Comparison) -> Vec<(Figure, Vec<String>)> {
    let figures = &all.found.figures;
    let happened = |figure: Figure| {
        let mut counts = Contestant::ALL
            .iter()
            .flat_map(|one| figures.values(figure, *one));
        counts.any(|count| *count > 0.0)
    };
    let worth = |figure: &Figure| figures.has(*figure) && (!figure.is_rare() || happened(*figure));
    let cell = |figure: Figure, one| match (figures.spread(figure, one), figure.limit()) {
        (None, _) => UNKNOWN.to_owned(),
        (Some(found), Some((limit, time))) if found.median >= limit => format!("> {time}"),
        (Some(found), _) => number(found.median),
    };
    let figures = Figure::ALL.into_iter().filter(worth);
    figures
        .map(|figure| {
            let cells = Contestant::ALL.iter().map(|one| cell(figure, *one));
            (figure, cells.collect())
        })
        .collect()
}

/// Puts the paths where `{light}` and `{heavy}` are.
pub(super) fn with_paths(all: &Comparison, words: &str) -> String {
    let words = words.replace("{light}", &all.plan.light);
    words.replace("{heavy}", &all.plan.heavy)
}

/// What a row is called, with its unit.
pub(super) fn label(all: &Comparison, figure: Figure) -> String {
    let shown = figure.shown();
    let label = with_paths(all, shown.label);
    match shown.unit {
        "" | "1/s" => label,
        unit => format!("{label}, {unit}"),
    }
}

/// The line above the table.
pub(super) fn headline(all: &Comparison) -> String {
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    format!(
        "{} on {}, {} of {} s for each workload; medians",
        plural(all.plan.workers, "worker"),
        plural(all.cpus, "CPU"),
        plural(all.plan.rounds, "round"),
        all.plan.duration.as_secs_f64()
    )
}

/// Headline, table, sentences.
pub(super) fn text(all: &Comparison) -> String {
    let rows = rows(all);
    let named = |(figure, cells): &(Figure, Vec<String>)| {
        (format!("  {}", label(all, *figure)), cells.clone())
    };
    let first = rows.iter().map(|row| named(row).0.chars().count()).max();
    let first = first.unwrap_or_default();
    let width = |column: usize, name: &str| {
        let cells = rows.iter().map(|(_, cells)| cells[column].chars().count());
        cells.chain([name.len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = Contestant::ALL
        .iter()
        .enumerate()
        .map(|(column, one)| width(column, one.name()))
        .collect();
    let mut text = format!("{}\n\n{:first$}", headline(all), "");
    for (one, width) in Contestant::ALL.iter().zip(&widths) {
        text.push_str(&format!("  {:>width$}", one.name()));
    }
    let mut workload = None;
    for row in &rows {
        if workload != Some(row.0.workload()) {
            workload = Some(row.0.workload());
            text.push_str(&format!("\n{}", row.0.workload()));
        }
        let (name, cells) = named(row);
        text.push_str(&format!("\n{name:first$}"));
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(&format!("  {cell:>width$}"));
        }
    }
    text.push_str("\n\n");
    for sentence in super::words::sentences(all) {
        text.push_str(&sentence);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (0.123, "0.12"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.96, "100"),
            (99.9, "99.9"),
            (1234.5, "1,234"),
            (123_456.0, "123,456"),
            (1_234_567.8, "1,234,568"),
            (-123_456.0, "-123,456"),
            (f64::INFINITY, "-"),
            (-1234.0, "-1,234"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected, "{value}");
        }
    }
}
