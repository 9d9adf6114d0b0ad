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
        self.try_ask(target, "").map(|(_, body)| body)
    }

    /// The head and the body of the answer to GET at `target` with these fields.
    pub(crate) fn try_ask(&mut self, target: &str, fields: &str) -> io::Result<(String, String)> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        self.0.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let head = loop {
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more(&mut answer)?;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lines = text(&answer[..head]).to_ascii_lowercase();
        let length = lines.lines().find_map(|line| {
            let value = line.strip_prefix("content-length:")?;
            value.trim().parse::<usize>().ok()
        });
        let end = head + length.unwrap_or(0);
        while answer.len() < end {
            self.read_more(&mut answer)?;
        }
        assert_eq!(answer.len(), end, "nothing behind the one answer");
        Ok((text(&answer[..head]), text(&answer[head..])))
    }

    fn read_more(&mut self, answer: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match self.0.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                answer.extend(&bytes[..count]);
                Ok(())
            }
        }
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
