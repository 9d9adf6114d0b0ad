//! What the connections of a run say, and how they understand what comes back: HTTP/1.1 or WebSocket.
//!
//! Every request of a run has the same bytes, so they are laid out once, several times in a row where
//! requests are pipelined, and written from there.

use super::echo::{self, EchoReader, Echoed, Handshake, Opening};
use crate::http::{AnswerEnd, AnswerReader};
use std::sync::Arc;

/// The most bytes of requests that are laid out in a row.
const LONGEST_ROW: usize = 64 << 10;

/// The message to a WebSocket when none is given.
const HELLO: &[u8] = b"hello";

/// What echoes count as: the status that their connection was opened with.
const SWITCHED: u16 = 101;

/// What is said, the same on every connection.
#[derive(Debug)]
pub(super) struct Speech {
    /// The bytes of one request, again and again.
    row: Vec<u8>,
    /// The length of one.
    length: usize,
    /// Whether a request may be sent once more when nobody knows what became of it.
    is_idempotent: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Http {
        to_head: bool,
    },
    Echo {
        handshake: Handshake,
        payload: Arc<[u8]>,
    },
}

impl Speech {
    /// Requests over HTTP, at most so many in a row.
    pub(super) fn http(request: &[u8], in_a_row: usize, method: &str, is_idempotent: bool) -> Self {
        let to_head = method == "HEAD";
        Self::new(request, in_a_row, is_idempotent, Kind::Http { to_head })
    }

    /// Messages to a WebSocket that come back; without a payload they say hello.
    pub(super) fn echo(handshake: Handshake, payload: &[u8], in_a_row: usize) -> Self {
        let payload = if payload.is_empty() { HELLO } else { payload };
        // One mask for the whole run: it keeps proxies from being fooled by pages, of which there are none.
        let message = echo::message_frame(payload, echo::mask());
        let payload = payload.into();
        let kind = Kind::Echo { handshake, payload };
        Self::new(&message, in_a_row, false, kind)
    }

    fn new(request: &[u8], in_a_row: usize, is_idempotent: bool, kind: Kind) -> Self {
        let fitting = LONGEST_ROW / request.len().max(1);
        Self {
            row: request.repeat(in_a_row.min(fitting).max(1)),
            length: request.len(),
            is_idempotent,
            kind,
        }
    }

    /// The bytes of one request.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Whether a request may be sent once more when nobody knows what became of it.
    pub(super) fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// What a new connection needs: who understands it, and what must be said first.
    pub(super) fn begin(&self) -> (Reader, Vec<u8>) {
        match &self.kind {
            Kind::Http { to_head } => (Reader::Http(AnswerReader::new(*to_head)), Vec::new()),
            Kind::Echo { handshake, payload } => {
                let (greeting, opening) = handshake.begin();
                let echo = EchoReader::new(Arc::clone(payload));
                let opening = Some(Box::new(opening));
                (Reader::Echo { opening, echo }, greeting)
            }
        }
    }

    /// What understands a place that has no connection yet.
    pub(super) const fn nobody() -> Reader {
        Reader::Http(AnswerReader::new(false))
    }

    /// What is said before a connection is closed, if anything.
    pub(super) fn parting(&self) -> Option<Vec<u8>> {
        matches!(self.kind, Kind::Echo { .. }).then(|| echo::close_frame(echo::mask()))
    }

    /// Of `owed` bytes of requests, those that come next, in one piece.
    pub(super) fn next(&self, owed: usize) -> &[u8] {
        let begun = (self.length - owed % self.length) % self.length;
        let end = (begun + owed).min(self.row.len());
        &self.row[begun..end]
    }
}

/// What came of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Nothing whole yet.
    Part,
    /// An answer.
    Answer(AnswerEnd),
    /// The server agrees: requests may go.
    Agreed,
    /// Something that asks for these bytes.
    Asked(Vec<u8>),
    /// The server ends the connection, which asks for these bytes.
    Over(Vec<u8>),
}

/// What understands one connection.
#[derive(Debug)]
pub(super) enum Reader {
    /// Answers.
    Http(AnswerReader),
    /// Echoes, once the server has agreed to the opening.
    Echo {
        opening: Option<Box<Opening>>,
        echo: EchoReader,
    },
}

/// What makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

impl Reader {
    /// Takes bytes off the front of `input`: how many, and what they are the end of.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<(usize, Came), Nonsense> {
        match self {
            Self::Http(reader) => {
                let (used, end) = reader.feed(input).map_err(|_| Nonsense)?;
                Ok((used, end.map_or(Came::Part, Came::Answer)))
            }
            Self::Echo {
                opening: Some(agreeing),
                ..
            } => {
                let (used, status) = agreeing.feed(input).map_err(|_| Nonsense)?;
                let came = match status {
                    None => Came::Part,
                    Some(SWITCHED) => Came::Agreed,
                    // What it answers instead is an answer, if not one to a message.
                    Some(status @ 400..) => Came::Answer(AnswerEnd {
                        status,
                        keep_alive: false,
                    }),
                    Some(_) => return Err(Nonsense),
                };
                if let (Came::Agreed, Self::Echo { opening, .. }) = (&came, self) {
                    *opening = None;
                }
                Ok((used, came))
            }
            Self::Echo { echo, .. } => {
                let (used, echoed) = echo.feed(input).map_err(|_| Nonsense)?;
                let came = match echoed {
                    None => Came::Part,
                    Some(Echoed::Message) => Came::Answer(AnswerEnd {
                        status: SWITCHED,
                        keep_alive: true,
                    }),
                    Some(Echoed::Ping(pong)) => Came::Asked(pong),
                    Some(Echoed::Close(close)) => Came::Over(close),
                };
                Ok((used, came))
            }
        }
    }

    /// The answer that the end of the connection makes whole.
    pub(super) fn at_close(&mut self) -> Option<AnswerEnd> {
        match self {
            Self::Http(reader) => reader.at_close(),
            Self::Echo { .. } => None,
        }
    }

    /// Whether no byte of the next answer has come.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Http(reader) => reader.is_idle(),
            Self::Echo { opening, echo } => opening.is_none() && echo.is_idle(),
        }
    }

    /// Who gave the last answer, where that was said.
    pub(super) fn worker(&self) -> Option<&[u8]> {
        match self {
            Self::Http(reader) => reader.worker(),
            Self::Echo { .. } => None,
        }
    }

    /// Whether the server must agree to something before the first request.
    pub(super) fn is_greeting(&self) -> bool {
        matches!(
            self,
            Self::Echo {
                opening: Some(_),
                ..
            }
        )
    }

    /// Whether the server says nothing but answers.
    pub(super) fn only_answers(&self) -> bool {
        matches!(self, Self::Http(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_bytes_owed_is_the_end_of_whole_requests() {
        for in_a_row in [1, 2, 5] {
            let speech = Speech::http(b"abcd", in_a_row, "GET", true);
            let all = b"abcd".repeat(5);
            for owed in 1..=all.len() {
                let mut left = owed;
                let mut said = Vec::new();
                while left > 0 {
                    let piece = speech.next(left);
                    said.extend_from_slice(piece);
                    left -= piece.len();
                }
                assert_eq!(said, all[all.len() - owed..]);
            }
        }
    }

    #[test]
    fn a_row_is_bounded() {
        let speech = Speech::http(&[b'x'; 40 << 10], 100, "GET", true);
        assert_eq!(speech.row.len(), 40 << 10);
    }
}
