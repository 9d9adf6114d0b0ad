//! One connection, from its first byte to its last.
//!
//! Owns its socket: what is read and not consumed, what must be sent first, and how it ends. What
//! belongs to a request lives in its [`Meta`], not here. Leaves making answers of requests to
//! `requests`, limits of time and the socket's registration to [`super::Server`].

use super::access::Entry;
use super::body::{Dropped, Incoming, Streaming};
use super::output::{self, Flushed, Output};
use super::respond::Meta;
use super::upgraded::Upgraded;
use super::{Draining, HANDED_BYTES, Handed, Limit, Turn};
use crate::app::{Job, Response};
use crate::http;
use crate::net::Ready;
use crate::net::token::Key;
use crate::pool::Ticket;
use crate::sys::listener::Peer;
use crate::sys::socket;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

/// Requests of one connection in one turn: a client that pipelines without end must not starve
/// the others.
const REQUESTS_PER_TURN: u32 = 64;

/// Reads of one connection in one turn, for the same reason.
pub(super) const READS_PER_TURN: u32 = 16;

/// A head that is parsed again whatever came of it; see [`Connection::received`].
const SHORT_HEAD: usize = 1024;

/// Has a client send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a connection waits for.
#[derive(Debug)]
pub(super) enum State {
    /// A request's head, or the rest of it.
    Head,
    /// The rest of a request's body.
    Body(Box<Incoming>),
    /// Its handler's answer.
    Handler(Box<Waiting>),
    /// The rest of a body that nobody wants.
    Dropping(Box<Dropped>),
    /// Whatever another protocol waits for.
    Upgraded(Box<Upgraded>),
    /// The peer's end, reading and dropping up to so many bytes more.
    Linger(usize),
}

pub(super) struct Waiting {
    pub(super) meta: Meta,
    pub(super) since: Instant,
    /// The answer's maker, while it waits for its time.
    pub(super) delayed: Option<Job>,
    /// The answer, while older ones are still being sent.
    pub(super) answer: Option<Response>,
    /// The request's body, where its handler reads it while it arrives.
    pub(super) streaming: Option<Box<Streaming>>,
    /// Cancels the job of the pool when the connection ends before it begins.
    pub(super) _ticket: Option<Ticket>,
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
pub(super) enum Ending {
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
    /// Nothing is under way, and another loop is to go on with it.
    HandBack,
    /// It is over.
    Close,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Key,
    /// Whether the loop's epoll set knows the socket.
    pub(super) registered: bool,
    /// Whether it will be driven in the next turn anyway.
    pub(super) queued: bool,
    /// When it will be driven at the latest.
    pub(super) alarm: Option<Instant>,
    pub(super) socket: OwnedFd,
    pub(super) peer: Peer,
    /// The listener that it came in by.
    pub(super) listener: u32,
    /// Somebody else may still hold a copy, so closing ours would not end the connection.
    handed: bool,
    /// There may be something to read.
    pub(super) readable: bool,
    /// The peer will send no more: read to the end even after a short read.
    pub(super) read_closed: bool,
    /// There is no connection any more.
    gone: bool,
    /// The end has been read.
    pub(super) ended: bool,
    /// At least one request was answered.
    pub(super) served: bool,
    /// Who is at the other end has been said, where it must be said first.
    pub(super) announced: bool,
    /// Nobody was there whose it is.
    pub(super) strayed: bool,
    /// `pending` holds something that has not been looked at yet.
    pub(super) unparsed: bool,
    pub(super) ending: Option<Ending>,
    pub(super) state: State,
    /// Bytes read and not consumed. Without capacity while there are none.
    pub(super) pending: Vec<u8>,
    pub(super) output: Option<Box<Output>>,
    /// What is to be noted of the request under way, until its answer is sent.
    pub(super) entry: Option<Box<Entry>>,
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    pub(super) fn new(key: Key, socket: OwnedFd, handed: Handed, copied: bool) -> Self {
        Self {
            key,
            registered: false,
            queued: false,
            alarm: None,
            socket,
            peer: handed.peer,
            listener: handed.listener,
            handed: copied,
            readable: true,
            read_closed: false,
            gone: false,
            ended: false,
            served: handed.served,
            announced: handed.announced,
            strayed: handed.strayed,
            unparsed: !handed.bytes.is_empty(),
            ending: None,
            state: State::Head,
            pending: handed.bytes,
            output: None,
            entry: None,
        }
    }

    /// What another loop needs to go on with it.
    pub(super) fn into_handed(self) -> (OwnedFd, Handed) {
        let handed = Handed {
            peer: self.peer,
            listener: self.listener,
            served: self.served,
            announced: self.announced,
            strayed: false,
            bytes: self.pending,
        };
        (self.socket, handed)
    }

    /// Notes readiness; true when there is something to do about it.
    pub(super) fn ready(&mut self, ready: Ready) -> bool {
        self.readable |= ready.readable || ready.gone;
        self.read_closed |= ready.read_closed || ready.gone;
        self.gone |= ready.gone;
        match self.state {
            // The answer comes by itself; but nobody is left to take it once the peer is gone.
            State::Handler(_) => {
                if ready.gone {
                    self.ending = Some(Ending::Plain);
                    self.output = None;
                }
                ready.gone
                    || (ready.writable && self.output.is_some())
                    || (self.readable && self.is_streaming())
            }
            _ => {
                let more = ready.writable || ready.read_closed || ready.gone;
                self.readable || (more && self.output.is_some())
            }
        }
    }

    /// Whether its answer has no end of its own.
    fn listens(&self) -> bool {
        self.output.as_deref().is_some_and(Output::is_endless)
    }

    /// Whether a handler is to have more of its request's body.
    pub(super) fn is_streaming(&self) -> bool {
        let State::Handler(waiting) = &self.state else {
            return false;
        };
        let streaming = waiting.streaming.as_ref();
        streaming.is_some_and(|streaming| !streaming.is_paused())
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
        let mut share = output::BYTES_PER_TURN;
        loop {
            let before = turn.counters.bytes_out;
            let socket = self.socket.as_fd();
            let flushed = output::flush(socket, &mut self.output, turn, &mut share);
            self.account(turn, before);
            match flushed? {
                Flushed::All => {}
                Flushed::More => return Ok(Step::Again),
                // A client that listens for ever has nothing to say: its end is the end.
                Flushed::Starved if self.gone || (self.read_closed && self.listens()) => {
                    return Ok(Step::Close);
                }
                Flushed::Starved => return Ok(wait(None, false)),
                Flushed::Blocked => {
                    let restart = turn.counters.bytes_out > written_before;
                    return Ok(wait(Some(Limit::Write), restart));
                }
            }
            if let State::Handler(waiting) = &mut self.state {
                if self.ending.is_some() {
                    return Ok(Step::Close);
                }
                if let Some(answer) = waiting.answer.take() {
                    self.answer_late(turn, answer);
                    continue;
                }
                match &waiting.streaming {
                    Some(streaming) if streaming.take_asked() => {
                        turn.out.extend_from_slice(CONTINUE);
                        continue;
                    }
                    Some(streaming) if !streaming.is_paused() => {}
                    _ => return Ok(wait(None, false)),
                }
            }
            if let State::Upgraded(_) = self.state {
                if share == 0 {
                    return Ok(Step::Again);
                }
                match self.converse(turn, &mut reads)? {
                    Some(step) => return Ok(step),
                    None => continue,
                }
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
        let result = match socket::receive(self.socket.as_fd(), &mut input) {
            Ok(0) => {
                self.ended = true;
                self.readable = false;
                // What was put off is put off no longer.
                self.unparsed = !self.pending.is_empty();
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
        // A long head cannot be complete without a line end: do not parse it again for every byte.
        // A short one costs little, and may be bad whatever comes.
        let long = SHORT_HEAD..turn.head_limits.bytes;
        let no_line = memchr::memchr(b'\n', bytes).is_none();
        if self.announced && no_line && long.contains(&self.pending.len()) {
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

    /// Nothing can be done until more comes: which limit holds now.
    fn rest(&self, turn: &Turn, progress: bool) -> Step {
        match &self.state {
            State::Handler(waiting)
                if waiting
                    .streaming
                    .as_ref()
                    .is_some_and(|one| one.is_expecting()) =>
            {
                wait(None, false)
            }
            State::Body(_) | State::Handler(_) | State::Dropping(_) => {
                wait(Some(Limit::Body), progress)
            }
            _ if turn.draining == Draining::HandBack && self.pending.len() <= HANDED_BYTES => {
                Step::HandBack
            }
            _ if self.head_has_begun() => wait(Some(Limit::Head), progress),
            _ if !self.served && turn.draining == Draining::Close => {
                wait(Some(Limit::Fresh), false)
            }
            _ if !self.served => wait(Some(Limit::Head), false),
            _ if turn.draining == Draining::Close => Step::Close,
            _ => wait(Some(Limit::Idle), progress),
        }
    }

    /// Whether there is a part of a head; empty lines alone are none (RFC 9112 2.2), so that they
    /// neither make an idle connection busy nor buy it time.
    fn head_has_begun(&self) -> bool {
        let blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
        !self.pending.iter().all(blank)
    }

    /// A limit of time has passed. True when an answer says so; false when there is nobody to
    /// tell, and the connection just ends.
    pub(super) fn expired(&mut self, turn: &mut Turn, limit: Limit) -> bool {
        let late = match limit {
            Limit::Head if self.announced && self.head_has_begun() => "the head took too long",
            Limit::Body if matches!(self.state, State::Dropping(_)) => return false,
            Limit::Body if matches!(self.state, State::Handler(_)) && !self.is_streaming() => {
                return true;
            }
            Limit::Body => "the body took too long",
            Limit::Head | Limit::Idle | Limit::Write | Limit::Linger | Limit::Fresh => {
                return false;
            }
        };
        let error = http::Error::new(408, late);
        let meta = match &self.state {
            State::Body(incoming) => incoming.meta,
            State::Handler(waiting) => {
                turn.counters.in_flight -= 1;
                if let Some(streaming) = &waiting.streaming {
                    streaming.fail(error);
                }
                waiting.meta
            }
            _ => Meta::unknown(),
        };
        self.fail(turn, error, meta);
        true
    }

    /// When it is to be driven although nothing has happened.
    pub(super) fn alarm_at(&self) -> Option<Instant> {
        match (&self.state, &self.output) {
            // Until all is sent nobody else is asked, and the limit of time for writing holds.
            (_, Some(output)) => output.deadline(),
            (State::Upgraded(upgraded), None) => upgraded.deadline(),
            (_, None) => None,
        }
    }

    /// Ends the connection. What is left of one over TCP of which somebody else may hold a copy: its
    /// peer has been told, and it can be closed at any time.
    pub(super) fn close(mut self, turn: &mut Turn) -> Option<OwnedFd> {
        self.cut_short(turn);
        if let State::Handler(_) = &self.state {
            turn.counters.in_flight -= 1;
        }
        self.end_upgraded();
        if self.output.as_deref().is_some_and(Output::ends_by_close) {
            // An answer that only the end delimits must not look complete when it is not.
            socket::reset(self.socket.as_fd());
            return None;
        }
        if self.handed {
            // The other copy must not keep the connection alive. What fails here is ended already.
            let _ = socket::shutdown_both(self.socket.as_fd());
        }
        let tcp = matches!(self.peer, Peer::Inet(_));
        (self.handed && tcp).then_some(self.socket)
    }
}

pub(super) fn wait(limit: Option<Limit>, restart: bool) -> Step {
    Step::Wait { limit, restart }
}
