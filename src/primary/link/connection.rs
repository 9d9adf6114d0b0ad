//! One connection to the server, from the first try on: reads, writes and keeps time. Leaves to the
//! end which holds it what is done with what it hears, and when to connect again.

use super::Origin;
use super::talk::{self, Heard, Talk};
use crate::net::Ready;
use crate::sys::socket;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long connecting and the greeting may take, and the answer to a ping.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// A server that has been silent for so long is asked whether it lives.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// Bytes read, and written, in one turn of the loop: the workers wait meanwhile.
const TURN: usize = 1024 * 1024;
const READ: usize = 64 * 1024;

/// Values read in one turn: small ones cost more than their bytes.
const VALUES: u64 = 4096;

/// A connection, from the first try on.
pub(super) struct Connection {
    socket: OwnedFd,
    pub(super) talk: Talk,
    /// It is established.
    pub(super) connected: bool,
    readable: bool,
    writable: bool,
    /// Bytes on their way, and how many of them are out.
    out: Vec<u8>,
    sent: usize,
    /// More could have been written in this turn.
    more: bool,
    pub(super) began: Instant,
    /// When something was last read.
    pub(super) heard_at: Instant,
    ping: Ping,
}

/// Whether the server was asked for a sign of life, and has given none since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    None,
    /// It stands behind other things, which last went on then.
    Waits(Instant),
    /// It went out then.
    Out(Instant),
}

impl Connection {
    /// One that is being established, and begins with `greeting`.
    pub(super) fn new(socket: OwnedFd, channel: &str, greeting: &[u8], now: Instant) -> Self {
        Self {
            socket,
            talk: Talk::new(channel),
            connected: false,
            readable: false,
            writable: false,
            out: greeting.to_vec(),
            sent: 0,
            more: false,
            began: now,
            heard_at: now,
            ping: Ping::None,
        }
    }

    /// One that goes on where another was; see [`Connection::parts`].
    pub(super) fn resumed(socket: OwnedFd, talk: Talk, out: Vec<u8>, now: Instant) -> Self {
        Self {
            connected: true,
            // What has become ready meanwhile is found by trying.
            readable: true,
            writable: true,
            talk,
            ..Self::new(socket, "", &out, now)
        }
    }

    /// The socket, and what waits to be written.
    pub(super) fn parts(&self) -> (BorrowedFd<'_>, &[u8]) {
        (self.socket.as_fd(), &self.out[self.sent..])
    }

    pub(super) fn is_ready(&mut self, ready: Ready) {
        self.readable |= ready.readable || ready.read_closed || ready.gone;
        self.writable |= ready.writable || ready.gone;
    }

    pub(super) fn deadline(&self) -> Instant {
        // There was more to do than one turn allows.
        match self.more || (self.connected && self.readable) {
            true => self.began,
            false => self.limit(),
        }
    }

    /// When it is too late for something, or time for a ping.
    fn limit(&self) -> Instant {
        match (self.talk.is_up(), self.ping) {
            (false, _) => self.began + LIMIT,
            (true, Ping::None) => self.heard_at + SILENCE,
            (true, Ping::Waits(since) | Ping::Out(since)) => since + LIMIT,
        }
    }

    /// Sees whether it is established, reads, and keeps time.
    ///
    /// # Errors
    ///
    /// In words, why it is of no use any more.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
        heard: &mut Vec<Heard>,
    ) -> std::result::Result<(), String> {
        if !self.connected && self.writable {
            socket::take_error(self.socket.as_fd()).map_err(|error| error.to_string())?;
            self.connected = true;
        }
        let mut left = TURN;
        let last = self.talk.values() + VALUES;
        buffer.resize(READ, 0);
        while self.connected && self.readable && left > 0 && self.talk.values() < last {
            match socket::read(self.socket.as_fd(), buffer) {
                Ok(0) => return Err("it has hung up".to_owned()),
                Ok(count) => {
                    (self.heard_at, self.ping) = (now, Ping::None);
                    left = left.saturating_sub(count);
                    heard.extend(self.talk.received(&buffer[..count])?);
                }
                Err(error) if socket::would_block(&error) => self.readable = false,
                Err(error) => return Err(error.to_string()),
            }
        }
        if self.limit() <= now {
            if !self.talk.is_up() || self.ping != Ping::None {
                return Err("it does not answer".to_owned());
            }
            self.ping = Ping::Waits(now);
            self.out.extend(talk::ping());
        }
        Ok(())
    }

    /// Writes what waits, and `more` of what is to be published once all has been taken.
    pub(super) fn write(
        &mut self,
        now: Instant,
        origin: &Origin,
        mut more: impl FnMut() -> Option<Vec<u8>>,
    ) -> io::Result<()> {
        let mut left = TURN;
        while self.connected && self.writable && left > 0 {
            if self.sent == self.out.len() {
                (self.out, self.sent) = (Vec::new(), 0);
                // Small ones share a write.
                while self.talk.is_up()
                    && self.out.len() < READ
                    && let Some(one) = more()
                {
                    self.out.extend(self.talk.publish(origin, &one));
                }
                if self.out.is_empty() {
                    break;
                }
            }
            match socket::write(self.socket.as_fd(), &self.out[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    left = left.saturating_sub(count);
                    self.ping = match self.ping {
                        Ping::Waits(_) if self.sent == self.out.len() => Ping::Out(now),
                        Ping::Waits(_) => Ping::Waits(now),
                        other => other,
                    };
                }
                Err(error) if socket::would_block(&error) => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        self.more = left == 0;
        Ok(())
    }
}
