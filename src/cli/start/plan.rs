//! Which applications there are: from the command line, from `[[app]]` tables, or from an ecosystem
//! file, each with all that was said of it.
//!
//! What a file says of an application stands below the flags and variables of the command line, as it
//! does for `serve`: each application is the command line read again, with its own defaults.

use super::super::file::{self, Setting, USUAL};
use super::super::flags::Command;
use super::super::sources::{self, Fallback, Layer, Said};
use super::super::table;
use super::ecosystem;
use super::flags::{ARGS, Options, PROGRAM, Start};
use super::program;
use super::words::{name_of, pair};
use crate::{Error, Result, SchedulingPolicy};
use clap::builder::Resettable;
use clap::{Arg, ArgAction, Args, FromArgMatches};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

/// One application, with all that was said of it.
#[derive(Debug)]
pub(super) struct App {
    pub(super) name: String,
    /// The file that it stands in; none where the command line says all.
    pub(super) place: Option<String>,
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    /// Options for node that are words already, before those of the options.
    pub(super) node_args: Vec<String>,
    pub(super) options: Options,
    /// What its file asks for and is not done here, in words.
    pub(super) unsupported: Vec<String>,
}

/// What a file says of an application.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) settings: Vec<Setting>,
    /// Options for node, each a word. Those of the command line take their place.
    pub(super) node_args: Vec<String>,
    pub(super) unsupported: Vec<String>,
}

impl Entry {
    pub(super) fn set(&mut self, id: &str, words: impl IntoIterator<Item = String>) {
        let id = id.to_owned();
        let words = words.into_iter().collect();
        self.settings.push(Setting { id, words });
    }

    /// Takes out what was said under a name.
    fn take(&mut self, id: &str) -> Vec<String> {
        let at = self.settings.iter().position(|setting| setting.id == id);
        at.map(|at| self.settings.remove(at).words)
            .unwrap_or_default()
    }
}

/// Variables that are not this program's own.
const FALLBACKS: [(&str, Fallback); 1] = [("workers", || sources::named("WEB_CONCURRENCY"))];

/// Those of them that mean Node programs alone: no other is dealt connections.
const POLICIES: [&str; 2] = ["MCLUSTER_SCHED_POLICY", "NODE_CLUSTER_SCHED_POLICY"];

/// What an `[[app]]` table may have: the options, without their variables, and what stands behind
/// `start` without a flag.
pub(super) fn keys() -> clap::Command {
    Options::augment_args(clap::Command::new("app"))
        .disable_help_flag(true)
        .mut_args(|option| option.env(Resettable::Reset))
        .arg(Arg::new(PROGRAM).long(PROGRAM))
        .arg(
            Arg::new(ARGS)
                .long(ARGS)
                .action(ArgAction::Append)
                .allow_hyphen_values(true),
        )
}

/// The applications that a command line asks for, at least one.
///
/// # Errors
///
/// When there is none, a file makes no sense, or two have one name.
pub(super) fn apps(start: &Start, said: &Said) -> Result<Vec<App>> {
    let (place, entries) = match &start.program {
        None => {
            let path = start.config.as_deref().unwrap_or(USUAL.as_ref());
            let entries = entries(path).map_err(|error| {
                match (error, &start.config) {
                (Wrong::Missing, None) => Error::Settings(
                    "start what? There is no PROGRAM, and no mcluster.toml here with [[app]] tables"
                        .to_owned(),
                ),
                (wrong, _) => wrong.of(path),
            }
            })?;
            (plain(path), entries)
        }
        Some(program) if ecosystem::is_one(program) && start.options.interpreter.is_none() => {
            let path = Path::new(program);
            (plain(path), ecosystem::read(path, start)?)
        }
        Some(_) => (String::new(), vec![Entry::default()]),
    };
    let is_of_file = !place.is_empty();
    if start.program.is_some() && !said.is_open("config") && !from_variable("MCLUSTER_CONFIG") {
        return Err(Error::Settings(
            "--config is for [[app]] tables, and so goes without a PROGRAM".to_owned(),
        ));
    }
    let mut apps = Vec::new();
    for entry in entries {
        let place = is_of_file.then(|| place.clone());
        apps.push(app(entry, place, said)?);
    }
    if apps.is_empty() {
        return Err(Error::Configuration(format!(
            "{place}: there are no applications in it"
        )));
    }
    choose(apps, start).map_err(|why| match is_of_file {
        true => Error::Configuration(format!("{place}: {why}")),
        false => Error::Settings(why),
    })
}

fn from_variable(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|words| !words.is_empty())
}

/// Those that are wanted, in the order of the file.
fn choose(mut apps: Vec<App>, start: &Start) -> std::result::Result<Vec<App>, String> {
    refuse_equal_names(&apps)?;
    let alone = start.part.as_ref().map(|part| &part.name);
    let wanted: Vec<_> = match alone {
        Some(name) => vec![name],
        None => start.only.iter().collect(),
    };
    let names: Vec<_> = apps.iter().map(|app| app.name.clone()).collect();
    if let Some(name) = wanted.iter().find(|name| !names.contains(name)) {
        return Err(format!(
            "there is no application {name}, only {}",
            names.join(", ")
        ));
    }
    if !wanted.is_empty() {
        apps.retain(|app| wanted.contains(&&app.name));
    }
    refuse_equal_sockets(&apps)?;
    Ok(apps)
}

fn refuse_equal_names(apps: &[App]) -> std::result::Result<(), String> {
    for (at, app) in apps.iter().enumerate() {
        if apps[..at].iter().any(|other| other.name == app.name) {
            return Err(format!("two applications are named {}", app.name));
        }
    }
    Ok(())
}

/// Each cluster has a control socket of its own.
fn refuse_equal_sockets(apps: &[App]) -> std::result::Result<(), String> {
    let path = |app: &App| app.options.access.path(&app.name);
    for (at, app) in apps.iter().enumerate() {
        let path_here = path(app);
        let mut before = apps[..at].iter();
        if path_here.is_some()
            && let Some(other) = before.find(|other| path(other) == path_here)
        {
            let both = format!("{} and {}", other.name, app.name);
            return Err(format!("{both} have the same control socket"));
        }
    }
    Ok(())
}

/// A path as it may be printed.
fn plain(path: &Path) -> String {
    table::plain(&path.to_string_lossy())
}

/// One application, by what its file says and what the command line says above that.
fn app(mut entry: Entry, place: Option<String>, said: &Said) -> Result<App> {
    let is_of_file = place.is_some();
    let (program, args) = (entry.take(PROGRAM).pop(), entry.take(ARGS));
    let env = entry.take("env");
    let options = keys();
    let mut layers: Vec<Layer> = sources::lists(&options, |id| id != ARGS && said.is_open(id))?;
    for setting in entry.settings {
        sources::add(&mut layers, &setting.id, "the file", setting.words);
    }
    sources::fall_back(&mut layers, &FALLBACKS, &options, |id| said.is_open(id))?;
    let Command::Start(start) = said.above(&layers).command else {
        return Err(Error::Settings("that does not start anything".to_owned()));
    };
    let mut start = *start;
    if is_of_file {
        // The name of an environment has done what it is for.
        let is_ecosystem = start.program.is_some();
        let said = std::mem::take(&mut start.options.env).into_iter();
        let said = said.filter(|pair| pair.value.is_some() || !is_ecosystem);
        // A later one of the same name counts.
        let below = env.iter().filter_map(|words| pair(words).ok());
        start.options.env = below.chain(said).collect();
    }
    let program = match is_of_file {
        true => program.map(OsString::from),
        false => start.program,
    };
    let args = match start.args.is_empty() {
        true => args.into_iter().map(OsString::from).collect(),
        false => start.args,
    };
    let unsupported = entry.unsupported;
    let mut app = finished(place, program, args, start.options, unsupported)?;
    if app.options.node_args.is_empty() {
        app.node_args = entry.node_args;
    }
    if app.options.schedule.is_none() && program::is_node_program(&app) {
        app.options.schedule = policy(&options)?;
    }
    Ok(app)
}

fn policy(options: &clap::Command) -> Result<Option<SchedulingPolicy>> {
    for name in POLICIES {
        if let Some((source, words)) = sources::policy(name)? {
            sources::judge_all(options, "schedule", &source, std::slice::from_ref(&words))?;
            return Ok(words.parse().ok());
        }
    }
    Ok(None)
}

fn finished(
    place: Option<String>,
    program: Option<OsString>,
    args: Vec<OsString>,
    options: Options,
    unsupported: Vec<String>,
) -> Result<App> {
    let Some(program) = program.filter(|program| !program.is_empty()) else {
        let name = options.name.as_deref().unwrap_or("without a name");
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        return Err(Error::Configuration(format!(
            "{place}application {name}: it has no program"
        )));
    };
    let name = options.name.clone();
    Ok(App {
        name: name.unwrap_or_else(|| name_of(&program)),
        place,
        program,
        args,
        node_args: Vec::new(),
        options,
        unsupported,
    })
}

/// Why a file's applications are not known.
#[derive(Debug)]
enum Wrong {
    /// There is no file, or none of them in it.
    Missing,
    Unreadable(std::io::Error),
    /// By the line.
    Nonsense(String),
}

impl Wrong {
    fn of(self, path: &Path) -> Error {
        let place = plain(path);
        Error::Configuration(match self {
            Self::Missing => format!("{place}: there is no such file, or no [[app]] in it"),
            Self::Unreadable(why) => format!("{place}: {why}"),
            Self::Nonsense(why) => format!("{place}:{why}"),
        })
    }
}

fn entries(path: &Path) -> std::result::Result<Vec<Entry>, Wrong> {
    let text = file::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Wrong::Missing,
        _ => Wrong::Unreadable(error),
    })?;
    let tables = file::apps(&text, &keys()).map_err(Wrong::Nonsense)?;
    if tables.is_empty() {
        // What else is in it may not even be TOML for serve.
        file::parse(&text, &sources::options()).map_err(Wrong::Nonsense)?;
        return Err(Wrong::Missing);
    }
    let entry = |settings| Entry {
        settings,
        ..Entry::default()
    };
    Ok(tables.into_iter().map(entry).collect())
}

/// The applications of a file, by what it says alone; none where it has none.
///
/// # Errors
///
/// As [`apps`].
pub(super) fn of_file(path: &Path) -> Result<Vec<App>> {
    let entries = match entries(path) {
        Ok(entries) => entries,
        Err(Wrong::Missing) => return Ok(Vec::new()),
        Err(wrong) => return Err(wrong.of(path)),
    };
    let place = plain(path);
    let apps = entries.into_iter().map(|entry| by_file(entry, &place));
    let apps = apps.collect::<Result<Vec<_>>>()?;
    refuse_equal_names(&apps)
        .and_then(|()| refuse_equal_sockets(&apps))
        .map_err(|why| Error::Configuration(format!("{place}: {why}")))?;
    Ok(apps)
}

fn by_file(mut entry: Entry, place: &str) -> Result<App> {
    let (program, args) = (entry.take(PROGRAM).pop(), entry.take(ARGS));
    let mut layers = Vec::new();
    for setting in entry.settings {
        sources::add(&mut layers, &setting.id, "the file", setting.words);
    }
    let command = sources::with(keys(), &layers);
    let wrong = |error: clap::Error| Error::Configuration(error.to_string());
    let matches = command.try_get_matches_from(["app"]).map_err(wrong)?;
    let options = Options::from_arg_matches(&matches).map_err(wrong)?;
    let args = args.into_iter().map(OsString::from).collect();
    finished(
        Some(place.to_owned()),
        program.map(OsString::from),
        args,
        options,
        entry.unsupported,
    )
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// An application by its program and flags.
    pub(in super::super) fn app(program: &str, flags: &[&str]) -> App {
        let words = ["app"].iter().chain(flags);
        let matches = keys().get_matches_from(words);
        let options = Options::from_arg_matches(&matches).unwrap();
        let program = Some(program.into());
        finished(None, program, Vec::new(), options, Vec::new()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(text: &str) -> std::result::Result<Vec<App>, String> {
        let tables = file::apps(text, &keys())?;
        let entry = |settings| Entry {
            settings,
            ..Entry::default()
        };
        let apps = tables.into_iter().map(entry);
        apps.map(|entry| by_file(entry, "FILE"))
            .collect::<Result<_>>()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_option_is_a_key() {
        let text = "
            workers = 2 # of serve
            [[app]]
            program = 'server.js'
            args = '--port 80 \"a b\"'
            instances = 3
            env = { NODE_ENV = 'production', PORT = 80 }
            kill-timeout = '5s'
            max-memory-restart = '300M'
            wait-ready = true
            watch = ['src', 'lib']

            [[app]]
            name = 'other'
            program = './tool'
            args = ['-x', 'a b']
            env = 'A=1'
            rotate = '1M:2'
        ";
        let apps = tables(text).unwrap();
        let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
        assert_eq!(names, ["server", "other"]);
        assert_eq!(apps[0].args, ["--port", "80", "a b"]);
        assert_eq!(apps[1].args, ["-x", "a b"]);
        let first = &apps[0].options;
        assert_eq!(first.workers, crate::Workers::Count(3));
        assert_eq!(first.drain_timeout.as_secs(), 5);
        assert_eq!(first.max_memory, Some(300 << 20));
        assert!(first.wait_ready && first.watch.len() == 2);
        let pairs: Vec<_> = first.env.iter().map(|pair| pair.name.as_str()).collect();
        assert_eq!(pairs, ["NODE_ENV", "PORT"]);
        assert_eq!(apps[1].options.rotate.unwrap().keep, 2);
        let options = sources::options();
        assert_eq!(file::parse(text, &options).unwrap().len(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said() {
        let cases = [
            (
                "workerz = 2",
                "2: workerz: there is no such key; did you mean workers?",
            ),
            ("program = 1.5", "2: program: it is a string or a number"),
            ("progam = 'x'", "did you mean program?"),
            ("pool = 2", "2: pool: there is no such key"),
            ("workers = 'x'", "2: workers: \"x\" is no number of workers"),
            ("detach = true", "2: detach: there is no such key"),
            ("config = 'x'", "2: config: there is no such key"),
            ("name = 'a/b'", "2: name: "),
            ("env = 1.5", "2: env: "),
            ("name = 'a'", "application a: it has no program"),
            ("[app.env]\nA = 1.5", "env: it is a string or a number"),
        ];
        for (line, expected) in cases {
            let why = tables(&format!("[[app]]\n{line}\n")).unwrap_err();
            assert!(why.contains(expected), "{line}: {why}");
            assert!(!why.trim_end().contains('\n'), "{line}: {why}");
        }
        let why = file::parse("app = 1", &sources::options()).unwrap_err();
        assert!(why.contains("there is no such key"), "{why}");
    }
}
