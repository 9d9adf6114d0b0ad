//! Programs of another kind as workers: each says by a pipe what it was given.

use super::{Call, Reporter};
use mcluster::{Cluster, Event, Program, Protocol};
use std::time::Duration;

/// Says what it was given, each command opening the pipe for itself; where that would show, in
/// another shell.
const FACTS: &str = r#"
    (ls -l /proc/$$/fd >"$1")
    grep '^Sig[BI]' /proc/self/status >"$1"
    cut -d' ' -f5 /proc/$$/stat | sed 's/^/group /' >"$1"
    (sed -n 's/^flags:/stdout/p' /proc/$$/fdinfo/1 >"$1")
    env >"$1"
    echo "nice $(nice)" >"$1"
    pwd -P >"$1"
    echo "pid $$" >"$1"
"#;

/// And then waits, as does a child, which has another pipe open for as long as it lives.
const PARENT: &str = r#"
    exec 9>"$2"
    sleep 1000 &
    exec 9>&-
    echo "lives" >"$1"
    wait
"#;

/// And then has the other pipe open for as long as it lives.
const ALONE: &str = r#"
    exec 9>"$2"
    echo "lives" >"$1"
    exec sleep 1000
"#;

/// Words: how it is spoken to, what it does then, and its pipes; or what cannot be executed.
pub(super) fn cluster(call: &Call) -> Cluster {
    let mut reporter = Reporter::default();
    let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    let (program, listens) = match words[..] {
        ["missing"] => (Program::new("/no/such/program", Protocol::Sockets), false),
        ["nowhere"] => (Program::node("app.js").directory("/no/such/place"), false),
        ["unsearched"] => {
            let program = Program::new("sh", Protocol::Sockets).env_clear();
            (program.env("PATH", "/no/such/place"), false)
        }
        [protocol, then, facts, life] => {
            let protocol = match protocol {
                "node" => Protocol::Node,
                _ => Protocol::Sockets,
            };
            let script = match then {
                "parent" => [FACTS, PARENT].concat(),
                _ => [FACTS, ALONE].concat(),
            };
            let program = Program::new("sh", protocol);
            let program = program.args(["-c", &script, "sh", facts, life]);
            let program = program.env("A", "1").env("B", "1").env("C", "1");
            (program.directory("/"), protocol == Protocol::Sockets)
        }
        _ => panic!("{words:?}"),
    };
    let cluster = Cluster::of_program(program)
        .mode(call.mode)
        .managed(false)
        .drain_timeout(Duration::from_secs(1))
        .nice(1)
        .env("B", "2")
        .env("C", "2");
    let cluster = match listens {
        true => cluster.listen("127.0.0.1:0").listen("127.0.0.1:0"),
        false => cluster.listen_by_workers(),
    };
    cluster.on_event(move |cluster, event| {
        reporter.tell(cluster, event);
        if matches!(event, Event::Setup { .. }) {
            cluster.fork_with([("C", "3")]);
        }
    })
}
