//! From a request to the answer that a file gives it (RFC 9110 13.2, 14.2, 15.4.5).

use super::store::{Open, Store, etag, is_out_of_descriptors};
use super::{Files, listing, path};
use crate::app::{Body, Pieces, Request, Response};
use crate::http::{
    self, AcceptEncoding, ByteRange, Coding, Conditions, ETag, Ranges, Validators, Verdict,
};
use crate::net::Seldom;
use crate::sys::beneath::{Facts, Kind};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long the log is silent about failures of the system after it has told of one.
const QUIET: Duration = Duration::from_secs(1);

/// An answer without a file.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) what: &'static str,
    pub(super) field: Option<(&'static str, Cow<'static, [u8]>)>,
}

impl Refusal {
    pub(super) const fn new(status: u16, what: &'static str) -> Self {
        Self {
            status,
            what,
            field: None,
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.field = Some((name, Cow::Borrowed(value.as_bytes())));
        self
    }
}

const ABSENT: Refusal = Refusal::new(404, "no such file");

impl From<io::Error> for Refusal {
    /// Says nothing of the machine.
    fn from(error: io::Error) -> Self {
        use libc::{EACCES, EAGAIN, EINVAL, ELOOP, ENAMETOOLONG, ENODEV, ENOENT, ENOMEM, ENOTDIR};
        use libc::{ENXIO, EPERM, EXDEV};
        match error.raw_os_error() {
            Some(ENOENT | ENOTDIR | EXDEV | ELOOP | ENAMETOOLONG | EINVAL | ENXIO | ENODEV) => {
                ABSENT
            }
            Some(EACCES | EPERM) => Self::new(403, "a file that may not be read"),
            errno if matches!(errno, Some(EAGAIN | ENOMEM)) || is_out_of_descriptors(&error) => {
                complain(&error);
                Self::new(503, "no file can be opened now").with("Retry-After", "1")
            }
            _ => {
                complain(&error);
                Self::new(500, "a file cannot be opened")
            }
        }
    }
}

/// One line in the log for many failures at once.
fn complain(error: &io::Error) {
    thread_local! {
        static FAILURES: RefCell<Seldom> = const { RefCell::new(Seldom::every(QUIET)) };
    }
    if FAILURES.with_borrow_mut(|failures| failures.is_due(Instant::now())) {
        log::error!("a file cannot be opened: {error}");
    }
}

/// What is sent: a file, in a coding.
struct Chosen {
    open: Rc<Open>,
    coding: Coding,
    etag: ETag,
    /// Another request may get another coding.
    varies: bool,
}

impl Files {
    /// Answers GET or HEAD of a path that begins with `prefix`.
    pub(super) fn answer(&self, request: &Request, prefix: &str) -> Result<Response, Refusal> {
        let encoded = request.path().get(prefix.len()..).unwrap_or_default();
        let path::Wanted { path, slash } = path::wanted(encoded, self.dotfiles).ok_or(ABSENT)?;
        Store::with(self, |store| {
            let facts = store.facts(&path)?;
            match facts.kind {
                Kind::Regular if slash => Err(ABSENT),
                Kind::Regular => self.file(store, request, &path, &facts),
                Kind::Directory if slash => self.directory(store, request, &path),
                Kind::Directory => Ok(to_slash(request, prefix, &path)),
                Kind::Other => Err(ABSENT),
            }
        })?
    }

    /// The page of a directory, or what is in it.
    fn directory(
        &self,
        store: &mut Store,
        request: &Request,
        place: &[u8],
    ) -> Result<Response, Refusal> {
        for name in &self.index {
            let path = path::join(place, name.as_bytes());
            match store.facts(&path).map_err(Refusal::from) {
                Ok(facts) if facts.kind == Kind::Regular => {
                    return self.file(store, request, &path, &facts);
                }
                Err(refusal) if refusal.status != 404 => return Err(refusal),
                _ => {}
            }
        }
        if !self.listing {
            return Err(ABSENT);
        }
        let mut names = store.names(place, listing::MOST + 1)?;
        let more = names.len() > listing::MOST;
        names.truncate(listing::MOST);
        let page = listing::page(place, names, self.dotfiles, more);
        Ok(Response::html(page).nosniff())
    }

    fn file(
        &self,
        store: &mut Store,
        request: &Request,
        path: &[u8],
        facts: &Facts,
    ) -> Result<Response, Refusal> {
        let chosen = self.choose(store, request, path, facts)?;
        let conditions = Conditions::of(request.headers());
        let current = Validators {
            etag: Some(&chosen.etag),
            modified: Some(chosen.open.facts.modified()),
        };
        let method = request.method();
        match conditions.judge(method, current) {
            Verdict::Proceed => {}
            Verdict::NotModified => return Ok(self.common(Response::new(304), &chosen)),
            Verdict::Failed => return Err(Refusal::new(412, "a precondition does not hold")),
        }
        let size = chosen.open.facts.size;
        let now = SystemTime::now();
        // A file that was written to just now can be once more, and its date stay the same.
        let strong = Validators {
            modified: current
                .modified
                .filter(|&modified| is_settled(modified, now)),
            ..current
        };
        let ranges = match conditions.range(method, strong) {
            Some(value) => http::ranges(value, size),
            None => Ranges::Whole,
        };
        let media = media_type(path);
        let whole = ByteRange {
            start: 0,
            length: size,
        };
        let (status, media, pieces) = match ranges {
            Ranges::Whole => (200, media, part(Pieces::default(), &chosen, whole)),
            Ranges::One(range) => (206, media, part(Pieces::default(), &chosen, range)),
            Ranges::Several(ref several) => {
                let boundary = store.boundary();
                let pieces = parts(several, &chosen, &boundary, &media);
                let media = format!("multipart/byteranges; boundary={boundary}");
                (206, media.into(), pieces)
            }
            Ranges::Unsatisfiable => {
                let mut value = Vec::new();
                http::unsatisfied_range(&mut value, size);
                let mut refusal = Refusal::new(416, "no such range");
                refusal.field = Some(("Content-Range", Cow::Owned(value)));
                return Err(refusal);
            }
        };
        let mut response = Response::new(status)
            .with_body(Body::Pieces(pieces))
            .header("Content-Type", media.as_bytes())
            .nosniff()
            .header("Accept-Ranges", "bytes")
            .header("Last-Modified", chosen.open.modified_by(now));
        if let Ranges::One(range) = ranges {
            let mut value = Vec::new();
            http::content_range(&mut value, range, size);
            response = response.header("Content-Range", value);
        }
        if let Some(name) = chosen.coding.name() {
            response = response.header("Content-Encoding", name);
        }
        Ok(self.common(response, &chosen))
    }

    /// Adds the fields that a 304 has too (RFC 9110 15.4.5).
    fn common(&self, response: Response, chosen: &Chosen) -> Response {
        let mut response = response.header("ETag", chosen.etag.as_str());
        if let Some(value) = &self.cache_control {
            response = response.header("Cache-Control", value);
        }
        if chosen.varies {
            response = response.header("Vary", "Accept-Encoding");
        }
        response
    }

    /// The file itself, or a neighbour that has the same in a coding that the client would rather
    /// have.
    fn choose(
        &self,
        store: &mut Store,
        request: &Request,
        path: &[u8],
        facts: &Facts,
    ) -> Result<Chosen, Refusal> {
        let open = store.open(path, facts)?.ok_or(ABSENT)?;
        let plain = |varies| Chosen {
            coding: Coding::Identity,
            etag: open.etag.clone(),
            open: Rc::clone(&open),
            varies,
        };
        if !self.precompressed {
            return Ok(plain(false));
        }
        let mut neighbours = Vec::new();
        for coding in Coding::CODED {
            let path = [path, ending(coding)].concat();
            match store.facts(&path) {
                Ok(found) if found.kind == Kind::Regular && !is_older(&found, facts) => {
                    neighbours.push((coding, path, found));
                }
                _ => {}
            }
        }
        if neighbours.is_empty() {
            return Ok(plain(false));
        }
        let available: Vec<_> = neighbours.iter().map(|(coding, ..)| *coding).collect();
        let accepts = AcceptEncoding::of(request.header_all("accept-encoding"));
        let coding = accepts.choose(&available);
        let found = neighbours.iter().find(|(other, ..)| *other == coding);
        if let Some((_, path, facts)) = found
            // One that cannot be opened is as good as none.
            && let Ok(Some(open)) = store.open(path, facts)
        {
            return Ok(Chosen {
                etag: etag(&open.facts, coding)?,
                open,
                coding,
                varies: true,
            });
        }
        Ok(plain(true))
    }
}

/// Whether a neighbour was made before the file got what it has. Programs that compress give it the
/// file's own time, some of them in whole seconds.
fn is_older(neighbour: &Facts, file: &Facts) -> bool {
    let exact = match neighbour.modified {
        (seconds, 0) => (seconds, 999_999_999),
        exact => exact,
    };
    exact < file.modified
}

/// Whether a date with whole seconds tells what was modified then from all that comes later
/// (RFC 9110 8.8.2.2).
fn is_settled(modified: SystemTime, now: SystemTime) -> bool {
    let age = now.duration_since(modified);
    age.is_ok_and(|age| age >= Duration::from_secs(1))
}

/// What a neighbour in that coding is called.
fn ending(coding: Coding) -> &'static [u8] {
    match coding {
        Coding::Brotli => b".br",
        Coding::Zstd => b".zst",
        Coding::Gzip => b".gz",
        Coding::Identity => b"",
    }
}

fn part(pieces: Pieces, chosen: &Chosen, range: ByteRange) -> Pieces {
    pieces.file(Arc::clone(&chosen.open.file), range.start, range.length)
}

/// A body of `multipart/byteranges` (RFC 9110 14.6).
fn parts(several: &[ByteRange], chosen: &Chosen, boundary: &str, media: &str) -> Pieces {
    let mut pieces = Pieces::default();
    for &range in several {
        let mut head = Vec::new();
        http::byteranges_part(&mut head, boundary, media, range, chosen.open.facts.size);
        pieces = part(pieces.bytes(head), chosen, range);
    }
    let mut end = Vec::new();
    http::byteranges_end(&mut end, boundary);
    pieces.bytes(end)
}

/// Sends to the same directory with a slash, so that what its page links to is found below it.
/// Its components were read, and are written anew, so the place is on this server whatever they
/// are called.
fn to_slash(request: &Request, prefix: &str, path: &[u8]) -> Response {
    let mut place = format!("{prefix}/");
    if !path.is_empty() {
        path::encode(&mut place, path);
        place.push('/');
    }
    if let Some(query) = request.query() {
        place.push('?');
        place += query;
    }
    Response::plain(301).header("Location", place).nosniff()
}

/// The media type by the ending of a name; text is taken for UTF-8.
fn media_type(path: &[u8]) -> Cow<'static, str> {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let name = String::from_utf8_lossy(name);
    match mime_guess::from_path(&*name).first_raw() {
        None => Cow::Borrowed("application/octet-stream"),
        // The usual ones, without an allocation.
        Some("text/html") => Cow::Borrowed("text/html; charset=utf-8"),
        Some("text/css") => Cow::Borrowed("text/css; charset=utf-8"),
        Some("text/javascript" | "application/javascript") => {
            Cow::Borrowed("text/javascript; charset=utf-8")
        }
        Some("text/plain") => Cow::Borrowed("text/plain; charset=utf-8"),
        Some(media) if media.starts_with("text/") => Cow::Owned(format!("{media}; charset=utf-8")),
        Some(media) => Cow::Borrowed(media),
    }
}
