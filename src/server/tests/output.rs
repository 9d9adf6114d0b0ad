//! Answers larger than a buffer, and clients that take them slowly or not at all.

use super::*;
use crate::app::{Body, Response};
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than is copied behind a head.
static LARGE: [u8; 40_000] = {
    let mut bytes = [0; 40_000];
    let mut n = 0;
    while n < bytes.len() {
        bytes[n] = (n % 253) as u8;
        n += 1;
    }
    bytes
};

/// Takes an answer of `size` bytes and more in sips of `sip` bytes, a turn of the loop between two.
fn sip(rig: &mut Rig, client: &mut Client, sip: usize, size: usize) -> Answer {
    let end = Instant::now() + PATIENCE;
    while client.got.len() < size {
        let before = client.got.len();
        client.read(sip);
        // It waits only for a client that has taken all there was.
        let waits = client.got.len() == before;
        rig.turn_until(if waits { end } else { Instant::now() });
        assert!(Instant::now() < end && client.end.is_none());
    }
    rig.answer(client)
}

#[test]
fn large_bodies_are_sent_from_where_they_lie() {
    let app = app()
        .get("/static", |_| &LARGE[..])
        .get("/owned", |_| LARGE.to_vec())
        .get("/edge/{n}", |request: crate::app::Request| {
            let length: usize = request.param("n").unwrap().parse().unwrap();
            pattern(length)
        });
    let mut rig = Rig::new(app);
    let mut client = rig.connect();
    let mut narrow = rig.connect_narrow();
    for client in [&mut client, &mut narrow] {
        let all: String = ["/static", "/n/1", "/owned", "/owned", "/static"]
            .into_iter()
            .map(get)
            .collect();
        rig.send(client, all);
        for expected in [&LARGE[..], b"1", &LARGE, &LARGE, &LARGE] {
            assert!(rig.answer(client).body == expected);
        }
    }
    for length in [16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1] {
        let answer = rig.ask(&mut client, get(&format!("/edge/{length}")));
        assert!(answer.body == pattern(length), "{length}");
    }
    drop(narrow);
    rig.pump(|rig| rig.server.connections.len() == 1);
    rig.alive(client);
}

#[test]
fn ten_megabytes_reach_a_slow_reader_whole() {
    let whole = pattern(10_000_000);
    let body = whole.clone();
    let mut rig = Rig::new(app().get("/large", move |_| body.clone()));
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/large") + &get("/n/1"));
    assert!(sip(&mut rig, &mut client, 3000, whole.len()).body == whole);
    assert_eq!(rig.answer(&mut client).text(), "1");
    let mut other = rig.connect_tcp();
    rig.send(&other, get("/large") + &get("/n/1"));
    assert!(sip(&mut rig, &mut other, 100_000, whole.len()).body == whole);
    assert_eq!(rig.answer(&mut other).text(), "1");
    assert!(rig.counters().bytes_out > 20_000_000);
    drop(other);
    rig.pump(|rig| rig.server.connections.len() == 1);
    rig.alive(client);
}

#[test]
fn a_stream_goes_out_in_chunks() {
    let pieces = || {
        let sizes = [0, 1, 0, 16 * 1024, 16 * 1024 + 1, 100_000, 3, 0];
        sizes.into_iter().map(pattern)
    };
    let whole: Vec<u8> = pieces().flatten().collect();
    let app = app()
        .get("/stream", move |_| Response::stream(pieces()))
        .get("/empty", |_| Response::stream(Vec::<String>::new()));
    let mut rig = Rig::new(app);
    let mut client = rig.connect();
    let mut narrow = rig.connect_narrow();
    for client in [&mut client, &mut narrow] {
        rig.send(client, get("/stream") + &get("/n/1") + &get("/empty"));
        let answer = rig.answer(client);
        assert!(answer.body == whole);
        assert_eq!(answer.get("transfer-encoding"), Some("chunked"));
        assert_eq!(rig.answer(client).text(), "1");
        let answer = rig.answer(client);
        assert_eq!(
            (answer.text(), answer.get("transfer-encoding")),
            ("", Some("chunked"))
        );
    }
    drop(narrow);
    rig.pump(|rig| rig.server.connections.len() == 1);
    rig.alive(client);
}

#[test]
fn a_stream_to_http_1_0_ends_with_the_connection() {
    for fields in ["", "Connection: keep-alive\r\n"] {
        let pieces = || [10, 100_000, 20].into_iter().map(pattern);
        let whole: Vec<u8> = pieces().flatten().collect();
        let mut rig = Rig::new(app().get("/stream", move |_| Response::stream(pieces())));
        let mut client = rig.connect();
        rig.send(&client, format!("GET /stream HTTP/1.0\r\n{fields}\r\n"));
        let answer = rig.answer(&mut client);
        assert!(answer.body == whole);
        assert_eq!(answer.get("transfer-encoding"), None);
        assert_eq!(answer.get("content-length"), None);
        assert!(answer.closes());
        client.finish();
        rig.eof(&mut client);
        rig.empty();
    }
}

/// An endless stream, and how many pieces of it were asked for.
fn endless(piece: usize) -> (App, Arc<AtomicUsize>) {
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pulled);
    let app = app().get("/endless", move |_| {
        let count = Arc::clone(&count);
        Response::stream(std::iter::repeat_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
            pattern(piece)
        }))
    });
    (app, pulled)
}

#[test]
fn a_stream_is_asked_for_no_more_than_its_client_takes() {
    for piece in [100, 10_000, 100_000] {
        let (app, pulled) = endless(piece);
        let mut rig = Rig::new(app);
        let mut client = rig.connect_narrow();
        rig.send(&client, get("/endless"));
        rig.settle();
        // What the socket holds, one write's worth, and the piece that went over.
        let most = 32 * 1024 + 64 * 1024 + piece;
        assert!(pulled.load(Ordering::Relaxed) * piece <= most, "{piece}");
        let before = pulled.load(Ordering::Relaxed);
        rig.until(&mut client, |client| client.got.len() > 1_000_000);
        rig.settle();
        let more = (pulled.load(Ordering::Relaxed) - before) * piece;
        assert!(more <= client.got.len() + most, "{piece}");
        drop(client);
        rig.empty();
    }
}

#[test]
fn an_endless_stream_leaves_time_for_others() {
    // A client that takes as fast as it is given, so that the stream never has to wait.
    let (app, pulled) = endless(100);
    let mut rig = Rig::new(app);
    let mut greedy = rig.connect();
    rig.send(&greedy, get("/endless"));
    rig.turn();
    assert!((1..=2 * 64).contains(&pulled.load(Ordering::Relaxed)));
    for _ in 0..20 {
        rig.turn();
        greedy.read(usize::MAX);
    }
    assert!(greedy.got.len() > 20 * 64 * 100);
    let mut other = rig.connect();
    assert_eq!(rig.ask(&mut other, get("/n/1")).text(), "1");
}

#[test]
fn a_stream_that_panics_cuts_its_answer_short() {
    let app = app().get("/stream", |_| {
        Response::stream((0..10).map(|n| {
            assert!(n < 5, "five is enough");
            "piece".to_owned()
        }))
    });
    let mut rig = Rig::new(app);
    let mut client = rig.connect();
    rig.send(&client, get("/stream"));
    rig.until(&mut client, |client| client.end.is_some());
    let text = String::from_utf8(client.got.clone()).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(Answer::parse(&client.got, false, true).is_none());
    rig.empty();
    let client = rig.connect();
    rig.alive(client);
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_either() {
    let mut rig = Rig::new(app().get("/body", |_| {
        Response::text("x").with_body(Body::Static(&LARGE))
    }));
    let mut client = rig.connect_narrow();
    let all = get("/body").repeat(50);
    assert_eq!(client.write(all.as_bytes()), all.len());
    rig.settle();
    assert_eq!(rig.counters().requests, 1);
    for _ in 0..50 {
        assert!(rig.answer(&mut client).body == LARGE);
    }
    rig.alive(client);
}
