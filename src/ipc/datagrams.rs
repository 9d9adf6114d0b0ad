//! One end of the conversation with a worker of our own: datagrams with descriptors, never blocking.
//!
//! Owns the socket and what could not be sent yet; leaves polling to the loop that holds it.

use super::{Message, Received, codec};
use crate::sys::{fds, socket};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One end of a conversation.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: OwnedFd,
    /// Datagrams that found the socket full, with their descriptors, in order.
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    datagram: Vec<u8>,
}

impl Datagrams {
    /// Both ends of a new conversation.
    ///
    /// # Errors
    ///
    /// As socketpair(2).
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::pair_seqpacket()?;
        let end = |socket| Self {
            socket,
            unsent: VecDeque::new(),
            datagram: Vec::new(),
        };
        Ok((end(one), end(other)))
    }

    /// An end whose socket was made elsewhere.
    pub(super) fn from_fd(socket: OwnedFd) -> Self {
        Self {
            socket,
            unsent: VecDeque::new(),
            datagram: Vec::new(),
        }
    }

    /// Says `message`, now or, when the socket is full, as soon as [`Datagrams::flush`] can.
    ///
    /// # Errors
    ///
    /// When the other end is gone, or no descriptor is left for the copies that must wait.
    pub(super) fn send(&mut self, message: &Message, with: &[BorrowedFd<'_>]) -> io::Result<()> {
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
    pub(super) fn try_send(
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
    pub(super) fn flush(&mut self) -> io::Result<bool> {
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

    /// Whether something waits for room: call [`Datagrams::flush`] after [`FLUSH_AGAIN`](super::FLUSH_AGAIN).
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// What waits for room: datagrams, and how many descriptors each carries.
    pub(super) fn unsent(&self) -> impl Iterator<Item = (&[u8], &[OwnedFd])> {
        let unsent = self.unsent.iter();
        unsent.map(|(datagram, with)| (datagram.as_slice(), with.as_slice()))
    }

    /// Puts back what waited for room in an end before this one.
    pub(super) fn push_unsent(&mut self, datagram: Vec<u8>, with: Vec<OwnedFd>) {
        self.unsent.push_back((datagram, with));
    }

    /// Reads one message, by way of `buffer`, which has [`BUFFER_BYTES`](super::BUFFER_BYTES).
    ///
    /// # Errors
    ///
    /// `InvalidData` for a message that makes no sense; `EMFILE` for one whose descriptors were cut off by a
    /// limit (they are closed, none leaks); otherwise as recvmsg(2).
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
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
                    Message::AccessLog | Message::Queue { .. } => 1,
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

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BUFFER_BYTES, HAND, Handed, until_closed};
    use super::*;
    use crate::sys::listener::Peer;
    use std::fs::File;

    fn hand(count: usize) -> Message {
        Message::Newconn {
            listener: 0,
            hand: vec![Handed::fresh(Peer::Unix); count],
        }
    }

    fn receive(channel: &mut Datagrams) -> io::Result<Received> {
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
        let (mut one, mut other) = Datagrams::pair().unwrap();
        let files = files(HAND);
        let with: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        one.send(&Message::Online, &[]).unwrap();
        one.send(&hand(HAND), &with).unwrap();
        one.send(&DISCONNECT, &[]).unwrap();
        drop(one);
        let mut seen = Vec::new();
        while let Received::Message(message, with) = receive(&mut other).unwrap() {
            seen.push((message, with.len()));
        }
        let expected = [(Message::Online, 0), (hand(HAND), HAND), (DISCONNECT, 0)];
        assert_eq!(seen, expected);
        until_closed(|| receive(&mut other));
    }

    #[test]
    fn last_words_are_heard_of_one_who_did_not_listen() {
        let (mut one, mut other) = Datagrams::pair().unwrap();
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
        until_closed(|| receive(&mut other));
    }

    #[test]
    fn a_full_socket_refuses_hands_and_keeps_words_in_order() {
        let (mut one, mut other) = Datagrams::pair().unwrap();
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
        let (mut one, mut other) = Datagrams::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        one.send(&DISCONNECT, &[file.as_fd()]).unwrap();
        assert!(receive(&mut other).is_err());
        drop(one);
        until_closed(|| receive(&mut other));
    }
}
