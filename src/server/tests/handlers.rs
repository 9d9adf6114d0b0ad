//! Where handlers run and how they fail: the pool, delayed answers, panics, giving the worker up.

use super::super::pools::WAITERS;
use super::*;
use crate::app::{
    BodyReader, Failure, Reply, Request, Response, abandon_worker, after, blocking, pooled,
};
use crate::http::Method;
use crate::pool::WAITING_PER_THREAD;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn a_pooled_handler_runs_on_the_pool_if_there_is_one() {
    let app = || {
        app().post(
            "/where",
            pooled(|request: Request| {
                let thread = std::thread::current();
                let body = String::from_utf8_lossy(request.body()).into_owned();
                format!(
                    "{} {} {body}",
                    thread.name().unwrap_or("-"),
                    request.worker()
                )
            }),
        )
    };
    let text = request("POST", "/where", "Content-Length: 4\r\n", "body");
    for threads in [0, 1, 3] {
        let mut rig = Rig::pooled(app(), Limits::default(), threads);
        let mut client = rig.connect();
        let answer = rig.ask(&mut client, &text);
        assert!(answer.text().ends_with(" 7 body"));
        assert_eq!(answer.text().starts_with("pool 7 "), threads > 0);
        rig.alive(client);
        assert_eq!(rig.counters().latency.iter().sum::<u64>(), 2);
    }
}

#[test]
fn a_handler_that_waits_runs_beside_the_pool_and_the_loop() {
    let name = || std::thread::current().name().unwrap_or("-").to_owned();
    let app = || {
        app()
            .get("/waits", blocking(move |_| name()))
            .get("/pooled", pooled(move |_| name()))
    };
    for threads in [0, 1] {
        let mut rig = Rig::pooled(app(), Limits::default(), threads);
        let mut client = rig.connect();
        let answer = rig.ask(&mut client, get("/waits"));
        assert!(answer.text().starts_with("waiter 7 "), "{}", answer.text());
        let answer = rig.ask(&mut client, get("/pooled"));
        assert_eq!(answer.text().starts_with("pool 7 "), threads > 0);
        rig.alive(client);
    }
}

#[test]
fn handlers_that_wait_hold_up_nobody_else_and_are_bounded() {
    let (begun, begins) = unbounded();
    let (release, released) = bounded::<()>(0);
    let waits = blocking(move |_| {
        begun.send(()).unwrap();
        released.recv().unwrap();
        "waited"
    });
    let app = app()
        .get("/pooled", pooled(|_| "pooled"))
        .get("/waits", waits)
        .route_streamed(Method::Post, "/read", |_, mut body: BodyReader| {
            let mut text = String::new();
            body.read_to_string(&mut text).map(|_| text).unwrap()
        });
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let all = WAITERS * (1 + WAITING_PER_THREAD);
    let mut waiting: Vec<_> = (0..WAITERS)
        .map(|_| rig.connect_after(get("/waits").as_bytes()))
        .collect();
    for _ in &waiting {
        begins.recv_timeout(PATIENCE).unwrap();
    }
    while waiting.len() < all {
        waiting.push(rig.connect_after(get("/waits").as_bytes()));
    }
    let mut late = rig.connect();
    let answer = rig.ask(&mut late, get("/waits"));
    assert_eq!((answer.status, answer.closes()), (503, false));
    assert_eq!(answer.get("retry-after"), Some("1"));
    assert_eq!(rig.ask(&mut late, get("/pooled")).text(), "pooled");
    assert_eq!(rig.ask(&mut late, get("/n/1")).text(), "1");
    let upload = "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nup";
    assert_eq!(rig.ask(&mut late, upload).text(), "up");
    let helper = std::thread::spawn(move || (0..all).for_each(|_| release.send(()).unwrap()));
    for client in &mut waiting {
        assert_eq!(rig.answer(client).text(), "waited");
    }
    helper.join().unwrap();
    drop((waiting, late));
    rig.empty();
}

/// A pooled handler that says when it begins and waits until it may end.
fn held() -> (App, Receiver<()>, Sender<()>) {
    let (begun, begins) = unbounded();
    let (release, released) = bounded(0);
    let app = app().get(
        "/held",
        pooled(move |_| {
            begun.send(()).unwrap();
            released.recv().unwrap();
            "held"
        }),
    );
    (app, begins, release)
}

#[test]
fn the_loop_goes_on_while_the_pool_works() {
    let (app, begins, release) = held();
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut slow = rig.connect();
    rig.send(&slow, get("/held"));
    rig.settle();
    begins.recv_timeout(PATIENCE).unwrap();
    assert_eq!(rig.counters().in_flight, 1);
    let mut other = rig.connect();
    assert_eq!(rig.ask(&mut other, get("/n/1")).text(), "1");
    rig.send(&slow, get("/n/2"));
    rig.settle();
    slow.read(usize::MAX);
    assert!(slow.got.is_empty());
    release.send(()).unwrap();
    assert_eq!(rig.answer(&mut slow).text(), "held");
    assert_eq!(rig.answer(&mut slow).text(), "2");
    drop(other);
    rig.pump(|rig| rig.server.connections.len() == 1);
    rig.alive(slow);
}

#[test]
fn a_full_pool_is_said_at_once_and_the_connection_goes_on() {
    let (app, begins, release) = held();
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut first = rig.connect_after(get("/held").as_bytes());
    begins.recv_timeout(PATIENCE).unwrap();
    let mut waiting: Vec<_> = (0..WAITING_PER_THREAD)
        .map(|_| rig.connect_after(get("/held").as_bytes()))
        .collect();
    assert_eq!(rig.server.pool_waiting(), WAITING_PER_THREAD);
    let mut late = rig.connect();
    let answer = rig.ask(&mut late, get("/held"));
    assert_eq!((answer.status, answer.closes()), (503, false));
    assert_eq!(answer.get("retry-after"), Some("1"));
    assert_eq!(rig.ask(&mut late, get("/n/1")).text(), "1");
    assert_eq!(rig.counters().in_flight, 1 + WAITING_PER_THREAD as u64);
    let helper = std::thread::spawn(move || {
        for _ in 0..=WAITING_PER_THREAD {
            release.send(()).unwrap();
        }
    });
    assert_eq!(rig.answer(&mut first).text(), "held");
    for client in &mut waiting {
        assert_eq!(rig.answer(client).text(), "held");
    }
    helper.join().unwrap();
    drop((first, waiting, late));
    rig.empty();
}

#[test]
fn a_job_whose_client_is_gone_before_it_begins_is_skipped() {
    let (app, begins, release) = held();
    let (ran, runs) = unbounded();
    let app = app.get(
        "/job",
        pooled(move |_| {
            ran.send(()).unwrap();
            "done"
        }),
    );
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut first = rig.connect_after(get("/held").as_bytes());
    begins.recv_timeout(PATIENCE).unwrap();
    let gone = rig.connect_after(get("/job").as_bytes());
    assert_eq!(rig.counters().in_flight, 2);
    drop(gone);
    rig.pump(|rig| rig.server.connections.len() == 1);
    assert_eq!(rig.counters().in_flight, 1);
    // Its place in the table is taken by another connection, whose answer is its own.
    let mut next = rig.connect_after(get("/held").as_bytes());
    release.send(()).unwrap();
    assert_eq!(rig.answer(&mut first).text(), "held");
    begins.recv_timeout(PATIENCE).unwrap();
    assert!(runs.try_recv().is_err());
    release.send(()).unwrap();
    assert_eq!(rig.answer(&mut next).text(), "held");
    assert_eq!(rig.ask(&mut next, get("/job")).text(), "done");
    assert_eq!(runs.len(), 1);
    drop((first, next));
    rig.empty();
}

#[test]
fn a_result_whose_client_is_gone_is_dropped() {
    let (app, begins, release) = held();
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let gone = rig.connect_after(get("/held").as_bytes());
    begins.recv_timeout(PATIENCE).unwrap();
    drop(gone);
    rig.empty();
    let mut next = rig.connect_after(get("/held").as_bytes());
    release.send(()).unwrap();
    begins.recv_timeout(PATIENCE).unwrap();
    // The first result is there by now, and is not taken for the second one's.
    rig.settle();
    next.read(usize::MAX);
    assert!(next.got.is_empty());
    release.send(()).unwrap();
    assert_eq!(rig.answer(&mut next).text(), "held");
    drop(next);
    rig.empty();
    assert_eq!(rig.counters().requests, 1);
}

#[test]
fn a_delayed_answer_takes_its_time_and_nobody_elses() {
    let long = Duration::from_millis(150);
    let app = app()
        .get("/late", move |_| after(long, || "late"))
        .get("/soon", |_| after(Duration::from_millis(1), || "soon"));
    let mut rig = Rig::new(app);
    let begun = Instant::now();
    let mut late = rig.connect_after(get("/late").as_bytes());
    let mut soon = rig.connect_after(get("/soon").as_bytes());
    let gone = rig.connect_after(get("/soon").as_bytes());
    assert_eq!(rig.counters().in_flight, 3);
    drop(gone);
    let mut other = rig.connect();
    assert_eq!(rig.ask(&mut other, get("/n/1")).text(), "1");
    assert_eq!(rig.answer(&mut soon).text(), "soon");
    assert_eq!(rig.answer(&mut late).text(), "late");
    assert!(begun.elapsed() >= long);
    drop((late, soon, other));
    rig.empty();
    assert_eq!(rig.counters().requests, 3);
}

fn panics() -> App {
    app()
        .get("/now", |_| -> &str { panic!("now") })
        .get("/pooled", pooled(|_| -> &str { panic!("pooled") }))
        .get("/blocking", blocking(|_| -> &str { panic!("blocking") }))
        .get("/after", |_| after(SHORT, || -> &str { panic!("after") }))
        .get("/wrapper", |_| "unseen")
        .get("/mapped", pooled(|_| "unseen"))
        .wrap(|request, next| {
            assert!(request.path() != "/wrapper", "wrapper");
            let mapped = request.path() == "/mapped";
            next.run(request).map(move |response| {
                assert!(!mapped, "mapped");
                response
            })
        })
}

const PANICS: [&str; 6] = [
    "/now",
    "/pooled",
    "/blocking",
    "/after",
    "/wrapper",
    "/mapped",
];

#[test]
fn a_panic_costs_one_request() {
    for threads in [0, 1] {
        let mut rig = Rig::pooled(panics(), Limits::default(), threads);
        let mut client = rig.connect();
        for path in PANICS {
            let answer = rig.ask(&mut client, get(path));
            assert_eq!((answer.status, answer.closes()), (500, false), "{path}");
            assert_eq!(answer.text(), "500 Internal Server Error\n");
            assert_eq!(rig.ask(&mut client, get("/n/1")).text(), "1");
        }
        rig.alive(client);
        assert_eq!(rig.counters().classes, [0, 7, 0, 0, 6]);
    }
}

#[test]
fn a_panic_in_the_middle_of_a_pipeline_keeps_the_order() {
    let mut rig = Rig::pooled(panics(), Limits::default(), 1);
    let mut client = rig.connect();
    let all: String = PANICS.iter().map(|path| get(path) + &get("/n/1")).collect();
    rig.send(&client, all);
    for _ in PANICS {
        assert_eq!(rig.answer(&mut client).status, 500);
        assert_eq!(rig.answer(&mut client).text(), "1");
    }
    rig.alive(client);
}

#[test]
fn a_panic_of_the_error_hook_leaves_the_plain_answer() {
    let app = panics().on_error(|_: &Failure| -> Response { panic!("hook") });
    let mut rig = Rig::pooled(app, Limits::default(), 1);
    let mut client = rig.connect();
    for path in PANICS.into_iter().chain(["/nothing"]) {
        let answer = rig.ask(&mut client, get(path));
        let status = if path == "/nothing" { 404 } else { 500 };
        assert_eq!((answer.status, answer.closes()), (status, false), "{path}");
        assert!(answer.text().starts_with(&status.to_string()));
    }
    assert_eq!(rig.ask(&mut client, "nonsense\r\n\r\n").status, 400);
}

#[test]
fn giving_the_worker_up_unwinds_out_of_the_server() {
    let app = || {
        app()
            .get("/now", |_| -> &str { abandon_worker("now") })
            .get("/pooled", pooled(|_| -> &str { abandon_worker("pooled") }))
            .get(
                "/blocking",
                blocking(|_| -> &str { abandon_worker("blocking") }),
            )
            .get("/after", |_| {
                after(SHORT, || -> &str { abandon_worker("after") })
            })
            .get("/wrapper", |_| "unseen")
            .wrap(|request, next| -> Reply {
                if request.path() == "/wrapper" {
                    abandon_worker("wrapper".to_owned());
                }
                next.run(request)
            })
    };
    for (path, threads) in [
        ("/now", 0),
        ("/pooled", 0),
        ("/pooled", 1),
        ("/blocking", 0),
        ("/after", 0),
        ("/after", 1),
        ("/wrapper", 0),
    ] {
        let mut rig = Rig::pooled(app(), Limits::default(), threads);
        let mut client = rig.connect();
        rig.send(&client, get(path));
        let unwound = catch_unwind(AssertUnwindSafe(|| rig.answer(&mut client)));
        let panic = unwound.unwrap_err();
        assert_eq!(crate::app::panic_message(&*panic), &path[1..]);
        // The client hears no answer, but the end.
        drop(rig);
        client.read(usize::MAX);
        assert!(client.got.is_empty() && client.end.is_some());
    }
}

#[test]
fn requests_tell_their_peer_and_worker() {
    let app = app().get("/peer", |request: Request| {
        format!("{:?} {}", request.peer(), request.worker())
    });
    let mut rig = Rig::new(app);
    let mut unix = rig.connect();
    assert_eq!(rig.ask(&mut unix, get("/peer")).text(), "None 7");
    let (listener, address) = listener();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let local = stream.local_addr().unwrap();
    let mut client = rig.client(stream.into());
    rig.server
        .listen(rig.reactor.registry(), listener, LISTENER)
        .unwrap();
    let answer = rig.ask(&mut client, get("/peer"));
    assert_eq!(answer.text(), format!("Some({local}) 7"));
}
