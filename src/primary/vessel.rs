//! What carries a worker: a forked process, a thread of this one, or a program that was executed.
//!
//! The only file that knows the [`Mode`]. Owns launching, ending and burying; all vessels run the
//! same [`worker::run`].

use crate::app::{App, panic_message};
use crate::sys::cpu;
#[cfg(feature = "programs")]
use crate::sys::group;
use crate::sys::process::{self, Forked, Pid};
use crate::sys::signal::{SIGINT, SIGKILL, SIGQUIT, SIGTERM, SignalFd};
use crate::worker::{self, Seat, WorkerId};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The exit status of a worker that panicked: what Rust programs use.
const PANICKED: i32 = 101;

/// What carries a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Forked processes: a crash costs one worker, memory is not shared.
    #[default]
    Processes,
    /// Threads of one process: less memory and shared state; a crash costs all of them.
    Threads,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Processes => "processes",
            Self::Threads => "threads",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "processes" => Ok(Self::Processes),
            "threads" => Ok(Self::Threads),
            _ => Err(format!("{word:?} is no mode (processes or threads)")),
        }
    }
}

/// The outcome of a launch: whoever gets [`Launched::Child`] *is* the worker now.
#[derive(Debug)]
pub(super) enum Launched {
    Parent(Carrier),
    Child(Box<Seat>),
}

/// The primary's hold on what carries a worker.
#[derive(Debug)]
pub(super) enum Carrier {
    Process(Pid),
    /// A program, which is the first of a group of processes.
    #[cfg(feature = "programs")]
    Program(Pid),
    /// None once joined.
    Thread(Option<JoinHandle<Exit>>),
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Process(process::Exit),
    /// A thread that ended by itself.
    Finished,
    /// A thread that ended by an error or a panic, and which.
    Failed(String),
}

impl Exit {
    /// Its exit status and the signal that ended it, as far as it has them.
    pub(super) fn numbers(&self) -> (Option<i32>, Option<i32>) {
        match self {
            Self::Process(process::Exit::Code(code)) => (Some(*code), None),
            Self::Process(process::Exit::Signal { signal, .. }) => (None, Some(*signal)),
            Self::Finished => (Some(0), None),
            Self::Failed(why) if why.starts_with("panic") => (Some(PANICKED), None),
            Self::Failed(_) => (Some(1), None),
        }
    }

    /// Whether it ended by itself and in good order.
    pub(super) fn in_order(&self) -> bool {
        matches!(self, Self::Process(process::Exit::Code(0)) | Self::Finished)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(exit) => exit.fmt(f),
            Self::Finished => f.write_str("end of thread"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl Mode {
    /// Launches a worker. In processes mode this returns twice: see [`Launched`].
    ///
    /// # Errors
    ///
    /// As fork(2) or pthread_create(3); `Unsupported` when this process has threads and so cannot
    /// be forked.
    pub(super) fn launch(self, app: &Arc<App>, seat: Seat) -> io::Result<Launched> {
        match self {
            Self::Processes => Ok(match process::fork()? {
                // The seat is the child's; dropping it here closes our copy of its channel.
                Forked::Parent(pid) => Launched::Parent(Carrier::Process(pid)),
                Forked::Child => Launched::Child(Box::new(seat)),
            }),
            Self::Threads => {
                let app = Arc::clone(app);
                let name = format!("worker {}", seat.id);
                let thread = std::thread::Builder::new().name(name).spawn(move || {
                    place(seat.id, &seat.settings, seat.settings.place);
                    work(app, seat)
                })?;
                Ok(Launched::Parent(Carrier::Thread(Some(thread))))
            }
        }
    }
}

/// Puts the thread that a worker of this place runs on where the settings want it.
pub(super) fn place(id: WorkerId, settings: &worker::Settings, place: usize) {
    if settings.pinned {
        match cpu::pin(place) {
            Ok(cpu) => log::debug!("worker {id} keeps to CPU {cpu}"),
            Err(error) => log::warn!("worker {id} keeps to no CPU: {error}"),
        }
    }
    if let Some(nice) = settings.nice
        && let Err(error) = cpu::renice(nice)
    {
        log::warn!("worker {id} cannot have the nice value {nice}: {error}");
    }
}

/// Runs a worker to its end, whatever that is.
fn work(app: Arc<App>, seat: Seat) -> Exit {
    let id = seat.id;
    match catch_unwind(AssertUnwindSafe(|| worker::run(app, seat))) {
        Ok(Ok(reason)) => {
            log::debug!("worker {id} ends: {reason:?}");
            Exit::Finished
        }
        Ok(Err(error)) => Exit::Failed(format!("error: {error}")),
        Err(panic) => Exit::Failed(format!("panic: {}", panic_message(&*panic))),
    }
}

/// The rest of a forked worker's life. By now it has dropped all that was its primary's; `parent`
/// is who forked it.
pub(super) fn work_and_exit(app: Arc<App>, mut seat: Seat, parent: Pid) -> ! {
    let id = seat.id;
    let env = seat.settings.env.iter();
    process::set_variables(env.map(|(name, value)| (name.as_str(), value.as_str())));
    // While it may: a nice value below zero takes root.
    place(id, &seat.settings, seat.settings.place);
    // Before what follows: becoming another user forgets whom to tell of the parent's death.
    if let Some(identity) = &seat.settings.identity
        && let Err(error) = identity.assume()
    {
        log::error!("worker {id} cannot become {identity}: {error}");
        process::exit_now(1);
    }
    match process::kill_after_parent_death(parent, seat.settings.drain_timeout) {
        Ok(true) => {}
        Ok(false) => process::exit_now(0),
        Err(error) => log::warn!("worker {id} would not notice its primary's death: {error}"),
    }
    match SignalFd::new(&[SIGTERM, SIGINT, SIGQUIT]) {
        Ok(signals) => seat.signals = Some(signals),
        Err(error) => log::warn!("worker {id} heeds no signals: {error}"),
    }
    // What the application holds is the primary's to finish, so the last reference is never dropped.
    Box::leak(Box::new(seat.on_worker.clone()));
    let code = match work(Arc::clone(&app), seat) {
        Exit::Failed(why) => {
            log::error!("worker {id} fails: {why}");
            if why.starts_with("panic") {
                PANICKED
            } else {
                1
            }
        }
        Exit::Finished | Exit::Process(_) => 0,
    };
    // Not through main: its caller's destructors and buffers are the primary's business.
    process::exit_now(code)
}

impl Carrier {
    /// The process that the worker runs in.
    pub(super) fn pid(&self) -> Pid {
        match self {
            Self::Process(pid) => *pid,
            #[cfg(feature = "programs")]
            Self::Program(pid) => *pid,
            Self::Thread(_) => process::pid(),
        }
    }

    /// Whether it is a process, which signals reach.
    pub(super) fn is_process(&self) -> bool {
        !matches!(self, Self::Thread(_))
    }

    /// Whether it is this process.
    pub(super) fn is(&self, pid: Pid) -> bool {
        self.is_process() && self.pid() == pid
    }

    /// How the worker ended, if it has. To be asked once after that. `hung_up` is whether its end of
    /// the channel is closed: a thread's last act but for tidying up, which is then waited for.
    ///
    /// # Errors
    ///
    /// When somebody else has buried the process.
    pub(super) fn try_wait(&mut self, hung_up: bool) -> io::Result<Option<Exit>> {
        match self {
            Self::Process(pid) => Ok(process::try_wait(*pid)?.map(Exit::Process)),
            #[cfg(feature = "programs")]
            Self::Program(pid) => {
                if !process::has_ended(*pid)? {
                    return Ok(None);
                }
                // What it started is of no use without it. Until it is waited for, its number is
                // nobody else's.
                let _ = group::signal(*pid, SIGKILL);
                Ok(process::try_wait(*pid)?.map(Exit::Process))
            }
            Self::Thread(thread) => {
                let ended = thread.take_if(|thread| hung_up || thread.is_finished());
                Ok(ended.map(|thread| {
                    thread.join().unwrap_or_else(|panic| {
                        Exit::Failed(format!("panic: {}", panic_message(&*panic)))
                    })
                }))
            }
        }
    }

    /// Ends the worker at once, a program with all that it started and that is still in its group;
    /// false for a thread, which cannot be ended from outside.
    ///
    /// # Errors
    ///
    /// As kill(2).
    pub(super) fn kill(&self) -> io::Result<bool> {
        match self {
            Self::Process(pid) => process::kill(*pid, SIGKILL).map(|()| true),
            #[cfg(feature = "programs")]
            Self::Program(pid) => group::signal(*pid, SIGKILL).map(|()| true),
            Self::Thread(_) => Ok(false),
        }
    }

    /// Asks a program to end: the one that was executed, which may have more to tell those that it
    /// started. False for what is asked by its channel.
    ///
    /// # Errors
    ///
    /// As kill(2).
    #[cfg(feature = "programs")]
    pub(super) fn terminate(&self, signal: i32) -> io::Result<bool> {
        match self {
            Self::Program(pid) => process::kill(*pid, signal).map(|()| true),
            Self::Process(_) | Self::Thread(_) => Ok(false),
        }
    }
}
