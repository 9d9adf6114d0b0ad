//! Proxies in front and the access log, with the real binary: who is believed, that a reload
//! forgets nobody, that rotation loses no line, and that answers tell nothing about the server.

use crate::client::Client;
use crate::load::Load;
use crate::support::{Directory, Mode, Server, both_modes, command, run, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const LINE: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xC6\x33\x64\x07\xC0\0\x02\x02\xDC\x04\0\x50";

/// A server with an access log in `directory`.
fn logging(mode: Mode, directory: &Directory, arguments: &[&str]) -> Server {
    let path = directory.file("access.log");
    let mut all = vec!["--workers", "2", "--access-log", path.to_str().unwrap()];
    all.extend(arguments);
    Server::start(mode, &all)
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines().map(str::to_owned).collect()
}

/// Waits for so many lines in JSON.
#[track_caller]
fn objects(path: &Path, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_until("the lines of a log", || {
        found = lines(path);
        found.len() >= count
    });
    assert_eq!(found.len(), count);
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    found.iter().map(parse).collect()
}

pub(crate) fn announced(address: SocketAddr, header: impl AsRef<[u8]>) -> Client {
    let mut client = Client::connect(address).unwrap();
    client.send(header).unwrap();
    client
}

fn reload(server: &Server) {
    let mark = server.log.mark();
    server.signal(Signal::SIGHUP);
    server.log.wait(mark, "reloaded: all workers are new");
}

both_modes! {
    fn a_reload_keeps_the_address_that_a_proxy_named(mode) {
        let directory = Directory::new();
        let json = ["--log-format", "json", "--proxy-protocol", "10.0.0.0/8,127.0.0.1"];
        let server = logging(mode, &directory, &json);
        let address = server.address();
        let mut clients = [announced(address, LINE), announced(address, BINARY)];
        // One that says half of it before and half of it after.
        let mut half = announced(address, &BINARY[..17]);
        let before = clients.each_mut().map(|client| client.get("/").unwrap().who());
        reload(&server);
        let after = clients.each_mut().map(|client| client.get("/").unwrap().who());
        assert!(before.iter().all(|who| !after.contains(who)));
        half.send(&BINARY[17..]).unwrap();
        half.get("/").unwrap().who();
        let found = objects(&directory.file("access.log"), 5);
        let count = |ip: &str| found.iter().filter(|line| line["client_ip"] == ip).count();
        assert_eq!((count("192.0.2.1"), count("198.51.100.7")), (2, 3));
        server.stop();
    }

    fn a_peer_in_the_list_must_and_any_other_must_not(mode) {
        let inside = Server::start(mode, &["-w1", "--proxy-protocol", "127.0.0.0/8"]);
        let mut client = Client::connect(inside.address()).unwrap();
        let answer = client.get("/").unwrap();
        assert_eq!((answer.status, answer.closes()), (400, true));
        let outside = Server::start(mode, &["-w1", "--proxy-protocol", "192.0.2.1"]);
        let mut client = announced(outside.address(), LINE);
        assert_eq!(client.get("/").unwrap().status, 400);
        Client::greeted(outside.address());
        inside.stop();
        outside.stop();
    }

    fn rotation_under_load_loses_and_cuts_no_line(mode) {
        let directory = Directory::new();
        let server = logging(mode, &directory, &[]);
        let path = directory.file("access.log");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777 & !0o640, 0);
        let load = Load::start(server.address(), 8);
        let mut rotated = Vec::new();
        for number in 0..5 {
            load.go_on();
            let aside = directory.file(&format!("access.log.{number}"));
            fs::rename(&path, &aside).unwrap();
            let mark = server.log.mark();
            server.signal(Signal::SIGUSR1);
            server.log.wait(mark, "is open again");
            rotated.push(aside);
            load.go_on();
            if number == 2 {
                reload(&server);
            }
        }
        let tally = load.stop();
        // A reload has others go on with connections.
        assert!(tally.wrong.iter().all(|wrong| wrong.contains(", then Handled")), "{tally:?}");
        assert!(tally.lost.is_empty(), "{tally:?}");
        server.stop();
        rotated.push(path);
        let all: Vec<_> = rotated.iter().map(|path| lines(path)).collect();
        assert!(!all[5].is_empty(), "the last one is in use");
        for line in all.iter().flatten() {
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
            assert!(line.contains("] \"GET / HTTP/1.1\" 200 "), "{line}");
        }
        let answers: u64 = tally.answers.values().sum();
        let written = all.iter().map(Vec::len).sum::<usize>() as u64;
        // A client that was told to stop may not have read its last answer.
        assert!((answers..=answers + 8).contains(&written), "{answers} answers, {written} lines");
    }

    fn a_full_disk_does_not_stop_it(mode) {
        let server = Server::start(mode, &["-w1", "--access-log", "/dev/full"]);
        let (mut client, _) = Client::greeted(server.address());
        server.log.wait(0, "lines of the access log of worker 1 are lost");
        for _ in 0..1000 {
            client.get("/").unwrap().who();
        }
        let ended = server.stop();
        let said = ended.log.iter().filter(|line| line.contains("are lost"));
        assert!(said.count() <= 3, "it is not said for each line");
    }

    fn the_formats(mode) {
        let directory = Directory::new();
        let request = "GET /status/201?a=\\b HTTP/1.1\r\nHost: x\r\nReferer: http://y/\r\n\
                       User-Agent: a \"b\\\u{e9}\r\nX-Request-Id: id-1\r\n\
                       X-Forwarded-For: 203.0.113.9\r\n\r\n";
        for (format, from, rest) in [
            ("common", "127.0.0.1 - - [", ""),
            ("combined", "203.0.113.9 - - [", r#" "http://y/" "a \x22b\x5C\xC3\xA9""#),
        ] {
            let trusted = if format == "common" { "192.0.2.1" } else { "127.0.0.1" };
            let server = logging(mode, &directory, &["--log-format", format, "--trusted-proxies", trusted]);
            let mut client = announced(server.address(), request);
            assert_eq!(client.receive().unwrap().status, 201);
            server.stop();
            let found = lines(&directory.file("access.log")).pop().unwrap();
            assert!(found.starts_with(from), "{found}");
            let end = format!("] \"GET /status/201?a=\\x5Cb HTTP/1.1\" 201 12{rest}");
            assert!(found.ends_with(&end), "{found}");
        }
        fs::remove_file(directory.file("access.log")).unwrap();
        let json = ["--log-format", "json", "--request-id", "--trusted-proxies", "127.0.0.1"];
        let server = logging(mode, &directory, &json);
        let mut client = announced(server.address(), request);
        let answer = client.receive().unwrap();
        assert_eq!(answer.field("X-Request-Id"), Some("id-1"));
        let other = client.get("/").unwrap().field("X-Request-Id").unwrap().to_owned();
        assert!(announced(server.address(), "nonsense\r\n\r\n").receive().unwrap().closes());
        let found = objects(&directory.file("access.log"), 3);
        let of_status = |status: u16| found.iter().find(|line| line["status"] == status).unwrap();
        let (made, home, refused) = (of_status(201), of_status(200), of_status(400));
        assert_eq!((&made["client_ip"], &made["bytes"]), (&"203.0.113.9".into(), &12.into()));
        assert_eq!((&made["request_id"], &home["request_id"]), (&"id-1".into(), &other.into()));
        assert!(refused["method"].is_null() && refused["request_id"].is_string());
        assert!((1..=2).contains(&made["worker"].as_u64().unwrap()));
        assert!(made["duration_s"].as_f64().unwrap() < 60.0);
        server.stop();
    }

    fn the_fields_of_proxies_are_those_that_were_named(mode) {
        let directory = Directory::new();
        let request = "GET / HTTP/1.1\r\nHost: x\r\nForwarded: for=198.51.100.7\r\n\
                       X-Forwarded-For: 203.0.113.9\r\n\r\n";
        for (fields, from) in [("x-forwarded", "203.0.113.9 "), ("forwarded", "198.51.100.7 ")] {
            let trusted = ["--trusted-proxies", "127.0.0.1", "--forwarded-fields", fields];
            let server = logging(mode, &directory, &trusted);
            announced(server.address(), request).receive().unwrap().who();
            server.stop();
            let found = lines(&directory.file("access.log")).pop().unwrap();
            assert!(found.starts_with(from), "{found}");
        }
    }

    fn stdout_is_a_log_too(mode) {
        let server = Server::start(mode, &["-w1", "--access-log", "-"]);
        Client::greeted(server.address());
        server.out.wait(1, "\"GET / HTTP/1.1\" 200 ");
        let mark = server.log.mark();
        server.signal(Signal::SIGUSR1);
        server.log.wait(mark, "is open again");
        let (mut client, _) = Client::greeted(server.address());
        client.get("/status/204").unwrap();
        server.out.wait(1, "\"GET /status/204 HTTP/1.1\" 204 0");
        server.stop();
    }

    fn answers_tell_nothing_about_the_server(mode) {
        let server = Server::start(mode, &["-w1", "--chaos"]);
        let requests = [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /none HTTP/1.1\r\nHost: x\r\n\r\n",
            "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /heavy?n=x HTTP/1.1\r\nHost: x\r\n\r\n",
            "BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/3.0\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "nonsense\r\n\r\n",
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n",
        ];
        let version = env!("CARGO_PKG_VERSION");
        let telling = [version, "mcluster", "panicked", "GET /panic", ".rs", "src/", "rust", "thread '"];
        for request in requests {
            let mut client = announced(server.address(), request);
            let whole = format!("{:?}", client.receive().unwrap());
            let told = telling.iter().find(|word| whole.to_lowercase().contains(*word));
            assert_eq!(told, None, "{request:?}: {whole}");
            let careful = "(\"X-Content-Type-Options\", \"nosniff\")";
            assert_eq!(whole.matches(careful).count(), 1, "{whole}");
            for name in ["Server", "X-Powered-By", "X-Request-Id"] {
                assert!(!whole.contains(&format!("(\"{name}\",")), "{whole}");
            }
        }
        server.stop();
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_a_failure_at_once() {
    let directory = Directory::new();
    let path = directory.file("none/access.log");
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--access-log",
        path.to_str().unwrap(),
    ];
    let ended = run(command(&arguments));
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended
            .log
            .iter()
            .any(|line| line.contains("opening the access log")),
        "{ended:?}"
    );
    let empty = run(command(&["--server-header", ""]));
    assert_eq!(empty.status.code(), Some(2), "{empty:?}");
}

#[test]
fn a_log_that_cannot_be_opened_again_goes_on_where_it_was() {
    let directory = Directory::new();
    let server = logging(Mode::Processes, &directory, &[]);
    let path = directory.file("access.log");
    let aside = directory.file("aside");
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    server.signal(Signal::SIGUSR1);
    server.log.wait(0, "cannot be opened again");
    Client::greeted(server.address());
    wait_until("a line", || lines(&aside).len() == 1);
    server.stop();
}
