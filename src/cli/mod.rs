//! The command: flags in, exit status out.
//!
//! `flags` says what may be written, `values` reads the words of single flags; here they become a
//! [`Cluster`]. Owns stdout (the `listening on` lines) and the log on stderr.

mod flags;
mod values;

use crate::{Cluster, ClusterHandle, Event, demo};
use clap::Parser;
use flags::{Cli, Command, Serve};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Runs the command with this process's arguments.
///
/// Returns its exit status; usage errors and `--help` end the process, as clap does.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse_from(with_subcommand(std::env::args_os().collect()));
    start_log();
    log_panics();
    let result = match command {
        Command::Serve(serve) => run(*serve),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcluster: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// `serve` is the subcommand when none is given.
fn with_subcommand(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let about_the_command = ["-h", "--help", "-V", "--version"];
    let implied = match arguments.get(1).and_then(|first| first.to_str()) {
        None => true,
        Some(first) => first.starts_with('-') && !about_the_command.contains(&first),
    };
    if implied {
        let at = arguments.len().min(1);
        arguments.insert(at, "serve".into());
    }
    arguments
}

fn start_log() {
    let default = env_logger::Env::default().default_filter_or("info");
    // A second start only happens to a program that has a log already; then that one is right.
    let _ = env_logger::Builder::from_env(default)
        .format_target(false)
        .try_init();
}

/// A panic of a handler is logged where it is answered; here only its place is added.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            log::error!("panic at {place}");
        }
    }));
}

fn run(serve: Serve) -> crate::Result<()> {
    let app = demo::app(serve.mode, serve.chaos);
    let mut cluster = Cluster::new(app)
        .mode(serve.mode)
        .workers(serve.workers()?)
        .schedule(serve.schedule()?)
        .limits(serve.limits())
        .drain_timeout(serve.drain_timeout)
        .on_event(announce);
    for address in serve.addresses()? {
        cluster = cluster.listen(address);
    }
    if let Some(threads) = serve.pool.threads() {
        cluster = cluster.pool(threads);
    }
    cluster.run()
}

/// Says on stdout where the cluster listens, once all of it does.
fn announce(_: &ClusterHandle, event: &Event) {
    if let Event::Ready { addresses } = event {
        let lines: String = addresses
            .iter()
            .map(|address| format!("listening on {address}\n"))
            .collect();
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout
            .write_all(lines.as_bytes())
            .and_then(|()| stdout.flush())
        {
            // Nobody reads it; the cluster serves all the same.
            log::debug!("stdout: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_make_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_what_it_does_by_default() {
        let cases: [(&[&str], &str); 5] = [
            (&["mcluster"], "serve"),
            (&["mcluster", "--mode", "threads"], "serve"),
            (&["mcluster", "serve", "-w", "1"], "serve"),
            (&["mcluster", "--help"], "--help"),
            (&["mcluster", "-V"], "-V"),
        ];
        for (words, expected) in cases {
            let words = words.iter().map(OsString::from).collect();
            assert_eq!(with_subcommand(words)[1], expected);
        }
    }
}
