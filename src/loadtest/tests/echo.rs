//! Echo round trips, against a server of a few lines.

use super::*;
use crate::loadtest::{Agent, Trouble};
use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};
use std::io::Read;

/// Agrees to a WebSocket; whether it was asked to.
fn agree(client: &mut Client) -> bool {
    let mut key = String::new();
    loop {
        let mut line = String::new();
        if client.reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        match line.split_once(": ") {
            Some(("Sec-WebSocket-Key", value)) => key = value.trim_end().to_owned(),
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    let proof = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        Base64::encode_string(&proof)
    );
    client.say(head.as_bytes())
}

/// A short frame: its first byte and its payload.
fn frame(client: &mut Client) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    client.reader.read_exact(&mut head).ok()?;
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    client.reader.read_exact(&mut payload).ok()?;
    for (byte, mask) in payload.iter_mut().zip(head[2..].iter().cycle()) {
        *byte ^= mask;
    }
    Some((head[0], payload))
}

/// Sends each message back after what is said `before` it, so many times at most.
fn echo(client: &mut Client, before: &[u8], most: usize) {
    if !agree(client) {
        return;
    }
    let mut count = 0;
    while let Some((first, payload)) = frame(client) {
        match first {
            0x81 => {
                client.seen.fetch_add(1, Ordering::SeqCst);
                let mut back = before.to_vec();
                back.extend([0x81, payload.len() as u8]);
                back.extend(payload);
                client.say(&back);
                count += 1;
            }
            0x88 => {
                client.say(b"\x88\x00");
                return;
            }
            _ => assert_eq!((first, &payload[..]), (0x8a, &b"hey"[..])),
        }
        if count == most {
            return;
        }
    }
}

fn plan(server: &Server) -> Loadtest {
    Loadtest::new(&format!("ws://{}/", server.address)).cores(1)
}

#[test]
fn messages_come_back() {
    let server = Server::new(|client| echo(client, b"\x89\x03hey", usize::MAX));
    let mut expected = 0;
    for (connections, pipeline, cores) in [(1, 1, 1), (5, 1, 2), (3, 4, 1)] {
        let plan = plan(&server).requests(200).concurrency(connections);
        let plan = plan.pipeline(pipeline).cores(cores).body("how are you");
        let report = plan.run().unwrap();
        expected += 200;
        assert_eq!(
            (report.completed, report.total_errors),
            (200, 0),
            "{report:?}"
        );
        assert_eq!(report.statuses[&101], 200);
        assert_eq!(report.agent, Agent::WebSocket);
        // One of several threads that begins late finds nothing left to do.
        let all = connections as u64;
        let least = if cores == 1 { all } else { 1 };
        assert!((least..=all).contains(&report.connections), "{report:?}");
        assert_eq!(server.seen(), expected);
        assert_adds_up(&report);
    }
}

#[test]
fn wrong_echoes_and_closed_ones() {
    // Without a body the message says hello.
    let server = Server::new(|client| {
        if agree(client) && frame(client).is_some_and(|(_, payload)| payload == b"hello") {
            client.say(b"\x81\x05jello");
        }
    });
    let report = plan(&server).requests(6).concurrency(2).run().unwrap();
    assert_eq!(report.errors.of(Trouble::Parse), 6, "{report:?}");
    assert_adds_up(&report);

    let server = Server::new(|client| echo(client, b"", 2));
    let report = plan(&server).requests(9).concurrency(1).run().unwrap();
    assert_eq!((report.completed, report.retried), (9, 0), "{report:?}");
    // A message that was on its way when the server left is lost; none is, where it left before.
    let lost = report.errors.of(Trouble::Closed) + report.errors.of(Trouble::Reset);
    assert!(lost == report.total_errors && lost <= 3, "{report:?}");
    assert_adds_up(&report);
}

#[test]
fn who_speaks_no_websocket() {
    let server = Server::new(|client| {
        if client.take() {
            client.say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let report = plan(&server).requests(4).concurrency(2).run().unwrap();
    assert_eq!(
        (report.statuses[&404], report.total_errors),
        (4, 4),
        "{report:?}"
    );
    let server = Server::polite();
    let report = plan(&server).requests(4).concurrency(2).run().unwrap();
    assert_eq!(report.errors.of(Trouble::Parse), 4, "{report:?}");
}
