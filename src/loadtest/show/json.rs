//! A report as JSON, with what its thresholds came to.

use crate::loadtest::Report;
use serde::Serialize;
use std::fmt;

/// What was wished of a run, and whether it came true.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Threshold {
    /// The flag's name without dashes; one that begins with `min` is missed by less, others by more.
    pub(crate) name: &'static str,
    /// Of both numbers: `us`, `percent`, `per_second`.
    pub(crate) unit: &'static str,
    pub(crate) wanted: f64,
    /// None where there is nothing to judge: then it is missed.
    pub(crate) got: Option<f64>,
    pub(crate) ok: bool,
}

impl Threshold {
    fn figure(&self, number: f64) -> String {
        match self.unit {
            "us" => format!("{:.3} ms", number / 1000.0),
            "percent" => format!("{number:.3} %"),
            _ => format!("{number:.3} a second"),
        }
    }

    /// What was wanted.
    pub(super) fn wish(&self) -> String {
        let bound = match self.name.starts_with("min") {
            true => "at least",
            false => "at most",
        };
        format!("{bound} {}", self.figure(self.wanted))
    }

    /// What there was of it.
    pub(super) fn found(&self) -> String {
        let got = self.got.map(|got| self.figure(got));
        got.unwrap_or_else(|| "nothing".to_owned())
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wish, found) = (self.wish(), self.found());
        write!(f, "{}: wanted {wish}, got {found}", self.name)
    }
}

/// The report as one JSON object, with the thresholds and the version of this crate.
pub(crate) fn json(report: &Report, thresholds: &[Threshold]) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        version: &'static str,
        #[serde(flatten)]
        report: &'a Report,
        thresholds: &'a [Threshold],
    }
    let whole = Whole {
        version: env!("CARGO_PKG_VERSION"),
        report,
        thresholds,
    };
    let text = serde_json::to_string_pretty(&whole);
    // Its keys are strings, and what is no number becomes null.
    text.expect("a report is JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::loadtest::SCHEMA;

    #[test]
    fn thresholds_in_words() {
        let mut threshold = Threshold {
            name: "max-p99",
            unit: "us",
            wanted: 50_000.0,
            got: Some(71_234.0),
            ok: false,
        };
        let words = "max-p99: wanted at most 50.000 ms, got 71.234 ms";
        assert_eq!(threshold.to_string(), words);
        let none = Threshold {
            got: None,
            ..threshold.clone()
        };
        assert!(none.to_string().ends_with("at most 50.000 ms, got nothing"));
        assert!(serde_json::to_value(&none).unwrap()["got"].is_null());
        (threshold.name, threshold.unit) = ("min-rps", "per_second");
        assert!(
            threshold
                .to_string()
                .contains("at least 50000.000 a second")
        );
    }

    #[test]
    fn json_has_the_report_and_more() {
        let thresholds = [Threshold {
            name: "max-errors",
            unit: "percent",
            wanted: 1.0,
            got: Some(1.5),
            ok: false,
        }];
        let text = json(&sample::with_errors(), &thresholds);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(value["schema"], SCHEMA);
        assert_eq!(value["completed"], 1000);
        assert_eq!(value["statuses"]["503"], 5);
        assert_eq!(value["errors"]["reset"], 7);
        assert_eq!(value["latency_us"]["count"], 990);
        assert_eq!(value["thresholds"][0]["name"], "max-errors");
        assert_eq!(value["thresholds"][0]["ok"], false);
    }

    #[test]
    fn json_of_what_is_no_number() {
        let mut report = sample::without_answers();
        report.effective_rps = f64::NAN;
        let value: serde_json::Value = serde_json::from_str(&json(&report, &[])).unwrap();
        assert!(value["effective_rps"].is_null());
        assert_eq!(value["latency_us"]["count"], 0);
        assert!(value["latency_us"]["p99"].is_null());
    }
}
