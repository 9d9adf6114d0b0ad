//! Proxies in front: who is believed, and what is noted of an answer.

use super::*;
use crate::app::{Request, Response, after};
use crate::http::ForwardedFields;
use crate::server::{EdgeSettings, LogFormat, Trust};
use std::fs::File;
use std::os::unix::fs::FileExt;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xC0\0\x02\x01\xC0\0\x02\x02\xDC\x04\0\x50";
const WHO: &str = "GET /who HTTP/1.1\r\nHost: x\r\n\r\n";

fn edge_app() -> App {
    App::new()
        .get("/who", |request: Request| {
            let peer = request.peer().map(|peer| peer.to_string());
            let client = request.client_ip().map(|ip| ip.to_string());
            let (peer, client) = (peer.unwrap_or_default(), client.unwrap_or_default());
            format!("{peer} {client} {}", request.scheme())
        })
        .get("/id", |request: Request| request.id().to_owned())
        .get("/mine", |_| Response::text("").header("Server", "mine"))
        .get("/large", |_| vec![b'x'; 1 << 20])
        .get("/late", |_| after(Duration::from_secs(3600), || "late"))
        .post("/echo", |request: Request| request.into_body())
}

fn rig(settings: EdgeSettings) -> Rig {
    let mut rig = Rig::new(edge_app());
    rig.server = rig.server.at_edge(settings);
    rig
}

fn trusting(proxy_protocol: &str, forwarded: &str) -> EdgeSettings {
    let list = |words: &str| match words {
        "" => Default::default(),
        words => words.parse().unwrap(),
    };
    EdgeSettings {
        trust: Trust {
            proxy_protocol: list(proxy_protocol),
            forwarded: list(forwarded),
            ..Trust::default()
        },
        ..EdgeSettings::default()
    }
}

#[test]
fn a_trusted_peer_says_who_is_behind_it_at_every_split() {
    for header in [LINE, BINARY] {
        let mut rig = rig(trusting("unix", ""));
        let whole = [header, WHO.as_bytes()].concat();
        for split in 0..whole.len() {
            let mut client = rig.connect_after(&whole[..split]);
            rig.settle();
            rig.send(&client, &whole[split..]);
            let answer = rig.answer(&mut client);
            assert_eq!(
                answer.text(),
                "192.0.2.1:56324 192.0.2.1 http",
                "at {split}"
            );
            assert_eq!(
                rig.ask(&mut client, WHO).text(),
                "192.0.2.1:56324 192.0.2.1 http"
            );
        }
        let mut drips = rig.connect();
        for byte in &whole {
            rig.send(&drips, [*byte]);
            rig.settle();
        }
        assert_eq!(rig.answer(&mut drips).status, 200);
    }
}

#[test]
fn a_proxy_that_knows_no_client_is_one() {
    let mut rig = rig(trusting("unix", ""));
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut client = rig.connect_after(header);
        assert_eq!(rig.ask(&mut client, WHO).text(), "  http");
    }
}

#[test]
fn without_its_header_or_with_two_a_trusted_peer_is_refused() {
    let mut rig = rig(trusting("unix", ""));
    for bytes in [
        WHO.as_bytes(),
        b"PROXY TCP4 1.2.3.4\r\n",
        &[LINE, LINE, WHO.as_bytes()].concat(),
        &[LINE, BINARY, WHO.as_bytes()].concat(),
        &[LINE, WHO.as_bytes()].concat().repeat(2),
    ] {
        let mut client = rig.connect_after(bytes);
        let mut answer = rig.answer(&mut client);
        if answer.status == 200 {
            answer = rig.answer(&mut client);
        }
        assert_eq!((answer.status, answer.closes()), (400, true));
        client.finish();
        rig.eof(&mut client);
    }
    let mut binary = rig.connect_after(b"\r\n\r\n\0\r\nQUIT\n\xff\xff\0\0 and more");
    rig.eof(&mut binary);
    let mut silent = rig.connect_after(&BINARY[..20]);
    silent.finish();
    rig.eof(&mut silent);
    rig.empty();
}

#[test]
fn from_all_others_it_is_a_malformed_request() {
    let mut rig = rig(trusting("10.0.0.0/8", ""));
    for header in [LINE, BINARY] {
        let mut client = rig.connect_after(&[header, WHO.as_bytes()].concat());
        assert_eq!(rig.answer(&mut client).status, 400);
    }
    let mut client = rig.connect();
    assert_eq!(rig.ask(&mut client, WHO).text(), "  http");
}

#[test]
fn a_header_that_does_not_come_is_waited_for_as_a_head_is() {
    let limits = Limits {
        header_timeout: SHORT,
        ..Limits::default()
    };
    for begun in [&b""[..], b"PROXY TC", &BINARY[..14]] {
        let mut rig = Rig::with(edge_app(), limits.clone());
        rig.server = rig.server.at_edge(trusting("unix", ""));
        let mut client = rig.connect_after(begun);
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn another_loop_goes_on_with_what_was_said() {
    let mut first = rig(trusting("unix", ""));
    let mut client = first.connect_after(LINE);
    assert_eq!(first.ask(&mut client, WHO).status, 200);
    let half = first.connect_after(&BINARY[..20]);
    let fresh = first.connect();
    first.server.drain(first.reactor.registry(), true);
    let mut second = rig(trusting("unix", ""));
    second.begin();
    for (socket, handed) in first.server.take_given_back(9) {
        second
            .server
            .adopt(second.reactor.registry(), socket, handed);
    }
    let of = |old: &Client| Client::new(old.socket.try_clone().unwrap());
    let mut clients = [of(&client), of(&half), of(&fresh)];
    for (number, client) in clients.iter().enumerate() {
        register(second.reactor.registry(), client, CLIENTS + 500 + number).unwrap();
    }
    let parts = [&b""[..], &BINARY[20..], BINARY];
    for (client, part) in clients.iter_mut().zip(parts) {
        let answer = second.ask(client, [part, WHO.as_bytes()].concat());
        assert_eq!(answer.text(), "192.0.2.1:56324 192.0.2.1 http");
    }
}

#[test]
fn forwarded_fields_count_from_trusted_peers_alone() {
    let request = "GET /who HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\
                   X-Forwarded-Proto: https\r\n\r\n";
    let cases = [
        ("unix", "", " 203.0.113.9 https"),
        ("192.0.2.1", "", "  http"),
        ("", "", "  http"),
        // By PROXY, the peer is whom the proxy named.
        ("192.0.2.1", "PROXY", "192.0.2.1:56324 203.0.113.9 https"),
        ("unix", "PROXY", "192.0.2.1:56324 192.0.2.1 http"),
    ];
    for (forwarded, header, expected) in cases {
        let announced = header == "PROXY";
        let mut rig = rig(trusting(if announced { "unix" } else { "" }, forwarded));
        let mut client = rig.connect_after(if announced { LINE } else { b"" });
        assert_eq!(
            rig.ask(&mut client, request).text(),
            expected,
            "{forwarded}"
        );
    }
}

#[test]
fn a_unix_socket_of_the_proxys_machine_is_none_of_ours() {
    let header = [&BINARY[..12], b"\x21\x31\x00\xd8", &[b'x'; 216]].concat();
    let request = "GET /who HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\
                   X-Forwarded-Proto: https\r\nX-Request-Id: abc\r\n\r\n";
    let mut rig = rig(EdgeSettings {
        request_ids: true,
        ..trusting("unix", "unix, 0.0.0.0/0, ::/0")
    });
    let mut client = rig.connect_after(&header);
    let answer = rig.ask(&mut client, request);
    assert_eq!(answer.text(), "  http");
    assert_ne!(answer.get("x-request-id"), Some("abc"));
    // The proxy itself is at a unix socket of ours.
    let mut client = rig.connect_after(b"PROXY UNKNOWN\r\n");
    assert_eq!(rig.ask(&mut client, request).text(), " 203.0.113.9 https");
}

#[test]
fn only_the_fields_that_proxies_write_are_read() {
    let request = "GET /who HTTP/1.1\r\nHost: x\r\nForwarded: for=198.51.100.7;proto=https\r\n\
                   X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\n\r\n";
    for (fields, expected) in [
        (ForwardedFields::default(), " 203.0.113.9 http"),
        (ForwardedFields::Forwarded, " 198.51.100.7 https"),
    ] {
        let mut settings = trusting("", "unix");
        settings.trust.fields = fields;
        let mut rig = rig(settings);
        let mut client = rig.connect();
        assert_eq!(rig.ask(&mut client, request).text(), expected, "{fields}");
    }
}

#[test]
fn ids_are_made_or_taken_from_trusted_peers() {
    let with = |id: &str| format!("GET /id HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n\r\n");
    let settings = |forwarded| EdgeSettings {
        request_ids: true,
        ..trusting("", forwarded)
    };
    let mut believing = rig(settings("unix"));
    let mut client = believing.connect();
    let answer = believing.ask(&mut client, with("abc-123"));
    assert_eq!(
        (answer.text(), answer.get("x-request-id")),
        ("abc-123", Some("abc-123"))
    );
    let mut seen = std::collections::BTreeSet::new();
    for bad in [
        "a b",
        "a\"b",
        "",
        "\u{e9}",
        &"x".repeat(129),
        "a\r\nX-Request-Id: b",
    ] {
        let answer = believing.ask(&mut client, with(bad));
        let id = answer.get("x-request-id").unwrap().to_owned();
        assert_eq!((answer.text(), id.len()), (&*id, 32));
        assert!(seen.insert(id), "{bad}");
    }
    let mut refused = believing.connect_after(b"nonsense\r\n\r\n");
    let answer = believing.answer(&mut refused);
    assert!(seen.insert(answer.get("x-request-id").unwrap().to_owned()));
    let mut doubting = rig(settings("10.0.0.1"));
    let mut client = doubting.connect();
    let answer = doubting.ask(&mut client, with("abc-123"));
    assert_ne!(answer.get("x-request-id"), Some("abc-123"));
    assert_eq!(answer.get("server"), None);
    let mut plain = rig(EdgeSettings::default());
    let mut client = plain.connect();
    assert_eq!(plain.ask(&mut client, with("a")).get("x-request-id"), None);
}

#[test]
fn the_server_field_is_what_was_asked_for() {
    let mut rig = rig(EdgeSettings {
        server_header: Some("a thing".to_owned()),
        ..EdgeSettings::default()
    });
    for (request, status, expected) in [
        (get("/who"), 200, "a thing"),
        (get("/mine"), 200, "mine"),
        (get("/none"), 404, "a thing"),
        ("nonsense\r\n\r\n".to_owned(), 400, "a thing"),
    ] {
        let mut client = rig.connect();
        let answer = rig.ask(&mut client, request);
        assert_eq!(
            (answer.status, answer.get("server")),
            (status, Some(expected))
        );
    }
}

/// A rig that logs, and its file, which has no name.
fn logging() -> (Rig, File) {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let file: File = nix::sys::memfd::memfd_create("log", flags).unwrap().into();
    let settings = EdgeSettings {
        access_log: Some(Arc::new(file.try_clone().unwrap())),
        log_format: LogFormat::Common,
        ..EdgeSettings::default()
    };
    (rig(settings), file)
}

/// What the lines say from the request on.
fn logged(rig: &mut Rig, file: &File) -> Vec<String> {
    rig.server.turn.edge.flush(Instant::now());
    let mut text = vec![0; 1 << 16];
    let count = file.read_at(&mut text, 0).unwrap();
    let text = String::from_utf8(text[..count].to_vec()).unwrap();
    let line = |line: &str| {
        let (start, rest) = line.split_once("] ").unwrap();
        assert!(
            start.starts_with("unix: - - [") && start.ends_with(" +0000"),
            "{start}"
        );
        rest.to_owned()
    };
    text.lines().map(line).collect()
}

#[test]
fn each_answer_has_a_line_when_it_is_sent() {
    let (mut rig, file) = logging();
    let mut client = rig.connect();
    rig.send(
        &client,
        get("/who") + &get("/none") + "HEAD /who HTTP/1.0\r\n\r\n",
    );
    rig.pump(|rig| {
        client.read(usize::MAX);
        rig.counters().requests == 3
    });
    let mut refused = rig.connect_after(b"nonsense\r\n\r\n");
    assert_eq!(rig.answer(&mut refused).status, 400);
    let mut cut =
        rig.connect_after(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n");
    assert_eq!(rig.answer(&mut cut).status, 413);
    let echo = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfour";
    let mut client = rig.connect();
    assert_eq!(rig.ask(&mut client, echo).text(), "four");
    let expected = [
        "\"GET /who HTTP/1.1\" 200 6",
        "\"GET /none HTTP/1.1\" 404 14",
        "\"HEAD /who HTTP/1.0\" 200 0",
        "\"nonsense\" 400 16",
        "\"POST /echo HTTP/1.1\" 413 22",
        "\"POST /echo HTTP/1.1\" 200 4",
    ];
    assert_eq!(logged(&mut rig, &file), expected);
}

#[test]
fn a_large_answer_is_logged_when_it_is_out_or_cut_short() {
    let (mut rig, file) = logging();
    let mut client = rig.connect();
    rig.send(&client, get("/large"));
    rig.pump(|rig| rig.counters().bytes_out > 0);
    assert!(logged(&mut rig, &file).is_empty(), "it is not out");
    assert_eq!(rig.answer(&mut client).status, 200);
    rig.settle();
    assert_eq!(
        logged(&mut rig, &file),
        ["\"GET /large HTTP/1.1\" 200 1048576"]
    );
    rig.send(&client, get("/large"));
    rig.pump(|rig| rig.counters().bytes_out > 1_100_000);
    drop(client);
    rig.empty();
    let lines = logged(&mut rig, &file);
    let (what, bytes) = lines[1].rsplit_once(' ').unwrap();
    assert_eq!((lines.len(), what), (2, "\"GET /large HTTP/1.1\" 200"));
    assert!((1..1_048_576).contains(&bytes.parse().unwrap()), "{bytes}");
}

#[test]
fn a_client_that_does_not_wait_is_logged_as_gone() {
    let (mut rig, file) = logging();
    let mut client = rig.connect();
    rig.send(&client, get("/who") + &get("/late"));
    rig.pump(|rig| rig.counters().in_flight == 1);
    client.read(usize::MAX);
    drop(client);
    rig.empty();
    let expected = [
        "\"GET /who HTTP/1.1\" 200 6",
        "\"GET /late HTTP/1.1\" 499 0",
    ];
    assert_eq!(logged(&mut rig, &file), expected);
}

#[test]
fn lines_do_not_wait_for_more() {
    let (mut rig, file) = logging();
    let mut client = rig.connect();
    assert_eq!(rig.ask(&mut client, get("/who")).status, 200);
    assert_eq!(file.metadata().unwrap().len(), 0);
    rig.pump(|_| file.metadata().unwrap().len() > 0);
    assert_eq!(rig.server.turn.edge.deadline(), None);
}
