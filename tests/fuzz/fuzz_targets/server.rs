//! A whole server: what a client sends gets the same answers however it is cut, and the connection ends in order. The
//! first two bytes say where it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::internals::Exchange;
use mcluster::{App, Request, Response};
use std::cell::RefCell;

thread_local! {
    static SERVER: RefCell<Exchange> = RefCell::new(Exchange::new(app()).expect("descriptors"));
}

fn app() -> App {
    App::new()
        .get("/json", |request: Request| {
            request.json::<Vec<String>>().map(|_| "fine")
        })
        .get("/stream", |_| {
            Response::stream((0..3).map(|n| n.to_string()))
        })
        .post("/form", |request: Request| {
            request.form().map(|pairs| format!("{pairs:?}"))
        })
        .fallback(|request: Request| {
            let cookies: Vec<_> = request.cookies().collect();
            let queries: Vec<_> = request.queries().collect();
            let text = format!("{} {cookies:?} {queries:?}", request.path());
            Response::text(text).with_status(if request.body().is_empty() { 200 } else { 201 })
        })
}

/// What the server says, without its dates, and without `100 Continue`, which is said only to who sends no more yet.
fn said<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<u8> {
    let said = SERVER.with_borrow_mut(|server| server.talk(pieces));
    let mut said = said.expect("a connection");
    let find = |text: &[u8], words: &[u8]| text.windows(words.len()).position(|w| w == words);
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    while let Some(at) = find(&said, interim) {
        said.drain(at..at + interim.len());
    }
    while let Some(at) = find(&said, b"\r\nDate: ") {
        said.drain(at..at + 2 + "Date: Sun, 06 Nov 1994 08:49:37 GMT".len());
    }
    said
}

fuzz_target!(|data: &[u8]| {
    let [first, second, data @ ..] = data else {
        return;
    };
    let whole = said([data]);
    assert!(whole.is_empty() || whole.starts_with(b"HTTP/1.1 "));
    let at = |byte: u8| usize::from(byte) * data.len() / 255;
    let (a, b) = (at(*first).min(at(*second)), at(*first).max(at(*second)));
    let cut = said([&data[..a], &data[a..b], &data[b..]]);
    assert!(
        cut == whole,
        "{}\nin place of {}",
        cut.escape_ascii(),
        whole.escape_ascii()
    );
});
