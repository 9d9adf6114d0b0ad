//! One thread of the generator: a loop over its share of the connections.
//!
//! Owns which connection takes which request, what an end of a connection means for what was on its
//! way, and the time-outs. Every request that the pace gave out ends exactly once: answered, or as one
//! kind of trouble.
//!
//! Connections that have room for a request wait in a queue. In a closed loop the queue's first takes as
//! many requests as it has room for, so its answer and its next request are one turn. With a rate it
//! takes one and goes to the end, which spreads the load over all connections.

mod ends;

use super::conn::{Conn, Phase};
use super::pace::{Pace, Turn};
use super::report::Trouble;
use super::running::{Halt, Shared};
use super::speech::Came;
use super::tally::{Sent, Tally};
use crate::http::AnswerEnd;
use crate::net::{Reactor, Ready, Timers, token};
use crate::sys::clock;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The token of the waker.
pub(super) const WAKER: usize = 0;

/// All connections of a lane read into one buffer of that size.
const READ_AT_ONCE: usize = 64 << 10;

/// How long a place waits after it could not connect: a server that is gone costs no CPU.
const PAUSE: Duration = Duration::from_millis(10);

/// How long those on their way are waited for after the end where no time-out was given.
const GRACE: Duration = Duration::from_secs(30);

/// The kinds of timers.
const TIMEOUT: u8 = 0;
const PAUSED: u8 = 1;

/// What a lane has found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tally: Tally,
    pub(super) cpu: Duration,
    /// The share of its run that it was not waiting.
    pub(super) busy: f64,
    pub(super) ended: Instant,
}

/// A lane, and its loop.
#[derive(Debug)]
pub(super) struct Lane {
    reactor: Reactor,
    desk: Desk,
}

/// All of a lane but its loop.
#[derive(Debug)]
struct Desk {
    shared: Arc<Shared>,
    /// Which lane this is.
    index: usize,
    conns: Vec<Conn>,
    /// Places that have room for a request.
    free: VecDeque<u32>,
    /// Since when there have been such without a break.
    free_since: Instant,
    /// Requests given out that have not ended.
    on_their_way: u64,
    pace: Pace,
    /// With a rate: when the next request is due.
    next: Option<Instant>,
    /// The pace gives out no more.
    is_over: bool,
    /// Somebody has said so.
    is_stopped: bool,
    /// When what has not ended is given up.
    end_by: Option<Instant>,
    timers: Timers,
    tally: Tally,
    buffer: Vec<u8>,
    /// The last reading of the clock.
    now: Instant,
}

impl Lane {
    /// Lane `index` with so many connections.
    pub(super) fn new(shared: Arc<Shared>, reactor: Reactor, index: usize, places: usize) -> Self {
        let now = Instant::now();
        let pace = shared.pace(index);
        let grace = shared.plan.timeout.unwrap_or(GRACE);
        let mut desk = Desk {
            index,
            conns: (0..places).map(|_| Conn::new(now)).collect(),
            free: VecDeque::with_capacity(places),
            free_since: now,
            on_their_way: 0,
            next: None,
            is_over: false,
            is_stopped: false,
            end_by: pace.until().and_then(|until| until.checked_add(grace)),
            timers: Timers::new(&[shared.plan.timeout.unwrap_or_default(), PAUSE]),
            tally: shared.tally(),
            buffer: vec![0; READ_AT_ONCE],
            now,
            pace,
            shared,
        };
        (0..places).for_each(|place| desk.release(place as u32));
        Self { reactor, desk }
    }

    /// Runs to the end.
    pub(super) fn run(self) -> Found {
        let Self {
            mut reactor,
            mut desk,
        } = self;
        if desk.pace.is_open() {
            // Without it the plan is kept a little less well.
            let _ = clock::wake_in_time();
        }
        let began = Instant::now();
        let mut waited = Duration::ZERO;
        desk.deal(reactor.registry());
        while !desk.is_done() {
            desk.publish();
            let before = Instant::now();
            reactor.set_now(before);
            let result = match desk.deadline() {
                (deadline, true) => reactor.wait_finely(deadline),
                (deadline, false) => reactor.wait(Some(deadline)),
            };
            if let Err(error) = result {
                log::error!("load generator: waiting: {error}");
                desk.give_up();
                break;
            }
            desk.now = reactor.now();
            waited += desk.now.saturating_duration_since(before);
            for ready in reactor.ready().filter(|ready| ready.token != WAKER) {
                desk.on_ready(ready, reactor.registry());
                desk.deal(reactor.registry());
            }
            desk.on_time();
            desk.deal(reactor.registry());
        }
        let ended = Instant::now();
        if let Some(parting) = desk.shared.speech.parting() {
            desk.conns.iter().for_each(|conn| conn.part(&parting));
        }
        desk.tally.turn_over(ended, true, &desk.shared.timeline);
        desk.publish();
        let ran = ended.saturating_duration_since(began).as_secs_f64();
        Found {
            busy: 1.0 - (waited.as_secs_f64() / ran.max(1e-9)).min(1.0),
            cpu: clock::thread_cpu(),
            ended,
            tally: desk.tally,
        }
    }
}

impl Desk {
    fn is_done(&self) -> bool {
        (self.is_over && self.on_their_way == 0) || self.shared.halt() == Halt::Abandon
    }

    /// When to wake up at the latest, and whether that must be met closely.
    fn deadline(&self) -> (Instant, bool) {
        let timers = [self.timers.next_deadline(), self.end_by];
        let first = timers.into_iter().flatten().min();
        let turn = self.tally.stretch_end();
        let first = first.map_or(turn, |first| first.min(turn));
        match self.next {
            Some(next) if next <= first && !self.free.is_empty() => (next, true),
            _ => (first, false),
        }
    }

    fn publish(&self) {
        self.shared
            .publish(self.index, self.tally.completed, self.tally.failed);
    }

    /// Gives requests to connections, as far as there are both.
    fn deal(&mut self, registry: &mio::Registry) {
        while let Some(&place) = self.free.front() {
            let conn = &self.conns[place as usize];
            let again = conn.is_closed() && !conn.pending.is_empty();
            let given = match again {
                true => 0,
                false => self.give(place),
            };
            if given == 0 && !again {
                return;
            }
            self.free.pop_front();
            self.conns[place as usize].is_queued = false;
            self.start(place, registry);
            if self.pace.is_open() {
                self.release(place);
            }
        }
    }

    /// Has a place take requests, as many as there are and it has room for: how many.
    fn give(&mut self, place: u32) -> usize {
        if self.is_over {
            return 0;
        }
        let conn = &mut self.conns[place as usize];
        let room = self.shared.plan.pipeline - conn.pending.len();
        let most = if self.pace.is_open() { 1 } else { room };
        let mut given = 0;
        self.next = None;
        while given < most {
            match self.pace.take(self.now) {
                Turn::Now(planned) => {
                    if given == 0 {
                        self.now = Instant::now();
                    }
                    if let Some(planned) = planned {
                        let could = planned.max(self.free_since);
                        let late = self.now.saturating_duration_since(could);
                        self.tally.late_max = self.tally.late_max.max(late);
                    }
                    let sent = Sent {
                        began: self.now,
                        planned,
                    };
                    conn.push(sent, &self.shared.speech);
                    given += 1;
                }
                Turn::At(at) => {
                    self.next = Some(at);
                    break;
                }
                Turn::Over => {
                    self.is_over = true;
                    break;
                }
            }
        }
        self.on_their_way += given as u64;
        given
    }

    /// A place waits for requests, unless it has no room for one or must not connect yet.
    fn release(&mut self, place: u32) {
        let conn = &mut self.conns[place as usize];
        let again = conn.is_closed() && !conn.pending.is_empty();
        let room = conn.pending.len() < self.shared.plan.pipeline;
        if conn.is_paused || !(room || again) {
            return;
        }
        if conn.is_queued {
            if again {
                // What was sent once already waits for no other.
                self.free.retain(|&other| other != place);
                self.free.push_front(place);
            }
            return;
        }
        conn.is_queued = true;
        if self.free.is_empty() {
            self.free_since = self.now;
        }
        match again {
            true => self.free.push_front(place),
            false => self.free.push_back(place),
        }
    }

    /// Sends what is pending at a place, over a new connection if there is none.
    fn start(&mut self, place: u32, registry: &mio::Registry) {
        self.watch(place);
        match self.conns[place as usize].is_closed() {
            true => self.connect(place, registry),
            false => self.write(place, registry),
        }
    }

    /// Has the oldest request of a place end in time.
    fn watch(&mut self, place: u32) {
        if self.shared.plan.timeout.is_none() || self.timers.armed(place).is_some() {
            return;
        }
        if let Some(oldest) = self.conns[place as usize].pending.front() {
            self.timers.arm(place, TIMEOUT, oldest.began);
        }
    }

    fn connect(&mut self, place: u32, registry: &mio::Registry) {
        self.conns[place as usize].address = self.shared.addresses.first();
        self.dial(place, registry);
    }

    fn dial(&mut self, place: u32, registry: &mio::Registry) {
        let conn = &mut self.conns[place as usize];
        let to = self.shared.addresses.place(conn.address);
        if let Err(error) = conn.connect(to, &self.shared.speech, self.now) {
            return self.not_connected(place, &error, registry);
        }
        let key = conn.key(place);
        // On one machine the connection is there by now, and the request can go before the loop has ever
        // heard of it.
        self.write(place, registry);
        let conn = &self.conns[place as usize];
        if !conn.is(key) {
            return;
        }
        if let Err(error) = conn.register(registry, key, !self.shared.plan.keep_alive) {
            self.not_connected(place, &error, registry);
        }
    }

    fn connected(&mut self, place: u32) {
        let conn = &mut self.conns[place as usize];
        self.shared.addresses.works(conn.address);
        conn.connected(self.now);
        self.tally.connections += 1;
    }

    fn write(&mut self, place: u32, registry: &mio::Registry) {
        let conn = &mut self.conns[place as usize];
        match conn.write(&self.shared.speech, self.now) {
            Ok(0) => {}
            Ok(count) => {
                self.tally.bytes.written += count as u64;
                if conn.phase() == Phase::Connecting {
                    self.connected(place);
                }
            }
            Err(error) if conn.phase() == Phase::Connecting => {
                self.not_connected(place, &error, registry);
            }
            Err(error) => {
                // What the server said before it hung up is still to be read.
                self.read(place, true);
                if !self.conns[place as usize].is_closed() {
                    self.ended(place, Some(&error));
                }
            }
        }
    }

    fn on_ready(&mut self, ready: Ready, registry: &mio::Registry) {
        let key = token::Key::from_token(ready.token);
        let place = key.index;
        let Some(conn) = self.conns.get(place as usize).filter(|conn| conn.is(key)) else {
            return;
        };
        if conn.phase() == Phase::Connecting {
            if !(ready.writable || ready.gone) {
                return;
            }
            self.now = Instant::now();
            if let Err(error) = conn.outcome() {
                return self.not_connected(place, &error, registry);
            }
            self.connected(place);
        }
        if ready.writable && self.conns[place as usize].is_owing() {
            self.write(place, registry);
        }
        if (ready.readable || ready.read_closed || ready.gone) && self.conns[place as usize].is(key)
        {
            self.read(place, ready.read_closed || ready.gone);
        }
        let conn = &self.conns[place as usize];
        if conn.is_asked && conn.is(key) {
            self.write(place, registry);
        }
    }

    /// Reads what there is; to the end of the connection if that `is_near`.
    fn read(&mut self, place: u32, is_near: bool) {
        let mut buffer = mem::take(&mut self.buffer);
        loop {
            let count = match self.conns[place as usize].read(&mut buffer) {
                Ok(0) => {
                    self.now = Instant::now();
                    self.ended(place, None);
                    break;
                }
                Ok(count) => count,
                Err(error) if crate::sys::socket::would_block(&error) => break,
                Err(error) => {
                    self.now = Instant::now();
                    self.ended(place, Some(&error));
                    break;
                }
            };
            self.now = Instant::now();
            self.tally.bytes.read += count as u64;
            let goes_on = self.take_in(place, &buffer[..count]);
            // A short read means drained; the end, where it is there, comes by itself.
            if !goes_on || (count < buffer.len() && !is_near) {
                break;
            }
        }
        self.buffer = buffer;
        self.release(place);
    }

    /// Takes in what was read; whether the connection is still there.
    fn take_in(&mut self, place: u32, mut input: &[u8]) -> bool {
        while !input.is_empty() {
            let conn = &mut self.conns[place as usize];
            if conn.pending.is_empty() && conn.only_answers() {
                // Nobody asked: a server's parting word, such as 408, on a connection that was idle.
                self.closed(place);
                return false;
            }
            match conn.feed(input) {
                Ok((used, Came::Part | Came::Agreed | Came::Asked(_))) => input = &input[used..],
                Ok((_, Came::Over(_))) => {
                    self.ended(place, None);
                    return false;
                }
                Ok((used, Came::Answer(end))) => {
                    input = &input[used..];
                    self.answered(place, end);
                    if !(end.keep_alive && self.shared.plan.keep_alive) {
                        self.send_again(place);
                        return false;
                    }
                }
                Err(_) => {
                    self.lost(place, Trouble::Parse);
                    return false;
                }
            }
        }
        true
    }

    fn answered(&mut self, place: u32, end: AnswerEnd) {
        let conn = &mut self.conns[place as usize];
        let Some(sent) = conn.pending.pop_front() else {
            return;
        };
        conn.has_answered = true;
        self.on_their_way -= 1;
        let stage = self.shared.stage();
        self.tally.answered(sent, self.now, end.status, stage);
        if let Some(worker) = conn.worker() {
            self.tally.answered_by(worker);
        }
        if self.shared.plan.timeout.is_some() {
            self.timers.disarm(place);
            self.watch(place);
        }
    }

    /// What is due by the clock.
    fn on_time(&mut self) {
        while let Some((place, kind)) = self.timers.pop_expired(self.now) {
            match kind {
                TIMEOUT => self.lost(place, Trouble::TimedOut),
                _ => {
                    self.conns[place as usize].is_paused = false;
                    self.watch(place);
                    self.release(place);
                }
            }
        }
        if self.shared.halt() == Halt::Stop && !self.is_stopped {
            (self.is_stopped, self.is_over, self.next) = (true, true, None);
            self.pace.stop();
            let grace = self.shared.plan.timeout.unwrap_or(GRACE);
            let by = self.now + grace;
            self.end_by = Some(self.end_by.map_or(by, |end_by| end_by.min(by)));
        }
        if self.end_by.is_some_and(|end_by| self.now >= end_by) {
            self.give_up();
        }
        let timeline = &self.shared.timeline;
        self.tally.turn_over(self.now, false, timeline);
    }
}
