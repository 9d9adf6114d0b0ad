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

/// The CPU time that the calling thread took so far, to the nanosecond; see clock_gettime(2).
#[cfg(feature = "loadtest")]
pub(crate) fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Has waits of the calling thread end when they should: by itself the kernel puts such off that lie
/// within 50 microseconds of each other; see `PR_SET_TIMERSLACK` in prctl(2).
///
/// # Errors
///
/// Those of prctl.
#[cfg(feature = "loadtest")]
pub(crate) fn wake_in_time() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_timerslack(1)?)
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

    #[cfg(feature = "loadtest")]
    #[test]
    fn a_thread_that_waits_takes_no_cpu_time() {
        wake_in_time().expect("a number that is allowed");
        let before = thread_cpu();
        thread::sleep(Duration::from_millis(20));
        let waited = thread_cpu() - before;
        assert!(waited < Duration::from_millis(15), "{waited:?}");
        while thread_cpu() < before + Duration::from_millis(20) {
            std::hint::spin_loop();
        }
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
