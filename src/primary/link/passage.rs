//! What a primary leaves of its link to the program that takes its place: the connection itself, in
//! the middle of whatever was being said, so that nothing is missed in either direction.
//!
//! The state of an upgrade carries it; this file packs and unpacks it.

use super::connection::Connection;
use super::talk::Talk;
use super::{LINK, Link, Origin, Relay};
use crate::net::register;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

/// What may be handed on of what was to be written, in bytes: it is written down and read twice, and
/// the clients of the cluster wait meanwhile.
const MOST_CARRIED: usize = 1024 * 1024;

/// That, as the state has it.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "control", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::primary) struct Passage {
    /// By what this cluster knows what it has published itself.
    origin: Origin,
    /// The server and the channel: with others there is nothing to go on with.
    name: String,
    channel: String,
    /// Where the server may be.
    addresses: Vec<SocketAddr>,
    /// The connection, if it is up.
    pub(in crate::primary) fd: Option<RawFd>,
    /// The beginning of what was being read.
    incoming: Vec<u8>,
    /// What was to be written.
    outgoing: Vec<u8>,
    /// Publications that are not answered, those to be written included.
    unanswered: u64,
    /// Messages that stayed in this cluster, of which nobody has heard.
    missed: u64,
}

impl Passage {
    /// Where the server `name` is, if that is the one.
    pub(super) fn places(&self, name: &str) -> Option<Vec<SocketAddr>> {
        (self.name == name && !self.addresses.is_empty()).then(|| self.addresses.clone())
    }
}

impl Link {
    /// For the next program; the descriptor is to be noted in it.
    pub(in crate::primary) fn leave(
        &self,
        relay: &Relay,
    ) -> Option<(Passage, Option<BorrowedFd<'_>>)> {
        let end = self.0.as_ref()?;
        let mut passage = Passage {
            origin: end.origin,
            name: end.target.name.clone(),
            channel: end.target.channel.clone(),
            addresses: end.target.addresses(),
            missed: relay.missed(),
            ..Passage::default()
        };
        let connection = end.connection.as_ref().filter(|one| one.talk.is_up());
        let small = |connection: &&Connection| {
            let (_, outgoing) = connection.parts();
            outgoing.len().max(connection.talk.partial().len()) <= MOST_CARRIED
        };
        let Some(connection) = connection.filter(small) else {
            passage.unanswered = end.unanswered(relay);
            return Some((passage, None));
        };
        let (fd, outgoing) = connection.parts();
        passage.incoming = connection.talk.partial().to_vec();
        passage.outgoing = outgoing.to_vec();
        passage.unanswered = end.unanswered(relay);
        let mut left = relay.len() as u64;
        for written in relay.waiting() {
            let command = super::talk::publish(&end.target.channel, &end.origin, written);
            if passage.outgoing.len() + command.len() > MOST_CARRIED {
                // In order, or not at all.
                break;
            }
            passage.outgoing.extend(command);
            left -= 1;
        }
        passage.unanswered -= left;
        passage.missed += left;
        Some((passage, Some(fd)))
    }

    /// Goes on where the program before stopped, on `socket`, if it is the same server's.
    ///
    /// # Errors
    ///
    /// When there can be no waiting for the connection.
    pub(in crate::primary) fn resume(
        &mut self,
        registry: &mio::Registry,
        now: Instant,
        relay: &mut Relay,
        passage: &Passage,
        socket: Option<OwnedFd>,
    ) -> io::Result<()> {
        let Some(end) = &mut self.0 else {
            return Ok(());
        };
        end.origin = passage.origin;
        relay.misses(passage.missed);
        let target = &end.target;
        let same = target.name == passage.name && target.channel == passage.channel;
        let talk = Talk::resumed(&target.channel, &passage.incoming, passage.unanswered);
        match (socket, talk) {
            (Some(socket), Ok(talk)) if same => {
                register(registry, &socket.as_raw_fd(), LINK)?;
                let out = passage.outgoing.clone();
                end.connection = Some(Connection::resumed(socket, talk, out, now));
                end.up(relay);
            }
            // What was said may have arrived, or not.
            _ => relay.misses(passage.unanswered),
        }
        Ok(())
    }
}
