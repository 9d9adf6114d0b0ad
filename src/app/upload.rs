//! A request's body while it arrives: [`BodyReader`] is the handler's end, [`Upload`] the
//! connection's.
//!
//! Owns how much may wait for a handler; leaves reading from the socket, and what to do with a body
//! that nobody reads, to `server`.

use super::Request;
use crate::net::Line;
use std::fmt;
use std::io::{self, Read};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What may wait for a handler before its client must wait as well.
const HIGH_WATER: usize = 64 * 1024;

/// The fields behind a body.
type Trailers = Vec<(String, Vec<u8>)>;

#[derive(Default)]
struct State {
    /// What has come and was not taken.
    bytes: Vec<u8>,
    /// Nothing will follow: the trailers, or why not.
    end: Option<Result<Trailers, (io::ErrorKind, &'static str)>>,
    /// The client wants to be asked for its body.
    expecting: bool,
    /// The handler has asked for it.
    asked: bool,
    /// The handler reads no more.
    gone: bool,
    line: Option<Line>,
}

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    /// There are bytes, or the end.
    more: Condvar,
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic happens under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection's end.
pub(crate) struct Upload(Arc<Pipe>);

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.end(Err((
            io::ErrorKind::UnexpectedEof,
            "the connection ended within the body",
        )));
    }
}

impl Upload {
    /// Both ends. With `expecting`, the client waits to be asked for the body; `line` is rung when
    /// the connection should look here.
    pub(crate) fn new(line: Line, expecting: bool) -> (Self, BodyReader) {
        let pipe = Arc::new(Pipe::default());
        {
            let mut state = pipe.state();
            state.line = Some(line);
            state.expecting = expecting;
        }
        let reader = BodyReader {
            source: Source::Pipe(Arc::clone(&pipe)),
            taken: Vec::new(),
            at: 0,
            trailers: Vec::new(),
        };
        (Self(pipe), reader)
    }

    /// Gives the handler more of the body.
    pub(crate) fn put(&self, bytes: &[u8]) {
        let mut state = self.0.state();
        state.expecting = false;
        if !state.gone && state.end.is_none() && !bytes.is_empty() {
            state.bytes.extend_from_slice(bytes);
            drop(state);
            self.0.more.notify_all();
        }
    }

    /// The body is complete, or never will be. Only the first word counts.
    pub(crate) fn end(&self, end: Result<Trailers, (io::ErrorKind, &'static str)>) {
        self.0.state().end.get_or_insert(end);
        self.0.more.notify_all();
    }

    /// Whether the client must wait: the handler has enough, or wants no more.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.0.state();
        state.gone || state.bytes.len() >= HIGH_WATER
    }

    /// Whether the client is to be told, now, that its body is wanted.
    pub(crate) fn take_asked(&self) -> bool {
        let mut state = self.0.state();
        let asked = mem::take(&mut state.asked);
        if asked {
            state.expecting = false;
        }
        asked
    }

    /// Whether the client still waits to be asked for its body, and so may never send it.
    pub(crate) fn is_expecting(&self) -> bool {
        self.0.state().expecting
    }
}

enum Source {
    /// Here already, with its request.
    Whole(Box<Request>),
    Pipe(Arc<Pipe>),
}

/// Reads the body of a request while it arrives; see
/// [`App::route_streamed`](crate::App::route_streamed).
///
/// A read waits for the client, which in turn has to wait while the handler does not read. Reading
/// ends in an error when the client leaves, is too slow, or sends what is no body; what the handler
/// then answers is not sent.
pub struct BodyReader {
    source: Source,
    taken: Vec<u8>,
    at: usize,
    trailers: Trailers,
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").finish_non_exhaustive()
    }
}

impl BodyReader {
    /// Of a body that is there.
    pub(super) fn whole(request: Request) -> Self {
        Self {
            source: Source::Whole(Box::new(request)),
            taken: Vec::new(),
            at: 0,
            trailers: Vec::new(),
        }
    }

    /// A field of the trailer section (RFC 9112 7.1.2), once everything before it has been read.
    pub fn trailer(&self, name: &str) -> Option<&[u8]> {
        if let Source::Whole(request) = &self.source {
            return request.trailer(name);
        }
        let named = |(known, _): &&(String, _)| known.eq_ignore_ascii_case(name);
        Some(&self.trailers.iter().find(named)?.1)
    }

    /// Waits for more; false at the end.
    fn refill(&mut self) -> io::Result<bool> {
        let Source::Pipe(pipe) = &self.source else {
            return Ok(false);
        };
        let mut state = pipe.state();
        loop {
            if !state.bytes.is_empty() {
                self.taken.clear();
                self.at = 0;
                mem::swap(&mut state.bytes, &mut self.taken);
                // The loop may have stopped listening to the client.
                let line = state
                    .line
                    .clone()
                    .filter(|_| self.taken.len() >= HIGH_WATER);
                drop(state);
                if let Some(line) = line {
                    line.ring();
                }
                return Ok(true);
            }
            match &mut state.end {
                Some(Ok(trailers)) => {
                    self.trailers.append(trailers);
                    return Ok(false);
                }
                Some(Err((kind, why))) => return Err(io::Error::new(*kind, *why)),
                None => {}
            }
            if state.expecting
                && !mem::replace(&mut state.asked, true)
                && let Some(line) = &state.line
            {
                line.ring();
            }
            let woken = pipe.more.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let count = match &self.source {
            Source::Whole(request) => {
                let rest = &request.body()[self.at..];
                let count = rest.len().min(buf.len());
                buf[..count].copy_from_slice(&rest[..count]);
                count
            }
            Source::Pipe(_) => {
                if self.at == self.taken.len() && !self.refill()? {
                    return Ok(0);
                }
                let rest = &self.taken[self.at..];
                let count = rest.len().min(buf.len());
                buf[..count].copy_from_slice(&rest[..count]);
                count
            }
        };
        self.at += count;
        Ok(count)
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        if let Source::Pipe(pipe) = &self.source {
            let mut state = pipe.state();
            state.gone = true;
            state.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Mailbox;

    #[test]
    fn the_handler_has_what_came_and_then_the_end() {
        let mailbox = Mailbox::new(None);
        let (upload, mut reader) = Upload::new(mailbox.line(1), false);
        upload.put(b"one ");
        upload.put(b"two");
        let mut buf = [0; 5];
        assert_eq!(reader.read(&mut buf).unwrap(), 5);
        assert_eq!(&buf, b"one t");
        upload.end(Ok(vec![("Sum".to_owned(), b"7".to_vec())]));
        assert_eq!(reader.trailer("sum"), None);
        let mut rest = String::new();
        assert_eq!(reader.read_to_string(&mut rest).unwrap(), 2);
        assert_eq!(
            (rest.as_str(), reader.trailer("sum")),
            ("wo", Some(&b"7"[..]))
        );
        assert_eq!(reader.read(&mut buf).unwrap(), 0);
    }

    #[test]
    fn a_full_pipe_says_so_and_rings_when_it_has_room() {
        let mailbox = Mailbox::new(None);
        let (upload, mut reader) = Upload::new(mailbox.line(1), false);
        upload.put(&vec![1; HIGH_WATER - 1]);
        assert!(!upload.is_full());
        upload.put(&[2]);
        assert!(upload.is_full() && mailbox.take().is_empty());
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 1);
        assert!(!upload.is_full());
        assert_eq!(mailbox.take(), [1]);
        drop(reader);
        assert!(upload.is_full(), "nobody wants more");
    }

    #[test]
    fn a_client_is_asked_once_somebody_reads() {
        let mailbox = Mailbox::new(None);
        let (upload, mut reader) = Upload::new(mailbox.line(1), true);
        assert!(upload.is_expecting() && !upload.take_asked());
        let handler = std::thread::spawn(move || reader.read(&mut [0; 8]).unwrap());
        while !mailbox.has_any() {
            std::thread::yield_now();
        }
        assert!(upload.take_asked() && !upload.take_asked() && !upload.is_expecting());
        upload.put(b"body");
        assert_eq!(handler.join().unwrap(), 4);
    }

    #[test]
    fn a_connection_that_ends_is_an_error_to_the_reader() {
        let mailbox = Mailbox::new(None);
        let (upload, mut reader) = Upload::new(mailbox.line(1), false);
        upload.put(b"x");
        drop(upload);
        let mut all = Vec::new();
        let error = reader.read_to_end(&mut all).unwrap_err();
        assert_eq!(
            (error.kind(), &all[..]),
            (io::ErrorKind::UnexpectedEof, &b"x"[..])
        );
    }
}
