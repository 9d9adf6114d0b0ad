//! The primary's view of its workers.
//!
//! Owns who is there, what each was handed, and dealing among those that have room; leaves when
//! to do so to the loop.

use super::hands::{Arrival, Hand};
use super::scheduler::{Candidate, RoundRobin};
use super::vessel::{Carrier, Exit};
use crate::board::Slot;
use crate::ipc::{Channel, Message, Received};
use crate::metrics;
use crate::net::deregister;
use crate::sys::listener::{Listener, Peer};
use crate::sys::socket;
use crate::worker::WorkerId;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A worker whose loop has been in one turn for longer, or that has left a connection untaken for
/// longer, stands still: it is passed over, and what it has not taken goes to others.
const STANDSTILL: Duration = Duration::from_millis(200);

/// One worker.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: WorkerId,
    pub(super) carrier: Carrier,
    /// How many listeners it listens on.
    pub(super) listening: u32,
    /// It listens on all of them.
    pub(super) ready: bool,
    /// When it was launched.
    pub(super) since: Instant,
    /// It goes, and is dealt nothing new.
    leaving: bool,
    channel: Channel,
    /// Its end of the channel is closed.
    hung_up: bool,
    /// Nothing can be said to it any more.
    deaf: bool,
    /// It stood still when its loop had made so many turns.
    still_at: Option<u64>,
    slot: Slot,
    hand: Hand,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (pid {})", self.id, self.carrier.pid())
    }
}

impl Member {
    pub(super) fn new(id: WorkerId, carrier: Carrier, channel: Channel, slot: Slot) -> Self {
        Self {
            id,
            carrier,
            listening: 0,
            ready: false,
            since: Instant::now(),
            leaving: false,
            channel,
            hung_up: false,
            deaf: false,
            still_at: None,
            slot,
            hand: Hand::default(),
        }
    }

    /// Reads what it says.
    pub(super) fn receive(&mut self) -> io::Result<Received> {
        self.channel.receive()
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
        if let Err(error) = self.channel.send(message, &[]) {
            log::debug!("{self} does not hear {message:?}: {error}");
        }
    }

    /// Answers what it asked: it may listen on `listener`, by itself if `shared`.
    ///
    /// # Errors
    ///
    /// When it cannot be told, and so would never be ready.
    pub(super) fn offer(
        &mut self,
        number: u32,
        listener: &Listener,
        shared: bool,
    ) -> io::Result<()> {
        let message = Message::Server {
            listener: number,
            shared,
            address: listener.address().clone(),
        };
        let fd = [listener.as_fd()];
        let with = if shared { &fd[..] } else { &[] };
        self.channel.send(&message, with)
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

    /// Tells it to finish what it has, its hand included, and to go.
    pub(super) fn disconnect(&mut self) {
        self.leaving = true;
        self.say(&Message::Disconnect);
    }

    /// It is gone: what it never took.
    pub(super) fn into_untaken(self) -> Vec<Arrival> {
        self.hand.into_untaken(&self.slot)
    }

    /// Whether its loop stands still at `now`.
    fn stands_still(&self, now: Instant) -> bool {
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

    /// How many connections it may be handed, if it may have `limit` open.
    fn room(&self, limit: usize) -> usize {
        if !self.ready || self.leaving || self.hung_up || self.deaf {
            return 0;
        }
        let untaken = crate::ipc::HAND - self.hand.room();
        let open = self.slot.open() as usize + untaken;
        self.hand.room().min(limit.saturating_sub(open))
    }

    /// Hands it `pile`; gives back what it could not be handed.
    fn hand_over(&mut self, mut pile: Vec<Arrival>, now: Instant) -> Vec<Arrival> {
        while let Some(first) = pile.first() {
            let listener = first.listener;
            let count = pile
                .iter()
                .position(|arrival| arrival.listener != listener)
                .unwrap_or(pile.len());
            let hand = &pile[..count];
            let peers: Vec<Peer> = hand.iter().map(|arrival| arrival.peer).collect();
            let sockets: Vec<_> = hand.iter().map(|arrival| arrival.socket.as_fd()).collect();
            match self
                .channel
                .try_send(&Message::Newconn { listener, peers }, &sockets)
            {
                Ok(()) => self.hand.add(pile.drain(..count), now),
                Err(error) => {
                    // What else can fail passes: no room, or too many descriptors under way.
                    self.deaf |= matches!(
                        error.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                    );
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
pub(super) struct Members(BTreeMap<WorkerId, Member>);

impl Members {
    pub(super) fn add(&mut self, member: Member) {
        self.0.insert(member.id, member);
    }

    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Member> {
        self.0.remove(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Member> {
        self.0.get_mut(&id)
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

    /// Those that have ended since the last call, and how.
    pub(super) fn ended(&mut self) -> Vec<(WorkerId, Exit)> {
        let ended = self.0.values_mut().filter_map(|member| {
            let exit = match member.carrier.try_wait(member.hung_up) {
                Ok(exit) => exit?,
                Err(error) => Exit::Failed(format!("an unknown cause: {error}")),
            };
            Some((member.id, exit))
        });
        ended.collect()
    }

    /// How many connections all of them may be handed together.
    pub(super) fn room(&mut self, limit: usize) -> usize {
        let settled = self.0.values_mut().map(|member| {
            member.hand.settle(&member.slot);
            member.room(limit)
        });
        settled.sum()
    }

    /// Sends what some of them had no room for before; whether anything still waits.
    pub(super) fn flush(&mut self) -> bool {
        let mut unsent = false;
        for member in self
            .0
            .values_mut()
            .filter(|member| member.channel.has_unsent())
        {
            unsent |= member.channel.flush().is_ok_and(|all| !all);
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
    pub(super) fn take_back(&mut self, now: Instant) -> Vec<Arrival> {
        let mut back = Vec::new();
        let others = |member: &Member| member.ready && !member.leaving && !member.stands_still(now);
        if !self.0.values().any(others) {
            return back;
        }
        for member in self.0.values_mut() {
            member.hand.settle(&member.slot);
            let waits = member.hand.waiting_since();
            if waits.is_some_and(|since| now.saturating_duration_since(since) >= STANDSTILL) {
                let turns = member.slot.turns();
                let taken = member.hand.take_back(&member.slot);
                // Until it moves again it is not worth another try.
                member.still_at = Some(turns);
                log::debug!("{member} stands still: {} connections go on", taken.len());
                back.extend(taken);
            }
        }
        back
    }

    /// Deals `waiting` in turn, as far as there is room.
    pub(super) fn deal(
        &mut self,
        waiting: &mut VecDeque<Arrival>,
        round: &mut RoundRobin,
        limit: usize,
        now: Instant,
    ) {
        let mut members: Vec<&mut Member> = self.0.values_mut().collect();
        let mut candidates: Vec<Candidate> = members
            .iter_mut()
            .map(|member| {
                member.hand.settle(&member.slot);
                Candidate {
                    id: member.id,
                    room: member.room(limit),
                    still: member.stands_still(now),
                }
            })
            .collect();
        let mut piles: Vec<Vec<Arrival>> = members.iter().map(|_| Vec::new()).collect();
        while !waiting.is_empty() {
            let Some(index) = round.pick(&candidates) else {
                break;
            };
            candidates[index].room -= 1;
            piles[index].extend(waiting.pop_front());
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
