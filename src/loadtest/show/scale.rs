//! From values to places on an axis: scales, their ranges, their ticks, and how values are written.
//!
//! Pure numbers. Whatever comes in (nothing, NaN, zeros under a logarithm), what goes out can be drawn.

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// Ten times as much is one step further. Only what is above zero has a place.
    Logarithmic,
    /// For shares from 0 to below 1: each further nine (0.9, 0.99, 0.999) is one step further.
    Nines,
}

/// What lies beyond is no figure of ours, and would be lost in rounding.
const FARTHEST: f64 = 1e15;

/// Ranges below that are drawn as if all were equal.
const NARROWEST: f64 = 1e-9;

/// The part of an axis that is drawn, as places: the first is always below the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Scale {
    /// Where a value lies; None of what has no place.
    pub(crate) fn place(self, value: f64) -> Option<f64> {
        let place = match self {
            Self::Linear => value,
            Self::Logarithmic if value > 0.0 => value.log10(),
            Self::Nines if (0.0..1.0).contains(&value) => -(1.0 - value).log10(),
            Self::Logarithmic | Self::Nines => return None,
        };
        (place.abs() <= FARTHEST).then_some(place)
    }

    /// What is drawn so that all values can be seen.
    pub(crate) fn range(self, values: impl Iterator<Item = f64>) -> Range {
        let places = values.filter_map(|value| self.place(value));
        let (least, most) = places.fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), place| (least.min(place), most.max(place)),
        );
        let (from, to) = match self {
            _ if least > most => (0.0, 1.0),
            Self::Linear => (least.min(0.0), most.max(0.0)),
            Self::Logarithmic => {
                let (from, to) = (
                    round_one_two_five(least, true),
                    round_one_two_five(most, false),
                );
                (from, if to - from < 0.1 { from + 1.0 } else { to })
            }
            Self::Nines => (0.0, most.max(1.0)),
        };
        match to - from < NARROWEST {
            true => Range {
                from,
                to: from + 1.0,
            },
            false => Range { from, to },
        }
    }

    /// The values to write at the axis.
    pub(crate) fn ticks(self, range: Range) -> Vec<f64> {
        let Range { from, to } = range;
        // A place that was rounded is still on the axis.
        let within = |place: f64| (from - NARROWEST..=to + NARROWEST).contains(&place);
        match self {
            Self::Linear => {
                let step = step(to - from);
                let numbers = (from / step).ceil() as i64..=(to / step).floor() as i64;
                numbers.map(|number| number as f64 * step).collect()
            }
            Self::Logarithmic => {
                let decades = (to - from).ceil().max(1.0);
                let stride = (decades / 7.0).ceil() as usize;
                let heads: &[f64] = match decades <= 3.0 {
                    true => &[1.0, 2.0, 5.0],
                    false => &[1.0],
                };
                let powers = (from.floor() as i32..=to.ceil() as i32).step_by(stride);
                let ticks = powers.flat_map(|power| {
                    let heads = heads.iter();
                    heads.map(move |head| head * 10f64.powi(power))
                });
                ticks
                    .filter(|tick| self.place(*tick).is_some_and(within))
                    .collect()
            }
            Self::Nines => {
                let nines = (1..=(to + NARROWEST).floor().min(9.0) as i32)
                    .map(|nines| 1.0 - 10f64.powi(-nines));
                [0.0, 0.5].into_iter().chain(nines).collect()
            }
        }
    }
}

/// A round step for an axis so long, with four to nine ticks.
fn step(length: f64) -> f64 {
    let rough = length / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let head = rough / power;
    power
        * match head {
            _ if head < 1.5 => 1.0,
            _ if head < 3.5 => 2.0,
            _ if head < 7.5 => 5.0,
            _ => 10.0,
        }
}

/// The place of the next 1, 2 or 5 times a power of ten, `down` or up.
fn round_one_two_five(place: f64, down: bool) -> f64 {
    let power = place.floor();
    let heads = [0.0, 2f64.log10(), 5f64.log10(), 1.0];
    let mut places = heads.into_iter().map(|head| power + head);
    let found = match down {
        true => places.rfind(|found| *found <= place + NARROWEST),
        false => places.find(|found| *found >= place - NARROWEST),
    };
    found.unwrap_or(place)
}

/// A number with its thousands apart, and as many digits as one looks at.
pub(crate) fn count(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    let digits = match magnitude {
        _ if magnitude >= 100.0 || magnitude.fract() < 1e-9 => 0,
        _ if magnitude >= 10.0 => 1,
        _ if magnitude >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{magnitude:.digits$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let part = part.trim_end_matches('0');
    let (sign, dot) = (
        if value < 0.0 { "-" } else { "" },
        if part.is_empty() { "" } else { "." },
    );
    format!("{sign}{grouped}{dot}{part}")
}

/// Seconds in the unit that suits them, without the zeros that end them: for axes and sentences.
pub(crate) fn time(seconds: f64) -> String {
    let text = precise(seconds);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    format!("{number} {unit}")
}

/// Seconds in the unit that suits them, with three digits that count: for columns.
pub(crate) fn precise(seconds: f64) -> String {
    let (number, unit) = match seconds.abs() {
        magnitude if magnitude >= 0.9995 => (seconds, "s"),
        magnitude if magnitude >= 0.000_999_5 => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    };
    let digits = match number.abs() {
        // A microsecond is the least that is measured.
        _ if unit == "µs" => 0,
        magnitude if magnitude >= 99.95 => 0,
        magnitude if magnitude >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Scale; 3] = [Scale::Linear, Scale::Logarithmic, Scale::Nines];

    #[test]
    fn whatever_comes_can_be_drawn() {
        let lists: [&[f64]; 10] = [
            &[],
            &[0.0],
            &[7.0],
            &[7.0, 7.0, 7.0],
            &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
            &[0.0, 1e-300, 1e300, f64::MAX, f64::MIN],
            &[-3.0, -1.0],
            &[1e-320],
            &[1e15, -1e15],
            &[0.999_999_999_999_999_9, 1.0, 2.0],
        ];
        for scale in ALL {
            for list in lists {
                let range = scale.range(list.iter().copied());
                assert!(range.from < range.to, "{scale:?} {list:?} {range:?}");
                let ticks = scale.ticks(range);
                assert!(ticks.len() < 20, "{scale:?} {list:?} {ticks:?}");
                for tick in ticks {
                    let place = scale.place(tick).expect("a place");
                    let slack = NARROWEST * (range.to - range.from).max(1.0);
                    assert!(place >= range.from - slack && place <= range.to + slack);
                }
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        let ticks = |scale: Scale, values: &[f64]| scale.ticks(scale.range(values.iter().copied()));
        assert_eq!(ticks(Scale::Linear, &[3.0, 9.5]), [0.0, 2.0, 4.0, 6.0, 8.0]);
        let log: Vec<_> = ticks(Scale::Logarithmic, &[0.00021, 0.0019])
            .into_iter()
            .map(time)
            .collect();
        assert_eq!(log, ["200 µs", "500 µs", "1 ms", "2 ms"]);
        let decades: Vec<_> = ticks(Scale::Logarithmic, &[0.0001, 1.0])
            .into_iter()
            .map(time)
            .collect();
        assert_eq!(decades, ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let nines: Vec<_> = ticks(Scale::Nines, &[0.999])
            .into_iter()
            .map(|q| count(q * 100.0))
            .collect();
        assert_eq!(nines, ["0", "50", "90", "99", "99.9"]);
    }

    #[test]
    fn numbers_as_people_write_them() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.34, "12.3"),
            (99.9, "99.9"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1000.0, "-1,000"),
            (f64::NAN, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
        let cases = [
            (0.0, "0 µs"),
            (0.000_012_34, "12 µs"),
            (0.001, "1 ms"),
            (0.9994, "999 ms"),
            (0.9999, "1 s"),
            (1.234, "1.23 s"),
            (120.0, "120 s"),
        ];
        for (value, text) in cases {
            assert_eq!(time(value), text);
        }
        let precise = [0.000_007, 0.0012, 0.02, 0.3, 1.0].map(precise);
        assert_eq!(precise, ["7 µs", "1.20 ms", "20.0 ms", "300 ms", "1.00 s"]);
    }
}
