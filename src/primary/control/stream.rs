//! What happens, told to whoever subscribes: server-sent events.

use super::{Console, MOST, MOST_ONLOOKERS};
use crate::app::{Response, Sender};
use crate::primary::{Event, Primary, Reload};
use crate::status;
use std::time::{Duration, Instant};

/// How often figures are told.
const FIGURES: Duration = Duration::from_secs(1);

/// How long a stream may be silent: then it says so, that nobody on the way takes it for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// With more streams than twice what there can be connections, most of their clients have gone.
const MOST_SUBSCRIBERS: usize = 2 * (MOST + MOST_ONLOOKERS);

/// One open stream.
#[derive(Debug)]
pub(super) struct Subscriber {
    feed: Sender,
    /// It wants the figures as well.
    figures: bool,
}

impl Console {
    /// Tells all subscribers of an event.
    pub(super) fn publish(&mut self, event: &Event) {
        let Some(event) = translated(event) else {
            return;
        };
        self.told += 1;
        if self.subscribers.is_empty() {
            return;
        }
        if let Some(text) = as_text(event.name(), Some(self.told), &event) {
            self.heard_at = Instant::now();
            self.put(&text, |_| true);
        }
    }

    /// Puts `text` into the streams that `wanted` holds of; those that do not keep up end.
    fn put(&mut self, text: &str, wanted: fn(&Subscriber) -> bool) {
        self.subscribers.retain(|subscriber| {
            if !wanted(subscriber) {
                return true;
            }
            // Dropping it ends the stream.
            subscriber.feed.try_send(text).is_ok()
        });
    }

    /// Gives a sign of life where no event has been told for long, lets go of those who have gone,
    /// and says when to come again.
    fn keep_alive(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard_at) >= SILENCE {
            self.heard_at = now;
            self.put(":\n\n", |_| true);
        }
        self.forget_the_gone();
        let next = |one: &Subscriber| match one.figures {
            true => now + FIGURES,
            false => self.heard_at + SILENCE,
        };
        self.tick_at = self.subscribers.iter().map(next).min();
    }

    /// A stream whose client has gone has nobody at its other end.
    fn forget_the_gone(&mut self) {
        self.subscribers.retain(|one| !one.feed.is_closed());
    }

    /// Ends all streams.
    pub(super) fn end_streams(&mut self) {
        self.subscribers.clear();
    }
}

impl Primary {
    /// Answers by a stream of what happens from now on.
    pub(super) fn subscribe(&mut self, ticket: u64, figures: bool) {
        // Silence is this console's to break, for all at once; but that makes it a stream without end.
        let (feed, response) = Response::channel_with_heartbeat(2 * SILENCE, b":\n\n");
        let response = response
            .header("Content-Type", "text/event-stream")
            .header("Cache-Control", "no-store")
            .nosniff();
        // Nothing has been sent yet, so there is room.
        let _ = feed.try_send("retry: 1000\n\n");
        if figures && let Some(text) = as_text("status", None, &self.status()) {
            let _ = feed.try_send(text);
        }
        self.answer(ticket, response);
        let now = self.reactor.now();
        if let Some(console) = &mut self.console {
            if console.subscribers.len() >= MOST_SUBSCRIBERS {
                console.forget_the_gone();
            }
            console.subscribers.push(Subscriber { feed, figures });
            let next = if figures { FIGURES } else { SILENCE };
            let at = console.tick_at.map_or(now + next, |at| at.min(now + next));
            console.tick_at = Some(at);
        }
    }

    /// Tells the figures, or that the stream lives, when it is time.
    pub(super) fn tick(&mut self) {
        let now = self.reactor.now();
        let Some(console) = &mut self.console else {
            return;
        };
        if console.tick_at.is_none_or(|at| at > now) {
            return;
        }
        let figures = console.subscribers.iter().any(|one| one.figures);
        if figures {
            let status = self.status();
            if let Some(text) = as_text("status", None, &status)
                && let Some(console) = &mut self.console
            {
                console.put(&text, |one| one.figures);
            }
        }
        if let Some(console) = &mut self.console {
            console.keep_alive(now);
        }
    }
}

/// One event of the stream: https://html.spec.whatwg.org/multipage/server-sent-events.html
fn as_text(name: &str, id: Option<u64>, data: &impl serde::Serialize) -> Option<String> {
    let data = serde_json::to_string(data)
        .inspect_err(|error| log::error!("event {name}: {error}"))
        .ok()?;
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    Some(format!("{id}event: {name}\ndata: {data}\n\n"))
}

/// The event as those outside see it.
fn translated(event: &Event) -> Option<status::Event> {
    Some(match event {
        Event::Setup { .. } | Event::Ready { .. } | Event::Drain { .. } => return None,
        Event::Fork { worker } => status::Event::Fork { worker: worker.0 },
        Event::Online { worker, pid } => status::Event::Online {
            worker: worker.0,
            pid: *pid,
        },
        Event::Listening { worker, address } => status::Event::Listening {
            worker: worker.0,
            address: address.clone(),
        },
        Event::Message { worker, message } => status::Event::Message {
            worker: worker.0,
            bytes: message.bytes().len() as u64,
        },
        Event::Disconnect { worker } => status::Event::Disconnect { worker: worker.0 },
        Event::Exit {
            worker,
            pid,
            code,
            signal,
            how,
            exited_after_disconnect,
        } => status::Event::Exit {
            worker: worker.0,
            pid: *pid,
            how: how.clone(),
            code: *code,
            signal: *signal,
            exited_after_disconnect: *exited_after_disconnect,
        },
        Event::Reload { reload } => {
            let (outcome, why) = match reload {
                Reload::Began => (status::Reload::Began, None),
                Reload::Done => (status::Reload::Done, None),
                Reload::Failed { why } => (status::Reload::Failed, Some(why.clone())),
            };
            status::Event::Reload { outcome, why }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{Body, Fed, Feed};
    use crate::net::{Listen, Reactor};
    use crate::worker::WorkerId;

    fn console(reactor: &Reactor) -> Console {
        let listener = "127.0.0.1:0".parse::<Listen>().unwrap().bind().unwrap();
        let made = Console::on("test", None, Some(listener), reactor.registry());
        made.unwrap().unwrap()
    }

    /// A stream, and its client's end of it.
    fn subscribe(console: &mut Console, figures: bool) -> Feed {
        let (feed, response) = Response::channel();
        console.subscribers.push(Subscriber { feed, figures });
        match response.into_parts().0 {
            Body::Feed(feed) => feed,
            body => panic!("{body:?}"),
        }
    }

    fn take(feed: &mut Feed) -> Option<Vec<u8>> {
        match feed.take() {
            Fed::Piece(piece) => Some(piece),
            _ => None,
        }
    }

    #[test]
    fn figures_for_some_are_no_sign_of_life_for_others() {
        let reactor = Reactor::new().unwrap();
        let mut console = console(&reactor);
        let begin = console.heard_at;
        let (mut events, mut figures) = (
            subscribe(&mut console, false),
            subscribe(&mut console, true),
        );
        for second in 1..15 {
            console.put("figures", |one| one.figures);
            console.keep_alive(begin + Duration::from_secs(second));
            assert_eq!(take(&mut figures).as_deref(), Some(&b"figures"[..]));
            assert_eq!(take(&mut events), None, "after {second} s");
        }
        console.keep_alive(begin + SILENCE);
        assert_eq!(take(&mut events).as_deref(), Some(&b":\n\n"[..]));
        assert_eq!(console.tick_at, Some(begin + SILENCE + FIGURES));
        // What happens is one: the next is due so long after it.
        let event = Event::Disconnect {
            worker: WorkerId(1),
        };
        console.publish(&event);
        assert!(take(&mut events).is_some());
        drop(figures);
        console.keep_alive(console.heard_at);
        assert_eq!(console.tick_at, Some(console.heard_at + SILENCE));
    }

    #[test]
    fn streams_whose_clients_have_gone_are_let_go() {
        let reactor = Reactor::new().unwrap();
        let mut console = console(&reactor);
        let stays = subscribe(&mut console, false);
        for _ in 0..100 {
            drop(subscribe(&mut console, false));
        }
        let now = console.heard_at + Duration::from_secs(1);
        console.keep_alive(now);
        assert_eq!(console.subscribers.len(), 1);
        drop(stays);
        console.keep_alive(now);
        assert_eq!((console.subscribers.len(), console.tick_at), (0, None));
    }
}
