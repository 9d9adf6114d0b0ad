//! From a request to the answer that a file gives it (RFC 9110 13.2, 14.2, 15.4.5).

use super::cache::{Fields, Held, Prepared, Variant};
use super::store::{Content, Open, Store, etag, is_out_of_descriptors};
use super::{Files, listing, path};
use crate::app::{Body, Pieces, Request, Response};
use crate::http::{
    self, AcceptEncoding, ByteRange, Coding, Conditions, Ranges, Validators, Verdict,
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
    variant: Variant,
    /// The codings in which it could be sent.
    available: Vec<Coding>,
}

impl Files {
    /// Answers GET or HEAD of a path that begins with `prefix`.
    pub(super) fn answer(&self, request: &Request, prefix: &str) -> Result<Response, Refusal> {
        let encoded = request.path().get(prefix.len()..).unwrap_or_default();
        if self.cache.is_zero() {
            let wanted = path::wanted(encoded, self.dotfiles).ok_or(ABSENT)?;
            return Store::with(self, |store| self.look(store, request, prefix, &wanted))?;
        }
        Store::with(self, |store| {
            if let Some((prepared, open)) = store.prepared(encoded, request) {
                return self.represent(store, request, &open, &prepared.variant, Some(&prepared));
            }
            let wanted = path::wanted(encoded, self.dotfiles).ok_or(ABSENT)?;
            self.look(store, request, prefix, &wanted)
        })?
    }

    /// Answers by what the path leads to now.
    fn look(
        &self,
        store: &mut Store,
        request: &Request,
        prefix: &str,
        wanted: &path::Wanted,
    ) -> Result<Response, Refusal> {
        let path::Wanted { path, slash } = wanted;
        let encoded = request.path().get(prefix.len()..).unwrap_or_default();
        let facts = store.facts(path)?;
        match facts.kind {
            Kind::Regular if *slash => Err(ABSENT),
            Kind::Regular => self.file(store, request, encoded, path, &facts),
            Kind::Directory if *slash => self.directory(store, request, encoded, path),
            Kind::Directory => Ok(to_slash(request, prefix, path)),
            Kind::Other => Err(ABSENT),
        }
    }

    /// The page of a directory, or what is in it.
    fn directory(
        &self,
        store: &mut Store,
        request: &Request,
        encoded: &str,
        place: &[u8],
    ) -> Result<Response, Refusal> {
        for name in &self.index {
            let path = path::join(place, name.as_bytes());
            match store.facts(&path).map_err(Refusal::from) {
                Ok(facts) if facts.kind == Kind::Regular => {
                    return self.file(store, request, encoded, &path, &facts);
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

    /// Answers by a file that was just found, and prepares for those who ask the same.
    fn file(
        &self,
        store: &mut Store,
        request: &Request,
        encoded: &str,
        path: &[u8],
        facts: &Facts,
    ) -> Result<Response, Refusal> {
        let chosen = self.choose(store, request, path, facts)?;
        let Chosen {
            open,
            variant,
            available,
        } = chosen;
        if self.cache.is_zero() {
            return self.represent(store, request, &open, &variant, None);
        }
        let now = SystemTime::now();
        let until = store.now.checked_add(self.cache);
        let (Some(until), true) = (until, open.facts.modified() <= now) else {
            return self.represent(store, request, &open, &variant, None);
        };
        let open = match open.in_memory() {
            Some(copy) => {
                store.forget(&open);
                Rc::new(copy)
            }
            None => open,
        };
        let unchanged = self.common(Response::new(304), &open, &variant);
        let whole = self.whole(&open, &variant, now);
        let prepared = Rc::new(Prepared {
            fields: Fields {
                whole: whole.shared_fields(),
                unchanged: unchanged.shared_fields(),
            },
            held: match open.content {
                Content::Memory(_) => Held::Memory(Rc::clone(&open)),
                Content::File(_) => Held::File(Rc::downgrade(&open)),
            },
            variant,
            until,
        });
        let kept = Rc::clone(&prepared);
        store.cache.keep(encoded, &available, kept);
        self.represent(store, request, &open, &prepared.variant, Some(&prepared))
    }

    /// The answer that a file gives a request.
    fn represent(
        &self,
        store: &mut Store,
        request: &Request,
        open: &Open,
        variant: &Variant,
        prepared: Option<&Prepared>,
    ) -> Result<Response, Refusal> {
        let conditions = Conditions::of(request.headers());
        let current = Validators {
            etag: Some(variant.tag(open)),
            modified: Some(open.facts.modified()),
        };
        let method = request.method();
        match conditions.judge(method, current) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                return Ok(match prepared {
                    Some(prepared) => Response::with_fields(304, &prepared.fields.unchanged),
                    None => self.common(Response::new(304), open, variant),
                });
            }
            Verdict::Failed => return Err(Refusal::new(412, "a precondition does not hold")),
        }
        let size = open.facts.size;
        if !conditions.has_range() {
            let response = match prepared {
                Some(prepared) => Response::with_fields(200, &prepared.fields.whole),
                None => self.whole(open, variant, SystemTime::now()),
            };
            return Ok(response.with_body(body(open)));
        }
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
        let media = &*variant.media;
        let response = match ranges {
            Ranges::Whole => self.whole(open, variant, now).with_body(body(open)),
            Ranges::One(range) => {
                let mut value = Vec::new();
                http::content_range(&mut value, range, size);
                let pieces = part(Pieces::default(), open, range);
                self.described(206, open, variant, media, now)
                    .header("Content-Range", value)
                    .with_body(Body::Pieces(pieces))
            }
            Ranges::Several(several) => {
                let boundary = store.boundary();
                let pieces = parts(&several, open, &boundary, media);
                let media = format!("multipart/byteranges; boundary={boundary}");
                self.described(206, open, variant, &media, now)
                    .with_body(Body::Pieces(pieces))
            }
            Ranges::Unsatisfiable => {
                let mut value = Vec::new();
                http::unsatisfied_range(&mut value, size);
                let mut refusal = Refusal::new(416, "no such range");
                refusal.field = Some(("Content-Range", Cow::Owned(value)));
                return Err(refusal);
            }
        };
        Ok(response)
    }

    /// The fields of an answer that is the whole file.
    fn whole(&self, open: &Open, variant: &Variant, now: SystemTime) -> Response {
        self.described(200, open, variant, &variant.media, now)
    }

    /// The fields of an answer with the file or parts of it.
    fn described(
        &self,
        status: u16,
        open: &Open,
        variant: &Variant,
        media: &str,
        now: SystemTime,
    ) -> Response {
        let mut response = Response::new(status)
            .header("Content-Type", media)
            .nosniff()
            .header("Accept-Ranges", "bytes")
            .header("Last-Modified", &*open.modified_by(now));
        if let Some(name) = variant.coding.name() {
            response = response.header("Content-Encoding", name);
        }
        self.common(response, open, variant)
    }

    /// Adds the fields that a 304 has too (RFC 9110 15.4.5).
    fn common(&self, response: Response, open: &Open, variant: &Variant) -> Response {
        let mut response = response.header("ETag", variant.tag(open).as_str());
        if let Some(value) = &self.cache_control {
            response = response.header("Cache-Control", value);
        }
        if variant.varies {
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
        let plain = |varies, available| Chosen {
            variant: Variant {
                coding: Coding::Identity,
                varies,
                coded: None,
                media: open.media.clone(),
            },
            open: Rc::clone(&open),
            available,
        };
        if !self.precompressed {
            return Ok(plain(false, Vec::new()));
        }
        let mut neighbours = Vec::new();
        for coding in Coding::CODED {
            let path = [path, ending(coding)].concat();
            match store.neighbour(&path) {
                Ok(found) if found.kind == Kind::Regular && !is_older(&found, facts) => {
                    neighbours.push((coding, path, found));
                }
                _ => {}
            }
        }
        if neighbours.is_empty() {
            return Ok(plain(false, Vec::new()));
        }
        let mut available: Vec<_> = neighbours.iter().map(|(coding, ..)| *coding).collect();
        let accepts = AcceptEncoding::of(request.header_all("accept-encoding"));
        let coding = accepts.choose(&available);
        let found = neighbours.iter().find(|(other, ..)| *other == coding);
        if let Some((_, path, facts)) = found {
            if let Ok(Some(neighbour)) = store.open(path, facts) {
                return Ok(Chosen {
                    variant: Variant {
                        coding,
                        varies: true,
                        coded: Some(etag(&neighbour.facts, coding)?),
                        media: open.media.clone(),
                    },
                    open: neighbour,
                    available,
                });
            }
            // One that cannot be opened is as good as none.
            available.retain(|&other| other != coding);
        }
        Ok(plain(true, available))
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

/// The whole file.
fn body(open: &Open) -> Body {
    match &open.content {
        Content::Memory(bytes) => Body::Shared(Arc::clone(bytes)),
        Content::File(file) => {
            let file = Arc::clone(file);
            Body::Pieces(Pieces::default().file(file, 0, open.facts.size))
        }
    }
}

fn part(pieces: Pieces, open: &Open, range: ByteRange) -> Pieces {
    match &open.content {
        Content::File(file) => pieces.file(Arc::clone(file), range.start, range.length),
        Content::Memory(bytes) => {
            let start = usize::try_from(range.start).unwrap_or(usize::MAX);
            let rest = bytes.get(start..).unwrap_or_default();
            pieces.bytes(&rest[..rest.len().min(range.length as usize)])
        }
    }
}

/// A body of `multipart/byteranges` (RFC 9110 14.6).
fn parts(several: &[ByteRange], open: &Open, boundary: &str, media: &str) -> Pieces {
    let mut pieces = Pieces::default();
    for &range in several {
        let mut head = Vec::new();
        http::byteranges_part(&mut head, boundary, media, range, open.facts.size);
        pieces = part(pieces.bytes(head), open, range);
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
