//! The run in stretches of time as comma-separated values, for a spreadsheet or a plot.
//!
//! Other tools write a line for each request, which a long run makes too many of.

use crate::loadtest::Report;
use std::fmt::Write;
use std::time::Duration;

/// What the columns are called.
const COLUMNS: &str = "at_s,length_s,answers,errors,p50_us,p99_us,max_us\n";

/// A line of names, then one for each stretch. Where nothing was answered there is no latency.
pub(crate) fn csv(report: &Report) -> String {
    let mut text = COLUMNS.to_owned();
    for one in &report.timeline {
        let micros = |latency| {
            let known = one.known(latency);
            known.map_or_else(String::new, |time: Duration| time.as_micros().to_string())
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:.3},{:.3},{},{},{},{},{}",
            one.at.as_secs_f64(),
            one.length.as_secs_f64(),
            one.answers,
            one.errors,
            micros(one.p50),
            micros(one.p99),
            micros(one.max),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_line_a_stretch() {
        let text = csv(&sample::report());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], COLUMNS.trim_end());
        assert_eq!(lines[1], "0.000,1.000,100,0,1000,2000,3000");
        assert_eq!(lines[2], "1.000,0.500,50,2,1000,2000,3000");
        assert_eq!(lines.len(), 3);
        let columns = COLUMNS.split(',').count();
        assert!(lines.iter().all(|line| line.split(',').count() == columns));
        assert_eq!(csv(&sample::without_answers()).lines().count(), 1);

        let mut report = sample::report();
        report.timeline[1].answers = 0;
        let text = csv(&report);
        assert_eq!(text.lines().nth(2), Some("1.000,0.500,0,2,,,"));
    }
}
