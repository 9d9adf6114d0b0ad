//! The conversation between the primary and a worker, in Node's words.
//!
//! [`Message`] is all that is ever said; `codec` writes it as one datagram; [`Channel`] carries
//! datagrams and descriptors over a `SOCK_SEQPACKET` pair (`datagrams`), or speaks the lines of a
//! Node program (`node`). What users say to each other is a stream
//! of its own inside that, cut into pieces and joined again by `user`; `topic` is what of it goes to
//! subscribers. May use `sys` and `net`;
//! knows nothing of routes, and does not care whether the other end is a process or a thread.

mod ask;
mod channel;
mod codec;
mod datagrams;
mod message;
#[cfg(feature = "programs")]
pub(crate) mod node;
pub(crate) mod topic;
pub(crate) mod user;

pub(crate) use channel::{BUFFER_BYTES, Channel, FLUSH_AGAIN, Received, is_gone};

use crate::sys::listener::{Address, Peer};
use std::net::IpAddr;
use std::path::PathBuf;

/// Receives until the other end is closed. That may come a moment after it was: a program that another
/// test starts has copies of all descriptors until it begins.
#[cfg(test)]
fn until_closed(mut receive: impl FnMut() -> std::io::Result<Received>) {
    let begin = std::time::Instant::now();
    loop {
        match receive().unwrap() {
            Received::Closed => return,
            Received::Nothing if begin.elapsed().as_secs() < 10 => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
}

/// Connections in one message at most: what one sendmsg(2) of ours carries.
pub(crate) const HAND: usize = crate::sys::fds::MAX_FDS;

/// What one connection may bring along in bytes that were read and not consumed. One that has
/// more is in the middle of something, and stays where it is.
pub(crate) const HANDED_BYTES: usize = 16 * 1024;

/// Such bytes in one message, all connections together.
pub(crate) const HAND_BYTES: usize = 32 * 1024;

/// Changes with the meaning of a message, of a slot of the board, or of both: a primary can only
/// take over workers that speak its version.
pub(crate) const VERSION: u32 = 10;

/// A connection under way; its descriptor travels beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// It has been served before, so it is between two requests.
    pub(crate) served: bool,
    /// The peer is who a header of the PROXY protocol named; none is to come.
    pub(crate) announced: bool,
    /// Nobody was there whose it is: its client is to be told where it is now.
    pub(crate) strayed: bool,
    /// What was read of it and not consumed; at most [`HANDED_BYTES`].
    pub(crate) bytes: Vec<u8>,
}

impl Handed {
    /// One that was just accepted.
    pub(crate) fn fresh(peer: Peer) -> Self {
        Self {
            peer,
            served: false,
            announced: false,
            strayed: false,
            bytes: Vec::new(),
        }
    }
}

/// What a worker wants to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The listener with this number, from 0, of the cluster's settings.
    Configured(u32),
    /// An address in a user's words; `nth` tells the first from later ones of the same words in
    /// one worker, which port 0 makes different listeners.
    Address { words: String, nth: u32 },
    /// What a Node program asks for.
    Bind(Bind),
}

/// What a Node program asks for, in the terms of its `queryServer`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "control", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Bind {
    /// Where.
    pub(crate) place: Place,
    /// Which of those with the same place in one worker, from 0: with port 0 they differ.
    pub(crate) nth: u32,
    /// How many connections may wait; none where the program leaves that to others.
    pub(crate) backlog: Option<i32>,
    /// What the first one who asks has all others told, as JSON: the keys of TLS tickets.
    pub(crate) data: Option<String>,
}

/// A place to listen at or to receive datagrams at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "control", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Place {
    /// TCP. Without an address, all of both families, or of IPv4 where there is no other.
    Tcp {
        address: Option<IpAddr>,
        port: u16,
        v6_only: bool,
    },
    /// UDP.
    Udp {
        address: IpAddr,
        port: u16,
        v6_only: bool,
        reuse_address: bool,
    },
    /// A unix socket, and whether everybody may read from and write to it.
    Unix {
        path: PathBuf,
        readable_all: bool,
        writable_all: bool,
    },
    /// A descriptor of the primary's: a listening socket, or one of datagrams.
    Fd { fd: i32, datagrams: bool },
}

/// Why a worker cannot listen: what the kernel said, in words and as errno where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) why: String,
}

/// One thing said. The comment names the speaker and, in brackets, Node's name for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    /// Worker: I run. (`online`)
    Online,
    /// Worker: I want to listen. (`queryServer`)
    QueryServer {
        /// A number of the worker's own, to know the answer by.
        query: u32,
        /// On what.
        ask: Ask,
    },
    /// Primary: you may. With `shared` the listener's descriptor comes along and the worker
    /// accepts by itself; without, connections will be granted or handed over. (reply to
    /// `queryServer`)
    Server {
        /// As asked.
        query: u32,
        /// The listener's number from now on.
        listener: u32,
        /// Whether the descriptor is in this message.
        shared: bool,
        /// What the listener is bound to.
        address: Address,
        /// What the first one who asked had to tell: see [`Bind::data`].
        data: Option<String>,
    },
    /// Primary: you may not. (reply to `queryServer`)
    Refused {
        /// As asked.
        query: u32,
        /// Why not.
        why: Refusal,
    },
    /// Primary: from now on accept from this listener by yourself (`shared`, its descriptor comes
    /// along), or no longer. When the policy of a running cluster changes.
    Accept {
        /// Which.
        listener: u32,
        /// Whether the descriptor is in this message.
        shared: bool,
    },
    /// Primary: accept from this listener when you are granted connections there; its descriptor
    /// comes along. Until it is said that you accept by yourself, or no longer.
    Queue {
        /// Which.
        listener: u32,
    },
    /// Primary: so many of the connections that wait at this listener are yours. (`newconn`, one
    /// at a time and with its descriptor in Node)
    Grant {
        /// Which.
        listener: u32,
        /// How many; at most [`HAND`].
        count: u32,
    },
    /// Worker: I listen. (`listening`)
    Listening {
        /// Which.
        listener: u32,
    },
    /// Worker: I listen on a socket of my own, which the primary does not know. (`listening`)
    ListeningAlone {
        /// What it is bound to.
        address: Address,
    },
    /// Program: I listen there no longer. (`close`)
    Close {
        /// Where.
        listener: u32,
    },
    /// Program: of those that I was handed, I have taken this one, or will not have it. (reply to
    /// `newconn`)
    Answered {
        /// Which, from 0, in the order in which they were handed over.
        connection: u64,
        /// Whether it is mine now.
        accepted: bool,
    },
    /// Program: this id is one that I have made; whoever says it belongs to me.
    Mine(String),
    /// Both, of a program: a message of its application's, as JSON. (`message`)
    Text(Vec<u8>),
    /// Worker: I have begun, and I listen wherever I was to from the start.
    Ready,
    /// Primary: a hand of connections that it has accepted, one descriptor each. (`newconn`, one at
    /// a time in Node)
    /// Worker: the same back, of connections that wait for their next request.
    Newconn {
        /// The listener that they came in by.
        listener: u32,
        /// In the order of the descriptors; at most [`HAND`].
        hand: Vec<Handed>,
    },
    /// Primary: take nothing new, finish what you have, go. Worker: I should like to. (`disconnect`)
    Disconnect {
        /// Connections that wait for a request come back by [`Message::Newconn`], rather than
        /// being closed.
        hand_back: bool,
        /// Users' messages are still to come; another one of these will say that there are none.
        more: bool,
    },
    /// Worker: I have answered as many requests as I should; have me replaced.
    Worn,
    /// Primary: write the access log to this file from now on; its descriptor comes along.
    AccessLog,
    /// Primary: have the session stores of your application forget what has expired.
    Sweep,
    /// Primary: answers tell clients by this cookie whose they are, or by none, from now on.
    Sticky {
        /// The cookie's name.
        cookie: Option<String>,
    },
    /// Both: a piece of the stream of the users' messages. (`message`)
    Data(Vec<u8>),
    /// Both: so many pieces have been consumed.
    Took(u32),
}
