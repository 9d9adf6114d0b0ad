//! The lives of workers: launching, ending and burying them, and saying why they ended.

use super::handle::WorkerState;
use super::hands::Arrival;
use super::members::{Member, Recruit};
use super::supervisor::{Death, Then};
use super::vessel::{Carrier, Exit, Launched};
use super::{Error, Event, Primary, Result};
use crate::board::SLOTS;
use crate::ipc::Channel;
use crate::metrics::Counters;
use crate::net::register_reader;
use crate::net::token::FIRST;
use crate::server::sticky::Sticky;
use crate::sorted::SortedMap;
use crate::sys::proc;
use crate::worker::{Seat, WorkerId};
use std::io;
use std::time::Duration;

/// How executing fails where there is no such program, or none that this system or user can execute.
const NEVER_EXECUTED: [io::ErrorKind; 3] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::Unsupported,
];

/// What the dead have done, and what was lost with them.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) counters: Counters,
    /// Workers that died by a fault, or by somebody's hand.
    pub(super) lost_workers: u64,
    /// Connections that were open in them.
    pub(super) lost_connections: u64,
    /// Requests that they were working on, so far as they had said.
    pub(super) lost_requests: u64,
    /// How many workers each place has had.
    pub(super) launched: SortedMap<usize, u64>,
}

impl Past {
    /// How many workers a place had before the present one.
    pub(super) fn launched_before(&self, place: usize) -> u64 {
        let launched = self.launched.get(&place).copied();
        launched.unwrap_or(0).saturating_sub(1)
    }
}

impl Primary {
    /// Launches a worker. In the child it returns the seat to work on.
    pub(super) fn fork(
        &mut self,
        place: usize,
        id: WorkerId,
        generation: u32,
    ) -> Result<Option<Box<Seat>>> {
        self.courtesy.end();
        match self.launch(place, id, generation) {
            Ok(Ok(seat)) => return Ok(Some(seat)),
            Ok(Err((carrier, recruit, slot))) => self.enlist(carrier, *recruit, slot),
            Err(source) if self.is_in_vain(source.kind()) => {
                return Err(match self.rules.program {
                    Some(_) => Error::Failed(source.to_string()),
                    None => Error::io("forking a worker")(source),
                });
            }
            Err(error) => {
                log::error!("worker {id} cannot be launched: {error}");
                let exit = Exit::Failed(format!("cannot be launched: {error}"));
                self.last_exit = exit.to_string();
                self.programs.refusals.ends(id);
                self.supervisor.exited(id, Death::Crash, self.reactor.now());
                self.gone(id, 0, &exit);
            }
        }
        Ok(None)
    }

    /// Whether no launch will ever do better than one that failed so.
    fn is_in_vain(&self, failed: io::ErrorKind) -> bool {
        if self.rules.program.is_none() {
            // Nothing will change while this process has threads; but those that serve go on.
            return failed == io::ErrorKind::Unsupported && self.members.is_empty();
        }
        // A program that was there once may come back: somebody is replacing it. And what the
        // application forks by itself is its own affair.
        self.supervisor.managed()
            && self.past.launched.is_empty()
            && NEVER_EXECUTED.contains(&failed)
    }

    /// In the child the seat; in the parent what carries the worker, and the number of its slot.
    #[allow(clippy::type_complexity, reason = "two outcomes, named by their use")]
    fn launch(
        &mut self,
        place: usize,
        id: WorkerId,
        generation: u32,
    ) -> io::Result<std::result::Result<Box<Seat>, (Carrier, Box<Recruit>, usize)>> {
        let number = (0..SLOTS).find(|number| !self.slots.contains(number));
        let number = number.ok_or_else(|| io::Error::other("the scoreboard is full"))?;
        let slot = self.board.slot(number);
        slot.clear();
        if let Some(program) = self.rules.program.clone() {
            let started = self.launch_program(&program, id, place)?;
            let recruit = Recruit {
                id,
                place,
                generation,
                handle: self.handle.add(id),
                channel: started.channel,
                slot,
                // It does not show on the board that its loop turns.
                heartbeat: None,
                program: Some(Box::new(started.child)),
            };
            return Ok(Err((started.carrier, Box::new(recruit), number)));
        }
        let (ours, theirs) = Channel::pair()?;
        let mut settings = self.rules.settings.clone();
        settings.env.extend(self.env_of(id));
        settings.place = place;
        let cookie = self.policy.cookie();
        settings.edge.sticky = cookie.map(|name| Sticky::new(name, place));
        settings.max_requests = self
            .rules
            .max_requests
            .map(|(most, jitter)| most + spread(id, jitter));
        let seat = Seat {
            id,
            channel: theirs,
            slot: slot.clone(),
            settings,
            on_worker: self.rules.on_worker.clone(),
            signals: None,
        };
        let carrier = match self.rules.mode.launch(&self.app, seat)? {
            Launched::Child(seat) => return Ok(Ok(seat)),
            Launched::Parent(carrier) => carrier,
        };
        let recruit = Recruit {
            id,
            place,
            generation,
            handle: self.handle.add(id),
            channel: ours,
            slot,
            heartbeat: self.rules.settings.heartbeat,
            program: None,
        };
        Ok(Err((carrier, Box::new(recruit), number)))
    }

    fn enlist(&mut self, carrier: Carrier, recruit: Recruit, number: usize) {
        let id = recruit.id;
        self.slots.insert(number);
        *self.past.launched.get_or_default(recruit.place) += 1;
        recruit.handle.set_pid(carrier.pid().as_raw());
        let member = Member::new(recruit, number, carrier, self.reactor.now());
        let token = FIRST + id.0 as usize;
        let heard = register_reader(self.reactor.registry(), &member.channel, token);
        self.members.add(member);
        self.begin_output(id);
        log::debug!("worker {id} is forked");
        self.tell(&Event::Fork { worker: id });
        self.send_messages(id);
        if let Err(error) = heard {
            log::error!("worker {id} cannot be heard: {error}");
            self.kill(id);
        }
    }

    /// Ends a worker at once, if it can be ended from outside.
    pub(super) fn kill(&mut self, id: WorkerId) {
        let Some(member) = self.members.get_mut(id).filter(|one| !one.buried) else {
            return;
        };
        let failed_to = if member.ready { "finish" } else { "listen" };
        match member.carrier.kill() {
            Ok(true) if member.stuck => log::debug!("{member} is killed"),
            Ok(true) => log::warn!("{member} is killed: it did not {failed_to} in time"),
            Ok(false) => {
                log::warn!(
                    "worker {id} is a thread and cannot be killed; it ends with its process"
                );
                self.last_exit = format!("worker {id} did not {failed_to} in time");
                // Nobody waits for it any more, but what it holds stays its own.
                let now = self.reactor.now();
                if self.supervisor.stopping() {
                    self.members.remove(id);
                    self.supervisor.exited(id, Death::Killed, now);
                } else {
                    self.supervisor.abandoned(id, now);
                }
            }
            Err(error) => log::error!("{member} cannot be killed: {error}"),
        }
    }

    /// A worker is gone: what it never took goes to others, and its place is filled again.
    pub(super) fn bury(&mut self, id: WorkerId, exit: &Exit) {
        if let Some(member) = self.members.get_mut(id) {
            member.buried = true;
        }
        self.hear_out(id);
        self.hear_last_output(id);
        self.disconnected(id);
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        self.slots.remove(&member.number);
        self.ports.forget(self.reactor.registry(), id);
        if member.is_program() {
            // What it alone had asked for is open still, and nobody would ever accept there.
            self.close_unused_later();
        }
        let now = self.reactor.now();
        let cause = self.cause(exit);
        let (how, death) = judge(exit, cause);
        self.programs.refusals.ends(id);
        let then = self.supervisor.exited(id, death, now);
        let next = match then {
            Then::Wait(at) => format!("; forking another in {:?}", at - now),
            Then::Fork(id) => format!("; forking worker {id}"),
            Then::Nothing => String::new(),
        };
        let voluntary = member.handle.is_leaving();
        let in_order = exit.in_order() || (voluntary && member.ends_by(exit, self.kill_signal()));
        if in_order {
            log::info!("{member} exited: {how}{next}");
        } else {
            log::warn!("{member} died: {how}{next}");
        }
        member.log_figures();
        self.remember(&member, in_order);
        let pid = member.carrier.pid().as_raw();
        let untaken = member.hand.into_untaken(&member.slot);
        if !untaken.is_empty() {
            log::info!(
                "{} connections that worker {id} never took go to others",
                untaken.len()
            );
        }
        self.deal_again(untaken);
        // It may have been about to accept one that still waits.
        self.grant_again_in(Duration::ZERO);
        self.drop_hopeless();
        self.last_exit = format!("worker {id} (pid {pid}) died: {how}");
        let (code, signal) = exit.numbers();
        member.handle.set_state(WorkerState::Dead);
        self.handle.remove(id);
        self.tell(&Event::Exit {
            worker: id,
            pid,
            code,
            signal,
            how,
            exited_after_disconnect: voluntary,
        });
    }

    /// Closes connections for which nobody will ever come: of listeners that one worker had alone,
    /// and of those that only workers wanted which are gone or about to go.
    pub(super) fn drop_hopeless(&mut self) {
        let (ports, members) = (&self.ports, &self.members);
        let programs = self.rules.program.is_some();
        let hopeful = |arrival: &Arrival| {
            let number = arrival.listener;
            let asked = |id| {
                ports
                    .get(number)
                    .is_some_and(|port| port.users.contains(&id))
            };
            let mut stay = members.iter().filter(|member| !member.leaving);
            // Where programs listen, others will that come in their place.
            let kept = programs && ports.get(number).is_some();
            kept || ports.is_configured(number)
                || stay.any(|member| member.listens.contains(&number) || asked(member.id))
        };
        self.waiting.retain(hopeful);
        self.peeks.retain(self.reactor.registry(), hopeful);
    }

    /// A worker that never was is gone. In a stop that is no accident: whoever forks another for
    /// each that dies would never come to an end.
    pub(super) fn gone(&mut self, id: WorkerId, pid: i32, exit: &Exit) {
        let handle = self.handle.add(id);
        if self.supervisor.stopping() {
            handle.set_leaving();
        }
        let voluntary = handle.is_leaving();
        if handle.set_disconnected() {
            self.tell(&Event::Disconnect { worker: id });
        }
        handle.set_state(WorkerState::Dead);
        self.handle.remove(id);
        let (code, signal) = exit.numbers();
        self.tell(&Event::Exit {
            worker: id,
            pid,
            code,
            signal,
            how: exit.to_string(),
            exited_after_disconnect: voluntary,
        });
    }

    /// Adds what a worker has done to what the dead have done.
    fn remember(&mut self, member: &Member, in_order: bool) {
        let (counters, _) = member.slot.read();
        if !in_order {
            self.past.lost_workers += 1;
            self.past.lost_connections += counters.open;
            self.past.lost_requests += counters.in_flight;
        }
        self.past.counters.add(&counters);
    }

    /// What the kernel had to do with an end.
    fn cause(&mut self, exit: &Exit) -> Option<&'static str> {
        if exit.numbers().1 != Some(libc::SIGKILL) {
            return None;
        }
        let before = self.memory_kills?;
        let kills = proc::memory_kills()?;
        self.memory_kills = Some(kills);
        (kills > before).then_some("killed for want of memory in its control group")
    }
}

impl Member {
    /// Whether that is how it ends that was told to go by a signal, and has no other way.
    fn ends_by(&self, exit: &Exit, signal: i32) -> bool {
        self.program.is_some() && exit.numbers().1 == Some(signal)
    }
}

/// An end in words, and whose fault it was.
fn judge(exit: &Exit, cause: Option<&str>) -> (String, Death) {
    let how = match cause {
        Some(cause) => format!("{exit}, {cause}"),
        None => exit.to_string(),
    };
    let by_hand = [
        libc::SIGKILL,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
    ];
    let death = match exit.numbers() {
        _ if exit.in_order() => Death::InOrder,
        (_, Some(signal)) if cause.is_none() && by_hand.contains(&signal) => Death::Killed,
        _ => Death::Crash,
    };
    (how, death)
}

/// From 0 to `most`, differently for each worker: so that they do not wear out together.
fn spread(id: WorkerId, most: u64) -> u64 {
    // The golden ratio spreads numbers in a row as evenly as can be.
    let turn = u64::from(id.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let share = u128::from(turn) * (u128::from(most) + 1);
    (share >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;

    #[test]
    fn ends_are_judged() {
        let signal = |signal| {
            Exit::Process(process::Exit::Signal {
                signal,
                core_dumped: false,
            })
        };
        let code = |code| Exit::Process(process::Exit::Code(code));
        let cases = [
            (code(0), None, "code 0", Death::InOrder),
            (code(7), None, "code 7", Death::Crash),
            (Exit::Finished, None, "end of thread", Death::InOrder),
            (
                Exit::Failed("panic: x".into()),
                None,
                "panic: x",
                Death::Crash,
            ),
            (signal(9), None, "signal 9 (SIGKILL)", Death::Killed),
            (
                signal(9),
                Some("out of memory"),
                "signal 9 (SIGKILL), out of memory",
                Death::Crash,
            ),
            (signal(15), None, "signal 15 (SIGTERM)", Death::Killed),
            (signal(11), None, "signal 11 (SIGSEGV)", Death::Crash),
        ];
        for (exit, cause, how, death) in cases {
            assert_eq!(judge(&exit, cause), (how.to_owned(), death));
        }
    }

    #[test]
    fn jitter_stays_within_its_bound_and_differs() {
        let all: Vec<u64> = (1..=8).map(|id| spread(WorkerId(id), 100)).collect();
        assert!(all.iter().all(|&one| one <= 100), "{all:?}");
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|two| two[1] - two[0] >= 4), "{all:?}");
        assert_eq!(spread(WorkerId(5), 0), 0);
    }
}
