//! What counts for a while, what of it ends, and what it may hold.

use super::super::cache::SMALL;
use super::super::store::KEPT_CACHED;
use super::*;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(1000);

fn cached(place: &Place, time: Duration) -> (Arc<App>, u64) {
    let files = place.files().cache(time);
    let id = files.id;
    (Arc::new(App::new().files("/", files)), id)
}

fn file_of(length: u64) -> String {
    "0123456789".chars().cycle().take(length as usize).collect()
}

#[test]
fn the_same_answers_as_with_a_look() {
    let place = Place::usual();
    place.write("large.svg", &file_of(SMALL + 1));
    place.write("empty", "");
    place.write("app.js", "plain");
    place.write("app.js.gz", "gzipped");
    place.write("app.js.br", "brotli");
    let app = Arc::new(App::new().files("/", place.files().cache_control("no-cache")));
    let files = place.files().cache_control("no-cache").cache(LONG);
    let cached = Arc::new(App::new().files("/", files));
    let large = get(&app, "/large.svg");
    let (tag, date) = (
        large.tag().to_owned(),
        large.field("Last-Modified").unwrap(),
    );
    for (target, fields) in [
        ("/ten.txt", String::new()),
        ("/ten.txt?query", String::new()),
        ("/t%65n.txt", String::new()),
        ("/", String::new()),
        ("/sub/", String::new()),
        ("/sub", String::new()),
        ("/ten.txt/", String::new()),
        ("/empty", String::new()),
        ("/large.svg", String::new()),
        ("/large.svg", format!("If-None-Match: {tag}\r\n")),
        ("/large.svg", format!("If-Modified-Since: {date}\r\n")),
        ("/large.svg", "If-Match: \"x\"\r\n".to_owned()),
        ("/large.svg", "Range: bytes=3-5\r\n".to_owned()),
        (
            "/large.svg",
            format!("Range: bytes=3-5\r\nIf-Range: {tag}\r\n"),
        ),
        ("/ten.txt", "Range: bytes=3-5\r\n".to_owned()),
        ("/ten.txt", "Range: bytes=-100\r\n".to_owned()),
        ("/ten.txt", "Range: bytes=10-\r\n".to_owned()),
        ("/ten.txt", "Range: apples\r\n".to_owned()),
        ("/empty", "Range: bytes=0-\r\n".to_owned()),
        ("/app.js", String::new()),
        ("/app.js", "Accept-Encoding: gzip\r\n".to_owned()),
        ("/app.js", "Accept-Encoding: br, gzip\r\n".to_owned()),
        ("/app.js", "Accept-Encoding: identity\r\n".to_owned()),
        (
            "/app.js",
            "Accept-Encoding: zstd\r\nRange: bytes=1-\r\n".to_owned(),
        ),
    ] {
        for method in ["GET", "HEAD"] {
            let expected = ask(&app, method, target, &fields);
            for _ in 0..3 {
                let found = ask(&cached, method, target, &fields);
                assert_eq!(
                    (found.status, &found.fields, found.text()),
                    (expected.status, &expected.fields, expected.text()),
                    "{method} {target} {fields}"
                );
            }
        }
    }
    let several = "Range: bytes=0-1,5-6\r\n";
    for target in ["/ten.txt", "/large.svg"] {
        let parts = ask(&cached, "GET", target, several);
        let text = parts.text();
        assert!(text.contains("\r\n\r\n01\r\n--") && text.contains("\r\n\r\n56\r\n--"));
    }
}

#[test]
fn what_was_found_counts_for_its_time() {
    let place = Place::usual();
    place.write("large", &file_of(SMALL + 1));
    let (app, id) = cached(&place, LONG);
    let text = |target: &str| get(&app, target).text().to_owned();
    assert_eq!(status(&app, "/later"), 404);
    let large = text("/large");
    assert_eq!(text("/ten.txt"), "0123456789");
    let tag = get(&app, "/ten.txt").tag().to_owned();
    place.write("later", "found");
    assert_eq!(text("/later"), "found", "what is absent is looked for");
    place.write("ten.txt", "edited");
    for name in ["large", "later"] {
        place.write("new", "replaced");
        fs::rename(place.at("new"), place.at(name)).unwrap();
    }
    fs::remove_file(place.at("index.html")).unwrap();
    assert_eq!(status(&app, "/"), 404, "nobody had asked for it");
    assert_eq!(
        (text("/ten.txt").as_str(), text("/large")),
        ("0123456789", large)
    );
    assert_eq!(get(&app, "/ten.txt").tag(), tag);
    fs::remove_file(place.at("ten.txt")).unwrap();
    assert_eq!(status(&app, "/ten.txt"), 200);
    Store::pass(id, LONG);
    assert_eq!(status(&app, "/ten.txt"), 404);
    assert_eq!(
        (text("/large").as_str(), text("/later").as_str()),
        ("replaced", "replaced")
    );
}

#[test]
fn nothing_else_is_reached_by_it() {
    let place = Place::usual();
    place.write(".env", "secret");
    symlink("/etc/passwd", place.at("out")).unwrap();
    let (app, _) = cached(&place, LONG);
    for _ in 0..2 {
        for target in [
            "/.env",
            "/%2eenv",
            "/out",
            "/sub/../ten.txt",
            "/ten.txt%00",
            "/sub%2fpage.htm",
        ] {
            assert_eq!(status(&app, target), 404, "{target}");
        }
        assert_eq!(status(&app, "/ten.txt"), 200);
        assert_eq!(ask(&app, "POST", "/ten.txt", "").status, 405);
    }
}

#[test]
fn neighbours_that_come_and_go() {
    let place = Place::usual();
    let (app, id) = cached(&place, LONG);
    let coded = "Accept-Encoding: gzip\r\n";
    let ask = || ask(&app, "GET", "/ten.txt", coded);
    assert_eq!(ask().text(), "0123456789");
    place.write("ten.txt.gz", "gzipped");
    assert_eq!((ask().text(), ask().field("Vary")), ("0123456789", None));
    Store::pass(id, LONG);
    assert_eq!(ask().text(), "gzipped");
    fs::remove_file(place.at("ten.txt.gz")).unwrap();
    assert_eq!(ask().text(), "gzipped");
    // Whoever takes none has not asked before, and so it is looked.
    let plain = get(&app, "/ten.txt");
    assert_eq!((plain.text(), plain.field("Vary")), ("0123456789", None));
    assert_eq!(ask().text(), "0123456789", "the last look counts");
}

#[test]
fn what_it_holds_is_bounded() {
    let place = Place::new();
    let files = place.files().cache(LONG);
    let count =
        |files: &Files| Store::with(files, |store| (store.count(), store.cache.count())).unwrap();
    // Another name of the same.
    let seen = Files {
        id: files.id,
        alive: Arc::clone(&files.alive),
        ..place.files().cache(LONG)
    };
    let app = Arc::new(App::new().files("/", files));
    for number in 0..KEPT_CACHED + 10 {
        place.write(&number.to_string(), &file_of(SMALL));
        assert_eq!(get(&app, &format!("/{number}")).body.len(), SMALL as usize);
        let (open, (paths, bytes)) = count(&seen);
        assert!(paths <= number + 1 && bytes <= 1 << 20);
        assert_eq!(open, 0, "what is in memory is not kept open as well");
    }
    assert_eq!(count(&seen).1, (64, 1 << 20));
    for number in 0..1100 {
        place.write(&format!("t{number}"), "x");
        assert_eq!(status(&app, &format!("/t{number}")), 200);
    }
    assert_eq!(count(&seen).1, (1024, 1024));
    Store::pass(seen.id, LONG);
    assert_eq!(status(&app, "/t0"), 200);
    assert_eq!(count(&seen).1, (1, 1), "the sweep found the rest too old");
}

#[test]
fn descriptors_are_those_of_the_store() {
    let place = Place::usual();
    let mut app = App::new().files("/", place.files().cache(LONG));
    for number in 0..5 {
        place.write(&number.to_string(), &file_of(SMALL + 1));
    }
    app.set_most_open(3);
    let app = Arc::new(app);
    let sent = |number: u32| respond(&app, "GET", &format!("/{number}"), "");
    let under_way: Vec<_> = (0..3).map(sent).collect();
    assert!(under_way.iter().all(|response| response.status() == 200));
    assert_eq!(answer(sent(3)).status, 503);
    drop(under_way);
    for _ in 0..2 {
        assert!((0..5).all(|number| sent(number).status() == 200));
    }
    // A small one is read, and then needs none.
    assert_eq!(status(&app, "/ten.txt"), 200);
    let _under_way: Vec<_> = (0..3).map(sent).collect();
    assert_eq!(answer(sent(3)).status, 503);
    assert_eq!(status(&app, "/ten.txt"), 200);
}
