//! WebSocket from outside: handshakes, echoes, every violation with its close code, limits, and
//! what becomes of connections when their worker goes.

use crate::client::Client;
use crate::support::{Mode, Server, both_modes};
use crate::websocket::{BINARY, CLOSE, Frame, HANDSHAKE, Socket, TEXT};
use crate::websocket::{close, frame, header};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::time::Duration;

const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

const ONE: &[&str] = &["--workers", "1"];

/// What is sent, what comes back before the Close, and its code; each case as Autobahn's suite
/// has it, by section.
type Case = (&'static str, Vec<Vec<u8>>, Vec<Frame>, u16);

fn cases() -> Vec<Case> {
    let text = |payload: &str| (TEXT, payload.as_bytes().to_vec());
    let say = |payload: &str| frame(TEXT, payload.as_bytes());
    let bye = || frame(CLOSE, &close(1000, b""));
    let mut cases = Vec::new();
    // 1: framing.
    for size in [0, 125, 126, 127, 128, 65535, 65536] {
        let bytes = vec![b'*'; size];
        let sent = vec![frame(TEXT, &bytes), frame(BINARY, &bytes), bye()];
        let back = vec![(TEXT, bytes.clone()), (BINARY, bytes)];
        cases.push(("1 sizes", sent, back, 1000));
    }
    // 2: pings and pongs.
    let pings = || (0..10u8).map(|n| frame(PING, &[n])).chain([bye()]);
    let pongs = (0..10).map(|n| (PONG, vec![n])).collect();
    cases.push(("2.10 pings", pings().collect(), pongs, 1000));
    let longest = vec![0xfe; 125];
    let sent = vec![frame(PING, &longest), frame(PONG, b"unasked"), bye()];
    cases.push(("2.4 and 2.7", sent, vec![(PONG, longest)], 1000));
    cases.push(("2.5", vec![frame(PING, &[0; 126])], vec![], 1002));
    // 3: reserved bits, 4: reserved opcodes; after something that is still answered.
    for first in [0x91, 0xa1, 0xb1, 0xc1, 0xd1, 0xe1, 0xf1, 0xc9, 0xc8] {
        cases.push((
            "3",
            vec![say("a"), frame(first, b"")],
            vec![text("a")],
            1002,
        ));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let wrong = frame(0x80 | opcode, b"x");
        cases.push(("4", vec![say("a"), wrong, say("b")], vec![text("a")], 1002));
    }
    // 5: fragments.
    cases.push((
        "5.1",
        vec![frame(0x09, b"a"), frame(0x80, b"b")],
        vec![],
        1002,
    ));
    let sent = vec![
        frame(0x01, b"a"),
        frame(PING, b"p"),
        frame(0x80, b"b"),
        bye(),
    ];
    cases.push(("5.6", sent, vec![(PONG, b"p".to_vec()), text("ab")], 1000));
    cases.push(("5.9", vec![frame(0x80, b"a"), say("b")], vec![], 1002));
    cases.push((
        "5.18",
        vec![frame(0x01, b"a"), frame(0x81, b"b")],
        vec![],
        1002,
    ));
    let sent = vec![frame(0x02, b""), frame(0x00, b""), frame(0x80, b""), bye()];
    cases.push(("6.1 empty fragments", sent, vec![(BINARY, vec![])], 1000));
    // 6: UTF-8.
    let word = "κόσμε".as_bytes();
    let mut sent: Vec<_> = word.iter().map(|&byte| frame(0x00, &[byte])).collect();
    sent.insert(0, frame(0x01, b""));
    sent.extend([frame(0x80, b""), bye()]);
    cases.push((
        "6.2 characters cut",
        sent,
        vec![(TEXT, word.to_vec())],
        1000,
    ));
    for bad in [
        &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"[..],
        b"\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"\xce",
    ] {
        cases.push((
            "6 wrong text",
            vec![say("a"), frame(TEXT, bad)],
            vec![text("a")],
            1007,
        ));
    }
    // Before its frame is complete.
    let half = [header(TEXT, 100), vec![0x37 ^ 0xff; 1]].concat();
    cases.push(("6.4 fails fast", vec![half], vec![], 1007));
    // 7: closing.
    cases.push((
        "7.1.3",
        vec![bye(), bye(), say("x"), frame(PING, b"")],
        vec![],
        1000,
    ));
    cases.push(("7.3.2", vec![frame(CLOSE, b"a")], vec![], 1002));
    cases.push((
        "7.3.5",
        vec![frame(CLOSE, &close(1000, &[b'*'; 123]))],
        vec![],
        1000,
    ));
    cases.push((
        "7.3.6",
        vec![frame(CLOSE, &close(1000, &[b'*'; 124]))],
        vec![],
        1002,
    ));
    cases.push((
        "7.5.1",
        vec![frame(CLOSE, &close(1000, b"\xce"))],
        vec![],
        1007,
    ));
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        cases.push(("7.7", vec![frame(CLOSE, &close(code, b""))], vec![], code));
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        cases.push(("7.9", vec![frame(CLOSE, &close(code, b""))], vec![], 1002));
    }
    // Lengths, masks.
    cases.push((
        "no mask",
        vec![say("a"), b"\x81\x01b".to_vec()],
        vec![text("a")],
        1002,
    ));
    let long = [&[BINARY, 0xfe, 0, 5][..], &[0; 9]].concat();
    cases.push(("5 in two bytes", vec![long], vec![], 1002));
    let long = [&[BINARY, 0xff, 0, 0, 0, 0, 0, 0, 0, 5][..], &[0; 9]].concat();
    cases.push(("5 in eight bytes", vec![long], vec![], 1002));
    let long = [&[BINARY, 0xff, 0x80][..], &[0; 11]].concat();
    cases.push(("the top bit", vec![long], vec![], 1002));
    // 9: limits, by the header alone.
    let mib = 1024 * 1024;
    cases.push((
        "a large frame",
        vec![say("a"), header(BINARY, mib + 1)],
        vec![text("a")],
        1009,
    ));
    cases.push((
        "the largest",
        vec![header(BINARY, i64::MAX as u64)],
        vec![],
        1009,
    ));
    let sent = vec![frame(0x02, &[0; 1000]), header(0x80, mib - 999)];
    cases.push(("a large message", sent, vec![], 1009));
    let most = vec![7; mib as usize];
    cases.push((
        "1 MiB",
        vec![frame(BINARY, &most), bye()],
        vec![(BINARY, most)],
        1000,
    ));
    cases
}

both_modes! {
    fn each_case_ends_as_it_should(mode) {
        let server = Server::start(mode, ONE);
        let address = server.address();
        for (name, sent, back, code) in cases() {
            let bytes = sent.concat();
            for cut in [bytes.len(), 1, 5] {
                let mut socket = Socket::open(address, "/ws");
                if cut < bytes.len() && bytes.len() < 3000 {
                    for part in bytes.chunks(cut) {
                        // Whoever closes by an early part need not take the rest.
                        if socket.stream.write_all(part).is_err() {
                            break;
                        }
                    }
                } else {
                    socket.send(&bytes);
                }
                let (frames, closed) = socket.ends();
                let same = frames == back;
                assert!(same && closed == Some(code), "{name}: {} frames, {closed:?}", frames.len());
            }
        }
        server.stop();
    }

    fn a_reload_says_that_it_goes_away(mode) {
        let server = Server::start(mode, &["--workers", "2"]);
        let address = server.address();
        let mut sockets: Vec<_> = (0..10).map(|_| Socket::open(address, "/ws")).collect();
        for socket in &mut sockets {
            socket.send(frame(TEXT, b"before"));
            socket.expect(TEXT, "before");
        }
        let mark = server.log.mark();
        server.signal(Signal::SIGHUP);
        for mut socket in sockets {
            socket.expect(CLOSE, close(1001, b""));
            // What is under way is not an answer.
            socket.send(frame(TEXT, b"late"));
            socket.send(frame(CLOSE, &close(1001, b"")));
            assert_eq!(socket.frame(), None);
        }
        server.log.wait(mark, "reloaded: all workers are new");
        let mut socket = Socket::open(address, "/ws");
        socket.send(frame(TEXT, b"after"));
        socket.expect(TEXT, "after");
        socket.close();
        server.stop();
    }

    fn one_that_does_not_answer_holds_up_no_stop(mode) {
        let server = Server::start(mode, ONE);
        let mut socket = Socket::open(server.address(), "/ws");
        server.signal(Signal::SIGTERM);
        socket.expect(CLOSE, close(1001, b""));
        // After five seconds, not after the thirty that a drain may take.
        assert_eq!(socket.frame(), None);
        drop(socket);
        assert_eq!(server.ended().status.code(), Some(0));
    }
}

#[test]
fn what_is_no_handshake_is_told_what_would_be() {
    let server = Server::start(Mode::Processes, ONE);
    let address = server.address();
    let ask = |fields: &str| {
        let mut client = Client::connect(address).unwrap();
        client.request("GET", "/ws", fields, "").unwrap()
    };
    let old = HANDSHAKE.replace(": 13", ": 8");
    for fields in ["", "Upgrade: h2c\r\nConnection: Upgrade\r\n", &old] {
        let answer = ask(fields);
        assert_eq!(answer.status, 426, "{fields}");
        assert_eq!(answer.field("Upgrade"), Some("websocket"));
        assert_eq!(answer.field("Sec-WebSocket-Version"), Some("13"));
        let connection = answer.field("Connection").unwrap_or_default();
        assert!(
            connection.to_ascii_lowercase().contains("upgrade"),
            "{connection}"
        );
    }
    let twice = HANDSHAKE.to_owned() + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for fields in [
        &HANDSHAKE.replace("dGhl", "dGh"),
        &HANDSHAKE.replace("Connection: Upgrade", "Connection: close"),
        &twice,
    ] {
        assert_eq!(ask(fields).status, 400, "{fields}");
    }
    let mut client = Client::connect(address).unwrap();
    let with_body = HANDSHAKE.to_owned() + "Content-Length: 2\r\n";
    let answer = client
        .request("GET", "/ws", &with_body, "\x01\x02")
        .unwrap();
    assert_eq!(answer.status, 400);
    let mut client = Client::connect(address).unwrap();
    client
        .send(format!("GET /ws HTTP/1.0\r\nHost: test\r\n{HANDSHAKE}\r\n"))
        .unwrap();
    assert_eq!(client.receive().unwrap().status, 400);
    assert_eq!(
        Client::connect(address)
            .unwrap()
            .request("POST", "/ws", "", "")
            .unwrap()
            .status,
        405
    );
    server.stop();
}

#[test]
fn frames_may_come_right_behind_the_handshake() {
    let server = Server::start(Mode::Processes, ONE);
    let mut socket = Socket::open(server.address(), "/ws?x=y");
    socket.send([frame(0x01, b"one "), frame(0x80, b"two"), frame(PING, b"")].concat());
    socket.expect(TEXT, "one two");
    socket.expect(PONG, "");
    // A peer that stops sending without a Close.
    socket.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(socket.frame(), None);
    server.stop();
}

#[test]
fn a_peer_that_does_not_read_is_not_listened_to() {
    let server = Server::start(Mode::Processes, ONE);
    let mut socket = Socket::open(server.address(), "/ws");
    socket
        .stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let message = frame(BINARY, &[7; 100_000]);
    let mut sent = 0;
    loop {
        match socket.stream.write(&message[sent % message.len()..]) {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
        // What the kernel holds for both, and little else.
        assert!(sent < 64 * 1024 * 1024, "it takes whatever it gets");
    }
    for _ in 0..sent / message.len() {
        socket.expect(BINARY, [7; 100_000]);
    }
    server.stop();
}

#[test]
fn a_thousand_that_are_idle_are_there_when_needed() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let server = Server::start(Mode::Processes, &["--workers", "2"]);
    let address = server.address();
    let mut sockets: Vec<_> = (0..1000).map(|_| Socket::open(address, "/ws")).collect();
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.send(frame(TEXT, number.to_string().as_bytes()));
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.expect(TEXT, number.to_string());
    }
    for socket in sockets {
        socket.close();
    }
    server.stop();
}
