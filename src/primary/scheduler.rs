//! Which worker gets the next connection: decided in pure code.
//!
//! Owns the order of the round; leaves knowing the workers to its caller.

use crate::worker::WorkerId;
use std::fmt;
use std::str::FromStr;

/// Who accepts connections, and which worker gets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedulingPolicy {
    /// The primary accepts and deals them out in turn (Node's `SCHED_RR`): equal shares, and a
    /// worker that stands still is passed over.
    #[default]
    RoundRobin,
    /// Every worker accepts from the shared listener by itself (Node's `SCHED_NONE`): no work for
    /// the primary, and shares as the kernel wakes.
    Shared,
}

impl fmt::Display for SchedulingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "rr",
            Self::Shared => "shared",
        })
    }
}

impl FromStr for SchedulingPolicy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "rr" => Ok(Self::RoundRobin),
            "shared" => Ok(Self::Shared),
            _ => Err(format!("{word:?} is no policy (rr or shared)")),
        }
    }
}

/// A worker as the scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) id: WorkerId,
    /// How many connections it may be handed before it takes some.
    pub(super) room: usize,
    /// Its loop stands still: only if there is nobody else.
    pub(super) still: bool,
}

/// The round: everybody in turn.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    last: Option<WorkerId>,
}

impl RoundRobin {
    /// The index of the next worker in turn that has room, among `candidates` in the order of
    /// their ids. One that stands still is passed over while another has room.
    pub(super) fn pick(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let index = self
            .next(candidates, |one| one.room > 0 && !one.still)
            .or_else(|| self.next(candidates, |one| one.room > 0))?;
        self.last = Some(candidates[index].id);
        Some(index)
    }

    fn next(&self, candidates: &[Candidate], fit: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let start = candidates.partition_point(|one| Some(one.id) <= self.last);
        let count = candidates.len();
        (0..count)
            .map(|step| (start + step) % count)
            .find(|&index| fit(&candidates[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates from a line such as "1:2 4:0 5:1s": id, room, s for still.
    fn candidates(line: &str) -> Vec<Candidate> {
        let one = |word: &str| {
            let still = word.ends_with('s');
            let (id, room) = word.trim_end_matches('s').split_once(':').unwrap();
            Candidate {
                id: WorkerId(id.parse().unwrap()),
                room: room.parse().unwrap(),
                still,
            }
        };
        line.split_whitespace().map(one).collect()
    }

    /// Deals `count` connections and says who got them.
    fn deal(round: &mut RoundRobin, line: &str, count: usize) -> String {
        let mut candidates = candidates(line);
        let pick = |_| match round.pick(&candidates) {
            Some(index) => {
                candidates[index].room -= 1;
                candidates[index].id.to_string()
            }
            None => "-".to_owned(),
        };
        (0..count).map(pick).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_round() {
        let cases = [
            ("everybody in turn", "1:9 2:9 3:9", 5, "1 2 3 1 2"),
            ("no room, no turn", "1:9 2:0 3:9", 4, "1 3 1 3"),
            ("room runs out", "1:1 2:2 3:0", 4, "1 2 2 -"),
            ("still ones are passed over", "1:9 2:9s 3:9", 4, "1 3 1 3"),
            ("unless nobody else has room", "1:1 2:9s", 4, "1 2 2 2"),
            ("nobody", "", 1, "-"),
        ];
        for (name, line, count, expected) in cases {
            let dealt = deal(&mut RoundRobin::default(), line, count);
            assert_eq!(dealt, expected, "{name}");
        }
    }

    #[test]
    fn the_round_goes_on_where_it_was_when_workers_change() {
        let mut round = RoundRobin::default();
        assert_eq!(deal(&mut round, "1:9 2:9 3:9", 2), "1 2");
        assert_eq!(deal(&mut round, "1:9 3:9 4:9", 3), "3 4 1");
        assert_eq!(deal(&mut round, "5:9 6:9", 1), "5");
        assert_eq!(deal(&mut round, "5:9 6:9", 2), "6 5");
    }
}
