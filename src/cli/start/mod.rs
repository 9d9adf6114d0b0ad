//! `mcluster start`: programs of other kinds as workers, one application or several.
//!
//! `flags` says what may be written, `words` reads single ones; `plan` finds the applications, in
//! `[[app]]` tables or in an `ecosystem` file; `program` makes a cluster of one. Here it is run: in the
//! foreground, by `detach` in the background, by `several` beside others, with `watch` beside it.
//! What workers say is shown by `spoken`. `unit` prints how a service manager does the same.

mod aside;
mod detach;
mod ecosystem;
mod flags;
mod plan;
mod program;
mod several;
mod spoken;
mod unit;
mod watch;
mod words;

use super::sources::Said;
use super::table::plain;
use super::{announce, log_panics, stderr};
use crate::client;
use crate::sys::exec;
use crate::sys::process::{self, Pid};
use crate::sys::signal::SIGTERM;
use crate::{ClusterHandle, Error, Event, Result};
use aside::Aside;
use detach::{Side, Teller};
use plan::App;
use spoken::Spoken;
use std::path::Path;
use std::time::Instant;

pub(super) use flags::{Start, Unit};
pub(super) use unit::print_unit;
pub(super) use words::split;

/// Runs what a command line asks for.
///
/// # Errors
///
/// When it makes no sense, a cluster of that name runs already, or one has ended badly.
pub(super) fn obey(start: &Start, said: &Said) -> Result<()> {
    // A program that takes another's place has its process, which is where it should be.
    let is_trial = exec::is_trial();
    let takes_over = is_trial || exec::takes_over();
    let apps = plan::apps(start, said)?;
    if start.part.is_none() && !takes_over {
        apps.iter().for_each(name_unsupported);
    }
    let [app] = apps.as_slice() else {
        return several::run(&apps, said.arguments(), start.detach);
    };
    if takes_over {
        let watch = match is_trial {
            true => Watch::Trial,
            false => Watch::Takeover,
        };
        return run(app, None, watch, start.detach);
    }
    // Before anything is started: what is wrong is said here, and not in a log.
    judge(app)?;
    refuse_twins(app)?;
    if start.detach {
        return match detach::detach(app)? {
            Side::Command => Ok(()),
            Side::Cluster(teller) => run(app, Some(teller), Watch::Begin, true),
        };
    }
    if let Some(part) = start.part.as_ref().filter(|part| part.parent > 0) {
        let parent = Pid::from_raw(part.parent);
        let tied = process::signal_at_parent_death(parent, SIGTERM);
        if !tied.map_err(Error::io("the end of the parent"))? {
            return Ok(());
        }
    }
    run(app, None, Watch::Begin, false)
}

/// What becomes of `--watch`.
enum Watch {
    Begin,
    /// Whether there is anything to watch: no process is made.
    Trial,
    /// There are workers already, which are worth more.
    Takeover,
}

/// Judges the applications of a configuration file.
///
/// # Errors
///
/// [`Error::Configuration`], naming the first that makes no sense.
pub(super) fn check(path: &Path) -> Result<()> {
    plan::of_file(path)?.iter().try_for_each(judge)
}

/// Whether an application makes sense, as far as can be told before it runs.
///
/// # Errors
///
/// [`Error::Configuration`] with the place and the name of one that stands in a file, else
/// [`Error::Settings`].
fn judge(app: &App) -> Result<()> {
    let judged = program::cluster(app)
        .and_then(crate::Cluster::judge)
        .and_then(|()| program::judge_logs(app))
        .and_then(|()| watch::roots(app).map(drop));
    judged.map_err(|error| match (&app.place, error) {
        (Some(place), Error::Settings(why)) => {
            Error::Configuration(format!("{place}: {}: {why}", app.name))
        }
        (_, error) => error,
    })
}

/// Says in one line what an application asks for in vain.
fn name_unsupported(app: &App) {
    if !app.unsupported.is_empty() {
        let what = plain(&app.unsupported.join(", "));
        eprintln!("mcluster: {}: not supported here: {what}", app.name);
    }
}

/// Clusters of one name exclude each other.
fn refuse_twins(app: &App) -> Result<()> {
    let path = app.options.access.path(&app.name);
    let answers = path.is_some_and(|path| client::connect(&path, None).is_ok());
    match answers {
        false => Ok(()),
        true => Err(Error::Refused(format!(
            "{0} runs already: 'mcluster reload {0}' replaces its workers, --name gives another name",
            app.name
        ))),
    }
}

/// Runs one application as the primary of its workers, until it is stopped.
fn run(app: &App, teller: Option<Teller>, watch: Watch, background: bool) -> Result<()> {
    stderr::start_of_cluster();
    log_panics();
    let begun = match watch {
        Watch::Begin => watch::begin(app, background),
        Watch::Trial => watch::roots(app).map(|_| None),
        Watch::Takeover => Ok(watch::begin(app, background).unwrap_or_else(|error| {
            log::error!("files are not watched any more: {error}");
            None
        })),
    };
    let cluster = begun.and_then(|watched| Ok((program::cluster(app)?, watched)));
    let teller = std::rc::Rc::new(std::cell::Cell::new(teller));
    let told = teller.clone();
    let ended = cluster.and_then(|(cluster, watched)| {
        let aside = Aside {
            background: background.then(|| app.name.clone()),
            watched: std::rc::Rc::new(std::cell::RefCell::new(watched)),
        };
        let beside = aside.clone();
        let mut spoken = Spoken::default();
        let observe = move |handle: &ClusterHandle, event: &Event| {
            aside.go();
            observe(handle, event, &mut spoken);
            if let Event::Ready { addresses } = event
                && let Some(teller) = told.take()
            {
                teller.ready(addresses);
            }
        };
        cluster.on_event(observe).beside(beside).run()
    });
    if let (Err(error), Some(teller)) = (&ended, teller.take()) {
        teller.failed(error);
    }
    ended
}

fn observe(handle: &ClusterHandle, event: &Event, spoken: &mut Spoken) {
    spoken.observe(event, Instant::now());
    announce(handle, event);
}
