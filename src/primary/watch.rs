//! Who stands still, or has grown too large: found on the scoreboard and in /proc, without asking
//! the worker.

use super::members::{Member, STANDSTILL};
use super::{Mode, Primary};
use crate::http::Method;
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::listener::Listener;
use crate::sys::proc;
use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// How often memory is looked at.
const WEIGH: Duration = Duration::from_secs(1);

/// How long the primary accepts in the place of a program that left something waiting at a socket
/// of its own.
const STILL: Duration = Duration::from_secs(1);

/// How often in the time that a program may stand still its socket's queue is looked at, beside the
/// first time.
const QUEUE_LOOKS: u32 = 8;

/// Looks in the time that a worker may stand still: so many times exact is the finding.
const LOOKS: u32 = 4;

/// What is watched, and when to look again.
#[derive(Debug, Default)]
pub(super) struct State {
    /// When to look at all workers, and when that was last done.
    look_at: Option<Instant>,
    looked: Option<Instant>,
    /// Sockets that one worker accepts from alone: whether something has come since it was last
    /// checked, and how many turns the worker had made by then.
    sockets: SortedMap<usize, Option<u64>>,
    /// When to check those where something came.
    check_at: Option<Instant>,
    /// The same of sockets whose worker is a program: how many have waited there since.
    queues: SortedMap<usize, Queue>,
    /// When to look at those next.
    queues_at: Option<Instant>,
}

/// How many connections wait in the socket of a program, whose turns nobody sees, look by look. One
/// that accepts empties it again and again, however much comes; one that stands still does not.
#[derive(Clone, Copy, Debug)]
struct Queue {
    looks: u32,
    last: u32,
    /// It was empty, or shorter than before: somebody accepts.
    moves: bool,
}

impl Queue {
    /// With so many that wait now.
    fn new(waiting: u32) -> Self {
        Self {
            looks: 0,
            last: waiting,
            moves: waiting == 0,
        }
    }

    fn look(&mut self, waiting: u32) {
        self.looks += 1;
        self.moves |= waiting == 0 || waiting < self.last;
        self.last = waiting;
    }

    /// Whether the worker stands still, once that can be said.
    fn verdict(&self) -> Option<bool> {
        (self.looks >= QUEUE_LOOKS).then_some(!self.moves)
    }
}

impl State {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let all = [self.look_at, self.check_at, self.queues_at];
        all.into_iter().flatten().min()
    }
}

/// How often a worker's loop must show that it lives, to be found within `timeout`.
pub(super) fn heartbeat(timeout: Duration) -> Duration {
    (timeout / LOOKS).max(Duration::from_millis(1))
}

impl Primary {
    /// How often the workers are looked at, if they are.
    fn period(&self) -> Option<Duration> {
        // Of programs nobody sees whether their loop turns.
        let own = self.rules.program.is_none();
        let standing = self.rules.worker_timeout.filter(|_| own).map(heartbeat);
        let memory = self.rules.max_memory.map(|_| WEIGH);
        [standing, memory].into_iter().flatten().min()
    }

    /// Looks at the workers when it is time.
    pub(super) fn watch(&mut self) {
        let now = self.reactor.now();
        if self.watch.check_at.is_some_and(|at| at <= now) {
            self.watch.check_at = None;
            self.check_sockets();
        }
        if self.watch.queues_at.is_some_and(|at| at <= now) {
            self.watch.queues_at = None;
            self.look_at_queues();
        }
        let Some(period) = self.period() else {
            return;
        };
        let look_at = *self.watch.look_at.get_or_insert(now + period);
        if look_at > now {
            return;
        }
        self.watch.look_at = Some(now + period);
        let looked = self.watch.looked.replace(now);
        // One that was stopped itself, and its workers perhaps with it, knows nothing of them.
        let slept = looked.is_some_and(|at| now.saturating_duration_since(at) > period * 2);
        let ids: Vec<WorkerId> = self.members.iter().map(|member| member.id).collect();
        for id in ids {
            self.look_at(id, slept);
            self.weigh(id);
        }
    }

    /// Sees whether a worker's loop turns.
    fn look_at(&mut self, id: WorkerId, slept: bool) {
        let now = self.reactor.now();
        let Some(timeout) = self.rules.worker_timeout else {
            return;
        };
        let seen = |one: &&mut Member| one.ready && !one.is_program();
        let Some(member) = self.members.get_mut(id).filter(seen) else {
            return;
        };
        let turns = member.slot.turns();
        if turns != member.beat.0 || slept {
            member.beat = (turns, now);
            if std::mem::take(&mut member.stuck) {
                log::info!("{member} goes on");
                self.supervisor.stuck(id, false);
            }
            return;
        }
        // A worker of the program before may turn less often, or not at all without work.
        let idle = member.slot.busy_for_ms(now).is_none();
        let timeout = match member.heartbeat {
            Some(beat) => timeout.max(beat * LOOKS),
            None if idle => return,
            None => timeout,
        };
        let still = now.saturating_duration_since(member.beat.1);
        if still < timeout || std::mem::replace(&mut member.stuck, true) {
            return;
        }
        let doing = self.doing(id);
        let Some(member) = self.members.get(id) else {
            return;
        };
        let what = match &doing {
            Some((route, _)) => format!("in {route}"),
            None => "with nothing to do".to_owned(),
        };
        match self.rules.mode {
            Mode::Processes => {
                log::error!("{member} stands still {what} for {still:?}: it is killed");
                self.kill(id);
            }
            Mode::Threads => {
                log::error!(
                    "worker {id} stands still {what} for {still:?}; a thread cannot be killed, \
                     so another takes its place until it comes back"
                );
                self.supervisor.stuck(id, true);
            }
        }
    }

    /// What a worker that stands still is doing, and for how many milliseconds.
    pub(super) fn doing(&self, id: WorkerId) -> Option<(String, u64)> {
        let member = self.members.get(id)?;
        let millis = member.slot.busy_for_ms(self.reactor.now())?;
        if member.generation < self.own_generation {
            return Some(("a route of the program before".to_owned(), millis));
        }
        let (method, route) = member.slot.last_doing();
        let method = *Method::ALL.get(method as usize)?;
        Some((self.app.label(method, route), millis))
    }

    /// Sees whether a worker has grown too large.
    fn weigh(&mut self, id: WorkerId) {
        let Some(most) = self.rules.max_memory else {
            return;
        };
        let Some(member) = self.members.get(id).filter(|one| one.ready) else {
            return;
        };
        match proc::rss(member.carrier.pid()) {
            Ok(bytes) if bytes > most => {
                if self.supervisor.worn(id) {
                    let (has, may) = (bytes >> 10, most >> 10);
                    log::info!("{member} has {has} kB of memory, more than {may} kB");
                }
            }
            Ok(_) => {}
            Err(error) => log::debug!("{member}: {error}"),
        }
    }

    /// Has the loop told of connections that come to sockets with one worker each.
    pub(super) fn watch_sockets(&mut self) {
        let registry = self.reactor.registry();
        if !self.policy.splits() {
            self.watch.queues.clear();
            for (token, _) in std::mem::take(&mut self.watch.sockets) {
                self.ports.gate.unwatch(registry, token);
            }
            return;
        }
        let sockets: SortedSet<usize> = self.ports.own_sockets().map(|(_, token)| token).collect();
        let State {
            sockets: watched,
            queues,
            ..
        } = &mut self.watch;
        watched.retain(|token, _| sockets.contains(token));
        queues.retain(|token, _| sockets.contains(token));
        for token in sockets {
            let unknown = !self.watch.sockets.contains_key(&token);
            if unknown && !self.ports.gate.is_open(token) {
                self.watch.sockets.insert(token, None);
                self.ports.gate.watch(registry, token);
            }
        }
    }

    /// Something has come to a socket; whether it is somebody else's to accept.
    pub(super) fn note_arrival(&mut self, token: usize) -> bool {
        if self.ports.gate.is_open(token) {
            return false;
        }
        if self.rules.program.is_some() {
            let waiting = self.count_waiting(token);
            self.watch.queues.insert(token, Queue::new(waiting));
            let at = self.reactor.now() + STANDSTILL / QUEUE_LOOKS;
            self.watch.queues_at.get_or_insert(at);
            return true;
        }
        let turns = self.turns_of(token);
        if let Some(seen) = self.watch.sockets.get_mut(&token) {
            *seen = Some(turns.unwrap_or(u64::MAX));
            let at = self.reactor.now() + STANDSTILL;
            self.watch.check_at.get_or_insert(at);
        }
        true
    }

    /// The turns of the worker that accepts from a socket.
    fn turns_of(&self, token: usize) -> Option<u64> {
        let number = self.ports.number_of(token)?;
        let (place, _) = self.ports.own_sockets().find(|(_, one)| *one == token)?;
        let mut here = self.members.iter().rev();
        let member = here.find(|one| {
            one.place == place && one.ready && !one.leaving && one.listens.contains(&number)
        })?;
        Some(member.slot.turns())
    }

    /// Workers that have not turned since something came stand still: the primary accepts in
    /// their place until they go on.
    fn check_sockets(&mut self) {
        let registry = self.reactor.registry();
        for (place, token) in self.ports.own_sockets().collect::<Vec<_>>() {
            let Some(Some(seen)) = self.watch.sockets.get(&token).copied() else {
                continue;
            };
            // One that has accepted all there was and had no turn since has nothing to do.
            let waits = self.ports.gate.listener(token);
            let waits = waits.is_some_and(Listener::has_waiting);
            if waits && self.turns_of(token) == Some(seen) {
                for member in self.members.iter_mut().filter(|one| one.place == place) {
                    member.still_at = Some(seen);
                }
            }
            self.watch.sockets.insert(token, None);
            self.ports.gate.watch(registry, token);
        }
    }

    fn count_waiting(&self, token: usize) -> u32 {
        let listener = self.ports.gate.listener(token);
        listener.map_or(0, |one| {
            // Where the kernel does not tell, that some do is all that is known.
            one.queued().unwrap_or_else(|| u32::from(one.has_waiting()))
        })
    }

    /// The same of programs: where nobody accepts, the primary does for a while.
    fn look_at_queues(&mut self) {
        let now = self.reactor.now();
        for (place, token) in self.ports.own_sockets().collect::<Vec<_>>() {
            let waiting = self.count_waiting(token);
            let Some(queue) = self.watch.queues.get_mut(&token) else {
                continue;
            };
            queue.look(waiting);
            let Some(stands_still) = queue.verdict() else {
                continue;
            };
            self.watch.queues.remove(&token);
            for member in self.members.iter_mut() {
                if stands_still && member.place == place {
                    log::debug!("{member} does not accept: {waiting} wait at its socket");
                    // Whether it turns again nobody sees, so it is tried again.
                    member.still_until = Some(now + STILL);
                }
            }
            self.ports.gate.watch(self.reactor.registry(), token);
        }
        if !self.watch.queues.is_empty() {
            self.watch.queues_at = Some(now + STANDSTILL / QUEUE_LOOKS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_shortens_is_nobodys() {
        let cases: [(&str, &[u32], Option<bool>); 8] = [
            ("one waits on", &[1; 9], Some(true)),
            ("more and more", &[1, 1, 2, 2, 3, 5, 8, 8, 9], Some(true)),
            ("too early to say", &[1; 8], None),
            (
                "it was empty once",
                &[1, 1, 1, 0, 1, 1, 1, 1, 1],
                Some(false),
            ),
            (
                "at the last look",
                &[1, 1, 1, 1, 1, 1, 1, 1, 0],
                Some(false),
            ),
            ("at the first", &[0, 1, 1, 1, 1, 1, 1, 1, 1], Some(false)),
            ("loaded", &[90, 96, 99, 3, 40, 80, 99, 120, 7], Some(false)),
            ("slow", &[5, 5, 5, 5, 4, 4, 4, 4, 4], Some(false)),
        ];
        for (name, looks, expected) in cases {
            let mut queue = Queue::new(looks[0]);
            looks[1..].iter().for_each(|waiting| queue.look(*waiting));
            assert_eq!(queue.verdict(), expected, "{name}");
        }
    }
}
