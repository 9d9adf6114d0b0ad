//! Letting connections gather while they come fast, so that one turn of a loop has several.
//!
//! Where there is CPU to spare a loop that accepts wakes for each connection, and waking costs about
//! as much as accepting. So while they come fast its turns begin no more often than every so often,
//! as network cards do with their interrupts. Who knows whether anybody suffers from it says so.

use std::thread;
use std::time::{Duration, Instant};

/// How long it is looked how fast connections come.
const WINDOW: Duration = Duration::from_millis(20);

/// Connections a second from which on they are let gather. With fewer, there is so much CPU to
/// spare that they had better be dealt with at once.
const WORTH: u64 = 8_000;

/// Windows in which they are not let gather, before they are: how fast they come by themselves.
const MEASURED: u32 = 4;

/// After so many windows in which they were, that is measured anew.
const LONGEST: u32 = 256;

/// After so many windows, at most, it is tried again what did not pay before.
const LONGEST_REST: u32 = 64;

/// Whether connections are let gather.
///
/// Few clients that wait for an answer before they connect again come the more slowly the longer
/// one waits for them. So it is compared how many come with and without it; where fewer do, they are
/// left alone, and what was tried in vain is tried again after a while that doubles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gathering {
    /// While they are, a turn begins so long after the one before.
    period: Duration,
    on: bool,
    /// Connections came in this turn.
    came: bool,
    /// When the window began, and the connections since.
    since: Option<Instant>,
    count: u64,
    /// Windows since it was last changed whether they are let gather.
    windows: u32,
    /// Connections a second without it, and with it.
    alone: u64,
    gathered: u64,
    /// Windows until it is tried again, and how many that were the last time.
    rest: u32,
    rested: u32,
}

impl Gathering {
    /// For a loop whose turns may be so far apart.
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            period,
            on: false,
            came: false,
            since: None,
            count: 0,
            windows: 0,
            alone: 0,
            gathered: 0,
            rest: 0,
            rested: 0,
        }
    }

    /// Whether there will be several in a turn.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// So many have come in the turn that began at `now`: how many a second came in the last window,
    /// if it ends with them, for [`Gathering::judge`]. After a time with none that is 0.
    pub(crate) fn came(&mut self, now: Instant, count: usize) -> Option<u64> {
        self.came |= count > 0;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        let ended = elapsed >= WINDOW;
        let rate = ended.then(|| match elapsed < 2 * WINDOW {
            true => self.count * 1_000_000 / elapsed.as_micros() as u64,
            false => 0,
        });
        if ended {
            self.since = Some(now);
            self.count = 0;
        }
        self.count += count as u64;
        rate
    }

    /// A window is over in which so many connections came a second; `free` if nobody suffers from
    /// letting them gather.
    pub(crate) fn judge(&mut self, rate: u64, free: bool) {
        self.windows += 1;
        self.rest = self.rest.saturating_sub(1);
        if !free || rate < WORTH {
            if self.on {
                self.fail();
            }
            // As fast as they come from the next window on.
            (self.windows, self.alone) = (0, 0);
        } else if self.on {
            // Some windows are bad ones on a machine that has other things to do.
            self.gathered = (7 * self.gathered + rate) / 8;
            if self.gathered < self.alone / 5 * 4 {
                self.fail();
            } else if self.windows >= LONGEST {
                (self.on, self.windows, self.rested) = (false, 0, 0);
            }
        } else {
            // Their mean, as long as they are few; later windows count more.
            let windows = u64::from(self.windows.clamp(1, MEASURED));
            self.alone = ((windows - 1) * self.alone + rate) / windows;
            if self.windows >= MEASURED && self.rest == 0 {
                (self.on, self.windows, self.gathered) = (true, 0, self.alone);
            }
        }
    }

    /// Leaves them alone for a while, twice as long as the last time.
    fn fail(&mut self) {
        (self.on, self.windows) = (false, 0);
        self.rested = (2 * self.rested + 1).min(LONGEST_REST);
        self.rest = self.rested;
    }

    /// The turn that began at `began` is over: lets connections gather until `deadline` at the
    /// latest, if they are to and some came in it. The time, if that took any.
    ///
    /// The thread sleeps rather than waiting for events, each of which would wake it: what else it
    /// is to do may come as late. A turn that took as long itself is followed by the next one at
    /// once.
    pub(crate) fn pause(&mut self, began: Instant, deadline: Option<Instant>) -> Option<Instant> {
        if !std::mem::take(&mut self.came) || !self.on {
            return None;
        }
        let until = began + self.period;
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        let time = until.checked_duration_since(Instant::now())?;
        thread::sleep(time);
        Some(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_when_a_window_ends() {
        let mut gathering = Gathering::new(Duration::ZERO);
        let start = Instant::now();
        assert_eq!(gathering.came(start, 100), None);
        assert_eq!(gathering.came(start + WINDOW / 2, 100), None);
        assert_eq!(gathering.came(start + WINDOW, 60), Some(10_000));
        assert_eq!(gathering.came(start + WINDOW * 5 / 2, 7), Some(2_000));
        // Nothing came for longer.
        assert_eq!(gathering.came(start + WINDOW * 5, 7), Some(0));
        assert_eq!(gathering.came(start + WINDOW * 6, 7), Some(350));
    }

    /// What comes of windows with these rates, as long as they are let gather and while not.
    fn windows(gathering: &mut Gathering, count: u32, alone: u64, gathered: u64) -> u32 {
        let mut on = 0;
        for _ in 0..count {
            let rate = if gathering.on { gathered } else { alone };
            gathering.judge(rate, true);
            on += u32::from(gathering.on);
        }
        on
    }

    #[test]
    fn connections_gather_while_as_many_come() {
        let mut gathering = Gathering::new(Duration::ZERO);
        assert_eq!(windows(&mut gathering, 100, WORTH - 1, WORTH - 1), 0);
        assert_eq!(windows(&mut gathering, MEASURED - 1, 20_000, 20_000), 0);
        let on = windows(&mut gathering, 1_000, 20_000, 19_000);
        assert!(on > 950, "{on}");
        // One bad window is none, and one that is not free is the last.
        gathering = Gathering::new(Duration::ZERO);
        windows(&mut gathering, MEASURED, 20_000, 20_000);
        gathering.judge(14_000, true);
        assert!(gathering.is_on());
        gathering.judge(20_000, false);
        assert!(!gathering.is_on());
    }

    #[test]
    fn clients_that_are_slowed_down_by_it_are_left_alone() {
        for first in [36_000, 20_000, 9_000] {
            let mut gathering = Gathering::new(Duration::ZERO);
            // It begins slowly, so that what is compared with is too little at first.
            windows(&mut gathering, MEASURED, first, first);
            windows(&mut gathering, 2 * LONGEST, 36_000, 26_000);
            let on = windows(&mut gathering, 10_000, 36_000, 26_000);
            assert!((1..1_500).contains(&on), "{first}: {on}");
            // Where it pays again, it is soon as at first.
            windows(&mut gathering, 2 * LONGEST_REST, 36_000, 36_000);
            let on = windows(&mut gathering, 1_000, 36_000, 36_000);
            assert!(on > 950, "{on}");
        }
    }

    #[test]
    fn turns_are_a_period_apart_where_connections_gather() {
        let period = Duration::from_millis(5);
        let mut gathering = Gathering::new(period);
        windows(&mut gathering, MEASURED, 20_000, 20_000);
        let began = Instant::now();
        // None came in this turn.
        assert_eq!(gathering.pause(began, None), None);
        gathering.came(began, 0);
        assert_eq!(gathering.pause(began, None), None);
        gathering.came(began, 1);
        // What is due comes first.
        assert!(gathering.pause(began, Some(began)).is_none());
        gathering.came(began, 1);
        let now = gathering.pause(began, None).expect("it slept");
        assert!(now >= began + period);
        // A turn as long as that is followed by the next one at once, and so is one of few.
        gathering.came(began, 1);
        assert_eq!(gathering.pause(began, None), None);
        gathering.judge(WORTH - 1, true);
        let began = Instant::now();
        gathering.came(began, 1);
        assert_eq!(gathering.pause(began, None), None);
    }
}
