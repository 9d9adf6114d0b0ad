//! What a load test's findings mean for the exit status: thresholds, and errors.

use super::flags::Options;
use crate::loadtest::Report;
use crate::loadtest::show::Threshold;
use crate::{Error, Result};

/// What was asked for by `--max-p99`, `--max-errors` and `--min-rps`, and what came of it.
pub(super) fn thresholds(options: &Options, report: &Report) -> Vec<Threshold> {
    let mut all = Vec::new();
    if let Some(wanted) = options.max_p99 {
        let got = report.felt().quantile(0.99);
        let nothing = report.felt().count() == 0;
        let micros = |time: std::time::Duration| time.as_nanos() as f64 / 1000.0;
        all.push(Threshold {
            name: "max-p99",
            unit: "us",
            wanted: micros(wanted),
            got: micros(got),
            ok: got <= wanted && !nothing,
        });
    }
    if let Some(wanted) = options.max_errors {
        let got = report.errors_percent();
        all.push(Threshold {
            name: "max-errors",
            unit: "percent",
            wanted,
            got,
            ok: got <= wanted,
        });
    }
    if let Some(wanted) = options.min_rps {
        let got = report.effective_rps;
        all.push(Threshold {
            name: "min-rps",
            unit: "per_second",
            wanted,
            got,
            ok: got >= wanted,
        });
    }
    all
}

/// Whether the run was a success. Of several thresholds that were missed, all but the last are said
/// on stderr here.
///
/// # Errors
///
/// When nothing was answered, when a threshold was missed, and when requests failed that no
/// threshold is there for.
pub(super) fn judge(report: &Report, thresholds: &[Threshold]) -> Result<()> {
    if report.answered() == 0 {
        return Err(Error::Failed(nothing(report)));
    }
    let mut missed = thresholds
        .iter()
        .filter(|threshold| !threshold.ok)
        .peekable();
    while let Some(threshold) = missed.next() {
        let error = Error::Missed(format!("missed: {threshold}"));
        if missed.peek().is_none() {
            return Err(error);
        }
        eprintln!("mcluster: {error}");
    }
    let excused = thresholds
        .iter()
        .any(|threshold| threshold.name == "max-errors");
    match report.total_errors {
        0 => Ok(()),
        _ if excused => Ok(()),
        errors => Err(Error::Failed(format!(
            "{errors} of {} requests failed",
            report.completed
        ))),
    }
}

fn nothing(report: &Report) -> String {
    let kinds: Vec<_> = report
        .errors
        .iter()
        .map(|(trouble, count)| format!("{trouble} {count}"))
        .collect();
    match report.completed {
        0 => "no request was made".to_owned(),
        all => format!("none of {all} requests was answered: {}", kinds.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadtest::show::sample;
    use std::time::Duration;

    fn status(report: &Report, thresholds: &[Threshold]) -> u8 {
        judge(report, thresholds).map_or_else(|error| error.exit_code(), |()| 0)
    }

    fn threshold(name: &'static str, ok: bool) -> Threshold {
        Threshold {
            name,
            unit: "percent",
            wanted: 1.0,
            got: 2.0,
            ok,
        }
    }

    #[test]
    fn exit_statuses() {
        let good = sample::report();
        assert_eq!(status(&good, &[]), 0);
        assert_eq!(status(&good, &[threshold("min-rps", true)]), 0);
        assert_eq!(status(&good, &[threshold("min-rps", false)]), 7);

        let bad = sample::with_errors();
        let error = judge(&bad, &[]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "15 of 1000 requests failed");
        assert_eq!(status(&bad, &[threshold("max-p99", true)]), 1);
        assert_eq!(status(&bad, &[threshold("max-errors", true)]), 0);
        assert_eq!(status(&bad, &[threshold("max-errors", false)]), 7);
        let two = [threshold("max-p99", false), threshold("min-rps", false)];
        assert_eq!(status(&bad, &two), 7);

        let none = sample::without_answers();
        let error = judge(&none, &[threshold("max-errors", true)]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let words = error.to_string();
        assert_eq!(words, "none of 10 requests was answered: refused 10");
    }

    #[test]
    fn thresholds_hold_or_not() {
        use clap::Parser;
        #[derive(Debug, Parser)]
        struct Words {
            #[command(flatten)]
            options: Options,
        }
        let of = |words: &str, report: &Report| {
            let words = ["x", "u"].into_iter().chain(words.split_whitespace());
            let all = thresholds(&Words::parse_from(words).options, report);
            all.iter().map(|one| one.ok).collect::<Vec<_>>()
        };
        let report = sample::with_errors();
        let words =
            |p99, errors, rps| format!("--max-p99 {p99} --max-errors {errors} --min-rps {rps}");
        assert_eq!(of(&words("2s", 1.5, 98.5), &report), [true, true, true]);
        assert_eq!(
            of(&words("100ms", 1.4, 99.5), &report),
            [false, false, false]
        );
        assert!(of("", &report).is_empty());
        let planned = sample::at_a_rate();
        assert!(planned.latency.quantile(0.99) < Duration::from_millis(100));
        assert_eq!(
            of("--max-p99 100ms", &planned),
            [false],
            "from the planned time"
        );
        assert_eq!(of("--max-p99 1h", &sample::without_answers()), [false]);
    }
}
