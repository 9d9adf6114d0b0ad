//! A request's body on its way from the connection to its handler: into memory, into a file, or to
//! a handler that reads while it arrives; and what becomes of one that nobody reads.

use super::Turn;
use super::conn::{Connection, Ending, State};
use super::pace::Pace;
use super::respond::Meta;
use crate::app::{Failure, Parts, Response, Upload};
use crate::http::{self, ChunkedDecoder};
use crate::sys::spool::Spool;
use std::io;
use std::mem;

/// What is read and dropped of a body that its handler did not read, so that the connection can go
/// on. A longer one costs more than a new connection would.
const DROPPED_BYTES: u64 = 256 * 1024;

/// What is left of a body to come.
#[derive(Debug)]
pub(super) enum Rest {
    Length(u64),
    Chunked(ChunkedDecoder),
}

impl Rest {
    /// Appends what `input` holds of the body to `body`; how many bytes of it are used, and whether
    /// the body is complete.
    fn take(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<(usize, bool), http::Error> {
        match self {
            Self::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                body.extend_from_slice(&input[..count]);
                *left -= count as u64;
                Ok((count, *left == 0))
            }
            Self::Chunked(decoder) => decoder.decode(input, body),
        }
    }

    fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::Length(_) => Vec::new(),
            Self::Chunked(decoder) => decoder.trailers().to_vec(),
        }
    }
}

/// A request whose body is received before its handler is called.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) parts: Box<Parts>,
    pub(super) meta: Meta,
    rest: Rest,
    spool: Option<Spool>,
    pace: Pace,
}

impl Incoming {
    pub(super) fn new(parts: Box<Parts>, meta: Meta, rest: Rest) -> Self {
        Self {
            parts,
            meta,
            rest,
            spool: None,
            pace: Pace::default(),
        }
    }

    /// Takes what `input` holds of the body; how many bytes are used, and whether it is complete.
    pub(super) fn take(&mut self, input: &[u8], turn: &Turn) -> Result<(usize, bool), http::Error> {
        let (used, done) = self.rest.take(input, &mut self.parts.body)?;
        self.pace.note(turn.now, used as u64, !done);
        if !done
            && self
                .pace
                .is_below(turn.limits.min_rate, turn.limits.body_timeout)
        {
            return Err(TOO_SLOW);
        }
        if done {
            self.parts.trailers = self.rest.trailers();
        }
        if let Err(error) = self.spool(turn.limits.body_memory, done) {
            log::error!(
                "a body of more than {} bytes: {error}",
                turn.limits.body_memory
            );
            return Err(http::Error::new(507, "no room for the body"));
        }
        Ok((used, done))
    }

    /// Moves what is too much for memory into a file.
    fn spool(&mut self, memory: usize, done: bool) -> io::Result<()> {
        let body = &mut self.parts.body;
        let mut spool = match self.spool.take() {
            None if body.len() <= memory => return Ok(()),
            None => Spool::new(&std::env::temp_dir())?,
            Some(spool) => spool,
        };
        spool.write(body)?;
        body.clear();
        if done {
            *body = Vec::new();
            self.parts.spooled = Some(spool.into_view()?);
        } else {
            self.spool = Some(spool);
        }
        Ok(())
    }
}

const TOO_SLOW: http::Error = http::Error::new(408, "the body comes too slowly");

/// A body that is given to its handler while it arrives.
#[derive(Debug)]
pub(super) struct Streaming {
    upload: Upload,
    rest: Rest,
    done: bool,
    pace: Pace,
}

impl Streaming {
    pub(super) fn new(upload: Upload, rest: Rest) -> Box<Self> {
        Box::new(Self {
            upload,
            rest,
            done: false,
            pace: Pace::default(),
        })
    }

    /// Whether the client must not be listened to: its body is complete, or its handler has enough.
    pub(super) fn is_paused(&self) -> bool {
        self.done || self.upload.is_full()
    }

    pub(super) fn is_expecting(&self) -> bool {
        self.upload.is_expecting()
    }

    /// Whether the client is to be told, now, that its body is wanted.
    pub(super) fn take_asked(&self) -> bool {
        self.upload.take_asked()
    }

    /// Takes what `input` holds of the body; how many bytes are used.
    fn take(&mut self, input: &[u8], turn: &Turn) -> Result<usize, http::Error> {
        let mut body = Vec::new();
        let taken = self.rest.take(input, &mut body);
        self.upload.put(&body);
        let (used, done) = taken.inspect_err(|error| self.fail(*error))?;
        self.done = done;
        if done {
            self.upload.end(Ok(self.rest.trailers()));
        }
        self.pace.note(turn.now, used as u64, !self.is_paused());
        if !done
            && self
                .pace
                .is_below(turn.limits.min_rate, turn.limits.body_timeout)
        {
            self.fail(TOO_SLOW);
            return Err(TOO_SLOW);
        }
        Ok(used)
    }

    /// Tells the handler why nothing will follow.
    pub(super) fn fail(&self, error: http::Error) {
        let kind = match error.status() {
            408 => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidData,
        };
        self.upload.end(Err((kind, error.what())));
    }

    /// What there is to drop when the handler has answered without it; nothing when that is too
    /// much, or may never come.
    fn into_dropped(self) -> Option<Dropped> {
        let few = match &self.rest {
            Rest::Length(left) => *left <= DROPPED_BYTES,
            Rest::Chunked(_) => true,
        };
        (few && !self.upload.is_expecting()).then_some(Dropped {
            rest: self.rest,
            left: DROPPED_BYTES,
            pace: self.pace,
        })
    }
}

/// The rest of a body that nobody wants.
#[derive(Debug)]
pub(super) struct Dropped {
    rest: Rest,
    /// How many more bytes are worth it.
    left: u64,
    pace: Pace,
}

impl Dropped {
    /// Drops what `input` holds of the body; how many bytes that were, and whether it is complete.
    /// Nothing when it is not worth it any more.
    fn take(&mut self, input: &[u8], turn: &Turn) -> Option<(usize, bool)> {
        let mut body = Vec::new();
        let (used, done) = self.rest.take(input, &mut body).ok()?;
        self.left = self.left.checked_sub(used as u64)?;
        self.pace.note(turn.now, used as u64, !done);
        if self
            .pace
            .is_below(turn.limits.min_rate, turn.limits.body_timeout)
        {
            return None;
        }
        Some((used, done))
    }
}

impl Connection {
    /// Gives the handler what `input` holds of its body; how many bytes are used.
    pub(super) fn upload(&mut self, turn: &mut Turn, input: &[u8]) -> usize {
        let State::Handler(waiting) = &mut self.state else {
            return 0;
        };
        let Some(streaming) = &mut waiting.streaming else {
            return 0;
        };
        match streaming.take(input, turn) {
            Ok(used) => used,
            Err(error) => {
                let meta = waiting.meta;
                turn.counters.in_flight -= 1;
                self.fail(turn, error, meta);
                0
            }
        }
    }

    /// Sends the answer to a request whose body may still be arriving.
    #[inline]
    pub(super) fn conclude(
        &mut self,
        turn: &mut Turn,
        response: Response,
        meta: Meta,
        streaming: Option<Box<Streaming>>,
    ) {
        match streaming {
            Some(streaming) if !streaming.done => {
                self.conclude_unread(turn, response, meta, *streaming);
            }
            _ => self.respond(turn, response, meta),
        }
    }

    /// The same where it still is: the rest is dropped, or ends the connection.
    fn conclude_unread(
        &mut self,
        turn: &mut Turn,
        response: Response,
        meta: Meta,
        streaming: Streaming,
    ) {
        if response.switches_to().is_some() {
            // The rest of the body would be taken for what the other protocol says.
            log::error!("a handler changes the protocol within a body; sent 500");
            let failure = Failure::new(500, "another protocol within a body");
            self.respond(turn, turn.app.failure(failure).close(), meta);
            self.ending = Some(Ending::Linger);
            return;
        }
        let Some(dropped) = streaming.into_dropped() else {
            self.respond(turn, response.close(), meta);
            // The client may be in the middle of it.
            self.ending = Some(Ending::Linger);
            return;
        };
        self.respond(turn, response, meta);
        match self.ending {
            Some(_) => self.ending = Some(Ending::Linger),
            None => self.state = State::Dropping(Box::new(dropped)),
        }
    }

    /// Drops what `input` holds of a body that nobody wants; how many bytes are used.
    pub(super) fn drop_body(&mut self, turn: &Turn, input: &[u8]) -> usize {
        let State::Dropping(dropped) = &mut self.state else {
            return 0;
        };
        match dropped.take(input, turn) {
            Some((used, done)) => {
                if done {
                    self.state = State::Head;
                }
                used
            }
            None => {
                let _ = mem::replace(&mut self.state, State::Head);
                self.ending = Some(Ending::Linger);
                0
            }
        }
    }
}
