//! The primary's view of its workers.
//!
//! Owns who is there, what each was handed and told; dealing among those that have room is in
//! `dealing`. Leaves when to do so to the loop.

mod dealing;

pub(super) use dealing::Bounds;

use super::handle::WorkerHandle;
use super::hands::{Arrival, Grants, Hand};
use super::program;
use super::vessel::{Carrier, Exit};
use crate::board::Slot;
use crate::ipc::user::{Inbox, Outbox};
use crate::ipc::{Ask, Channel, HAND, HAND_BYTES, Message, Received, is_gone};
use crate::metrics;
use crate::net::{Few, deregister};
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::socket;
use crate::worker::WorkerId;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A worker whose loop has been in one turn for longer, or that has left a connection untaken for
/// longer, stands still: it is passed over, and what it has not taken goes to others.
pub(super) const STANDSTILL: Duration = Duration::from_millis(200);

/// Lines about where one worker cannot listen, in ten seconds: one that asks forever must not fill the
/// log.
const MOST_REFUSALS: u32 = 8;

/// One worker.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: WorkerId,
    pub(super) place: usize,
    pub(super) generation: u32,
    pub(super) carrier: Carrier,
    /// What else there is of one that is a program.
    pub(super) program: Option<Box<program::Child>>,
    /// What the application sees of it.
    pub(super) handle: WorkerHandle,
    /// What the primary knows of one that is a program.
    pub(super) conduct: program::Conduct,
    /// The numbers of the listeners that it listens on.
    pub(super) listens: SortedSet<u32>,
    /// Those of them that it, a program, accepts from by itself.
    pub(super) shares: SortedSet<u32>,
    /// Until when it, a program, is dealt nothing of a listener where it has refused.
    pub(super) rests: SortedMap<u32, Instant>,
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
    /// The same of a program, whose turns nobody sees: it is believed until then.
    pub(super) still_until: Option<Instant>,
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
    /// What is said of where it cannot listen.
    refusals: Few,
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
    pub(super) program: Option<Box<program::Child>>,
}

impl Member {
    pub(super) fn new(recruit: Recruit, number: usize, carrier: Carrier, now: Instant) -> Self {
        Self {
            id: recruit.id,
            place: recruit.place,
            generation: recruit.generation,
            carrier,
            program: recruit.program,
            handle: recruit.handle,
            conduct: program::Conduct::default(),
            listens: SortedSet::new(),
            shares: SortedSet::new(),
            rests: SortedMap::new(),
            ready: false,
            since: now,
            leaving: false,
            channel: recruit.channel,
            owes_last_word: None,
            hung_up: false,
            deaf: false,
            still_at: None,
            still_until: None,
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
            refusals: Few::of(MOST_REFUSALS, Duration::from_secs(10)),
        }
    }

    /// Whether it is a program of another kind.
    pub(super) fn is_program(&self) -> bool {
        self.program.is_some()
    }

    /// Whether connections of `listener` may be its own at `now`.
    pub(super) fn takes(&self, listener: u32, now: Instant) -> bool {
        let rests = self.rests.get(&listener).is_some_and(|until| *until > now);
        self.listens.contains(&listener) && !rests
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
    pub(super) fn log_figures(&mut self) {
        let unsaid = self.refusals.rest();
        self.log_refusals(unsaid);
        let (counters, _) = self.slot.read();
        if self.is_program() {
            // All that is known, where it accepts nothing by itself.
            if counters.connections > 0 {
                log::info!(
                    "worker {} took {} connections",
                    self.id,
                    counters.connections
                );
            }
            return;
        }
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

    /// Says where it cannot listen, and why.
    pub(super) fn cannot_listen(&mut self, ask: &Ask, why: &str, now: Instant) {
        let before = self.refusals.overdue(now);
        self.log_refusals(before);
        if self.refusals.admits(now) {
            log::warn!("{self} cannot listen on {ask}: {why}");
        }
    }

    fn log_refusals(&self, unsaid: Option<u64>) {
        if let Some(unsaid) = unsaid {
            log::warn!("{self} was refused {unsaid} listeners more");
        }
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
        if self.still_until.is_some_and(|until| until > now) {
            return true;
        }
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

    /// Whether it listens on all that it should, and is there to stay.
    pub(super) fn stays(&self) -> bool {
        self.ready && !self.leaving && !self.hung_up
    }

    /// Whether it accepts, or would, at `now`.
    pub(super) fn serves(&self, now: Instant) -> bool {
        self.stays() && !self.stands_still(now)
    }

    /// Connections that are its own, or are on their way to it.
    fn open(&self) -> usize {
        (self.slot.open() as usize).saturating_add(self.hand.len())
    }

    /// How many connections it may have, if the settings say `limit`.
    fn most(&self, limit: usize) -> usize {
        let takes = self.stays() && !self.deaf;
        if takes { limit } else { 0 }
    }

    /// How many connections it may be handed, if it may have `limit` open.
    fn room(&self, limit: usize) -> usize {
        let free = self.most(limit).saturating_sub(self.open());
        // A program says when it has taken one, and is not handed another before; nor while older
        // lines wait, which it would have to overtake.
        let most = match self.is_program() {
            true => usize::from(self.channel.count_unsent() == 0),
            false => HAND,
        };
        self.hand.room(most).min(free)
    }

    /// Hands it `pile`, or grants it what of that is queued; gives back what could not be.
    fn hand_over(&mut self, mut pile: Vec<Arrival>, now: Instant) -> Vec<Arrival> {
        while let Some(first) = pile.first() {
            let (listener, queued) = (first.listener, first.is_queued());
            let mut bytes = 0;
            let together = pile.iter().take_while(|arrival| {
                bytes += arrival.handed.bytes.len();
                (arrival.listener, arrival.is_queued()) == (listener, queued) && bytes <= HAND_BYTES
            });
            let count = together.count().max(1);
            let hand = pile[..count].iter();
            let sockets = hand.clone().filter_map(|arrival| arrival.socket.as_ref());
            let sockets: Vec<_> = sockets.map(AsFd::as_fd).collect();
            let message = match queued {
                true => Message::Grant {
                    listener,
                    count: count as u32,
                },
                false => Message::Newconn {
                    listener,
                    hand: hand.map(|arrival| arrival.handed.clone()).collect(),
                },
            };
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

/// All workers, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Members(SortedMap<WorkerId, Member>);

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

    /// What all of them may still accept of the queue of `listener`; see [`Hand::grants`]. What one
    /// that stands still is in doubt about is left out: better granted twice than to nobody.
    pub(super) fn grants(&mut self, listener: u32, now: Instant) -> Grants {
        let mut all = Grants::default();
        for member in self.0.values_mut() {
            let one = member.hand.grants(listener, &member.slot);
            all.untaken += one.untaken;
            if one.in_doubt > 0 && !member.stands_still(now) {
                all.in_doubt += one.in_doubt;
            }
        }
        all
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
    pub(super) fn ended(&mut self, unheard: &SortedSet<WorkerId>) -> Vec<(WorkerId, Exit)> {
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

    /// Sends what some of them had no room for before; whether anything still waits.
    pub(super) fn flush(&mut self) -> bool {
        let mut unsent = false;
        for member in self
            .0
            .values_mut()
            .filter(|one| one.channel.has_unsent() || one.owed > 0 || one.conduct.has_texts())
        {
            match member.channel.flush() {
                Ok(all) => unsent |= !all,
                Err(error) if is_gone(&error) => {}
                Err(_) => unsent = true,
            }
            member.acknowledge();
            if member.is_program() {
                member.send_texts();
            }
        }
        unsent
    }
}
