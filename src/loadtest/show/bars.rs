//! Bars beside each other: the same figure of several things.
//!
//! They lie, so that long names and the value of each find room however many there are.

use super::canvas::{Paint, Side, drawing, shortened, width_of};
use super::plot::{TEXT_SIZE, TITLE_SIZE, draw_legend, legend_rows};
use super::scale::{Scale, count};

const WIDTH: f64 = 760.0;
const ROW: f64 = 19.0;
const THICK: f64 = 20.0;
const GAP: f64 = 10.0;
const LONGEST_NAME: usize = 34;

/// A bar for each category and series, as an `<svg>`. What is None or has no place has no bar and a dash.
///
/// `unit` stands beside the title: what the numbers at the bars are.
pub(crate) fn bars(
    title: &str,
    unit: &str,
    categories: &[&str],
    series: &[(&str, Vec<Option<f64>>)],
) -> String {
    let names: Vec<_> = match series.len() {
        1 => Vec::new(),
        _ => series.iter().map(|(name, _)| *name).collect(),
    };
    let categories: Vec<_> = categories
        .iter()
        .map(|name| shortened(name, LONGEST_NAME))
        .collect();
    let widths = categories.iter().map(|name| width_of(name, TEXT_SIZE));
    let left = widths.fold(40.0, f64::max) + 16.0;
    // Room for the longest value behind the longest bar.
    let right = WIDTH - 84.0;
    let known = |value: &f64| Scale::Linear.place(*value).is_some();
    let all = series.iter().flat_map(|(_, values)| values.iter().copied());
    // To the end of the longest: there are no ticks to be reached.
    let longest = all
        .flatten()
        .filter(known)
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let top = 34.0 + ROW * legend_rows(&names) as f64 + 4.0;
    let group = THICK * series.len() as f64 + GAP;
    let height = top + group * categories.len() as f64 + 6.0;
    let said = format!("{title} ({unit}): {}", categories.join(", "));
    drawing(&said, (WIDTH, height), |sheet| {
        sheet.heading(title, (4.0, 16.0), TITLE_SIZE)?;
        let beside = (WIDTH - 4.0, 16.0);
        sheet.text(unit, beside, TEXT_SIZE, Side::End, Paint::Quiet)?;
        draw_legend(sheet, &names, 34.0 + ROW / 2.0)?;
        for (at, category) in categories.iter().enumerate() {
            let begin = top + group * at as f64;
            let middle = begin + THICK * series.len() as f64 / 2.0;
            sheet.text(
                category,
                (left - 10.0, middle),
                TEXT_SIZE,
                Side::End,
                Paint::Ink,
            )?;
            for (number, (_, values)) in series.iter().enumerate() {
                let high = begin + THICK * number as f64;
                let value = values.get(at).copied().flatten().filter(known);
                let share = (value.unwrap_or(0.0) / longest).clamp(0.0, 1.0);
                let end = left + share * (right - left);
                if value.is_some() {
                    let corner = (end.max(left + 1.0), high + THICK - 2.0);
                    sheet.block((left, high + 2.0), corner, Paint::Series(number))?;
                }
                let text = value.map_or("–".to_owned(), count);
                let at = (end + 7.0, high + THICK / 2.0);
                sheet.text(&text, at, TEXT_SIZE, Side::Begin, Paint::Ink)?;
            }
        }
        sheet.path(
            &[(left, top - 2.0), (left, height - 10.0)],
            Paint::Quiet,
            1.0,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::well_formed;
    use super::*;

    #[test]
    fn each_value_has_its_label() {
        let series = [
            ("light", vec![Some(1234.0), None, Some(0.5)]),
            ("heavy <b>", vec![Some(f64::NAN), Some(0.0)]),
        ];
        let svg = bars("speed", "a second", &["one", "two <i>", "three"], &series);
        well_formed(&svg);
        let labels = |label: &str| svg.lines().filter(|line| *line == label).count();
        assert_eq!((labels("1,234"), labels("0.5"), labels("0")), (1, 1, 1));
        assert_eq!(labels("–"), 3);
        assert!(!svg.contains("<b>") && !svg.contains("<i>") && !svg.contains("NaN"));
    }

    #[test]
    fn nothing_and_strange_things() {
        let values = [0.0, -1.0, 1e300, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE];
        for value in values {
            well_formed(&bars("", "", &["a"], &[("b", vec![Some(value); 3])]));
        }
        well_formed(&bars("t", "u", &[], &[]));
        well_formed(&bars("t", "u", &["a", "b"], &[]));
    }
}
