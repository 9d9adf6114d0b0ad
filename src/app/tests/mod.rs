//! Tests of applications: from a request's bytes to a reply, without a connection.

mod events;
mod helpers;
mod routes;
mod values;
mod wrappers;

use super::*;
use crate::http::{HeadLimits, Parsed};
use crate::sys::listener::Peer;

/// The parts of a request as the server would fill them.
fn parts(method: &str, target: &str) -> Box<Parts> {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nX-Field: value\r\n\r\n");
    let mut parts = Parts::take();
    let parsed = parts.head.parse(text.as_bytes(), &HeadLimits::default());
    assert_eq!(parsed.unwrap(), Parsed::Complete(text.len()));
    parts
}

fn reply(app: App, method: &str, target: &str) -> Reply {
    assert_eq!(app.check(), Ok(()));
    Arc::new(app).call(Request::new(parts(method, target)), None)
}

/// The answer, wherever it is made.
fn finish(reply: Reply) -> Response {
    match reply {
        Reply::Now(response) => response,
        Reply::Pooled(job) | Reply::Blocking(job) | Reply::After(_, job) => job.0.run(),
        Reply::Elsewhere(_) => panic!("no handler of an application answers elsewhere"),
    }
}

fn call(app: App, method: &str, target: &str) -> Response {
    finish(reply(app, method, target))
}

fn text(response: Response) -> String {
    let bytes = match response.into_parts().0 {
        Body::Empty => Vec::new(),
        Body::Static(bytes) => bytes.to_vec(),
        Body::Bytes(bytes) => bytes,
        Body::Shared(bytes) => bytes.to_vec(),
        Body::Stream(pieces) => pieces.flatten().collect(),
        body @ (Body::Pieces(_) | Body::Feed(_)) => panic!("{body:?} is for a connection"),
    };
    String::from_utf8(bytes).unwrap()
}

fn answer(app: App, method: &str, target: &str) -> (u16, String) {
    let response = call(app, method, target);
    (response.status(), text(response))
}

/// The values of the fields of that name, in order.
fn fields(response: &Response, name: &str) -> Vec<String> {
    let text = String::from_utf8(response.all_fields()).unwrap();
    let fields = text.split_terminator("\r\n");
    fields
        .map(|field| field.split_once(": ").expect("a field"))
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// Says which route it was and what its parameters are.
fn told(route: &'static str, names: &'static [&str]) -> impl Fn(Request) -> String + use<> {
    move |request| {
        let values = names.iter().map(|name| request.param(name));
        let values: Vec<_> = values.map(|value| value.unwrap_or("-".into())).collect();
        format!("{route}({})", values.join("|"))
    }
}

fn routes() -> App {
    App::new()
        .get("/", told("home", &["id"]))
        .get("/users/{id}", told("user", &["id", "x"]))
        .get("/users/me", told("me", &["id"]))
        .get("/users/{id}/posts/{post}", told("post", &["post", "id"]))
        .get("/files/{*path}", told("files", &["path"]))
        .get("/files/readme", told("readme", &["path"]))
        .post("/users/{id}", told("make", &["id"]))
        .put("/users/{id}", told("put", &["id"]))
        .delete("/users/{id}", told("delete", &["id"]))
        .patch("/users/{id}", told("patch", &["id"]))
}
