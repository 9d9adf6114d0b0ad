//! What one connection has still to send.
//!
//! Owns the order: the loop's buffer is always older than the pieces queued here, and a stream
//! is asked for more only when both are empty. An idle connection owns none of it.

use super::Turn;
use super::respond::Framing;
use crate::app::{Feed, Trailers, panic_message, trailer_section};
use crate::http;
use crate::sys::socket;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A body up to this size is copied behind its head; a larger one is sent from where it lies.
const COPIED: usize = 16 * 1024;

/// What a stream may put into one write.
const STREAM_BYTES: usize = 32 * 1024;
const STREAM_PIECES: usize = 64;

/// What one connection may write in one turn of the loop before others have theirs, give or take
/// a write: a client that takes a large body as fast as it is written must not hold up the rest.
const BYTES_PER_TURN: usize = 512 * 1024;

/// Pieces given to one writev(2).
const SLICES: usize = 8;

#[derive(Debug)]
enum Piece {
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Where the pieces of a stream come from.
enum Source {
    Pieces(Box<dyn Iterator<Item = Vec<u8>> + Send>),
    Feed(Feed),
}

/// What a source says when it is asked.
enum Next {
    Piece(Vec<u8>),
    NothingYet,
    End,
}

impl Source {
    fn next(&mut self) -> Next {
        match self {
            Self::Pieces(pieces) => pieces.next().map_or(Next::End, Next::Piece),
            Self::Feed(feed) => match feed.take() {
                Some(piece) => Next::Piece(piece),
                None if feed.is_closed() => Next::End,
                None => Next::NothingYet,
            },
        }
    }
}

/// How asking a stream for more ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulled {
    More,
    NothingYet,
    Ended,
}

struct Stream {
    pieces: Source,
    chunked: bool,
    trailers: Option<Trailers>,
}

/// The unsent rest of a connection's answers.
#[derive(Default)]
pub(super) struct Output {
    queue: VecDeque<Piece>,
    /// Bytes of the first piece that are out.
    sent: usize,
    stream: Option<Stream>,
    /// Only the end of the connection tells where the answer ends.
    until_close: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("queue", &self.queue.len())
            .field("stream", &self.stream.is_some())
            .finish_non_exhaustive()
    }
}

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is out.
    All,
    /// The stream has more to say; this connection has had its share of the turn.
    More,
    /// The peer does not take more now.
    Blocked,
    /// The stream goes on, but has nothing to say now.
    Starved,
}

/// Adds a body behind the head that is in the loop's buffer.
pub(super) fn body(
    output: &mut Option<Box<Output>>,
    out: &mut Vec<u8>,
    body: crate::app::Body,
    framing: Framing,
) {
    use crate::app::Body;
    if framing == Framing::None {
        return;
    }
    match body {
        Body::Empty => {}
        Body::Static(bytes) if bytes.len() <= COPIED => out.extend_from_slice(bytes),
        Body::Bytes(bytes) if bytes.len() <= COPIED => out.extend_from_slice(&bytes),
        Body::Static(bytes) => queue(output).push_back(Piece::Static(bytes)),
        Body::Bytes(bytes) => queue(output).push_back(Piece::Owned(bytes)),
        Body::Stream(pieces) => stream(output, Source::Pieces(pieces), framing),
        Body::Feed(feed) => stream(output, Source::Feed(feed), framing),
    }
}

fn stream(output: &mut Option<Box<Output>>, pieces: Source, framing: Framing) {
    let output = output.get_or_insert_default();
    output.until_close = framing == Framing::UntilClose;
    output.stream = Some(Stream {
        pieces,
        chunked: framing == Framing::Chunked,
        trailers: None,
    });
}

fn queue(output: &mut Option<Box<Output>>) -> &mut VecDeque<Piece> {
    &mut output.get_or_insert_default().queue
}

/// Sends what the loop's buffer and `output` hold; a stream is asked for one write's worth.
/// Counts the bytes that went out into `turn`.
///
/// # Errors
///
/// When the connection is gone, or its stream panicked: then the answer is cut short.
pub(super) fn flush(
    socket: BorrowedFd<'_>,
    output: &mut Option<Box<Output>>,
    turn: &mut Turn,
) -> io::Result<Flushed> {
    let mut written = Written::All;
    if output.is_none() {
        // The common case: one write of the loop's buffer, and nothing is left.
        write_buffer(socket, output, turn)?;
    }
    let mut share = BYTES_PER_TURN;
    while let Some(waiting) = output {
        if written == Written::All {
            written = waiting.write(socket, turn, &mut share)?;
        }
        match written {
            Written::Blocked => return Ok(Flushed::Blocked),
            Written::Enough => return Ok(Flushed::More),
            Written::All if waiting.stream.is_none() => *output = None,
            Written::All => {
                let pulled = waiting.pull(&mut turn.out)?;
                written = waiting.write(socket, turn, &mut share)?;
                match (written, pulled) {
                    (Written::All, Pulled::More) => return Ok(Flushed::More),
                    (Written::All, Pulled::NothingYet) => return Ok(Flushed::Starved),
                    _ => {}
                }
            }
        }
    }
    Ok(Flushed::All)
}

/// Writes the loop's buffer once; what does not fit goes into the queue.
fn write_buffer(
    socket: BorrowedFd<'_>,
    output: &mut Option<Box<Output>>,
    turn: &mut Turn,
) -> io::Result<()> {
    if turn.out.is_empty() {
        return Ok(());
    }
    let sent = match socket::write(socket, &turn.out) {
        Ok(sent) => sent,
        Err(error) if socket::would_block(&error) => 0,
        Err(error) => return Err(error),
    };
    turn.counters.bytes_out += sent as u64;
    if sent < turn.out.len() {
        queue(output).push_back(Piece::Owned(turn.out[sent..].to_vec()));
    }
    turn.out.clear();
    Ok(())
}

/// How writing the queue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    All,
    /// The peer takes no more now.
    Blocked,
    /// The connection has had its share of the turn.
    Enough,
}

impl Output {
    /// Writes the loop's buffer and the queue until both are empty, the peer takes no more or
    /// `share` is used up; what is then left of the buffer is in the queue.
    fn write(
        &mut self,
        socket: BorrowedFd<'_>,
        turn: &mut Turn,
        share: &mut usize,
    ) -> io::Result<Written> {
        let mut buffered = 0;
        let written = loop {
            let rest = &turn.out[buffered..];
            if rest.is_empty() && self.queue.is_empty() {
                break Written::All;
            }
            if *share == 0 {
                break Written::Enough;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(rest);
            let mut skip = self.sent;
            for (slice, piece) in slices[1..].iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(&piece.bytes()[skip..]);
                skip = 0;
            }
            match socket::writev(socket, &slices) {
                Ok(sent) => {
                    turn.counters.bytes_out += sent as u64;
                    *share = share.saturating_sub(sent);
                    let of_buffer = sent.min(rest.len());
                    buffered += of_buffer;
                    self.advance(sent - of_buffer);
                }
                Err(error) if socket::would_block(&error) => break Written::Blocked,
                Err(error) => return Err(error),
            }
        };
        if buffered < turn.out.len() {
            debug_assert_eq!(self.sent, 0, "the buffer is older than the queue");
            let rest = turn.out[buffered..].to_vec();
            self.queue.push_front(Piece::Owned(rest));
        }
        turn.out.clear();
        Ok(written)
    }

    /// Whether only the end of the connection tells where the answer ends.
    pub(super) fn ends_by_close(&self) -> bool {
        self.until_close
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.queue.front() {
            let left = first.bytes().len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.queue.pop_front();
        }
    }

    /// Sends the fields that `trailers` makes behind the stream, if there is one.
    pub(super) fn add_trailers(&mut self, trailers: Trailers) {
        if let Some(stream) = &mut self.stream {
            stream.trailers = Some(trailers);
        }
    }

    /// Asks the stream for one write's worth.
    fn pull(&mut self, out: &mut Vec<u8>) -> io::Result<Pulled> {
        let Some(stream) = &mut self.stream else {
            return Ok(Pulled::Ended);
        };
        for _ in 0..STREAM_PIECES {
            let next = catch_unwind(AssertUnwindSafe(|| stream.pieces.next()));
            match next {
                Ok(Next::Piece(piece)) if piece.len() > COPIED => {
                    if stream.chunked {
                        http::chunk_start(out, piece.len());
                        self.queue.push_back(Piece::Owned(piece));
                        self.queue.push_back(Piece::Static(b"\r\n"));
                    } else {
                        self.queue.push_back(Piece::Owned(piece));
                    }
                    // The queue is behind the buffer: nothing more may go into the buffer.
                    return Ok(Pulled::More);
                }
                Ok(Next::NothingYet) => return Ok(Pulled::NothingYet),
                Ok(Next::Piece(piece)) if stream.chunked => http::chunk(out, &piece),
                Ok(Next::Piece(piece)) => out.extend_from_slice(&piece),
                Ok(Next::End) => {
                    match stream.trailers.take() {
                        _ if !stream.chunked => {}
                        None => http::last_chunk(out),
                        Some(trailers) => {
                            let fields = catch_unwind(AssertUnwindSafe(trailers));
                            let fields = fields.map_err(|panic| cut_short(&*panic))?;
                            http::last_chunk_start(out);
                            trailer_section(out, fields);
                            out.extend_from_slice(b"\r\n");
                        }
                    }
                    self.stream = None;
                    return Ok(Pulled::Ended);
                }
                Err(panic) => return Err(cut_short(&*panic)),
            }
            if out.len() >= STREAM_BYTES {
                break;
            }
        }
        Ok(Pulled::More)
    }
}

/// The error of a stream that panicked: its answer ends where it was.
fn cut_short(panic: &(dyn Any + Send)) -> io::Error {
    log::error!("a response's stream panicked: {}", panic_message(panic));
    io::Error::other("a response's stream panicked")
}
