//! Clusters that say goodbye to all of their workers, and clusters that ask for much at once.

use super::{Call, NO_HEARTBEAT, Reporter, say};
use mcluster::{App, Cluster, ClusterHandle, Event, Workers};

/// How many say goodbye together.
const WORKERS: usize = 3;

/// Three workers, all told to go once they listen; the callback forks another, which is told to go
/// in its turn.
pub(super) fn cluster(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let unmanaged = call.has("unmanaged");
    let mut listening = 0;
    call.cluster(App::new())
        .workers(Workers::Count(WORKERS))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            match event {
                Event::Setup { .. } if unmanaged => {
                    for _ in 0..WORKERS {
                        cluster.fork();
                    }
                }
                Event::Listening { .. } => {
                    listening += 1;
                    if listening == WORKERS {
                        cluster.disconnect(|cluster| {
                            farewell("first", cluster);
                            cluster.fork();
                        });
                    }
                    if listening == WORKERS + 1 {
                        cluster.disconnect(|cluster| farewell("second", cluster));
                    }
                }
                _ => {}
            }
        })
}

fn farewell(which: &str, cluster: &ClusterHandle) {
    say(format!("{which}: {} are left", cluster.workers().len()));
}

/// Asks, in setup, for what concerns workers that have yet to be launched. Forks another for each
/// that is gone by accident.
pub(super) fn hasty(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let what = call.words.last().cloned().unwrap_or_default();
    call.cluster(App::new())
        .managed(false)
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            if let Event::Exit {
                exited_after_disconnect: false,
                ..
            } = event
            {
                cluster.fork();
            }
            if !matches!(event, Event::Setup { .. }) {
                return;
            }
            match what.as_str() {
                "nothing" => {}
                "nobody" => cluster.disconnect(|cluster| farewell("nobody", cluster)),
                "again" => cluster.disconnect(|cluster| {
                    farewell("nobody", cluster);
                    let worker = cluster.fork();
                    worker.disconnect();
                }),
                "all" => {
                    cluster.fork();
                    cluster.disconnect(|cluster| farewell("all", cluster));
                }
                "one" => cluster.fork().disconnect(),
                "kill" => cluster.fork().kill(libc::SIGTERM),
                "stop" => {
                    cluster.fork();
                    cluster.stop();
                }
                "stop-first" => {
                    cluster.stop();
                    cluster.fork();
                }
                other => say(format!("unknown: {other}")),
            }
        })
}
