//! A worker's half of the conversation: what it hears, what it asks, what it hands back.

use super::handle::{Listened, Wish};
use super::{EXCLUSIVE, Life, StopReason};
use crate::ipc::topic::Publication;
use crate::ipc::user::{Kind, Message as UserMessage};
use crate::ipc::{Ask, HAND, HAND_BYTES, Handed, Message, Received, is_gone};
use crate::net::token::LISTENERS;
use crate::net::{Listen, deregister, url};
use crate::server::{self, sticky::Sticky};
use crate::sys::listener::{Address, Listener};
use crate::sys::socket;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
#[cfg(feature = "sessions")]
use std::time::SystemTime;

/// Messages that nobody wants yet, in bytes: with more, their sender has to wait, and so have
/// broadcasts, which come the same way.
const MOST_EARLY: usize = 16 * 1024;

/// What a message costs beside its bytes.
const MESSAGE_COST: usize = 64;

/// Whom the answer to a question concerns.
pub(super) enum Query {
    /// The cluster's settings.
    Configured,
    /// The application, which asked in these words.
    Asked(String, Listened),
}

/// A message to all WebSocket connections of this worker.
fn broadcast(message: &UserMessage) {
    #[cfg(feature = "websocket")]
    crate::app::ws::deliver(message.bytes());
    #[cfg(not(feature = "websocket"))]
    log::debug!("{message:?} is for connections that this program cannot have");
}

/// Sweeps the session stores of this process, off the loop: they may wait for a disk or the network.
fn sweep() {
    #[cfg(feature = "sessions")]
    {
        let sweeper = std::thread::Builder::new().name("sweep".to_owned());
        let swept = sweeper.spawn(|| crate::app::session::sweep::sweep(SystemTime::now()));
        if let Err(error) = swept {
            log::warn!("no thread to sweep sessions: {error}");
        }
    }
}

/// Whether accepting failed since nothing waits, or nothing ever will: see accept(2).
fn is_empty(error: &io::Error) -> bool {
    socket::would_block(error) || error.raw_os_error() == Some(libc::EINVAL)
}

impl Life {
    pub(super) fn say(&mut self, message: &Message) -> io::Result<()> {
        match self.channel.send(message, &[]) {
            // The end of the channel will be read, and is the better news of the two.
            Err(error) if is_gone(&error) => {
                self.worker.closed();
                Ok(())
            }
            result => result,
        }
    }

    /// Says that this worker is ready, once all is answered that was asked from the start.
    pub(super) fn report_ready(&mut self) -> io::Result<()> {
        if self.is_ready() {
            self.said_ready = true;
            self.say(&Message::Ready)?;
        }
        Ok(())
    }

    /// Whether it is ready, and has not said so.
    pub(super) fn is_ready(&self) -> bool {
        !self.said_ready && self.queries.is_empty() && !self.worker.is_poked()
    }

    /// Asks to listen.
    pub(super) fn query(&mut self, ask: Ask, whom: Query) -> io::Result<()> {
        let query = self.next_query;
        self.next_query += 1;
        self.queries.insert(query, whom);
        self.say(&Message::QueryServer { query, ask })
    }

    pub(super) fn listen_to_primary(&mut self) -> io::Result<()> {
        if let Err(error) = self.channel.flush() {
            log::debug!("worker {} is not heard: {error}", self.worker.id());
        }
        let parted = self.server.take_parted();
        let heard = self.hear();
        drop(parted);
        heard
    }

    fn hear(&mut self) -> io::Result<()> {
        // One message a turn: a flood of connections does not starve those that are open.
        match self.channel.receive(&mut self.buffer) {
            Ok(Received::Message(message, with)) => self.heard(message, with),
            Ok(Received::Nothing) => Ok(()),
            Ok(Received::Closed) => {
                // The end stays readable, so the loop must not be told of it again.
                deregister(self.reactor.registry(), &self.channel)?;
                self.worker.closed();
                self.end(StopReason::Orphaned, false);
                Ok(())
            }
            // Most likely descriptors ran out, and a hand was cut short. The primary has copies
            // of it; this worker has lost count, so it finishes what it has and goes.
            Err(error)
                if error.kind() == io::ErrorKind::InvalidData
                    || error.raw_os_error() == Some(libc::EMFILE) =>
            {
                self.lost_count = true;
                self.make_room(&error)
            }
            Err(error) => Err(error),
        }
    }

    fn heard(&mut self, message: Message, with: Vec<OwnedFd>) -> io::Result<()> {
        match message {
            Message::Server {
                query,
                listener,
                address,
                ..
            } => {
                self.accept_by_itself(listener, with)?;
                log::debug!("worker {} listens on {address}", self.worker.id());
                self.say(&Message::Listening { listener })?;
                self.answered(query, Ok(url(&address)));
            }
            Message::Refused { query, why } => {
                let error = match why.errno {
                    0 => io::Error::other(why.why),
                    errno => io::Error::from_raw_os_error(errno),
                };
                self.answered(query, Err(error));
            }
            Message::Accept { listener, .. } => self.accept_by_itself(listener, with)?,
            Message::Queue { listener } => {
                for fd in with {
                    self.queues.insert(listener, Listener::from_fd(fd)?);
                }
            }
            Message::Grant { listener, count } => self.accept_granted(listener, count)?,
            Message::Newconn { listener, hand } => self.take(listener, hand, with),
            Message::Disconnect { hand_back, more } => {
                self.more = more;
                self.end(StopReason::Disconnected, hand_back);
            }
            Message::AccessLog => {
                let files = with.into_iter().map(File::from);
                files.for_each(|file| self.server.reopen_log(file));
            }
            Message::Sweep => sweep(),
            Message::Sticky { cookie } => {
                let place = self.settings.place;
                self.server
                    .stick(cookie.map(|name| Sticky::new(&name, place)));
            }
            Message::Data(piece) => {
                for (kind, message) in self.inbox.piece(&piece)? {
                    match kind {
                        Kind::Message => {
                            self.early_bytes += message.bytes().len() + MESSAGE_COST;
                            self.early.push_back(message);
                        }
                        Kind::Broadcast => broadcast(&message),
                        Kind::Publish => self.published(message),
                    }
                }
                self.owed += 1;
                self.deliver()?;
            }
            Message::Took(pieces) => {
                self.worker.took(pieces);
                self.send_pieces()?;
            }
            Message::Close { .. }
            | Message::Answered { .. }
            | Message::Mine(_)
            | Message::Text(_)
            | Message::Online
            | Message::QueryServer { .. }
            | Message::Listening { .. }
            | Message::ListeningAlone { .. }
            | Message::Ready
            | Message::Worn => {
                let id = self.worker.id();
                log::warn!("worker {id} heard {message:?}, which is for a primary");
            }
        }
        Ok(())
    }

    /// Something was published somewhere in the cluster.
    fn published(&self, written: UserMessage) {
        let Some(publication) = Publication::read(written.into_bytes()) else {
            return log::warn!("something was published that makes no sense");
        };
        self.worker.published(&publication);
        #[cfg(feature = "websocket")]
        crate::app::ws::deliver_topic(publication.topic(), publication.bytes());
    }

    /// With a descriptor this worker accepts by itself from then on, without one no longer; nor what
    /// it is granted, until it gets that anew.
    fn accept_by_itself(&mut self, listener: u32, with: Vec<OwnedFd>) -> io::Result<()> {
        let token = LISTENERS + listener as usize;
        let registry = self.reactor.registry();
        self.queues.remove(&listener);
        if with.is_empty() {
            self.server.unlisten(registry, token);
        }
        for fd in with {
            let socket = Listener::from_fd(fd)?;
            self.server.listen(registry, socket, token)?;
        }
        Ok(())
    }

    fn take(&mut self, listener: u32, hand: Vec<Handed>, with: Vec<OwnedFd>) {
        for (socket, handed) in with.into_iter().zip(hand) {
            let sequence = self.handed;
            self.handed += 1;
            self.slot.opening();
            // What the primary took back is another's by now, and closed unread.
            if !self.lost_count && self.slot.take(sequence) {
                let handed = server::Handed {
                    peer: handed.peer,
                    listener,
                    served: handed.served,
                    announced: handed.announced,
                    strayed: handed.strayed,
                    bytes: handed.bytes,
                };
                self.server.adopt(self.reactor.registry(), socket, handed);
            }
        }
    }

    /// Accepts `count` connections from the kernel's queue of `listener`, if they are there.
    fn accept_granted(&mut self, listener: u32, count: u32) -> io::Result<()> {
        let mut failure = None;
        for _ in 0..count {
            let sequence = self.handed;
            self.handed += 1;
            self.slot.opening();
            // What the primary took back is another's by now.
            if self.lost_count || !self.slot.take(sequence) {
                continue;
            }
            let queue = self.queues.get(&listener).filter(|_| failure.is_none());
            let accepted = queue.map(Listener::accept);
            // At once: a handler that is called for it may take its time.
            self.slot.count_tried();
            match accepted {
                Some(Ok((socket, peer))) => {
                    let registry = self.reactor.registry();
                    self.server.accept_granted(registry, socket, peer, listener);
                }
                // The client has gone, another program has accepted it, or the cluster stops.
                Some(Err(error)) if is_empty(&error) => {}
                Some(Err(error)) => failure = Some(error),
                None => {}
            }
        }
        let Some(error) = failure else {
            return Ok(());
        };
        // What waits still does, and the primary will see it.
        if error.raw_os_error() == Some(libc::EMFILE) {
            return self.make_room(&error);
        }
        let id = self.worker.id();
        log::error!("worker {id} cannot accept: {error}");
        Ok(())
    }

    /// Descriptors have run out: finishes what it has and goes.
    fn make_room(&mut self, error: &io::Error) -> io::Result<()> {
        let id = self.worker.id();
        log::error!("worker {id} makes room for another: {error}");
        self.leave()
    }

    fn answered(&mut self, query: u32, outcome: io::Result<String>) {
        match (self.queries.remove(&query), outcome) {
            (Some(Query::Asked(words, done)), outcome) => {
                if outcome.is_err()
                    && let Some(at) = self.asked.iter().rposition(|one| *one == words)
                {
                    self.asked.remove(at);
                }
                done(&self.worker, outcome);
            }
            (Some(Query::Configured), Err(error)) => {
                let id = self.worker.id();
                log::error!("worker {id} cannot listen: {error}");
                // Never ready: the primary waits for as long as a start may take.
                self.said_ready = true;
            }
            (Some(Query::Configured), Ok(_)) | (None, _) => {}
        }
    }

    /// Gives the application the messages that have come, once it wants them. Until then a few
    /// wait here without holding anybody up.
    fn deliver(&mut self) -> io::Result<()> {
        if self.worker.deliver(&mut self.early) {
            self.early_bytes = 0;
        }
        if self.owed > 0 && self.early_bytes < MOST_EARLY {
            let pieces = std::mem::take(&mut self.owed);
            self.say(&Message::Took(pieces))?;
        }
        Ok(())
    }

    fn send_pieces(&mut self) -> io::Result<()> {
        while let Some(piece) = self.worker.next_piece() {
            self.say(&Message::Data(piece))?;
        }
        Ok(())
    }

    /// Does what the application has asked for.
    pub(super) fn grant_wishes(&mut self) -> io::Result<()> {
        while let Some(wish) = self.worker.next_wish() {
            match wish {
                Wish::Disconnect => self.leave()?,
                Wish::Broadcast(message) => broadcast(&message),
                Wish::Listen {
                    listen,
                    exclusive: true,
                    done,
                } => {
                    let outcome = self.listen_alone(&listen);
                    if let Ok(address) = &outcome {
                        let address = address.clone();
                        self.say(&Message::ListeningAlone { address })?;
                    }
                    done(&self.worker, outcome.map(|address| url(&address)));
                }
                Wish::Listen { listen, done, .. } => {
                    // A name server's answer may take long, and the primary's loop is everybody's.
                    let words = match listen.resolved() {
                        Ok(listen) => listen.to_string(),
                        Err(error) => {
                            done(&self.worker, Err(error));
                            continue;
                        }
                    };
                    let nth = self.asked.iter().filter(|one| **one == words).count();
                    if nth > 0 && !listen.is_any_port() {
                        let in_use = io::Error::from_raw_os_error(libc::EADDRINUSE);
                        done(&self.worker, Err(in_use));
                        continue;
                    }
                    self.asked.push(words.clone());
                    let nth = nth as u32;
                    let whom = Query::Asked(words.clone(), done);
                    self.query(Ask::Address { words, nth }, whom)?;
                }
            }
        }
        self.deliver()?;
        self.send_pieces()
    }

    fn listen_alone(&mut self, listen: &Listen) -> io::Result<Address> {
        let listener = listen.bind()?;
        let address = listener.address().clone();
        let token = LISTENERS + EXCLUSIVE + self.exclusive;
        self.server
            .listen(self.reactor.registry(), listener, token)?;
        self.exclusive += 1;
        Ok(address)
    }

    /// Hands connections that wait for a request back to the primary, as fast as it takes them.
    pub(super) fn hand_back(&mut self) -> io::Result<()> {
        while !self.channel.has_unsent() {
            let mut taken = self.server.take_given_back(HAND);
            if taken.is_empty() || !self.worker.is_connected() {
                // Without a primary there is nobody to go on with them.
                break;
            }
            let mut bytes = 0;
            let fitting = taken.iter().take_while(|(_, handed)| {
                bytes += handed.bytes.len();
                bytes <= HAND_BYTES
            });
            let count = fitting.count();
            self.server.keep_given_back(taken.split_off(count.max(1)));
            let Some(listener) = taken.first().map(|(_, handed)| handed.listener) else {
                break;
            };
            let hand = taken.iter().map(|(_, handed)| Handed {
                peer: handed.peer,
                served: handed.served,
                announced: handed.announced,
                strayed: handed.strayed,
                bytes: handed.bytes.clone(),
            });
            let message = Message::Newconn {
                listener,
                hand: hand.collect(),
            };
            let sockets: Vec<_> = taken.iter().map(|(socket, _)| socket.as_fd()).collect();
            if let Err(error) = self.channel.send(&message, &sockets) {
                log::warn!("worker {} keeps connections: {error}", self.worker.id());
                self.server.keep_given_back(taken);
                break;
            }
        }
        Ok(())
    }
}
