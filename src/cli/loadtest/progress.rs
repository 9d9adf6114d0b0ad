//! How far a load test is, as a bar on a terminal. `aloud` draws it.

use super::aloud::Aloud;
use crate::loadtest::{Loadtest, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Parts that the bar is made of.
const STEPS: u64 = 1000;

/// The rate is that of the last while: at least so long, that it does not flicker.
const WHILE: Duration = Duration::from_millis(500);

/// A bar that is not drawn yet, where stderr is a terminal.
pub(super) fn bar() -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        // The words are cut where the terminal ends.
        match ProgressStyle::with_template("[{bar:30}] {wide_msg}") {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(_) => bar,
        }
    })
}

/// What the bar shows of a run.
#[derive(Debug)]
pub(super) struct Bar<'a> {
    aloud: Option<&'a Aloud>,
    limits: Limits,
    rate: Rate,
}

impl<'a> Bar<'a> {
    /// One for this plan, where anything is said aloud.
    pub(super) fn new(plan: &Loadtest, aloud: Option<&'a Aloud>) -> Self {
        Self {
            aloud,
            limits: Limits {
                requests: plan.requests,
                time: plan.limit(),
            },
            rate: Rate::default(),
        }
    }

    /// Has it drawn.
    pub(super) fn show(&mut self, progress: Progress) {
        let rate = self.rate.after(progress);
        if let Some(aloud) = self.aloud {
            let position = self.limits.share(&progress) * STEPS as f64;
            aloud.show(words(&progress, rate), position as u64);
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(aloud) = self.aloud {
            aloud.clear();
        }
    }
}

/// What ends the run.
#[derive(Clone, Copy, Debug)]
struct Limits {
    requests: Option<u64>,
    time: Option<Duration>,
}

impl Limits {
    /// How much of the run is over, 0 to 1: of what ends it first.
    fn share(&self, progress: &Progress) -> f64 {
        let requests = self
            .requests
            .map(|all| progress.completed as f64 / all as f64);
        let time = self.time.map(|all| progress.elapsed.div_duration_f64(all));
        let share = requests.unwrap_or(0.0).max(time.unwrap_or(0.0));
        share.clamp(0.0, 1.0)
    }
}

/// Requests a second of the last while, at first of all the time there was.
#[derive(Debug, Default)]
struct Rate {
    since: Progress,
    rate: Option<f64>,
}

impl Rate {
    fn after(&mut self, now: Progress) -> f64 {
        let time = now.elapsed.saturating_sub(self.since.elapsed);
        let done = now.completed.saturating_sub(self.since.completed);
        let rate = done as f64 / time.as_secs_f64().max(1e-3);
        if time >= WHILE {
            (self.since, self.rate) = (now, Some(rate));
        }
        self.rate.unwrap_or(rate)
    }
}

fn words(progress: &Progress, rate: f64) -> String {
    format!(
        "{:.0} s, {} requests, {rate:.0} a second, {} errors",
        progress.elapsed.as_secs_f64().floor(),
        progress.completed,
        progress.errors,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64, completed: u64) -> Progress {
        Progress {
            elapsed: Duration::from_millis(millis),
            completed,
            errors: 1,
        }
    }

    #[test]
    fn what_ends_first_counts() {
        let both = Limits {
            requests: Some(100),
            time: Some(Duration::from_secs(10)),
        };
        assert_eq!(both.share(&at(0, 0)), 0.0);
        assert_eq!(both.share(&at(5000, 10)), 0.5);
        assert_eq!(both.share(&at(1000, 90)), 0.9);
        assert_eq!(both.share(&at(60_000, 90)), 1.0, "the last answers");
    }

    #[test]
    fn the_rate_is_that_of_the_last_while() {
        let mut rate = Rate::default();
        assert_eq!(rate.after(at(0, 0)), 0.0);
        assert_eq!(rate.after(at(250, 50)), 200.0);
        assert_eq!(rate.after(at(500, 100)), 200.0);
        assert_eq!(rate.after(at(600, 100)), 200.0);
        assert_eq!(rate.after(at(1500, 100)), 0.0);
        assert_eq!(
            words(&at(1500, 100), 0.0),
            "1 s, 100 requests, 0 a second, 1 errors"
        );
    }
}
