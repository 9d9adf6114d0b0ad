//! Dealing among the workers that have room, and taking back what one that stands still has not
//! taken.
//!
//! Owns who is a candidate for what; leaves choosing one to `scheduler`, and when to do so to `deal`.

use super::super::hands::Arrival;
use super::super::rendezvous::Affinity;
use super::super::scheduler::{Candidate, Choice, Round, SchedulingPolicy};
use super::{Member, Members, STANDSTILL};
use crate::sorted::SortedSet;
use crate::worker::WorkerId;
use std::collections::VecDeque;
use std::time::Instant;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::primary) struct Bounds {
    /// Of one worker.
    pub(in crate::primary) open: usize,
    /// That wait for one.
    pub(in crate::primary) patient: usize,
}

impl Member {
    fn has_untaken(&mut self) -> bool {
        self.hand.settle(&self.slot);
        self.hand.waiting_since().is_some()
    }
}

impl Members {
    /// How many connections of `listener` those that listen there may be handed together, if they
    /// will have `more` beside these.
    pub(in crate::primary) fn room(
        &mut self,
        limit: usize,
        listener: u32,
        more: usize,
        now: Instant,
    ) -> usize {
        let (mut hands, mut free) = (0, 0_usize);
        for member in self.0.values_mut() {
            if member.takes(listener, now) {
                member.hand.settle(&member.slot);
                let room = member.room(limit);
                hands += room;
                if room > 0 {
                    free = free.saturating_add(limit.saturating_sub(member.open()));
                }
            }
        }
        hands.min(free.saturating_sub(more))
    }

    /// Whether somebody listens at both of these listeners, so that connections of one take room
    /// of the other.
    pub(in crate::primary) fn meet(&self, one: u32, other: u32) -> bool {
        let listens =
            |member: &Member| member.listens.contains(&one) && member.listens.contains(&other);
        one == other || self.0.values().any(listens)
    }

    /// The listeners whose connections somebody may be handed.
    pub(in crate::primary) fn listeners_with_room(
        &self,
        limit: usize,
        now: Instant,
    ) -> SortedSet<u32> {
        let with_room = self.0.values().filter(|member| member.room(limit) > 0);
        let listeners = with_room.flat_map(|member| {
            let listens = member.listens.iter().copied();
            listens.filter(move |number| member.takes(*number, now))
        });
        listeners.collect()
    }

    /// When the first of those has rested that have refused a connection, of `listener` or of any;
    /// forgets who has.
    pub(in crate::primary) fn rested_at(
        &mut self,
        listener: Option<u32>,
        now: Instant,
    ) -> Option<Instant> {
        let all = self.0.values_mut().flat_map(|member| {
            member.rests.retain(|_, until| *until > now);
            member.rests.iter()
        });
        let of_it = all.filter(|(number, _)| listener.is_none_or(|one| one == **number));
        of_it.map(|(_, until)| *until).min()
    }

    /// Whether any of them was handed something that it has not taken.
    pub(in crate::primary) fn any_untaken(&mut self) -> bool {
        self.0.values_mut().any(Member::has_untaken)
    }

    /// The same, of those from whom it can be taken back: nothing is from a program that lives.
    pub(in crate::primary) fn any_to_take_back(&mut self) -> bool {
        let mut own = self.0.values_mut().filter(|member| !member.is_program());
        own.any(Member::has_untaken)
    }

    /// Whether somebody's handlers are at work beside its loop.
    pub(in crate::primary) fn any_computing(&self) -> bool {
        self.0.values().any(|member| member.slot.in_flight() > 0)
    }

    /// Takes back what workers that stand still have not taken, if another could take it.
    /// Where they are `sticky`, those that belong to one stay with it, unless it goes or there is
    /// a successor.
    pub(in crate::primary) fn take_back(&mut self, sticky: bool, now: Instant) -> Vec<Arrival> {
        let mut back = Vec::new();
        let serving = self.0.values().filter(|member| member.serves(now));
        let heirs: Vec<_> = serving.map(|member| (member.place, member.id)).collect();
        if heirs.is_empty() {
            return back;
        }
        for member in self.0.values_mut().filter(|one| !one.is_program()) {
            member.hand.settle(&member.slot);
            let waits = member.hand.waiting_since();
            if waits.is_some_and(|since| now.saturating_duration_since(since) >= STANDSTILL) {
                // Until it moves again it is not worth another try.
                member.still_at = Some(member.slot.turns());
                let heir = |heir: &(usize, WorkerId)| heir.0 == member.place && heir.1 > member.id;
                let stay = sticky && !member.leaving && !heirs.iter().any(heir);
                if stay && !member.hand.has_free() {
                    continue;
                }
                let taken = member.hand.take_back(&member.slot);
                log::debug!("{member} stands still: {} connections go on", taken.len());
                back.extend(taken);
            }
        }
        back
    }

    /// Deals `waiting`, as far as there is room at workers that listen where each came in. So many
    /// as are `patient` wait for the one whose they are, if it has much to take.
    pub(in crate::primary) fn deal(
        &mut self,
        waiting: &mut VecDeque<Arrival>,
        round: &mut Round,
        policy: &SchedulingPolicy,
        bounds: Bounds,
        now: Instant,
    ) {
        let Bounds { open, patient } = bounds;
        let mut members: Vec<&mut Member> = self.0.values_mut().collect();
        let mut candidates: Vec<Candidate> = members
            .iter_mut()
            .map(|member| {
                member.hand.settle(&member.slot);
                Candidate {
                    id: member.id,
                    place: member.place,
                    room: member.room(open),
                    open: member.open(),
                    most: member.most(open),
                    still: member.stands_still(now),
                }
            })
            .collect();
        let mut room: usize = candidates.iter().map(|one| one.room).sum();
        let mut piles: Vec<Vec<Arrival>> = members.iter().map(|_| Vec::new()).collect();
        let (mut left, mut late) = (Vec::new(), 0);
        while room > 0
            && let Some(mut arrival) = waiting.pop_front()
        {
            let listens = |index: usize| members[index].takes(arrival.listener, now);
            let patient = late < patient;
            arrival.late = false;
            match round.pick(&candidates, policy, arrival.affinity, patient, listens) {
                Choice::Who(index) => {
                    let named = arrival.affinity.and_then(Affinity::place);
                    arrival.handed.strayed =
                        named.is_some_and(|place| place != candidates[index].place);
                    candidates[index].room -= 1;
                    candidates[index].open += 1;
                    room -= 1;
                    piles[index].push(arrival);
                }
                Choice::Later => {
                    late += 1;
                    arrival.late = true;
                    left.push(arrival);
                }
                Choice::Nobody => left.push(arrival),
            }
        }
        for arrival in left.into_iter().rev() {
            waiting.push_front(arrival);
        }
        for (member, pile) in members.iter_mut().zip(piles) {
            if pile.is_empty() {
                continue;
            }
            // What one could not be handed is offered to all again, before what came later.
            for arrival in member.hand_over(pile, now).into_iter().rev() {
                waiting.push_front(arrival);
            }
        }
    }
}
