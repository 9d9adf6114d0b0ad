//! Just enough of an HTTP client: one request at a time, on a connection that may be kept.

use crate::run::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A stream of bytes both ways.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection that is kept between requests.
pub(crate) struct Connection(Box<dyn Stream>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(Box::new(stream))
    }

    pub(crate) fn open_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(Box::new(stream))
    }

    /// The body of the answer to GET at `target`.
    pub(crate) fn try_get(&mut self, target: &str) -> io::Result<String> {
        write!(self.0, "GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head.lines().find_map(|line| {
            let value = line.strip_prefix("content-length:")?;
            value.trim().parse().ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> String {
        self.try_get(target).unwrap()
    }

    /// Waits until the other end closes it, without a byte more.
    #[track_caller]
    pub(crate) fn closes(&mut self) {
        let mut byte = [0];
        match self.0.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?}"),
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, target: &str) -> String {
    Connection::open(address).get(target)
}

/// One request that ends whoever answers it: there may be no answer.
pub(crate) fn ask(address: SocketAddr, target: &str) {
    let _ = Connection::open(address).try_get(target);
}
