//! Messages to the WebSocket connections of all workers, which go by way of the primary.
//!
//! Owns whom they are passed on to; leaves the queues to the handles, and the connections to the
//! workers.

use super::{ClusterHandle, Primary};
#[cfg(feature = "websocket")]
use crate::app::ws;
use crate::ipc::user::{Kind, Message, SendError};
use crate::worker::WorkerId;

impl Primary {
    /// Passes on what `from` says to all connections: it has told its own.
    pub(super) fn pass_on(&mut self, from: WorkerId, message: &Message) {
        let _ = self.handle.queue_all(Some(from), message);
    }
}

impl ClusterHandle {
    /// Sends a message to every WebSocket connection of every worker, each once. Never waits: it
    /// queues up for each worker, and there for each connection, and nobody who does not keep up
    /// holds up another. False when there is a worker for which more than 128 KiB are queued.
    ///
    /// # Errors
    ///
    /// When the message is larger than [`MAX_MESSAGE`](crate::MAX_MESSAGE), or far too much is
    /// queued for a worker; the others get it even then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn on_event(cluster: &mcluster::ClusterHandle, event: &mcluster::Event) {
    /// if let mcluster::Event::Reload { .. } = event {
    ///     let _ = cluster.broadcast("a new version is on its way");
    /// }
    /// # }
    /// ```
    #[cfg(feature = "websocket")]
    pub fn broadcast(&self, message: impl Into<ws::Message>) -> Result<bool, ws::SendError> {
        let written = ws::write_down(message.into());
        self.queue_all(None, &Message::from(written))
            .map_err(|error| match error {
                SendError::TooLarge(_) => ws::SendError::TooLarge,
                SendError::Full(_) => ws::SendError::Full,
                SendError::Gone(_) => ws::SendError::Closed,
            })
    }

    /// Queues a broadcast for all workers that can be spoken to, but for one.
    fn queue_all(&self, but: Option<WorkerId>, message: &Message) -> Result<bool, SendError> {
        let mut outcome = Ok(true);
        let workers = self.workers();
        let others = workers.iter().filter(|one| Some(one.id()) != but);
        for worker in others.filter(|one| one.is_connected()) {
            let queued = worker.queue(Kind::Broadcast, message.clone());
            if let Err(error) = &queued {
                log::warn!("a broadcast to worker {} is lost: {error}", worker.id());
            }
            outcome = match (outcome, queued) {
                (Ok(room), Ok(more)) => Ok(room && more),
                (Ok(_), Err(error)) => Err(error),
                (failed, _) => failed,
            };
        }
        outcome
    }
}
