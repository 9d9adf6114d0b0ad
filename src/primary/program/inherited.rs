//! What a program is told of the sockets that it inherits, and what becomes of them before.
//!
//! Owns the names of two customs, systemd's (sd_listen_fds(3)) and einhorn's, and that the sockets
//! block, as a service manager's do. Leaves which ones it inherits to `ports`, and the descriptors'
//! numbers to `launch`.

use super::{Program, Protocol};
use crate::primary::Primary;
use crate::primary::members::Member;
use crate::sorted::SortedSet;
use crate::sys::launch::FIRST_FD;
use crate::sys::listener::Listener;
use crate::worker::WorkerId;
use std::ffi::OsString;
use std::io;

/// The variable that holds the id of the process that is meant; see sd_listen_fds(3).
pub(super) const PID: &str = "LISTEN_PID";

/// What a program is told that inherits `count` sockets from descriptor 3 on, but for [`PID`].
///
/// `EINHORN_MASTER_PID` is not among it: libraries that find it speak to einhorn's own socket as
/// soon as they serve (`EINHORN_SOCK_PATH`), and some end when nobody is there.
pub(super) fn variables(count: usize) -> Vec<(OsString, OsString)> {
    if count == 0 {
        return Vec::new();
    }
    let fds = || (FIRST_FD..).take(count);
    let names: Vec<_> = (0..count).map(|nth| format!("listener{nth}")).collect();
    let all: Vec<_> = fds().map(|fd| fd.to_string()).collect();
    let mut pairs = vec![
        ("LISTEN_FDS".to_owned(), count.to_string()),
        ("LISTEN_FDNAMES".to_owned(), names.join(":")),
        ("EINHORN_FD_COUNT".to_owned(), count.to_string()),
        // Before einhorn 0.4, and in what follows that to this day.
        ("EINHORN_FDS".to_owned(), all.join(" ")),
    ];
    let numbered = fds().enumerate();
    pairs.extend(numbered.map(|(nth, fd)| (format!("EINHORN_FD_{nth}"), fd.to_string())));
    let pairs = pairs.into_iter();
    pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

impl Program {
    /// Makes a listener of the settings, which no worker has yet, what the program expects.
    ///
    /// One that accepts by itself gets it blocking, as from systemd: a plain accept loop would fail
    /// otherwise, and whoever waits by epoll(7) makes it non-blocking by himself. That is once, for
    /// all who share it, so it must never be done again later.
    ///
    /// # Errors
    ///
    /// As fcntl(2).
    pub(in crate::primary) fn prepare(&self, listener: &Listener) -> io::Result<()> {
        match self.protocol {
            Protocol::Sockets => listener.block(),
            Protocol::Node => Ok(()),
        }
    }
}

impl Member {
    /// The place whose sockets it has inherited.
    pub(super) fn sockets_of(&self) -> usize {
        self.program.as_ref().map_or(0, |child| child.sockets_of)
    }
}

impl Primary {
    /// The place whose sockets the worker that is launched at `place` inherits: its own, where each is to
    /// have some by the policy, and once where somebody waits whom the one before has not accepted.
    pub(super) fn inherits_from(&mut self, place: usize) -> usize {
        if self.policy.splits() {
            return place;
        }
        match self.is_left(place) {
            true => {
                self.programs.once_more.insert(place);
                place
            }
            false => 0,
        }
    }

    /// Whether somebody waits at sockets of `place` alone, which no worker has any more, and none has
    /// had for him.
    fn is_left(&self, place: usize) -> bool {
        let mut sockets = self.members.iter().map(Member::sockets_of);
        !self.programs.once_more.contains(&place)
            && sockets.all(|one| one != place)
            && self.ports.has_waiting(place)
    }

    /// Has new connections come to those places alone whose worker accepts: at others they would wait
    /// until one does, or be reset when one no longer will. Where nobody does, they wait for the next.
    /// `begins` accepts from now on.
    pub(super) fn lead(&mut self, begins: Option<WorkerId>) {
        let accepts =
            |one: &&Member| one.stays() || begins == Some(one.id) && !one.leaving && !one.hung_up;
        let accepting = self.members.iter().filter(accepts);
        let mut places: SortedSet<usize> = accepting.map(Member::sockets_of).collect();
        if places.is_empty() {
            places.extend(0..self.own_places());
        }
        self.ports.lead(&places);
    }

    /// How many places are to have sockets of their own.
    fn own_places(&self) -> usize {
        match self.policy.splits() {
            true => self.supervisor.wanted(),
            false => 1,
        }
    }

    /// Closes sockets that nobody inherits any more, where each place has its own: clients would
    /// wait there for ever.
    pub(super) fn close_empty_places(&mut self) {
        let own = self.own_places();
        let has = self.members.iter().map(|one| one.sockets_of() + 1);
        // Whoever comes to such a place has them first.
        let comes = |place: &usize| self.members.iter().all(|one| one.place != *place);
        let left = (own..self.supervisor.wanted()).filter(comes);
        let left = left.filter(|place| self.is_left(*place));
        let used = has.chain(left.map(|place| place + 1)).max();
        let used = used.unwrap_or(0).max(own);
        self.ports.close_places(self.reactor.registry(), used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_customs_are_followed() {
        assert_eq!(variables(0), []);
        let all = variables(2);
        let value = |wanted: &str| {
            let found = all.iter().find(|(name, _)| name == wanted)?;
            found.1.to_str()
        };
        assert_eq!(value("LISTEN_FDS"), Some("2"));
        assert_eq!(value("LISTEN_FDNAMES"), Some("listener0:listener1"));
        assert_eq!(value("EINHORN_FD_COUNT"), Some("2"));
        assert_eq!(value("EINHORN_FD_0"), Some("3"));
        assert_eq!(value("EINHORN_FD_1"), Some("4"));
        assert_eq!(value("EINHORN_FDS"), Some("3 4"));
        // Nobody would answer.
        assert_eq!(value("EINHORN_MASTER_PID"), None);
    }
}
