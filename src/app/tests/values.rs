//! Requests and responses as values.

use super::*;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn what_handlers_may_return() {
    const TEXT: Option<&str> = Some("text/plain; charset=utf-8");
    const BINARY: Option<&str> = Some("application/octet-stream");
    fn check(answer: impl IntoReply, status: u16, kind: Option<&str>, body: &str) {
        let response = finish(answer.into_reply());
        assert_eq!((response.status(), response.content_type()), (status, kind));
        assert_eq!(text(response), body);
    }
    check("static", 200, TEXT, "static");
    check("owned".to_owned(), 200, TEXT, "owned");
    check(Cow::Borrowed("cow"), 200, TEXT, "cow");
    check(Cow::<str>::Owned("cow".into()), 200, TEXT, "cow");
    check(b"bytes".to_vec(), 200, BINARY, "bytes");
    check(&b"bytes"[..], 200, BINARY, "bytes");
    check((), 204, None, "");
    check((201, "made"), 201, TEXT, "made");
    check((202, ()), 202, None, "");
    check(Ok::<_, ()>("fine"), 200, TEXT, "fine");
    check(Err::<(), _>((409, "not fine")), 409, TEXT, "not fine");
    check(Some("here"), 200, TEXT, "here");
    check(None::<String>, 404, TEXT, "404 Not Found\n");
    check(Some(Ok::<_, String>((203, "deep"))), 203, TEXT, "deep");
    check(
        Response::html("<p>"),
        200,
        Some("text/html; charset=utf-8"),
        "<p>",
    );
    check(Response::bytes("abc"), 200, BINARY, "abc");
    check(Response::stream(["a", "b"]), 200, TEXT, "ab");
    check(Response::new(200), 200, None, "");
    check(after(Duration::ZERO, || (201, "later")), 201, TEXT, "later");
}

#[test]
fn a_field_that_would_break_the_head_makes_it_a_500() {
    for (name, value) in [
        ("X", "a\r\nSet-Cookie: b"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\0b"),
        ("X", "a\u{7f}b"),
        ("X: y\r\nZ", "a"),
        ("X Y", "a"),
        ("X\u{e9}", "a"),
        ("", "a"),
        ("Location", "/\r\n\r\n<script>"),
    ] {
        let response = Response::text("secret")
            .header("Before", "b")
            .header(name, value);
        assert_eq!(response.status(), 500, "{name:?}: {value:?}");
        assert_eq!(response.fields(), b"");
        assert!(matches!(response.body(), Body::Empty));
    }
    let odd = Response::text("x").header("X", b"caf\xe9\ttab ".trim_ascii());
    assert_eq!(
        (odd.status(), odd.fields()),
        (200, &b"X: caf\xe9\ttab\r\n"[..])
    );
}

#[test]
fn fields_about_framing_are_the_servers() {
    let mut response = Response::text("x");
    for name in [
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "CONNECTION",
        "Keep-Alive",
        "Trailer",
        "Upgrade",
    ] {
        response = response.header(name, "1");
    }
    assert_eq!((response.status(), response.fields()), (200, &b""[..]));
    assert!(!response.wants_close());
    assert!(response.close().wants_close());
}

#[test]
fn fields_are_kept_in_order_and_some_replace_what_was_implied() {
    let response = Response::text("x")
        .header("Set-Cookie", "a")
        .header("content-type", "text/css")
        .header("Set-Cookie", "b");
    assert_eq!(fields(&response, "set-cookie"), ["a", "b"]);
    assert_eq!(fields(&response, "content-type"), ["text/css"]);
    assert_eq!(response.content_type(), None);
    assert!(!response.has_date());
    assert!(response.header("DATE", "today").has_date());
}

#[test]
fn a_status_that_is_none_is_500() {
    for status in [0, 99, 100, 101, 199, 600, 999, u16::MAX] {
        assert_eq!(Response::new(status).status(), 500, "{status}");
        assert_eq!((status, "x").into_response().status(), 500);
    }
    for status in [200, 204, 299, 418, 599] {
        assert_eq!(Response::new(status).status(), status);
    }
}

#[test]
fn a_request_shows_what_was_sent() {
    let mut parts = parts("POST", "/a%41?x=1&y=a+b%21&x=2");
    parts.body.extend(b"body");
    parts.trailers.push(("Sum".into(), b"4".to_vec()));
    parts.worker = 3;
    let peer: SocketAddr = "192.0.2.1:80".parse().unwrap();
    parts.peer = Some(Peer::Inet(peer));
    let request = Request::new(parts);
    assert_eq!(request.method(), Method::Post);
    assert_eq!(request.version(), crate::http::Version::Http11);
    assert_eq!(request.target(), "/a%41?x=1&y=a+b%21&x=2");
    assert_eq!(
        (request.path(), request.query()),
        ("/aA", Some("x=1&y=a+b%21&x=2"))
    );
    assert_eq!(request.query_value("x").as_deref(), Some("1"));
    assert_eq!(request.query_value("y").as_deref(), Some("a b!"));
    assert_eq!(request.query_value("z"), None);
    assert_eq!(request.host(), Some("test"));
    assert_eq!(request.header("x-field"), Some(&b"value"[..]));
    assert_eq!(request.header("x"), None);
    assert_eq!(request.headers().count(), 2);
    assert_eq!(request.trailer("SUM"), Some(&b"4"[..]));
    assert_eq!((request.peer(), request.worker()), (Some(peer), 3));
    assert_eq!(request.param("id"), None);
    assert_eq!(request.into_body(), b"body");
}

#[test]
fn nothing_of_a_request_is_left_in_the_next_one() {
    let app = Arc::new(routes());
    // A thread of its own, so that the parts that come back are the ones that were given.
    std::thread::spawn(move || {
        for big in [false, true] {
            let mut first = parts("GET", "/users/secret?key=secret");
            let address = &raw const *first as usize;
            first.body.extend(b"secret");
            first.trailers.push(("Secret".into(), b"secret".to_vec()));
            first.peer = Some(Peer::Inet("192.0.2.1:80".parse().unwrap()));
            finish(app.call(Request::new(first), None));
            let second = parts("GET", if big { "/users/me" } else { "/" });
            assert_eq!(&raw const *second as usize, address);
            assert_eq!(second.body.capacity(), 0);
            assert!(second.trailers.is_empty());
            let request = Request::new(second);
            assert_eq!(request.param("id"), None);
            assert_eq!((request.query(), request.trailer("secret")), (None, None));
            assert!(!format!("{request:?}").contains("secret"));
            drop(request);
            // Asked for what only the first one had.
            let mut third = parts("GET", "/");
            third.peer = Some(Peer::Unix);
            let request = Request::new(third);
            assert_eq!(request.peer(), None);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn what_is_kept_for_later_requests_is_bounded() {
    std::thread::spawn(|| {
        let many: Vec<_> = (0..100).map(|_| Request::new(parts("GET", "/"))).collect();
        drop(many);
        let kept =
            std::iter::repeat_with(Parts::take).take_while(|parts| parts.head.capacity() > 0);
        assert!((1..=16).contains(&kept.count()));
        drop(Request::new(parts(
            "GET",
            &format!("/{}", "x".repeat(8000)),
        )));
        assert_eq!(Parts::take().head.capacity(), 0);
    })
    .join()
    .unwrap();
}
