//! What comes of a Node program: bytes cut into lines, and how many descriptors came along.
//!
//! Owns the bytes of a line that is not whole. Descriptors are closed as they come: nobody here has a use
//! for what an application gives away, but the program waits to be told that they arrived. Leaves what a
//! line says to `words`.

use super::super::user::MAX_MESSAGE;
use crate::net::Tally;
use crate::sys::{socket, stream};
use memchr::memchr;
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// What is kept for the next line when all are heard, in bytes.
const KEPT: usize = 4096;

/// Descriptors that came without a line that speaks of them, which no honest program sends.
const MOST_CAME: usize = 64;

/// The first byte of Bun's lines.
const BUN: u8 = 2;

/// What one read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes.
    Some,
    /// Nothing for now.
    Nothing,
    /// The end.
    Closed,
}

/// The bytes of one program.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    bytes: Vec<u8>,
    /// Where the first line begins that was not given out, and up to where no end of it was found.
    begin: usize,
    searched: usize,
    /// A line is longer than any may be: the rest of it is passed over.
    skipping: bool,
    /// Something has come.
    begun: bool,
    /// Descriptors that came and that no line has spoken of.
    came: usize,
    /// Whose they are, in the log.
    speaker: String,
    nonsense: Tally,
    too_long: Tally,
}

/// The same in a file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct HearingState {
    bytes: Vec<u8>,
    skipping: bool,
    begun: bool,
    came: usize,
}

impl Hearing {
    /// What goes on elsewhere.
    pub(super) fn state(&self) -> HearingState {
        HearingState {
            bytes: self.bytes[self.begin..].to_vec(),
            skipping: self.skipping,
            begun: self.begun,
            came: self.came,
        }
    }

    /// One that goes on where another was.
    pub(super) fn resumed(state: HearingState) -> Self {
        Self {
            bytes: state.bytes,
            skipping: state.skipping,
            begun: state.begun,
            came: state.came,
            ..Self::default()
        }
    }

    /// Those of `speaker`.
    pub(super) fn name(&mut self, speaker: String) {
        self.speaker = speaker;
    }

    /// Reads once, by way of `buffer`. All lines that were whole have been given out.
    ///
    /// # Errors
    ///
    /// `InvalidData` for another language; as recvmsg(2) otherwise.
    pub(super) fn read(&mut self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Read> {
        let mut with = Vec::new();
        let piece = match stream::receive(socket, buffer, &mut with) {
            Ok(piece) => piece,
            Err(error) if socket::would_block(&error) => return Ok(Read::Nothing),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Read::Closed);
            }
            Err(error) => return Err(error),
        };
        if piece.length == 0 {
            return Ok(Read::Closed);
        }
        self.came = MOST_CAME.min(self.came + with.len());
        let bytes = &buffer[..piece.length];
        if !std::mem::replace(&mut self.begun, true) && bytes[0] == BUN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it speaks the language of Bun's cluster, which is not spoken here",
            ));
        }
        self.bytes.drain(..self.begin);
        self.searched -= self.begin;
        self.begin = 0;
        self.bytes.extend_from_slice(bytes);
        Ok(Read::Some)
    }

    /// The next line that is whole, without its end: where it is until the next call.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        while let Some(length) = memchr(b'\n', &self.bytes[self.searched..]) {
            let line = self.begin..self.searched + length;
            self.begin = line.end + 1;
            self.searched = self.begin;
            if !std::mem::take(&mut self.skipping) {
                return Some(line);
            }
        }
        self.searched = self.bytes.len();
        if self.searched - self.begin > MAX_MESSAGE {
            if let Some(lines) = self.too_long.add(1, Instant::now()) {
                let speaker = &self.speaker;
                log::warn!(
                    "{speaker} says more than {MAX_MESSAGE} bytes in a line, which is not heard: {lines} lines"
                );
            }
            self.skipping = true;
        }
        if self.skipping {
            self.begin = self.searched;
        }
        if self.begin == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            (self.begin, self.searched) = (0, 0);
        }
        None
    }

    /// Whether a line is whole that was not given out.
    pub(super) fn has_line(&self) -> bool {
        memchr(b'\n', &self.bytes[self.searched..]).is_some()
    }

    /// A line that [`Hearing::next`] has just found.
    pub(super) fn line(&self, line: Range<usize>) -> &[u8] {
        &self.bytes[line]
    }

    /// The same, to keep.
    pub(super) fn take(&mut self, line: Range<usize>) -> Vec<u8> {
        if line.start > 0 || line.len() < KEPT {
            return self.bytes[line].to_vec();
        }
        // A large one is alone, or nearly: it is worth more than what lies behind it.
        let rest = self.bytes.split_off(self.begin);
        let mut taken = std::mem::replace(&mut self.bytes, rest);
        (self.begin, self.searched) = (0, 0);
        taken.truncate(line.end);
        taken
    }

    /// A line speaks of a descriptor: whether one came.
    pub(super) fn claim(&mut self) -> bool {
        let came = self.came > 0;
        self.came = self.came.saturating_sub(1);
        came
    }

    /// A line made no sense.
    pub(super) fn nonsense(&mut self) {
        if let Some(lines) = self.nonsense.add(1, Instant::now()) {
            let speaker = &self.speaker;
            log::warn!("{speaker} says what is no JSON, which is not heard: {lines} lines");
        }
    }

    /// Room that is taken, in bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }
}
