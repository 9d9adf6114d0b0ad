//! From a path and a method to a handler. Owns the routes; leaves matching paths to matchit.

use super::{Handler, Request};
use crate::http::Method;
use crate::sorted::sort_by;
use std::fmt;
use std::sync::Arc;

struct Route {
    pattern: String,
    /// Names of the parameters in the order of the path.
    names: Arc<[String]>,
    handlers: Vec<(Method, Handler)>,
    /// The value of `Allow`.
    allow: String,
    /// Bytes of a body, if not as many as everywhere.
    max_body: Option<u64>,
    /// The methods whose handlers read the body while it arrives.
    streamed: Vec<Method>,
}

impl Route {
    /// Whether there is a handler for `method`.
    fn answers(&self, method: Method) -> bool {
        let mut methods = self.handlers.iter().map(|(method, _)| *method);
        methods.any(|one| one == method || (one == Method::Get && method == Method::Head))
    }
}

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyPlan {
    /// Its limit, if not the usual one.
    pub(crate) most: Option<u64>,
    /// Its handler reads it while it arrives.
    pub(crate) streamed: bool,
    /// No route has a handler for it.
    pub(crate) unwanted: bool,
}

/// All routes of an application.
#[derive(Default)]
pub(super) struct Router {
    paths: matchit::Router<usize>,
    routes: Vec<Route>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.routes.iter();
        f.debug_map()
            .entries(routes.map(|route| (&route.pattern, &route.allow)))
            .finish()
    }
}

/// What there is for a request.
#[derive(Clone, Copy)]
pub(super) enum Found<'a> {
    /// A handler, and the number of its route.
    Handler(usize, &'a Handler),
    /// The path has routes and OPTIONS asks which: the value of `Allow`.
    Options(&'a str),
    /// `OPTIONS *`.
    ServerOptions,
    /// The path has routes, but for other methods: the value of `Allow`.
    OtherMethods(&'a str),
    /// No route has this path.
    Nothing,
}

impl Router {
    /// Adds a handler.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the path.
    pub(super) fn add(
        &mut self,
        method: Method,
        path: &str,
        handler: Handler,
    ) -> Result<(), String> {
        let known = self.routes.iter().position(|route| route.pattern == path);
        let route = match known {
            Some(index) => &mut self.routes[index],
            None => {
                if !path.starts_with('/') {
                    return Err(format!("route {path:?}: a path starts with '/'"));
                }
                self.paths
                    .insert(path, self.routes.len())
                    .map_err(|error| format!("route {path:?}: {error}"))?;
                self.routes.push(Route {
                    pattern: path.to_owned(),
                    names: names(path),
                    handlers: Vec::new(),
                    allow: String::new(),
                    max_body: None,
                    streamed: Vec::new(),
                });
                self.routes.last_mut().ok_or("no route")?
            }
        };
        if route.handlers.iter().any(|(known, _)| *known == method) {
            return Err(format!("route {path:?}: {method} has a handler already"));
        }
        route.handlers.push((method, handler));
        route.allow = allow(&route.handlers);
        Ok(())
    }

    /// Has the handler of `method` at `path` read bodies while they arrive.
    pub(super) fn set_streamed(&mut self, method: Method, path: &str) {
        let route = self.routes.iter_mut().find(|route| route.pattern == path);
        if let Some(route) = route {
            route.streamed.push(method);
        }
    }

    /// Limits the bodies of one route.
    ///
    /// # Errors
    ///
    /// When there is no such route.
    pub(super) fn set_max_body(&mut self, path: &str, bytes: u64) -> Result<(), String> {
        let route = self.routes.iter_mut().find(|route| route.pattern == path);
        let route = route.ok_or_else(|| format!("max_body: there is no route {path:?}"))?;
        route.max_body = Some(bytes);
        Ok(())
    }

    /// What becomes of the body of such a request.
    pub(super) fn body_plan(&self, method: Method, path: &str) -> BodyPlan {
        let Ok(matched) = self.paths.at(path) else {
            return BodyPlan {
                unwanted: true,
                ..BodyPlan::default()
            };
        };
        let route = &self.routes[*matched.value];
        BodyPlan {
            most: route.max_body,
            streamed: route.streamed.contains(&method),
            unwanted: !route.answers(method),
        }
    }

    /// Finds what answers the request, and notes the path's parameters in it.
    pub(super) fn find(&self, request: &mut Request) -> Found<'_> {
        let method = request.method();
        let Ok(matched) = self.paths.at(request.path()) else {
            // Only OPTIONS may have the asterisk-form; the parser sees to it.
            return if request.path() == "*" {
                Found::ServerOptions
            } else {
                Found::Nothing
            };
        };
        let index = *matched.value;
        let route = &self.routes[index];
        if !route.names.is_empty() {
            let start = request.path().as_ptr() as usize;
            let values = matched.params.iter().map(|(_, value)| {
                let at = (value.as_ptr() as usize).saturating_sub(start);
                (at as u32, (at + value.len()) as u32)
            });
            let values: Vec<_> = values.collect();
            request.set_params(&route.names, values);
        }
        let by = |wanted| {
            let found = route.handlers.iter().find(|(method, _)| *method == wanted);
            found.map(|(_, handler)| Found::Handler(index, handler))
        };
        match method {
            // RFC 9110 9.3.2: HEAD is GET without the content, which the encoder leaves out.
            Method::Head => by(Method::Head).or_else(|| by(Method::Get)),
            Method::Options => by(method).or(Some(Found::Options(&route.allow))),
            _ => by(method),
        }
        .unwrap_or(Found::OtherMethods(&route.allow))
    }

    /// The path that route number `route` was added with.
    pub(super) fn pattern(&self, route: usize) -> Option<&str> {
        Some(&self.routes.get(route)?.pattern)
    }
}

/// The methods that a path answers, in the order of RFC 9110 9.3.
fn allow(handlers: &[(Method, Handler)]) -> String {
    let mut methods: Vec<_> = handlers.iter().map(|(method, _)| *method).collect();
    if methods.contains(&Method::Get) {
        methods.push(Method::Head);
    }
    methods.push(Method::Options);
    sort_by(&mut methods, Ord::cmp);
    methods.dedup();
    let names: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
    names.join(", ")
}

/// The names in the braces of a pattern; `{{` and `}}` stand for braces themselves.
fn names(pattern: &str) -> Arc<[String]> {
    let plain = pattern.replace("{{", "").replace("}}", "");
    let inner = plain.split('{').skip(1);
    inner
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name.trim_start_matches('*').to_owned())
        .collect()
}
