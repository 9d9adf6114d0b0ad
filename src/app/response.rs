//! A response as a handler makes it: status, fields, body.
//!
//! Owns that no field can break the framing; leaves framing itself (Content-Length, chunks,
//! Connection, Date) to `server`.

use super::Pieces;
use super::feed::{self, Feed, Sender};
use super::upgrade::{Protocol, Switch};
use crate::http;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const BINARY: &str = "application/octet-stream";

/// The field by which no browser guesses what an answer is.
pub(crate) const NOSNIFF: (&str, &str) = ("X-Content-Type-Options", "nosniff");

/// Fields that say how long a message is or what becomes of its connection: the server's alone.
const FRAMING_FIELDS: [&str; 6] = [
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
    "trailer",
    "upgrade",
];

/// What a response carries.
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes of the program itself.
    Static(&'static [u8]),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Bytes that other answers have too: nothing is copied for it but, where they are few, into the
    /// write that the head leaves by.
    Shared(Arc<[u8]>),
    /// Bytes and parts of files, of known length.
    Pieces(Pieces),
    /// Pieces made one by one as the client takes them; their sum is not known in advance, so
    /// they go out in chunks (or until the connection closes, in HTTP/1.0). A panic of the
    /// iterator cuts the answer short, so that the client can tell.
    Stream(Box<dyn Iterator<Item = Vec<u8>> + Send>),
    /// Pieces that a [`Sender`] puts in while the client waits for them; see
    /// [`Response::channel`].
    Feed(Feed),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Static(bytes) => write!(f, "Static({} bytes)", bytes.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Shared(bytes) => write!(f, "Shared({} bytes)", bytes.len()),
            Self::Pieces(pieces) => pieces.fmt(f),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Feed(_) => f.write_str("Feed"),
        }
    }
}

/// Makes the fields that follow a stream.
pub(crate) type Trailers = Box<dyn FnOnce() -> Vec<(String, String)> + Send>;

/// Fields as they go out.
enum Fields {
    Own(Vec<u8>),
    /// Made for many answers.
    Shared(Arc<[u8]>),
}

impl Fields {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    /// To add to them.
    fn own(&mut self) -> &mut Vec<u8> {
        if let Self::Shared(bytes) = self {
            *self = Self::Own(bytes.to_vec());
        }
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(_) => unreachable!("they have been copied"),
        }
    }
}

/// The fields of many answers.
#[derive(Debug)]
pub(crate) struct SharedFields {
    bytes: Arc<[u8]>,
    nosniff: bool,
}

/// One HTTP response.
///
/// # Examples
///
/// ```
/// use mcluster::Response;
///
/// let response = Response::text("made\n").with_status(201).header("Location", "/things/7");
/// assert_eq!(response.status(), 201);
/// ```
pub struct Response {
    status: u16,
    /// The common field, kept apart so that a plain answer allocates nothing.
    content_type: Option<&'static str>,
    /// All others, as they go out.
    fields: Fields,
    /// [`NOSNIFF`], which most answers have, kept apart as well.
    nosniff: bool,
    has_date: bool,
    close: bool,
    body: Body,
    trailers: Option<Trailers>,
    /// Boxed, so that all other answers carry a word.
    switch: Option<Box<Switch>>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("fields", &String::from_utf8_lossy(self.fields()))
            .field("close", &self.close)
            .field("body", &self.body)
            .field("trailers", &self.trailers.is_some())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// An empty answer. A status outside 200 to 599 becomes a 500 and a line in the log: interim
    /// answers are the server's business.
    pub fn new(status: u16) -> Self {
        Self {
            status: 200,
            content_type: None,
            fields: Fields::Own(Vec::new()),
            nosniff: false,
            has_date: false,
            close: false,
            body: Body::Empty,
            trailers: None,
            switch: None,
        }
        .with_status(status)
    }

    /// An answer with the fields of another.
    pub(crate) fn with_fields(status: u16, fields: &SharedFields) -> Self {
        Self {
            fields: Fields::Shared(Arc::clone(&fields.bytes)),
            nosniff: fields.nosniff,
            ..Self::new(status)
        }
    }

    /// Its fields, for others: none is its date, or an implied Content-Type.
    pub(crate) fn shared_fields(&self) -> SharedFields {
        SharedFields {
            bytes: self.fields().into(),
            nosniff: self.nosniff,
        }
    }

    /// 200 with text in UTF-8.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::of(TEXT, text.into())
    }

    /// 200 with a page.
    pub fn html(page: impl Into<Cow<'static, str>>) -> Self {
        Self::of(HTML, page.into())
    }

    fn of(content_type: &'static str, text: Cow<'static, str>) -> Self {
        Self {
            content_type: Some(content_type),
            body: match text {
                Cow::Borrowed(text) => Body::Static(text.as_bytes()),
                Cow::Owned(text) => Body::Bytes(text.into_bytes()),
            },
            ..Self::new(200)
        }
    }

    /// 200 with bytes, as `application/octet-stream` unless a Content-Type is set.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            content_type: Some(BINARY),
            body: Body::Bytes(bytes.into()),
            ..Self::new(200)
        }
    }

    /// 200 with pieces made one by one; see [`Body::Stream`].
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::Response;
    ///
    /// let numbers = Response::stream((1..=3).map(|n| format!("{n}\n")));
    /// # assert_eq!(numbers.status(), 200);
    /// ```
    pub fn stream<I>(pieces: I) -> Self
    where
        I: IntoIterator,
        I::IntoIter: Send + 'static,
        I::Item: Into<Vec<u8>> + 'static,
    {
        Self {
            content_type: Some(TEXT),
            body: Body::Stream(Box::new(pieces.into_iter().map(Into::into))),
            ..Self::new(200)
        }
    }

    /// 200 with a body that the [`Sender`] feeds from now on, from any thread; its type is
    /// `application/octet-stream` unless a Content-Type is set. The length is not known, so it goes
    /// out in chunks (or until the connection closes, in HTTP/1.0). A worker that is to end waits for
    /// it, as long as `--drain-timeout` allows.
    pub fn channel() -> (Sender, Self) {
        Self::fed(None)
    }

    /// The same, and whenever nothing has been sent for as long as `every`, the client gets `piece`:
    /// a sign of life, in a format that has one. Less than 10 ms is taken for 10 ms, more than a
    /// year for a year.
    pub fn channel_with_heartbeat(every: Duration, piece: &'static [u8]) -> (Sender, Self) {
        Self::fed(Some((feed::bearable(every), piece)))
    }

    fn fed(heartbeat: Option<(Duration, &'static [u8])>) -> (Sender, Self) {
        let (sender, feed) = feed::channel(heartbeat);
        let response = Self {
            content_type: Some(BINARY),
            body: Body::Feed(feed),
            ..Self::new(200)
        };
        (sender, response)
    }

    /// The status and its name as text: `404 Not Found`.
    pub(crate) fn plain(status: u16) -> Self {
        Self::text(format!("{status} {}\n", http::reason(status))).with_status(status)
    }

    /// The same with a word about what is wrong, which must not tell a client more than it may know.
    pub(crate) fn refusal(status: u16, what: impl fmt::Display) -> Self {
        let reason = http::reason(status);
        Self::text(format!("{status} {reason}: {what}\n")).with_status(status)
    }

    /// The same, and no browser is to guess what it is, unless something is said of that already.
    pub(crate) fn nosniff(self) -> Self {
        self.or_header(NOSNIFF.0, NOSNIFF.1)
    }

    /// The same as 101: `protocol` goes on with the connection, by that name (RFC 9110 7.8).
    #[must_use]
    pub(crate) fn switch(mut self, name: &'static str, protocol: Box<dyn Protocol>) -> Self {
        self.status = 101;
        self.body = Body::Empty;
        self.content_type = None;
        self.switch = Some(Box::new(Switch { name, protocol }));
        self
    }

    /// 426: only by that protocol (RFC 9110 15.5.22).
    pub(crate) fn upgrade_required(name: &str) -> Self {
        Self::plain(426).header("Upgrade", name)
    }

    /// The same with fields behind its stream (RFC 9112 7.1.2), made when the last piece is out: a
    /// checksum, say. They are sent, and made at all, only to a client that announced by
    /// `TE: trailers` that it reads them, and only behind a body in chunks. Fields that may not be
    /// sent (a bad name, or one about framing) are left out, with a line in the log.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::Response;
    ///
    /// let counted = Response::stream((1..=3).map(|n| format!("{n}\n")))
    ///     .trailers(|| vec![("Lines".to_owned(), "3".to_owned())]);
    /// # assert_eq!(counted.status(), 200);
    /// ```
    #[must_use]
    pub fn trailers<F>(mut self, fields: F) -> Self
    where
        F: FnOnce() -> Vec<(String, String)> + Send + 'static,
    {
        self.trailers = Some(Box::new(fields));
        self
    }

    /// The same with another status; see [`Response::new`] for which.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = if (200..=599).contains(&status) {
            status
        } else {
            log::error!("a handler answered with status {status}; sent 500");
            500
        };
        self
    }

    /// The same with another body.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The same with one field more. `Content-Type` replaces the one that was implied.
    ///
    /// A name or value that RFC 9110 (5.1, 5.5) forbids, say with a line break from a client's
    /// input, makes the answer a 500 and a line in the log. Fields about framing
    /// (`Content-Length`, `Transfer-Encoding`, `Connection`, ..) are the server's and ignored; but
    /// `Upgrade` of a 426 is sent, and set after the status.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if value == NOSNIFF.1.as_bytes() && is(NOSNIFF.0) {
            self.nosniff = true;
            return self;
        }
        if !http::is_token(name.as_bytes()) || !http::is_field_value(value) {
            log::error!("a handler set a field {name:?} that cannot be sent; sent 500");
            return Self::new(500);
        }
        if is("upgrade") && self.status == 426 {
            // RFC 9110 7.8 and 15.5.22: the one answer of a handler's that must have it.
            http::field(self.fields.own(), "Connection", b"Upgrade");
        } else if FRAMING_FIELDS.iter().any(|field| is(field)) {
            return self;
        }
        if is("content-type") {
            self.content_type = None;
        }
        self.has_date |= is("date");
        http::field(self.fields.own(), name, value);
        self
    }

    /// The same with one field more, as by [`Response::header`], unless it has one of that name:
    /// for what wraps handlers, which know better.
    #[must_use]
    pub fn or_header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        match self.has_field(name) {
            true => self,
            false => self.header(name, value),
        }
    }

    fn has_field(&self, name: &str) -> bool {
        let implied = self.content_type.is_some() && name.eq_ignore_ascii_case("content-type");
        implied || self.values(name).next().is_some()
    }

    /// The values of the fields of that name which were added.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.fields().split(|&byte| byte == b'\n');
        let apart = self.nosniff && name.eq_ignore_ascii_case(NOSNIFF.0);
        let added = lines.filter_map(move |line| {
            let (start, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b":")?;
            let same = start.eq_ignore_ascii_case(name.as_bytes());
            same.then(|| value.trim_ascii())
        });
        apart
            .then_some(NOSNIFF.1.as_bytes())
            .into_iter()
            .chain(added)
    }

    /// The same, and the connection is closed after it.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    pub(crate) fn content_type(&self) -> Option<&'static str> {
        self.content_type
    }

    pub(crate) fn fields(&self) -> &[u8] {
        self.fields.bytes()
    }

    /// All fields but the implied Content-Type, wherever they are kept.
    #[cfg(test)]
    pub(crate) fn all_fields(&self) -> Vec<u8> {
        let mut all = Vec::new();
        if self.nosniff {
            http::field(&mut all, NOSNIFF.0, NOSNIFF.1.as_bytes());
        }
        all.extend_from_slice(self.fields());
        all
    }

    /// Whether no browser is to guess what it is.
    pub(crate) fn is_nosniff(&self) -> bool {
        self.nosniff
    }

    pub(crate) fn has_date(&self) -> bool {
        self.has_date
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.close
    }

    pub(crate) fn switches_to(&self) -> Option<&'static str> {
        self.switch.as_ref().map(|switch| switch.name)
    }

    pub(crate) fn into_parts(self) -> (Body, Option<Trailers>, Option<Box<Switch>>) {
        (self.body, self.trailers, self.switch)
    }
}

/// Appends the trailer section of a chunked body: the fields that may be sent, without its end.
pub(crate) fn trailer_section(out: &mut Vec<u8>, fields: Vec<(String, String)>) {
    for (name, value) in fields {
        let framing = FRAMING_FIELDS
            .iter()
            .any(|field| name.eq_ignore_ascii_case(field));
        if framing || !http::is_token(name.as_bytes()) || !http::is_field_value(value.as_bytes()) {
            log::error!("a handler set a trailer {name:?} that cannot be sent; left out");
            continue;
        }
        http::field(out, &name, value.as_bytes());
    }
}
