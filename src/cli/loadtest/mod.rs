//! `mcluster loadtest`: from flags to a run, from a run to what is printed and the exit status.
//!
//! `flags` says what may be written, `words` reads single words, `progress` says how far it is,
//! `aloud` writes stderr meanwhile, `faults` starts the server and does things to it, `page` writes a file, `verdict` judges. The run
//! itself and what its findings look like are `crate::loadtest`'s.

mod aloud;
mod faults;
mod flags;
mod page;
mod progress;
mod verdict;
mod words;

use super::print;
use crate::compare::meanwhile;
use crate::loadtest::{Loadtest, Report, Running, show};
use crate::spawn::{Spawned, Voice};
use crate::sys::program;
use crate::sys::signal::{SIGINT, SIGTERM, SignalFd};
use crate::{Error, Result};
use aloud::Aloud;
use faults::Script;
pub(super) use flags::Options;
use progress::Bar;
use std::time::Duration;

/// Between two looks at how far it is, and whether somebody ends it.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the test and says what came of it.
///
/// # Errors
///
/// When it could not be made, when nothing or not everything was answered, and when a threshold was
/// missed.
pub(super) fn obey(options: &Options) -> Result<()> {
    next_phase();
    let mut plan = options.plan()?;
    options.faults.judge(plan.limit())?;
    plan.url = options.faults.likely_url(options.url.as_deref())?;
    plan.check()?;
    if let Some(path) = &options.html {
        page::judge(path)?;
    }
    // Before there are threads, so that none of them takes a signal.
    let signals = SignalFd::new(&[SIGINT, SIGTERM]).map_err(Error::io("signals"))?;
    let aloud = match options.quiet {
        true => None,
        false => Some(Aloud::start(progress::bar()).map_err(Error::io("a thread"))?),
    };
    let voice = match &aloud {
        None => Voice::Quiet,
        Some(aloud) => Voice::Aloud(aloud.sink()),
    };
    let signalled = || matches!(signals.read(), Ok(Some(_)));
    let server = options.faults.server(voice, signalled)?;
    let measured = measure(plan, options, server.as_ref(), &signals, aloud.as_ref());
    // Whatever came of it: the server is stopped in good order, and a signal means that this takes too
    // long, not that the report is not wanted.
    let stop = |server| options.faults.stop(server, signalled);
    let stopped = server.map_or(Ok(()), stop);
    // From here on a signal does what it does to any command: whoever reads the report may be slow.
    while let Ok(Some(_)) = signals.read() {}
    signals.restore_mask();
    drop(aloud);
    let (report, script) = measured?;
    next_phase();
    let thresholds = verdict::thresholds(options, &report);
    let shown = shown(options, &report, &thresholds);
    let else_done = shown.into_iter().chain([script.judge(), stopped]);
    verdict::judge(&report, &thresholds, else_done)
}

/// Writes the page, and prints what was asked for. One that fails does not keep the other from it.
fn shown(options: &Options, report: &Report, thresholds: &[show::Threshold]) -> [Result<()>; 2] {
    let written = match &options.html {
        Some(path) => page::write(path, &show::html(report, thresholds)),
        None => Ok(()),
    };
    let printed = match (options.json, options.csv, options.quiet) {
        (true, _, _) => print(&show::json(report, thresholds)),
        (_, true, _) => print(&show::csv(report)),
        (_, _, true) => Ok(()),
        _ => print(&show::text(report, thresholds)),
    };
    [written, printed]
}

/// What a thread makes of something that may take long.
///
/// # Errors
///
/// When a signal comes first. Nobody waits for the thread then.
fn unless<T: Send + 'static>(
    signals: &SignalFd,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    meanwhile(work, LOOK, || {
        match signals.read().map_err(Error::io("signals"))? {
            None => Ok(()),
            Some(_) => {
                let what = "a signal ended it before the run began";
                Err(Error::Failed(what.to_owned()))
            }
        }
    })
}

/// The run, at the server that was started for it, if one was.
fn measure(
    mut plan: Loadtest,
    options: &Options,
    server: Option<&Spawned>,
    signals: &SignalFd,
    aloud: Option<&Aloud>,
) -> Result<(Report, Script)> {
    plan.url = options.faults.url(options.url.as_deref(), server)?;
    let mut script = options.faults.script(server, &plan.url, signals)?;
    let bar = Bar::new(&plan, aloud);
    let running = unless(signals, move || plan.start())??;
    let report = drive(running, bar, &mut script, signals)?;
    Ok((report, script))
}

/// Waits for the end of the run. The first signal ends it as if its time were over; a second one at
/// once, and then there is no report.
fn drive(
    running: Running,
    mut bar: Bar<'_>,
    script: &mut Script,
    signals: &SignalFd,
) -> Result<Report> {
    let mut stopping = false;
    while !running.wait(script.pause(running.progress().elapsed, LOOK)) {
        script.step(&running);
        bar.show(running.progress());
        match signals.read().map_err(Error::io("signals"))? {
            None => {}
            Some(_) if stopping => {
                let what = "ended at once by a second signal, without a report";
                return Err(Error::Failed(what.to_owned()));
            }
            Some(_) => {
                stopping = true;
                script.cancel();
                running.stop();
            }
        }
    }
    drop(bar);
    script.end(&running, || {
        let signalled = matches!(signals.read(), Ok(Some(_)));
        let second = signalled && stopping;
        stopping |= signalled;
        second
    });
    next_phase();
    Ok(running.finish())
}

/// Between two phases: reading options, running, adding up, showing. What the last one needed the next
/// one does not, and a small machine may want the memory back; without it the test is the same.
fn next_phase() {
    if let Err(error) = program::release_unused() {
        log::debug!("memory that is not needed stays: {error}");
    }
}
