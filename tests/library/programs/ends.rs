//! One worker, and every way to end it: by a request, by a signal, or by what the primary is told
//! in a message.

use super::{Call, NO_HEARTBEAT, Reporter, say};
use mcluster::{App, Cluster, ClusterHandle, Event, SendError, Worker, Workers, abandon_worker};

pub(super) fn cluster(call: &Call) -> Cluster {
    let here = || Worker::current().expect("a handler runs in a worker");
    let app = App::new()
        .get("/", |_| "served\n")
        .get("/tell", move |request| {
            let words = request.query().unwrap_or_default().to_owned();
            match here().send(words) {
                Ok(_) => "told\n".to_owned(),
                Err(error) => format!("{error}\n"),
            }
        })
        .get("/leave", move |_| {
            here().disconnect();
            "leaving\n"
        })
        .get("/abort", |_| -> &str { std::process::abort() })
        .get("/panic", |_| -> &str { abandon_worker("enough") })
        .get("/exit", |_| -> &str {
            #[allow(clippy::disallowed_methods, reason = "what users may do is tested")]
            std::process::exit(7)
        });
    let mut reporter = Reporter::default();
    let unmanaged = call.has("unmanaged");
    call.cluster(app)
        .workers(Workers::Count(1))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(|worker| {
            worker.on_disconnect(|worker, reason| {
                let told = worker.exited_after_disconnect();
                let connected = worker.is_connected();
                say(format!(
                    "worker {} stops: {reason:?}, voluntary {told}, connected {connected}",
                    worker.id(),
                ));
                if !connected {
                    let error = worker.send("too late").unwrap_err();
                    assert!(matches!(error, SendError::Gone(_)), "{error}");
                }
            });
        })
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            match event {
                Event::Setup { .. } if unmanaged => {
                    cluster.fork();
                }
                Event::Message { worker, message } => {
                    let worker = cluster.worker(*worker).expect("it lives");
                    obey(cluster, &worker, message.text().unwrap_or_default());
                }
                Event::Exit { worker, .. } => {
                    let error = reporter.handle(*worker).send("anybody?").unwrap_err();
                    assert!(matches!(error, SendError::Gone(_)), "{error}");
                }
                _ => {}
            }
        })
}

fn obey(cluster: &ClusterHandle, worker: &mcluster::WorkerHandle, words: &str) {
    match words {
        "disconnect" => worker.disconnect(),
        "disconnect-all" => cluster.disconnect(|_| say("all are gone")),
        "kill-15" => worker.kill(libc::SIGTERM),
        "kill-9" => worker.kill(libc::SIGKILL),
        "stop" => cluster.stop(),
        other => say(format!("unknown: {other}")),
    }
}

/// A cluster that is told to reload as soon as it serves, and again the moment that the first worker
/// of that is gone: one that never listens.
pub(super) fn reloads(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    call.cluster(App::new())
        .workers(Workers::Count(1))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_worker(|worker| {
            if worker.id().0 == 2 {
                abandon_worker("not today");
            }
        })
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            match event {
                Event::Ready { .. } => cluster.reload(),
                Event::Exit { worker, .. } if worker.0 == 2 => cluster.reload(),
                _ => {}
            }
        })
}
