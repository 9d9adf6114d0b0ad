//! `mcluster loadtest`: from flags to a run, from a run to what is printed and the exit status.
//!
//! `flags` says what may be written, `words` reads single words, `progress` draws while it runs,
//! `faults` starts the server and does things to it, `page` writes a file, `verdict` judges. The run
//! itself and what its findings look like are `crate::loadtest`'s.

mod faults;
mod flags;
mod page;
mod progress;
mod verdict;
mod words;

use super::print;
use crate::loadtest::{self, Report, Running, show};
use crate::spawn::Voice;
use crate::sys::signal::{SIGINT, SIGTERM, SignalFd};
use crate::{Error, Result};
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
    let mut plan = options.plan()?;
    options.faults.judge(plan.limit())?;
    if let Some(path) = &options.html {
        page::judge(path)?;
    }
    // Before there are threads, so that none of them takes a signal.
    let signals = SignalFd::new(&[SIGINT, SIGTERM]).map_err(|source| Error::Io {
        what: "signals",
        source,
    })?;
    let voice = match options.quiet {
        true => Voice::Quiet,
        false => Voice::Aloud,
    };
    let signalled = || matches!(signals.read(), Ok(Some(_)));
    let server = options.faults.server(voice, signalled)?;
    plan.url = options
        .faults
        .url(options.url.as_deref(), server.as_ref())?;
    let mut script = options.faults.script(server.as_ref())?;
    let running = plan.start().map_err(refused)?;
    let report = drive(running, options, &mut script, &signals)?;
    let stopped = server.map_or(Ok(()), |server| options.faults.stop(server));
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

fn refused(error: loadtest::Error) -> Error {
    match error {
        loadtest::Error::Usage(what) => Error::Settings(what),
        loadtest::Error::Io { what, source } => Error::Io { what, source },
    }
}

/// Waits for the end of the run. The first signal ends it as if its time were over; a second one at
/// once, and then there is no report.
fn drive(
    running: Running,
    options: &Options,
    script: &mut Script,
    signals: &SignalFd,
) -> Result<Report> {
    let mut bar = Bar::new(options);
    let mut stopping = false;
    while !running.wait(script.pause(running.progress().elapsed, LOOK)) {
        script.step(&running);
        bar.show(running.progress());
        let signal = signals.read().map_err(|source| Error::Io {
            what: "signals",
            source,
        })?;
        match signal {
            None => {}
            Some(_) if stopping => {
                bar.end();
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
    bar.end();
    script.end(&running, || {
        stopping || matches!(signals.read(), Ok(Some(_)))
    });
    // From here on a signal does what it does to any command: whoever reads the report may be slow.
    while let Ok(Some(_)) = signals.read() {}
    signals.restore_mask();
    Ok(running.finish())
}
