//! Times that belong to one thing and must not meet another: alarms of earlier answers, limits that
//! are nobody's fault, ends of half a connection.

use super::*;
use crate::app::{After, BodyReader, Protocol, Request, Response, Sender, after};
use crate::http::Method;
use crate::net::Line;
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::channel;

type Left<T> = Arc<Mutex<Option<T>>>;

fn taken<T>(left: &Left<T>) -> T {
    left.lock().unwrap().take().expect("it has been left")
}

/// Turns for so long.
fn pass(rig: &mut Rig, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        rig.turn_until(end);
    }
}

#[test]
fn an_earlier_answers_alarm_does_not_hurry_a_later_one() {
    let left = Left::<Sender>::default();
    let given = Arc::clone(&left);
    let app = app()
        .get("/fed", move |_| {
            let (sender, response) = Response::channel_with_heartbeat(SHORT, b":\n");
            *given.lock().unwrap() = Some(sender);
            response
        })
        .get("/after", |_| after(3 * SHORT, || "late"));
    let mut rig = Rig::new(app);
    let mut client = rig.connect();
    rig.send(&client, get("/fed"));
    rig.pump(|_| left.lock().unwrap().is_some());
    drop(taken(&left));
    assert_eq!(rig.answer(&mut client).text(), "");
    let begun = Instant::now();
    assert_eq!(rig.ask(&mut client, get("/after")).text(), "late");
    assert!(begun.elapsed() >= 3 * SHORT);
    rig.alive(client);
}

#[test]
fn a_client_is_not_blamed_while_nobody_wants_its_body() {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let app = app().route_streamed(
        Method::Post,
        "/late",
        move |_: Request, mut body: BodyReader| {
            gone.lock().unwrap().recv().unwrap();
            let mut all = Vec::new();
            body.read_to_end(&mut all).unwrap();
            Response::bytes(all)
        },
    );
    let limits = Limits {
        body_timeout: SHORT,
        ..Limits::default()
    };
    let mut rig = Rig::pooled(app, limits, 1);
    let mut client = rig.connect();
    let fields = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    rig.send(&client, request("POST", "/late", fields, ""));
    pass(&mut rig, 3 * SHORT);
    go.send(()).unwrap();
    assert_eq!(rig.answer(&mut client).status, 100);
    rig.send(&client, "body");
    assert_eq!(rig.answer(&mut client).text(), "body");
    rig.alive(client);
}

#[test]
fn a_handler_that_reads_no_more_may_take_its_time() {
    let (go, gone) = channel::<()>();
    let (begun, begins) = channel::<()>();
    let both = Mutex::new((begun, gone));
    let app = app().route_streamed(
        Method::Post,
        "/some",
        move |_: Request, mut body: BodyReader| {
            body.read_exact(&mut [0; 4]).unwrap();
            drop(body);
            let both = both.lock().unwrap();
            both.0.send(()).unwrap();
            both.1.recv().unwrap();
            "done"
        },
    );
    let limits = Limits {
        body_timeout: SHORT,
        ..Limits::default()
    };
    let mut rig = Rig::pooled(app, limits, 1);
    let mut client = rig.connect();
    let fields = "Content-Length: 400\r\n";
    rig.send(&client, request("POST", "/some", fields, "1234"));
    rig.settle();
    begins.recv().unwrap();
    pass(&mut rig, 3 * SHORT);
    rig.send(&client, "x".repeat(396));
    go.send(()).unwrap();
    assert_eq!(rig.answer(&mut client).text(), "done");
    rig.alive(client);
}

#[test]
fn half_a_connection_gets_the_whole_of_an_answer_that_ends() {
    let left = Left::<Sender>::default();
    let given = Arc::clone(&left);
    let app = app().get("/fed", move |_| {
        let (sender, response) = Response::channel();
        *given.lock().unwrap() = Some(sender);
        response
    });
    let mut rig = Rig::new(app);
    let mut client = rig.connect();
    rig.send(&client, get("/fed"));
    client.finish();
    rig.pump(|_| left.lock().unwrap().is_some());
    rig.settle();
    let sender = taken(&left);
    for word in ["one ", "two"] {
        sender.send(word).unwrap();
        rig.settle();
    }
    drop(sender);
    assert_eq!(rig.answer(&mut client).text(), "one two");
    rig.empty();
}

/// Asks for more without end, and notes what it hears.
#[derive(Default)]
struct Restless {
    line: Left<Line>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Protocol for Restless {
    fn begin(&mut self, line: Line, _: Instant) {
        *self.line.lock().unwrap() = Some(line);
    }

    fn received(&mut self, bytes: &[u8], _: Instant, _: &mut Vec<u8>) -> After {
        self.heard.lock().unwrap().extend_from_slice(bytes);
        After::Continue
    }

    fn fill(&mut self, _: Instant, _: &mut Vec<u8>) -> After {
        After::More
    }

    fn expired(&mut self, _: Instant, _: &mut Vec<u8>) -> After {
        After::Continue
    }

    fn drain(&mut self, _: Instant, _: &mut Vec<u8>) -> After {
        After::Finish
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn ended(&mut self) {}
}

#[test]
fn ringing_buys_no_more_turns() {
    let left = Left::<Line>::default();
    let given = Arc::clone(&left);
    let mut rig = Rig::new(app().get("/restless", move |_| {
        let protocol = Restless {
            line: Arc::clone(&given),
            ..Restless::default()
        };
        Response::new(200).switch("restless", Box::new(protocol))
    }));
    let mut client = rig.connect();
    let fields = "Connection: upgrade\r\nUpgrade: restless\r\n";
    rig.send(&client, request("GET", "/restless", fields, ""));
    assert_eq!(rig.answer(&mut client).status, 101);
    let line = taken(&left);
    for _ in 0..50 {
        line.ring();
        rig.turn();
        assert_eq!(rig.server.again.len(), 1);
    }
}

#[test]
fn a_body_is_not_what_another_protocol_hears() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let given = Arc::clone(&heard);
    let app = app().route_streamed(Method::Post, "/switch", move |_: Request, _: BodyReader| {
        let protocol = Restless {
            heard: Arc::clone(&given),
            ..Restless::default()
        };
        Response::new(200).switch("restless", Box::new(protocol))
    });
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut client = rig.connect();
    let fields = "Connection: upgrade\r\nUpgrade: restless\r\nContent-Length: 10\r\n";
    let answer = rig.ask(&mut client, request("POST", "/switch", fields, ""));
    assert!(answer.status == 500 && answer.closes());
    rig.send(&client, "0123456789");
    client.finish();
    rig.eof(&mut client);
    assert!(heard.lock().unwrap().is_empty());
    rig.empty();
}

#[test]
fn what_is_cut_off_in_the_end_is_in_the_log() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let log = std::fs::File::from(OwnedFd::from(writer));
    let app = app().get("/after", |_| after(Duration::from_secs(60), || "late"));
    let mut rig = Rig::new(app);
    let settings = crate::server::EdgeSettings {
        access_log: Some(Arc::new(log)),
        ..Default::default()
    };
    rig.server = rig.server.at_edge(settings);
    let client = rig.connect();
    rig.send(&client, get("/after"));
    rig.settle();
    rig.server.drain(rig.reactor.registry(), true);
    rig.settle();
    rig.server.abandon();
    drop(rig);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.contains("\"GET /after HTTP/1.1\" 499 0"), "{text:?}");
}
