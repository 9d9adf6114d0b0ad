//! The words of the load test's flags: times and rates with fractions, headers, cookies, methods,
//! files of bodies.

use crate::http::{is_field_value, is_token};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rates that make sense, a second.
const SLOWEST: f64 = 0.001;
const FASTEST: f64 = 10_000_000.0;

/// No clock overflows before that.
const LONGEST_S: f64 = 100.0 * 365.0 * 24.0 * 3600.0;

/// Seconds as a number, as the npm tool has it, or a time with its unit.
pub(super) fn seconds(words: &str) -> Result<Duration, String> {
    let time = time(words, Some("s"));
    time.ok_or_else(|| format!("{words:?} is no time above 0 (such as 10, 0.5, 500ms or 2m)"))
}

/// Milliseconds as a number, as the npm tool has it, or a time with its unit; 0 is none.
pub(super) fn millis(words: &str) -> Result<Duration, String> {
    if words == "0" {
        return Ok(Duration::ZERO);
    }
    let time = time(words, Some("ms"));
    time.ok_or_else(|| {
        format!("{words:?} is no time above 0 (such as 200 for 200 ms, 1.5s or 2m), nor 0 for none")
    })
}

/// A time with its unit.
pub(super) fn latency(words: &str) -> Result<Duration, String> {
    let time = time(words, None);
    time.ok_or_else(|| format!("{words:?} is no time with its unit (such as 800us, 50ms or 1.5s)"))
}

/// A number with a unit, or of the unit `bare`. None where it is none, or nothing.
fn time(words: &str, bare: Option<&str>) -> Option<Duration> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = words.split_at(words.find(|c| !digits(c)).unwrap_or(words.len()));
    let unit = match unit {
        "" => bare?,
        unit => unit,
    };
    let unit = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let seconds = number.parse::<f64>().ok()? * unit;
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    (seconds <= LONGEST_S && !time.is_zero()).then_some(time)
}

/// A number from 1 to `MOST`.
pub(super) fn up_to<const MOST: u64>(words: &str) -> Result<u64, String> {
    match words.parse() {
        Ok(number) if (1..=MOST).contains(&number) => Ok(number),
        _ => Err(format!("{words:?} is no number from 1 to {MOST}")),
    }
}

/// Requests a second, with a fraction if need be.
pub(super) fn rate(words: &str) -> Result<f64, String> {
    match words.parse() {
        Ok(rate) if (SLOWEST..=FASTEST).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "{words:?} is no rate (a number from {SLOWEST} to {FASTEST}, such as 100 or 0.5)"
        )),
    }
}

/// A share in percent, with or without its sign.
pub(super) fn percent(words: &str) -> Result<f64, String> {
    match words.strip_suffix('%').unwrap_or(words).parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!(
            "{words:?} is no share in percent (0 to 100, such as 0.1)"
        )),
    }
}

/// A header, as `NAME:VALUE`.
pub(super) fn header(words: &str) -> Result<(String, String), String> {
    let (name, value) = words.split_once(':').unwrap_or((words, "\0"));
    let value = value.trim();
    match is_token(name.as_bytes()) && is_field_value(value.as_bytes()) {
        true => Ok((name.to_owned(), value.to_owned())),
        false => Err(format!(
            "{words:?} is no header (NAME:VALUE, such as 'Accept: text/html')"
        )),
    }
}

/// A cookie, as `NAME=VALUE`.
pub(super) fn cookie(words: &str) -> Result<String, String> {
    let name = words.split_once('=').map(|(name, _)| name);
    let fine = name.is_some_and(|name| is_token(name.as_bytes()));
    match fine && is_field_value(words.as_bytes()) && !words.contains(';') {
        true => Ok(words.to_owned()),
        false => Err(format!("{words:?} is no cookie (NAME=VALUE)")),
    }
}

/// A method. Those that everybody knows may be written small, as the npm tool has it.
pub(super) fn method(words: &str) -> Result<String, String> {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let known = KNOWN.iter().find(|name| name.eq_ignore_ascii_case(words));
    match known {
        Some(name) => Ok((*name).to_owned()),
        None if is_token(words.as_bytes()) => Ok(words.to_owned()),
        None => Err(format!("{words:?} is no method (such as GET or POST)")),
    }
}

/// A file whose bytes are the body.
pub(super) fn body_file(words: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(words);
    let is_program = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("js"));
    match is_program {
        true => Err(format!(
            "{words:?} is a program, which the npm tool would run; here a body is sent as it is in its file"
        )),
        false => Ok(path),
    }
}

/// What is in a file, if that is no more than `most` bytes: a device may have no end.
///
/// # Errors
///
/// When it cannot be read, and when there is more.
pub(super) fn body(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| error.to_string();
    let file = File::open(path).map_err(failed)?;
    let too_much = || format!("it has more than {most} bytes, and a body is kept in memory");
    // Of what is no file this is 0.
    if file.metadata().map_err(failed)?.len() > most {
        return Err(too_much());
    }
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 > most {
        true => Err(too_much()),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let micros = |time: Duration| time.as_micros();
        let cases = [
            ("10", 10_000_000, 10_000),
            ("0.5", 500_000, 500),
            ("1.5s", 1_500_000, 1_500_000),
            ("200ms", 200_000, 200_000),
            ("800us", 800, 800),
            ("2m", 120_000_000, 120_000_000),
        ];
        for (words, by_seconds, by_millis) in cases {
            assert_eq!(seconds(words).map(micros), Ok(by_seconds), "{words}");
            assert_eq!(millis(words).map(micros), Ok(by_millis), "{words}");
        }
        for words in [
            "",
            "s",
            "0s",
            "-1",
            "NaN",
            "inf",
            "1e3",
            "1 s",
            "5d",
            "1.2.3",
            "0.0000001us",
            "99999999999999999999",
            "1e999",
            "-0",
        ] {
            assert!(seconds(words).is_err(), "{words}");
            assert!(millis(words).is_err(), "{words}");
            assert!(latency(words).is_err(), "{words}");
        }
        assert!(seconds("0").is_err());
        assert_eq!(millis("0"), Ok(Duration::ZERO));
        assert_eq!(latency("50ms"), Ok(Duration::from_millis(50)));
        assert!(latency("50").unwrap_err().contains("unit"));
    }

    #[test]
    fn numbers_rates_and_shares() {
        assert_eq!(up_to::<5>("5"), Ok(5));
        for words in ["", "0", "6", "-1", "1.5", "many", "99999999999999999999"] {
            let error = up_to::<5>(words).unwrap_err();
            assert!(error.contains("from 1 to 5"), "{error}");
        }
        assert_eq!(rate("0.5"), Ok(0.5));
        assert_eq!(rate("1e3"), Ok(1000.0));
        for words in ["", "0", "-1", "NaN", "inf", "1e300", "1e-300", "ten"] {
            assert!(rate(words).is_err(), "{words}");
        }
        assert_eq!(percent("0"), Ok(0.0));
        assert_eq!(percent("0.1%"), Ok(0.1));
        for words in ["", "%", "-1", "100.1", "NaN", "inf"] {
            assert!(percent(words).is_err(), "{words}");
        }
    }

    #[test]
    fn headers_and_cookies() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(header("a:b"), pair("a", "b"));
        assert_eq!(header("A: b:c "), pair("A", "b:c"));
        assert_eq!(header("a:"), pair("a", ""));
        for words in ["", "a", ":b", "a b:c", "a:b\r\nc:d", "a:\0"] {
            assert!(header(words).is_err(), "{words:?}");
        }
        assert_eq!(cookie("a=b").as_deref(), Ok("a=b"));
        assert_eq!(cookie("a=").as_deref(), Ok("a="));
        for words in ["", "a", "=b", "a=b; c=d", "a=b\n"] {
            assert!(cookie(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn methods_and_files() {
        assert_eq!(method("post").as_deref(), Ok("POST"));
        assert_eq!(method("purge").as_deref(), Ok("purge"));
        assert!(method("").is_err() && method("A B").is_err());
        assert!(body_file("a.json").is_ok());
        assert!(body_file("a.js").unwrap_err().contains("is a program"));

        let error = body(Path::new("/dev/zero"), 100_000).unwrap_err();
        assert!(error.contains("more than 100000 bytes"), "{error}");
        assert_eq!(body(Path::new("/dev/null"), 100), Ok(Vec::new()));
        let file = std::env::temp_dir().join(format!("mcluster-words-{}", std::process::id()));
        std::fs::write(&file, "four").unwrap();
        assert_eq!(body(&file, 4), Ok(b"four".to_vec()));
        assert!(body(&file, 3).unwrap_err().contains("more than 3"));
        std::fs::remove_file(&file).unwrap();
    }
}
