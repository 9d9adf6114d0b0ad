//! The cluster and its workers as the application sees them in the primary.
//!
//! A handle never acts by itself: what is asked for is noted and done by the primary's loop before
//! it waits again, so that callbacks may ask for anything at any time.

use super::SchedulingPolicy;
use super::event::Settings;
use super::supervisor::next_id;
use crate::ipc::user::{HIGH_WATER, Kind, MAX_MESSAGE, MAX_QUEUED, Message, SendError};
use crate::net::Tally;
use crate::sorted::SortedMap;
use crate::worker::WorkerId;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use unsent::Unsent;

#[cfg(test)]
mod tests;
mod unsent;

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Launched, or about to be. (`none`)
    Forked,
    /// It runs.
    Online,
    /// It listens.
    Listening,
    /// It finishes what it has, or can no longer be spoken to. (`disconnected`)
    Disconnecting,
    /// It is gone.
    Dead,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forked => "forked",
            Self::Online => "online",
            Self::Listening => "listening",
            Self::Disconnecting => "disconnecting",
            Self::Dead => "dead",
        })
    }
}

/// Called once something has come about.
pub(super) type Callback = Box<dyn FnOnce(&ClusterHandle)>;

/// Something asked of the primary's loop.
pub(super) enum Wish {
    Fork {
        id: WorkerId,
        env: Vec<(String, String)>,
    },
    Send {
        id: WorkerId,
    },
    Disconnect {
        id: WorkerId,
    },
    Kill {
        id: WorkerId,
        signal: i32,
    },
    DisconnectAll {
        done: Callback,
    },
    Scale {
        workers: usize,
    },
    Reload,
    Restart,
    Schedule {
        policy: SchedulingPolicy,
    },
    Stop,
}

#[derive(Default)]
pub(super) struct Shared {
    #[cfg(feature = "redis")]
    pub(super) relay: RefCell<super::link::Relay>,
    wishes: RefCell<VecDeque<Wish>>,
    workers: RefCell<SortedMap<WorkerId, WorkerHandle>>,
    last_id: OnceCell<Rc<Cell<u32>>>,
    settings: OnceCell<Settings>,
}

/// A running cluster, as callbacks in its primary see it: Node's `cluster`.
///
/// What it is asked for is done when the callback has returned.
///
/// # Examples
///
/// A cluster whose workers the application manages: two, and another for each that dies by
/// accident.
///
/// ```no_run
/// use mcluster::{App, Cluster, Event};
///
/// # fn main() -> mcluster::Result<()> {
/// Cluster::new(App::new())
///     .managed(false)
///     .on_event(|cluster, event| match event {
///         Event::Setup { .. } => {
///             cluster.fork();
///             cluster.fork();
///         }
///         Event::Exit { exited_after_disconnect: false, .. } => {
///             cluster.fork();
///         }
///         _ => {}
///     })
///     .run()
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ClusterHandle(pub(super) Rc<Shared>);

impl fmt::Debug for ClusterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.0.workers.borrow();
        f.debug_struct("ClusterHandle")
            .field("workers", &workers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl ClusterHandle {
    pub(super) fn begin(&self, last_id: Rc<Cell<u32>>, settings: Settings) {
        let _ = self.0.last_id.set(last_id);
        let _ = self.0.settings.set(settings);
    }

    /// What the cluster runs by; `None` before [`Event::Setup`](crate::Event::Setup).
    pub fn settings(&self) -> Option<&Settings> {
        self.0.settings.get()
    }

    /// The workers that are not gone, in the order of their ids. (`cluster.workers`)
    pub fn workers(&self) -> Vec<WorkerHandle> {
        self.0.workers.borrow().values().cloned().collect()
    }

    /// One of them. (`cluster.workers[id]`)
    pub fn worker(&self, id: WorkerId) -> Option<WorkerHandle> {
        self.0.workers.borrow().get(&id).cloned()
    }

    /// One worker more, which is launched when the callback has returned. In a cluster that
    /// manages its workers it is kept alive like the others. Where workers crash in a row, or cannot
    /// be launched, the launch of the next waits, longer each time. (`cluster.fork()`)
    pub fn fork(&self) -> WorkerHandle {
        self.fork_with([])
    }

    /// The same, with variables added to the environment of its process; in threads mode they are
    /// ignored, with a line in the log. A name that no variable can have makes the fork fail, which
    /// comes as its [`Event::Exit`](crate::Event::Exit). (`cluster.fork(env)`)
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn on_setup(cluster: &mcluster::ClusterHandle) {
    /// cluster.fork_with([("ROLE", "web")]);
    /// cluster.fork_with([("ROLE", "mail")]);
    /// # }
    /// ```
    pub fn fork_with<const N: usize>(&self, env: [(&str, &str); N]) -> WorkerHandle {
        let id = next_id(self.0.last_id.get_or_init(Rc::default));
        let handle = self.add(id);
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.wish(Wish::Fork {
            id,
            env: env.into(),
        });
        handle
    }

    /// Sends a message to every worker that can be spoken to. (No such call in Node, where one
    /// loops over `cluster.workers`.)
    ///
    /// # Errors
    ///
    /// The first that fails; the others have it all the same.
    pub fn send_all(&self, message: impl Into<Message>) -> Result<bool, SendError> {
        let message = message.into();
        let mut outcome = Ok(true);
        for worker in self.workers().iter().filter(|worker| worker.is_connected()) {
            outcome = match (outcome, worker.send(message.clone())) {
                (Ok(room), Ok(more)) => Ok(room && more),
                (Ok(_), Err(error)) => Err(error),
                (failed, _) => failed,
            };
        }
        outcome
    }

    /// Has all workers finish and go; `done` is called when the last of them is gone (in Node it
    /// is called when the first is). None is replaced, and the cluster ends, unless `done` forks, or
    /// scales: then it manages its workers again. (`cluster.disconnect()`)
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn on_message(cluster: &mcluster::ClusterHandle, message: &mcluster::Message) {
    /// if message.text() == Some("enough") {
    ///     cluster.disconnect(|_| println!("all workers are gone"));
    /// }
    /// # }
    /// ```
    pub fn disconnect(&self, done: impl FnOnce(&ClusterHandle) + 'static) {
        let done = Box::new(done);
        self.wish(Wish::DisconnectAll { done });
    }

    /// So many workers from now on, which the cluster then manages, even if the application did;
    /// what is wrong with the number goes to the log.
    pub fn scale(&self, workers: usize) {
        self.wish(Wish::Scale { workers });
    }

    /// Replaces all workers, each when its successor listens. The outcome comes as
    /// [`Event::Reload`](crate::Event::Reload). Refused, with a line in the log, while another is
    /// under way, and where the application manages its workers.
    pub fn reload(&self) {
        self.wish(Wish::Reload);
    }

    /// Replaces all workers at once: the old ones finish while the new ones start. Refused, with a
    /// line in the log, where the application manages its workers.
    pub fn restart(&self) {
        self.wish(Wish::Restart);
    }

    /// Another policy from now on, for a cluster at work: no connection is lost. Refused, with a
    /// line in the log, where its name of a cookie or of a key makes no sense.
    pub fn set_schedule(&self, policy: SchedulingPolicy) {
        self.wish(Wish::Schedule { policy });
    }

    /// Stops the cluster in an orderly way; called twice, at once.
    pub fn stop(&self) {
        self.wish(Wish::Stop);
    }

    fn wish(&self, wish: Wish) {
        self.0.wishes.borrow_mut().push_back(wish);
    }

    /// Loop: whether anything was asked for.
    pub(super) fn has_wishes(&self) -> bool {
        !self.0.wishes.borrow().is_empty()
    }

    /// Loop: what was asked for next.
    pub(super) fn next_wish(&self) -> Option<Wish> {
        self.0.wishes.borrow_mut().pop_front()
    }

    /// Loop: a new worker; the same one when it is known.
    pub(super) fn add(&self, id: WorkerId) -> WorkerHandle {
        let new = || {
            WorkerHandle(Rc::new(Record {
                id,
                pid: Cell::new(None),
                state: Cell::new(WorkerState::Forked),
                connected: Cell::new(true),
                leaving: Cell::new(false),
                unsent: RefCell::default(),
                queued: Cell::new(0),
                full: Cell::new(false),
                lost: RefCell::default(),
                cluster: self.clone(),
            }))
        };
        let mut workers = self.0.workers.borrow_mut();
        workers.get_or_insert_with(id, new).clone()
    }

    /// Loop: it is gone.
    pub(super) fn remove(&self, id: WorkerId) {
        self.0.workers.borrow_mut().remove(&id);
    }

    /// Loop: forgets everything, so that no circle of handles outlives the cluster.
    pub(super) fn clear(&self) {
        self.0.workers.borrow_mut().clear();
        self.0.wishes.borrow_mut().clear();
    }
}

struct Record {
    id: WorkerId,
    pid: Cell<Option<i32>>,
    state: Cell<WorkerState>,
    connected: Cell<bool>,
    /// It was told, or has asked, to go.
    leaving: Cell<bool>,
    /// Messages that the loop has not seen.
    unsent: RefCell<Unsent>,
    /// Bytes that the loop has seen, and that wait there.
    queued: Cell<usize>,
    /// Somebody was told to pause, and waits for word that there is room again.
    full: Cell<bool>,
    /// Messages that it missed since too much waited.
    lost: RefCell<Tally>,
    cluster: ClusterHandle,
}

/// One worker, as its primary sees it: Node's `cluster.Worker`. Clones are the same worker; one
/// that is kept after the worker's end says how things are: dead.
///
/// # Examples
///
/// As much as there is room for, and more when there is room again:
///
/// ```no_run
/// use mcluster::{App, Cluster, Event};
///
/// # fn main() -> mcluster::Result<()> {
/// let mut numbers = 0..1_000_000;
/// Cluster::new(App::new())
///     .on_worker(|worker| worker.on_message(|_, message| println!("{message:?}")))
///     .on_event(move |cluster, event| {
///         if let Event::Online { worker, .. } | Event::Drain { worker } = event
///             && let Some(worker) = cluster.worker(*worker)
///         {
///             // False once there is too little room.
///             numbers.any(|number| worker.send(number.to_string()) != Ok(true));
///         }
///     })
///     .run()
/// # }
/// ```
#[derive(Clone)]
pub struct WorkerHandle(Rc<Record>);

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle")
            .field("id", &self.0.id)
            .field("pid", &self.0.pid)
            .field("state", &self.0.state)
            .finish_non_exhaustive()
    }
}

impl WorkerHandle {
    /// Its number, from 1 and never used again. (`worker.id`)
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// The process that it runs in; `None` until it has been launched. (`worker.process.pid`)
    pub fn pid(&self) -> Option<i32> {
        self.0.pid.get()
    }

    /// What it is at. (`worker.state`)
    pub fn state(&self) -> WorkerState {
        self.0.state.get()
    }

    /// Whether it can be spoken to. (`worker.isConnected()`)
    pub fn is_connected(&self) -> bool {
        self.0.connected.get()
    }

    /// Whether it is gone. (`worker.isDead()`)
    pub fn is_dead(&self) -> bool {
        self.state() == WorkerState::Dead
    }

    /// Whether it went because it was told, or had asked, to go; `None` while it lives.
    /// (`worker.exitedAfterDisconnect`)
    pub fn exited_after_disconnect(&self) -> Option<bool> {
        self.is_dead().then(|| self.0.leaving.get())
    }

    /// Sends it a message, for [`Worker::on_message`](crate::Worker::on_message). Never waits:
    /// messages queue up here until the worker takes them, in order. False when more than 128 KiB
    /// are queued: worth a pause until [`Event::Drain`](crate::Event::Drain). (`worker.send`)
    ///
    /// # Errors
    ///
    /// Gives the message back when it is larger than [`MAX_MESSAGE`](crate::MAX_MESSAGE), when far
    /// too much is queued, or when the worker cannot be spoken to.
    pub fn send(&self, message: impl Into<Message>) -> Result<bool, SendError> {
        let room = self.queue(Kind::Message, message.into())?;
        self.0.full.set(self.0.full.get() || !room);
        Ok(room)
    }

    /// The same of any kind, with nobody who waits for room.
    pub(super) fn queue(&self, kind: Kind, message: Message) -> Result<bool, SendError> {
        if !self.is_connected() {
            return Err(SendError::Gone(message));
        }
        if message.bytes().len() > MAX_MESSAGE {
            return Err(SendError::TooLarge(message));
        }
        if self.0.unsent.borrow().held() + self.0.queued.get() > MAX_QUEUED {
            return Err(SendError::Full(message));
        }
        if self.0.unsent.borrow_mut().push(kind, message) {
            self.0.cluster.wish(Wish::Send { id: self.0.id });
        }
        Ok(self.waiting() <= HIGH_WATER)
    }

    /// What waits for it, in bytes.
    fn waiting(&self) -> usize {
        self.0.unsent.borrow().bytes() + self.0.queued.get()
    }

    /// Has it finish what it has and go; its idle connections go to others. Messages that were sent
    /// before still reach it, if it has a handler for them and the time for it.
    /// (`worker.disconnect()`)
    pub fn disconnect(&self) {
        self.0.cluster.wish(Wish::Disconnect { id: self.0.id });
    }

    /// Sends its process a signal, such as `libc::SIGTERM`; a worker that is a thread cannot get
    /// one, and is told to go instead. (`worker.kill()`)
    pub fn kill(&self, signal: i32) {
        let id = self.0.id;
        self.0.cluster.wish(Wish::Kill { id, signal });
    }

    /// Loop: a message that the application has sent.
    pub(super) fn next_unsent(&self) -> Option<(Kind, Message)> {
        self.0.unsent.borrow_mut().pop()
    }

    /// Loop: so many bytes wait there. Whether somebody who was told to pause should go on.
    pub(super) fn set_queued(&self, bytes: usize) -> bool {
        self.0.queued.set(bytes);
        let room = self.waiting() <= HIGH_WATER / 2;
        if room {
            self.tell_losses();
        }
        room && self.0.full.replace(false)
    }

    /// It misses a message that it should have had: one line for many.
    pub(super) fn misses(&self, why: &SendError) {
        if let Some(count) = self.0.lost.borrow_mut().add(1, Instant::now()) {
            log::warn!("{count} messages to worker {} are lost: {why}", self.0.id);
        }
    }

    /// It has caught up, or never will: what was lost since the last line.
    fn tell_losses(&self) {
        let count = self.0.lost.borrow_mut().rest();
        if count > 0 {
            log::warn!("{count} more messages to worker {} were lost", self.0.id);
        }
    }

    pub(super) fn set_pid(&self, pid: i32) {
        self.0.pid.set(Some(pid));
    }

    /// Loop: it is further on its way. A worker never goes back.
    pub(super) fn set_state(&self, state: WorkerState) {
        if self.0.state.get() as u8 <= state as u8 {
            self.0.state.set(state);
        }
        if state == WorkerState::Dead {
            self.0.connected.set(false);
        }
    }

    pub(super) fn set_leaving(&self) {
        self.0.leaving.set(true);
        self.set_state(WorkerState::Disconnecting);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.0.leaving.get()
    }

    /// Loop: it can no longer be spoken to. Whether that is new.
    pub(super) fn set_disconnected(&self) -> bool {
        self.set_state(WorkerState::Disconnecting);
        self.tell_losses();
        self.0.connected.replace(false)
    }
}
