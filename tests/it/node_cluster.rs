//! What Node's own tests of its cluster say of workers, as scenarios of our own under this primary:
//! events and their order, ends of every kind, messages, limits, TLS.
//!
//! `tests/programs/scenes.js` has the workers' halves. Where they listen, in every variant, is
//! `node_listens`.

use crate::client::Client;
use crate::node::{App, Setting, certificate, is_foreign, node_is_there, output_of, program};
use crate::support::{Worker, wait_until};
use crate::watch;
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

fn scene(name: &str) -> Setting {
    Setting::new().env("SCENE", name)
}

/// Waits until a worker has ended, and how.
#[track_caller]
fn end_of(app: &App, pid: i32) -> String {
    app.server.log.find(0, |line| {
        let (_, rest) = Worker::of_line(line).filter(|(who, _)| who.pid == pid)?;
        let is_end = rest.starts_with("died: ") || rest.starts_with("exited: ");
        let how = rest.split(';').next().unwrap_or_default();
        is_end.then(|| how.to_owned())
    })
}

#[track_caller]
fn id_of(app: &App, pid: i32) -> u32 {
    app.server.log.find(0, |line| {
        let (who, _) = Worker::of_line(line)?;
        (who.pid == pid).then_some(who.id)
    })
}

/// test-cluster-basic, -worker-init, -fork-env, -setup-primary-argv: who one is.
#[test]
fn workers_know_who_they_are() {
    if !node_is_there() {
        return;
    }
    let app = scene("facts").start("scenes.js", &["--", "one", "--two", "th ree"]);
    for worker in app.server.workers() {
        let said = |words: &str| app.said_by(worker.id, words);
        assert_eq!(said("roles"), "false true false true");
        assert_eq!(said("state"), "online true false undefined");
        assert_eq!(said("left"), "nothing");
        assert_eq!(said("arguments"), r#"["one","--two","th ree"]"#);
        assert_eq!(said("child"), "true undefined");
        // Ids are from 1, places from 0.
        assert_eq!(said("id"), format!("{0} {1}", worker.id, worker.id - 1));
    }
    // Each is online before it listens.
    let lines = app.server.log.all();
    for worker in app.server.workers() {
        let mut said = lines.iter().filter_map(|line| Worker::of_line(line));
        let mut words = said.by_ref().filter(|(who, _)| *who == worker);
        assert!(words.any(|(_, rest)| rest.starts_with("is online")));
        assert!(words.any(|(_, rest)| rest.starts_with("is listening")));
    }
    app.stop();
}

/// How a worker ends that is asked for something: what is asked, how it ends, what it says.
const ENDS: [(&str, &str, &[&str]); 12] = [
    // test-cluster-worker-disconnect, -kill-disconnect
    (
        "/disconnect",
        "exited: code 0",
        &["worker disconnect false true", "exit 0 true"],
    ),
    ("/twice", "exited: code 0", &["exit 0 true"]),
    // test-cluster-call-and-destroy, -worker-destroy
    ("/destroy", "exited: code 0", &["exit 0 true"]),
    ("/kill", "exited: code 0", &["exit 0 true"]),
    // test-cluster-process-disconnect
    (
        "/process",
        "exited: code 0",
        &["worker disconnect false undefined", "exit 0 undefined"],
    ),
    // test-cluster-worker-exit, -worker-death
    ("/exit", "exited: code 0", &["exit 0 undefined"]),
    ("/exit3", "died: code 3", &["exit 3 undefined"]),
    // test-cluster-uncaught-exception, and the default
    ("/throw", "died: code 1", &["exit 1 undefined"]),
    ("/reject", "died: code 1", &["exit 1 undefined"]),
    ("/abort", "died: signal 6 (SIGABRT)", &[]),
    // test-cluster-rr-handle-close, -rr-handle-ref-unref
    ("/close", "exited: code 0", &["exit 0"]),
    ("/unref", "exited: code 0", &["exit 0"]),
];

#[test]
fn workers_end_in_every_way() {
    if !node_is_there() {
        return;
    }
    for (ask, how, says) in ENDS {
        let app = scene("goes").start("scenes.js", &[]);
        let address = app.address();
        let answer = Client::connect(address).unwrap().get(ask).unwrap();
        let pid: i32 = answer.text().parse().unwrap();
        assert_eq!(end_of(&app, pid), how, "{ask}");
        let id = id_of(&app, pid);
        for line in says {
            app.said_by(id, line);
        }
        if how.starts_with("died: code 1") {
            // On one line of what it wrote to its standard error.
            let words = "by the application";
            app.server
                .log
                .find(0, |line| output_of(line)?.1.contains(words).then_some(()));
        }
        // Another takes its place, and both answer.
        let workers = app.server.wait_for_workers(2);
        assert!(workers.iter().all(|worker| worker.id != id), "{ask}");
        app.all_answer(address, &workers);
        app.stop();
    }
}

/// test-cluster-uncaught-exception: a handler decides.
#[test]
fn a_handler_of_exceptions_decides_the_code() {
    if !node_is_there() {
        return;
    }
    let app = scene("caught").launch("scenes.js", &[]);
    for id in 1..=2 {
        app.server.log.find(0, |line| {
            let (who, rest) = Worker::of_line(line)?;
            (who.id == id && rest.starts_with("died: code 42")).then_some(())
        });
    }
    app.server.wait_for_workers(2);
    app.stop();
}

/// test-cluster-worker-kill, -worker-kill-signal.
#[test]
fn a_killed_worker_is_replaced() {
    if !node_is_there() {
        return;
    }
    let app = scene("told").start("scenes.js", &[]);
    for (signal, how) in [
        (Signal::SIGKILL, "died: signal 9 (SIGKILL)"),
        (Signal::SIGTERM, "died: signal 15 (SIGTERM)"),
    ] {
        let worker = app.server.workers()[0];
        worker.signal(signal);
        assert_eq!(end_of(&app, worker.pid), how);
        let workers = app.server.wait_for_workers(2);
        app.all_answer(app.address(), &workers);
    }
    app.stop();
}

/// test-cluster-disconnect, -worker-disconnect: told to go, a worker closes its servers and its channel, and
/// ends by itself.
#[test]
fn workers_that_are_told_to_go_do_so_in_order() {
    if !node_is_there() {
        return;
    }
    for policy in ["rr", "shared"] {
        let app = scene("told").start("scenes.js", &["--schedule", policy]);
        let before = app.server.workers();
        app.reload();
        for worker in before {
            assert_eq!(end_of(&app, worker.pid), "exited: code 0");
            assert_eq!(app.said_by(worker.id, "process disconnect"), "false");
            assert_eq!(app.said_by(worker.id, "worker disconnect"), "false true");
            assert_eq!(app.said_by(worker.id, "exit"), "0 true");
            app.said_by(worker.id, "closed");
        }
        let ended = app.stop();
        let died = ended.log.iter().any(|line| line.contains("died: "));
        assert!(!died, "{:#?}", ended.log);
    }
}

/// test-cluster-disconnect-idle-worker: without a server a worker is as good as any, and goes when told.
#[test]
fn workers_without_a_server_are_ready_and_go() {
    if !node_is_there() || is_foreign() {
        return;
    }
    let app = scene("idle").launch("scenes.js", &["--listen-timeout", "1s"]);
    for _ in 0..2 {
        wait_until("two taken for ready", || {
            let lines = app.server.log.all();
            lines
                .iter()
                .filter(|line| line.contains("is taken for ready"))
                .count()
                == 2
        });
    }
    let ended = app.stop();
    assert!(
        ended
            .log
            .iter()
            .any(|line| line.contains("process disconnect"))
    );
}

/// A timer outlives the channel: such a worker is told once more.
#[test]
fn workers_that_linger_are_told_once_more() {
    if !node_is_there() {
        return;
    }
    let app = scene("lingers").start("scenes.js", &["--drain-timeout", "50s"]);
    let start = Instant::now();
    app.stop();
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "not by its time-out"
    );
}

/// test-cluster-kill-infinite-loop: one that hears nothing is killed when its time is over, the other
/// serves on.
#[test]
fn workers_that_spin_are_killed_in_the_end() {
    if !node_is_there() {
        return;
    }
    let app = scene("spins").start("scenes.js", &["--drain-timeout", "500ms"]);
    let address = app.address();
    let mut stuck = Client::connect(address).unwrap();
    stuck.ask("/spin").unwrap();
    let (id, _) = app.said(0, "spinning");
    let workers = app.server.workers();
    let spinning = workers.iter().find(|one| one.id == id).unwrap().pid;
    // The one of the two may be handed one connection, which then waits.
    for _ in 0..8 {
        let mut client = Client::connect(address).unwrap();
        client.ask("/").unwrap();
        std::mem::drop(client);
    }
    app.server.signal(Signal::SIGTERM);
    assert_eq!(end_of(&app, spinning), "died: signal 9 (SIGKILL)");
    let ended = app.server.ended();
    assert!(ended.status.code().is_some(), "{:?}", ended.status);
}

/// test-cluster-worker-no-exit, -worker-wait-server-close: a worker that is told to go stays while a client
/// does, and its channel stays open as long.
#[test]
fn workers_stay_while_a_client_does() {
    if !node_is_there() {
        return;
    }
    for policy in ["rr", "shared"] {
        let arguments = ["--schedule", policy, "--drain-timeout", "50s"];
        let app = scene("waits").start("scenes.js", &arguments);
        let stream = TcpStream::connect(app.address()).unwrap();
        let mut client = BufReader::new(stream);
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        let pid: i32 = line.trim().parse().unwrap();
        let old = app.server.workers();
        let id = id_of(&app, pid);
        app.server.signal(Signal::SIGHUP);
        wait_until("new workers", || {
            let now = app.server.workers();
            now.iter().filter(|one| !old.contains(one)).count() == 2
        });
        client.get_mut().write_all(b"still there\n").unwrap();
        line.clear();
        client.read_line(&mut line).unwrap();
        assert_eq!(line, "still there\n");
        let mut lines = app.server.log.all().into_iter();
        let told = lines.any(|line| output_of(&line) == Some((id, "process disconnect false")));
        assert!(!told, "its channel is open");
        drop(client);
        assert_eq!(end_of(&app, pid), "exited: code 0");
        // In this order.
        let said: Vec<_> = app.server.log.all();
        let said = said.iter().filter_map(|line| output_of(line));
        let said: Vec<_> = said
            .filter(|(who, _)| *who == id)
            .map(|(_, words)| words)
            .collect();
        let place = |words: &str| said.iter().position(|line| line.starts_with(words));
        assert!(place("client ended") < place("closed"), "{said:?}");
        assert!(place("closed") < place("process disconnect"), "{said:?}");
        assert!(place("process disconnect") < place("exit"), "{said:?}");
        app.stop();
    }
}

/// test-cluster-primary-kill, -primary-error: without a primary workers go, even one that hears nothing.
#[test]
fn workers_go_with_their_primary() {
    if !node_is_there() || is_foreign() {
        return;
    }
    let mut app = scene("spins").start("scenes.js", &[]);
    let mut stuck = Client::connect(app.address()).unwrap();
    stuck.ask("/spin").unwrap();
    app.said(0, "spinning");
    app.server.kill_primary();
    assert_eq!(app.server.orphans_end().len(), 2);
}

/// test-cluster-net-server-drop-connection: a worker that has enough refuses, and another has it; where all
/// have, it waits, at no cost.
#[test]
fn connections_past_a_limit_wait_at_no_cost() {
    if !node_is_there() {
        return;
    }
    let limits = scene("limits").env("LIMIT_1", "1").env("LIMIT_2", "9");
    let app = limits.start("scenes.js", &[]);
    let address = app.address();
    let open = || BufReader::new(TcpStream::connect(address).unwrap());
    let who = |client: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    let mut clients: Vec<_> = (0..10).map(|_| open()).collect();
    let ids: Vec<_> = clients.iter_mut().map(who).collect();
    let of = |id: usize| ids.iter().filter(|one| **one == id).count();
    assert_eq!((of(1), of(2)), (1, 9), "{ids:?}");
    let mut more = open();
    let before = watch::ticks(app.server.pid());
    let wait = Duration::from_millis(500);
    more.get_mut().set_read_timeout(Some(wait)).unwrap();
    assert!(more.get_mut().read(&mut [0]).is_err(), "both have enough");
    let spent = watch::ticks(app.server.pid()) - before;
    assert!(is_foreign() || spent <= 5, "{spent} hundredths of a second");
    let leaving = ids.iter().position(|id| *id == 2).unwrap();
    drop(clients.remove(leaving));
    let patience = Some(crate::support::PATIENCE);
    more.get_mut().set_read_timeout(patience).unwrap();
    assert_eq!(who(&mut more), 2);
    drop((more, clients));
    app.stop();
}

/// test-cluster-message, -invalid-message: what a worker says is heard, however long, and what it says
/// wrongly does no harm.
#[test]
fn messages_of_workers_are_heard() {
    if !node_is_there() {
        return;
    }
    let app = scene("messages").start("scenes.js", &[]);
    for worker in app.server.workers() {
        assert_eq!(app.said_by(worker.id, "sent"), "null");
        for words in [
            r#""text""#,
            "7",
            "true",
            "null",
            r#"{"a":["ü","\n""#,
            r#""xxxxxxxx"#,
        ] {
            let wanted = format!("worker {} says {words}", worker.id);
            app.server.log.wait(0, &wanted);
        }
    }
    app.all_answer(app.address(), &app.server.workers());
    app.stop();
}

/// test-cluster-send-handle-twice, -net-send: a connection that is given to the primary is let go, and does
/// not keep its server from closing.
#[test]
fn connections_given_to_the_primary_are_let_go() {
    if !node_is_there() {
        return;
    }
    let app = scene("gives").start("scenes.js", &["--drain-timeout", "50s"]);
    let mut client = TcpStream::connect(app.address()).unwrap();
    client
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    let (_, error) = app.said(0, "given");
    assert_eq!(error, "null");
    if is_foreign() {
        return;
    }
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "let go");
    let ended = app.stop();
    let died = ended.log.iter().any(|line| line.contains("died: "));
    assert!(!died, "{:#?}", ended.log);
}

/// test-tls-ticket-cluster: a ticket of one worker is good at the other.
#[test]
fn tls_sessions_are_known_to_all_workers() {
    if !node_is_there() {
        return;
    }
    let Some(keys) = certificate() else {
        return;
    };
    let keys = keys.file("");
    let tls = scene("tls").env("KEYS", keys.to_str().unwrap());
    for policy in ["rr", "shared"] {
        let app = tls.start("scenes.js", &["--schedule", policy]);
        let port = app.address().port().to_string();
        let mut client = Command::new("node");
        client.arg(program("tls-client.js")).args([&port, "12"]);
        let output = client.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 12, "{said}");
        assert!(lines[0].ends_with(" false"), "{said}");
        assert!(
            lines[1..].iter().all(|line| line.ends_with(" true")),
            "{said}"
        );
        if policy == "rr" {
            let of = |pid: i32| {
                lines
                    .iter()
                    .filter(|line| line.starts_with(&pid.to_string()))
                    .count()
            };
            let each: Vec<_> = app.server.workers().iter().map(|one| of(one.pid)).collect();
            assert_eq!(each, [6, 6], "{said}");
        }
        app.stop();
    }
}

/// `process.send('ready')` is when, where that is asked for.
#[test]
fn workers_may_say_when_they_are_ready() {
    if !node_is_there() || is_foreign() {
        return;
    }
    let app = scene("ready").start("scenes.js", &["--wait-ready"]);
    let place = |words: &str| {
        let lines = app.server.log.all();
        lines.iter().position(|line| line.contains(words)).unwrap()
    };
    assert!(place("ready now") < place("is listening"));
    app.reload();
    app.stop();
}
