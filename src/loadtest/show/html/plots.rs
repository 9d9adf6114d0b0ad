//! The plots of a report: what happened when, and which share of answers took how long.

use super::super::plot::{Axis, Plot, Series, Shape, lines};
use super::super::scale::{Scale, count, time};
use super::super::table;
use super::{figure, heading, paragraph, span};
use crate::loadtest::{Interval, Latency, Report};
use std::time::Duration;

/// The shares whose latency is told.
const SHARES: [f64; 8] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// Points of a curve for each further nine.
const POINTS_A_NINE: f64 = 24.0;

const SECONDS: Axis<'_> = Axis {
    label: "seconds from the start",
    scale: Scale::Linear,
    format: count,
};

const LATENCY: Axis<'_> = Axis {
    label: "latency, on a logarithmic scale",
    scale: Scale::Logarithmic,
    format: time,
};

/// A figure of each interval, which holds until the next.
fn each<'a>(name: &'a str, timeline: &[Interval], of: impl Fn(&Interval) -> f64) -> Series<'a> {
    let at = |interval: &Interval| interval.at.as_secs_f64();
    let mut points: Vec<_> = timeline
        .iter()
        .map(|interval| (at(interval), of(interval)))
        .collect();
    if let Some(last) = timeline.last() {
        points.push((at(last) + last.length.as_secs_f64(), of(last)));
    }
    Series { name, points }
}

pub(super) fn over_time(report: &Report) -> String {
    let timeline = &report.timeline;
    if timeline.is_empty() {
        return String::new();
    }
    // The first begins with the run: no mark.
    let later = report.stages.iter().skip(1);
    let marks: Vec<_> = later
        .map(|stage| (stage.at.as_secs_f64(), stage.what.clone()))
        .collect();
    // Where nothing was answered there is no latency, and no line.
    let seconds = |of: fn(&Interval) -> Duration| {
        move |interval: &Interval| match interval.answers {
            0 => f64::NAN,
            _ => of(interval).as_secs_f64(),
        }
    };
    let latency = lines(&Plot {
        title: match report.planned {
            Some(_) => "Latency over time, from the planned time",
            None => "Latency over time",
        },
        x: SECONDS,
        y: LATENCY,
        series: vec![
            each("half (p50)", timeline, seconds(|interval| interval.p50)),
            each(
                "99 of 100 (p99)",
                timeline,
                seconds(|interval| interval.p99),
            ),
            each("longest", timeline, seconds(|interval| interval.max)),
        ],
        marks: marks.clone(),
        shape: Shape::Steps,
    });
    let a_second = |of: fn(&Interval) -> u64| {
        move |interval: &Interval| of(interval) as f64 / interval.length.as_secs_f64()
    };
    let throughput = lines(&Plot {
        title: "Throughput over time",
        x: SECONDS,
        y: Axis {
            label: "a second",
            scale: Scale::Linear,
            format: count,
        },
        series: vec![
            each("answers", timeline, a_second(|interval| interval.answers)),
            each("errors", timeline, a_second(|interval| interval.errors)),
        ],
        marks,
        shape: Shape::Areas,
    });
    heading("Over time") + &figure(&latency) + &figure(&throughput)
}

/// As shares are spoken of: 99.9 %.
pub(super) fn share(q: f64) -> String {
    let nines = -(1.0 - q).log10();
    let digits = if nines.is_finite() {
        nines.round() - 2.0
    } else {
        0.0
    };
    format!("{:.*} %", digits.max(0.0) as usize, q * 100.0)
}

/// The latency within which each share was answered, as far as the count can tell.
fn curve<'a>(name: &'a str, latency: &Latency) -> Series<'a> {
    let nines = (latency.count().max(1) as f64).log10();
    let steps = (nines * POINTS_A_NINE) as u32;
    let places = (0..=steps).map(|step| f64::from(step) / POINTS_A_NINE);
    let shares = places.map(|place| 1.0 - 10f64.powf(-place));
    let points = match latency.count() {
        0 => Vec::new(),
        _ => shares
            .map(|q| (q, latency.quantile(q).as_secs_f64()))
            .collect(),
    };
    Series { name, points }
}

pub(super) fn latencies(report: &Report) -> String {
    if report.felt().count() == 0 {
        return String::new();
    }
    let mut text = heading("Latency");
    let (mut head, mut series) = (vec!["share of answers"], Vec::new());
    let mut columns = vec![&report.latency];
    if let Some(planned) = &report.planned {
        text += &paragraph(
            "",
            "Measured twice: from sending each request, and from the moment that the schedule planned it \
             for. The second is what a user sees who does not care whether others still wait; where the \
             two part, requests queued before they were sent.",
        );
        head.extend(["from sending", "from the planned time"]);
        series.push(curve("from the planned time", planned));
        series.push(curve("from sending", &report.latency));
        columns.push(planned);
    } else {
        head.push("answered within");
        series.push(curve("latency", &report.latency));
    }
    text += &figure(&lines(&Plot {
        title: "Latency by share of answers",
        x: Axis {
            label: "share of answers, closer towards all of them",
            scale: Scale::Nines,
            format: share,
        },
        y: LATENCY,
        series,
        marks: Vec::new(),
        shape: Shape::Lines,
    }));
    let row = |name: String, of: &dyn Fn(&Latency) -> Duration| {
        let cells = columns.iter().map(|latency| span(of(latency)));
        std::iter::once(name).chain(cells).collect::<Vec<_>>()
    };
    let mut rows = vec![row("shortest".to_owned(), &Latency::min)];
    rows.push(row("mean".to_owned(), &Latency::mean));
    rows.extend(SHARES.map(|q| match q {
        1.0 => row("100 % (longest)".to_owned(), &Latency::max),
        _ => row(share(q), &|latency| latency.quantile(q)),
    }));
    text + &table(&head, &rows)
}
