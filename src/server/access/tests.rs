//! What lines say, and what becomes of those that cannot be written.

use super::*;
use crate::http::{HeadLimits, Parsed};
use crate::sys::lines::open;
use std::os::fd::OwnedFd;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn peer() -> Peer {
    Peer::Inet("192.0.2.1:5".parse().unwrap())
}

fn entry(head: &str) -> Entry {
    let mut parts = Parts::default();
    let limits = HeadLimits {
        bytes: 65_536,
        fields: 100,
    };
    let parsed = parts.head.parse(head.as_bytes(), &limits).unwrap();
    assert_eq!(parsed, Parsed::Complete(head.len()));
    parts.peer = Some(peer());
    Entry::of(&parts, peer(), Instant::now())
}

fn line(entry: &Entry, combined: bool) -> String {
    let mut out = Vec::new();
    common(&mut out, entry, DATE, combined);
    String::from_utf8(out).unwrap()
}

fn answered() -> Entry {
    let mut entry = entry(
        "GET /a?b=\\c HTTP/1.1\r\nHost: x\r\nReferer: http://y/\\\r\n\
         User-Agent: a \"b\"\u{e9}\tc\r\n\r\n",
    );
    entry.sent(99);
    entry.answered(200, 100);
    entry.sent(50);
    entry.sent(62);
    entry
}

#[test]
fn the_common_formats() {
    let common = "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=\\x5Cc HTTP/1.1\" 200 12";
    assert_eq!(line(&answered(), false), format!("{common}\n"));
    let more = r#" "http://y/\x5C" "a \x22b\x22\xC3\xA9\x09c""#;
    assert_eq!(line(&answered(), true), format!("{common}{more}\n"));
}

#[test]
fn what_is_not_known_is_a_dash() {
    let mut refused = Entry::unknown(Peer::Unix, None, Instant::now());
    refused.answered(400, 100);
    let expected = "unix: - - [06/Nov/1994:08:49:37 +0000] \"-\" 400 0 \"-\" \"-\"\n";
    assert_eq!(line(&refused, true), expected);
    let mut elsewhere = Entry::unknown(Peer::Elsewhere, None, Instant::now());
    elsewhere.answered(400, 100);
    assert!(line(&elsewhere, false).starts_with("- - - ["));
    let mut refused = refused.began(b"\r\nFOO /\x1b HTTP/1.1\r\nHost: x\r\n");
    refused.answered(501, 100);
    let expected = "unix: - - [06/Nov/1994:08:49:37 +0000] \"FOO /\\x1B HTTP/1.1\" 501 0\n";
    assert_eq!(line(&refused, false), expected);
    let gone = line(&entry("GET / HTTP/1.0\r\n\r\n"), false);
    assert!(gone.ends_with("\"GET / HTTP/1.0\" 499 0\n"), "{gone}");
}

#[cfg(feature = "json")]
#[test]
fn one_object_a_line() {
    let mut out = Vec::new();
    json(&mut out, &answered(), DATE, 3);
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(value["time"], "1994-11-06T08:49:37Z");
    assert_eq!(value["client_ip"], "192.0.2.1");
    assert_eq!(value["target"], "/a?b=\\c");
    assert_eq!(value["user_agent"], "a \"b\"\u{e9}\tc");
    assert_eq!(
        (&value["status"], &value["bytes"]),
        (&200.into(), &12.into())
    );
    assert_eq!(
        (&value["worker"], &value["method"]),
        (&3.into(), &"GET".into())
    );
    assert!(value["duration_s"].is_number() && value["request_id"].is_null());
    out.clear();
    json(
        &mut out,
        &Entry::unknown(Peer::Unix, None, Instant::now()),
        DATE,
        3,
    );
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert!(value["method"].is_null() && value["client_ip"].is_null());
}

#[cfg(feature = "json")]
#[test]
fn an_object_is_visible_ascii() {
    let agent =
        "\u{7f}\u{85}\u{9b}31m\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{1f600}\\\"\t~ \u{e9}";
    let head =
        format!("GET / HTTP/1.1\r\nHost: x\r\nReferer: \u{9b}\r\nUser-Agent: a{agent}z\r\n\r\n");
    let head = head.replace('\u{7f}', "");
    let mut entry = entry(&head);
    // What a head cannot have, in case it once can.
    let at = entry.text.len() - 1;
    entry.text.splice(at..at, [0x7f, 0, 0x1b, 0xff]);
    let mut out = Vec::new();
    json(&mut out, &entry, DATE, 3);
    let text = std::str::from_utf8(&out).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(
        line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{line}"
    );
    let expected = r#"a\u0085\u009b31m\u2028\u2029\u202e\u2066\u200f\ud83d\ude00\\\"\t~ \u00e9\u007f\u0000\u001b\ufffdz"#;
    assert!(line.contains(expected), "{line}");
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let agent = agent.replace('\u{7f}', "");
    let expected = format!("a{agent}\u{7f}\0\u{1b}\u{fffd}z");
    assert_eq!(value["user_agent"], *expected);
    assert_eq!(value["referer"], "\u{9b}");
}

fn log(file: File) -> Log {
    Log::new(Arc::new(file), LogFormat::Common, 1)
}

fn add(log: &mut Log, count: usize, now: Instant) {
    let date = Date::new(now);
    for _ in 0..count {
        log.add(&answered(), &date, now);
    }
}

/// A file without a name.
fn unnamed() -> File {
    nix::sys::memfd::memfd_create("log", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .unwrap()
}

fn lines_of(file: &File) -> usize {
    use std::os::unix::fs::FileExt;
    let mut text = vec![0; 4 << 20];
    let count = file.read_at(&mut text, 0).unwrap();
    let whole = count == 0 || text[count - 1] == b'\n';
    assert!(whole);
    memchr::memchr_iter(b'\n', &text[..count]).count()
}

#[test]
fn lines_wait_and_are_written_together() {
    let file = unnamed();
    let mut log = log(file.try_clone().unwrap());
    let now = Instant::now();
    assert_eq!(log.deadline(), None);
    add(&mut log, 3, now);
    add(&mut log, 1, now + FLUSH_AFTER / 2);
    assert_eq!(
        (lines_of(&file), log.deadline()),
        (0, Some(now + FLUSH_AFTER))
    );
    log.flush(now + FLUSH_AFTER);
    assert_eq!((lines_of(&file), log.deadline()), (4, None));
    add(&mut log, 1000, now);
    assert!(lines_of(&file) > 100, "so many do not wait");
    let other = unnamed();
    log.reopen(other.try_clone().unwrap(), now);
    assert_eq!(lines_of(&file), 1004);
    add(&mut log, 2, now);
    drop(log);
    assert_eq!((lines_of(&file), lines_of(&other)), (1004, 2));
}

#[test]
fn a_full_disk_costs_lines_alone() {
    let now = Instant::now();
    let mut log = log(open(std::path::Path::new("/dev/full")).unwrap());
    log.kind = Kind::File;
    add(&mut log, 10, now);
    log.flush(now);
    assert!(log.buffer.is_empty() && log.deadline().is_none());
    assert_eq!(log.lost, 0, "it was said");
    add(&mut log, 10, now);
    log.flush(now);
    assert_eq!(log.lost, 10, "it need not be said again yet");
    // What was torn there gets its end where there is room again.
    log.torn = true;
    add(&mut log, 1, now);
    assert_eq!((log.buffer[0], log.torn), (b'\n', false));
}

#[test]
fn a_reader_that_does_not_read_costs_lines_and_bounded_memory() {
    let (mut reader, writer) = io::pipe().unwrap();
    let mut log = log(File::from(OwnedFd::from(writer)));
    let now = Instant::now();
    add(&mut log, 30_000, now);
    assert!(log.blocked && log.deadline().is_some());
    assert!(log.buffer.len() >= MOST_BYTES && log.buffer.len() < MOST_BYTES + 4096);
    let held = memchr::memchr_iter(b'\n', &log.buffer).count();
    let lost = log.lost as usize + 1;
    let text = std::thread::spawn(move || {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut reader, &mut text).unwrap();
        text
    });
    while !log.buffer.is_empty() {
        log.flush(now);
        std::thread::yield_now();
    }
    drop(log);
    let text = text.join().unwrap();
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with(b"192") && line.ends_with(b"12\n"))
    );
    assert_eq!(lines.len() + lost, 30_000, "{held} were held");
}

#[test]
fn pieces_for_a_pipe_are_whole_lines() {
    assert_eq!(whole_lines(b"ab\ncd\n", 4), 3);
    assert_eq!(whole_lines(b"ab\ncd\n", 6), 6);
    assert_eq!(whole_lines(b"abcdef\ngh\n", 4), 7);
}
