//! Where Node programs can listen, in every variant that its own tests know: ports, paths, descriptors,
//! datagrams, and what becomes of a place that cannot be had.
//!
//! `tests/programs/scenes.js` has the workers' halves. `node_majors` asks the most of these of each version
//! of Node.

use crate::client::{Client, is_refused};
use crate::node::{App, Setting, is_foreign, node_is_there, output_of};
use crate::node_load::NodeLoad;
use crate::support::{PATIENCE, wait_until};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(crate) const HOST: &str = "127.0.0.1";

fn scene(name: &str) -> Setting {
    Setting::new().env("SCENE", name).env("HOST", HOST)
}

/// A port that is had by the listener.
pub(crate) fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

/// A port that nobody has for now.
pub(crate) fn free() -> String {
    taken().1
}

/// What each of the workers said, in the order of their ids.
#[track_caller]
pub(crate) fn each(app: &App, words: &str) -> Vec<String> {
    let workers = app.server.workers();
    workers
        .iter()
        .map(|one| app.said_by(one.id, words))
        .collect()
}

/// What each said, if that is the same.
#[track_caller]
pub(crate) fn same(app: &App, words: &str) -> String {
    let mut all = each(app, words);
    all.dedup();
    assert_eq!(all.len(), 1, "{words}: {all:?}");
    all.remove(0)
}

pub(crate) fn at(port: &str) -> SocketAddr {
    (HOST.parse::<Ipv4Addr>().unwrap(), port.parse().unwrap()).into()
}

/// Sends datagrams until each worker has answered one.
#[track_caller]
pub(crate) fn echoes(app: &App, port: &str) {
    let wanted: BTreeSet<String> = app
        .server
        .workers()
        .iter()
        .map(|one| one.pid.to_string())
        .collect();
    let mut found = BTreeSet::new();
    let ask = |word: &str| {
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(word.as_bytes(), at(port)).unwrap();
        (socket, word.to_owned())
    };
    wait_until("a datagram from every worker", || {
        let mut sockets = vec![ask("rest")];
        sockets.extend((0..16).map(|_| ask("a word")));
        for (socket, word) in sockets {
            let mut room = [0; 100];
            let count = socket.recv(&mut room).unwrap();
            let said = String::from_utf8_lossy(&room[..count]).into_owned();
            let (pid, echo) = said.split_once(' ').unwrap();
            assert_eq!(echo, word);
            found.insert(pid.to_owned());
        }
        found.is_superset(&wanted)
    });
}

/// Asks at a path until each worker has answered.
#[track_caller]
pub(crate) fn all_answer_at(app: &App, path: &Path) {
    let wanted: BTreeSet<String> = app
        .server
        .workers()
        .iter()
        .map(|one| one.pid.to_string())
        .collect();
    let mut found = BTreeSet::new();
    wait_until("an answer from every worker", || {
        let connect = |_| Client::connect_unix(path).unwrap();
        let mut clients: Vec<_> = (0..16).map(connect).collect();
        for client in &mut clients {
            client.ask("/").unwrap();
        }
        for mut client in clients {
            found.insert(client.receive().unwrap().text().to_owned());
        }
        found.is_superset(&wanted)
    });
}

/// test-cluster-server-restart-none, -rr, -child-index-net: the n-th `listen(0)` of each is one port.
#[test]
fn any_port_is_the_same_for_all() {
    if !node_is_there() {
        return;
    }
    for policy in ["rr", "shared", "reuseport"] {
        let app = scene("ports").start("scenes.js", &["--schedule", policy]);
        let ports = ["first", "second", "third"].map(|words| same(&app, words));
        let different: BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), 3, "{ports:?}");
        for port in &ports {
            app.all_answer(at(port), &app.server.workers());
        }
        app.stop();
        assert!(ports.iter().all(|port| is_refused(at(port))));
    }
}

/// test-cluster-net-listen, -net-listen-ipv6only-false, -net-listen-ipv6only-rr.
#[test]
fn without_a_host_it_is_both_families() {
    if !node_is_there() {
        return;
    }
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return println!("skipped: there is no IPv6");
    }
    for (name, both) in [
        ("nowhere", true),
        ("both_families", true),
        ("only_ipv6", false),
    ] {
        for policy in ["rr", "shared"] {
            let app = scene(name).start("scenes.js", &["--schedule", policy]);
            let port: u16 = same(&app, "listening on port").parse().unwrap();
            if name == "nowhere" {
                assert_eq!(same(&app, "bound"), ":: IPv6");
            }
            app.all_answer((Ipv6Addr::LOCALHOST, port).into(), &app.server.workers());
            let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            match both {
                true => app.all_answer(four, &app.server.workers()),
                false => assert!(is_refused(four)),
            }
            app.stop();
        }
    }
}

/// test-cluster-http-pipe, -net-listen-relative-path, -listen-pipe-readable-writable, -eaccess.
#[test]
fn paths_are_had_by_all_and_gone_at_the_end() {
    if !node_is_there() {
        return;
    }
    // More than a socket's address has room for, from the root.
    let long = format!("{}.sock", "long".repeat(18));
    for policy in ["rr", "shared", "reuseport"] {
        let setting = scene("path").env("PATH_OF_SOCKET", &long);
        let app = setting.start("scenes.js", &["--schedule", policy]);
        let path = app.directory.file(&long);
        assert!(same(&app, "listening at").ends_with(&long));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o777);
        all_answer_at(&app, &path);
        app.reload();
        all_answer_at(&app, &path);
        app.server.signal(Signal::SIGTERM);
        wait_until("its path gone", || !path.exists());
        app.server.wait_for_workers(0);
    }
    // What is there already is somebody's.
    let setting = scene("path").env("PATH_OF_SOCKET", "/dev/null");
    let app = setting.launch("scenes.js", &[]);
    let (_, error) = app.said(0, "error");
    assert!(error.starts_with("EADDRINUSE "), "{error}");
    assert!(Path::new("/dev/null").exists());
}

/// test-cluster-eaddrinuse, -shared-handle-bind-error, -worker-disconnect-on-error: it is said to who asked,
/// who can ask again for something else, and goes in order.
#[test]
fn what_cannot_be_had_is_said_to_who_asked() {
    if !node_is_there() {
        return;
    }
    let (_other, port) = taken();
    for policy in ["rr", "shared", "reuseport"] {
        let app = scene("in_use")
            .env("PORT", &port)
            .start("scenes.js", &["--schedule", policy]);
        assert_eq!(
            same(&app, "error"),
            format!("EADDRINUSE bind {HOST} {port}")
        );
        app.all_answer(app.address(), &app.server.workers());
        app.reload();
        app.stop();
    }
}

/// test-cluster-ipc-throw.
#[test]
fn an_exception_where_an_error_is_heard_does_no_harm() {
    if !node_is_there() {
        return;
    }
    let (_other, port) = taken();
    let app = scene("throws_on_error")
        .env("PORT", &port)
        .start("scenes.js", &[]);
    assert_eq!(same(&app, "caught"), "no luck");
    app.all_answer(app.address(), &app.server.workers());
    app.reload();
    app.stop();
}

#[test]
fn one_worker_cannot_have_a_place_twice() {
    if !node_is_there() {
        return;
    }
    for policy in ["rr", "shared", "reuseport"] {
        let app = scene("twice").start("scenes.js", &["--schedule", policy]);
        let error = same(&app, "error");
        assert!(error.starts_with("EADDRINUSE bind "), "{error}");
        app.all_answer(app.address(), &app.server.workers());
        app.stop();
    }
}

/// test-cluster-bind-twice, and `exclusive`: the first alone has it.
#[test]
fn an_exclusive_port_is_one_workers() {
    if !node_is_there() {
        return;
    }
    let port = free();
    let app = scene("exclusive")
        .env("PORT", &port)
        .start("scenes.js", &[]);
    let (alone, _) = app.said(0, "alone at");
    let (other, error) = app.said(0, "error");
    assert_ne!(alone, other);
    assert!(error.starts_with("EADDRINUSE "), "{error}");
    let workers = app.server.workers();
    let one = workers.iter().find(|one| one.id == alone).copied();
    app.all_answer(at(&port), &[one.unwrap()]);
    app.all_answer(app.address(), &workers);
    app.stop();
}

/// test-cluster-port-reuse-between-workers, -server-restart: one of two closes and listens again.
#[test]
fn a_worker_may_close_and_listen_again() {
    // Up to 20 Node's primary takes its server's number for another.
    if !node_is_there() || is_foreign() {
        return;
    }
    for policy in ["rr", "shared", "reuseport"] {
        let again = scene("again").env("PORT", &free());
        let app = again.start("scenes.js", &["--schedule", policy]);
        let settled = app.said_by(1, "settled");
        let is_error =
            |line: &String| output_of(line).is_some_and(|(_, it)| it.starts_with("error"));
        assert_eq!(app.server.log.all().into_iter().find(is_error), None);
        let there = app.said_by(2, "listening on port");
        for worker in app.server.workers() {
            let port = if worker.id == 1 { &settled } else { &there };
            wait_until("whoever is there alone answers", || {
                App::pid_at(at(port)) == worker.pid
            });
        }
        app.stop();
    }
}

/// test-cluster-worker-handle-close: what is on its way to a server that closes goes to another.
#[test]
fn a_server_that_closes_loses_nothing() {
    if !node_is_there() {
        return;
    }
    let app = scene("closes").start("scenes.js", &[]);
    let load = NodeLoad::start(app.address(), 0, 16);
    let workers = app.server.workers();
    let first = workers.into_iter().find(|one| one.id == 1).unwrap();
    first.signal(Signal::SIGUSR2);
    app.said_by(1, "closed");
    load.go_on();
    let tally = load.stop();
    assert!(tally.lost.is_empty() && tally.again.is_empty(), "{tally:?}");
    app.stop();
}

/// test-listen-fd-cluster: the primary's descriptors are the settings' listeners.
#[test]
fn descriptors_are_those_of_the_settings() {
    if !node_is_there() || is_foreign() {
        return;
    }
    for policy in ["rr", "shared"] {
        let arguments = [
            "--schedule",
            policy,
            "-l",
            "127.0.0.1:0",
            "-l",
            "127.0.0.1:0",
        ];
        for number in ["3", "4"] {
            let app = scene("descriptor")
                .env("FD", number)
                .start("scenes.js", &arguments);
            app.all_answer(app.address(), &app.server.workers());
            app.stop();
        }
    }
}

/// test-net-listen-handle-in-cluster: a worker's own handle is its own affair.
#[test]
fn handles_of_their_own_are_not_asked_for() {
    if !node_is_there() {
        return;
    }
    let app = scene("own_handle").start("scenes.js", &[]);
    for worker in app.server.workers() {
        let port = app.said_by(worker.id, "own");
        assert_eq!(App::pid_at(at(&port)), worker.pid);
    }
    app.all_answer(app.address(), &app.server.workers());
    app.stop();
}

/// test-cluster-dgram-1, -dgram-2, -dgram-reuse, -dgram-ipv6only, test-dgram-cluster-close-during-bind.
#[test]
fn datagrams_are_had_by_all() {
    if !node_is_there() {
        return;
    }
    for (policy, reuse) in [("rr", "no"), ("shared", "yes"), ("reuseport", "no")] {
        let app = scene("udp")
            .env("REUSE", reuse)
            .start("scenes.js", &["--schedule", policy]);
        assert_eq!(same(&app, "udp sent"), "null");
        same(&app, "udp closed");
        let port = same(&app, "udp on port");
        echoes(&app, &port);
        app.reload();
        echoes(&app, &port);
        app.stop();
        UdpSocket::bind(at(&port)).unwrap();
    }
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let app = scene("udp_both").start("scenes.js", &[]);
        assert_eq!(same(&app, "udp both"), "true");
        app.stop();
    }
}

/// test-dgram-cluster-bind-error.
#[test]
fn datagrams_that_cannot_be_had_are_said_to_who_asked() {
    if !node_is_there() {
        return;
    }
    let other = UdpSocket::bind((HOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let app = scene("udp_in_use")
        .env("UDP_PORT", &port)
        .start("scenes.js", &[]);
    let error = same(&app, "udp error");
    assert_eq!(error, format!("EADDRINUSE bind {HOST} {port}"));
    app.all_answer(app.address(), &app.server.workers());
    app.stop();
}
