//! One connection after its handshake: what comes is answered, what waits is sent, time is kept
//! (RFC 6455 sections 5.5 and 7).
//!
//! Owns the order of things: what came before a violation is delivered and answered, then the
//! Close frame goes out, then TCP ends. Leaves bytes to `assemble`, the queue to `socket`, and the
//! connection itself to `server`.

use super::assemble::{Assembler, Event, Sizes};
use super::frames::{Control, OpCode, Violation};
use super::message::{CloseReason, Message, code};
use super::socket::{HIGH_WATER, Socket};
use super::{room, topics};
use crate::app::{Abandon, After, Protocol, panic_message};
use crate::net::Line;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// What is handed to the server at a time.
const FILL: usize = 64 * 1024;

/// How long the peer's Close is awaited once ours is out.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long a message may take at least, and the bytes a second that it must come by after that.
const SLOW_AFTER: Duration = Duration::from_secs(30);
const SLOWEST: u64 = 256;

pub(super) type OnOpen = Box<dyn FnOnce(&Socket) + Send>;
pub(super) type OnMessage = Box<dyn FnMut(&Socket, Message) + Send>;
pub(super) type OnDrain = Box<dyn FnMut(&Socket) + Send>;
pub(super) type OnClose = Box<dyn FnOnce(&Socket, CloseReason) + Send>;

/// Whom the application wants called.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) open: Option<OnOpen>,
    pub(super) message: Option<OnMessage>,
    pub(super) drain: Option<OnDrain>,
    pub(super) close: Option<OnClose>,
}

/// What is known of the peer's life.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// It was heard then.
    Heard(Instant),
    /// A ping went out then, and nothing has come since.
    Pinged(Instant),
}

/// A connection that speaks WebSocket.
pub(super) struct Session {
    socket: Socket,
    callbacks: Callbacks,
    assembler: Assembler,
    /// What came and waits until there is less to send.
    pending: Vec<u8>,
    ping_every: Option<Duration>,
    life: Option<Life>,
    /// Since when a message is arriving, and how many bytes have come since.
    arriving: Option<(Instant, u64)>,
    /// The connection ends once everything is out.
    finishing: bool,
    /// Our Close is out, and the peer's is awaited until then.
    close_by: Option<Instant>,
    /// More was handed over than is out, as far as is known.
    sending: bool,
    entered: bool,
    over: bool,
}

impl Session {
    pub(super) fn new(
        socket: Socket,
        callbacks: Callbacks,
        sizes: Sizes,
        ping_every: Option<Duration>,
    ) -> Self {
        Self {
            socket,
            callbacks,
            assembler: Assembler::new(sizes),
            pending: Vec::new(),
            ping_every,
            life: None,
            arriving: None,
            finishing: false,
            close_by: None,
            sending: false,
            entered: false,
            over: false,
        }
    }

    /// Runs code of the application's. A panic of it closes this connection and no other.
    fn call(&mut self, code: impl FnOnce(&mut Callbacks, &Socket)) {
        let (callbacks, socket) = (&mut self.callbacks, &self.socket);
        let outcome = catch_unwind(AssertUnwindSafe(|| code(callbacks, socket)));
        if let Err(panic) = outcome {
            if panic.is::<Abandon>() {
                resume_unwind(panic);
            }
            let what = panic_message(&*panic);
            log::error!("a WebSocket handler panicked: {what}");
            self.finish(code::ERROR, "");
        }
    }

    /// Closes, and waits for nothing more of the peer.
    fn finish(&mut self, code: u16, reason: &str) {
        self.socket.seal(code, reason);
        self.finishing = true;
        self.pending = Vec::new();
    }

    /// Takes what came until it is all taken, or enough waits to be sent.
    fn take(&mut self, mut input: &[u8]) {
        while !self.finishing {
            if self.socket.buffered() >= HIGH_WATER {
                self.pending = input.to_vec();
                return;
            }
            match self.assembler.next(&mut input) {
                Ok(None) => return,
                Ok(Some(event)) => self.happened(event),
                Err(violation) => self.violated(violation),
            }
        }
    }

    fn happened(&mut self, event: Event) {
        if let Event::Message(_) = event {
            self.arriving = None;
        }
        match event {
            // Behind our own Close nothing is answered.
            Event::Message(message) if self.socket.is_open() => {
                self.call(|callbacks, socket| {
                    if let Some(handler) = &mut callbacks.message {
                        handler(socket, message);
                    }
                });
            }
            Event::Ping(payload) => {
                let pong = OpCode::Control(Control::Pong);
                self.socket.push_control(pong, payload);
            }
            Event::Message(_) | Event::Pong => {}
            // The answer has the same code (5.5.1), unless ours was first.
            Event::Close(code, reason) => self.finish(code, &reason),
        }
    }

    /// Has a message that does not come on end the connection: what there is of it is kept.
    fn keep_pace(&mut self, now: Instant, bytes: usize) {
        if !self.assembler.is_partial() || !self.pending.is_empty() {
            self.arriving = None;
            return;
        }
        let (since, come) = self.arriving.get_or_insert((now, 0));
        *come += bytes as u64;
        let took = now.saturating_duration_since(*since);
        if took > SLOW_AFTER && *come < SLOWEST * took.as_secs() {
            self.violated(Violation {
                code: code::POLICY,
                what: "a message that comes too slowly",
            });
        }
    }

    fn violated(&mut self, violation: Violation) {
        let Violation { code, what } = violation;
        log::debug!("a WebSocket is closed with {code}: {what}");
        self.finish(code, what);
    }

    /// Hands over what waits, and goes on with what came.
    fn settle(&mut self, now: Instant, out: &mut Vec<u8>) -> After {
        loop {
            self.socket.drain_into(out, FILL);
            if out.len() >= FILL {
                self.sending = true;
                return After::More;
            }
            if self.finishing {
                return After::Finish;
            }
            if !self.pending.is_empty() {
                let input = std::mem::take(&mut self.pending);
                self.take(&input);
                continue;
            }
            if self.socket.has_room_again() {
                self.call(|callbacks, socket| {
                    if let Some(handler) = &mut callbacks.drain {
                        handler(socket);
                    }
                });
            }
            if self.socket.leave() {
                if self.close_by.is_none() && !self.socket.is_open() {
                    self.close_by = Some(now + CLOSE_WAIT);
                }
                return After::Continue;
            }
        }
    }
}

impl Protocol for Session {
    fn begin(&mut self, line: Line, now: Instant) {
        self.life = Some(Life::Heard(now));
        self.entered = true;
        room::enter(&self.socket);
        self.call(|callbacks, socket| {
            if let Some(handler) = callbacks.open.take() {
                handler(socket);
            }
        });
        self.socket.begins(line);
    }

    fn received(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) -> After {
        self.life = Some(Life::Heard(now));
        self.socket.enter();
        if self.pending.is_empty() {
            self.take(bytes);
        } else {
            self.pending.extend_from_slice(bytes);
        }
        self.keep_pace(now, bytes.len());
        self.settle(now, out)
    }

    fn fill(&mut self, now: Instant, out: &mut Vec<u8>) -> After {
        if std::mem::take(&mut self.sending) {
            // Who takes what is sent lives, though we do not listen meanwhile.
            self.life = Some(Life::Heard(now));
        }
        self.socket.enter();
        self.settle(now, out)
    }

    fn expired(&mut self, now: Instant, out: &mut Vec<u8>) -> After {
        self.socket.enter();
        let late = |since: Instant, by: Option<Duration>| by.is_some_and(|by| now >= since + by);
        match (self.close_by, self.life) {
            (Some(by), _) if now >= by => {
                log::debug!("a WebSocket's Close was not answered");
                self.finishing = true;
            }
            (Some(_), _) | (_, None) => {}
            (_, Some(_)) if self.sending => self.life = Some(Life::Heard(now)),
            (_, Some(Life::Heard(at))) if late(at, self.ping_every) => {
                let ping = OpCode::Control(Control::Ping);
                self.socket.push_control(ping, Vec::new());
                self.life = Some(Life::Pinged(now));
            }
            (_, Some(Life::Pinged(at))) if late(at, self.ping_every) => {
                log::debug!("a WebSocket's ping was not answered");
                self.finish(code::ERROR, "no answer to a ping");
            }
            (_, Some(_)) => {}
        }
        self.settle(now, out)
    }

    fn drain(&mut self, now: Instant, out: &mut Vec<u8>) -> After {
        self.socket.enter();
        self.socket.seal(code::AWAY, "");
        self.settle(now, out)
    }

    fn deadline(&self) -> Option<Instant> {
        if self.finishing || self.over {
            return None;
        }
        self.close_by.or_else(|| {
            let every = self.ping_every?;
            let (Life::Heard(at) | Life::Pinged(at)) = self.life?;
            Some(at + every)
        })
    }

    fn ended(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        // Closed first, so that no thread subscribes it again behind our back.
        let reason = self.socket.ends();
        topics::leave(&self.socket);
        if !self.entered {
            return;
        }
        room::leave(&self.socket);
        self.call(|callbacks, socket| {
            if let Some(handler) = callbacks.close.take() {
                handler(socket, reason);
            }
        });
    }
}

impl Drop for Session {
    /// Whoever dropped it may not have said that the connection has ended.
    fn drop(&mut self) {
        self.ended();
    }
}

#[cfg(test)]
mod tests;
