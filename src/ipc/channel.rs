//! One end of the conversation, whatever language it is in.
//!
//! Owns which codec speaks: datagrams of our own, or the lines of Node's `child_process`. Leaves
//! polling to the loop that holds it.

use super::Message;
pub(crate) use super::codec::MAX_DATAGRAM as BUFFER_BYTES;
use super::datagrams::Datagrams;
#[cfg(feature = "programs")]
use super::node::{Lines, LinesState};
#[cfg(feature = "programs")]
use crate::sys::process;
use std::io;
#[cfg(feature = "programs")]
use std::os::fd::RawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How soon to try again when the other end has no room for what must be said. That is rare
/// enough not to have every read of the other end wake this one.
pub(crate) const FLUSH_AGAIN: Duration = Duration::from_millis(5);

/// Whether an error in sending says that nobody is at the other end: reset, the first time that
/// this is said, where something lies there unread.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// What reading a channel found.
#[derive(Debug)]
pub(crate) enum Received {
    /// A message and the descriptors that came with it.
    Message(Message, Vec<OwnedFd>),
    /// Nothing more for now.
    Nothing,
    /// The other end is gone.
    Closed,
}

/// One end of a conversation.
#[derive(Debug)]
pub(crate) struct Channel(Language);

#[derive(Debug)]
enum Language {
    Own(Datagrams),
    /// That of a Node program.
    #[cfg(feature = "programs")]
    Node(Box<Lines>),
    /// None.
    #[cfg(feature = "programs")]
    Mute(Mute),
}

/// A program that is not spoken to, by the descriptor of its process (pidfd_open(2)): whatever it is
/// told comes to nothing, and all that is heard of it is its end.
#[cfg(feature = "programs")]
#[derive(Debug)]
struct Mute(OwnedFd);

#[cfg(feature = "programs")]
impl Mute {
    fn send(&self, _message: &Message, _with: &[BorrowedFd<'_>]) -> io::Result<()> {
        Ok(())
    }

    fn try_send(&self, _message: &Message, _with: &[BorrowedFd<'_>]) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn has_unsent(&self) -> bool {
        false
    }

    /// It is asked unprompted, too.
    fn receive(&self, _buffer: &mut [u8]) -> io::Result<Received> {
        Ok(match process::is_over(self.0.as_fd())? {
            true => Received::Closed,
            false => Received::Nothing,
        })
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The same of whatever language it is.
macro_rules! speak {
    ($channel:expr, $it:ident => $what:expr) => {
        match $channel {
            Language::Own($it) => $what,
            #[cfg(feature = "programs")]
            Language::Node($it) => $what,
            #[cfg(feature = "programs")]
            Language::Mute($it) => $what,
        }
    };
}

impl Channel {
    /// Both ends of a new conversation in our own language.
    ///
    /// # Errors
    ///
    /// As socketpair(2).
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Datagrams::pair()?;
        Ok((Self(Language::Own(one)), Self(Language::Own(other))))
    }

    /// An end whose socket was made elsewhere.
    pub(crate) fn from_fd(socket: OwnedFd) -> Self {
        Self(Language::Own(Datagrams::from_fd(socket)))
    }

    /// The primary's end of a conversation with a Node program.
    #[cfg(feature = "programs")]
    pub(crate) fn of_node(lines: Lines) -> Self {
        Self(Language::Node(Box::new(lines)))
    }

    /// What there is in its place with a program that is not spoken to: the descriptor of its process.
    #[cfg(feature = "programs")]
    pub(crate) fn mute(process: OwnedFd) -> Self {
        Self(Language::Mute(Mute(process)))
    }

    /// What goes on elsewhere of the conversation with a Node program; see [`Lines::state`].
    #[cfg(feature = "programs")]
    pub(crate) fn node_state<'a>(
        &'a self,
        keep: &mut dyn FnMut(BorrowedFd<'a>) -> RawFd,
    ) -> Option<LinesState> {
        match &self.0 {
            Language::Own(_) | Language::Mute(_) => None,
            Language::Node(lines) => Some(lines.state(keep)),
        }
    }

    /// Says `message`, now or, when the socket is full, as soon as [`Channel::flush`] can.
    ///
    /// # Errors
    ///
    /// When the other end is gone, or no descriptor is left for the copies that must wait.
    pub(crate) fn send(&mut self, message: &Message, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        speak!(&mut self.0, it => it.send(message, with))
    }

    /// Says `message` if it can be said now, and keeps nothing otherwise: for connections, which
    /// can go to somebody else.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the socket is full or older messages wait; as sendmsg(2) otherwise.
    pub(crate) fn try_send(
        &mut self,
        message: &Message,
        with: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        speak!(&mut self.0, it => it.try_send(message, with))
    }

    /// Sends what waits. True when nothing waits any longer.
    ///
    /// # Errors
    ///
    /// When the other end is gone.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        speak!(&mut self.0, it => it.flush())
    }

    /// Whether something waits for room: call [`Channel::flush`] after [`FLUSH_AGAIN`].
    pub(crate) fn has_unsent(&self) -> bool {
        speak!(&self.0, it => it.has_unsent())
    }

    /// How many messages wait for room.
    pub(crate) fn count_unsent(&self) -> usize {
        match &self.0 {
            Language::Own(datagrams) => datagrams.unsent().count(),
            #[cfg(feature = "programs")]
            Language::Node(lines) => lines.count_unsent(),
            #[cfg(feature = "programs")]
            Language::Mute(_) => 0,
        }
    }

    /// What waits for room: datagrams, and how many descriptors each carries; none of a program's,
    /// which no other primary takes over.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = (&[u8], &[OwnedFd])> {
        let own = match &self.0 {
            Language::Own(datagrams) => Some(datagrams.unsent()),
            #[cfg(feature = "programs")]
            Language::Node(_) | Language::Mute(_) => None,
        };
        own.into_iter().flatten()
    }

    /// Puts back what waited for room in an end before this one.
    pub(crate) fn push_unsent(&mut self, datagram: Vec<u8>, with: Vec<OwnedFd>) {
        match &mut self.0 {
            Language::Own(datagrams) => datagrams.push_unsent(datagram, with),
            #[cfg(feature = "programs")]
            Language::Node(_) | Language::Mute(_) => {}
        }
    }

    /// Reads one message, by way of `buffer`, which has [`BUFFER_BYTES`].
    ///
    /// # Errors
    ///
    /// `InvalidData` for a message that makes no sense; `EMFILE` for one whose descriptors were cut off by a
    /// limit (they are closed, none leaks); otherwise as recvmsg(2).
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        speak!(&mut self.0, it => it.receive(buffer))
    }

    /// Whether messages were read that [`Channel::receive`] has not given out: what polls the socket
    /// does not say so.
    pub(crate) fn has_unheard(&self) -> bool {
        match &self.0 {
            Language::Own(_) => false,
            #[cfg(feature = "programs")]
            Language::Node(lines) => lines.has_unheard(),
            #[cfg(feature = "programs")]
            Language::Mute(_) => false,
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        speak!(&self.0, it => it.as_fd())
    }
}
