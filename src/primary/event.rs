//! What happens in a cluster's life, in Node's words.

use super::{Mode, SchedulingPolicy};
use crate::ipc::user::Message;
use crate::worker::WorkerId;
use std::time::Duration;

/// What a cluster runs by: told once, before the first worker is forked, and the same from then
/// on but for what is changed by name. (`cluster.settings`)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// What carries a worker.
    pub mode: Mode,
    /// How many workers there will be; 0 when the application forks them by itself.
    pub workers: usize,
    /// Who accepts connections.
    pub schedule: SchedulingPolicy,
    /// Where the cluster listens.
    pub addresses: Vec<String>,
    /// Threads of each worker for CPU-heavy handlers.
    pub pool: usize,
    /// How long workers may finish.
    pub drain_timeout: Duration,
}

/// Something that happened, for [`Cluster::on_event`](crate::Cluster::on_event).
///
/// Of one worker: fork, online, listening (once an address), then messages, disconnect, exit; in
/// that order, and the last two once each, however it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The cluster is about to begin. (`setup`)
    Setup {
        /// What it runs by.
        settings: Settings,
    },
    /// A worker was launched. (`fork`)
    Fork {
        /// Which.
        worker: WorkerId,
    },
    /// A worker runs; its application has not done anything yet. (`online`)
    Online {
        /// Which.
        worker: WorkerId,
        /// Its process.
        pid: i32,
    },
    /// A worker listens. (`listening`)
    Listening {
        /// Which.
        worker: WorkerId,
        /// Where, such as `http://127.0.0.1:3000`.
        address: String,
    },
    /// All workers listen on everything for the first time.
    Ready {
        /// Where.
        addresses: Vec<String>,
    },
    /// A worker has sent a message. (`message`)
    Message {
        /// Which.
        worker: WorkerId,
        /// What it sent.
        message: Message,
    },
    /// There is room again for messages to a worker, after
    /// [`WorkerHandle::send`](crate::WorkerHandle::send) said that there was too little. (`drain`)
    Drain {
        /// Which.
        worker: WorkerId,
    },
    /// A worker can no longer be spoken to. (`disconnect`)
    Disconnect {
        /// Which.
        worker: WorkerId,
    },
    /// A worker is gone. (`exit`)
    Exit {
        /// Which.
        worker: WorkerId,
        /// The process that it ran in.
        pid: i32,
        /// The exit status, unless a signal ended it. A thread has 0, or 101 after a panic, or 1.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Both in words, with the cause where it is known.
        how: String,
        /// It had been told, or had asked, to go. (`worker.exitedAfterDisconnect`)
        exited_after_disconnect: bool,
    },
    /// A reload began, or ended.
    Reload {
        /// How far it is.
        reload: Reload,
    },
}

/// How far a reload is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reload {
    /// It has begun.
    Began,
    /// All workers are new.
    Done,
    /// A new worker never listened, so the old ones stay.
    Failed {
        /// What became of the new one.
        why: String,
    },
}
