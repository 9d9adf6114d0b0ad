//! What was measured, as values: each figure of each contestant, once a round. Pure.

use super::Contestant;
use crate::sorted::{SortedMap, sort_by};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is not answered by then is not answered: a visit of `/`.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// What the contestants are made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// `/` as fast as it goes, on connections that are kept.
    Hello,
    /// `/heavy` as fast as it goes, by two connections for each worker.
    Heavy,
    /// `/` at a steady rate, while `/heavy` keeps all workers busy.
    Mixed,
    /// `/` at a steady rate, while a worker is killed.
    Crash,
    /// How much memory they take.
    Memory,
    /// How long they take to begin.
    Startup,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Hello,
        Self::Heavy,
        Self::Mixed,
        Self::Crash,
        Self::Memory,
        Self::Startup,
    ];

    /// Its name, one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Heavy => "heavy",
            Self::Mixed => "mixed",
            Self::Crash => "crash",
            Self::Memory => "memory",
            Self::Startup => "startup",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.name() == word).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{word:?} is no workload ({names})")
        })
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Figure {
    HelloRate,
    HelloCpu,
    HelloP50,
    HelloP99,
    HelloFairness,
    HelloGenerator,
    HelloFailed,
    HeavyRate,
    HeavyCpu,
    HeavyCpus,
    HeavyFailed,
    MixedP50,
    MixedP99,
    MixedIdle,
    MixedFailed,
    MixedHeavy,
    MixedHeavyFailed,
    CrashSent,
    CrashFailed,
    CrashReset,
    CrashRefused,
    CrashClosed,
    CrashOther,
    CrashAgain,
    CrashRecovery,
    MemoryStart,
    MemoryLoad,
    MemoryFailed,
    StartUp,
}

/// How a figure is shown: its key in JSON, its name, in which `{light}` stands for a path, its unit.
pub(super) struct Shown {
    pub(super) key: &'static str,
    pub(super) label: &'static str,
    pub(super) unit: &'static str,
}

impl Figure {
    pub(super) const ALL: [Self; 29] = [
        Self::HelloRate,
        Self::HelloCpu,
        Self::HelloP50,
        Self::HelloP99,
        Self::HelloFairness,
        Self::HelloGenerator,
        Self::HelloFailed,
        Self::HeavyRate,
        Self::HeavyCpu,
        Self::HeavyCpus,
        Self::HeavyFailed,
        Self::MixedP50,
        Self::MixedP99,
        Self::MixedIdle,
        Self::MixedFailed,
        Self::MixedHeavy,
        Self::MixedHeavyFailed,
        Self::CrashSent,
        Self::CrashFailed,
        Self::CrashReset,
        Self::CrashRefused,
        Self::CrashClosed,
        Self::CrashOther,
        Self::CrashAgain,
        Self::CrashRecovery,
        Self::MemoryStart,
        Self::MemoryLoad,
        Self::MemoryFailed,
        Self::StartUp,
    ];

    pub(super) const fn shown(self) -> Shown {
        let (key, label, unit) = match self {
            Self::HelloRate => ("hello_rps", "requests a second", "1/s"),
            Self::HelloCpu => ("hello_cpu_us", "CPU a request", "µs"),
            Self::HelloP50 => ("hello_p50_us", "p50", "µs"),
            Self::HelloP99 => ("hello_p99_us", "p99", "µs"),
            Self::HelloFairness => ("hello_jain", "fairness over workers (Jain)", ""),
            Self::HelloGenerator => ("hello_generator_cpus", "the generator's CPUs", ""),
            Self::HelloFailed => ("hello_failed", "requests failed", ""),
            Self::HeavyRate => ("heavy_rps", "requests a second", "1/s"),
            Self::HeavyCpu => ("heavy_cpu_us", "CPU a request", "µs"),
            Self::HeavyCpus => ("heavy_cpus", "CPUs in use, the generator's too", ""),
            Self::HeavyFailed => ("heavy_failed", "requests failed", ""),
            Self::MixedP50 => ("mixed_p50_ms", "p50 of {light} while heavy is busy", "ms"),
            Self::MixedP99 => ("mixed_p99_ms", "p99 of {light} while heavy is busy", "ms"),
            Self::MixedIdle => ("mixed_idle_p99_ms", "p99 of {light} alone", "ms"),
            Self::MixedFailed => ("mixed_failed", "requests failed", ""),
            Self::MixedHeavy => ("mixed_heavy_rps", "heavy requests a second", "1/s"),
            Self::MixedHeavyFailed => ("mixed_heavy_failed", "heavy requests failed", ""),
            Self::CrashSent => ("crash_requests", "requests", ""),
            Self::CrashFailed => ("crash_failed", "requests failed", ""),
            Self::CrashReset => ("crash_reset", "  connection reset", ""),
            Self::CrashRefused => ("crash_refused", "  connection refused", ""),
            Self::CrashClosed => ("crash_closed", "  connection closed", ""),
            Self::CrashOther => ("crash_other", "  otherwise", ""),
            Self::CrashAgain => ("crash_sent_again", "requests sent again", ""),
            Self::CrashRecovery => ("crash_recovery_ms", "time to full strength", "ms"),
            Self::MemoryStart => ("memory_start_mib", "PSS at start", "MiB"),
            Self::MemoryLoad => ("memory_load_mib", "PSS under load", "MiB"),
            Self::MemoryFailed => ("memory_failed", "requests failed", ""),
            Self::StartUp => ("startup_ms", "start to first answer", "ms"),
        };
        Shown { key, label, unit }
    }

    /// Past which value nothing is told apart: for those that wait it is how long they do, for those
    /// that recover there is no value then.
    pub(super) fn limit(self) -> Option<(f64, &'static str)> {
        let visit = TIMEOUT.as_secs_f64();
        match self {
            Self::HelloP50 | Self::HelloP99 => Some((visit * 1e6, "5 s")),
            Self::MixedP50 | Self::MixedP99 | Self::MixedIdle => Some((visit * 1e3, "5 s")),
            Self::CrashRecovery => Some((f64::INFINITY, "30 s")),
            _ => None,
        }
    }

    /// Whether it counts what may never happen; then it has no line.
    pub(super) const fn is_rare(self) -> bool {
        matches!(
            self,
            Self::HelloFailed
                | Self::HeavyFailed
                | Self::MixedFailed
                | Self::MixedHeavyFailed
                | Self::MemoryFailed
                | Self::CrashReset
                | Self::CrashRefused
                | Self::CrashClosed
                | Self::CrashOther
                | Self::CrashAgain
        )
    }

    /// Which workload shows it.
    pub(super) const fn workload(self) -> Workload {
        match self {
            Self::HelloRate
            | Self::HelloCpu
            | Self::HelloP50
            | Self::HelloP99
            | Self::HelloFairness
            | Self::HelloGenerator
            | Self::HelloFailed => Workload::Hello,
            Self::HeavyRate | Self::HeavyCpu | Self::HeavyCpus | Self::HeavyFailed => {
                Workload::Heavy
            }
            Self::MixedP50
            | Self::MixedP99
            | Self::MixedIdle
            | Self::MixedFailed
            | Self::MixedHeavy
            | Self::MixedHeavyFailed => Workload::Mixed,
            Self::CrashSent
            | Self::CrashFailed
            | Self::CrashReset
            | Self::CrashRefused
            | Self::CrashClosed
            | Self::CrashOther
            | Self::CrashAgain
            | Self::CrashRecovery => Workload::Crash,
            Self::MemoryStart | Self::MemoryLoad | Self::MemoryFailed => Workload::Memory,
            Self::StartUp => Workload::Startup,
        }
    }
}

/// The values of one figure: the middle one and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) count: usize,
}

impl Spread {
    /// None of nothing, and where most values were not to be had.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let had = values.iter().copied().filter(|value| !value.is_nan());
        let mut sorted: Vec<_> = had.collect();
        if sorted.len() * 2 < values.len() {
            return None;
        }
        sort_by(&mut sorted, f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len();
        // Of an even number, between the two in the middle.
        let median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        Some(Self {
            median,
            min,
            max,
            count,
        })
    }
}

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures(SortedMap<(Figure, Contestant), Vec<f64>>);

impl Figures {
    /// One more value: no number where it was not to be had, infinite where it was more than can be told.
    pub(super) fn add(&mut self, figure: Figure, contestant: Contestant, value: f64) {
        let values = self.0.get_or_default((figure, contestant));
        values.push(value);
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, in the order of the rounds.
    pub(super) fn values(&self, figure: Figure, contestant: Contestant) -> &[f64] {
        let values = self.0.get(&(figure, contestant));
        values.map_or(&[], Vec::as_slice)
    }

    pub(super) fn spread(&self, figure: Figure, contestant: Contestant) -> Option<Spread> {
        Spread::of(self.values(figure, contestant))
    }

    /// Whether any contestant has a value for it.
    pub(super) fn has(&self, figure: Figure) -> bool {
        Contestant::ALL
            .iter()
            .any(|one| self.spread(figure, *one).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles() {
        let of = |values: &[f64]| {
            Spread::of(values).map(|found| (found.median, found.min, found.max, found.count))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[5.0]), Some((5.0, 5.0, 5.0, 1)));
        assert_eq!(of(&[9.0, 1.0, 2.0]), Some((2.0, 1.0, 9.0, 3)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some((3.0, 1.0, 9.0, 4)));
        let (none, more) = (f64::NAN, f64::INFINITY);
        assert_eq!(of(&[none, none, 1.0]), None);
        assert_eq!(of(&[none, 3.0, 1.0]), Some((2.0, 1.0, 3.0, 2)));
        assert_eq!(of(&[more, 3.0, more]), Some((more, 3.0, more, 3)));
        assert_eq!(of(&[more, 3.0, 1.0]), Some((3.0, 1.0, more, 3)));
    }

    #[test]
    fn names_are_read_and_keys_are_different() {
        for workload in Workload::ALL {
            assert_eq!(workload.name().parse(), Ok(workload));
        }
        let why = "hallo".parse::<Workload>().unwrap_err();
        assert!(why.contains("\"hallo\"") && why.contains("crash"), "{why}");
        let keys: std::collections::BTreeSet<_> =
            Figure::ALL.iter().map(|one| one.shown().key).collect();
        assert_eq!(keys.len(), Figure::ALL.len());
        for figure in Figure::ALL {
            let prefix = figure.workload().name();
            assert!(figure.shown().key.starts_with(prefix), "{prefix}");
        }
    }

    #[test]
    fn what_was_not_to_be_had_is_not_there() {
        let mut figures = Figures::default();
        figures.add(Figure::MemoryStart, Contestant::One, f64::NAN);
        assert!(!figures.has(Figure::MemoryStart));
        figures.add(Figure::MemoryStart, Contestant::One, 2.0);
        assert_eq!(
            figures.values(Figure::MemoryStart, Contestant::One).len(),
            2
        );
        assert!(figures.has(Figure::MemoryStart));
    }
}
