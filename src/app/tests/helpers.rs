//! What spares handlers work: cookies, forms, JSON, redirects.

use super::*;
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// A request with a body and more fields, each with its line end.
fn posted(fields: &str, body: &[u8]) -> Request {
    let text = format!("POST /?a=1&b=x+y&a=2 HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let mut parts = Parts::take();
    let parsed = parts.head.parse(text.as_bytes(), &HeadLimits::default());
    assert_eq!(parsed.unwrap(), Parsed::Complete(text.len()));
    parts.body = body.to_vec();
    Request::new(parts)
}

fn form(body: &[u8]) -> Request {
    posted("Content-Type: application/x-www-form-urlencoded\r\n", body)
}

fn pairs<'a>(
    pairs: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
) -> Vec<(String, String)> {
    let owned = pairs
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()));
    owned.collect()
}

fn are(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    owned.collect()
}

fn set(cookie: Cookie) -> String {
    let response = Response::text("x").cookie(cookie);
    assert_eq!(response.status(), 200);
    let [field] = fields(&response, "set-cookie").try_into().unwrap();
    field
}

#[test]
fn queries_are_all_there_in_order() {
    let request = posted("", b"");
    let expected = are(&[("a", "1"), ("b", "x y"), ("a", "2")]);
    assert_eq!(pairs(request.queries()), expected);
    let without = Request::new(parts("GET", "/"));
    assert_eq!(without.queries().count(), 0);
}

#[test]
fn cookies_are_those_of_all_fields() {
    let request = posted("Cookie: a=1; b=\"2\"\r\nX: y=z\r\ncookie: a=3;A=4\r\n", b"");
    let expected = are(&[("a", "1"), ("b", "\"2\""), ("a", "3"), ("A", "4")]);
    assert_eq!(pairs(request.cookies()), expected);
    assert_eq!(request.cookie("a").as_deref(), Some("1"));
    assert_eq!(request.cookie("A").as_deref(), Some("4"));
    assert_eq!(request.cookie("y"), None);
    assert_eq!(posted("", b"").cookies().count(), 0);
}

#[test]
fn a_cookie_is_written_with_its_attributes() {
    let plain = Cookie::new("id", "7");
    assert_eq!((plain.name(), plain.value()), ("id", "7"));
    assert_eq!(set(plain.clone()), "id=7; Path=/; SameSite=Lax; HttpOnly");
    let full = plain
        .path("/a b")
        .domain("example.com")
        .max_age(Duration::from_millis(61_999))
        .expires(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
        .same_site(SameSite::None)
        .secure(true)
        .http_only(false);
    assert_eq!(
        set(full),
        "id=7; Path=/a b; Domain=example.com; Max-Age=61; \
         Expires=Sun, 06 Nov 1994 08:49:37 GMT; SameSite=None; Secure"
    );
    let free = Cookie::new("a", "").same_site(None).http_only(false);
    assert_eq!(set(free), "a=; Path=/");
}

#[test]
fn a_cookie_is_removed_by_a_date_that_is_past() {
    const GONE: &str = "id=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax; HttpOnly";
    assert_eq!(set(Cookie::removal("id")), GONE);
    assert_eq!(set(Cookie::new("id", "").max_age(Duration::ZERO)), GONE);
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(set(Cookie::new("id", "").expires(early)), GONE);
    let late = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
    let late = set(Cookie::new("id", "").expires(late));
    assert!(
        late.contains("Expires=Fri, 31 Dec 9999 23:59:59 GMT"),
        "{late}"
    );
}

#[test]
fn a_cookie_that_no_browser_would_take_is_not_sent() {
    let cookie = || Cookie::new("a", "b");
    let host = || Cookie::new("__Host-a", "b").secure(true);
    for bad in [
        Cookie::new("", "b"),
        Cookie::new("a b", "b"),
        Cookie::new("a=", "b"),
        Cookie::new("a", "b; Domain=c"),
        Cookie::new("a", "b\r\nX: y"),
        Cookie::new("a", "\u{e9}"),
        Cookie::new("a", "b".repeat(4096)),
        cookie().path(""),
        cookie().path("a"),
        cookie().path("/;Domain=c"),
        cookie().path(format!("/{}", "a".repeat(1024))),
        cookie().domain(".example"),
        cookie().domain("a\r\nb"),
        cookie().same_site(SameSite::None),
        Cookie::new("__Secure-a", "b"),
        Cookie::new("__SECURE-a", "b"),
        Cookie::new("__Host-a", "b"),
        host().path("/a"),
        host().domain("example.com"),
        Cookie::removal("__host-a"),
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
        let response = Response::text("secret").cookie(bad);
        assert_eq!((response.status(), response.fields()), (500, &b""[..]));
        assert!(matches!(response.body(), Body::Empty));
    }
    for good in [
        Cookie::new("a", "b".repeat(4095)),
        Cookie::new("__Secure-a", "b").secure(true).path("/a"),
        Cookie::new("__Hos", "b"),
        host(),
        Cookie::removal("__Host-a").secure(true),
    ] {
        assert_eq!(good.check(), Ok(()), "{good:?}");
    }
    let two = Response::text("x").cookie(cookie()).cookie(host());
    assert_eq!(fields(&two, "Set-Cookie").len(), 2);
}

#[test]
fn forms_are_read_if_they_say_that_they_are() {
    let request = form(b"a=1&b=%C3%A9+x&a=2");
    let expected = are(&[("a", "1"), ("b", "é x"), ("a", "2")]);
    assert_eq!(pairs(request.form().unwrap()), expected);
    assert_eq!(request.form_value("b").as_deref(), Some("é x"));
    assert_eq!(request.form_value("c"), None);
    for kind in [
        "APPLICATION/X-WWW-FORM-URLENCODED",
        "application/x-www-form-urlencoded;charset=UTF-8",
        "application/x-www-form-urlencoded ; a=\"b;c\"",
    ] {
        let request = posted(&format!("Content-Type: {kind}\r\n"), b"a=1");
        assert_eq!(pairs(request.form().unwrap()), are(&[("a", "1")]), "{kind}");
    }
    assert_eq!(form(b"").form().unwrap(), []);
}

#[test]
fn a_form_that_is_none_is_refused() {
    for fields in [
        "",
        "Content-Type: \r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencodedx\r\n",
        "Content-Type: application/x-www-form-urlencoded, text/plain\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n",
    ] {
        let request = posted(fields, b"a=1");
        let error = request.form().unwrap_err();
        assert_eq!(error.status(), 415, "{fields}");
        assert_eq!(request.form_value("a"), None);
    }
    assert_eq!(form(b"a=\xff").form().unwrap_err().status(), 400);
    assert_eq!(form(&b"a&".repeat(1000)).form().unwrap().len(), 1000);
    assert_eq!(form(&b"a&".repeat(1001)).form().unwrap_err().status(), 413);
}

#[test]
fn an_error_is_an_answer() {
    let error = posted("Content-Type: a/b\r\n", b"").form().unwrap_err();
    let response = error.into_response();
    assert_eq!(response.status(), 415);
    let accept = fields(&response, "accept");
    assert_eq!(accept, ["application/x-www-form-urlencoded"]);
    let expected = "415 Unsupported Media Type: a body of another type\n";
    assert_eq!(text(response), expected);
}

#[cfg(feature = "json")]
mod json {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(serde::Deserialize, serde::Serialize, Debug, PartialEq)]
    struct SecretName {
        secret_field: u32,
    }

    fn json(body: &[u8]) -> Request {
        posted("Content-Type: application/json\r\n", body)
    }

    #[test]
    fn json_is_read_if_it_says_that_it_is() {
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
            "application/vnd.a+JSON;v=1",
        ] {
            let request = posted(&format!("Content-Type: {kind}\r\n"), b"[1, 2]");
            assert_eq!(request.json::<Vec<u32>>().unwrap(), [1, 2], "{kind}");
        }
        let request = json(br#"{"a": "b"}"#);
        let borrowed: BTreeMap<&str, &str> = request.json().unwrap();
        assert_eq!(borrowed["a"], "b");
        for kind in ["text/json", "application/jsonx", "application/x+jsonx", ""] {
            let request = posted(&format!("Content-Type: {kind}\r\n"), b"1");
            let error = request.json::<u32>().unwrap_err();
            assert_eq!((error.status(), error.place()), (415, None), "{kind}");
        }
    }

    #[test]
    fn a_refusal_names_the_place_and_nothing_else() {
        for (body, status, place) in [
            (&b""[..], 400, Some((1, 0))),
            (b"{", 400, Some((1, 1))),
            (b"{\n  \"secret_field\" 1}", 400, Some((2, 18))),
            (b"{\"secret_field\": 1} x", 400, Some((1, 21))),
            (b"\xff", 400, Some((1, 1))),
            (b"[]", 422, Some((1, 2))),
            (b"{\"secret_field\": \"<b>\"}", 422, Some((1, 22))),
            (b"{\"secret_field\": -1}", 422, Some((1, 19))),
            (b"{}", 422, Some((1, 2))),
        ] {
            let error = json(body).json::<SecretName>().unwrap_err();
            let shown = body[..body.len().min(30)].escape_ascii();
            assert_eq!((error.status(), error.place()), (status, place), "{shown}");
            let said = text(error.into_response());
            assert!(!said.to_lowercase().contains("secret"), "{said}");
            assert!(!said.contains('<'), "{said}");
        }
        let deep = b"[".repeat(100_000);
        let error = json(&deep).json::<serde_json::Value>().unwrap_err();
        assert_eq!((error.status(), error.place()), (400, Some((1, 128))));
        let error = json(b"nope").json::<u32>().unwrap_err();
        let expected = "400 Bad Request: no JSON at line 1, column 2\n";
        assert_eq!(text(error.into_response()), expected);
    }

    #[test]
    fn values_are_answered_as_json() {
        let value = SecretName { secret_field: 7 };
        let response = Response::json(&value);
        assert_eq!(fields(&response, "content-type"), ["application/json"]);
        assert_eq!(response.content_type(), None);
        assert_eq!(text(response), r#"{"secret_field":7}"#);
        let odd = BTreeMap::from([((1, 2), 3)]);
        assert_eq!(Response::json(&odd).status(), 500);
        assert_eq!(text(Response::json("text")), "\"text\"");
    }
}

#[test]
fn a_redirect_leads_to_one_place() {
    for (location, expected) in [
        ("/a?b=c#d", "/a?b=c#d"),
        ("https://example.com/%41", "https://example.com/%41"),
        ("", ""),
        ("/x\r\nSet-Cookie: a=b", "/x%0D%0ASet-Cookie:%20a=b"),
        (" /é\0\t\u{7f}", "%20/%C3%A9%00%09%7F"),
        ("/\\example.com", "/%5Cexample.com"),
        ("/\"<>^`{|}", "/%22%3C%3E%5E%60%7B%7C%7D"),
    ] {
        let response = Response::redirect(302, location);
        assert_eq!(fields(&response, "location"), [expected]);
        assert_eq!(text(response), "302 Found\n");
    }
    for status in 200..600 {
        let fine = [301, 302, 303, 307, 308].contains(&status);
        let expected = if fine { status } else { 500 };
        assert_eq!(Response::redirect(status, "/").status(), expected);
    }
}
