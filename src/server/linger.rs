//! The end of a connection after its last answer: reading on for a while, so that the answer is not
//! lost to a reset (RFC 9112 9.6).

use super::conn::{Connection, Ending, READS_PER_TURN, State, Step, wait};
use super::{Limit, Turn};
use crate::sys::socket;
use std::io;
use std::os::fd::AsFd;

/// Bytes read and thrown away after the last answer, so that it is not lost to a reset.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

impl Connection {
    /// Everything is sent and the connection must end. True when it goes on for a while, reading
    /// what the client still sends: closing at once would make the kernel answer that with a
    /// reset, which can cost the client our last answer.
    pub(super) fn begin_linger(&mut self, ending: Ending) -> io::Result<bool> {
        if self.ended || (ending == Ending::Plain && self.pending.is_empty()) {
            return Ok(false);
        }
        self.pending = Vec::new();
        self.unparsed = false;
        socket::shutdown_write(self.socket.as_fd())?;
        self.state = State::Linger(LINGER_BYTES);
        self.readable = true;
        Ok(true)
    }

    pub(super) fn linger(&mut self, turn: &mut Turn) -> io::Result<Step> {
        let State::Linger(left) = &mut self.state else {
            return Ok(Step::Close);
        };
        for _ in 0..READS_PER_TURN {
            if !self.readable {
                return Ok(wait(Some(Limit::Linger), false));
            }
            match socket::read(self.socket.as_fd(), &mut turn.input) {
                Ok(0) => return Ok(Step::Close),
                Ok(count) => match left.checked_sub(count) {
                    Some(less) => *left = less,
                    None => return Ok(Step::Close),
                },
                Err(error) if socket::would_block(&error) => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(Step::Again)
    }
}
