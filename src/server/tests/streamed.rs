//! Bodies that their handlers read while they arrive, and bodies too large for memory.

use super::*;
use crate::app::{BodyReader, Request, Response};
use crate::http::Method;
use crate::server::conn::State;
use std::io::Read;
use std::sync::mpsc::{Receiver, channel};

/// An application that answers with what it has read, or with what went wrong.
fn reading() -> App {
    app()
        .route_streamed(Method::Post, "/all", |_: Request, mut body: BodyReader| {
            let mut all = Vec::new();
            match body.read_to_end(&mut all) {
                Ok(_) => {
                    let sum = body.trailer("sum").map(<[u8]>::to_vec);
                    let response = Response::bytes(all);
                    match sum {
                        Some(sum) => response.header("Sum", sum),
                        None => response,
                    }
                }
                Err(error) => Response::text(format!("{:?}", error.kind())).with_status(400),
            }
        })
        .route_streamed(Method::Post, "/none", |_: Request, _: BodyReader| "unread")
        .max_body("/all", 10_000_000)
        .max_body("/none", 10_000_000)
}

impl Rig {
    fn state_of_first(&self) -> Option<&State> {
        let (_, connection) = self.server.connections.iter().next()?;
        Some(&connection.state)
    }
}

fn post(path: &str, length: usize) -> String {
    request("POST", path, &format!("Content-Length: {length}\r\n"), "")
}

/// A handler that reads when it is told to, and what it reads.
fn by_steps() -> (
    App,
    std::sync::mpsc::Sender<usize>,
    Receiver<Result<usize, std::io::ErrorKind>>,
) {
    let (step, steps) = channel::<usize>();
    let (told, read) = channel();
    let (steps, told) = (std::sync::Mutex::new(steps), std::sync::Mutex::new(told));
    let app = app()
        .route_streamed(
            Method::Post,
            "/steps",
            move |_: Request, mut body: BodyReader| {
                let steps = steps.lock().unwrap();
                while let Ok(most) = steps.recv() {
                    let outcome = body.read(&mut vec![0; most]).map_err(|error| error.kind());
                    told.lock().unwrap().send(outcome).unwrap();
                    if !matches!(outcome, Ok(1..)) {
                        break;
                    }
                }
                "done"
            },
        )
        .max_body("/steps", 10_000_000);
    (app, step, read)
}

#[test]
fn a_handler_reads_while_the_body_arrives() {
    let (app, step, read) = by_steps();
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut client = rig.connect();
    rig.send(&client, post("/steps", 10) + "one");
    for (more, expected) in [("", 3), ("two", 3), ("four", 4)] {
        rig.send(&client, more);
        rig.settle();
        step.send(100).unwrap();
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), Ok(expected));
    }
    step.send(100).unwrap();
    assert_eq!(rig.answer(&mut client).text(), "done");
    assert_eq!(read.recv_timeout(PATIENCE).unwrap(), Ok(0));
    rig.alive(client);
}

#[test]
fn bodies_of_all_kinds_arrive_whole() {
    let whole = pattern(3_000_000);
    let mut chunked = Vec::new();
    for piece in whole.chunks(99_999) {
        crate::http::chunk(&mut chunked, piece);
    }
    chunked.extend_from_slice(b"0\r\nSum: 7\r\n\r\n");
    let in_chunks = request("POST", "/all", "Transfer-Encoding: chunked\r\n", "");
    for pool in [0, 2] {
        let mut rig = Rig::pooled(reading(), Limits::default(), pool);
        let mut client = rig.connect();
        for _ in 0..2 {
            let (head, next) = (post("/all", whole.len()), get("/n/1"));
            let sent = [head.as_bytes(), &whole, next.as_bytes()];
            assert!(rig.ask(&mut client, sent.concat()).body == whole);
            assert_eq!(rig.answer(&mut client).text(), "1");
            let answer = rig.ask(&mut client, [in_chunks.as_bytes(), &chunked].concat());
            assert!(answer.body == whole);
            assert_eq!(answer.get("sum"), Some("7"));
            assert_eq!(rig.ask(&mut client, post("/all", 0)).text(), "");
        }
        let late = rig.ask(&mut client, post("/all", 10_000_001));
        assert!(late.status == 413 && late.closes());
    }
}

#[test]
fn a_client_waits_for_a_handler_that_does_not_read() {
    let (app, step, read) = by_steps();
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut client = rig.connect();
    rig.send(&client, post("/steps", 5_000_000));
    let mut sent = 0;
    loop {
        let count = client.write(&vec![b'x'; 65_536.min(5_000_000 - sent)]);
        sent += count;
        rig.settle();
        if count == 0 {
            break;
        }
        assert!(sent < 2_000_000, "everything is read");
    }
    // No limit of time holds meanwhile: it is not the client's fault.
    assert_eq!(rig.server.timers.next_deadline(), None);
    let mut got = 0;
    while got < 5_000_000 {
        sent += client.write(&vec![b'x'; 65_536.min(5_000_000 - sent)]);
        rig.settle();
        step.send(50_000).unwrap();
        got += read.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    drop(step);
    assert_eq!(rig.answer(&mut client).text(), "done");
    rig.alive(client);
}

#[test]
fn a_client_is_asked_for_its_body_when_somebody_reads() {
    let (app, step, read) = by_steps();
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut client = rig.connect();
    let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    rig.send(&client, request("POST", "/steps", fields, ""));
    rig.settle();
    client.read(usize::MAX);
    assert_eq!(client.got, b"", "nobody has read yet");
    step.send(10).unwrap();
    let asked = rig.answer(&mut client);
    assert_eq!(asked.status, 100);
    rig.send(&client, "body");
    rig.settle();
    assert_eq!(read.recv_timeout(PATIENCE).unwrap(), Ok(4));
    drop(step);
    assert_eq!(rig.answer(&mut client).text(), "done");
    rig.alive(client);
    // Who answers without reading does not get it, and the connection ends.
    let mut rig = Rig::pooled(reading(), Limits::default(), 1);
    let mut client = rig.connect();
    let answer = rig.ask(&mut client, request("POST", "/none", fields, ""));
    assert!(answer.text() == "unread" && answer.closes());
    client.finish();
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn a_body_that_nobody_read_is_dropped_or_ends_the_connection() {
    let mut rig = Rig::pooled(reading(), Limits::default(), 1);
    let mut client = rig.connect();
    rig.send(&client, post("/none", 100_000));
    let answer = rig.answer(&mut client);
    assert!(answer.text() == "unread" && !answer.closes());
    rig.send(&client, pattern(100_000));
    rig.alive(client);
    let mut client = rig.connect();
    rig.send(&client, post("/none", 5_000_000));
    let answer = rig.answer(&mut client);
    assert!(answer.text() == "unread" && answer.closes());
    client.finish();
    rig.eof(&mut client);
    // Of chunks nobody knows how many will come.
    let mut client = rig.connect();
    let head = request("POST", "/none", "Transfer-Encoding: chunked\r\n", "");
    assert!(!rig.ask(&mut client, head).closes());
    let mut chunk = Vec::new();
    crate::http::chunk(&mut chunk, &pattern(200_000));
    rig.send(&client, &chunk);
    rig.send(&client, &chunk);
    rig.eof(&mut client);
    client.finish();
    rig.empty();
}

#[test]
fn what_goes_wrong_with_a_body_reaches_its_reader_and_its_client() {
    let head = request("POST", "/steps", "Transfer-Encoding: chunked\r\n", "");
    // Far longer than the handler needs to begin.
    let body_timeout = 10 * SHORT;
    let cases: [(&str, Option<u16>, std::io::ErrorKind); 3] = [
        ("X", Some(400), std::io::ErrorKind::InvalidData),
        ("", Some(408), std::io::ErrorKind::TimedOut),
        ("\r\n", None, std::io::ErrorKind::UnexpectedEof),
    ];
    for (body, status, kind) in cases {
        let (app, step, read) = by_steps();
        let limits = Limits {
            body_timeout,
            ..Limits::default()
        };
        let mut rig = Rig::pooled(app, limits, 1);
        let mut client = rig.connect();
        rig.send(&client, head.clone() + "3\r\nabc");
        rig.settle();
        // The handler has begun: its job would be skipped otherwise.
        step.send(1).unwrap();
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), Ok(1));
        rig.send(&client, body);
        if status.is_none() {
            client.finish();
        }
        // Until the connection has ended, or a limit of time has passed.
        rig.pump(|rig| !matches!(rig.state_of_first(), Some(State::Handler(_))));
        let mut last = Ok(1);
        while last.is_ok() {
            step.send(100).unwrap();
            last = read.recv_timeout(PATIENCE).unwrap();
        }
        assert_eq!(last, Err(kind));
        match status {
            Some(status) => {
                let answer = rig.answer(&mut client);
                assert!(answer.status == status && answer.closes());
                client.finish();
                rig.eof(&mut client);
            }
            None => rig.until(&mut client, |client| client.end.is_some()),
        }
        rig.empty();
    }
}

#[test]
fn a_body_that_drips_is_too_slow() {
    for path in ["/all", "/echo"] {
        let limits = Limits {
            body_timeout: SHORT,
            min_rate: 1_000_000,
            ..Limits::default()
        };
        let mut rig = Rig::pooled(reading(), limits, 1);
        let mut client = rig.connect();
        rig.send(&client, post(path, 100_000));
        let end = Instant::now() + PATIENCE;
        // Never a pause as long as the limit.
        while client.got.is_empty() {
            client.write(b"x");
            rig.turn_until(Instant::now() + SHORT / 10);
            client.read(usize::MAX);
            assert!(Instant::now() < end);
        }
        let answer = rig.answer(&mut client);
        assert!(answer.status == 408 && answer.closes(), "{path}");
        client.finish();
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn a_large_body_is_no_burden_to_memory() {
    let limits = Limits {
        body: 3_000_000,
        body_memory: 1000,
        ..Limits::default()
    };
    let app = app().post("/reverse", |request: Request| {
        let mut bytes = request.body().to_vec();
        bytes.reverse();
        bytes
    });
    let mut rig = Rig::with(app, limits);
    let mut client = rig.connect();
    for length in [999, 1000, 1001, 2_500_000] {
        let whole = pattern(length);
        let sent = [post("/echo", length).as_bytes(), &whole].concat();
        assert!(rig.ask(&mut client, sent).body == whole, "{length}");
        let sent = [post("/reverse", length).as_bytes(), &whole].concat();
        let reversed: Vec<u8> = whole.into_iter().rev().collect();
        assert!(rig.ask(&mut client, sent).body == reversed, "{length}");
    }
    rig.alive(client);
}

#[test]
fn a_route_has_a_limit_of_its_own() {
    let app = app().max_body("/echo", 10);
    let mut rig = Rig::with(app, Limits::default());
    let mut client = rig.connect();
    let sent = post("/echo", 10) + "0123456789";
    assert_eq!(rig.ask(&mut client, sent).text(), "0123456789");
    let answer = rig.ask(&mut client, post("/echo", 11));
    assert!(answer.status == 413 && answer.closes());
    let unknown = App::new().max_body("/nowhere", 10).check();
    assert!(unknown.unwrap_err().contains("/nowhere"));
}
