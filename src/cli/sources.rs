//! Where the values of the options come from: flag, variable, file, platform's variable, default.
//!
//! clap itself takes the flag before the variable before the default. What stands between becomes
//! the default of its option, so clap judges it as it judges a flag and nothing is weighed twice:
//! lists in a variable, then the file, then the variables that hosting platforms and Node have.
//! An empty variable is one that is not set, whichever it is.

use super::file::{self, USUAL};
use super::flags::{self, Cli, Serve};
use super::show::without_password;
use super::table::plain;
use super::which;
use crate::{Error, Result};
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches};
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Words for an option that neither a flag nor clap's variable has given.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    id: String,
    /// The file or the variable, for people.
    source: String,
    words: Vec<String>,
}

/// What was said, wherever it was said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) cli: Cli,
    /// The file that was read, if there is one.
    pub(super) file: Option<PathBuf>,
    arguments: Vec<OsString>,
    matches: ArgMatches,
    layers: Vec<Layer>,
}

/// The value of an option, and where it is from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) words: Vec<String>,
    pub(super) source: String,
}

/// The options of `serve`, without their variables: what a file may have.
pub(super) fn options() -> Command {
    Serve::augment_args(Command::new("serve"))
        .disable_help_flag(true)
        .mut_args(|option| option.env(Resettable::Reset))
}

/// Reads the command line, the environment and the file.
///
/// Usage errors and `--help` end the process, as clap does.
///
/// # Errors
///
/// When the file or a variable makes no sense.
pub(super) fn read(arguments: &[OsString]) -> Result<Said> {
    // Made anew where it is needed again, which is seldom: a copy costs as much.
    let command = || without_empty(Cli::command());
    let matched = |command: Command| {
        let matches = command.try_get_matches_from(arguments);
        matches.unwrap_or_else(|error| discreet(error).exit())
    };
    let mut matches = matched(command());
    let mut cli = typed(&matches);
    let (mut path, mut layers) = (None, Vec::new());
    if let (Some(serve), Some((name, given))) = (cli.options(), matches.subcommand()) {
        (path, layers) = below(serve, given)?;
        if !layers.is_empty() {
            matches = matched(command().mut_subcommand(name, |command| with(command, &layers)));
            cli = typed(&matches);
        }
    }
    if let (flags::Command::Steer(_) | flags::Command::Unit(_), Some((name, given))) =
        (&cli.command, matches.subcommand())
        && which::is_named(given)?
    {
        // Of another cluster, as far as anybody knows.
        let without = |option: Arg| match option.get_id() == which::CONTROL {
            true => option.env(Resettable::Reset),
            false => option,
        };
        matches = matched(command().mut_subcommand(name, |command| command.mut_args(without)));
        cli = typed(&matches);
    }
    Ok(Said {
        cli,
        file: path,
        arguments: arguments.to_vec(),
        matches,
        layers,
    })
}

/// The same error, without the password in the words that clap did not take.
fn discreet(mut error: clap::Error) -> clap::Error {
    for kind in [
        ContextKind::InvalidValue,
        ContextKind::InvalidArg,
        ContextKind::InvalidSubcommand,
    ] {
        if let Some(ContextValue::String(words)) = error.get(kind) {
            let shown = ContextValue::String(hidden(words));
            error.insert(kind, shown);
        }
    }
    error
}

/// Words that were not taken, as they may be shown. What begins like the URL of a server and is none may have
/// its password anywhere.
pub(super) fn hidden(words: &str) -> String {
    let like_a_url = ["redis", "valkey"].iter().any(|scheme| {
        let start = words.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    match like_a_url && words.contains('@') && !words.contains("://") {
        true => "***".to_owned(),
        false => without_password(words),
    }
}

fn typed(matches: &ArgMatches) -> Cli {
    Cli::from_arg_matches(matches).unwrap_or_else(|error| error.exit())
}

impl Said {
    /// The arguments of this process, with the subcommand that they imply.
    pub(super) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Whether an option was given by neither a flag nor its variable.
    pub(super) fn is_open(&self, id: &str) -> bool {
        let given = self.matches.subcommand();
        given.is_none_or(|(_, given)| is_open(given, id))
    }

    /// The same command line with `layers` below it.
    pub(super) fn above(&self, layers: &[Layer]) -> Cli {
        let mut command = without_empty(Cli::command());
        if let Some((name, _)) = self.matches.subcommand() {
            command = command.mut_subcommand(name, |command| with(command, layers));
        }
        let matches = command.try_get_matches_from(&self.arguments);
        typed(&matches.unwrap_or_else(|error| discreet(error).exit()))
    }

    /// The value of an option and where it is from. None where it has none.
    ///
    /// # Errors
    ///
    /// When the value is no text: it has no place in a file then.
    pub(super) fn given(&self, option: &Arg) -> Result<Option<Given>> {
        let id = option.get_id().as_str();
        let Some((_, matches)) = self.matches.subcommand() else {
            return Ok(None);
        };
        let flag = option.get_long().unwrap_or(id);
        let words = match option.get_action().takes_values() {
            // What was written may be any word for yes.
            false => vec![matches.get_flag(id).to_string()],
            true => {
                let text = |word: &OsStr| word.to_str().map(str::to_owned);
                let words = matches.get_raw(id).into_iter().flatten().map(text);
                words
                    .collect::<Option<_>>()
                    .ok_or_else(|| Error::Settings(format!("--{flag}: the value is not UTF-8")))?
            }
        };
        let source = match matches.value_source(id) {
            None => return Ok(None),
            Some(ValueSource::CommandLine) => format!("--{flag}"),
            Some(ValueSource::EnvVariable) => variable_of(flag),
            Some(_) => match self.layers.iter().find(|layer| layer.id == id) {
                Some(layer) => layer.source.clone(),
                None => "default".to_owned(),
            },
        };
        Ok(Some(Given { words, source }))
    }
}

/// clap counts an empty variable as set.
fn without_empty(command: Command) -> Command {
    let set = |option: Arg| match option.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => option.env(Resettable::Reset),
        _ => option,
    };
    command.mut_subcommands(|command| command.mut_args(set))
}

pub(super) fn with(command: Command, layers: &[Layer]) -> Command {
    command.mut_args(|option| {
        let layer = layers
            .iter()
            .find(|layer| option.get_id() == layer.id.as_str());
        match layer {
            Some(layer) => option.default_values(layer.words.iter().cloned()),
            None => option,
        }
    })
}

fn is_open(given: &ArgMatches, id: &str) -> bool {
    let source = given.value_source(id);
    !matches!(
        source,
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    )
}

/// What counts for the options that are not `given` yet, and the file that was read.
fn below(serve: &Serve, given: &ArgMatches) -> Result<(Option<PathBuf>, Vec<Layer>)> {
    let options = options();
    let open = |id: &str| is_open(given, id);
    let mut layers = lists(&options, open)?;
    let file = match &serve.config {
        Some(path) => Some((path.clone(), file::read(path))),
        None => Some((USUAL.into(), file::read(USUAL.as_ref())))
            .filter(|(_, text)| !matches!(text, Err(error) if error.kind() == ErrorKind::NotFound)),
    };
    let mut path = None;
    if let Some((place, text)) = file {
        let name = plain(&place.to_string_lossy());
        let text = text.map_err(|error| Error::Configuration(format!("{name}: {error}")))?;
        let settings = file::parse(&text, &options)
            .map_err(|why| Error::Configuration(format!("{name}:{why}")))?;
        for setting in settings {
            add(&mut layers, &setting.id, &name, setting.words);
        }
        path = Some(place);
    }
    fall_back(&mut layers, &FALLBACKS, &options, open)?;
    Ok((path, layers))
}

/// Adds the variables that stand in for options of which nothing else has said anything.
pub(super) fn fall_back(
    layers: &mut Vec<Layer>,
    fallbacks: &[(&str, Fallback)],
    options: &Command,
    open: impl Fn(&str) -> bool,
) -> Result<()> {
    for (id, fallback) in fallbacks {
        if !open(id) || layers.iter().any(|layer| layer.id == *id) {
            continue;
        }
        if let Some((source, words)) = fallback()? {
            judge_all(options, id, &source, std::slice::from_ref(&words))?;
            add(layers, id, &source, vec![words]);
        }
    }
    Ok(())
}

/// The first word about an option counts.
pub(super) fn add(layers: &mut Vec<Layer>, id: &str, source: &str, words: Vec<String>) {
    if layers.iter().all(|layer| layer.id != id) {
        let (id, source) = (id.to_owned(), source.to_owned());
        layers.push(Layer { id, source, words });
    }
}

/// The variables of options that can be given several times: lists, split at commas. clap would
/// split what stands behind the flag as well, and the path of a unix socket may have a comma.
pub(super) fn lists(options: &Command, open: impl Fn(&str) -> bool) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for (flag, option) in file::keys(options) {
        let id = option.get_id().as_str();
        if !matches!(option.get_action(), ArgAction::Append) || !open(id) {
            continue;
        }
        let name = variable_of(flag);
        if let Some(list) = variable(&name)? {
            let words: Vec<_> = list.split(',').map(|word| word.trim().to_owned()).collect();
            judge_all(options, id, &name, &words)?;
            add(&mut layers, id, &name, words);
        }
    }
    Ok(layers)
}

/// An option's variable.
fn variable_of(flag: &str) -> String {
    format!("MCLUSTER_{}", flag.to_uppercase().replace('-', "_"))
}

/// A variable's name, or several, and the words for its option.
pub(super) type Fallback = fn() -> Result<Option<(String, String)>>;

/// Variables that are not this program's own, by the option that they stand in for.
const FALLBACKS: [(&str, Fallback); 3] = [
    ("workers", || named("WEB_CONCURRENCY")),
    ("schedule", || policy("MCLUSTER_SCHED_POLICY")),
    ("listen", host_and_port),
];

pub(super) fn named(name: &str) -> Result<Option<(String, String)>> {
    Ok(variable(name)?.map(|words| (name.to_owned(), words)))
}

/// A variable with a policy, in Node's words or ours.
pub(super) fn policy(name: &str) -> Result<Option<(String, String)>> {
    let policy = named(name)?;
    Ok(policy.map(|(name, words)| match words.as_str() {
        "none" => (name, "shared".to_owned()),
        _ => (name, words),
    }))
}

fn host_and_port() -> Result<Option<(String, String)>> {
    let (host, port) = (variable("HOST")?, variable("PORT")?);
    if host.is_none() && port.is_none() {
        return Ok(None);
    }
    let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = port.unwrap_or_else(|| "3000".to_owned());
    let address = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    Ok(Some(("HOST and PORT".to_owned(), address)))
}

/// A variable that is set to something.
fn variable(name: &str) -> Result<Option<String>> {
    match std::env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(Error::Settings(format!("{name}: {error}"))),
    }
}

/// Judges all words for an option.
///
/// # Errors
///
/// Why one of them makes no sense.
pub(super) fn judge_all(options: &Command, id: &str, source: &str, words: &[String]) -> Result<()> {
    let Some(option) = options.get_arguments().find(|option| option.get_id() == id) else {
        return Ok(());
    };
    for word in words {
        judge(option, word, options).map_err(|why| Error::Settings(format!("{source}: {why}")))?;
    }
    Ok(())
}

/// Whether `word` could stand behind the flag of `option`.
///
/// # Errors
///
/// Why not.
pub(super) fn judge(
    option: &Arg,
    word: &str,
    options: &Command,
) -> std::result::Result<(), String> {
    let flag = option.get_long().unwrap_or_default();
    let words = [format!("--{flag}={word}")];
    let judged = options
        .clone()
        .no_binary_name(true)
        .try_get_matches_from(words);
    judged.map(drop).map_err(|error| match error.source() {
        Some(why) => {
            let (why, shown) = (why.to_string(), hidden(word));
            match why.contains(word) {
                true => why,
                false => format!("{shown:?}: {why}"),
            }
        }
        None if word.is_empty() => "the value is empty".to_owned(),
        None => {
            let said = discreet(error).to_string();
            let line = said.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_their_flags() {
        let serve = Serve::augment_args(Command::new("serve"));
        for option in serve.get_arguments() {
            let flag = option.get_long().expect("a long flag");
            let list = matches!(option.get_action(), ArgAction::Append);
            let expected = (!list).then(|| variable_of(flag).into());
            assert_eq!(option.get_env().map(OsStr::to_owned), expected, "{flag}");
        }
    }

    #[test]
    fn errors_show_no_passwords() {
        let options = options();
        let store = options.get_arguments();
        let store = store
            .into_iter()
            .find(|one| one.get_id() == "session_store");
        let store = store.expect("the option");
        for words in [
            "REDIS://:PW@host",
            "http://me:PW@host",
            "Valkey:me:PW@host",
            "unix:///x?user=me&pass=PW",
        ] {
            let why = judge(store, words, &options).unwrap_err();
            assert!(
                !why.contains("PW") && why.contains("no session store"),
                "{why}"
            );
            let arguments = ["serve", "--session-store", words];
            let error = options.clone().try_get_matches_from(arguments).unwrap_err();
            let said = discreet(error).to_string();
            assert!(!said.contains("PW") && said.contains("***"), "{said}");
            let error = options.clone().try_get_matches_from(["serve", words]);
            let said = discreet(error.unwrap_err()).to_string();
            assert!(!said.contains("PW"), "{said}");
        }
    }

    #[test]
    fn fallbacks_stand_in_for_options() {
        for (id, _) in FALLBACKS {
            assert!(
                options()
                    .get_arguments()
                    .any(|option| option.get_id() == id)
            );
        }
    }

    #[test]
    fn layers_become_defaults() {
        let layer = |id: &str, words: &[&str]| Layer {
            id: id.to_owned(),
            source: String::new(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        let layers = [
            layer("workers", &["3"]),
            layer("listen", &[":1", "unix:a,b"]),
            layer("chaos", &["true"]),
        ];
        let command = with(options(), &layers);
        let matches = command.clone().get_matches_from(["serve"]);
        let serve = Serve::from_arg_matches(&matches).unwrap();
        assert_eq!(serve.workers, crate::Workers::Count(3));
        let listen: Vec<_> = serve.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, [":1", "unix:a,b"]);
        assert!(serve.chaos);
        let flags = ["serve", "--workers=2", "-l:2"];
        let serve = Serve::from_arg_matches(&command.get_matches_from(flags)).unwrap();
        assert_eq!(serve.workers, crate::Workers::Count(2));
        assert_eq!(serve.listen.len(), 1);
    }

    #[test]
    fn the_first_word_counts() {
        let mut layers = Vec::new();
        add(&mut layers, "a", "one", Vec::new());
        add(&mut layers, "a", "two", Vec::new());
        add(&mut layers, "b", "two", Vec::new());
        let sources: Vec<_> = layers.iter().map(|layer| layer.source.as_str()).collect();
        assert_eq!(sources, ["one", "two"]);
    }
}
