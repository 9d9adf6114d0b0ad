//! A room over all workers: what one connection says, all hear; and what threads send by
//! themselves.

use super::{Call, NO_HEARTBEAT, Reporter, say};
use mcluster::{App, Cluster, Event, Request, Worker, Workers, ws};
use std::time::Duration;

/// So many bytes in the message that `large` asks for.
pub(crate) const LARGE: usize = 3_000_000;

/// Three workers. On `/room` a text is sent to all connections, but for `large` (as many bytes),
/// `primary` (the primary says something to all) and `who` (the worker's number comes back).
pub(super) fn cluster(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let app = App::new()
        .get("/room", room)
        .get("/threads", threads)
        .get("/panic", |request: Request| {
            ws::upgrade(&request).on_message(|_, _| panic!("on purpose"))
        });
    call.cluster(app)
        .workers(Workers::Count(3))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_event(move |cluster, event| {
            if let Event::Message { .. } = event {
                let room = cluster.broadcast("from the primary");
                assert_eq!(room, Ok(true));
            }
            reporter.tell(cluster, event);
        })
}

fn room(request: Request) -> ws::Upgrade {
    let upgrade = ws::upgrade(&request)
        .protocols(["room.2", "room"])
        .ping_every(Duration::ZERO);
    let id = request.worker();
    upgrade
        .on_open(|socket| {
            let _ = socket.send(format!("speaking {:?}", socket.protocol()));
        })
        .on_message(move |socket, message| {
            let worker = Worker::current().expect("this is its loop");
            let sent = match message.text() {
                Some("who") => socket.send(id.to_string()),
                Some("large") => worker.broadcast(vec![7; LARGE]),
                Some("primary") => {
                    worker.send("say something").expect("room");
                    Ok(true)
                }
                _ => worker.broadcast(message),
            };
            assert!(sent.is_ok(), "{sent:?}");
        })
        .on_close(|_, reason| say(format!("closed {reason}")))
}

/// Four threads send at once, each in its order, as much as is taken; the last one closes.
fn threads(request: Request) -> ws::Upgrade {
    ws::upgrade(&request).on_open(|socket| {
        for name in ["a", "b", "c", "d"] {
            let socket = socket.clone();
            std::thread::spawn(move || {
                for number in 0..1000 {
                    while socket.buffered() > 100_000 {
                        std::thread::yield_now();
                    }
                    if socket.send(format!("{name} {number}")).is_err() {
                        return;
                    }
                }
            });
        }
    })
}
