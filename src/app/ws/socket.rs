//! A connection as the application holds it, on any thread, and what waits to be sent on it.
//!
//! Owns the queue between whoever sends and the connection's loop: whole frames, in order, nothing
//! behind a Close. Leaves the talk with the peer to `session`.

use super::frames::{self, Data, MAX_HEADER, OpCode};
use super::message::{CloseReason, Message, SendError, code};
use crate::net::Line;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// More than this waiting is worth pausing for.
pub(super) const HIGH_WATER: usize = 256 * 1024;

/// More than this waiting, and nothing is taken any more.
pub(super) const MOST: usize = 16 * 1024 * 1024;

/// Frames up to this size are put together; and what such a part may grow to.
const SMALL: usize = 4 * 1024;
const PART: usize = 16 * 1024;

/// A queue with room for more parts than this is given back when it is empty.
const KEPT_PARTS: usize = 8;

/// Bytes that wait, perhaps on many connections at once.
#[derive(Debug)]
enum Part {
    Own(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Part>,
    /// Bytes of the first part that are out.
    sent: usize,
    /// Bytes that are not out.
    bytes: usize,
}

impl Queue {
    fn push(&mut self, part: Part) {
        self.bytes += part.bytes().len();
        self.parts.push_back(part);
    }

    /// Adds a frame that other connections have as well. A small one is copied: a part of its own
    /// would cost more than it holds, and would not count.
    fn push_shared(&mut self, frame: &Arc<[u8]>) {
        if frame.len() > SMALL {
            return self.push(Part::Shared(Arc::clone(frame)));
        }
        match self.parts.back_mut() {
            Some(Part::Own(last)) if last.len() + frame.len() <= PART => {
                last.extend_from_slice(frame);
                self.bytes += frame.len();
            }
            _ => self.push(Part::Own(frame.to_vec())),
        }
    }

    fn push_frame(&mut self, opcode: OpCode, payload: Vec<u8>) {
        if payload.len() > SMALL {
            let mut header = Vec::with_capacity(MAX_HEADER);
            frames::write_header(&mut header, opcode, payload.len());
            self.push(Part::Own(header));
            return self.push(Part::Own(payload));
        }
        match self.parts.back_mut() {
            Some(Part::Own(last)) if last.len() + payload.len() <= PART => {
                let before = last.len();
                frames::write_header(last, opcode, payload.len());
                last.extend_from_slice(&payload);
                self.bytes += last.len() - before;
            }
            _ => self.push(Part::Own(frames::frame(opcode, &payload))),
        }
    }

    /// Moves bytes to `out` until that has `most`.
    fn drain_into(&mut self, out: &mut Vec<u8>, most: usize) {
        while let Some(part) = self.parts.front() {
            let room = most.saturating_sub(out.len());
            let rest = &part.bytes()[self.sent..];
            let count = rest.len().min(room);
            out.extend_from_slice(&rest[..count]);
            self.bytes -= count;
            if count < rest.len() {
                self.sent += count;
                return;
            }
            self.sent = 0;
            self.parts.pop_front();
        }
        if self.parts.capacity() > KEPT_PARTS {
            self.parts = VecDeque::new();
        }
    }
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// A Close frame is the last in the queue, or the connection has ended.
    sealed: bool,
    /// How it ended, or is about to.
    reason: Option<CloseReason>,
    /// The loop is at it, or will come back to it, and sees what is put in.
    busy: bool,
    /// Somebody was told to pause, and waits for word that there is room again.
    full: bool,
}

pub(super) struct Shared {
    id: u64,
    protocol: Option<String>,
    line: OnceLock<Line>,
    state: Mutex<State>,
}

/// One WebSocket connection. Clones are the same one; any thread may use it.
///
/// # Examples
///
/// A clock on a thread of its own:
///
/// ```
/// use mcluster::{App, Request, ws};
/// use std::time::Duration;
///
/// let app = App::new().get("/clock", |request: Request| {
///     ws::upgrade(&request).on_open(|socket| {
///         let socket = socket.clone();
///         std::thread::spawn(move || {
///             // False would be: not taken as fast as sent.
///             while socket.send("tick") == Ok(true) {
///                 std::thread::sleep(Duration::from_secs(1));
///             }
///             socket.close(ws::code::NORMAL, "enough");
///         });
///     })
/// });
/// # assert!(app.check().is_ok());
/// ```
#[derive(Clone)]
pub struct Socket(Arc<Shared>);

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.0.id)
            .field("open", &self.is_open())
            .field("buffered", &self.buffered())
            .finish_non_exhaustive()
    }
}

impl Socket {
    pub(super) fn new(protocol: Option<String>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Shared {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            protocol,
            line: OnceLock::new(),
            state: Mutex::default(),
        }))
    }

    /// A number that no other connection of this process has or had.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The subprotocol that was agreed on, of [`Upgrade::protocols`](super::Upgrade::protocols).
    pub fn protocol(&self) -> Option<&str> {
        self.0.protocol.as_deref()
    }

    /// Sends a message. Never waits: messages queue up here until the peer takes them, in order.
    /// False when more than 256 KiB are queued: worth a pause until
    /// [`Upgrade::on_drain`](super::Upgrade::on_drain).
    ///
    /// # Errors
    ///
    /// When the connection is closed, or more than 16 MiB are queued; then nothing is sent.
    pub fn send(&self, message: impl Into<Message>) -> Result<bool, SendError> {
        let (opcode, payload) = parts(message.into());
        self.put(|queue| queue.push_frame(opcode, payload))
    }

    /// Sends a whole frame that other connections share.
    pub(super) fn send_shared(&self, frame: &Arc<[u8]>) -> Result<bool, SendError> {
        self.put(|queue| queue.push_shared(frame))
    }

    fn put(&self, put: impl FnOnce(&mut Queue)) -> Result<bool, SendError> {
        let mut state = self.state();
        if state.sealed {
            return Err(SendError::Closed);
        }
        if state.queue.bytes > MOST {
            return Err(SendError::Full);
        }
        put(&mut state.queue);
        let room = state.queue.bytes <= HIGH_WATER;
        state.full |= !room;
        self.ring(state);
        Ok(room)
    }

    /// Closes the connection, behind what was sent: a Close frame with `code` and `reason` goes
    /// out, the peer's is awaited for a bounded time, and the connection ends. A second call
    /// changes nothing. Of [`code`](super::code), or from 3000 to 4999; another code becomes 1011
    /// and a line in the log. A reason is cut after 123 bytes.
    pub fn close(&self, code: u16, reason: &str) {
        let code = if frames::may_be_sent(code) {
            code
        } else {
            log::error!("a WebSocket cannot be closed with code {code}; sent 1011");
            code::ERROR
        };
        self.seal(code, reason);
    }

    /// Whether messages can be sent: neither side has closed it, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.state().sealed
    }

    /// Bytes that wait to be sent.
    pub fn buffered(&self) -> usize {
        self.state().queue.bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code of the application's runs under the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the loop that there is something, unless it knows.
    fn ring(&self, state: MutexGuard<'_, State>) {
        let busy = state.busy;
        drop(state);
        if busy {
            return;
        }
        if let Some(line) = self.0.line.get() {
            line.ring();
        }
    }

    /// Puts a Close frame behind everything, once.
    pub(super) fn seal(&self, code: u16, reason: &str) {
        let mut state = self.state();
        if std::mem::replace(&mut state.sealed, true) {
            return;
        }
        state.reason = Some(CloseReason::new(code, reason));
        let frame = frames::close_frame(code, reason);
        state.queue.push(Part::Own(frame));
        self.ring(state);
    }

    /// Loop: the connection is there, and `line` wakes its loop.
    pub(super) fn begins(&self, line: Line) {
        let _ = self.0.line.set(line);
        let state = self.state();
        if state.queue.bytes > 0 {
            // Something was sent before there was a line.
            self.ring(state);
        }
    }

    /// Loop: it is looking; whoever sends need not ring.
    pub(super) fn enter(&self) {
        self.state().busy = true;
    }

    /// Loop: it looks away, unless there is something to send.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state();
        state.busy = state.queue.bytes > 0;
        !state.busy
    }

    /// Loop: moves what waits to `out`, until that has `most` bytes.
    pub(super) fn drain_into(&self, out: &mut Vec<u8>, most: usize) {
        self.state().queue.drain_into(out, most);
    }

    /// Loop: a frame that is no message, behind what waits.
    pub(super) fn push_control(&self, opcode: OpCode, payload: Vec<u8>) {
        let mut state = self.state();
        if !state.sealed {
            state.queue.push_frame(opcode, payload);
        }
    }

    /// Loop: whether somebody who was told to pause should go on. Says so once.
    pub(super) fn has_room_again(&self) -> bool {
        let mut state = self.state();
        state.queue.bytes <= HIGH_WATER / 2 && std::mem::take(&mut state.full)
    }

    /// Loop: it has ended; with what reason, if that was not known before.
    pub(super) fn ends(&self) -> CloseReason {
        let mut state = self.state();
        state.sealed = true;
        state.queue = Queue::default();
        let lost = || CloseReason::new(code::ABNORMAL, "");
        state.reason.get_or_insert_with(lost).clone()
    }
}

/// A message as its opcode and payload.
pub(super) fn parts(message: Message) -> (OpCode, Vec<u8>) {
    match message {
        Message::Text(text) => (OpCode::Data(Data::Text), text.into_bytes()),
        Message::Binary(bytes) => (OpCode::Data(Data::Binary), bytes),
    }
}
