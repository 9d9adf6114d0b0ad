//! Changing a cluster under load with nothing lost: reloads, another number of workers, another
//! policy. No request fails, no connection is refused, and none that waits for its next request is
//! closed.

use crate::client::Client;
use crate::support::{Mode, Server, both_modes};
use crate::traffic::Traffic;
use crate::turns::alone;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Connections that wait for their next request.
struct Idle(Vec<Client>);

impl Idle {
    fn start(address: SocketAddr, count: usize) -> Self {
        Self((0..count).map(|_| Client::greeted(address).0).collect())
    }

    /// None has heard anything, and each goes on, at a worker that lives.
    #[track_caller]
    fn go_on(&mut self, server: &Server, mode: Mode) {
        let living = server.workers().into_iter();
        let living: BTreeSet<String> = living.map(|worker| worker.name(mode)).collect();
        for (number, client) in self.0.iter_mut().enumerate() {
            assert!(
                client.is_silent(),
                "connection {number} has heard something"
            );
            let answer = client.get("/");
            let answer = answer.unwrap_or_else(|error| panic!("connection {number}: {error}"));
            assert!(!answer.closes(), "connection {number} ends: {answer:?}");
            let who = answer.who();
            assert!(living.contains(&who), "{who} is none of {living:?}");
        }
    }
}

#[track_caller]
fn reload(server: &Server) {
    let mark = server.log.mark();
    server.signal(Signal::SIGHUP);
    server.log.wait(mark, "reloaded: all workers are new");
}

/// Scales by signals: one at a time, since two that wait are one.
#[track_caller]
fn scale(server: &Server, from: usize, to: usize) {
    let mut now = from;
    while now != to {
        let (signal, next) = match now < to {
            true => (Signal::SIGTTIN, now + 1),
            false => (Signal::SIGTTOU, now - 1),
        };
        let mark = server.log.mark();
        server.signal(signal);
        let line = format!("{next} workers in place of {now}");
        server.log.wait(mark, &line);
        now = next;
    }
    server.wait_for_workers(to);
}

both_modes! {
    fn everything_changes_and_nobody_notices(mode) {
        let _alone = alone();
        let server = Server::start(mode, &["--workers", "2"]);
        let address = server.address();
        let mut idle = Idle::start(address, 200);
        let traffic = Traffic::start(address, 64);
        for _ in 0..20 {
            reload(&server);
        }
        traffic.go_on();
        for (from, to) in [(2, 6), (6, 1), (1, 4)] {
            scale(&server, from, to);
            traffic.go_on();
        }
        idle.go_on(&server, mode);
        let answers = traffic.stop();
        eprintln!("{}: {answers} answers", mode.name());
        server.stop();
    }

    fn reloads_and_scaling_under_shared(mode) {
        changes_under(mode, "shared");
    }

    fn reloads_and_scaling_under_reuseport(mode) {
        changes_under(mode, "reuseport");
    }

    fn reloads_and_scaling_under_least_connections(mode) {
        changes_under(mode, "least-connections");
    }
}

fn changes_under(mode: Mode, policy: &str) {
    let _alone = alone();
    let server = Server::start(mode, &["--workers", "2", "--schedule", policy]);
    let address = server.address();
    let mut idle = Idle::start(address, 40);
    let traffic = Traffic::start(address, 16);
    for (from, to) in [(2, 4), (4, 1), (1, 3)] {
        reload(&server);
        traffic.go_on();
        scale(&server, from, to);
        traffic.go_on();
    }
    idle.go_on(&server, mode);
    traffic.stop();
    server.stop();
}
