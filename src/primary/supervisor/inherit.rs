//! What a supervisor leaves to one in the next program.

use super::{Occupant, Step, Supervisor};
use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// A worker, by the times of whoever reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::primary) struct Record {
    pub(in crate::primary) id: u32,
    pub(in crate::primary) place: usize,
    pub(in crate::primary) generation: u32,
    /// Microseconds since its fork.
    pub(in crate::primary) age: u64,
    ready: bool,
    /// Microseconds that it has left to finish, if it goes; whether it was told.
    leaving: Option<(u64, bool)>,
    worn: bool,
    killed: bool,
}

impl Supervisor {
    /// One worker as it is at `now`.
    pub(in crate::primary) fn record(&self, id: WorkerId, now: Instant) -> Option<Record> {
        let one = self.occupants.get(&id)?;
        let micros = |time: Duration| time.as_micros() as u64;
        Some(Record {
            id: id.0,
            place: one.place,
            generation: one.generation,
            age: micros(now.saturating_duration_since(one.since)),
            ready: one.step == Step::Ready,
            leaving: match one.step {
                Step::Leaving { deadline, told } => {
                    let left = deadline.saturating_duration_since(now);
                    Some((micros(left), told))
                }
                Step::Starting | Step::Ready => None,
            },
            worn: one.worn,
            killed: one.killed,
        })
    }

    /// Goes on with the workers of another; `wanted` is how many there should be, where that is not
    /// the settings' matter.
    pub(in crate::primary) fn resume(
        &mut self,
        records: impl Iterator<Item = Record>,
        wanted: Option<usize>,
        generation: u32,
        last_id: u32,
        now: Instant,
    ) {
        self.generation = generation;
        self.ever_ready = true;
        self.last_id.set(last_id.max(self.last_id.get()));
        if let Some(wanted) = wanted.filter(|_| self.managed) {
            self.wanted = wanted;
        }
        for record in records {
            let step = match record.leaving {
                Some((left, told)) => Step::Leaving {
                    deadline: now + Duration::from_micros(left),
                    told,
                },
                None if record.ready => Step::Ready,
                None => Step::Starting,
            };
            let age = Duration::from_micros(record.age);
            let occupant = Occupant {
                place: record.place,
                generation: record.generation,
                since: now.checked_sub(age).unwrap_or(now),
                step,
                worn: record.worn,
                killed: record.killed,
                stuck: false,
                abandoned: false,
                launched: true,
            };
            self.places.get_or_default(record.place);
            self.occupants.insert(WorkerId(record.id), occupant);
        }
    }
}
