//! Several applications: each is this very command again, in a process of its own, for one of them.
//!
//! In the foreground this process hands on the signals that it gets, waits for all, and ends with the
//! worst status. They are executed, not forked, so that each can be upgraded in place.

use super::plan::App;
use crate::sys::process::{self, Pid};
use crate::sys::signal::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SignalFd,
};
use crate::{Error, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

/// What is handed on.
const SIGNALS: [i32; 8] = [
    SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU,
];

/// One application and the process that runs it.
struct Running {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
}

/// Runs all applications, until the last has ended, or in the background until all are ready.
///
/// # Errors
///
/// When one of them has ended badly: the worst of it.
pub(super) fn run(apps: &[App], arguments: &[OsString], detached: bool) -> Result<()> {
    let mut all = SIGNALS.to_vec();
    all.push(SIGCHLD);
    let signals = SignalFd::new(&all).map_err(Error::io("signals"))?;
    let mut running = Vec::new();
    for app in apps {
        match start(app, arguments, detached) {
            Ok(child) => running.push(Running {
                name: app.name.clone(),
                child,
                status: None,
            }),
            Err(error) => {
                tell(&running, SIGTERM);
                let _ = wait(&signals, &mut running);
                return Err(Error::Failed(format!("{}: {error}", app.name)));
            }
        }
    }
    wait(&signals, &mut running).map_err(Error::io("waiting for applications"))?;
    worst(&running)
}

/// This command again, for one application.
fn start(app: &App, arguments: &[OsString], detached: bool) -> io::Result<Child> {
    let parent = match detached {
        true => 0,
        false => process::pid().as_raw(),
    };
    let mut arguments = arguments.iter();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command
        .args(arguments.next())
        .arg("--part")
        .arg(format!("{parent}:{}", app.name))
        .args(arguments)
        .stdin(Stdio::null());
    if !detached {
        // A key on the terminal is for this process, which hands it on.
        command.process_group(0);
    }
    command.spawn()
}

fn tell(running: &[Running], signal: i32) {
    for one in running.iter().filter(|one| one.status.is_none()) {
        let pid = Pid::from_raw(one.child.id() as i32);
        if let Err(error) = process::kill(pid, signal) {
            log::warn!("{}: {error}", one.name);
        }
    }
}

/// Waits until all have ended, and meanwhile hands signals on.
fn wait(signals: &SignalFd, running: &mut [Running]) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let fd = signals.as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
    let mut events = Events::with_capacity(1);
    loop {
        while let Some(signal) = signals.read()? {
            if signal != SIGCHLD {
                tell(running, signal);
            }
        }
        for one in running.iter_mut().filter(|one| one.status.is_none()) {
            one.status = one.child.try_wait()?;
        }
        if running.iter().all(|one| one.status.is_some()) {
            return Ok(());
        }
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
}

fn worst(running: &[Running]) -> Result<()> {
    let code = |one: &Running| {
        let status = one.status.unwrap_or_default();
        let code = status.code().or(status.signal().map(|_| 1));
        code.map_or(1, |code| u8::try_from(code).unwrap_or(1))
    };
    let worst = running.iter().max_by_key(|one| code(one));
    match worst.map(|one| (one, code(one))) {
        None | Some((_, 0)) => Ok(()),
        Some((one, status)) => Err(Error::Elsewhere {
            status,
            what: match one.status {
                Some(how) => format!("{}: ended with {how}", one.name),
                None => one.name.clone(),
            },
        }),
    }
}
