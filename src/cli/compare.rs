//! `mcluster compare`: its options, its progress bar, and where its answer goes.
//!
//! Measuring and judging are the crate's `compare`.

use super::print;
use super::values::duration;
use crate::compare::{Compare, Comparison, MOST_ROUNDS, Progress, Workload, about};
use crate::session::{Keys, MemoryStore, Sessions};
use crate::{Error, Result, Workers, demo};
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Steps of the bar.
const STEPS: u64 = 1000;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// What they are made to do, with commas between
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "hello,heavy,mixed,crash,memory,startup"
    )]
    workloads: Vec<Workload>,

    /// How many workers: a number, max, max-1 or a share of the CPUs such as 50%
    #[arg(short, long, value_name = "N", default_value = "max")]
    workers: Workers,

    /// How long each workload lasts for each contestant in each round
    #[arg(short, long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    duration: Duration,

    /// How often all of it is measured; the figures are medians
    #[arg(long, value_name = "N", default_value = "3", value_parser = value_parser!(u64).range(1..=MOST_ROUNDS as u64))]
    rounds: u64,

    /// Print JSON: every figure of every round
    #[arg(long)]
    json: bool,

    /// Write a page with plots as well
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Compares, or is one of those that are compared.
///
/// # Errors
///
/// As [`Compare::measure`], and when the answer cannot be written.
pub(super) fn obey(options: &Options) -> Result<()> {
    let keys = Keys::random().map_err(|source| Error::Io {
        what: "session keys",
        source,
    })?;
    if let Some(path) = &options.html {
        can_be_written(path)?;
    }
    let mut bar = None;
    let compare = Compare::new(move |setup| {
        let sessions = Sessions::new(MemoryStore::new(), keys.clone());
        demo::app(setup.mode(), false, &sessions)
    });
    let found = compare
        .workloads(options.workloads.iter().copied())
        .workers(options.workers)
        .duration(options.duration)
        .rounds(usize::try_from(options.rounds).unwrap_or(MOST_ROUNDS))
        .heavy("/heavy")
        .on_progress(move |progress| show(&mut bar, progress))
        .measure()?;
    match found {
        Some(found) => answer(options, &found),
        None => Ok(()),
    }
}

fn answer(options: &Options, found: &Comparison) -> Result<()> {
    if let Some(path) = &options.html {
        fs::write(path, found.html())
            .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))?;
    }
    print(&match options.json {
        true => found.json(),
        false => found.text(),
    })
}

/// Whether there is a place for a file, before minutes are spent on what goes into it.
fn can_be_written(path: &Path) -> Result<()> {
    let refuse = |why: &str| Err(Error::Settings(format!("--html {}: {why}", path.display())));
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match () {
        () if path.is_dir() => refuse("that is a directory"),
        () if !parent.is_dir() => refuse("there is no such directory"),
        () => Ok(()),
    }
}

/// How far it is: a bar on a terminal, elsewhere one line at the start.
fn show(bar: &mut Option<ProgressBar>, progress: &Progress) {
    let bar = bar.get_or_insert_with(|| {
        eprintln!("comparing, which takes about {}", about(progress.expected));
        begin()
    });
    bar.set_position((progress.share * STEPS as f64) as u64);
    bar.set_message(progress.what.clone());
    if progress.what.is_empty() {
        bar.finish_and_clear();
    }
}

/// Drawn by this thread alone, when it is told to.
fn begin() -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(STEPS), target);
    // A wrong template would be this file's mistake; then there is a plain bar.
    if let Ok(style) = ProgressStyle::with_template("[{elapsed}] {wide_bar} {percent:>3}% {msg}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_page_can_go() {
        let folder = std::env::temp_dir();
        assert!(can_be_written(&folder.join("x.html")).is_ok());
        assert!(can_be_written(Path::new("x.html")).is_ok());
        for path in [folder.clone(), folder.join("no/such/place/x.html")] {
            let error = can_be_written(&path).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }

    #[test]
    fn the_bar_can_be_drawn() {
        let template = "[{elapsed}] {wide_bar} {percent:>3}% {msg}";
        assert!(ProgressStyle::with_template(template).is_ok());
    }
}
