//! The listeners that an upgrade in place leaves to this program.
//!
//! Owns making [`Ports`] of them. What of the state they are read from is left to `upgrade`.

use super::{Ports, Steering};
use crate::ipc::Ask;
use crate::sorted::SortedSet;
use crate::sys::datagram::DatagramSocket;
use crate::sys::listener::Listener;
use crate::worker::WorkerId;
use std::io;

/// A listener of the program before this one.
#[derive(Debug)]
pub(in crate::primary) struct Restored {
    pub(in crate::primary) number: u32,
    pub(in crate::primary) configured: Option<String>,
    pub(in crate::primary) ask: Option<Ask>,
    pub(in crate::primary) first: First,
    pub(in crate::primary) beside: Vec<(usize, Listener)>,
    pub(in crate::primary) steering: Option<Steering>,
    pub(in crate::primary) users: SortedSet<WorkerId>,
    pub(in crate::primary) data: Option<String>,
}

/// Its first socket.
#[derive(Debug)]
pub(in crate::primary) enum First {
    Listener(Listener),
    Datagrams(DatagramSocket),
}

impl Ports {
    /// Those of the program before this one. None is the settings' until [`Ports::add_again`].
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    pub(in crate::primary) fn restored(
        registry: &mio::Registry,
        all: Vec<Restored>,
        next_number: u32,
    ) -> io::Result<Self> {
        let mut ports = Self::new();
        for one in all {
            ports.next_number = one.number;
            let number = match one.first {
                First::Listener(listener) => ports.insert(registry, listener, one.ask)?,
                First::Datagrams(socket) => ports.insert_datagrams(socket, one.ask),
            };
            for (place, listener) in one.beside {
                let token = ports.keep(registry, listener, number)?;
                if let Some(port) = ports.ports.get_mut(&number) {
                    port.beside.insert(place, token);
                }
            }
            if let Some(port) = ports.ports.get_mut(&number) {
                port.steering = Steering::restored(one.steering, !port.beside.is_empty());
                port.configured = one.configured;
                port.users = one.users;
                port.data = one.data;
            }
        }
        ports.next_number = next_number;
        Ok(ports)
    }
}
