//! What each workload does to a contestant, and which figures come of it.
//!
//! Each measurement has a server of its own, started for it and stopped after it, so that none finds
//! what another left behind.

use super::figures::{Figure, Figures, TIMEOUT, Workload};
use super::judge::{failed, good, judge, judge_stage, rate, within};
use super::server::{Directory, PATIENCE, Recovery, Server};
use super::setup::{Contestant, Setup};
use super::watch::Watch;
use crate::loadtest::{Loadtest, Report, Trouble};
use crate::{Error, Result};
use std::time::Duration;

/// Connections of `hello`, `crash` and of what `mixed` asks for `/`.
const CONNECTIONS: usize = 32;

/// Requests a second for `/` of `mixed`: few, as somebody looks at a page.
const MIXED_RATE: f64 = 100.0;

/// Requests a second of `crash`: enough to meet a hole of some milliseconds.
const CRASH_RATE: f64 = 1000.0;

/// So many connections for visits that none of them waits for another to be given up.
const VISITS: usize = MIXED_RATE as usize * (TIMEOUT.as_secs() as usize + 1);

/// How long heavy work may take, with all that waits before it.
const HEAVY_TIMEOUT: Duration = Duration::from_secs(30);

/// The kernel counts CPU time in steps of (usually) 10 ms: less than ten of them are no figure.
const LEAST_CPU: Duration = Duration::from_millis(100);

/// How often `startup` starts a contestant in one round.
const STARTS: u32 = 3;

/// What a start and an end take, about; only for how long all of it takes.
const START: Duration = Duration::from_millis(150);

/// What is compared, and how long.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) workloads: Vec<Workload>,
    pub(super) workers: usize,
    pub(super) rounds: usize,
    pub(super) duration: Duration,
    pub(super) light: String,
    pub(super) heavy: String,
}

impl Plan {
    /// How long one measurement takes, about.
    pub(super) fn expected(&self, workload: Workload) -> Duration {
        let load = match workload {
            Workload::Hello | Workload::Heavy => self.duration + self.warm_up(),
            Workload::Mixed => self.duration * 2 + self.warm_up(),
            Workload::Crash => self.duration,
            Workload::Memory => self.duration / 2,
            Workload::Startup => START * (STARTS - 1),
        };
        load + START
    }

    /// How long all of it takes, about.
    pub(super) fn expected_in_all(&self) -> Duration {
        let round: Duration = self.workloads.iter().map(|one| self.expected(*one)).sum();
        round * Contestant::ALL.len() as u32 * u32::try_from(self.rounds).unwrap_or(u32::MAX)
    }

    /// Whether there is something heavy.
    pub(super) fn has_heavy(&self) -> bool {
        !self.heavy.is_empty()
    }

    /// Before it counts: connections, caches and branch predictors are as they will be.
    fn warm_up(&self) -> Duration {
        self.duration / 10
    }
}

/// The load generator was the bottleneck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bottleneck {
    pub(super) workload: Workload,
    pub(super) contestant: Contestant,
    pub(super) why: String,
}

/// All that comes of measuring.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) figures: Figures,
    /// At most one for each workload of each contestant.
    pub(super) bottlenecks: Vec<Bottleneck>,
    /// Where workers died that nobody had killed, each once.
    pub(super) deaths: Vec<(Workload, Contestant)>,
}

/// Measures everything, in alternating rounds. What was found before an error is there.
///
/// # Errors
///
/// When a contestant does not start or does not answer well, and when a signal ends it.
pub(super) fn measure(
    plan: &Plan,
    call: u32,
    watch: &mut Watch<'_>,
    found: &mut Found,
) -> Result<()> {
    let directory = Directory::new()?;
    for round in 0..plan.rounds {
        for (number, workload) in plan.workloads.iter().enumerate() {
            let mut contestants = Contestant::ALL;
            // Nobody is always first, when the machine is cold, or always last.
            contestants.rotate_left((round + number) % Contestant::ALL.len());
            for contestant in contestants {
                let what = format!(
                    "round {} of {}: {workload}, {contestant}",
                    round + 1,
                    plan.rounds
                );
                watch.begin(what, plan.expected(*workload));
                watch.tick()?;
                let starts = match workload {
                    Workload::Startup => STARTS,
                    _ => 1,
                };
                let mut run = Run {
                    plan,
                    setup: Setup::of(contestant, plan.workers),
                    watch,
                    found,
                };
                for _ in 0..starts {
                    run.one(*workload, call, &directory)?;
                }
            }
        }
    }
    watch.end();
    Ok(())
}

/// One workload on one contestant.
struct Run<'a, 'b> {
    plan: &'a Plan,
    setup: Setup,
    watch: &'a mut Watch<'b>,
    found: &'a mut Found,
}

impl Run<'_, '_> {
    fn one(&mut self, workload: Workload, call: u32, directory: &Directory) -> Result<()> {
        let contestant = self.setup.contestant();
        let name = |why: &str| Error::Failed(format!("{workload}, {contestant}: {why}"));
        let mut server = match Server::start(self.setup, call, directory, self.watch) {
            Err(error) if self.watch.is_over() => return Err(error),
            Err(error) => {
                // A signal to the whole group may have ended it before anybody looked.
                self.watch.tick()?;
                return Err(name(&error.to_string()));
            }
            Ok(server) => server,
        };
        let done = match workload {
            Workload::Hello => self.hello(&server),
            Workload::Heavy => self.heavy(&server),
            Workload::Mixed => self.mixed(&server),
            Workload::Crash => self.crash(&mut server),
            Workload::Memory => self.memory(&server),
            Workload::Startup => self.startup(&server),
        };
        match done {
            Err(error) if self.watch.is_over() => return Err(error),
            Err(error) => return Err(name(&server.explain(&error))),
            Ok(()) => server.stop(),
        }
        Ok(())
    }

    fn add(&mut self, figure: Figure, value: f64) {
        let contestant = self.setup.contestant();
        self.found.figures.add(figure, contestant, value);
    }

    /// Load on `/`.
    fn light(&self, server: &Server<'_>) -> Loadtest {
        Loadtest::new(&server.url(&self.plan.light))
            .concurrency(CONNECTIONS)
            .keep_alive(true)
            .timeout(TIMEOUT)
            .time(self.plan.duration)
    }

    /// Load on `/heavy`: two connections for each worker of those that have several, one at work and one
    /// waiting, the same for all contestants.
    fn load(&self, server: &Server<'_>) -> Loadtest {
        Loadtest::new(&server.url(&self.plan.heavy))
            .concurrency(2 * self.plan.workers)
            .keep_alive(true)
            .timeout(HEAVY_TIMEOUT)
            .time(self.plan.duration)
    }

    /// Runs what counts, after a while that does not.
    fn count(
        &mut self,
        server: &Server<'_>,
        test: Loadtest,
        workload: Workload,
    ) -> Result<Counted> {
        let warm_up = test.clone().time(self.plan.warm_up());
        self.watch.run(warm_up)?;
        let before = server.look(self.watch)?;
        let report = self.watch.run(test)?;
        let after = server.look(self.watch)?;
        judge(&report)?;
        self.note_bottleneck(&report, workload);
        let same = after.same_workers(&before);
        let death = (workload, self.setup.contestant());
        if !same && !self.found.deaths.contains(&death) {
            self.found.deaths.push(death);
        }
        let cpu = after.cpu.saturating_sub(before.cpu);
        Ok(Counted {
            report,
            cpu: (same && cpu >= LEAST_CPU).then_some(cpu),
            fairness: match same {
                true => after.fairness(&before),
                false => f64::NAN,
            },
        })
    }

    fn note_bottleneck(&mut self, report: &Report, workload: Workload) {
        let contestant = self.setup.contestant();
        let same =
            |known: &&Bottleneck| known.workload == workload && known.contestant == contestant;
        if let Some(why) = &report.generator.bottleneck
            && self.found.bottlenecks.iter().find(same).is_none()
        {
            self.found.bottlenecks.push(Bottleneck {
                workload,
                contestant,
                why: why.clone(),
            });
        }
    }

    fn hello(&mut self, server: &Server<'_>) -> Result<()> {
        let counted = self.count(server, self.light(server), Workload::Hello)?;
        let report = &counted.report;
        self.add(Figure::HelloRate, rate(report));
        self.add(Figure::HelloCpu, counted.cpu_a_request());
        self.add(Figure::HelloP50, micros(within(report, 0.5)));
        self.add(Figure::HelloP99, micros(within(report, 0.99)));
        self.add(Figure::HelloFairness, counted.fairness);
        let cpus = report.generator.cpu.as_secs_f64() / report.elapsed.as_secs_f64();
        self.add(Figure::HelloGenerator, cpus);
        self.add(Figure::HelloFailed, report.total_errors as f64);
        Ok(())
    }

    fn heavy(&mut self, server: &Server<'_>) -> Result<()> {
        let counted = self.count(server, self.load(server), Workload::Heavy)?;
        let report = &counted.report;
        self.add(Figure::HeavyRate, rate(report));
        self.add(Figure::HeavyCpu, counted.cpu_a_request());
        let own = counted.cpu.map_or(f64::NAN, |cpu| cpu.as_secs_f64());
        let cpus = (own + report.generator.cpu.as_secs_f64()) / report.elapsed.as_secs_f64();
        self.add(Figure::HeavyCpus, cpus);
        self.add(Figure::HeavyFailed, report.total_errors as f64);
        Ok(())
    }

    fn mixed(&mut self, server: &Server<'_>) -> Result<()> {
        // A connection each, as visitors come: so every worker has its part of them.
        let visits = self.light(server).keep_alive(false).rate(MIXED_RATE);
        let visits = visits.concurrency(VISITS);
        let alone = self.watch.run(visits.clone())?;
        judge(&alone)?;
        // Longer than the visits; it is stopped after them.
        let heavy = self.load(server).time(self.plan.duration * 2 + 2 * TIMEOUT);
        let heavy = heavy.start()?;
        self.watch.pause(self.plan.warm_up())?;
        let busy = self.watch.run(visits)?;
        heavy.stop();
        let heavy = self.watch.finish(heavy)?;
        judge(&heavy)?;
        self.note_bottleneck(&heavy, Workload::Mixed);
        self.note_bottleneck(&busy, Workload::Mixed);
        // That these get no answer is no error, but what is to be found out.
        self.add(Figure::MixedP50, millis(within(&busy, 0.5)));
        self.add(Figure::MixedP99, millis(within(&busy, 0.99)));
        self.add(Figure::MixedIdle, millis(within(&alone, 0.99)));
        self.add(Figure::MixedFailed, busy.total_errors as f64);
        self.add(Figure::MixedHeavy, rate(&heavy));
        self.add(Figure::MixedHeavyFailed, heavy.total_errors as f64);
        Ok(())
    }

    fn crash(&mut self, server: &mut Server<'_>) -> Result<()> {
        // Longer than it may take; it is stopped some time after the recovery.
        let time = self.plan.duration * 2 + 3 * PATIENCE;
        let test = self.light(server).rate(CRASH_RATE).time(time).start()?;
        self.watch.pause(self.plan.duration / 2)?;
        let victim = server.victim(self.watch)?;
        test.mark("crash");
        let recovery = server.crash(victim, self.watch)?;
        if matches!(recovery, Recovery::After(_)) {
            self.watch.pause(self.plan.duration / 2)?;
        }
        test.stop();
        let report = self.watch.finish(test)?;
        let [before, after] = report.stages.as_slice() else {
            return Err(Error::Failed("the crash was not counted".to_owned()));
        };
        judge_stage(before, &report)?;
        self.note_bottleneck(&report, Workload::Crash);
        let of = |trouble| after.errors.of(trouble) as f64;
        let (reset, refused) = (of(Trouble::Reset), of(Trouble::Refused));
        let (closed, failed) = (of(Trouble::Closed), failed(after) as f64);
        let sent = after.answers + after.errors.total();
        self.add(Figure::CrashSent, sent as f64);
        self.add(Figure::CrashFailed, failed);
        self.add(Figure::CrashReset, reset);
        self.add(Figure::CrashRefused, refused);
        self.add(Figure::CrashClosed, closed);
        self.add(Figure::CrashOther, failed - reset - refused - closed);
        self.add(Figure::CrashAgain, after.retried as f64);
        let time = match recovery {
            Recovery::After(time) => millis(time),
            Recovery::TooLong => f64::INFINITY,
            Recovery::Failed => f64::NAN,
        };
        self.add(Figure::CrashRecovery, time);
        Ok(())
    }

    fn memory(&mut self, server: &Server<'_>) -> Result<()> {
        let mib =
            |bytes: Option<u64>| bytes.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20));
        let memory = mib(server.memory()?);
        self.add(Figure::MemoryStart, memory);
        let time = self.plan.duration / 2;
        let test = self.light(server).time(time).start()?;
        self.watch.pause(time * 3 / 4)?;
        let memory = mib(server.memory()?);
        let report = self.watch.finish(test)?;
        judge(&report)?;
        self.add(Figure::MemoryLoad, memory);
        self.add(Figure::MemoryFailed, report.total_errors as f64);
        Ok(())
    }

    fn startup(&mut self, server: &Server<'_>) -> Result<()> {
        let path = &self.plan.light;
        let status = server.ask(path, self.watch)?;
        let took = server.began().elapsed();
        if status >= 400 {
            return Err(Error::Failed(format!("{path} was answered by {status}")));
        }
        self.add(Figure::StartUp, millis(took));
        Ok(())
    }
}

/// A load test, and what the server did meanwhile.
struct Counted {
    report: Report,
    /// None where it cannot be told.
    cpu: Option<Duration>,
    fairness: f64,
}

impl Counted {
    /// In microseconds.
    fn cpu_a_request(&self) -> f64 {
        self.cpu.map_or(f64::NAN, micros) / good(&self.report) as f64
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_comparison_takes_a_few_minutes() {
        let plan = Plan {
            workloads: Workload::ALL.to_vec(),
            workers: 2,
            rounds: super::super::ROUNDS,
            duration: super::super::DURATION,
            light: "/".to_owned(),
            heavy: "/heavy".to_owned(),
        };
        let all = plan.expected_in_all();
        assert!(all > Duration::from_secs(60), "{all:?}");
        assert!(all < Duration::from_secs(240), "{all:?}");
        let half = Plan { rounds: 1, ..plan };
        assert_eq!(half.expected_in_all() * 3, all);
    }
}
