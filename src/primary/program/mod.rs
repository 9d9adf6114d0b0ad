//! Workers that are programs of another kind: what is executed, how it is spoken to, when it is
//! ready.
//!
//! Owns [`Program`], which says so; `launch` executes it, `output` is what becomes of what it
//! writes, `inherited` what it is told of its sockets, `conduct` how the primary behaves with it,
//! `going` how it goes, `ready` when it is ready, which `notify` hears it say and `accepting` sees.
//! Leaves when to launch and to end one to `supervisor`, and what is said to `ipc`.

mod accepting;
mod check;
mod conduct;
mod env;
mod failure;
mod going;
mod inherited;
mod inspect;
mod launch;
mod left;
mod notify;
mod output;
mod owned;
mod preload;
mod ready;

use super::Primary;
use super::vessel::Carrier;
use crate::ipc::Channel;
use crate::sys::notices::NoticeSocket;
use crate::sys::signal::SIGTERM;
use crate::worker::WorkerId;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use conduct::{Conduct, State};
pub(super) use launch::Berth;
pub(super) use left::{Left, LeftByAll};
pub(super) use notify::is_notice;
pub(super) use output::{Output, Wish, is_output};
pub(super) use owned::Owned;

/// How a program is spoken to, and how it comes to its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// As Node's `cluster` speaks to its workers: it says where to listen, and is handed connections
    /// or sockets.
    Node,
    /// Not at all: it inherits listening sockets from descriptor 3 on (`LISTEN_FDS`, and
    /// `EINHORN_FDS`), and is told to go by a [signal](Program::kill_signal).
    Sockets,
}

/// A program to be run as the workers of a cluster.
///
/// # Examples
///
/// ```no_run
/// use mcluster::{Cluster, Program, Workers};
///
/// fn main() -> mcluster::Result<()> {
///     let program = Program::node("app.js").env("NODE_ENV", "production");
///     Cluster::of_program(program).workers(Workers::Max).run()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    /// What is executed: a path, or a name that is looked for in `PATH`.
    pub(super) executable: OsString,
    /// What comes before the script.
    pub(super) interpreter_args: Vec<OsString>,
    /// What that runs, where it does not run by itself.
    pub(super) script: Option<OsString>,
    pub(super) args: Vec<OsString>,
    pub(super) protocol: Protocol,
    pub(super) env: Vec<(OsString, OsString)>,
    /// Its environment is nothing but what it is given.
    pub(super) env_clear: bool,
    pub(super) directory: Option<PathBuf>,
    pub(super) wait_ready: bool,
    pub(super) listen_timeout: Duration,
    pub(super) restart_delay: Duration,
    pub(super) hold_idle: Duration,
    pub(super) kill_signal: i32,
    /// Where its lines go.
    pub(super) output: output::Wanted,
}

impl Program {
    /// A Node script, run by the `node` that is found in `PATH`. A relative path is looked for from
    /// where it [is run](Program::directory), as Node does.
    ///
    /// It must be the application's own file: what runs that in another process (`npm`, `npx`, `tsx`)
    /// would be taken for the worker. Loaders go among the [arguments of Node](Program::node_args):
    /// `--import tsx`.
    pub fn node(script: impl AsRef<OsStr>) -> Self {
        Self {
            script: Some(script.as_ref().to_owned()),
            ..Self::new("node", Protocol::Node)
        }
    }

    /// A file, by what its name ends with: `.js`, `.cjs`, `.mjs`, `.ts`, `.cts` and `.mts` are run by
    /// [Node](Program::node), all others by themselves, with inherited [sockets](Protocol::Sockets). A
    /// relative path is looked for from where it [is run](Program::directory), never in `PATH`.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::Program;
    ///
    /// let node = Program::script("dist/server.mjs").node_args(["--enable-source-maps"]);
    /// let python = Program::script("server.py").interpreter("python3");
    /// let compiled = Program::script("server").args(["--fd", "3"]);
    /// ```
    pub fn script(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let extension = path.extension().and_then(OsStr::to_str);
        match extension {
            Some("js" | "cjs" | "mjs" | "ts" | "cts" | "mts") => Self::node(path),
            // A bare name would be looked for in PATH.
            _ if !path.as_os_str().is_empty() => Self::new(beside(path), Protocol::Sockets),
            _ => Self::new(path, Protocol::Sockets),
        }
    }

    /// Any program: a path, or a name that is looked for in `PATH`. A relative path with a slash is
    /// looked for from where it [is run](Program::directory).
    ///
    /// With [`Protocol::Node`] the arguments are not looked at, as those of [`Program::node`] are.
    pub fn new(executable: impl AsRef<OsStr>, protocol: Protocol) -> Self {
        Self {
            executable: executable.as_ref().to_owned(),
            interpreter_args: Vec::new(),
            script: None,
            args: Vec::new(),
            protocol,
            env: Vec::new(),
            env_clear: false,
            directory: None,
            wait_ready: false,
            listen_timeout: Duration::from_secs(3),
            restart_delay: Duration::ZERO,
            hold_idle: Duration::from_secs(1),
            kill_signal: SIGTERM,
            output: output::Wanted::default(),
        }
    }

    /// Adds an argument, behind the script where there is one.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.args.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments, in this order.
    #[must_use]
    pub fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Adds arguments of Node itself, or of another [interpreter](Program::interpreter): before the
    /// script. Of a program without one they are the first.
    ///
    /// With `--inspect` and its like each Node worker has a port of its own for the debugger: behind
    /// the one that is asked for (9229 where none is) by its id, so that worker 1 has 9230, and after
    /// 65535 comes 1024. Port 0 stays as it is, and so does what `NODE_OPTIONS` says.
    #[must_use]
    pub fn node_args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let arguments = arguments.into_iter();
        let arguments = arguments.map(|argument| argument.as_ref().to_owned());
        self.interpreter_args.extend(arguments);
        self
    }

    /// What runs the script instead of the `node` in `PATH`, or a program that would be executed
    /// itself: a path, or a name that is looked for in `PATH`. It is spoken to in the same way.
    #[must_use]
    pub fn interpreter(mut self, executable: impl AsRef<OsStr>) -> Self {
        let former = std::mem::replace(&mut self.executable, executable.as_ref().to_owned());
        self.script.get_or_insert(former);
        self
    }

    /// Adds a variable to its environment, which is otherwise this program's, without what that was
    /// told by whoever started it (`NOTIFY_SOCKET`, `LISTEN_FDS`, `NODE_CHANNEL_FD` and their like).
    /// [`Cluster::env`](crate::Cluster::env) goes before it.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let pair = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.env.push(pair);
        self
    }

    /// Gives it no variables of this program's environment, not even `PATH`: it is then looked for
    /// where the system has programs.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.env_clear = true;
        self
    }

    /// Where it is run; without this, where this program is.
    #[must_use]
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Takes a worker for ready when it says so: a Node program by `process.send('ready')`, others by
    /// `READY=1`, as sd_notify(3) has it.
    #[must_use]
    pub fn wait_ready(mut self, wanted: bool) -> Self {
        self.wait_ready = wanted;
        self
    }

    /// How long a worker may take until it is ready. With [`Program::wait_ready`] it has failed then;
    /// otherwise it may be one that need not listen, and is as good as any. A Node program that
    /// should listen and does not has failed after ten times as long.
    #[must_use]
    pub fn listen_timeout(mut self, time: Duration) -> Self {
        self.listen_timeout = time;
        self
    }

    /// How long idle connections of a Node worker that goes wait for a last request, after whose answer
    /// they are closed (`Connection: close`): without that, Node closes them at once, though a request
    /// may be on its way, and keeps busy ones for as long as their clients like. Zero leaves it so. It
    /// is brought about by a script that Node runs before the application (`--require`).
    #[must_use]
    pub fn hold_idle(mut self, time: Duration) -> Self {
        self.hold_idle = time;
        self
    }

    /// The signal that has it go, by its number, in place of SIGTERM: SIGINT is PM2's. A Node program
    /// gets it when it lives on without its channel.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = mcluster::Program::node("queue.js").kill_signal(libc::SIGINT);
    /// ```
    #[must_use]
    pub fn kill_signal(mut self, signal: i32) -> Self {
        self.kill_signal = signal;
        self
    }

    /// How long a worker's place stays empty at least when it has ended by itself.
    #[must_use]
    pub fn restart_delay(mut self, time: Duration) -> Self {
        self.restart_delay = time;
        self
    }
}

/// A relative path as one that is not looked for in `PATH`.
fn beside(path: &Path) -> PathBuf {
    if path.is_relative() && path.components().count() == 1 {
        return Path::new(".").join(path);
    }
    path.to_owned()
}

/// A program that was executed.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) carrier: Carrier,
    pub(super) channel: Channel,
    pub(super) child: Child,
}

impl Primary {
    /// Executes the program as a worker.
    ///
    /// # Errors
    ///
    /// As [`Program::launch`].
    pub(super) fn launch_program(
        &mut self,
        program: &Program,
        id: WorkerId,
        place: usize,
    ) -> io::Result<Started> {
        let notices = NoticeSocket::new()?;
        let mut sockets_of = place;
        if !program.is_dealt() {
            // By the policy that counts now; who was launched before keeps what it has.
            sockets_of = self.inherits_from(place);
            let registry = self.reactor.registry();
            self.ports.split_configured(registry, place, &self.policy);
            // Before anybody connects to what nobody accepts from.
            self.lead(None);
        }
        let mut env = self.env_of(id);
        env.push(notify::variable(&notices));
        let berth = Berth {
            id,
            place,
            env: &env,
            sockets: self.ports.configured_sockets(sockets_of),
            policy: &self.policy,
            settings: &self.rules.settings,
        };
        let mut started = program.launch(&berth)?;
        self.listen_to_notices(id, &notices);
        started.child.notices = Some(notices);
        started.child.sockets_of = sockets_of;
        Ok(started)
    }
}

/// What the primary has of a worker that is a program, beside its process and its channel.
#[derive(Debug, Default)]
pub(super) struct Child {
    /// The reading ends of its stdout and stderr, non-blocking; none once they have ended.
    pub(super) streams: [Option<OwnedFd>; 2],
    /// Where it says how it is.
    notices: Option<NoticeSocket>,
    /// What it says that it does, in its words.
    status: Option<String>,
    /// The place whose sockets it has inherited: its own, or the first where all share those.
    sockets_of: usize,
}
