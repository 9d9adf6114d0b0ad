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

/// How long after a write the end of a kept connection may come and still be taken for one that the
/// server began before it saw the request; two round trips are added.
const JUST_SENT: Duration = Duration::from_millis(100);

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
    between: Vec<u8>,
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
    /// It waits in the lane's queue for requests.
    pub(super) is_queued: bool,
    /// What was read asks for something to be written.
    pub(super) is_asked: bool,
    dialled: Instant,
    round_trip: Duration,
    wrote: Instant,
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
            between: Vec::new(),
            owed: 0,
            pending: VecDeque::new(),
            has_answered: false,
            address: 0,
            is_paused: false,
            is_queued: false,
            is_asked: false,
            dialled: now,
            round_trip: Duration::ZERO,
            wrote: now,
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
        self.owed > 0 || !self.greeting.is_empty() || !self.between.is_empty()
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
        self.between.clear();
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
    pub(super) fn write(&mut self, speech: &Speech, now: Instant) -> io::Result<usize> {
        let Some(fd) = &self.socket else {
            return Ok(0);
        };
        self.wrote = now;
        self.is_asked = false;
        let mut written = 0;
        loop {
            // What goes between requests waits while one is half written.
            let (bytes, own) = if !self.greeting.is_empty() {
                (&self.greeting[..], Some(Own::Greeting))
            } else if self.reader.is_greeting() {
                return Ok(written);
            } else if !self.between.is_empty() && self.owed.is_multiple_of(speech.length()) {
                (&self.between[..], Some(Own::Between))
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
                Some(Own::Between) => drop(self.between.drain(..count)),
                None => self.owed -= count,
            }
            written += count;
            if count < wanted {
                return Ok(written);
            }
        }
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
                self.between.extend_from_slice(bytes);
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

    /// Whether the end of the connection, which came at `now`, is the one that a server may begin at any
    /// time between two requests (RFC 9112 section 9.3.1): this was a kept connection, no byte of an
    /// answer came, and it came right after what was sent. What dies in the middle of its work is not
    /// excused.
    pub(super) fn is_race(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.wrote);
        self.has_answered && self.reader.is_idle() && since <= JUST_SENT + 2 * self.round_trip
    }

    /// Closes it. What is pending stays.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.phase = Phase::Closed;
        self.owed = 0;
        self.greeting.clear();
        self.between.clear();
        self.is_asked = false;
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
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_kinds() {
        let kinds = [
            (libc::ECONNREFUSED, Trouble::Refused),
            (libc::ECONNRESET, Trouble::Reset),
            (libc::EPIPE, Trouble::Reset),
            (libc::EHOSTUNREACH, Trouble::Unreachable),
            (libc::ENETUNREACH, Trouble::Unreachable),
            (libc::ETIMEDOUT, Trouble::Unreachable),
            (libc::EMFILE, Trouble::Exhausted),
            (libc::ENFILE, Trouble::Exhausted),
            (libc::EADDRNOTAVAIL, Trouble::Exhausted),
            (libc::ENOBUFS, Trouble::Exhausted),
            (libc::EACCES, Trouble::Other),
        ];
        for (errno, expected) in kinds {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(trouble(&error), expected, "{error}");
        }
        assert!(tries_next(&io::Error::from_raw_os_error(
            libc::EAFNOSUPPORT
        )));
        assert!(!tries_next(&io::Error::from_raw_os_error(libc::EMFILE)));
    }
}
