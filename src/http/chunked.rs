//! Taking the chunks off a body (RFC 9112 section 7.1), byte by byte if need be. Buffers, timeouts and what becomes of
//! the body are the server's; what may be done with a trailer field is the application's.

use std::mem;

use super::error::{Error, bad};
use super::grammar::{hex, is_ows, is_tchar, is_value_byte};
use super::lines::separate;

/// The most bytes of chunk extensions in one body. They mean nothing here, and cost a reader without ever reaching the
/// body's own limit (RFC 9112 section 7.1.1).
pub const MAX_EXTENSION_BYTES: usize = 4096;

/// The most bytes of trailer lines in one body, their line ends included.
pub const MAX_TRAILER_BYTES: usize = 8192;

/// The most trailer fields in one body, those that are dropped included.
pub const MAX_TRAILER_FIELDS: usize = 64;

/// An incremental decoder of one chunked body. Any split of the input gives the same answer.
///
/// It keeps a few numbers, and of the input only the trailer line it is in.
///
/// # Examples
///
/// ```
/// use mcluster::http::ChunkedDecoder;
///
/// let mut decoder = ChunkedDecoder::new(1024);
/// let mut body = Vec::new();
/// assert_eq!(decoder.decode(b"2\r\nh", &mut body), Ok((4, false)));
/// assert_eq!(decoder.decode(b"i\r\n0\r\n\r\nGET /", &mut body), Ok((8, true)));
/// assert_eq!(body, b"hi");
/// ```
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    max_body: u64,
    received: u64,
    /// The current chunk: its size while that is read, then the bytes of it still to come.
    chunk: u64,
    digits: u8,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    line: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

/// What the next byte must be.
///
/// ```text
/// chunk     = 1*HEXDIG [ chunk-ext ] CRLF chunk-data CRLF
/// chunk-ext = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    /// The first digit of a size, or any later part of it.
    Size,
    /// After white space that an extension must follow.
    BeforeExtension,
    /// After `;`.
    BeforeName,
    Name,
    /// After white space that `=` or the next extension must follow.
    AfterName,
    /// After `=`.
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    AfterQuoted,
    /// The LF of a size line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer line, or the CR of the last line.
    Trailer,
    TrailerLine,
    TrailerLf,
    LastLf,
    Done,
    Failed(Error),
}

impl ChunkedDecoder {
    /// A decoder for a body of at most `max_body` bytes, extensions and trailers not counted.
    pub const fn new(max_body: u64) -> Self {
        Self {
            state: State::Size,
            max_body,
            received: 0,
            chunk: 0,
            digits: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
            line: Vec::new(),
            trailers: Vec::new(),
        }
    }

    /// Consumes `input`, and appends what it holds of the body to `body`. Gives the bytes consumed and whether the body
    /// is done; if so the rest belongs to the next request, else everything was consumed.
    ///
    /// # Errors
    ///
    /// 400 for a malformed body, 413 as soon as a size line goes past the body's limit, 431 for too many trailers
    /// (RFC 6585 section 5). The decoder then stays failed, and `body` may have grown.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<(usize, bool), Error> {
        self.decode_to(input, &mut |data: &[u8]| body.extend_from_slice(data))
    }

    /// The same, with each piece of the body given to `sink`.
    pub(super) fn decode_to(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(usize, bool), Error> {
        let answer = self.run(input, sink);
        if let Err(error) = answer {
            self.state = State::Failed(error);
        }
        answer
    }

    /// The trailer fields kept, in order, complete once the body is done.
    ///
    /// Never merge them into the head (RFC 9110 section 6.5.1). Those that would mean something there for framing,
    /// routing, authentication or the body's form are dropped.
    pub fn trailers(&self) -> &[(String, Vec<u8>)] {
        &self.trailers
    }

    /// Bytes of the body so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    fn run(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<(usize, bool), Error> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok((at, true)),
                State::Failed(error) => return Err(error),
                State::Data => {
                    let rest = &input[at..];
                    let wanted = usize::try_from(self.chunk).unwrap_or(usize::MAX);
                    let data = &rest[..rest.len().min(wanted)];
                    sink(data);
                    at += data.len();
                    self.chunk -= data.len() as u64;
                    self.received += data.len() as u64;
                    if self.chunk > 0 {
                        return Ok((at, false));
                    }
                    self.state = State::DataCr;
                }
                _ => {
                    let Some(&b) = input.get(at) else {
                        return Ok((at, false));
                    };
                    at += 1;
                    self.state = self.step(b)?;
                }
            }
        }
    }

    /// The state after byte `b`, for the states that go byte by byte.
    fn step(&mut self, b: u8) -> Result<State, Error> {
        match self.state {
            State::Size => self.size(b),
            State::SizeLf => match b {
                b'\n' if self.chunk == 0 => Ok(State::Trailer),
                b'\n' => Ok(State::Data),
                _ => Err(bad("a bare CR in a chunk-size line")),
            },
            State::DataCr if b == b'\r' => Ok(State::DataLf),
            State::DataLf if b == b'\n' => {
                self.chunk = 0;
                self.digits = 0;
                Ok(State::Size)
            }
            State::DataCr | State::DataLf => Err(bad("a chunk longer than its size")),
            State::Trailer | State::TrailerLine | State::TrailerLf | State::LastLf => {
                self.trailer(b)
            }
            state => self.extension(state, b),
        }
    }

    fn size(&mut self, b: u8) -> Result<State, Error> {
        if let Some(digit) = hex(b) {
            // Sixteen digits fill a u64; leading zeros count, so that a size line is bounded.
            if self.digits == 16 {
                return Err(bad("a chunk size that is too long"));
            }
            self.digits += 1;
            self.chunk = self.chunk << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        if self.digits == 0 {
            return Err(bad("a chunk without a size"));
        }
        let next = match b {
            b'\r' => State::SizeLf,
            b';' | b' ' | b'\t' => self.extension(State::BeforeExtension, b)?,
            _ => return Err(bad("a malformed chunk size")),
        };
        // RFC 9112 section 7.1: beware of overflow; the announcement is enough to refuse.
        if self.chunk > self.max_body.saturating_sub(self.received) {
            return Err(Error::new(413, "a chunked body longer than allowed"));
        }
        Ok(next)
    }

    /// One byte of the extensions: read by their grammar, then forgotten (RFC 9112 section 7.1.1).
    fn extension(&mut self, state: State, b: u8) -> Result<State, Error> {
        let next = match (state, b) {
            (State::BeforeExtension | State::Name | State::AfterName, b';') => State::BeforeName,
            (State::Value | State::AfterQuoted, b';') => State::BeforeName,
            (State::Name | State::Value | State::AfterQuoted, b'\r') => State::SizeLf,
            (State::BeforeName, b' ' | b'\t') => State::BeforeName,
            (State::BeforeName | State::Name, _) if is_tchar(b) => State::Name,
            (State::Name | State::AfterName, b'=') => State::BeforeValue,
            (State::Name | State::AfterName, b' ' | b'\t') => State::AfterName,
            (State::BeforeValue, b' ' | b'\t') => State::BeforeValue,
            (State::BeforeValue, b'"') => State::Quoted,
            (State::BeforeValue | State::Value, _) if is_tchar(b) => State::Value,
            (State::Quoted, b'"') => State::AfterQuoted,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, _) if is_value_byte(b) => State::Quoted,
            (State::BeforeExtension | State::Value | State::AfterQuoted, _) if is_ows(b) => {
                State::BeforeExtension
            }
            _ => return Err(bad("a malformed chunk extension")),
        };
        if !matches!(next, State::SizeLf) {
            self.extension_bytes += 1;
            if self.extension_bytes > MAX_EXTENSION_BYTES {
                return Err(bad("chunk extensions longer than allowed"));
            }
        }
        Ok(next)
    }

    /// One byte of the trailer section: field lines as in a head, then an empty line (RFC 9112 section 7.1.2).
    fn trailer(&mut self, b: u8) -> Result<State, Error> {
        match (self.state, b) {
            (State::Trailer, b'\r') => return Ok(State::LastLf),
            (State::LastLf, b'\n') => {
                // A finished decoder may wait long for its handler.
                self.line = Vec::new();
                return Ok(State::Done);
            }
            (State::LastLf, _) => return Err(bad("a bare CR in a trailer")),
            _ => {}
        }
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILER_BYTES {
            return Err(Error::new(431, "trailers longer than allowed"));
        }
        self.line.push(b);
        match (self.state, b) {
            (State::TrailerLf, b'\n') => {
                self.end_trailer_line()?;
                Ok(State::Trailer)
            }
            (State::TrailerLf, _) => Err(bad("a bare CR in a trailer")),
            (_, b'\n') => Err(bad("a bare LF in a trailer")),
            (_, b'\r') => Ok(State::TrailerLf),
            _ => Ok(State::TrailerLine),
        }
    }

    /// Reads the line as a head's field would be, and keeps it if it may be kept.
    fn end_trailer_line(&mut self) -> Result<(), Error> {
        const BAD: Error = bad("a malformed trailer field");
        self.trailer_fields += 1;
        if self.trailer_fields > MAX_TRAILER_FIELDS {
            return Err(Error::new(431, "too many trailer fields"));
        }
        let mut line = mem::take(&mut self.line);
        // An end, for httparse to answer.
        line.extend_from_slice(b"\r\n");
        let mut room = [httparse::EMPTY_HEADER];
        let Ok(httparse::Status::Complete((_, [header]))) =
            httparse::parse_headers(&line, &mut room)
        else {
            return Err(BAD);
        };
        separate(&line, 0, header)?;
        if !is_forbidden_trailer(header.name) {
            self.trailers
                .push((header.name.to_owned(), header.value.to_vec()));
        }
        line.clear();
        self.line = line;
        Ok(())
    }
}

/// Whether a trailer field of that name is dropped: framing, routing, request modifiers, authentication, response
/// control, the body's form (RFC 9110 section 6.5.1), and what proxies say of a connection.
fn is_forbidden_trailer(name: &str) -> bool {
    const NAMES: [&str; 51] = [
        // Framing, routing, the connection (RFC 9110 sections 7.2, 7.6, 8.6; RFC 9112 section 6.1).
        "transfer-encoding",
        "content-length",
        "host",
        "trailer",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "x-http-method-override",
        // Controls and conditionals (RFC 9110 sections 10.1, 13.1; RFC 9111 section 5).
        "cache-control",
        "pragma",
        "expect",
        "max-forwards",
        "range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        // Authentication and state (RFC 9110 section 11; RFC 6265).
        "authorization",
        "authentication-info",
        "proxy-authorization",
        "proxy-authentication-info",
        "www-authenticate",
        "proxy-authenticate",
        "cookie",
        "set-cookie",
        "origin",
        // Response control (RFC 9110 sections 6.6, 10.2, 12.5).
        "age",
        "date",
        "expires",
        "location",
        "retry-after",
        "vary",
        "warning",
        "status",
        // The body's form (RFC 9110 sections 8.3 to 8.7, 14.4).
        "content-type",
        "content-encoding",
        "content-language",
        "content-location",
        "content-range",
        "content-disposition",
        "content-md5",
        "mime-version",
    ];
    NAMES
        .iter()
        .any(|forbidden| forbidden.eq_ignore_ascii_case(name))
}
