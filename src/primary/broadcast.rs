//! Messages to the WebSocket connections of all workers, and to the subscribers of a topic, which
//! go by way of the primary.
//!
//! Owns whom they are passed on to; leaves the queues to the handles, connections and subscribers to
//! the workers, and other clusters to `link`.

use super::{ClusterHandle, Primary};
#[cfg(feature = "websocket")]
use crate::app::ws;
use crate::ipc::topic::Publication;
use crate::ipc::user::{Kind, Message, SendError};
use crate::worker::WorkerId;

impl Primary {
    /// Passes on what `from` says to all connections: it has told its own.
    pub(super) fn pass_on(&mut self, from: WorkerId, message: &Message) {
        let _ = self.handle.queue_all(Kind::Broadcast, Some(from), message);
    }

    /// Passes on what a worker publishes: to all, itself included, so that all hear the same in the
    /// same order; and to other clusters.
    pub(super) fn publish(&mut self, written: &Message) {
        let _ = self.handle.queue_all(Kind::Publish, None, written);
        self.handle.relay(written.bytes());
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
        self.queue_all(Kind::Broadcast, None, &Message::from(written))
            .map_err(ws::SendError::from)
    }

    /// Publishes a message under a topic: every [`Worker::subscribe`](crate::Worker::subscribe)r of
    /// it in every worker gets it once, and so do the WebSocket connections that subscribe. See
    /// [`Worker::publish`](crate::Worker::publish). Never waits: it queues up for each worker, and
    /// nobody who does not keep up holds up another. False when there is a worker for which more
    /// than 128 KiB are queued.
    ///
    /// # Errors
    ///
    /// When the topic is none or the message too large, it comes back and nobody gets it; when far
    /// too much is queued for a worker, the others get it all the same.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn on_event(cluster: &mcluster::ClusterHandle, event: &mcluster::Event) {
    /// if let mcluster::Event::Reload { .. } = event {
    ///     let _ = cluster.publish("cache", "all of it");
    /// }
    /// # }
    /// ```
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> Result<bool, SendError> {
        let message = message.into();
        let written = Publication::new(topic, message.clone())?.into_written();
        self.relay(written.bytes());
        self.queue_all(Kind::Publish, None, &written)
            .map_err(|error| match error {
                SendError::Full(_) => SendError::Full(message),
                other => other,
            })
    }

    /// Queues something for all workers that can be spoken to, but for one. Also for those that
    /// leave: what they finish may wait for it, such as an answer that comes with the next news. But
    /// it is not what they stay for; see [`Outbox::awaited`](crate::ipc::user::Outbox::awaited).
    pub(super) fn queue_all(
        &self,
        kind: Kind,
        but: Option<WorkerId>,
        message: &Message,
    ) -> Result<bool, SendError> {
        let mut outcome = Ok(true);
        let workers = self.workers();
        let others = workers.iter().filter(|one| Some(one.id()) != but);
        for worker in others.filter(|one| one.is_connected()) {
            let queued = worker.queue(kind, message.clone());
            if let Err(error) = &queued {
                worker.misses(error);
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
