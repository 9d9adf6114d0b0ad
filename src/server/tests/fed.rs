//! Answers that come in pieces: parts of files, and what other threads send.

use super::*;
use crate::app::{Body, Pieces, Response, Sender};
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// A file without a name.
fn file(bytes: &[u8]) -> Arc<File> {
    let memory = nix::sys::memfd::memfd_create("pieces", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let mut file = File::from(memory.unwrap());
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

fn pieces(pieces: Pieces) -> Response {
    Response::bytes("").with_body(Body::Pieces(pieces))
}

/// Where a handler leaves the sender of its answer.
type Left = Arc<Mutex<Option<Sender>>>;

fn fed(left: &Left, heartbeat: Option<Duration>) -> App {
    let left = Arc::clone(left);
    app().get("/fed", move |_| {
        let (sender, response) = match heartbeat {
            None => Response::channel(),
            Some(every) => Response::channel_with_heartbeat(every, b":\n"),
        };
        *left.lock().unwrap() = Some(sender);
        response
    })
}

#[test]
fn parts_of_files_and_bytes_make_one_body() {
    let large = pattern(3_000_000);
    let source = file(&large);
    let expected: Vec<u8> = [
        &b"begin"[..],
        &large[7..2_000_007],
        b"middle",
        &large[2_999_000..],
        &vec![b'x'; 50_000],
        &large[..10],
    ]
    .concat();
    let mut rig = Rig::new(app().get("/pieces", move |_| {
        let file = |pieces: Pieces, at, length| pieces.file(Arc::clone(&source), at, length);
        let body = file(Pieces::default().bytes("begin"), 7, 2_000_000);
        let body = file(body.bytes("middle"), 2_999_000, 1000);
        pieces(file(body.bytes(vec![b'x'; 50_000]), 0, 10))
    }));
    let mut client = rig.connect();
    let mut narrow = rig.connect_narrow();
    for client in [&mut client, &mut narrow] {
        rig.send(client, get("/pieces") + &get("/n/1"));
        let answer = rig.answer(client);
        assert_eq!(answer.get("content-length"), Some("2051021"));
        assert!(answer.body == expected);
        assert_eq!(rig.answer(client).text(), "1");
    }
    rig.send(&client, request("HEAD", "/pieces", "", ""));
    let head = rig.next(&mut client, true);
    assert_eq!(head.get("content-length"), Some("2051021"));
    drop(narrow);
    rig.pump(|rig| rig.server.connections.len() == 1);
    rig.alive(client);
}

#[test]
fn a_small_file_goes_out_with_its_head() {
    let source = file(b"small");
    let mut rig = Rig::new(app().get("/small", move |_| {
        pieces(Pieces::default().file(Arc::clone(&source), 1, 3))
    }));
    let mut client = rig.connect();
    assert_eq!(rig.ask(&mut client, get("/small")).text(), "mal");
    rig.alive(client);
}

#[test]
fn a_file_that_shrinks_ends_its_connection_alone() {
    for (length, promised) in [(1_000_000, 2_000_000), (10, 20), (0, 5)] {
        let source = file(&pattern(length));
        let mut rig = Rig::new(app().get("/file", move |_| {
            pieces(Pieces::default().file(Arc::clone(&source), 0, promised))
        }));
        let mut client = rig.connect();
        rig.send(&client, get("/file"));
        rig.until(&mut client, |client| client.end.is_some());
        let head_end = client.got.windows(4).position(|four| four == b"\r\n\r\n");
        let sent = client.got.len() - head_end.map_or(client.got.len(), |at| at + 4);
        assert!(sent <= length, "{sent} of {length}");
        let other = rig.connect();
        rig.alive(other);
    }
}

#[test]
fn another_thread_feeds_a_body() {
    let left = Left::default();
    let mut rig = Rig::new(fed(&left, None));
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/fed") + &get("/n/1"));
    rig.pump(|_| left.lock().unwrap().is_some());
    let sender = left.lock().unwrap().take().unwrap();
    let whole: Vec<u8> = (0..200).flat_map(|n| pattern(1 + n * 97)).collect();
    let maker = std::thread::spawn(move || {
        for n in 0..200 {
            sender.send(pattern(1 + n * 97)).unwrap();
        }
    });
    let answer = rig.answer(&mut client);
    assert!(answer.body == whole);
    assert_eq!(rig.answer(&mut client).text(), "1");
    maker.join().unwrap();
    rig.alive(client);
}

#[test]
fn a_maker_learns_that_its_client_is_gone() {
    let left = Left::default();
    let mut rig = Rig::new(fed(&left, None));
    let mut client = rig.connect();
    rig.send(&client, get("/fed"));
    rig.until(&mut client, |client| !client.got.is_empty());
    let sender = left.lock().unwrap().take().unwrap();
    assert!(!sender.is_closed());
    drop(client);
    rig.pump(|_| sender.is_closed());
    assert!(sender.send("late").is_err());
    rig.empty();
}

#[test]
fn a_body_that_is_given_up_does_not_look_whole() {
    let left = Left::default();
    let mut rig = Rig::new(fed(&left, None));
    let mut client = rig.connect();
    rig.send(&client, get("/fed"));
    rig.until(&mut client, |client| !client.got.is_empty());
    let sender = left.lock().unwrap().take().unwrap();
    sender.send("part").unwrap();
    sender.abort();
    rig.until(&mut client, |client| client.end.is_some());
    assert!(client.got.ends_with(b"4\r\npart\r\n"), "{:?}", client.got);
    rig.empty();
}

#[test]
fn a_silent_stream_gives_signs_of_life_and_ends_with_its_loop() {
    let left = Left::default();
    let mut rig = Rig::new(fed(&left, Some(SHORT)));
    let mut client = rig.connect();
    rig.send(&client, get("/fed"));
    rig.until(&mut client, |client| {
        client.got.ends_with(b"2\r\n:\n\r\n2\r\n:\n\r\n")
    });
    let sender = left.lock().unwrap().take().unwrap();
    sender.send("told").unwrap();
    rig.until(&mut client, |client| {
        client.got.ends_with(b"told\r\n2\r\n:\n\r\n")
    });
    let registry = rig.reactor.registry();
    rig.server.drain(registry, true);
    rig.until(&mut client, |client| client.got.ends_with(b"0\r\n\r\n"));
    rig.pump(|_| sender.is_closed());
    assert_eq!(rig.server.take_given_back(8).len(), 1);
}

#[test]
fn a_client_that_sips_is_cut_off() {
    let limits = Limits {
        write_timeout: SHORT,
        min_rate: 100_000_000,
        ..Limits::default()
    };
    let body = pattern(4_000_000);
    let mut rig = Rig::with(app().get("/large", move |_| body.clone()), limits);
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/large"));
    let end = Instant::now() + PATIENCE;
    // It never pauses for long, and is too slow all the same.
    while client.end.is_none() {
        client.read(1000);
        rig.turn_until(Instant::now() + SHORT / 10);
        assert!(Instant::now() < end);
    }
    assert!(client.got.len() < 4_000_000);
    rig.empty();
}

#[test]
fn a_sign_of_life_waits_for_a_client_that_does_not_read() {
    let left = Left::default();
    let mut rig = Rig::new(fed(&left, Some(SHORT)));
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/fed"));
    rig.pump(|_| left.lock().unwrap().is_some());
    let sender = left.lock().unwrap().take().unwrap();
    while sender.try_send(pattern(8000)).is_ok() {
        rig.settle();
    }
    // Past the time of the next sign.
    let mut other = rig.connect();
    let end = Instant::now() + 3 * SHORT;
    while Instant::now() < end {
        rig.turn_until(end);
        assert_eq!(rig.ask(&mut other, get("/")).text(), "home");
    }
    assert!(!client.got.ends_with(b":\n\r\n"));
    drop(sender);
    rig.until(&mut client, |client| client.got.ends_with(b"0\r\n\r\n"));
    drop(client);
    rig.pump(|rig| rig.server.connections.len() == 1);
    rig.alive(other);
}

#[test]
fn many_small_parts_of_a_file_do_not_become_memory() {
    let source = file(&pattern(20_000));
    let mut rig = Rig::new(app().get("/parts", move |_| {
        let parts = (0..200).map(|_| Arc::clone(&source));
        pieces(parts.fold(Pieces::default(), |all, file| all.file(file, 0, 16_000)))
    }));
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/parts"));
    rig.settle();
    let (_, connection) = rig.server.connections.iter().next().unwrap();
    let waiting = connection.output.as_ref().unwrap().bytes_in_memory();
    assert!(waiting <= 32 * 1024, "{waiting}");
    let answer = rig.answer(&mut client);
    assert_eq!(answer.body.len(), 200 * 16_000);
    rig.alive(client);
}
