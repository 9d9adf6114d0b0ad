//! No descriptor is lost or shared by mistake, after many connections and many deaths.

use crate::client::{Client, is_loss};
use crate::support::{Mode, Server, both_modes, command_by_shell, wait_until};
use crate::turns::alone;
use crate::watch;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::thread;

const ROUNDS: usize = 20;
const CLIENTS: usize = 4;
const CONNECTIONS: usize = 250;

/// So many looks, two milliseconds apart, without a change: the primary lets go of its copy of a
/// connection some hundred milliseconds after it was taken.
const QUIET: u32 = 200;

/// Short connections, one after the other. Some are lost, since workers die meanwhile.
fn visit(address: SocketAddr) -> usize {
    let visit = || {
        let mut client = Client::connect(address)?;
        let answer = client.request("GET", "/", "Connection: close\r\n", "")?;
        answer.who();
        client.rest()
    };
    let mut lost = 0;
    for _ in 0..CONNECTIONS {
        match visit() {
            Ok(rest) => assert!(rest.is_empty()),
            Err(error) if is_loss(&error) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    lost
}

/// How many descriptors the primary has, then each worker that is a process of its own.
pub(crate) fn counts(server: &Server, mode: Mode) -> Vec<usize> {
    let mut pids = vec![server.pid()];
    if mode == Mode::Processes {
        pids.extend(server.workers().iter().map(|worker| worker.pid));
    }
    let count = |pid: &i32| watch::descriptors(*pid).len();
    pids.iter().map(count).collect()
}

/// The counts when nothing is in flight, so that they stay.
#[track_caller]
pub(crate) fn settled(server: &Server, mode: Mode, workers: usize) -> Vec<usize> {
    server.wait_for_workers(workers);
    let mut last = Vec::new();
    let mut same = 0;
    wait_until("the descriptors settle", || {
        let now = counts(server, mode);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == QUIET
    });
    last
}

both_modes! {
    fn none_is_lost(mode) {
        let _alone = alone();
        let server = Server::start(mode, &["--workers", "4", "--chaos"]);
        let address = server.address();
        let start = settled(&server, mode, 4);
        for _ in 0..ROUNDS {
            let visitors: Vec<_> = (0..CLIENTS)
                .map(|_| thread::spawn(move || visit(address)))
                .collect();
            // The oldest: every place has its turn, and no death is one of a newborn for long.
            let victim = server.wait_for_workers(4)[0];
            let how = match mode {
                Mode::Processes => {
                    victim.signal(Signal::SIGKILL);
                    "died: signal 9"
                }
                Mode::Threads => {
                    Client::connect(address).unwrap().ask("/panic?worker").unwrap();
                    "died: panic"
                }
            };
            for visitor in visitors {
                visitor.join().unwrap();
            }
            let deaths = || {
                let log = server.log.all();
                log.iter().filter(|line| line.contains(how)).count()
            };
            if mode == Mode::Processes {
                server.log.wait(0, &format!("worker {} (pid {}) died", victim.id, victim.pid));
            }
            wait_until("somebody died", || deaths() > 0);
            server.wait_for_workers(4);
        }
        wait_until(&format!("as many descriptors as at the start: {start:?}"), || {
            counts(&server, mode) == start
        });
        server.stop();
    }
}

/// Starts four workers, connects clients, and waits until each socket is in one process, but for
/// the listener where all have it.
fn nothing_else_is_shared(schedule: &str, all_have_the_listener: bool) {
    let server = Server::start(Mode::Processes, &["--workers", "4", "--schedule", schedule]);
    let address = server.address();
    let _clients: Vec<_> = (0..40).map(|_| Client::greeted(address)).collect();
    let listener = watch::listener(address);
    assert!(watch::sockets(server.pid()).contains(&listener));
    let mut pids = vec![server.pid()];
    pids.extend(server.workers().iter().map(|worker| worker.pid));
    // The primary lets go of what it handed over a moment after.
    wait_until("every other socket in one process", || {
        let mut all: Vec<_> = pids.iter().map(|&pid| watch::sockets(pid)).collect();
        let mut everywhere = || all.iter_mut().all(|sockets| sockets.remove(&listener));
        let have = !all_have_the_listener || everywhere();
        let disjoint = |index: usize| {
            let others = &all[index + 1..];
            others.iter().all(|other| all[index].is_disjoint(other))
        };
        have && (0..all.len()).all(disjoint)
    });
    server.stop();
}

#[test]
fn workers_that_are_handed_connections_share_nothing() {
    nothing_else_is_shared("sticky-ip", false);
}

#[test]
fn workers_that_accept_share_the_listener() {
    for schedule in ["rr", "least-connections", "shared"] {
        nothing_else_is_shared(schedule, true);
    }
}

/// More connections than the primary may have descriptors: it takes from workers that leave no
/// more than it can hold.
#[test]
fn a_reload_within_few_descriptors() {
    let _alone = alone();
    let script = "ulimit -n 400; exec \"$0\" \"$@\"";
    let command = command_by_shell(script, &["--workers", "3", "--listen", "127.0.0.1:0"]);
    let server = Server::launch(command);
    let address = server.address();
    let mut idle: Vec<Client> = (0..750).map(|_| Client::greeted(address).0).collect();
    for _ in 0..2 {
        let mark = server.log.mark();
        server.signal(Signal::SIGHUP);
        server.log.wait(mark, "reloaded: all workers are new");
        for client in &mut idle {
            client.get("/").unwrap();
        }
    }
    // Fewer workers than have room for all of them: what nobody takes holds no stop up.
    for _ in 0..2 {
        server.signal(Signal::SIGTTOU);
        server.log.wait(0, "workers in place of");
    }
    server.stop();
}
