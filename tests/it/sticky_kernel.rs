//! Clients that the kernel keeps with their workers, by their addresses: who moves, and who does not,
//! whatever becomes of the workers.

use crate::client::{Client, is_refused};
use crate::steered::Steered;
use crate::support::{Mode, Server, both_modes, wait_until};
use crate::turns::alone;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::{self, JoinHandle};

const POLICY: &str = "sticky-ip:reuseport";

const CLIENTS: usize = 1000;

/// The address of a client, in 127.0.0.0/8.
fn source(client: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 3, (client / 250) as u8, (client % 250) as u8 + 1)
}

/// Who answers a new connection of a client.
fn answer_to(client: usize, address: SocketAddr) -> io::Result<String> {
    let fd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let source = SocketAddr::from((source(client), 0));
    bind(fd.as_raw_fd(), &SockaddrStorage::from(source))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(Client::of(TcpStream::from(fd))?.get("/")?.who())
}

/// New connections of several clients, each of which waits for its answer.
fn ask_at_once(clients: &[usize], address: SocketAddr) -> Vec<JoinHandle<String>> {
    let ask = |&client: &usize| thread::spawn(move || answer_to(client, address).unwrap());
    clients.iter().map(ask).collect()
}

/// Who serves each client.
type Owners = Vec<String>;

/// Who answers all clients, `times` each, which must be one.
#[track_caller]
fn owners(server: &Server, times: usize) -> Owners {
    let address = server.address();
    let of_one = |client| answer_to(client, address).unwrap();
    let owners: Owners = (0..CLIENTS).map(of_one).collect();
    for _ in 1..times {
        let again: Owners = (0..CLIENTS).map(of_one).collect();
        assert_same(&owners, &again);
    }
    owners
}

/// The clients that have another worker than before.
fn moved(before: &Owners, after: &Owners) -> Vec<usize> {
    let pairs = before.iter().zip(after).enumerate();
    let moved = pairs.filter(|(_, (before, after))| before != after);
    moved.map(|(client, _)| client).collect()
}

/// No client has another worker than before.
#[track_caller]
fn assert_same(before: &Owners, after: &Owners) {
    let moved = moved(before, after);
    assert!(
        moved.is_empty(),
        "{} clients have moved: {moved:?}",
        moved.len()
    );
}

/// Every worker's clients have gone to one other, its successor, or stay.
#[track_caller]
fn only_successors(before: &Owners, after: &Owners) {
    let (mut heirs, mut testators) = (BTreeMap::new(), BTreeMap::new());
    for (before, after) in before.iter().zip(after) {
        assert_eq!(*heirs.entry(before).or_insert(after), after, "of {before}");
        assert_eq!(
            *testators.entry(after).or_insert(before),
            before,
            "at {after}"
        );
    }
}

/// Prints how even the shares are.
#[track_caller]
fn shares(mode: Mode, owners: &Owners, workers: usize) {
    let mut shares = BTreeMap::<_, usize>::new();
    for owner in owners {
        *shares.entry(owner).or_default() += 1;
    }
    assert_eq!(shares.len(), workers, "{shares:?}");
    let squares: usize = shares.values().map(|share| share * share).sum();
    let jain = (CLIENTS * CLIENTS) as f64 / (workers * squares) as f64;
    let each: Vec<_> = shares.values().collect();
    let name = mode.name();
    let line = format!("{POLICY}, {name}: {CLIENTS} clients as {each:?}, Jain's index {jain:.4}\n");
    // Past libtest, which would keep the line of a test that passes to itself.
    let _ = io::stderr().write_all(line.as_bytes());
    assert!(jain > 0.95, "{jain}");
}

fn steer(cluster: &Steered, words: &[&str]) {
    let (status, said) = cluster.steer(words);
    assert_eq!(status, 0, "{words:?}: {said}");
}

/// Eight workers; as many as that only after a moment.
fn start(mode: Mode) -> Steered {
    let cluster = Steered::start(mode, &["--schedule", POLICY, "--worker-timeout", "0"]);
    steer(&cluster, &["scale", "8"]);
    cluster.server.wait_for_workers(8);
    cluster
}

#[track_caller]
fn reloaded(server: &Server, signal: Signal) {
    let mark = server.log.mark();
    server.signal(signal);
    server.log.wait(mark, "reloaded: all workers are new");
    server.wait_for_workers(8);
}

both_modes! {
    fn clients_stay_with_one_worker(mode) {
        let _alone = alone();
        let cluster = start(mode);
        let server = &cluster.server;
        let first = owners(server, 3);
        shares(mode, &first, 8);
        // The primary comes to the same by its own arithmetic, and the kernel may forget it.
        steer(&cluster, &["schedule", "sticky-ip"]);
        assert_same(&first, &owners(server, 1));
        steer(&cluster, &["schedule", "reuseport"]);
        assert!(moved(&first, &owners(server, 1)).len() > CLIENTS / 2);
        steer(&cluster, &["schedule", POLICY]);
        assert_same(&first, &owners(server, 1));
        reloaded(server, Signal::SIGHUP);
        let second = owners(server, 1);
        only_successors(&first, &second);
        assert_eq!(moved(&first, &second).len(), CLIENTS);
        cluster.server.stop();
    }

    fn fewer_workers_and_more_move_as_few_clients_as_can_be(mode) {
        let _alone = alone();
        let cluster = start(mode);
        let server = &cluster.server;
        let eight = owners(server, 1);
        steer(&cluster, &["scale", "4"]);
        let stay: BTreeSet<_> = server.wait_for_workers(4).iter().map(|one| one.name(mode)).collect();
        let four = owners(server, 2);
        shares(mode, &four, 4);
        for client in moved(&eight, &four) {
            assert!(!stay.contains(&eight[client]), "{} had a worker", source(client));
        }
        steer(&cluster, &["scale", "8"]);
        server.wait_for_workers(8);
        let again = owners(server, 2);
        only_successors(&eight, &again);
        for client in moved(&eight, &again) {
            assert!(!stay.contains(&eight[client]), "{} had a worker", source(client));
        }
        steer(&cluster, &["scale", "11"]);
        let new: BTreeSet<_> = server.wait_for_workers(11).split_off(8).iter().map(|one| one.name(mode)).collect();
        let eleven = owners(server, 2);
        for client in moved(&again, &eleven) {
            assert!(new.contains(&eleven[client]), "{} is no new worker's", source(client));
        }
        cluster.server.stop();
    }
}

/// While a worker is away, and while another stands still.
#[test]
fn only_the_clients_of_a_dead_worker_move() {
    let _alone = alone();
    let mode = Mode::Processes;
    let cluster = start(mode);
    let server = &cluster.server;
    let before = owners(server, 1);
    let [dead, still] = server.workers()[2..4] else {
        panic!("eight workers");
    };
    let (of_dead, of_still) = (dead.name(mode), still.name(mode));
    let living = |client: &usize| before[*client] != of_dead;
    dead.signal(Signal::SIGKILL);
    for client in (0..CLIENTS).filter(living).take(400) {
        assert_eq!(answer_to(client, server.address()).unwrap(), before[client]);
    }
    server.successor(dead, "died: signal 9 (SIGKILL)");
    let after = owners(server, 1);
    only_successors(&before, &after);
    assert!(!moved(&before, &after).iter().any(living));
    // One that stands still keeps its clients, as under sticky-ip: they wait for it.
    still.signal(Signal::SIGSTOP);
    let (waits, others) = (0..CLIENTS).partition::<Vec<_>, _>(|client| before[*client] == of_still);
    for client in others {
        assert_eq!(answer_to(client, server.address()).unwrap(), after[client]);
    }
    let waiting = ask_at_once(&waits[..8], server.address());
    still.signal(Signal::SIGCONT);
    for one in waiting {
        assert_eq!(one.join().unwrap(), of_still);
    }
    assert_same(&after, &owners(server, 1));
    // And if it does not come back, somebody has them.
    still.signal(Signal::SIGSTOP);
    let waiting = ask_at_once(&waits, server.address());
    still.signal(Signal::SIGKILL);
    server.successor(still, "died: signal 9 (SIGKILL)");
    for one in waiting {
        assert_ne!(one.join().unwrap(), of_still);
    }
    only_successors(&after, &owners(server, 1));
    cluster.server.stop();
}

#[test]
fn clients_stay_at_their_places_through_upgrades() {
    let _alone = alone();
    let cluster = start(Mode::Processes);
    let server = &cluster.server;
    let before = owners(server, 1);
    for _ in 0..2 {
        reloaded(server, Signal::SIGUSR2);
        only_successors(&before, &owners(server, 1));
    }
    // What the next program inherits, it can take back and give again.
    steer(&cluster, &["schedule", "reuseport"]);
    let last = owners(server, 1);
    reloaded(server, Signal::SIGUSR2);
    assert!(moved(&last, &owners(server, 1)).len() > CLIENTS / 2);
    steer(&cluster, &["schedule", POLICY]);
    only_successors(&before, &owners(server, 2));
    cluster.server.stop();
}

/// Workers that crash again and again have a pause. Where nobody lives the sockets are closed, and then opened again in their order.
#[test]
fn clients_find_their_places_after_all_workers_have_died() {
    let _alone = alone();
    let mode = Mode::Processes;
    let cluster = start(mode);
    let server = &cluster.server;
    let before = owners(server, 1);
    let mark = server.log.mark();
    wait_until("nobody lives", || {
        for worker in server.workers() {
            // It may have been buried meanwhile.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker.pid), Signal::SIGABRT);
        }
        server.log.all()[mark..]
            .iter()
            .any(|line| line.contains("no worker is alive"))
    });
    wait_until("clients are not refused", || !is_refused(server.address()));
    server.wait_for_workers(8);
    only_successors(&before, &owners(server, 2));
    assert!(
        !server
            .log
            .all()
            .iter()
            .any(|line| line.contains("in place of the kernel"))
    );
    cluster.server.stop();
}

/// What the kernel cannot choose for, the primary deals in the same way, and says so once.
#[test]
fn what_is_inherited_is_dealt_by_the_primary() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = "exec 9<&0 </dev/null; exec \"$0\" \"$@\"";
    let arguments = ["-w", "4", "--schedule", POLICY, "-l", "fd:9"];
    let mut command = crate::support::command_by_shell(script, &arguments);
    command.stdin(OwnedFd::from(listener));
    let server = Server::launch(command);
    server.urls(1);
    assert_eq!(server.address(), address);
    owners(&server, 2);
    let log = server.log.all().into_iter();
    let said = log.filter(|line| line.contains("in place of the kernel: it has but one socket"));
    assert_eq!(said.count(), 1);
    server.stop();
}
