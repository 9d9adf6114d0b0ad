//! From a request to a WebSocket: what the application wants of a connection.

use super::assemble::Sizes;
use super::handshake::{self, Accepted, Refusal};
use super::message::{CloseReason, Message};
use super::session::{Callbacks, Session};
use super::socket::Socket;
use crate::app::feed::bearable;
use crate::app::{IntoResponse, Request, Response};
use std::fmt;
use std::time::Duration;

/// The largest message that is taken, unless told otherwise, in bytes.
const MAX_MESSAGE: u64 = 1024 * 1024;

/// After how much silence the peer is asked whether it lives, unless told otherwise.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Makes the connection of `request` a WebSocket, if that is what the client asks for. It is an
/// answer: return it from a handler.
///
/// Any other request is answered in its place: 426 where it asks for no WebSocket, or for another
/// version of it, 400 where the handshake is wrong, 403 by [`Upgrade::origins`]. Extensions are
/// never agreed on.
///
/// # Examples
///
/// ```
/// use mcluster::{App, Request, ws};
///
/// let app = App::new().get("/echo", |request: Request| {
///     ws::upgrade(&request).on_message(|socket, message| {
///         // An error: the connection ends anyway.
///         let _ = socket.send(message);
///     })
/// });
/// # assert!(app.check().is_ok());
/// ```
pub fn upgrade(request: &Request) -> Upgrade {
    Upgrade {
        judged: handshake::judge(request),
        callbacks: Callbacks::default(),
        protocols: Vec::new(),
        origins: None,
        max_message: MAX_MESSAGE,
        max_frame: None,
        ping_every: Some(PING_EVERY),
    }
}

/// A WebSocket about to begin; see [`upgrade`].
///
/// What it is told to call runs on the worker's loop, one call at a time: it should not take long.
/// A panic closes the connection with 1011 and is a line in the log; the worker goes on.
#[must_use = "it is an answer, for a handler to return"]
pub struct Upgrade {
    judged: Result<Accepted, Refusal>,
    callbacks: Callbacks,
    protocols: Vec<String>,
    origins: Option<Vec<String>>,
    max_message: u64,
    max_frame: Option<u64>,
    ping_every: Option<Duration>,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("handshake", &self.judged)
            .field("max_message", &self.max_message)
            .field("ping_every", &self.ping_every)
            .finish_non_exhaustive()
    }
}

impl Upgrade {
    /// Calls `handler` when the connection has become a WebSocket, before anything of it is read:
    /// the place to greet, or to keep a clone of the [`Socket`].
    pub fn on_open(mut self, handler: impl FnOnce(&Socket) + Send + 'static) -> Self {
        self.callbacks.open = Some(Box::new(handler));
        self
    }

    /// Calls `handler` with each message.
    ///
    /// While more than 256 KiB wait to be sent, nothing more is taken of the peer: who does not
    /// read is not listened to.
    pub fn on_message(mut self, handler: impl FnMut(&Socket, Message) + Send + 'static) -> Self {
        self.callbacks.message = Some(Box::new(handler));
        self
    }

    /// Calls `handler` when [`Socket::send`] has said false and there is room again.
    pub fn on_drain(mut self, handler: impl FnMut(&Socket) + Send + 'static) -> Self {
        self.callbacks.drain = Some(Box::new(handler));
        self
    }

    /// Calls `handler` once the connection has ended, with the code and reason of whoever closed
    /// it first. Nothing can be sent any more.
    pub fn on_close(mut self, handler: impl FnOnce(&Socket, CloseReason) + Send + 'static) -> Self {
        self.callbacks.close = Some(Box::new(handler));
        self
    }

    /// The largest message that is taken, in bytes, of all its fragments together: 1 MiB unless
    /// told otherwise. A larger one closes the connection with 1009, before it is read.
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.max_message = bytes;
        self
    }

    /// The largest frame that is taken, in bytes: as large as a message unless told otherwise.
    pub fn max_frame(mut self, bytes: u64) -> Self {
        self.max_frame = Some(bytes);
        self
    }

    /// After how long a silence the peer is sent a ping: 30 seconds unless told otherwise. If as
    /// much time again brings nothing at all, the connection ends. Zero: never. Less than 10 ms is
    /// taken for 10 ms, more than a year for a year.
    pub fn ping_every(mut self, silence: Duration) -> Self {
        self.ping_every = (!silence.is_zero()).then(|| bearable(silence));
        self
    }

    /// The subprotocols that this application speaks. The first of the client's that is one of
    /// them is agreed on, and is [`Socket::protocol`]; if there is none, the connection begins
    /// without, and most clients then end it.
    pub fn protocols<P: Into<String>>(mut self, names: impl IntoIterator<Item = P>) -> Self {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// The pages that may connect, such as `https://example.org`: a browser's request from any
    /// other is answered 403. Without this any page of the web may, with the cookies that the
    /// browser has for this host. A client that is no browser may say what it likes, or nothing.
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// Whether a page may connect.
    fn admits(&self, origin: Option<&Option<String>>) -> bool {
        match (&self.origins, origin) {
            (None, _) | (Some(_), None) => true,
            (Some(_), Some(None)) => false,
            (Some(known), Some(Some(origin))) => {
                known.iter().any(|one| one.eq_ignore_ascii_case(origin))
            }
        }
    }
}

impl IntoResponse for Upgrade {
    fn into_response(self) -> Response {
        let accepted = match &self.judged {
            Ok(accepted) if self.admits(accepted.origin.as_ref()) => accepted,
            Ok(_) => {
                return refused(Refusal {
                    status: 403,
                    what: "this page may not connect",
                });
            }
            Err(refusal) => return refused(*refusal),
        };
        let known = |one: &&String| self.protocols.contains(one);
        let protocol = accepted.protocols.iter().find(known).cloned();
        let mut response = Response::new(200).header("Sec-WebSocket-Accept", &accepted.accept);
        if let Some(protocol) = &protocol {
            response = response.header("Sec-WebSocket-Protocol", protocol);
        }
        let sizes = Sizes {
            frame: self.max_frame.unwrap_or(u64::MAX),
            message: self.max_message,
        };
        let socket = Socket::new(protocol);
        let session = Session::new(socket, self.callbacks, sizes, self.ping_every);
        response.switch("websocket", Box::new(session))
    }
}

fn refused(refusal: Refusal) -> Response {
    let Refusal { status, what } = refusal;
    if status == 426 {
        return Response::upgrade_required("websocket").header("Sec-WebSocket-Version", "13");
    }
    let response = Response::refusal(status, what).nosniff();
    match status {
        405 => response.header("Allow", "GET"),
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Parts;

    #[test]
    fn pings_neither_spin_nor_overflow() {
        for (asked, kept) in [
            (Duration::ZERO, None),
            (Duration::from_nanos(1), Some(Duration::from_millis(10))),
            (PING_EVERY, Some(PING_EVERY)),
            (Duration::MAX, Some(Duration::from_secs(365 * 24 * 3600))),
        ] {
            let upgrade = upgrade(&Request::new(Parts::take()));
            assert_eq!(upgrade.ping_every(asked).ping_every, kept);
        }
    }
}
