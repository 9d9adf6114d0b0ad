//! Requests one after another: keep-alive, pipelining, half-closed connections, HTTP/1.0, HEAD.

use super::*;
use crate::app::{Response, after, pooled};

#[test]
fn a_connection_serves_one_request_after_another() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    for n in 0..10 {
        let answer = rig.ask(&mut client, get(&format!("/n/{n}")));
        assert_eq!((answer.status, answer.text()), (200, &*n.to_string()));
        assert_eq!(answer.get("connection"), None);
        assert!(httpdate::parse_http_date(answer.get("date").unwrap()).is_ok());
    }
    let size = answer_size(&mut rig);
    rig.alive(client);
    let counters = rig.counters();
    assert_eq!((counters.connections, counters.requests), (2, 12));
    assert_eq!(
        counters.bytes_in as usize,
        10 * get("/n/0").len() + 2 * get("/").len()
    );
    assert!(counters.bytes_out as usize > 2 * size);
    assert_eq!(counters.classes, [0, 12, 0, 0, 0]);
    assert_eq!(counters.latency.iter().sum::<u64>(), 12);
}

/// The bytes of one answer, by a connection of its own.
fn answer_size(rig: &mut Rig) -> usize {
    let before = rig.counters().bytes_out;
    let mut client = rig.connect_after(get("/").as_bytes());
    let size = rig.answer(&mut client).size;
    assert_eq!(rig.counters().bytes_out - before, size as u64);
    size
}

#[test]
fn a_request_that_is_there_already_is_answered_before_its_socket_is_waited_for() {
    let mut rig = Rig::new(app());
    let request = request("GET", "/", "Connection: close\r\n", "");
    let mut client = rig.connect_after(request.as_bytes());
    assert!(rig.server.is_empty());
    client.read(usize::MAX);
    let answer = Answer::parse(&client.got, false, true).unwrap();
    assert_eq!((answer.text(), answer.closes()), ("home", true));
    assert_eq!(
        (answer.size, client.end),
        (client.got.len(), Some(End::Eof))
    );
    rig.empty();
}

#[test]
fn two_hundred_pipelined_requests_are_answered_in_order_and_no_more_than_a_share_a_turn() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    let all: String = (0..200).map(|n| get(&format!("/n/{n}"))).collect();
    assert_eq!(client.write(all.as_bytes()), all.len());
    let mut shares = Vec::new();
    while rig.counters().requests < 200 {
        let before = rig.counters().requests;
        rig.turn();
        shares.push(rig.counters().requests - before);
        assert!(shares.len() < 10);
    }
    // Each turn the connection has its event and, from the last one, more to do.
    assert!(
        shares.iter().all(|&share| (1..=2 * 64).contains(&share)),
        "{shares:?}"
    );
    for n in 0..200 {
        assert_eq!(rig.answer(&mut client).text(), n.to_string());
    }
    rig.alive(client);
}

#[test]
fn a_pipelining_client_does_not_starve_the_others() {
    let mut rig = Rig::new(app());
    let flood = rig.connect();
    let mut other = rig.connect();
    let all: String = (0..500).map(|n| get(&format!("/n/{n}"))).collect();
    assert_eq!(flood.write(all.as_bytes()), all.len());
    rig.turn();
    assert!(!rig.server.again.is_empty());
    assert_eq!(other.write(get("/").as_bytes()), get("/").len());
    rig.turn();
    other.read(usize::MAX);
    assert_eq!(
        Answer::parse(&other.got, false, false).unwrap().text(),
        "home"
    );
    assert!(rig.counters().requests < 500);
}

#[test]
fn a_pooled_and_a_delayed_answer_keep_their_places() {
    for threads in [0, 2] {
        let app = app()
            .get("/pooled", pooled(|_| "pooled"))
            .get("/after", |_| after(SHORT, || "after"));
        let mut rig = Rig::pooled(app, Limits::default(), threads);
        let mut client = rig.connect();
        let paths = [
            "/n/1", "/pooled", "/n/2", "/after", "/pooled", "/after", "/n/3",
        ];
        let all: String = paths.iter().copied().map(get).collect();
        rig.send(&client, all.repeat(3));
        for _ in 0..3 {
            for expected in ["1", "pooled", "2", "after", "pooled", "after", "3"] {
                assert_eq!(rig.answer(&mut client).text(), expected);
            }
        }
        rig.alive(client);
    }
}

#[test]
fn an_error_comes_after_the_answers_before_it() {
    for (threads, path) in [(0, "/n/1"), (2, "/pooled"), (0, "/after")] {
        let app = app()
            .get("/pooled", pooled(|_| "1"))
            .get("/after", |_| after(SHORT, || "1"));
        let mut rig = Rig::pooled(app, Limits::default(), threads);
        let mut client = rig.connect();
        let all = get(path) + "GET nothing HTTP/1.1\r\n\r\n" + &get("/n/2");
        rig.send(&client, all);
        let answer = rig.answer(&mut client);
        assert_eq!((answer.text(), answer.closes()), ("1", false));
        let error = rig.answer(&mut client);
        assert_eq!((error.status, error.closes()), (400, true));
        client.finish();
        rig.eof(&mut client);
        rig.empty();
        assert_eq!(rig.counters().requests, 2);
    }
}

#[test]
fn a_client_that_has_finished_sending_gets_all_its_answers_and_then_the_end() {
    for (threads, tcp) in [(0, false), (2, false), (2, true)] {
        let app = app()
            .get("/pooled", pooled(|_| "pooled"))
            .get("/after", |_| after(SHORT, || "after"));
        let mut rig = Rig::pooled(app, Limits::default(), threads);
        let mut client = if tcp {
            rig.connect_tcp()
        } else {
            rig.connect()
        };
        let all: String = ["/n/1", "/pooled", "/after", "/n/2"]
            .into_iter()
            .map(get)
            .collect();
        rig.send(&client, all + &get("/n/3").repeat(100));
        client.finish();
        for expected in ["1", "pooled", "after", "2"] {
            assert_eq!(rig.answer(&mut client).text(), expected);
        }
        for _ in 0..100 {
            assert_eq!(rig.answer(&mut client).text(), "3");
        }
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn a_client_that_is_gone_within_a_request_is_not_answered() {
    let halves = [
        "GET / HT".to_owned(),
        request("POST", "/echo", "Content-Length: 4\r\n", "ab"),
        request("POST", "/echo", "Transfer-Encoding: chunked\r\n", "4\r\nab"),
    ];
    for half in halves {
        let mut rig = Rig::new(app());
        let mut client = rig.connect();
        rig.send(&client, half);
        client.finish();
        rig.eof(&mut client);
        rig.empty();
        assert_eq!(rig.counters().requests, 0);
    }
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    let all = get("/n/1")
        + &request("POST", "/echo", "Content-Length: 3\r\n", "abc")
        + "\r\n"
        + &request(
            "POST",
            "/echo",
            "Transfer-Encoding: chunked\r\n",
            "2;x=\"y\"\r\nde\r\n1\r\nf\r\n0\r\nT: v\r\n\r\n",
        )
        + &get("/n/2");
    for byte in all.as_bytes() {
        assert_eq!(client.write(&[*byte]), 1);
        rig.turn();
    }
    for expected in ["1", "abc", "def", "2"] {
        assert_eq!(rig.answer(&mut client).text(), expected);
    }
    rig.alive(client);
}

#[test]
fn any_cut_of_two_requests_gives_the_same_answers() {
    let all = request("POST", "/echo", "Content-Length: 3\r\n", "abc") + &get("/n/2");
    for cut in 0..=all.len() {
        let mut rig = Rig::new(app());
        let mut client = rig.connect_after(&all.as_bytes()[..cut]);
        rig.settle();
        rig.send(&client, &all[cut..]);
        assert_eq!(rig.answer(&mut client).text(), "abc");
        assert_eq!(rig.answer(&mut client).text(), "2");
        rig.alive(client);
    }
}

#[test]
fn head_tells_the_length_and_sends_no_body() {
    let app = app()
        .get("/large", |_| pattern(100_000))
        .get("/stream", |_| Response::stream(["a", "b"]));
    let mut rig = Rig::new(app);
    let mut client = rig.connect();
    for (path, field) in [
        ("/", Some("4")),
        ("/large", Some("100000")),
        ("/stream", None),
        ("/nothing", Some("14")),
    ] {
        rig.send(&client, request("HEAD", path, "", ""));
        let answer = rig.next(&mut client, true);
        assert_eq!(answer.get("content-length"), field, "{path}");
        let coding = if field.is_some() {
            None
        } else {
            Some("chunked")
        };
        assert_eq!(answer.get("transfer-encoding"), coding);
        assert!(answer.get("content-type").is_some());
    }
    rig.alive(client);
}

#[test]
fn some_statuses_have_no_body_and_205_says_so() {
    let app = app().get("/status/{status}", |request: crate::app::Request| {
        let status = request.param("status").unwrap().parse().unwrap();
        Response::text("not to be sent").with_status(status)
    });
    let mut rig = Rig::new(app);
    let mut client = rig.connect();
    for (status, length) in [(204, None), (304, None), (205, Some("0"))] {
        let answer = rig.ask(&mut client, get(&format!("/status/{status}")));
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        assert_eq!(answer.get("content-length"), length);
        assert_eq!(answer.get("transfer-encoding"), None);
    }
    rig.alive(client);
}

#[test]
fn http_1_0_ends_after_one_answer_unless_asked_otherwise() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    let answer = rig.ask(
        &mut client,
        "GET /n/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    );
    assert_eq!(answer.get("connection"), Some("keep-alive"));
    let answer = rig.ask(&mut client, "GET /n/2 HTTP/1.0\r\n\r\n");
    assert_eq!((answer.text(), answer.closes()), ("2", true));
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn what_follows_the_last_request_is_not_answered() {
    let mut rig = Rig::new(app());
    let mut client = rig.connect();
    let all = request("GET", "/n/1", "Connection: close\r\n", "") + &get("/n/2");
    rig.send(&client, all);
    let answer = rig.answer(&mut client);
    assert_eq!((answer.text(), answer.closes()), ("1", true));
    client.finish();
    rig.eof(&mut client);
    rig.empty();
    assert_eq!(rig.counters().requests, 1);
}

#[test]
fn a_handler_may_end_the_connection() {
    let mut rig = Rig::new(app().get("/bye", |_| Response::text("bye").close()));
    let mut client = rig.connect();
    let answer = rig.ask(&mut client, get("/bye"));
    assert_eq!((answer.text(), answer.closes()), ("bye", true));
    // The client hears the end first, and may still be sending.
    rig.eof(&mut client);
    assert!(!rig.server.is_empty());
    rig.send(&client, get("/n/1"));
    client.finish();
    rig.empty();
    assert_eq!(rig.counters().requests, 1);
}

#[test]
fn a_connection_without_a_request_is_nothing_to_count() {
    let mut rig = Rig::new(app());
    for _ in 0..3 {
        let mut client = rig.connect();
        client.finish();
        rig.eof(&mut client);
    }
    rig.empty();
    let counters = rig.counters();
    assert_eq!((counters.connections, counters.requests), (3, 0));
    assert_eq!((counters.bytes_in, counters.bytes_out), (0, 0));
}
