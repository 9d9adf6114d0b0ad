//! What the text and the page say alike: shares, bytes, how many workers, when two latencies are far
//! apart, and what others said made harmless.

use super::scale::count;
use crate::loadtest::Report;
use std::time::Duration;

/// Workers that have a row of their own.
pub(super) const MOST_WORKERS: usize = 20;

/// From the planned time and from its own start are worth a word when they differ by that factor, and the
/// first is that long.
const FAR_APART: (u32, Duration) = (2, Duration::from_millis(10));

/// The 99th percentiles from its own start and from the planned time, where they tell different stories.
pub(super) fn far_apart(report: &Report) -> Option<(Duration, Duration)> {
    let (factor, least) = FAR_APART;
    let own = report.latency.quantile(0.99);
    let planned = report.planned.as_ref()?.quantile(0.99);
    (planned > least && planned > own * factor).then_some((own, planned))
}

/// Words that came from elsewhere, as one harmless line: without control characters, and without what
/// changes how others are read because it ends the line or turns the direction of writing.
pub(super) fn plain(text: &str) -> String {
    let turns = |c: char| {
        matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
    };
    let harmless = |c: char| match c.is_control() || turns(c) {
        true => '\u{fffd}',
        false => c,
    };
    text.chars().map(harmless).collect()
}

/// A part of all, in percent.
pub(super) fn percent(part: u64, all: u64) -> String {
    match all {
        0 => "-".to_owned(),
        _ => format!("{:.2} %", part as f64 * 100.0 / all as f64),
    }
}

/// In the unit that fits.
pub(super) fn bytes(bytes: u64) -> String {
    let all = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", count(all / 1e3)),
        1_000_000..1_000_000_000 => format!("{} MB", count(all / 1e6)),
        _ => format!("{} GB", count(all / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn numbers_in_words() {
        assert_eq!(percent(1, 3), "33.33 %");
        assert_eq!(percent(0, 0), "-");
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (123_456, "123 kB"),
            (1_234_567, "1.23 MB"),
            (2_500_000_000, "2.5 GB"),
        ];
        for (number, expected) in cases {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn what_turns_others_is_gone() {
        let harmless = plain("a\u{1b}[31m\n\u{202e}b\u{2066}\u{200f}\u{061c}\u{2028}é");
        assert_eq!(harmless.matches('\u{fffd}').count(), 7);
        assert!(harmless.starts_with('a') && harmless.ends_with('é'));
    }

    #[test]
    fn only_a_plan_can_be_far_from_what_was_seen() {
        assert_eq!(far_apart(&sample::report()), None);
        let (own, planned) = far_apart(&sample::at_a_rate()).unwrap();
        assert!(planned > own * 2);
        let mut same = sample::at_a_rate();
        same.planned = Some(same.latency.clone());
        assert_eq!(far_apart(&same), None);
    }
}
