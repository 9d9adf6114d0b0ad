//! `mcluster compare`: its options, its progress bar, and where its answer goes.
//!
//! Measuring and judging are the crate's `compare`.

use super::print;
use super::values::duration;
use crate::compare::{
    Compare, Comparison, MOST_ROUNDS, Progress, Workload, announced, is_contestant,
};
use crate::session::{Keys, MemoryStore, Sessions};
use crate::{Error, Result, Workers, demo};
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the bar looks like.
const TEMPLATE: &str = "[{elapsed}] {wide_bar} {percent:>3}% {msg}";

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
    let keys = Keys::random().map_err(Error::io("session keys"))?;
    // A contestant has the same options, and nothing to write.
    let page = match &options.html {
        Some(path) if !is_contestant() => Some(Page::open(path)?),
        _ => None,
    };
    let mut bar = None;
    let compare = Compare::new(move |setup| {
        let sessions = Sessions::new(MemoryStore::new(), keys.clone());
        demo::app(setup.mode(), false, &sessions)
    });
    let (found, ended) = compare
        .workloads(options.workloads.iter().copied())
        .workers(options.workers)
        .duration(options.duration)
        .rounds(usize::try_from(options.rounds).unwrap_or(MOST_ROUNDS))
        .heavy("/heavy")
        .on_progress(move |progress| show(&mut bar, progress))
        .attempt()?;
    // What was measured before something went wrong is worth a look too.
    match found.is_empty() {
        true => ended,
        false => ended.and(answer(options, page, &found)),
    }
}

fn answer(options: &Options, page: Option<Page>, found: &Comparison) -> Result<()> {
    // Minutes were spent on this: first to where it cannot fail for want of room.
    let printed = print(&match options.json {
        true => found.json(),
        false => found.text(),
    });
    match page {
        Some(page) => page.write(&found.html()).and(printed),
        None => printed,
    }
}

/// A file for the page, opened before minutes are spent on what goes into it.
#[derive(Debug)]
struct Page {
    path: PathBuf,
    file: File,
    /// Made by us and still empty: it goes if nothing comes.
    is_new: bool,
}

impl Page {
    /// Opens it and leaves what is in it.
    fn open(path: &Path) -> Result<Self> {
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let refuse = |why| Error::Settings(format!("--html {}: {why}", path.display()));
        Ok(Self {
            path: path.to_owned(),
            file: file.map_err(refuse)?,
            is_new,
        })
    }

    fn write(mut self, text: &str) -> Result<()> {
        let path = self.path.display().to_string();
        let failed = |why| Error::Failed(format!("{path}: {why}"));
        // A pipe or a terminal has no length.
        if self.file.metadata().is_ok_and(|facts| facts.is_file()) {
            self.file.set_len(0).map_err(failed)?;
        }
        self.is_new = false;
        self.file.write_all(text.as_bytes()).map_err(failed)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// How far it is: a bar on a terminal, elsewhere one line at the start.
fn show(bar: &mut Option<ProgressBar>, progress: &Progress) {
    let bar = bar.get_or_insert_with(|| {
        eprintln!("{}", announced(progress.expected));
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
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
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
        let path = folder.join(format!("mcluster-page-{}.html", std::process::id()));
        drop(Page::open(&path).unwrap());
        assert!(!path.exists(), "nothing came");
        fs::write(&path, "what was there before").unwrap();
        drop(Page::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().len(), 21);
        Page::open(&path).unwrap().write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        fs::remove_file(&path).unwrap();
        Page::open(Path::new("/dev/null"))
            .unwrap()
            .write("new")
            .unwrap();
        for path in [folder.clone(), folder.join("no/such/place/x.html")] {
            let error = Page::open(&path).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }

    #[test]
    fn the_bar_can_be_drawn() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
