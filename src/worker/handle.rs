//! A worker as its own application sees it: Node's `cluster.worker`.
//!
//! Owns what handlers on any thread ask of their worker's loop; leaves doing it to the loop.

use super::topics::Subscriptions;
use super::{StopReason, WorkerId};
#[cfg(feature = "websocket")]
use crate::app::ws;
use crate::ipc::user::{HIGH_WATER, Kind, Message, Outbox, SendError};
use crate::net::{Listen, Waker};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

type OnMessage = Box<dyn FnMut(&Worker, Message) + Send>;
type OnDrain = Box<dyn FnMut(&Worker) + Send>;
type OnDisconnect = Box<dyn FnOnce(&Worker, StopReason) + Send>;
/// Told where a worker listens, or why it cannot.
pub(super) type Listened = Box<dyn FnOnce(&Worker, io::Result<String>) + Send>;

thread_local! {
    static CURRENT: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// Something asked of the loop.
pub(super) enum Wish {
    Listen {
        listen: Listen,
        exclusive: bool,
        done: Listened,
    },
    /// To the connections of this worker, what has gone to those of all others.
    Broadcast(Message),
    Disconnect,
}

#[derive(Default)]
pub(super) struct State {
    /// Who in this worker hears what is published.
    pub(super) subscriptions: Subscriptions,
    outbox: Outbox,
    wishes: VecDeque<Wish>,
    on_message: Option<OnMessage>,
    on_drain: Option<OnDrain>,
    on_disconnect: Vec<OnDisconnect>,
    /// Somebody was told to pause, and waits for word that there is room again.
    full: bool,
    stopping: Option<StopReason>,
}

struct Shared {
    id: WorkerId,
    place: usize,
    waker: Waker,
    /// The loop's thread, which needs no waking.
    thread: OnceLock<ThreadId>,
    /// There is something for the loop to look at.
    poked: AtomicBool,
    connected: AtomicBool,
    state: Mutex<State>,
}

/// The worker that this code runs in. Clones are the same worker; any thread may use one.
///
/// # Examples
///
/// ```no_run
/// use mcluster::{App, Cluster, Worker};
///
/// # fn main() -> mcluster::Result<()> {
/// let app = App::new().get("/tell", |_| {
///     let worker = Worker::current().expect("handlers run in workers");
///     match worker.send("somebody came") {
///         Ok(_) => "told\n".to_owned(),
///         Err(error) => format!("{error}\n"),
///     }
/// });
/// Cluster::new(app)
///     .on_worker(|worker| worker.on_message(|worker, message| {
///         println!("worker {} was told {:?}", worker.id(), message.text());
///     }))
///     .run()
/// # }
/// ```
#[derive(Clone)]
pub struct Worker(Arc<Shared>);

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.0.id)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Worker {
    pub(super) fn new(id: WorkerId, place: usize, waker: Waker) -> Self {
        Self(Arc::new(Shared {
            id,
            place,
            waker,
            thread: OnceLock::new(),
            poked: AtomicBool::new(false),
            connected: AtomicBool::new(true),
            state: Mutex::default(),
        }))
    }

    /// The worker of this thread: of its loop, or of its pool. `None` in the primary, and on
    /// threads that the application started by itself. (`cluster.worker`)
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Makes this thread one of the worker's: its loop, or one of its pool.
    pub(super) fn enter(&self, is_loop: bool) {
        if is_loop {
            let _ = self.0.thread.set(std::thread::current().id());
        }
        CURRENT.set(Some(self.clone()));
    }

    /// Its number, from 1 and never used again. (`worker.id`)
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    pub(super) fn place(&self) -> usize {
        self.0.place
    }

    /// Whether the primary can be reached. (`worker.isConnected()`)
    pub fn is_connected(&self) -> bool {
        self.0.connected.load(Ordering::Acquire)
    }

    /// Whether it has begun to stop by the primary's word or its own, rather than by accident.
    /// (`worker.exitedAfterDisconnect`)
    pub fn exited_after_disconnect(&self) -> bool {
        let stopping = self.state().stopping;
        stopping.is_some_and(|reason| reason != StopReason::Orphaned)
    }

    /// Sends a message to the primary, which gets it as
    /// [`Event::Message`](crate::Event::Message). Never waits: messages queue up here until the
    /// primary takes them, in order. False when more than 128 KiB are queued: worth a pause until
    /// [`Worker::on_drain`]. (`process.send`)
    ///
    /// # Errors
    ///
    /// Gives the message back when it is larger than [`MAX_MESSAGE`](crate::MAX_MESSAGE), when far
    /// too much is queued, or when the primary is gone.
    pub fn send(&self, message: impl Into<Message>) -> Result<bool, SendError> {
        self.push(Kind::Message, message.into(), None)
    }

    /// Sends a message to every WebSocket connection of every worker of the cluster, those of this
    /// one included, each once. Never waits: it queues up on its way and for each connection, and
    /// a connection that does not keep up holds up no other; one for which 16 MiB wait is closed
    /// with 1008. False when more than 128 KiB are queued here: worth a pause until
    /// [`Worker::on_drain`].
    ///
    /// # Errors
    ///
    /// When the message is larger than [`MAX_MESSAGE`](crate::MAX_MESSAGE), when far too much is
    /// queued, or when the primary is gone; then nobody gets it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Request, Worker};
    ///
    /// let app = App::new().post("/announce", |request: Request| {
    ///     let worker = Worker::current().expect("handlers run in workers");
    ///     match worker.broadcast(String::from_utf8_lossy(request.body()).as_ref()) {
    ///         Ok(_) => (202, "on its way\n".to_owned()),
    ///         Err(error) => (503, format!("{error}\n")),
    ///     }
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    #[cfg(feature = "websocket")]
    pub fn broadcast(&self, message: impl Into<ws::Message>) -> Result<bool, ws::SendError> {
        let written = Message::from(ws::write_down(message.into()));
        let wish = Wish::Broadcast(written.clone());
        let sent = self.push(Kind::Broadcast, written, Some(wish));
        sent.map_err(ws::SendError::from)
    }

    /// Puts something into the stream to the primary, and has the loop see to it.
    pub(super) fn push(
        &self,
        kind: Kind,
        message: Message,
        wish: Option<Wish>,
    ) -> Result<bool, SendError> {
        if !self.is_connected() {
            return Err(SendError::Gone(message));
        }
        let mut state = self.state();
        let room = state.outbox.push(kind, message)?;
        state.full |= !room;
        state.wishes.extend(wish);
        drop(state);
        self.poke();
        Ok(room)
    }

    /// Calls `handler` with each message of the primary, on the worker's loop: it should not
    /// take long. Messages that came before the first handler was set are kept for it; a later
    /// handler takes the place of the one before. A panic of it ends the worker, as an uncaught
    /// exception does in Node. (`process.on('message')`)
    pub fn on_message(&self, handler: impl FnMut(&Worker, Message) + Send + 'static) {
        self.state().on_message = Some(Box::new(handler));
        self.poke();
    }

    /// Calls `handler`, on the loop, when [`Worker::send`] has said false and there is room again.
    pub fn on_drain(&self, handler: impl FnMut(&Worker) + Send + 'static) {
        self.state().on_drain = Some(Box::new(handler));
    }

    /// Calls `handler`, on the loop, when this worker begins to stop, with the reason. What is in
    /// flight is still finished, and messages that it sends still arrive (unless the primary is
    /// the one that is gone). (`process.on('disconnect')`)
    pub fn on_disconnect(&self, handler: impl FnOnce(&Worker, StopReason) + Send + 'static) {
        let mut state = self.state();
        match state.stopping {
            None => state.on_disconnect.push(Box::new(handler)),
            Some(reason) => {
                drop(state);
                handler(self, reason);
            }
        }
    }

    /// Leaves: takes nothing new, finishes what is in flight, and ends. Connections between two
    /// requests go to other workers. A second call changes nothing. (`worker.disconnect()`)
    pub fn disconnect(&self) {
        self.wish(Wish::Disconnect);
    }

    /// Listens on one more address, in the words that [`Cluster::listen`](crate::Cluster::listen)
    /// takes. The primary makes the listener once and all workers that ask share it, by the
    /// cluster's policy; the n-th port 0 of each worker is the same one. `done` is called on the
    /// loop with the real address, or with what is wrong; not if the worker ends before. A name
    /// stands for its first address. All workers together have 64 listeners made at most; where
    /// they run as another user than the primary, neither paths nor descriptors nor ports below
    /// 1024: those belong in the cluster's settings. (`server.listen`)
    ///
    /// # Errors
    ///
    /// When the words are no address; then `done` is not called.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mcluster::{App, Cluster};
    ///
    /// # fn main() -> mcluster::Result<()> {
    /// Cluster::new(App::new())
    ///     .listen_by_workers()
    ///     .on_worker(|worker| {
    ///         let asked = worker.listen("127.0.0.1:0", |worker, outcome| match outcome {
    ///             Ok(url) => println!("worker {} listens on {url}", worker.id()),
    ///             Err(error) => println!("worker {} cannot listen: {error}", worker.id()),
    ///         });
    ///         asked.expect("an address");
    ///     })
    ///     .run()
    /// # }
    /// ```
    pub fn listen(
        &self,
        address: impl fmt::Display,
        done: impl FnOnce(&Worker, io::Result<String>) + Send + 'static,
    ) -> Result<(), String> {
        self.wish_to_listen(&address.to_string(), false, Box::new(done))
    }

    /// Like [`Worker::listen`], but for this worker alone, without the primary: a second worker
    /// that asks for the same address is told that it is in use. Its idle connections close when it
    /// leaves. (`exclusive: true`)
    ///
    /// # Errors
    ///
    /// As [`Worker::listen`].
    pub fn listen_exclusive(
        &self,
        address: impl fmt::Display,
        done: impl FnOnce(&Worker, io::Result<String>) + Send + 'static,
    ) -> Result<(), String> {
        self.wish_to_listen(&address.to_string(), true, Box::new(done))
    }

    fn wish_to_listen(&self, words: &str, exclusive: bool, done: Listened) -> Result<(), String> {
        let listen = words.parse()?;
        self.wish(Wish::Listen {
            listen,
            exclusive,
            done,
        });
        Ok(())
    }

    fn wish(&self, wish: Wish) {
        self.state().wishes.push_back(wish);
        self.poke();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No code of the application's runs under the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poke(&self) {
        let own = self.0.thread.get() == Some(&std::thread::current().id());
        if !self.0.poked.swap(true, Ordering::AcqRel) && !own {
            self.0.waker.wake();
        }
    }

    /// Loop: whether somebody wants something, and has not been heard.
    pub(super) fn is_poked(&self) -> bool {
        self.0.poked.load(Ordering::Acquire)
    }

    /// Loop: whether somebody wants something.
    pub(super) fn take_poke(&self) -> bool {
        // Read first: a swap would take the cache line on every turn.
        self.is_poked() && self.0.poked.swap(false, Ordering::AcqRel)
    }

    /// Loop: what was asked for next.
    pub(super) fn next_wish(&self) -> Option<Wish> {
        self.state().wishes.pop_front()
    }

    /// Loop: the next piece of what is being sent.
    pub(super) fn next_piece(&self) -> Option<Vec<u8>> {
        self.state().outbox.next_piece()
    }

    /// Loop: whether everything that was sent is out.
    pub(super) fn all_sent(&self) -> bool {
        self.state().outbox.is_empty()
    }

    /// Loop: the primary has taken `pieces`; says so to whoever waits for room.
    pub(super) fn took(&self, pieces: u32) {
        let mut state = self.state();
        state.outbox.took(pieces);
        if !state.full || state.outbox.queued() > HIGH_WATER / 2 {
            return;
        }
        state.full = false;
        let Some(mut handler) = state.on_drain.take() else {
            return;
        };
        drop(state);
        handler(self);
        self.state().on_drain.get_or_insert(handler);
    }

    /// Loop: whether the application has a handler for messages.
    pub(super) fn wants_messages(&self) -> bool {
        self.state().on_message.is_some()
    }

    /// Loop: delivers `messages`; false, and nothing is taken, while nobody wants them.
    pub(super) fn deliver(&self, messages: &mut VecDeque<Message>) -> bool {
        if messages.is_empty() {
            return true;
        }
        let Some(mut handler) = self.state().on_message.take() else {
            return false;
        };
        while let Some(message) = messages.pop_front() {
            handler(self, message);
            // It may have named its own successor.
            if let Some(other) = self.state().on_message.take() {
                handler = other;
            }
        }
        self.state().on_message.get_or_insert(handler);
        true
    }

    /// Loop: it begins to stop.
    pub(super) fn stops(&self, reason: StopReason) {
        if reason == StopReason::Orphaned {
            self.closed();
        }
        self.state().stopping = Some(reason);
        let handlers = std::mem::take(&mut self.state().on_disconnect);
        for handler in handlers {
            handler(self, reason);
        }
    }

    /// Loop: nothing can be said to the primary any more.
    pub(super) fn closed(&self) {
        self.0.connected.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Reactor;
    use std::sync::mpsc::channel;

    fn worker(reactor: &Reactor) -> Worker {
        Worker::new(WorkerId(3), 2, reactor.waker(1).unwrap())
    }

    #[test]
    fn early_messages_wait_for_the_first_handler() {
        let reactor = Reactor::new().unwrap();
        let worker = worker(&reactor);
        let mut early: VecDeque<Message> = ["a", "b", "c"].map(Message::from).into();
        assert!(!worker.deliver(&mut early));
        let (seen, all) = channel();
        worker.on_message(move |worker, message| {
            seen.send(format!("{} {}", worker.id(), message.text().unwrap()))
                .unwrap();
            // From here on another one.
            let seen = seen.clone();
            worker.on_message(move |_, message| {
                seen.send(format!("other {}", message.text().unwrap()))
                    .unwrap();
            });
        });
        assert!(worker.take_poke() && !worker.take_poke());
        assert!(worker.deliver(&mut early) && early.is_empty());
        let seen: Vec<_> = all.try_iter().collect();
        assert_eq!(seen, ["3 a", "other b", "other c"]);
    }

    #[test]
    fn a_sender_is_told_to_pause_and_to_go_on() {
        let reactor = Reactor::new().unwrap();
        let worker = worker(&reactor);
        let (told, drained) = channel();
        worker.on_drain(move |_| told.send(()).unwrap());
        assert_eq!(worker.send("little"), Ok(true));
        assert_eq!(worker.send(vec![0; HIGH_WATER]), Ok(false));
        while worker.next_piece().is_some() {
            worker.took(1);
        }
        assert!(worker.all_sent());
        assert_eq!(drained.try_iter().count(), 1, "once");
        worker.closed();
        let back = worker.send("late").unwrap_err();
        assert_eq!(back.into_message().text(), Some("late"));
    }

    #[test]
    fn the_reason_reaches_those_who_ask_before_and_after() {
        let reactor = Reactor::new().unwrap();
        let worker = worker(&reactor);
        let (told, reasons) = channel();
        let later = told.clone();
        worker.on_disconnect(move |_, reason| told.send(reason).unwrap());
        assert!(!worker.exited_after_disconnect());
        worker.stops(StopReason::Disconnected);
        worker.on_disconnect(move |_, reason| later.send(reason).unwrap());
        let reasons: Vec<_> = reasons.try_iter().collect();
        assert_eq!(reasons, [StopReason::Disconnected; 2]);
        assert!(worker.exited_after_disconnect());
    }

    #[test]
    fn a_thread_knows_its_worker() {
        let reactor = Reactor::new().unwrap();
        let worker = worker(&reactor);
        std::thread::spawn(move || {
            assert!(Worker::current().is_none());
            worker.enter(false);
            assert_eq!(Worker::current().map(|one| one.id()), Some(WorkerId(3)));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn words_that_are_no_address_are_refused_at_once() {
        let reactor = Reactor::new().unwrap();
        let worker = worker(&reactor);
        assert!(worker.listen("nowhere", |_, _| ()).is_err());
        assert!(worker.next_wish().is_none());
        assert!(worker.listen(":0", |_, _| ()).is_ok());
        assert!(matches!(worker.next_wish(), Some(Wish::Listen { .. })));
    }
}
