//! `--root`: the files of a directory, as a client and as curl see them.

use crate::client::{Client, is_loss};
use crate::curl::curl;
use crate::support::{
    Directory, Mode, Server, address_of, both_modes, command, command_by_shell, output, run,
    wait_until,
};
use nix::sys::stat::Mode as Rights;
use nix::unistd::mkfifo;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

/// A page, a text of ten bytes, a secret, and what must not be served.
fn tree() -> Directory {
    let place = Directory::new();
    fs::create_dir(place.file("root")).unwrap();
    let write = |name: &str, text: &str| fs::write(place.file("root").join(name), text).unwrap();
    fs::write(place.file("secret"), "secret").unwrap();
    write("index.html", "home");
    write("ten.txt", "0123456789");
    write(".env", "secret");
    fs::create_dir(place.file("root/sub")).unwrap();
    write("sub/page.htm", "page");
    mkfifo(&place.file("root/fifo"), Rights::S_IRWXU).unwrap();
    symlink("../secret", place.file("root/out")).unwrap();
    symlink("/etc", place.file("root/etc")).unwrap();
    place
}

fn root(place: &Directory) -> String {
    place.file("root").to_str().unwrap().to_owned()
}

fn serve(mode: Mode, place: &Directory, more: &[&str]) -> (Server, Client) {
    let root = root(place);
    let mut all = vec!["--workers", "1", "--root", &root];
    all.extend(more);
    let server = Server::start(mode, &all);
    let client = Client::connect(server.address()).unwrap();
    (server, client)
}

both_modes! {
    fn files_in_place_of_the_built_in_application(mode) {
        let place = tree();
        let (server, mut client) = serve(mode, &place, &["--chaos"]);
        let home = client.get("/").unwrap();
        assert_eq!((home.status, home.text()), (200, "home"));
        assert_eq!(home.field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(home.field("X-Content-Type-Options"), Some("nosniff"));
        let head = client.request("HEAD", "/ten.txt", "Range: bytes=0-1\r\n", "").unwrap();
        assert_eq!((head.status, head.field("Content-Length")), (200, Some("10")));
        for target in ["/heavy", "/crash", "/panic", "/stream", "/.env", "/out", "/etc/passwd", "/etc", "/fifo",
            "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/sub/../../secret", "/sub/", "//", "/ten.txt/"] {
            let answer = client.get(target).unwrap();
            assert_eq!((answer.status, answer.text()), (404, "404 Not Found\n"), "{target}");
        }
        let moved = client.get("/sub?x").unwrap();
        assert_eq!((moved.status, moved.field("Location")), (301, Some("/sub/?x")));
        let refused = client.request("POST", "/ten.txt", "Content-Length: 1\r\n", "x").unwrap();
        assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
        server.stop();
    }

    fn preconditions_and_ranges(mode) {
        let place = tree();
        let (server, mut client) = serve(mode, &place, &["--cache-control", "max-age=60"]);
        let first = client.get("/ten.txt").unwrap();
        assert_eq!(first.field("Cache-Control"), Some("max-age=60"));
        let (tag, date) = (first.field("ETag").unwrap(), first.field("Last-Modified").unwrap());
        for (fields, status, body) in [
            (format!("If-None-Match: {tag}\r\n"), 304, ""),
            (format!("If-Modified-Since: {date}\r\n"), 304, ""),
            ("If-Match: \"x\"\r\n".to_owned(), 412, "412 Precondition Failed\n"),
            ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
            ("Range: bytes=10-\r\n".to_owned(), 416, "416 Range Not Satisfiable\n"),
            (format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"), 206, "234"),
            ("Range: bytes=2-4\r\nIf-Range: \"x\"\r\n".to_owned(), 200, "0123456789"),
        ] {
            let answer = client.request("GET", "/ten.txt", &fields, "").unwrap();
            assert_eq!((answer.status, answer.text()), (status, body), "{fields}");
            assert!(answer.field("Date").is_some());
            match status {
                200 | 206 | 304 => assert_eq!(answer.field("ETag"), Some(tag), "{fields}"),
                416 => assert_eq!(answer.field("Content-Range"), Some("bytes */10")),
                _ => {}
            }
            if status == 304 {
                assert_eq!(answer.field("Content-Length"), None);
                assert_eq!(answer.field("Cache-Control"), Some("max-age=60"));
            }
        }
        let parts = client.request("GET", "/ten.txt", "Range: bytes=0-1,-1\r\n", "").unwrap();
        assert_eq!(parts.status, 206);
        let media = parts.field("Content-Type").unwrap();
        let boundary = media.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let parts: Vec<_> = parts.text().split(&format!("\r\n--{boundary}")).collect();
        assert_eq!((parts.len(), parts[0], parts[3]), (4, "", "--\r\n"));
        assert!(parts[1].ends_with("Content-Range: bytes 0-1/10\r\n\r\n01"), "{parts:?}");
        assert!(parts[2].ends_with("Content-Range: bytes 9-9/10\r\n\r\n9"), "{parts:?}");
        server.stop();
    }

    fn changes_are_seen_and_neighbours_chosen(mode) {
        let place = tree();
        let (server, mut client) = serve(mode, &place, &[]);
        let file = place.file("root/ten.txt");
        assert_eq!(client.get("/ten.txt").unwrap().text(), "0123456789");
        fs::write(&file, "edited").unwrap();
        assert_eq!(client.get("/ten.txt").unwrap().text(), "edited");
        fs::write(place.file("root/new"), "replaced").unwrap();
        fs::rename(place.file("root/new"), &file).unwrap();
        assert_eq!(client.get("/ten.txt").unwrap().text(), "replaced");
        fs::write(place.file("root/ten.txt.gz"), "gzipped").unwrap();
        let plain = client.get("/ten.txt").unwrap();
        assert_eq!((plain.text(), plain.field("Vary")), ("replaced", Some("Accept-Encoding")));
        let fields = "Accept-Encoding: br\r\nAccept-Encoding: gzip;q=0.1\r\n";
        let coded = client.request("GET", "/ten.txt", fields, "").unwrap();
        assert_eq!((coded.text(), coded.field("Content-Encoding")), ("gzipped", Some("gzip")));
        assert_eq!(coded.field("Vary"), Some("Accept-Encoding"));
        assert_ne!(coded.field("ETag"), plain.field("ETag"));
        fs::remove_file(&file).unwrap();
        assert_eq!(client.get("/ten.txt").unwrap().status, 404);
        server.stop();
    }

    fn a_link_that_is_switched_counts_after_a_reload(mode) {
        let place = Directory::new();
        for release in ["one", "two"] {
            fs::create_dir(place.file(release)).unwrap();
            fs::write(place.file(release).join("index.html"), release).unwrap();
        }
        symlink("one", place.file("root")).unwrap();
        let (server, mut client) = serve(mode, &place, &[]);
        assert_eq!(client.get("/").unwrap().text(), "one");
        symlink("two", place.file("next")).unwrap();
        fs::rename(place.file("next"), place.file("root")).unwrap();
        assert_eq!(client.get("/").unwrap().text(), "one");
        let mark = server.log.mark();
        server.signal(nix::sys::signal::Signal::SIGHUP);
        server.log.wait(mark, "is listening");
        wait_until("the new release", || {
            let mut client = Client::connect(server.address()).unwrap();
            client.get("/").is_ok_and(|answer| answer.text() == "two")
        });
        server.stop();
    }

    fn a_file_that_shrinks_ends_its_connection_alone(mode) {
        let place = tree();
        let big = File::create(place.file("root/big")).unwrap();
        big.set_len(64 << 20).unwrap();
        let (server, mut client) = serve(mode, &place, &[]);
        let mut other = Client::connect(server.address()).unwrap();
        assert_eq!(other.get("/").unwrap().text(), "home");
        client.ask("/big").unwrap();
        wait_until("the beginning", || !client.is_silent());
        big.set_len(1000).unwrap();
        let error = client.receive().unwrap_err();
        assert!(is_loss(&error), "{error}");
        assert_eq!(other.get("/").unwrap().text(), "home");
        assert_eq!(other.get("/big").unwrap().body.len(), 1000);
        let ended = server.stop();
        assert!(!ended.log.iter().any(|line| line.contains("died: ")), "{:#?}", ended.log);
    }

    fn what_was_found_is_sent_without_another_look(mode) {
        let place = tree();
        let (file, large) = (place.file("root/ten.txt"), place.file("root/large"));
        fs::write(&large, vec![b'x'; 100_000]).unwrap();
        let (server, mut client) = serve(mode, &place, &["--file-cache", "1h"]);
        assert_eq!(client.get("/nothing").unwrap().status, 404);
        let before = client.get("/ten.txt").unwrap();
        let tag = before.field("ETag").unwrap();
        assert_eq!(client.get("/large").unwrap().body.len(), 100_000);
        fs::write(place.file("root/nothing"), "something").unwrap();
        assert_eq!(client.get("/nothing").unwrap().text(), "something");
        fs::write(&file, "edited").unwrap();
        fs::remove_file(place.file("root/nothing")).unwrap();
        assert_eq!(client.get("/nothing").unwrap().text(), "something");
        for (fields, status, body) in [
            (String::new(), 200, "0123456789"),
            ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
            (format!("If-None-Match: {tag}\r\n"), 304, ""),
            (format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"), 206, "234"),
        ] {
            let answer = client.request("GET", "/ten.txt", &fields, "").unwrap();
            assert_eq!((answer.status, answer.text()), (status, body), "{fields}");
            assert_eq!((answer.field("ETag"), answer.field("Date").is_some()), (Some(tag), true));
        }
        let head = client.request("HEAD", "/ten.txt", "", "").unwrap();
        assert_eq!((head.field("Content-Length"), head.text()), (Some("10"), ""));
        // A large one that became shorter ends its connection, and no other.
        let mut other = Client::connect(server.address()).unwrap();
        File::options().write(true).open(&large).unwrap().set_len(1000).unwrap();
        let error = other.get("/large").unwrap_err();
        assert!(is_loss(&error), "{error}");
        assert_eq!(client.get("/ten.txt").unwrap().text(), "0123456789");
        let mark = server.log.mark();
        server.signal(nix::sys::signal::Signal::SIGHUP);
        server.log.wait(mark, "is listening");
        wait_until("the reload began anew", || {
            let mut client = Client::connect(server.address()).unwrap();
            client.get("/ten.txt").is_ok_and(|answer| answer.text() == "edited")
                && client.get("/large").is_ok_and(|answer| answer.body.len() == 1000)
        });
        server.stop();
    }

    fn what_was_found_is_looked_at_again(mode) {
        let place = tree();
        let large = place.file("root/large");
        fs::write(&large, vec![b'x'; 100_000]).unwrap();
        let (server, mut client) = serve(mode, &place, &["--file-cache", "20ms"]);
        assert_eq!(client.get("/ten.txt").unwrap().text(), "0123456789");
        assert_eq!(client.get("/large").unwrap().body.len(), 100_000);
        fs::write(place.file("root/ten.txt"), "edited").unwrap();
        fs::remove_file(&large).unwrap();
        wait_until("the change is seen", || {
            client.get("/ten.txt").unwrap().text() == "edited"
        });
        wait_until("and that one is gone", || {
            client.get("/large").unwrap().status == 404
        });
        server.stop();
    }

    fn a_large_download_starves_nobody(mode) {
        const LENGTH: usize = 256 << 20;
        let place = tree();
        let big = File::create(place.file("root/big")).unwrap();
        big.set_len(LENGTH as u64).unwrap();
        let (server, mut client) = serve(mode, &place, &[]);
        let mut never_reads = Client::connect(server.address()).unwrap();
        never_reads.ask("/big").unwrap();
        let mut reads = Client::connect(server.address()).unwrap();
        let reader = thread::spawn(move || reads.get("/big").unwrap().body.len());
        let mut answered = 0;
        while !reader.is_finished() {
            assert_eq!(client.get("/ten.txt").unwrap().text(), "0123456789");
            answered += 1;
        }
        assert_eq!(reader.join().unwrap(), LENGTH);
        assert!(answered > 10, "{answered}");
        drop(never_reads);
        server.stop();
    }

    // Each client holds a connection and, as it does not read on, a file of its own: more of both
    // than there are descriptors.
    fn files_leave_descriptors_to_connections(mode) {
        const CLIENTS: usize = 160;
        let place = tree();
        for number in 0..CLIENTS {
            let big = File::create(place.file(&format!("root/big{number}"))).unwrap();
            big.set_len(64 << 20).unwrap();
        }
        let script = "ulimit -n 256; exec \"$0\" \"$@\"";
        let root = root(&place);
        let arguments = ["--mode", mode.name(), "--workers", "1", "--control", "off"];
        let listen = ["--listen", "127.0.0.1:0", "--root", &root];
        let server = Server::launch(command_by_shell(script, &[&arguments[..], &listen].concat()));
        let address = address_of(&server.urls(1)[0]);
        server.log.wait(0, "at most 128 connections a worker");
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.get("/ten.txt").unwrap().status, 200);
        let others: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut other = Client::connect(address).unwrap();
                other.ask(&format!("/big{number}")).unwrap();
                other
            })
            .collect();
        wait_until("all files that may be open are", || {
            let answer = client.get("/ten.txt").unwrap();
            assert!([200, 503].contains(&answer.status), "{answer:?}");
            answer.status == 503 && answer.field("Retry-After").is_some()
        });
        server.log.wait(0, "a file cannot be opened: as many are being sent as may be open");
        assert_eq!(client.get("/sub").unwrap().status, 301);
        assert_eq!(client.get("/nothing").unwrap().status, 404);
        drop(others);
        wait_until("files can be opened again", || {
            client.get("/ten.txt").unwrap().status == 200
        });
        let ended = server.stop();
        let lost = |line: &String| line.contains("makes room") || line.contains("Too many open");
        assert!(!ended.log.iter().any(lost), "{:?}", ended.log);
    }
}

#[test]
fn what_must_be_asked_for() {
    let place = tree();
    let more = ["--listing", "--dotfiles", "--index", "none.html,page.htm"];
    let (server, mut client) = serve(Mode::Processes, &place, &more);
    assert_eq!(client.get("/.env").unwrap().text(), "secret");
    assert_eq!(client.get("/sub/").unwrap().text(), "page");
    let list = client.get("/").unwrap();
    assert_eq!(list.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(
        list.text().contains("<a href=\"sub/\">sub/</a>"),
        "{}",
        list.text()
    );
    assert!(!list.text().contains("fifo"), "{}", list.text());
    server.stop();
}

#[test]
fn a_root_that_is_none_is_an_invalid_configuration() {
    let place = tree();
    for (name, why) in [
        ("nothing", "No such file or directory"),
        ("secret", "Not a directory"),
    ] {
        let path = place.file(name);
        let path = path.to_str().unwrap();
        for arguments in [&["--root", path][..], &["check", "--root", path]] {
            let ended = output(command(arguments));
            let said = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(3), "{arguments:?}: {said}");
            assert!(
                said.starts_with("mcluster: root: ") && said.contains(why),
                "{said}"
            );
        }
    }
    let ended = run(command(&["check", "--root", &root(&place)]));
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.log);
    for arguments in [["--index", "a/b"], ["--cache-control", "a\nb"]] {
        assert_eq!(
            run(command(&arguments)).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}

#[test]
fn what_curl_makes_of_it() {
    let place = tree();
    let (server, _) = serve(Mode::Processes, &place, &[]);
    let at = server.address();
    let asked = |path: &str, arguments: &[&str]| curl(at, path, arguments, b"");
    let Some(range) = asked("/ten.txt", &["-r", "2-4"]) else {
        server.stop();
        return;
    };
    let range = (range.code, range.text());
    let ask = |path: &str, arguments: &[&str]| {
        let done = asked(path, arguments).unwrap();
        (done.code, done.text())
    };
    assert_eq!(range, (0, "234".to_owned()));
    assert_eq!(ask("/ten.txt", &["-r", "-3"]), (0, "789".to_owned()));
    let (_, parts) = ask("/ten.txt", &["-r", "0-1,8-"]);
    assert!(parts.contains("bytes 0-1/10\r\n\r\n01") && parts.contains("bytes 8-9/10\r\n\r\n89"));
    // Going on where a download ended, and when it had ended already.
    let half = place.file("half");
    fs::write(&half, "0123").unwrap();
    let half_name = half.to_str().unwrap();
    assert_eq!(ask("/ten.txt", &["-C", "-", "-o", half_name]).0, 0);
    assert_eq!(fs::read_to_string(&half).unwrap(), "0123456789");
    assert_eq!(ask("/ten.txt", &["-C", "-", "-o", half_name]).0, 0);
    assert_eq!(fs::read_to_string(&half).unwrap(), "0123456789");
    let (_, head) = ask("/ten.txt", &["-I"]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 10\r\n"));
    // By date.
    let code = ["-o", "/dev/null", "-w", "%{http_code}"];
    let status = |path: &str, more: &[&str]| ask(path, &[&code[..], more].concat()).1;
    assert_eq!(status("/ten.txt", &["-z", "1 Jan 2020"]), "200");
    let copy = place.file("copy");
    let copy_name = copy.to_str().unwrap();
    assert_eq!(ask("/ten.txt", &["-R", "-o", copy_name]).0, 0);
    assert_eq!(status("/ten.txt", &["-z", copy_name]), "304");
    // By tag.
    let tag = place.file("tag");
    let tag = tag.to_str().unwrap();
    assert_eq!(status("/ten.txt", &["--etag-save", tag]), "200");
    assert_eq!(status("/ten.txt", &["--etag-compare", tag]), "304");
    let file = File::options()
        .write(true)
        .open(place.file("root/ten.txt"))
        .unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
    assert_eq!(status("/ten.txt", &["--etag-compare", tag]), "200");
    // Compressed beforehand, where there is a program that does.
    fs::write(place.file("root/app.js"), "let it = 1;\n".repeat(50)).unwrap();
    let zipped = Command::new("gzip")
        .arg("-k")
        .arg(place.file("root/app.js"))
        .status();
    if zipped.is_ok_and(|status| status.success()) {
        let (_, text) = ask("/app.js", &["--compressed"]);
        assert_eq!(text, "let it = 1;\n".repeat(50));
        let (_, head) = ask("/app.js", &["--compressed", "-I"]);
        assert!(head.contains("Content-Encoding: gzip\r\n"), "{head}");
    }
    assert_eq!(status("/sub", &[]), "301");
    // As it is written, without what curl makes of it.
    assert_eq!(status("/sub/../../secret", &["--path-as-is"]), "404");
    let (_, old) = ask("/ten.txt", &["--http1.0"]);
    assert_eq!(old, "0123456789");
    server.stop();
}
