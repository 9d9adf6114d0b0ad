//! What ends of connections mean for the requests on their way: which are sent again, which have ended.

use super::super::conn;
use super::super::report::Trouble;
use super::{Desk, PAUSED};
use std::io;

impl Desk {
    /// A connection could not be made: the host's next address is tried, else the oldest request ends.
    pub(super) fn not_connected(
        &mut self,
        place: u32,
        error: &io::Error,
        registry: &mio::Registry,
    ) {
        let conn = &mut self.conns[place as usize];
        conn.close();
        let next = self.shared.addresses.after(conn.address);
        if let Some(next) = next.filter(|_| conn::tries_next(error)) {
            conn.address = next;
            return self.dial(place, registry);
        }
        conn.pending.pop_front();
        conn.is_paused = true;
        self.on_their_way -= 1;
        let stage = self.shared.stage();
        self.tally.troubled(conn::trouble(error), 1, stage);
        self.timers.arm(place, PAUSED, self.now);
    }

    /// The connection has ended, in good order or by an error.
    pub(super) fn ended(&mut self, place: u32, error: Option<&io::Error>) {
        let conn = &mut self.conns[place as usize];
        let whole = match error {
            None if !conn.pending.is_empty() => conn.at_close(),
            _ => None,
        };
        if let Some(end) = whole {
            self.answered(place, end);
            return self.send_again(place);
        }
        let may_again = self.shared.speech.is_idempotent() && conn.is_race(self.now);
        match conn.pending.is_empty() || may_again {
            true => self.send_again(place),
            false => self.lost(place, error.map_or(Trouble::Closed, conn::trouble)),
        }
    }

    /// The connection takes no more requests: what was not answered goes over a new one.
    pub(super) fn send_again(&mut self, place: u32) {
        let count = self.conns[place as usize].pending.len() as u64;
        if count > 0 {
            let stage = self.shared.stage();
            self.tally.resent(count, stage);
        }
        self.closed(place);
    }

    /// The connection is gone, and what was on its way with it.
    pub(super) fn lost(&mut self, place: u32, trouble: Trouble) {
        let conn = &mut self.conns[place as usize];
        let count = conn.pending.len() as u64;
        conn.pending.clear();
        self.on_their_way -= count;
        let stage = self.shared.stage();
        self.tally.troubled(trouble, count, stage);
        self.timers.disarm(place);
        self.closed(place);
    }

    pub(super) fn closed(&mut self, place: u32) {
        self.conns[place as usize].close();
        self.release(place);
    }

    /// Nothing is waited for any longer: what is on its way, and what the plan had before the end and
    /// was never sent, has timed out.
    pub(super) fn give_up(&mut self) {
        (self.is_over, self.next) = (true, None);
        for place in 0..self.conns.len() as u32 {
            if !self.conns[place as usize].pending.is_empty() {
                self.lost(place, Trouble::TimedOut);
            }
        }
        let stage = self.shared.stage();
        self.tally
            .troubled(Trouble::TimedOut, self.pace.left(), stage);
    }
}
