//! Servers of Python, unchanged, from the registry: they inherit the settings' sockets, gunicorn as from
//! systemd, uvicorn by its descriptor.

use crate::node::{App, Setting, installed, is_foreign, program};
use crate::node_load::{Failure, NodeLoad};
use crate::support::address_of;
use nix::sys::signal::Signal;
use std::net::SocketAddr;

/// Clients, each with a new connection for every request.
const SHORT: usize = 8;

/// Where its settings say that it listens, by the standard output.
fn address(app: &App) -> SocketAddr {
    address_of(&app.server.urls(1)[0])
}

fn serves(name: &str, policy: &str, words: &[&str]) {
    let Some(python) = installed("python").filter(|_| !is_foreign()) else {
        return;
    };
    let folder = program("apps");
    let executable = python.join("bin").join(name);
    let setting = Setting::new().env("PYTHONPATH", folder.to_str().unwrap());
    let setting = setting.env("PYTHONDONTWRITEBYTECODE", "1");
    let arguments = ["--schedule", policy, "-l", "127.0.0.1:0", "--"];
    let arguments = [&arguments, words].concat();
    let app = setting.start(executable.to_str().unwrap(), &arguments);
    let address = address(&app);
    app.all_answer(address, &app.server.workers());
    let load = NodeLoad::start(address, 0, SHORT);
    for _ in 0..2 {
        app.reload();
        load.go_on();
    }
    let tally = load.stop();
    println!(
        "{name}, {policy}: {} answered, {} lost in reloads",
        tally.answers.values().sum::<u64>(),
        tally.lost.len()
    );
    // uvicorn closes connections that have not said anything when it goes, though a request may be on its
    // way to it: at most one of each client in each reload.
    let allowed = if name == "uvicorn" { 2 * SHORT } else { 0 };
    assert!(tally.lost.len() <= allowed, "{:#?}", tally.lost);
    let refused = |one: &Failure| one.begun || one.why.contains("refused");
    assert!(!tally.lost.iter().any(refused), "{:#?}", tally.lost);
    let dead = app.server.workers()[0];
    dead.signal(Signal::SIGKILL);
    app.server.successor(dead, "died: signal 9 (SIGKILL)");
    app.all_answer(address, &app.server.workers());
    app.stop();
}

const UVICORN: [&str; 5] = ["--fd", "3", "--log-level", "warning", "python_app:asgi"];
const GUNICORN: [&str; 3] = ["--log-level", "warning", "python_app:wsgi"];

#[test]
fn uvicorn_shared() {
    serves("uvicorn", "shared", &UVICORN);
}

#[test]
fn uvicorn_reuseport() {
    serves("uvicorn", "reuseport", &UVICORN);
}

#[test]
fn gunicorn_shared() {
    serves("gunicorn", "shared", &GUNICORN);
}

#[test]
fn gunicorn_reuseport() {
    serves("gunicorn", "reuseport", &GUNICORN);
}
