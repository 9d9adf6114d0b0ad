//! Lines over an axis: what happened when, and which share took how long.
//!
//! Owns the layout: title, legend, marks and their labels, axes, lines. What has no place on its axis
//! (NaN, zero under a logarithm) breaks its line instead of being guessed.

use super::canvas::{Paint, Point, Sheet, Side, drawing, shortened, width_of};
use super::scale::{Range, Scale};
use crate::sorted::sort_by;
use plotters::drawing::DrawingAreaErrorKind;
use std::io;

type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// One line, by name.
#[derive(Clone, Debug)]
pub(crate) struct Series<'a> {
    /// For the legend.
    pub name: &'a str,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// One of the two axes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis<'a> {
    /// What it shows, with the unit where `format` does not say it.
    pub label: &'a str,
    /// How values are spread.
    pub scale: Scale,
    /// How a value at a tick is written.
    pub format: fn(f64) -> String,
}

/// How points become lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Straight from point to point.
    Lines,
    /// A value holds until the next point.
    Steps,
    /// As steps, with what is below them tinted.
    Areas,
}

/// What is to be drawn.
#[derive(Clone, Debug)]
pub(crate) struct Plot<'a> {
    /// Above it.
    pub title: &'a str,
    /// To the right.
    pub x: Axis<'a>,
    /// Upwards.
    pub y: Axis<'a>,
    /// The lines; there are six looks.
    pub series: Vec<Series<'a>>,
    /// Vertical lines at places of `x`, with labels.
    pub marks: Vec<(f64, String)>,
    /// How points become lines.
    pub shape: Shape,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = WIDTH - 30.0;
const PLOT_HEIGHT: f64 = 210.0;
const BELOW: f64 = 48.0;
const ROW: f64 = 19.0;

pub(super) const TITLE_SIZE: f64 = 15.0;
pub(super) const TEXT_SIZE: f64 = 12.0;

/// Rows of labels of marks. What finds no room in them has its line alone.
const MARK_ROWS: usize = 3;
const LONGEST_MARK: usize = 28;

/// Where the lines go.
struct Frame<'a> {
    plot: &'a Plot<'a>,
    x: Range,
    y: Range,
    top: f64,
    bottom: f64,
}

impl Frame<'_> {
    fn across(&self, value: f64) -> Option<f64> {
        let place = self.plot.x.scale.place(value)?;
        Some(LEFT + (place - self.x.from) / (self.x.to - self.x.from) * (RIGHT - LEFT))
    }

    fn up(&self, value: f64) -> Option<f64> {
        let place = self.plot.y.scale.place(value)?;
        let share = (place - self.y.from) / (self.y.to - self.y.from);
        Some(self.bottom - share * (self.bottom - self.top))
    }

    /// The stretches of a line that can be drawn.
    fn stretches(&self, series: &Series<'_>) -> Vec<Vec<Point>> {
        let mut stretches = vec![Vec::new()];
        for (x, y) in &series.points {
            let last = stretches.last_mut().expect("there is always one");
            match (self.across(*x), self.up(*y)) {
                (Some(across), Some(up)) => {
                    let before = last.last().copied();
                    if let Some((_, before)) = before.filter(|_| self.plot.shape != Shape::Lines) {
                        last.push((across, before));
                    }
                    last.push((across, up));
                }
                // The value before holds until here.
                (Some(across), None) if self.plot.shape != Shape::Lines => {
                    if let Some((_, before)) = last.last().copied() {
                        last.push((across, before));
                    }
                    stretches.push(Vec::new());
                }
                _ => stretches.push(Vec::new()),
            }
        }
        stretches.retain(|stretch| !stretch.is_empty());
        stretches
    }
}

/// The plot, as an `<svg>`.
pub(crate) fn lines(plot: &Plot<'_>) -> String {
    let names: Vec<_> = plot.series.iter().map(|series| series.name).collect();
    let points = || plot.series.iter().flat_map(|series| series.points.iter());
    let marks = plot.marks.iter().map(|(x, _)| *x);
    let x = plot.x.scale.range(points().map(|(x, _)| *x).chain(marks));
    let y = plot.y.scale.range(points().map(|(_, y)| *y));
    let mut frame = Frame {
        plot,
        x,
        y,
        top: 0.0,
        bottom: 0.0,
    };
    let labels = places_of_labels(&frame);
    let rows = labels.iter().map(|(_, _, row)| row + 1).max().unwrap_or(0);
    let legend = legend_rows(&names);
    let above = 34.0 + legend as f64 * ROW;
    // The label of the uppermost tick reaches above its line.
    frame.top = above + ROW + 8.0 + rows as f64 * ROW;
    frame.bottom = frame.top + PLOT_HEIGHT;
    let height = frame.bottom + BELOW;
    drawing(&described(plot), (WIDTH, height), |sheet| {
        sheet.heading(plot.title, (4.0, 16.0), TITLE_SIZE)?;
        draw_legend(sheet, &names, 34.0 + ROW / 2.0)?;
        let beside = (4.0, above + ROW / 2.0);
        sheet.text(plot.y.label, beside, TEXT_SIZE, Side::Begin, Paint::Quiet)?;
        draw_axes(sheet, &frame)?;
        for (label, place, row) in &labels {
            let at = (*place, above + ROW * (1.5 + *row as f64));
            sheet.text(label, at, TEXT_SIZE, Side::Begin, Paint::Ink)?;
        }
        for across in plot.marks.iter().filter_map(|(x, _)| frame.across(*x)) {
            let row = labels
                .iter()
                .find(|(_, place, _)| (place - across).abs() < 5.0);
            let from = row.map_or(frame.top, |(_, _, row)| above + ROW * (1.0 + *row as f64));
            sheet.path(&[(across, from), (across, frame.bottom)], Paint::Mark, 1.25)?;
        }
        // The first series lies on top: it is what one looks for.
        for (number, series) in plot.series.iter().enumerate().rev() {
            draw_series(sheet, &frame, Paint::Series(number), series)?;
        }
        let is_seen = |(x, y): &(f64, f64)| frame.across(*x).and(frame.up(*y)).is_some();
        match points().any(is_seen) {
            true => Ok(()),
            false => {
                let middle = ((LEFT + RIGHT) / 2.0, (frame.top + frame.bottom) / 2.0);
                sheet.text("nothing to show", middle, 14.0, Side::Middle, Paint::Quiet)
            }
        }
    })
}

/// For those who do not see it.
fn described(plot: &Plot<'_>) -> String {
    let names: Vec<_> = plot.series.iter().map(|series| series.name).collect();
    format!("{}: {} over {}", plot.title, names.join(", "), plot.x.label)
}

/// The labels of marks, where they begin, and in which row from the top.
fn places_of_labels(frame: &Frame<'_>) -> Vec<(String, f64, usize)> {
    let mut marks: Vec<_> = frame
        .plot
        .marks
        .iter()
        .filter_map(|(x, label)| Some((frame.across(*x)?, shortened(label, LONGEST_MARK))))
        .collect();
    sort_by(&mut marks, |one, other| one.0.total_cmp(&other.0));
    let mut ends = [0.0; MARK_ROWS];
    let mut found = Vec::new();
    for (across, label) in marks {
        let width = width_of(&label, TEXT_SIZE);
        let begin = (across + 4.0).min(WIDTH - width);
        if let Some(row) = ends.iter().position(|end| *end + 8.0 <= begin) {
            ends[row] = begin + width;
            found.push((label, begin, row));
        }
    }
    found
}

fn draw_axes(sheet: &Sheet<'_>, frame: &Frame<'_>) -> Drawn {
    let plot = frame.plot;
    for tick in plot.y.scale.ticks(frame.y) {
        let Some(up) = frame.up(tick) else { continue };
        sheet.path(&[(LEFT, up), (RIGHT, up)], Paint::Grid, 1.0)?;
        let text = (plot.y.format)(tick);
        sheet.text(&text, (LEFT - 8.0, up), TEXT_SIZE, Side::End, Paint::Quiet)?;
    }
    for tick in plot.x.scale.ticks(frame.x) {
        let Some(across) = frame.across(tick) else {
            continue;
        };
        let ends = [(across, frame.bottom), (across, frame.bottom + 5.0)];
        sheet.path(&ends, Paint::Quiet, 1.0)?;
        let at = (across, frame.bottom + 15.0);
        sheet.text(
            &(plot.x.format)(tick),
            at,
            TEXT_SIZE,
            Side::Middle,
            Paint::Quiet,
        )?;
    }
    let corners = [(LEFT, frame.bottom), (RIGHT, frame.bottom)];
    sheet.path(&corners, Paint::Quiet, 1.0)?;
    let at = ((LEFT + RIGHT) / 2.0, frame.bottom + 35.0);
    sheet.text(plot.x.label, at, TEXT_SIZE, Side::Middle, Paint::Quiet)
}

fn draw_series(sheet: &Sheet<'_>, frame: &Frame<'_>, paint: Paint, series: &Series<'_>) -> Drawn {
    for stretch in frame.stretches(series) {
        let (first, last) = (stretch[0], stretch[stretch.len() - 1]);
        if frame.plot.shape == Shape::Areas {
            let mut outline = stretch.clone();
            outline.extend([(last.0, frame.bottom), (first.0, frame.bottom)]);
            sheet.area(&outline, paint)?;
        }
        match stretch.len() {
            1 => sheet.dot(first, paint)?,
            _ => sheet.path(&stretch, paint, 1.75)?,
        }
    }
    Ok(())
}

/// Each name of a legend, where it begins, and in which row.
fn legend(names: &[&str]) -> Vec<(String, f64, usize)> {
    let (mut across, mut row) = (4.0, 0);
    let mut found = Vec::new();
    for name in names {
        let name = shortened(name, 40);
        let width = 30.0 + width_of(&name, TEXT_SIZE) + 22.0;
        if across > 4.0 && across + width > WIDTH {
            (across, row) = (4.0, row + 1);
        }
        found.push((name, across, row));
        across += width;
    }
    found
}

/// How many rows it takes.
pub(super) fn legend_rows(names: &[&str]) -> usize {
    legend(names).last().map_or(0, |(_, _, row)| row + 1)
}

/// Draws it, with the middle of its first row as high as `middle`.
pub(super) fn draw_legend(sheet: &Sheet<'_>, names: &[&str], middle: f64) -> Drawn {
    for (number, (name, across, row)) in legend(names).into_iter().enumerate() {
        let high = middle + ROW * row as f64;
        sheet.path(
            &[(across, high), (across + 24.0, high)],
            Paint::Series(number),
            2.5,
        )?;
        sheet.text(
            &name,
            (across + 30.0, high),
            TEXT_SIZE,
            Side::Begin,
            Paint::Ink,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::well_formed;
    use super::super::scale::{count, time};
    use super::*;

    fn plot(scale: Scale, shape: Shape, points: &[(f64, f64)]) -> String {
        let axis = |label, scale| Axis {
            label,
            scale,
            format: count,
        };
        let series = ["first", "second <b>"].map(|name| Series {
            name,
            points: points.to_vec(),
        });
        let marks = (0..9).map(|at| (f64::from(at), format!("kill <i>:{at}")));
        let svg = lines(&Plot {
            title: "a & b",
            x: axis("time", Scale::Linear),
            y: Axis {
                format: time,
                ..axis("latency", scale)
            },
            series: series.to_vec(),
            marks: marks.chain([(f64::NAN, "never".to_owned())]).collect(),
            shape,
        });
        well_formed(&svg);
        assert!(!svg.contains("=\"#") && !svg.contains("<b>") && !svg.contains("<i>"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        svg
    }

    #[test]
    fn whatever_comes_is_drawn() {
        let lists: [&[(f64, f64)]; 7] = [
            &[],
            &[(1.0, 1.0)],
            &[(1.0, 5.0), (2.0, 5.0), (3.0, 5.0)],
            &[
                (f64::NAN, 1.0),
                (1.0, f64::INFINITY),
                (f64::NEG_INFINITY, 2.0),
            ],
            &[(0.0, 0.0), (1.0, 0.0), (2.0, 3.0), (3.0, 0.0)],
            &[(9.0, 2.0), (1.0, 1.0), (1.0, 7.0)],
            &[(1.0, f64::MAX), (f64::MAX, f64::MIN), (2.0, 1e-320)],
        ];
        for scale in [Scale::Linear, Scale::Logarithmic, Scale::Nines] {
            for shape in [Shape::Lines, Shape::Steps, Shape::Areas] {
                for list in lists {
                    let svg = plot(scale, shape, list);
                    let has_place = |(x, y): &(f64, f64)| {
                        Scale::Linear.place(*x).and(scale.place(*y)).is_some()
                    };
                    let is_empty = !list.iter().any(has_place);
                    assert_eq!(svg.contains("nothing to show"), is_empty, "{list:?}");
                }
            }
        }
    }

    #[test]
    fn a_grid_without_a_line_says_so() {
        let none = [(0.0, f64::NAN), (1.0, f64::NAN)];
        let svg = plot(Scale::Logarithmic, Shape::Steps, &none);
        assert!(svg.contains("nothing to show"));
    }

    #[test]
    fn what_has_no_place_breaks_the_line() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, 0.0), (3.0, 1.0), (4.0, 1.0)];
        let lines_of = |svg: &str| {
            let long = |line: &&str| line.starts_with("<polyline") && line.contains("var(--s0)");
            // The legend's is one too.
            svg.lines().filter(long).count() - 1
        };
        let linear = plot(Scale::Linear, Shape::Lines, &points);
        let logarithmic = plot(Scale::Logarithmic, Shape::Lines, &points);
        assert_eq!((lines_of(&linear), lines_of(&logarithmic)), (1, 2));
    }

    #[test]
    fn labels_of_marks_do_not_overlap() {
        let svg = plot(Scale::Linear, Shape::Lines, &[(0.0, 1.0), (100.0, 1.0)]);
        let labels = svg.lines().filter(|line| line.starts_with("kill")).count();
        assert_eq!(labels, MARK_ROWS);
    }
}
