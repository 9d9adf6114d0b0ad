//! How connections end: draining, copies elsewhere, peers that are gone.

use super::*;
use crate::app::{after, pooled};
use std::sync::mpsc;

fn drain(rig: &mut Rig) {
    rig.begin();
    rig.server.drain(rig.reactor.registry(), false);
    rig.server.end();
}

#[test]
fn draining_closes_what_is_idle_at_once() {
    let mut rig = Rig::new(app());
    let mut idle = rig.connect();
    rig.ask(&mut idle, get("/n/1"));
    let mut other = rig.connect_tcp();
    rig.ask(&mut other, get("/n/1"));
    drain(&mut rig);
    assert!(rig.server.is_empty());
    rig.eof(&mut idle);
    rig.eof(&mut other);
    // A second time it is nothing new.
    drain(&mut rig);
    rig.empty();
}

#[test]
fn draining_answers_a_request_that_has_come_meanwhile() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    rig.ask(&mut client, get("/n/1"));
    assert_eq!(client.write(get("/n/2").as_bytes()), get("/n/2").len());
    rig.server.drain(rig.reactor.registry(), false);
    let answer = rig.answer(&mut client);
    assert_eq!((answer.text(), answer.closes()), ("2", true));
    client.finish();
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn draining_finishes_what_is_in_flight() {
    let app = app()
        .get("/pooled", pooled(|_| "pooled"))
        .get("/after", |_| after(SHORT, || "after"));
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut pooled = rig.connect_after(get("/pooled").as_bytes());
    let mut after = rig.connect_after((get("/after") + &get("/n/1")).as_bytes());
    let mut head = rig.connect_after(b"GET /n/3 HTTP/1.1\r\n");
    let half = request("POST", "/echo", "Content-Length: 4\r\n", "bo");
    let mut body = rig.connect_after(half.as_bytes());
    let mut large = rig.connect_narrow();
    let bytes = pattern(100_000);
    let echo = request("POST", "/echo", "Content-Length: 100000\r\n", "");
    rig.send(&large, echo);
    rig.send(&large, &bytes);
    rig.settle();
    drain(&mut rig);
    rig.send(&head, "Host: x\r\n\r\n");
    rig.send(&body, "dy");
    for (client, expected) in [
        (&mut pooled, &b"pooled"[..]),
        (&mut after, b"after"),
        (&mut head, b"3"),
        (&mut body, b"body"),
        (&mut large, &bytes),
    ] {
        let answer = rig.answer(client);
        assert!(answer.body == expected);
        // What had begun to go out before could not say that it is the last.
        assert!(answer.closes() || expected.len() > 10 || expected == b"pooled");
        client.finish();
        rig.eof(client);
    }
    rig.empty();
}

#[test]
fn a_connection_without_a_request_yet_gets_a_moment_when_draining() {
    let mut rig = Rig::new(app());
    let mut quick = rig.connect();
    let mut silent = rig.connect();
    drain(&mut rig);
    let answer = rig.ask(&mut quick, get("/n/1"));
    assert_eq!((answer.text(), answer.closes()), ("1", true));
    // Handed over before the primary knew.
    let mut fresh = rig.connect();
    assert_eq!(rig.ask(&mut fresh, get("/n/2")).text(), "2");
    for client in [&mut quick, &mut fresh] {
        client.finish();
        rig.eof(client);
    }
    rig.eof(&mut silent);
    rig.empty();
    assert_eq!(rig.counters().requests, 2);
}

#[test]
fn draining_takes_what_waits_at_the_listener_and_then_refuses() {
    let mut rig = Rig::new(app());
    let (listener, address) = listener();
    rig.server
        .listen(rig.reactor.registry(), listener, LISTENER)
        .unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut client = rig.client(stream.into());
    // It waits in the kernel's queue, and nobody has looked.
    let end = Instant::now() + PATIENCE;
    while !rig.reactor.ready().any(|ready| ready.token == LISTENER) {
        rig.reactor.wait(Some(end)).unwrap();
        assert!(Instant::now() < end);
    }
    assert!(rig.server.is_empty());
    rig.server.drain(rig.reactor.registry(), false);
    assert_eq!(rig.counters().open, 1);
    assert!(TcpStream::connect(address).is_err());
    let answer = rig.ask(&mut client, get("/n/1"));
    assert_eq!((answer.text(), answer.closes()), ("1", true));
    client.finish();
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn a_handed_connection_ends_though_another_copy_is_open() {
    let mut rig = Rig::new(app());
    let (theirs, ours) = socket::pair_stream().unwrap();
    let copy = theirs.try_clone().unwrap();
    let mut client = rig.client(ours);
    rig.adopt(theirs, Peer::Unix);
    let answer = rig.ask(
        &mut client,
        request("GET", "/", "Connection: close\r\n", ""),
    );
    assert!(answer.closes());
    rig.eof(&mut client);
    rig.empty();
    drop(copy);
}

#[test]
fn late_events_of_a_closed_connection_are_nobodys() {
    let mut rig = Rig::new(app());
    let (theirs, ours) = socket::pair_stream().unwrap();
    let copy = theirs.try_clone().unwrap();
    let client = rig.client(ours);
    rig.adopt(theirs, Peer::Unix);
    let old = rig.server.connections.iter().next().unwrap().1.key;
    client.finish();
    rig.empty();
    // The place in the table is another's now, and the copy is still in the set.
    let other = rig.connect();
    let new = rig.server.connections.iter().next().unwrap().1.key;
    assert_eq!(old.index, new.index);
    assert_ne!(old.generation, new.generation);
    drop(client);
    rig.settle();
    for key in [
        old,
        Key {
            index: 99,
            generation: old.generation,
        },
    ] {
        let late = Ready {
            token: key.token(),
            readable: true,
            writable: true,
            read_closed: true,
            gone: true,
        };
        rig.server.ready(rig.reactor.registry(), late);
    }
    assert_eq!(rig.counters().open, 1);
    rig.alive(other);
    drop(copy);
}

/// A client that is gone in the middle of something; `tcp` with an answer that it has not read,
/// so that its going is a reset.
fn gone(rig: &mut Rig, text: &str) {
    for tcp in [false, true] {
        let client = if tcp {
            rig.connect_tcp()
        } else {
            rig.connect()
        };
        if tcp {
            let requests = rig.counters().requests;
            rig.send(&client, get("/n/1"));
            rig.pump(|rig| rig.counters().requests > requests);
        }
        let input = rig.counters().bytes_in + text.len() as u64;
        rig.send(&client, text);
        rig.pump(|rig| rig.counters().bytes_in >= input);
        drop(client);
        rig.empty();
    }
}

#[test]
fn a_peer_may_go_in_any_state() {
    let app = app()
        .get("/late", |_| after(Duration::from_secs(3600), || "late"))
        .get("/large", |_| pattern(10_000_000))
        .get("/endless", |_| {
            crate::app::Response::stream(std::iter::repeat_with(|| pattern(1000)))
        });
    let mut rig = Rig::new(app);
    for text in [
        String::new(),
        "GET / HTTP/1.1\r\n".to_owned(),
        request("POST", "/echo", "Content-Length: 4\r\n", "ab"),
        request("POST", "/echo", "Transfer-Encoding: chunked\r\n", "4\r\nab"),
        request(
            "POST",
            "/echo",
            "Content-Length: 4\r\nExpect: 100-continue\r\n",
            "",
        ),
        get("/late"),
        get("/late") + &get("/n/1"),
        get("/large"),
        get("/endless"),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        gone(&mut rig, &text);
    }
    let client = rig.connect();
    rig.alive(client);
}

#[test]
fn a_peer_may_go_while_the_pool_works_for_it() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (begun, begins) = mpsc::channel();
    let app = app().get(
        "/held",
        pooled(move |_| {
            begun.send(()).unwrap();
            // The sender is gone, or says that it is time; both are the end.
            let _ = released.lock().unwrap().recv();
            "held"
        }),
    );
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let client = rig.connect_after(get("/held").as_bytes());
    begins.recv_timeout(PATIENCE).unwrap();
    drop(client);
    rig.empty();
    drop(release);
    let client = rig.connect();
    rig.alive(client);
}

#[test]
fn a_client_that_only_half_closed_still_waits_for_its_answer() {
    let mut rig = Rig::new(app().get("/late", |_| after(SHORT, || "late")));
    let mut client = rig.connect_tcp();
    rig.send(&client, get("/late"));
    client.finish();
    rig.settle();
    assert_eq!(rig.counters().in_flight, 1);
    assert_eq!(rig.answer(&mut client).text(), "late");
    rig.eof(&mut client);
    rig.empty();
}
