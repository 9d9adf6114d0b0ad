//! The edge of a cluster: whom its workers believe, what they say of themselves, and the file of
//! their access log, which the primary opens for all of them.

use super::{Cluster, Error, Primary, Result};
use crate::http;
use crate::ipc::Message;
use crate::server::{EdgeSettings, LogFormat, Trust};
use crate::sys::lines;
use crate::sys::privilege::{self, Identity};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The path that stands for stdout.
pub(super) const STDOUT: &str = "-";

/// What the settings say of it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    trust: Trust,
    server_header: Option<String>,
    request_ids: bool,
    access_log: Option<PathBuf>,
    log_format: LogFormat,
}

impl Cluster {
    /// Whose word counts about who is at the other end: nobody's without this.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.edge.trust = trust;
        self
    }

    /// Has every answer carry `Server: TEXT`. Without this none does.
    #[must_use]
    pub fn server_header(mut self, text: impl Into<String>) -> Self {
        self.edge.server_header = Some(text.into());
        self
    }

    /// Has every answer carry its request's id as `X-Request-Id`; see
    /// [`Request::id`](crate::Request::id).
    #[must_use]
    pub fn request_ids(mut self, wanted: bool) -> Self {
        self.edge.request_ids = wanted;
        self
    }

    /// Writes a line for each answer to the file at `path`, or to stdout for `-`. SIGUSR1 has it
    /// opened again, for whoever has moved it aside. Where root opens it and workers are another
    /// [user](Cluster::user), it must be a regular file with one name, root's or that user's.
    #[must_use]
    pub fn access_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.edge.access_log = Some(path.into());
        self
    }

    /// How lines of the access log are written.
    #[must_use]
    pub fn log_format(mut self, format: LogFormat) -> Self {
        self.edge.log_format = format;
        self
    }
}

impl Wanted {
    pub(super) fn check(&self) -> Result<()> {
        if let Some(text) = &self.server_header
            && (text.is_empty() || !http::is_field_value(text.as_bytes()))
        {
            let what = format!("server_header: {text:?} cannot be sent");
            return Err(Error::Settings(what));
        }
        if self.access_log.as_ref().is_some_and(|path| path == "") {
            return Err(Error::Settings("access_log: the path is empty".to_owned()));
        }
        Ok(())
    }

    /// The file to append to, if there is to be one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.access_log.as_deref()
    }

    /// The error with the path that it is about.
    fn named(&self, error: std::io::Error) -> std::io::Error {
        let path = self.path().unwrap_or(Path::new("")).display();
        std::io::Error::new(error.kind(), format!("{path}: {error}"))
    }

    /// What workers are told. Opens the log, which may take more rights than they will have as
    /// whom they become.
    pub(super) fn settings(&self, workers: Option<&Identity>) -> Result<EdgeSettings> {
        let file = self.path().map(|path| open(path, workers)).transpose();
        let file = file.map_err(|error| self.named(error));
        let file = file.map_err(Error::io("opening the access log"))?;
        Ok(EdgeSettings {
            trust: self.trust.clone(),
            server_header: self.server_header.clone(),
            request_ids: self.request_ids,
            access_log: file.map(Arc::new),
            log_format: self.log_format,
            sticky: None,
        })
    }
}

/// Opens the log; with care where this process is root's and `workers` are to be somebody else.
pub(super) fn open(path: &Path, workers: Option<&Identity>) -> std::io::Result<File> {
    if path == STDOUT {
        return lines::stdout();
    }
    match workers {
        Some(other) if privilege::may_change() && other.uid != 0 => {
            lines::open_as_root(path, other.uid)
        }
        _ => lines::open(path),
    }
}

impl Primary {
    /// Opens the files again that lines of programs go to; and the access log, where every worker
    /// goes on then. One that cannot be opened leaves all as it is.
    pub(super) fn reopen_logs(&mut self) {
        // First: others may write where it goes.
        let own = self.reopen_own_log();
        let reopened = self.reopen_output(own) || own;
        let Some(path) = self.rules.access_log.as_deref() else {
            if !reopened {
                log::info!("no logs to reopen");
            }
            return;
        };
        let shown = path.display();
        match open(path, self.rules.settings.identity.as_ref()) {
            Ok(file) => {
                for member in self.members.iter_mut() {
                    member.say_with(&Message::AccessLog, &[file.as_fd()]);
                }
                log::info!("the access log {shown} is open again");
                self.rules.settings.edge.access_log = Some(Arc::new(file));
            }
            Err(error) => log::error!("the access log {shown} cannot be opened again: {error}"),
        }
    }
}
