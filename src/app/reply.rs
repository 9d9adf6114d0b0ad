//! What a handler returns: an answer now, or a job that makes one elsewhere or later.
//!
//! Owns where a handler runs, which is a second axis beside the cluster's mode; leaves running
//! jobs to `server` and its pool.

use super::{IntoResponse, Request, Response};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Makes a response when it is run.
pub(crate) struct Job(Box<dyn FnOnce() -> Response + Send>);

impl Job {
    fn new(job: impl FnOnce() -> Response + Send + 'static) -> Self {
        Self(Box::new(job))
    }

    pub(crate) fn run(self) -> Response {
        (self.0)()
    }
}

/// Has the loop's owner answer, which is asked with a ticket for the answer to come by.
#[doc(hidden)]
pub struct Elsewhere(Box<dyn FnOnce(u64) + Send>);

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

impl Elsewhere {
    pub(crate) fn new(ask: impl FnOnce(u64) + Send + 'static) -> Self {
        Self(Box::new(ask))
    }

    pub(crate) fn ask(self, ticket: u64) {
        (self.0)(ticket);
    }
}

/// The outcome of a handler.
#[non_exhaustive]
pub enum Reply {
    /// The answer.
    Now(Response),
    /// The answer will be computed on the worker's pool; see [`pooled`].
    Pooled(#[doc(hidden)] PooledJob),
    /// The answer will be made by one of the worker's threads that may wait; see [`blocking`].
    Blocking(#[doc(hidden)] PooledJob),
    /// The answer will be made after a time; see [`after`].
    After(Duration, #[doc(hidden)] PooledJob),
    /// The answer comes from whoever owns the loop: for the primary's own pages.
    #[doc(hidden)]
    Elsewhere(Elsewhere),
}

/// A job inside a [`Reply`].
#[doc(hidden)]
pub struct PooledJob(pub(crate) Job);

impl fmt::Debug for PooledJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PooledJob")
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(response) => f.debug_tuple("Now").field(response).finish(),
            Self::Pooled(_) => f.write_str("Pooled"),
            Self::Blocking(_) => f.write_str("Blocking"),
            Self::After(delay, _) => f.debug_tuple("After").field(delay).finish(),
            Self::Elsewhere(_) => f.write_str("Elsewhere"),
        }
    }
}

impl Reply {
    /// What `answer` returns, where it may wait.
    #[cfg(feature = "sessions")]
    pub(super) fn blocking(answer: impl FnOnce() -> Response + Send + 'static) -> Self {
        Self::Blocking(PooledJob(Job::new(answer)))
    }

    /// Changes the answer, whenever and wherever it is made.
    #[must_use]
    pub fn map(self, change: impl FnOnce(Response) -> Response + Send + 'static) -> Self {
        match self {
            Self::Now(response) => Self::Now(change(response)),
            deferred => deferred.wrap_job(move |job| change(job.run())),
        }
    }

    /// Runs `run` in place of the job; an answer that is there already stays.
    pub(super) fn wrap_job(self, run: impl FnOnce(Job) -> Response + Send + 'static) -> Self {
        let wrap = move |PooledJob(job)| PooledJob(Job::new(move || run(job)));
        match self {
            Self::Now(response) => Self::Now(response),
            Self::Pooled(job) => Self::Pooled(wrap(job)),
            Self::Blocking(job) => Self::Blocking(wrap(job)),
            Self::After(delay, job) => Self::After(delay, wrap(job)),
            Self::Elsewhere(ask) => Self::Elsewhere(ask),
        }
    }
}

/// What a handler may return: anything that is a response, or a [`Reply`].
pub trait IntoReply {
    /// The reply.
    fn into_reply(self) -> Reply;
}

impl<T: IntoResponse> IntoReply for T {
    fn into_reply(self) -> Reply {
        Reply::Now(self.into_response())
    }
}

impl IntoReply for Reply {
    fn into_reply(self) -> Reply {
        self
    }
}

/// Marks a handler as CPU-heavy: it runs on the worker's pool of threads, so that the event loop
/// goes on with other connections; without a pool (`--pool 0`) it runs on the loop.
///
/// When too many jobs wait the answer is 503 with `Retry-After`; a job whose connection has been reset
/// before it begins is skipped.
///
/// # Examples
///
/// ```
/// use mcluster::{App, pooled};
///
/// let app = App::new().get("/heavy", pooled(|_| {
///     let total = (0..5_000_000u64).fold(0, |total, _| std::hint::black_box(total + 1));
///     format!("Total: {total}\n")
/// }));
/// # assert!(app.check().is_ok());
/// ```
pub fn pooled<F, R>(handler: F) -> impl Fn(Request) -> Reply + Send + Sync + 'static
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    on_thread(handler, Reply::Pooled)
}

/// Marks a handler as one that waits, for a disk or the network: it runs on one of sixteen threads that
/// each worker has for what waits, so that neither the event loop nor CPU-heavy handlers wait for it.
/// They are there without a pool as well (`--pool 0`).
///
/// When too many jobs wait the answer is 503 with `Retry-After`; a job whose connection has been reset
/// before it begins is skipped. Nothing ends a handler that waits for ever: give what it asks a limit of
/// time.
///
/// # Examples
///
/// ```
/// use mcluster::{App, Response, blocking};
///
/// let app = App::new().get("/motd", blocking(|_| match std::fs::read("/etc/motd") {
///     Ok(text) => Response::bytes(text),
///     Err(_) => Response::new(404),
/// }));
/// # assert!(app.check().is_ok());
/// ```
pub fn blocking<F, R>(handler: F) -> impl Fn(Request) -> Reply + Send + Sync + 'static
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    on_thread(handler, Reply::Blocking)
}

/// The handler as one whose replies are jobs for threads of that `kind`.
fn on_thread<F, R>(
    handler: F,
    kind: fn(PooledJob) -> Reply,
) -> impl Fn(Request) -> Reply + Send + Sync + 'static
where
    F: Fn(Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    let handler = Arc::new(handler);
    move |request| {
        let handler = Arc::clone(&handler);
        kind(PooledJob(Job::new(move || {
            handler(request).into_response()
        })))
    }
}

/// A year: longer waits are cut to it, so that no clock overflows.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Answers after `delay` by what `answer` then returns, without occupying the event loop.
///
/// # Examples
///
/// ```
/// use mcluster::{App, after};
/// use std::time::Duration;
///
/// let app = App::new().get("/slow", |_| after(Duration::from_millis(100), || "at last\n"));
/// # assert!(app.check().is_ok());
/// ```
pub fn after<F, R>(delay: Duration, answer: F) -> Reply
where
    F: FnOnce() -> R + Send + 'static,
    R: IntoResponse,
{
    let job = Job::new(move || answer().into_response());
    Reply::After(delay.min(LONGEST), PooledJob(job))
}
