//! Preconditions, ranges, codings, methods.

use super::*;

#[test]
fn methods() {
    let place = Place::usual();
    let app = place.app();
    let head = ask(&app, "HEAD", "/ten.txt", "Range: bytes=0-1\r\n");
    assert_eq!((head.status, head.body.len()), (200, 10));
    assert_eq!(head.tag(), get(&app, "/ten.txt").tag());
    let options = ask(&app, "OPTIONS", "/ten.txt", "");
    assert_eq!(
        (options.status, options.field("Allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for target in ["/ten.txt", "/nothing"] {
            let refused = ask(&app, method, target, "");
            assert_eq!(refused.status, 405);
            assert_eq!(refused.field("Allow"), Some("GET, HEAD, OPTIONS"));
        }
    }
}

#[test]
fn conditional_requests() {
    let place = Place::usual();
    let app = place.app();
    let first = get(&app, "/ten.txt");
    let (tag, date) = (first.tag(), first.field("Last-Modified").unwrap());
    for (fields, expected) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (
            format!("If-None-Match: \"x\"\r\nIf-None-Match: W/{tag}\r\n"),
            304,
        ),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        (
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"),
            200,
        ),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        (
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
            200,
        ),
        (format!("If-Unmodified-Since: {date}\r\n"), 200),
        (
            "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
            412,
        ),
        (format!("If-Match: {tag}\r\n"), 200),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        (format!("If-Match: {tag}\r\nIf-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: {tag}\r\nRange: bytes=0-1\r\n"), 304),
        ("If-Match: \"x\"\r\nRange: bytes=0-1\r\n".to_owned(), 412),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&app, method, "/ten.txt", &fields);
            let expected = if method == "GET" || expected != 206 {
                expected
            } else {
                200
            };
            assert_eq!(answer.status, expected, "{fields}");
            if expected == 304 {
                assert_eq!((answer.tag(), answer.body.len()), (tag, 0));
                assert_eq!(answer.field("Content-Type"), None);
            }
        }
    }
    // What is not there has no preconditions.
    assert_eq!(
        ask(&app, "GET", "/nothing", "If-Match: \"x\"\r\n").status,
        404
    );
    let cached = place.files().cache_control("max-age=60");
    let app = Arc::new(App::new().files("/", cached));
    for (fields, expected) in [
        ("", 200),
        ("If-None-Match: *\r\n", 304),
        ("Range: bytes=0-0\r\n", 206),
    ] {
        let answer = ask(&app, "GET", "/ten.txt", fields);
        assert_eq!(answer.status, expected);
        assert_eq!(answer.field("Cache-Control"), Some("max-age=60"));
    }
    assert_eq!(get(&app, "/nothing").field("Cache-Control"), None);
    let bad = place.files().cache_control("a\r\nb: c");
    let app = Arc::new(App::new().files("/", bad));
    assert_eq!(get(&app, "/ten.txt").field("Cache-Control"), None);
}

#[test]
fn times_that_are_odd() {
    let place = Place::usual();
    let app = place.app();
    date(
        &place.at("ten.txt"),
        SystemTime::now() + Duration::from_secs(1_000_000),
    );
    let answer = get(&app, "/ten.txt");
    let said = httpdate::parse_http_date(answer.field("Last-Modified").unwrap()).unwrap();
    assert!(said <= SystemTime::now());
    for seconds in [-1_000_000_000_i64, 0, 1, 300_000_000_000] {
        let time = match u64::try_from(seconds) {
            Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
        };
        let file = File::options()
            .write(true)
            .open(place.at("ten.txt"))
            .unwrap();
        // Not every file system has all of them.
        if file.set_modified(time).is_ok() {
            assert_eq!(status(&app, "/ten.txt"), 200, "{seconds}");
        }
    }
}

#[test]
fn a_date_that_may_stand_for_two_contents_gives_no_part() {
    let place = Place::usual();
    let app = place.app();
    let now = SystemTime::now();
    for (modified, expected) in [
        (now - Duration::from_secs(60), 206),
        (now, 200),
        (now + Duration::from_secs(60), 200),
    ] {
        date(&place.at("ten.txt"), modified);
        let said = httpdate::fmt_http_date(modified);
        let fields = format!("Range: bytes=0-0\r\nIf-Range: {said}\r\n");
        let answer = ask(&app, "GET", "/ten.txt", &fields);
        assert_eq!(answer.status, expected, "{said}");
    }
}

#[test]
fn ranges() {
    let place = Place::usual();
    let app = place.app();
    let before = SystemTime::now() - Duration::from_secs(60);
    date(&place.at("ten.txt"), before);
    let whole = get(&app, "/ten.txt");
    let date = whole.field("Last-Modified").unwrap();
    for (fields, status, body, range) in [
        (
            "Range: bytes=2-4\r\n".to_owned(),
            206,
            "234",
            Some("bytes 2-4/10"),
        ),
        (
            "Range: bytes=-3\r\n".to_owned(),
            206,
            "789",
            Some("bytes 7-9/10"),
        ),
        (
            "Range: bytes=8-99999999999999999999\r\n".to_owned(),
            206,
            "89",
            Some("bytes 8-9/10"),
        ),
        (
            "Range: bytes=2-3,4-5\r\n".to_owned(),
            206,
            "2345",
            Some("bytes 2-5/10"),
        ),
        (
            "Range: bytes=10-\r\n".to_owned(),
            416,
            "416 Range Not Satisfiable\n",
            Some("bytes */10"),
        ),
        ("Range: bytes=4-2\r\n".to_owned(), 200, "0123456789", None),
        ("Range: lines=0-1\r\n".to_owned(), 200, "0123456789", None),
        (
            format!("Range: bytes=0-0\r\nIf-Range: {}\r\n", whole.tag()),
            206,
            "0",
            Some("bytes 0-0/10"),
        ),
        (
            format!("Range: bytes=0-0\r\nIf-Range: {date}\r\n"),
            206,
            "0",
            Some("bytes 0-0/10"),
        ),
        (
            format!("Range: bytes=0-0\r\nIf-Range: W/{}\r\n", whole.tag()),
            200,
            "0123456789",
            None,
        ),
        (
            "Range: bytes=0-0\r\nIf-Range: \"x\"\r\n".to_owned(),
            200,
            "0123456789",
            None,
        ),
        (
            "Range: bytes=99-\r\nIf-Range: \"x\"\r\n".to_owned(),
            200,
            "0123456789",
            None,
        ),
    ] {
        let answer = ask(&app, "GET", "/ten.txt", &fields);
        let found = (answer.status, answer.text(), answer.field("Content-Range"));
        assert_eq!(found, (status, body, range), "{fields}");
        if status == 206 {
            assert_eq!(answer.tag(), whole.tag());
            assert_eq!(answer.field("Content-Type"), whole.field("Content-Type"));
        }
    }
}

#[test]
fn several_parts() {
    let place = Place::usual();
    let app = place.app();
    let mut boundaries = BTreeSet::new();
    for _ in 0..3 {
        let answer = ask(&app, "GET", "/ten.txt", "Range: bytes=-1,0-1\r\n");
        assert_eq!((answer.status, answer.field("Content-Range")), (206, None));
        let media = answer.field("Content-Type").unwrap();
        let boundary = media
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let part = |range: &str, bytes: &str| {
            format!(
                "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Range: bytes {range}/10\r\n\r\n{bytes}"
            )
        };
        let end = format!("\r\n--{boundary}--\r\n");
        assert_eq!(answer.text(), part("9-9", "9") + &part("0-1", "01") + &end);
        boundaries.insert(boundary.to_owned());
    }
    assert_eq!(boundaries.len(), 3);
}

#[test]
fn neighbours_that_are_compressed() {
    let place = Place::usual();
    place.write("app.js", "plain");
    place.write("app.js.gz", "gzipped");
    place.write("app.js.br", "brotli");
    let app = place.app();
    let of = |fields: &str| ask(&app, "GET", "/app.js", fields);
    let mut tags = BTreeSet::new();
    for (fields, body, coding) in [
        ("", "plain", None),
        ("Accept-Encoding: gzip\r\n", "gzipped", Some("gzip")),
        ("Accept-Encoding: gzip, br\r\n", "brotli", Some("br")),
        ("Accept-Encoding: zstd\r\n", "plain", None),
        (
            "Accept-Encoding: gzip;q=0\r\nAccept-Encoding: br;q=0.1\r\n",
            "brotli",
            Some("br"),
        ),
    ] {
        let answer = of(fields);
        assert_eq!((answer.status, answer.text()), (200, body), "{fields}");
        assert_eq!(answer.field("Content-Encoding"), coding);
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(
            answer.field("Content-Type"),
            Some("text/javascript; charset=utf-8")
        );
        tags.insert(answer.tag().to_owned());
    }
    assert_eq!(tags.len(), 3, "each has a tag of its own");
    let tag = of("Accept-Encoding: br\r\n").tag().to_owned();
    let fields = format!("Accept-Encoding: br\r\nIf-None-Match: {tag}\r\n");
    let same = of(&fields);
    assert_eq!(
        (same.status, same.field("Vary")),
        (304, Some("Accept-Encoding"))
    );
    let other = format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n");
    assert_eq!(of(&other).status, 200);
    let part = of("Accept-Encoding: br\r\nRange: bytes=0-1\r\n");
    assert_eq!((part.status, part.text()), (206, "br"));
    assert_eq!(part.field("Content-Encoding"), Some("br"));
    // Not for others, nor one that is old, nor what is no file.
    assert_eq!(get(&app, "/ten.txt").field("Vary"), None);
    let now = SystemTime::now();
    date(&place.at("app.js.br"), now - Duration::from_secs(60));
    assert_eq!(of("Accept-Encoding: br\r\n").text(), "plain");
    mkfifo(&place.at("ten.txt.gz"), Mode::S_IRWXU).unwrap();
    let answer = ask(&app, "GET", "/ten.txt", "Accept-Encoding: gzip\r\n");
    assert_eq!((answer.text(), answer.field("Vary")), ("0123456789", None));
    // As it is, it is a file like others.
    let archive = ask(&app, "GET", "/app.js.gz", "Accept-Encoding: gzip\r\n");
    assert_eq!(
        (archive.text(), archive.field("Content-Encoding")),
        ("gzipped", None)
    );
    let off = Arc::new(App::new().files("/", place.files().precompressed(false)));
    let answer = ask(&off, "GET", "/app.js", "Accept-Encoding: gzip\r\n");
    assert_eq!((answer.text(), answer.field("Vary")), ("plain", None));
}
