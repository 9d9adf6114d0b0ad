//! Whether a program that is not spoken to has begun to accept, seen from outside.
//!
//! Owns when to look, which is often at first; how it is found is with `sys::accepting`. Leaves what
//! follows to `ready`.

use super::Protocol;
use crate::primary::handle::WorkerState;
use crate::primary::members::Member;
use crate::primary::{Event, Primary};
use crate::sys::accepting;
use crate::sys::process::Pid;
use crate::worker::WorkerId;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long to wait before looking again: at first, and at most.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(200);

/// When one worker is looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The next time, and how long that was put off; at once if there was none.
    next: Option<(Instant, Duration)>,
    /// Nothing is to be seen.
    blind: bool,
}

impl Looks {
    fn is_due(&self, now: Instant) -> bool {
        !self.blind && self.next.is_none_or(|(at, _)| at <= now)
    }

    fn deadline(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at).filter(|_| !self.blind)
    }

    /// It was looked at and did not accept: each time it may take twice as long until the next.
    fn again(&mut self, now: Instant) {
        let wait = match self.next {
            Some((_, before)) => (before * 2).min(LONGEST),
            None => FIRST,
        };
        self.next = Some((now + wait, wait));
    }
}

/// Whether a process, or one that it started, waits for connections at one of the sockets.
///
/// # Errors
///
/// When it cannot be seen, or is gone.
fn accepting(pid: Pid, sockets: &[BorrowedFd<'_>]) -> io::Result<bool> {
    let inodes: io::Result<Vec<u64>> = sockets.iter().map(accepting::inode).collect();
    accepting::accepts(pid, &inodes?)
}

/// Whether it is to be found accepting.
fn is_sought(one: &Member) -> bool {
    super::conduct::is_starting(one) && !one.conduct.accepts && !one.conduct.said_ready
}

impl Primary {
    fn looks_for_accepting(&self) -> bool {
        let program = self.rules.program.as_ref();
        program.is_some_and(|one| one.protocol == Protocol::Sockets && !one.wait_ready)
    }

    /// Looks at those that may have begun to accept.
    pub(super) fn find_accepting(&mut self) {
        if !self.looks_for_accepting() {
            return;
        }
        let now = self.reactor.now();
        for member in self.members.iter_mut() {
            if !is_sought(member) || !member.conduct.looks.is_due(now) {
                continue;
            }
            let sockets = self.ports.configured_sockets(member.sockets_of());
            match accepting(member.carrier.pid(), &sockets) {
                Ok(found) => member.conduct.accepts = found,
                Err(error) => {
                    log::debug!("{member} cannot be looked at: {error}");
                    member.conduct.looks.blind = true;
                }
            }
            member.conduct.looks.again(now);
        }
    }

    /// When to look again.
    pub(super) fn accepting_deadline(&self) -> Option<Instant> {
        if !self.looks_for_accepting() {
            return None;
        }
        let sought = self.members.iter().filter(|one| is_sought(one));
        sought.filter_map(|one| one.conduct.looks.deadline()).min()
    }

    /// A program that is not spoken to is ready: it listens on all that it has inherited.
    pub(super) fn accepts_now(&mut self, id: WorkerId) {
        if self.rules.program.as_ref().is_none_or(|one| one.is_dealt()) {
            return;
        }
        // Before anybody hears that it is there, and connects.
        self.lead(Some(id));
        let Some(member) = self.members.get(id) else {
            return;
        };
        let pid = member.carrier.pid().as_raw();
        member.handle.set_state(WorkerState::Online);
        // It was launched for those who waited there, and another follows as the policy has it.
        let is_new = member.generation == self.supervisor.generation();
        self.wishes.reload_again |= member.sockets_of() > 0 && !self.policy.splits() && is_new;
        self.tell(&Event::Online { worker: id, pid });
        let numbers = self.ports.iter().map(|port| port.number);
        let configured = numbers.filter(|number| self.ports.is_configured(*number));
        for listener in configured.collect::<Vec<_>>() {
            self.listening(id, listener);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rare() {
        let mut looks = Looks::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert!(looks.is_due(now));
            looks.again(now);
            let next = looks.deadline().expect("another");
            assert!(!looks.is_due(now));
            waits.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 200, 200]);
        looks.blind = true;
        assert!(!looks.is_due(now) && looks.deadline().is_none());
    }
}
