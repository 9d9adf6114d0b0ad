//! What is found in a tree, what is not, and what changes in it.

use super::*;

#[test]
fn files_and_what_is_said_of_them() {
    let place = Place::usual();
    let app = place.app();
    let ten = get(&app, "/ten.txt");
    assert_eq!((ten.status, ten.text()), (200, "0123456789"));
    assert_eq!(ten.field("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(ten.field("Accept-Ranges"), Some("bytes"));
    assert_eq!(ten.field("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(
        (ten.field("Vary"), ten.field("Cache-Control")),
        (None, None)
    );
    assert_eq!(ten.field("Content-Encoding"), None);
    let known = fs::metadata(place.at("ten.txt"))
        .unwrap()
        .modified()
        .unwrap();
    let known = httpdate::fmt_http_date(known);
    assert_eq!(ten.field("Last-Modified"), Some(known.as_str()));
    ten.tag();
    assert_eq!(get(&app, "/").text(), "home");
    assert_eq!(get(&app, "/index.html").text(), "home");
    assert_eq!(get(&app, "/sub/page.htm?x=y").text(), "page");
    assert_eq!(get(&app, "/%74en.txt").text(), "0123456789");
    place.write("empty", "");
    let empty = get(&app, "/empty");
    assert_eq!((empty.status, empty.text()), (200, ""));
    for (name, media) in [
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.HTML", "text/html; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.wasm", "application/wasm"),
        ("a.mp4", "video/mp4"),
        ("a.woff2", "font/woff2"),
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.unknown", "application/octet-stream"),
        ("plain", "application/octet-stream"),
    ] {
        place.write(name, "x");
        let answer = get(&app, &format!("/{name}"));
        assert_eq!(answer.field("Content-Type"), Some(media), "{name}");
    }
}

#[test]
fn what_is_not_there() {
    let place = Place::usual();
    place.write("sub/.env", "secret");
    place.write(".top", "secret");
    fs::create_dir(place.at(".git")).unwrap();
    place.write(".git/config", "secret");
    mkfifo(&place.at("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(place.at("socket")).unwrap();
    symlink("/etc/passwd", place.at("absolute")).unwrap();
    symlink("/etc", place.at("etc")).unwrap();
    symlink("/dev/zero", place.at("zero")).unwrap();
    symlink("loop", place.at("loop")).unwrap();
    symlink("ten.txt", place.at("link")).unwrap();
    symlink("../ten.txt", place.at("sub/up")).unwrap();
    let app = place.app();
    let long = format!("/{}", "x".repeat(300));
    for target in [
        "/nothing",
        "/ten.txt/",
        "/ten.txt/x",
        "/sub/",
        "//",
        "//ten.txt",
        "/sub//page.htm",
        "/fifo",
        "/socket",
        "/absolute",
        "/etc",
        "/etc/",
        "/etc/passwd",
        "/zero",
        "/loop",
        "/.top",
        "/sub/.env",
        "/.git",
        "/.git/",
        "/.git/config",
        "/sub/../ten.txt",
        "/./ten.txt",
        "/%2e%2e/x",
        "/..%2f..%2fetc/passwd",
        "/sub%2fpage.htm",
        "/ten.txt%00",
        "/sub%5Cpage.htm",
        &long,
        "/ten.txt%20",
        "/sub/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/index.html/",
    ] {
        let refused = get(&app, target);
        assert_eq!(
            (refused.status, refused.text()),
            (404, "404 Not Found\n"),
            "{target}"
        );
        assert_eq!(refused.field("ETag"), None);
    }
    assert_eq!(get(&app, "/link").text(), "0123456789");
    assert_eq!(get(&app, "/sub/up").text(), "0123456789");
    // Whoever made the link said so.
    symlink(".top", place.at("shown")).unwrap();
    assert_eq!(get(&app, "/shown").text(), "secret");
    let hidden = Arc::new(App::new().files("/", place.files().dotfiles(true)));
    assert_eq!(get(&hidden, "/.git/config").text(), "secret");
    assert_eq!(get(&hidden, "/sub/.env").text(), "secret");
    assert_eq!(status(&hidden, "/sub/../.top"), 404);
    fs::set_permissions(place.at("ten.txt"), fs::Permissions::from_mode(0o0)).unwrap();
    if File::open(place.at("ten.txt")).is_err() {
        let refused = get(&place.app(), "/ten.txt");
        assert_eq!((refused.status, refused.text()), (403, "403 Forbidden\n"));
    }
}

#[test]
fn names_of_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    for (name, target) in [
        (&b"a b"[..], "/a%20b"),
        (b"a\\b", "/a%5Cb"),
        (b"\xff\xfe", "/%ff%FE"),
        (b"100%", "/100%25"),
        (b"%41", "/%2541"),
        (b"a+b", "/a+b"),
        (b"a?b#c", "/a%3Fb%23c"),
        ("grüße".as_bytes(), "/gr%C3%BC%C3%9Fe"),
    ] {
        fs::write(place.0.join(OsStr::from_bytes(name)), name).unwrap();
        assert_eq!(get(&place.app(), target).body, name, "{target}");
    }
}

#[test]
fn directories() {
    let place = Place::usual();
    fs::create_dir(place.at("ev\\il.com")).unwrap();
    fs::create_dir(place.at("a b")).unwrap();
    let app = place.app();
    for (target, expected) in [
        ("/sub", "/sub/"),
        ("/sub?a=b&c", "/sub/?a=b&c"),
        ("/%73ub", "/sub/"),
        ("/ev%5Cil.com", "/ev%5Cil.com/"),
        ("/a%20b", "/a%20b/"),
    ] {
        let moved = get(&app, target);
        assert_eq!(
            (moved.status, moved.field("Location")),
            (301, Some(expected)),
            "{target}"
        );
        assert_eq!(moved.field("X-Content-Type-Options"), Some("nosniff"));
    }
    assert_eq!(status(&app, "//sub"), 404);
    assert_eq!(status(&app, "/sub/"), 404);
    let named = place.files().index(["../ten.txt", "none", "page.htm"]);
    let app = Arc::new(App::new().files("/", named));
    assert_eq!(get(&app, "/sub/").text(), "page");
    assert_eq!(status(&app, "/"), 404);
    let none = place.files().index([""; 0]);
    assert_eq!(status(&Arc::new(App::new().files("/", none)), "/"), 404);
}

#[test]
fn listings() {
    let place = Place::usual();
    place.write("<b>.txt", "x");
    place.write(".hidden", "x");
    mkfifo(&place.at("fifo"), Mode::S_IRWXU).unwrap();
    let files = place.files().listing(true);
    let app = Arc::new(App::new().files("/", files));
    assert_eq!(get(&app, "/").text(), "home");
    let list = get(&app, "/sub/");
    assert_eq!(list.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(list.field("X-Content-Type-Options"), Some("nosniff"));
    assert!(
        list.text().contains("<a href=\"page.htm\">page.htm</a>"),
        "{}",
        list.text()
    );
    fs::remove_file(place.at("index.html")).unwrap();
    let list = get(&app, "/");
    let text = list.text();
    assert!(
        text.contains("<a href=\"%3Cb%3E.txt\">&lt;b&gt;.txt</a>"),
        "{text}"
    );
    assert!(!text.contains("hidden") && !text.contains("fifo"), "{text}");
    assert!(text.find("sub/").unwrap() < text.find("ten.txt").unwrap());
    let root = place.0.to_str().unwrap();
    assert!(!text.contains(root), "{text}");
    // Not all of a directory that would hold the loop up.
    for number in 0..=1000 {
        place.write(&format!("sub/many{number}"), "");
    }
    let list = get(&app, "/sub/");
    let text = list.text();
    assert_eq!(text.matches("<li><a href=\"").count(), 1001, "and ../");
    assert!(text.contains("more than 1000 names"), "{text}");
}

#[test]
fn changes_are_seen_at_once() {
    let place = Place::usual();
    let app = place.app();
    let text = || get(&app, "/ten.txt").text().to_owned();
    let mut tags = BTreeSet::new();
    let mut new_tag = || assert!(tags.insert(get(&app, "/ten.txt").tag().to_owned()));
    assert_eq!(text(), "0123456789");
    new_tag();
    place.write("ten.txt", "edited");
    assert_eq!(text(), "edited");
    new_tag();
    place.write("new", "replaced");
    fs::rename(place.at("new"), place.at("ten.txt")).unwrap();
    assert_eq!(text(), "replaced");
    new_tag();
    fs::remove_file(place.at("ten.txt")).unwrap();
    assert_eq!(status(&app, "/ten.txt"), 404);
    place.write("one", "first");
    place.write("two", "other");
    symlink("one", place.at("ten.txt")).unwrap();
    assert_eq!(text(), "first");
    symlink("two", place.at("link")).unwrap();
    fs::rename(place.at("link"), place.at("ten.txt")).unwrap();
    assert_eq!(text(), "other");
    new_tag();
    fs::remove_file(place.at("ten.txt")).unwrap();
    fs::create_dir(place.at("ten.txt")).unwrap();
    assert_eq!(status(&app, "/ten.txt"), 301);
    // The whole directory, removed and made again.
    fs::remove_dir_all(&place.0).unwrap();
    assert_eq!(status(&app, "/index.html"), 404);
    fs::create_dir(&place.0).unwrap();
    place.write("index.html", "rebuilt");
    assert_eq!(get(&app, "/index.html").text(), "rebuilt");
}

#[test]
fn few_descriptors_are_kept() {
    let place = Place::new();
    let files = place.files();
    for number in 0..KEPT + 10 {
        place.write(&number.to_string(), "x");
        let count = Store::with(&files, |store| {
            let path = number.to_string();
            let facts = store.facts(path.as_bytes()).unwrap();
            let open = store.open(path.as_bytes(), &facts).unwrap().unwrap();
            let again = store.open(path.as_bytes(), &facts).unwrap().unwrap();
            assert!(Rc::ptr_eq(&open, &again), "kept open");
            store.count()
        });
        assert_eq!(count.unwrap(), (number + 1).min(KEPT));
    }
}

#[test]
fn beside_routes_and_other_files() {
    let place = Place::usual();
    let app = App::new()
        .get("/ten.txt", |_| "a route")
        .files("/", place.files())
        .files("/static/", place.files())
        .on_error(|failure: &crate::app::Failure| format!("hook: {}", failure.status()));
    let app = Arc::new(app);
    assert_eq!(get(&app, "/ten.txt").text(), "a route");
    assert_eq!(get(&app, "/static/ten.txt").text(), "0123456789");
    assert_eq!(get(&app, "/static").field("Location"), Some("/static/"));
    assert_eq!(
        get(&app, "/static/sub?x").field("Location"),
        Some("/static/sub/?x")
    );
    assert_eq!(get(&app, "/static/").text(), "home");
    assert_eq!(status(&app, "/staticx"), 404);
    assert_eq!(get(&app, "/nothing").text(), "hook: 404");
    let app = App::new()
        .files("/static", place.files())
        .fallback(|_| "somebody else");
    let app = Arc::new(app);
    assert_eq!(get(&app, "/").text(), "somebody else");
    assert_eq!(get(&app, "/static/nothing").text(), "somebody else");
    assert_eq!(ask(&app, "POST", "/static/ten.txt", "").status, 405);
    for prefix in ["", "static", "/a//b", "/{x}", "/a b", "//"] {
        assert!(
            App::new().files(prefix, place.files()).check().is_err(),
            "{prefix}"
        );
    }
    let twice = App::new().files("/a", place.files());
    assert!(twice.files("/a/", place.files()).check().is_err());
    assert!(Files::new(place.at("nothing")).is_err() && Files::new(place.at("ten.txt")).is_err());
}

#[test]
fn two_directories_share_what_may_be_kept() {
    let place = Place::new();
    let (one, other) = (place.files(), place.files());
    let fill = |files: &Files| {
        for number in 0..KEPT {
            place.write(&number.to_string(), "x");
            let path = number.to_string();
            let opened = Store::with(files, |store| {
                let facts = store.facts(path.as_bytes()).unwrap();
                store.open(path.as_bytes(), &facts).unwrap();
            });
            opened.unwrap();
        }
        Store::with(files, |store| store.count()).unwrap()
    };
    Store::with(&other, |_| ()).unwrap();
    assert_eq!((fill(&one), fill(&other)), (KEPT / 2, KEPT / 2));
    drop(one);
    // Forgotten when another directory is first asked for.
    let third = place.files();
    Store::with(&third, |_| ()).unwrap();
    assert_eq!(fill(&third), KEPT / 2);
}

#[test]
fn as_many_files_are_open_as_may_be() {
    let place = Place::usual();
    let mut app = App::new().files("/", place.files());
    for number in 0..5 {
        place.write(&number.to_string(), "some");
    }
    app.set_most_open(3);
    let app = Arc::new(app);
    let sent = |number: u32| respond(&app, "GET", &format!("/{number}"), "");
    let mut under_way: Vec<_> = (0..3).map(sent).collect();
    assert!(under_way.iter().all(|response| response.status() == 200));
    let refused = answer(sent(3));
    assert_eq!(
        (refused.status, refused.field("Retry-After")),
        (503, Some("1"))
    );
    // What opens nothing is answered.
    assert_eq!((status(&app, "/sub"), status(&app, "/nothing")), (301, 404));
    under_way.pop();
    assert_eq!(sent(3).status(), 200);
    // What is only kept makes room, whichever it is.
    under_way.clear();
    for number in 0..5 {
        assert_eq!(sent(number).status(), 200);
    }
    drop(app);
    let mut single = App::new().files("/", place.files());
    single.set_most_open(1);
    let single = Arc::new(single);
    assert_eq!((status(&single, "/0"), status(&single, "/1")), (200, 200));
}
