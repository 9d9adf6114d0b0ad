//! The Date field, formatted once a second (RFC 9110 6.6.1).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The field as it goes out, and until when it is right.
#[derive(Debug)]
pub(super) struct Date {
    field: Vec<u8>,
    until: Instant,
}

impl Date {
    /// The date at `now`.
    pub(super) fn new(now: Instant) -> Self {
        let mut date = Self {
            field: Vec::new(),
            until: now,
        };
        date.refresh(now);
        date
    }

    /// Formats the date anew if a second has begun, and says so. Costs nothing else.
    pub(super) fn refresh(&mut self, now: Instant) -> bool {
        if now < self.until {
            return false;
        }
        let time = SystemTime::now();
        self.field.clear();
        self.field.extend(b"Date: ");
        self.field
            .extend(httpdate::fmt_http_date(time).into_bytes());
        self.field.extend(b"\r\n");
        // The clock of the wall and the loop's run alike for the rest of a second.
        let into_second = time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        self.until = now + Duration::from_secs(1) - Duration::from_nanos(into_second.into());
        true
    }

    /// The date alone.
    pub(super) fn text(&self) -> &str {
        let text = self.field.get(6..self.field.len() - 2);
        std::str::from_utf8(text.unwrap_or_default()).unwrap_or_default()
    }

    /// `Date: ...` with its line end.
    pub(super) fn field(&self) -> &[u8] {
        &self.field
    }
}
