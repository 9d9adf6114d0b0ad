//! WebSocket connections that other threads and other workers send to.

use crate::harness::Tests;
use crate::http::get;
use crate::programs::LARGE;
use crate::run::{Mode, Run};
use crate::websocket::{BINARY, CLOSE, Socket, TEXT, close, frame};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// At least two connections to each of three workers, by the worker.
fn in_all_workers(address: SocketAddr) -> Vec<Vec<Socket>> {
    let mut workers: BTreeMap<Vec<u8>, Vec<Socket>> = BTreeMap::new();
    while workers.len() < 3 || workers.values().any(|sockets| sockets.len() < 2) {
        assert!(workers.values().flatten().count() < 1000);
        let mut socket = Socket::open(address, "/room");
        socket.expect(TEXT, "speaking None");
        socket.send(frame(TEXT, b"who"));
        let (_, who) = socket.frame().unwrap();
        workers.entry(who).or_default().push(socket);
    }
    workers.into_values().collect()
}

fn all_hear_what_one_says(mode: Mode) {
    let mut run = Run::start("shouts", mode, &[]);
    let address = run.address(1);
    run.line("ready: ");
    let mut sockets: Vec<_> = in_all_workers(address).into_iter().flatten().collect();
    // Each once, in order, whoever says it; the large one in many pieces.
    let count = sockets.len();
    for speaker in 0..count {
        let text = format!("from {speaker}");
        sockets[speaker].send(frame(TEXT, text.as_bytes()));
        for socket in &mut sockets {
            socket.expect(TEXT, &text);
        }
    }
    sockets[0].send(
        [
            frame(TEXT, b"large"),
            frame(TEXT, b"behind it"),
            frame(BINARY, b"\x01"),
        ]
        .concat(),
    );
    for socket in &mut sockets {
        socket.expect(BINARY, vec![7; LARGE]);
        socket.expect(TEXT, "behind it");
        socket.expect(BINARY, b"\x01");
    }
    sockets[1].send(frame(TEXT, b"primary"));
    for socket in &mut sockets {
        socket.expect(TEXT, "from the primary");
    }
    let goes = sockets.remove(0);
    goes.close();
    run.line("closed 1000");
    sockets[0].send(frame(TEXT, b"one fewer"));
    for mut socket in sockets {
        socket.expect(TEXT, "one fewer");
        socket.send(frame(CLOSE, &close(4000, b"")));
    }
    run.stop();
    let closed = run.count("closed 4000");
    assert_eq!(closed, count - 1);
}

fn a_slow_one_holds_nobody_up(mode: Mode) {
    let mut run = Run::start("shouts", mode, &[]);
    let address = run.address(1);
    run.line("ready: ");
    // In each worker one reads and the others do not: what waits for those is shared, and in the
    // end they are let go.
    let (mut quick, mut slow) = (Vec::new(), Vec::new());
    for mut sockets in in_all_workers(address) {
        quick.extend(sockets.pop());
        slow.extend(sockets);
    }
    // Far more than 16 MiB and what the kernel holds for them.
    for _ in 0..20 {
        quick[0].send(frame(TEXT, b"large"));
        for socket in &mut quick {
            socket.expect(BINARY, vec![7; LARGE]);
        }
    }
    let slow_ones = slow.len();
    for mut socket in slow {
        let mut frames = 0;
        while let Some((BINARY, _)) = socket.frame() {
            frames += 1;
        }
        assert!((5..20).contains(&frames), "{frames}");
        // That was the Close: answered, it is the end.
        socket.send(frame(CLOSE, &close(1008, b"")));
        assert_eq!(socket.frame(), None);
    }
    quick[0].send(frame(TEXT, b"still there"));
    for mut socket in quick {
        socket.expect(TEXT, "still there");
        socket.close();
    }
    run.stop();
    assert_eq!(run.count("closed 1008"), slow_ones);
}

fn threads_send_in_their_order(mode: Mode) {
    let mut run = Run::start("shouts", mode, &[]);
    let mut socket = Socket::open(run.address(1), "/threads");
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..4000 {
        let (first, payload) = socket.frame().unwrap();
        assert_eq!(first, TEXT);
        let text = String::from_utf8(payload).unwrap();
        let (name, number) = text.split_once(' ').unwrap();
        let expected = next.entry(name.to_owned()).or_default();
        assert_eq!(number, expected.to_string());
        *expected += 1;
    }
    assert_eq!(next.len(), 4);
    socket.close();
    run.stop();
}

fn a_panic_costs_one_connection(mode: Mode) {
    let mut run = Run::start("shouts", mode, &[]);
    let address = run.address(1);
    let mut other = Socket::open(address, "/room");
    other.expect(TEXT, "speaking None");
    let mut socket = Socket::open(address, "/panic");
    socket.send(frame(TEXT, b"x"));
    assert_eq!(socket.ends(), (vec![], Some(1011)));
    run.log_line("on purpose");
    other.send(frame(TEXT, b"alive"));
    other.expect(TEXT, "alive");
    other.close();
    let _ = get(address, "/");
    assert_eq!(run.count("1 exit"), 0);
    run.stop();
}

pub(crate) fn add(tests: &mut Tests) {
    tests.both_modes("shouts::all_hear_what_one_says", all_hear_what_one_says);
    tests.both_modes(
        "shouts::a_slow_one_holds_nobody_up",
        a_slow_one_holds_nobody_up,
    );
    tests.both_modes(
        "shouts::threads_send_in_their_order",
        threads_send_in_their_order,
    );
    tests.both_modes(
        "shouts::a_panic_costs_one_connection",
        a_panic_costs_one_connection,
    );
}
