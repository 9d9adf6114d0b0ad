//! What of a load test counts: whether it was one at all, its good answers, and how long who asked has
//! waited. Pure.

use super::figures::TIMEOUT;
use crate::loadtest::{Report, Stage};
use crate::{Error, Result};
use std::time::Duration;

/// Whether that was a test of the application at all.
pub(super) fn judge(report: &Report) -> Result<()> {
    let (bad, all) = (report.total_errors, report.completed);
    if bad * 2 <= all && bad < all {
        return Ok(());
    }
    Err(wrong(bad, all, report))
}

/// As [`judge`], up to a mark.
pub(super) fn judge_stage(stage: &Stage, report: &Report) -> Result<()> {
    let (bad, all) = (failed(stage), stage.answers + stage.errors.total());
    if bad * 2 <= all && bad < all {
        return Ok(());
    }
    Err(wrong(bad, all, report))
}

/// Answers that are none, and no answers.
pub(super) fn failed(stage: &Stage) -> u64 {
    stage.failures + stage.errors.total()
}

/// What went wrong, by the statuses and the troubles of the whole run.
fn wrong(bad: u64, all: u64, report: &Report) -> Error {
    let statuses = report.statuses.iter().filter(|(status, _)| **status >= 400);
    let kinds = statuses.map(|(status, _)| format!("status {status}"));
    let kinds = kinds.chain(report.errors.iter().map(|(kind, _)| kind.to_string()));
    let kinds: Vec<_> = kinds.collect();
    let kinds = match kinds.is_empty() {
        true => String::new(),
        false => format!(" ({})", kinds.join(", ")),
    };
    let url = &report.url;
    Error::Failed(format!(
        "{bad} of {all} requests for {url} went wrong{kinds}"
    ))
}

/// Good answers a second.
pub(super) fn rate(report: &Report) -> f64 {
    report.effective_rps * good(report) as f64 / report.answered() as f64
}

pub(super) fn good(report: &Report) -> u64 {
    report.completed.saturating_sub(report.total_errors)
}

/// Within which time the share `q` of all was answered; who got no answer has waited for all the time
/// that there is.
pub(super) fn within(report: &Report, q: f64) -> Duration {
    let answered = report.felt().count() as f64;
    let rank = (q * (answered + report.errors.total() as f64)).ceil();
    match rank > answered {
        true => TIMEOUT,
        false => report.felt().quantile(rank / answered).min(TIMEOUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadtest::{Errors, Latency, Loadtest, Trouble};

    #[test]
    fn a_load_test_is_judged_by_its_good_answers() {
        let mut latency = Latency::default();
        (0..98).for_each(|_| latency.record(Duration::from_millis(10)));
        let mut report = report();
        report.completed = 100;
        report.statuses = [(200, 90), (503, 8)].into();
        report.total_errors = 10;
        report.latency = latency;
        report.effective_rps = 98.0;
        let mut errors = Errors::default();
        errors.count_many(Trouble::TimedOut, 2);
        report.errors = errors;
        assert!(judge(&report).is_ok());
        assert_eq!((rate(&report), good(&report)), (90.0, 90));
        assert_eq!(within(&report, 0.5).as_millis(), 10);
        assert_eq!(within(&report, 0.99), TIMEOUT);
        report.total_errors = 51;
        let why = judge(&report).unwrap_err().to_string();
        assert!(
            why.contains("51 of 100") && why.contains("(status 503, time-out)"),
            "{why}"
        );
        report.completed = 0;
        assert!(judge(&report).is_err(), "nothing is no test");
    }

    /// Of a test that sent nothing.
    fn report() -> Report {
        let test = Loadtest::new("http://127.0.0.1:1/").requests(1).start();
        let mut report = test.unwrap().finish();
        (report.completed, report.total_errors) = (0, 0);
        report
    }
}
