//! The other side of an upgrade: a program that finds itself in the place of a running primary.

use super::state::{MemberState, PastState, PortState, State};
use super::{VARIABLE, WILLING, go_back};
use crate::board::{Board, SLOTS};
use crate::ipc::Channel;
use crate::ipc::user::{Inbox, Outbox};
use crate::metrics::BUCKETS;
use crate::net::token::FIRST;
use crate::net::{Listen, register_reader};
use crate::primary::control::{Access, Sockets};
use crate::primary::handle::WorkerState;
use crate::primary::hands::Hand;
use crate::primary::link::Passage;
use crate::primary::members::{Member, Recruit};
use crate::primary::ports::Ports;
use crate::primary::vessel::Carrier;
use crate::primary::{Cluster, Error, Mode, Primary, Result, SchedulingPolicy};
use crate::sys::listener::Listener;
use crate::sys::process::{self, Pid};
use crate::sys::{clock, exec, socket};
use crate::worker::WorkerId;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a primary before this one has left.
#[derive(Debug)]
pub(in crate::primary) struct Inheritance {
    state: State,
    file: OwnedFd,
    role: Role,
}

/// What this program is here for, if it was started by a primary.
#[derive(Debug)]
enum Role {
    /// To say whether it would take over.
    Trial { answer: OwnedFd },
    /// To take over.
    Successor,
    /// To go on, since its successor had failed.
    Returned,
}

/// Hears what the program before says by the environment: the state, and what to do with it.
fn heard() -> Option<io::Result<(OwnedFd, Role)>> {
    let words = std::env::var(VARIABLE).ok()?;
    process::clear_variables(&[VARIABLE]);
    let mut words = words.split(':');
    let role = words.next();
    let mut fd = || {
        let number = words.next().and_then(|words| words.parse().ok());
        exec::adopt(number.unwrap_or(-1))
    };
    Some(fd().and_then(|state| {
        let role = match role {
            Some("try") => Role::Trial { answer: fd()? },
            Some("back") => Role::Returned,
            _ => Role::Successor,
        };
        Ok((state, role))
    }))
}

impl Inheritance {
    /// What there is to take over, if this program was started for it.
    ///
    /// # Errors
    ///
    /// When what was left makes no sense.
    pub(in crate::primary) fn find(settings: &Cluster) -> Result<Option<Self>> {
        let failed = Error::io("taking over from the program before");
        let Some(heard) = heard() else {
            return Ok(None);
        };
        let found = heard.and_then(|(file, role)| {
            let state = State::read(file.as_fd())?;
            settings.suits(&state)?;
            Ok(Self { state, file, role })
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) => Err(failed(error)),
        }
    }

    /// This program cannot take over: the one before comes back, or was never gone.
    pub(in crate::primary) fn give_up(&self, why: Error) -> Error {
        match self.role {
            Role::Trial { .. } => {
                log::error!("this program cannot take over: {why}");
                process::exit_now(i32::from(why.exit_code()));
            }
            Role::Successor => {
                let error = go_back(&self.state, &self.file, &why.to_string());
                Error::io("going back to the program before")(error)
            }
            Role::Returned => why,
        }
    }

    /// All that could fail has been done. A trial ends here, with its process; `made` is what it
    /// has made for no longer than this.
    pub(in crate::primary) fn conclude_trial<'a>(&self, made: impl Iterator<Item = &'a Listener>) {
        let Role::Trial { answer } = &self.role else {
            return;
        };
        for listener in made {
            if let Err(error) = listener.unlink() {
                log::warn!("{} cannot be removed: {error}", listener.address());
            }
        }
        let said = socket::write(answer.as_fd(), WILLING);
        process::exit_now(i32::from(said.is_err()));
    }

    /// The scoreboard.
    ///
    /// # Errors
    ///
    /// When it did not come.
    pub(in crate::primary) fn board(&self) -> io::Result<Arc<Board>> {
        let made = Duration::from_micros(self.state.board_epoch);
        let age = clock::monotonic().saturating_sub(made);
        let epoch = Instant::now().checked_sub(age);
        let epoch = epoch.ok_or_else(|| io::Error::other("the board is older than the clock"))?;
        Board::restored(exec::adopt(self.state.board)?, epoch)
    }

    /// Its way to other clusters.
    pub(in crate::primary) fn passage(&self) -> Option<&Passage> {
        self.state.link.as_ref()
    }

    /// Where the settings of the program before had it listen.
    pub(in crate::primary) fn listened(&self) -> Vec<Listen> {
        let words = self.state.ports.iter();
        let words = words.filter_map(|port| port.configured.as_deref());
        words.filter_map(|words| words.parse().ok()).collect()
    }

    /// Whether everything that was left is there.
    ///
    /// # Errors
    ///
    /// Names what is not.
    pub(in crate::primary) fn look_over(&self) -> Result<()> {
        let numbers = self.state.descriptors();
        numbers
            .iter()
            .try_for_each(|number| exec::look_at(*number).map(drop))
            .map_err(Error::io("taking over from the program before"))
    }

    /// Takes from what is `wanted` the sockets that are there already.
    pub(in crate::primary) fn leave_out(&self, wanted: &mut Access) {
        if self.has_control(wanted) {
            (wanted.path, wanted.name) = (None, None);
        }
        if self.has_admin(wanted) {
            wanted.admin = None;
        }
    }

    fn has_control(&self, wanted: &Access) -> bool {
        let there = self.state.control.as_ref().map(|(path, _)| path);
        there.is_some() && wanted.path().as_ref() == there
    }

    fn has_admin(&self, wanted: &Access) -> bool {
        let there = self.state.admin.as_ref().map(|(words, _)| words);
        there.is_some() && wanted.admin.as_ref() == there
    }

    /// Adds the sockets that are there to those that were made; closes those not wanted.
    ///
    /// # Errors
    ///
    /// When one did not come.
    pub(in crate::primary) fn add_sockets(
        &self,
        wanted: &Access,
        sockets: &mut Sockets,
    ) -> Result<()> {
        let adopt = |fd: i32| {
            exec::adopt(fd)
                .and_then(|fd| Listener::restored(fd, false))
                .map_err(Error::io("taking the control interface over"))
        };
        if let Some((_, fd)) = &self.state.control {
            let listener = adopt(*fd)?;
            if self.has_control(wanted) {
                sockets.control = Some(listener);
            } else if let Err(error) = listener.unlink() {
                log::warn!("{} cannot be removed: {error}", listener.address());
            }
        }
        if let Some((_, fd)) = &self.state.admin {
            let listener = adopt(*fd)?;
            if self.has_admin(wanted) {
                sockets.admin = Some(listener);
            }
        }
        Ok(())
    }

    /// The listeners, to which the settings' other ones are then added.
    ///
    /// # Errors
    ///
    /// When one did not come.
    pub(in crate::primary) fn ports(&mut self, registry: &mio::Registry) -> io::Result<Ports> {
        let ports = std::mem::take(&mut self.state.ports).into_iter();
        let restored = ports.map(PortState::adopt).collect::<io::Result<_>>()?;
        Ports::restored(registry, restored, self.state.next_number)
    }
}

impl Cluster {
    /// Whether these settings can go on with what is there.
    fn suits(&self, state: &State) -> io::Result<()> {
        let slots = state.members.iter().map(|member| member.slot);
        if slots.max().is_some_and(|slot| slot >= SLOTS) {
            return Err(io::Error::other("there are more workers than slots"));
        }
        if self.mode != Mode::Processes {
            return Err(io::Error::other("processes cannot become threads"));
        }
        let program = self.program.as_ref();
        let suits = |member: &MemberState| match &member.program {
            Some(left) => left.is_of(program),
            None => program.is_none(),
        };
        if !state.members.iter().all(suits) {
            return Err(io::Error::other(
                "the workers are programs of another kind: stop and start instead",
            ));
        }
        Ok(())
    }
}

impl Primary {
    /// Goes on where the program before stopped. Then all workers are replaced by this program's.
    ///
    /// # Errors
    ///
    /// When something that was left did not come.
    pub(in crate::primary) fn resume(&mut self, inheritance: Inheritance) -> io::Result<()> {
        let Inheritance { state, role, .. } = inheritance;
        drop(exec::adopt(state.former));
        let now = self.reactor.now();
        let age = Duration::from_micros(state.age);
        self.began = now.checked_sub(age).unwrap_or(now);
        self.announced = state.announced;
        self.refusing = state.refusing;
        if self.refusing {
            self.ports.gate.pause(self.reactor.registry(), None);
        } else {
            // One that could not be opened again before is noticed now, and tried again.
            self.ports.open_again(self.reactor.registry(), now);
        }
        let configured = self.handle.settings();
        let same = |words: &str| configured.is_some_and(|s| s.schedule.to_string() == words);
        if same(&state.configured_schedule)
            && let Ok(policy) = state.schedule.parse::<SchedulingPolicy>()
        {
            self.policy = policy;
        }
        let same_number = configured.is_some_and(|s| s.workers == state.configured_workers);
        let wanted = same_number.then_some(state.wanted);
        let records = state.members.iter().map(|member| member.record.clone());
        self.supervisor
            .resume(records, wanted, state.generation, state.last_id, now);
        self.past.resume(state.past);
        if let Some(passage) = &state.link {
            // Also where nobody goes on with it: it must not stay open.
            let socket = passage.fd.map(exec::adopt).transpose()?;
            let registry = self.reactor.registry();
            self.handle
                .resume_link(&mut self.link, registry, now, passage, socket)?;
        }
        for member in state.members {
            self.resume_member(member)?;
        }
        self.resume_programs(state.programs);
        for arrival in state.waiting {
            let arrival = arrival.adopt()?;
            match arrival.affinity.is_none() && arrival.is_fresh() {
                // It may not have said yet whose it is.
                true => self.arrived(arrival),
                false => self.waiting.push_back(arrival),
            }
        }
        // Somebody may have died while nobody listened.
        self.deaths = true;
        if matches!(role, Role::Returned) {
            log::error!("upgrade failed: the program before goes on");
        } else {
            self.own_generation = self.supervisor.generation() + 1;
            log::info!(
                "upgraded: this program took over {} workers",
                self.members.len()
            );
            if self.supervisor.managed() {
                self.reload_first = true;
            }
        }
        Ok(())
    }

    fn resume_member(&mut self, state: MemberState) -> io::Result<()> {
        let now = self.reactor.now();
        let id = WorkerId(state.record.id);
        let channel = exec::adopt(state.channel)?;
        let pid = Pid::from_raw(state.pid);
        let mut left = state.program;
        let (carrier, mut channel, program) = match &mut left {
            None => (Carrier::Process(pid), Channel::from_fd(channel), None),
            Some(left) => {
                let started = left.begin(id, pid, channel)?;
                let child = Some(Box::new(started.child));
                (started.carrier, started.channel, child)
            }
        };
        for (datagram, with) in state.unsent {
            let with = with.into_iter().map(exec::adopt);
            channel.push_unsent(datagram, with.collect::<io::Result<_>>()?);
        }
        register_reader(self.reactor.registry(), &channel, FIRST + id.0 as usize)?;
        let handle = self.handle.add(id);
        handle.set_pid(state.pid);
        handle.set_state(match (state.ready, state.online) {
            (true, _) => WorkerState::Listening,
            (false, true) => WorkerState::Online,
            (false, false) => WorkerState::Forked,
        });
        if state.leaving {
            handle.set_leaving();
        }
        let recruit = Recruit {
            id,
            place: state.record.place,
            generation: state.record.generation,
            handle,
            channel,
            slot: self.board.slot(state.slot),
            heartbeat: None,
            program,
        };
        let mut member = Member::new(recruit, state.slot, carrier, now);
        let age = Duration::from_micros(state.record.age);
        member.since = now.checked_sub(age).unwrap_or(now);
        member.listens = state.listens;
        member.ready = state.ready;
        if state.online {
            member.conduct.begins(member.since);
        }
        member.leaving = state.leaving;
        member.owes_last_word = state.owes_last_word;
        member.owed = state.owed;
        member.beat = (member.slot.turns(), now);
        member.heartbeat = state.heartbeat.map(Duration::from_micros);
        let untaken = state
            .untaken
            .into_iter()
            .map(super::state::ArrivalState::adopt);
        let untaken = untaken.collect::<io::Result<_>>()?;
        member.hand = Hand::resumed(state.handed, state.granted, untaken, now);
        let awaited = state.awaited.unwrap_or(usize::MAX);
        member.outbox = Outbox::resumed(state.outgoing, awaited, state.under_way);
        member.inbox = Inbox::resumed(state.incoming);
        self.slots.insert(state.slot);
        self.members.add(member);
        if let Some(left) = left {
            self.resume_program(id, *left);
        }
        Ok(())
    }
}

impl crate::primary::life::Past {
    fn resume(&mut self, state: PastState) {
        let counters = &mut self.counters;
        counters.connections = state.connections;
        counters.requests = state.requests;
        counters.bytes_in = state.bytes_in;
        counters.bytes_out = state.bytes_out;
        counters.classes = state.classes;
        for (bucket, count) in state.latency.into_iter().take(BUCKETS).enumerate() {
            counters.latency[bucket] = count;
        }
        (self.lost_workers, self.lost_connections, self.lost_requests) = state.lost;
        self.launched = state.launched;
    }
}
