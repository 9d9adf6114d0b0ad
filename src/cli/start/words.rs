//! The words of `start`: variables, files that rotate, text split at blanks, the name of what has none.

use super::super::values::size;
use crate::Workers;
use crate::sys::cpu;
use std::ffi::OsStr;
use std::path::Path;

/// A variable and its value, or the name of an ecosystem file's environment, which PM2 has behind the
/// same flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// `KEY=VALUE`, where the value may be empty; or a name.
pub(super) fn pair(words: &str) -> Result<Pair, String> {
    let (name, value) = match words.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (words, None),
    };
    match name.is_empty() || words.contains('\0') {
        true => Err("that is no KEY=VALUE".to_owned()),
        false => Ok(Pair {
            name: name.to_owned(),
            value,
        }),
    }
}

/// How many workers, in PM2's words as well.
pub(super) fn workers(words: &str) -> Result<Workers, String> {
    in_our_words(words).parse()
}

/// The same in our words: 0 is all CPUs for PM2, and a negative number is so many fewer.
pub(super) fn in_our_words(words: &str) -> String {
    match words.trim().parse::<i64>() {
        Ok(0) => "max".to_owned(),
        Ok(-1) => "max-1".to_owned(),
        Ok(fewer @ ..0) => {
            let cpus = i64::try_from(cpu::available().count).unwrap_or(i64::MAX);
            cpus.saturating_add(fewer).max(1).to_string()
        }
        Ok(count) => count.to_string(),
        Err(_) => words.to_owned(),
    }
}

/// When a file is moved aside, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rotation {
    pub(super) bytes: u64,
    pub(super) keep: u32,
}

/// Kept where the words do not say how many.
const KEPT: u32 = 5;

/// `SIZE` or `SIZE:KEEP`.
pub(super) fn rotation(words: &str) -> Result<Rotation, String> {
    let (bytes, keep) = match words.split_once(':') {
        Some((bytes, keep)) => (bytes, keep.parse().ok()),
        None => (words, Some(KEPT)),
    };
    match (size(bytes)?, keep) {
        (0, _) => Err("a file of 0 bytes would never hold a line".to_owned()),
        (bytes, Some(keep @ 0..=1000)) => Ok(Rotation { bytes, keep }),
        _ => Err(format!("{words:?} is no SIZE or SIZE:KEEP (such as 10M:5)")),
    }
}

/// One of several applications, which a process of its own runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Who started it and ends with it; 0 is nobody.
    pub(super) parent: i32,
    pub(super) name: String,
}

/// `PARENT:NAME`.
pub(super) fn part(words: &str) -> Result<Part, String> {
    let parts = words.split_once(':');
    let parts = parts.and_then(|(parent, name)| Some((parent.parse().ok()?, name.to_owned())));
    let (parent, name) = parts.ok_or("that is no PARENT:NAME")?;
    Ok(Part { parent, name })
}

/// Words between blanks. Quotes of either kind hold blanks together, as they do for a shell; what
/// begins with one that never ends goes on to the end.
pub(in crate::cli) fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(end), _) if c == end => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What a cluster is called after its program: the file's name without its ending, in the letters
/// that names may have.
pub(super) fn name_of(program: &OsStr) -> String {
    let stem = Path::new(program).file_stem().unwrap_or_default();
    cleaned(&stem.to_string_lossy())
}

/// The nearest name that a cluster may have.
pub(super) fn cleaned(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name
        .trim()
        .chars()
        .map(|c| if fine(c) { c } else { '-' })
        .collect();
    let name = name.trim_start_matches(['.', '-']);
    match &name[..name.len().min(64)] {
        "" => "app".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime;

    #[test]
    fn variables() {
        for (words, name, value) in [
            ("A=1", "A", Some("1")),
            ("A=", "A", Some("")),
            ("URL=a=b", "URL", Some("a=b")),
            ("production", "production", None),
        ] {
            let found = pair(words).unwrap();
            assert_eq!((found.name.as_str(), found.value.as_deref()), (name, value));
        }
        for words in ["", "=", "=1", "A=\0"] {
            assert!(pair(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn workers_in_both_words() {
        for (words, expected) in [
            ("0", Ok(Workers::Max)),
            ("-1", Ok(Workers::MaxMinusOne)),
            ("-100000", Ok(Workers::Count(1))),
            ("3", Ok(Workers::Count(3))),
            ("50%", Ok(Workers::Percent(50))),
        ] {
            assert_eq!(workers(words), expected, "{words}");
        }
        assert!(workers("many").is_err() && workers("100000").is_err());
    }

    #[test]
    fn rotations() {
        let found = |bytes, keep| Ok(Rotation { bytes, keep });
        assert_eq!(rotation("10M"), found(10 << 20, KEPT));
        assert_eq!(rotation("1k:0"), found(1024, 0));
        assert_eq!(rotation("512:30"), found(512, 30));
        for words in [
            "", "0", "x", "1k:", "1k:x", "1k:-1", ":5", "1k:1001", "1k:2:3",
        ] {
            assert!(rotation(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn text_is_split_at_blanks() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("  ", &[]),
            ("--inspect", &["--inspect"]),
            (" --import  tsx\t-r x ", &["--import", "tsx", "-r", "x"]),
            ("a 'b c' d", &["a", "b c", "d"]),
            ("--x=\"a b\"c", &["--x=a bc"]),
            ("'' \"it's\"", &["", "it's"]),
            ("a 'b c", &["a", "b c"]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_names() {
        let cases = [
            ("app.js", "app"),
            ("./src/server.prod.mjs", "server.prod"),
            ("/usr/bin/gunicorn", "gunicorn"),
            ("my app!.js", "my-app-"),
            (".hidden.js", "hidden"),
            ("--x", "x"),
            ("größe.js", "gr--e"),
            ("..", "app"),
            ("", "app"),
        ];
        for (program, expected) in cases {
            let name = name_of(OsStr::new(program));
            assert_eq!(name, expected, "{program:?}");
            assert_eq!(runtime::check_name(&name), Ok(()));
        }
        assert_eq!(runtime::check_name(&cleaned(&"a".repeat(70))), Ok(()));
    }
}
