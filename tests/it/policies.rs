//! What holds under every policy: who is stopped is passed over, who drains finishes, and a cluster
//! without its primary ends.

use crate::client::{Client, is_refused};
use crate::support::{Mode, Server, Worker, both_modes, command, wait_until};
use crate::turns::alone;
use crate::watch;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Runs a promise under each policy, in each mode.
macro_rules! every_policy {
    ($($promise:ident: $rr:ident, $shared:ident, $reuseport:ident, $least:ident, $steered:ident,
        $cookie:ident, $query:ident;)*) => {
        both_modes! { $(
            fn $rr(mode) { $promise(mode, "rr"); }
            fn $shared(mode) { $promise(mode, "shared"); }
            fn $reuseport(mode) { $promise(mode, "reuseport"); }
            fn $least(mode) { $promise(mode, "least-connections"); }
            fn $steered(mode) { $promise(mode, "sticky-ip:reuseport"); }
            fn $cookie(mode) { $promise(mode, "sticky-cookie:at"); }
            fn $query(mode) { $promise(mode, "sticky-query:at"); }
        )* }
    };
}

every_policy! {
    drains_without_loss: draining_under_round_robin, draining_under_shared,
        draining_under_reuseport, draining_under_least_connections,
        draining_under_sticky_ip_in_the_kernel,
        draining_under_sticky_cookie, draining_under_sticky_query;
}

/// But for sticky-ip and its like, by which all clients of these tests belong to one worker.
pub(crate) const POLICIES: [&str; 6] = [
    "rr",
    "shared",
    "reuseport",
    "least-connections",
    "sticky-cookie:at",
    "sticky-query:at",
];

/// What a worker is in the middle of when it is told to go.
struct Busy {
    slow: Client,
    upload: Client,
    stream: Client,
    idle: Client,
    /// Half of a request's head is sent.
    begun: Client,
    /// Nothing is sent.
    fresh: Client,
}

/// Lines of a streaming response: far more than sockets hold.
const LINES: usize = 500_000;

impl Busy {
    fn start(address: SocketAddr) -> Self {
        let mut slow = Client::connect(address).unwrap();
        // The first answer is the proof that the second request is being worked on.
        slow.send(
            "GET / HTTP/1.1\r\nHost: test\r\n\r\nGET /slow?ms=700 HTTP/1.1\r\nHost: test\r\n\r\n",
        )
        .unwrap();
        slow.receive().unwrap().who();
        let mut upload = Client::connect(address).unwrap();
        upload
            .send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
            .unwrap();
        assert_eq!(upload.receive().unwrap().status, 100);
        upload.send("first").unwrap();
        let (mut stream, _) = Client::greeted(address);
        stream.ask(&format!("/stream?n={LINES}")).unwrap();
        let (idle, _) = Client::greeted(address);
        let (mut begun, _) = Client::greeted(address);
        begun.send("GET / HTT").unwrap();
        let fresh = Client::connect(address).unwrap();
        Self {
            slow,
            upload,
            stream,
            idle,
            begun,
            fresh,
        }
    }

    /// All goes well to its end; what ends goes on at one of the `living`.
    #[track_caller]
    fn finish(mut self, living: &BTreeSet<String>) {
        let wait_for_new = |client: &mut Client, what: &str| {
            wait_until(&format!("{what}, elsewhere"), || {
                living.contains(&client.get("/").unwrap().who())
            });
        };
        // The workers before cannot have ended, since they have this.
        self.upload.send("-last").unwrap();
        assert_eq!(self.upload.receive().unwrap().text(), "first-last");
        wait_for_new(&mut self.upload, "the upload");
        let lines = self.stream.receive().unwrap();
        let expected: String = (1..=LINES).map(|line| format!("{line}\n")).collect();
        assert!(lines.text() == expected, "{} bytes", lines.body.len());
        wait_for_new(&mut self.stream, "the stream");
        let slow = self.slow.receive().unwrap();
        assert_eq!(slow.text(), "waited 700 ms\n");
        assert!(!slow.closes());
        wait_for_new(&mut self.slow, "the slow answer");
        for client in [&mut self.idle, &mut self.begun, &mut self.fresh] {
            assert!(client.is_silent());
        }
        self.begun.send("P/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert!(living.contains(&self.begun.receive().unwrap().who()));
        for client in [&mut self.idle, &mut self.begun, &mut self.fresh] {
            let answer = client.get("/").unwrap();
            assert!(living.contains(&answer.who()) && !answer.closes());
        }
    }
}

fn drains_without_loss(mode: Mode, policy: &str) {
    let server = Server::start(mode, &["--workers", "2", "--schedule", policy]);
    let address = server.address();
    let all = [Busy::start(address), Busy::start(address)];
    server.signal(Signal::SIGHUP);
    let mut living = Vec::new();
    wait_until("new workers", || {
        living = server.workers();
        living.retain(|worker| worker.id > 2);
        living.len() == 2
    });
    let living = living.iter().map(|worker| worker.name(mode)).collect();
    for busy in all {
        busy.finish(&living);
    }
    server.log.wait(0, "reloaded: all workers are new");
    assert_eq!(server.workers().len(), 2);
    server.stop();
}

/// A worker that is stopped is no reason for anybody to wait for long; it comes back and serves.
#[test]
fn a_stopped_worker_under_each_policy() {
    let _alone = alone();
    for policy in POLICIES {
        let server = Server::start(Mode::Processes, &["--workers", "3", "--schedule", policy]);
        let address = server.address();
        let stopped = server.wait_for_workers(3)[1];
        let mut its_own = Client::of_worker(address, &stopped.name(Mode::Processes));
        stop(stopped);
        let mut clients = Vec::new();
        for _ in 0..100 {
            let (client, who) = Client::greeted(address);
            assert_ne!(who, stopped.name(Mode::Processes), "{policy}");
            clients.push((client, who));
        }
        its_own.ask("/").unwrap();
        stopped.signal(Signal::SIGCONT);
        assert_eq!(
            its_own.receive().unwrap().who(),
            stopped.name(Mode::Processes)
        );
        Client::of_worker(address, &stopped.name(Mode::Processes));
        for (client, who) in &mut clients {
            assert!(client.is_silent(), "a second answer, or an end");
            assert_eq!(client.get("/").unwrap().who(), *who);
        }
        server.stop();
    }
}

#[track_caller]
fn stop(worker: Worker) {
    worker.signal(Signal::SIGSTOP);
    wait_until("the worker is stopped", || watch::is_stopped(worker.pid));
}

/// No worker stays longer than it has work, nor any longer than the drain time, and the port is
/// free before that.
#[test]
fn a_primary_killed_under_each_policy() {
    for policy in POLICIES.into_iter().chain(["sticky-ip:reuseport"]) {
        let arguments = [
            "--workers",
            "3",
            "--schedule",
            policy,
            "--drain-timeout",
            "500ms",
        ];
        let mut server = Server::start(Mode::Processes, &arguments);
        let address = server.address();
        // One that a worker would wait an hour for.
        let (mut endless, _) = Client::greeted(address);
        endless.ask("/slow?ms=3600000").unwrap();
        let (idle, _) = Client::greeted(address);
        server.kill_primary();
        assert!(idle.ends(), "{policy}");
        assert!(endless.ends(), "{policy}");
        let ends = server.orphans_end();
        assert_eq!(ends.len(), 3, "{policy}: {ends:?}");
        for end in ends {
            assert!(matches!(end, WaitStatus::Exited(_, 0)), "{policy}: {end:?}");
        }
        assert!(is_refused(address), "{policy}");
        let next = command(&["-w", "2", "--schedule", policy, "-l", &address.to_string()]);
        let next = Server::launch(next);
        assert_eq!(next.address(), address);
        Client::greeted(address);
        next.stop();
    }
}

/// Being stopped excuses no worker from that.
#[test]
fn a_stopped_worker_does_not_outlive_its_primary() {
    let arguments = ["--workers", "2", "--drain-timeout", "500ms"];
    let mut server = Server::start(Mode::Processes, &arguments);
    let address = server.address();
    let (busy, who) = Client::greeted(address);
    let workers = server.wait_for_workers(2);
    for worker in &workers {
        stop(*worker);
    }
    server.kill_primary();
    let ends = server.orphans_end();
    assert_eq!(ends.len(), 2, "{who}: {ends:?}");
    assert!(busy.ends());
    assert!(is_refused(address));
}
