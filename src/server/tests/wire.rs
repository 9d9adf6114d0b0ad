//! The corpus of `tests/wire` through a whole server: every answer as it must be, and the same
//! bytes however the requests were cut. That the parser alone is right is the corpus's own test.

use super::*;
use crate::app::Request;
use std::fs;
use std::path::Path;

/// Places where a file is cut: all of them, but for long files, which are long by repetition.
const MOST_CUTS: usize = 120;

/// Longer files are not sent byte by byte.
const LONGEST_DRIP: usize = 400;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Says what was asked.
fn told(request: Request) -> String {
    let body = String::from_utf8_lossy(request.body()).into_owned();
    format!(
        "{} {} {:?} {:?} {} {body}",
        request.method(),
        request.path(),
        request.query(),
        request.host(),
        request.headers().count()
    )
}

/// The files of a part of the corpus: the name, the bytes, and the summary beside a valid one.
fn files(part: &str) -> Vec<(String, Vec<u8>, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire");
    let mut files: Vec<_> = fs::read_dir(folder.join(part))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "http"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let summary = fs::read_to_string(path.with_extension("txt"));
            (name, fs::read(&path).unwrap(), summary.unwrap_or_default())
        })
        .collect();
    files.sort();
    files
}

/// All that the server says to the pieces, sent one after the other on a connection of their own,
/// without dates and without `100 Continue`, which only a body that has not come asks for.
fn said<'b>(rig: &mut Rig, pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<u8> {
    let mut client = rig.connect();
    for piece in pieces {
        rig.send(&client, piece);
        rig.settle();
        client.read(usize::MAX);
        if client.end.is_some() {
            // What a client sends behind its own last request may meet a socket that is gone.
            break;
        }
    }
    client.finish();
    rig.until(&mut client, |client| client.end.is_some());
    assert_eq!(client.end, Some(End::Eof));
    let mut said = client.got;
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|part| part == what);
    while let Some(at) = find(&said, CONTINUE) {
        said.drain(at..at + CONTINUE.len());
    }
    let mut from = 0;
    while let Some(at) = find(&said[from..], b"\r\nDate: ") {
        from += at + 8;
        let end = find(&said[from..], b"\r\n").unwrap();
        said.drain(from..from + end);
    }
    said
}

/// The same for the whole file and for every way of cutting it, which must agree.
fn said_to_every_cut(rig: &mut Rig, name: &str, bytes: &[u8]) -> Vec<u8> {
    let whole = said(rig, [bytes]);
    let step = bytes.len().div_ceil(MOST_CUTS).max(1);
    for at in (1..bytes.len()).step_by(step) {
        let (front, back) = bytes.split_at(at);
        let cut = said(rig, [front, back]);
        assert!(
            cut == whole,
            "{name} cut at {at}: {}\nin place of {}",
            cut.escape_ascii(),
            whole.escape_ascii()
        );
    }
    if bytes.len() <= LONGEST_DRIP {
        assert!(said(rig, bytes.chunks(1)) == whole, "{name} byte by byte");
    }
    whole
}

/// The answers in what was said; `heads` tells which are to HEAD.
fn answers(said: &[u8], mut heads: impl Iterator<Item = bool>) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut rest = said;
    while !rest.is_empty() {
        let head = heads.next().unwrap_or(false);
        let answer = Answer::parse(rest, head, true).expect("a whole answer");
        rest = &rest[answer.size..];
        answers.push(answer);
    }
    answers
}

#[test]
fn valid_requests_are_answered_the_same_however_they_are_cut() {
    for (name, bytes, summary) in files("valid") {
        let mut rig = Rig::new(App::new().fallback(told));
        let said = said_to_every_cut(&mut rig, &name, &bytes);
        let lines: Vec<_> = summary.lines().collect();
        let heads = lines.iter().map(|line| line.starts_with("HEAD "));
        let answers = answers(&said, heads);
        assert_eq!(answers.len(), lines.len(), "{name}");
        for (answer, line) in answers.iter().zip(lines) {
            let expected = if line.starts_with("OPTIONS * ") {
                204
            } else {
                200
            };
            assert_eq!(answer.status, expected, "{name}");
            let closes = line.contains(" keep_alive=no");
            assert_eq!(answer.closes(), closes, "{name}: {answer:?}");
            assert!(answer.get("date").is_some(), "{name}");
        }
        rig.empty();
    }
}

#[test]
fn invalid_requests_are_refused_the_same_however_they_are_cut() {
    for (name, bytes, _) in files("invalid") {
        let mut rig = Rig::new(App::new().fallback(told));
        let said = said_to_every_cut(&mut rig, &name, &bytes);
        let answers = answers(&said, std::iter::empty());
        let (last, before) = answers.split_last().expect("an answer");
        let status = name.rsplit_once("--").unwrap().1;
        assert_eq!(last.status.to_string(), status, "{name}");
        assert!(last.closes() && last.get("date").is_some(), "{name}");
        assert!(last.get("content-length").is_some(), "{name}");
        for answer in before {
            assert_eq!((answer.status, answer.closes()), (200, false), "{name}");
        }
        rig.empty();
    }
}

#[test]
fn a_request_that_is_cut_off_is_not_answered() {
    for (name, bytes, summary) in files("valid") {
        let mut rig = Rig::new(App::new().fallback(told));
        let whole = said(&mut rig, [&bytes[..]]);
        let step = bytes.len().div_ceil(MOST_CUTS).max(1);
        let mut most = 0;
        for end in (0..bytes.len()).step_by(step) {
            // What came is answered, and the connection ends without a word about the rest.
            let beginning = said(&mut rig, [&bytes[..end]]);
            assert!(whole.starts_with(&beginning), "{name} to {end}");
            assert!(beginning.len() >= most, "{name} to {end}");
            most = beginning.len();
            let heads = summary.lines().map(|line| line.starts_with("HEAD "));
            answers(&beginning, heads);
        }
        rig.empty();
    }
}

#[test]
fn a_length_that_another_would_wrap_is_not() {
    // Modulo 2^32, 2^63 and 2^64 these are 5, and what follows the five bytes a request.
    for (length, status) in [
        ("4294967301", 413),
        ("9223372036854775813", 413),
        ("18446744073709551615", 413),
        ("18446744073709551621", 400),
    ] {
        let mut rig = Rig::new(App::new().fallback(told));
        let fields = format!("Content-Length: {length}\r\n");
        let request = request("POST", "/", &fields, &format!("hello{}", get("/")));
        let said = said(&mut rig, [request.as_bytes()]);
        let answers = answers(&said, std::iter::empty());
        assert_eq!(answers.len(), 1, "{length}");
        assert_eq!((answers[0].status, answers[0].closes()), (status, true));
        rig.empty();
    }
}
