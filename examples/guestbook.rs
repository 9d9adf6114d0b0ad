//! A guest book: a form, a cookie, a redirect, and the same as JSON. What is written lives as long as the worker, so
//! there is one.
//!
//! `cargo run --example guestbook`, then open `http://localhost:3000` or
//! `curl -H 'Content-Type: application/json' -d '{"name": "Ada", "words": "hello"}' localhost:3000/entries`.

use mcluster::{App, BodyError, Cluster, Cookie, Request, Response, Workers};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// A name of that length is long enough.
const LONGEST_NAME: usize = 40;

#[derive(Clone, serde::Deserialize, serde::Serialize)]
struct Entry {
    name: String,
    words: String,
}

fn entries() -> std::sync::MutexGuard<'static, Vec<Entry>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('"', "&quot;")
}

fn page(request: Request) -> Response {
    let written: String = entries()
        .iter()
        .map(|entry| format!("<dt>{}<dd>{}", escaped(&entry.name), escaped(&entry.words)))
        .collect();
    // A cookie is the client's to choose, so it is escaped like anything else. What was encoded to fit into it is
    // decoded by the same rules as a form.
    let cookie = request.cookie("name").unwrap_or_default().into_owned();
    let mut decoded = mcluster::http::query_pairs(&cookie);
    let name = decoded.next().map(|(name, _)| name).unwrap_or_default();
    Response::html(format!(
        "<!doctype html><meta charset=utf-8><title>Guests</title><dl>{written}</dl>\
         <form method=post><input name=name value=\"{}\"><input name=words><button>Write</button></form>\n",
        escaped(&name)
    ))
    .header("Content-Security-Policy", "default-src 'none'; form-action 'self'")
}

/// Letters and digits as they are, all else percent-encoded.
fn encoded(text: &str) -> String {
    let bytes = text.bytes().map(|b| match b.is_ascii_alphanumeric() {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    });
    bytes.collect()
}

fn write(request: Request) -> Result<Response, BodyError> {
    let mut entry = Entry {
        name: "somebody".to_owned(),
        words: String::new(),
    };
    for (field, value) in request.form()? {
        match &*field {
            "name" => entry.name = value.chars().take(LONGEST_NAME).collect(),
            "words" => entry.words = value.into_owned(),
            _ => {}
        }
    }
    let month = Duration::from_secs(30 * 24 * 3600);
    let name = Cookie::new("name", encoded(&entry.name)).max_age(month);
    entries().push(entry);
    // 303, so that a reload of the page does not write again.
    Ok(Response::redirect(303, "/").cookie(name))
}

fn add(request: Request) -> Result<Response, BodyError> {
    let entry: Entry = request.json()?;
    let mut entries = entries();
    entries.push(entry.clone());
    Ok(Response::json(&entry).with_status(201))
}

fn main() -> mcluster::Result<()> {
    let app = App::new()
        .get("/", page)
        .post("/", write)
        .get("/entries", |_| Response::json(&*entries()))
        .post("/entries", add);
    Cluster::new(app)
        .workers(Workers::Count(1))
        .listen("127.0.0.1:3000")
        .run()
}
