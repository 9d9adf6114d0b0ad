//! What a primary leaves to the program that takes its place: all that it knows, as JSON in a
//! memfd, and the numbers of the descriptors that stay open.

use super::super::hands::Arrival;
use super::super::link::Passage;
use super::super::ports::{First, Port, Ports, Restored, Steering};
use super::super::program::{Left, LeftByAll};
use super::super::rendezvous::Affinity;
use super::super::supervisor::Record;
use crate::ipc::{Ask, Bind, Handed};
use crate::sorted::{SortedMap, SortedSet};
use crate::sys::datagram::DatagramSocket;
use crate::sys::exec;
use crate::sys::listener::{Address, Listener, Peer};
use crate::worker::WorkerId;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
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
    /// What there is to know of workers that are programs.
    #[serde(default)]
    pub(super) programs: LeftByAll,
}

/// A listener and its sockets.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortState {
    pub(super) number: u32,
    /// As the settings had it.
    pub(super) configured: Option<String>,
    /// As a worker had asked for it.
    pub(super) asked: Option<(String, u32)>,
    /// As a program had.
    #[serde(default)]
    pub(super) bind: Option<Bind>,
    #[serde(default)]
    pub(super) data: Option<String>,
    /// Whether its socket is one of datagrams.
    #[serde(default)]
    pub(super) datagrams: bool,
    pub(super) first: SocketState,
    /// By place.
    pub(super) beside: SortedMap<usize, SocketState>,
    /// What the kernel was told of them; a program that told it nothing does not say.
    pub(super) steering: Option<Steering>,
    pub(super) users: SortedSet<u32>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct SocketState {
    pub(super) fd: RawFd,
    pub(super) inherited: bool,
    /// Where it is, if that is a file: the kernel may know a shorter name alone.
    #[serde(default)]
    pub(super) path: Option<String>,
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
    pub(super) listens: SortedSet<u32>,
    pub(super) online: bool,
    pub(super) ready: bool,
    pub(super) leaving: bool,
    pub(super) owes_last_word: Option<bool>,
    /// Pieces of its messages that it has not been told are consumed.
    pub(super) owed: u32,
    pub(super) handed: u64,
    pub(super) granted: u64,
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
    /// What else there is of one that is a program.
    #[serde(default)]
    pub(super) program: Option<Box<Left>>,
}

/// A connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ArrivalState {
    /// Nothing while it is in the kernel's queue.
    fd: Option<RawFd>,
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
    pub(super) launched: SortedMap<usize, u64>,
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
            path: match listener.address() {
                Address::Unix(path) if !listener.is_inherited() => path.to_str().map(str::to_owned),
                Address::Unix(_) | Address::Inet(_) => None,
            },
        }
    }

    /// A listener, or where datagrams come to.
    pub(super) fn port(&mut self, ports: &'a Ports, port: &'a Port) -> Option<PortState> {
        let first = match &port.datagrams {
            Some(socket) => SocketState {
                fd: self.keep(socket.as_fd()),
                ..SocketState::default()
            },
            None => self.socket(ports.gate.listener(port.first)?),
        };
        let beside = port.beside.iter().filter_map(|(place, token)| {
            let listener = ports.gate.listener(*token)?;
            Some((*place, self.socket(listener)))
        });
        Some(PortState {
            number: port.number,
            configured: port.configured.clone(),
            asked: match &port.ask {
                Some(Ask::Address { words, nth }) => Some((words.clone(), *nth)),
                _ => None,
            },
            bind: match &port.ask {
                Some(Ask::Bind(bind)) => Some(bind.clone()),
                _ => None,
            },
            data: port.data.clone(),
            datagrams: port.datagrams.is_some(),
            first,
            beside: beside.collect(),
            steering: Some(port.steering.clone()),
            users: port.users.iter().map(|id| id.0).collect(),
        })
    }

    pub(super) fn arrival(&mut self, arrival: &'a Arrival) -> ArrivalState {
        ArrivalState {
            fd: arrival.socket.as_ref().map(|one| self.keep(one.as_fd())),
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
            socket: self.fd.map(exec::adopt).transpose()?,
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
        let listener = Listener::restored(exec::adopt(self.fd)?, self.inherited)?;
        Ok(match self.path {
            Some(path) => listener.known_at(path.into()),
            None => listener,
        })
    }
}

impl PortState {
    /// The listener, in the program that takes over.
    ///
    /// # Errors
    ///
    /// When one of its descriptors did not come.
    pub(super) fn adopt(self) -> io::Result<Restored> {
        let asked = self.asked.map(|(words, nth)| Ask::Address { words, nth });
        let beside = self.beside.into_iter();
        let beside = beside.map(|(place, socket)| Ok((place, socket.adopt()?)));
        Ok(Restored {
            number: self.number,
            configured: self.configured,
            ask: asked.or(self.bind.map(Ask::Bind)),
            first: match self.datagrams {
                true => First::Datagrams(DatagramSocket::restored(exec::adopt(self.first.fd)?)?),
                false => First::Listener(self.first.adopt()?),
            },
            beside: beside.collect::<io::Result<_>>()?,
            steering: self.steering,
            users: self.users.into_iter().map(WorkerId).collect(),
            data: self.data,
        })
    }
}

impl State {
    /// The numbers of all descriptors in it.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.former, self.board];
        all.extend(self.control.iter().map(|(_, fd)| *fd));
        all.extend(self.admin.iter().map(|(_, fd)| *fd));
        all.extend(self.waiting.iter().filter_map(|one| one.fd));
        all.extend(self.link.iter().filter_map(|link| link.fd));
        for port in &self.ports {
            all.push(port.first.fd);
            all.extend(port.beside.values().map(|socket| socket.fd));
        }
        for member in &self.members {
            all.push(member.channel);
            all.extend(member.untaken.iter().filter_map(|one| one.fd));
            all.extend(member.unsent.iter().flat_map(|(_, with)| with));
            all.extend(member.program.iter().flat_map(|left| left.descriptors()));
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

#[cfg(test)]
mod tests;
