//! What was once wrong.

use super::*;
use crate::app::{Response, after, pooled};
use crate::server::conn::State;
use std::sync::atomic::{AtomicU64, Ordering};

/// As much as is copied behind a head.
const COPIED: usize = 16 * 1024;

#[test]
fn an_answer_that_does_not_fit_the_socket_arrives_whole() {
    let mut rig = Rig::new(app().get("/copied", |_| pattern(COPIED)));
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/copied").repeat(20) + &get("/n/1"));
    for _ in 0..20 {
        assert!(rig.answer(&mut client).body == pattern(COPIED));
    }
    assert_eq!(rig.answer(&mut client).text(), "1");
    rig.alive(client);
}

#[test]
fn an_answer_made_elsewhere_comes_behind_what_is_still_unsent() {
    for (path, large) in [("/after", false), ("/pooled", false), ("/large", true)] {
        let app = app()
            .get("/copied", |_| pattern(COPIED))
            .get("/pooled", pooled(|_| "later"))
            .get("/after", |_| after(SHORT, || "later"))
            .get("/large", |_| {
                after(SHORT, || Response::bytes(pattern(50_000)))
            })
            .get("/stream", |_| {
                after(SHORT, || Response::stream((0..9).map(|_| pattern(9000))))
            });
        let mut rig = Rig::pooled(app, Limits::default(), 1);
        let mut client = rig.connect_narrow();
        rig.send(
            &client,
            get("/copied").repeat(3) + &get(path) + &get("/stream") + &get("/n/1"),
        );
        // Nothing is read until the handler's answer is there, behind what could not be sent.
        rig.pump(|rig| {
            let mut connections = rig.server.connections.iter();
            connections.any(|(_, connection)| match &connection.state {
                State::Handler(waiting) => waiting.answer.is_some(),
                _ => false,
            })
        });
        rig.settle();
        for _ in 0..3 {
            assert!(rig.answer(&mut client).body == pattern(COPIED));
        }
        let answer = rig.answer(&mut client);
        if large {
            assert!(answer.body == pattern(50_000));
        } else {
            assert_eq!(answer.text(), "later");
        }
        assert!(rig.answer(&mut client).body == pattern(9000).repeat(9));
        assert_eq!(rig.answer(&mut client).text(), "1");
        rig.alive(client);
    }
}

#[test]
fn unsent_answers_go_out_while_a_handler_works() {
    let app = app()
        .get("/copied", |_| pattern(COPIED))
        .get("/never", |_| after(Duration::from_secs(3600), || "never"));
    let limits = Limits {
        write_timeout: 10 * SHORT,
        ..Limits::default()
    };
    let mut rig = Rig::with(app, limits);
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/copied").repeat(3) + &get("/never"));
    for _ in 0..3 {
        assert!(rig.answer(&mut client).body == pattern(COPIED));
    }
    // Everything was taken: no time limit is left.
    rig.settle();
    assert_eq!(rig.server.timers.next_deadline(), None);
    assert_eq!(rig.counters().in_flight, 1);
    drop(client);
    rig.empty();
}

#[test]
fn a_connection_with_more_to_do_has_one_share_of_a_turn_and_no_more_with_every_event() {
    let pulled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pulled);
    let app = app().get("/endless", move |_| {
        let count = Arc::clone(&count);
        Response::stream(std::iter::repeat_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
            pattern(100)
        }))
    });
    let mut rig = Rig::new(app);
    let mut greedy = rig.connect();
    rig.send(&greedy, get("/endless"));
    for _ in 0..100 {
        let before = pulled.load(Ordering::Relaxed);
        rig.turn();
        // One for its event, one for what it had left from the last turn.
        let share = pulled.load(Ordering::Relaxed) - before;
        assert!(share <= 2 * 64, "{share} pieces in one turn");
        assert!(rig.server.again.len() <= 1);
        greedy.read(usize::MAX);
    }
    drop(greedy);
    rig.empty();
}

#[test]
fn a_refused_head_gets_no_body() {
    for bad in [
        "HEAD / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "\r\nHEAD * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut rig = Rig::new(app());
        let mut client = rig.connect();
        rig.send(&client, bad);
        let answer = rig.next(&mut client, true);
        assert!(answer.status == 400 && answer.closes());
        client.finish();
        rig.eof(&mut client);
    }
}

#[test]
fn nobody_is_asked_for_a_body_that_no_route_wants() {
    let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    for (path, status) in [("/nowhere", 404), ("/", 405)] {
        let mut rig = Rig::new(app());
        let mut client = rig.connect();
        let answer = rig.ask(&mut client, request("POST", path, fields, ""));
        assert!(answer.status == status && answer.closes());
        client.finish();
        rig.eof(&mut client);
        // One that has come already is no reason to end.
        let mut client = rig.connect();
        let answer = rig.ask(&mut client, request("POST", path, fields, "body"));
        assert!(answer.status == status && !answer.closes());
        rig.alive(client);
    }
    let mut rig = Rig::new(app().fallback(|request: crate::app::Request| request.into_body()));
    let mut client = rig.connect();
    assert_eq!(
        rig.ask(&mut client, request("PUT", "/nowhere", fields, ""))
            .status,
        100
    );
    rig.send(&client, "body");
    assert_eq!(rig.answer(&mut client).text(), "body");
    rig.alive(client);
}
