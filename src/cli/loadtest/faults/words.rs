//! The words of faults: what may stand behind `--at`.

use crate::cli::loadtest::words::seconds;
use crate::cli::values::{duration_or_none, signal};
use crate::{MAX_WORKERS, SchedulingPolicy};
use std::time::Duration;

/// What to do, and when.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Timed {
    pub(super) at: Duration,
    pub(super) fault: Fault,
    /// The fault as it was written.
    pub(super) words: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    Kill(Whom, String),
    Scale(u64),
    Reload,
    Restart,
    Schedule(SchedulingPolicy),
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Any,
    Worker(u32),
}

/// `TIME=FAULT`.
pub(super) fn timed(words: &str) -> std::result::Result<Timed, String> {
    let (at, words) = words
        .split_once('=')
        .ok_or_else(|| format!("{words:?} is no TIME=FAULT (such as 5s=kill:any)"))?;
    Ok(Timed {
        at: time(at)?,
        fault: fault(words)?,
        words: words.to_owned(),
    })
}

/// A time as that of the run itself is written, or nothing.
fn time(words: &str) -> std::result::Result<Duration, String> {
    let nothing = || duration_or_none(words).ok().filter(Duration::is_zero);
    seconds(words)
        .ok()
        .or_else(nothing)
        .ok_or_else(|| format!("{words:?} is no time of the run (such as 5, 3.5s, 500ms, 2m or 0)"))
}

pub(super) fn fault(words: &str) -> std::result::Result<Fault, String> {
    let (verb, rest) = match words.split_once(':') {
        Some((verb, rest)) => (verb, Some(rest)),
        None => (words, None),
    };
    match (verb, rest) {
        ("kill", Some(rest)) => {
            let (whom, by) = rest.split_once(':').unwrap_or((rest, "KILL"));
            let whom = match whom.parse() {
                _ if whom == "any" => Whom::Any,
                Ok(id) if id > 0 => Whom::Worker(id),
                _ => return Err(format!("{whom:?} is no worker (any, or its number)")),
            };
            Ok(Fault::Kill(whom, signal(by)?))
        }
        ("scale", Some(workers)) => match workers.parse() {
            Ok(workers @ 1..) if workers <= MAX_WORKERS as u64 => Ok(Fault::Scale(workers)),
            _ => Err(format!(
                "{workers:?} is no number of workers (1 to {MAX_WORKERS})"
            )),
        },
        ("schedule", Some(policy)) => policy.parse().map(Fault::Schedule),
        ("reload", None) => Ok(Fault::Reload),
        ("restart", None) => Ok(Fault::Restart),
        ("stop", None) => Ok(Fault::Stop),
        _ => Err(format!(
            "{words:?} is no fault (kill:any, kill:ID[:SIGNAL], reload, restart, scale:N, \
             schedule:POLICY, stop)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_faults() {
        let kill = |whom, signal: &str| Fault::Kill(whom, signal.to_owned());
        let cases = [
            ("kill:any", kill(Whom::Any, "KILL")),
            ("kill:any:SIGTERM", kill(Whom::Any, "TERM")),
            ("kill:3", kill(Whom::Worker(3), "KILL")),
            ("kill:3:9", kill(Whom::Worker(3), "KILL")),
            ("kill:3:stop", kill(Whom::Worker(3), "STOP")),
            ("scale:4", Fault::Scale(4)),
            ("reload", Fault::Reload),
            ("restart", Fault::Restart),
            ("stop", Fault::Stop),
            ("schedule:shared", Fault::Schedule(SchedulingPolicy::Shared)),
            (
                "schedule:sticky-cookie:sid",
                Fault::Schedule("sticky-cookie:sid".parse().unwrap()),
            ),
        ];
        for (words, expected) in cases {
            let found = timed(&format!("1500ms={words}")).unwrap();
            assert_eq!(found.fault, expected, "{words}");
            assert_eq!(found.at, Duration::from_millis(1500));
            assert_eq!(found.words, words);
        }
        let times = [
            ("0", 0),
            ("0s", 0),
            ("0ms", 0),
            ("5", 5000),
            ("0.5", 500),
            ("0.5s", 500),
            ("3.5s", 3500),
            ("500ms", 500),
            ("2m", 120_000),
        ];
        for (words, millis) in times {
            let found = timed(&format!("{words}=reload")).unwrap();
            assert_eq!(found.at, Duration::from_millis(millis), "{words}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_allowed() {
        let cases = [
            ("", "TIME=FAULT"),
            ("5s", "TIME=FAULT"),
            ("5s:reload", "TIME=FAULT"),
            ("=reload", "no time of the run"),
            ("5x=reload", "no time of the run"),
            ("-5s=reload", "no time of the run"),
            ("NaN=reload", "no time of the run"),
            ("5s=", "kill:any"),
            ("5s=explode", "kill:any"),
            ("5s=kill", "kill:any"),
            ("5s=reload:now", "kill:any"),
            ("5s=stop:", "kill:any"),
            ("5s=kill:", "no worker"),
            ("5s=kill:0", "no worker"),
            ("5s=kill:all", "no worker"),
            ("5s=kill:1:", "no signal"),
            ("5s=kill:1:NOPE", "no signal"),
            ("5s=kill:1:9&x=y", "no signal"),
            ("5s=scale:0", "no number of workers"),
            ("5s=scale:many", "no number of workers"),
            ("5s=scale:99999999", "no number of workers"),
            ("5s=schedule:chance", "chance"),
        ];
        for (words, expected) in cases {
            let why = timed(words).unwrap_err();
            assert!(why.contains(expected), "{words:?}: {why}");
        }
    }
}
