//! Sockets of datagrams, which programs ask for as well.
//!
//! Owns making them. Nobody accepts there, so the gate never has them: whoever asked gets a copy
//! and receives by itself, whatever the policy.

use super::bind::refusal;
use super::{Port, Ports};
use crate::ipc::{Ask, Place, Refusal};
use crate::sys::datagram::DatagramSocket;
use std::net::SocketAddr;

impl Ports {
    /// Makes the one that a program has asked for.
    ///
    /// # Errors
    ///
    /// Why it cannot be had.
    pub(super) fn make_datagrams(&mut self, place: &Place, ask: Ask) -> Result<u32, Refusal> {
        let made = match place {
            Place::Udp {
                address,
                port,
                v6_only,
                reuse_address,
            } => {
                let address = SocketAddr::new(*address, *port);
                DatagramSocket::udp(address, *v6_only, *reuse_address)
            }
            Place::Fd { fd, .. } => DatagramSocket::inherited(*fd),
            Place::Tcp { .. } | Place::Unix { .. } => Err(std::io::ErrorKind::InvalidInput.into()),
        };
        let number = self.insert_datagrams(made.map_err(refusal)?, Some(ask));
        if let Some(port) = self.get(number) {
            log::info!("receiving on {}", port.url());
        }
        Ok(number)
    }

    /// Keeps one; its number.
    pub(super) fn insert_datagrams(&mut self, socket: DatagramSocket, ask: Option<Ask>) -> u32 {
        let address = socket.address().clone();
        // No socket of the gate's has this token.
        let first = self.next_token;
        self.next_token += 1;
        self.enter(Port {
            alone: true,
            datagrams: Some(socket),
            ..Port::new(self.next_number, address, first, ask)
        })
    }
}
