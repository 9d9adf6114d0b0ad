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
mod reads;

use super::conn::{Conn, Phase};
use super::pace::{Pace, Turn};
use super::running::{Halt, Shared};
use super::tally::{Sent, Tally};
use crate::net::token::Key;
use crate::net::{Reactor, Ready, Timers};
use crate::sys::{clock, proc};
use std::collections::{BTreeSet, VecDeque};
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

/// The kind of timer of places that wait for [`PAUSE`].
const PAUSED: u8 = 0;

/// What a lane has found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tally: Tally,
    pub(super) cpu: Duration,
    /// The share of its run that it was not waiting.
    pub(super) busy: f64,
    /// How long of its run it was ready to run and had no CPU, where the system tells.
    pub(super) delayed: Option<Duration>,
    pub(super) ended: Instant,
    /// When it was told to send nothing more, if it was.
    pub(super) stopped: Option<Instant>,
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
    /// Places whose requests are to be sent once more: they wait for no other.
    again: VecDeque<u32>,
    /// Connections that had more to read than one turn has time for.
    undrained: Vec<Key>,
    /// Requests given out that have not ended.
    on_their_way: u64,
    pace: Pace,
    /// With a rate: when the next request is due.
    next: Option<Instant>,
    /// The pace gives out no more.
    is_over: bool,
    /// Since somebody has said so.
    stopped: Option<Instant>,
    /// When what has not ended is given up.
    end_by: Option<Instant>,
    /// The places that wait before they connect again.
    pauses: Timers,
    /// With a time-out: places with a moment that is not after the beginning of their oldest request.
    watched: BTreeSet<(Instant, u32)>,
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
            again: VecDeque::new(),
            undrained: Vec::new(),
            free_since: now,
            on_their_way: 0,
            next: None,
            is_over: false,
            stopped: None,
            end_by: pace.until().and_then(|until| until.checked_add(grace)),
            pauses: Timers::new(&[PAUSE]),
            watched: BTreeSet::new(),
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
        let delayed = proc::run_delay();
        let mut waited = Duration::ZERO;
        desk.deal(reactor.registry());
        while !desk.is_done() {
            desk.publish();
            let before = Instant::now();
            reactor.set_now(before);
            let result = match desk.deadline() {
                _ if !desk.undrained.is_empty() => reactor.wait(Some(before)),
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
            desk.read_on(reactor.registry());
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
            delayed: delayed.and_then(|before| Some(proc::run_delay()?.saturating_sub(before))),
            ended,
            stopped: desk.stopped,
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
        let timers = [self.pauses.next_deadline(), self.over_time(), self.end_by];
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
        while let Some(place) = self.again.pop_front() {
            let conn = &self.conns[place as usize];
            if conn.is_closed() && !conn.pending.is_empty() {
                self.start(place, registry);
            }
        }
        while let Some(&place) = self.free.front() {
            let has_room = self.has_room(place);
            if has_room && self.give(place) == 0 {
                return;
            }
            self.free.pop_front();
            self.conns[place as usize].is_queued = false;
            if has_room {
                self.start(place, registry);
            }
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
        if given > 0 {
            self.tally.last = self.now;
        }
        self.on_their_way += given as u64;
        given
    }

    fn has_room(&self, place: u32) -> bool {
        self.conns[place as usize].pending.len() < self.shared.plan.pipeline
    }

    /// A place waits for requests, unless it has no room for one or must not connect yet.
    fn release(&mut self, place: u32) {
        let has_room = self.has_room(place);
        let conn = &mut self.conns[place as usize];
        if conn.is_paused || conn.is_queued || !has_room {
            return;
        }
        conn.is_queued = true;
        if self.free.is_empty() {
            self.free_since = self.now;
        }
        self.free.push_back(place);
    }

    /// Sends what is pending at a place, over a new connection if there is none.
    fn start(&mut self, place: u32, registry: &mio::Registry) {
        self.watch(place);
        match self.conns[place as usize].is_closed() {
            true => self.connect(place, registry),
            false => self.write(place, registry),
        }
    }

    /// Has the oldest request of a place end in time. Answers change nothing here, and the next look at
    /// the place is early then: once a time-out, not once a request.
    fn watch(&mut self, place: u32) {
        let conn = &mut self.conns[place as usize];
        if self.shared.plan.timeout.is_none() || conn.is_watched {
            return;
        }
        if let Some(oldest) = conn.pending.front() {
            conn.is_watched = true;
            self.watched.insert((oldest.began, place));
        }
    }

    /// When a request may be over its time, at the earliest.
    fn over_time(&self) -> Option<Instant> {
        let (began, _) = self.watched.first()?;
        began.checked_add(self.shared.plan.timeout?)
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
        conn.connected(Instant::now());
        self.tally.connections += 1;
    }

    fn write(&mut self, place: u32, registry: &mio::Registry) {
        let conn = &mut self.conns[place as usize];
        match conn.write(&self.shared.speech) {
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
                conn.failed(&error);
                let is_drained = self.read(place, true);
                if is_drained && !self.conns[place as usize].is_closed() {
                    self.ended(place, Some(&error));
                }
            }
        }
    }

    fn on_ready(&mut self, ready: Ready, registry: &mio::Registry) {
        let key = Key::from_token(ready.token);
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
        // One that was not read to its end is read on in its turn.
        let is_due = !self.conns[place as usize].is_undrained;
        if is_due && (ready.readable || ready.read_closed || ready.gone) {
            self.hear(key, ready.read_closed || ready.gone, registry);
        }
    }

    /// What is due by the clock.
    fn on_time(&mut self) {
        while let Some((place, _)) = self.pauses.pop_expired(self.now) {
            self.conns[place as usize].is_paused = false;
            self.release(place);
        }
        while self.over_time().is_some_and(|at| at <= self.now)
            && let Some((_, place)) = self.watched.pop_first()
        {
            self.conns[place as usize].is_watched = false;
            self.end_late(place);
            self.watch(place);
        }
        if self.shared.halt() == Halt::Stop && self.stopped.is_none() {
            (self.stopped, self.is_over, self.next) = (Some(self.now), true, None);
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
