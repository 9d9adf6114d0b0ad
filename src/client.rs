//! HTTP over a control socket: one request, its answer, by blocking reads with a limit of time.
//!
//! Believes nothing of what comes: heads and bodies are bounded, and what makes no sense is an
//! error. What a status or an event means is left to whoever asks.

use crate::http::AnswerReader;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest body that is kept whole: a thousand workers take less than one megabyte.
const LONGEST_BODY: usize = 16 << 20;

const READ_AT_ONCE: usize = 16 << 10;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Incoming<R> {
    pub(crate) status: u16,
    source: R,
    reader: AnswerReader,
    /// What came of the body together with the head.
    begun: Vec<u8>,
    done: bool,
}

/// Connects to a control socket. Then each read and write has `patience`, or all the time there is.
///
/// # Errors
///
/// Those of connect(2), and a path that is too long for a socket.
pub(crate) fn connect(path: &Path, patience: Option<Duration>) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    Ok(stream)
}

/// Sends a request without a body and reads the head of its answer.
///
/// # Errors
///
/// Those of reading and writing, `TimedOut` when the patience ends, and `InvalidData` for what is
/// no answer.
pub(crate) fn request<S: Read + Write>(
    mut stream: S,
    method: &str,
    target: &str,
) -> io::Result<Incoming<S>> {
    let length = match method {
        "GET" => "",
        _ => "Content-Length: 0\r\n",
    };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: mcluster\r\nConnection: close\r\n{length}\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(timed_out)?;
    Incoming::read(stream)
}

impl<R: Read> Incoming<R> {
    /// Reads the head of an answer.
    fn read(mut source: R) -> io::Result<Self> {
        // Every answer of a control socket is asked for with another method than HEAD.
        let mut reader = AnswerReader::new(false);
        let mut begun = Vec::new();
        loop {
            let ended = more(&mut source, &mut reader, &mut begun)?;
            if let Some(status) = ended.or(reader.status()) {
                return Ok(Self {
                    status,
                    source,
                    reader,
                    begun,
                    done: ended.is_some(),
                });
            }
        }
    }

    /// Waits for more of the body and appends it; whether more may come.
    ///
    /// # Errors
    ///
    /// Those of reading, `UnexpectedEof` when the body breaks off, `InvalidData` for wrong chunks.
    pub(crate) fn next(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        if !self.begun.is_empty() {
            body.append(&mut self.begun);
        } else if !self.done {
            self.done = more(&mut self.source, &mut self.reader, body)?.is_some();
        }
        Ok(!self.done)
    }

    /// The answer with its whole body.
    ///
    /// # Errors
    ///
    /// As [`Incoming::next`], and `InvalidData` for a body that is too long.
    pub(crate) fn whole(mut self) -> io::Result<Answer> {
        let mut body = Vec::new();
        while self.next(&mut body)? {
            if body.len() > LONGEST_BODY {
                return Err(nonsense("the answer is too long"));
            }
        }
        let status = self.status;
        Ok(Answer { status, body })
    }
}

/// Reads what is there and appends what it holds of the body; the status once the answer is whole.
fn more(
    source: &mut impl Read,
    reader: &mut AnswerReader,
    body: &mut Vec<u8>,
) -> io::Result<Option<u16>> {
    let mut buffer = [0; READ_AT_ONCE];
    let length = loop {
        match source.read(&mut buffer) {
            Ok(length) => break length,
            // A read with a limit of time is interrupted by SIGCONT, whatever handles that.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(timed_out(error)),
        }
    };
    let end = match length {
        0 if reader.is_idle() => {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "it closed without an answer",
            ));
        }
        0 => Some(reader.at_close().ok_or_else(broken_off)?),
        // What comes behind the answer was not asked for.
        _ => {
            let fed = reader.feed_into(&buffer[..length], body);
            fed.map_err(|error| nonsense(error.what()))?.1
        }
    };
    Ok(end.map(|end| end.status))
}

/// A limit of time shows as a call that would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            io::Error::new(ErrorKind::TimedOut, "no answer in time")
        }
        _ => error,
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn broken_off() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the answer broke off")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reads `piece` bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn answer(bytes: &[u8], piece: usize) -> io::Result<Answer> {
        Incoming::read(Slowly(bytes, piece))?.whole()
    }

    #[test]
    fn answers_however_they_come() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, more",
                200,
                "hi",
            ),
            ("HTTP/1.1 409 Conflict\r\ncontent-length:0\r\n\r\n", 409, ""),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end"),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 \r\n\r\n",
                404,
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
                200,
                "hi!",
            ),
        ];
        for (bytes, status, body) in cases {
            for piece in 1..=bytes.len() {
                let answer = answer(bytes.as_bytes(), piece).unwrap();
                assert_eq!(answer.status, status, "{bytes:?}");
                assert_eq!(answer.body, body.as_bytes(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        use ErrorKind::{InvalidData, UnexpectedEof};
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(128 << 10));
        let cases = [
            ("", UnexpectedEof),
            ("HTTP/1.1 200", UnexpectedEof),
            ("garbage\r\n\r\n", InvalidData),
            ("\0\0\0\0", InvalidData),
            (&long, InvalidData),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
                UnexpectedEof,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi",
                InvalidData,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                InvalidData,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                InvalidData,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nh",
                UnexpectedEof,
            ),
        ];
        for (bytes, kind) in cases {
            for piece in [1, 7, 4096] {
                let error = answer(bytes.as_bytes(), piece).unwrap_err();
                assert_eq!(error.kind(), kind, "{bytes:.60?}: {error}");
            }
        }
        let endless = "HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"a".repeat(LONGEST_BODY + 1);
        let error = answer(endless.as_bytes(), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), InvalidData);
    }
}
