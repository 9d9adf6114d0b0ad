//! Reading: what comes back on connections, in turns that end.

use super::super::report::Trouble;
use super::super::speech::Came;
use super::{Desk, Key};
use crate::http::AnswerEnd;
use crate::sys::socket;
use std::mem;
use std::time::Instant;

/// The most that is read of one connection a turn. A server that never stops sending has no more than
/// its share: the others, the time-outs and the end of the run come in between.
const READ_A_TURN: usize = 1 << 20;

impl Desk {
    /// Reads of a connection, and says what it asks for.
    pub(super) fn hear(&mut self, key: Key, is_near: bool, registry: &mio::Registry) {
        let place = key.index;
        if !self.conns[place as usize].is(key) {
            return;
        }
        self.read(place, is_near);
        let conn = &self.conns[place as usize];
        if conn.is_asked && conn.is(key) {
            self.write(place, registry);
        }
    }

    /// Reads more where a turn had not been enough.
    pub(super) fn read_on(&mut self, registry: &mio::Registry) {
        for key in mem::take(&mut self.undrained) {
            let conn = &mut self.conns[key.index as usize];
            if !conn.is(key) {
                continue;
            }
            conn.is_undrained = false;
            // Its end may have been told of already, and is not told again.
            self.hear(key, true, registry);
            self.deal(registry);
        }
    }

    /// Reads what there is; to the end of the connection if that `is_near`. False where a turn has no
    /// time for all of it: then the next one goes on.
    pub(super) fn read(&mut self, place: u32, is_near: bool) -> bool {
        let mut buffer = mem::take(&mut self.buffer);
        let mut room = READ_A_TURN;
        let is_drained = loop {
            let count = match self.conns[place as usize].read(&mut buffer) {
                Ok(0) => {
                    self.now = Instant::now();
                    self.ended(place, None);
                    break true;
                }
                Ok(count) => count,
                Err(error) if socket::would_block(&error) => break true,
                Err(error) => {
                    self.now = Instant::now();
                    self.ended(place, Some(&error));
                    break true;
                }
            };
            self.now = Instant::now();
            self.tally.bytes.read += count as u64;
            let goes_on = self.take_in(place, &buffer[..count]);
            // A short read means drained; the end, where it is there, comes by itself.
            if !goes_on || (count < buffer.len() && !is_near) {
                break true;
            }
            room = room.saturating_sub(count);
            if room == 0 {
                let conn = &mut self.conns[place as usize];
                if !mem::replace(&mut conn.is_undrained, true) {
                    self.undrained.push(conn.key(place));
                }
                break false;
            }
        };
        self.buffer = buffer;
        self.release(place);
        is_drained
    }

    /// Takes in what was read; whether the connection is still there.
    fn take_in(&mut self, place: u32, mut input: &[u8]) -> bool {
        while !input.is_empty() {
            let conn = &mut self.conns[place as usize];
            if conn.pending.is_empty() && conn.only_answers() {
                // Nobody asked: a server's parting word, such as 408, on a connection that was idle.
                self.closed(place);
                return false;
            }
            match conn.feed(input) {
                Ok((used, Came::Part | Came::Agreed | Came::Asked(_))) => input = &input[used..],
                Ok((_, Came::Over(_))) => {
                    self.ended(place, None);
                    return false;
                }
                Ok((used, Came::Answer(end))) => {
                    input = &input[used..];
                    self.answered(place, end);
                    if !(end.keep_alive && self.shared.plan.keep_alive) {
                        self.send_again(place);
                        return false;
                    }
                }
                Err(_) => {
                    self.lost(place, Trouble::Parse);
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn answered(&mut self, place: u32, end: AnswerEnd) {
        let conn = &mut self.conns[place as usize];
        let Some(sent) = conn.pending.pop_front() else {
            return;
        };
        conn.has_answered = true;
        self.on_their_way -= 1;
        let stage = self.shared.stage();
        self.tally.answered(sent, self.now, end.status, stage);
        if let Some(worker) = conn.worker() {
            self.tally.answered_by(worker);
        }
    }
}
