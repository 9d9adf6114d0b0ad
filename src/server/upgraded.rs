//! A connection that speaks another protocol than HTTP by now. Owns when that protocol is asked;
//! leaves what it says to itself.

use super::conn::{Connection, Ending, State, Step, wait};
use super::{Draining, Turn};
use crate::app::{After, Protocol};
use crate::sys::socket;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::time::Instant;

/// The protocol, and what it has been told.
pub(super) struct Upgraded {
    protocol: Box<dyn Protocol>,
    /// It has said goodbye.
    drained: bool,
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded")
            .field("drained", &self.drained)
            .finish_non_exhaustive()
    }
}

impl Upgraded {
    pub(super) fn new(protocol: Box<dyn Protocol>) -> Box<Self> {
        Box::new(Self {
            protocol,
            drained: false,
        })
    }

    /// When it wants to be asked although nothing has happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.protocol.deadline()
    }

    /// Its connection has ended.
    pub(super) fn ended(&mut self) {
        self.protocol.ended();
    }

    /// Asks it for what it has to say, in the order of urgency; whether it has.
    fn say(&mut self, turn: &mut Turn) -> After {
        let (now, out) = (turn.now, &mut turn.out);
        if turn.draining != Draining::No && !mem::replace(&mut self.drained, true) {
            return self.protocol.drain(now, out);
        }
        if self.protocol.deadline().is_some_and(|at| at <= now) {
            return self.protocol.expired(now, out);
        }
        self.protocol.fill(now, out)
    }
}

impl Connection {
    /// Everything is sent: goes on by the protocol. The step to take, or none when there is more
    /// to be sent first.
    pub(super) fn converse(
        &mut self,
        turn: &mut Turn,
        reads: &mut u32,
    ) -> io::Result<Option<Step>> {
        let State::Upgraded(upgraded) = &mut self.state else {
            return Ok(None);
        };
        let said = upgraded.say(turn);
        if said != After::Continue || !turn.out.is_empty() {
            return Ok(self.heed(turn, said));
        }
        let heard = if self.unparsed {
            self.unparsed = false;
            let pending = mem::take(&mut self.pending);
            upgraded
                .protocol
                .received(&pending, turn.now, &mut turn.out)
        } else if self.ended {
            return Ok(Some(Step::Close));
        } else if !self.readable {
            return Ok(Some(wait(None, false)));
        } else if *reads == 0 {
            return Ok(Some(Step::Again));
        } else {
            *reads -= 1;
            match socket::read(self.socket.as_fd(), &mut turn.input) {
                Ok(0) => {
                    self.ended = true;
                    self.readable = false;
                    After::Continue
                }
                Ok(count) => {
                    self.readable = count == turn.input.len() || self.read_closed;
                    turn.counters.bytes_in += count as u64;
                    let (input, out) = (&turn.input[..count], &mut turn.out);
                    upgraded.protocol.received(input, turn.now, out)
                }
                Err(error) if socket::would_block(&error) => {
                    self.readable = false;
                    After::Continue
                }
                Err(error) => return Err(error),
            }
        };
        Ok(self.heed(turn, heard))
    }

    fn heed(&mut self, turn: &mut Turn, after: After) -> Option<Step> {
        match after {
            After::Finish => {
                self.end_upgraded();
                self.state = State::Head;
                self.ending = Some(Ending::Linger);
                None
            }
            // What asks for more without saying anything comes again in the next turn.
            After::More if turn.out.is_empty() => Some(Step::Again),
            After::More | After::Continue => None,
        }
    }

    /// Tells the protocol, if there is one, that it is over.
    pub(super) fn end_upgraded(&mut self) {
        if let State::Upgraded(upgraded) = &mut self.state {
            upgraded.ended();
        }
    }
}
