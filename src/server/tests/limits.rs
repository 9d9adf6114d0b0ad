//! Limits of time, and of connections.

use super::*;
use crate::app::{Response, after};

/// All limits of time far away but those that `change` sets.
fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let far = Duration::from_secs(3600);
    let mut limits = Limits {
        header_timeout: far,
        body_timeout: far,
        idle_timeout: far,
        write_timeout: far,
        ..Limits::default()
    };
    change(&mut limits);
    limits
}

#[test]
fn a_client_that_says_nothing_is_closed_silently() {
    let mut rig = Rig::with(app(), limits(|limits| limits.header_timeout = SHORT));
    let begun = Instant::now();
    let mut client = rig.connect();
    rig.eof(&mut client);
    assert!(begun.elapsed() >= SHORT);
    rig.empty();
    assert_eq!(rig.counters().requests, 0);
}

#[test]
fn a_head_that_does_not_end_is_408() {
    for (first, begun) in [
        ("", "GET / HT"),
        ("", "GET / HTTP/1.1\r\nHost:"),
        ("/n/1", "G"),
    ] {
        let mut rig = Rig::with(app(), limits(|limits| limits.header_timeout = SHORT));
        let mut since = Instant::now();
        let mut client = rig.connect();
        if !first.is_empty() {
            rig.ask(&mut client, get(first));
            since = Instant::now();
        }
        rig.send(&client, begun);
        let answer = rig.answer(&mut client);
        assert_eq!((answer.status, answer.closes()), (408, true));
        assert!(since.elapsed() >= SHORT);
        client.finish();
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn a_head_that_drips_gets_no_more_time_for_it() {
    for first in ["", "/n/1"] {
        let mut rig = Rig::with(app(), limits(|limits| limits.header_timeout = 5 * SHORT));
        let line = b"GET / HTTP/1.1\r\n";
        let mut client = if first.is_empty() {
            rig.connect_after(line)
        } else {
            let mut client = rig.connect();
            rig.ask(&mut client, get(first));
            assert_eq!(client.write(line), line.len());
            rig.turn();
            client
        };
        // Lines of a head, so that each is looked at; one a turn, for as long as it takes.
        let deadline = rig.server.timers.next_deadline().unwrap();
        assert!(deadline <= Instant::now() + 5 * SHORT);
        while Instant::now() < deadline {
            assert_eq!(rig.server.timers.next_deadline(), Some(deadline));
            if client.write(b"A: b\r\n") == 6 {
                rig.turn_until(Instant::now() + Duration::from_millis(5));
            }
            client.read(usize::MAX);
            if client.end.is_some() || !client.got.is_empty() {
                break;
            }
        }
        let status = rig.answer(&mut client).status;
        // Should the machine be so fast that a hundred fields came first, that is as good an end.
        assert!([408, 431].contains(&status), "{status}");
        client.finish();
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn a_body_that_pauses_is_408_and_one_that_goes_on_is_not() {
    for (fields, piece) in [
        ("Content-Length: 1000\r\n", "x"),
        ("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n"),
    ] {
        let mut rig = Rig::with(app(), limits(|limits| limits.body_timeout = SHORT));
        let mut client = rig.connect();
        rig.send(&client, request("POST", "/echo", fields, ""));
        rig.settle();
        let mut last = rig.server.timers.next_deadline().unwrap();
        for _ in 0..5 {
            rig.send(&client, piece);
            rig.settle();
            // Later by what has passed, unless a slow machine let the time run out meanwhile.
            let Some(next) = rig.server.timers.next_deadline() else {
                break;
            };
            assert!(next >= last);
            last = next;
        }
        let answer = rig.answer(&mut client);
        assert_eq!((answer.status, answer.closes()), (408, true));
        client.finish();
        rig.eof(&mut client);
        rig.empty();
    }
}

#[test]
fn a_408_to_head_has_no_body() {
    let mut rig = Rig::with(app(), limits(|limits| limits.body_timeout = SHORT));
    let mut client = rig.connect();
    rig.send(&client, request("HEAD", "/", "Content-Length: 5\r\n", "x"));
    assert_eq!(rig.next(&mut client, true).status, 408);
    client.finish();
    rig.eof(&mut client);
    rig.empty();
}

#[test]
fn an_idle_connection_is_closed_silently() {
    let mut rig = Rig::with(app(), limits(|limits| limits.idle_timeout = SHORT));
    let begun = Instant::now();
    let mut client = rig.connect();
    assert_eq!(rig.ask(&mut client, get("/n/1")).text(), "1");
    rig.eof(&mut client);
    assert!(begun.elapsed() >= SHORT);
    rig.empty();
}

#[test]
fn every_request_begins_the_idle_time_anew() {
    let mut rig = Rig::with(
        app(),
        limits(|limits| limits.idle_timeout = Duration::from_secs(60)),
    );
    let mut client = rig.connect();
    let mut last = Instant::now();
    for _ in 0..5 {
        rig.ask(&mut client, get("/n/1"));
        let next = rig.server.timers.next_deadline().unwrap();
        assert!(next > last);
        last = next;
    }
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let far = Duration::from_secs(3600);
    for stream in [false, true] {
        let app = app().get("/large", move |_| {
            if stream {
                Response::stream(std::iter::repeat_with(|| pattern(1000)))
            } else {
                Response::bytes(pattern(1_000_000))
            }
        });
        let mut rig = Rig::with(app, limits(|limits| limits.write_timeout = SHORT));
        let mut client = rig.connect_narrow();
        rig.send(&client, get("/large"));
        rig.empty();
        client.read(usize::MAX);
        assert!(client.end.is_some() && client.got.len() < 500_000);
    }
    // As long as it takes something the time begins anew.
    let app = app().get("/large", |_| pattern(100_000));
    let mut rig = Rig::with(app, limits(|limits| limits.write_timeout = far));
    let mut client = rig.connect_narrow();
    rig.send(&client, get("/large"));
    rig.settle();
    let before = rig.server.timers.next_deadline().unwrap();
    client.read(20_000);
    rig.settle();
    assert!(rig.server.timers.next_deadline().unwrap() > before);
}

#[test]
fn no_limit_of_time_holds_while_a_handler_works() {
    let app = app().get("/late", |_| after(4 * SHORT, || "late"));
    let short = limits(|limits| {
        limits.header_timeout = SHORT;
        limits.body_timeout = SHORT;
        limits.idle_timeout = SHORT;
        limits.write_timeout = SHORT;
    });
    let mut rig = Rig::with(app, short);
    let mut client = rig.connect_after(get("/late").as_bytes());
    assert_eq!(rig.answer(&mut client).text(), "late");
    rig.eof(&mut client);
    rig.empty();
}

fn two_connections() -> (Rig, SocketAddr) {
    let limits = limits(|limits| limits.connections = 2);
    let app = app().get("/bye", |_| Response::text("bye").close());
    let mut rig = Rig::with(app, limits);
    let (listener, address) = listener();
    rig.server
        .listen(rig.reactor.registry(), listener, LISTENER)
        .unwrap();
    (rig, address)
}

fn dial(rig: &mut Rig, address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    rig.client(stream.into())
}

#[test]
fn at_its_limit_a_server_accepts_no_more_until_a_connection_ends() {
    let (mut rig, address) = two_connections();
    let mut first = dial(&mut rig, address);
    let mut second = dial(&mut rig, address);
    assert_eq!(rig.ask(&mut first, get("/n/1")).text(), "1");
    assert_eq!(rig.ask(&mut second, get("/n/2")).text(), "2");
    let mut third = dial(&mut rig, address);
    let mut fourth = dial(&mut rig, address);
    rig.send(&third, get("/n/3"));
    rig.send(&fourth, get("/n/4"));
    rig.pump(|rig| rig.server.gate.paused());
    // Paused is not spinning: with nothing to do the loop would wait.
    rig.turn();
    rig.turn();
    assert!(rig.seen.is_empty());
    assert_eq!(rig.counters().open, 2);
    // Those that are open go on.
    assert_eq!(rig.ask(&mut first, get("/n/1")).text(), "1");
    drop(first);
    assert_eq!(rig.answer(&mut third).text(), "3");
    rig.ask(&mut second, get("/bye"));
    drop(second);
    assert_eq!(rig.answer(&mut fourth).text(), "4");
    assert_eq!(rig.counters().connections, 4);
    drop((third, fourth));
    rig.empty();
    assert!(!rig.server.gate.paused());
}

#[test]
fn a_burst_is_accepted_in_shares_and_answered_whole() {
    let mut rig = Rig::new(app());
    let (listener, address) = listener();
    rig.server
        .listen(rig.reactor.registry(), listener, LISTENER)
        .unwrap();
    let mut clients: Vec<_> = (0..40).map(|_| dial(&mut rig, address)).collect();
    let mut turns = 0;
    rig.pump(|rig| {
        let open = rig.counters().open;
        assert!(open <= 8 * turns);
        turns += 1;
        open == 40
    });
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(
            rig.ask(client, get(&format!("/n/{n}"))).text(),
            n.to_string()
        );
    }
    drop(clients);
    rig.empty();
    assert_eq!(rig.counters().connections, 40);
}

#[test]
fn an_answer_that_only_the_end_delimits_is_cut_by_a_reset() {
    let app = app().get("/endless", |_| {
        Response::stream(std::iter::repeat_with(|| pattern(10_000)))
    });
    let mut rig = Rig::with(app, limits(|limits| limits.write_timeout = SHORT));
    let mut client = rig.connect_tcp();
    rig.send(&client, "GET /endless HTTP/1.0\r\n\r\n");
    // It does not read, until the server has given it up.
    rig.pump(|rig| rig.server.is_empty() && rig.counters().requests == 1);
    rig.until(&mut client, |client| client.end.is_some());
    assert!(matches!(client.end, Some(End::Reset)));
    rig.empty();
}
