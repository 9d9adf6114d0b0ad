//! What users write against: routes, requests, responses, middleware.
//!
//! An [`App`] maps a request to a [`Reply`]; `router` finds the handler, [`Request`] and
//! [`Response`] are plain values that may travel between threads. May use `http`; never sees a
//! socket, a thread or a worker, so the same application runs in every mode.

mod content;
mod cookie;
mod feed;
mod files;
mod into_response;
mod middleware;
#[cfg(feature = "sessions")]
mod parting;
mod pieces;
mod redirect;
mod reply;
mod request;
mod response;
mod router;
mod secure;
#[cfg(feature = "sessions")]
pub mod session;
mod sse;
mod upgrade;
mod upload;
#[cfg(feature = "websocket")]
pub mod ws;

pub use content::{BodyError, Pairs};
pub use cookie::{Cookie, SameSite};
pub(crate) use feed::{Fed, Feed};
pub use feed::{Sender, Unsent};
pub use files::Files;
pub use into_response::IntoResponse;
pub use middleware::Next;
pub(crate) use pieces::Piece;
pub use pieces::Pieces;
pub(crate) use reply::{Elsewhere, Job};
pub use reply::{IntoReply, Reply, after, blocking, pooled};
pub use request::Request;
pub(crate) use request::{Parts, Trusted, next_id};
pub use response::{Body, Response};
pub(crate) use response::{NOSNIFF, SharedFields};
pub(crate) use response::{Trailers, trailer_section};
pub use sse::{EventSender, ServerEvent};
pub(crate) use upgrade::{Next as After, Protocol};
pub use upload::BodyReader;
pub(crate) use upload::Upload;

use crate::board::Slot;
use crate::http::{Head, Method};
use middleware::Middleware;
pub(crate) use router::BodyPlan;
use router::{Found, Router};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// A stored handler, whatever it returned originally.
type Handler = Box<dyn Fn(Request) -> Reply + Send + Sync>;
type ErrorHook = Box<dyn Fn(&Failure) -> Response + Send + Sync>;

/// The methods of `OPTIONS *`, which asks about the server as a whole (RFC 9110 9.3.7).
const ALL_METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Routes and what wraps them: a whole application.
///
/// Paths may hold parameters: `/users/{id}` is one segment, `/files/{*path}` the rest. A route
/// for GET answers HEAD as well; OPTIONS, 404 and 405 (with `Allow`) follow from the routes.
///
/// # Examples
///
/// ```
/// use mcluster::{App, Request, Response, pooled};
///
/// let app = App::new()
///     .get("/", |_| "hello\n")
///     .get("/users/{id}", |request: Request| match request.param("id") {
///         Some(id) => Response::text(format!("user {id}\n")),
///         None => Response::new(404),
///     })
///     .post("/sum", pooled(|request| {
///         let total: u64 = request.body().iter().map(|&byte| u64::from(byte)).sum();
///         format!("{total}\n")
///     }));
/// assert!(app.check().is_ok());
/// ```
#[derive(Default)]
pub struct App {
    router: Router,
    middleware: Vec<Middleware>,
    mounts: Vec<files::Mount>,
    fallback: Option<Handler>,
    error_hook: Option<ErrorHook>,
    problem: Option<String>,
    secure: bool,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("routes", &self.router)
            .field("mounts", &self.mounts)
            .field("middleware", &self.middleware.len())
            .field("fallback", &self.fallback.is_some())
            .finish_non_exhaustive()
    }
}

/// An answer that the server itself has to give, for [`App::on_error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    status: u16,
    what: &'static str,
}

impl Failure {
    pub(crate) fn new(status: u16, what: &'static str) -> Self {
        Self { status, what }
    }

    /// The status of the answer; the hook cannot change it.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What was wrong, in a few words; says nothing that a client may not know.
    pub fn what(&self) -> &'static str {
        self.what
    }
}

impl App {
    /// An application without routes: everything is 404.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `method` at `path` by `handler`.
    ///
    /// A path that makes no sense, or that stands twice for one method, is reported by
    /// [`App::check`], which the cluster asks before it starts.
    #[must_use]
    pub fn route<F, R>(mut self, method: Method, path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        let handler = Box::new(move |request| handler(request).into_reply());
        if let Err(problem) = self.router.add(method, path, handler) {
            self.problem.get_or_insert(problem);
        }
        self
    }

    /// Answers GET (and HEAD) at `path`.
    #[must_use]
    pub fn get<F, R>(self, path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.route(Method::Get, path, handler)
    }

    /// Answers POST at `path`.
    #[must_use]
    pub fn post<F, R>(self, path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.route(Method::Post, path, handler)
    }

    /// Answers PUT at `path`.
    #[must_use]
    pub fn put<F, R>(self, path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.route(Method::Put, path, handler)
    }

    /// Answers DELETE at `path`.
    #[must_use]
    pub fn delete<F, R>(self, path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.route(Method::Delete, path, handler)
    }

    /// Answers PATCH at `path`.
    #[must_use]
    pub fn patch<F, R>(self, path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.route(Method::Patch, path, handler)
    }

    /// Answers `method` at `path` by a handler that reads the body while it arrives, on one of sixteen
    /// threads that each worker has for what waits (see [`blocking`]): the client has to wait while the handler does not read, and
    /// is asked for a body that it announced by `Expect: 100-continue` only when the handler begins
    /// to. A slow client occupies its thread for as long as it takes, within the limits of time and
    /// of [`Limits::min_rate`](crate::Limits::min_rate). Without a pool (`--pool 0`) the body is received first.
    ///
    /// A body that the handler did not read is dropped behind its answer when that costs little;
    /// otherwise the connection ends with the answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::{App, Method};
    /// use std::io::Read;
    ///
    /// let app = App::new()
    ///     .route_streamed(Method::Put, "/sum", |_, body| {
    ///         let total: u64 = body.bytes().map_while(Result::ok).map(u64::from).sum();
    ///         format!("{total}\n")
    ///     })
    ///     .max_body("/sum", 1 << 40);
    /// # assert!(app.check().is_ok());
    /// ```
    #[must_use]
    pub fn route_streamed<F, R>(mut self, method: Method, path: &str, handler: F) -> Self
    where
        F: Fn(Request, BodyReader) -> R + Send + Sync + 'static,
        R: IntoResponse,
    {
        let handler = pooled(move |mut request: Request| {
            let reader = match request.take_reader() {
                Some(reader) => reader,
                None => BodyReader::whole(request.split_body()),
            };
            handler(request, reader)
        });
        if let Err(problem) = self.router.add(method, path, Box::new(handler)) {
            self.problem.get_or_insert(problem);
        }
        self.router.set_streamed(method, path);
        self
    }

    /// Allows the requests of one route a body of so many bytes, in place of
    /// [`Limits::body`](crate::Limits::body). The route must be there already.
    #[must_use]
    pub fn max_body(mut self, path: &str, bytes: u64) -> Self {
        if let Err(problem) = self.router.set_max_body(path, bytes) {
            self.problem.get_or_insert(problem);
        }
        self
    }

    /// Serves files at all paths that begin with `prefix` and that no route has; `/` is everything.
    /// They answer GET, HEAD and OPTIONS, and 405 for the rest; of two prefixes the longer counts.
    /// What there is no file for goes to the [`fallback`](Self::fallback) where there is one.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use mcluster::{App, Files};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let app = App::new()
    ///     .get("/api/time", |_| "noon\n")
    ///     .files("/", Files::new("public")?)
    ///     .files("/downloads", Files::new("releases")?.listing(true));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn files(mut self, prefix: &str, files: Files) -> Self {
        let mount = files::Mount::new(prefix, files);
        if let Err(problem) = mount.and_then(|mount| mount.join(&mut self.mounts)) {
            self.problem.get_or_insert(problem);
        }
        self
    }

    /// Whether it serves files.
    pub(crate) fn has_files(&self) -> bool {
        !self.mounts.is_empty()
    }

    /// How many files each worker may have open for it, those that are being sent among them.
    pub(crate) fn set_most_open(&mut self, most: usize) {
        for mount in &mut self.mounts {
            mount.set_most_open(most);
        }
    }

    /// What becomes of the body of a request with that head.
    pub(crate) fn body_plan(&self, head: &Head) -> BodyPlan {
        let mut plan = self.router.body_plan(head.method(), head.path());
        plan.unwanted &= self.fallback.is_none() && self.mounts.is_empty();
        plan
    }

    /// Answers every request whose path no route has, in place of 404.
    #[must_use]
    pub fn fallback<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.fallback = Some(Box::new(move |request| handler(request).into_reply()));
        self
    }

    /// Wraps all answers of this application: `wrapper` gets the request and what comes next.
    /// The first one added is the outermost.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::App;
    ///
    /// let app = App::new()
    ///     .get("/", |_| "hello\n")
    ///     .wrap(|request, next| {
    ///         next.run(request).map(|response| response.header("X-Frame-Options", "DENY"))
    ///     });
    /// # assert!(app.check().is_ok());
    /// ```
    #[must_use]
    pub fn wrap<F>(mut self, wrapper: F) -> Self
    where
        F: for<'a> Fn(Request, Next<'a>) -> Reply + Send + Sync + 'static,
    {
        self.middleware.push(Box::new(wrapper));
        self
    }

    /// Gives the answers that the server itself has to give a body: 404, 405, 500 after a panic,
    /// 503 when the pool is full, and what is wrong with the protocol. The status stays.
    #[must_use]
    pub fn on_error<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(&Failure) -> R + Send + Sync + 'static,
        R: IntoResponse,
    {
        self.error_hook = Some(Box::new(move |failure| hook(failure).into_response()));
        self
    }

    /// Whether all routes make sense.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the first route that does not.
    pub fn check(&self) -> Result<(), String> {
        match &self.problem {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }

    /// Answers one request. A panic of a handler, or of what wraps it, is a 500 and a line in
    /// the log; it is caught here for the loop and inside the job for the pool.
    ///
    /// What the loop is doing is noted in `slot`, for a primary that finds it standing still.
    pub(crate) fn call(self: &Arc<Self>, mut request: Request, slot: Option<&Slot>) -> Reply {
        let method = request.method();
        let found = self.router.find(&mut request);
        let route = match &found {
            Found::Handler(route, _) => Some(*route),
            _ => None,
        };
        if let Some(slot) = slot {
            slot.doing(method as u64, route);
        }
        let next = Next::new(self, &self.middleware, found);
        let reply = catch_unwind(AssertUnwindSafe(|| next.run(request)));
        let label = move |app: &Self| app.label(method, route);
        match reply {
            Ok(Reply::Now(response)) => Reply::Now(response),
            Ok(deferred) => {
                let app = Arc::clone(self);
                deferred.wrap_job(move |job| {
                    catch_unwind(AssertUnwindSafe(|| job.run()))
                        .unwrap_or_else(|panic| app.panicked(panic, &label(&app)))
                })
            }
            Err(panic) => Reply::Now(self.panicked(panic, &label(self))),
        }
    }

    /// A request's method and route, for people.
    pub(crate) fn label(&self, method: Method, route: Option<usize>) -> String {
        match route.and_then(|route| self.router.pattern(route)) {
            Some(pattern) => format!("{method} {pattern}"),
            None => format!("{method} without a route"),
        }
    }

    /// The answer to something that no handler answers: the hook's, or a plain line.
    pub(crate) fn failure(&self, failure: Failure) -> Response {
        let plain = || Response::plain(failure.status);
        let response = match &self.error_hook {
            None => plain(),
            Some(hook) => {
                catch_unwind(AssertUnwindSafe(|| hook(&failure))).unwrap_or_else(|panic| {
                    log::error!("the error hook panicked: {}", panic_message(&*panic));
                    plain()
                })
            }
        };
        let response = response.with_status(failure.status);
        match self.secure {
            true => secure::add(response),
            false => response.nosniff(),
        }
    }

    /// Answers by whatever was found for the request, after the middleware.
    fn dispatch(&self, found: Found<'_>, request: Request) -> Reply {
        let response = match found {
            Found::Handler(_, handler) => return handler(request),
            Found::Options(allow) => Response::new(204).header("Allow", allow),
            Found::ServerOptions => Response::new(204).header("Allow", ALL_METHODS),
            Found::OtherMethods(allow) => self
                .failure(Failure::new(405, "no such method here"))
                .header("Allow", allow),
            Found::Nothing => match (self.by_files(&request), &self.fallback) {
                (Some(response), _) => response,
                (None, Some(fallback)) => return fallback(request),
                (None, None) => self.failure(Failure::new(404, "no such route")),
            },
        };
        Reply::Now(response)
    }

    /// The answer of the files at the request's path, if there are any.
    fn by_files(&self, request: &Request) -> Option<Response> {
        let path = request.path();
        let mount = self.mounts.iter().find(|mount| mount.covers(path))?;
        let others = self.fallback.is_some();
        mount.answer(request, others, |failure| self.failure(failure))
    }

    fn panicked(&self, panic: Box<dyn Any + Send>, label: &str) -> Response {
        if panic.is::<Abandon>() {
            resume_unwind(panic);
        }
        #[cfg(feature = "sessions")]
        let (panic, cookies) = parting::take(panic);
        log::error!("handler of {label} panicked: {}", panic_message(&*panic));
        let response = self.failure(Failure::new(500, "the handler failed"));
        #[cfg(feature = "sessions")]
        let response = cookies.into_iter().fold(response, |response, cookie| {
            let response = response.cookie(cookie);
            response.or_header("Cache-Control", "no-store")
        });
        response
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(message) = panic.downcast_ref::<&str>() {
        message
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message
    } else if let Some(Abandon(why)) = panic.downcast_ref::<Abandon>() {
        why
    } else {
        "a value that is not text"
    }
}

/// The panic that no handler's 500 contains.
struct Abandon(String);

/// Ends the worker that this handler runs on, as an uncaught exception ends a worker of Node's:
/// for a handler that finds its worker beyond repair. The primary forks a successor.
///
/// An ordinary panic costs one request; this one costs the connections of its worker, as a crash
/// does, but it leaves the process alive in threads mode, where a crash would end all workers.
///
/// # Panics
///
/// Always; that is how it works. Outside a handler it is an ordinary panic.
pub fn abandon_worker(why: impl Into<String>) -> ! {
    // Past the panic hook: there is no bug whose place would be worth telling.
    resume_unwind(Box::new(Abandon(why.into())))
}

#[cfg(test)]
mod tests;
