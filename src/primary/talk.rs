//! The primary's half of the conversation: what it makes of what workers say.

use super::{Event, Primary, SchedulingPolicy, url};
use crate::ipc::{Message, Received};
use crate::worker::WorkerId;

impl Primary {
    /// Hears one message of a worker.
    pub(super) fn hear(&mut self, id: WorkerId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match member.receive() {
            Ok(Received::Message(message, _)) => self.heard(id, &message),
            Ok(Received::Nothing) => {}
            Ok(Received::Closed) => {
                member.hung_up(self.reactor.registry());
                self.deaths = true;
            }
            Err(error) => {
                log::error!("{member} cannot be understood: {error}");
                self.kill(id);
            }
        }
    }

    fn heard(&mut self, id: WorkerId, message: &Message) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        match message {
            Message::Online => {
                log::info!("{member} is online");
                let pid = member.carrier.pid().as_raw();
                self.tell(&Event::Online { worker: id, pid });
            }
            Message::QueryServer { listener } => {
                if self.refusing {
                    // First, or a worker that accepts by itself would find it closed.
                    self.stop_refusing();
                }
                self.offer(id, *listener);
            }
            Message::Listening { listener } => self.listening(id, *listener),
            Message::Disconnect => {
                log::info!("{member} is leaving");
                // In a stop all are told, when what was accepted before has been dealt to them.
                if self.stop_asked.is_none() {
                    member.disconnect();
                }
            }
            Message::Server { .. } | Message::Newconn { .. } => {
                log::warn!("{member} says what only a primary says: {message:?}");
            }
        }
    }

    fn offer(&mut self, id: WorkerId, listener: u32) {
        let shared = self.policy == SchedulingPolicy::Shared;
        let (Some(member), Some(found)) = (
            self.members.get_mut(id),
            self.gate.listeners().nth(listener as usize),
        ) else {
            return log::debug!("worker {id} comes too late for listener {listener}");
        };
        if let Err(error) = member.offer(listener, found, shared) {
            log::error!("{member} gets no listener: {error}");
            self.kill(id);
        }
    }

    fn listening(&mut self, id: WorkerId, listener: u32) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let Some(found) = self.gate.listeners().nth(listener as usize) else {
            return;
        };
        let address = url(found.address());
        member.listening += 1;
        let complete = member.listening == self.settings.listeners;
        log::debug!("{member} is listening on {address}");
        self.tell(&Event::Listening {
            worker: id,
            address,
        });
        if complete {
            self.supervisor.listening(id);
            let now = self.reactor.now();
            if let Some(member) = self.members.get_mut(id) {
                member.ready = true;
                log::info!(
                    "{member} is listening, {:?} after its fork",
                    now - member.since
                );
            }
        }
        if !self.announced && self.supervisor.all_listening() {
            self.announced = true;
            let addresses = self
                .gate
                .listeners()
                .map(|one| url(one.address()))
                .collect();
            self.tell(&Event::Ready { addresses });
        }
    }
}
