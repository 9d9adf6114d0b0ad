//! Programs written with what people write Node programs with, unchanged: express, fastify, koa, ws and
//! socket.io from the registry.

use crate::client::Client;
use crate::generator;
use crate::node::{Setting, installed, is_foreign, program};
use crate::node_load::{NodeLoad, Tally};
use crate::support::{Server, wait_until};
use crate::websocket::{Socket, TEXT, frame};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Connections that are kept, and that are not.
const KEEPING: usize = 64;
const SHORT: usize = 8;

const RELOADS: usize = 20;

fn say(what: &str, tally: &Tally) {
    println!(
        "{what}: {} answered by {} workers, {} sent again, {} lost",
        tally.answers.values().sum::<u64>(),
        tally.answers.len(),
        tally.again.len(),
        tally.lost.len()
    );
}

fn pids(server: &Server) -> BTreeSet<i32> {
    server.workers().iter().map(|one| one.pid).collect()
}

/// Every worker answers, and what takes long is answered as well.
fn serves(script: &str, variant: &str, policy: &str) {
    let Some(modules) = installed("frameworks") else {
        return;
    };
    let setting = Setting::new().modules(&modules).env("EXPRESS", variant);
    let app = setting.start(script, &["--schedule", policy]);
    let address = app.address();
    app.all_answer(address, &app.server.workers());
    let mut clients: Vec<_> = (0..8).map(|_| Client::connect(address).unwrap()).collect();
    for client in &mut clients {
        client.ask("/heavy").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.receive().unwrap().text(), "5000000");
    }
    drop(clients);
    app.stop();
}

/// A worker is killed under load: nothing is lost but what it was at.
fn survives(script: &str, variant: &str, policy: &str) {
    let Some(modules) = installed("frameworks") else {
        return;
    };
    let setting = Setting::new().modules(&modules).env("EXPRESS", variant);
    let app = setting.start(script, &["--schedule", policy]);
    let load = NodeLoad::start(app.address(), KEEPING, SHORT);
    let mut dead = BTreeSet::new();
    for turn in 0..2 {
        let worker = app.server.workers()[turn % 2];
        worker.signal(Signal::SIGKILL);
        app.server.successor(worker, "died: signal 9 (SIGKILL)");
        dead.insert(worker.pid);
        load.go_on();
    }
    let alive = pids(&app.server);
    let tally = load.stop();
    say(&format!("{script} {variant} {policy}, two killed"), &tally);
    for one in &tally.again {
        assert!(one.last.is_some_and(|pid| dead.contains(&pid)), "{one:?}");
    }
    for one in &tally.lost {
        let by_dead = one.last.is_none_or(|pid| dead.contains(&pid));
        assert!(by_dead && !one.why.contains("refused"), "{one:?}");
    }
    // Of the short ones each may have had a request at one that was killed.
    assert!(tally.lost.len() <= 2 * SHORT, "{:?}", tally.lost);
    let answered = |pid| tally.answers.contains_key(pid);
    assert!(alive.iter().all(answered), "{alive:?} {tally:?}");
    app.stop();
}

/// All workers are replaced under load, again and again: nothing is lost.
fn reloads(script: &str, variant: &str, policy: &str, times: usize) {
    let Some(modules) = installed("frameworks") else {
        return;
    };
    let setting = Setting::new().modules(&modules).env("EXPRESS", variant);
    // A second is short for clients on a machine that has too much to do.
    let app = setting.start(script, &["--schedule", policy, "--hold-idle", "10s"]);
    let load = NodeLoad::start(app.address(), KEEPING, SHORT);
    let mut before = pids(&app.server);
    for _ in 0..times {
        app.reload();
        load.go_on();
        let now = app.server.wait_for_workers(2);
        let now: BTreeSet<i32> = now.iter().map(|one| one.pid).collect();
        assert!(now.is_disjoint(&before), "{now:?} {before:?}");
        before = now;
    }
    let tally = load.stop();
    say(
        &format!("{script} {variant} {policy}, {times} reloads"),
        &tally,
    );
    if !is_foreign() {
        assert!(tally.lost.is_empty(), "{:#?}", tally.lost);
        assert!(tally.again.is_empty(), "{:#?}", tally.again);
    }
    app.stop();
}

/// What holds for each framework.
macro_rules! frameworks {
    ($($name:ident: $script:literal, $variant:literal;)*) => { $(
        mod $name {
            #[test]
            fn serves() {
                super::serves($script, $variant, "rr");
            }

            #[test]
            fn survives_a_kill() {
                super::survives($script, $variant, "rr");
            }

            #[test]
            fn reloads() {
                super::reloads($script, $variant, "rr", super::RELOADS);
            }
        }
    )* };
}

frameworks! {
    express4: "apps/express.js", "express4";
    express5: "apps/express.js", "express5";
    fastify: "apps/fastify.js", "";
    koa: "apps/koa.js", "";
}

/// The other policies, which do not depend on what the program is written with.
macro_rules! policies {
    ($($name:ident: $policy:literal;)*) => { $(
        mod $name {
            #[test]
            fn serves() {
                super::serves("apps/express.js", "express5", $policy);
            }

            #[test]
            fn survives_a_kill() {
                super::survives("apps/express.js", "express5", $policy);
            }

            #[test]
            fn reloads() {
                super::reloads("apps/express.js", "express5", $policy, super::RELOADS / 4);
            }
        }
    )* };
}

policies! {
    shared: "shared";
    reuseport: "reuseport";
}

/// Twenty reloads while our load generator asks on 64 connections, and what it makes of them: what is
/// sent again and what is lost.
#[test]
fn our_load_generator_loses_nothing_in_reloads() {
    let Some(modules) = installed("frameworks") else {
        return;
    };
    let app = Setting::new()
        .modules(&modules)
        .start("apps/fastify.js", &[]);
    let url = format!("http://{}/", app.address());
    let load = generator::start(&["-k", "-c", "64", "--rps", "1000", "-t", "600", &url]);
    for _ in 0..RELOADS {
        app.reload();
    }
    load.0.signal(Signal::SIGINT);
    let run = load.report();
    let number = |key| run.number(key);
    println!(
        "loadtest: {} completed, {} sent again, {} lost",
        number("completed"),
        number("retried"),
        number("total_errors")
    );
    if !is_foreign() {
        assert_eq!(number("total_errors"), 0, "{:#} {:#?}", run.json, run.log);
        assert_eq!(number("retried"), 0, "{:#} {:#?}", run.json, run.log);
    }
    app.stop();
}

/// Sends a message and takes what comes back.
fn echo(socket: &mut Socket, text: &str) -> String {
    socket.send(frame(TEXT, text.as_bytes()));
    let (_, payload) = socket.frame().unwrap();
    String::from_utf8(payload).unwrap()
}

#[test]
fn websockets_outlive_a_reload() {
    let Some(modules) = installed("frameworks") else {
        return;
    };
    let setting = Setting::new().modules(&modules);
    let app = setting.start("apps/ws.js", &["--drain-timeout", "60s"]);
    let address = app.address();
    let old = pids(&app.server);
    let mut before: Vec<_> = (0..4).map(|_| Socket::open(address, "/")).collect();
    let who = |socket: &mut Socket| -> i32 { echo(socket, "pid").parse().unwrap() };
    let served: BTreeSet<_> = before.iter_mut().map(who).collect();
    assert_eq!(served, old);
    app.server.signal(Signal::SIGHUP);
    // New ones come to the new workers, while the old ones go on echoing to whom they have.
    wait_until("two new workers", || {
        let new = pids(&app.server);
        new.difference(&old).count() == 2
    });
    let new: BTreeSet<_> = pids(&app.server).difference(&old).copied().collect();
    wait_until("new connections at new workers", || {
        let found: BTreeSet<_> = (0..4)
            .map(|_| who(&mut Socket::open(address, "/")))
            .collect();
        found == new
    });
    for (number, socket) in before.iter_mut().enumerate() {
        let text = format!("still here {number}");
        assert_eq!(echo(socket, &text), text);
        assert!(old.contains(&who(socket)));
    }
    // Node waits for the last of them.
    drop(before);
    wait_until("the old workers gone", || pids(&app.server) == new);
    app.stop();
}

/// What clients of socket.io see that poll, and tell themselves apart in that way.
fn socket_io(modules: &Path, policy: &str, how: &str) -> String {
    let setting = Setting::new().modules(modules);
    let app = setting.start("apps/socketio.js", &["--schedule", policy]);
    let port = app.address().port().to_string();
    let mut client = Command::new("node");
    client.arg(program("apps/socketio-client.js"));
    client.args([how, &port, "8", "5"]);
    client.env("NODE_PATH", modules.join("node_modules"));
    let output = client.output().unwrap();
    app.stop();
    String::from_utf8(output.stdout).unwrap()
}

/// That each client polls one worker, which it does not under a policy that leaves it free: there polls
/// come to workers that do not know the session.
fn polls_one_worker(policy: &str, how: &str) {
    let Some(modules) = installed("frameworks") else {
        return;
    };
    let said = socket_io(&modules, policy, how);
    let pids = said.strip_prefix("clients 8 ok ");
    let pids = pids.unwrap_or_else(|| panic!("{policy}, {how}: {said}"));
    println!("socket.io, {policy}: {} workers", pids.split(' ').count());
    let said = socket_io(&modules, "rr", how);
    assert!(said.starts_with("failed: "), "{how}: {said}");
}

#[test]
fn socket_io_polls_one_worker_under_sticky_ip() {
    // By eight addresses both workers have some, but for one time in 128.
    polls_one_worker("sticky-ip", "addresses");
}

#[test]
fn socket_io_polls_one_worker_under_sticky_query() {
    polls_one_worker("sticky-query:sid", "short");
}

#[test]
fn socket_io_polls_one_worker_under_sticky_cookie() {
    polls_one_worker("sticky-cookie:at", "cookies");
}
