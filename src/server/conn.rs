//! One connection, from its first byte to its last.
//!
//! Owns the order of things: requests are parsed one after another, answered in that order, and
//! none is begun while an older answer is unsent or still being made. What belongs to a request
//! lives in its [`Meta`], not here. Leaves limits of time and the socket's registration to
//! [`super::Server`].

use super::output::{self, Flushed, Output};
use super::respond::{self, Meta};
use super::{Limit, Turn};
use crate::app::{Failure, Job, Parts, Reply, Request, Response};
use crate::http::{self, ChunkedDecoder, Framing, Parsed};
use crate::net::Ready;
use crate::net::token::Key;
use crate::pool::Ticket;
use crate::sys::listener::Peer;
use crate::sys::socket;
use std::cmp::Reverse;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

/// Requests of one connection in one turn: a client that pipelines without end must not starve
/// the others.
const REQUESTS_PER_TURN: u32 = 64;

/// Reads of one connection in one turn, for the same reason.
const READS_PER_TURN: u32 = 16;

/// Answers collected before they are written.
const OUT_BYTES: usize = 64 * 1024;

/// Bytes read and thrown away after the last answer, so that it is not lost to a reset.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Space reserved for a body at once; the rest grows as it arrives, so that announcing a large
/// body costs nobody memory.
const BODY_RESERVE: u64 = 64 * 1024;

/// What a connection waits for.
#[derive(Debug)]
enum State {
    /// A request's head, or the rest of it.
    Head,
    /// The rest of a request's body.
    Body(Box<Incoming>),
    /// Its handler's answer.
    Handler(Box<Waiting>),
    /// The peer's end, reading and dropping up to so many bytes more.
    Linger(usize),
}

#[derive(Debug)]
struct Incoming {
    parts: Box<Parts>,
    meta: Meta,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(ChunkedDecoder),
}

struct Waiting {
    meta: Meta,
    since: Instant,
    /// The answer's maker, while it waits for its time.
    delayed: Option<Job>,
    /// Cancels the job of the pool when the connection ends before it begins.
    _ticket: Option<Ticket>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// How to end, once everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The client said that it is done.
    Plain,
    /// The client may still be sending: read on for a while, see RFC 9112 9.6.
    Linger,
}

/// What the loop must do after a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait for readiness, at most as long as `limit` says; `restart` when that time begins anew.
    Wait { limit: Option<Limit>, restart: bool },
    /// Come back in the next turn: there is more to do.
    Again,
    /// It is over.
    Close,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Key,
    /// Whether the loop's epoll set knows the socket.
    pub(super) registered: bool,
    socket: OwnedFd,
    peer: Peer,
    /// Somebody else may still hold a copy, so closing ours would not end the connection.
    handed: bool,
    /// There may be something to read.
    readable: bool,
    /// The peer will send no more: read to the end even after a short read.
    read_closed: bool,
    /// The end has been read.
    ended: bool,
    /// At least one request was answered.
    served: bool,
    /// `pending` holds something that has not been looked at yet.
    unparsed: bool,
    ending: Option<Ending>,
    state: State,
    /// Bytes read and not consumed. Without capacity while there are none.
    pending: Vec<u8>,
    output: Option<Box<Output>>,
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Connection {
    pub(super) fn new(key: Key, socket: OwnedFd, peer: Peer, handed: bool) -> Self {
        Self {
            key,
            registered: false,
            socket,
            peer,
            handed,
            readable: true,
            read_closed: false,
            ended: false,
            served: false,
            unparsed: false,
            ending: None,
            state: State::Head,
            pending: Vec::new(),
            output: None,
        }
    }

    /// Notes readiness; true when there is something to do about it.
    pub(super) fn ready(&mut self, ready: Ready) -> bool {
        self.readable |= ready.readable || ready.gone;
        self.read_closed |= ready.read_closed;
        match self.state {
            // The answer comes by itself; but nobody is left to take it once the peer is gone.
            State::Handler(_) => {
                if ready.gone {
                    self.ending = Some(Ending::Plain);
                    self.output = None;
                }
                ready.gone
            }
            _ => self.readable || (ready.writable && self.output.is_some()),
        }
    }

    /// Forgets that there was nothing to read.
    pub(super) fn look_again(&mut self) {
        self.readable = true;
    }

    /// Does all that can be done without waiting.
    pub(super) fn drive(&mut self, turn: &mut Turn) -> Step {
        match self.advance(turn) {
            Ok(step) => step,
            Err(error) => {
                log::debug!("connection ended: {error}");
                turn.out.clear();
                Step::Close
            }
        }
    }

    fn advance(&mut self, turn: &mut Turn) -> io::Result<Step> {
        let mut requests = REQUESTS_PER_TURN;
        let mut reads = READS_PER_TURN;
        let written_before = turn.counters.bytes_out;
        let mut progress = false;
        loop {
            match output::flush(self.socket.as_fd(), &mut self.output, turn)? {
                Flushed::All => {}
                Flushed::More => return Ok(Step::Again),
                Flushed::Blocked => {
                    let restart = turn.counters.bytes_out > written_before;
                    return Ok(wait(Some(Limit::Write), restart));
                }
            }
            if let State::Handler(_) = self.state {
                return Ok(match self.ending {
                    Some(_) => Step::Close,
                    None => wait(None, false),
                });
            }
            if let Some(ending) = self.ending.take()
                && !self.begin_linger(ending)?
            {
                return Ok(Step::Close);
            }
            if let State::Linger(_) = self.state {
                return self.linger(turn);
            }
            if self.unparsed {
                if requests == 0 {
                    return Ok(Step::Again);
                }
                let pending = mem::take(&mut self.pending);
                let used = self.feed(turn, &pending, &mut requests);
                progress |= used > 0;
                self.keep(pending, used);
                continue;
            }
            if self.ended {
                // Between requests that is how connections end; within one, nobody can answer.
                return Ok(Step::Close);
            }
            if !self.readable {
                return Ok(self.rest(turn, progress));
            }
            if reads == 0 {
                return Ok(Step::Again);
            }
            reads -= 1;
            progress |= self.read(turn, &mut requests)?;
        }
    }

    /// Reads once and looks at what came; true when bytes were consumed.
    fn read(&mut self, turn: &mut Turn, requests: &mut u32) -> io::Result<bool> {
        // The loop's buffer leaves the turn while it is looked at; a Box moves for nothing.
        let mut input = mem::take(&mut turn.input);
        let result = match socket::read(self.socket.as_fd(), &mut input) {
            Ok(0) => {
                self.ended = true;
                self.readable = false;
                Ok(false)
            }
            Ok(count) => {
                // A short read means drained; what comes later is an edge of its own.
                self.readable = count == input.len() || self.read_closed;
                turn.counters.bytes_in += count as u64;
                Ok(self.received(turn, &input[..count], requests))
            }
            Err(error) if socket::would_block(&error) => {
                self.readable = false;
                Ok(false)
            }
            Err(error) => Err(error),
        };
        turn.input = input;
        result
    }

    fn received(&mut self, turn: &mut Turn, bytes: &[u8], requests: &mut u32) -> bool {
        if self.pending.is_empty() {
            let used = self.feed(turn, bytes, requests);
            if used < bytes.len() {
                self.pending = bytes[used..].to_vec();
            }
            return used > 0;
        }
        self.pending.extend_from_slice(bytes);
        // A head cannot be complete without a line end: do not parse it again for every byte.
        let limit = turn.head_limits.bytes;
        if memchr::memchr(b'\n', bytes).is_none() && self.pending.len() < limit {
            return false;
        }
        self.unparsed = true;
        false
    }

    fn keep(&mut self, mut pending: Vec<u8>, used: usize) {
        if used == pending.len() {
            return;
        }
        pending.drain(..used);
        pending.shrink_to(4096);
        self.pending = pending;
    }

    /// Consumes requests from `input`; returns how many bytes are done with. Sets `unparsed` when
    /// it stopped for another reason than wanting more input.
    fn feed(&mut self, turn: &mut Turn, input: &[u8], requests: &mut u32) -> usize {
        let mut used = 0;
        self.unparsed = false;
        loop {
            let rest = &input[used..];
            let stop = self.ending.is_some()
                || self.output.is_some()
                || *requests == 0
                || turn.out.len() >= OUT_BYTES
                || matches!(self.state, State::Handler(_) | State::Linger(_));
            if stop {
                self.unparsed = !rest.is_empty();
                return used;
            }
            if rest.is_empty() {
                return used;
            }
            match &mut self.state {
                State::Body(incoming) => {
                    let Incoming {
                        parts, rest: left, ..
                    } = &mut **incoming;
                    let (count, done) = match take_body(left, parts, rest) {
                        Ok(taken) => taken,
                        Err(error) => {
                            let meta = incoming.meta;
                            self.fail(turn, error, meta);
                            continue;
                        }
                    };
                    used += count;
                    if !done {
                        return used;
                    }
                    if let State::Body(incoming) = mem::replace(&mut self.state, State::Head) {
                        *requests -= 1;
                        self.handle(turn, incoming.parts, incoming.meta);
                    }
                }
                _ => {
                    let mut parts = turn.spare.take().unwrap_or_else(Parts::take);
                    match parts.head.parse(rest, &turn.head_limits) {
                        Ok(Parsed::Partial) => {
                            turn.spare = Some(parts);
                            return used;
                        }
                        Ok(Parsed::Complete(count)) => {
                            used += count;
                            let more = used < input.len();
                            self.begin(turn, parts, more, requests);
                        }
                        Err(error) => {
                            turn.spare = Some(parts);
                            self.fail(turn, error, Meta::unknown());
                        }
                    }
                }
            }
        }
    }

    /// A head is complete: its request begins. `more` is whether bytes behind it are there.
    fn begin(&mut self, turn: &mut Turn, parts: Box<Parts>, more: bool, requests: &mut u32) {
        let meta = Meta::of(&parts.head);
        let limit = turn.limits.body;
        let rest = match parts.head.framing() {
            Framing::None | Framing::Length(0) => {
                *requests -= 1;
                return self.handle(turn, parts, meta);
            }
            Framing::Length(length) if length > limit => {
                return self.fail(turn, http::Error::new(413, "the body is too large"), meta);
            }
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkedDecoder::new(limit)),
        };
        if parts.head.expects_continue() && !more {
            // RFC 9110 10.1.1: not needed once the body has begun to arrive.
            turn.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let mut parts = parts;
        if let Rest::Length(length) = rest {
            parts.body.reserve(length.min(BODY_RESERVE) as usize);
        }
        self.state = State::Body(Box::new(Incoming { parts, meta, rest }));
    }

    /// A request is complete: its handler answers, now or later.
    fn handle(&mut self, turn: &mut Turn, mut parts: Box<Parts>, meta: Meta) {
        parts.set_peer(self.peer);
        parts.worker = turn.worker;
        let job = match turn.app.call(Request::new(parts)) {
            Reply::Now(response) => {
                turn.answered += 1;
                return self.respond(turn, response, meta);
            }
            Reply::Pooled(job) => job.0,
            Reply::After(delay, job) => {
                let at = turn.now + delay;
                turn.delayed.push(Reverse((at, self.key)));
                return self.wait_for_handler(turn, meta, Some(job.0), None);
            }
        };
        let Some(pool) = &mut turn.pool else {
            let response = job.run();
            turn.answered += 1;
            return self.respond(turn, response, meta);
        };
        let ticket = self.key.token() as u64;
        match pool.submit(ticket, turn.now, Box::new(move || job.run())) {
            Ok(ticket) => self.wait_for_handler(turn, meta, None, Some(ticket)),
            Err(_) => {
                let failure = Failure::new(503, "too many requests wait for the pool");
                let response = turn.app.failure(failure).header("Retry-After", "1");
                self.respond(turn, response, meta);
            }
        }
    }

    fn wait_for_handler(
        &mut self,
        turn: &mut Turn,
        meta: Meta,
        delayed: Option<Job>,
        ticket: Option<Ticket>,
    ) {
        turn.counters.in_flight += 1;
        self.state = State::Handler(Box::new(Waiting {
            meta,
            since: turn.now,
            delayed,
            _ticket: ticket,
        }));
    }

    /// The job whose time has come.
    pub(super) fn delayed_job(&mut self) -> Option<Job> {
        match &mut self.state {
            State::Handler(waiting) => waiting.delayed.take(),
            _ => None,
        }
    }

    /// The handler's answer is there.
    pub(super) fn resume(&mut self, turn: &mut Turn, response: Response) {
        if !matches!(self.state, State::Handler(_)) {
            return;
        }
        if let State::Handler(waiting) = mem::replace(&mut self.state, State::Head) {
            turn.counters.in_flight -= 1;
            let took = turn.now.saturating_duration_since(waiting.since);
            turn.counters.took(took, 1);
            self.respond(turn, response, waiting.meta);
            self.unparsed = !self.pending.is_empty();
        }
    }

    /// Encodes an answer behind those that are in the loop's buffer.
    fn respond(&mut self, turn: &mut Turn, response: Response, meta: Meta) {
        turn.counters.answered(response.status());
        self.served = true;
        let ours = !response.wants_close() && !turn.draining;
        let keep = meta.keep_alive && ours;
        let (framing, keep) = respond::head(&mut turn.out, &response, meta, keep, &turn.date);
        output::body(
            &mut self.output,
            &mut turn.out,
            response.into_body(),
            framing,
        );
        if !keep {
            // A client that asked for the end sends no more; others may be in the middle of it.
            let ending = if meta.keep_alive {
                Ending::Linger
            } else {
                Ending::Plain
            };
            self.ending = Some(ending);
        }
    }

    /// Answers what cannot be answered by a handler, as this connection's last words.
    fn fail(&mut self, turn: &mut Turn, error: http::Error, meta: Meta) {
        log::debug!("refused: {error}");
        self.state = State::Head;
        let failure = Failure::new(error.status(), error.what());
        let response = turn.app.failure(failure).close();
        self.respond(turn, response, meta);
        self.ending = Some(Ending::Linger);
    }

    /// Everything is sent and the connection must end. True when it goes on for a while, reading
    /// what the client still sends: closing at once would make the kernel answer that with a
    /// reset, which can cost the client our last answer.
    fn begin_linger(&mut self, ending: Ending) -> io::Result<bool> {
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

    fn linger(&mut self, turn: &mut Turn) -> io::Result<Step> {
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

    /// Nothing can be done until more comes: which limit holds now.
    fn rest(&self, turn: &Turn, progress: bool) -> Step {
        match &self.state {
            State::Body(_) => wait(Some(Limit::Body), progress),
            _ if !self.pending.is_empty() => wait(Some(Limit::Head), progress),
            _ if !self.served && turn.draining => wait(Some(Limit::Fresh), false),
            _ if !self.served => wait(Some(Limit::Head), false),
            _ if turn.draining => Step::Close,
            _ => wait(Some(Limit::Idle), progress),
        }
    }

    /// A limit of time has passed. True when an answer says so; false when there is nobody to
    /// tell, and the connection just ends.
    pub(super) fn expired(&mut self, turn: &mut Turn, limit: Limit) -> bool {
        let late = match limit {
            Limit::Head if !self.pending.is_empty() => "the head took too long",
            Limit::Body => "the body took too long",
            Limit::Head | Limit::Idle | Limit::Write | Limit::Linger | Limit::Fresh => {
                return false;
            }
        };
        let meta = match &self.state {
            State::Body(incoming) => incoming.meta,
            _ => Meta::unknown(),
        };
        self.fail(turn, http::Error::new(408, late), meta);
        true
    }

    /// Ends the connection.
    pub(super) fn close(self, turn: &mut Turn) {
        if let State::Handler(_) = self.state {
            turn.counters.in_flight -= 1;
        }
        if self.handed {
            // The other copy must not keep the connection alive. What fails here is ended already.
            let _ = socket::shutdown_both(self.socket.as_fd());
        }
    }
}

fn wait(limit: Option<Limit>, restart: bool) -> Step {
    Step::Wait { limit, restart }
}

/// Moves what belongs to the body; how many bytes that were, and whether it is complete.
fn take_body(
    rest: &mut Rest,
    parts: &mut Parts,
    input: &[u8],
) -> Result<(usize, bool), http::Error> {
    match rest {
        Rest::Length(left) => {
            let count = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
            parts.body.extend_from_slice(&input[..count]);
            *left -= count as u64;
            Ok((count, *left == 0))
        }
        Rest::Chunked(decoder) => {
            let (count, done) = decoder.decode(input, &mut parts.body)?;
            if done {
                parts.trailers = decoder.trailers().to_vec();
            }
            Ok((count, done))
        }
    }
}
