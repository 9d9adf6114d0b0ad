//! A worker that stands still for too long: it is found, said so of, and replaced.

use crate::client::Client;
use crate::policies::POLICIES;
use crate::support::{Mode, Server, Worker, wait_until};
use crate::turns::alone;
use crate::watch;
use nix::sys::signal::Signal;

fn start(mode: Mode, policy: &str) -> Server {
    let arguments = [
        "--workers",
        "2",
        "--schedule",
        policy,
        "--worker-timeout",
        "500ms",
        "--chaos",
    ];
    Server::start(mode, &arguments)
}

/// Connections opened until `done`, all of which are answered, none by `worker`.
#[track_caller]
fn others_serve_until(server: &Server, worker: Worker, mode: Mode, done: impl Fn(&Server) -> bool) {
    let address = server.address();
    wait_until("what is to happen meanwhile", || {
        let (_, who) = Client::greeted(address);
        assert_ne!(who, worker.name(mode));
        done(server)
    });
}

fn said(server: &Server, words: &str) -> bool {
    server.log.all().iter().any(|line| line.contains(words))
}

#[test]
fn a_stopped_worker_is_killed_and_replaced_under_each_policy() {
    let _alone = alone();
    for policy in POLICIES {
        let server = start(Mode::Processes, policy);
        let [stopped, other] = server.wait_for_workers(2)[..] else {
            panic!("two workers");
        };
        let name = other.name(Mode::Processes);
        let mut bystander = Client::of_worker(server.address(), &name);
        stopped.signal(Signal::SIGSTOP);
        wait_until("the worker is stopped", || watch::is_stopped(stopped.pid));
        let line = format!("worker {} (pid {}) stands still ", stopped.id, stopped.pid);
        others_serve_until(&server, stopped, Mode::Processes, |server| {
            said(server, &line)
        });
        // Or in its last request, of which it has not seen the end.
        let line = server.log.wait(0, &line);
        assert!(
            line.contains("with nothing to do for ") || line.contains("in GET / for "),
            "{line}"
        );
        assert!(line.ends_with("s: it is killed"), "{line}");
        let successor = server.successor(stopped, "died: signal 9 (SIGKILL)");
        Client::of_worker(server.address(), &successor.name(Mode::Processes));
        assert_eq!(bystander.get("/").unwrap().who(), name);
        server.stop();
    }
}

#[test]
fn a_worker_in_a_handler_without_end_is_killed_and_the_route_named() {
    let _alone = alone();
    let server = start(Mode::Processes, "rr");
    let (mut client, who) = Client::greeted(server.address());
    let is_it = |worker: &Worker| worker.name(Mode::Processes) == who;
    let hung = server.wait_for_workers(2).into_iter().find(is_it).unwrap();
    client.ask("/hang?ms=3600000").unwrap();
    let line = format!("worker {} (pid {}) stands still in ", hung.id, hung.pid);
    others_serve_until(&server, hung, Mode::Processes, |server| said(server, &line));
    let line = server.log.wait(0, &line);
    assert!(line.contains("stands still in GET /hang for "), "{line}");
    server.successor(hung, "died: signal 9 (SIGKILL)");
    assert!(client.ends());
    server.stop();
}

/// A thread cannot be killed: another takes its place, and it goes when it comes back, with all
/// that it has finished or handed on.
#[test]
fn a_thread_that_stands_still_is_replaced_until_it_comes_back() {
    let _alone = alone();
    for policy in POLICIES {
        let server = start(Mode::Threads, policy);
        let address = server.address();
        let (mut client, who) = Client::greeted(address);
        let is_it = |worker: &Worker| worker.name(Mode::Threads) == who;
        let hung = server.wait_for_workers(2).into_iter().find(is_it).unwrap();
        let mut idle = Client::of_worker(address, &who);
        // As long as a test can wait; it is found within half of that.
        client.ask("/hang?ms=2000").unwrap();
        wait_until("it hangs", || {
            let (mut probe, _) = Client::greeted(address);
            // Only to pass the time by the cluster's own clock.
            probe.get("/slow?ms=20").unwrap();
            said(&server, "stands still")
        });
        let line = server.log.wait(0, "stands still");
        let start = format!("worker {} stands still in GET /hang for ", hung.id);
        assert!(line.contains(&start), "{line}");
        let end = "a thread cannot be killed, so another takes its place until it comes back";
        assert!(line.ends_with(end), "{line}");
        let successor = server.log.find(0, |line| {
            let (worker, rest) = Worker::of_line(line)?;
            (worker.id == 3 && rest.starts_with("is listening")).then_some(worker)
        });
        Client::of_worker(address, &successor.name(Mode::Threads));
        assert!(client.is_silent() && idle.is_silent(), "it is too early");
        let answer = client.receive().unwrap();
        assert_eq!(answer.text(), "hung for 2000 ms\n");
        assert!(!answer.closes());
        server.log.wait(
            0,
            &format!("worker {} (pid {}) exited: ", hung.id, hung.pid),
        );
        for client in [&mut client, &mut idle] {
            assert!(client.is_silent());
            assert_ne!(client.get("/").unwrap().who(), who, "{policy}");
        }
        assert_eq!(server.workers().len(), 2);
        server.stop();
    }
}
