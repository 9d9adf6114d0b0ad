//! What a load test's findings mean for the exit status: thresholds, and errors.

use super::flags::Options;
use crate::loadtest::Report;
use crate::loadtest::show::Threshold;
use crate::{Error, Result};
use std::io::Write;
use std::time::Duration;

/// What was asked for by `--max-p99`, `--max-errors` and `--min-rps`, and what came of it.
pub(super) fn thresholds(options: &Options, report: &Report) -> Vec<Threshold> {
    let mut all = Vec::new();
    if let Some(wanted) = options.max_p99 {
        let felt = report.felt();
        // Nothing that was answered is not within any time.
        let got = (felt.count() > 0).then(|| felt.quantile(0.99));
        let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
        all.push(Threshold {
            name: "max-p99",
            unit: "us",
            wanted: micros(wanted),
            got: got.map(micros),
            ok: got.is_some_and(|got| got <= wanted),
        });
    }
    if let Some(wanted) = options.max_errors {
        let got = (report.completed > 0).then(|| report.errors_percent());
        all.push(Threshold {
            name: "max-errors",
            unit: "percent",
            wanted,
            got,
            ok: got.is_some_and(|got| got <= wanted),
        });
    }
    if let Some(wanted) = options.min_rps {
        let got = report.effective_rps;
        all.push(Threshold {
            name: "min-rps",
            unit: "per_second",
            wanted,
            got: Some(got),
            ok: got >= wanted,
        });
    }
    all
}

/// Whether all of it was a success: the thresholds, the requests, and what `else_done` came to, such as
/// the report's own printing. Every failure is said on stderr, a line each; all but the one that is given
/// back are said here.
///
/// # Errors
///
/// When a threshold was missed, whatever else failed; else when something of `else_done` failed, when
/// nothing was answered, and when requests failed that no threshold is there for.
pub(super) fn judge(
    report: &Report,
    thresholds: &[Threshold],
    else_done: impl IntoIterator<Item = Result<()>>,
) -> Result<()> {
    let mut failures = failures(report, thresholds, else_done).into_iter();
    let Some(first) = failures.next() else {
        return Ok(());
    };
    for failure in failures {
        // In one piece, and whether anybody reads it changes nothing.
        let line = format!("mcluster: {failure}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    Err(first)
}

/// Everything that failed. The first one says which exit status it is.
fn failures(
    report: &Report,
    thresholds: &[Threshold],
    else_done: impl IntoIterator<Item = Result<()>>,
) -> Vec<Error> {
    let missed = thresholds.iter().filter(|threshold| !threshold.ok);
    let missed = missed.map(|threshold| Error::Missed(format!("missed: {threshold}")));
    let else_failed = else_done.into_iter().filter_map(Result::err);
    let requests = requests(report, thresholds).map(Error::Failed);
    missed.chain(else_failed).chain(requests).collect()
}

/// What is wrong with the requests themselves. Where a share of them may fail, the threshold tells.
fn requests(report: &Report, thresholds: &[Threshold]) -> Option<String> {
    let excused = thresholds
        .iter()
        .any(|threshold| threshold.name == "max-errors");
    match report.total_errors {
        _ if report.answered() == 0 => Some(nothing(report)),
        0 => None,
        _ if excused => None,
        errors => Some(format!("{errors} of {} requests failed", report.completed)),
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

    fn status(report: &Report, thresholds: &[Threshold]) -> u8 {
        judge(report, thresholds, []).map_or_else(|error| error.exit_code(), |()| 0)
    }

    fn threshold(name: &'static str, ok: bool) -> Threshold {
        Threshold {
            name,
            unit: "percent",
            wanted: 1.0,
            got: Some(2.0),
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
        let error = judge(&bad, &[], []).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "15 of 1000 requests failed");
        assert_eq!(status(&bad, &[threshold("max-p99", true)]), 1);
        assert_eq!(status(&bad, &[threshold("max-errors", true)]), 0);
        assert_eq!(status(&bad, &[threshold("max-errors", false)]), 7);
        let two = [threshold("max-p99", false), threshold("min-rps", false)];
        assert_eq!(status(&bad, &two), 7);

        let none = sample::without_answers();
        let error = judge(&none, &[threshold("max-errors", true)], []).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let words = error.to_string();
        assert_eq!(words, "none of 10 requests was answered: refused 10");
    }

    #[test]
    fn whatever_failed_is_said_and_a_threshold_first() {
        let broken = || Err(Error::Failed("the server ended".to_owned()));
        let of = |report: &Report, thresholds: &[Threshold]| {
            let failures = failures(report, thresholds, [Ok(()), broken()]);
            failures
                .iter()
                .map(|error| (error.exit_code(), error.to_string()))
                .collect::<Vec<_>>()
        };
        let ended = (1, "the server ended".to_owned());
        let missed = (
            7,
            "missed: max-p99: wanted at most 1.000 %, got 2.000 %".to_owned(),
        );
        let none = (1, "none of 10 requests was answered: refused 10".to_owned());
        let some = (1, "15 of 1000 requests failed".to_owned());
        let slow = [threshold("max-p99", false)];
        assert_eq!(of(&sample::report(), &[]), std::slice::from_ref(&ended));
        assert_eq!(
            of(&sample::with_errors(), &slow),
            [missed.clone(), ended.clone(), some]
        );
        assert_eq!(of(&sample::without_answers(), &slow), [missed, ended, none]);
        let error = judge(&sample::report(), &slow, [broken()]).unwrap_err();
        assert_eq!(error.exit_code(), 7);
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
