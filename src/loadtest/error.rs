//! Why a load test could not be made.

use std::fmt;
use std::io;

/// What kept a load test from running. What goes wrong with its requests is in the report.
#[derive(Debug)]
pub enum Error {
    /// What is wanted makes no sense: an address, a header, a number.
    Usage(String),
    /// The system refused something.
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: what was tried.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Usage(_) => None,
            Self::Io { source, .. } => Some(source),
        }
    }
}

/// A result of the load generator.
pub type Result<T> = std::result::Result<T, Error>;
