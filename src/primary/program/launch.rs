//! Executing a program as a worker.

use super::{Child, Program, Protocol, Started, inherited, inspect};
use crate::ipc::Channel;
use crate::ipc::node::Lines;
use crate::primary::SchedulingPolicy;
use crate::primary::vessel::{self, Carrier};
use crate::sys::launch::{FIRST_FD, Launch, launch, output_pipe};
use crate::sys::process;
use crate::sys::signal::{SIGKILL, SIGTERM};
use crate::worker::WorkerId;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// What one worker is given that others are not.
#[derive(Debug)]
pub(in crate::primary) struct Berth<'a> {
    pub(in crate::primary) id: WorkerId,
    /// From 0.
    pub(in crate::primary) place: usize,
    /// Variables for this one alone.
    pub(in crate::primary) env: &'a [(String, String)],
    /// The settings' listening sockets, which it inherits from descriptor 3 on.
    pub(in crate::primary) sockets: Vec<BorrowedFd<'a>>,
    /// Who gets which connection.
    pub(in crate::primary) policy: &'a SchedulingPolicy,
    /// What all workers are told: whom to become, where to run.
    pub(in crate::primary) settings: &'a crate::worker::Settings,
}

impl Program {
    /// Executes it in a child process.
    ///
    /// # Errors
    ///
    /// As fork(2) and execve(2), and when there is no such program.
    pub(in crate::primary) fn launch(&self, berth: &Berth<'_>) -> io::Result<Started> {
        let (out, theirs_out) = output_pipe()?;
        let (err, theirs_err) = output_pipe()?;
        let spoken_to = match self.protocol {
            Protocol::Node => Some(Lines::pair()?),
            Protocol::Sockets => None,
        };
        let mut inherited = berth.sockets.clone();
        let channel = FIRST_FD as usize + inherited.len();
        inherited.extend(spoken_to.iter().map(|(_, theirs)| theirs.as_fd()));
        let mut env = self.environment(std::env::vars_os(), berth, channel);
        let preload = self.preload(berth);
        if let Some((_, told)) = &preload {
            env.extend(told.iter().cloned());
        }
        let preload = preload.map(|(path, _)| path);
        let told_sockets = !berth.sockets.is_empty();
        let pid = launch(
            &Launch {
                executable: &self.executable,
                args: &self.arguments(berth.id, preload.as_deref()),
                env: &env,
                pid_variable: told_sockets.then_some(inherited::PID),
                directory: self.directory.as_deref(),
                outputs: [theirs_out.as_fd(), theirs_err.as_fd()],
                inherited: &inherited,
                identity: berth.settings.identity.as_ref(),
                // A Node worker would leave by itself when its channel is closed, if it could.
                orphan_signal: match self.protocol {
                    Protocol::Node => SIGKILL,
                    Protocol::Sockets => SIGTERM,
                },
            },
            || vessel::place(berth.id, berth.settings, berth.place),
        )?;
        let carrier = Carrier::Program(pid);
        let channel = match spoken_to {
            Some((mut ours, _)) => {
                ours.name(format!("worker {} (pid {pid})", berth.id));
                Channel::of_node(ours)
            }
            None => match process::descriptor(pid) {
                Ok(descriptor) => Channel::mute(descriptor),
                Err(error) => {
                    let _ = carrier.kill();
                    let _ = process::wait(pid);
                    return Err(error);
                }
            },
        };
        let child = Child {
            streams: [Some(out), Some(err)],
            ..Child::default()
        };
        Ok(Started {
            carrier,
            channel,
            child,
        })
    }

    /// What it is executed with, behind its name.
    fn arguments(&self, id: WorkerId, preload: Option<&Path>) -> Vec<OsString> {
        let own = match self.protocol {
            Protocol::Node => inspect::arrange(&self.interpreter_args, id.0),
            Protocol::Sockets => self.interpreter_args.clone(),
        };
        let mut all = Vec::new();
        if let Some(path) = preload {
            all.extend(["--require".into(), path.into()]);
        }
        all.extend(own);
        all.extend(self.script.iter().chain(&self.args).cloned());
        all
    }
}
