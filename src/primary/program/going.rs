//! How a worker that is a program goes: it is told so, or gets a signal.
//!
//! Owns the order of it. One that has closed its channel is told by a signal when it stays; one that
//! has sockets of its own, which nobody inherits from it, gets it when no more connections come to
//! them and those that did are accepted: what waits there at its end would be reset. Leaves who is to go,
//! and killing whoever takes too long, to the supervisor.

use crate::primary::Primary;
use crate::primary::members::Member;
use crate::sys::signal::SIGTERM;
use crate::worker::WorkerId;
use std::time::{Duration, Instant};

/// For so long connections may still come to a socket that new ones are led past: their clients have
/// been answered by the kernel, and answer it.
const SETTLED: Duration = Duration::from_millis(200);

/// How often it is looked whether one is empty.
const LOOK: Duration = Duration::from_millis(10);

impl Primary {
    /// Has a program go: it is told so in its language, or by a signal.
    pub(in crate::primary) fn see_off_program(&mut self, id: WorkerId, hand_back: bool) {
        let now = self.reactor.now();
        let speaks = self
            .rules
            .program
            .as_ref()
            .is_some_and(|one| one.is_dealt());
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        // Out of all listeners first: it answers what it is handed from here on by a refusal.
        member.leaving = true;
        // Whoever said by itself that it goes need not be told; one that is not spoken to, and stays, is.
        if member.hung_up || (member.conduct.goes && speaks) {
            return;
        }
        member.leaves();
        if !speaks {
            // Where nobody inherits them, not before what has come to its sockets is accepted.
            if !member.conduct.signalled {
                member.conduct.clears = Some(now);
            }
            return self.mind_places();
        }
        member.owes_last_word = Some(hand_back);
        member.send_texts();
    }

    fn signal_program(&mut self, id: WorkerId, why: &str) {
        let signal = self.kill_signal();
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.conduct.signalled = true;
        member.conduct.clears = None;
        if member.buried {
            return;
        }
        log::debug!("{member} gets signal {signal}: {why}");
        if let Err(error) = member.carrier.terminate(signal) {
            log::debug!("{member} gets no signal: {error}");
        }
    }

    /// What has a program go.
    pub(in crate::primary) fn kill_signal(&self) -> i32 {
        let program = self.rules.program.as_ref();
        program.map_or(SIGTERM, |program| program.kill_signal)
    }

    /// Minds the sockets of places that are to be empty: nobody is led there, whoever is left there
    /// goes when it has accepted what came, and they close with the last one.
    pub(super) fn mind_places(&mut self) {
        let program = self.rules.program.as_ref();
        if program.is_none_or(|program| program.is_dealt()) {
            return;
        }
        let (now, stops) = (self.reactor.now(), self.is_stopping());
        if !stops {
            self.close_empty_places();
            self.lead(None);
        }
        let half = self.half_of_drain();
        let why = |one: &Member| {
            let age = now.saturating_duration_since(one.conduct.clears?);
            if stops || !self.ports.leads_past(one.sockets_of()) {
                Some("it is to go")
            } else if age >= half {
                Some("it has had its time to accept what waits")
            } else if age >= half.min(SETTLED) && !self.ports.has_waiting(one.sockets_of()) {
                Some("nothing waits for it any more")
            } else {
                None
            }
        };
        let clear = self
            .members
            .iter()
            .filter_map(|one| Some((one.id, why(one)?)));
        for (id, why) in clear.collect::<Vec<_>>() {
            self.signal_program(id, why);
        }
    }

    /// When [`Primary::mind_places`] must be called, if nothing happens before.
    pub(super) fn clearing_deadline(&self) -> Option<Instant> {
        let now = self.reactor.now();
        let settled = self.half_of_drain().min(SETTLED);
        let since = self.members.iter().filter_map(|one| one.conduct.clears);
        since.map(|since| (since + settled).max(now + LOOK)).min()
    }

    /// How long a worker may take to accept what waits: the other half is to finish in.
    fn half_of_drain(&self) -> Duration {
        self.rules.patience.drain / 2
    }

    pub(super) fn outlives_its_channel(&mut self, id: WorkerId) {
        let now = self.reactor.now();
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let Some(since) = member.conduct.closed else {
            return;
        };
        if since + member.conduct.afterlife() <= now {
            self.signal_program(id, "it has closed its channel and stays");
        }
        if let Some(member) = self.members.get_mut(id)
            && !std::mem::replace(&mut member.leaving, true)
        {
            log::info!("{member} has closed its channel: another takes its place");
            if !self.is_stopping() {
                self.supervisor.leaves(id, now);
            }
        }
    }
}
