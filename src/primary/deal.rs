//! Connections: accepting them, dealing them out, taking them back. Those that need not be accepted
//! here are left to `grants`.

use super::hands::Arrival;
use super::members::Bounds;
use super::{Primary, SchedulingPolicy};
use crate::ipc::FLUSH_AGAIN;
use crate::server::MAX_BACKLOG;
use crate::server::gate::Accepted;
use crate::sorted::SortedSet;
use crate::sys::listener::Listener;
use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// How long connections wait for a worker with room before they are offered again.
const OFFER_AGAIN: Duration = Duration::from_millis(5);

/// The same where workers are programs, which say when they have room.
const OFFER_PROGRAMS_AGAIN: Duration = Duration::from_millis(100);

/// How long a stop waits at most for programs to take what was accepted before it.
const LAST_DEAL: Duration = Duration::from_secs(5);

/// How often the primary looks after connections that were handed over and not taken.
pub(super) const INSPECT: Duration = Duration::from_millis(100);

/// Connections that wait, at most, for a worker which is theirs and has its hands full. With more,
/// each goes to the next one.
const MOST_LATE: usize = 1024;

/// Connections accepted in one turn.
pub(super) const ACCEPTS_PER_TURN: usize = 256;

impl Primary {
    /// Accepts as many connections as the workers have room for, or grants them.
    pub(super) fn accept(&mut self, token: usize) {
        let Some(listener) = self.ports.number_of(token) else {
            return;
        };
        if self.note_arrival(token) {
            return;
        }
        let now = self.reactor.now();
        let limit = self.rules.settings.limits.connections;
        let peeked = self
            .peeks
            .of_rivals(|other| self.members.meet(listener, other));
        let room = self.members.room(limit, listener, peeked, now);
        let room = room.saturating_sub(self.rivals(listener));
        if room == 0 {
            // Nobody has room: connections wait in the kernel's queue of this listener.
            let until = self.offer_again_at(Some(listener));
            let registry = self.reactor.registry();
            self.ports.gate.hold(registry, token, until);
            return;
        }
        if self.ports.is_granted(token, &self.policy) {
            return self.grant(token, listener, room);
        }
        // To ask for one more than there are makes a socket and throws it away.
        let queued = self.ports.gate.queued(token).unwrap_or(ACCEPTS_PER_TURN);
        let mut count = 0;
        for _ in 0..room.min(queued).min(ACCEPTS_PER_TURN) {
            let accepted = self.ports.gate.accept(self.reactor.registry(), token, now);
            match accepted {
                Accepted::Connection(socket, peer) => {
                    self.arrived(Arrival::fresh(socket, peer, listener));
                    count += 1;
                }
                Accepted::Nothing => break,
            }
        }
        let computing = || self.members.any_computing();
        self.courtesy.accepted(now, count, computing);
    }

    /// When connections are to be offered again that nobody has room for, of `listener` or of any.
    fn offer_again_at(&mut self, listener: Option<u32>) -> Instant {
        let now = self.reactor.now();
        if self.rules.program.is_none() || self.stop_asked.is_some() {
            return now + OFFER_AGAIN;
        }
        let usual = now + OFFER_PROGRAMS_AGAIN;
        let rested = self.members.rested_at(listener, now);
        rested.map_or(usual, |at| at.min(usual))
    }

    /// Somebody has room, or has it again: connections are accepted where it listens, before the pause
    /// is over.
    pub(super) fn let_come(&mut self, id: WorkerId) {
        let now = self.reactor.now();
        let Some(member) = self.members.get(id) else {
            return;
        };
        for listener in &member.listens {
            if member.takes(*listener, now) {
                self.ports.go_on(self.reactor.registry(), *listener);
            }
        }
    }

    /// How many that wait are offered before the next connection of `listener`. Those of another
    /// listener whose workers have no room take nobody else's.
    fn rivals(&self, listener: u32) -> usize {
        // Those who wait for one worker are in nobody's way.
        let waiting = self.waiting.iter().filter(|one| !one.late);
        if self.waiting.is_empty() || self.ports.iter().nth(1).is_none() {
            return waiting.count();
        }
        let limit = self.rules.settings.limits.connections;
        let others = self.members.listeners_with_room(limit, self.reactor.now());
        let rival = |one: &&Arrival| one.listener == listener || others.contains(&one.listener);
        waiting.filter(rival).count()
    }

    /// Deals what waits, in hands: one message a worker.
    pub(super) fn deal(&mut self) {
        let now = self.reactor.now();
        self.end_peeks();
        if !self.refusing && self.ports.resume_at(self.reactor.registry(), now) {
            // Those who accept by themselves had to do without it.
            self.tell_policy_to_all();
        }
        if self.inspect_at.is_some_and(|at| at <= now) {
            self.inspect_at = None;
            let stops = self.stop_asked.is_some();
            let sticky = self.policy.is_sticky() && !stops;
            let mut back = self.members.take_back(sticky, now);
            if stops {
                // Better answered by another than by nobody.
                back.iter_mut().for_each(|one| one.affinity = None);
            }
            self.deal_again(back);
        }
        self.grant_again();
        self.offer_at = None;
        if !self.waiting.is_empty() {
            let most = MOST_LATE.min(self.rules.most_held / 4);
            let bounds = Bounds {
                open: self.rules.settings.limits.connections,
                patient: if self.is_stopping() { 0 } else { most },
            };
            let (waiting, round) = (&mut self.waiting, &mut self.round);
            self.members.deal(waiting, round, &self.policy, bounds, now);
        }
        if !self.waiting.is_empty() || self.stop_asked.is_some() {
            self.offer_at = Some(self.offer_again_at(None));
        }
        self.flush_at = self.members.flush().then(|| now + FLUSH_AGAIN);
        self.report_texts();
        if self.inspect_at.is_none() && self.members.any_to_take_back() {
            self.inspect_at = Some(now + INSPECT);
        }
        // Last, when what has been taken is no longer counted.
        self.hear_again();
    }

    /// While no worker lives clients are refused at once, rather than left waiting; and where
    /// nobody accepts, the primary does.
    pub(super) fn mind_the_listeners(&mut self) {
        if self.is_stopping() {
            return;
        }
        // Programs ask by themselves for what is open, and find it as it was.
        let refuse = self.members.is_empty() && self.rules.program.is_none();
        if refuse && !self.refusing {
            let waiting = self.waiting.len() + self.peeks.len();
            log::warn!("no worker is alive: clients are refused, {waiting} that wait included");
            self.refusing = true;
            self.waiting.clear();
            self.peeks.retain(self.reactor.registry(), |_| false);
            self.ports.shut(self.reactor.registry());
        }
        if !self.refusing {
            self.open_where_needed();
        }
    }

    fn open_where_needed(&mut self) {
        let now = self.reactor.now();
        let program = self.rules.program.as_deref();
        if program.is_some_and(|program| !program.is_dealt()) {
            // They have inherited all sockets, and accept from them by themselves.
            return;
        }
        if program.is_some() {
            let dealt = self.dealt_listeners();
            self.ports.set_dealt(dealt);
        }
        // Where nobody has a socket of its own, nobody's matters.
        let mut serving = SortedSet::new();
        if self.policy.splits() {
            let members = self.members.iter().filter(|member| member.serves(now));
            serving.extend(members.flat_map(|member| {
                let listens = match member.is_program() {
                    true => member.shares.iter(),
                    false => member.listens.iter(),
                };
                listens.map(|number| (*number, member.place))
            }));
        }
        let serves = |number: u32, place: usize| serving.contains(&(number, place));
        self.ports
            .mind(self.reactor.registry(), &self.policy, serves);
        if self.ports.take_untold() {
            self.tell_policy_to_all();
        }
        self.watch_sockets();
    }

    /// Somebody lives again: clients wait rather than being refused.
    pub(super) fn stop_refusing(&mut self) {
        let now = self.reactor.now();
        self.ports.open_again(self.reactor.registry(), now);
        self.refusing = false;
    }

    /// Another policy from now on. Nothing is lost, since the primary has had all sockets from
    /// the start.
    ///
    /// # Errors
    ///
    /// When workers could not have it so, in words.
    pub(super) fn set_policy(&mut self, policy: SchedulingPolicy) -> Result<(), String> {
        if policy == self.policy {
            return Ok(());
        }
        let program = self.rules.program.as_deref();
        let fits = program.map_or(Ok(()), |program| program.fits(&policy));
        let fits = policy.check().and(fits);
        fits.map_err(|why| format!("schedule: {why}"))?;
        log::info!("schedule {policy} in place of {}", self.policy);
        self.policy = policy;
        self.peek_anew();
        // By what counts now; those in the middle of something have a place already.
        for mut arrival in std::mem::take(&mut self.waiting) {
            if arrival.is_queued() {
                // Whoever accepts from now on will find it.
                continue;
            }
            if arrival.is_fresh() {
                arrival.affinity = None;
                self.arrived(arrival);
            } else {
                self.waiting.push_back(arrival);
            }
        }
        self.tell_policy_to_all();
        self.reload_for_policy();
        Ok(())
    }

    fn tell_policy_to_all(&mut self) {
        for id in self
            .members
            .iter()
            .map(|member| member.id)
            .collect::<Vec<_>>()
        {
            self.tell_policy(id);
        }
    }

    /// Whether it stops: nothing new is accepted any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop_asked.is_some() || self.supervisor.stopping()
    }

    /// Whether it stops, or will when its time has come.
    pub(super) fn was_told_to_stop(&self) -> bool {
        self.stop_at.is_some() || self.is_stopping()
    }

    /// Stops: in order the first time, at once the second.
    pub(super) fn stop(&mut self) {
        let now = self.reactor.now();
        self.abandon_upgrade();
        if self.was_told_to_stop() {
            log::info!("stopping at once");
            self.stop_at = None;
            self.stop_asked = None;
            // Twice, if need be: the second time there is no more waiting.
            while !self.supervisor.stop(now) {}
            return;
        }
        self.board.set_draining();
        let delay = self.rules.drain_delay;
        if !delay.is_zero() {
            log::info!("stopping in {delay:?}; until then all is served");
        }
        self.stop_at = Some(now + delay);
    }

    /// Whether somebody is about to serve and nobody does.
    fn starts_only(&self) -> bool {
        let mut stay = self.members.iter().filter(|one| !one.leaving).peekable();
        stay.peek().is_some() && stay.all(|one| !one.ready)
    }

    /// Whether a client has come whom nobody serves yet.
    fn somebody_waits(&self) -> bool {
        let mut listeners = self.ports.gate.listeners();
        !self.waiting.is_empty() || self.peeks.len() > 0 || listeners.any(Listener::has_waiting)
    }

    fn begin_stop(&mut self) {
        let now = self.reactor.now();
        let workers = self.members.len();
        log::info!("stopping: {workers} workers finish what they have");
        // What was not granted yet is accepted here, as is all else that waits.
        self.waiting.retain(|arrival| !arrival.is_queued());
        // What has come so far is still served; from here on clients are refused. Bounded: more
        // than a queue's length has come after the signal.
        for _ in 0..MAX_BACKLOG {
            if self.refusing {
                break;
            }
            let Some((socket, peer, token)) = self.ports.gate.take_waiting() else {
                break;
            };
            let listener = self.ports.number_of(token).unwrap_or_default();
            self.arrived(Arrival::fresh(socket, peer, listener));
        }
        self.end_all_peeks();
        self.ports.suspend(&self.policy);
        self.ports.close_all(self.reactor.registry());
        self.stop_asked = Some(now);
    }

    /// Workers are told to go when all that was accepted before a stop is theirs: one that has
    /// nothing to do goes at once, and what waits would find nobody.
    pub(super) fn stop_when_dealt(&mut self) {
        let now = self.reactor.now();
        if self.stop_at.take_if(|at| *at <= now).is_some() {
            let until = *self
                .stop_until
                .get_or_insert(now + self.rules.patience.drain);
            if now < until && self.starts_only() && self.somebody_waits() {
                // What has come would find nobody who serves, but will in a moment.
                self.stop_at = Some(now + OFFER_AGAIN);
            } else {
                self.begin_stop();
            }
        }
        let Some(asked) = self.stop_asked else {
            return;
        };
        let mut patience = self.rules.settings.drain_timeout;
        if self.rules.program.is_some() {
            // They may refuse for ever, and must have time left to finish.
            patience = LAST_DEAL.min(patience / 2);
        }
        let patience_ends = asked + patience;
        let dealt = self.waiting.is_empty() && !self.members.any_untaken();
        if dealt || self.reactor.now() >= patience_ends || self.members.is_empty() {
            self.stop_asked = None;
            self.supervisor.stop(asked);
        }
    }
}
