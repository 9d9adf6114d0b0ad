//! Messages both ways: of every kind and size, early and late, to all, and floods of them.

use super::{Call, NO_HEARTBEAT, Reporter, say};
use mcluster::{
    App, Cluster, ClusterHandle, Event, MAX_MESSAGE, Message, SendError, Worker, WorkerHandle,
    Workers,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// So many small messages are a flood.
pub(crate) const FLOOD: u64 = 1_000_000;

fn here() -> Worker {
    Worker::current().expect("a handler runs in a worker")
}

/// So many bytes, of which no two parts are the same for long.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = count as u64 | 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// What is said in `echo`.
fn sayings() -> Vec<Message> {
    #[allow(unused_mut, reason = "without JSON nothing is added")]
    let mut all = vec![
        Message::from("text, with an ä"),
        Message::from(Vec::from_iter(0..=255u8)),
        Message::from(""),
        Message::from(bytes(10_000_000)),
        Message::from("between"),
        Message::from(bytes(16 * 1024)),
        Message::from(bytes(MAX_MESSAGE)),
        Message::from("last"),
    ];
    #[cfg(feature = "json")]
    {
        let value = ("visits", 3, vec![Some(1.5), None]);
        let json = Message::json(&value).expect("it has a form in JSON");
        let back: (String, u32, Vec<Option<f64>>) = json.parse().expect("the same type");
        assert_eq!((back.0.as_str(), back.1, back.2), value);
        assert!(json.parse::<u32>().is_err());
        all.insert(3, json);
    }
    all
}

/// The primary says everything at once, before the worker is launched; the worker says it back.
pub(super) fn echo(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let mut expected: VecDeque<Message> = sayings().into();
    call.cluster(App::new())
        .managed(false)
        .listen_by_workers()
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(|worker| {
            let large = Message::from(vec![7; MAX_MESSAGE + 1]);
            say_refused("worker", worker.send(large.clone()), &large);
            worker.on_message(|worker, message| {
                let sent = worker.send(message);
                assert!(sent.is_ok(), "{sent:?}");
            });
        })
        .on_event(move |cluster, event| match event {
            Event::Setup { .. } => {
                reporter.tell(cluster, event);
                let worker = cluster.fork();
                let large = Message::from(vec![7; MAX_MESSAGE + 1]);
                say_refused("primary", worker.send(large.clone()), &large);
                for message in &expected {
                    let sent = worker.send(message.clone());
                    assert!(sent.is_ok(), "{sent:?}");
                }
            }
            Event::Message { message, .. } => {
                let wanted = expected.pop_front();
                say(format!(
                    "same {}: {message:?}",
                    wanted.as_ref() == Some(message)
                ));
                if expected.is_empty() {
                    cluster.stop();
                }
            }
            _ => reporter.tell(cluster, event),
        })
}

fn say_refused(who: &str, sent: Result<bool, SendError>, message: &Message) {
    match sent {
        Err(SendError::TooLarge(back)) => {
            say(format!("{who}: too large, back {}", back == *message));
        }
        other => say(format!("{who}: {other:?}")),
    }
}

/// The worker does not listen to messages until it is told by a request; the primary says as much
/// as there is room for, and one more when there is room again.
pub(super) fn late(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let app = App::new().get("/", |_| "served\n").get("/hear", |_| {
        let mut next = 0;
        here().on_message(move |_, message| {
            let number: Option<u64> = message.text().and_then(|text| {
                let digits = text.trim_end_matches('.');
                digits.parse().ok()
            });
            match number {
                Some(number) if number == next => next += 1,
                None => say(format!("heard {next}, then {:?}", message.text())),
                other => say(format!("{other:?} in place of {next}")),
            }
        });
        "listening to messages\n"
    });
    call.cluster(app)
        .workers(Workers::Count(1))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            match event {
                Event::Fork { worker } => {
                    let worker = cluster.worker(*worker).expect("it was forked");
                    let mut sent = 0;
                    let numbered = |number: u64| format!("{number}{}", ".".repeat(1000));
                    while worker.send(numbered(sent)).expect("there is room") {
                        sent += 1;
                    }
                    say(format!("pause after {}", sent + 1));
                }
                Event::Drain { worker } => {
                    let worker = cluster.worker(*worker).expect("it lives");
                    let room = worker.send("the end").expect("there is room");
                    say(format!("room again: {room}"));
                }
                _ => {}
            }
        })
}

/// What is said right before leaving arrives, in both directions, and before the news of it.
pub(super) fn last(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let kept: Arc<Mutex<Option<Worker>>> = Arc::default();
    let leaving = Arc::clone(&kept);
    let app = App::new().get("/bye", |_| {
        let sent = here().send("bye");
        assert!(sent.is_ok(), "{sent:?}");
        "bye\n"
    });
    let app = app.get("/leave", move |_| {
        let worker = here();
        worker.on_disconnect(|worker, _| {
            let sent = worker.send("from the callback");
            assert!(sent.is_ok(), "{sent:?}");
        });
        let sent = worker.send(bytes(5_000_000));
        assert!(sent.is_ok(), "{sent:?}");
        let sent = worker.send("goodbye");
        assert!(sent.is_ok(), "{sent:?}");
        worker.disconnect();
        *leaving.lock().expect("nobody panicked") = Some(worker);
        "leaving\n"
    });
    call.cluster(app)
        .managed(false)
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(|worker| {
            worker.on_message(|worker, message| {
                let right = message == Message::from(bytes(5_000_000));
                let text = message.text().filter(|text| text.len() < 100);
                say(format!("worker {} heard {right}, {text:?}", worker.id()));
            });
        })
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            match event {
                Event::Setup { .. } => {
                    cluster.fork();
                }
                Event::Message { worker, message } => {
                    let right = *message == Message::from(bytes(5_000_000));
                    let text = message.text().filter(|text| text.len() < 100);
                    say(format!("right {right}, {text:?}"));
                    if text == Some("bye") {
                        let worker = cluster.worker(*worker).expect("it lives");
                        // Far more than can be under way when it is told to go.
                        let large = worker.send(bytes(5_000_000));
                        assert_eq!(large, Ok(false));
                        let sent = worker.send("goodbye, worker");
                        assert!(sent.is_ok(), "{sent:?}");
                        worker.disconnect();
                    }
                }
                Event::Exit { .. } => {
                    // In threads mode the worker left its handle here.
                    if let Some(worker) = kept.lock().expect("nobody panicked").take() {
                        let gone = matches!(worker.send("anybody?"), Err(SendError::Gone(_)));
                        say(format!("the worker's own handle: gone {gone}"));
                    }
                }
                _ => {}
            }
        })
}

/// A million small messages each way, sent as fast as there is room.
pub(super) fn flood(call: &Call) -> Cluster {
    let go = Arc::new(AtomicBool::new(false));
    let app = App::new().get("/", |_| "served\n").get("/go", {
        let go = Arc::clone(&go);
        move |_| {
            go.store(true, Ordering::Relaxed);
            let sent = here().send("go");
            assert!(sent.is_ok(), "{sent:?}");
            "going\n"
        }
    });
    let mut reporter = Reporter::default();
    let (mut next, mut pauses, mut sent) = (0, 0, 0);
    call.cluster(app)
        .workers(Workers::Count(1))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(|worker| {
            let mut heard = 0;
            let sent = Arc::new(AtomicU64::new(0));
            let (on_drain, pauses) = (Arc::clone(&sent), Arc::new(AtomicU64::new(0)));
            let paused = Arc::clone(&pauses);
            worker.on_drain(move |worker| {
                paused.fetch_add(1, Ordering::Relaxed);
                pour(&on_drain, |number| worker.send(number.to_string()));
            });
            worker.on_message(move |worker, message| {
                check(&mut heard, &message);
                if heard == 1 {
                    pour(&sent, |number| worker.send(number.to_string()));
                }
                if heard == FLOOD {
                    let pauses = pauses.load(Ordering::Relaxed);
                    say(format!("worker heard {heard}, {pauses} pauses so far"));
                }
            });
        })
        .on_event(move |cluster, event| match event {
            Event::Message { worker, message } => {
                let worker = cluster.worker(*worker).expect("it lives");
                if message.text() == Some("go") {
                    return pour_more(&worker, &mut sent);
                }
                check(&mut next, message);
                if next == FLOOD {
                    say(format!("primary heard {next}, {pauses} pauses so far"));
                }
            }
            Event::Drain { worker } => {
                pauses += 1;
                let worker = cluster.worker(*worker).expect("it lives");
                pour_more(&worker, &mut sent);
            }
            _ => reporter.tell(cluster, event),
        })
}

fn check(next: &mut u64, message: &Message) {
    let number = message.text().and_then(|text| text.parse().ok());
    if number != Some(*next) {
        say(format!("{message:?} in place of {next}"));
    }
    *next += 1;
}

/// Sends numbers until there is no more room, or all are sent.
fn pour(sent: &AtomicU64, send: impl Fn(u64) -> Result<bool, SendError>) {
    loop {
        let number = sent.load(Ordering::Relaxed);
        if number == FLOOD {
            return;
        }
        let room = send(number).expect("there is room");
        sent.store(number + 1, Ordering::Relaxed);
        if !room {
            return;
        }
    }
}

fn pour_more(worker: &WorkerHandle, sent: &mut u64) {
    let count = AtomicU64::new(*sent);
    pour(&count, |number| worker.send(number.to_string()));
    *sent = count.into_inner();
}

/// Says something to all three workers once they listen; they say it back.
pub(super) fn to_all(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let said = Rc::new(RefCell::new(0));
    call.cluster(App::new())
        .workers(Workers::Count(3))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(|worker| {
            worker.on_message(|worker, message| {
                let sent = worker.send(message);
                assert!(sent.is_ok(), "{sent:?}");
            });
        })
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            match event {
                Event::Ready { .. } => {
                    assert_eq!(cluster.send_all("hello, all"), Ok(true));
                    let large = vec![0; MAX_MESSAGE + 1];
                    assert!(matches!(
                        cluster.send_all(large),
                        Err(SendError::TooLarge(_))
                    ));
                }
                Event::Message { worker, message } => heard(cluster, *worker, message, &said),
                _ => {}
            }
        })
}

fn heard(
    cluster: &ClusterHandle,
    worker: mcluster::WorkerId,
    message: &Message,
    count: &RefCell<u32>,
) {
    say(format!("{worker} said {:?}", message.text()));
    *count.borrow_mut() += 1;
    if *count.borrow() == 3 {
        cluster.stop();
    }
}
