//! `mcluster.toml`: its text in, the words of options out.
//!
//! Knows TOML and nothing of the options: those are the flags of `serve`, or for each `[[app]]` those
//! of `start`, in a [`Command`] of clap that also judges the values, so a key and its flag cannot differ. What the words win over is
//! with `sources`.

use super::flags::CONFIG;
use super::sources::judge;
use super::start::split;
use crate::sorted::sort_by_key;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// The file that is read when none is named.
pub(super) const USUAL: &str = "mcluster.toml";

/// No configuration is so long; what is, is something else.
const LONGEST: u64 = 1 << 20;

/// One key of a file, found good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The option, by clap's name for it.
    pub(super) id: String,
    /// What would stand behind its flag, once for each time that it is given.
    pub(super) words: Vec<String>,
}

/// The text of a file.
///
/// # Errors
///
/// When it cannot be read, is no text, or is longer than a configuration can be.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 > LONGEST {
        true => Err(io::Error::other(
            "longer than 1M, which no configuration is",
        )),
        false => Ok(text),
    }
}

/// The key of the tables that say what `start` runs.
const APPS: &str = "app";

/// The settings in the text of a file, in its order. Its applications are left alone.
///
/// # Errors
///
/// The first thing that is wrong, as `LINE: KEY: why`.
pub(super) fn parse(text: &str, options: &Command) -> Result<Vec<Setting>, String> {
    let table = table(text)?;
    let apps = |value: &DeValue<'_>| value.as_array().is_some_and(all_tables);
    let entries = table.get_ref().iter();
    let entries = entries.filter(|(key, value)| key.get_ref() != APPS || !apps(value.get_ref()));
    settings(text, entries, options)
}

/// The settings of each `[[app]]` in the text of a file.
///
/// # Errors
///
/// As [`parse`].
pub(super) fn apps(text: &str, options: &Command) -> Result<Vec<Vec<Setting>>, String> {
    let table = table(text)?;
    let apps = table.get_ref().get(APPS);
    let apps = apps.and_then(|apps| apps.get_ref().as_array());
    let tables = apps.into_iter().flatten();
    let tables = tables.filter_map(|app| app.get_ref().as_table());
    tables
        .map(|table| settings(text, table.iter(), options))
        .collect()
}

fn all_tables(array: &DeArray<'_>) -> bool {
    array.iter().all(|one| one.get_ref().is_table())
}

/// The line that a place in a text is in.
fn line(text: &str, place: usize) -> usize {
    let before = text.bytes().take(place);
    1 + before.filter(|&byte| byte == b'\n').count()
}

fn table(text: &str) -> Result<Spanned<DeTable<'_>>, String> {
    DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line(text, span.start));
        format!("{line}: {}", error.message().replace('\n', ", "))
    })
}

fn settings<'a, 'i: 'a>(
    text: &str,
    entries: impl Iterator<Item = (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>)>,
    options: &Command,
) -> Result<Vec<Setting>, String> {
    let mut entries: Vec<_> = entries.collect();
    sort_by_key(&mut entries, |(key, _)| key.span().start);
    let mut settings: Vec<Setting> = Vec::new();
    for (key, value) in entries {
        let name: &str = key.get_ref();
        let wrong = |why| format!("{}: {}: {why}", line(text, key.span().start), plain(name));
        let option =
            option(name, options).ok_or_else(|| wrong(unknown(name, value.get_ref(), options)))?;
        let id = option.get_id().to_string();
        if settings.iter().any(|other| other.id == id) {
            return Err(wrong("the same option has another key above".to_owned()));
        }
        let words = words(option, value.get_ref(), options).map_err(wrong)?;
        settings.push(Setting { id, words });
    }
    Ok(settings)
}

/// The options that have a key: all that have a long flag, but for the one that names the file.
pub(super) fn keys(options: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    let flags = options
        .get_arguments()
        .filter(|option| option.get_id() != CONFIG);
    flags.filter_map(|option| Some((option.get_long()?, option)))
}

fn option<'a>(key: &str, options: &'a Command) -> Option<&'a Arg> {
    let known = |(flag, option): (&str, &'a Arg)| {
        let aliases = option.get_all_aliases().unwrap_or_default();
        (flag == key || aliases.contains(&key)).then_some(option)
    };
    keys(options).find_map(known)
}

/// What to say of a key that there is not. The nearest one is what clap finds for a wrong flag.
fn unknown(key: &str, value: &DeValue<'_>, options: &Command) -> String {
    if value.is_table() {
        return "there is no such table, only options and [[app]]".to_owned();
    }
    let words = [format!("--{key}=")];
    let options = options.clone().no_binary_name(true);
    let error = options.try_get_matches_from(words).err();
    match error
        .as_ref()
        .and_then(|error| error.get(ContextKind::SuggestedArg))
    {
        Some(ContextValue::String(flag)) => {
            let nearest = flag.trim_start_matches('-');
            format!("there is no such key; did you mean {nearest}?")
        }
        _ => "there is no such key".to_owned(),
    }
}

/// A value as the words behind a flag.
fn words(option: &Arg, value: &DeValue<'_>, options: &Command) -> Result<Vec<String>, String> {
    if !option.get_action().takes_values() {
        let value = value
            .as_bool()
            .ok_or("it is true or false, without quotes")?;
        return Ok(vec![value.to_string()]);
    }
    let several = matches!(option.get_action(), ArgAction::Append);
    let words: Vec<String> = match value {
        DeValue::Table(pairs) if several && option.get_id() == "env" => {
            let one = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
                Ok(format!("{}={}", name.get_ref(), word(value.get_ref())?))
            };
            pairs.iter().map(one).collect::<Result<_, String>>()?
        }
        DeValue::String(text) if option.get_id() == "args" => split(text),
        DeValue::Array(array) if several => {
            let one = |value: &Spanned<DeValue<'_>>| word(value.get_ref());
            array.iter().map(one).collect::<Result<_, _>>()?
        }
        DeValue::Array(_) => return Err("it has one value, not several".to_owned()),
        one => vec![word(one)?],
    };
    if words.is_empty() {
        return Err("it is empty".to_owned());
    }
    for word in &words {
        judge(option, word, options)?;
    }
    Ok(words)
}

fn word(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(words) => Ok(words.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "the number is too large".to_owned()),
        other => Err(format!(
            "it is a string or a number, no {}",
            other.type_str()
        )),
    }
}

/// A key as it may be printed: nothing in it ends the line or moves the cursor.
fn plain(key: &str) -> String {
    match key.is_empty() || key.contains(char::is_control) {
        true => format!("{key:?}"),
        false => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sources::options;
    use super::*;

    #[test]
    fn values_become_the_words_of_flags() {
        let text = "
            # Comments and both kinds of quotes.
            workers = 0x1_0
            'max-head' = \"32k\"
            listen = [':1', \"unix:a,b\"]
            max-headers = '50'
            chaos = true
        ";
        let settings = parse(text, &options()).unwrap();
        let found: Vec<_> = settings
            .iter()
            .map(|setting| (setting.id.as_str(), setting.words.join(" ")))
            .collect();
        let expected = [
            ("workers", "16"),
            ("max_head", "32k"),
            ("listen", ":1 unix:a,b"),
            ("max_headers", "50"),
            ("chaos", "true"),
        ];
        assert_eq!(found, expected.map(|(id, words)| (id, words.to_owned())));
        let one = parse("listen = ':1'", &options()).unwrap();
        assert_eq!(one[0].words, [":1"]);
        for nothing in ["", "\n", "# nothing", "\u{feff}"] {
            assert_eq!(parse(nothing, &options()), Ok(Vec::new()), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let cases = [
            (
                "worker = 2",
                "1: worker: there is no such key; did you mean workers?",
            ),
            (
                "\n\nmax_head = 1",
                "3: max_head: there is no such key; did you mean max-head?",
            ),
            ("zzz = 1", "1: zzz: there is no such key"),
            ("config = 'x'", "1: config: there is no such key"),
            ("help = true", "1: help: there is no such key"),
            ("'a\\nb' = 1", "1: a\\nb: there is no such key"),
            ("\"a\\nb\" = 1", "1: \"a\\nb\": there is no such key"),
            ("'' = 1", "1: \"\": there is no such key"),
            ("[serve]\nworkers = 1", "1: serve: there is no such table"),
            (
                "workers = true",
                "1: workers: it is a string or a number, no boolean",
            ),
            (
                "workers = 1.5",
                "1: workers: it is a string or a number, no float",
            ),
            ("workers = 1979-05-27", "no datetime"),
            ("workers = {}", "no table"),
            ("workers = [1]", "1: workers: it has one value"),
            ("workers = 0", "1: workers: \"0\" is no number of workers"),
            (
                "workers = 99999999999999999999",
                "1: workers: the number is too large",
            ),
            ("max-headers = -1", "1: max-headers: \"-1\": invalid digit"),
            ("max-headers = 0", "1: max-headers: 0 is not in 1..=1024"),
            ("max-body = ''", "1: max-body: \"\" is no size"),
            (
                "drain-timeout = 30",
                "1: drain-timeout: \"30\" is no duration",
            ),
            ("chaos = 'yes'", "1: chaos: it is true or false"),
            ("chaos = 1", "1: chaos: it is true or false"),
            ("listen = []", "1: listen: it is empty"),
            (
                "listen = [':1', [':2']]",
                "1: listen: it is a string or a number, no array",
            ),
            (
                "listen = [':1', '3000']",
                "1: listen: \"3000\" is no address",
            ),
            ("chaos = true\nworkers = ", "2: "),
            ("workers = 1\n\nworkers = 2", "3: duplicate key"),
        ];
        for (text, expected) in cases {
            let why = parse(text, &options()).unwrap_err();
            assert!(why.contains(expected), "{text:?}: {why}");
            assert!(!why.contains('\n'), "{text:?}: {why}");
        }
    }
}
