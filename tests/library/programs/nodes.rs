//! A cluster whose workers are Node programs. It does what they ask for by messages, so that a
//! request to one of them is a request to the primary.

use super::{Call, Reporter};
use mcluster::{Cluster, ClusterHandle, Event, Program, WorkerId, Workers};
use std::time::Duration;

/// The first word is the script; the others are settings.
pub(crate) fn cluster(call: &Call) -> Cluster {
    let (script, words) = call.words.split_first().expect("a script");
    let millis = |text: &str| Duration::from_millis(text.parse().expect("milliseconds"));
    let mut program = Program::node(script).listen_timeout(Duration::from_secs(10));
    let (mut workers, mut schedule, mut drain) = (2, "rr", Duration::from_secs(10));
    for word in words {
        match word.split_once('=') {
            Some(("workers", count)) => workers = count.parse().expect("a number"),
            Some(("schedule", policy)) => schedule = policy,
            Some(("timeout", time)) => program = program.listen_timeout(millis(time)),
            Some(("delay", time)) => program = program.restart_delay(millis(time)),
            Some(("drain", time)) => drain = millis(time),
            Some(("env", name)) => program = program.env(name, "1"),
            _ if word == "wait-ready" => program = program.wait_ready(true),
            _ => panic!("no setting {word:?}"),
        }
    }
    let mut reporter = Reporter::default();
    Cluster::of_program(program)
        .workers(Workers::Count(workers))
        .schedule(schedule.parse().expect("a policy"))
        .drain_timeout(drain)
        .on_event(move |cluster, event| {
            reporter.tell(cluster, event);
            if let Event::Message { worker, message } = event {
                obey(cluster, *worker, message.text().unwrap_or_default());
            }
        })
}

fn obey(cluster: &ClusterHandle, worker: WorkerId, json: &str) {
    super::say(format!("{worker} says {json}"));
    let handle = cluster.worker(worker).expect("who says something is there");
    match json.trim_matches('"') {
        "disconnect me" => handle.disconnect(),
        "disconnect all" => cluster.disconnect(|_| super::say("all are gone")),
        "tell me" => assert!(handle.send("a word").is_ok()),
        "reload" => cluster.reload(),
        word => {
            if let Some(policy) = word.strip_prefix("schedule ") {
                cluster.set_schedule(policy.parse().expect("a policy"));
            }
        }
    }
}
