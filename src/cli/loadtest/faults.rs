//! Faults by the clock: what is done to the cluster while it is measured, and the server that is started
//! for it.
//!
//! Owns their words, when each begins and what came of it. How the run goes on meanwhile is left to
//! the command's loop, how a control socket is asked to `steer`, and processes to the crate's `spawn`.

mod script;
mod words;

use super::unless;
use crate::cli::steer::{self, Cluster};
use crate::cli::values::name;
use crate::loadtest::target::Target;
use crate::runtime;
use crate::spawn::{self, Spawned, Voice};
use crate::status::Status;
use crate::sys::process::Pid;
use crate::sys::signal::SignalFd;
use crate::{Error, Result};
use clap::Args;
pub(super) use script::Script;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use words::{Fault, Timed, timed};

/// How long a server that is started may take until it listens: some are built first.
const TO_START: Duration = Duration::from_secs(60);

/// How long it may take to stop.
const TO_STOP: Duration = Duration::from_secs(10);

/// How long a server that listens on sockets' paths may take to name an address that can be asked.
const TO_SAY_MORE: Duration = Duration::from_secs(1);

/// What the variables of the cluster's command mean here, where no server is started.
const NAME: &str = "MCLUSTER_NAME";
const CONTROL: &str = "MCLUSTER_CONTROL";

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
    /// [default: the one that is started here, else MCLUSTER_NAME, else mcluster]
    #[arg(long, value_parser = name)]
    name: Option<String>,

    /// With --at: the cluster's control socket; without --spawn MCLUSTER_CONTROL says it too
    /// [default: NAME.sock in the runtime directory]
    #[arg(long, value_name = "PATH")]
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
    /// When it does not start, or the user has had enough of waiting; then it is stopped.
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
        command.env(NAME, self.spawned_name());
        match &self.control {
            Some(path) => command.env(CONTROL, path),
            None if said(CONTROL).is_some_and(|path| path == "off") => &mut command,
            None => command.env_remove(CONTROL),
        };
        let mut server = Spawned::launch(command, voice).map_err(failed)?;
        let deadline = Instant::now() + TO_START;
        let mut said_so = None;
        while !server.listens(BLINK).map_err(failed)? {
            // Enough for an address that was given in full.
            if !server.urls().is_empty()
                && said_so.get_or_insert_with(Instant::now).elapsed() >= TO_SAY_MORE
            {
                break;
            }
            let why = match enough() {
                true => Error::Failed("a signal ended it before the server listened".to_owned()),
                false if Instant::now() >= deadline => failed(server.too_slow(TO_START)),
                false => continue,
            };
            server.stop_unless(TO_STOP, enough).map_err(failed)?;
            return Err(why);
        }
        Ok(Some(server))
    }

    /// Stops the server of a run that is over; what is left is killed once the user has had `enough`.
    ///
    /// # Errors
    ///
    /// When it had ended before, other than on purpose.
    pub(super) fn stop(&self, mut server: Spawned, enough: impl FnMut() -> bool) -> Result<()> {
        let failed = |why: io::Error| Error::Failed(format!("--spawn: {why}"));
        let early = server.try_wait().map_err(failed)?;
        // A shell that has put the server into the background ends well.
        let nobody = server.processes().map_err(failed)?.is_empty();
        server.stop_unless(TO_STOP, enough).map_err(failed)?;
        let on_purpose = self.at.iter().any(|one| one.fault == Fault::Stop);
        match early {
            Some(status) if (nobody || !status.success()) && !on_purpose => Err(Error::Failed(
                format!("what --spawn started ended before the run was over ({status})"),
            )),
            _ => Ok(()),
        }
    }

    /// What a cluster that is started for this run is called, unless it has words of its own for that.
    fn spawned_name(&self) -> String {
        let own = || format!("loadtest-{}", std::process::id());
        self.name.clone().unwrap_or_else(own)
    }

    /// An address of the same kind as [`Faults::url`] will give, before there is a server.
    ///
    /// # Errors
    ///
    /// When there will be none.
    pub(super) fn likely_url(&self, given: Option<&str>) -> Result<String> {
        let any = self.spawn.iter().map(|_| "http://127.0.0.1:1".to_owned());
        address(given, &any.collect::<Vec<_>>()).map_err(Error::Settings)
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

    /// What is to be done, in the order of time, to the cluster that is measured at `url`.
    ///
    /// # Errors
    ///
    /// When something is to be done and that cluster cannot be reached, or is another one, and when a
    /// signal comes first.
    pub(super) fn script(
        &self,
        server: Option<&Spawned>,
        url: &str,
        signals: &SignalFd,
    ) -> Result<Script> {
        if self.at.is_empty() {
            return Ok(Script::new(Vec::new(), None));
        }
        let cluster = match (self.named(server.is_some())?, server) {
            (None, None) => measured(named(runtime::USUAL_NAME.to_owned(), None), url, signals)?,
            (Some(cluster), None) => measured(cluster, url, signals)?,
            (Some(cluster), Some(server)) => started(cluster, server, signals)?,
            (None, Some(server)) => self.found(server, signals)?,
        };
        Ok(Script::new(self.at.clone(), Some(cluster)))
    }

    /// The cluster that was named: by a flag, or, where none `is_started` here, by the environment.
    ///
    /// # Errors
    ///
    /// When the environment has no name.
    fn named(&self, is_started: bool) -> Result<Option<Cluster>> {
        let by_environment = |variable| said(variable).filter(|_| !is_started);
        let name = match (&self.name, by_environment(NAME)) {
            (Some(flag), _) => Some(flag.clone()),
            (None, Some(words)) => {
                let words = words.to_string_lossy();
                let refuse = |why| Error::Settings(format!("{NAME}: {why}"));
                Some(name(&words).map_err(refuse)?)
            }
            (None, None) => None,
        };
        let by_environment = || by_environment(CONTROL).map(PathBuf::from);
        let control = self.control.clone().or_else(by_environment);
        if name.is_none() && control.is_none() {
            return Ok(None);
        }
        let name = name.unwrap_or_else(|| match is_started {
            true => self.spawned_name(),
            false => runtime::USUAL_NAME.to_owned(),
        });
        Ok(Some(named(name, control)))
    }

    /// The one among the processes of `server`.
    fn found(&self, server: &Spawned, signals: &SignalFd) -> Result<Cluster> {
        let all = steer::sockets(&runtime::directory())?;
        let look = || {
            let all = all.into_iter();
            all.filter_map(|path| Some((steer::look(&path).ok()?, path)))
                .collect::<Vec<_>>()
        };
        for (status, path) in unless(signals, look)? {
            if is_of(&status, server) {
                return Ok(named(status.name, Some(path)));
            }
        }
        let none = "what --spawn started has no control socket in the runtime directory";
        let none = io::Error::new(io::ErrorKind::NotFound, none);
        Err(named(self.spawned_name(), None).unreachable(none))
    }
}

fn named(name: String, control: Option<PathBuf>) -> Cluster {
    Cluster { name, control }
}

/// What the environment says, where it says anything.
fn said(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|words| !words.is_empty())
}

fn status(cluster: &Cluster, signals: &SignalFd) -> Result<Status> {
    let asked = cluster.clone();
    let (_, status) = unless(signals, move || asked.status())??;
    Ok(status)
}

fn is_of(status: &Status, server: &Spawned) -> bool {
    server.has(Pid::from_raw(status.pid))
}

/// `cluster`, if it is what was started for the run.
fn started(cluster: Cluster, server: &Spawned, signals: &SignalFd) -> Result<Cluster> {
    let status = status(&cluster, signals)?;
    match is_of(&status, server) {
        true => Ok(cluster),
        false => {
            let pid = status.pid;
            let what = format!("it is not what --spawn started, but process {pid} of another one");
            Err(cluster.unreachable(io::Error::other(what)))
        }
    }
}

/// `cluster`, if it is what listens at `url`.
fn measured(cluster: Cluster, url: &str, signals: &SignalFd) -> Result<Cluster> {
    let status = status(&cluster, signals)?;
    let (listeners, asked) = (status.listeners.clone(), url.to_owned());
    // In a thread, for a name may take long to look up.
    match unless(signals, move || listens_at(&listeners, &asked))? {
        true => Ok(cluster),
        false => {
            let what = format!(
                "it is not what is measured: it listens on {}, not at {url}",
                match status.listeners.join(", ") {
                    none if none.is_empty() => "nothing".to_owned(),
                    some => some,
                }
            );
            Err(cluster.unreachable(io::Error::other(what)))
        }
    }
}

/// Whether one of these addresses is where `url` leads.
fn listens_at(listeners: &[String], url: &str) -> bool {
    let addresses = |url: &str| {
        let found = Target::parse(url).and_then(|target| target.resolve());
        found.unwrap_or_default()
    };
    let asked = addresses(url);
    let urls = listeners.iter().filter(|one| one.contains("://"));
    urls.flat_map(|one| addresses(one)).any(|listener| {
        asked.iter().any(|asked| {
            let same = asked.ip() == listener.ip();
            let any = listener.ip().is_unspecified() && is_of_this_machine(asked.ip());
            asked.port() == listener.port() && (same || any)
        })
    })
}

fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
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
