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
                let shared = self.policy == SchedulingPolicy::Shared;
                match self.gate.listeners().nth(*listener as usize) {
                    Some(found) => member.offer(*listener, found, shared),
                    None => log::debug!("{member} comes too late for listener {listener}"),
                }
            }
            Message::Listening { listener } => self.listening(id, *listener),
            Message::Disconnect => {
                log::info!("{member} is leaving");
                let back = member.leave();
                self.waiting.extend(back);
            }
            Message::Server { .. } | Message::Newconn { .. } => {
                log::warn!("{member} says what only a primary says: {message:?}");
            }
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
