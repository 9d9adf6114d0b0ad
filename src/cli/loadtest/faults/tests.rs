//! Which address is meant, and what comes too late.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Words {
    #[command(flatten)]
    faults: Faults,
}

fn parsed(words: &[&str]) -> Faults {
    let words = ["x"].iter().chain(words);
    Words::try_parse_from(words).unwrap().faults
}

#[test]
fn nothing_is_done_after_the_run() {
    let faults = parsed(&["--at", "5s=reload", "--at=100ms=kill:any"]);
    for (limit, fine) in [
        (None, true),
        (Some(6), true),
        (Some(5), false),
        (Some(1), false),
    ] {
        let judged = faults.judge(limit.map(Duration::from_secs));
        assert_eq!(judged.is_ok(), fine, "{limit:?}");
    }
    let error = faults.judge(Some(Duration::from_secs(2))).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(
        error.to_string(),
        "--at 5s=reload: the run is over after 2s"
    );
}

#[test]
fn which_address_is_meant() {
    let urls = |all: &[&str]| all.iter().map(|&url| url.to_owned()).collect::<Vec<_>>();
    let one = urls(&["unix:/run/a", "http://127.0.0.1:1", "http://[::1]:2"]);
    let cases = [
        (None, Ok("http://127.0.0.1:1")),
        (Some("/heavy?n=1"), Ok("http://127.0.0.1:1/heavy?n=1")),
        (Some("http://b/c"), Ok("http://b/c")),
        (Some("localhost:1"), Ok("localhost:1")),
    ];
    for (given, expected) in cases {
        assert_eq!(address(given, &one).as_deref(), expected, "{given:?}");
    }
    for (given, urls) in [
        (None, urls(&[])),
        (Some("/heavy"), urls(&[])),
        (None, urls(&["unix:/run/a"])),
    ] {
        assert!(address(given, &urls).is_err(), "{given:?} {urls:?}");
    }
    assert_eq!(address(Some("http://a"), &[]).as_deref(), Ok("http://a"));
}

#[test]
fn where_a_cluster_listens() {
    let cases = [
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/heavy", true),
        ("http://127.0.0.1:3000", "http://localhost:3000/", true),
        ("http://127.0.0.1:3000", "ws://127.0.0.1:3000/ws", true),
        ("http://127.0.0.1:3000", "http://127.0.0.2:3000/", false),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3001/", false),
        ("http://0.0.0.0:3000", "http://127.0.0.2:3000/", true),
        // Of the addresses for documentation, which no machine has.
        ("http://0.0.0.0:3000", "http://192.0.2.1:3000/", false),
        ("unix:/run/app.sock", "http://127.0.0.1:3000/", false),
    ];
    for (listener, url, expected) in cases {
        let listeners = ["unix:/run/other.sock".to_owned(), listener.to_owned()];
        assert_eq!(listens_at(&listeners, url), expected, "{listener} {url}");
    }
    assert!(!listens_at(&[], "http://127.0.0.1:3000/"));
}
