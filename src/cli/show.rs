//! `mcluster config`: the options in effect, as TOML that is itself a file to use, or as JSON. But for
//! passwords, which it does not show.

use super::file::keys;
use super::sources::{Given, Said, hidden, options};
use crate::Result;
use clap::{Arg, ArgAction};
use std::fmt::Write;

/// One line for each option: its key, its value, and where that is from. An option without a value
/// is a comment, so the text can be used as a file.
///
/// # Errors
///
/// When a value is no text.
pub(super) fn toml(said: &Said) -> Result<String> {
    let mut text = String::new();
    for (key, option) in keys(&options()) {
        let line = match said.given(option)? {
            Some(given) => format!("{key} = {}  # {}", value(option, &given), given.source),
            None => format!("# {key}  # {}", by_itself(option)),
        };
        text += &line;
        text.push('\n');
    }
    Ok(text)
}

/// One object: each key with its `value` and its `source`.
///
/// # Errors
///
/// When a value is no text.
pub(super) fn json(said: &Said) -> Result<String> {
    let mut members = Vec::new();
    for (key, option) in keys(&options()) {
        let (value, source) = match said.given(option)? {
            Some(given) => (value(option, &given), given.source),
            None => ("null".to_owned(), "default".to_owned()),
        };
        let source = quoted(&source);
        members.push(format!(
            "  {}: {{\"value\": {value}, \"source\": {source}}}",
            quoted(key)
        ));
    }
    Ok(format!("{{\n{}\n}}\n", members.join(",\n")))
}

/// What an option without a value comes to: the help says it where there is something to say.
fn by_itself(option: &Arg) -> String {
    let help = option
        .get_help()
        .map(|help| help.to_string().replace('\n', " "));
    let default = help
        .as_deref()
        .and_then(|help| help.split_once("[default: "));
    match default.and_then(|(_, rest)| rest.split_once(']')) {
        Some((default, _)) => format!("default: {default}"),
        None => "not set".to_owned(),
    }
}

/// A value, in the notation that TOML and JSON share.
fn value(option: &Arg, given: &Given) -> String {
    let several = matches!(option.get_action(), ArgAction::Append);
    let words = given.words.iter();
    match (several, option.get_action().takes_values()) {
        (true, _) => {
            let words: Vec<_> = words.map(|word| quoted(word)).collect();
            format!("[{}]", words.join(", "))
        }
        (false, true) => words.map(|word| number_or_quoted(&hidden(word))).collect(),
        (false, false) => words.map(String::as_str).collect(),
    }
}

/// The same with `***` for the password of a URL, before its host or in its query.
pub(super) fn without_password(word: &str) -> String {
    const HIDDEN: &str = "***";
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let mut shown = format!("{scheme}://");
    if let Some(user) = user {
        let name = user.split_once(':').map(|(name, _)| name);
        // Writing to a string does not fail.
        let _ = match name {
            Some(name) => write!(shown, "{name}:{HIDDEN}@"),
            None => write!(shown, "{user}@"),
        };
    }
    match place.split_once("pass=") {
        Some((before, password)) => {
            let after = password.find('&').map_or("", |end| &password[end..]);
            shown + before + "pass=" + HIDDEN + after
        }
        None => shown + place,
    }
}

/// What a number gives back unchanged is written as one.
fn number_or_quoted(word: &str) -> String {
    match word.parse::<u32>() {
        Ok(number) if number.to_string() == word => number.to_string(),
        _ => quoted(word),
    }
}

fn quoted(word: &str) -> String {
    let mut text = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            // Writing to a string does not fail.
            c if c.is_control() => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let cases = [
            ("shared:/run/a:b@c", "shared:/run/a:b@c"),
            ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
            ("redis://me@host", "redis://me@host"),
            ("redis://:se:cr@et@host:1/2", "redis://:***@host:1/2"),
            ("redis://me:secret@host", "redis://me:***@host"),
            (
                "redis+unix:///a?user=x&pass=secret&db=2",
                "redis+unix:///a?user=x&pass=***&db=2",
            ),
            ("redis+unix:///a?pass=secret", "redis+unix:///a?pass=***"),
        ];
        for (word, expected) in cases {
            assert_eq!(without_password(word), expected);
        }
    }

    #[test]
    fn words_are_written_so_that_they_come_back() {
        let cases = [
            ("16k", "\"16k\""),
            ("100", "100"),
            ("007", "\"007\""),
            ("+1", "\"+1\""),
            ("99999999999", "\"99999999999\""),
            ("", "\"\""),
            ("a\"b\\c\n\u{7f}é", "\"a\\\"b\\\\c\\u000a\\u007fé\""),
        ];
        for (word, expected) in cases {
            assert_eq!(number_or_quoted(word), expected, "{word:?}");
        }
    }
}
