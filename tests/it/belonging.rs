//! Where sticky connections end up when their worker is busy, stands still or goes.

use crate::client::Client;
use crate::steered::Steered;
use crate::support::{Mode, Server, Worker, both_modes, wait_until};
use crate::turns::alone;
use nix::sys::signal::Signal;
use std::net::SocketAddr;

/// A client of the worker at the second place, which waits for its answer.
fn waiting(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: x\r\nCookie: at=w2\r\nConnection: close\r\n\r\n";
    client.send(request).unwrap();
    client
}

fn at_place(server: &Server, place: u32, count: usize) -> Worker {
    let workers = server.wait_for_workers(count);
    let found = workers.into_iter().find(|worker| worker.id == place);
    found.unwrap()
}

both_modes! {
    fn a_burst_stays_together(mode) {
        let _alone = alone();
        let server = Server::start(mode, &["-w4", "-s", "sticky-cookie:at"]);
        let second = at_place(&server, 2, 4).name(mode);
        // Several hands full.
        let mut all: Vec<_> = (0..400).map(|_| waiting(server.address())).collect();
        for client in &mut all {
            let answer = client.receive().unwrap();
            assert_eq!(answer.who(), second);
            assert_eq!(answer.field("Set-Cookie"), None);
        }
        server.stop();
    }

    fn who_says_it_late_keeps_the_cookie(mode) {
        let arguments = ["-s", "sticky-cookie:at", "--header-timeout", "1s"];
        let server = Steered::start(mode, &arguments);
        let address = server.server.address();
        let mut clients: Vec<_> = (0..4).map(|_| Client::connect(address).unwrap()).collect();
        let taken = || {
            let status = server.status();
            let workers = status["workers"].as_array().unwrap();
            workers.iter().map(|worker| worker["connections"].as_u64().unwrap()).sum::<u64>()
        };
        wait_until("they have their turn", || taken() >= 4);
        for client in &mut clients {
            let answer = client.request("GET", "/", "Cookie: at=w2\r\n", "").unwrap();
            assert_eq!(answer.field("Set-Cookie"), None);
        }
        drop(clients);
        server.server.stop();
    }
}

#[test]
fn a_stop_leaves_nobody_with_a_worker_that_stands_still() {
    for policy in ["sticky-cookie:at", "sticky-query:at"] {
        let arguments = ["-w3", "-s", policy, "--drain-timeout", "3s"];
        let server = Server::start(Mode::Processes, &arguments);
        let still = at_place(&server, 2, 3);
        still.signal(Signal::SIGSTOP);
        let mut client = Client::connect(server.address()).unwrap();
        client
            .send("GET /?at=w2 HTTP/1.1\r\nHost: x\r\nCookie: at=w2\r\n\r\n")
            .unwrap();
        // Others are served meanwhile, so it has been dealt by now.
        Client::greeted(server.address());
        server.signal(Signal::SIGTERM);
        assert_ne!(client.receive().unwrap().who(), still.name(Mode::Processes));
        drop(client);
        let log = server.ended().log;
        let killed: Vec<_> = log
            .iter()
            .filter(|line| line.contains("is killed"))
            .collect();
        let alone = format!("worker 2 (pid {}) is killed", still.pid);
        assert!(
            killed.len() == 1 && killed[0].contains(&alone),
            "{killed:#?}"
        );
    }
}

#[test]
fn a_reload_finds_the_successor_of_a_worker_that_stands_still() {
    let arguments = [
        "-w3",
        "-s",
        "sticky-cookie:at",
        "--drain-timeout",
        "20s",
        "--worker-timeout",
        "0",
    ];
    let server = Server::start(Mode::Processes, &arguments);
    let still = at_place(&server, 2, 3);
    still.signal(Signal::SIGSTOP);
    let mut all: Vec<_> = (0..3).map(|_| waiting(server.address())).collect();
    Client::greeted(server.address());
    server.signal(Signal::SIGHUP);
    let who: Vec<_> = all
        .iter_mut()
        .map(|one| one.receive().unwrap().who())
        .collect();
    assert!(
        who.iter()
            .all(|one| *one == who[0] && *one != still.name(Mode::Processes))
    );
    // Not for its end: it can go now.
    still.signal(Signal::SIGCONT);
    let log = server.stop().log;
    assert!(
        !log.iter().any(|line| line.contains("is killed")),
        "{log:#?}"
    );
}

#[test]
fn an_upgrade_does_not_forget_what_was_not_said_yet() {
    let server = Server::start(Mode::Processes, &["-w4", "-s", "sticky-cookie:at"]);
    let address = server.address();
    let mut all: Vec<_> = (0..8).map(|_| Client::connect(address).unwrap()).collect();
    for client in &mut all {
        client.send("GET / HTTP/1.1\r\nHost: x\r\nCoo").unwrap();
    }
    Client::greeted(address);
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR2);
    server.log.wait(mark, "upgraded");
    let mut who = Vec::new();
    for client in &mut all {
        client.send("kie: at=w3\r\n\r\n").unwrap();
        let answer = client.receive().unwrap();
        assert_eq!(answer.field("Set-Cookie"), None);
        who.push(answer.who());
    }
    // The worker of that place, or by now its successor.
    who.dedup();
    assert!(who.len() <= 2, "{who:?}");
    server.stop();
}
