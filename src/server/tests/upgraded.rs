//! Another protocol on a connection, after HTTP.

use super::*;
use crate::app::{After, Protocol, Response};
use crate::net::Line;
use std::sync::{Arc, Mutex};

/// What a test sees of its protocol, and says through it.
#[derive(Default)]
struct Seen {
    line: Option<Line>,
    says: Vec<u8>,
    drained: bool,
    expired: u32,
    ended: bool,
    deadline: Option<Instant>,
}

/// Answers in capitals, and ends at a full stop.
struct Loud(Arc<Mutex<Seen>>);

impl Protocol for Loud {
    fn begin(&mut self, line: Line, _now: Instant) {
        self.0.lock().unwrap().line = Some(line);
    }

    fn received(&mut self, bytes: &[u8], _now: Instant, out: &mut Vec<u8>) -> After {
        out.extend_from_slice(&bytes.to_ascii_uppercase());
        match bytes.contains(&b'.') {
            true => After::Finish,
            false => After::Continue,
        }
    }

    fn fill(&mut self, _now: Instant, out: &mut Vec<u8>) -> After {
        out.append(&mut self.0.lock().unwrap().says);
        After::Continue
    }

    fn expired(&mut self, _now: Instant, out: &mut Vec<u8>) -> After {
        let mut seen = self.0.lock().unwrap();
        seen.expired += 1;
        seen.deadline = None;
        out.extend_from_slice(b"late ");
        After::Continue
    }

    fn drain(&mut self, _now: Instant, out: &mut Vec<u8>) -> After {
        self.0.lock().unwrap().drained = true;
        out.extend_from_slice(b"bye");
        After::Finish
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.lock().unwrap().deadline
    }

    fn ended(&mut self) {
        self.0.lock().unwrap().ended = true;
    }
}

fn rig() -> (Rig, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let given = Arc::clone(&seen);
    let rig = Rig::new(app().get("/loud", move |_| {
        Response::new(200)
            .header("Loudly", "yes")
            .switch("loud", Box::new(Loud(Arc::clone(&given))))
    }));
    (rig, seen)
}

const HEAD: &str =
    "GET /loud HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: loud\r\n\r\n";

fn upgrade(rig: &mut Rig, client: &mut Client, rest: &str) {
    let answer = rig.ask(client, HEAD.to_owned() + rest);
    assert_eq!(answer.status, 101);
    assert_eq!(answer.get("upgrade"), Some("loud"));
    assert_eq!(answer.get("connection"), Some("Upgrade"));
    assert_eq!(answer.get("loudly"), Some("yes"));
    assert_eq!(answer.get("content-length"), None);
}

fn got(rig: &mut Rig, client: &mut Client, expected: &str) {
    rig.until(client, |client| client.got.len() >= expected.len());
    assert_eq!(String::from_utf8_lossy(&client.got), expected);
    client.got.clear();
}

#[test]
fn it_has_what_came_with_the_request_and_all_after_it() {
    let (mut rig, seen) = rig();
    let mut client = rig.connect();
    upgrade(&mut rig, &mut client, "first");
    got(&mut rig, &mut client, "FIRST");
    rig.send(&client, "second");
    got(&mut rig, &mut client, "SECOND");
    let large = "x".repeat(300_000);
    rig.send(&client, &large);
    got(&mut rig, &mut client, &large.to_uppercase());
    assert!(!seen.lock().unwrap().ended);
    rig.send(&client, "end.");
    got(&mut rig, &mut client, "END.");
    assert!(seen.lock().unwrap().ended);
    client.finish();
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn another_thread_has_it_speak() {
    let (mut rig, seen) = rig();
    let mut client = rig.connect();
    upgrade(&mut rig, &mut client, "");
    let line = seen.lock().unwrap().line.clone().unwrap();
    seen.lock().unwrap().says = b"unasked".to_vec();
    std::thread::spawn(move || line.ring()).join().unwrap();
    got(&mut rig, &mut client, "unasked");
    drop(client);
    rig.pump(|_| seen.lock().unwrap().ended);
    rig.empty();
}

#[test]
fn its_time_comes_also_when_that_moved_to_sooner() {
    let (mut rig, seen) = rig();
    let mut client = rig.connect();
    seen.lock().unwrap().deadline = Some(Instant::now() + PATIENCE * 10);
    upgrade(&mut rig, &mut client, "");
    seen.lock().unwrap().deadline = Some(Instant::now() + SHORT);
    rig.send(&client, "a");
    got(&mut rig, &mut client, "Alate ");
    assert_eq!(seen.lock().unwrap().expired, 1);
    drop(client);
    rig.empty();
}

#[test]
fn it_says_goodbye_when_its_loop_ends() {
    for hand_back in [true, false] {
        let (mut rig, seen) = rig();
        let mut client = rig.connect();
        upgrade(&mut rig, &mut client, "");
        let registry = rig.reactor.registry();
        rig.server.drain(registry, hand_back);
        got(&mut rig, &mut client, "bye");
        client.finish();
        rig.eof(&mut client);
        rig.empty();
        assert!(seen.lock().unwrap().drained && seen.lock().unwrap().ended);
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_listened_to() {
    let (mut rig, _seen) = rig();
    let mut client = rig.connect_narrow();
    upgrade(&mut rig, &mut client, "");
    // As much as fits into the socket, and then no more.
    let mut sent = 0;
    loop {
        let count = client.write(&[b'y'; 4096]);
        sent += count;
        rig.settle();
        if count == 0 {
            break;
        }
        assert!(sent < 10_000_000, "everything is listened to");
    }
    rig.until(&mut client, |client| client.got.len() == sent);
    assert!(client.got.iter().all(|&byte| byte == b'Y'));
    drop(client);
    rig.empty();
}

#[test]
fn a_peer_that_does_not_read_holds_up_nobody_when_its_time_comes() {
    let (mut rig, seen) = rig();
    let mut client = rig.connect_narrow();
    upgrade(&mut rig, &mut client, "");
    while client.write(&[b'y'; 4096]) > 0 {
        rig.settle();
    }
    seen.lock().unwrap().deadline = Some(Instant::now());
    let mut other = rig.connect();
    for _ in 0..10 {
        assert_eq!(rig.ask(&mut other, get("/")).text(), "home");
    }
    assert_eq!(seen.lock().unwrap().expired, 0, "nobody could be told");
    drop(client);
    rig.pump(|_| seen.lock().unwrap().ended);
    rig.alive(other);
}

/// Always has more to say.
struct Flood;

impl Protocol for Flood {
    fn begin(&mut self, _: Line, _: Instant) {}

    fn received(&mut self, _: &[u8], _: Instant, _: &mut Vec<u8>) -> After {
        After::Continue
    }

    fn fill(&mut self, _: Instant, out: &mut Vec<u8>) -> After {
        out.resize(64 * 1024, b'f');
        After::More
    }

    fn expired(&mut self, _: Instant, _: &mut Vec<u8>) -> After {
        After::Continue
    }

    fn drain(&mut self, _: Instant, _: &mut Vec<u8>) -> After {
        After::Finish
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn ended(&mut self) {}
}

#[test]
fn it_has_its_share_of_a_turn_however_fast_its_peer_is() {
    let mut rig = Rig::new(app().get("/flood", |_| {
        Response::new(200).switch("flood", Box::new(Flood))
    }));
    let client = rig.connect();
    rig.send(
        &client,
        request(
            "GET",
            "/flood",
            "Connection: upgrade\r\nUpgrade: flood\r\n",
            "",
        ),
    );
    let reader = std::thread::spawn(move || {
        let mut client = client;
        while client.end.is_none() && client.got.len() < 20_000_000 {
            client.read(1 << 20);
        }
    });
    let mut before = rig.counters().bytes_out;
    while !reader.is_finished() {
        rig.turn();
        let after = rig.counters().bytes_out;
        // By its event, and once more as one that had not finished.
        assert!(
            after - before <= 2 * 640 * 1024,
            "{} in one turn",
            after - before
        );
        before = after;
    }
    reader.join().unwrap();
}
