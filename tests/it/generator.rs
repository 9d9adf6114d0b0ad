//! `mcluster loadtest`, run to its end: its exit status and what it reports.
//!
//! Owns nothing of the other end, which is a plain server or a cluster.

use crate::support::{Ended, Server, command, run};
use serde_json::Value;
use std::collections::BTreeMap;

/// A run with `--json` that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) json: Value,
    pub(crate) log: Vec<String>,
}

/// All arguments of a run.
fn all<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["loadtest"], arguments].concat()
}

/// Runs it with `--json`.
#[track_caller]
pub(crate) fn report(arguments: &[&str]) -> Run {
    start(arguments).report()
}

/// Runs it as it is.
#[track_caller]
pub(crate) fn plain(arguments: &[&str]) -> Ended {
    run(command(&all(arguments)))
}

/// One on its way.
pub(crate) struct Started(pub(crate) Server);

/// Starts it with `--json` and does not wait.
#[track_caller]
pub(crate) fn start(arguments: &[&str]) -> Started {
    let mut all = all(arguments);
    all.push("--json");
    Started(Server::launch(command(&all)))
}

/// Starts it as it is and does not wait.
#[track_caller]
pub(crate) fn start_plain(arguments: &[&str]) -> Started {
    Started(Server::launch(command(&all(arguments))))
}

impl Started {
    /// Waits for its end.
    #[track_caller]
    pub(crate) fn report(self) -> Run {
        let ended = self.0.ended();
        let text = ended.out.join("\n");
        let json = serde_json::from_str(&text);
        Run {
            status: ended.status.code().unwrap_or(-1),
            json: json.unwrap_or_else(|error| panic!("{error}: {text}\n{:#?}", ended.log)),
            log: ended.log,
        }
    }

    #[track_caller]
    pub(crate) fn text(self) -> (i32, String) {
        let ended = self.0.ended();
        (ended.status.code().unwrap_or(-1), ended.out.join("\n"))
    }
}

impl Run {
    /// A number in the report.
    #[track_caller]
    pub(crate) fn number(&self, key: &str) -> u64 {
        let found = self.json[key].as_u64();
        found.unwrap_or_else(|| panic!("no number {key} in {:#}", self.json))
    }

    #[track_caller]
    pub(crate) fn float(&self, key: &str) -> f64 {
        let found = self.json[key].as_f64();
        found.unwrap_or_else(|| panic!("no number {key} in {:#}", self.json))
    }

    /// An object of counts, such as the statuses or the errors.
    #[track_caller]
    pub(crate) fn counts(&self, key: &str) -> BTreeMap<String, u64> {
        let object = self.json[key].as_object();
        let object = object.unwrap_or_else(|| panic!("no object {key} in {:#}", self.json));
        let pair = |(name, count): (&String, &Value)| (name.clone(), count.as_u64().unwrap());
        object.iter().map(pair).collect()
    }

    /// A quantile of `latency_us` or `planned_latency_us`, in seconds.
    #[track_caller]
    pub(crate) fn seconds(&self, kind: &str, quantile: &str) -> f64 {
        let found = self.json[kind][quantile].as_u64();
        let found = found.unwrap_or_else(|| panic!("no {kind} {quantile} in {:#}", self.json));
        found as f64 / 1e6
    }

    /// Checks that all `n` were answered well.
    #[track_caller]
    pub(crate) fn all_good(&self, what: &str, n: u64) {
        let said = || format!("{what}: {:#} {:#?}", self.json, self.log);
        assert_eq!(self.number("completed"), n, "{}", said());
        assert_eq!(self.number("total_errors"), 0, "{}", said());
        assert!(self.counts("errors").is_empty(), "{}", said());
        assert_eq!(
            self.counts("statuses").values().sum::<u64>(),
            n,
            "{}",
            said()
        );
        assert_eq!(
            self.json["latency_us"]["count"].as_u64(),
            Some(n),
            "{}",
            said()
        );
        assert_eq!(self.status, 0, "{}", said());
    }

    /// Checks that all `n` ended without an answer for one reason.
    #[track_caller]
    pub(crate) fn all_failed(&self, what: &str, n: u64, kind: &str) {
        let said = || format!("{what}: {:#} {:#?}", self.json, self.log);
        let expected = BTreeMap::from([(kind.to_owned(), n)]);
        assert_eq!(self.counts("errors"), expected, "{}", said());
        assert_eq!(self.number("completed"), n, "{}", said());
        assert_eq!(self.number("total_errors"), n, "{}", said());
        assert!(self.counts("statuses").is_empty(), "{}", said());
        assert_eq!(self.status, 1, "{}", said());
    }
}
