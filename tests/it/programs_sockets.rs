//! Programs that inherit their sockets: any executable, by `mcluster start --listen`.
//!
//! `tests/programs/sockets` has programs of Python's standard library that behave as told, and
//! `examples/programs` those that users are shown. Where there is no Python, or no server of its
//! registry, one line says so and the test passes.

use crate::client::Client;
use crate::examples::{skipped, tool};
use crate::load::Load;
use crate::node::installed;
use crate::support::{Directory, Server, Worker, command, output, wait_until};
use crate::tidy::root;
use crate::watch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// A cluster of such programs.
struct Programs {
    server: Server,
    socket: PathBuf,
    address: SocketAddr,
    _directory: Directory,
}

impl Programs {
    fn start(count: &str, words: &[&str]) -> Self {
        let directory = Directory::new();
        let socket = directory.file("c.sock");
        let control = socket.to_str().unwrap();
        let mut all = vec!["start", "--listen", "127.0.0.1:0", "--workers", count];
        all.extend(["--control", control]);
        all.extend(words);
        let server = Server::launch(command(&all));
        let address = server.address();
        Self {
            server,
            socket,
            address,
            _directory: directory,
        }
    }

    fn steer(&self, words: &[&str]) -> (i32, String) {
        let control = self.socket.to_str().unwrap();
        let output = output(command(&[words, &["--control", control]].concat()));
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    }

    /// The same, which works.
    #[track_caller]
    fn steered(&self, words: &[&str]) {
        let (status, said) = self.steer(words);
        assert_eq!(status, 0, "{said}");
    }

    fn reload(&self) {
        self.steered(&["reload"]);
    }

    /// Clients that have asked workers which stand still, before these are killed.
    fn left_waiting(&self, workers: &[Worker]) -> Vec<Client> {
        for worker in workers {
            worker.signal(Signal::SIGSTOP);
        }
        let mut clients: Vec<Client> = (0..32)
            .map(|_| Client::connect(self.address).unwrap())
            .collect();
        for client in &mut clients {
            client.ask("/").unwrap();
        }
        for worker in workers {
            worker.signal(Signal::SIGKILL);
        }
        clients
    }

    /// Who answers, of those that many clients come to.
    fn who_answer(&self) -> BTreeSet<String> {
        (0..64).map(|_| self.asks()).collect()
    }

    /// The worker that is launched in place of `worker`, once it listens.
    fn successor(&self, mark: usize, worker: Worker) -> Worker {
        self.server.log.find(mark, |line| {
            let (found, rest) = Worker::of_line(line)?;
            (found.id > worker.id && rest.starts_with("is listening")).then_some(found)
        })
    }

    fn asks(&self) -> String {
        let mut client = Client::connect(self.address).unwrap();
        client.get("/").unwrap().who()
    }
}

fn of(worker: Worker) -> String {
    format!("Handled by process {}", worker.pid)
}

fn names(workers: &[Worker]) -> BTreeSet<String> {
    workers.iter().copied().map(of).collect()
}

/// Where Python is, with a line that says so where it is not.
fn python() -> Option<String> {
    let found = tool("python3");
    let found = found.inspect_err(|missing| skipped("programs with inherited sockets", missing));
    Some(found.ok()?.to_str().unwrap().to_owned())
}

fn file(path: &str) -> String {
    root().join(path).to_str().unwrap().to_owned()
}

const INHERITS: &str = "tests/programs/sockets/inherits.py";

/// A cluster of the tests' program, which behaves as `mode` says, in one word or several.
fn inherits(count: &str, mode: &str, words: &[&str]) -> Option<Programs> {
    let (python, script) = (python()?, file(INHERITS));
    let mut all = vec![script.as_str(), "--interpreter", &python];
    all.extend(words);
    all.push("--");
    all.extend(mode.split(' '));
    Some(Programs::start(count, &all))
}

#[test]
fn one_that_waits_in_any_way_is_found_ready() {
    for mode in ["loop", "epoll"] {
        // Longer than the test would wait: it is seen.
        let Some(cluster) = inherits("2", mode, &["--listen-timeout", "10m"]) else {
            return;
        };
        let workers = cluster.server.wait_for_workers(2);
        let mark = cluster.server.log.mark();
        workers[0].signal(Signal::SIGKILL);
        let next = cluster.successor(mark, workers[0]);
        let all = [of(next), of(workers[1])];
        assert!(all.contains(&cluster.asks()));
        cluster.reload();
        assert!(!all.contains(&cluster.asks()));
        let ended = cluster.server.stop();
        assert!(ended.status.success(), "{ended:?}");
    }
}

#[test]
fn one_may_be_ready_when_it_says_so() {
    let Some(python) = python() else {
        return;
    };
    let script = file(INHERITS);
    let mut words = vec![
        "start",
        "--listen",
        "127.0.0.1:0",
        "-w",
        "1",
        "--wait-ready",
    ];
    words.extend(["--listen-timeout", "10m", &script, "--interpreter", &python]);
    words.extend(["--", "notify"]);
    let server = Server::launch(command(&words));
    server.log.wait(0, "waits");
    let primary = server.pid();
    let children = std::fs::read_to_string(format!("/proc/{primary}/task/{primary}/children"));
    let worker: i32 = children.unwrap().trim().parse().unwrap();
    assert!(
        server.out.all().is_empty(),
        "it accepts, and has not said so"
    );
    kill(Pid::from_raw(worker), Signal::SIGUSR1).unwrap();
    let mut client = Client::connect(server.address()).unwrap();
    assert_eq!(
        client.get("/").unwrap().who(),
        format!("Handled by process {worker}")
    );
    server.stop();
}

#[test]
fn one_that_says_it_goes_is_replaced() {
    let Some(cluster) = inherits("1", "stops", &[]) else {
        return;
    };
    let worker = cluster.server.wait_for_workers(1)[0];
    let mark = cluster.server.log.mark();
    worker.signal(Signal::SIGUSR1);
    let next = cluster.successor(mark, worker);
    wait_until("the successor", || cluster.asks() == of(next));
    cluster.server.stop();
}

#[test]
fn one_that_does_not_go_is_killed_with_its_children() {
    let Some(cluster) = inherits("1", "stubborn", &["--drain-timeout", "300ms"]) else {
        return;
    };
    let child = cluster.server.log.find(0, |line| {
        let (_, pid) = line.split_once("child ")?;
        pid.trim().parse::<i32>().ok()
    });
    let worker = cluster.server.wait_for_workers(1)[0];
    cluster.reload();
    // Whoever it is left to may take its time to bury it.
    wait_until("the end of a child", || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('Z'));
        state.unwrap_or(true)
    });
    assert_ne!(cluster.asks(), of(worker));
    cluster.server.stop();
}

#[test]
fn what_waits_at_a_worker_that_dies_is_its_successors() {
    let Some(cluster) = inherits("2", "loop", &["--schedule", "reuseport"]) else {
        return;
    };
    let workers = cluster.server.wait_for_workers(2);
    let mark = cluster.server.log.mark();
    let mut clients = cluster.left_waiting(&workers);
    let mut pids = Vec::new();
    // Each of the dead may have accepted one before it stood still.
    let mut lost = 0;
    for client in &mut clients {
        match client.receive() {
            Ok(answer) => pids.push(answer.who()),
            Err(_) => lost += 1,
        }
    }
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 2, "{pids:?}");
    assert!(lost <= 2, "{lost} lost");
    cluster.successor(mark, workers[0]);
    cluster.steered(&["scale", "1"]);
    for _ in 0..32 {
        cluster.asks();
    }
    cluster.server.stop();
}

/// Under `reuseport` its socket has clients of its own; new ones come to it when it accepts.
#[test]
fn who_does_not_accept_yet_keeps_nobody_waiting() {
    let directory = Directory::new();
    let late = directory.file("late");
    let mode = format!("late {}", late.display());
    let words = ["--schedule", "reuseport", "--listen-timeout", "10m"];
    let Some(cluster) = inherits("3", &mode, &words) else {
        return;
    };
    let workers = cluster.server.wait_for_workers(3);
    std::fs::write(&late, "").unwrap();
    assert_eq!(cluster.who_answer(), names(&workers));
    // In the middle and at the end.
    for dead in [workers[1], workers[2]] {
        let mark = cluster.server.log.mark();
        dead.signal(Signal::SIGKILL);
        cluster.server.log.wait(mark, "waits");
        let others = workers.iter().filter(|one| **one != dead);
        let others = BTreeSet::from_iter(others.copied().map(of));
        assert!(cluster.who_answer().is_subset(&others));
    }
    let late = watch::children(cluster.server.pid()).into_iter();
    for pid in late.filter(|pid| *pid != workers[0].pid) {
        kill(Pid::from_raw(pid), Signal::SIGUSR1).unwrap();
    }
    let workers = cluster.server.wait_for_workers(3);
    assert_eq!(cluster.who_answer(), names(&workers));
    cluster.server.stop();
}

/// Does something, while eight clients connect again and again of whom nobody may be lost.
#[track_caller]
fn nobody_is_lost(cluster: &Programs, act: impl FnOnce()) {
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let asks = || -> Vec<String> {
        let mut lost = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let client = Client::connect(cluster.address);
            match client.and_then(|mut client| client.get("/")) {
                Ok(_) => drop(answers.fetch_add(1, Ordering::Relaxed)),
                Err(error) => lost.push(error.to_string()),
            }
        }
        lost
    };
    let (done, lost) = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(asks)).collect();
        let done = catch_unwind(AssertUnwindSafe(act));
        stop.store(true, Ordering::Relaxed);
        let lost = clients.into_iter().flat_map(|one| one.join().unwrap());
        (done, lost.collect::<Vec<_>>())
    });
    done.unwrap_or_else(|why| resume_unwind(why));
    assert!(answers.into_inner() > 0);
    assert_eq!(lost, Vec::<String>::new());
}

#[test]
fn a_smaller_number_costs_no_connection() {
    let Some(cluster) = inherits("4", "finishes", &["--schedule", "reuseport"]) else {
        return;
    };
    cluster.server.wait_for_workers(4);
    nobody_is_lost(&cluster, || {
        for count in ["1", "4", "2", "3", "1"] {
            cluster.steered(&["scale", count]);
        }
    });
    cluster.server.stop();
}

#[test]
fn another_policy_has_them_share_their_sockets_or_not() {
    let Some(cluster) = inherits("3", "finishes", &["--schedule", "reuseport"]) else {
        return;
    };
    cluster.server.wait_for_workers(3);
    assert_eq!(watch::listeners(cluster.address).len(), 3);
    nobody_is_lost(&cluster, || {
        for (policy, sockets) in [("shared", 1), ("reuseport", 3), ("shared", 1)] {
            let mark = cluster.server.log.mark();
            cluster.steered(&["schedule", policy]);
            cluster.server.log.wait(mark, "all workers are new");
            wait_until("as many sockets as the policy wants", || {
                watch::listeners(cluster.address).len() == sockets
            });
            for worker in cluster.server.wait_for_workers(3) {
                let theirs = watch::sockets(worker.pid);
                let all = watch::listeners(cluster.address);
                let has = all.iter().filter(|one| theirs.contains(*one));
                assert_eq!(has.count(), 1, "{theirs:?} of {all:?}");
            }
        }
    });
    cluster.server.stop();
}

/// Whoever waits at the socket of a place whose worker is dead, and which is to have none any more.
#[test]
fn another_policy_leaves_nobody_behind() {
    let words = ["--schedule", "reuseport", "--restart-delay", "2s"];
    let Some(cluster) = inherits("3", "loop", &words) else {
        return;
    };
    let workers = cluster.server.wait_for_workers(3);
    let mut clients = cluster.left_waiting(&workers);
    for worker in workers {
        let died = format!("{} (pid {}) died: ", worker.id, worker.pid);
        cluster.server.log.wait(0, &died);
    }
    cluster.steered(&["schedule", "shared"]);
    let lost = clients.iter_mut().filter_map(|one| one.receive().err());
    assert!(
        lost.count() <= 3,
        "each may have accepted one before it stood still"
    );
    wait_until("a socket for all", || {
        watch::listeners(cluster.address).len() == 1
    });
    cluster.server.stop();
}

#[test]
fn a_policy_that_cannot_be_had_leaves_all_that_serve() {
    let directory = Directory::new();
    let fails = directory.file("fails");
    let mode = format!("unless {}", fails.display());
    let words = ["--schedule", "reuseport", "--listen-timeout", "10m"];
    let Some(cluster) = inherits("3", &mode, &words) else {
        return;
    };
    let workers = cluster.server.wait_for_workers(3);
    std::fs::write(&fails, "").unwrap();
    let (status, said) = cluster.steer(&["schedule", "shared"]);
    assert_eq!(status, 8, "{said}");
    assert_eq!(cluster.who_answer(), names(&workers));
    let mark = cluster.server.log.mark();
    workers[0].signal(Signal::SIGKILL);
    // Its successor as well: by then nobody is led there.
    cluster.server.log.wait(mark, "; forking another in");
    assert_eq!(cluster.who_answer(), names(&workers[1..]));
    cluster.server.stop();
}

#[test]
fn what_it_cannot_be_handed_is_refused() {
    let Some(python) = python() else {
        return;
    };
    let script = file(INHERITS);
    for policy in ["rr", "sticky-ip", "least-connections"] {
        let mut words = vec!["start", &script, "--interpreter", &python, "--listen", ":0"];
        words.extend(["--schedule", policy, "--", "loop"]);
        let refused = output(command(&words));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("schedule"), "{said}");
    }
}

/// Reloads under load. Clients that were served before may be lost where the server is known to close
/// idle connections, on which the next request may be under way.
fn reloads(words: &[&str], reloads: usize, closes_idle: bool) {
    let cluster = Programs::start("2", words);
    let load = Load::start(cluster.address, 16);
    for _ in 0..reloads {
        cluster.reload();
        load.go_on();
    }
    let tally = load.stop();
    // Ours hands connections on, and has no need to end them; these say so in their last answer.
    let ended = |one: &&String| one.contains("status: 200") && one.contains("close");
    let mut wrong = tally.wrong.iter().filter(|one| !ended(one));
    assert_eq!(wrong.next(), None);
    let mut lost = tally.lost.iter();
    assert_eq!(tally.refused, 0, "{tally:?}");
    assert!(lost.all(|one| closes_idle && one.is_some()), "{tally:?}");
    cluster.server.stop();
}

#[test]
fn a_reload_of_the_standard_library_loses_nothing() {
    if let Some(python) = python() {
        let script = file("examples/programs/server.py");
        reloads(&[&script, "--interpreter", &python], 5, false);
    }
}

/// A server of the registry for the examples' application.
fn registered(name: &str, arguments: &[&str], closes_idle: bool) {
    let Some(folder) = installed("python") else {
        return;
    };
    let server: PathBuf = Path::new(&folder).join("bin").join(name);
    let place = file("examples/programs");
    let mut words = vec![server.to_str().unwrap(), "--interpreter", "none"];
    words.extend(["--cwd", &place, "--"]);
    words.extend(arguments);
    reloads(&words, 2, closes_idle);
}

#[test]
fn gunicorn_finds_its_socket() {
    registered("gunicorn", &["--threads", "4", "wsgi:app"], false);
}

#[test]
fn uvicorn_has_its_socket_by_descriptor() {
    let words = ["--fd", "3", "--no-access-log", "asgi:app"];
    registered("uvicorn", &words, true);
}
