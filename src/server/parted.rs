//! Connections that ended as they were handed over, while who did so still holds copies of them.
//!
//! To end a TCP connection takes more than to accept it, and the last one to close it pays. Where a
//! request is answered the moment its connection is handed over, that would be the primary, of
//! which there is one. So the worker closes such connections a little later, behind the next hand:
//! before the primary deals it lets go of what was taken. Their peers have been told by then.

use std::mem;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long they are kept where there is no next hand; the primary looks as often for copies that
/// it can let go of.
const KEPT: Duration = Duration::from_millis(100);

/// Sockets to be closed a little later.
#[derive(Debug, Default)]
pub(super) struct Parted {
    sockets: Vec<OwnedFd>,
    until: Option<Instant>,
    /// The number of the last connection before the present hand.
    before: u32,
}

impl Parted {
    /// Keeps what is left of the connection with this number, if it came with the present hand;
    /// otherwise it is closed, for there is no copy of it any more.
    pub(super) fn keep(&mut self, socket: OwnedFd, number: u32, now: Instant) {
        if number > self.before {
            self.sockets.push(socket);
            self.until.get_or_insert(now + KEPT);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Gives them all up, for whoever closes them; `last` is the number of the last connection so far.
    pub(super) fn take(&mut self, last: u32) -> Vec<OwnedFd> {
        self.before = last;
        self.until = None;
        mem::take(&mut self.sockets)
    }

    /// Closes them all if it is time.
    pub(super) fn let_go_at(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.sockets.clear();
            self.until = None;
        }
    }

    /// When [`Parted::let_go_at`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd;

    #[test]
    fn they_are_kept_for_a_while() {
        let mut parted = Parted::default();
        assert!(parted.take(7).is_empty());
        let now = Instant::now();
        let closed = |peer: &OwnedFd| {
            let mut byte = [0];
            recv(peer.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) == Ok(0)
        };
        for by_hand in [true, false] {
            let (first, peer) = socket::pair_stream().unwrap();
            let (second, other) = socket::pair_stream().unwrap();
            let (earlier, before) = socket::pair_stream().unwrap();
            parted.keep(earlier, 7, now);
            assert!(closed(&before));
            parted.keep(first, 8, now);
            parted.keep(second, 9, now + KEPT / 2);
            assert_eq!((parted.len(), parted.deadline()), (2, Some(now + KEPT)));
            parted.let_go_at(now + KEPT / 2);
            assert!(!closed(&peer) && !closed(&other));
            match by_hand {
                true => drop(parted.take(7)),
                false => parted.let_go_at(now + KEPT),
            }
            assert!(closed(&peer) && closed(&other));
            assert_eq!((parted.len(), parted.deadline()), (0, None));
        }
    }
}
