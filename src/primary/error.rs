//! Why a cluster did not start, or ended badly. Owns the exit status of each reason.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What went wrong with a cluster.
#[derive(Debug)]
pub enum Error {
    /// The settings or the application make no sense.
    Settings(String),
    /// A configuration file cannot be read or makes no sense.
    Configuration(String),
    /// A listener could not be made.
    Bind {
        /// Where, as it was asked for.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Workers died again and again, and none was ever ready.
    Crashing {
        /// How many were tried.
        deaths: u32,
        /// How the last one ended.
        last: String,
    },
    /// Nobody answers at the control socket of a running cluster.
    Unreachable {
        /// The cluster's name.
        name: String,
        /// Its control socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A running cluster refused what it was asked for, or tried and gave up.
    Refused(String),
    /// It ran, and what it ran for went wrong.
    Failed(String),
    /// It ran, and a threshold was missed.
    Missed(String),
    /// A cluster in another process has failed.
    Elsewhere {
        /// The status that it ended with.
        status: u8,
        /// Which, and what was wrong.
        what: String,
    },
    /// The system refused something.
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// The status a program should exit with: 2 usage, 3 configuration, 4 cannot bind, 5 workers keep crashing,
    /// 6 no answer at the control socket, 7 a threshold missed, 8 refused or given up, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 2,
            Self::Configuration(_) => 3,
            Self::Bind { .. } => 4,
            Self::Crashing { .. } => 5,
            Self::Unreachable { .. } => 6,
            Self::Missed(_) => 7,
            Self::Refused(_) => 8,
            Self::Elsewhere { status, .. } => *status,
            Self::Failed(_) | Self::Io { .. } => 1,
        }
    }

    /// For `map_err`: what was tried.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(what)
            | Self::Configuration(what)
            | Self::Failed(what)
            | Self::Missed(what)
            | Self::Refused(what)
            | Self::Elsewhere { what, .. } => f.write_str(what),
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Crashing { deaths, last } => write!(
                f,
                "giving up: {deaths} workers died and none was ever ready; the last ended with {last}"
            ),
            Self::Unreachable { name, path, source } => write!(
                f,
                "cannot reach the cluster {name:?} at {}: {source} (is it running?)",
                path.display()
            ),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. }
            | Self::Unreachable { source, .. }
            | Self::Io { source, .. } => Some(source),
            Self::Settings(_)
            | Self::Configuration(_)
            | Self::Crashing { .. }
            | Self::Failed(_)
            | Self::Missed(_)
            | Self::Refused(_)
            | Self::Elsewhere { .. } => None,
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
