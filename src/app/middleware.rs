//! What wraps a handler. Owns the order of wrappers; leaves finding the handler to `router`.

use super::{App, Found, Reply, Request};
use std::fmt;

pub(super) type Middleware = Box<dyn for<'a> Fn(Request, Next<'a>) -> Reply + Send + Sync>;

/// What comes after a wrapper: the next wrapper, or the handler.
pub struct Next<'a> {
    app: &'a App,
    rest: &'a [Middleware],
    found: Found<'a>,
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("wrappers", &self.rest.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Next<'a> {
    pub(super) fn new(app: &'a App, rest: &'a [Middleware], found: Found<'a>) -> Self {
        Self { app, rest, found }
    }

    /// Goes on with the request. What comes back may be an answer, or the promise of one: use
    /// [`Reply::map`] to change either.
    pub fn run(self, request: Request) -> Reply {
        match self.rest.split_first() {
            Some((wrapper, rest)) => wrapper(request, Next { rest, ..self }),
            None => self.app.dispatch(self.found, request),
        }
    }
}
