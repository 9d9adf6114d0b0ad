//! Who gets which connection, and what happens to those that a worker does not take.

use crate::client::Client;
use crate::support::{Mode, Server, Worker, both_modes, wait_until};
use crate::turns::alone;
use crate::watch;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;

/// Opens `count` connections at once; how many each worker answered.
fn spread(server: &Server, count: usize) -> BTreeMap<String, usize> {
    let address = server.address();
    let mut clients: Vec<_> = (0..count)
        .map(|_| Client::connect(address).unwrap())
        .collect();
    for client in &mut clients {
        client.ask("/").unwrap();
    }
    let mut spread = BTreeMap::new();
    for client in &mut clients {
        *spread.entry(client.receive().unwrap().who()).or_default() += 1;
    }
    spread
}

/// The scheduling policy of a process: a field of proc_pid_stat(5), where 0 is the usual one.
fn policy_of(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Its name may have any character in it, and ends with the last parenthesis.
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_whitespace().nth(38).unwrap().to_owned()
}

#[test]
fn a_primary_that_deals_makes_way_and_no_worker_does() {
    const BATCH: &str = "3";
    if policy_of(std::process::id() as i32) != "0" {
        return eprintln!("skipped: these tests run under a policy of their own");
    }
    let server = Server::start(Mode::Processes, &["--workers", "2", "--schedule", "rr"]);
    let address = server.address();
    let deals = || {
        // Fast, that is, which takes a few attempts on a busy machine.
        wait_until("the primary makes way", || {
            let burst = (0..100).map(|_| TcpStream::connect(address));
            drop(burst.collect::<Result<Vec<_>, _>>().unwrap());
            policy_of(server.pid()) == BATCH
        });
    };
    let workers = server.wait_for_workers(2);
    deals();
    workers[0].signal(Signal::SIGKILL);
    let successor = server.successor(workers[0], "died: signal 9 (SIGKILL)");
    deals();
    for worker in [workers[1], successor] {
        assert_eq!(policy_of(worker.pid), "0");
    }
    wait_until("one that has time makes no way", || {
        Client::greeted(address);
        policy_of(server.pid()) == "0"
    });
}

/// Opens 10,000 short connections to 8 workers, a few at a time, and prints how they fell: how many
/// each worker answered, which may be none.
fn shares_of_ten_thousand(mode: Mode, policy: &str) -> Vec<u64> {
    const CONNECTIONS: usize = 10_000;
    const CLIENTS: usize = 4;
    let _alone = alone();
    let server = Server::start(mode, &["--workers", "8", "--schedule", policy]);
    let address = server.address();
    let client = move || {
        let greet = |_| Client::greeted(address).1;
        (0..CONNECTIONS / CLIENTS).map(greet).collect::<Vec<_>>()
    };
    let threads: Vec<_> = (0..CLIENTS).map(|_| std::thread::spawn(client)).collect();
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    for who in threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
    {
        *answers.entry(who).or_default() += 1;
    }
    let workers = server.wait_for_workers(8).into_iter();
    let share = |worker: Worker| answers.get(&worker.name(mode)).copied().unwrap_or(0);
    let shares: Vec<u64> = workers.map(share).collect();
    assert_eq!(
        shares.iter().sum::<u64>(),
        CONNECTIONS as u64,
        "{answers:?}"
    );
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    let line = format!(
        "{policy}, {}: shares {shares:?}, Jain's index {:.4}, largest to smallest {most}:{least}\n",
        mode.name(),
        jain(&shares)
    );
    // Past libtest, which would keep the line of a test that passes to itself.
    let _ = std::io::stderr().write_all(line.as_bytes());
    server.stop();
    shares
}

/// What round robin promises of workers that do not stand still. One that the machine keeps from
/// its processor for 200 ms is passed over, as it should be: not each time.
#[track_caller]
fn within_three_tries(what: &str, happens: impl Fn() -> bool) {
    assert!((0..3).any(|_| happens()), "three times in vain: {what}");
}

/// Jain's index of fairness: 1 where all have the same, 1/n where one of n has all.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

both_modes! {
    fn round_robin_deals_equal_shares(mode) {
        let _alone = alone();
        within_three_tries("equal shares", || {
            let server = Server::start(mode, &["--workers", "8"]);
            let spread = spread(&server, 400);
            let workers = server.wait_for_workers(8);
            let equal = workers.iter().all(|one| spread.get(&one.name(mode)) == Some(&50));
            eprintln!("{spread:?}");
            server.stop();
            equal
        });
    }

    fn ten_thousand_under_round_robin(mode) {
        within_three_tries("shares within 2 %", || {
            let shares = shares_of_ten_thousand(mode, "rr");
            shares.iter().all(|share| (1225..=1275).contains(share))
        });
    }

    fn ten_thousand_under_least_connections(mode) {
        // Equals have their turns, and most are equal; but what is open is a little old.
        let shares = shares_of_ten_thousand(mode, "least-connections");
        assert!(jain(&shares) > 0.8, "{shares:?}");
    }

    fn ten_thousand_under_reuseport(mode) {
        // As a hash falls: a share's standard deviation is 33, and no worker may be left out.
        let shares = shares_of_ten_thousand(mode, "reuseport");
        assert!(shares.iter().all(|share| (625..=2500).contains(share)), "{shares:?}");
    }

    fn ten_thousand_under_shared(mode) {
        // Whom the kernel wakes is nobody's promise; that all are answered is.
        shares_of_ten_thousand(mode, "shared");
    }

    fn a_limit_of_connections_under_round_robin(mode) {
        the_sixth_waits(mode, "rr");
    }

    fn a_limit_of_connections_under_shared(mode) {
        the_sixth_waits(mode, "shared");
    }

    fn a_limit_of_connections_under_sticky_ip_in_the_kernel(mode) {
        the_sixth_waits(mode, "sticky-ip:reuseport");
    }

    fn room_for_ten_under_round_robin(mode) {
        all_room_is_used(mode, "rr");
    }

    fn room_for_ten_under_least_connections(mode) {
        all_room_is_used(mode, "least-connections");
    }

    fn room_for_ten_under_shared(mode) {
        all_room_is_used(mode, "shared");
    }

    fn room_for_ten_under_reuseport(mode) {
        all_room_is_used(mode, "reuseport");
    }

    fn room_for_ten_under_sticky_ip_in_the_kernel(mode) {
        all_room_is_used(mode, "sticky-ip:reuseport");
    }
}

/// One worker that is full is no reason to wait while another has room.
fn all_room_is_used(mode: Mode, policy: &str) {
    let limit = [
        "--workers",
        "2",
        "--max-connections",
        "5",
        "--schedule",
        policy,
    ];
    let server = Server::start(mode, &limit);
    let address = server.address();
    let greet = |_| {
        let (mut client, who) = Client::greeted(address);
        // By now whoever answered waits again, and may be the first to be woken again.
        client.get("/slow?ms=20").unwrap();
        (client, who)
    };
    let ten: Vec<_> = (0..10).map(greet).collect();
    for worker in server.wait_for_workers(2) {
        let name = worker.name(mode);
        let its = ten.iter().filter(|(_, who)| *who == name).count();
        assert_eq!(its, 5, "{policy}");
    }
    server.stop();
}

fn the_sixth_waits(mode: Mode, policy: &str) {
    let limit = [
        "--workers",
        "1",
        "--max-connections",
        "5",
        "--schedule",
        policy,
    ];
    let server = Server::start(mode, &limit);
    let address = server.address();
    let mut five: Vec<_> = (0..5).map(|_| Client::greeted(address).0).collect();
    let mut sixth = Client::connect(address).unwrap();
    sixth.ask("/").unwrap();
    // By the worker's own clock: time enough to answer the sixth, were it allowed to.
    assert_eq!(five[0].get("/slow?ms=200").unwrap().status, 200);
    for client in &mut five {
        assert_eq!(client.get("/").unwrap().status, 200);
    }
    assert!(sixth.is_silent(), "more than five");
    five.pop();
    assert_eq!(sixth.receive().unwrap().status, 200);
    // And the limit holds as before.
    let mut seventh = Client::connect(address).unwrap();
    seventh.ask("/").unwrap();
    assert_eq!(sixth.get("/slow?ms=200").unwrap().status, 200);
    assert!(seventh.is_silent(), "more than five");
    drop(sixth);
    assert_eq!(seventh.receive().unwrap().status, 200);
    server.stop();
}

#[test]
fn what_a_stopped_worker_was_handed_goes_to_others() {
    let _alone = alone();
    let server = Server::start(Mode::Processes, &["--workers", "3"]);
    let address = server.address();
    let stopped = server.wait_for_workers(3)[1];
    let name = stopped.name(Mode::Processes);
    stopped.signal(Signal::SIGSTOP);
    wait_until("the worker is stopped", || watch::is_stopped(stopped.pid));
    let mut clients: Vec<(Client, String)> = Vec::new();
    for _ in 0..200 {
        let (client, who) = Client::greeted(address);
        assert_ne!(who, name);
        clients.push((client, who));
    }
    stopped.signal(Signal::SIGCONT);
    wait_until("it serves again", || Client::greeted(address).1 == name);
    // By now it has met what was taken back from it.
    for (client, who) in &mut clients {
        assert!(client.is_silent(), "a second answer, or an end");
        assert_eq!(client.get("/").unwrap().who(), *who);
        assert!(client.is_silent(), "a second answer, or an end");
    }
    server.stop();
}

#[test]
fn a_handler_on_the_loop_keeps_nobody_elses_connection() {
    for schedule in ["rr", "least-connections"] {
        let words = [
            "--workers",
            "3",
            "--pool",
            "0",
            "--chaos",
            "--schedule",
            schedule,
        ];
        let server = Server::start(Mode::Processes, &words);
        let address = server.address();
        let workers = server.wait_for_workers(3);
        let mut hanging = Client::connect(address).unwrap();
        hanging.ask("/hang?ms=20000").unwrap();
        // One after the other, so that each waits alone. Whatever was the hanging worker's turn goes
        // to others.
        let mut names: Vec<String> = (0..12).map(|_| Client::greeted(address).1).collect();
        assert!(hanging.is_silent(), "its handler is still at work");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2, "{names:?}");
        let busy = |worker: &&Worker| !names.contains(&worker.name(Mode::Processes));
        workers.iter().find(busy).unwrap().signal(Signal::SIGKILL);
        server.stop();
    }
}

/// Has the only worker run out of descriptors, until it `says` so: the worker, a connection that it
/// has, and clients that have asked, not all of whom it could accept.
fn out_of_descriptors(server: &Server, says: &str) -> (Worker, Client, Vec<Client>) {
    let address = server.address();
    let worker = server.wait_for_workers(1)[0];
    let (first, _) = Client::greeted(address);
    let highest = watch::descriptors(worker.pid).last().unwrap().0;
    // From outside, since the command keeps its own limits out of reach.
    let limit = format!("--nofile={}", highest + 4);
    let pid = worker.pid.to_string();
    let mut prlimit = std::process::Command::new("prlimit");
    let status = prlimit.args(["--pid", &pid, &limit]).status();
    assert!(status.expect("prlimit of util-linux").success());
    let mut clients = Vec::new();
    let mark = server.log.mark();
    wait_until("it runs out of descriptors", || {
        let mut client = Client::connect(address).unwrap();
        client.ask("/").unwrap();
        clients.push(client);
        let log = server.log.all();
        log[mark..].iter().any(|line| line.contains(says))
    });
    (worker, first, clients)
}

#[test]
fn a_worker_out_of_descriptors_waits_for_one() {
    let server = Server::start(Mode::Processes, &["--workers", "1", "--schedule", "shared"]);
    let (worker, mut first, clients) = out_of_descriptors(&server, "accepting pauses");
    let before = watch::ticks(worker.pid);
    assert_eq!(first.get("/slow?ms=1000").unwrap().status, 200);
    let spent = watch::ticks(worker.pid) - before;
    assert!(
        spent < 50,
        "{spent} ticks of a hundred in a second: it spins"
    );
    // Answered one after the other, as those before them go.
    for mut client in clients {
        assert_eq!(client.receive().unwrap().status, 200);
    }
    assert_eq!(first.get("/").unwrap().status, 200);
    Client::greeted(server.address());
    server.stop();
}

#[test]
fn a_worker_out_of_descriptors_is_replaced_where_it_is_dealt_to() {
    for schedule in ["rr", "sticky-ip"] {
        let server = Server::start(Mode::Processes, &["--workers", "1", "--schedule", schedule]);
        let (worker, mut first, clients) = out_of_descriptors(&server, "makes room for another");
        for mut client in clients {
            assert_eq!(client.receive().unwrap().status, 200);
        }
        // What it has to do is done; what is idle goes to its successor, unless it asks before.
        server.log.wait(0, "exited: code 0");
        let successor = first.get("/").unwrap().who();
        assert_ne!(successor, worker.name(Mode::Processes));
        server.stop();
    }
}
