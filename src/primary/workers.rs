//! How many workers: from a user's words to a number and its reason.

use crate::board::MAX_WORKERS;
use crate::sys::cpu;
use std::fmt;
use std::str::FromStr;

/// How many workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU that this process may use, by affinity and cgroup quota.
    #[default]
    Max,
    /// One fewer than that, and at least one.
    MaxMinusOne,
    /// That share of them in percent, rounded down, and at least one.
    Percent(u32),
    /// So many.
    Count(usize),
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(words: &str) -> std::result::Result<Self, String> {
        let wrong = |why| format!("{words:?} is no number of workers: {why}");
        match words {
            "max" => return Ok(Self::Max),
            "max-1" => return Ok(Self::MaxMinusOne),
            _ => {}
        }
        if let Some(percent) = words.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 1..=1000) => Ok(Self::Percent(percent)),
                _ => Err(wrong("a share is from 1% to 1000%".to_owned())),
            };
        }
        match words.parse() {
            Ok(0) => Err(wrong("there must be at least one".to_owned())),
            Ok(count) if count <= MAX_WORKERS => Ok(Self::Count(count)),
            Ok(_) => Err(wrong(format!("at most {MAX_WORKERS}"))),
            Err(_) => Err(wrong(
                "a number, max, max-1 or a share such as 50%".to_owned(),
            )),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::MaxMinusOne => f.write_str("max-1"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl Workers {
    /// The number, and why that many.
    pub(crate) fn resolve(self, cpus: &cpu::Cpus) -> (usize, String) {
        let (count, how) = match self {
            Self::Max => (cpus.count, "max"),
            Self::MaxMinusOne => (cpus.count - 1, "max-1"),
            Self::Percent(percent) => (cpus.count * percent as usize / 100, "a share"),
            Self::Count(count) => return (count, "as asked".to_owned()),
        };
        let count = count.clamp(1, MAX_WORKERS);
        (count, format!("{how} of {}", cpus.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_workers() {
        let cpus = cpu::Cpus {
            count: 4,
            why: "4 CPUs".to_owned(),
        };
        let cases = [
            ("max", 4),
            ("max-1", 3),
            ("50%", 2),
            ("10%", 1),
            ("200%", 8),
            ("7", 7),
        ];
        for (words, expected) in cases {
            let workers: Workers = words.parse().unwrap();
            assert_eq!(workers.resolve(&cpus).0, expected, "{words}");
            assert_eq!(workers.to_string(), words);
        }
        for words in ["", "0", "-1", "1025", "x", "0%", "%", "max-2", "1.5"] {
            assert!(words.parse::<Workers>().is_err(), "{words}");
        }
    }
}
