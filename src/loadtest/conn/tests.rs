//! Connections' ends, and what goes between requests.

use super::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// Waits for something to read: how much, 0 at the end.
fn reads(conn: &Conn) -> usize {
    loop {
        match conn.read(&mut [0; 64]) {
            Ok(count) => return count,
            Err(error) => assert!(socket::would_block(&error), "{error}"),
        }
        std::thread::yield_now();
    }
}

/// A connection with one answer behind it, and its other end.
fn answered(speech: &Speech) -> (Conn, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::Inet(listener.local_addr().unwrap());
    let mut conn = Conn::new(Instant::now());
    conn.connect(&place, speech, Instant::now()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    conn.connected(Instant::now());
    asks(&mut conn, speech);
    server.read_exact(&mut [0; 1]).unwrap();
    server.write_all(b"!").unwrap();
    assert_eq!(reads(&conn), 1);
    conn.pending.clear();
    conn.has_answered = true;
    (conn, server)
}

fn asks(conn: &mut Conn, speech: &Speech) {
    let sent = Sent {
        began: Instant::now(),
        planned: None,
    };
    conn.push(sent, speech);
    assert_eq!(conn.write(speech).unwrap(), 1);
}

#[test]
fn what_crossed_the_end_was_never_read_and_what_came_before_it_was() {
    let speech = Speech::http(b"?", 1, "GET", true);
    for (after, of_resets) in [(Duration::ZERO, 1), (Duration::from_secs(60), 0)] {
        let unread =
            |conn: &Conn, is_reset| conn.unread(is_reset, &speech, conn.pending[0].began + after);

        let (mut conn, server) = answered(&speech);
        drop(server);
        assert_eq!(reads(&conn), 0);
        asks(&mut conn, &speech);
        assert_eq!(unread(&conn, false), 1);

        let (mut conn, mut server) = answered(&speech);
        asks(&mut conn, &speech);
        server.read_exact(&mut [0; 1]).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(reads(&conn), 0);
        assert_eq!(unread(&conn, false), 0);
        // That it is reset behind the end says nothing more of what was read before it.
        socket::reset(server.as_fd());
        drop(server);
        assert_eq!(unread(&conn, false), 0);

        // A reset alone says neither the one nor the other: then it depends on the time.
        assert_eq!(unread(&conn, true), of_resets);
    }

    let (mut conn, mut server) = answered(&speech);
    asks(&mut conn, &speech);
    server.read_exact(&mut [0; 1]).unwrap();
    drop(server);
    assert_eq!(reads(&conn), 0);
    asks(&mut conn, &speech);
    assert_eq!(conn.unread(false, &speech, Instant::now()), 1, "one of two");
}

#[test]
fn pongs_that_nobody_reads_take_the_place_of_each_other() {
    let mut between = Between::default();
    (0..1000).for_each(|_| between.say(b"old"));
    between.say(b"first");
    between.wrote(2);
    (0..1000).for_each(|_| between.say(b"old"));
    between.say(b"second");
    assert_eq!(between.bytes, b"rstsecond", "none is cut off");
    between.wrote(1);
    between.say(b"third");
    assert_eq!(between.bytes, b"stthird");
    between.wrote(2);
    between.say(b"fourth");
    between.wrote(6);
    assert!(between.bytes.is_empty() && between.half == 0);
    between.say(b"fifth");
    between.wrote(3);
    between.say(b"sixth");
    between.wrote(4);
    between.say(b"seventh");
    assert_eq!(between.bytes, b"xthseventh");
}

#[test]
fn errors_have_their_kinds() {
    let kinds = [
        (libc::ECONNREFUSED, Trouble::Refused),
        (libc::ECONNRESET, Trouble::Reset),
        (libc::EPIPE, Trouble::Reset),
        (libc::EHOSTUNREACH, Trouble::Unreachable),
        (libc::ENETUNREACH, Trouble::Unreachable),
        (libc::ETIMEDOUT, Trouble::Unreachable),
        (libc::EMFILE, Trouble::Exhausted),
        (libc::ENFILE, Trouble::Exhausted),
        (libc::EADDRNOTAVAIL, Trouble::Exhausted),
        (libc::ENOBUFS, Trouble::Exhausted),
        (libc::EACCES, Trouble::Other),
    ];
    for (errno, expected) in kinds {
        let error = io::Error::from_raw_os_error(errno);
        assert_eq!(trouble(&error), expected, "{error}");
    }
    assert!(tries_next(&io::Error::from_raw_os_error(
        libc::EAFNOSUPPORT
    )));
    assert!(!tries_next(&io::Error::from_raw_os_error(libc::EMFILE)));
}
