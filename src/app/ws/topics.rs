//! Which WebSocket connections subscribe to what, and what is published there.
//!
//! Owns one list for the process, since any thread may subscribe a connection; a loop sends to its
//! own connections, which `room` knows, and leaves the others to theirs. Handlers of the worker that
//! subscribe are `worker`'s.

use super::frames::{self, Data, OpCode};
use super::message::{SendError, code};
use super::room;
use super::socket::Socket;
use crate::ipc::topic::{SubscribeError, is_topic};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Topics that one connection may subscribe to.
pub(super) const MOST_TOPICS: usize = 100;

#[derive(Default)]
struct Lists {
    /// The subscribers of each topic, by their numbers.
    topics: HashMap<Arc<str>, HashMap<u64, Socket>>,
    /// The topics of each connection that has any.
    of: HashMap<u64, BTreeSet<Arc<str>>>,
}

static LISTS: LazyLock<Mutex<Lists>> = LazyLock::new(Mutex::default);

fn lists() -> MutexGuard<'static, Lists> {
    // No code of the application's runs under the lock.
    LISTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lists {
    fn remove(&mut self, topic: &str, id: u64) {
        if let Some(all) = self.topics.get_mut(topic) {
            all.remove(&id);
            if all.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}

impl Socket {
    /// From now on sends the peer whatever is published under `topic`
    /// ([`Worker::publish`](crate::Worker::publish), by any worker of the cluster), each message
    /// once, as text where it is UTF-8 and else as binary, until [`Socket::unsubscribe`] or the end
    /// of the connection. What is published does not say by itself what it is, since it need not
    /// come from a WebSocket: a peer that must have one kind is better served by a handler of
    /// [`Worker::subscribe`](crate::Worker::subscribe). A connection that does not keep up holds up
    /// no other; one for which 16 MiB wait is closed with 1008. Subscribing twice is subscribing
    /// once.
    ///
    /// # Errors
    ///
    /// When the topic is none (those have 1 to 255 bytes), when this connection subscribes to 100
    /// already, or when it has ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Request, Worker, ws};
    ///
    /// let app = App::new().get("/room/{name}", |request: Request| {
    ///     let room = format!("room {}", request.param("name").unwrap_or_default());
    ///     let joined = room.clone();
    ///     ws::upgrade(&request)
    ///         .on_open(move |socket| {
    ///             if let Err(error) = socket.subscribe(&joined) {
    ///                 socket.close(ws::code::POLICY, &error.to_string());
    ///             }
    ///         })
    ///         .on_message(move |_, message| {
    ///             if let Some(worker) = Worker::current() {
    ///                 let _ = worker.publish(&room, message.into_bytes());
    ///             }
    ///         })
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    pub fn subscribe(&self, topic: &str) -> Result<(), SubscribeError> {
        if !is_topic(topic) {
            return Err(SubscribeError::Topic);
        }
        let mut lists = lists();
        // Under the lock: who ends is closed first, and taken out of the lists then.
        if !self.is_open() {
            return Err(SubscribeError::Closed);
        }
        let topic: Arc<str> = topic.into();
        let own = lists.of.entry(self.id()).or_default();
        if !own.contains(&topic) && own.len() >= MOST_TOPICS {
            return Err(SubscribeError::TooMany);
        }
        own.insert(Arc::clone(&topic));
        let all = lists.topics.entry(topic).or_default();
        all.insert(self.id(), self.clone());
        Ok(())
    }

    /// Ends what [`Socket::subscribe`] began. Whether there was anything to end.
    pub fn unsubscribe(&self, topic: &str) -> bool {
        let mut lists = lists();
        let Some(own) = lists.of.get_mut(&self.id()) else {
            return false;
        };
        let there = own.remove(topic);
        if own.is_empty() {
            lists.of.remove(&self.id());
        }
        lists.remove(topic, self.id());
        there
    }
}

/// A connection has been closed, and subscribes to nothing any more.
pub(super) fn leave(socket: &Socket) {
    let mut lists = lists();
    for topic in lists.of.remove(&socket.id()).unwrap_or_default() {
        lists.remove(&topic, socket.id());
    }
}

/// Sends what was published under `topic` to each connection of this loop that subscribes to it.
/// Never waits, as [`room::deliver`].
pub(crate) fn deliver_topic(topic: &str, payload: &[u8]) {
    let subscribers: Vec<Socket> = match lists().topics.get(topic) {
        Some(all) => all.values().cloned().collect(),
        None => return,
    };
    let mut here = subscribers.iter().filter(|one| room::has(one)).peekable();
    if here.peek().is_none() {
        return;
    }
    let kind = match std::str::from_utf8(payload) {
        Ok(_) => Data::Text,
        Err(_) => Data::Binary,
    };
    let frame: Arc<[u8]> = frames::frame(OpCode::Data(kind), payload).into();
    for socket in here {
        if socket.send_shared(&frame) == Err(SendError::Full) {
            log::debug!("a WebSocket does not keep up with its topics: closed");
            socket.seal(code::POLICY, "does not keep up");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::ws::socket::MOST;

    fn sent(socket: &Socket) -> Vec<u8> {
        let mut out = Vec::new();
        socket.drain_into(&mut out, usize::MAX);
        out
    }

    /// The connection ends, as its session has it.
    fn end(socket: &Socket) {
        socket.ends();
        room::leave(socket);
        leave(socket);
    }

    #[test]
    fn subscribers_get_it_once_and_others_do_not() {
        let (one, other) = (Socket::new(None), Socket::new(None));
        room::enter(&one);
        room::enter(&other);
        for _ in 0..2 {
            assert_eq!(one.subscribe("tests: a"), Ok(()));
        }
        other.subscribe("tests: b").unwrap();
        deliver_topic("tests: a", b"hello");
        deliver_topic("tests: b", b"\xff");
        deliver_topic("tests: c", b"nobody");
        assert_eq!(sent(&one), b"\x81\x05hello");
        assert_eq!(sent(&other), b"\x82\x01\xff");
        assert!(one.unsubscribe("tests: a") && !one.unsubscribe("tests: a"));
        deliver_topic("tests: a", b"again");
        assert_eq!(sent(&one), b"");
        end(&one);
        end(&other);
        assert_eq!(one.subscribe("tests: a"), Err(SubscribeError::Closed));
        let lists = lists();
        assert!(!lists.topics.keys().any(|topic| topic.ends_with(": b")));
        assert!(!lists.of.contains_key(&other.id()));
    }

    #[test]
    fn another_loop_sends_to_its_own() {
        let socket = Socket::new(None);
        room::enter(&socket);
        socket.subscribe("tests: loops").unwrap();
        let elsewhere = std::thread::spawn(|| deliver_topic("tests: loops", b"x"));
        elsewhere.join().unwrap();
        assert_eq!(sent(&socket), b"");
        deliver_topic("tests: loops", b"x");
        assert_eq!(sent(&socket), b"\x81\x01x");
        end(&socket);
    }

    #[test]
    fn topics_have_bounds() {
        let socket = Socket::new(None);
        assert_eq!(socket.subscribe(""), Err(SubscribeError::Topic));
        let long = "x".repeat(256);
        assert_eq!(socket.subscribe(&long), Err(SubscribeError::Topic));
        for number in 0..MOST_TOPICS {
            socket.subscribe(&format!("tests: {number}")).unwrap();
        }
        assert_eq!(socket.subscribe("tests: x"), Err(SubscribeError::TooMany));
        assert_eq!(socket.subscribe("tests: 7"), Ok(()));
        assert!(socket.unsubscribe("tests: 8"));
        assert_eq!(socket.subscribe("tests: x"), Ok(()));
        end(&socket);
        assert!(!lists().of.contains_key(&socket.id()));
    }

    #[test]
    fn one_that_does_not_keep_up_is_closed() {
        let socket = Socket::new(None);
        room::enter(&socket);
        socket.subscribe("tests: much").unwrap();
        for _ in 0..5 {
            deliver_topic("tests: much", &vec![0; MOST / 4]);
        }
        assert!(!socket.is_open());
        assert_eq!(socket.ends().code(), code::POLICY);
        end(&socket);
    }
}
