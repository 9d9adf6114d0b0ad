//! A protocol that goes on where HTTP ends, on the same connection (RFC 9110 7.8).

use crate::net::Line;
use std::time::Instant;

/// What a protocol wants after one of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To go on: call when something happens.
    Continue,
    /// To be asked to fill once what is there has been sent.
    More,
    /// To end: what is there is sent, then the connection closes in order.
    Finish,
}

/// What speaks on a connection after an upgrade. All calls come from the connection's loop, and
/// none should take long; what they append to `out` is sent.
pub(crate) trait Protocol: Send {
    /// The connection is this protocol's from now on; `line` has its loop call [`Protocol::fill`].
    fn begin(&mut self, line: Line, now: Instant);

    /// Takes what came, all of it. Not called while older output is unsent, so a peer that does
    /// not read is not listened to.
    fn received(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) -> Next;

    /// Everything is sent: appends more, some 64 KiB at most.
    fn fill(&mut self, now: Instant, out: &mut Vec<u8>) -> Next;

    /// The time that [`Protocol::deadline`] said has come.
    fn expired(&mut self, now: Instant, out: &mut Vec<u8>) -> Next;

    /// The loop is to end: says goodbye.
    fn drain(&mut self, now: Instant, out: &mut Vec<u8>) -> Next;

    /// When [`Protocol::expired`] is to be called. It is asked again when that time has come, so it
    /// may move later without a word.
    fn deadline(&self) -> Option<Instant>;

    /// The connection has ended, by the peer, an error or a limit of time.
    fn ended(&mut self);
}

/// A protocol to switch to, and the name that the answer gives it.
pub(crate) struct Switch {
    pub(crate) name: &'static str,
    pub(crate) protocol: Box<dyn Protocol>,
}
