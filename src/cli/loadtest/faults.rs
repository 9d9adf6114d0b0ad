//! Faults by the clock: what is done to the cluster while it is measured, and the server that is started
//! for it.
//!
//! Owns their words, when each begins and what came of it. How the run goes on meanwhile is left to
//! the command's loop, how a control socket is asked to `steer`, and processes to the crate's `spawn`.

mod script;
mod words;

use crate::cli::steer::{self, Cluster};
use crate::cli::values::name;
use crate::runtime;
use crate::spawn::{self, Spawned, Voice};
use crate::status::Status;
use crate::sys::process::Pid;
use crate::{Error, Result};
use clap::Args;
pub(super) use script::Script;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use words::{Fault, Timed, timed};

/// How long a server that is started may take until it listens: some are built first.
const TO_START: Duration = Duration::from_secs(60);

/// How long it may take to stop.
const TO_STOP: Duration = Duration::from_secs(10);

/// Between two looks at whether the user has had enough.
const BLINK: Duration = Duration::from_millis(50);

/// The server, and what is done to it.
#[derive(Args, Debug, Default)]
pub(super) struct Faults {
    /// Start the server by this command of a shell, wait until it says where it listens, and stop it
    /// when the run is over; then the URL may be a path alone, or be left out
    #[arg(long, value_name = "COMMAND")]
    pub(super) spawn: Option<String>,

    /// Do this to the cluster at that time of the run (repeatable): 5s=kill:any,
    /// 5s=kill:ID[:SIGNAL], 8s=reload, 10s=restart, 10s=scale:N, 10s=schedule:POLICY, 10s=stop
    #[arg(long = "at", value_name = "TIME=FAULT", value_parser = timed)]
    at: Vec<Timed>,

    /// With --at: the cluster's name
    /// [default: the one that is started here, else mcluster]
    #[arg(long, env = "MCLUSTER_NAME", value_parser = name)]
    name: Option<String>,

    /// With --at: the cluster's control socket
    /// [default: NAME.sock in the runtime directory]
    #[arg(long, value_name = "PATH", env = "MCLUSTER_CONTROL")]
    control: Option<PathBuf>,
}

impl Faults {
    /// Whether everything is done before the run is over, where that is known.
    ///
    /// # Errors
    ///
    /// What is not.
    pub(super) fn judge(&self, limit: Option<Duration>) -> Result<()> {
        let late = |one: &&Timed| limit.is_some_and(|limit| one.at >= limit);
        match self.at.iter().find(late) {
            None => Ok(()),
            Some(one) => Err(Error::Settings(format!(
                "--at {:?}={}: the run is over after {:?}",
                one.at,
                one.words,
                limit.unwrap_or_default()
            ))),
        }
    }

    /// Starts the server, if one is to be started, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not start, or the user has had enough of waiting.
    pub(super) fn server(
        &self,
        voice: Voice,
        mut enough: impl FnMut() -> bool,
    ) -> Result<Option<Spawned>> {
        let Some(words) = &self.spawn else {
            return Ok(None);
        };
        let failed = |why: io::Error| Error::Failed(format!("--spawn {words:?}: {why}"));
        let mut command = spawn::shell(words);
        // A cluster that is not named by its own words does not meet one that runs already.
        command.env("MCLUSTER_NAME", self.spawned_name());
        if let Some(path) = &self.control {
            command.env("MCLUSTER_CONTROL", path);
        }
        let mut server = Spawned::launch(command, voice).map_err(failed)?;
        let deadline = Instant::now() + TO_START;
        while !server.listens(BLINK).map_err(failed)? {
            if enough() {
                let what = "a signal ended it before the server listened";
                return Err(Error::Failed(what.to_owned()));
            }
            if Instant::now() >= deadline {
                return Err(failed(server.too_slow(TO_START)));
            }
        }
        Ok(Some(server))
    }

    /// Stops the server of a run that is over.
    ///
    /// # Errors
    ///
    /// When it had ended before, other than on purpose.
    pub(super) fn stop(&self, mut server: Spawned) -> Result<()> {
        let failed = |why: io::Error| Error::Failed(format!("--spawn: {why}"));
        let early = server.try_wait().map_err(failed)?;
        server.stop(TO_STOP).map_err(failed)?;
        let on_purpose = self.at.iter().any(|one| one.fault == Fault::Stop);
        match early {
            // A shell that has put it into the background ends well.
            Some(status) if !status.success() && !on_purpose => Err(Error::Failed(format!(
                "what --spawn started ended before the run was over ({status})"
            ))),
            _ => Ok(()),
        }
    }

    /// What a cluster that is started for this run is called, unless it has words of its own for that.
    fn spawned_name(&self) -> String {
        let own = || format!("loadtest-{}", std::process::id());
        self.name.clone().unwrap_or_else(own)
    }

    /// What to ask for: what is `given`, at the server if that is only a path or nothing.
    ///
    /// # Errors
    ///
    /// When that leaves no address.
    pub(super) fn url(&self, given: Option<&str>, server: Option<&Spawned>) -> Result<String> {
        let urls = server.map(Spawned::urls).unwrap_or_default();
        address(given, &urls).map_err(Error::Settings)
    }

    /// What is to be done, in the order of time, to a cluster that is there.
    ///
    /// # Errors
    ///
    /// When something is to be done and the cluster cannot be reached.
    pub(super) fn script(&self, server: Option<&Spawned>) -> Result<Script> {
        if self.at.is_empty() {
            return Ok(Script::new(Vec::new(), None));
        }
        let cluster = self.cluster(server)?;
        cluster.status()?;
        Ok(Script::new(self.at.clone(), Some(cluster)))
    }

    /// The cluster that was named, else the one among the processes of `server`, else the usual one.
    fn cluster(&self, server: Option<&Spawned>) -> Result<Cluster> {
        let named = |name: &str, control: Option<PathBuf>| Cluster {
            name: name.to_owned(),
            control,
        };
        let server = match (server, &self.name, &self.control) {
            (Some(server), None, None) => server,
            (_, name, control) => {
                let name = name.as_deref().unwrap_or(runtime::USUAL_NAME);
                return Ok(named(name, control.clone()));
            }
        };
        for path in steer::sockets(&runtime::directory())? {
            let ours = |status: Status| server.has(Pid::from_raw(status.pid)).then_some(status);
            if let Some(status) = steer::look(&path).ok().and_then(ours) {
                return Ok(named(&status.name, Some(path)));
            }
        }
        let none = "what --spawn started has no control socket in the runtime directory";
        let none = io::Error::new(io::ErrorKind::NotFound, none);
        Err(named(&self.spawned_name(), None).unreachable(none))
    }
}

/// The address to ask, of what is given and what the server says.
fn address(given: Option<&str>, urls: &[String]) -> std::result::Result<String, String> {
    let path = match given {
        Some(url) if !url.starts_with('/') => return Ok(url.to_owned()),
        path => path,
    };
    let url = urls.iter().find(|url| url.contains("://"));
    match (url, path) {
        (Some(url), None) => Ok(url.clone()),
        (Some(url), Some(path)) => Ok(format!("{}{path}", url.trim_end_matches('/'))),
        (None, Some(path)) if urls.is_empty() => {
            Err(format!("{path:?} is no URL (with --spawn it would do)"))
        }
        (None, None) if urls.is_empty() => Err("a URL is missing".to_owned()),
        (None, _) => Err(format!("the server listens on no URL, but on {}", urls[0])),
    }
}

#[cfg(test)]
mod tests;
