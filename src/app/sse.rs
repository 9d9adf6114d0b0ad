//! Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>
//!
//! Owns the text of the stream; leaves sending it to a body that is fed.

use super::{Request, Response, Sender, Unsent};
use std::fmt::{self, Display, Write as _};
use std::time::Duration;

/// How long a stream may be silent. Proxies take a connection for dead after a minute or less.
const SILENCE: Duration = Duration::from_secs(15);

/// A comment: nothing to the page, a sign of life to everything on the way.
const SIGN_OF_LIFE: &[u8] = b":\n\n";

/// One event for the pages that listen, as text that is ready to be sent, to one or to many.
///
/// # Examples
///
/// ```
/// use mcluster::ServerEvent;
///
/// let event = ServerEvent::new("one\ntwo").name("note").id(7);
/// assert_eq!(event.to_string(), "event: note\nid: 7\ndata: one\ndata: two\n\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvent {
    fields: String,
    data: String,
}

impl ServerEvent {
    /// An event with that data, of any number of lines; a line ends at LF, CR or both.
    pub fn new(data: impl AsRef<str>) -> Self {
        let data = data.as_ref();
        let mut lines = String::with_capacity(data.len() + 16);
        let mut rest = data;
        while let Some(at) = rest.find(['\r', '\n']) {
            push(&mut lines, "data", &rest[..at]);
            let pair = rest[at..].starts_with("\r\n");
            rest = &rest[at + 1 + usize::from(pair)..];
        }
        push(&mut lines, "data", rest);
        Self {
            fields: String::new(),
            data: lines,
        }
    }

    /// Its name, for `addEventListener(name, ..)`; without one it is a `message`. A name with a
    /// line break or NUL is left out, with a line in the log.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.field("event", name)
    }

    /// What a page that was cut off says when it comes back ([`Request::last_event_id`]): where to
    /// go on. One with a line break or NUL is left out, with a line in the log.
    #[must_use]
    pub fn id(self, id: impl Display) -> Self {
        self.field("id", &id.to_string())
    }

    /// After how long a page that was cut off comes back, in whole milliseconds. It holds for all
    /// events from this one on.
    #[must_use]
    pub fn retry(self, after: Duration) -> Self {
        self.field("retry", &after.as_millis().to_string())
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        if value.contains(['\r', '\n', '\0']) {
            log::error!("a handler set a field {name:?} of an event that cannot be sent; left out");
        } else {
            push(&mut self.fields, name, value);
        }
        self
    }
}

impl Display for ServerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{}", self.fields, self.data)
    }
}

fn push(text: &mut String, name: &str, value: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{name}: {value}");
}

/// Sends events to one page, from any thread; made by [`Response::events`]. Clones send to the same
/// page, and the stream ends when the last one is dropped; the page comes back after a while.
#[derive(Clone, Debug)]
pub struct EventSender(Sender);

impl EventSender {
    /// Sends an event. While 64 KiB wait for the client this waits as well, but on the worker's own
    /// loop and before the answer has been returned by its handler.
    ///
    /// # Errors
    ///
    /// [`Unsent::Gone`] when the client is gone or its worker ends; [`Unsent::Full`] where it may
    /// not wait, and a megabyte does already.
    pub fn send(&self, event: &ServerEvent) -> Result<(), Unsent> {
        self.0.send(event.to_string())
    }

    /// The same, but it never waits: for one thread that sends to many, of which one may not read.
    ///
    /// # Errors
    ///
    /// As [`EventSender::send`].
    pub fn try_send(&self, event: &ServerEvent) -> Result<(), Unsent> {
        self.0.try_send(event.to_string())
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Ends the stream.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Response {
    /// 200 with a stream of events, for a page's `EventSource`.
    ///
    /// A comment goes out whenever there has been nothing else for 15 seconds, so that nobody on
    /// the way takes the connection for dead, and one that is gets noticed. When the worker is to
    /// end (a reload, say) the stream ends as well, and the page comes back to another one; give
    /// events an [`id`](ServerEvent::id) where it matters that none is missed. A page stops coming
    /// back when it is answered 204.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Request, Response, ServerEvent};
    /// use std::time::Duration;
    ///
    /// let app = App::new().get("/count", |request: Request| {
    ///     let last = request.last_event_id().and_then(|id| id.parse().ok());
    ///     let (events, response) = Response::events();
    ///     std::thread::spawn(move || {
    ///         for n in last.map_or(1, |last: u64| last.saturating_add(1)).. {
    ///             if events.send(&ServerEvent::new(n.to_string()).id(n)).is_err() {
    ///                 break; // The page is gone.
    ///             }
    ///             std::thread::sleep(Duration::from_secs(1));
    ///         }
    ///     });
    ///     response
    /// });
    /// # assert!(app.check().is_ok());
    /// ```
    pub fn events() -> (EventSender, Self) {
        Self::events_every(SILENCE)
    }

    /// The same with another time of silence after which there is a sign of life: 10 ms at least, a
    /// year at most.
    pub fn events_every(silence: Duration) -> (EventSender, Self) {
        let (sender, response) = Self::channel_with_heartbeat(silence, SIGN_OF_LIFE);
        let response = response
            .header("Content-Type", "text/event-stream")
            .header("Cache-Control", "no-store")
            // For nginx, which would collect events before it passes them on.
            .header("X-Accel-Buffering", "no");
        (EventSender(sender), response)
    }
}

impl Request {
    /// The id of the last event that this page had before it was cut off; nothing when it had
    /// none. It is the client's to choose.
    pub fn last_event_id(&self) -> Option<&str> {
        let id = str::from_utf8(self.header("last-event-id")?).ok()?;
        (!id.is_empty()).then_some(id)
    }
}
