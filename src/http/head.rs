//! One request's head: finding its end, its line and its fields. What the fields decide is `framing`'s, what the target
//! says is `target`'s, and the bytes after the head are the server's.
//!
//! `httparse` finds the parts, quickly and on any prefix; what it tolerates and this server does not (a bare LF ends a
//! line for it, and it has no limits) is checked on top, once a head.

use std::mem::MaybeUninit;

use super::error::{Error, bad};
use super::framing::{Framing, Noted, Occurs};
use super::lines::{after_crlf, separate};
use super::method::{Method, Version};
use super::target::{self, Parts, Span};

/// The most fields a head may have, whatever its [`HeadLimits`] say.
pub const MAX_FIELDS: usize = 1024;

/// The fields most heads stay below. Room for [`MAX_FIELDS`] is 32 KiB of stack, which only a longer head should touch.
const FEW_FIELDS: usize = 64;

/// Bytes of a Host that is remembered, at most.
const SHORT_HOST: usize = 255;

/// Bytes of the longest method that is served: OPTIONS.
pub(super) const LONGEST_METHOD: usize = 7;

/// Bounds of a head, so that a peer cannot make the server keep more (RFC 9112 section 3, RFC 6585 section 5).
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head: empty lines before it, request line, fields and the empty line. At most 4 GiB.
    pub bytes: usize,
    /// Number of fields, at most [`MAX_FIELDS`].
    pub fields: usize,
}

impl Default for HeadLimits {
    /// 16 KiB and 100 fields.
    fn default() -> Self {
        Self {
            bytes: 16 * 1024,
            fields: 100,
        }
    }
}

/// What [`Head::parse`] found, unless the head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole head, of that many bytes; the body or the next request follows them.
    Complete(usize),
    /// A good beginning: call again with these bytes and more.
    Partial,
}

/// One request's head, read and judged.
///
/// It owns a copy of its bytes, so that it can outlive the buffer and travel to another thread, and it keeps its memory
/// when cleared, so that a connection's requests share one without allocating.
///
/// # Examples
///
/// ```
/// use mcluster::http::{Framing, Head, HeadLimits, Method, Parsed};
///
/// # fn main() -> Result<(), mcluster::http::Error> {
/// let input = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
/// let mut head = Head::new();
/// assert_eq!(head.parse(&input[..30], &HeadLimits::default())?, Parsed::Partial);
/// let used = input.len() - 2;
/// assert_eq!(head.parse(input, &HeadLimits::default())?, Parsed::Complete(used));
/// assert_eq!((head.method(), head.path()), (Method::Post, "/a"));
/// assert_eq!(head.framing(), Framing::Length(2));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Head {
    /// The head as sent, from the request line on.
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// The target, then what of the path is not in it. Text apart from `bytes`, for field values need not be
    /// UTF-8.
    text: String,
    target: Span,
    parts: Parts,
    /// The value of Host in `bytes`, where the target names none: ASCII.
    host: Option<Span>,
    /// The last short one that was judged and found good, of this head or an earlier one.
    good_host: Vec<u8>,
    method: Method,
    version: Version,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

impl Head {
    /// An empty head: GET of an empty path, with no fields. It allocates nothing yet.
    pub const fn new() -> Self {
        const NOWHERE: Span = Span { start: 0, end: 0 };
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
            text: String::new(),
            target: NOWHERE,
            parts: Parts {
                path: NOWHERE,
                query: None,
                authority: None,
            },
            host: None,
            good_host: Vec::new(),
            method: Method::Get,
            version: Version::Http11,
            framing: Framing::None,
            keep_alive: false,
            expects_continue: false,
        }
    }

    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.text.clear();
        self.target = Span::default();
        self.parts = Parts::default();
        self.host = None;
        self.method = Method::Get;
        self.version = Version::Http11;
        self.framing = Framing::None;
        self.keep_alive = false;
        self.expects_continue = false;
    }

    /// Bytes of memory that are kept for the next head.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.text.capacity() + self.good_host.capacity()
    }

    /// Reads the head at the front of `buf`, which replaces what was here. Unless the answer is
    /// [`Parsed::Complete`] the head is empty afterwards.
    ///
    /// Where `buf` begins with the very bytes that were read into this head before, as the requests
    /// of a client that asks the same again do, all that they say is here already, judged and found
    /// good: they are compared, and not read a second time.
    ///
    /// Empty lines before the request line are skipped and counted (RFC 9112 section 2.2). Each call reads from the
    /// front again, so a head that drips in costs a pass a read; the limit bounds a pass, the server's timeout their
    /// number.
    ///
    /// # Errors
    ///
    /// The request is refused, and its connection must be closed after the answer:
    ///
    /// - 400: malformed, or ambiguous (RFC 9112 sections 2.2, 3.2, 5, 6.3);
    /// - 414, 431: longer than `limits` (RFC 9112 section 3, RFC 6585 section 5);
    /// - 417: an expectation other than `100-continue` (RFC 9110 section 10.1.1);
    /// - 501: a method or transfer coding not served (RFC 9110 section 9.1, RFC 9112 section 6.1);
    /// - 505: another major version (RFC 9110 section 2.5).
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parsed, Error> {
        if self.is_repeated_by(buf, limits) {
            return Ok(Parsed::Complete(self.bytes.len()));
        }
        self.clear();
        let limit = limits.bytes.min(u32::MAX as usize);
        let window = &buf[..buf.len().min(limit)];
        let answer = match self.parse_window(window, limits.fields.min(MAX_FIELDS)) {
            Ok(Parsed::Partial) if buf.len() >= limit => Err(too_long(window)),
            answer => answer,
        };
        if answer.is_err() {
            self.clear();
        }
        answer
    }

    /// Whether reading the front of `buf` would come to what is here: a head is all of its own bytes
    /// and none of what follows, so the same bytes are the same head.
    pub(super) fn is_repeated_by(&self, buf: &[u8], limits: &HeadLimits) -> bool {
        !self.bytes.is_empty()
            && buf.starts_with(&self.bytes)
            && self.bytes.len() <= limits.bytes
            && self.fields.len() <= limits.fields
    }

    fn parse_window(&mut self, window: &[u8], fields: usize) -> Result<Parsed, Error> {
        let Some(start) = empty_lines(window)? else {
            return Ok(Parsed::Partial);
        };
        let lines = &window[start..];
        let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
        let mut answer = self.parse_lines(lines, &mut few[..fields.min(FEW_FIELDS)]);
        if matches!(answer, Err(Refused::TooManyFields)) && fields > FEW_FIELDS {
            answer = self.parse_many(lines, fields);
        }
        if matches!(answer, Err(Refused::Version)) {
            match later_minor(lines)? {
                Some(digit) => {
                    // Read as HTTP/1.1 in a copy; rare enough to allocate.
                    let mut lines = lines.to_vec();
                    lines[digit] = b'1';
                    answer = self.parse_many(&lines, fields);
                }
                None => return Ok(Parsed::Partial),
            }
        }
        match answer {
            Ok(Parsed::Complete(used)) => Ok(Parsed::Complete(start + used)),
            Ok(Parsed::Partial) => Ok(Parsed::Partial),
            Err(Refused::For(error)) => Err(error),
            Err(Refused::Version) => Err(bad("a malformed version")),
            Err(Refused::TooManyFields) => Err(Error::new(431, "too many fields")),
        }
    }

    /// The same with room for every field, in a frame of its own.
    #[cold]
    #[inline(never)]
    fn parse_many(&mut self, lines: &[u8], fields: usize) -> Result<Parsed, Refused> {
        let mut many = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        self.parse_lines(lines, &mut many[..fields])
    }

    fn parse_lines<'b>(
        &mut self,
        lines: &'b [u8],
        room: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<Parsed, Refused> {
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(lines, room) {
            Ok(httparse::Status::Complete(end)) => match self.take(lines, end, &request) {
                Ok(()) => Ok(Parsed::Complete(end)),
                Err(error) => Err(Refused::For(error)),
            },
            Ok(httparse::Status::Partial) => Ok(Parsed::Partial),
            Err(error) => Err(Refused::from(error)),
        }
    }

    /// Takes over what `httparse` found in `lines[..end]`, if it was also well separated, and judges it.
    fn take(
        &mut self,
        lines: &[u8],
        end: usize,
        request: &httparse::Request<'_, '_>,
    ) -> Result<(), Error> {
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(bad("a malformed request line"));
        };
        const VERSION_LEN: usize = "HTTP/1.1".len();
        let mut at = after_crlf(lines, method.len() + 1 + target.len() + 1 + VERSION_LEN)?;
        self.method = Method::from_bytes(method.as_bytes())
            .ok_or(Error::new(501, "a method not implemented"))?;
        self.version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        self.text.push_str(target);
        self.target = Span::new(0, target.len());
        self.parts = target::split(self.method, &mut self.text)?;

        let mut noted = Noted::default();
        for header in request.headers.iter() {
            let (value, next) = separate(lines, at, header)?;
            let name = Span::new(at, at + header.name.len());
            self.fields.push(Field { name, value });
            at = next;
            noted.note(header.name.as_bytes(), header.value, value);
        }
        if after_crlf(lines, at)? != end {
            return Err(bad("a malformed head"));
        }

        self.take_host(noted.host)?;
        self.framing = noted.framing(self.version)?;
        self.expects_continue = noted.expects_continue(self.version, self.framing)?;
        self.keep_alive = noted.persists(self.version);
        self.bytes.extend_from_slice(&lines[..end]);
        Ok(())
    }

    /// RFC 9112 section 3.2: an HTTP/1.1 request has one Host, and a valid one, even if its target has an authority;
    /// that one then counts (3.2.2).
    fn take_host(&mut self, host: Occurs<(&[u8], Span)>) -> Result<(), Error> {
        match host {
            Occurs::Never if self.version == Version::Http11 => Err(bad("no Host")),
            Occurs::Never => Ok(()),
            Occurs::Again => Err(bad("a second Host")),
            Occurs::Once((value, span)) => {
                // One connection asks for one host, mostly.
                if value != self.good_host {
                    target::authority(value)?;
                    if value.len() <= SHORT_HOST {
                        self.good_host.clear();
                        self.good_host.extend_from_slice(value);
                    }
                }
                if self.parts.authority.is_none() {
                    self.host = Some(span);
                }
                Ok(())
            }
        }
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The version the request is served as.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The request target as sent (RFC 9112 section 3.2): visible ASCII.
    pub fn target(&self) -> &str {
        self.target.of(&self.text)
    }

    /// The target's path, for routing: it begins with `/`, or is `*` for a server-wide OPTIONS.
    ///
    /// Escaped unreserved characters are decoded (`/%68i` is `/hi`, RFC 3986 section 6.2.2.2) and everything else is
    /// left encoded, so a segment may still hold `%2F`. Dot segments are left too, also those that were escaped: who
    /// maps a path to files must refuse them.
    pub fn path(&self) -> &str {
        self.parts.path.of(&self.text)
    }

    /// The target's query as sent, without its `?`; see [`query_pairs`](super::query_pairs).
    pub fn query(&self) -> Option<&str> {
        self.parts.query.map(|query| query.of(&self.text))
    }

    /// Host and port asked for: the target's if it is absolute, else the Host field's (RFC 9112 section 3.3). Checked
    /// by grammar; perhaps empty. Only an HTTP/1.0 request may have none.
    pub fn host(&self) -> Option<&str> {
        match (self.parts.authority, self.host) {
            (Some(host), _) => Some(host.of(&self.text)),
            (None, host) => str::from_utf8(host?.of_bytes(&self.bytes)).ok(),
        }
    }

    /// The value of the first field of that name, compared without case (RFC 9110 section 5.1).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| {
                (field.name.end - field.name.start) as usize == name.len()
                    && self.name(field).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|field| field.value.of_bytes(&self.bytes))
    }

    /// The values of all fields of that name, in order, compared without case: one list in several fields, or a field
    /// that stands too often (RFC 9110 section 5.3).
    pub(crate) fn get_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let same = move |(known, _): &(&str, _)| known.eq_ignore_ascii_case(name);
        self.fields().filter(same).map(|(_, value)| value)
    }

    /// Every field in order: its name as sent, and its value without white space around it.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        self.fields.iter().map(|field| {
            // A name is a token, so ASCII.
            let name = str::from_utf8(self.name(field)).unwrap_or_default();
            (name, field.value.of_bytes(&self.bytes))
        })
    }

    fn name(&self, field: &Field) -> &[u8] {
        field.name.of_bytes(&self.bytes)
    }

    /// How the body is delimited (RFC 9112 section 6.3).
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client would keep the connection after this request (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before a body that it has announced (RFC 9110 section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }
}

/// Why one pass over the lines did not do; two of the reasons have a second pass.
#[derive(Debug)]
enum Refused {
    For(Error),
    Version,
    TooManyFields,
}

impl From<httparse::Error> for Refused {
    fn from(error: httparse::Error) -> Self {
        use httparse::Error as E;
        Self::For(bad(match error {
            E::TooManyHeaders => return Self::TooManyFields,
            E::Version => return Self::Version,
            E::HeaderName => "a malformed field name",
            E::HeaderValue => "a malformed field value",
            E::NewLine => "a malformed line end",
            E::Token | E::Status => "a malformed request line",
        }))
    }
}

/// How many bytes of empty lines come first, or `None` if that cannot be told yet (RFC 9112 section 2.2: a server
/// should skip one at least).
fn empty_lines(window: &[u8]) -> Result<Option<usize>, Error> {
    let mut at = 0;
    loop {
        match &window[at..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => at += 2,
            [b'\r' | b'\n', ..] => return Err(bad("a bare CR or LF before the head")),
            _ => return Ok(Some(at)),
        }
    }
}

/// The error for a head that does not end within its limit, which `window` fills: 501 if not even its method does,
/// for that is none served, and 414 if its request line does not (RFC 9112 section 3).
#[cold]
fn too_long(window: &[u8]) -> Error {
    let lines = match empty_lines(window) {
        Ok(Some(start)) => &window[start..],
        _ => &[],
    };
    let has = |byte| memchr::memchr(byte, lines).is_some();
    if has(b'\n') {
        Error::new(431, "a head longer than allowed")
    } else if has(b' ') || lines.len() <= LONGEST_METHOD {
        Error::new(414, "a request line longer than allowed")
    } else {
        Error::new(501, "a method longer than any served")
    }
}

/// For lines whose version `httparse` does not know: the place of its minor digit, if it is one of 1.2 to 1.9, which
/// are served as 1.1 (RFC 9110 section 2.5), or `None` if more bytes are needed to tell.
///
/// # Errors
///
/// 505 for another major version, 400 for what is no version.
#[cold]
fn later_minor(lines: &[u8]) -> Result<Option<usize>, Error> {
    const BAD: Error = bad("a malformed version");
    let mut spaces = memchr::memchr_iter(b' ', lines);
    let start = spaces.nth(1).ok_or(BAD)? + 1;
    // The parts in order, for as far as the bytes reach: HTTP-version CRLF (RFC 9112 section 2.3).
    let shape = b"HTTP/d.d\r\n";
    let sent = &lines[start..lines.len().min(start + shape.len())];
    let fits = |(&shape, sent): (&u8, &u8)| match shape {
        b'd' => sent.is_ascii_digit(),
        _ => shape == *sent,
    };
    if !shape.iter().zip(sent).all(fits) {
        return Err(BAD);
    }
    match sent {
        [_, _, _, _, _, b'1', _, _, _, _] => Ok(Some(start + 7)),
        [_, _, _, _, _, _, _, _, _, _] => Err(Error::new(505, "a major version not served")),
        _ => Ok(None),
    }
}
