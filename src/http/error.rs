//! Why a message is refused: a status and a few words. It owns no text of the response; the server writes that.

use std::fmt;

/// A message that is refused, and the status to refuse it with.
///
/// Small and `Copy`: it is made on the path of every attack, so it owns nothing. After one the framing of the
/// connection is not to be trusted, so it must be closed once the answer is written (RFC 9112 section 9.6).
///
/// # Examples
///
/// ```
/// use mcluster::http::Error;
///
/// let error = Error::new(400, "bare LF in the head");
/// assert_eq!(error.to_string(), "400: bare LF in the head");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    status: u16,
    what: &'static str,
}

impl Error {
    /// An error with the `status` to answer and, for the log, `what` was wrong.
    pub const fn new(status: u16, what: &'static str) -> Self {
        Self { status, what }
    }

    /// The status code to answer with: 400, 413, 414, 417, 431, 501 or 505 from this module.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// What was wrong, in a few words without the peer's bytes.
    pub const fn what(&self) -> &'static str {
        self.what
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.what)
    }
}

impl std::error::Error for Error {}

/// The commonest refusal.
pub(super) const fn bad(what: &'static str) -> Error {
    Error::new(400, what)
}
