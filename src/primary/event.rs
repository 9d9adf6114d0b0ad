//! What happens in a cluster's life, in Node's words.

use crate::worker::WorkerId;

/// Something that happened, for [`Cluster::on_event`](crate::Cluster::on_event).
///
/// Of one worker: fork, online, listening, exit, in that order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A worker was launched.
    Fork {
        /// Which.
        worker: WorkerId,
    },
    /// A worker runs.
    Online {
        /// Which.
        worker: WorkerId,
        /// Its process.
        pid: i32,
    },
    /// A worker listens.
    Listening {
        /// Which.
        worker: WorkerId,
        /// Where: `http://127.0.0.1:3000`, or `unix:/run/app.sock`.
        address: String,
    },
    /// Every worker listens, for the first time.
    Ready {
        /// Where, each listener once.
        addresses: Vec<String>,
    },
    /// A worker is gone.
    Exit {
        /// Which.
        worker: WorkerId,
        /// The process it ran in.
        pid: i32,
        /// How it ended, in words: `code 0`, `signal 9 (SIGKILL)`, `panic: ..`.
        how: String,
        /// Whether it ended in good order.
        in_order: bool,
    },
}
