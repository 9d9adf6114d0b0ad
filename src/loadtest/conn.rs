//! One connection of a lane: its socket, what is on its way on it, and what comes back.
//!
//! Owns what is still to be written and the reading of answers. When to connect, which request comes
//! next and what an end means are the lane's.

use super::report::Trouble;
use super::speech::{Came, Nonsense, Reader, Speech};
use super::tally::Sent;
use crate::http::AnswerEnd;
use crate::net::{self, token::Key};
use crate::sys::socket::{self, Place};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long after a request its connection may be reset, beside two round trips, and the request still
/// be taken for one that nobody read: the time that two busy machines take to come to it.
const SOON: Duration = Duration::from_millis(5);

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Closed,
    /// It is asked for.
    Connecting,
    /// It is there.
    Open,
}

/// A place for a connection.
#[derive(Debug)]
pub(super) struct Conn {
    socket: Option<OwnedFd>,
    generation: u32,
    phase: Phase,
    reader: Reader,
    /// What the server must hear before any request.
    greeting: Vec<u8>,
    /// What must go out between two requests: answers to pings.
    between: Between,
    /// Bytes of requests still to be written.
    owed: usize,
    /// Requests without an answer, oldest first. While there is no connection they wait for one.
    pub(super) pending: VecDeque<Sent>,
    /// Whether this connection has brought an answer.
    pub(super) has_answered: bool,
    /// Which of the host's addresses it was asked of.
    pub(super) address: usize,
    /// No new connection before a timer says so.
    pub(super) is_paused: bool,
    /// A turn had no time for all that it sends: the next one reads on.
    pub(super) is_undrained: bool,
    /// It waits in the lane's queue for requests.
    pub(super) is_queued: bool,
    /// What was read asks for something to be written.
    pub(super) is_asked: bool,
    /// Its oldest request is watched for its time-out.
    pub(super) is_watched: bool,
    /// Writing has failed since the other side knew nothing of the connection.
    is_reset: bool,
    /// Bytes, since the connection began.
    written: u64,
    dialled: Instant,
    round_trip: Duration,
}

impl Conn {
    /// No connection yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            socket: None,
            generation: 0,
            phase: Phase::Closed,
            reader: Speech::nobody(),
            greeting: Vec::new(),
            between: Between::default(),
            owed: 0,
            pending: VecDeque::new(),
            has_answered: false,
            address: 0,
            is_paused: false,
            is_undrained: false,
            is_queued: false,
            is_asked: false,
            is_watched: false,
            is_reset: false,
            written: 0,
            dialled: now,
            round_trip: Duration::ZERO,
        }
    }

    /// How far it is.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether there is no connection.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// What events of this connection are known by, in the lane's place `index`.
    pub(super) fn key(&self, index: u32) -> Key {
        Key {
            index,
            generation: self.generation,
        }
    }

    /// Whether an event is this connection's and not an earlier one's in its place.
    pub(super) fn is(&self, key: Key) -> bool {
        self.socket.is_some() && self.generation == key.generation
    }

    /// Whether there is something to write.
    pub(super) fn is_owing(&self) -> bool {
        self.owed > 0 || !self.greeting.is_empty() || !self.between.bytes.is_empty()
    }

    /// Begins to connect; everything pending will be written.
    pub(super) fn connect(
        &mut self,
        place: &Place,
        speech: &Speech,
        now: Instant,
    ) -> io::Result<()> {
        self.socket = Some(socket::connect(place)?);
        self.generation = self.generation.wrapping_add(1).max(1);
        self.phase = Phase::Connecting;
        (self.reader, self.greeting) = speech.begin();
        self.between = Between::default();
        self.is_reset = false;
        self.written = 0;
        self.owed = self.pending.len() * speech.length();
        self.has_answered = false;
        self.dialled = now;
        Ok(())
    }

    /// Has the loop tell of it: of everything, or where all that it will ever say is written, of answers
    /// alone, which spares the loop an event for the room to write.
    pub(super) fn register(
        &self,
        registry: &mio::Registry,
        key: Key,
        once: bool,
    ) -> io::Result<()> {
        let Some(fd) = &self.socket else {
            return Ok(());
        };
        match once && self.phase == Phase::Open && self.owed == 0 {
            true => net::register_reader(registry, fd, key.token()),
            false => net::register(registry, fd, key.token()),
        }
    }

    /// What the system says of a connection that was asked for.
    pub(super) fn outcome(&self) -> io::Result<()> {
        match &self.socket {
            Some(fd) => socket::take_error(fd.as_fd()),
            None => Ok(()),
        }
    }

    /// It is there.
    pub(super) fn connected(&mut self, now: Instant) {
        self.round_trip = now.saturating_duration_since(self.dialled);
        self.phase = Phase::Open;
    }

    /// One more request is to be written.
    pub(super) fn push(&mut self, sent: Sent, speech: &Speech) {
        self.pending.push_back(sent);
        self.owed += speech.length();
    }

    /// Writes what fits: how many bytes.
    pub(super) fn write(&mut self, speech: &Speech) -> io::Result<usize> {
        let Some(fd) = &self.socket else {
            return Ok(0);
        };
        self.is_asked = false;
        let mut written = 0;
        loop {
            // What goes between requests waits while one is half written.
            let (bytes, own) = if !self.greeting.is_empty() {
                (&self.greeting[..], Some(Own::Greeting))
            } else if self.reader.is_greeting() {
                return Ok(written);
            } else if !self.between.bytes.is_empty() && self.owed.is_multiple_of(speech.length()) {
                (&self.between.bytes[..], Some(Own::Between))
            } else if self.owed > 0 {
                (speech.next(self.owed), None)
            } else {
                return Ok(written);
            };
            let (wanted, count) = match socket::write(fd.as_fd(), bytes) {
                Ok(count) => (bytes.len(), count),
                Err(error) if socket::would_block(&error) => return Ok(written),
                Err(error) => return Err(error),
            };
            match own {
                Some(Own::Greeting) => drop(self.greeting.drain(..count)),
                Some(Own::Between) => self.between.wrote(count),
                None => self.owed -= count,
            }
            written += count;
            self.written += count as u64;
            if count < wanted {
                return Ok(written);
            }
        }
    }

    /// Writing has failed.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.is_reset |= trouble(error) == Trouble::Reset;
    }

    /// Reads what there is; 0 is the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.socket {
            Some(fd) => socket::read(fd.as_fd(), buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// What came of bytes that were read.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<(usize, Came), Nonsense> {
        let (used, came) = self.reader.feed(input)?;
        match &came {
            Came::Part | Came::Answer(_) => {}
            Came::Agreed => self.is_asked = true,
            Came::Asked(bytes) => {
                self.between.say(bytes);
                self.is_asked = true;
            }
            Came::Over(bytes) => self.part(bytes),
        }
        Ok((used, came))
    }

    /// Says a last word, if there is room and no request is half written.
    pub(super) fn part(&self, bytes: &[u8]) {
        if let (Some(fd), Phase::Open, 0) = (&self.socket, self.phase, self.owed) {
            // Nobody waits for what comes of it.
            let _ = socket::write(fd.as_fd(), bytes);
        }
    }

    /// Whether bytes that nobody asked for are the server's parting word.
    pub(super) fn only_answers(&self) -> bool {
        self.reader.only_answers()
    }

    /// The answer that the end of the connection makes whole.
    pub(super) fn at_close(&mut self) -> Option<AnswerEnd> {
        self.reader.at_close()
    }

    /// Who gave the last answer, where that was said.
    pub(super) fn worker(&self) -> Option<&[u8]> {
        self.reader.worker()
    }

    /// How many of the requests on their way, the youngest, the server's process never read, as far as
    /// TCP tells: the connection has ended at `now`, by a reset or in good order.
    ///
    /// A server may end a kept connection at any time between two requests (RFC 9112 section 9.3.1). Its
    /// system answers by a reset what comes for a socket that is closed, or was closed before all that
    /// had come was read: right after the request, that says that nobody read it. What dies later dies in
    /// the middle of its work, and is not excused.
    ///
    /// An end in good order says that the process had read all that it acknowledges. Requests of which it
    /// acknowledges nothing crossed it on their way, however late we come to hear of it.
    pub(super) fn unread(&self, is_reset: bool, speech: &Speech, now: Instant) -> usize {
        if !(self.has_answered && self.reader.is_idle()) {
            return 0;
        }
        if !(is_reset || self.is_reset) {
            // One that was answered before all of it had come is pending no longer.
            return (self.unacknowledged() / speech.length()).min(self.pending.len());
        }
        let window = SOON + 2 * self.round_trip;
        let just = |sent: &&Sent| now.saturating_duration_since(sent.began) <= window;
        self.pending.iter().rev().take_while(just).count()
    }

    /// Bytes of requests of which the server's system has said nothing, those that are not written
    /// included.
    fn unacknowledged(&self) -> usize {
        let fd = self.socket.as_ref();
        let acknowledged = fd.and_then(|fd| socket::acknowledged(fd.as_fd()).ok());
        let crossed = acknowledged.map_or(0, |count| self.written.saturating_sub(count));
        crossed as usize + self.owed
    }

    /// Closes it. What is pending stays.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.phase = Phase::Closed;
        self.owed = 0;
        self.greeting.clear();
        self.between = Between::default();
        self.is_asked = false;
        self.is_undrained = false;
    }
}

/// Frames that go out between two requests, at most two.
#[derive(Debug, Default)]
struct Between {
    bytes: Vec<u8>,
    /// How much of it is the rest of a frame that is half written.
    half: usize,
}

impl Between {
    /// One more is to be written. It takes the place of one that is not: the newest Pong answers all
    /// (RFC 6455 section 5.5.3).
    fn say(&mut self, frame: &[u8]) {
        self.bytes.truncate(self.half);
        self.bytes.extend_from_slice(frame);
    }

    /// So many bytes are written.
    fn wrote(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.half = match self.half.checked_sub(count) {
            Some(half) => half,
            None => self.bytes.len(),
        };
    }
}

/// What is written that is no request.
enum Own {
    Greeting,
    Between,
}

/// What kind of trouble an error of the system is.
pub(super) fn trouble(error: &io::Error) -> Trouble {
    use io::ErrorKind;
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::ConnectionRefused, _) => Trouble::Refused,
        (ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted, _) => {
            Trouble::Reset
        }
        (
            ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::TimedOut,
            _,
        ) => Trouble::Unreachable,
        (ErrorKind::AddrNotAvailable, _)
        | (_, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
            Trouble::Exhausted
        }
        _ => Trouble::Other,
    }
}

/// Whether the host's next address may do better, as a browser would think.
pub(super) fn tries_next(error: &io::Error) -> bool {
    let there = matches!(trouble(error), Trouble::Refused | Trouble::Unreachable);
    // A machine without IPv6 says one of these of `::1`.
    let no_family = matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    );
    there || no_family
}

#[cfg(test)]
mod tests;
