//! Answers as a client reads them: where they end, who gave them, and that no way of cutting them changes that.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{AnswerEnd, AnswerReader, Error};

/// One whole answer: status, whether the connection goes on, body, who gave it.
type One = (u16, bool, Vec<u8>, Option<String>);

/// All answers in the pieces, and how reading ended: `Ok(true)` between answers.
fn read<'b>(
    pieces: impl IntoIterator<Item = &'b [u8]>,
    to_head: bool,
) -> (Vec<One>, Result<bool, Error>) {
    let mut reader = AnswerReader::new(to_head);
    let mut answers = Vec::new();
    let mut body = Vec::new();
    let one = |end: AnswerEnd, body: &mut Vec<u8>, reader: &AnswerReader| {
        let worker = reader.worker();
        let worker = worker.map(|name| String::from_utf8_lossy(name).into_owned());
        (end.status, end.keep_alive, std::mem::take(body), worker)
    };
    for mut piece in pieces {
        while !piece.is_empty() {
            match reader.feed_into(piece, &mut body) {
                Ok((used, Some(end))) => {
                    assert!(reader.is_idle() && reader.status().is_none());
                    answers.push(one(end, &mut body, &reader));
                    piece = &piece[used..];
                }
                Ok((used, None)) => {
                    assert_eq!(used, piece.len());
                    assert!(!reader.is_idle());
                    break;
                }
                Err(error) => {
                    assert_eq!((error.status(), reader.feed(b"H")), (502, Err(error)));
                    assert!(reader.at_close().is_none() && !reader.is_idle());
                    return (answers, Err(error));
                }
            }
        }
    }
    if let Some(end) = reader.at_close() {
        answers.push(one(end, &mut body, &reader));
    }
    let idle = reader.is_idle();
    (answers, Ok(idle))
}

/// What is read in one piece, byte by byte, and in two pieces cut anywhere, which must agree.
fn read_all_ways(bytes: &[u8], to_head: bool) -> (Vec<One>, Result<bool, Error>) {
    let whole = read([bytes], to_head);
    assert_eq!(read(bytes.chunks(1), to_head), whole);
    for at in 0..bytes.len() {
        let cut = read([&bytes[..at], &bytes[at..]], to_head);
        assert_eq!(cut, whole, "{} at {at}", bytes.escape_ascii());
    }
    whole
}

/// Status, whether the connection goes on, body.
type Expected = (u16, bool, &'static str);

const GOOD: [(&str, &[Expected]); 18] = [
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        &[(200, true, "hi")],
    ),
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        &[(200, false, "")],
    ),
    (
        "HTTP/1.1 200\r\nConnection: Upgrade, CLOSE\r\nContent-Length:1\r\n\r\n!",
        &[(200, false, "!")],
    ),
    (
        "HTTP/1.1 200 \r\nConnection: closed\r\nContent-Length:1\r\n\r\n!",
        &[(200, true, "!")],
    ),
    (
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        &[(200, false, "a")],
    ),
    (
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\na",
        &[(200, true, "a")],
    ),
    (
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        &[(200, false, "until the end")],
    ),
    ("HTTP/1.1 500 No\r\n\r\n", &[(500, false, "")]),
    (
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        &[(204, true, ""), (304, true, "")],
    ),
    (
        "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        &[(204, true, "")],
    ),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
        &[(404, true, "")],
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 201 OK\r\nContent-Length: 1\r\n\r\n2",
        &[(200, true, "1"), (201, true, "2")],
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabc",
        &[(200, true, "abc")],
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\n",
        &[(200, true, "hi!")],
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        &[(200, true, ""), (200, true, "")],
    ),
    (
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        &[(200, true, "hi")],
    ),
    (
        "HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n",
        &[(999, true, "")],
    ),
    ("", &[]),
];

#[test]
fn answers_end_where_they_should() {
    for (bytes, expected) in GOOD {
        let (answers, end) = read_all_ways(bytes.as_bytes(), false);
        let answers: Vec<_> = answers
            .iter()
            .map(|(a, b, body, _)| (*a, *b, &body[..]))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(a, b, body)| (*a, *b, body.as_bytes()))
            .collect();
        assert_eq!((answers, end), (expected, Ok(true)), "{bytes:?}");
    }
}

#[test]
fn answers_to_head_have_no_body() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        HTTP/1.1 200 OK\r\n\r\n";
    let (answers, end) = read_all_ways(bytes, true);
    assert_eq!((answers.len(), end), (3, Ok(true)));
    assert!(
        answers
            .iter()
            .all(|(status, keep, body, _)| *status == 200 && *keep && body.is_empty())
    );
}

#[test]
fn garbage_is_an_error_at_once() {
    let fields = "A: b\r\n".repeat(101);
    let cases = [
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "garbage",
        "\0",
        "HTTP/2",
        "HTTP/1.2 200 OK\r\n",
        "HTTP/1.1 20",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000",
        "HTTP/1.1 -20",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nUpgrade: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n",
        "HTTP/1.1 200 OK\r\nA: \0",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
        &format!("HTTP/1.1 200 OK\r\n{fields}\r\n"),
        &"HTTP/1.1 100 Continue\r\n\r\n".repeat(101),
    ];
    for bytes in cases {
        // The one that is cut may yet be right.
        let expected = bytes != "HTTP/1.1 20";
        let (answers, end) = read_all_ways(bytes.as_bytes(), false);
        assert_eq!(
            (answers.len(), end.is_err()),
            (0, expected),
            "{bytes:?}: {end:?}"
        );
    }
}

#[test]
fn a_head_without_end_is_not_kept() {
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(80 << 10));
    let whole = format!("{long}\r\n\r\n");
    for bytes in [&long, &whole] {
        let expected = (Vec::new(), Err(Error::new(502, "a head that is too long")));
        for piece in [bytes.len(), 4096, 1000] {
            assert_eq!(read(bytes.as_bytes().chunks(piece), false), expected);
        }
    }
}

#[test]
fn what_breaks_off_does_not_end() {
    for (bytes, idle) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n",
            false,
        ),
        ("HTTP/1.1 100 Continue\r\n\r\n", false),
        ("H", false),
        ("", true),
    ] {
        assert_eq!(
            read_all_ways(bytes.as_bytes(), false),
            (Vec::new(), Ok(idle)),
            "{bytes:?}"
        );
    }
}

fn worker(fields: &str, body: &str) -> Option<String> {
    let length = body.len();
    let counted = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    let chunked = format!(
        "HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
    );
    let closed = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    let mut found = [counted, chunked, closed].map(|bytes| {
        let (answers, _) = read_all_ways(bytes.as_bytes(), false);
        answers
            .into_iter()
            .next()
            .and_then(|(_, _, _, worker)| worker)
    });
    assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
    found[0].take()
}

#[test]
fn who_answers_is_said_by_a_field_or_by_the_body() {
    let far = |spaces: usize| " ".repeat(spaces) + "pid 12";
    let cases = [
        ("X-Worker: 3\r\n", "process 7", Some("3")),
        ("x-worker: a b\r\n", "", Some("a b")),
        ("X-Worker:\r\n", "process 7", Some("process 7")),
        ("", "Handled by process 4711\n", Some("process 4711")),
        (
            "",
            "Handled by process 4711 thread 2\n",
            Some("process 4711 thread 2"),
        ),
        ("", "Process 4711 thread", Some("process 4711")),
        ("", "I am worker 12.", Some("worker 12")),
        ("", "pid 1", Some("pid 1")),
        ("", "pid: 1", Some("pid 1")),
        ("", "pid=17&a=b", Some("pid 17")),
        ("", "{\"a\": 1, \"pid\":4711}", Some("pid 4711")),
        ("", "{\"pid\": 4711, \"worker\": 1}", Some("pid 4711")),
        ("", "{\"worker\":1}", Some("worker 1")),
        ("", "processes 12 and 13", None),
        ("", "subprocess 12", None),
        ("", "process 12th", None),
        ("", "process 12345678901", None),
        ("", "process", None),
        ("", "the year 2000, pid 3", Some("pid 3")),
        ("", " 1", None),
        ("", &far(249), Some("pid 12")),
        // Cut off: may be 12 or more.
        ("", &far(250), None),
        ("", &far(251), None),
        ("", &far(300), None),
        ("", "", None),
    ];
    for (fields, body, expected) in cases {
        assert_eq!(
            worker(fields, body).as_deref(),
            expected,
            "{fields:?} {body:?}"
        );
    }
    let long = worker(&format!("X-Worker: {}\r\n", "w".repeat(100)), "");
    assert_eq!(long, Some("w".repeat(64)));
}

#[test]
fn who_answered_before_is_forgotten() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npid 1HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (answers, _) = read_all_ways(bytes, false);
    let workers: Vec<_> = answers.iter().map(|one| one.3.as_deref()).collect();
    assert_eq!(workers, [Some("pid 1"), None]);
}

/// Pieces of answers that, in any order, reach most of the reader.
const PARTS: [&str; 14] = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 404 No\r\n",
    "HTTP/1.1 100 \r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "X-Worker: 4\r\n",
    "\r\n",
    "pid 4",
    "5\r\npid 4\r\n",
    "0\r\n\r\n",
    "HTTP/1.1 204 \r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npid 7",
];

proptest! {
    #[test]
    fn cutting_changes_nothing(
        parts in vec(proptest::sample::select(&PARTS[..]), 0..12),
        noise in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
        to_head in any::<bool>(),
    ) {
        let mut bytes = parts.concat().into_bytes();
        if let (Some((at, byte)), false) = (noise, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = read([&bytes[..]], to_head);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(read(pieces, to_head), whole);
    }
}
