//! From a connection's bytes to its answers.
//!
//! Owns reading requests one after another, giving each to its handler, and encoding answers in
//! that order: none is begun while an older one is unsent or still being made. Leaves reading,
//! writing and ending to `conn`.

use super::body::{Incoming, Rest, Streaming};
use super::conn::{CONTINUE, Connection, Ending, State, Waiting};
use super::output;
use super::pools::Kind;
use super::respond::{self, Meta};
use super::upgraded::Upgraded;
use super::{Draining, Turn};
use crate::app::{Body, Failure, Job, Parts, Reply, Request, Response, Upload};
use crate::http::{self, ChunkedDecoder, Framing, Parsed};
use crate::pool::Ticket;
use std::mem;

/// Answers collected before they are written.
const OUT_BYTES: usize = 64 * 1024;

/// Space reserved for a body at once; the rest grows as it arrives, so that announcing a large
/// body costs nobody memory.
const BODY_RESERVE: u64 = 64 * 1024;

impl Connection {
    /// Consumes requests from `input`; returns how many bytes are done with. Sets `unparsed` when
    /// it stopped for another reason than wanting more input.
    pub(super) fn feed(&mut self, turn: &mut Turn, input: &[u8], requests: &mut u32) -> usize {
        let mut used = 0;
        self.unparsed = false;
        loop {
            let rest = &input[used..];
            let stop = self.ending.is_some()
                || self.output.is_some()
                || *requests == 0
                || turn.out.len() >= OUT_BYTES
                || match self.state {
                    State::Handler(_) => !self.is_streaming(),
                    State::Upgraded(_) | State::Linger(_) => true,
                    State::Head | State::Body(_) | State::Dropping(_) => false,
                };
            if stop {
                self.unparsed = !rest.is_empty();
                return used;
            }
            if rest.is_empty() {
                return used;
            }
            match &mut self.state {
                State::Body(incoming) => {
                    let (count, done) = match incoming.take(rest, turn) {
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
                        self.handle(turn, incoming.parts, incoming.meta, None);
                    }
                }
                State::Handler(_) => used += self.upload(turn, rest),
                State::Dropping(_) => used += self.drop_body(turn, rest),
                _ if !self.announced => match self.announce(turn, rest) {
                    0 => return used,
                    count => used += count,
                },
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
                            self.entry = turn.edge.unreadable(self.peer, rest);
                            self.fail(turn, error, Meta::refused(rest));
                        }
                    }
                }
            }
        }
    }

    /// A head is complete: its request begins. `more` is whether bytes behind it are there.
    fn begin(&mut self, turn: &mut Turn, mut parts: Box<Parts>, more: bool, requests: &mut u32) {
        let mut meta = Meta::of(&parts.head);
        self.entry = turn.edge.arrived(&mut parts, self.peer);
        meta.mark = turn.edge.mark(&parts, self.strayed);
        let framing = parts.head.framing();
        if matches!(framing, Framing::None | Framing::Length(0)) {
            *requests -= 1;
            return self.handle(turn, parts, meta, None);
        }
        let plan = turn.app.body_plan(&parts.head);
        let limit = plan.most.unwrap_or(turn.limits.body);
        let rest = match framing {
            Framing::Length(length) if length > limit => {
                return self.fail(turn, http::Error::new(413, "the body is too large"), meta);
            }
            Framing::Length(length) => Rest::Length(length),
            Framing::None | Framing::Chunked => Rest::Chunked(ChunkedDecoder::new(limit)),
        };
        // RFC 9110 10.1.1: not needed once the body has begun to arrive.
        let expecting = parts.head.expects_continue() && !more;
        // Who waits to be asked for a body that nobody wants gets the answer without it.
        if (plan.streamed && turn.pools.of(Kind::Heavy).is_some()) || (plan.unwanted && expecting) {
            let line = turn.mailbox.line(self.key.token() as u64);
            let (upload, reader) = Upload::new(line, expecting);
            parts.reader = Some(reader);
            *requests -= 1;
            return self.handle(turn, parts, meta, Some(Streaming::new(upload, rest)));
        }
        if expecting {
            turn.out.extend_from_slice(CONTINUE);
        }
        if let Rest::Length(length) = rest {
            parts.body.reserve(length.min(BODY_RESERVE) as usize);
        }
        self.state = State::Body(Box::new(Incoming::new(parts, meta, rest)));
    }

    /// A request is complete: its handler answers, now or later.
    fn handle(
        &mut self,
        turn: &mut Turn,
        mut parts: Box<Parts>,
        meta: Meta,
        streaming: Option<Box<Streaming>>,
    ) {
        parts.worker = turn.worker;
        let (job, kind) = match turn.app.call(Request::new(parts), turn.slot.as_ref()) {
            Reply::Now(response) => {
                turn.answered += 1;
                return self.conclude(turn, response, meta, streaming);
            }
            // What reads its body is as slow as its client, whatever else it does.
            Reply::Pooled(job) | Reply::Blocking(job) if streaming.is_some() => {
                (job.0, Kind::Reader)
            }
            Reply::Pooled(job) => (job.0, Kind::Heavy),
            Reply::Blocking(job) => (job.0, Kind::Waiter),
            Reply::After(delay, job) => {
                let at = turn.now + delay;
                turn.alarms.set(at, self.key);
                self.alarm = Some(at);
                return self.wait_for_handler(turn, meta, Some(job.0), None, streaming);
            }
            Reply::Elsewhere(ask) => {
                self.wait_for_handler(turn, meta, None, None, streaming);
                return ask.ask(self.key.token() as u64);
            }
        };
        let Some(pool) = turn.pools.of(kind) else {
            let response = job.run();
            turn.answered += 1;
            return self.conclude(turn, response, meta, streaming);
        };
        let ticket = self.key.token() as u64;
        match pool.submit(ticket, turn.now, Box::new(move || job.run())) {
            Ok(ticket) => self.wait_for_handler(turn, meta, None, Some(ticket), streaming),
            Err(_) => {
                let failure = Failure::new(503, "too many requests wait for a thread");
                let response = turn.app.failure(failure).header("Retry-After", "1");
                self.conclude(turn, response, meta, streaming);
            }
        }
    }

    fn wait_for_handler(
        &mut self,
        turn: &mut Turn,
        meta: Meta,
        delayed: Option<Job>,
        ticket: Option<Ticket>,
        streaming: Option<Box<Streaming>>,
    ) {
        turn.counters.in_flight += 1;
        self.state = State::Handler(Box::new(Waiting {
            meta,
            since: turn.now,
            delayed,
            answer: None,
            streaming,
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

    /// The handler's answer is there: it is sent by the next drive, after those before it.
    pub(super) fn resume(&mut self, answer: Response) {
        if let State::Handler(waiting) = &mut self.state {
            waiting.answer = Some(answer);
        }
    }

    /// Everything before it is sent: the handler's answer, and what was read behind its request.
    pub(super) fn answer_late(&mut self, turn: &mut Turn, answer: Response) {
        if let State::Handler(waiting) = mem::replace(&mut self.state, State::Head) {
            turn.counters.in_flight -= 1;
            let took = turn.now.saturating_duration_since(waiting.since);
            turn.counters.took(took, 1);
            self.conclude(turn, answer, waiting.meta, waiting.streaming);
            self.unparsed = !self.pending.is_empty();
        }
    }

    /// Encodes an answer behind those that are in the loop's buffer.
    pub(super) fn respond(&mut self, turn: &mut Turn, mut response: Response, meta: Meta) {
        debug_assert!(self.output.is_none(), "older answers go first");
        turn.counters.answered(response.status());
        self.served = true;
        let entry = self.entry.take().or_else(|| turn.edge.refused(self.peer));
        if turn.edge.dresses() {
            response = turn.edge.dressed(response, entry.as_deref());
        }
        if let Some(mark) = meta.mark {
            response = turn.edge.marked(response, mark);
        }
        let status = response.status();
        let ours = !response.wants_close() && turn.draining != Draining::Close;
        let keep = meta.keep_alive && ours;
        let (framing, keep) =
            respond::head(&mut turn.out, &response, meta, keep, &mut turn.opening);
        let ahead = turn.out.len();
        let (mut body, trailers, switch) = response.into_parts();
        if let Some(mut switch) = switch {
            let line = turn.mailbox.line(self.key.token() as u64);
            switch.protocol.begin(line, turn.now);
            self.state = State::Upgraded(Upgraded::new(switch.protocol));
            return self.note_answer(turn, entry, status, ahead);
        }
        if let Body::Feed(feed) = &mut body {
            feed.attach(turn.mailbox.line(self.key.token() as u64));
        }
        output::body(&mut self.output, &mut turn.out, body, framing, turn.now);
        if let (Some(trailers), Some(output)) = (trailers, &mut self.output)
            && meta.trailers
        {
            output.add_trailers(trailers);
        }
        self.note_answer(turn, entry, status, ahead);
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
    pub(super) fn fail(&mut self, turn: &mut Turn, error: http::Error, meta: Meta) {
        log::debug!("refused: {error}");
        self.state = State::Head;
        let failure = Failure::new(error.status(), error.what());
        let response = turn.app.failure(failure).close();
        self.respond(turn, response, meta);
        self.ending = Some(Ending::Linger);
    }
}
