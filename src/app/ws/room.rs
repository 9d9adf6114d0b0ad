//! All WebSocket connections of this thread's loop, and messages to each of them.
//!
//! Owns which are open, and how a message to all is written down; leaves its way through the
//! cluster to `worker` and `primary`. A loop has one thread, and so has its list.

use super::frames::{self, Data, OpCode};
use super::message::{Message, SendError, code};
use super::socket::{Socket, parts};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

thread_local! {
    static OPEN: RefCell<HashMap<u64, Socket>> = RefCell::default();
}

/// The first byte of what is written down: what the rest is. Others may come.
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// A connection of this loop has begun.
pub(super) fn enter(socket: &Socket) {
    OPEN.with_borrow_mut(|open| open.insert(socket.id(), socket.clone()));
}

/// It has ended.
pub(super) fn leave(socket: &Socket) {
    // Also when the thread itself ends, and its list is gone.
    let _ = OPEN.try_with(|open| {
        let mut open = open.borrow_mut();
        open.remove(&socket.id());
        if open.is_empty() {
            open.shrink_to_fit();
        }
    });
}

/// Whether a connection is of this loop, and open.
pub(super) fn has(socket: &Socket) -> bool {
    OPEN.with_borrow(|open| open.contains_key(&socket.id()))
}

/// A message to all connections, for the way through the cluster.
pub(crate) fn write_down(message: Message) -> Vec<u8> {
    let (opcode, mut bytes) = parts(message);
    let kind = if opcode == OpCode::Data(Data::Text) {
        TEXT
    } else {
        BINARY
    };
    bytes.insert(0, kind);
    bytes
}

/// Sends what [`write_down`] made to each connection of this loop. Never waits: one that does not
/// keep up holds nobody up, and is closed when far too much waits for it.
pub(crate) fn deliver(written: &[u8]) {
    let (opcode, payload) = match written {
        [TEXT, payload @ ..] => (OpCode::Data(Data::Text), payload),
        [BINARY, payload @ ..] => (OpCode::Data(Data::Binary), payload),
        _ => return log::warn!("a broadcast of a kind that is not known here"),
    };
    OPEN.with_borrow(|open| {
        if open.is_empty() {
            return;
        }
        let frame: Arc<[u8]> = frames::frame(opcode, payload).into();
        for socket in open.values() {
            if socket.send_shared(&frame) == Err(SendError::Full) {
                log::debug!("a WebSocket does not keep up with broadcasts: closed");
                socket.seal(code::POLICY, "does not keep up");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::ws::socket::MOST;

    #[test]
    fn each_open_connection_gets_it_once() {
        let (one, other) = (Socket::new(None), Socket::new(None));
        enter(&one);
        enter(&other);
        deliver(&write_down(Message::from("hello")));
        leave(&other);
        deliver(&write_down(Message::from(vec![7, 8])));
        deliver(&[99, 1]);
        deliver(&[]);
        let sent = |socket: &Socket| {
            let mut out = Vec::new();
            socket.drain_into(&mut out, usize::MAX);
            out
        };
        assert_eq!(sent(&one), b"\x81\x05hello\x82\x02\x07\x08");
        assert_eq!(sent(&other), b"\x81\x05hello");
        leave(&one);
    }

    #[test]
    fn one_that_does_not_keep_up_is_closed() {
        let socket = Socket::new(None);
        enter(&socket);
        let piece = write_down(Message::from(vec![0; MOST / 4]));
        for _ in 0..5 {
            deliver(&piece);
        }
        assert!(!socket.is_open());
        assert_eq!(socket.ends().code(), code::POLICY);
        leave(&socket);
    }
}
