//! Topics as a worker's application sees them: it publishes, and subscribes.
//!
//! Owns who in this worker hears what; leaves the way through the cluster to the stream and the
//! primary, and WebSocket connections that subscribe to `app::ws`.

use super::Worker;
use crate::ipc::topic::{Publication, SubscribeError, is_topic};
use crate::ipc::user::{Kind, Message, SendError};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type OnPublication = Box<dyn FnMut(&Worker, &Publication) + Send>;

/// One handler of one topic.
struct Entry {
    live: AtomicBool,
    /// Called by the loop alone, one publication at a time: so nobody waits for it.
    handler: Mutex<OnPublication>,
}

/// Who hears what is published, in the order of subscription.
#[derive(Default)]
pub(super) struct Subscriptions(HashMap<String, Vec<Arc<Entry>>>);

/// A handler that hears a topic. Clones are the same one. Letting go of it changes nothing: it
/// hears until [`Subscription::end`], or until its worker ends.
#[derive(Clone)]
pub struct Subscription {
    worker: Worker,
    topic: String,
    entry: Arc<Entry>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.topic)
            .field("live", &self.entry.live)
            .finish_non_exhaustive()
    }
}

impl Subscription {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Ends it: when this returns the handler does not begin again. On another thread than the
    /// worker's loop it may still be at what it had begun, which is not waited for. A second call
    /// changes nothing.
    pub fn end(&self) {
        self.entry.live.store(false, Ordering::Release);
        let mut state = self.worker.state();
        let topics = &mut state.subscriptions.0;
        let Some(all) = topics.get_mut(&self.topic) else {
            return;
        };
        let at = all.iter().position(|one| Arc::ptr_eq(one, &self.entry));
        let ended = at.map(|at| all.remove(at));
        if all.is_empty() {
            topics.remove(&self.topic);
        }
        // What the handler holds goes without the lock.
        drop(state);
        drop(ended);
    }
}

impl Worker {
    /// Publishes a message under a topic: every [`Worker::subscribe`]r of it in every worker of the
    /// cluster gets it once, those of this worker included, and so do the WebSocket connections that
    /// subscribe (`ws::Socket::subscribe`). It goes by way of the primary, so all workers hear everything in the same order, which is that of each publisher.
    /// Never waits: it queues up on its way, and a worker that does not keep up holds up nobody; one
    /// for which more than 128 MiB wait misses what comes then, with a line in the log. What is
    /// published is not kept: who subscribes later does not hear it. A worker that was told to go
    /// hears what comes while it finishes what it has; nobody waits with it for more, and it does not
    /// matter whether it has a [`Worker::on_message`]. False when more than 128 KiB
    /// are queued here: worth a pause until [`Worker::on_drain`].
    ///
    /// The topic has 1 to 255 bytes; with the message it may have
    /// [`MAX_MESSAGE`](crate::MAX_MESSAGE).
    ///
    /// # Errors
    ///
    /// Gives the message back when it is too large or the topic is none, when far too much is
    /// queued, or when the primary is gone; then nobody gets it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Request, Worker};
    ///
    /// let app = App::new().post("/publish/{topic}", |request: Request| {
    ///     let worker = Worker::current().expect("handlers run in workers");
    ///     let topic = request.param("topic").unwrap_or_default();
    ///     match worker.publish(&topic, request.body()) {
    ///         Ok(_) => (202, "on its way\n".to_owned()),
    ///         Err(error) => (503, format!("{error}\n")),
    ///     }
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> Result<bool, SendError> {
        let publication = Publication::new(topic, message.into())?;
        let message_of = |written: Message| {
            // The message alone is what was given.
            let read = Publication::read(written.into_bytes());
            read.map_or_else(Message::default, |one| Message::from(one.bytes()))
        };
        let written = publication.into_written();
        self.push(Kind::Publish, written, None)
            .map_err(|error| match error {
                SendError::TooLarge(written) => SendError::TooLarge(message_of(written)),
                SendError::Full(written) => SendError::Full(message_of(written)),
                SendError::Gone(written) => SendError::Gone(message_of(written)),
                SendError::Topic(written) => SendError::Topic(message_of(written)),
            })
    }

    /// Calls `handler`, on the worker's loop, with each message that is published under exactly this
    /// topic, by whomever and wherever: it should not take long. It hears what comes to this worker
    /// from now on; subscribe in [`Cluster::on_worker`](crate::Cluster::on_worker) to hear all that
    /// is published once the worker is ready. A topic may have any number of handlers, which are
    /// called in the order of their subscription. A panic of one ends the worker.
    ///
    /// Publications share the way with the primary's messages: where those come and there is no
    /// [`Worker::on_message`], they wait, and so does what is behind them.
    ///
    /// # Errors
    ///
    /// When the topic is none: it has 1 to 255 bytes.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mcluster::{App, Cluster};
    ///
    /// # fn main() -> mcluster::Result<()> {
    /// Cluster::new(App::new())
    ///     .on_worker(|worker| {
    ///         let heard = worker.subscribe("cache", |worker, publication| {
    ///             println!("worker {} forgets {:?}", worker.id(), publication.text());
    ///         });
    ///         heard.expect("a topic");
    ///     })
    ///     .run()
    /// # }
    /// ```
    pub fn subscribe(
        &self,
        topic: impl Into<String>,
        handler: impl FnMut(&Worker, &Publication) + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        let topic = topic.into();
        if !is_topic(&topic) {
            return Err(SubscribeError::Topic);
        }
        let entry = Arc::new(Entry {
            live: AtomicBool::new(true),
            handler: Mutex::new(Box::new(handler)),
        });
        let mut state = self.state();
        let all = state.subscriptions.0.entry(topic.clone()).or_default();
        all.push(Arc::clone(&entry));
        drop(state);
        Ok(Subscription {
            worker: self.clone(),
            topic,
            entry,
        })
    }

    /// Loop: something was published somewhere.
    pub(super) fn published(&self, publication: &Publication) {
        let entries = self
            .state()
            .subscriptions
            .0
            .get(publication.topic())
            .cloned();
        for entry in entries.into_iter().flatten() {
            let mut handler = entry.handler.lock().unwrap_or_else(PoisonError::into_inner);
            // Last of all: one before it may have ended it, or another thread just now.
            if entry.live.load(Ordering::Acquire) {
                handler(self, publication);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::WorkerId;
    use super::*;
    use crate::net::Reactor;
    use std::sync::mpsc::{Receiver, channel};

    fn worker() -> (Reactor, Worker) {
        let reactor = Reactor::new().unwrap();
        let worker = Worker::new(WorkerId(3), 0, reactor.waker(1).unwrap());
        (reactor, worker)
    }

    fn publication(topic: &str, text: &str) -> Publication {
        Publication::new(topic, Message::from(text)).unwrap()
    }

    fn heard(all: &Receiver<String>) -> Vec<String> {
        all.try_iter().collect()
    }

    #[test]
    fn each_handler_of_a_topic_hears_it_until_its_end() {
        let (_reactor, worker) = worker();
        let (seen, all) = channel();
        let hear = |name: &'static str, topic: &str| {
            let seen = seen.clone();
            let heard = move |_: &Worker, one: &Publication| {
                seen.send(format!("{name} {}", one.text().unwrap()))
                    .unwrap();
            };
            worker.subscribe(topic, heard).unwrap()
        };
        let (one, other, third) = (hear("a", "x"), hear("b", "x"), hear("c", "y"));
        worker.published(&publication("x", "1"));
        worker.published(&publication("y", "2"));
        worker.published(&publication("z", "3"));
        assert_eq!(heard(&all), ["a 1", "b 1", "c 2"]);
        one.end();
        one.clone().end();
        worker.published(&publication("x", "4"));
        assert_eq!(heard(&all), ["b 4"]);
        assert_eq!(third.topic(), "y");
        drop((other.clone(), third));
        other.end();
        worker.published(&publication("y", "5"));
        assert_eq!(heard(&all), ["c 5"]);
        assert_eq!(worker.state().subscriptions.0.len(), 1);
    }

    #[test]
    fn handlers_may_subscribe_and_end() {
        let (_reactor, worker) = worker();
        let (seen, all) = channel();
        let second = Arc::new(Mutex::new(None::<Subscription>));
        let (to_end, first_seen) = (Arc::clone(&second), seen.clone());
        let first = move |worker: &Worker, one: &Publication| {
            first_seen.send(format!("first {}", one.topic())).unwrap();
            if let Some(second) = to_end.lock().unwrap().take() {
                second.end();
                let late = first_seen.clone();
                let late = move |_: &Worker, _: &Publication| late.send("late".to_owned()).unwrap();
                worker.subscribe("x", late).unwrap();
            }
        };
        worker.subscribe("x", first).unwrap();
        let never = move |_: &Worker, _: &Publication| seen.send("second".to_owned()).unwrap();
        *second.lock().unwrap() = Some(worker.subscribe("x", never).unwrap());
        worker.published(&publication("x", ""));
        worker.published(&publication("x", ""));
        assert_eq!(heard(&all), ["first x", "first x", "late"]);
    }

    #[test]
    fn what_cannot_be_published_comes_back() {
        let (_reactor, worker) = worker();
        assert_eq!(worker.publish("x", "m"), Ok(true));
        let back = worker.publish("", "m").unwrap_err();
        assert_eq!(back, SendError::Topic(Message::from("m")));
        worker.closed();
        let back = worker.publish("x", "m").unwrap_err();
        assert_eq!(back, SendError::Gone(Message::from("m")));
        let nobody = worker.subscribe("x".repeat(256), |_, _| {});
        assert_eq!(nobody.unwrap_err(), SubscribeError::Topic);
    }
}
