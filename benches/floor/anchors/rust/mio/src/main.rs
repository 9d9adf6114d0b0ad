//! The bare mio loop: what the reactor costs when nothing is parsed. It leaves everything else to `floor.c`.
//!
//! usage: anchor-mio PORT. A request ends with an empty line and is never looked at otherwise; what has come in one
//! read is answered in one write. Connections are registered once, edge-triggered; a short read means drained.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};

const LISTENER: Token = Token(usize::MAX);
const KEEP: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\
    Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\nHello, World!";
const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\
    Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nConnection: close\r\n\r\nHello, World!";

/// Bytes of one request, learned from the first: the clients always send the same.
struct Connection {
    socket: TcpStream,
    length: usize,
    read: usize,
}

/// Whether the connection stays.
fn serve(connection: &mut Connection, buffer: &mut [u8], answers: &[u8]) -> bool {
    loop {
        let count = match connection.socket.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let bytes = &buffer[..count];
        if connection.length == 0 {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return false;
            };
            connection.length = end + 4;
        }
        if bytes.ends_with(b"close\r\n\r\n") {
            let _ = connection.socket.write(CLOSE);
            return false;
        }
        let before = connection.read / connection.length;
        connection.read += count;
        let whole = connection.read / connection.length - before;
        let out = &answers[..whole * KEEP.len()];
        if !out.is_empty() && !matches!(connection.socket.write(out), Ok(n) if n == out.len()) {
            return false;
        }
        if count < buffer.len() {
            return true;
        }
    }
}

fn main() {
    let port = std::env::args().nth(1).expect("a port");
    let address = format!("127.0.0.1:{port}").parse().expect("a port");
    let mut listener = TcpListener::bind(address).expect("a free port");
    let mut poll = Poll::new().expect("a poll");
    let registry = poll.registry().try_clone().expect("a registry");
    registry
        .register(&mut listener, LISTENER, Interest::READABLE)
        .expect("registered");

    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0u8; 65536];
    let answers = KEEP.repeat(buffer.len() / 16);
    loop {
        if poll.poll(&mut events, None).is_err() {
            continue;
        }
        for event in events.iter() {
            if event.token() != LISTENER {
                let at = event.token().0;
                let Some(connection) = connections[at].as_mut() else {
                    continue;
                };
                if !serve(connection, &mut buffer, &answers) {
                    // Closing takes it out of the epoll set.
                    connections[at] = None;
                    free.push(at);
                }
                continue;
            }
            while let Ok((mut socket, _)) = listener.accept() {
                let _ = socket.set_nodelay(true);
                let at = free.pop().unwrap_or_else(|| {
                    connections.push(None);
                    connections.len() - 1
                });
                if registry
                    .register(&mut socket, Token(at), Interest::READABLE)
                    .is_ok()
                {
                    connections[at] = Some(Connection {
                        socket,
                        length: 0,
                        read: 0,
                    });
                }
            }
        }
    }
}
