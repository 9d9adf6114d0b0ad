//! Which of a host's addresses is connected to: the first that works, as a browser would find it out,
//! and from then on that one alone.

use crate::sys::socket::Place;
use std::sync::atomic::{AtomicUsize, Ordering};

/// No address has worked yet.
const UNKNOWN: usize = usize::MAX;

/// The addresses of one host, at least one.
#[derive(Debug)]
pub(super) struct Addresses {
    places: Vec<Place>,
    working: AtomicUsize,
    /// Where connections begin while none has worked.
    begin: AtomicUsize,
}

impl Addresses {
    /// In the order in which they are tried.
    pub(super) fn new(places: Vec<Place>) -> Self {
        Self {
            places,
            working: AtomicUsize::new(UNKNOWN),
            begin: AtomicUsize::new(0),
        }
    }

    /// What number `index` is.
    pub(super) fn place(&self, index: usize) -> &Place {
        &self.places[index]
    }

    /// The one to begin with.
    pub(super) fn first(&self) -> usize {
        match self.working.load(Ordering::Relaxed) {
            UNKNOWN => self.begin.load(Ordering::Relaxed),
            working => working,
        }
    }

    /// The one to try after `index`, which did not work.
    pub(super) fn after(&self, index: usize) -> Option<usize> {
        match self.working.load(Ordering::Relaxed) {
            UNKNOWN => Some(index + 1).filter(|&next| next < self.places.len()),
            // Somebody else has found out meanwhile.
            working => (working != index).then_some(working),
        }
    }

    /// That one did not answer in time: the next connection begins with the one after it.
    pub(super) fn is_silent(&self, index: usize) {
        if self.after(index).is_some() {
            self.begin.store(index + 1, Ordering::Relaxed);
        } else {
            self.begin.store(0, Ordering::Relaxed);
        }
    }

    /// That one works. The first that does is it for all.
    pub(super) fn works(&self, index: usize) {
        if self.working.load(Ordering::Relaxed) == UNKNOWN {
            let (order, order_else) = (Ordering::Relaxed, Ordering::Relaxed);
            let _ = self
                .working
                .compare_exchange(UNKNOWN, index, order, order_else);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn what_works_is_remembered() {
        let place = |port| Place::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let all = Addresses::new((1..=3).map(place).collect());
        assert_eq!(
            (all.first(), all.after(0), all.after(2)),
            (0, Some(1), None)
        );
        all.is_silent(0);
        assert_eq!((all.first(), all.after(1)), (1, Some(2)));
        all.is_silent(2);
        assert_eq!(all.first(), 0);
        all.works(1);
        all.works(2);
        assert_eq!(
            (all.first(), all.after(1), all.after(0)),
            (1, None, Some(1))
        );
        assert_eq!(all.place(1), &place(2));
    }
}
