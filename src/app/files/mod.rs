//! Files of a directory, as an application or as a part of one.
//!
//! What lies inside: [`Files`] is what may be served and how; `path` reads which file a request
//! means, `store` opens it and keeps it open, `answer` makes the response, `cache` keeps that for a while where
//! that is wished, `listing` the page of a
//! directory. Leaves what requests may ask for to `http` (ranges, preconditions, codings), staying
//! below the directory to `sys`, and sending to `server`.

mod answer;
mod cache;
mod listing;
mod path;
mod store;

use super::{Failure, Request, Response};
use crate::http::{self, Method};
use crate::sys::beneath::Beneath;
use answer::Refusal;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

/// What may be asked of files.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// A directory whose files are served; see [`App::files`](crate::App::files).
///
/// Only regular files below the directory are: symbolic links are followed as long as they stay
/// below. A file is opened on the worker's loop and sent by the kernel; each worker keeps a few
/// descriptors open and looks before each answer whether they are still what the path means, so a
/// change is seen at once; or, by [`cache`](Self::cache), after a while. The directory itself is opened by each worker when it is first asked:
/// where its path is a symbolic link that is switched to another release, a reload makes the switch.
///
/// An answer holds its file open while it is sent. Files have the descriptors that connections leave,
/// a third of them at least (see [`Limits::connections`](crate::Limits::connections)); when those are
/// in use, another file is 503 with `Retry-After`.
///
/// Answers have `Last-Modified`, a strong `ETag` and `X-Content-Type-Options: nosniff`; conditional
/// requests and ranges are served as RFC 9110 has it.
///
/// # Examples
///
/// ```no_run
/// use mcluster::{App, Cluster, Files};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let assets = Files::new("assets")?.cache_control("max-age=3600");
///     let app = App::new().get("/", |_| "hello\n").files("/assets", assets);
///     Cluster::new(app).listen("127.0.0.1:3000").run()?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Files {
    /// By which a thread finds what it has open.
    id: u64,
    /// Tells threads that have something open when nobody will ask for it any more.
    alive: Arc<()>,
    root: PathBuf,
    index: Vec<String>,
    listing: bool,
    dotfiles: bool,
    cache_control: Option<String>,
    precompressed: bool,
    /// How long an answer counts without another look; zero is not at all.
    cache: Duration,
    /// How many files a thread may have open.
    most: usize,
}

impl Files {
    /// The files of `directory`, with `index.html` as the page of a directory.
    ///
    /// # Errors
    ///
    /// When there is no such directory, or it may not be entered.
    pub fn new(directory: impl AsRef<Path>) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let root = std::path::absolute(directory)?;
        let opened = Beneath::open(&root)?;
        // A directory that only others may enter opens as a place, but nothing in it does.
        opened.facts(b".")?;
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            alive: Arc::new(()),
            root,
            index: vec!["index.html".to_owned()],
            listing: false,
            dotfiles: false,
            cache_control: None,
            precompressed: true,
            cache: Duration::ZERO,
            most: usize::MAX,
        })
    }

    /// The files that are the page of their directory, the first that is there; none for no such
    /// pages. Names that are no name of a file (with a slash, or `..`) are left out.
    #[must_use]
    pub fn index<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let names = names.into_iter().map(Into::into);
        self.index = names.filter(|name| path::is_name(name)).collect();
        self
    }

    /// Whether a directory without such a page is answered by a list of what is in it, up to 1000
    /// names; otherwise it is 404. Off by default.
    #[must_use]
    pub fn listing(mut self, on: bool) -> Self {
        self.listing = on;
        self
    }

    /// Whether names that begin with a dot are served and listed; otherwise they are 404, as `.git`
    /// and `.env` should be. Off by default. It is the names that a client asks for that count: a
    /// symbolic link to such a file is its maker's word that it may be served.
    #[must_use]
    pub fn dotfiles(mut self, on: bool) -> Self {
        self.dotfiles = on;
        self
    }

    /// The value of `Cache-Control` with each file, such as `max-age=3600` (RFC 9111 5.2). None by
    /// default. One that cannot be sent (RFC 9110 5.5) is left out, with a line in the log.
    #[must_use]
    pub fn cache_control(mut self, value: impl Into<String>) -> Self {
        let value = value.into();
        if http::is_field_value(value.as_bytes()) {
            self.cache_control = Some(value);
        } else {
            log::error!("Cache-Control {value:?} cannot be sent; left out");
        }
        self
    }

    /// Whether `app.js` may be answered by `app.js.br`, `app.js.zst` or `app.js.gz` beside it, to a
    /// client that takes the coding; one that is older than the file is not used. On by default.
    #[must_use]
    pub fn precompressed(mut self, on: bool) -> Self {
        self.precompressed = on;
        self
    }

    /// For how long a file that was found is answered without another look at its path: no file is
    /// opened then, and one of up to 16 KiB is sent from memory. Zero, the default, looks before each
    /// answer; more than a year is taken for a year.
    ///
    /// Within that time what was found is sent, each worker by its own time, whatever becomes of its
    /// path: replaced, removed, no longer to be read, a link that leads elsewhere, a compressed
    /// neighbour that is new. A file that is replaced by renaming another is sent whole, the one or
    /// the other. One that is written to in place may be sent as it was, or in parts of both; where a
    /// large one becomes shorter, its answers end their connections until the time is over. What is
    /// not found is looked for each time.
    ///
    /// A worker prepares answers for up to 1024 paths, keeps 1 MiB of small files in memory for each
    /// `Files`, and 128 large ones open, or fewer where descriptors are few. A reload begins anew.
    #[must_use]
    pub fn cache(mut self, time: Duration) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.cache = time.min(YEAR);
        self
    }
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

/// Files at a prefix of paths.
#[derive(Debug)]
pub(super) struct Mount {
    /// Without the slash at its end.
    prefix: String,
    /// Known by what it does alone, so that a program which serves no files has nothing of
    /// [`Files`] in it, nor a table of media types.
    files: Box<dyn Tree>,
}

/// What files are to an application.
trait Tree: fmt::Debug + Send + Sync {
    /// Answers a GET or HEAD request for a path below `prefix`.
    fn answer(&self, request: &Request, prefix: &str) -> Result<Response, Refusal>;

    /// How many files a thread may have open, of all mounts together.
    fn set_most_open(&mut self, most: usize);
}

impl Tree for Files {
    fn answer(&self, request: &Request, prefix: &str) -> Result<Response, Refusal> {
        Files::answer(self, request, prefix)
    }

    fn set_most_open(&mut self, most: usize) {
        self.most = most;
    }
}

impl Mount {
    /// # Errors
    ///
    /// Says what is wrong with the prefix.
    pub(super) fn new(prefix: &str, files: Files) -> Result<Self, String> {
        let bare = prefix.strip_suffix('/').unwrap_or(prefix);
        let fine = prefix.starts_with('/')
            && bare.split('/').skip(1).all(|part| !part.is_empty())
            && bare
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"%?#{}\\".contains(&byte));
        if !fine {
            return Err(format!(
                "files at {prefix:?}: a prefix is '/' or plain words such as '/assets'"
            ));
        }
        Ok(Self {
            prefix: bare.to_owned(),
            files: Box::new(files),
        })
    }

    /// How many files a thread may have open, of all mounts together.
    pub(super) fn set_most_open(&mut self, most: usize) {
        self.files.set_most_open(most);
    }

    /// Puts it among others: the longest prefix first, for that is the one that counts.
    ///
    /// # Errors
    ///
    /// When another has that prefix.
    pub(super) fn join(self, others: &mut Vec<Self>) -> Result<(), String> {
        if others.iter().any(|other| other.prefix == self.prefix) {
            return Err(format!(
                "files at {:?}: there are some already",
                self.prefix
            ));
        }
        let longer = |other: &Self| other.prefix.len() > self.prefix.len();
        let at = others.partition_point(longer);
        others.insert(at, self);
        Ok(())
    }

    /// Whether `path` is below the prefix, or is the prefix.
    pub(super) fn covers(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&self.prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Answers a request whose path it covers; or by what `fail` makes of what is wrong, unless
    /// there is no such file and somebody else is to answer then.
    pub(super) fn answer(
        &self,
        request: &Request,
        others: bool,
        fail: impl FnOnce(Failure) -> Response,
    ) -> Option<Response> {
        let answer = match request.method() {
            Method::Get | Method::Head => self.files.answer(request, &self.prefix),
            Method::Options => Ok(Response::new(204).header("Allow", METHODS)),
            _ => Err(Refusal::new(405, "no such method here").with("Allow", METHODS)),
        };
        let refusal = match answer {
            Ok(response) => return Some(response),
            Err(refusal) if refusal.status == 404 && others => return None,
            Err(refusal) => refusal,
        };
        let response = fail(Failure::new(refusal.status, refusal.what));
        Some(match refusal.field {
            Some((name, value)) => response.header(name, value),
            None => response,
        })
    }
}

#[cfg(test)]
mod tests;
