//! The link against servers of the tests' own, which say what no good server would.

use super::connection::{LIMIT, SILENCE};
use super::*;
use crate::ipc::user::Message;
use crate::net::Reactor;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(30);

const UP: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n>3\r\n$9\r\nsubscribe\r\n$8\r\nxpublish\r\n:1\r\n";

/// One end and its loop.
struct Rig {
    reactor: Reactor,
    end: End,
    relay: Relay,
    heard: Vec<Publication>,
}

impl Rig {
    fn new(port: u16) -> Self {
        Self::at(port, None)
    }

    /// One whose server has several addresses.
    fn at(port: u16, known: Option<Vec<SocketAddr>>) -> Self {
        let wanted = Wanted {
            url: Some(format!("redis://127.0.0.1:{port}")),
            prefix: Some("x".to_owned()),
        };
        let mut relay = Relay::default();
        relay.begin();
        Self {
            reactor: Reactor::new().unwrap(),
            end: End::new(wanted.target(|_| known).unwrap().unwrap()),
            relay,
            heard: Vec::new(),
        }
    }

    /// One turn, as the primary has it, at a time of the test's.
    fn turn_at(&mut self, now: Instant) {
        let registry = self.reactor.registry();
        let heard = self.end.tend(registry, now, &mut self.relay);
        self.heard.extend(heard);
        self.end.send(now, &mut self.relay);
        let soon = self.reactor.now() + Duration::from_millis(10);
        self.reactor.wait(Some(soon)).unwrap();
        let ready: Vec<_> = self.reactor.ready().collect();
        for ready in ready {
            assert_eq!(ready.token, LINK);
            if let Some(connection) = &mut self.end.connection {
                connection.is_ready(ready);
            }
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !condition(self) {
            assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
            self.turn_at(Instant::now());
        }
    }

    fn is_up(&self) -> bool {
        let connection = self.end.connection.as_ref();
        connection.is_some_and(|one| one.talk.is_up())
    }

    fn texts(&self) -> Vec<&str> {
        self.heard.iter().filter_map(Publication::text).collect()
    }
}

/// A server that does as `script` says with each connection.
fn server(
    connections: usize,
    mut script: impl FnMut(usize, TcpStream) + Send + 'static,
) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        for number in 0..connections {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            script(number, stream);
        }
    });
    (port, thread)
}

/// Reads until `words` have come.
fn read_until(stream: &TcpStream, words: &[u8]) {
    read_on(stream, Vec::new(), words);
}

/// The same where some has been read already; returns what came behind them.
fn read_on(mut stream: &TcpStream, mut all: Vec<u8>, words: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = all.windows(words.len()).position(|window| window == words) {
            return all.split_off(at + words.len());
        }
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..count]);
    }
}

/// Reads to the end, whatever that is.
fn read_out(mut stream: &TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

fn greeted(stream: &TcpStream) {
    read_until(stream, b"SUBSCRIBE\r\n$8\r\nxpublish\r\n");
}

fn written(topic: &str, text: &str) -> Vec<u8> {
    let publication = Publication::new(topic, Message::from(text));
    publication.unwrap().into_written().into_bytes()
}

/// What a server says of a publication.
fn message(origin: &[u8], written: &[u8]) -> Vec<u8> {
    let payload = [origin, written].concat();
    let head = format!(
        ">3\r\n$7\r\nmessage\r\n$8\r\nxpublish\r\n${}\r\n",
        payload.len()
    );
    [head.as_bytes(), &payload, b"\r\n"].concat()
}

#[test]
fn answers_may_be_cut_anywhere() {
    let stream = [UP, &message(&[7; ORIGIN], &written("t", "hello"))].concat();
    let cuts = stream.len();
    let (port, thread) = server(cuts, move |cut, mut socket| {
        greeted(&socket);
        socket.write_all(&stream[..cut]).unwrap();
        std::thread::yield_now();
        socket.write_all(&stream[cut..]).unwrap();
        read_out(&socket);
    });
    for cut in 0..cuts {
        let mut rig = Rig::new(port);
        rig.until("the message", |rig| !rig.heard.is_empty());
        assert_eq!((rig.texts(), cut), (vec!["hello"], cut));
        assert_eq!(rig.heard[0].topic(), "t");
    }
    thread.join().unwrap();
}

#[test]
fn what_is_published_goes_out_in_order() {
    let (port, thread) = server(1, |_, mut socket| {
        greeted(&socket);
        socket.write_all(UP).unwrap();
        let more = read_on(&socket, Vec::new(), b"\x01tlast\r\n");
        socket.write_all(b":1\r\n:0\r\n").unwrap();
        read_on(&socket, more, b"\x01tbehind\r\n");
    });
    let mut rig = Rig::new(port);
    rig.relay.push(&written("t", "too early"));
    rig.until("a greeting", Rig::is_up);
    for text in ["first", "last"] {
        rig.relay.push(&written("t", text));
    }
    rig.turn_at(Instant::now());
    rig.relay.push(&written("t", "behind"));
    rig.until("the end", |rig| rig.end.away);
    thread.join().unwrap();
}

#[test]
fn own_messages_and_nonsense_are_not_heard() {
    let (port, thread) = server(1, |_, mut socket| {
        greeted(&socket);
        socket.write_all(UP).unwrap();
        // The origin comes with what the other end publishes.
        let mut all = Vec::new();
        let end = written("t", "mine");
        let mut buffer = [0; 4096];
        let at = loop {
            let count = socket.read(&mut buffer).unwrap();
            assert!(count > 0);
            all.extend_from_slice(&buffer[..count]);
            if let Some(at) = all.windows(end.len()).position(|window| window == end) {
                break at;
            }
        };
        let origin = &all[at - ORIGIN..at];
        let said = [
            message(origin, &written("t", "mine")),
            message(b"short", b""),
            message(&[1; ORIGIN], b"\x09x"),
            message(&[1; ORIGIN], b""),
            message(&[1; ORIGIN], &written("t", "theirs")),
        ];
        socket.write_all(&said.concat()).unwrap();
        read_out(&socket);
    });
    let mut rig = Rig::new(port);
    rig.until("a greeting", Rig::is_up);
    rig.relay.push(&written("t", "mine"));
    rig.until("a message", |rig| !rig.heard.is_empty());
    assert_eq!(rig.texts(), ["theirs"]);
    drop(rig);
    thread.join().unwrap();
}

#[test]
fn after_garbage_and_hang_ups_it_connects_again() {
    let answers: [Vec<u8>; 7] = [
        Vec::new(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"-WRONGPASS no\r\n".to_vec(),
        b"+OK\r\n+OK\r\n".to_vec(),
        UP[..20].to_vec(),
        [UP, &message(&[1; ORIGIN], &written("t", "cut"))[..50]].concat(),
        [UP, &message(&[1; ORIGIN], &written("t", "whole"))].concat(),
    ];
    let count = answers.len();
    let (port, thread) = server(count, move |number, mut socket| {
        greeted(&socket);
        let _ = socket.write_all(&answers[number]);
        let _ = socket.shutdown(Shutdown::Write);
        read_out(&socket);
    });
    let mut rig = Rig::new(port);
    let begin = Instant::now();
    while rig.heard.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain");
        // Nobody waits for the next try here.
        rig.end.next_try = begin;
        rig.turn_at(Instant::now());
    }
    assert_eq!(rig.texts(), ["whole"]);
    drop(rig);
    thread.join().unwrap();
}

#[test]
fn who_is_silent_is_left_and_the_next_try_waits() {
    let (port, thread) = server(2, |number, mut socket| {
        greeted(&socket);
        if number == 1 {
            socket.write_all(UP).unwrap();
        }
        // A ping, perhaps; the end in any case.
        read_out(&socket);
    });
    let mut rig = Rig::new(port);
    let mut now = Instant::now();
    let connected = |rig: &Rig| rig.end.connection.as_ref().is_some_and(|one| one.connected);
    rig.until("a connection", connected);
    now += PATIENCE;
    rig.turn_at(now);
    assert!(rig.end.connection.is_none() && rig.end.away);
    assert_eq!(rig.end.deadline(), now + FIRST_WAIT);
    // The greeting is answered: a ping is not.
    rig.end.next_try = Instant::now();
    rig.until("a greeting", Rig::is_up);
    let heard_at = rig.end.connection.as_ref().map(|one| one.heard_at);
    now = heard_at.unwrap();
    assert_eq!(rig.end.deadline(), now + SILENCE);
    now += SILENCE;
    rig.turn_at(now);
    rig.turn_at(now);
    assert_eq!(rig.end.deadline(), now + LIMIT);
    assert!(rig.is_up());
    rig.turn_at(now + LIMIT);
    assert!(rig.end.connection.is_none() && rig.end.away);
    thread.join().unwrap();
}

#[test]
fn tries_become_seldom_while_nobody_is_there() {
    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut rig = Rig::new(port);
    let mut now = Instant::now();
    let mut waits = Vec::new();
    while waits.len() < 8 {
        rig.turn_at(now);
        if rig.end.connection.is_none() {
            let next = rig.end.deadline();
            waits.push((next - now).as_millis());
            now = next;
        }
        rig.relay.push(b"x");
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
}

#[test]
fn all_addresses_are_tried_before_it_is_away() {
    let (port, thread) = server(2, |number, mut socket| {
        greeted(&socket);
        socket.write_all(UP).unwrap();
        match number {
            0 => read_until(&socket, b"\x01tgo\r\n"),
            _ => read_out(&socket),
        }
    });
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dead = nobody.local_addr().unwrap();
    drop(nobody);
    let good = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut rig = Rig::at(port, Some(vec![dead, good]));
    let begin = Instant::now();
    while !rig.is_up() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain");
        assert!(!rig.end.away, "before all were tried");
        rig.turn_at(Instant::now());
    }
    rig.relay.push(&written("t", "go"));
    rig.until("the end", |rig| rig.end.away);
    rig.end.next_try = Instant::now();
    rig.until("another", Rig::is_up);
    assert_eq!(
        rig.end.wait,
        2 * FIRST_WAIT,
        "one wait, and that was cut short"
    );
    drop(rig);
    thread.join().unwrap();
}

#[test]
fn the_next_program_goes_on_in_the_middle() {
    let (port, thread) = server(1, |_, mut socket| {
        greeted(&socket);
        let said = message(&[1; ORIGIN], &written("t", "whole"));
        socket.write_all(&[UP, &said[..30]].concat()).unwrap();
        read_until(&socket, b"\x01tlast\r\n");
        socket.write_all(&said[30..]).unwrap();
        socket.write_all(b":0\r\n:0\r\n").unwrap();
        read_out(&socket);
    });
    let mut rig = Rig::new(port);
    let half = |rig: &Rig| {
        let connection = rig.end.connection.as_ref();
        connection.is_some_and(|one| one.talk.is_up() && one.talk.partial().len() == 30)
    };
    rig.until("half a message", half);
    for text in ["first", "last"] {
        rig.relay.push(&written("t", text));
    }
    let link = Link(Some(Box::new(rig.end)));
    let (passage, fd) = link.leave(&rig.relay).unwrap();
    let socket = fd.unwrap().try_clone_to_owned().unwrap();
    drop(link);
    let mut next = Rig::new(port);
    let mut link = Link(Some(Box::new(next.end)));
    let registry = next.reactor.registry();
    link.resume(
        registry,
        Instant::now(),
        &mut next.relay,
        &passage,
        Some(socket),
    )
    .unwrap();
    next.end = *link.0.unwrap();
    assert!(next.is_up());
    assert_eq!(next.end.unanswered(&next.relay), 2);
    next.until("the answers", |next| next.end.unanswered(&next.relay) == 0);
    assert_eq!(next.texts(), ["whole"]);
    drop(next);
    thread.join().unwrap();
}

#[test]
fn another_server_counts_what_stays_here() {
    let (port, thread) = server(1, |_, mut socket| {
        greeted(&socket);
        socket.write_all(UP).unwrap();
        read_out(&socket);
    });
    let mut rig = Rig::new(port);
    rig.until("a greeting", Rig::is_up);
    rig.relay.push(b"x");
    let link = Link(Some(Box::new(rig.end)));
    let (passage, fd) = link.leave(&rig.relay).unwrap();
    let socket = fd.unwrap().try_clone_to_owned().unwrap();
    let mut next = Rig::new(port.wrapping_add(1));
    let mut other = Link(Some(Box::new(next.end)));
    let registry = next.reactor.registry();
    other
        .resume(
            registry,
            Instant::now(),
            &mut next.relay,
            &passage,
            Some(socket),
        )
        .unwrap();
    assert!(other.0.unwrap().connection.is_none());
    assert_eq!(next.relay.missed(), 1);
    drop(link);
    thread.join().unwrap();
}

#[test]
fn a_turn_takes_only_so_many_answers() {
    let (port, thread) = server(1, |_, mut socket| {
        greeted(&socket);
        socket.write_all(UP).unwrap();
        socket.write_all(&b":1\r\n".repeat(100_000)).unwrap();
        read_out(&socket);
    });
    let mut rig = Rig::new(port);
    let values = |rig: &Rig| {
        rig.end
            .connection
            .as_ref()
            .map_or(0, |one| one.talk.values())
    };
    let begin = Instant::now();
    while values(&rig) < 100_002 {
        assert!(begin.elapsed() < PATIENCE, "waited in vain");
        let before = values(&rig);
        rig.turn_at(Instant::now());
        // And those of the read by which it noticed.
        assert!(values(&rig) - before <= 4096 + 16 * 1024);
    }
    drop(rig);
    thread.join().unwrap();
}
