//! The same program under each major version of Node: the protocol is the same, what surrounds it differs.

use crate::node::{Setting, major};
use crate::node_listens::{HOST, all_answer_at, at, each, echoes, free, same, taken};
use crate::support::wait_until;
use nix::sys::signal::Signal;

/// In every place at once; then a worker is killed, then all are replaced.
fn serves(number: u32, policy: &str) {
    let Some(node) = major(number) else {
        return;
    };
    let ((_other, used), alone) = (taken(), free());
    let setting = Setting::new()
        .node(&node)
        .env("SCENE", "everything")
        .env("HOST", HOST);
    let setting = setting
        .env("PATH_OF_SOCKET", "a.sock")
        .env("USED", &used)
        .env("ALONE", &alone);
    // Up to 18 a server waits for connections that are idle.
    let app = setting.start(
        "scenes.js",
        &["--schedule", policy, "--drain-timeout", "10s"],
    );
    let (first, second) = (app.address(), at(&same(&app, "second")));
    assert_ne!(first, second);
    let datagrams = same(&app, "udp on port");
    let path = app.directory.file("a.sock");
    let all = || {
        let workers = app.server.wait_for_workers(2);
        each(&app, "at path");
        app.all_answer(first, &workers);
        app.all_answer(second, &workers);
        all_answer_at(&app, &path);
        each(&app, "udp on port");
        echoes(&app, &datagrams);
    };
    all();
    let used = format!("EADDRINUSE bind {HOST} {used}");
    let said = |line: String| line.ends_with(&format!("| error {used}"));
    let errors = app
        .server
        .log
        .all()
        .into_iter()
        .filter(|line| said(line.clone()))
        .count();
    assert_eq!(errors, 2);
    let (one, _) = app.said(0, "alone");
    let (other, error) = app.said(0, "error EADDRINUSE listen");
    assert_ne!(one, other);
    assert_eq!(error, format!("{HOST} {alone}"));
    let dead = app.server.workers()[0];
    dead.signal(Signal::SIGKILL);
    app.server.successor(dead, "died: signal 9 (SIGKILL)");
    all();
    app.reload();
    wait_until("the old ones gone", || {
        app.server.workers().iter().all(|one| one.id > 3)
    });
    all();
    app.stop();
}

#[test]
fn node18() {
    serves(18, "rr");
}

#[test]
fn node20() {
    serves(20, "rr");
}

#[test]
fn node20_shared() {
    serves(20, "shared");
}

#[test]
fn node20_reuseport() {
    serves(20, "reuseport");
}

#[test]
fn node22() {
    serves(22, "rr");
}

#[test]
fn node24() {
    serves(24, "rr");
}

/// `reusePort` is a worker's own affair, and the kernel's.
#[test]
fn reuse_port_is_not_asked_for() {
    let Some(node) = major(24) else {
        return;
    };
    let port = free();
    let setting = Setting::new().node(&node).env("SCENE", "reuse_port");
    let app = setting
        .env("HOST", HOST)
        .env("PORT", &port)
        .launch("scenes.js", &["--listen-timeout", "1s"]);
    let said = |id: u32| app.said_by(id, "listening on port");
    assert_eq!((said(1), said(2)), (port.clone(), port));
}

/// `maxConnections` of zero, since 22.
#[test]
fn a_worker_may_take_none() {
    let Some(node) = major(22) else {
        return;
    };
    let setting = Setting::new()
        .node(&node)
        .env("SCENE", "limits")
        .env("LIMIT_1", "0");
    let app = setting.start("scenes.js", &[]);
    let address = app.address();
    for _ in 0..10 {
        let mut client = crate::client::Client::connect(address).unwrap();
        assert_eq!(client.until("\n").unwrap(), "2\n");
    }
    app.stop();
}
