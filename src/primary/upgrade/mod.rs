//! Upgrade in place: another program takes this one's place, with its process id, its listeners
//! and its workers, which serve throughout.
//!
//! First the new program is tried: a child of it reads the state, judges its settings and says
//! that it would take over. Only then this process becomes the new program by execve(2). It finds
//! the state (`state`) in a memfd and goes on where this one stopped (`resume`); then it reloads,
//! so that the workers are of the new program, too. Should it fail before it has taken anything
//! over, it becomes the former program again.

mod resume;
mod state;

use super::handle::WorkerState;
use super::{Mode, Primary};
use crate::ipc::VERSION;
use crate::net::{deregister, register_reader};
use crate::sys::exec::TAKE_OVER as VARIABLE;
use crate::sys::listener::{Address, Listener};
use crate::sys::process::{self, Pid};
use crate::sys::socket;
use crate::sys::{clock, exec};
use state::{Kept, MemberState, PastState, State};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) use resume::Inheritance;

/// The token of the trial's answer.
pub(super) const TRIAL: usize = 3;

/// How long a trial may take at least: it may have files to read that are programs themselves.
const TRIAL_TIME: Duration = Duration::from_secs(30);

/// What a program says in its trial that would take over.
const WILLING: &[u8] = b"mcluster: willing to take over\n";

/// A trial that is under way.
#[derive(Debug)]
pub(super) struct Trial {
    child: Child,
    answer: OwnedFd,
    said: Vec<u8>,
    until: Instant,
}

impl Trial {
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Whether it is this process.
    pub(super) fn is(&self, pid: Pid) -> bool {
        self.child.id() == pid.as_raw().unsigned_abs()
    }
}

/// Where this program was started from: what is there later is what takes over.
pub(super) fn program() -> PathBuf {
    let found = std::env::args_os().next().and_then(|name| {
        let name = PathBuf::from(name);
        if name.components().count() > 1 {
            return std::path::absolute(&name).ok();
        }
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path).map(|place| place.join(&name));
        places.find(|place| place.is_file())
    });
    let found = found.filter(|path| path.is_file());
    found
        .or_else(|| std::env::current_exe().ok())
        .unwrap_or_default()
}

impl Primary {
    /// Begins to be replaced: has the new program tried.
    pub(super) fn upgrade(&mut self) {
        let refusal = if self.rules.mode == Mode::Threads {
            Some("threads end with their program")
        } else if self.trial.is_some() {
            Some("one is under way")
        } else if self.supervisor.reloading() {
            Some("a reload is under way")
        } else if self.was_told_to_stop() {
            Some("the cluster is stopping")
        } else {
            None
        };
        if let Some(why) = refusal {
            return log::warn!("no upgrade: {why}");
        }
        log::info!("upgrading: trying {}", self.program.display());
        if let Err(error) = self.try_out() {
            log::error!("no upgrade: {}: {error}", self.program.display());
        }
    }

    fn try_out(&mut self) -> io::Result<()> {
        self.courtesy.end();
        let (ours, theirs) = socket::pair_seqpacket()?;
        let state = self.state(&mut Kept::default(), 0).write()?;
        let mut kept = Kept::default();
        let variable = format!(
            "try:{}:{}",
            kept.keep(state.as_fd()),
            kept.keep(theirs.as_fd())
        );
        kept.open_across_exec()?;
        // First: a child that cannot be heard would be left to itself.
        register_reader(self.reactor.registry(), &ours, TRIAL)?;
        let child = Command::new(&self.program)
            .args(std::env::args_os().skip(1))
            .envs(self.environment())
            .env(VARIABLE, variable)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        drop(kept);
        self.trial = Some(Trial {
            child,
            answer: ours,
            said: Vec::new(),
            until: self.reactor.now() + self.rules.patience.start.max(TRIAL_TIME),
        });
        Ok(())
    }

    /// The trial has said something, or ended, or takes too long.
    pub(super) fn hear_trial(&mut self) {
        let Some(trial) = &mut self.trial else {
            return;
        };
        let mut buffer = [0; 256];
        let over = match socket::read(trial.answer.as_fd(), &mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                trial.said.extend_from_slice(&buffer[..count]);
                trial.said == WILLING || trial.said.len() > WILLING.len()
            }
            Err(error) if socket::would_block(&error) => trial.until <= self.reactor.now(),
            Err(_) => true,
        };
        if !over {
            return;
        }
        let Some(mut trial) = self.trial.take() else {
            return;
        };
        if let Err(error) = deregister(self.reactor.registry(), &trial.answer) {
            log::debug!("a trial cannot be forgotten: {error}");
        }
        // It has said all there is to say; its end is a formality, and not waited for in vain.
        let _ = trial.child.kill();
        let status = trial.child.wait();
        // Somebody may have died behind it.
        self.deaths = true;
        if trial.said == WILLING {
            // Not in the midst of a turn: what was asked for meanwhile is done first.
            self.willing = true;
        } else {
            let program = self.program.display();
            match status {
                Ok(status) => log::error!("no upgrade: {program} does not take over: {status}"),
                Err(_) => log::error!("no upgrade: {program} does not take over"),
            }
        }
    }

    /// Becomes the program that is willing, if there is one.
    pub(super) fn hand_on(&mut self) {
        if std::mem::take(&mut self.willing) {
            // What can be out is not carried.
            self.send_to_link();
            self.courtesy.end();
            let error = self.become_the_next();
            log::error!("no upgrade: {}: {error}", self.program.display());
        }
    }

    /// There is no upgrade any more: the cluster stops.
    pub(super) fn abandon_upgrade(&mut self) {
        self.willing = false;
        if let Some(mut trial) = self.trial.take() {
            log::info!("no upgrade: the cluster is stopping");
            if let Err(error) = deregister(self.reactor.registry(), &trial.answer) {
                log::debug!("a trial cannot be forgotten: {error}");
            }
            let _ = trial.child.kill();
            let _ = trial.child.wait();
        }
    }

    /// Comes back only if that fails.
    fn become_the_next(&self) -> io::Error {
        log::info!(
            "upgrading: process {} becomes the new program",
            process::pid()
        );
        let replaced = || -> io::Result<io::Error> {
            let former = std::fs::File::open("/proc/self/exe")?;
            let mut kept = Kept::default();
            let former = kept.keep(former.as_fd());
            let state = self.state(&mut kept, former).write()?;
            kept.open_across_exec()?;
            exec::keep_across_exec(state.as_fd(), true)?;
            let variable = format!("take:{}", state.as_raw_fd());
            Ok(replace(&self.program, &self.environment(), &variable))
        };
        replaced().unwrap_or_else(|error| error)
    }

    /// The variables that the next program needs beside those that this one has.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        self.service.variables()
    }

    /// All that the next program must know; the descriptors in it are noted in `kept`.
    fn state<'a>(&'a self, kept: &mut Kept<'a>, former: i32) -> State {
        let now = self.reactor.now();
        let micros = |time: std::time::Duration| time.as_micros() as u64;
        let epoch = clock::monotonic().saturating_sub(self.board.epoch().elapsed());
        let (control, admin) = self.console.as_ref().map_or((None, None), |console| {
            let (control, admin) = console.sockets();
            let words = self.rules.admin.clone().unwrap_or_default();
            let path = |listener: &Listener| match listener.address() {
                Address::Unix(path) => path.clone(),
                Address::Inet(_) => PathBuf::new(),
            };
            (
                control.map(|listener| (path(listener), kept.keep(listener.as_fd()))),
                admin.map(|listener| (words, kept.keep(listener.as_fd()))),
            )
        });
        let settings = self.handle.settings();
        State {
            protocol: VERSION,
            former,
            age: micros(now.saturating_duration_since(self.began)),
            configured_workers: settings.map_or(0, |settings| settings.workers),
            configured_schedule: settings.map_or_else(String::new, |s| s.schedule.to_string()),
            schedule: self.policy.to_string(),
            wanted: self.supervisor.wanted(),
            managed: self.supervisor.managed(),
            generation: self.supervisor.generation(),
            last_id: self.supervisor.ids().get(),
            announced: self.announced,
            refusing: self.refusing,
            board: kept.keep(self.board.as_fd()),
            board_epoch: micros(epoch),
            ports: self
                .ports
                .iter()
                .filter_map(|port| kept.port(&self.ports, port))
                .collect(),
            next_number: self.ports.next_number(),
            control,
            admin,
            members: self
                .members
                .iter()
                .filter_map(|member| self.member_state(member, kept))
                .collect(),
            waiting: self
                .waiting
                .iter()
                .chain(self.peeks.iter())
                .filter(|arrival| !arrival.is_queued())
                .map(|arrival| kept.arrival(arrival))
                .collect(),
            past: self.past_state(),
            programs: self.leave_programs(),
            link: self.handle.leave_link(&self.link).map(|(mut passage, fd)| {
                passage.fd = fd.map(|fd| kept.keep(fd));
                passage
            }),
        }
    }

    fn member_state<'a>(
        &self,
        member: &'a super::members::Member,
        kept: &mut Kept<'a>,
    ) -> Option<MemberState> {
        let (handed, granted, untaken) = member.hand.parts();
        let (outgoing, under_way) = member.outbox.parts();
        Some(MemberState {
            record: self.supervisor.record(member.id, self.reactor.now())?,
            pid: member.carrier.pid().as_raw(),
            slot: member.number,
            channel: kept.keep(member.channel.as_fd()),
            unsent: member
                .channel
                .unsent()
                .map(|(bytes, with)| {
                    let with = with.iter().map(|fd| kept.keep(fd.as_fd()));
                    (bytes.to_vec(), with.collect())
                })
                .collect(),
            listens: member.listens.clone(),
            online: member.handle.state() != WorkerState::Forked,
            ready: member.ready,
            leaving: member.leaving,
            owes_last_word: member.owes_last_word,
            owed: member.owed,
            handed,
            granted,
            heartbeat: member.heartbeat.map(|beat| beat.as_micros() as u64),
            untaken: untaken.map(|arrival| kept.arrival(arrival)).collect(),
            outgoing,
            awaited: Some(member.outbox.awaited()),
            under_way,
            incoming: member.inbox.partial().to_vec(),
            program: self.leave_program(member, &mut |fd| kept.keep(fd)),
        })
    }

    fn past_state(&self) -> PastState {
        let past = &self.past;
        let counters = &past.counters;
        PastState {
            connections: counters.connections,
            requests: counters.requests,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            classes: counters.classes,
            latency: counters.latency.to_vec(),
            lost: (past.lost_workers, past.lost_connections, past.lost_requests),
            launched: past.launched.clone(),
        }
    }
}

/// Becomes `program`, with this one's arguments and environment, and `variable` in it.
fn replace(program: &Path, more: &[(OsString, OsString)], variable: &str) -> io::Error {
    let args: Vec<OsString> = std::env::args_os().collect();
    exec::exec(program, &args, &environment(more, variable))
}

fn environment(more: &[(OsString, OsString)], variable: &str) -> Vec<(OsString, OsString)> {
    let own = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
    let mut all: Vec<_> = own.collect();
    all.extend(more.iter().cloned());
    all.push((VARIABLE.into(), variable.into()));
    all
}

/// Goes back to the program that left its place to this one, which could not take it.
fn go_back(state: &State, file: &OwnedFd, why: &str) -> io::Error {
    log::error!("upgrade failed: {why}; the program before goes on");
    let former = match exec::look_at(state.former) {
        Ok(former) => former,
        Err(error) => return error,
    };
    if let Err(error) = exec::keep_across_exec(file.as_fd(), true) {
        return error;
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    let variable = format!("back:{}", file.as_raw_fd());
    exec::exec_fd(former, &args, &environment(&[], &variable))
}
