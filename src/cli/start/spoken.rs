//! What workers say to the primary, shown in the log: the beginning of each message, and of many not
//! all.

use crate::Event;
use crate::net::Few;
use std::time::{Duration, Instant};

/// Characters of a message that are shown.
const MOST_SHOWN: usize = 200;

/// Messages that are shown in a while, of all workers together.
const MOST_MESSAGES: u32 = 100;
const WHILE: Duration = Duration::from_secs(10);

/// What was shown of late.
#[derive(Debug)]
pub(super) struct Spoken(Few);

impl Default for Spoken {
    fn default() -> Self {
        Self(Few::of(MOST_MESSAGES, WHILE))
    }
}

impl Spoken {
    /// Shows an event, if it is a message; and says with any how many were not shown.
    pub(super) fn observe(&mut self, event: &Event, now: Instant) {
        if let Some(unsaid) = self.0.overdue(now) {
            log::info!("workers said {unsaid} messages more");
        }
        if let Event::Message { worker, message } = event
            && self.0.admits(now)
        {
            log::info!("worker {worker} says {}", shown(message.bytes()));
        }
    }
}

/// The beginning of a message, in one line that does nothing to a terminal.
fn shown(message: &[u8]) -> String {
    // A character has four bytes at most, and what makes no sense is shown as one for each three.
    let beginning = &message[..message.len().min(4 * (MOST_SHOWN + 1))];
    let text = String::from_utf8_lossy(beginning);
    let mut chars = text.chars();
    let mut shown = String::new();
    for c in chars.by_ref().take(MOST_SHOWN) {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if chars.next().is_some() {
        shown += &format!("… ({} bytes)", message.len());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(shown(br#"{"up":"0"}"#), r#"{"up":"0"}"#);
        assert_eq!(shown(b"a\r\nb\x1b[0m\0"), r"a\r\nb\u{1b}[0m\u{0}");
        assert_eq!(shown("\u{9b}ä".as_bytes()), r"\u{9b}ä");
        let whole = "\u{1f600}".repeat(MOST_SHOWN);
        assert_eq!(shown(whole.as_bytes()), whole);
        let more = format!("{whole}x");
        assert_eq!(shown(more.as_bytes()), format!("{whole}… (801 bytes)"));
        let large = vec![0xff; 1 << 20];
        let cut = "\u{fffd}".repeat(MOST_SHOWN);
        assert_eq!(shown(&large), format!("{cut}… (1048576 bytes)"));
    }
}
