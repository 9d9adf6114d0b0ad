//! Publications past one machine: the link to a Redis server, by which clusters with the same URL
//! and prefix hear what each of them publishes.
//!
//! One connection in the primary's own loop, which never waits for it: `target` knows where the
//! server is, `talk` what is said (`frames` where each answer ends), `relay` what waits to be sent,
//! `connection` reads and writes. This file connects, and connects again. Compiled with the feature `redis` alone; without it
//! `no_link` stands here.

mod connection;
mod frames;
mod passage;
mod relay;
mod talk;
mod target;

#[cfg(test)]
mod tests;

pub(super) use passage::Passage;
pub(super) use relay::Relay;
pub(super) use target::Wanted;

use super::{Cluster, ClusterHandle, Primary, Result};
use crate::ipc::topic::Publication;
use crate::ipc::user::Kind;
use crate::net::{Ready, Seldom, Tally, register};
use crate::sys::random;
use connection::Connection;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use talk::{Heard, ORIGIN};
use target::Target;

/// The token of the connection.
pub(super) const LINK: usize = 4;

/// How long to wait before the next try: doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A connection that lasted for so long was a good one: the next try waits the shortest again.
const LASTING: Duration = Duration::from_secs(5);

/// How long a cluster that has stopped waits for the server to have its last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
    /// waits for Redis, but for a stop, which gives it a second for the last words. HOST is looked up
    /// once, before the loop begins: a name that is unknown then is an error of [`Cluster::run`], and a
    /// server that moves to another address is found by a restart. A server that does not answer keeps
    /// nobody from starting. An upgrade in place hands the connection on, with all that waits: nothing
    /// is missed in either direction, unless the new program has another URL or prefix.
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
    /// When the server's name is unknown. It is not asked for where the program before, which left
    /// `passage`, knew it: that must not fail, nor take long, once this one stands in its place.
    pub(super) fn open(&self, passage: Option<&Passage>) -> Result<Link> {
        let target = self.target(|name| passage.and_then(|one| one.places(name)))?;
        Ok(Link(target.map(|target| Box::new(End::new(target)))))
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
}

impl ClusterHandle {
    /// There is a link, or none.
    pub(super) fn open_relay(&self, link: &Link) {
        if link.0.is_some() {
            self.0.relay.borrow_mut().begin();
        }
    }

    /// For the next program; see [`Link::leave`].
    pub(super) fn leave_link<'a>(
        &self,
        link: &'a Link,
    ) -> Option<(Passage, Option<BorrowedFd<'a>>)> {
        link.leave(&self.0.relay.borrow())
    }

    /// Of the program before; see [`Link::resume`].
    pub(super) fn resume_link(
        &self,
        link: &mut Link,
        registry: &mio::Registry,
        now: Instant,
        passage: &Passage,
        socket: Option<OwnedFd>,
    ) -> io::Result<()> {
        let mut relay = self.0.relay.borrow_mut();
        link.resume(registry, now, &mut relay, passage, socket)
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

impl Primary {
    /// The cluster has stopped: has what was published last reach the server, for as long as a stop
    /// may wait for that.
    pub(super) fn finish_link(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        loop {
            self.tend_link();
            self.send_to_link();
            let left = match &self.link.0 {
                Some(end) => end.unanswered(&self.handle.0.relay.borrow()),
                None => 0,
            };
            if left == 0 {
                return;
            }
            let deadline = self.link.deadline().map_or(until, |at| at.min(until));
            if self.reactor.now() >= until || self.reactor.wait(Some(deadline)).is_err() {
                return log::warn!("{left} messages may not have left this cluster");
            }
            let ready: Vec<_> = self.reactor.ready().collect();
            for ready in ready.into_iter().filter(|ready| ready.token == LINK) {
                self.hear_link(ready);
            }
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
    overflows: Tally,
    buffer: Vec<u8>,
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
            overflows: Tally::default(),
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
        let (channel, greeting) = (&self.target.channel, &self.target.greeting);
        Ok(Connection::new(socket, channel, greeting, now))
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
        match (self.away && self.known, missed) {
            (true, _) => {
                log::info!("Redis at {name} is back: {missed} messages stayed in this cluster");
            }
            (false, 0) => log::info!("publishing through Redis at {name}"),
            (false, _) => log::info!(
                "publishing through Redis at {name}: {missed} messages before stayed in this cluster"
            ),
        }
        (self.away, self.known) = (false, true);
        self.target.reached();
    }

    /// There is no connection, or none any more.
    fn lost(&mut self, now: Instant, relay: &mut Relay, why: &str) {
        let ended = self.connection.take();
        let was_up = ended.as_ref().is_some_and(|one| one.talk.is_up());
        // One that was up comes back where it was, most likely.
        if !was_up && self.target.failed() {
            log::debug!("Redis may be at another address of its name: {why}");
            self.next_try = now;
            return;
        }
        let name = &self.target.name;
        if std::mem::replace(&mut self.away, true) {
            log::debug!("Redis at {name} is still away: {why}");
        } else {
            log::warn!("Redis at {name} is away, what is published stays here: {why}");
        }
        relay.close();
        if ended.is_some_and(|one| was_up && now >= one.began + LASTING) {
            self.wait = FIRST_WAIT;
        }
        self.next_try = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// How many publications the server has not answered, said to it or not.
    fn unanswered(&self, relay: &Relay) -> u64 {
        let connection = self.connection.as_ref();
        connection.map_or(0, |one| one.talk.unanswered()) + relay.len() as u64
    }

    fn send(&mut self, now: Instant, relay: &mut Relay) {
        if let Some(dropped) = self.overflows.add(relay.take_dropped(), now) {
            let name = &self.target.name;
            log::warn!("Redis at {name} does not keep up: {dropped} messages stay in this cluster");
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        let more = || relay.pop();
        if let Err(error) = connection.write(now, &self.origin, more) {
            self.lost(now, relay, &error.to_string());
        }
    }
}
