//! The clock that all processes of the machine share, for times that one tells another; see
//! clock_gettime(2).
//!
//! Within one process `std::time::Instant` does as well.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since some moment that is the same for all processes, at the latest the machine's
/// start. It never goes back, and stands while the machine sleeps. On Linux `Instant` is the same
/// clock.
pub(crate) fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .expect("every Linux has a monotonic clock")
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_is_the_clock_of_instants() {
        let outer = monotonic();
        let inner = Instant::now();
        thread::sleep(Duration::from_millis(2));
        let inner = inner.elapsed();
        let outer = monotonic() - outer;
        assert!(inner >= Duration::from_millis(2));
        assert!(outer >= inner, "{outer:?} around {inner:?}");
    }

    #[test]
    fn it_never_goes_back() {
        let mut last = monotonic();
        assert!(last > Duration::ZERO);
        for _ in 0..1000 {
            let now = monotonic();
            assert!(now >= last);
            last = now;
        }
    }
}
