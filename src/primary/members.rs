//! The primary's view of its workers.
//!
//! Owns who is there, what each was handed and told, and dealing among those that have room;
//! leaves when to do so to the loop.

use super::handle::WorkerHandle;
use super::hands::{Arrival, Hand};
use super::rendezvous::Affinity;
use super::scheduler::{Candidate, Choice, Round, SchedulingPolicy};
use super::vessel::{Carrier, Exit};
use crate::board::Slot;
use crate::ipc::user::{Inbox, Outbox};
use crate::ipc::{Channel, HAND_BYTES, Message, Received, is_gone};
use crate::metrics;
use crate::net::deregister;
use crate::sys::socket;
use crate::worker::WorkerId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A worker whose loop has been in one turn for longer, or that has left a connection untaken for
/// longer, stands still: it is passed over, and what it has not taken goes to others.
pub(super) const STANDSTILL: Duration = Duration::from_millis(200);

/// One worker.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: WorkerId,
    pub(super) place: usize,
    pub(super) generation: u32,
    pub(super) carrier: Carrier,
    /// What the application sees of it.
    pub(super) handle: WorkerHandle,
    /// The numbers of the listeners that it listens on.
    pub(super) listens: BTreeSet<u32>,
    /// It listens on all that the settings name.
    pub(super) ready: bool,
    /// When it was launched.
    pub(super) since: Instant,
    /// It goes, and is dealt nothing new.
    pub(super) leaving: bool,
    pub(super) channel: Channel,
    /// It was told to go while messages for it were waiting, and will be told when they are out;
    /// with what else was said then.
    pub(super) owes_last_word: Option<bool>,
    /// Its end of the channel is closed.
    pub(super) hung_up: bool,
    /// Nothing can be said to it any more.
    deaf: bool,
    /// It stood still when its loop had made so many turns.
    pub(super) still_at: Option<u64>,
    /// How many turns its loop had made when that number was last seen to change.
    pub(super) beat: (u64, Instant),
    /// How often an idle loop of it turns, if it does.
    pub(super) heartbeat: Option<Duration>,
    /// Its process has been waited for: its number may be another's by now.
    pub(super) buried: bool,
    /// Pieces of the application's messages that it has not been told are consumed.
    pub(super) owed: u32,
    /// That it stands still has been said.
    pub(super) stuck: bool,
    pub(super) slot: Slot,
    /// The number of that slot.
    pub(super) number: usize,
    pub(super) hand: Hand,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (pid {})", self.id, self.carrier.pid())
    }
}

/// What a new member starts with.
#[derive(Debug)]
pub(super) struct Recruit {
    pub(super) id: WorkerId,
    pub(super) place: usize,
    pub(super) generation: u32,
    pub(super) handle: WorkerHandle,
    pub(super) channel: Channel,
    pub(super) slot: Slot,
    pub(super) heartbeat: Option<Duration>,
}

impl Member {
    pub(super) fn new(recruit: Recruit, number: usize, carrier: Carrier, now: Instant) -> Self {
        Self {
            id: recruit.id,
            place: recruit.place,
            generation: recruit.generation,
            carrier,
            handle: recruit.handle,
            listens: BTreeSet::new(),
            ready: false,
            since: now,
            leaving: false,
            channel: recruit.channel,
            owes_last_word: None,
            hung_up: false,
            deaf: false,
            still_at: None,
            beat: (0, now),
            heartbeat: recruit.heartbeat,
            buried: false,
            owed: 0,
            stuck: false,
            slot: recruit.slot,
            number,
            hand: Hand::default(),
            outbox: Outbox::default(),
            inbox: Inbox::default(),
        }
    }

    /// Reads what it says.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        self.channel.receive(buffer)
    }

    /// Its end of the channel is closed: it is gone, or about to be.
    pub(super) fn hung_up(&mut self, registry: &mio::Registry) {
        self.hung_up = true;
        // The end stays readable, so the loop must not be told of it again.
        if let Err(error) = deregister(registry, &self.channel) {
            log::error!("{self} cannot be forgotten: {error}");
        }
    }

    pub(super) fn say(&mut self, message: &Message) {
        self.say_with(message, &[]);
    }

    pub(super) fn say_with(&mut self, message: &Message, with: &[BorrowedFd<'_>]) {
        if let Err(error) = self.channel.send(message, with) {
            log::debug!("{self} does not hear {message:?}: {error}");
        }
    }

    /// Says how many pieces of the application's messages have been consumed, if there is room to
    /// say anything: one that says much and hears nothing must not make its primary grow.
    pub(super) fn acknowledge(&mut self) {
        if self.owed > 0 && !self.channel.has_unsent() {
            let pieces = std::mem::take(&mut self.owed);
            self.say(&Message::Took(pieces));
        }
    }

    /// Sends as much of the application's messages as may be under way.
    pub(super) fn send_pieces(&mut self) {
        while let Some(piece) = self.outbox.next_piece() {
            self.say(&Message::Data(piece));
        }
        if self.outbox.awaited() == 0
            && let Some(hand_back) = self.owes_last_word.take()
        {
            let more = false;
            self.say(&Message::Disconnect { hand_back, more });
        }
    }

    /// Logs what it has done by its own account.
    pub(super) fn log_figures(&self) {
        let (counters, _) = self.slot.read();
        let micros = |q| metrics::quantile(&counters.latency, q).unwrap_or(0);
        log::info!(
            "worker {} took {} connections and answered {} requests, p50 {} µs, p99 {} µs",
            self.id,
            counters.connections,
            counters.requests,
            micros(0.5),
            micros(0.99),
        );
    }

    /// It goes by somebody's will, and is dealt nothing new.
    pub(super) fn leaves(&mut self) {
        self.handle.set_leaving();
        self.leaving = true;
    }

    /// Tells it to finish what it has, its hand included, and to go. It stays for the application's
    /// messages that it has yet to get, and for nothing that all are told.
    pub(super) fn disconnect(&mut self, hand_back: bool) {
        self.leaves();
        let more = self.outbox.awaited() > 0;
        self.owes_last_word = more.then_some(hand_back);
        self.say(&Message::Disconnect { hand_back, more });
    }

    /// Whether its loop stands still at `now`.
    pub(super) fn stands_still(&self, now: Instant) -> bool {
        let too_long = STANDSTILL.as_millis() as u64;
        if self
            .still_at
            .is_some_and(|turns| turns == self.slot.turns())
        {
            return true;
        }
        let busy = self.slot.busy_for_ms(now).is_some_and(|ms| ms >= too_long);
        let untaken = self.hand.waiting_since();
        busy || untaken.is_some_and(|since| now.saturating_duration_since(since) >= STANDSTILL)
    }

    /// Whether it accepts, or would, at `now`.
    pub(super) fn serves(&self, now: Instant) -> bool {
        self.ready && !self.leaving && !self.hung_up && !self.stands_still(now)
    }

    /// Connections that are its own, or are on their way to it.
    fn open(&self) -> usize {
        (self.slot.open() as usize).saturating_add(self.hand.len())
    }

    /// How many connections it may have, if the settings say `limit`.
    fn most(&self, limit: usize) -> usize {
        let takes = self.ready && !self.leaving && !self.hung_up && !self.deaf;
        if takes { limit } else { 0 }
    }

    /// How many connections it may be handed, if it may have `limit` open.
    fn room(&self, limit: usize) -> usize {
        let free = self.most(limit).saturating_sub(self.open());
        self.hand.room().min(free)
    }

    /// Hands it `pile`; gives back what it could not be handed.
    fn hand_over(&mut self, mut pile: Vec<Arrival>, now: Instant) -> Vec<Arrival> {
        while let Some(first) = pile.first() {
            let listener = first.listener;
            let mut bytes = 0;
            let together = pile.iter().take_while(|arrival| {
                bytes += arrival.handed.bytes.len();
                arrival.listener == listener && bytes <= HAND_BYTES
            });
            let count = together.count().max(1);
            let hand = pile[..count].iter();
            let message = Message::Newconn {
                listener,
                hand: hand.clone().map(|arrival| arrival.handed.clone()).collect(),
            };
            let sockets: Vec<_> = hand.map(|arrival| arrival.socket.as_fd()).collect();
            match self.channel.try_send(&message, &sockets) {
                Ok(()) => self.hand.add(pile.drain(..count), now),
                Err(error) => {
                    // What else can fail passes: no room, or too many descriptors under way.
                    self.deaf |= is_gone(&error);
                    if !socket::would_block(&error) {
                        log::debug!("{self} takes no connections: {error}");
                    }
                    return pile;
                }
            }
        }
        pile
    }
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of one worker.
    pub(super) open: usize,
    /// That wait for one.
    pub(super) patient: usize,
}

/// All workers, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Members(BTreeMap<WorkerId, Member>);

impl Members {
    pub(super) fn add(&mut self, member: Member) {
        self.0.insert(member.id, member);
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Member> {
        self.0.remove(&id)
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Member> {
        self.0.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Member> {
        self.0.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Member> {
        self.0.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.0.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends all of them, for a primary that gives up.
    pub(super) fn kill_all(&mut self) {
        for member in self.0.values() {
            if let Err(error) = member.carrier.kill() {
                log::debug!("{member}: {error}");
            }
        }
    }

    /// Those that have ended since the last call, and how; but for those that have yet to be heard.
    pub(super) fn ended(&mut self, unheard: &BTreeSet<WorkerId>) -> Vec<(WorkerId, Exit)> {
        let heard = self.0.values_mut().filter(|one| !unheard.contains(&one.id));
        let ended = heard.filter_map(|member| {
            let exit = match member.carrier.try_wait(member.hung_up) {
                Ok(exit) => exit?,
                Err(error) => Exit::Failed(format!("an unknown cause: {error}")),
            };
            Some((member.id, exit))
        });
        ended.collect()
    }

    /// How many connections of `listener` those that listen there may be handed together, if they
    /// will have `more` beside these.
    pub(super) fn room(&mut self, limit: usize, listener: u32, more: usize) -> usize {
        let (mut hands, mut free) = (0, 0_usize);
        for member in self.0.values_mut() {
            if member.listens.contains(&listener) {
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
    pub(super) fn meet(&self, one: u32, other: u32) -> bool {
        let listens =
            |member: &Member| member.listens.contains(&one) && member.listens.contains(&other);
        one == other || self.0.values().any(listens)
    }

    /// The listeners whose connections somebody may be handed.
    pub(super) fn listeners_with_room(&self, limit: usize) -> BTreeSet<u32> {
        let with_room = self.0.values().filter(|member| member.room(limit) > 0);
        with_room
            .flat_map(|member| member.listens.iter().copied())
            .collect()
    }

    /// Sends what some of them had no room for before; whether anything still waits.
    pub(super) fn flush(&mut self) -> bool {
        let mut unsent = false;
        for member in self
            .0
            .values_mut()
            .filter(|member| member.channel.has_unsent() || member.owed > 0)
        {
            match member.channel.flush() {
                Ok(all) => unsent |= !all,
                Err(error) if is_gone(&error) => {}
                Err(_) => unsent = true,
            }
            member.acknowledge();
        }
        unsent
    }

    /// Whether any of them was handed something that it has not taken.
    pub(super) fn any_untaken(&mut self) -> bool {
        self.0.values_mut().any(|member| {
            member.hand.settle(&member.slot);
            member.hand.waiting_since().is_some()
        })
    }

    /// Takes back what workers that stand still have not taken, if another could take it.
    /// Where they are `sticky`, those that belong to one stay with it, unless it goes or there is
    /// a successor.
    pub(super) fn take_back(&mut self, sticky: bool, now: Instant) -> Vec<Arrival> {
        let mut back = Vec::new();
        let serving = self.0.values().filter(|member| member.serves(now));
        let heirs: Vec<_> = serving.map(|member| (member.place, member.id)).collect();
        if heirs.is_empty() {
            return back;
        }
        for member in self.0.values_mut() {
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
    pub(super) fn deal(
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
            let listens = |index: usize| members[index].listens.contains(&arrival.listener);
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
            // What one could not be handed is offered to all again.
            waiting.extend(member.hand_over(pile, now));
        }
    }
}
