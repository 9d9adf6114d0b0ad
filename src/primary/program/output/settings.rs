//! What is asked for of workers' lines: where they go, what stands before each, how files rotate.

use super::super::Program;
use std::path::{Path, PathBuf};

/// Where lines go, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::primary) struct Wanted {
    /// For what is written to stdout and to stderr, in that order; without one, this process's
    /// stderr.
    pub(super) paths: [Option<PathBuf>; 2],
    pub(super) rotation: Option<Rotation>,
    pub(super) log_time: bool,
    pub(super) no_prefix: bool,
}

/// When a file is moved aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rotation {
    /// Before it exceeds so many bytes.
    pub(super) bytes: u64,
    /// How many of those moved aside are kept.
    pub(super) keep: u32,
}

impl Program {
    /// Appends what workers write to stdout to the file at `path`, line by line, with the worker's id
    /// and `| ` before each line. Without this lines go to this program's stderr. Where nobody reads
    /// that, or the disk is full, lines are lost and counted, and no worker waits for long.
    ///
    /// SIGUSR1 has the file opened again, for whoever has moved it aside. Where root opens it and
    /// workers are another [user](crate::Cluster::user), it must be a regular file with one name,
    /// root's or that user's, or `/dev/null`.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::Program;
    ///
    /// let program = Program::node("app.js")
    ///     .output("out.log")
    ///     .error("error.log")
    ///     .rotate(10 << 20, 5)
    ///     .log_time(true);
    /// ```
    #[must_use]
    pub fn output(mut self, path: impl Into<PathBuf>) -> Self {
        self.output.paths[0] = Some(path.into());
        self
    }

    /// The same for what workers write to stderr; it may be the same file.
    #[must_use]
    pub fn error(mut self, path: impl Into<PathBuf>) -> Self {
        self.output.paths[1] = Some(path.into());
        self
    }

    /// Moves a file of [`output`](Program::output) or [`error`](Program::error) aside before it
    /// exceeds `bytes`: `PATH` becomes `PATH.1`, that `PATH.2`, and so on. The newest `keep` of them
    /// are kept; of none, the file begins anew.
    #[must_use]
    pub fn rotate(mut self, bytes: u64, keep: u32) -> Self {
        self.output.rotation = Some(Rotation { bytes, keep });
        self
    }

    /// Has each line begin with the time it was read: `2026-01-31T12:00:00.000Z ` (RFC 3339).
    #[must_use]
    pub fn log_time(mut self, wanted: bool) -> Self {
        self.output.log_time = wanted;
        self
    }

    /// Leaves the worker's id out before each line.
    #[must_use]
    pub fn no_prefix(mut self, wanted: bool) -> Self {
        self.output.no_prefix = wanted;
        self
    }
}

impl Wanted {
    /// What is wrong with it.
    pub(in crate::primary) fn check(&self) -> Result<(), String> {
        if self
            .paths
            .iter()
            .flatten()
            .any(|path| path == Path::new(""))
        {
            return Err("output: the path is empty".to_owned());
        }
        match self.rotation {
            Some(Rotation { bytes: 0, .. }) => Err("rotate: a file of 0 bytes".to_owned()),
            _ => Ok(()),
        }
    }
}
