//! Bodies that are made while they are sent. Owns asking for the next piece, and its framing.

use super::super::{Draining, Turn};
use super::{COPIED, Framing, Output, Piece};
use crate::app::{Fed, Feed, Trailers, panic_message, trailer_section};
use crate::http;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What a stream may put into one write.
const STREAM_BYTES: usize = 32 * 1024;
const STREAM_PIECES: usize = 64;

/// Where the pieces of a stream come from.
pub(super) enum Source {
    Pieces(Box<dyn Iterator<Item = Vec<u8>> + Send>),
    Feed(Feed),
}

impl Source {
    fn next(&mut self) -> Fed {
        match self {
            Self::Pieces(pieces) => pieces.next().map_or(Fed::End, Fed::Piece),
            Self::Feed(feed) => feed.take(),
        }
    }

    fn heartbeat(&self) -> Option<(Duration, &'static [u8])> {
        match self {
            Self::Pieces(_) => None,
            Self::Feed(feed) => feed.heartbeat(),
        }
    }
}

/// How asking a stream for more ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    More,
    NothingYet,
    Ended,
}

pub(super) struct Stream {
    pieces: Source,
    chunked: bool,
    pub(super) trailers: Option<Trailers>,
    /// When something was last sent.
    heard_at: Instant,
}

impl Stream {
    pub(super) fn new(pieces: Source, framing: Framing, now: Instant) -> Self {
        Self {
            pieces,
            chunked: framing == Framing::Chunked,
            trailers: None,
            heard_at: now,
        }
    }

    /// Whether it has no end of its own, as one that gives signs of life.
    pub(super) fn is_endless(&self) -> bool {
        self.pieces.heartbeat().is_some()
    }

    /// When the client should be given a sign of life.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (every, _) = self.pieces.heartbeat()?;
        Some(self.heard_at + every)
    }

    fn put(&self, out: &mut Vec<u8>, piece: &[u8]) {
        if self.chunked {
            http::chunk(out, piece);
        } else {
            out.extend_from_slice(piece);
        }
    }

    /// Appends what ends the body.
    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self.trailers.take() {
            _ if !self.chunked => {}
            None => http::last_chunk(out),
            Some(trailers) => {
                let fields = catch_unwind(AssertUnwindSafe(trailers));
                let fields = fields.map_err(|panic| panicked(&*panic))?;
                http::last_chunk_start(out);
                trailer_section(out, fields);
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

impl Output {
    /// Asks the stream for one write's worth.
    pub(super) fn pull(&mut self, turn: &mut Turn) -> io::Result<Pulled> {
        let Some(stream) = &mut self.stream else {
            return Ok(Pulled::Ended);
        };
        for _ in 0..STREAM_PIECES {
            let next = catch_unwind(AssertUnwindSafe(|| stream.pieces.next()));
            match next.map_err(|panic| panicked(&*panic))? {
                Fed::Piece(piece) if piece.len() > COPIED => {
                    stream.heard_at = turn.now;
                    if stream.chunked {
                        http::chunk_start(&mut turn.out, piece.len());
                        self.queue.push_back(Piece::Owned(piece));
                        self.queue.push_back(Piece::Static(b"\r\n"));
                    } else {
                        self.queue.push_back(Piece::Owned(piece));
                    }
                    // The queue is behind the buffer: nothing more may go into the buffer.
                    return Ok(Pulled::More);
                }
                Fed::Piece(piece) => {
                    stream.heard_at = turn.now;
                    stream.put(&mut turn.out, &piece);
                }
                // What came before it is sent first.
                Fed::Cut if !turn.out.is_empty() => return Ok(Pulled::More),
                Fed::Cut => return Err(io::Error::other("a response's maker gave it up")),
                // A stream with a heartbeat has no end of its own, and must not hold its loop up.
                Fed::NothingYet
                    if turn.draining == Draining::No || stream.pieces.heartbeat().is_none() =>
                {
                    if let Some((every, beat)) = stream.pieces.heartbeat()
                        && turn.now >= stream.heard_at + every
                    {
                        stream.heard_at = turn.now;
                        stream.put(&mut turn.out, beat);
                    }
                    return Ok(Pulled::NothingYet);
                }
                Fed::End | Fed::NothingYet => {
                    stream.finish(&mut turn.out)?;
                    self.stream = None;
                    return Ok(Pulled::Ended);
                }
            }
            if turn.out.len() >= STREAM_BYTES {
                break;
            }
        }
        Ok(Pulled::More)
    }
}

/// The error of a stream that panicked: its answer ends where it was.
fn panicked(panic: &(dyn Any + Send)) -> io::Error {
    log::error!("a response's stream panicked: {}", panic_message(panic));
    io::Error::other("a response's stream panicked")
}
