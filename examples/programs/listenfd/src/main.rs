//! A Rust program that takes a socket which is open already, by the crate listenfd:
//!
//!     cargo build --release --manifest-path examples/programs/listenfd/Cargo.toml
//!     mcluster start examples/programs/listenfd/target/release/by-listenfd --listen 127.0.0.1:3000
//!
//! A plain accept loop: the socket blocks, as one of a service manager's does.

use listenfd::ListenFd;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

fn main() -> std::io::Result<()> {
    let listener = ListenFd::from_env().take_tcp_listener(0)?;
    let listener = listener.ok_or_else(|| std::io::Error::other("there is no socket"))?;
    for connection in listener.incoming() {
        // Whoever left again is nobody's loss.
        let _ = connection.and_then(answer);
    }
    Ok(())
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    for line in BufReader::new(&connection).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let body = format!("Handled by process {}\n", std::process::id());
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
