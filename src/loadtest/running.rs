//! A load test on its way: what it has done so far, marks on its time, and its end.

use super::addresses::Addresses;
use super::echo::Handshake;
use super::lane::{self, Found, Lane};
use super::outcome::{self, Run};
use super::pace::Pace;
use super::speech::Speech;
use super::tally::Tally;
use super::target::Target;
use super::timeline::{self, Timeline};
use super::{Error, Loadtest, Report, Result, Stage, template};
use crate::net::{Reactor, Waker};
use crate::sys;
use std::panic;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A plan begins that much after its threads, so that its first request is not late.
const HEAD_START: Duration = Duration::from_millis(2);

/// Descriptors that are no connections: standard streams, and the loops'.
const OWN_DESCRIPTORS: u64 = 16;

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
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Found>>,
    wakers: Vec<Waker>,
}

impl Running {
    /// How far it is: a look at some counters.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let sum = |pick: fn(&Counter) -> &AtomicU64| {
            let counters = self.shared.counters.iter();
            counters.map(|one| pick(one).load(Ordering::Relaxed)).sum()
        };
        Progress {
            elapsed: self.shared.start.elapsed(),
            completed: sum(|one| &one.completed),
            errors: sum(|one| &one.failed),
        }
    }

    /// Waits for its end, at most so long; whether it has ended.
    pub fn wait(&self, at_most: Duration) -> bool {
        let running = lock(&self.shared.running);
        let result = self
            .shared
            .ended
            .wait_timeout_while(running, at_most, |running| *running > 0);
        *result.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Begins a new [`Stage`](super::Stage): what ends from now on is counted there. Its number, for
    /// [`Running::settle`].
    pub fn mark(&self, what: &str) -> usize {
        let mut stages = lock(&self.shared.stages);
        stages.push(Stage {
            at: self.shared.start.elapsed(),
            what: what.to_owned(),
            ..Stage::default()
        });
        let stage = stages.len() - 1;
        self.shared.stage.store(stage, Ordering::Relaxed);
        stage
    }

    /// Says what came of what was marked as `stage`, and how long that took.
    pub fn settle(&self, stage: usize, outcome: &str, took: Duration) {
        if let Some(stage) = lock(&self.shared.stages).get_mut(stage) {
            stage.outcome = Some(outcome.to_owned());
            stage.took = Some(took);
        }
    }

    /// Sends no request from now on, not even one whose planned time is past. Those on their way are
    /// still waited for, at most for the time-out or, without one, for 30 seconds.
    pub fn stop(&self) {
        self.halt(Halt::Stop);
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When one of its threads did.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let threads = std::mem::take(&mut self.threads);
        let found: Vec<_> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|why| panic::resume_unwind(why))
            })
            .collect();
        let stages = std::mem::take(&mut *lock(&self.shared.stages));
        let run = Run {
            start: self.shared.start,
            plan: &self.shared.plan,
            method: &self.shared.method,
            is_websocket: self.shared.is_websocket,
            stages,
        };
        outcome::report(run, found, &mut lock(&self.shared.timeline))
    }

    fn halt(&self, how: Halt) {
        self.shared.halt.fetch_max(how as u8, Ordering::Relaxed);
        self.wakers.iter().for_each(Waker::wake);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.halt(Halt::Abandon);
        for thread in self.threads.drain(..) {
            // Its panic has been told of already, and this may be one of its own.
            let _ = thread.join();
        }
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
    pub fn start(mut self) -> Result<Running> {
        let (target, method, speech) = self.ready()?;
        let is_websocket = target.is_websocket();
        let found = target.resolve()?.into_iter();
        let addresses = Addresses::new(found.map(Target::connect_place).collect());

        sys::signal::ignore_broken_pipe();
        // As many connections as the limit allows work without it too.
        if let Ok(limit) = sys::process::raise_descriptor_limit()
            && limit < self.concurrency as u64 + OWN_DESCRIPTORS
        {
            log::warn!(
                "at most {limit} descriptors are allowed, too few for {} connections: some requests \
                 will end as exhausted",
                self.concurrency
            );
        }
        let cores = self.cores.unwrap_or(sys::cpu::available().count / 2);
        let lanes = cores.clamp(1, self.concurrency);
        self.cores = Some(lanes);

        let mut reactors = Vec::new();
        for _ in 0..lanes {
            reactors.push(Reactor::new().map_err(Error::io("making a loop"))?);
        }
        let wakers = reactors.iter().map(|reactor| reactor.waker(lane::WAKER));
        let wakers = wakers.collect::<std::io::Result<Vec<_>>>();
        let wakers = wakers.map_err(Error::io("making a loop"))?;

        let start = match self.rate {
            Some(_) => Instant::now() + HEAD_START,
            None => Instant::now(),
        };
        let shared = Shared {
            is_websocket,
            method,
            speech,
            addresses,
            start,
            taken: Arc::default(),
            halt: AtomicU8::new(Halt::No as u8),
            stage: AtomicUsize::new(0),
            stages: Mutex::new(vec![Stage {
                what: "start".to_owned(),
                ..Stage::default()
            }]),
            timeline: Mutex::new(Timeline::new(timeline::length(self.limit()))),
            counters: (0..lanes).map(|_| Counter::default()).collect(),
            running: Mutex::new(0),
            ended: Condvar::new(),
            plan: self,
        };
        let mut running = Running {
            shared: Arc::new(shared),
            threads: Vec::new(),
            wakers,
        };
        for (index, reactor) in reactors.into_iter().enumerate() {
            let thread = running.shared.spawn(index, reactor);
            let thread = thread.map_err(Error::io("starting a thread"))?;
            running.threads.push(thread);
        }
        Ok(running)
    }

    /// Whether it makes sense, as far as that can be said without asking anybody.
    ///
    /// # Errors
    ///
    /// What does not.
    pub(crate) fn check(&self) -> Result<()> {
        self.clone().ready().map(drop)
    }

    /// Whom to ask, by which method, in which words.
    fn ready(&mut self) -> Result<(Target, String, Speech)> {
        self.judge()?;
        let target = Target::parse(&self.url)?;
        self.keep_alive |= target.is_websocket();
        if target.is_websocket() {
            let handshake = Handshake::new(self, &target)?;
            let speech = Speech::echo(handshake, &self.body, self.pipeline);
            return Ok((target, "GET".to_owned(), speech));
        }
        let method = template::method(self)?;
        let request = template::request(self, &target)?;
        let again = template::is_idempotent(&method);
        let speech = Speech::http(&request, self.pipeline, &method, again);
        Ok((target, method, speech))
    }
}

/// Whether lanes go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// They do.
    No,
    /// They send nothing new.
    Stop,
    /// They end at once.
    Abandon,
}

/// What a lane tells while it runs.
#[derive(Debug, Default)]
struct Counter {
    completed: AtomicU64,
    failed: AtomicU64,
}

/// What all lanes have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Loadtest,
    pub(super) speech: Speech,
    pub(super) addresses: Addresses,
    pub(super) timeline: Mutex<Timeline>,
    method: String,
    is_websocket: bool,
    start: Instant,
    taken: Arc<AtomicU64>,
    halt: AtomicU8,
    /// The present stage.
    stage: AtomicUsize,
    stages: Mutex<Vec<Stage>>,
    counters: Vec<Counter>,
    /// Lanes that have not ended.
    running: Mutex<usize>,
    ended: Condvar,
}

impl Shared {
    fn spawn(
        self: &Arc<Self>,
        index: usize,
        reactor: Reactor,
    ) -> std::io::Result<JoinHandle<Found>> {
        let shared = Arc::clone(self);
        let lanes = self.counters.len();
        let share = self.plan.concurrency / lanes;
        let places = share + usize::from(index < self.plan.concurrency % lanes);
        *lock(&self.running) += 1;
        let guard = Ended(Arc::clone(self));
        let name = format!("loadtest-{index}");
        thread::Builder::new().name(name).spawn(move || {
            let _guard = guard;
            Lane::new(shared, reactor, index, places).run()
        })
    }

    /// The schedule of a lane.
    pub(super) fn pace(&self, lane: usize) -> Pace {
        let lanes = self.counters.len();
        Pace::new(&self.plan, self.start, lane, lanes, &self.taken)
    }

    /// Where a lane counts.
    pub(super) fn tally(&self) -> Tally {
        let length = timeline::length(self.plan.limit());
        Tally::new(self.start, length, self.plan.rate.is_some())
    }

    /// Whether lanes go on.
    pub(super) fn halt(&self) -> Halt {
        match self.halt.load(Ordering::Relaxed) {
            0 => Halt::No,
            1 => Halt::Stop,
            _ => Halt::Abandon,
        }
    }

    /// The stage in which what ends now is counted.
    pub(super) fn stage(&self) -> usize {
        self.stage.load(Ordering::Relaxed)
    }

    /// Tells how far a lane is.
    pub(super) fn publish(&self, lane: usize, completed: u64, failed: u64) {
        let counter = &self.counters[lane];
        counter.completed.store(completed, Ordering::Relaxed);
        counter.failed.store(failed, Ordering::Relaxed);
    }
}

/// Says when dropped that a lane has ended, however it did.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        *lock(&self.0.running) -= 1;
        self.0.ended.notify_all();
    }
}

/// What a lane that panicked leaves is whole: nothing panics while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
