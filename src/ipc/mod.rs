//! The conversation between the primary and a worker, in Node's words.
//!
//! [`Message`] is all that is ever said; `codec` writes it as one datagram; [`Channel`] carries
//! datagrams and descriptors over a `SOCK_SEQPACKET` pair. May use `sys` and `net`; knows nothing
//! of routes, and does not care whether the other end is a process or a thread.

mod channel;
mod codec;

pub(crate) use channel::{Channel, FLUSH_AGAIN, Received};

use crate::sys::listener::{Address, Peer};

/// Connections in one message at most: what one sendmsg(2) of ours carries.
pub(crate) const HAND: usize = crate::sys::fds::MAX_FDS;

/// One thing said. The comment names the speaker and, in brackets, Node's name for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    /// Worker: I run. (`online`)
    Online,
    /// Worker: I want to listen on listener number `listener`. (`queryServer`)
    QueryServer {
        /// The number, from 0, in the order of the settings.
        listener: u32,
    },
    /// Primary: you may. With `shared` the listener's descriptor comes along and the worker
    /// accepts by itself; without, connections will be handed over. (reply to `queryServer`)
    Server {
        /// As asked.
        listener: u32,
        /// Whether the descriptor is in this message.
        shared: bool,
        /// What the listener is bound to.
        address: Address,
    },
    /// Worker: I listen. (`listening`)
    Listening {
        /// As asked.
        listener: u32,
    },
    /// Primary: a hand of connections, one descriptor each, with who is at the other end.
    /// (`newconn`, one at a time in Node)
    Newconn {
        /// The listener that they came in by.
        listener: u32,
        /// The peers, in the order of the descriptors; at most [`HAND`].
        peers: Vec<Peer>,
    },
    /// Primary: take nothing new, finish what you have, go. (`disconnect`)
    Disconnect,
}
