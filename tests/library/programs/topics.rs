//! What is published: every worker says what it hears.

use super::{Call, NO_HEARTBEAT, Reporter, say};
use mcluster::{
    App, Cluster, Event, MAX_MESSAGE, Publication, Request, SendError, Worker, Workers,
};
use std::path::PathBuf;
use std::time::Duration;

/// So many bytes in the message that `/large` publishes.
pub(crate) const LARGE: usize = 3_000_000;

/// So many messages `/many` has the primary publish: more than may be under way to a worker.
pub(crate) const MANY: usize = 2000;

/// Three workers that subscribe to `news`. `/publish?TOPIC=TEXT` publishes and answers with the
/// worker's number; `/large` publishes many bytes, `/primary` has the primary publish, `/many` a lot.
/// With the word `slow` worker 1 takes its time, and with `until=PATH` it waits for that file; with
/// `listening` all have a handler for messages, with `farewell` they publish when they go, and with
/// `redis=URL` other clusters hear it too.
pub(super) fn cluster(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let slow = call.has("slow");
    let (listening, farewell) = (call.has("listening"), call.has("farewell"));
    let word = |start: &str| call.words.iter().find_map(|one| one.strip_prefix(start));
    let until = word("until=").map(PathBuf::from);
    let app = App::new()
        .get("/publish", |request: Request| {
            let text = request.query().unwrap_or_default().to_owned();
            let (topic, text) = text.split_once('=').expect("a topic and a text");
            publish(topic, text.as_bytes().to_vec())
        })
        .get("/large", |_| publish("news", vec![7; LARGE]))
        .get("/primary", |_| {
            let worker = Worker::current().expect("this is its loop");
            worker.send("publish something").expect("room");
        })
        .get("/many", |_| {
            let worker = Worker::current().expect("this is its loop");
            worker.send("publish many").expect("room");
        })
        .get("/errors", |_| errors());
    #[cfg(feature = "websocket")]
    let app = app.get("/socket", socket);
    let cluster = call
        .cluster(app)
        .workers(Workers::Count(3))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(move |worker| {
            let until = until.clone();
            let heard = worker.subscribe("news", move |worker, news| {
                let is_there = || until.as_ref().is_none_or(|path| path.exists());
                while worker.id().0 == 1 && !is_there() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if slow && worker.id().0 == 1 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                hear(worker, news);
            });
            heard.expect("a topic");
            if listening {
                worker.on_message(|_, message| panic!("{message:?}"));
            }
            if farewell {
                worker.on_disconnect(|worker, _| {
                    let text = format!("goodbye of {}", worker.id());
                    assert_eq!(worker.publish("news", text), Ok(true));
                });
            }
        })
        .on_event(move |cluster, event| {
            match event {
                Event::Message { message, .. } if message.text() == Some("publish many") => {
                    for _ in 0..MANY {
                        let sent = cluster.publish("news", vec![7; 1000]);
                        assert!(sent.is_ok(), "{sent:?}");
                    }
                }
                Event::Message { .. } => {
                    assert_eq!(cluster.publish("news", "from the primary"), Ok(true));
                }
                _ => {}
            }
            reporter.tell(cluster, event);
        });
    #[cfg(feature = "redis")]
    if let Some(url) = word("redis=") {
        return cluster.publish_through(url);
    }
    cluster
}

fn hear(worker: &Worker, news: &Publication) {
    let what = match news.text() {
        Some(text) if news.bytes().len() < 100 => text.to_owned(),
        _ => format!("{} bytes", news.bytes().len()),
    };
    assert_eq!(news.topic(), "news");
    say(format!("heard {} {what}", worker.id()));
}

fn publish(topic: &str, message: Vec<u8>) -> String {
    let worker = Worker::current().expect("this is its loop");
    let sent = worker.publish(topic, message);
    assert!(sent.is_ok(), "{sent:?}");
    worker.id().to_string()
}

fn errors() -> &'static str {
    let worker = Worker::current().expect("this is its loop");
    let large = worker.publish("news", vec![0; MAX_MESSAGE]);
    assert!(matches!(large, Err(SendError::TooLarge(_))), "{large:?}");
    let none = worker.publish("", "text");
    assert!(matches!(none, Err(SendError::Topic(_))), "{none:?}");
    "as they should be"
}

/// `join TOPIC`, `leave TOPIC`, `say TOPIC TEXT`, `bytes TOPIC`; the first two are answered.
#[cfg(feature = "websocket")]
fn socket(request: Request) -> mcluster::ws::Upgrade {
    let id = request.worker();
    mcluster::ws::upgrade(&request)
        .ping_every(Duration::ZERO)
        .on_message(move |socket, message| {
            let words: Vec<_> = message.text().unwrap_or_default().splitn(3, ' ').collect();
            match words[..] {
                ["join", topic] => {
                    socket.subscribe(topic).expect("few topics");
                    let _ = socket.send(format!("joined at {id}"));
                }
                ["leave", topic] => {
                    assert!(socket.unsubscribe(topic));
                    let _ = socket.send("left");
                }
                ["say", topic, text] => drop(publish(topic, text.as_bytes().to_vec())),
                ["bytes", topic] => drop(publish(topic, vec![0xff, 0])),
                _ => panic!("{message:?}"),
            }
        })
}
