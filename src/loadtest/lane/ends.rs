//! What ends of connections mean for the requests on their way: which are sent again, which have ended.

use super::super::conn::{self, Phase};
use super::super::report::Trouble;
use super::super::tally::Sent;
use super::{Desk, PAUSED};
use std::io;

impl Desk {
    /// A connection could not be made: the host's next address is tried, else the requests
    /// that wait for it end.
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
        let count = conn.pending.len() as u64;
        conn.pending.clear();
        // A plan bounds the attempts by itself, and what it has for the time of an outage is what that
        // outage costs.
        conn.is_paused = !self.pace.is_open();
        if conn.is_paused {
            self.pauses.arm(place, PAUSED, self.now);
        }
        self.end(count, conn::trouble(error));
        self.release(place);
    }

    /// So many requests end without an answer.
    fn end(&mut self, count: u64, trouble: Trouble) {
        self.on_their_way -= count;
        let stage = self.shared.stage();
        self.tally.troubled(trouble, count, stage);
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
        let found = error.map_or(Trouble::Closed, conn::trouble);
        let speech = &self.shared.speech;
        let unread = match speech.is_idempotent() {
            true => conn.unread(found == Trouble::Reset, speech, self.now),
            false => 0,
        };
        let lost = conn.pending.len() - unread;
        conn.pending.drain(..lost);
        self.end(lost as u64, found);
        self.send_again(place);
    }

    /// Ends the requests of a place that are over their time, and their connection. Those behind them
    /// have time left: they are sent again where that may be done, else they go with it.
    pub(super) fn end_late(&mut self, place: u32) {
        let Some(timeout) = self.shared.plan.timeout else {
            return;
        };
        let conn = &mut self.conns[place as usize];
        let now = self.now;
        let is_late = |sent: &Sent| now.saturating_duration_since(sent.began) >= timeout;
        let late = conn.pending.iter().take_while(|sent| is_late(sent)).count();
        if late == 0 {
            return;
        }
        conn.pending.drain(..late);
        if conn.phase() == Phase::Connecting {
            self.shared.addresses.is_silent(conn.address);
        }
        self.end(late as u64, Trouble::TimedOut);
        match self.shared.speech.is_idempotent() {
            true => self.send_again(place),
            false => self.lost(place, Trouble::Closed),
        }
    }

    /// The connection takes no more requests: what was not answered goes over a new one.
    pub(super) fn send_again(&mut self, place: u32) {
        let count = self.conns[place as usize].pending.len() as u64;
        if count > 0 {
            let stage = self.shared.stage();
            self.tally.resent(count, stage);
            self.again.push_back(place);
        }
        self.closed(place);
    }

    /// The connection is gone, and what was on its way with it.
    pub(super) fn lost(&mut self, place: u32, trouble: Trouble) {
        let conn = &mut self.conns[place as usize];
        let count = conn.pending.len() as u64;
        conn.pending.clear();
        self.end(count, trouble);
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
