//! One end of the conversation: datagrams with descriptors, never blocking.
//!
//! Owns the socket and what could not be sent yet; leaves polling to the loop that holds it.

use super::Message;
use super::codec;
pub(crate) use super::codec::MAX_DATAGRAM as BUFFER_BYTES;
use crate::sys::{fds, socket};
use std::collections::VecDeque;
use std::io;
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
pub(crate) struct Channel {
    socket: OwnedFd,
    /// Datagrams that found the socket full, with their descriptors, in order.
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    datagram: Vec<u8>,
}

impl Channel {
    /// Both ends of a new conversation.
    ///
    /// # Errors
    ///
    /// As socketpair(2).
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::pair_seqpacket()?;
        let end = |socket| Self {
            socket,
            unsent: VecDeque::new(),
            datagram: Vec::new(),
        };
        Ok((end(one), end(other)))
    }

    /// An end whose socket was made elsewhere.
    pub(crate) fn from_fd(socket: OwnedFd) -> Self {
        Self {
            socket,
            unsent: VecDeque::new(),
            datagram: Vec::new(),
        }
    }

    /// Says `message`, now or, when the socket is full, as soon as [`Channel::flush`] can.
    ///
    /// # Errors
    ///
    /// When the other end is gone, or no descriptor is left for the copies that must wait.
    pub(crate) fn send(&mut self, message: &Message, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.flush()? {
            match self.try_send(message, with) {
                Err(error) if socket::would_block(&error) => {}
                result => return result,
            }
        }
        let mut datagram = Vec::new();
        codec::encode(message, &mut datagram);
        let copies = with
            .iter()
            .map(|fd| fd.try_clone_to_owned())
            .collect::<io::Result<_>>()?;
        self.unsent.push_back((datagram, copies));
        Ok(())
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
        if !self.unsent.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.datagram.clear();
        codec::encode(message, &mut self.datagram);
        fds::send(self.socket.as_fd(), &self.datagram, with)
    }

    /// Sends what waits. True when nothing waits any longer.
    ///
    /// # Errors
    ///
    /// When the other end is gone.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while let Some((datagram, with)) = self.unsent.front() {
            let with: Vec<_> = with.iter().map(AsFd::as_fd).collect();
            match fds::send(self.socket.as_fd(), datagram, &with) {
                Ok(()) => self.unsent.pop_front(),
                Err(error) if socket::would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
        }
        Ok(true)
    }

    /// Whether something waits for room: call [`Channel::flush`] after [`FLUSH_AGAIN`].
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// What waits for room: datagrams, and how many descriptors each carries.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = (&[u8], &[OwnedFd])> {
        let unsent = self.unsent.iter();
        unsent.map(|(datagram, with)| (datagram.as_slice(), with.as_slice()))
    }

    /// Puts back what waited for room in an end before this one.
    pub(crate) fn push_unsent(&mut self, datagram: Vec<u8>, with: Vec<OwnedFd>) {
        self.unsent.push_back((datagram, with));
    }

    /// Reads one message, by way of `buffer`, which has [`BUFFER_BYTES`].
    ///
    /// # Errors
    ///
    /// `InvalidData` for a message that makes no sense; `EMFILE` for one whose descriptors were cut off by a
    /// limit (they are closed, none leaks); otherwise as recvmsg(2).
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut with = Vec::new();
        let received = match fds::receive(self.socket.as_fd(), buffer, &mut with) {
            // Said once, and before what is still there to be read, when the other end has gone
            // without reading all that it was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                fds::receive(self.socket.as_fd(), buffer, &mut with)
            }
            received => received,
        };
        match received {
            Ok(0) => Ok(Received::Closed),
            Ok(length) => {
                let message = codec::decode(&buffer[..length])?;
                let expected = match &message {
                    Message::Newconn { hand, .. } => hand.len(),
                    Message::AccessLog => 1,
                    Message::Server { shared, .. } | Message::Accept { shared, .. } => {
                        usize::from(*shared)
                    }
                    _ => 0,
                };
                if with.len() != expected {
                    let what = format!("{} descriptors came instead of {expected}", with.len());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Ok(Received::Message(message, with))
            }
            Err(error) if socket::would_block(&error) => Ok(Received::Nothing),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Received::Closed),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HAND, Handed};
    use super::*;
    use crate::sys::listener::Peer;
    use std::fs::File;

    fn hand(count: usize) -> Message {
        Message::Newconn {
            listener: 0,
            hand: vec![Handed::fresh(Peer::Unix); count],
        }
    }

    fn receive(channel: &mut Channel) -> io::Result<Received> {
        channel.receive(&mut vec![0; BUFFER_BYTES])
    }

    const DISCONNECT: Message = Message::Disconnect {
        hand_back: true,
        more: false,
    };

    fn files(count: usize) -> Vec<File> {
        (0..count)
            .map(|_| File::open("/dev/null").unwrap())
            .collect()
    }

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (mut one, mut other) = Channel::pair().unwrap();
        let files = files(HAND);
        let with: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        one.send(&Message::Online, &[]).unwrap();
        one.send(&hand(HAND), &with).unwrap();
        one.send(&DISCONNECT, &[]).unwrap();
        drop(one);
        let mut seen = Vec::new();
        loop {
            match receive(&mut other).unwrap() {
                Received::Message(message, with) => seen.push((message, with.len())),
                Received::Nothing => panic!("all has been sent"),
                Received::Closed => break,
            }
        }
        let expected = [(Message::Online, 0), (hand(HAND), HAND), (DISCONNECT, 0)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn last_words_are_heard_of_one_who_did_not_listen() {
        let (mut one, mut other) = Channel::pair().unwrap();
        one.send(&Message::Online, &[]).unwrap();
        one.send(&Message::Worn, &[]).unwrap();
        other.send(&DISCONNECT, &[]).unwrap();
        drop(one);
        for expected in [Message::Online, Message::Worn] {
            match receive(&mut other).unwrap() {
                Received::Message(message, _) => assert_eq!(message, expected),
                nothing => panic!("{nothing:?}"),
            }
        }
        assert!(matches!(receive(&mut other).unwrap(), Received::Closed));
    }

    #[test]
    fn a_full_socket_refuses_hands_and_keeps_words_in_order() {
        let (mut one, mut other) = Channel::pair().unwrap();
        let mut sent = 0u32;
        while one
            .try_send(&Message::Listening { listener: sent }, &[])
            .is_ok()
        {
            sent += 1;
        }
        // What must not be lost waits; what can go elsewhere is refused.
        one.send(&Message::Listening { listener: sent }, &[])
            .unwrap();
        one.send(&DISCONNECT, &[]).unwrap();
        let file = File::open("/dev/null").unwrap();
        let refused = one.try_send(&hand(1), &[file.as_fd()]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        for expected in 0..=sent {
            if !one.flush().unwrap() {
                assert!(expected < sent);
            }
            match receive(&mut other).unwrap() {
                Received::Message(message, _) => {
                    assert_eq!(message, Message::Listening { listener: expected });
                }
                nothing => panic!("{nothing:?}"),
            }
        }
        assert!(one.flush().unwrap());
        assert!(matches!(
            receive(&mut other).unwrap(),
            Received::Message(Message::Disconnect { .. }, _)
        ));
        assert!(matches!(receive(&mut other).unwrap(), Received::Nothing));
    }

    #[test]
    fn a_descriptor_too_many_is_an_error() {
        let (mut one, mut other) = Channel::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        one.send(&DISCONNECT, &[file.as_fd()]).unwrap();
        assert!(receive(&mut other).is_err());
        drop(one);
        assert!(matches!(receive(&mut other).unwrap(), Received::Closed));
    }
}
