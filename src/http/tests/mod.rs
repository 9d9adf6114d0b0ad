//! Tests of the protocol: a reader that drives the parsers as a server would, and what every way of feeding it must
//! give. The raw requests are in `tests/wire`.

mod answer;
mod chunked;
mod conditional;
mod cookie;
mod corpus;
mod encode;
mod form;
mod head;
mod mutants;
mod negotiate;
mod plain;
mod properties;
mod range;

use super::{ChunkedDecoder, Error, Framing, Head, HeadLimits, Method, Parsed, Version};

/// The most body bytes the reader takes in chunks.
const MAX_BODY: u64 = 1024 * 1024;

/// One whole request, in values of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    method: Method,
    target: String,
    version: Version,
    path: String,
    query: Option<String>,
    host: Option<String>,
    fields: Vec<(String, Vec<u8>)>,
    framing: Framing,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    keep_alive: bool,
    expects_continue: bool,
}

/// How reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After a request, with nothing left.
    Between,
    /// Inside a request.
    Inside,
    /// After a request that closes the connection; what follows is not read.
    Closed,
    Refused(Error),
}

/// What was read: the outcome that no way of cutting the input may change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Request>,
    end: End,
}

/// Reads requests from bytes as they come, as a server would.
#[derive(Debug)]
struct Reader {
    limits: HeadLimits,
    head: Head,
    unread: Vec<u8>,
    body: Option<Body>,
    outcome: Outcome,
}

#[derive(Debug)]
struct Body {
    bytes: Vec<u8>,
    form: BodyForm,
}

#[derive(Debug)]
enum BodyForm {
    Length(u64),
    Chunked(ChunkedDecoder),
}

impl Reader {
    fn new() -> Self {
        Self {
            limits: HeadLimits::default(),
            head: Head::new(),
            unread: Vec::new(),
            body: None,
            outcome: Outcome {
                requests: Vec::new(),
                end: End::Between,
            },
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if matches!(self.outcome.end, End::Closed | End::Refused(_)) {
            return;
        }
        self.unread.extend_from_slice(bytes);
        self.outcome.end = match self.run() {
            Ok(end) => end,
            Err(error) => End::Refused(error),
        };
    }

    fn run(&mut self) -> Result<End, Error> {
        loop {
            if self.body.is_none() {
                if self.unread.is_empty() {
                    return Ok(End::Between);
                }
                match self.head.parse(&self.unread, &self.limits)? {
                    Parsed::Partial => return Ok(End::Inside),
                    Parsed::Complete(used) => {
                        assert!(used > 0, "a head of no bytes would be read for ever");
                        self.unread.drain(..used);
                    }
                }
                self.body = Some(Body {
                    bytes: Vec::new(),
                    form: match self.head.framing() {
                        Framing::None => BodyForm::Length(0),
                        Framing::Length(length) => BodyForm::Length(length),
                        Framing::Chunked => BodyForm::Chunked(ChunkedDecoder::new(MAX_BODY)),
                    },
                });
            }
            if !self.read_body()? {
                return Ok(End::Inside);
            }
            if !self.head.keep_alive() {
                return Ok(End::Closed);
            }
        }
    }

    /// Whether the body, and so the request, is done.
    fn read_body(&mut self) -> Result<bool, Error> {
        let Some(body) = &mut self.body else {
            return Ok(false);
        };
        let trailers = match &mut body.form {
            BodyForm::Length(length) => {
                let wanted = usize::try_from(*length).unwrap_or(usize::MAX);
                let taken = self.unread.len().min(wanted);
                body.bytes.extend(self.unread.drain(..taken));
                *length -= taken as u64;
                if *length > 0 {
                    return Ok(false);
                }
                Vec::new()
            }
            BodyForm::Chunked(decoder) => {
                let (used, done) = decoder.decode(&self.unread, &mut body.bytes)?;
                assert!(done || used == self.unread.len(), "input left lying");
                self.unread.drain(..used);
                assert_eq!(decoder.received(), body.bytes.len() as u64);
                if !done {
                    return Ok(false);
                }
                decoder.trailers().to_vec()
            }
        };
        let bytes = std::mem::take(&mut body.bytes);
        self.body = None;
        self.outcome
            .requests
            .push(request(&self.head, bytes, trailers));
        Ok(true)
    }
}

fn request(head: &Head, body: Vec<u8>, trailers: Vec<(String, Vec<u8>)>) -> Request {
    Request {
        method: head.method(),
        target: head.target().to_owned(),
        version: head.version(),
        path: head.path().to_owned(),
        query: head.query().map(str::to_owned),
        host: head.host().map(str::to_owned),
        fields: head
            .fields()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect(),
        framing: head.framing(),
        body,
        trailers,
        keep_alive: head.keep_alive(),
        expects_continue: head.expects_continue(),
    }
}

/// Reads the pieces one after the other.
fn read_pieces<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Outcome {
    let mut reader = Reader::new();
    for piece in pieces {
        reader.feed(piece);
    }
    reader.outcome
}

/// Reads the bytes at once.
fn read_all(bytes: &[u8]) -> Outcome {
    read_pieces([bytes])
}

/// Parses one head with default limits.
fn parse(bytes: &[u8]) -> (Head, Result<Parsed, Error>) {
    let mut head = Head::new();
    let answer = head.parse(bytes, &HeadLimits::default());
    (head, answer)
}

/// The status `bytes` are refused with, or 0.
fn refused(bytes: &[u8]) -> u16 {
    parse(bytes).1.map_or_else(|error| error.status(), |_| 0)
}
