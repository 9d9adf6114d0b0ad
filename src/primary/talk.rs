//! The primary's half of the conversation: what it hears of a worker and what it says to it.

use super::handle::WorkerState;
use super::hands::Arrival;
use super::members::Member;
use super::rendezvous::Affinity;
use super::{Event, Primary};
use crate::ipc::user::Kind;
use crate::ipc::{Ask, HAND, Message, Received, is_gone};
use crate::net::token::FIRST;
use crate::net::{deregister, register_reader, url};
use crate::worker::WorkerId;
use std::io;
use std::os::fd::OwnedFd;

/// Pieces that a worker may have under way, and then some; and what may wait to be said to one.
const MOST_OWED: u32 = 64;
const MOST_UNSENT: usize = 4096;

/// Messages heard of one worker in a row: more than a channel holds.
const MOST_HEARD: usize = 4096;

impl Primary {
    /// Hears one message of a worker, and what came with it.
    pub(super) fn hear(&mut self, id: WorkerId) {
        let unheard = |one: &Member| one.channel.has_unheard();
        while self.hear_once(id) && self.members.get(id).is_some_and(unheard) {}
    }

    /// Hears all that a worker has said that is gone.
    pub(super) fn hear_out(&mut self, id: WorkerId) {
        // Bounded: one that lives may say things as fast as they are heard.
        for _ in 0..MOST_HEARD {
            if !self.hear_once(id) {
                break;
            }
        }
    }

    /// Hears those that leave, some of which may be gone: what they hand back is worth more than
    /// their burial.
    pub(super) fn hear_the_leaving(&mut self) {
        let leaving = self.members.iter().filter(|one| one.leaving);
        for id in leaving.map(|one| one.id).collect::<Vec<_>>() {
            self.hear_out(id);
        }
    }

    /// Whether there was a message.
    fn hear_once(&mut self, id: WorkerId) -> bool {
        let leaving =
            |one: &Member| one.leaving && !one.hung_up && !one.buried && !one.is_program();
        if self.members.get(id).is_some_and(leaving) && self.holds_enough() {
            // It may be about to hand connections back: they wait in its channel.
            return self.hear_later(id);
        }
        let Some(member) = self.members.get_mut(id).filter(|one| !one.hung_up) else {
            return false;
        };
        match member.receive(&mut self.buffer) {
            Ok(Received::Message(message, with)) => {
                self.heard(id, message, with);
                self.see_that_it_listens(id);
                return true;
            }
            Ok(Received::Nothing) => {}
            Ok(Received::Closed) => {
                member.hung_up(self.reactor.registry());
                self.deaths = true;
                self.program_hung_up(id);
                self.disconnected(id);
            }
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                log::error!("{member} handed back connections that there is no room for: {error}");
                return true;
            }
            Err(error) => {
                log::error!("{member} cannot be understood: {error}");
                if member.is_program() {
                    // It is no Node program, or one that writes to its channel by itself. Nothing
                    // that it says from here on would mean anything.
                    member.hung_up(self.reactor.registry());
                }
                // What else it has said is worth hearing, once it is gone.
                let gone = member.buried && error.kind() == io::ErrorKind::InvalidData;
                self.kill(id);
                return gone;
            }
        }
        false
    }

    /// Whether the primary holds as many connections as it should.
    fn holds_enough(&self) -> bool {
        let nobody_stays = !self.supervisor.managed() && self.members.iter().all(|one| one.leaving);
        if self.supervisor.stopping() || nobody_stays {
            // Nobody will make room, so nothing is won by waiting for it.
            return false;
        }
        let handed: usize = self.members.iter().map(|one| one.hand.held()).sum();
        let waiting = self.waiting.iter().filter(|one| !one.is_queued()).count();
        waiting + self.peeks.len() + handed + HAND > self.rules.most_held
    }

    /// Does not hear a worker until [`Primary::hear_again`].
    fn hear_later(&mut self, id: WorkerId) -> bool {
        if let Some(member) = self.members.get(id)
            && self.unheard.insert(id)
            && let Err(error) = deregister(self.reactor.registry(), &member.channel)
        {
            log::error!("{member} cannot be kept waiting: {error}");
        }
        false
    }

    /// Hears those again that had to wait, once there is room for what they may bring.
    pub(super) fn hear_again(&mut self) {
        if self.unheard.is_empty() || self.holds_enough() {
            return;
        }
        // They may be gone by now, and were not buried before all was heard.
        self.deaths = true;
        for id in std::mem::take(&mut self.unheard) {
            let Some(member) = self.members.get(id).filter(|one| !one.hung_up) else {
                continue;
            };
            let token = FIRST + id.0 as usize;
            if let Err(error) = register_reader(self.reactor.registry(), &member.channel, token) {
                log::error!("{member} cannot be heard: {error}");
            }
        }
    }

    /// Ends a worker that says much and hears nothing.
    fn see_that_it_listens(&mut self, id: WorkerId) {
        let deaf = |one: &&Member| one.owed > MOST_OWED || one.channel.count_unsent() > MOST_UNSENT;
        if let Some(member) = self.members.get(id).filter(deaf) {
            log::error!("{member} does not listen to what it is told");
            self.kill(id);
        }
    }

    /// It can no longer be spoken to.
    pub(super) fn disconnected(&mut self, id: WorkerId) {
        let new = |handle: &super::WorkerHandle| handle.set_disconnected();
        if self.members.get(id).is_some_and(|one| new(&one.handle)) {
            self.tell(&Event::Disconnect { worker: id });
        }
    }

    pub(super) fn heard(&mut self, id: WorkerId, message: Message, with: Vec<OwnedFd>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match message {
            Message::Online => {
                log::info!("{member} is online");
                member.conduct.begins(self.reactor.now());
                let pid = member.carrier.pid().as_raw();
                member.handle.set_state(WorkerState::Online);
                self.tell(&Event::Online { worker: id, pid });
            }
            Message::QueryServer { query, ask } => {
                if self.refusing {
                    // First, or a worker that accepts by itself would find it closed.
                    self.stop_refusing();
                }
                self.offer(id, query, &ask);
            }
            Message::Listening { listener } => self.listening(id, listener),
            Message::ListeningAlone { address } => {
                let address = url(&address);
                log::info!("{member} listens on {address} by itself");
                member.handle.set_state(WorkerState::Listening);
                self.tell(&Event::Listening {
                    worker: id,
                    address,
                });
            }
            Message::Ready => self.ready(id),
            Message::Disconnect { .. } => {
                log::info!("{member} is leaving");
                member.handle.set_leaving();
                self.program_leaves(id);
                // In a stop all are told, when what was accepted before has been dealt to them.
                if self.stop_asked.is_none() && !self.supervisor.stopping() {
                    if let Some(member) = self.members.get_mut(id) {
                        member.leaving = true;
                    }
                    self.supervisor.leaves(id, self.reactor.now());
                }
            }
            Message::Worn => {
                log::info!("{member} has answered as many requests as it should");
                self.supervisor.worn(id);
            }
            Message::Newconn { listener, hand } => {
                // Its client is to find who has its place from now on.
                let place = Affinity::of_place(member.place);
                let arrivals = with.into_iter().zip(hand);
                let arrivals = arrivals.map(|(socket, handed)| Arrival {
                    socket: Some(socket),
                    handed,
                    listener,
                    affinity: Some(place),
                    late: false,
                });
                self.waiting.extend(arrivals);
                self.drop_hopeless();
            }
            Message::Data(piece) => self.piece(id, &piece),
            Message::Took(pieces) => {
                member.outbox.took(pieces);
                member.send_pieces();
                self.report_queue(id);
            }
            Message::Close { .. }
            | Message::Answered { .. }
            | Message::Mine(_)
            | Message::Text(_) => {
                self.hear_program(id, message);
            }
            Message::Server { .. }
            | Message::Refused { .. }
            | Message::Accept { .. }
            | Message::Queue { .. }
            | Message::Grant { .. }
            | Message::Sticky { .. }
            | Message::AccessLog
            | Message::Sweep => {
                log::warn!("{member} says what only a primary says: {message:?}");
            }
        }
    }

    /// A piece of the application's messages has come.
    fn piece(&mut self, id: WorkerId, piece: &[u8]) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match member.inbox.piece(piece) {
            Ok(messages) => {
                for (kind, message) in messages {
                    let worker = id;
                    match kind {
                        Kind::Message => self.tell(&Event::Message { worker, message }),
                        Kind::Broadcast => self.pass_on(worker, &message),
                        Kind::Publish => self.publish(&message),
                    }
                }
                if let Some(member) = self.members.get_mut(id) {
                    member.owed += 1;
                    member.acknowledge();
                }
            }
            Err(error) => {
                log::error!("{member} cannot be understood: {error}");
                self.kill(id);
            }
        }
    }

    /// Says how much waits to be sent to a worker; and that there is room again, if there was not.
    pub(super) fn report_queue(&mut self, id: WorkerId) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let queued = member.outbox.queued() + member.conduct.queued();
        if member.handle.set_queued(queued) {
            self.tell(&Event::Drain { worker: id });
        }
    }

    fn offer(&mut self, id: WorkerId, query: u32, ask: &Ask) {
        if self.is_stopping() {
            return log::debug!("worker {id} comes too late for {ask}");
        }
        let registry = self.reactor.registry();
        let dropped = self.rules.settings.identity.is_some();
        let found = self.ports.find(registry, ask, id, dropped);
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let number = match found {
            Ok(number) => number,
            Err(why) => {
                member.cannot_listen(ask, &why.why, self.reactor.now());
                if member.is_program() {
                    self.programs.refusals.note(id, ask, &why);
                }
                return member.say(&Message::Refused { query, why });
            }
        };
        let Some(port) = self.ports.get(number) else {
            return;
        };
        let (address, data) = (port.address.clone(), port.data.clone());
        let socket = self
            .ports
            .socket(registry, number, member.place, &self.policy);
        let message = Message::Server {
            query,
            listener: number,
            shared: socket.is_some(),
            address,
            data,
        };
        if member.is_program() && socket.is_some() {
            member.shares.insert(number);
        }
        let mut sent = member.channel.send(&message, socket.as_slice());
        if let Some(queue) = self.ports.queue(number, &self.policy) {
            let message = Message::Queue { listener: number };
            sent = sent.and_then(|()| member.channel.send(&message, &[queue]));
        }
        match sent {
            Ok(()) => {}
            // It has ended by itself, or is about to: how, it should say by itself too.
            Err(error) if is_gone(&error) => log::debug!("{member} gets no listener: {error}"),
            Err(error) => {
                log::error!("{member} gets no listener: {error}");
                self.kill(id);
            }
        }
    }

    /// Tells a worker what the policy is for it: which listeners it accepts from by itself, and by
    /// which cookie its clients are to come back. Also of those that it was offered and has not said yet that it listens on.
    pub(super) fn tell_policy(&mut self, id: WorkerId) {
        let registry = self.reactor.registry();
        // Programs have no words for it.
        let stays = |one: &&mut Member| !one.leaving && !one.is_program();
        let Some(member) = self.members.get_mut(id).filter(stays) else {
            return;
        };
        let cookie = self.policy.cookie().map(str::to_owned);
        member.say(&Message::Sticky { cookie });
        let offered = self.ports.iter().filter(|port| port.users.contains(&id));
        for listener in offered.map(|port| port.number).collect::<Vec<_>>() {
            let socket = self
                .ports
                .socket(registry, listener, member.place, &self.policy);
            let shared = socket.is_some();
            member.say_with(&Message::Accept { listener, shared }, socket.as_slice());
            if let Some(queue) = self.ports.queue(listener, &self.policy) {
                member.say_with(&Message::Queue { listener }, &[queue]);
            }
        }
    }

    pub(super) fn listening(&mut self, id: WorkerId, listener: u32) {
        let (Some(member), Some(port)) = (self.members.get_mut(id), self.ports.get(listener))
        else {
            return;
        };
        let address = port.url();
        member.listens.insert(listener);
        member.conduct.note_listening();
        self.programs.note_listening();
        log::debug!("{member} is listening on {address}");
        member.handle.set_state(WorkerState::Listening);
        self.tell(&Event::Listening {
            worker: id,
            address,
        });
    }

    /// A worker has begun, and listens on all that it should. One that listens nowhere, or alone,
    /// is as good as any.
    pub(super) fn ready(&mut self, id: WorkerId) {
        self.supervisor.listening(id);
        let now = self.reactor.now();
        if let Some(member) = self.members.get_mut(id) {
            member.ready = true;
            member.beat = (member.slot.turns(), now);
            let what = match member.is_program() && member.listens.is_empty() {
                true => "taken for ready",
                false => "listening",
            };
            let age = now - member.since;
            log::info!("{member} is {what}, {age:?} after its fork");
        }
        self.let_come(id);
        if !self.announced && self.supervisor.all_listening() {
            self.announced = true;
            let addresses = self.ports.addresses();
            self.tell(&Event::Ready { addresses });
        }
    }
}
