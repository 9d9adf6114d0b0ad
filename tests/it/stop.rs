//! Every way to end: in good order, at once, by force, and without a primary.

use crate::client::{Client, is_refused};
use crate::support::{Mode, Server, both_modes, ended_by, wait_until};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use std::net::{SocketAddr, TcpListener};

/// A connection with a request in flight. The first answer, read by the worker together with the
/// second request, is the proof that it is.
#[track_caller]
fn in_flight(address: SocketAddr, target: &str) -> (Client, String) {
    let mut client = Client::connect(address).unwrap();
    let both =
        format!("GET / HTTP/1.1\r\nHost: test\r\n\r\nGET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send(both).unwrap();
    let who = client.receive().unwrap().who();
    (client, who)
}

/// A connection whose request's body has begun.
#[track_caller]
fn uploading(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).unwrap();
    client
        .send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert_eq!(client.receive().unwrap().status, 100);
    client.send("first").unwrap();
    client
}

fn stops_in_good_order(mode: Mode, policy: &str) {
    let server = Server::start(mode, &["--workers", "2", "--schedule", policy]);
    let address = server.address();
    let idle: Vec<_> = (0..4).map(|_| Client::greeted(address).0).collect();
    let slow: Vec<_> = (0..2)
        .map(|_| in_flight(address, "/slow?ms=500").0)
        .collect();
    let mut uploading = uploading(address);
    server.signal(Signal::SIGTERM);
    server
        .log
        .wait(0, "stopping: 2 workers finish what they have");
    for client in idle {
        assert!(client.ends(), "something else than the end");
    }
    for mut client in slow {
        let answer = client.receive().unwrap();
        assert_eq!(answer.text(), "waited 500 ms\n");
        assert!(answer.closes() && client.ends());
    }
    // The upload keeps one worker from ending, so this is while the cluster stops.
    wait_until("new clients are refused", || is_refused(address));
    uploading.send("-last").unwrap();
    let answer = uploading.receive().unwrap();
    assert_eq!(answer.text(), "first-last");
    assert!(answer.closes() && uploading.ends());
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(ended.out, [format!("listening on http://{address}")]);
    assert!(is_refused(address));
}

both_modes! {
    fn what_is_in_flight_is_finished_under_round_robin(mode) {
        stops_in_good_order(mode, "rr");
    }

    fn what_is_in_flight_is_finished_under_shared(mode) {
        stops_in_good_order(mode, "shared");
    }

    fn each_of_three_signals_stops(mode) {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            let server = Server::start(mode, &["--workers", "2"]);
            let (client, _) = Client::greeted(server.address());
            server.signal(signal);
            assert!(client.ends());
            let ended = server.ended();
            assert_eq!(ended.status.code(), Some(0), "{signal}");
            assert_eq!(ended.out.len(), 1);
        }
    }

    fn a_second_signal_ends_at_once(mode) {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let server = Server::start(mode, &["--workers", "2"]);
            let (client, _) = in_flight(server.address(), "/slow?ms=3600000");
            server.signal(signal);
            server.log.wait(0, "stopping: ");
            server.signal(signal);
            assert!(client.ends());
            let ended = server.ended();
            assert_eq!(ended.status.code(), Some(0), "{signal}");
        }
    }

    fn a_request_that_takes_too_long_is_given_up(mode) {
        let server = Server::start(mode, &["--workers", "2", "--drain-timeout", "300ms"]);
        let (client, _) = in_flight(server.address(), "/slow?ms=3600000");
        server.signal(Signal::SIGTERM);
        assert!(client.ends());
        assert_eq!(server.ended().status.code(), Some(0));
    }

    fn a_worker_that_hangs_is_ended_by_force(mode) {
        let arguments = ["--workers", "2", "--drain-timeout", "300ms", "--chaos"];
        let server = Server::start(mode, &arguments);
        let (mut client, _) = Client::greeted(server.address());
        // Whichever the worker sees first, this or the stop: it answers what has come by then.
        client.ask("/hang?ms=3600000").unwrap();
        server.signal(Signal::SIGTERM);
        assert!(client.ends());
        let ended = server.ended();
        assert_eq!(ended.status.code(), Some(0));
        let forced = match mode {
            Mode::Processes => "is killed: it did not finish in time",
            Mode::Threads => "is a thread and cannot be killed",
        };
        assert!(ended.log.iter().any(|line| line.contains(forced)), "{:#?}", ended.log);
    }
}

#[test]
fn a_worker_told_to_go_finishes_and_is_replaced() {
    for policy in ["rr", "shared"] {
        for signal in [Signal::SIGTERM, Signal::SIGQUIT] {
            let server = Server::start(Mode::Processes, &["-w", "2", "--schedule", policy]);
            let address = server.address();
            let (mut client, who) = in_flight(address, "/slow?ms=500");
            let workers = server.wait_for_workers(2).into_iter();
            let named = |worker: &_| crate::support::Worker::name(*worker, Mode::Processes) == who;
            let worker = workers.into_iter().find(named).unwrap();
            worker.signal(signal);
            server.log.wait(
                0,
                &format!("worker {} (pid {}) is leaving", worker.id, worker.pid),
            );
            // Whoever comes meanwhile is served by the other: under shared once the one that goes
            // has let go of the listener, which is a moment after it says so.
            let elsewhere = || Client::greeted(address).1 != who;
            match policy {
                "rr" => assert!(elsewhere()),
                _ => wait_until("the other serves", elsewhere),
            }
            let answer = client.receive().unwrap();
            assert_eq!(answer.text(), "waited 500 ms\n");
            // Its connection goes on, at somebody else.
            assert!(!answer.closes());
            wait_until("somebody else has the connection", || {
                client.get("/").unwrap().text().trim_end() != who
            });
            // Its successor did not wait for its end.
            let gone = format!("worker {} (pid {}) exited: code 0", worker.id, worker.pid);
            server.log.wait(0, &gone);
            let workers = server.wait_for_workers(2);
            let successor = workers.into_iter().find(|one| one.id == 3).unwrap();
            Client::of_worker(address, &successor.name(Mode::Processes));
            server.stop();
        }
    }
}

#[test]
fn workers_that_lose_their_primary_finish_and_go() {
    for policy in ["rr", "shared"] {
        let mut server = Server::start(Mode::Processes, &["-w", "3", "--schedule", policy]);
        let address = server.address();
        let (idle, _) = Client::greeted(address);
        let (mut slow, _) = in_flight(address, "/slow?ms=500");
        server.kill_primary();
        assert!(idle.ends());
        let answer = slow.receive().unwrap();
        assert_eq!(answer.text(), "waited 500 ms\n");
        assert!(answer.closes() && slow.ends());
        let ends = server.orphans_end();
        assert_eq!(ends.len(), 3);
        for end in ends {
            assert!(matches!(end, WaitStatus::Exited(_, 0)), "{end:?}");
        }
        drop(TcpListener::bind(address).unwrap());
        let ended = server.ended();
        assert_eq!(ended_by(ended.status), Some(Signal::SIGKILL));
    }
}

#[test]
fn a_worker_that_hangs_does_not_outlive_its_primary_for_long() {
    let arguments = ["-w", "2", "--drain-timeout", "500ms", "--chaos"];
    let mut server = Server::start(Mode::Processes, &arguments);
    let address = server.address();
    let (mut client, _) = Client::greeted(address);
    client.ask("/hang?ms=3600000").unwrap();
    server.kill_primary();
    assert!(client.ends());
    let ends = server.orphans_end();
    assert_eq!(ends.len(), 2);
    let stuck = |end: &WaitStatus| matches!(end, WaitStatus::Signaled(_, Signal::SIGALRM, _));
    assert!(ends.iter().any(stuck), "{ends:?}");
    drop(TcpListener::bind(address).unwrap());
}

#[test]
fn an_interrupt_from_the_terminal_is_the_primarys_to_heed() {
    let server = Server::start(Mode::Processes, &["-w", "2"]);
    let (mut client, who) = Client::greeted(server.address());
    for worker in server.wait_for_workers(2) {
        worker.signal(Signal::SIGINT);
    }
    assert_eq!(client.get("/").unwrap().who(), who);
    assert_eq!(client.get("/slow?ms=100").unwrap().status, 200);
    server.stop();
}
