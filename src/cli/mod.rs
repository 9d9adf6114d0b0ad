//! The command: flags in, exit status out.
//!
//! `flags` says what may be written, `values` reads the words of single flags, `file` those of
//! `mcluster.toml`, and `sources` says which of them counts; `show` prints what came of it. Here
//! they become a [`Cluster`], and in `sessions` what keeps its sessions. `steer` is for a cluster that runs already: by the crate's `client` it asks, in
//! `table`, `events` and `logs` it shows. `loadtest` sends requests to any server, `compare` measures
//! processes against threads, `start` runs programs of other kinds. Owns stdout (the `listening on`
//! lines); the log on stderr is `stderr`'s.

mod compare;
mod events;
mod file;
mod flags;
mod loadtest;
mod logs;
mod sessions;
mod show;
mod sources;
mod start;
mod stderr;
mod steer;
mod table;
mod values;
mod which;

use crate::session::Sessions;
use crate::{App, Cluster, ClusterHandle, Error, Event, Files, demo};
use clap::CommandFactory;
use flags::{Cli, Command, Serve};
use sources::Said;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use values::{Requests, Shell};

/// Runs the command with this process's arguments.
///
/// Returns its exit status; usage errors and `--help` end the process, as clap does.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = with_subcommand(std::env::args_os().collect());
    let result = sources::read(&arguments).and_then(obey);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcluster: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn obey(said: Said) -> crate::Result<()> {
    match &said.cli.command {
        Command::Serve(serve) => {
            stderr::start_of_cluster();
            log_panics();
            if let Some(path) = &said.file {
                log::info!("configuration from {}", path.display());
            }
            cluster(serve, sessions::open(serve)?)?
                .on_event(announce)
                .run()
        }
        Command::Check(serve) => {
            cluster(serve, sessions::check(serve)?)?.judge()?;
            if let Some(path) = &said.file {
                start::check(path)?;
            }
            let file = said.file.as_deref().map(Path::display);
            print(&match file {
                Some(file) => format!("{file}: ok\n"),
                None => format!("no {}: ok\n", file::USUAL),
            })
        }
        Command::Config { json: true, .. } => print(&show::json(&said)?),
        Command::Config { json: false, .. } => print(&show::toml(&said)?),
        Command::Start(options) => start::obey(options, &said),
        Command::Unit(unit) => start::print_unit(unit),
        Command::Steer(steer) => steer::obey(steer),
        Command::Loadtest(options) => {
            stderr::start();
            loadtest::obey(options)
        }
        Command::Compare(options) => compare::obey(options),
        Command::Completions { shell } => print(&completions(*shell)),
    }
}

fn completions(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // Into memory first: clap_complete panics when it cannot write.
    let mut script = Vec::new();
    let mut command = Cli::command().mut_subcommand("start", without_hidden);
    clap_complete::generate(shell, &mut command, "mcluster", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command without the options that are for this program itself, which clap_complete would offer.
fn without_hidden(command: clap::Command) -> clap::Command {
    let shown = command.get_arguments().filter(|one| !one.is_hide_set());
    let mut other = clap::Command::new("start").args(shown.cloned().collect::<Vec<_>>());
    if let Some(about) = command.get_about() {
        other = other.about(about.clone());
    }
    other
}

/// Puts an answer on stdout. Who closed the pipe has read enough.
fn print(text: &str) -> crate::Result<()> {
    put(text).map(drop)
}

/// Puts text on stdout; whether anybody reads on.
fn put(text: impl AsRef<[u8]>) -> crate::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_ref())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(crate::Error::Io {
            what: "stdout",
            source,
        }),
        Ok(()) => Ok(true),
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

/// A panic of a handler is logged where it is answered; here only its place is added.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            log::error!("panic at {place}");
        }
    }));
}

/// What the options have it serve.
///
/// # Errors
///
/// When the files are to be those of a directory that is none.
fn app(serve: &Serve, sessions: &Sessions) -> crate::Result<App> {
    let Some(root) = &serve.root else {
        return Ok(demo::app(serve.mode, serve.chaos, sessions));
    };
    let files = Files::new(root)
        .map_err(|error| Error::Configuration(format!("root: {}: {error}", root.display())))?
        .index(serve.index.0.iter().cloned())
        .listing(serve.listing)
        .dotfiles(serve.dotfiles)
        .cache(serve.file_cache);
    let files = match &serve.cache_control {
        Some(value) => files.cache_control(value),
        None => files,
    };
    Ok(App::new().files("/", files))
}

/// The cluster that the options make.
fn cluster(serve: &Serve, sessions: Sessions) -> crate::Result<Cluster> {
    let app = app(serve, &sessions)?;
    let mut cluster = Cluster::new(app)
        .mode(serve.mode)
        .workers(serve.workers)
        .schedule(serve.schedule.clone())
        .limits(serve.limits())
        .drain_timeout(serve.drain_timeout);
    for address in &serve.listen {
        cluster = cluster.listen(address);
    }
    cluster = cluster
        .drain_delay(serve.drain_delay)
        .worker_timeout(serve.worker_timeout())
        .start_timeout(serve.start_timeout);
    if let Some(Requests { most, jitter }) = serve.max_requests {
        cluster = cluster.max_requests(most, jitter);
    }
    if let Some(bytes) = serve.max_memory {
        cluster = cluster.max_memory(bytes);
    }
    if let Some(path) = &serve.health_path {
        cluster = cluster.health_path(path);
    }
    cluster = at_edge(cluster, serve);
    cluster = serve.who.apply(cluster);
    if let Some(threads) = serve.pool.threads() {
        cluster = cluster.pool(threads);
    }
    Ok(serve.access.apply(cluster, &serve.name))
}

/// What the options say of its edge.
fn at_edge(cluster: Cluster, serve: &Serve) -> Cluster {
    let mut cluster = cluster
        .trust(serve.trust())
        .request_ids(serve.request_id)
        .log_format(serve.log_format);
    if let Some(path) = &serve.access_log {
        cluster = cluster.access_log(path);
    }
    if let Some(text) = &serve.server_header {
        cluster = cluster.server_header(text);
    }
    cluster
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

    #[test]
    fn the_flags_make_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_hidden_is_not_completed() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);
            assert!(script.contains("wait-ready"), "{shell:?}");
            let hidden = ["--part", "-l part"];
            assert!(!hidden.iter().any(|one| script.contains(one)), "{shell:?}");
        }
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
