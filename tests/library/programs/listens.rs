//! Workers that say by themselves where they listen. Each has a listener of its own for requests
//! that tell it what to do.

use super::{Call, NO_HEARTBEAT, Reporter, say};
use mcluster::{
    App, Cluster, ClusterHandle, Event, Request, SchedulingPolicy, Worker, Workers, pooled,
};
use std::io;
use std::time::Duration;

fn here() -> Worker {
    Worker::current().expect("a handler runs in a worker")
}

fn words(request: &Request) -> String {
    request.query().unwrap_or_default().to_owned()
}

fn app() -> App {
    let current = |_| match Worker::current() {
        Some(worker) => format!("worker {}\n", worker.id()),
        None => "none\n".to_owned(),
    };
    App::new()
        .get("/current", current)
        .get("/pooled", pooled(current))
        .get("/env", |request| match std::env::var(words(&request)) {
            Ok(value) => format!("{value}\n"),
            Err(_) => "not set\n".to_owned(),
        })
        .get("/listen", |request| {
            let address = words(&request);
            answer(here().listen(&address, told(address.clone())))
        })
        .get("/alone", |request| {
            let address = words(&request);
            answer(here().listen_exclusive(&address, told(address.clone())))
        })
        .get("/tell", |request| {
            let sent = here().send(words(&request));
            assert!(sent.is_ok(), "{sent:?}");
            "told\n"
        })
        .get("/leave", |_| {
            here().disconnect();
            "leaving\n"
        })
}

fn answer(asked: Result<(), String>) -> String {
    match asked {
        Ok(()) => "asked\n".to_owned(),
        Err(why) => format!("{why}\n"),
    }
}

/// Says what has come of a wish to listen at `address`.
fn told(address: String) -> impl FnOnce(&Worker, io::Result<String>) + Send + 'static {
    move |worker, outcome| {
        assert_eq!(Worker::current().map(|one| one.id()), Some(worker.id()));
        let what = match outcome {
            Ok(real) => real,
            Err(error) => format!("{:?}", error.kind()),
        };
        say(format!("worker {} at {address}: {what}", worker.id()));
    }
}

/// As many workers as the last word says. The cluster itself listens nowhere, unless the words have
/// `configured`; and the workers nowhere, if they have `nowhere`.
pub(super) fn cluster(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let count = call.words.last().and_then(|word| word.parse().ok());
    let nowhere = call.has("nowhere");
    let cluster = call.cluster(app());
    let cluster = match call.has("configured") {
        true => cluster.listen("127.0.0.1:0"),
        false => cluster.listen_by_workers(),
    };
    let cluster = match call.has("reuseport") {
        true => cluster.schedule(SchedulingPolicy::ReusePort),
        false => cluster,
    };
    let cluster = match nowhere {
        // Whoever does not listen in that time would be killed.
        true => cluster.start_timeout(Duration::from_secs(5)),
        false => cluster,
    };
    cluster
        .workers(Workers::Count(count.unwrap_or(1)))
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(move |worker| {
            if !nowhere {
                let asked = worker.listen_exclusive("127.0.0.1:0", told("home".to_owned()));
                assert_eq!(asked, Ok(()));
            }
        })
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            if matches!(event, Event::Setup { .. }) {
                say(format!("in the primary: {:?}", Worker::current()));
            }
            obey(cluster, event, nowhere);
        })
}

fn obey(cluster: &ClusterHandle, event: &Event, nowhere: bool) {
    match event {
        Event::Message { message, .. } if message.text() == Some("reload") => cluster.reload(),
        Event::Ready { .. } if nowhere => cluster.reload(),
        Event::Reload { reload } if nowhere && *reload != mcluster::Reload::Began => {
            cluster.stop();
        }
        _ => {}
    }
}

/// Two workers, the second with variables of its own; then one whose variable makes no sense.
pub(super) fn with_env(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let cluster = call
        .cluster(app())
        .managed(false)
        .listen_by_workers()
        .worker_timeout(NO_HEARTBEAT);
    let cluster = match call.mode {
        mcluster::Mode::Processes => cluster.env("FOR_ALL", "all"),
        mcluster::Mode::Threads => cluster,
    };
    cluster
        .on_worker(|worker| {
            let asked = worker.listen_exclusive("127.0.0.1:0", told("home".to_owned()));
            assert_eq!(asked, Ok(()));
        })
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            if matches!(event, Event::Setup { .. }) {
                cluster.fork();
                cluster.fork_with([("A", "b"), ("FOR_ALL", "mine")]);
                cluster.fork_with([("A=B", "c")]);
            }
        })
}
