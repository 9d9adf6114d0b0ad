//! Messages to one worker that the primary's loop has not seen yet. Owns what they take; leaves the
//! bound to the handle.

use crate::ipc::user::{Kind, Message, OVERHEAD, cost};
use std::collections::VecDeque;

/// Those, in order.
#[derive(Default)]
pub(super) struct Unsent {
    queue: VecDeque<(Kind, Message)>,
    bytes: usize,
}

impl Unsent {
    /// What they will take of the stream, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they take here: small ones are many, and each has an allocation of its own.
    pub(super) fn held(&self) -> usize {
        self.bytes + self.queue.len() * OVERHEAD
    }

    /// Takes one more; whether it is the first.
    pub(super) fn push(&mut self, kind: Kind, message: Message) -> bool {
        self.bytes += cost(&message);
        self.queue.push_back((kind, message));
        self.queue.len() == 1
    }

    pub(super) fn pop(&mut self) -> Option<(Kind, Message)> {
        let (kind, message) = self.queue.pop_front()?;
        self.bytes -= cost(&message);
        if self.queue.is_empty() {
            // What a burst took is not kept for the next.
            self.queue = VecDeque::new();
        }
        Some((kind, message))
    }
}
