//! A conversation that goes on in another program, which takes this one's place: all of it as data,
//! and which descriptors must stay open for it.
//!
//! Leaves the file that this is written to, and keeping the descriptors open, to whoever is replaced.

use super::Lines;
use super::asked::Asked;
use super::hearing::{Hearing, HearingState};
use super::sending::{Sending, SendingState};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// A conversation, but for its socket.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct LinesState {
    sending: SendingState,
    hearing: HearingState,
    asked: Asked,
    seq: u64,
    handed: u64,
    unanswered: VecDeque<(u64, u64)>,
    going: bool,
}

impl LinesState {
    /// The numbers of the descriptors in it.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.sending.descriptors()
    }
}

impl Lines {
    /// What goes on elsewhere; `keep` is told each descriptor, and says by which number it is found
    /// there.
    pub(crate) fn state<'a>(&'a self, keep: &mut dyn FnMut(BorrowedFd<'a>) -> RawFd) -> LinesState {
        LinesState {
            sending: self.sending.state(keep),
            hearing: self.hearing.state(),
            asked: self.asked.clone(),
            seq: self.seq,
            handed: self.handed,
            unanswered: self.unanswered.clone(),
            going: self.going,
        }
    }

    /// One that goes on where another was.
    ///
    /// # Errors
    ///
    /// When a descriptor did not come, or the state makes no sense.
    pub(crate) fn resumed(socket: OwnedFd, state: LinesState) -> io::Result<Self> {
        Ok(Self {
            socket,
            sending: Sending::resumed(state.sending)?,
            hearing: Hearing::resumed(state.hearing),
            asked: state.asked,
            seq: state.seq,
            handed: state.handed,
            unanswered: state.unanswered,
            going: state.going,
        })
    }
}
