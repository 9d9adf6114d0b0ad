//! A load test on its way: what it has done so far, marks on its time, and its end.

use super::{Loadtest, Report, Result};
use std::time::Duration;

/// How far a load test is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Since its start.
    pub elapsed: Duration,
    /// Requests that ended, well or badly.
    pub completed: u64,
    /// Those without an answer and those with a status of 400 or more.
    pub errors: u64,
}

/// A load test that runs, on threads of its own. Dropped, it ends without a report.
#[derive(Debug)]
pub struct Running {}

impl Running {
    /// How far it is: a look at some counters.
    #[must_use]
    pub fn progress(&self) -> Progress {
        unimplemented!()
    }

    /// Waits for its end, at most so long; whether it has ended.
    pub fn wait(&self, _at_most: Duration) -> bool {
        unimplemented!()
    }

    /// Begins a new [`Stage`](super::Stage): what ends from now on is counted there. Its number, for
    /// [`Running::settle`].
    pub fn mark(&self, _what: &str) -> usize {
        unimplemented!()
    }

    /// Says what came of what was marked as `stage`, and how long that took.
    pub fn settle(&self, _stage: usize, _outcome: &str, _took: Duration) {
        unimplemented!()
    }

    /// Sends no request from now on. Those on their way are still waited for.
    pub fn stop(&self) {
        unimplemented!()
    }

    /// Waits for its end.
    #[must_use]
    pub fn finish(self) -> Report {
        unimplemented!()
    }
}

impl Loadtest {
    /// Starts it and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Loadtest::start`].
    pub fn run(self) -> Result<Report> {
        Ok(self.start()?.finish())
    }

    /// Starts it on threads of its own.
    ///
    /// # Errors
    ///
    /// When what is wanted makes no sense, the host's name is not found, or the system has no room for a
    /// thread or its loop. That nobody answers at the address is no error here but in the report.
    pub fn start(self) -> Result<Running> {
        self.judge()?;
        unimplemented!()
    }
}
