//! `--watch`: a process beside the primary that looks for changed files, and has it reload.
//!
//! A process, as notify brings a thread and a primary that forks must have none. It ends with the
//! primary, and when that becomes another program, which begins one of its own. What counts as a change
//! is left to `tree`.

mod tree;

use super::detach;
use super::plan::App;
use super::program::{logs, within};
use crate::cli::stderr;
use crate::sys::detached;
use crate::sys::launch::Leave;
use crate::sys::process::{self, Exit, Forked, Pid};
use crate::sys::signal::{SIGHUP, SIGKILL};
use crate::{Error, Result};
use notify::RecommendedWatcher;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use tree::Tree;

/// Changes come in bursts: a reload waits until so long nothing more has changed,
const QUIET: Duration = Duration::from_millis(200);

/// but not longer than this.
const LONGEST: Duration = Duration::from_secs(5);

/// A watching process that did not live so long is not begun anew.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the primary says: that it heeds signals,
const GO: u8 = b'g';

/// and that its log has been opened again.
const LOG: u8 = b'l';

/// The primary's end: held, the watching process lives.
#[derive(Debug)]
pub(super) struct Watched {
    tree: Tree,
    /// Whose log this process writes, if it is one in the background.
    log: Option<String>,
    pid: Pid,
    pipe: PipeWriter,
    begun: Instant,
    told: bool,
}

impl Watched {
    fn begin(tree: Tree, log: Option<String>) -> io::Result<Self> {
        let (pid, pipe) = spawn(&tree, log.as_deref())?;
        Ok(Self {
            tree,
            log,
            pid,
            pipe,
            begun: Instant::now(),
            told: false,
        })
    }

    /// Says that the primary heeds signals. Before, a SIGHUP would end it.
    pub(super) fn go(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.say(GO);
        }
    }

    /// Says that the log is another file.
    pub(super) fn reopen_log(&mut self) {
        self.say(LOG);
    }

    fn say(&mut self, word: u8) {
        if let Err(error) = self.pipe.write_all(&[word]) {
            // How it ended is said where that is known.
            log::debug!("the process that watches files: {error}");
        }
    }

    /// A child has ended: if it was the one that watches, another does, unless it failed.
    pub(super) fn ended(&mut self, pid: Pid, exit: Exit) {
        if pid != self.pid {
            return;
        }
        let killed = matches!(exit, Exit::Signal { .. }) && self.begun.elapsed() > SHORTEST;
        if !killed {
            log::warn!("files are not watched any more: the process for it ended: {exit}");
            return;
        }
        match Self::begin(self.tree.clone(), self.log.take()) {
            Ok(other) => {
                log::warn!("the process that watches files ended: {exit}; there is another");
                *self = other;
                self.go();
            }
            Err(error) => log::warn!("files are not watched any more: {exit}, then {error}"),
        }
    }
}

/// Begins to watch what the application asks for. `background`: this process writes its log.
///
/// # Errors
///
/// When there is no such file, or no process can be made.
pub(super) fn begin(app: &App, background: bool) -> Result<Option<Watched>> {
    let roots = roots(app)?;
    if roots.is_empty() {
        return Ok(None);
    }
    let logs = logs(app).into_iter().flatten().chain(own_logs());
    let tree = Tree::new(&roots, logs, &app.options.ignore_watch);
    let watched = Watched::begin(tree, background.then(|| app.name.clone()));
    Ok(Some(watched.map_err(Error::io("a process that watches"))?))
}

/// What is watched, which must be there.
///
/// # Errors
///
/// When it is not.
pub(super) fn roots(app: &App) -> Result<Vec<PathBuf>> {
    let roots = app.options.watch.iter();
    let roots: Vec<_> = roots.map(|path| within(app, path)).collect();
    match roots.iter().find(|path| !path.exists()) {
        None => Ok(roots),
        Some(path) => Err(Error::Settings(format!(
            "watch: {}: there is no such file",
            path.display()
        ))),
    }
}

/// What this program's own stdout and stderr are, if that are files.
fn own_logs() -> impl Iterator<Item = PathBuf> {
    let paths = ["/proc/self/fd/1", "/proc/self/fd/2"].into_iter();
    let paths = paths.filter_map(|link| fs::read_link(link).ok());
    paths.filter(|path| path.is_absolute() && !path.starts_with("/dev"))
}

/// The process that watches, and the pipe by which it is spoken to.
fn spawn(tree: &Tree, log: Option<&str>) -> io::Result<(Pid, PipeWriter)> {
    let (reader, pipe) = io::pipe()?;
    let primary = process::pid();
    match process::fork()? {
        Forked::Parent(pid) => Ok((pid, pipe)),
        Forked::Child => {
            let _leave = Leave(1);
            let mut kept = vec![reader.as_raw_fd()];
            kept.extend(stderr::descriptor());
            let how = detached::stand_alone(&kept)
                .and_then(|()| watch(tree.clone(), reader, primary, log));
            if let Err(error) = &how {
                log::error!("files are not watched any more: {error}");
            }
            process::exit_now(i32::from(how.is_err()))
        }
    }
}

/// What may happen to the process that watches.
#[derive(Debug)]
enum Happening {
    /// The primary heeds signals.
    Go,
    Changed(notify::Result<notify::Event>),
}

/// Changes that belong together.
#[derive(Debug)]
struct Burst {
    /// The first file of it.
    path: PathBuf,
    begun: Instant,
    /// When it is over, unless more comes.
    due: Instant,
}

/// Until the primary ends.
fn watch(mut tree: Tree, pipe: PipeReader, primary: Pid, log: Option<&str>) -> io::Result<()> {
    if !process::signal_at_parent_death(primary, SIGKILL)? {
        return Ok(());
    }
    tree.find_again();
    let (tell, told) = mpsc::channel();
    let watcher = watcher_of(&tree, &tell)?;
    for root in tree.shown() {
        log::info!("watching {root}");
    }
    let (tells, log) = (tell.clone(), log.map(str::to_owned));
    thread::spawn(move || {
        hear(pipe, &tells, log.as_deref());
        // The primary has ended, or become another program.
        process::exit_now(0)
    });
    report(tree, watcher, &tell, &told, primary)
}

/// What the primary says, until it says no more.
fn hear(mut pipe: PipeReader, tell: &Sender<Happening>, log: Option<&str>) {
    let mut byte = [0];
    while let Ok(1) = pipe.read(&mut byte) {
        match (byte[0], log) {
            (GO, _) => {
                let _ = tell.send(Happening::Go);
            }
            // The primary says what came of it.
            (_, Some(name)) => drop(detach::reopen(name)),
            (_, None) => {}
        }
    }
}

fn watcher_of(tree: &Tree, tell: &Sender<Happening>) -> io::Result<RecommendedWatcher> {
    let tell = tell.clone();
    let mut watcher = notify::recommended_watcher(move |event| {
        // The receiver lives as long as this process.
        let _ = tell.send(Happening::Changed(event));
    })
    .map_err(io::Error::other)?;
    tree.add_to(&mut watcher)?;
    Ok(watcher)
}

fn report(
    mut tree: Tree,
    mut watcher: RecommendedWatcher,
    tell: &Sender<Happening>,
    told: &Receiver<Happening>,
    primary: Pid,
) -> io::Result<()> {
    let (mut going, mut burst) = (false, None::<Burst>);
    loop {
        let due = burst.as_ref().filter(|_| going).map(|burst| burst.due);
        let happening = match due {
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => told.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match happening {
            Ok(Happening::Go) => going = true,
            Ok(Happening::Changed(event)) => {
                let event = event.map_err(io::Error::other)?;
                let changed = match tree.replaced(&event) {
                    Some(path) => {
                        tree.find_again();
                        // What was watched before may lie elsewhere now, or nowhere.
                        watcher = watcher_of(&tree, tell)?;
                        Some(path)
                    }
                    None => tree.changed(&mut watcher, event)?,
                };
                if let Some(path) = changed {
                    let now = Instant::now();
                    let burst = burst.get_or_insert(Burst {
                        path,
                        begun: now,
                        due: now,
                    });
                    burst.due = (now + QUIET).min(burst.begun + LONGEST);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some(burst) = burst.take() {
                    log::info!("{} has changed: reloading", burst.path.display());
                    process::kill(primary, SIGHUP)?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
