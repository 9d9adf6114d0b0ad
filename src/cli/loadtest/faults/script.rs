//! Faults in the order of their times: each begun on time by the command's loop, done by a thread of its
//! own, and its outcome told to the run.

use super::BLINK;
use super::words::{Fault, Timed, Whom};
use crate::cli::steer::{self, Cluster};
use crate::loadtest::Running;
use crate::sorted::sort_by_key;
use crate::status::{State, Status};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long what was done may take to come to its end: a reload waits for the slowest request.
const TO_SETTLE: Duration = Duration::from_secs(60);

/// The same once the run is over, when nobody is left to be harmed by it.
const TO_SETTLE_AFTER: Duration = Duration::from_secs(10);

/// Between two looks at a cluster that is to be at its full strength again, and so how exactly that
/// time is known.
const LOOK: Duration = Duration::from_millis(5);

/// How long a worker that was sent a signal is watched for leaving the others: only then did the signal
/// end it. Which signals do is up to the worker, but for one.
const TO_LEAVE: Duration = Duration::from_millis(200);

/// What is still to be done, what is on its way, and what came of the rest.
#[derive(Debug)]
pub(in crate::cli::loadtest) struct Script {
    cluster: Option<Cluster>,
    ahead: VecDeque<Timed>,
    /// Stages whose outcome is not known, with their words and when they began.
    begun: Vec<(usize, String, Instant)>,
    sender: mpsc::Sender<Done>,
    done: mpsc::Receiver<Done>,
    failures: Vec<String>,
    /// Set when the run is over or cancelled: what is not done by then is left undone.
    over: Arc<AtomicBool>,
}

/// What came of something.
#[derive(Debug)]
struct Done {
    stage: usize,
    outcome: std::result::Result<String, String>,
    took: Duration,
}

impl Script {
    /// What is to be done to `cluster`, in the order of time.
    pub(super) fn new(mut ahead: Vec<Timed>, cluster: Option<Cluster>) -> Self {
        sort_by_key(&mut ahead, |one| one.at);
        let (sender, done) = mpsc::channel();
        Self {
            cluster,
            ahead: ahead.into(),
            begun: Vec::new(),
            sender,
            done,
            failures: Vec::new(),
            over: Arc::default(),
        }
    }

    /// How long the loop may wait until it has to call [`Script::step`], at most `at_most`.
    pub(in crate::cli::loadtest) fn pause(&self, elapsed: Duration, at_most: Duration) -> Duration {
        let next = self.ahead.front().map(|one| one.at.saturating_sub(elapsed));
        next.map_or(at_most, |next| next.min(at_most))
    }

    /// Begins what it is time for, and tells the run what came of what is done.
    pub(in crate::cli::loadtest) fn step(&mut self, running: &Running) {
        while let Some(one) = self.due(running.progress().elapsed) {
            self.begin(one, running);
        }
        while let Ok(done) = self.done.try_recv() {
            self.settle(done, running);
        }
    }

    fn due(&mut self, elapsed: Duration) -> Option<Timed> {
        let is_due = self.ahead.front().is_some_and(|one| one.at <= elapsed);
        is_due.then(|| self.ahead.pop_front()).flatten()
    }

    /// Once the run has ended, before its report is made: waits a while for what is on its way, unless
    /// the user has had `enough`. What is done by then counts as done, whoever was told when.
    pub(in crate::cli::loadtest) fn end(
        &mut self,
        running: &Running,
        mut enough: impl FnMut() -> bool,
    ) {
        self.over.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + TO_SETTLE_AFTER;
        while !self.begun.is_empty() && Instant::now() < deadline && !enough() {
            if let Ok(done) = self.done.recv_timeout(BLINK) {
                self.settle(done, running);
            }
        }
        while let Ok(done) = self.done.try_recv() {
            self.settle(done, running);
        }
        let begun = self.begun.iter().map(|(stage, _, start)| Done {
            stage: *stage,
            outcome: Err("was not done when the run was over".to_owned()),
            took: start.elapsed(),
        });
        for late in begun.collect::<Vec<_>>() {
            self.settle(late, running);
        }
        for never in self.ahead.drain(..) {
            let Timed { at, words, .. } = never;
            let never = format!("{words}: the run was over before {at:?}");
            self.failures.push(never);
        }
    }

    /// Begins nothing more.
    pub(in crate::cli::loadtest) fn cancel(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.ahead.clear();
    }

    /// Whether all came off.
    ///
    /// # Errors
    ///
    /// What did not; of several, all but the last are said on stderr here.
    pub(in crate::cli::loadtest) fn judge(mut self) -> Result<()> {
        let Some(last) = self.failures.pop() else {
            return Ok(());
        };
        for why in self.failures {
            eprintln!("mcluster: --at {why}");
        }
        Err(Error::Failed(format!("--at {last}")))
    }

    fn begin(&mut self, one: Timed, running: &Running) {
        let Some(cluster) = self.cluster.clone() else {
            return;
        };
        let stage = running.mark(&one.words);
        let (start, sender) = (Instant::now(), self.sender.clone());
        self.begun.push((stage, one.words, start));
        let (fault, over) = (one.fault, self.over.clone());
        let act = move || {
            let outcome = match fault {
                Fault::Kill(whom, signal) => kill(&cluster, whom, &signal, &over),
                other => post(&cluster, &target(&other)),
            };
            let took = start.elapsed();
            // Nobody waits for it any more once the run is over.
            let _ = sender.send(Done {
                stage,
                outcome,
                took,
            });
        };
        let thread = thread::Builder::new().name("fault".to_owned()).spawn(act);
        if let Err(why) = thread {
            let outcome = Err(why.to_string());
            let took = start.elapsed();
            let _ = self.sender.send(Done {
                stage,
                outcome,
                took,
            });
        }
    }

    fn settle(&mut self, done: Done, running: &Running) {
        let Some(at) = self
            .begun
            .iter()
            .position(|(stage, ..)| *stage == done.stage)
        else {
            return;
        };
        let (stage, what, _) = self.begun.swap_remove(at);
        match done.outcome {
            Ok(outcome) => running.settle(stage, &outcome, done.took),
            Err(why) => {
                running.settle(stage, &format!("failed: {why}"), done.took);
                self.failures.push(format!("{what}: {why}"));
            }
        }
    }
}

/// Sends a signal to a worker. If that ends it, waits until as many listen as should: in words, or why it
/// failed.
fn kill(
    cluster: &Cluster,
    whom: Whom,
    signal: &str,
    over: &AtomicBool,
) -> std::result::Result<String, String> {
    let look = || cluster.status().map(|(_, status)| status);
    let worker = victim(&look().map_err(|why| why.to_string())?, whom)?;
    // A primary that is slow to say who there is may have taken until now.
    if over.load(Ordering::Relaxed) {
        return Err("the run was over before it was known whom to kill".to_owned());
    }
    let said = post(cluster, &format!("/workers/{worker}/kill?signal={signal}"))?;
    let sent = Instant::now();
    // Nobody can do anything against this one, however long it takes until it is seen.
    let to_leave = match signal {
        "KILL" => TO_SETTLE,
        _ => TO_LEAVE,
    };
    let mut left = false;
    loop {
        // Right after a death the primary may have better things to do than to answer.
        let status = look().map_err(|why| why.to_string())?;
        left |= !listening(&status).any(|id| id == worker);
        // It may have been told to be another number meanwhile.
        let (others, wanted) = (
            listening(&status).filter(|id| *id != worker).count(),
            status.wanted as usize,
        );
        match left {
            true if others >= wanted => {
                return Ok(format!("worker {worker}: {others} workers listen again"));
            }
            true if sent.elapsed() >= TO_SETTLE => {
                return Err(format!(
                    "worker {worker}: {others} of {wanted} workers listen after {TO_SETTLE:?}"
                ));
            }
            false if sent.elapsed() >= to_leave => return Ok(said),
            _ => thread::sleep(LOOK),
        }
    }
}

/// The workers that listen.
fn listening(status: &Status) -> impl Iterator<Item = u32> + '_ {
    let all = status.workers.iter();
    all.filter(|worker| worker.state == State::Listening)
        .map(|worker| worker.id)
}

/// Whom to kill.
fn victim(status: &Status, whom: Whom) -> std::result::Result<u32, String> {
    let mut all = status.workers.iter();
    match whom {
        // The one that is at it the most: its end costs what the end of a worker can cost.
        Whom::Any => {
            let listening = all.filter(|worker| worker.state == State::Listening);
            let busiest = listening.max_by_key(|worker| (worker.in_flight, worker.connections));
            Ok(busiest.ok_or("no worker listens")?.id)
        }
        Whom::Worker(id) => match all.any(|worker| worker.id == id) {
            true => Ok(id),
            false => Err(format!("there is no worker {id}")),
        },
    }
}

/// What the control socket is asked for.
fn target(fault: &Fault) -> String {
    match fault {
        Fault::Kill(..) => unreachable!("it is more than one question"),
        Fault::Scale(workers) => format!("/scale?workers={workers}"),
        Fault::Reload => "/reload".to_owned(),
        Fault::Restart => "/restart".to_owned(),
        Fault::Schedule(policy) => {
            format!("/schedule?policy={}", steer::escaped(&policy.to_string()))
        }
        Fault::Stop => "/stop".to_owned(),
    }
}

/// Asks for a change, and waits for what came of it.
fn post(cluster: &Cluster, target: &str) -> std::result::Result<String, String> {
    let answer = cluster
        .ask("POST", target, Some(TO_SETTLE))
        .and_then(|incoming| incoming.whole().map_err(|why| cluster.failed(why)))
        .map_err(|why| why.to_string())?;
    match (answer.status, steer::said(&answer)) {
        (200, said) => Ok(said),
        (_, said) => Err(said),
    }
}

#[cfg(test)]
mod tests;
