//! What a primary leaves to the program that takes its place: all that it knows, as JSON in a
//! memfd, and the numbers of the descriptors that stay open.

use super::super::hands::Arrival;
use super::super::link::Passage;
use super::super::ports::Steering;
use super::super::rendezvous::Affinity;
use super::super::supervisor::Record;
use crate::ipc::{Ask, Handed};
use crate::sys::exec;
use crate::sys::listener::{Listener, Peer};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// Everything.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The version of the talk with workers, and of the board: see [`crate::ipc::VERSION`].
    pub(super) protocol: u32,
    /// The program that left this: opened, to go back to.
    pub(super) former: RawFd,
    /// Microseconds since the cluster began.
    pub(super) age: u64,
    /// What the settings of the program before said, to see whether the new one's differ.
    pub(super) configured_workers: usize,
    pub(super) configured_schedule: String,
    pub(super) schedule: String,
    pub(super) wanted: usize,
    pub(super) managed: bool,
    pub(super) generation: u32,
    pub(super) last_id: u32,
    pub(super) announced: bool,
    pub(super) refusing: bool,
    pub(super) board: RawFd,
    /// When the board was made, in microseconds of the clock that all processes share.
    pub(super) board_epoch: u64,
    pub(super) ports: Vec<PortState>,
    pub(super) next_number: u32,
    /// The control socket's path, and the socket.
    pub(super) control: Option<(PathBuf, RawFd)>,
    /// Where the pages are in the words of the settings, and the socket.
    pub(super) admin: Option<(String, RawFd)>,
    pub(super) members: Vec<MemberState>,
    pub(super) waiting: Vec<ArrivalState>,
    pub(super) past: PastState,
    /// The way to other clusters, where there is one.
    #[serde(default)]
    pub(super) link: Option<Passage>,
}

/// A listener and its sockets.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortState {
    pub(super) number: u32,
    /// As the settings had it.
    pub(super) configured: Option<String>,
    /// As a worker had asked for it.
    pub(super) asked: Option<(String, u32)>,
    pub(super) first: SocketState,
    /// By place.
    pub(super) beside: BTreeMap<usize, SocketState>,
    /// What the kernel was told of them; a program that told it nothing does not say.
    pub(super) steering: Option<Steering>,
    pub(super) users: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct SocketState {
    pub(super) fd: RawFd,
    pub(super) inherited: bool,
}

/// A worker.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct MemberState {
    pub(super) record: Record,
    pub(super) pid: i32,
    pub(super) slot: usize,
    pub(super) channel: RawFd,
    /// Said and not sent: bytes, and descriptors that go with them.
    pub(super) unsent: Vec<(Vec<u8>, Vec<RawFd>)>,
    pub(super) listens: BTreeSet<u32>,
    pub(super) online: bool,
    pub(super) ready: bool,
    pub(super) leaving: bool,
    pub(super) owes_last_word: Option<bool>,
    /// Pieces of its messages that it has not been told are consumed.
    pub(super) owed: u32,
    pub(super) handed: u64,
    /// How often an idle loop of it turns, in microseconds.
    pub(super) heartbeat: Option<u64>,
    pub(super) untaken: Vec<ArrivalState>,
    /// Users' messages to it that are not sent, and how many pieces are under way.
    pub(super) outgoing: Vec<u8>,
    /// How many of these bytes it stays for when it is told to go; all, if nothing is said of it.
    #[serde(default)]
    pub(super) awaited: Option<usize>,
    pub(super) under_way: u32,
    /// The beginning of a message of its own.
    pub(super) incoming: Vec<u8>,
}

/// A connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ArrivalState {
    fd: RawFd,
    listener: u32,
    peer: Option<SocketAddr>,
    elsewhere: bool,
    served: bool,
    announced: bool,
    bytes: Vec<u8>,
    affinity: Option<Affinity>,
}

/// What the dead have done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PastState {
    pub(super) connections: u64,
    pub(super) requests: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) classes: [u64; 5],
    pub(super) latency: Vec<u64>,
    pub(super) lost: (u64, u64, u64),
    pub(super) launched: BTreeMap<usize, u64>,
}

/// The descriptors that are to stay open, noted while the state is written. Dropping it has them
/// closed by the next exec after all: for one that failed.
#[derive(Debug, Default)]
pub(super) struct Kept<'a> {
    all: Vec<BorrowedFd<'a>>,
    opened: Cell<bool>,
}

impl<'a> Kept<'a> {
    /// Notes one; its number.
    pub(super) fn keep(&mut self, fd: BorrowedFd<'a>) -> RawFd {
        self.all.push(fd);
        fd.as_raw_fd()
    }

    pub(super) fn socket(&mut self, listener: &'a Listener) -> SocketState {
        SocketState {
            fd: self.keep(listener.as_fd()),
            inherited: listener.is_inherited(),
        }
    }

    pub(super) fn arrival(&mut self, arrival: &'a Arrival) -> ArrivalState {
        ArrivalState {
            fd: self.keep(arrival.socket.as_fd()),
            listener: arrival.listener,
            affinity: arrival.affinity,
            peer: match arrival.handed.peer {
                Peer::Inet(address) => Some(address),
                Peer::Unix | Peer::Elsewhere => None,
            },
            elsewhere: arrival.handed.peer == Peer::Elsewhere,
            served: arrival.handed.served,
            announced: arrival.handed.announced,
            bytes: arrival.handed.bytes.clone(),
        }
    }

    /// Has them stay open.
    ///
    /// # Errors
    ///
    /// As fcntl(2).
    pub(super) fn open_across_exec(&self) -> io::Result<()> {
        self.opened.set(true);
        let all = self.all.iter();
        all.copied()
            .try_for_each(|fd| exec::keep_across_exec(fd, true))
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if !self.opened.get() {
            return;
        }
        for fd in &self.all {
            if let Err(error) = exec::keep_across_exec(*fd, false) {
                log::error!("a descriptor stays open: {error}");
            }
        }
    }
}

impl ArrivalState {
    /// The connection, in the program that takes over.
    ///
    /// # Errors
    ///
    /// When its descriptor did not come.
    pub(super) fn adopt(self) -> io::Result<Arrival> {
        Ok(Arrival {
            socket: exec::adopt(self.fd)?,
            listener: self.listener,
            affinity: self.affinity,
            late: false,
            handed: Handed {
                peer: match self.peer {
                    Some(address) => Peer::Inet(address),
                    None if self.elsewhere => Peer::Elsewhere,
                    None => Peer::Unix,
                },
                served: self.served,
                announced: self.announced,
                strayed: false,
                bytes: self.bytes,
            },
        })
    }
}

impl SocketState {
    /// The listener, in the program that takes over.
    ///
    /// # Errors
    ///
    /// When its descriptor did not come.
    pub(super) fn adopt(self) -> io::Result<Listener> {
        Listener::restored(exec::adopt(self.fd)?, self.inherited)
    }
}

impl State {
    /// The numbers of all descriptors in it.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.former, self.board];
        all.extend(self.control.iter().map(|(_, fd)| *fd));
        all.extend(self.admin.iter().map(|(_, fd)| *fd));
        all.extend(self.waiting.iter().map(|one| one.fd));
        all.extend(self.link.iter().filter_map(|link| link.fd));
        for port in &self.ports {
            all.push(port.first.fd);
            all.extend(port.beside.values().map(|socket| socket.fd));
        }
        for member in &self.members {
            all.push(member.channel);
            all.extend(member.untaken.iter().map(|one| one.fd));
            all.extend(member.unsent.iter().flat_map(|(_, with)| with));
        }
        all
    }

    /// As a file for the next program.
    ///
    /// # Errors
    ///
    /// As memfd_create(2).
    pub(super) fn write(&self) -> io::Result<OwnedFd> {
        exec::sealed_memfd("mcluster-upgrade", &serde_json::to_vec(self)?)
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// When it is none, or one of another protocol.
    pub(super) fn read(fd: BorrowedFd<'_>) -> io::Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            protocol: u32,
        }
        let bytes = exec::read_memfd(fd)?;
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let version: Version =
            serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if version.protocol != crate::ipc::VERSION {
            return Err(invalid(format!(
                "the workers speak version {} of the protocol, this program version {}: stop \
                 and start instead",
                version.protocol,
                crate::ipc::VERSION
            )));
        }
        serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
    }
}

/// A worker's question as the state has it.
pub(super) fn asked(ask: Option<&Ask>) -> Option<(String, u32)> {
    match ask? {
        Ask::Address { words, nth } => Some((words.clone(), *nth)),
        Ask::Configured(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let state = State {
            protocol: crate::ipc::VERSION,
            wanted: 3,
            members: vec![MemberState {
                pid: 7,
                unsent: vec![(vec![1, 2], vec![9])],
                ..MemberState::default()
            }],
            waiting: vec![ArrivalState {
                peer: "127.0.0.1:80".parse().ok(),
                bytes: b"GET".to_vec(),
                ..ArrivalState::default()
            }],
            ..State::default()
        };
        let file = state.write().unwrap();
        let read = State::read(file.as_fd()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{state:?}"));
    }

    #[test]
    fn another_protocol_and_nonsense_are_refused() {
        let other = State {
            protocol: crate::ipc::VERSION + 1,
            ..State::default()
        };
        let file = other.write().unwrap();
        let error = State::read(file.as_fd()).unwrap_err();
        assert!(error.to_string().contains("protocol"), "{error}");
        let nonsense = exec::sealed_memfd("x", b"{}").unwrap();
        assert!(State::read(nonsense.as_fd()).is_err());
    }
}
