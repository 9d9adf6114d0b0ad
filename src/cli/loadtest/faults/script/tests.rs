//! What is due when, who listens, and what is asked for.

use super::super::words::{fault, timed};
use super::*;
use crate::status;

#[test]
fn they_come_in_the_order_of_time() {
    let ahead = ["2s=stop", "1s=reload", "2s=restart", "0=scale:2"]
        .map(|words| timed(words).unwrap())
        .to_vec();
    let mut script = Script::new(ahead, None);
    let (second, look) = (Duration::from_secs(1), Duration::from_millis(100));
    let mut due = |at| script.due(at).map(|one| one.words);
    assert_eq!(due(Duration::ZERO).as_deref(), Some("scale:2"));
    assert_eq!(due(Duration::ZERO), None);
    assert_eq!(due(2 * second).as_deref(), Some("reload"));
    assert_eq!(script.pause(second, look), look);
    let close = Duration::from_millis(1990);
    assert_eq!(script.pause(close, look), Duration::from_millis(10));
    assert_eq!(script.pause(3 * second, look), Duration::ZERO);
    let mut due = |at| script.due(at).map(|one| one.words);
    assert_eq!(due(2 * second).as_deref(), Some("stop"));
    assert_eq!(due(2 * second).as_deref(), Some("restart"));
    assert_eq!(due(9 * second), None);
    assert_eq!(script.pause(3 * second, look), look);
}

#[test]
fn who_listens() {
    let worker = |id, state| status::Worker {
        id,
        state,
        ..Default::default()
    };
    let status = Status {
        workers: vec![
            worker(1, State::Disconnecting),
            worker(2, State::Listening),
            worker(3, State::Forked),
            worker(4, State::Listening),
        ],
        ..Default::default()
    };
    assert_eq!(listening(&status).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn what_is_asked_for() {
    let cases = [
        ("reload", "/reload"),
        ("restart", "/restart"),
        ("stop", "/stop"),
        ("scale:3", "/scale?workers=3"),
        (
            "schedule:sticky-cookie:a",
            "/schedule?policy=sticky-cookie:a",
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(target(&fault(words).unwrap()), expected);
    }
}
