//! What one connection has still to send.
//!
//! Owns the order: the loop's buffer is always older than the pieces queued here, and a stream
//! (`stream`) is asked for more only when both are empty. An idle connection owns none of it.

mod stream;

use super::Turn;
use super::pace::Pace;
use super::respond::Framing;
use crate::app::{self, Trailers};
use crate::sys::socket;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;
use stream::{Pulled, Source, Stream};

/// A body up to this size is copied behind its head; a larger one is sent from where it lies.
const COPIED: usize = 16 * 1024;

/// What one connection may write in one turn of the loop before others have theirs, give or take
/// a write: a client that takes a large body as fast as it is written must not hold up the rest.
pub(super) const BYTES_PER_TURN: usize = 512 * 1024;

/// Pieces given to one write.
const SLICES: usize = 8;

/// What is read at once of a file that sendfile(2) cannot send.
const READ_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
enum Piece {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    /// So many bytes of a file, from there on.
    File {
        file: Arc<File>,
        offset: u64,
        left: u64,
    },
}

impl Piece {
    /// What is in memory.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Static(bytes) => Some(bytes),
            Self::Owned(bytes) => Some(bytes),
            Self::Shared(bytes) => Some(bytes),
            Self::File { .. } => None,
        }
    }
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
    pace: Pace,
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
    body: app::Body,
    framing: Framing,
    now: Instant,
) {
    use app::Body;
    if framing == Framing::None {
        return;
    }
    match body {
        Body::Empty => {}
        Body::Static(bytes) if bytes.len() <= COPIED => out.extend_from_slice(bytes),
        Body::Bytes(bytes) if bytes.len() <= COPIED => out.extend_from_slice(&bytes),
        Body::Shared(bytes) if bytes.len() <= COPIED => out.extend_from_slice(&bytes),
        Body::Static(bytes) => queue(output).push_back(Piece::Static(bytes)),
        Body::Bytes(bytes) => queue(output).push_back(Piece::Owned(bytes)),
        Body::Shared(bytes) => queue(output).push_back(Piece::Shared(bytes)),
        Body::Pieces(pieces) => {
            let most = out.len() + COPIED;
            for piece in pieces.into_pieces() {
                add_piece(output, out, piece, most);
            }
        }
        Body::Stream(pieces) => stream(output, Source::Pieces(pieces), framing, now),
        Body::Feed(feed) => stream(output, Source::Feed(feed), framing, now),
    }
}

/// Adds one of several pieces: into the loop's buffer while nothing is queued, and that has not
/// more than `most` bytes with it.
fn add_piece(output: &mut Option<Box<Output>>, out: &mut Vec<u8>, piece: app::Piece, most: usize) {
    let copied = output.is_none().then_some(most.saturating_sub(out.len()));
    match piece {
        app::Piece::Bytes(bytes) if Some(bytes.len()) <= copied => out.extend_from_slice(&bytes),
        app::Piece::Bytes(bytes) => queue(output).push_back(Piece::Owned(bytes)),
        app::Piece::File {
            file,
            offset,
            length,
        } => {
            if copied.is_some_and(|most| length <= most as u64) {
                let start = out.len();
                out.resize(start + length as usize, 0);
                if file.read_exact_at(&mut out[start..], offset).is_ok() {
                    return;
                }
                // Shorter than it was, most likely: sending it will tell.
                out.truncate(start);
            }
            queue(output).push_back(Piece::File {
                file,
                offset,
                left: length,
            });
        }
    }
}

fn stream(output: &mut Option<Box<Output>>, pieces: Source, framing: Framing, now: Instant) {
    let output = output.get_or_insert_default();
    output.until_close = framing == Framing::UntilClose;
    output.stream = Some(Stream::new(pieces, framing, now));
}

fn queue(output: &mut Option<Box<Output>>) -> &mut VecDeque<Piece> {
    &mut output.get_or_insert_default().queue
}

/// Sends what the loop's buffer and `output` hold; a stream is asked for one write's worth.
/// Counts the bytes that went out into `turn`.
///
/// # Errors
///
/// When the connection is gone, its client too slow, its stream panicked, or a file is shorter than
/// it was: then the answer is cut short.
pub(super) fn flush(
    socket: BorrowedFd<'_>,
    output: &mut Option<Box<Output>>,
    turn: &mut Turn,
    share: &mut usize,
) -> io::Result<Flushed> {
    let mut written = Written::All;
    if output.is_none() {
        // The common case: one write of the loop's buffer, and nothing is left.
        write_buffer(socket, output, turn, share)?;
    }
    while let Some(waiting) = output {
        if written == Written::All {
            written = waiting.write(socket, turn, share)?;
        }
        match written {
            Written::Blocked => return Ok(Flushed::Blocked),
            Written::Enough => return Ok(Flushed::More),
            Written::All if waiting.stream.is_none() => *output = None,
            Written::All => {
                let pulled = waiting.pull(turn)?;
                written = waiting.write(socket, turn, share)?;
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
    share: &mut usize,
) -> io::Result<()> {
    if turn.out.is_empty() {
        return Ok(());
    }
    let sent = match socket::send(socket, &turn.out) {
        Ok(sent) => sent,
        Err(error) if socket::would_block(&error) => 0,
        Err(error) => return Err(error),
    };
    turn.counters.bytes_out += sent as u64;
    *share = share.saturating_sub(sent);
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
        let before = turn.counters.bytes_out;
        let mut buffered = 0;
        let written = loop {
            let rest = &turn.out[buffered..];
            if rest.is_empty() && self.queue.is_empty() {
                break Written::All;
            }
            if *share == 0 {
                break Written::Enough;
            }
            let sent = match rest.is_empty() {
                true => self.write_queue(socket, *share),
                false => self.write_slices(socket, rest),
            };
            match sent {
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
        let taken = turn.counters.bytes_out - before;
        self.pace.note(turn.now, taken, written == Written::Blocked);
        let limits = &turn.limits;
        if self.pace.is_below(limits.min_rate, limits.write_timeout) {
            return Err(io::Error::other("the client takes its answer too slowly"));
        }
        Ok(written)
    }

    /// Writes `rest` and the bytes that are queued behind it.
    fn write_slices(&self, socket: BorrowedFd<'_>, rest: &[u8]) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(rest);
        let mut skip = self.sent;
        let mut file_follows = false;
        let mut used = 1;
        for (slice, piece) in slices[1..].iter_mut().zip(&self.queue) {
            let Some(bytes) = piece.bytes() else {
                file_follows = true;
                break;
            };
            *slice = IoSlice::new(&bytes[skip..]);
            skip = 0;
            used += 1;
        }
        let slices = &slices[..used];
        match file_follows {
            // The kernel holds it back for a moment, to send it with what follows.
            true => socket::writev_more(socket, slices),
            false => socket::writev(socket, slices),
        }
    }

    /// Writes what is queued first: bytes, or at most `share` of a file.
    fn write_queue(&mut self, socket: BorrowedFd<'_>, share: usize) -> io::Result<usize> {
        let Some(Piece::File { file, offset, left }) = self.queue.front() else {
            return self.write_slices(socket, &[]);
        };
        let (offset, count) = (*offset, (*left).min(share as u64));
        match socket::send_file(socket, file.as_fd(), offset, count as usize) {
            Ok(0) => Err(io::Error::other("a file is shorter than it was")),
            Err(error) if socket::cannot_send_file(&error) => {
                let mut bytes = vec![0; count.min(READ_BYTES) as usize];
                file.read_exact_at(&mut bytes, offset)?;
                self.advance(bytes.len());
                self.queue.push_front(Piece::Owned(bytes));
                self.write_slices(socket, &[])
            }
            sent => sent,
        }
    }

    /// Whether only the end of the connection tells where the answer ends.
    pub(super) fn ends_by_close(&self) -> bool {
        self.until_close
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.queue.front_mut() {
            let left = match first {
                Piece::File { offset, left, .. } => {
                    let sent = (*left).min(count as u64);
                    *offset += sent;
                    *left -= sent;
                    count -= sent as usize;
                    match *left {
                        0 => 0,
                        _ => return,
                    }
                }
                Piece::Static(bytes) => bytes.len() - self.sent,
                Piece::Owned(bytes) => bytes.len() - self.sent,
                Piece::Shared(bytes) => bytes.len() - self.sent,
            };
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.queue.pop_front();
        }
    }

    /// What of it is in memory.
    #[cfg(test)]
    pub(super) fn bytes_in_memory(&self) -> usize {
        let bytes = self.queue.iter().filter_map(Piece::bytes);
        bytes.map(<[u8]>::len).sum()
    }

    /// Whether the client listens to something that has no end of its own.
    pub(super) fn is_endless(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_endless)
    }

    /// When it has something to send even if nobody says anything: never before what it has is sent.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let idle = self.stream.as_ref().filter(|_| self.queue.is_empty());
        idle?.deadline()
    }

    /// Sends the fields that `trailers` makes behind the stream, if there is one.
    pub(super) fn add_trailers(&mut self, trailers: Trailers) {
        if let Some(stream) = &mut self.stream {
            stream.trailers = Some(trailers);
        }
    }
}
