//! What stands before each line.

use crate::worker::WorkerId;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_SECS: u64 = 24 * 60 * 60;

/// What stands before each line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) time: bool,
    pub(super) prefix: bool,
}

impl Style {
    /// What stands before each line of `worker` that is read at `time`.
    pub(super) fn before(self, worker: WorkerId, time: SystemTime) -> String {
        let mut before = String::new();
        if self.time {
            before += &rfc3339(time);
            before.push(' ');
        }
        if self.prefix {
            before += &format!("{worker}| ");
        }
        before
    }
}

/// Adds a line and its end to `batch`.
pub(super) fn add(batch: &mut Vec<u8>, before: &str, line: &[u8]) {
    batch.extend_from_slice(before.as_bytes());
    batch.extend_from_slice(line);
    batch.push(b'\n');
}

/// How many lines there are in what ends with one.
pub(super) fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// The words of the primary among its workers' lines: so many are not there.
pub(super) fn notice(lost: u64, why: &str) -> Vec<u8> {
    let mut line = Vec::new();
    // Writing into memory does not fail.
    let _ = writeln!(line, "mcluster: {lost} lines are lost here: {why}");
    line
}

/// A time as RFC 3339 has it, to the millisecond.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / DAY_SECS, since.as_secs() % DAY_SECS);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (second, milli) = (second % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of the Gregorian calendar, so many days after 1970 began. Years are counted
/// from March, so that the day that not all have is their last; 400 of them are as long as any other
/// 400.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // From the first of March of the year 0.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    match month {
        0..10 => (year, month + 3, day),
        _ => (year + 1, month - 9, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (millis, expected) in cases {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(rfc3339(time), expected);
        }
    }

    #[test]
    fn every_day_is_the_one_that_http_says() {
        for day in (0..60_000).step_by(7) {
            let time = UNIX_EPOCH + Duration::from_secs(day * DAY_SECS);
            let http = httpdate::fmt_http_date(time);
            let date = rfc3339(time);
            assert_eq!(&http[12..16], &date[..4]);
            assert_eq!(&http[5..7], &date[8..10]);
        }
    }

    #[test]
    fn what_stands_before_a_line() {
        let style = |time, prefix| Style { time, prefix }.before(WorkerId(7), UNIX_EPOCH);
        assert_eq!(style(false, true), "7| ");
        assert_eq!(style(true, true), "1970-01-01T00:00:00.000Z 7| ");
        assert_eq!(style(true, false), "1970-01-01T00:00:00.000Z ");
        assert_eq!(style(false, false), "");
        let mut batch = Vec::new();
        add(&mut batch, "7| ", b"");
        add(&mut batch, "7| ", b"\xff");
        assert_eq!(batch, b"7| \n7| \xff\n");
        assert_eq!(count(&batch), 2);
    }
}
