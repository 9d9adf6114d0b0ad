//! One application as one worker, as processes, as threads, and as processes with a pool, under the
//! same load: what each way costs and what it gives, in figures and in words that follow from them.
//!
//! `setup` says who is compared, `server` starts them, `measure` puts load on them by the load
//! generator, `judge` says what of that counts, `figures` keeps it; `words`, `text`, `json` and `page`
//! show it. Flags and the progress bar are the command's.
//!
//! A contestant is this very program executed anew with a variable in its environment: then
//! [`Compare::run`] does not compare but becomes the cluster. So each begins as a real program does,
//! and shares nothing with the others or with the load generator but the machine.
//!
//! # Examples
//!
//! A program that compares its own application:
//!
//! ```no_run
//! use mcluster::compare::Compare;
//! use mcluster::{App, pooled};
//!
//! fn main() -> mcluster::Result<()> {
//!     let app = || {
//!         App::new().get("/", |_| "hello\n").get("/report", pooled(|_| {
//!             let total = (0..5_000_000u64).fold(0, |t, _| std::hint::black_box(t + 1));
//!             format!("{total}\n")
//!         }))
//!     };
//!     Compare::new(move |_| app()).light("/").heavy("/report").run()
//! }
//! ```

mod figures;
mod json;
mod judge;
mod measure;
mod page;
mod server;
mod setup;
mod text;
mod watch;
mod words;

pub use figures::Workload;
pub use setup::{Contestant, Setup};
pub use watch::Progress;

use crate::sorted::sort_by;
use crate::sys::cpu;
use crate::{App, Error, Result, Workers, loadtest};
use measure::{Found, Plan};
#[cfg(feature = "cli")]
pub(crate) use setup::is_contestant;
use setup::{Role, Seat};
use std::fmt;
use std::io::Write;
use std::time::Duration;
#[cfg(feature = "cli")]
pub(crate) use watch::meanwhile;
use watch::{Observer, Watch};

/// The version of the comparison as JSON. It grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Rounds, unless asked otherwise: the fewest that have a middle and two sides.
pub(crate) const ROUNDS: usize = 3;

/// How long one workload lasts for one contestant in one round, unless asked otherwise.
pub(crate) const DURATION: Duration = Duration::from_secs(2);

/// The most rounds, and the longest that one workload may last: past that it is a mistake.
pub(crate) const MOST_ROUNDS: usize = 1000;
/// In less time than that nothing is measured but how it begins.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

type Maker = Box<dyn Fn(&Setup) -> App>;

/// A comparison of the ways to run one application.
pub struct Compare {
    make: Maker,
    workers: Workers,
    rounds: usize,
    duration: Duration,
    workloads: Option<Vec<Workload>>,
    light: String,
    heavy: Option<String>,
    observer: Observer,
}

impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compare")
            .field("workers", &self.workers)
            .field("rounds", &self.rounds)
            .field("duration", &self.duration)
            .field("workloads", &self.workloads)
            .field("light", &self.light)
            .field("heavy", &self.heavy)
            .finish_non_exhaustive()
    }
}

impl Compare {
    /// Compares the ways to run the application that `make` makes.
    ///
    /// It is called in each contestant, once, with how that one is going to run.
    #[must_use]
    pub fn new(make: impl Fn(&Setup) -> App + 'static) -> Self {
        Self {
            make: Box::new(make),
            workers: Workers::default(),
            rounds: ROUNDS,
            duration: DURATION,
            workloads: None,
            light: "/".to_owned(),
            heavy: None,
            observer: Box::new(|_| {}),
        }
    }

    /// How many workers those have that have several: one a CPU, unless it is said.
    #[must_use]
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = workers;
        self
    }

    /// How often everything is measured: 3 times, unless it is said. Figures are medians.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// How long one workload lasts for one contestant in one round: 2 s, unless it is said.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// What the contestants are made to do: all there is, unless it is said; what needs heavy work
    /// only where there is some.
    #[must_use]
    pub fn workloads(mut self, workloads: impl IntoIterator<Item = Workload>) -> Self {
        self.workloads = Some(workloads.into_iter().collect());
        self
    }

    /// The path of something light: `/`, unless it is said.
    #[must_use]
    pub fn light(mut self, path: &str) -> Self {
        path.clone_into(&mut self.light);
        self
    }

    /// The path of something that takes a CPU for a while, best by a [`pooled`](crate::pooled)
    /// handler. Without one, [`Workload::Heavy`] and [`Workload::Mixed`] are left out.
    #[must_use]
    pub fn heavy(mut self, path: &str) -> Self {
        self.heavy = Some(path.to_owned());
        self
    }

    /// Calls `observer` again and again while it measures.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Compares, and prints the table and the sentences on stdout; on stderr before that how long it is
    /// going to take. What was measured before something went wrong is printed too.
    ///
    /// Contestants come out of it as they do out of [`Compare::measure`]: not at all, or at once.
    ///
    /// # Errors
    ///
    /// As [`Compare::measure`], and when stdout cannot be written.
    pub fn run(mut self) -> Result<()> {
        let mut inner = std::mem::replace(&mut self.observer, Box::new(|_| {}));
        let mut said = false;
        let compare = self.on_progress(move |progress| {
            if !std::mem::replace(&mut said, true) {
                eprintln!("{}", announced(progress.expected));
            }
            inner(progress);
        });
        let (found, ended) = compare.attempt()?;
        if !found.is_empty() {
            let mut stdout = std::io::stdout().lock();
            let written = stdout.write_all(found.text().as_bytes());
            let written = written.and_then(|()| stdout.flush());
            return ended.and(written.map_err(Error::io("stdout")));
        }
        ended
    }

    /// Compares.
    ///
    /// This must be called before the program starts any thread, as [`Cluster::run`](crate::Cluster::run)
    /// must, and with the arguments that the program was started with: contestants get the same.
    /// While it runs, INT, QUIT, TERM and HUP (unless that is ignored) end the comparison; nothing of
    /// it is left then.
    ///
    /// In a process that is a contestant it does not return: the process serves, and ends with the
    /// status of its cluster. A program may compare several times, by calls that come in the same
    /// order in each of its processes: then a contestant of a later call gets a [`Comparison`] of
    /// nothing from those before, at once ([`Comparison::is_empty`]).
    ///
    /// # Errors
    ///
    /// When the settings make no sense, a contestant does not start or fails at more than half of its
    /// requests, and when a signal ends the comparison.
    pub fn measure(self) -> Result<Comparison> {
        let (found, ended) = self.attempt()?;
        ended.map(|()| found)
    }

    /// As [`Compare::measure`], with what was measured before it failed.
    pub(crate) fn attempt(mut self) -> Result<(Comparison, Result<()>)> {
        let cpus = cpu::available().count;
        let call = match Role::next()? {
            Role::Is(seat) => self.serve(seat),
            Role::Skips => {
                let plan = self.plan()?;
                let found = Found::default();
                return Ok((
                    Comparison {
                        plan,
                        cpus,
                        found,
                        ended: None,
                    },
                    Ok(()),
                ));
            }
            Role::Compares(call) => call,
        };
        let plan = self.plan()?;
        let mut watch = Watch::new(&mut self.observer, plan.expected_in_all())?;
        let mut found = Found::default();
        let ended = measure::measure(&plan, call, &mut watch, &mut found);
        drop(watch);
        let comparison = Comparison {
            plan,
            cpus,
            found,
            ended: ended.as_ref().err().map(ToString::to_string),
        };
        Ok((comparison, ended))
    }

    /// Is a contestant, to its end.
    #[allow(
        clippy::disallowed_methods,
        reason = "what the program does behind its comparison is not for a contestant"
    )]
    fn serve(&self, seat: Seat) -> ! {
        let app = (self.make)(&seat.setup);
        let status = match seat.serve(app) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("{error}");
                error.exit_code()
            }
        };
        std::process::exit(status.into())
    }

    /// What is to be done.
    fn plan(&self) -> Result<Plan> {
        let refuse = |what: String| Err(Error::Settings(what));
        let needs_heavy = |one: &Workload| matches!(one, Workload::Heavy | Workload::Mixed);
        let has_heavy = self.heavy.is_some();
        let mut workloads = match &self.workloads {
            Some(workloads) => workloads.clone(),
            None => Workload::ALL.to_vec(),
        };
        if self.workloads.is_none() {
            workloads.retain(|one| has_heavy || !needs_heavy(one));
        }
        sort_by(&mut workloads, Workload::cmp);
        workloads.dedup();
        let paths = [Some(&self.light), self.heavy.as_ref()];
        if let Some(path) = paths
            .into_iter()
            .flatten()
            .find(|one| !one.starts_with('/'))
        {
            return refuse(format!("{path:?} is no path: it begins with /"));
        }
        if let Some(one) = workloads.iter().find(|one| !has_heavy && needs_heavy(one)) {
            return refuse(format!("{one}: nothing heavy was named"));
        }
        if workloads.is_empty() {
            return refuse("nothing is to be compared".to_owned());
        }
        if !(1..=MOST_ROUNDS).contains(&self.rounds) {
            return refuse(format!("the rounds are a number from 1 to {MOST_ROUNDS}"));
        }
        if !(SHORTEST..=LONGEST).contains(&self.duration) {
            return refuse("a workload lasts from 100 ms to one hour".to_owned());
        }
        Ok(Plan {
            workloads,
            workers: self.workers.resolve(&cpu::available()).0,
            rounds: self.rounds,
            duration: self.duration,
            light: self.light.clone(),
            heavy: self.heavy.clone().unwrap_or_default(),
        })
    }
}

/// What came of comparing.
#[derive(Clone, Debug)]
pub struct Comparison {
    plan: Plan,
    cpus: usize,
    found: Found,
    /// Why not all of it was measured.
    ended: Option<String>,
}

impl Comparison {
    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.figures.is_empty()
    }

    /// A table, the contestants as columns, and the sentences.
    #[must_use]
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// What the figures say, by rules: what differs, by how much, and whether that is more than noise.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        words::sentences(self)
    }

    /// Every figure of every round, as one JSON object with the end of a line.
    #[must_use]
    pub fn json(&self) -> String {
        format!("{}\n", json::json(self))
    }

    /// A page with plots, which loads nothing.
    #[must_use]
    pub fn html(&self) -> String {
        page::html(self)
    }

    /// The median of one figure, by its key in JSON, such as `hello_rps`; None when it is not there
    /// or more than can be told.
    #[must_use]
    pub fn median(&self, key: &str, contestant: Contestant) -> Option<f64> {
        let mut all = figures::Figure::ALL.into_iter();
        let figure = all.find(|figure| figure.shown().key == key)?;
        let spread = self.found.figures.spread(figure, contestant)?;
        Some(spread.median).filter(|value| value.is_finite())
    }
}

impl From<loadtest::Error> for Error {
    fn from(error: loadtest::Error) -> Self {
        match error {
            loadtest::Error::Usage(what) => Self::Settings(what),
            loadtest::Error::Io { what, source } => Self::Io { what, source },
        }
    }
}

/// What is said at the start of something that takes so long.
pub(crate) fn announced(expected: Duration) -> String {
    format!("comparing, which takes about {}", about(expected))
}

/// A time in words, rounded up to what a reader cares for.
fn about(time: Duration) -> String {
    match time.as_secs_f64().ceil() as u64 {
        0 | 1 => "1 second".to_owned(),
        seconds if seconds < 120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare() -> Compare {
        Compare::new(|_| App::new())
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong = [
            compare().rounds(0),
            compare().rounds(MOST_ROUNDS + 1),
            compare().duration(Duration::ZERO),
            compare().duration(Duration::MAX),
            compare().duration(Duration::from_millis(99)),
            compare().light("x"),
            compare().heavy(""),
            compare().workloads([]),
            compare().workloads([Workload::Mixed]),
        ];
        for compare in wrong {
            let error = compare.plan().unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }

    #[test]
    fn heavy_work_only_where_there_is_some() {
        let plan = compare().plan().unwrap();
        assert!(!plan.workloads.contains(&Workload::Heavy));
        assert_eq!(plan.workloads.len(), Workload::ALL.len() - 2);
        let plan = compare().heavy("/x").plan().unwrap();
        assert_eq!(plan.workloads, Workload::ALL);
        let twice = [Workload::Startup, Workload::Hello, Workload::Startup];
        let plan = compare().workloads(twice).plan().unwrap();
        assert_eq!(plan.workloads, [Workload::Hello, Workload::Startup]);
    }

    #[test]
    fn times_in_words() {
        let cases = [
            (300, "1 second"),
            (2100, "3 seconds"),
            (119_000, "119 seconds"),
            (130_000, "3 minutes"),
        ];
        for (millis, expected) in cases {
            assert_eq!(about(Duration::from_millis(millis)), expected);
        }
    }
}
