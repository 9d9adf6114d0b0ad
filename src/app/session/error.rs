//! What can go wrong with a session, and what its client is told.

use super::StoreError;
use crate::app::{IntoResponse, Response};
use crate::net::Seldom;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why a session is not as the handler wants it.
///
/// It is an answer, so `?` in a handler is enough: 409 for [`Conflict`](Self::Conflict) and
/// [`Gone`](Self::Gone), which the client may try again; 503 with `Retry-After` for
/// [`Unavailable`](Self::Unavailable) and [`Full`](Self::Full); 500 for the others, which are the
/// application's or the operator's to mend. The reason is for the log, where it is said now and
/// then; the client is told the status alone.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// More bytes than [`Sessions::max_bytes`](super::Sessions::max_bytes) allows.
    TooLarge {
        /// How many.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
    /// Another request has changed the session in the meantime.
    Conflict,
    /// Another request has ended the session in the meantime, or given it another id.
    Gone,
    /// The store has no room for more.
    Full,
    /// The store cannot be reached, or does not answer in time.
    Unavailable(String),
    /// The store is not what it should be.
    Broken(String),
    /// The bytes are not what the handler takes them for, or the value cannot be written.
    Data(String),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, most } => {
                write!(f, "a session of {bytes} bytes, where {most} are allowed")
            }
            Self::Conflict => StoreError::Conflict.fmt(f),
            Self::Gone => f.write_str("another request has ended the session"),
            Self::Full => StoreError::Full.fmt(f),
            Self::Unavailable(why) => write!(f, "the session store is out of reach: {why}"),
            Self::Broken(why) => write!(f, "the session store cannot be used: {why}"),
            Self::Data(why) => write!(f, "what a session holds is not what was expected: {why}"),
        }
    }
}

impl std::error::Error for SessionError {}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::Conflict,
            StoreError::Full => Self::Full,
            StoreError::Unavailable(why) => Self::Unavailable(why),
            StoreError::Broken(why) => Self::Broken(why),
        }
    }
}

/// When each kind is worth a line again.
static SAID: [Mutex<Seldom>; 5] = [const { Mutex::new(Seldom::every(Duration::from_secs(10))) }; 5];

impl SessionError {
    /// Says it in the log, now and then. What clients do to each other is no news.
    pub(super) fn note(&self) {
        let kind = match self {
            Self::Conflict | Self::Gone => return,
            Self::TooLarge { .. } => 0,
            Self::Full => 1,
            Self::Unavailable(_) => 2,
            Self::Broken(_) => 3,
            Self::Data(_) => 4,
        };
        let mut said = SAID[kind].lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_due(Instant::now()) {
            log::error!("{self}");
        }
    }
}

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        self.note();
        let (status, again) = match self {
            Self::Conflict | Self::Gone => (409, None),
            Self::Unavailable(_) => (503, Some("1")),
            // By then what has expired has been swept.
            Self::Full => (503, Some("60")),
            Self::TooLarge { .. } | Self::Broken(_) | Self::Data(_) => (500, None),
        };
        let response = Response::plain(status).nosniff();
        match again {
            Some(seconds) => response.header("Retry-After", seconds),
            None => response,
        }
    }
}
