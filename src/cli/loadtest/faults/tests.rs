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
