//! What `mcluster loadtest` sends, octet by octet, and where to; and what it refuses to send.

use crate::generator::{plain, report};
use crate::plain_server::{Asked, PlainServer, Step, ok};
use crate::support::Directory;

/// One request with these arguments, as it came.
#[track_caller]
fn sent(arguments: &[&str]) -> Asked {
    let server = PlainServer::good();
    let url = format!("http://{}/a/b?c=d&e=%20", server.address);
    let all = [&["-n", "1", "-c", "1"], arguments, &[&url]].concat();
    report(&all).all_good(&all.join(" "), 1);
    let mut asked = server.asked();
    let asked = asked.remove(0);
    let host = server.address.to_string();
    if !arguments.iter().any(|one| one.starts_with("Host")) {
        assert_eq!(asked.fields("host"), [host.as_str()], "{}", asked.head);
    }
    asked
}

#[test]
fn a_plain_request() {
    let asked = sent(&[]);
    assert_eq!(asked.line(), "GET /a/b?c=d&e=%20 HTTP/1.1");
    assert_eq!(asked.fields("connection"), ["close"]);
    assert_eq!(asked.fields("accept"), ["*/*"]);
    assert!(asked.fields("user-agent")[0].starts_with("mcluster/"));
    assert!(asked.fields("content-length").is_empty());
    assert!(asked.head.ends_with("\r\n\r\n"));
    let asked = sent(&["-k"]);
    assert!(!asked.fields("connection").contains(&"close"));
}

#[test]
fn fields_and_cookies() {
    let asked = sent(&["-H", "X-One: 1", "-H", "X-One:2", "-H", "X-Empty:"]);
    assert_eq!(asked.fields("x-one"), ["1", "2"]);
    assert_eq!(asked.fields("x-empty"), [""]);
    // A value may have colons of its own.
    let asked = sent(&["--headers", "X-Time: 10:20:30"]);
    assert_eq!(asked.fields("x-time"), ["10:20:30"]);
    // One that is given takes the place of ours.
    let asked = sent(&[
        "-H",
        "Host: other",
        "-H",
        "user-agent: me",
        "-H",
        "Accept: text/html",
    ]);
    assert_eq!(asked.fields("host"), ["other"]);
    assert_eq!(asked.fields("user-agent"), ["me"]);
    assert_eq!(asked.fields("accept"), ["text/html"]);
    let asked = sent(&["-C", "a=1", "-C", "b=2"]);
    assert_eq!(asked.fields("cookie"), ["a=1; b=2"]);
}

#[test]
fn methods_and_bodies() {
    let directory = Directory::new();
    let file = directory.file("body.bin");
    let octets: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    std::fs::write(&file, &octets).unwrap();
    let file = file.to_str().unwrap();
    let json = "{\"a\": \"\u{e9}\"}";
    let cases: [(&[&str], &str, &[u8], &str); 10] = [
        (&["-P", json], "POST", json.as_bytes(), "text/plain"),
        (
            &["-P", json, "-T", "application/json"],
            "POST",
            json.as_bytes(),
            "application/json",
        ),
        (&["-A", "x"], "PATCH", b"x", "text/plain"),
        (&["--data", "x=1", "-m", "PUT"], "PUT", b"x=1", "text/plain"),
        (&["--data", "x=1"], "POST", b"x=1", "text/plain"),
        (&["-p", file], "POST", &octets, "text/plain"),
        (&["-u", file, "-T", "a/b"], "PUT", &octets, "a/b"),
        (&["-a", file], "PATCH", &octets, "text/plain"),
        (&["--post-file", file], "POST", &octets, "text/plain"),
        (&["-P", ""], "POST", b"", ""),
    ];
    for (arguments, method, body, media_type) in cases {
        let asked = sent(arguments);
        assert!(
            asked.line().starts_with(&format!("{method} ")),
            "{arguments:?}: {}",
            asked.head
        );
        assert!(asked.body == body, "{arguments:?}: {:?}", asked.body.len());
        assert_eq!(
            asked.fields("content-length"),
            [body.len().to_string()],
            "{arguments:?}"
        );
        if !body.is_empty() {
            assert_eq!(asked.fields("content-type"), [media_type], "{arguments:?}");
        }
    }
    for (given, seen) in [
        ("delete", "DELETE"),
        ("OPTIONS", "OPTIONS"),
        ("PURGE", "PURGE"),
    ] {
        let asked = sent(&["-m", given]);
        assert!(
            asked.line().starts_with(&format!("{seen} /a/b")),
            "{}",
            asked.head
        );
    }
}

#[test]
fn every_request_is_the_same() {
    let server = PlainServer::good();
    let url = server.url();
    let body = "0123456789".repeat(2000);
    let run = report(&[
        "-k",
        "-n",
        "50",
        "-c",
        "4",
        "--pipeline",
        "3",
        "-P",
        &body,
        &url,
    ]);
    run.all_good("a body in a pipeline", 50);
    let asked = server.asked();
    assert_eq!(asked.len(), 50);
    for one in &asked {
        assert_eq!(one.head, asked[0].head);
        assert!(one.body == body.as_bytes());
    }
    // A pipeline repeats no request that could count twice, and each connection has had some.
    assert!(asked.iter().all(|one| (1..=4).contains(&one.connection)));
}

#[test]
fn the_address_stands_anywhere() {
    let server = PlainServer::good();
    let url = server.url();
    let place = server.address.to_string();
    let path = format!("{place}/x");
    let cases: [&[&str]; 6] = [
        &[&url, "-n", "3", "-c", "2"],
        &["-n", "3", &url, "-c", "2"],
        &["-n", "3", "-c", "2", &url],
        &["-k", &url, "-n3", "-c2"],
        &[
            "--maxRequests",
            "3",
            "--concurrency",
            "2",
            "--keepalive",
            &place,
        ],
        &["--max-requests=3", "--concurrency=2", "--keep-alive", &path],
    ];
    for arguments in cases {
        let before = server.count();
        report(arguments).all_good(&arguments.join(" "), 3);
        assert_eq!(server.count() - before, 3, "{arguments:?}");
    }
    assert_eq!(server.asked().last().unwrap().line(), "GET /x HTTP/1.1");
    // A fragment is the client's own; a query needs no path.
    let url = format!("http://{place}?a=b#c");
    report(&["-n", "1", &url]).all_good(&url, 1);
    assert_eq!(server.asked().last().unwrap().line(), "GET /?a=b HTTP/1.1");
}

#[test]
fn localhost_is_both_families() {
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(server) = PlainServer::at(host, |_| vec![Step::Say(ok("x"))]) else {
            eprintln!("skipped: this machine has no {host}");
            continue;
        };
        let url = format!("http://localhost:{}/", server.address.port());
        for more in [&["-k"][..], &[]] {
            let arguments = [&["-n", "20", "-c", "4", &url], more].concat();
            let before = server.connections();
            let run = report(&arguments);
            run.all_good(&format!("{host}: {}", arguments.join(" ")), 20);
            assert_eq!(
                run.number("connections"),
                server.connections() - before,
                "{host}"
            );
        }
        let field = format!("localhost:{}", server.address.port());
        assert_eq!(server.asked()[0].fields("host"), [field.as_str()]);
        // And the address itself, in brackets where it has colons.
        let url = server.url();
        report(&["-n", "2", &url]).all_good(&url, 2);
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let server = PlainServer::good();
    let url = server.url();
    let https = url.replace("http:", "https:");
    let directory = Directory::new();
    let script = directory.file("body.js");
    std::fs::write(&script, "module.exports = 1").unwrap();
    let script = script.to_str().unwrap();
    let cases: [(&[&str], &str); 35] = [
        (&[], ""),
        (&[&url, &url], ""),
        (&[&https], "TLS"),
        (&["wss://127.0.0.1/"], "TLS"),
        (&["ftp://127.0.0.1/"], "ftp"),
        (&["http://"], ""),
        (&["http://me:secret@127.0.0.1/"], ""),
        (&["http://127.0.0.1:99999/"], ""),
        (&["http://127.0.0.1:1/a b"], ""),
        (&["http://127.0.0.1:1/a\nb"], ""),
        (&["-n", "0", &url], ""),
        (&["-n", "-1", &url], ""),
        (&["-n", "1.5", &url], ""),
        (&["-c", "0", &url], ""),
        (&["-c", "many", &url], "many"),
        (&["-t", "0", &url], ""),
        (&["-t", "-1", &url], ""),
        (&["-t", "nan", &url], ""),
        (&["--rps", "0", &url], ""),
        (&["--rps", "-1", &url], ""),
        (&["--rps", "nan", &url], ""),
        (&["--rps", "inf", &url], ""),
        (&["--cores", "0", &url], ""),
        (&["--pipeline", "0", &url], ""),
        (&["--max-p99", "soon", &url], "soon"),
        (&["--max-errors", "101", &url], ""),
        (&["--max-errors", "-1", &url], ""),
        (&["-H", "no colon", &url], ""),
        (&["-H", "a b: c", &url], ""),
        (&["-H", "a: b\r\nc: d", &url], ""),
        (&["-H", "Content-Length: 3", &url], "Content-Length"),
        (
            &["-H", "Transfer-Encoding: chunked", &url],
            "Transfer-Encoding",
        ),
        (&["-m", "G T", &url], ""),
        (&["-p", script, &url], "js"),
        (&["--insecure", &url], "--insecure"),
    ];
    for (arguments, words) in cases {
        let ended = plain(arguments);
        let log = ended.log.join("\n");
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {log}");
        assert!(ended.out.is_empty(), "{arguments:?}: {:?}", ended.out);
        assert!(
            !log.is_empty() && log.contains(words),
            "{arguments:?}: {log}"
        );
    }
    let ended = plain(&["-p", "/nowhere/at-all", &url]);
    let log = ended.log.join("\n");
    assert!([Some(1), Some(2)].contains(&ended.status.code()), "{log}");
    assert!(log.contains("/nowhere/at-all"), "{log}");
    assert_eq!(server.count(), 0, "nothing was sent");
}
