//! Upgrade in place under workers that are programs: the same ones go on in the new program, and no
//! client notices, until they are replaced.

use crate::client::Client;
use crate::examples::{skipped, tool};
use crate::node::{node_is_there, output_of, program};
use crate::support::{Directory, Mode, Server, Worker, command, wait_until};
use crate::upgrade::{install_binary, installed, script};
use crate::watch::listeners;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, JoinHandle};

/// Starts the program at `path`, with two workers.
fn start(path: &Path, arguments: &[&str]) -> Server {
    let bare = command(arguments);
    let mut command = Command::new(path);
    command.env_clear().args(bare.get_args());
    for (name, value) in bare.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    Server::launch(command)
}

fn start_node(path: &Path, arguments: &[&str]) -> (Server, SocketAddr) {
    let script = program("upgraded.js");
    let usual = ["start", script.to_str().unwrap(), "-i2"];
    let server = start(path, &[&usual, arguments].concat());
    let address = server.address();
    server.wait_for_workers(2);
    (server, address)
}

/// Has it upgraded, and gives back the line behind which the new program goes on.
#[track_caller]
fn upgrade(server: &Server) -> usize {
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR2);
    let words = "upgraded: this program took over 2 workers";
    server.log.wait(mark, words);
    server.log.wait(mark, "reloaded: all workers are new");
    let lines = server.log.all();
    let found = lines[mark..].iter().position(|line| line.contains(words));
    mark + found.unwrap()
}

/// Those were there before an upgrade: they end in good order, and not before others listen.
#[track_caller]
fn they_served_throughout(server: &Server, before: &[Worker], mark: usize) {
    for worker in before {
        let mut heard = Vec::new();
        server.log.find(mark, |line| {
            let (found, rest) = Worker::of_line(line)?;
            (found.pid == worker.pid && rest.starts_with("exited: code 0")).then_some(())
        });
        for line in &server.log.all()[mark..] {
            if let Some((found, rest)) = Worker::of_line(line) {
                if found.pid == worker.pid {
                    assert!(rest.starts_with("exited: code 0"), "{line}");
                    assert!(!heard.is_empty(), "nobody was there yet");
                    break;
                }
                if rest.starts_with("is listening") {
                    heard.push(found);
                }
            }
        }
    }
}

#[test]
fn node_workers_outlive_the_program() {
    if !node_is_there() {
        return;
    }
    let directory = Directory::new();
    let path = installed(&directory);
    let (server, address) = start_node(&path, &[]);
    let primary = server.pid();
    let load = Clients::start(address, 8);
    // Connections of one request each, in a row.
    let fresh = thread::spawn(move || {
        for _ in 0..300 {
            let mut client = Client::connect(address).expect("it listens");
            client.get("/").expect("an answer").who();
        }
    });
    for _ in 0..3 {
        let before = server.wait_for_workers(2);
        let mut slow = Client::connect(address).unwrap();
        slow.ask("/slow").unwrap();
        let mark = upgrade(&server);
        let who = slow.receive().unwrap().who();
        let names = before.iter().map(|one| one.name(Mode::Processes));
        assert!(names.into_iter().any(|name| name == who), "{who}");
        they_served_throughout(&server, &before, mark);
        load.go_on();
    }
    fresh.join().unwrap();
    assert_eq!(server.pid(), primary);
    load.stop();
    // Whoever comes later is told of the same port.
    let ports: BTreeSet<String> = said(&server, "listening on port ")
        .into_values()
        .flatten()
        .collect();
    assert_eq!(ports, BTreeSet::from([address.port().to_string()]));
    // No line was lost, or torn.
    for (worker, ticks) in said(&server, "tick ") {
        let numbers = ticks.iter().map(|tick| {
            let (number, _) = tick.split_once(" of ").expect("a whole line");
            number.parse::<usize>().unwrap()
        });
        let wanted: Vec<usize> = (1..=ticks.len()).collect();
        assert_eq!(numbers.collect::<Vec<_>>(), wanted, "worker {worker}");
    }
    server.stop();
}

/// What each worker has said in lines that begin so.
fn said(server: &Server, words: &str) -> BTreeMap<u32, Vec<String>> {
    let mut said = BTreeMap::<u32, Vec<String>>::new();
    for line in server.log.all() {
        if let Some((worker, line)) = output_of(&line)
            && let Some(rest) = line.strip_prefix(words)
        {
            said.entry(worker).or_default().push(rest.to_owned());
        }
    }
    said
}

#[test]
fn a_node_worker_that_dies_after_an_upgrade_is_replaced() {
    if !node_is_there() {
        return;
    }
    let directory = Directory::new();
    let path = installed(&directory);
    let (server, address) = start_node(&path, &["--schedule", "shared"]);
    upgrade(&server);
    let [victim, _] = server.wait_for_workers(2)[..] else {
        panic!("two workers");
    };
    victim.signal(Signal::SIGKILL);
    server.successor(victim, "died: signal 9 (SIGKILL)");
    Client::connect(address).unwrap().get("/").unwrap().who();
    server.stop();
}

#[test]
fn a_program_that_fails_leaves_node_workers_with_the_one_before() {
    if !node_is_there() {
        return;
    }
    let directory = Directory::new();
    let path = installed(&directory);
    let (server, address) = start_node(&path, &[]);
    let before = server.wait_for_workers(2);
    let load = Clients::start(address, 4);
    script(&path, "#!/bin/sh\nexit 7\n");
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR2);
    server.log.wait(mark, "exit status: 7");
    load.go_on();
    assert_eq!(server.wait_for_workers(2), before);
    install_binary(&path);
    upgrade(&server);
    load.stop();
    server.stop();
}

/// The interpreter, or a word that there is none.
fn python() -> Option<String> {
    match tool("python3") {
        Ok(python) => Some(python.to_str().unwrap().to_owned()),
        Err(missing) => {
            skipped("an upgrade under inherited sockets", &missing);
            None
        }
    }
}

#[test]
fn programs_with_inherited_sockets_outlive_it() {
    let Some(python) = python() else {
        return;
    };
    let directory = Directory::new();
    let path = installed(&directory);
    let script = program("sockets/inherits.py");
    let words = ["start", script.to_str().unwrap(), "-i2"];
    let socket = ["--listen", "127.0.0.1:0", "--interpreter"];
    let python = [&python, "--", "finishes"];
    let server = start(&path, &[&words[..], &socket, &python].concat());
    let load = Clients::start(server.address(), 4);
    for _ in 0..3 {
        let before = server.wait_for_workers(2);
        let mark = upgrade(&server);
        they_served_throughout(&server, &before, mark);
        load.go_on();
    }
    load.stop();
    server.stop();
}

/// Whose sockets each of them has is known to the new program, which by its file wants it otherwise.
#[test]
fn sockets_of_their_own_are_shared_after_it() {
    let Some(python) = python() else {
        return;
    };
    let directory = Directory::new();
    let path = installed(&directory);
    let script = program("sockets/inherits.py");
    let file = directory.file("mcluster.toml");
    let write = |policy: &str| {
        let text = format!(
            "[[app]]\nprogram = {script:?}\ninterpreter = {python:?}\nargs = 'finishes'\n\
             listen = '127.0.0.1:0'\nworkers = 2\nschedule = '{policy}'\n"
        );
        fs::write(&file, text).unwrap();
    };
    write("reuseport");
    let server = start(&path, &["start", "--config", file.to_str().unwrap()]);
    let address = server.address();
    let load = Clients::start(address, 4);
    for (policy, sockets) in [("shared", 1), ("reuseport", 2), ("shared", 1)] {
        let before = server.wait_for_workers(2);
        write(policy);
        let mark = upgrade(&server);
        they_served_throughout(&server, &before, mark);
        load.go_on();
        wait_until("as many sockets as the policy wants", || {
            listeners(address).len() == sockets
        });
    }
    load.stop();
    server.stop();
}

/// One that has said that it is ready is not asked to say so again.
#[test]
fn who_was_ready_stays_ready() {
    let Some(python) = python() else {
        return;
    };
    let directory = Directory::new();
    let path = installed(&directory);
    let script = program("sockets/inherits.py");
    let server = start(
        &path,
        &[
            "start",
            script.to_str().unwrap(),
            "-i1",
            "--listen=127.0.0.1:0",
            "--interpreter",
            &python,
            "--wait-ready",
            "--listen-timeout=10m",
            "--",
            "notify",
        ],
    );
    let waits = |id: u32, mark: usize| {
        server.log.find(mark, |line| {
            let (who, words) = output_of(line)?;
            (who == id && words == "waits").then_some(())
        });
        let newest = children(&server).into_iter().max();
        Worker {
            id,
            pid: newest.unwrap(),
        }
    };
    let first = waits(1, 0);
    first.signal(Signal::SIGUSR1);
    assert_eq!(server.wait_for_workers(1), [first]);
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR2);
    server
        .log
        .wait(mark, "upgraded: this program took over 1 workers");
    let second = waits(2, mark);
    Client::connect(server.address())
        .unwrap()
        .get("/")
        .unwrap()
        .who();
    assert_eq!(server.workers(), [first]);
    second.signal(Signal::SIGUSR1);
    server.log.wait(mark, "reloaded: all workers are new");
    assert_eq!(server.wait_for_workers(1), [second]);
    server.stop();
}

#[test]
fn files_are_watched_by_the_new_program() {
    if !node_is_there() {
        return;
    }
    let directory = Directory::new();
    let path = installed(&directory);
    let watched = directory.file("watched");
    fs::create_dir(&watched).unwrap();
    let (server, address) = start_node(&path, &["--watch", watched.to_str().unwrap()]);
    let ready = || {
        server
            .log
            .all()
            .iter()
            .filter(|line| line.contains("watching "))
            .count()
    };
    for round in 1..=2 {
        upgrade(&server);
        wait_until("files are watched", || ready() > round);
        let mark = server.log.mark();
        fs::write(watched.join("file"), "changed").unwrap();
        server.log.wait(mark, "has changed: reloading");
        server.log.wait(mark, "reloaded: all workers are new");
        let reloads = server.log.all()[mark..].join("\n");
        let reloads = reloads.matches("has changed: reloading").count();
        assert_eq!(reloads, 1, "the process before watches no more");
    }
    Client::connect(address).unwrap().get("/").unwrap().who();
    let aside = directory.file("aside");
    fs::rename(&watched, &aside).unwrap();
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR2);
    server.log.wait(mark, "does not take over: exit status: 2");
    fs::rename(&aside, &watched).unwrap();
    // Nothing is left of those that watched before.
    let workers = server.wait_for_workers(2);
    wait_until("the workers and who watches now", || {
        children(&server).len() == workers.len() + 1
    });
    server.stop();
}

/// The processes of a primary.
fn children(server: &Server) -> Vec<i32> {
    let path = format!("/proc/{0}/task/{0}/children", server.pid());
    let children = fs::read_to_string(path).unwrap();
    let all = children.split_whitespace();
    all.map(|pid| pid.parse().unwrap()).collect()
}

/// Clients that ask again and again, and go elsewhere when they are told to.
struct Clients {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(address: SocketAddr, count: usize) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let mut client = Client::connect(address).expect("it listens");
                    while !stop.load(Relaxed) {
                        let answer = client.get("/").expect("an answer");
                        answer.who();
                        answers.fetch_add(1, Relaxed);
                        if answer.closes() {
                            break;
                        }
                    }
                }
            })
        };
        let threads = (0..count).map(client).collect();
        let clients = Self {
            stop,
            answers,
            threads,
        };
        clients.go_on();
        clients
    }

    fn go_on(&self) {
        let wanted = self.answers.load(Relaxed) + 10 * self.threads.len() as u64;
        wait_until("answers", || {
            let ended = self.threads.iter().any(JoinHandle::is_finished);
            ended || self.answers.load(Relaxed) >= wanted
        });
    }

    /// All had all their answers.
    fn stop(self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().expect("nothing was lost");
        }
    }
}
