//! What stands around handlers: wrappers, panics.

use super::*;
use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Puts `mark` around the body.
fn around(mark: &'static str) -> impl for<'a> Fn(Request, Next<'a>) -> Reply + Send + Sync {
    move |request, next| {
        next.run(request).map(move |response| {
            let status = response.status();
            Response::text(format!("{mark}[{}]", text(response))).with_status(status)
        })
    }
}

#[test]
fn wrappers_are_outside_in_and_see_every_answer() {
    let app = || {
        App::new()
            .wrap(around("a"))
            .get("/", |_| "x")
            .get("/pooled", pooled(|_| "y"))
            .get("/after", |_| after(Duration::from_secs(1), || "z"))
            .wrap(around("b"))
            .wrap(around("c"))
    };
    for (method, target, status, expected) in [
        ("GET", "/", 200, "a[b[c[x]]]"),
        ("GET", "/pooled", 200, "a[b[c[y]]]"),
        ("GET", "/after", 200, "a[b[c[z]]]"),
        ("GET", "/nothing", 404, "a[b[c[404 Not Found\n]]]"),
        ("POST", "/", 405, "a[b[c[405 Method Not Allowed\n]]]"),
        ("OPTIONS", "*", 204, "a[b[c[]]]"),
    ] {
        assert_eq!(answer(app(), method, target), (status, expected.into()));
    }
    assert!(matches!(reply(app(), "GET", "/pooled"), Reply::Pooled(_)));
    let delayed = reply(app(), "GET", "/after");
    assert!(matches!(delayed, Reply::After(delay, _) if delay == Duration::from_secs(1)));
}

#[test]
fn a_wrapper_may_answer_by_itself() {
    let inner = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&inner);
    let app = App::new()
        .wrap(around("outer"))
        .wrap(|request, next| match request.header("authorization") {
            Some(_) => next.run(request),
            None => (401, "who?").into_reply(),
        })
        .wrap(move |request, next| {
            count.fetch_add(1, Ordering::Relaxed);
            next.run(request)
        })
        .get("/", |_| "in");
    assert_eq!(answer(app, "GET", "/"), (401, "outer[who?]".into()));
    assert_eq!(inner.load(Ordering::Relaxed), 0);
}

#[test]
fn a_wrapper_sees_the_parameters_of_the_route() {
    let seen = Arc::new(Mutex::new(None));
    let note = Arc::clone(&seen);
    let app = routes().wrap(move |request, next| {
        *note.lock().unwrap() = request.param("id").map(Cow::into_owned);
        next.run(request)
    });
    assert_eq!(answer(app, "GET", "/users/7").1, "user(7|-)");
    assert_eq!(seen.lock().unwrap().as_deref(), Some("7"));
}

#[test]
fn an_answer_is_mapped_where_it_is_made() {
    let ran = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&ran);
    let app = App::new()
        .get("/", pooled(|_| "x"))
        .wrap(move |request, next| {
            let count = Arc::clone(&count);
            next.run(request).map(move |response| {
                count.fetch_add(1, Ordering::Relaxed);
                response.with_status(201)
            })
        });
    let reply = reply(app, "GET", "/");
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    let response = std::thread::spawn(move || finish(reply)).join().unwrap();
    assert_eq!((response.status(), ran.load(Ordering::Relaxed)), (201, 1));
}

#[test]
fn a_panic_is_a_500_unless_it_gives_the_worker_up() {
    let app = || {
        App::new()
            .get("/text", |_| -> Response { panic!("on purpose") })
            .get("/value", |_| -> Response { std::panic::panic_any(7) })
            .get(
                "/pooled",
                pooled(|_| -> Response { panic!("{}", "on purpose") }),
            )
            .get("/abandon", |_| -> Response { abandon_worker("enough") })
            .get(
                "/abandon/pooled",
                pooled(|_| -> Response { abandon_worker("enough") }),
            )
    };
    for target in ["/text", "/value", "/pooled"] {
        let (status, text) = answer(app(), "GET", target);
        assert_eq!(
            (status, &*text),
            (500, "500 Internal Server Error\n"),
            "{target}"
        );
    }
    for target in ["/abandon", "/abandon/pooled"] {
        let unwound = catch_unwind(AssertUnwindSafe(|| call(app(), "GET", target)));
        assert_eq!(panic_message(&*unwound.unwrap_err()), "enough");
    }
}

#[test]
fn careful_answers_are_careful_everywhere() {
    let app = || {
        App::new()
            .get("/", |_| "home")
            .get("/panic", |_| -> Response { panic!("on purpose") })
            .get("/mine", |_| {
                Response::new(200).header("x-frame-options", "SAMEORIGIN")
            })
            .secure_headers()
    };
    for (path, frames) in [
        ("/", "DENY"),
        ("/panic", "DENY"),
        ("/none", "DENY"),
        ("/mine", "SAMEORIGIN"),
    ] {
        let response = call(app(), "GET", path);
        assert_eq!(fields(&response, "X-Frame-Options"), [frames], "{path}");
        assert_eq!(
            fields(&response, "X-Content-Type-Options"),
            ["nosniff"],
            "{path}"
        );
        assert_eq!(
            fields(&response, "Referrer-Policy"),
            ["no-referrer"],
            "{path}"
        );
    }
    let plain = call(App::new(), "GET", "/none");
    assert_eq!(plain.all_fields(), b"X-Content-Type-Options: nosniff\r\n");
}
