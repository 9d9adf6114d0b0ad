//! Counters in sessions, in the store that the words name.

use super::{Call, NO_HEARTBEAT, Reporter};
use mcluster::session::{Keys, MemoryStore, Session, SessionError, Sessions, SharedStore};
use mcluster::{App, Cluster, Workers};
use std::process;

/// Eight workers. `/more` adds one to the session's counter, `/count` only tells: the number, and the worker's process.
/// The store is `memory`, or the file that is named.
pub(super) fn cluster(call: &Call) -> Cluster {
    let keys = Keys::from_text("tests-tests-tests-tests-tests-32").expect("long enough");
    let sessions = match call.words[0].as_str() {
        "memory" => Sessions::new(MemoryStore::new(), keys),
        path => Sessions::new(SharedStore::open(path).expect("a store"), keys),
    };
    let app = App::new()
        .get("/more", sessions.with(|_, session| more(session)))
        .get("/count", sessions.with(|_, session| told(session.data())));
    let mut reporter = Reporter::default();
    call.cluster(app)
        .workers(Workers::Count(8))
        .listen("127.0.0.1:0")
        .worker_timeout(NO_HEARTBEAT)
        .on_event(move |cluster, event| reporter.tell(cluster, event))
}

fn more(session: &mut Session) -> Result<String, SessionError> {
    let more = |data: &[u8]| (count(data) + 1).to_string().into_bytes();
    Ok(told(session.update(more)?))
}

fn count(data: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(data);
    text.parse().unwrap_or_default()
}

fn told(data: &[u8]) -> String {
    format!("{} {}", count(data), process::id())
}
