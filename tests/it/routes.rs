//! The built-in application, route by route, as curl would see it.

use crate::client::{Answer, Client};
use crate::support::{Mode, Server, both_modes};

/// A server with one worker, and a connection to it.
fn one(mode: Mode, arguments: &[&str]) -> (Server, Client) {
    let mut all = vec!["--workers", "1"];
    all.extend(arguments);
    let server = Server::start(mode, &all);
    let client = Client::connect(server.address()).unwrap();
    (server, client)
}

/// What every answer has; its status and its body.
#[track_caller]
fn checked(answer: &Answer) -> (u16, &str) {
    assert_eq!(answer.version, "HTTP/1.1");
    let date = answer.field("Date").unwrap();
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    (answer.status, answer.text())
}

both_modes! {
    fn home_says_who_answers(mode) {
        let (server, mut client) = one(mode, &[]);
        let answer = client.get("/").unwrap();
        let (status, text) = checked(&answer);
        let name = server.wait_for_workers(1)[0].name(mode);
        assert_eq!((status, text), (200, &*format!("{name}\n")));
        assert_eq!(answer.field("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(client.get("/?query").unwrap().text(), text);
        server.stop();
    }

    fn heavy_counts(mode) {
        for pool in ["0", "2"] {
            let (server, mut client) = one(mode, &["--pool", pool]);
            for (query, total) in [("", 5_000_000), ("?n=0", 0), ("?n=12", 12)] {
                let answer = client.get(&format!("/heavy{query}")).unwrap();
                assert_eq!(checked(&answer), (200, &*format!("Total: {total}\n")));
            }
            for n in ["10000000001", "-1", "x", "", "1.5", "99999999999999999999999"] {
                let answer = client.get(&format!("/heavy?n={n}")).unwrap();
                assert_eq!(checked(&answer).0, 400, "{n}");
            }
            server.stop();
        }
    }

    fn slow_waits_without_occupying_the_loop(mode) {
        let (server, mut client) = one(mode, &[]);
        let start = std::time::Instant::now();
        let mut clients: Vec<_> = (0..20)
            .map(|_| Client::connect(server.address()).unwrap())
            .collect();
        for client in &mut clients {
            client.ask("/slow?ms=300").unwrap();
        }
        for client in &mut clients {
            assert_eq!(checked(&client.receive().unwrap()), (200, "waited 300 ms\n"));
        }
        let took = start.elapsed().as_millis();
        // One after the other they would take six seconds.
        assert!((300..5000).contains(&took), "{took} ms");
        assert_eq!(checked(&client.get("/slow?ms=0").unwrap()), (200, "waited 0 ms\n"));
        assert_eq!(client.get("/slow?ms=x").unwrap().status, 400);
        assert_eq!(client.get("/slow?ms=3600001").unwrap().status, 400);
        server.stop();
    }

    fn echo_gives_back(mode) {
        let (server, mut client) = one(mode, &["--max-body", "64k"]);
        let typed = "Content-Type: application/x-test\r\nContent-Length: 5\r\n";
        let answer = client.request("POST", "/echo", typed, "hello").unwrap();
        assert_eq!(checked(&answer), (200, "hello"));
        assert_eq!(answer.field("Content-Type"), Some("application/x-test"));
        let answer = client.request("POST", "/echo", "Content-Length: 0\r\n", "").unwrap();
        assert_eq!(checked(&answer), (200, ""));
        assert_eq!(answer.field("Content-Length"), Some("0"));
        let chunks = "5\r\nhello\r\n7;name=value\r\n, world\r\n0\r\nTrailer: x\r\n\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n";
        let answer = client.request("POST", "/echo", chunked, chunks).unwrap();
        assert_eq!(checked(&answer), (200, "hello, world"));
        let body = "0123456789abcdef".repeat(4096);
        let length = format!("Content-Length: {}\r\n", body.len());
        let answer = client.request("POST", "/echo", &length, &body).unwrap();
        assert_eq!(checked(&answer), (200, &*body));
        let more = format!("Content-Length: {}\r\n", body.len() + 1);
        let answer = client.request("POST", "/echo", &more, "").unwrap();
        assert_eq!(checked(&answer).0, 413);
        assert!(answer.closes() && client.ends());
        server.stop();
    }

    fn stream_writes_line_by_line(mode) {
        let (server, mut client) = one(mode, &[]);
        let answer = client.get("/stream").unwrap();
        assert_eq!(checked(&answer), (200, "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"));
        assert_eq!(answer.field("Transfer-Encoding"), Some("chunked"));
        assert_eq!(answer.field("Content-Length"), None);
        assert_eq!(checked(&client.get("/stream?n=0").unwrap()), (200, ""));
        let many = client.get("/stream?n=100000").unwrap();
        assert_eq!(many.text().lines().count(), 100_000);
        assert!(many.text().ends_with("\n99999\n100000\n"));
        assert_eq!(client.get("/stream?n=x").unwrap().status, 400);
        // HTTP/1.0 has no chunks: the end of the connection is the end of the body.
        client.send("GET /stream?n=3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let answer = client.receive().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "1\n2\n3\n"));
        assert!(answer.closes());
        assert_eq!(answer.field("Transfer-Encoding"), None);
        assert!(client.ends());
        server.stop();
    }

    fn status_answers_with_that_status(mode) {
        let (server, mut client) = one(mode, &[]);
        let cases = [
            (200, "200 OK\n"),
            (201, "201 Created\n"),
            (204, ""),
            (304, ""),
            (404, "404 Not Found\n"),
            (418, "418 I'm a Teapot\n"),
            (503, "503 Service Unavailable\n"),
        ];
        for (code, text) in cases {
            let answer = client.get(&format!("/status/{code}")).unwrap();
            let (status, body) = checked(&answer);
            assert_eq!((status, body.to_lowercase()), (code, text.to_lowercase()));
            if code == 204 {
                assert_eq!(answer.field("Content-Length"), None);
            }
        }
        for nonsense in ["199", "600", "x", "-200", "99999"] {
            let answer = client.get(&format!("/status/{nonsense}")).unwrap();
            assert_eq!(checked(&answer).0, 400, "{nonsense}");
        }
        server.stop();
    }

    fn methods_and_paths_that_are_not_there(mode) {
        let (server, mut client) = one(mode, &[]);
        let full = client.get("/").unwrap();
        let head = client.request("HEAD", "/", "", "").unwrap();
        assert_eq!(checked(&head), (200, ""));
        assert_eq!(head.field("Content-Length"), full.field("Content-Length"));
        assert_eq!(head.field("Content-Type"), full.field("Content-Type"));
        let head = client.request("HEAD", "/stream", "", "").unwrap();
        assert_eq!(checked(&head), (200, ""));
        let options = client.request("OPTIONS", "/", "", "").unwrap();
        assert_eq!(checked(&options), (204, ""));
        assert_eq!(options.field("Allow"), Some("GET, HEAD, OPTIONS"));
        let options = client.request("OPTIONS", "/echo", "", "").unwrap();
        assert_eq!(options.field("Allow"), Some("POST, OPTIONS"));
        let options = client.request("OPTIONS", "*", "", "").unwrap();
        assert_eq!(options.status, 204);
        for (method, target, allow) in [
            ("POST", "/", "GET, HEAD, OPTIONS"),
            ("DELETE", "/status/200", "GET, HEAD, OPTIONS"),
            ("GET", "/echo", "POST, OPTIONS"),
        ] {
            let answer = client.request(method, target, "", "").unwrap();
            assert_eq!(checked(&answer), (405, "405 Method Not Allowed\n"));
            assert_eq!(answer.field("Allow"), Some(allow), "{method} {target}");
        }
        for target in ["/nothing", "/status", "/status/200/x", "/HEAVY", "//"] {
            let answer = client.get(target).unwrap();
            assert_eq!(checked(&answer), (404, "404 Not Found\n"), "{target}");
        }
        let answer = client.request("TRACE", "/", "", "").unwrap();
        assert_eq!(answer.status, 501);
        assert!(answer.closes() && client.ends());
        server.stop();
    }

    fn routes_that_break_a_worker_are_there_by_wish_only(mode) {
        let (server, mut client) = one(mode, &[]);
        for target in ["/crash", "/panic", "/panic?worker", "/hang?ms=0"] {
            assert_eq!(client.get(target).unwrap().status, 404, "{target}");
        }
        server.stop();
        let (server, mut client) = one(mode, &["--chaos"]);
        let answer = client.get("/hang?ms=10").unwrap();
        assert_eq!(checked(&answer), (200, "hung for 10 ms\n"));
        assert_eq!(client.get("/hang?ms=x").unwrap().status, 400);
        let answer = client.get("/panic").unwrap();
        assert_eq!(checked(&answer), (500, "500 Internal Server Error\n"));
        assert!(!answer.closes());
        server.stop();
    }

    fn connections_go_on_or_end_as_clients_wish(mode) {
        let (server, mut client) = one(mode, &[]);
        // Three requests in one write: three answers in their order.
        let request = "GET /status/201 HTTP/1.1\r\nHost: test\r\n\r\n";
        client.send(request.repeat(3).replacen("201", "202", 1)).unwrap();
        let statuses = [202, 201, 201].map(|_| client.receive().unwrap().status);
        assert_eq!(statuses, [202, 201, 201]);
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let answer = client.receive().unwrap();
        assert_eq!(answer.field("Connection"), Some("keep-alive"));
        let answer = client.request("GET", "/", "Connection: close\r\n", "").unwrap();
        assert!(answer.closes() && client.ends());
        let mut client = Client::connect(server.address()).unwrap();
        client.send("GET / HTTP/1.0\r\n\r\n").unwrap();
        assert!(client.receive().unwrap().closes() && client.ends());
        let mut client = Client::connect(server.address()).unwrap();
        client.send("nonsense\r\n\r\n").unwrap();
        let answer = client.receive().unwrap();
        assert_eq!(checked(&answer).0, 400);
        assert!(answer.closes() && client.ends());
        server.stop();
    }

    fn slow_clients_meet_their_limits(mode) {
        let limits = ["--header-timeout", "100ms", "--idle-timeout", "100ms", "--body-timeout", "100ms"];
        let (server, silent) = one(mode, &limits);
        assert!(silent.ends());
        let (idle, _) = Client::greeted(server.address());
        assert!(idle.ends());
        let halves = [
            "GET / HTTP/1.1\r\nHost: te",
            "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf",
        ];
        for half in halves {
            let mut client = Client::connect(server.address()).unwrap();
            client.send(half).unwrap();
            let answer = client.receive().unwrap();
            assert_eq!(checked(&answer).0, 408);
            assert!(answer.closes() && client.ends());
        }
        server.stop();
    }
}
