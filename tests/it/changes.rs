//! Changing a cluster under load with nothing lost: reloads, another number of workers, another
//! policy. No request fails, no connection is refused, and none that waits for its next request is
//! closed.

use crate::client::Client;
use crate::steered::Steered;
use crate::support::{Mode, Server, both_modes, wait_until};
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
        let living = || {
            let living = server.workers().into_iter();
            living
                .map(|worker| worker.name(mode))
                .collect::<BTreeSet<_>>()
        };
        let mut before = living();
        for (number, client) in self.0.iter_mut().enumerate() {
            assert!(
                client.is_silent(),
                "connection {number} has heard something"
            );
            let answer = client.get("/");
            let answer = answer.unwrap_or_else(|error| panic!("connection {number}: {error}"));
            assert!(!answer.closes(), "connection {number} ends: {answer:?}");
            let who = answer.who();
            if !before.contains(&who) {
                // Then it has just come, and may not have been said to listen yet.
                wait_until(&format!("{who} among the workers"), || {
                    before = living();
                    before.contains(&who)
                });
            }
        }
    }
}

impl Steered {
    /// Has a command steer the cluster and waits for the outcome, which is good.
    #[track_caller]
    fn change(&self, words: &[&str]) {
        let (status, said) = self.steer(words);
        assert_eq!(status, 0, "{words:?}: {said}");
    }

    #[track_caller]
    fn scale(&self, to: usize) {
        self.change(&["scale", &to.to_string()]);
        assert_eq!(self.server.wait_for_workers(to).len(), to);
    }

    #[track_caller]
    fn schedule(&self, policy: &str) {
        let mark = self.server.log.mark();
        self.change(&["schedule", policy]);
        let line = format!("schedule {policy} in place of ");
        self.server.log.wait(mark, &line);
    }

    /// Has the primary become another program, here the same again, whose workers come next.
    #[track_caller]
    fn upgrade(&self) {
        let mark = self.server.log.mark();
        self.server.signal(Signal::SIGUSR2);
        let line = format!("process {} becomes the new program", self.server.pid());
        self.server.log.wait(mark, &line);
        self.server.log.wait(mark, "reloaded: all workers are new");
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
fn scale_by_signals(server: &Server, from: usize, to: usize) {
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
        let cluster = Steered::start(mode, &[]);
        let server = &cluster.server;
        let mut idle = Idle::start(server.address(), 200);
        let traffic = Traffic::start(server.address(), 64);
        for _ in 0..20 {
            reload(server);
        }
        traffic.go_on();
        for to in [6, 1, 4] {
            cluster.scale(to);
            traffic.go_on();
        }
        for policy in [
            "shared", "sticky-cookie:at", "reuseport", "sticky-ip", "sticky-ip:reuseport",
            "least-connections", "rr",
        ] {
            cluster.schedule(policy);
            traffic.go_on();
        }
        // Threads end with their program.
        if mode == Mode::Processes {
            cluster.upgrade();
            traffic.go_on();
        }
        idle.go_on(server, mode);
        let answers = traffic.stop();
        eprintln!("{}: {answers} answers", mode.name());
        cluster.server.stop();
    }

    fn a_policy_changes_while_workers_come_and_go(mode) {
        let _alone = alone();
        let cluster = Steered::start(mode, &[]);
        let server = &cluster.server;
        let mut idle = Idle::start(server.address(), 40);
        let traffic = Traffic::start(server.address(), 16);
        let policies = [
            "reuseport", "shared", "rr", "sticky-ip:reuseport", "reuseport", "sticky-cookie:at",
            "sticky-ip:reuseport", "least-connections", "sticky-query:at", "shared",
        ];
        for (number, policy) in policies.iter().cycle().take(32).enumerate() {
            // Into the midst of a reload, or of another number of workers.
            match number % 3 {
                0 => server.signal(Signal::SIGHUP),
                1 => server.signal(Signal::SIGTTIN),
                _ => server.signal(Signal::SIGTTOU),
            }
            cluster.schedule(policy);
            traffic.go_on();
        }
        cluster.scale(2);
        idle.go_on(server, mode);
        traffic.stop();
        cluster.server.stop();
    }

    fn workers_wear_out_and_nobody_notices(mode) {
        let _alone = alone();
        for policy in [
            "rr", "shared", "reuseport", "least-connections", "sticky-cookie:at",
            "sticky-ip:reuseport",
        ] {
            let worn = ["--workers", "2", "--max-requests", "300:100", "--schedule", policy];
            let server = Server::start(mode, &worn);
            let mut idle = Idle::start(server.address(), 40);
            let traffic = Traffic::start(server.address(), 16);
            wait_until("ten workers worn out", || {
                let log = server.log.all();
                log.iter().filter(|line| line.contains(" exited: ")).count() >= 10
            });
            traffic.stop();
            idle.go_on(&server, mode);
            server.stop();
        }
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

    fn reloads_and_scaling_under_sticky_ip_in_the_kernel(mode) {
        changes_under(mode, "sticky-ip:reuseport");
    }

    fn reloads_and_scaling_under_sticky_cookie(mode) {
        changes_under(mode, "sticky-cookie:at");
    }

    fn reloads_and_scaling_under_sticky_ip(mode) {
        changes_under(mode, "sticky-ip");
    }
}

/// Also in the midst of other changes: an upgrade waits for nobody's convenience.
#[test]
fn upgrades_under_each_policy() {
    let _alone = alone();
    let mode = Mode::Processes;
    let cluster = Steered::start(mode, &[]);
    let server = &cluster.server;
    let mut idle = Idle::start(server.address(), 40);
    let traffic = Traffic::start(server.address(), 16);
    for policy in [
        "shared",
        "reuseport",
        "sticky-ip:reuseport",
        "sticky-query:at",
        "least-connections",
        "rr",
    ] {
        cluster.schedule(policy);
        cluster.upgrade();
        traffic.go_on();
        server.signal(Signal::SIGTTIN);
        cluster.upgrade();
        traffic.go_on();
        cluster.scale(2);
    }
    idle.go_on(server, mode);
    traffic.stop();
    cluster.server.stop();
}

fn changes_under(mode: Mode, policy: &str) {
    let _alone = alone();
    let server = Server::start(mode, &["--workers", "2", "--schedule", policy]);
    let mut idle = Idle::start(server.address(), 40);
    let traffic = Traffic::start(server.address(), 16);
    for (from, to) in [(2, 4), (4, 1), (1, 3)] {
        reload(&server);
        traffic.go_on();
        scale_by_signals(&server, from, to);
        traffic.go_on();
    }
    idle.go_on(&server, mode);
    traffic.stop();
    server.stop();
}
