//! The words of single flags: durations, sizes, the pool's size, names, field values, signals,
//! shells.

use crate::Networks;
use crate::http::is_field_value;
use crate::runtime;
use crate::sys::process;
use clap::ValueEnum;
use std::time::Duration;

/// A duration with its unit: `500ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(words: &str) -> Result<Duration, String> {
    let wrong = || format!("{words:?} is no duration (such as 500ms, 30s or 5m)");
    let (number, unit) = split(words);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return Err(wrong()),
    };
    // A century is as good as never, and no clock overflows.
    match number.checked_mul(millis) {
        Some(0) => Err("a duration of 0 would never let anything happen".to_owned()),
        Some(millis) if millis <= 100 * 365 * 24 * 3600 * 1000 => Ok(Duration::from_millis(millis)),
        _ => Err(wrong()),
    }
}

/// The same, or `0` for none.
pub(super) fn duration_or_none(words: &str) -> Result<Duration, String> {
    match split(words) {
        ("0", "" | "ms" | "s" | "m" | "h") => Ok(Duration::ZERO),
        _ => duration(words),
    }
}

/// After how many requests a worker is replaced, and how much that may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) most: u64,
    pub(super) jitter: u64,
}

/// `N` or `N:JITTER`.
pub(super) fn requests(words: &str) -> Result<Requests, String> {
    let (most, jitter) = words.split_once(':').unwrap_or((words, "0"));
    let limit = 1 << 48;
    match (most.parse(), jitter.parse()) {
        (Ok(most), Ok(jitter)) if (1..=limit).contains(&most) && jitter <= limit => {
            Ok(Requests { most, jitter })
        }
        _ => Err(format!(
            "{words:?} is no N or N:JITTER (such as 10000:1000)"
        )),
    }
}

/// A number of bytes, `k`, `M` and `G` being powers of 1024: `512`, `64k`, `1M`.
pub(super) fn size(words: &str) -> Result<u64, String> {
    let wrong = || format!("{words:?} is no size (such as 512, 64k or 1M)");
    let (number, unit) = split(words);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let bytes: u64 = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(bytes).ok_or_else(wrong)
}

/// Networks, or `off` for none.
pub(super) fn networks(words: &str) -> Result<Networks, String> {
    match words {
        "off" => Ok(Networks::default()),
        words => words.parse(),
    }
}

/// A path of requests.
pub(super) fn route(words: &str) -> Result<String, String> {
    match words.starts_with('/') {
        true => Ok(words.to_owned()),
        false => Err(format!("{words:?} is no path: it begins with /")),
    }
}

/// The size of a head: enough for a request line, and no more than makes sense.
pub(super) fn head_size(words: &str) -> Result<usize, String> {
    match size(words)? {
        bytes @ 256..=16_777_216 => Ok(bytes as usize),
        _ => Err(format!("{words:?} is out of range (256 to 16M)")),
    }
}

/// Digits, and what follows them.
fn split(words: &str) -> (&str, &str) {
    let end = words.bytes().take_while(u8::is_ascii_digit).count();
    words.split_at(end)
}

/// How many threads a worker has for CPU-heavy handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Auto,
    Threads(usize),
}

impl Pool {
    /// The number, where one was asked for.
    pub(super) fn threads(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Threads(threads) => Some(threads),
        }
    }
}

/// `auto`, or a number of threads.
pub(super) fn pool(words: &str) -> Result<Pool, String> {
    match words.parse() {
        _ if words == "auto" => Ok(Pool::Auto),
        Ok(threads @ 0..=1024) => Ok(Pool::Threads(threads)),
        _ => Err(format!(
            "{words:?} is no pool (auto, or a number from 0 to 1024)"
        )),
    }
}

/// The name of a cluster.
pub(super) fn name(words: &str) -> Result<String, String> {
    runtime::check_name(words).map(|()| words.to_owned())
}

/// Names of files, the first that is there counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index(pub(super) Vec<String>);

/// Names with commas between them, or `off` for none.
pub(super) fn index(words: &str) -> Result<Index, String> {
    if words == "off" {
        return Ok(Index(Vec::new()));
    }
    let names: Vec<_> = words.split(',').map(str::trim).collect();
    let is_name = |name: &&str| !matches!(*name, "" | "." | "..") && !name.contains(['/', '\0']);
    match names.iter().all(is_name) {
        true => Ok(Index(names.into_iter().map(str::to_owned).collect())),
        false => Err(format!(
            "{words:?} is no list of names (such as index.html,index.htm, or off)"
        )),
    }
}

/// What may stand behind the colon of a field.
pub(super) fn field_value(words: &str) -> Result<String, String> {
    match !words.is_empty() && is_field_value(words.as_bytes()) {
        true => Ok(words.to_owned()),
        false => Err(format!("{words:?} cannot be the value of a field")),
    }
}

/// A signal by its name, with or without `SIG`, or by its number: its name without `SIG`, or the
/// number of one that has none.
pub(super) fn signal(words: &str) -> Result<String, String> {
    let number = process::signal_number(words);
    let number =
        number.ok_or_else(|| format!("{words:?} is no signal (such as TERM, SIGKILL or 9)"))?;
    let name = process::signal_name(number).and_then(|name| name.strip_prefix("SIG"));
    Ok(name.map_or_else(|| number.to_string(), str::to_owned))
}

/// A shell that completions can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (words, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                duration(words),
                Ok(Duration::from_millis(millis)),
                "{words}"
            );
        }
        for words in [
            "",
            "5",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "5 s",
            "5d",
            "99999999999999999999s",
        ] {
            assert!(duration(words).is_err(), "{words}");
        }
    }

    #[test]
    fn what_may_be_none_and_what_may_differ() {
        assert_eq!(duration_or_none("0"), Ok(Duration::ZERO));
        assert_eq!(duration_or_none("0s"), Ok(Duration::ZERO));
        assert_eq!(duration_or_none("2s"), Ok(Duration::from_secs(2)));
        assert!(duration_or_none("").is_err() && duration_or_none("0d").is_err());
        let found = |most, jitter| Ok(Requests { most, jitter });
        assert_eq!(requests("100"), found(100, 0));
        assert_eq!(requests("100:10"), found(100, 10));
        for words in [
            "",
            "0",
            ":",
            "1:",
            ":1",
            "-1",
            "1:-1",
            "1:2:3",
            "9999999999999999",
        ] {
            assert!(requests(words).is_err(), "{words}");
        }
    }

    #[test]
    fn sizes() {
        for (words, bytes) in [
            ("0", 0),
            ("512", 512),
            ("64k", 65_536),
            ("1M", 1_048_576),
            ("2g", 2 << 30),
        ] {
            assert_eq!(size(words), Ok(bytes), "{words}");
        }
        for words in ["", "k", "-1", "1.5M", "1 M", "1T", "99999999999G"] {
            assert!(size(words).is_err(), "{words}");
        }
        assert_eq!(head_size("16k"), Ok(16_384));
        assert!(head_size("255").is_err() && head_size("17M").is_err());
    }

    #[test]
    fn pools() {
        assert_eq!(pool("auto"), Ok(Pool::Auto));
        assert_eq!(pool("0"), Ok(Pool::Threads(0)));
        assert!(pool("-1").is_err() && pool("1025").is_err() && pool("").is_err());
    }

    #[test]
    fn names_and_fields() {
        let found =
            |names: &[&str]| Ok(Index(names.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(index("index.html"), found(&["index.html"]));
        assert_eq!(index("a.html, b"), found(&["a.html", "b"]));
        assert_eq!(index("off"), found(&[]));
        for words in ["", ",", "a,", "a/b", "..", ".", "a,../b"] {
            assert!(index(words).is_err(), "{words}");
        }
        assert_eq!(field_value("max-age=60").as_deref(), Ok("max-age=60"));
        for words in ["", " a", "a\r\nb: c", "\0"] {
            assert!(field_value(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn signals() {
        let cases = [
            ("TERM", "TERM"),
            ("SIGTERM", "TERM"),
            ("sigterm", "TERM"),
            ("15", "TERM"),
            ("kill", "KILL"),
            ("USR2", "USR2"),
            ("40", "40"),
        ];
        for (words, expected) in cases {
            assert_eq!(signal(words).as_deref(), Ok(expected), "{words}");
        }
        for words in ["", "0", "-9", "65", "SIG", "SIGSIGTERM", "TERM ", "NOPE"] {
            assert!(signal(words).is_err(), "{words}");
        }
    }
}
