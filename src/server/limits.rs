//! The limits on what a client may send, and how slowly.

use crate::http::MAX_FIELDS;
use std::time::Duration;

/// How long an idle loop may keep a lingering close, and a new connection without a request once
/// draining.
const LINGER: Duration = Duration::from_secs(5);
const DRAIN_FRESH: Duration = Duration::from_secs(1);

/// Limits on what a client may send, and how slowly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head: more is 431, or 414 when the request line alone is longer.
    pub head: usize,
    /// Fields in a head: more is 431.
    pub fields: usize,
    /// Bytes of a body: more is 413.
    pub body: u64,
    /// Bytes of a body that are kept in memory: a larger one lies in a file without a name, in the
    /// directory for temporary files (`TMPDIR`). Not for handlers that read while it arrives.
    pub body_memory: usize,
    /// From a connection's first moment, or a later request's first byte, to the end of its head.
    pub header_timeout: Duration,
    /// The longest pause in a body.
    pub body_timeout: Duration,
    /// How long a connection may wait between two requests.
    pub idle_timeout: Duration,
    /// The longest pause of a client that does not take its answer.
    pub write_timeout: Duration,
    /// Bytes a second below which a client is too slow, in sending a body or taking an answer, once
    /// it has had as long as the pause that it may make; 0 is off.
    pub min_rate: u64,
    /// Connections of one worker; beyond it takes no new one until one ends. The cluster lowers it
    /// where the limit of descriptors allows fewer, of which [`Files`](crate::Files) need some too.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 16 * 1024,
            fields: 100,
            body: 1024 * 1024,
            body_memory: 256 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            min_rate: 256,
            connections: 10_000,
        }
    }
}

impl Limits {
    /// The smallest head that makes sense: room for a request line and a Host.
    pub const SMALLEST_HEAD: usize = 256;

    /// Whether anything could be served within these limits.
    ///
    /// # Errors
    ///
    /// Names the first one that makes no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        let times = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
            ("write_timeout", self.write_timeout),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(format!("{name} is 0, so nothing could happen in time"));
        }
        if let Some((name, _)) = times.iter().find(|(_, time)| *time > LONGEST) {
            return Err(format!("{name} is longer than any clock goes"));
        }
        if self.head < Self::SMALLEST_HEAD {
            let least = Self::SMALLEST_HEAD;
            return Err(format!("a head of {} bytes: at least {least}", self.head));
        }
        if !(1..=MAX_FIELDS).contains(&self.fields) {
            return Err(format!("{} fields: from 1 to {MAX_FIELDS}", self.fields));
        }
        match self.connections {
            0 => Err("0 connections: at least one".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A century: as good as never, and no clock overflows.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The kinds of time limit, as indices into the timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Head,
    Body,
    Idle,
    Write,
    Linger,
    Fresh,
}

impl Limit {
    pub(super) fn durations(limits: &Limits) -> [Duration; 6] {
        [
            limits.header_timeout,
            limits.body_timeout,
            limits.idle_timeout,
            limits.write_timeout,
            LINGER,
            DRAIN_FRESH,
        ]
    }

    pub(super) fn of(kind: u8) -> Self {
        match kind {
            0 => Self::Head,
            1 => Self::Body,
            2 => Self::Idle,
            3 => Self::Write,
            4 => Self::Linger,
            _ => Self::Fresh,
        }
    }
}
