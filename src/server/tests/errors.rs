//! What is no request, or none that this server serves: one answer, and the end.

use super::*;
use crate::app::{Failure, Response};

fn refusals() -> Vec<(u16, String)> {
    let long = |length| "x".repeat(length);
    vec![
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
        (400, "GET nothing HTTP/1.1\r\nHost: test\r\n\r\n".into()),
        (400, request("GET", "/", "Bad Name: x\r\n", "")),
        (
            400,
            request("GET", "/", "Content-Length: 1\r\nContent-Length: 1\r\n", ""),
        ),
        (
            400,
            request("POST", "/", "Transfer-Encoding: chunked\r\n", "x\r\n"),
        ),
        (400, "\x16\x03\x01\x02\x00\x01\x00\x01\r\n".into()),
        (414, get(&format!("/{}", long(20_000)))),
        (
            417,
            request("POST", "/", "Content-Length: 1\r\nExpect: coffee\r\n", ""),
        ),
        (
            431,
            request("GET", "/", &format!("X: {}\r\n", long(20_000)), ""),
        ),
        (431, request("GET", "/", &"X: y\r\n".repeat(100), "")),
        (501, request("BREW", "/", "", "")),
        (
            501,
            request("POST", "/", "Transfer-Encoding: gzip, chunked\r\n", ""),
        ),
        (505, "GET / HTTP/2.0\r\nHost: test\r\n\r\n".into()),
    ]
}

#[test]
fn each_refusal_is_a_whole_answer_and_the_last() {
    for (status, text) in refusals() {
        for tcp in [false, true] {
            let mut rig = Rig::new(app());
            let mut client = if tcp {
                rig.connect_tcp()
            } else {
                rig.connect()
            };
            rig.send(&client, &text);
            rig.send(&client, get("/n/1"));
            let answer = rig.answer(&mut client);
            assert_eq!(answer.status, status, "{text:.80}");
            let reason = crate::http::reason(status);
            assert_eq!(answer.text(), format!("{status} {reason}\n"));
            assert_eq!(
                answer.get("content-length"),
                Some(&*answer.body.len().to_string())
            );
            assert!(httpdate::parse_http_date(answer.get("date").unwrap()).is_ok());
            assert!(answer.closes(), "{text:.80}");
            client.finish();
            rig.eof(&mut client);
            rig.empty();
            assert_eq!(rig.counters().requests, 1);
            let class = usize::from(status / 100 - 1);
            assert_eq!(rig.counters().classes[class], 1);
        }
    }
}

#[test]
fn a_refusal_is_the_same_when_its_bytes_come_one_at_a_time() {
    for (status, text) in refusals() {
        if text.len() > 1000 {
            continue;
        }
        let mut rig = Rig::new(app());
        let mut client = rig.connect();
        for byte in text.as_bytes() {
            assert_eq!(client.write(&[*byte]), 1);
            rig.turn();
        }
        let answer = rig.answer(&mut client);
        assert_eq!((answer.status, answer.closes()), (status, true), "{text}");
        client.finish();
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn a_long_head_is_refused_though_it_comes_in_pieces_without_line_ends() {
    for (status, start) in [(414, "GET /"), (431, "GET / HTTP/1.1\r\nX: ")] {
        let mut rig = Rig::new(app());
        let mut client = rig.connect();
        rig.send(&client, start);
        for _ in 0..17 {
            rig.send(&client, "x".repeat(1024));
            rig.settle();
        }
        assert_eq!(rig.answer(&mut client).status, status);
        client.finish();
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn a_small_limit_on_heads_is_kept() {
    let limits = Limits {
        head: 100,
        fields: 2,
        ..Limits::default()
    };
    let mut rig = Rig::with(app(), limits);
    for (status, text) in [
        (200, request("GET", "/", "A: b\r\n", "")),
        (431, request("GET", "/", "A: b\r\nC: d\r\n", "")),
        (
            431,
            request("GET", "/", &format!("A: {}\r\n", "b".repeat(100)), ""),
        ),
        (414, get(&"/long".repeat(20))),
    ] {
        let mut client = rig.connect();
        assert_eq!(rig.ask(&mut client, text).status, status);
    }
}

#[test]
fn the_error_hook_gives_the_body_and_not_the_status() {
    let app = app().on_error(|failure: &Failure| {
        Response::html(format!("<p>{}", failure.status()))
            .with_status(200)
            .header("Date", "some day")
            .header("X-Hook", "yes")
    });
    let mut rig = Rig::new(app);
    for (status, text) in refusals() {
        let mut client = rig.connect();
        let answer = rig.ask(&mut client, text);
        assert_eq!(
            (answer.status, answer.text()),
            (status, &*format!("<p>{status}"))
        );
        assert_eq!(answer.get("date"), Some("some day"));
        assert_eq!(answer.get("x-hook"), Some("yes"));
        assert!(answer.closes());
    }
    let mut client = rig.connect();
    let answer = rig.ask(&mut client, get("/nothing"));
    assert_eq!(
        (answer.status, answer.text(), answer.closes()),
        (404, "<p>404", false)
    );
    rig.ask(&mut client, get("/"));
}

#[test]
fn a_refused_body_of_a_head_request_is_answered_without_one() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    rig.send(
        &client,
        request("HEAD", "/", "Content-Length: 9999999\r\n", ""),
    );
    assert_eq!(rig.next(&mut client, true).status, 413);
    client.finish();
    rig.eof(&mut client);
    rig.empty();
}
