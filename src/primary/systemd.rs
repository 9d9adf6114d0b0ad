//! What a service manager such as systemd is told of the cluster: that it is ready, reloads or
//! stops, how it is in words, and again and again that it is well.
//!
//! Owns when each of it is said; the protocol is with [`Notifier`]. The rest of the primary says
//! nothing to a manager: what happens is taken from the events, and what else has changed is seen
//! once a turn.
//!
//! # When it is well
//!
//! The manager's watchdog is for what the primary cannot mend by itself, for it ends all of the
//! service. So it is kept content while the primary's own loop turns and, within its interval,
//! somebody has served: a worker that listens and stays has made a turn of its loop. One worker
//! alone that stands still is replaced by the worker timeout; only where that is off is it the
//! watchdog's business too. A start and a stop have limits of their own and count as well.

use super::event::Reload;
use super::{Event, Primary};
use crate::sorted::SortedMap;
use crate::sys::clock;
use crate::sys::notify::Notifier;
use crate::sys::process;
use crate::worker::WorkerId;
use std::collections::VecDeque;
#[cfg(feature = "control")]
use std::ffi::OsString;
use std::time::{Duration, Instant};

/// Looks in an interval of the watchdog; it is told at every second one.
const LOOKS: u32 = 4;

/// How long to wait before saying again what a manager could not take: at first, and at most.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_AT_MOST: Duration = Duration::from_secs(10);

/// Messages kept for a manager that takes none. The newest matter.
const MOST_UNSENT: usize = 16;

/// The longest status text, in characters.
const LONGEST_STATUS: usize = 300;

/// What a manager knows, and what it has yet to be told.
#[derive(Debug, Default)]
pub(super) struct State {
    /// None where there is no manager, and then nothing here does anything.
    notifier: Option<Notifier>,
    watchdog: Option<Watchdog>,
    unsent: VecDeque<String>,
    /// When to try those again, and how long that was put off.
    again: Option<(Instant, Duration)>,
    /// The text that was said last.
    said: String,
    /// How many workers served, should have and were there when the text was last thought of.
    seen: Option<(usize, usize, usize)>,
    reloading: bool,
    /// How the last reload ended.
    reloaded: String,
    stopping: bool,
}

impl State {
    /// The manager that the environment tells of, which is removed from it: no worker, and no
    /// program that one executes, is to speak for the service.
    pub(super) fn from_env() -> Self {
        Self {
            notifier: Notifier::from_env(),
            ..Self::default()
        }
    }

    /// How often the manager must hear that all is well, if it watches.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.notifier.as_ref().and_then(Notifier::watchdog)
    }

    /// The environment by which a program that takes this one's place finds the same manager.
    #[cfg(feature = "control")]
    pub(super) fn variables(&self) -> Vec<(OsString, OsString)> {
        let notifier = self.notifier.as_ref();
        notifier.map(Notifier::variables).unwrap_or_default()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let look_at = self.watchdog.as_ref().map(|watchdog| watchdog.look_at);
        let again = self.again.map(|(at, _)| at);
        [look_at, again].into_iter().flatten().min()
    }

    /// Says something that must arrive.
    fn say(&mut self, message: String, now: Instant) {
        if self.unsent.len() == MOST_UNSENT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message);
        self.flush(now);
    }

    fn flush(&mut self, now: Instant) {
        let Some(notifier) = &self.notifier else {
            return self.unsent.clear();
        };
        if self.again.is_some_and(|(at, _)| at > now) {
            return;
        }
        while let Some(message) = self.unsent.front() {
            if let Err(error) = notifier.send(message) {
                let put_off = match self.again {
                    Some((_, before)) => (before * 2).min(AGAIN_AT_MOST),
                    None => {
                        log::warn!("the service manager cannot be told how it is: {error}");
                        AGAIN
                    }
                };
                self.again = Some((now + put_off, put_off));
                return;
            }
            self.unsent.pop_front();
        }
        self.again = None;
    }
}

/// `STATUS=` and a text that cannot be taken for another line.
fn status_line(text: &str) -> String {
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    let text: String = text.chars().take(LONGEST_STATUS).map(plain).collect();
    format!("STATUS={text}")
}

/// Whether a cluster is well, by the turns of its workers' loops.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    /// Whether one worker alone that stands still is enough.
    strict: bool,
    look_at: Instant,
    looked: Instant,
    /// When it is due to be told.
    ping_at: Instant,
    /// When somebody was last seen to serve.
    served: Instant,
    /// How many turns each worker had made, and when that was last seen to change.
    beats: SortedMap<WorkerId, (u64, Instant)>,
    /// That something is wrong has been said.
    unwell: bool,
}

impl Watchdog {
    fn new(interval: Duration, strict: bool, now: Instant) -> Self {
        Self {
            interval,
            strict,
            look_at: now,
            looked: now,
            ping_at: now,
            served: now,
            beats: SortedMap::new(),
            unwell: false,
        }
    }

    /// Sees how many turns each worker has made that should serve.
    ///
    /// # Errors
    ///
    /// What is wrong, if something is.
    fn look(
        &mut self,
        now: Instant,
        turns: impl Iterator<Item = (WorkerId, u64)>,
    ) -> Result<(), String> {
        let period = (self.interval / LOOKS).max(Duration::from_millis(1));
        // One that was stopped itself, and its workers perhaps with it, knows nothing of them.
        if now.saturating_duration_since(self.looked) > period * 2 {
            self.beats.clear();
        }
        self.looked = now;
        self.look_at = now + period;
        let before = std::mem::take(&mut self.beats);
        self.beats = turns
            .map(|(id, turns)| match before.get(&id) {
                Some(same) if same.0 == turns => (id, *same),
                _ => (id, (turns, now)),
            })
            .collect();
        let newest = self.beats.values().map(|(_, at)| *at).max();
        self.served = newest.map_or(self.served, |at| at.max(self.served));
        let still = |at: Instant| now.saturating_duration_since(at);
        if still(self.served) >= self.interval {
            return Err(format!("nobody has served for {:?}", still(self.served)));
        }
        let longest = self.beats.iter().min_by_key(|(_, (_, at))| *at);
        match longest {
            Some((id, (_, at))) if self.strict && still(*at) >= self.interval => {
                Err(format!("worker {id} stands still for {:?}", still(*at)))
            }
            _ => Ok(()),
        }
    }
}

impl Primary {
    /// Takes from an event what the manager should know.
    pub(super) fn inform(&mut self, event: &Event) {
        if self.service.notifier.is_none() {
            return;
        }
        let now = self.reactor.now();
        match event {
            Event::Ready { .. } if !self.was_told_to_stop() => {
                let main = format!("READY=1\nMAINPID={}", process::pid());
                self.inform_of(&main, now);
            }
            Event::Reload { reload } if self.announced && !self.was_told_to_stop() => {
                self.service.reloading = matches!(reload, Reload::Began);
                self.service.reloaded = match reload {
                    Reload::Began => String::new(),
                    Reload::Done => "; reloaded".to_owned(),
                    Reload::Failed { why } => format!("; not reloaded: {why}"),
                };
                let state = match reload {
                    Reload::Began => {
                        let micros = clock::monotonic().as_micros();
                        format!("RELOADING=1\nMONOTONIC_USEC={micros}")
                    }
                    Reload::Done | Reload::Failed { .. } => "READY=1".to_owned(),
                };
                self.inform_of(&state, now);
            }
            _ => {}
        }
    }

    /// Once a turn: says what has changed, and that all is well where that is due.
    pub(super) fn keep_informed(&mut self) {
        if self.service.notifier.is_none() {
            return;
        }
        let now = self.reactor.now();
        if self.was_told_to_stop() && !self.service.stopping {
            self.service.stopping = true;
            self.inform_of("STOPPING=1", now);
        }
        let workers = self.members.len();
        let seen = Some((self.serving().count(), self.supervisor.wanted(), workers));
        if std::mem::replace(&mut self.service.seen, seen) != seen {
            let text = self.status_text();
            if text != self.service.said {
                self.service.say(status_line(&text), now);
                self.service.said = text;
            }
        }
        self.service.flush(now);
        self.keep_the_watchdog_content(now);
    }

    /// The last that a manager hears. `failed` is why, if this was no stop in good order.
    pub(super) fn inform_of_the_end(&mut self, failed: Option<&str>) {
        let now = self.reactor.now();
        let text = failed.map_or("stopped".to_owned(), |why| format!("failed: {why}"));
        let line = status_line(&text);
        let first = !std::mem::replace(&mut self.service.stopping, true);
        let message = match first {
            true => format!("STOPPING=1\n{line}"),
            false => line,
        };
        self.service.say(message, now);
    }

    /// Says `state`, with the text that goes with it.
    fn inform_of(&mut self, state: &str, now: Instant) {
        let text = self.status_text();
        let message = format!("{state}\n{}", status_line(&text));
        self.service.say(message, now);
        self.service.said = text;
    }

    fn status_text(&self) -> String {
        if self.was_told_to_stop() {
            return format!("stopping, workers left: {}", self.members.len());
        }
        let serving = self.serving().count();
        let workers = match self.supervisor.wanted() {
            // The application forks as many as it likes.
            0 => format!("{serving} workers"),
            wanted => format!("{serving} of {wanted} workers"),
        };
        match (self.announced, self.service.reloading) {
            (false, _) => format!("starting: {workers} listen"),
            (true, true) => format!("reloading: {workers} serve"),
            (true, false) => format!("{workers} serve{}", self.service.reloaded),
        }
    }

    /// Those that should serve: one that goes, or for which another was sent, need not.
    fn serving(&self) -> impl Iterator<Item = &super::members::Member> {
        let members = self.members.iter();
        members.filter(|one| one.ready && !one.leaving && !one.stuck)
    }

    fn keep_the_watchdog_content(&mut self, now: Instant) {
        let Some(interval) = self.service.interval() else {
            return;
        };
        let strict = self.rules.worker_timeout.is_none();
        let watchdog = self.service.watchdog.take();
        let mut watchdog = watchdog.unwrap_or_else(|| Watchdog::new(interval, strict, now));
        if watchdog.look_at <= now {
            let turns = self.serving().map(|one| (one.id, one.slot.turns()));
            let mut health = watchdog.look(now, turns);
            if !self.announced || self.was_told_to_stop() {
                watchdog.served = now;
                health = Ok(());
            }
            match health {
                Ok(()) => {
                    if std::mem::take(&mut watchdog.unwell) {
                        log::info!("the service manager's watchdog is content again");
                    }
                    if watchdog.ping_at <= now {
                        self.ping();
                        watchdog.ping_at = now + interval / 2;
                    }
                }
                Err(what) => {
                    if !std::mem::replace(&mut watchdog.unwell, true) {
                        log::error!("{what}: the service manager's watchdog is not told otherwise");
                    }
                }
            }
        }
        self.service.watchdog = Some(watchdog);
    }

    /// One that does not arrive is followed by the next.
    fn ping(&self) {
        if let Some(notifier) = &self.service.notifier
            && let Err(error) = notifier.send("WATCHDOG=1")
        {
            log::debug!("the service manager's watchdog hears nothing: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(4);

    /// Looks once a second at the turns that two workers have made; whether all was well then.
    fn looks(strict: bool, turns: &[(Option<u64>, Option<u64>)]) -> Vec<bool> {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(INTERVAL, strict, start);
        let look = |(second, (first, other)): (usize, &(Option<u64>, Option<u64>))| {
            let now = start + Duration::from_secs(second as u64);
            let first = first.map(|turns| (WorkerId(1), turns));
            let other = other.map(|turns| (WorkerId(2), turns));
            watchdog.look(now, first.into_iter().chain(other)).is_ok()
        };
        turns.iter().enumerate().map(look).collect()
    }

    #[test]
    fn all_is_well_while_somebody_serves() {
        let one_stands = |second| (Some(7), Some(second));
        let turns: Vec<_> = (0..7).map(one_stands).collect();
        assert_eq!(looks(false, &turns), [true; 7]);
        let strictly = [true, true, true, true, false, false, false];
        assert_eq!(looks(true, &turns), strictly);
    }

    #[test]
    fn nobody_may_serve_for_less_than_the_interval() {
        let both = (Some(7), Some(9));
        let turns = [both, both, both, both, both, (Some(8), Some(9)), both];
        let expected = [true, true, true, true, false, true, true];
        assert_eq!(looks(false, &turns), expected);
        let none = (None, None);
        // A gap while the only worker is replaced; the new one counts from its first moment.
        let turns = [both, none, none, none, (Some(0), None), none, none];
        assert_eq!(looks(false, &turns), [true; 7]);
        assert_eq!(looks(true, &turns), [true; 7]);
        let expected = [true, true, true, true, false];
        assert_eq!(looks(false, &[none; 5]), expected);
    }

    #[test]
    fn who_was_stopped_itself_begins_anew() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(INTERVAL, true, start);
        let one = || [(WorkerId(1), 7)].into_iter();
        assert_eq!(watchdog.look(start, one()), Ok(()));
        let later = start + Duration::from_secs(60);
        assert_eq!(watchdog.look(later, one()), Ok(()));
        assert_eq!(watchdog.look_at, later + INTERVAL / LOOKS);
    }

    #[test]
    fn a_text_is_one_line() {
        let injected = status_line("panic: x\nWATCHDOG=trigger\r\0é");
        assert_eq!(injected, "STATUS=panic: x WATCHDOG=trigger  é");
        assert_eq!(status_line(&"é".repeat(1000)).len(), 7 + 2 * LONGEST_STATUS);
    }
}
