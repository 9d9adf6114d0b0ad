//! What each workload does to a contestant, and which figures come of it.
//!
//! Each measurement has a server of its own, started for it and stopped after it, so that none finds
//! what another left behind.

use super::figures::{Figure, Figures, Workload};
use super::server::{Directory, Server, fairness};
use super::setup::{Contestant, Setup};
use super::watch::{Watch, start};
use crate::loadtest::{Loadtest, Report, Trouble};
use crate::{Error, Result};
use std::time::{Duration, Instant};

/// Connections of `hello`, `crash` and of what `mixed` asks for `/`.
const CONNECTIONS: usize = 32;

/// Requests a second for `/` of `mixed`: few, as somebody looks at a page.
const MIXED_RATE: f64 = 100.0;

/// Requests a second of `crash`: enough to meet a hole of some milliseconds.
const CRASH_RATE: f64 = 1000.0;

/// What is not answered by then is not answered.
const TIMEOUT: Duration = Duration::from_secs(5);

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
            Workload::Mixed => self.duration * 3 / 2,
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
}

/// Measures everything, in alternating rounds.
///
/// # Errors
///
/// When a contestant does not start or does not answer well, and when a signal ends it.
pub(super) fn measure(plan: &Plan, watch: &mut Watch<'_>) -> Result<Found> {
    let directory = Directory::new()?;
    let mut found = Found::default();
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
                let mut run = Run {
                    plan,
                    directory: &directory,
                    setup: Setup::of(contestant, plan.workers),
                    watch,
                    found: &mut found,
                };
                run.one(*workload)?;
            }
        }
    }
    watch.end();
    Ok(found)
}

/// One workload on one contestant.
struct Run<'a, 'b> {
    plan: &'a Plan,
    directory: &'a Directory,
    setup: Setup,
    watch: &'a mut Watch<'b>,
    found: &'a mut Found,
}

impl Run<'_, '_> {
    fn one(&mut self, workload: Workload) -> Result<()> {
        match workload {
            Workload::Hello => self.hello(),
            Workload::Heavy => self.heavy(),
            Workload::Mixed => self.mixed(),
            Workload::Crash => self.crash(),
            Workload::Memory => self.memory(),
            Workload::Startup => self.startup(),
        }
    }

    fn add(&mut self, figure: Figure, value: f64) {
        let contestant = self.setup.contestant();
        self.found.figures.add(figure, contestant, value);
    }

    fn server(&mut self) -> Result<Server> {
        Server::start(self.setup, self.directory, self.watch)
    }

    /// Load on `/`.
    fn light(&self, server: &Server) -> Loadtest {
        Loadtest::new(&server.url(&self.plan.light))
            .concurrency(CONNECTIONS)
            .keep_alive(true)
            .time(self.plan.duration)
    }

    /// Load on `/heavy`: two connections for each worker of those that have several, one at work and one
    /// waiting, the same for all contestants.
    fn load(&self, server: &Server) -> Loadtest {
        Loadtest::new(&server.url(&self.plan.heavy))
            .concurrency(2 * self.plan.workers)
            .keep_alive(true)
            .time(self.plan.duration)
    }

    /// Runs what counts, after a while that does not.
    fn count(&mut self, server: &Server, test: Loadtest, workload: Workload) -> Result<Counted> {
        let warm_up = test.clone().time(self.plan.warm_up());
        self.watch.run(warm_up)?;
        let (before, cpu) = (server.answers()?, server.cpu()?);
        let report = self.watch.run(test)?;
        let cpu = server.cpu()?.saturating_sub(cpu);
        let fairness = fairness(&before, &server.answers()?);
        self.judge(&report, workload)?;
        Ok(Counted {
            report,
            cpu,
            fairness,
        })
    }

    /// Whether that was a test of the application at all.
    fn judge(&mut self, report: &Report, workload: Workload) -> Result<()> {
        let contestant = self.setup.contestant();
        let good = report.completed.saturating_sub(report.total_errors);
        if good * 2 < report.completed || good == 0 {
            let (bad, all, url) = (report.total_errors, report.completed, &report.url);
            return Err(Error::Failed(format!(
                "{workload}, {contestant}: {bad} of {all} requests for {url} went wrong"
            )));
        }
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
        Ok(())
    }

    fn hello(&mut self) -> Result<()> {
        let server = self.server()?;
        let counted = self.count(&server, self.light(&server), Workload::Hello)?;
        let report = &counted.report;
        self.add(Figure::HelloRate, report.effective_rps);
        self.add(Figure::HelloCpu, counted.cpu_a_request());
        self.add(Figure::HelloP50, micros(report.latency.quantile(0.5)));
        self.add(Figure::HelloP99, micros(report.latency.quantile(0.99)));
        self.add(Figure::HelloFairness, counted.fairness);
        let cpus = report.generator.cpu.as_secs_f64() / report.elapsed.as_secs_f64();
        self.add(Figure::HelloGenerator, cpus);
        server.stop();
        Ok(())
    }

    fn heavy(&mut self) -> Result<()> {
        let server = self.server()?;
        let counted = self.count(&server, self.load(&server), Workload::Heavy)?;
        self.add(Figure::HeavyRate, counted.report.effective_rps);
        self.add(Figure::HeavyCpu, counted.cpu_a_request());
        server.stop();
        Ok(())
    }

    fn mixed(&mut self) -> Result<()> {
        let server = self.server()?;
        // A connection each, as visitors come: so every worker has its part of them.
        let visits = self.light(&server).keep_alive(false).rate(MIXED_RATE);
        let visits = visits.timeout(TIMEOUT);
        let alone = visits.clone().time(self.plan.duration / 2);
        let alone = self.watch.run(alone)?;
        // Longer than the visits; it is stopped after them.
        let heavy = self.load(&server).time(self.plan.duration + 2 * TIMEOUT);
        let heavy = start(heavy)?;
        self.watch.pause(self.plan.warm_up())?;
        let busy = self.watch.run(visits)?;
        heavy.stop();
        let heavy = self.watch.finish(heavy)?;
        self.judge(&heavy, Workload::Mixed)?;
        self.judge(&busy, Workload::Mixed)?;
        self.add(Figure::MixedP50, millis(busy.felt().quantile(0.5)));
        self.add(Figure::MixedP99, millis(busy.felt().quantile(0.99)));
        self.add(Figure::MixedIdle, millis(alone.felt().quantile(0.99)));
        self.add(Figure::MixedHeavy, heavy.effective_rps);
        server.stop();
        Ok(())
    }

    fn crash(&mut self) -> Result<()> {
        let mut server = self.server()?;
        let test = self.light(&server).rate(CRASH_RATE).timeout(TIMEOUT);
        let test = start(test)?;
        self.watch.pause(self.plan.duration / 2)?;
        let victim = server.crash()?;
        let recovery = server.recover(victim, self.watch)?;
        let report = self.watch.finish(test)?;
        let of = |trouble| report.errors.of(trouble) as f64;
        let (reset, refused) = (of(Trouble::Reset), of(Trouble::Refused));
        let (closed, failed) = (of(Trouble::Closed), report.total_errors as f64);
        self.add(Figure::CrashSent, report.completed as f64);
        self.add(Figure::CrashFailed, failed);
        self.add(Figure::CrashReset, reset);
        self.add(Figure::CrashRefused, refused);
        self.add(Figure::CrashClosed, closed);
        self.add(Figure::CrashOther, failed - reset - refused - closed);
        self.add(Figure::CrashAgain, report.retried as f64);
        if let Some(time) = recovery {
            self.add(Figure::CrashRecovery, millis(time));
        }
        server.stop();
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        let server = self.server()?;
        let mib =
            |bytes: Option<u64>| bytes.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20));
        let memory = mib(server.memory()?);
        self.add(Figure::MemoryStart, memory);
        let time = self.plan.duration / 2;
        let test = start(self.light(&server).time(time))?;
        self.watch.pause(time * 3 / 4)?;
        let memory = mib(server.memory()?);
        self.add(Figure::MemoryLoad, memory);
        let report = self.watch.finish(test)?;
        self.judge(&report, Workload::Memory)?;
        server.stop();
        Ok(())
    }

    fn startup(&mut self) -> Result<()> {
        for _ in 0..STARTS {
            let began = Instant::now();
            let server = self.server()?;
            server.ask(&self.plan.light)?;
            self.add(Figure::StartUp, millis(began.elapsed()));
            server.stop();
            self.watch.tick()?;
        }
        Ok(())
    }
}

/// A load test, and what the server did meanwhile.
struct Counted {
    report: Report,
    cpu: Duration,
    fairness: f64,
}

impl Counted {
    /// In microseconds.
    fn cpu_a_request(&self) -> f64 {
        micros(self.cpu) / self.report.answered() as f64
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
