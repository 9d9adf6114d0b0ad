//! Files as an application: from a request's bytes to what would be sent, without a connection.

mod cached;
mod protocol;
mod tree;

use super::super::pieces::Piece;
use super::super::{App, Body, Parts, Reply, Request, Response};
use super::Files;
use super::store::{KEPT, Store};
use crate::http::{HeadLimits, Parsed};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// A directory of its own, removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mcluster-files-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// With a page, a text of ten bytes and a directory.
    fn usual() -> Self {
        let place = Self::new();
        place.write("index.html", "home");
        place.write("ten.txt", "0123456789");
        fs::create_dir(place.at("sub")).unwrap();
        place.write("sub/page.htm", "page");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn files(&self) -> Files {
        Files::new(&self.0).unwrap()
    }

    fn app(&self) -> Arc<App> {
        Arc::new(App::new().files("/", self.files()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn date(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// What came of a request.
#[derive(Debug)]
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    fn tag(&self) -> &str {
        let tag = self.field("ETag").unwrap();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        tag
    }
}

fn ask(app: &Arc<App>, method: &str, target: &str, fields: &str) -> Answer {
    answer(respond(app, method, target, fields))
}

fn respond(app: &Arc<App>, method: &str, target: &str, fields: &str) -> Response {
    assert_eq!(app.check(), Ok(()));
    let text = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let mut parts = Parts::take();
    let parsed = parts.head.parse(text.as_bytes(), &HeadLimits::default());
    assert_eq!(parsed.unwrap(), Parsed::Complete(text.len()), "{target}");
    let Reply::Now(response) = app.call(Request::new(parts), None) else {
        panic!("files answer at once");
    };
    response
}

fn answer(response: Response) -> Answer {
    let status = response.status();
    let lines = String::from_utf8(response.all_fields()).unwrap();
    let fields = lines.split_terminator("\r\n");
    let mut fields: Vec<_> = fields
        .filter_map(|field| field.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Some(media) = response.content_type() {
        fields.push(("Content-Type".to_owned(), media.to_owned()));
    }
    let body = match response.into_parts().0 {
        Body::Empty => Vec::new(),
        Body::Static(bytes) => bytes.to_vec(),
        Body::Bytes(bytes) => bytes,
        Body::Shared(bytes) => bytes.to_vec(),
        Body::Pieces(pieces) => pieces.into_pieces().into_iter().flat_map(content).collect(),
        other => panic!("{other:?}"),
    };
    Answer {
        status,
        fields,
        body,
    }
}

fn content(piece: Piece) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::File {
            file,
            offset,
            length,
        } => {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset).unwrap();
            bytes
        }
    }
}

fn get(app: &Arc<App>, target: &str) -> Answer {
    ask(app, "GET", target, "")
}

fn status(app: &Arc<App>, target: &str) -> u16 {
    get(app, target).status
}
