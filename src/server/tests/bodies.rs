//! Bodies of requests: by length, in chunks, announced, too large.

use super::*;
use crate::app::{Request, Response};

#[test]
fn a_body_by_length_over_any_split() {
    let body = "0123456789";
    let head = request("POST", "/echo", "Content-Length: 10\r\n", "");
    for cut in 0..=body.len() {
        let mut rig = Rig::new(app());
        let mut client = rig.connect();
        rig.send(&client, &head);
        rig.settle();
        rig.send(&client, &body[..cut]);
        rig.settle();
        assert_eq!(rig.counters().requests, u64::from(cut == 10));
        rig.send(&client, &body[cut..]);
        assert_eq!(rig.answer(&mut client).text(), body);
        rig.alive(client);
    }
}

/// What came of a body and its trailers.
fn tell(request: Request) -> String {
    let trailer =
        |name| String::from_utf8_lossy(request.trailer(name).unwrap_or(b"-")).into_owned();
    let body = String::from_utf8_lossy(request.body()).into_owned();
    format!("{body} {} {}", trailer("sum"), trailer("Content-Length"))
}

#[test]
fn a_chunked_body_with_trailers_over_any_split() {
    let head = request("POST", "/tell", "Transfer-Encoding: chunked\r\n", "");
    let body = "3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\nSum: 13\r\nContent-Length: 9\r\n\r\n";
    for cut in 0..=body.len() {
        let mut rig = Rig::new(app().post("/tell", tell));
        let mut client = rig.connect();
        rig.send(&client, format!("{head}{}", &body[..cut]));
        rig.settle();
        rig.send(&client, format!("{}{}", &body[cut..], get("/n/1")));
        assert_eq!(rig.answer(&mut client).text(), "abc0123456789 13 -");
        assert_eq!(rig.answer(&mut client).text(), "1");
        rig.alive(client);
    }
}

#[test]
fn a_body_larger_than_one_read_arrives_whole() {
    let body = pattern(1_000_000);
    let mut rig = Rig::new(app());
    for chunked in [false, true] {
        let mut client = rig.connect_tcp();
        let mut bytes = Vec::new();
        if chunked {
            let head = request("POST", "/echo", "Transfer-Encoding: chunked\r\n", "");
            bytes.extend(head.into_bytes());
            for piece in body.chunks(70_001) {
                bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else {
            let head = request("POST", "/echo", "Content-Length: 1000000\r\n", "");
            bytes.extend(head.into_bytes());
            bytes.extend(&body);
        }
        rig.send(&client, bytes);
        assert!(rig.answer(&mut client).body == body);
        rig.alive(client);
    }
}

#[test]
fn an_empty_body_is_a_request_at_once() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    for (fields, body) in [
        ("Content-Length: 0\r\n", ""),
        ("", ""),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Content-Length: 0\r\nExpect: 100-continue\r\n", ""),
    ] {
        let answer = rig.ask(&mut client, request("POST", "/echo", fields, body));
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{fields}");
    }
    rig.alive(client);
}

const EXPECT: &str = "Content-Length: 4\r\nExpect: 100-continue\r\n";

#[test]
fn a_client_that_waits_for_100_gets_it() {
    for (fields, body) in [
        (EXPECT, "body"),
        (
            "Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n",
            "4\r\nbody\r\n0\r\n\r\n",
        ),
    ] {
        let mut rig = Rig::new(app());
        let mut client = rig.connect();
        rig.send(&client, request("POST", "/echo", fields, ""));
        rig.settle();
        client.read(usize::MAX);
        assert_eq!(client.got, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.got.clear();
        assert_eq!(rig.ask(&mut client, body).text(), "body");
        rig.alive(client);
    }
}

#[test]
fn no_100_when_the_body_is_there_or_the_client_is_older() {
    for text in [
        request("POST", "/echo", EXPECT, "body"),
        format!("POST /echo HTTP/1.0\r\nConnection: keep-alive\r\n{EXPECT}\r\nbody"),
    ] {
        let mut rig = Rig::new(app());
        let mut client = rig.connect_after(text.as_bytes());
        assert_eq!(rig.answer(&mut client).status, 200);
        rig.alive(client);
    }
    // HTTP/1.0 and the body still to come.
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    rig.send(&client, format!("POST /echo HTTP/1.0\r\n{EXPECT}\r\n"));
    rig.settle();
    client.read(usize::MAX);
    assert_eq!(client.got, b"");
    assert_eq!(rig.ask(&mut client, "body").text(), "body");
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn a_100_keeps_its_place_behind_earlier_answers() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    rig.send(&client, get("/n/1") + &request("POST", "/echo", EXPECT, ""));
    assert_eq!(rig.answer(&mut client).text(), "1");
    assert_eq!(rig.answer(&mut client).status, 100);
    assert_eq!(rig.ask(&mut client, "body").text(), "body");
    rig.alive(client);
}

fn small() -> Limits {
    Limits {
        body: 10,
        ..Limits::default()
    }
}

#[test]
fn a_body_of_exactly_the_limit_is_taken() {
    let mut rig = Rig::with(app(), small());
    let mut client = rig.connect();
    let exact = request("POST", "/echo", "Content-Length: 10\r\n", "0123456789");
    assert_eq!(rig.ask(&mut client, exact).text(), "0123456789");
    let body = "6\r\n012345\r\n4\r\n6789\r\n0\r\n\r\n";
    let exact = request("POST", "/echo", "Transfer-Encoding: chunked\r\n", body);
    assert_eq!(rig.ask(&mut client, exact).text(), "0123456789");
    rig.alive(client);
}

#[test]
fn a_body_over_the_limit_is_refused_as_soon_as_that_is_known() {
    for (fields, body) in [
        ("Content-Length: 11\r\n", ""),
        ("Content-Length: 11\r\nExpect: 100-continue\r\n", ""),
        ("Content-Length: 18446744073709551615\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "b\r\n"),
        ("Transfer-Encoding: chunked\r\n", "6\r\n012345\r\n5\r\n"),
        ("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n"),
    ] {
        let mut rig = Rig::with(app(), small());
        let mut client = rig.connect();
        let answer = rig.ask(&mut client, request("POST", "/echo", fields, body));
        assert_eq!((answer.status, answer.closes()), (413, true), "{fields}");
        // What the client goes on sending is read and dropped.
        rig.send(&client, vec![b'x'; 200_000]);
        client.finish();
        rig.eof(&mut client);
        rig.empty();
        assert_eq!(rig.counters().requests, 1);
    }
}

#[test]
fn a_client_in_the_middle_of_a_large_body_can_read_the_refusal() {
    // Over TCP, where closing too early would be a reset that takes the answer with it.
    let mut rig = Rig::with(app(), small());
    let mut client = rig.connect_tcp();
    let head = request("POST", "/echo", "Content-Length: 3000000\r\n", "");
    rig.send(&client, head);
    rig.send(&client, vec![b'x'; 3_000_000]);
    client.finish();
    let answer = rig.answer(&mut client);
    assert_eq!((answer.status, answer.closes()), (413, true));
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn a_lingering_close_does_not_read_without_end() {
    let mut rig = Rig::with(app(), small());
    let client = rig.connect();
    rig.send(
        &client,
        request("POST", "/echo", "Content-Length: 11\r\n", ""),
    );
    let piece = [b'x'; 64 * 1024];
    let mut sent = 0;
    // Writing fails once the server has closed.
    while let Ok(count) = sent_or_waiting(&client, &piece) {
        sent += count;
        assert!(sent < 8 * 1024 * 1024, "it reads on and on");
        rig.turn();
    }
    assert!(sent >= 4 * 1024 * 1024);
    rig.empty();
}

fn sent_or_waiting(client: &Client, bytes: &[u8]) -> io::Result<usize> {
    match socket::write(client.socket.as_fd(), bytes) {
        Err(error) if socket::would_block(&error) => Ok(0),
        other => other,
    }
}

#[test]
fn trailers_follow_a_stream_for_clients_that_read_them() {
    let fields = || {
        vec![
            ("Lines".to_owned(), "2".to_owned()),
            ("Content-Length".to_owned(), "9".to_owned()),
            ("Bad\r\nName".to_owned(), "x".to_owned()),
            ("Bad-Value".to_owned(), "x\r\ny".to_owned()),
        ]
    };
    let app = app()
        .get("/lines", move |_| {
            Response::stream(["1\n", "2\n"]).trailers(fields)
        })
        .get("/plain", move |_| Response::text("plain").trailers(fields))
        .get("/panic", |_| {
            Response::stream(["1\n"]).trailers(|| panic!("in the trailers"))
        });
    let cases = [
        (
            "GET",
            "/lines",
            "TE: gzip, Trailers\r\n",
            "0\r\nLines: 2\r\n\r\n",
        ),
        (
            "GET",
            "/lines",
            "TE: xtrailers\r\n",
            "2\r\n2\n\r\n0\r\n\r\n",
        ),
        ("GET", "/lines", "", "2\r\n2\n\r\n0\r\n\r\n"),
        ("HEAD", "/lines", "TE: trailers\r\n", "chunked\r\n\r\n"),
        ("GET", "/plain", "TE: trailers\r\n", "5\r\n\r\nplain"),
    ];
    let mut rig = Rig::new(app);
    for (method, path, te, end) in cases {
        let mut client = rig.connect();
        rig.send(&client, request(method, path, te, ""));
        rig.until(&mut client, |client| client.got.ends_with(end.as_bytes()));
        client.got.clear();
        rig.alive(client);
    }
    let mut client = rig.connect();
    rig.send(&client, request("GET", "/panic", "TE: trailers\r\n", ""));
    rig.until(&mut client, |client| client.end.is_some());
    assert!(client.got.starts_with(b"HTTP/1.1 200 OK"));
    assert!(!client.got.ends_with(b"0\r\n\r\n"), "cut short");
}
