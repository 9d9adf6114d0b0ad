//! The corpus of `tests/wire`: a case is a name, bytes and an outcome. Valid files have a summary beside them, a line a
//! request; invalid ones have their status in the name.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::{End, Framing, Outcome, Request, plain, read_all, read_pieces};

/// The files of a part of the corpus, by name: the stem, the bytes, the summary if there is one.
pub(super) fn files(part: &str) -> Vec<(String, Vec<u8>, String)> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "wire", part]
        .iter()
        .collect();
    let entries = fs::read_dir(&folder).expect("the corpus is there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("a file of the corpus").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "http"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy();
            (
                name.into_owned(),
                fs::read(&path).expect("a file that can be read"),
                fs::read_to_string(path.with_extension("txt")).unwrap_or_default(),
            )
        })
        .collect();
    files.sort();
    files
}

/// The line that stands for a request in a `.txt` file.
fn summary(request: &Request) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut line = format!(
        "{} {} {} path={} query={} host={} framing={} body={} keep_alive={}",
        request.method,
        request.target,
        request.version,
        request.path,
        or_dash(&request.query),
        or_dash(&request.host),
        match request.framing {
            Framing::None => "none",
            Framing::Length(_) => "length",
            Framing::Chunked => "chunked",
        },
        request.body.len(),
        if request.keep_alive { "yes" } else { "no" },
    );
    if request.expects_continue {
        line.push_str(" expects_continue");
    }
    if !request.trailers.is_empty() {
        let _ = write!(line, " trailers={}", request.trailers.len());
    }
    line
}

fn status(name: &str) -> u16 {
    let (_, status) = name.rsplit_once("--").expect("a status in the name");
    status.parse().expect("a status that is a number")
}

/// The outcome, whole and in every way of cutting the bytes in two, and byte by byte.
fn outcome_of_every_split(name: &str, bytes: &[u8]) -> Outcome {
    let whole = read_all(bytes);
    // A long file is long by repetition; cutting it a few hundred times says as much.
    let step = bytes.len().div_ceil(1500).max(1);
    for at in (0..=bytes.len()).step_by(step) {
        let (front, back) = bytes.split_at(at);
        assert_eq!(read_pieces([front, back]), whole, "{name} cut at {at}");
    }
    if bytes.len() < 6000 {
        assert_eq!(read_pieces(bytes.chunks(1)), whole, "{name} byte by byte");
    }
    whole
}

#[test]
fn the_corpus_is_whole() {
    assert!(files("valid").len() >= 40);
    assert!(files("invalid").len() >= 120);
}

#[test]
fn valid_requests_are_read_as_their_summary_says() {
    for (name, bytes, expected) in files("valid") {
        let outcome = read_all(&bytes);
        let read: String = outcome
            .requests
            .iter()
            .map(|request| summary(request) + "\n")
            .collect();
        assert_eq!(read, expected, "{name}");
        let last_closes = outcome.requests.last().is_some_and(|last| !last.keep_alive);
        let end = if last_closes {
            End::Closed
        } else {
            End::Between
        };
        assert_eq!(outcome.end, end, "{name}");
    }
}

#[test]
fn valid_requests_are_read_the_same_however_they_are_cut() {
    for (name, bytes, _) in files("valid") {
        outcome_of_every_split(&name, &bytes);
    }
}

#[test]
fn every_prefix_of_a_valid_file_is_a_beginning_of_its_outcome() {
    for (name, bytes, _) in files("valid") {
        let whole = read_all(&bytes);
        for end in 0..bytes.len() {
            let outcome = read_all(&bytes[..end]);
            assert!(
                !matches!(outcome.end, End::Refused(_)),
                "{name} to {end}: {outcome:?}"
            );
            assert!(
                whole.requests.starts_with(&outcome.requests),
                "{name} to {end}: {outcome:?}"
            );
        }
    }
}

#[test]
fn invalid_requests_are_refused_with_their_status_however_they_are_cut() {
    for (name, bytes, _) in files("invalid") {
        let outcome = outcome_of_every_split(&name, &bytes);
        let End::Refused(error) = outcome.end else {
            panic!("{name} is taken: {outcome:?}");
        };
        assert_eq!(error.status(), status(&name), "{name}: {error}");
    }
}

#[test]
fn the_corpus_agrees_with_httparse() {
    for part in ["valid", "invalid"] {
        for (_, bytes, _) in files(part) {
            plain::compare(&bytes);
        }
    }
}
