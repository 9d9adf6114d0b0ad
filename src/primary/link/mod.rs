//! Publications past one machine: the link to a Redis server, by which clusters with the same URL
//! and prefix hear what each of them publishes.
//!
//! One connection in the primary's own loop, which never waits for it: `target` knows where the
//! server is, `talk` what is said, `relay` what waits to be sent. This file connects, reads and
//! writes, keeps time, and connects again. Compiled with the feature `redis` alone; without it
//! `no_link` stands here.

mod relay;
mod talk;
mod target;

#[cfg(test)]
mod tests;

pub(super) use relay::Relay;
pub(super) use target::Wanted;

use super::{Cluster, ClusterHandle, Primary, Result};
use crate::ipc::topic::Publication;
use crate::ipc::user::Kind;
use crate::net::{Ready, Seldom, register};
use crate::sys::{random, socket};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use talk::{Heard, ORIGIN, Talk};
use target::Target;

/// The token of the connection.
pub(super) const LINK: usize = 4;

/// How long connecting and the greeting may take, and the answer to a ping.
const LIMIT: Duration = Duration::from_secs(5);

/// A server that has been silent for so long is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(10);

/// How long to wait before the next try: doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A connection that lasted for so long was a good one: the next try waits the shortest again.
const LASTING: Duration = Duration::from_secs(5);

/// Bytes read, and written, in one turn of the loop: the workers wait meanwhile.
const TURN: usize = 1024 * 1024;
const READ: usize = 64 * 1024;

/// Names of connection and cluster.
type Origin = [u8; ORIGIN];

impl Cluster {
    /// Publishes ([`Worker::publish`](crate::Worker::publish)) past this machine: all clusters that
    /// name the same Redis server here, with the same [`Cluster::publish_prefix`], hear what is
    /// published in any of them, each message once. `redis://[[USER]:PASSWORD@]HOST[:PORT]`, or
    /// `redis+unix:///PATH`; a server of version 6 or later. There is no TLS: `rediss://` is
    /// refused.
    ///
    /// The primary holds one connection to the server, in its own loop: nothing in a cluster ever
    /// waits for Redis. HOST is looked up once, before the loop begins: a name that is unknown then is
    /// an error of [`Cluster::run`], and a server that moves to another address is found by a restart
    /// or an upgrade in place. A server that does not answer keeps nobody from starting.
    ///
    /// While the server is away, what is published reaches the own cluster alone, and is not sent
    /// later: Redis keeps nothing of what is published either, and old news in a burst help nobody.
    /// One line in the log says that it is away, and one that it is back, with the number of messages
    /// that did not leave. It is tried again after 100 ms at first and every 5 s at last. The same
    /// holds when more than 64 MiB wait to be sent. What others publish meanwhile is not heard here.
    ///
    /// Redis ends the connection of a subscriber for which more than 32 MiB wait, unless its setting
    /// `client-output-buffer-limit pubsub` says otherwise: messages should be much smaller.
    /// Whoever may publish on the server is believed: it should ask for a password, and be reached
    /// by friends alone.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mcluster::{App, Cluster};
    ///
    /// # fn main() -> mcluster::Result<()> {
    /// Cluster::new(App::new())
    ///     .publish_through("redis://10.0.0.7")
    ///     .run()
    /// # }
    /// ```
    #[must_use]
    pub fn publish_through(mut self, url: impl Into<String>) -> Self {
        self.link.url = Some(url.into());
        self
    }

    /// What the channel of [`Cluster::publish_through`] begins with, `mcluster:` unless this says
    /// otherwise; behind it stands `publish`. Clusters that should not hear each other have one
    /// each.
    #[must_use]
    pub fn publish_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.link.prefix = Some(prefix.into());
        self
    }
}

impl Wanted {
    /// What the settings ask for; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// When the server's name is unknown.
    pub(super) fn open(&self) -> Result<Link> {
        Ok(Link(
            self.target()?.map(|target| Box::new(End::new(target))),
        ))
    }
}

/// The link, if there is one.
pub(super) struct Link(Option<Box<End>>);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.as_ref().map(|end| &end.target.name);
        f.debug_tuple("Link").field(&name).finish()
    }
}

impl Link {
    /// When to look at it next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|end| end.deadline())
    }

    /// By what this cluster knows its own messages.
    pub(super) fn origin(&self) -> Option<Origin> {
        self.0.as_ref().map(|end| end.origin)
    }

    /// The program before this one had that.
    pub(super) fn set_origin(&mut self, origin: Option<Origin>) {
        if let (Some(end), Some(origin)) = (&mut self.0, origin) {
            end.origin = origin;
        }
    }
}

impl ClusterHandle {
    /// There is a link, or none.
    pub(super) fn open_relay(&self, link: &Link) {
        if link.0.is_some() {
            self.0.relay.borrow_mut().begin();
        }
    }

    /// For other clusters, if there is a way to them.
    pub(super) fn relay(&self, written: &[u8]) {
        self.0.relay.borrow_mut().push(written);
    }
}

impl Primary {
    /// Something happened on the connection.
    pub(super) fn hear_link(&mut self, ready: Ready) {
        if let Some(connection) = self.link.0.as_mut().and_then(|end| end.connection.as_mut()) {
            connection.is_ready(ready);
        }
    }

    /// Connects when it is time, and passes on what other clusters publish.
    pub(super) fn tend_link(&mut self) {
        let Some(end) = &mut self.link.0 else {
            return;
        };
        let now = self.reactor.now();
        let relay = &self.handle.0.relay;
        let heard = end.tend(self.reactor.registry(), now, &mut relay.borrow_mut());
        for written in heard {
            let _ = self
                .handle
                .queue_all(Kind::Publish, None, &written.into_written());
        }
    }

    /// Sends what this cluster publishes.
    pub(super) fn send_to_link(&mut self) {
        if let Some(end) = &mut self.link.0 {
            let relay = &self.handle.0.relay;
            end.send(self.reactor.now(), &mut relay.borrow_mut());
        }
    }
}

/// This end of the link.
struct End {
    target: Target,
    origin: Origin,
    connection: Option<Connection>,
    /// When to connect, while there is no connection.
    next_try: Instant,
    /// How long to wait before the try after that.
    wait: Duration,
    /// It was said that the server is away.
    away: bool,
    /// The server has been there.
    known: bool,
    nonsense: Seldom,
    refusals: Seldom,
    overflows: Seldom,
    buffer: Vec<u8>,
}

/// A connection, from the first try on.
struct Connection {
    socket: OwnedFd,
    talk: Talk,
    /// It is established.
    connected: bool,
    readable: bool,
    writable: bool,
    /// Bytes on their way, and how many of them are out.
    out: Vec<u8>,
    sent: usize,
    /// More could have been written in this turn.
    more: bool,
    began: Instant,
    /// When something was last read.
    heard_at: Instant,
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

impl End {
    fn new(target: Target) -> Self {
        let halves = [random::number(), random::number()];
        let mut origin = [0; ORIGIN];
        origin[..8].copy_from_slice(&halves[0].to_le_bytes());
        origin[8..].copy_from_slice(&halves[1].to_le_bytes());
        Self {
            target,
            origin,
            connection: None,
            next_try: Instant::now(),
            wait: FIRST_WAIT,
            away: false,
            known: false,
            nonsense: Seldom::default(),
            refusals: Seldom::default(),
            overflows: Seldom::default(),
            buffer: Vec::new(),
        }
    }

    fn deadline(&self) -> Instant {
        match &self.connection {
            None => self.next_try,
            Some(connection) => connection.deadline(),
        }
    }

    /// Does what is due but for sending; gives what others have published.
    fn tend(
        &mut self,
        registry: &mio::Registry,
        now: Instant,
        relay: &mut Relay,
    ) -> Vec<Publication> {
        if self.connection.is_none() && self.next_try <= now {
            match self.connect(registry, now) {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => self.lost(now, relay, &error.to_string()),
            }
        }
        let Some(connection) = &mut self.connection else {
            return Vec::new();
        };
        let mut heard = Vec::new();
        let outcome = connection.turn(now, &mut self.buffer, &mut heard);
        // What came before the end is worth as much.
        let published = self.judge(now, relay, heard);
        if let Err(why) = outcome {
            self.lost(now, relay, &why);
        }
        published
    }

    fn connect(&mut self, registry: &mio::Registry, now: Instant) -> io::Result<Connection> {
        let socket = self.target.connect()?;
        register(registry, &socket.as_raw_fd(), LINK)?;
        Ok(Connection {
            socket,
            talk: Talk::new(&self.target.channel),
            connected: false,
            readable: false,
            writable: false,
            out: self.target.greeting.clone(),
            sent: 0,
            more: false,
            began: now,
            heard_at: now,
            ping: Ping::None,
        })
    }

    /// What of all that was heard is a message of another cluster.
    fn judge(&mut self, now: Instant, relay: &mut Relay, heard: Vec<Heard>) -> Vec<Publication> {
        let mut published = Vec::new();
        for one in heard {
            match one {
                Heard::Up => self.up(relay),
                Heard::Refused(why) if self.refusals.is_due(now) => {
                    let name = &self.target.name;
                    log::warn!("Redis at {name} does not publish: {why}");
                }
                Heard::Refused(_) => {}
                Heard::Message(mut payload) => {
                    let written = payload.split_off(ORIGIN.min(payload.len()));
                    if payload == self.origin {
                        continue;
                    }
                    match Publication::read(written) {
                        Some(publication) => published.push(publication),
                        None if self.nonsense.is_due(now) => {
                            let channel = &self.target.channel;
                            log::warn!("what somebody publishes on {channel:?} makes no sense");
                        }
                        None => {}
                    }
                }
            }
        }
        published
    }

    fn up(&mut self, relay: &mut Relay) {
        let missed = relay.open();
        let name = &self.target.name;
        match (self.away, self.known) {
            (true, true) => {
                log::info!("Redis at {name} is back: {missed} messages stayed in this cluster");
            }
            _ => log::info!("publishing through Redis at {name}"),
        }
        (self.away, self.known) = (false, true);
    }

    /// There is no connection, or none any more.
    fn lost(&mut self, now: Instant, relay: &mut Relay, why: &str) {
        let name = &self.target.name;
        if std::mem::replace(&mut self.away, true) {
            log::debug!("Redis at {name} is still away: {why}");
        } else {
            log::warn!("Redis at {name} is away, what is published stays here: {why}");
        }
        relay.close();
        let lasted = |one: &Connection| one.talk.is_up() && now >= one.began + LASTING;
        if self.connection.take().is_some_and(|one| lasted(&one)) {
            self.wait = FIRST_WAIT;
        }
        self.next_try = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    fn send(&mut self, now: Instant, relay: &mut Relay) {
        let dropped = relay.take_dropped();
        if dropped > 0 && self.overflows.is_due(now) {
            let name = &self.target.name;
            log::warn!("Redis at {name} does not keep up: {dropped} messages stay in this cluster");
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        let (channel, origin) = (&self.target.channel, &self.origin);
        let more = || relay.pop().map(|one| talk::publish(channel, origin, &one));
        if let Err(error) = connection.write(now, more) {
            self.lost(now, relay, &error.to_string());
        }
    }
}

impl Connection {
    fn is_ready(&mut self, ready: Ready) {
        self.readable |= ready.readable || ready.read_closed || ready.gone;
        self.writable |= ready.writable || ready.gone;
    }

    fn deadline(&self) -> Instant {
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
    fn turn(
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
        buffer.resize(READ, 0);
        while self.connected && self.readable && left > 0 {
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

    /// Writes what waits, and `more` of it once all has been taken.
    fn write(&mut self, now: Instant, mut more: impl FnMut() -> Option<Vec<u8>>) -> io::Result<()> {
        let mut left = TURN;
        while self.connected && self.writable && left > 0 {
            if self.sent == self.out.len() {
                (self.out, self.sent) = (Vec::new(), 0);
                // Small ones share a write.
                while self.talk.is_up()
                    && self.out.len() < READ
                    && let Some(one) = more()
                {
                    self.out.extend(one);
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
