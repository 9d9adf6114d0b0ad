//! Workers that listen by themselves: shared and alone, on ports and paths, and what goes wrong.

use crate::harness::Tests;
use crate::http::{Connection, get};
use crate::run::{Mode, Run, address_of};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A program of `count` workers, and where each can be told what to do.
fn start(mode: Mode, words: &[&str], count: u32) -> (Run, Vec<SocketAddr>) {
    let number = count.to_string();
    let run = Run::start("listens", mode, &[words, &[&number]].concat());
    let homes = (1..=count).map(|id| address_of(&outcome(&run, id, "home", 0)));
    let homes = homes.collect();
    (run, homes)
}

/// What has come of the n-th wish of worker `id` to listen at `words`.
#[track_caller]
fn outcome(run: &Run, id: u32, words: &str, nth: usize) -> String {
    run.nth_line(&format!("worker {id} at {words}: "), nth)
}

/// Has worker `id`, at `home`, listen as well; what has come of it.
#[track_caller]
fn ask(run: &Run, id: u32, home: SocketAddr, how: &str, words: &str) -> String {
    let before = run.count(&format!("worker {id} at {words}: "));
    assert_eq!(get(home, &format!("/{how}?{words}")), "asked\n");
    outcome(run, id, words, before)
}

/// Who answers at `address`, of `tries` requests.
fn who(mut connect: impl FnMut() -> Connection, tries: u32) -> BTreeSet<String> {
    (0..tries).map(|_| connect().get("/current")).collect()
}

fn both() -> BTreeSet<String> {
    [1, 2].map(|id| format!("worker {id}\n")).into()
}

fn ports_are_shared(mode: Mode) {
    let (mut run, homes) = start(mode, &[], 2);
    let words = "127.0.0.1:0";
    let first = ask(&run, 1, homes[0], "listen", words);
    assert_eq!(ask(&run, 2, homes[1], "listen", words), first);
    let second = ask(&run, 2, homes[1], "listen", words);
    assert_ne!(second, first);
    assert_eq!(ask(&run, 1, homes[0], "listen", words), second);
    for address in [&first, &second] {
        let address = address_of(address);
        assert_eq!(who(|| Connection::open(address), 8), both());
    }
    let all = run.stop();
    for id in [1, 2] {
        for address in [&first, &second] {
            let line = format!("{id} listens on {address}");
            assert!(all.contains(&line), "{line}: {all:#?}");
        }
    }
    assert!(all.contains(&"in the primary: None".to_owned()), "{all:#?}");
}

/// The same beside a listener of the cluster's settings.
fn beside_the_settings(mode: Mode) {
    let (mut run, homes) = start(mode, &["configured"], 2);
    let configured = run.line("ready: ");
    let configured = configured.trim_start_matches("[\"").trim_end_matches("\"]");
    let words = "127.0.0.1:0";
    let address = ask(&run, 1, homes[0], "listen", words);
    assert_ne!(address, configured);
    let address = address_of(&address);
    let one: BTreeSet<_> = ["worker 1\n".to_owned()].into();
    assert_eq!(who(|| Connection::open(address), 4), one, "2 did not ask");
    let configured = address_of(configured);
    assert_eq!(who(|| Connection::open(configured), 8), both());
    run.stop();
}

/// An address that only the second worker asked for is its alone where each worker has a socket of
/// its own, too: what comes to the first one's place does not wait there for good.
fn one_of_two_with_sockets_of_their_own(mode: Mode) {
    let (mut run, homes) = start(mode, &["reuseport"], 2);
    let address = address_of(&ask(&run, 2, homes[1], "listen", "127.0.0.1:0"));
    let two: BTreeSet<_> = ["worker 2\n".to_owned()].into();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The first has much to do: nobody takes it for one that stands still.
        scope.spawn(|| {
            let mut busy = Connection::open(homes[0]);
            while !over.load(Ordering::Relaxed) {
                busy.get("/current");
            }
        });
        let tries = || who(|| Connection::open(address), 32);
        let outcome = catch_unwind(AssertUnwindSafe(tries));
        over.store(true, Ordering::Relaxed);
        assert_eq!(outcome.expect("answers"), two);
    });
    run.stop();
}

/// Many connections that only one worker may have, which is stopped, wait; those of others do not.
fn one_of_two_is_stopped() {
    let (mut run, homes) = start(Mode::Processes, &["configured"], 2);
    let configured = run.line("ready: ");
    let configured = configured.trim_start_matches("[\"").trim_end_matches("\"]");
    let configured = address_of(configured);
    let alone = address_of(&ask(&run, 1, homes[0], "listen", "127.0.0.1:0"));
    run.signal_worker(1, Signal::SIGSTOP);
    let waiting: Vec<_> = (0..400).map(|_| Connection::open(alone)).collect();
    let two: BTreeSet<_> = ["worker 2\n".to_owned()].into();
    // Those that the stopped one has been handed come back first.
    let outcome = || who(|| Connection::open(configured), 8);
    while outcome() != two {}
    run.signal_worker(1, Signal::SIGCONT);
    for mut one in waiting {
        assert_eq!(one.get("/current"), "worker 1\n");
    }
    run.stop();
}

/// A name for a socket that nothing has yet.
fn path(what: &str) -> PathBuf {
    let name = format!("mcluster-library-{}-{what}", std::process::id());
    std::env::temp_dir().join(name)
}

fn a_path_is_shared_and_goes(mode: Mode) {
    let (mut run, homes) = start(mode, &[], 2);
    let path = path("shared");
    let words = format!("unix:{}", path.display());
    for id in [1, 2] {
        let home = homes[id as usize - 1];
        assert_eq!(ask(&run, id, home, "listen", &words), words);
    }
    assert_eq!(who(|| Connection::open_unix(&path), 8), both());
    run.stop();
    assert!(!path.exists(), "the file stays");
}

fn a_path_of_one_alone_goes(mode: Mode) {
    let (mut run, homes) = start(mode, &[], 2);
    let path = path("alone");
    let words = format!("unix:{}", path.display());
    assert_eq!(ask(&run, 1, homes[0], "alone", &words), words);
    assert_eq!(ask(&run, 2, homes[1], "alone", &words), "AddrInUse");
    assert_eq!(Connection::open_unix(&path).get("/current"), "worker 1\n");
    run.stop();
    assert!(!path.exists(), "the file stays");
}

/// The one that asked is told; the other is not concerned; and when the address is free again,
/// both can have it.
fn an_address_in_use(mode: Mode) {
    let (mut run, homes) = start(mode, &[], 2);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let words = taken.local_addr().unwrap().to_string();
    assert_eq!(ask(&run, 1, homes[0], "listen", &words), "AddrInUse");
    assert_eq!(ask(&run, 2, homes[1], "alone", &words), "AddrInUse");
    assert_eq!(run.count(&format!("worker 2 at {words}")), 1);
    drop(taken);
    let url = format!("http://{words}");
    assert_eq!(ask(&run, 1, homes[0], "listen", &words), url);
    assert_eq!(ask(&run, 2, homes[1], "listen", &words), url);
    assert_eq!(
        ask(&run, 1, homes[0], "listen", &words),
        "AddrInUse",
        "twice"
    );
    let address = address_of(&url);
    assert_eq!(who(|| Connection::open(address), 8), both());
    assert!(get(homes[0], "/listen?nowhere").contains("port is missing"));
    run.stop();
}

fn exclusive(mode: Mode) {
    let (mut run, homes) = start(mode, &[], 2);
    let address = ask(&run, 1, homes[0], "alone", "127.0.0.1:0");
    let words = address_of(&address).to_string();
    assert_eq!(ask(&run, 2, homes[1], "alone", &words), "AddrInUse");
    assert_eq!(ask(&run, 2, homes[1], "listen", &words), "AddrInUse");
    let one: BTreeSet<_> = ["worker 1\n".to_owned()].into();
    let address = address_of(&address);
    assert_eq!(who(|| Connection::open(address), 4), one);
    let all = run.stop();
    let line = format!("1 listens on http://{words}");
    assert!(all.contains(&line), "{line}: {all:#?}");
    let state = "1 listening: listening, connected".to_owned();
    assert!(all.contains(&state), "{all:#?}");
}

/// A connection that waits for its next request goes on with another worker of the same address,
/// and is closed, not left hanging, where there is none.
fn idle_connections_of_one_that_leaves(mode: Mode) {
    let (mut run, homes) = start(mode, &[], 2);
    let words = "127.0.0.1:0";
    let shared = address_of(&ask(&run, 1, homes[0], "listen", words));
    let mut first = Connection::open(shared);
    assert_eq!(first.get("/current"), "worker 1\n");
    ask(&run, 2, homes[1], "listen", words);
    let only = address_of(&ask(&run, 1, homes[0], "listen", words));
    let mut last = Connection::open(only);
    assert_eq!(last.get("/current"), "worker 1\n");
    let mut alone = Connection::open(homes[0]);
    assert_eq!(alone.get("/leave"), "leaving\n");
    run.line("1 exit code 0");
    assert_eq!(first.get("/current"), "worker 2\n");
    alone.closes();
    last.closes();
    run.stop();
}

fn a_worker_knows_itself(mode: Mode) {
    let (mut run, homes) = start(mode, &[], 2);
    for (home, id) in homes.iter().zip(1..) {
        let name = format!("worker {id}\n");
        assert_eq!(get(*home, "/current"), name, "on the loop");
        assert_eq!(get(*home, "/pooled"), name, "in the pool");
    }
    run.stop();
}

/// A cluster whose workers listen nowhere, or alone, is as good as any: it can be reloaded.
fn listening_nowhere_is_no_failure(mode: Mode) {
    let all = Run::start("listens", mode, &["nowhere", "2"]).end();
    assert!(all.contains(&"ready: []".to_owned()), "{all:#?}");
    assert!(all.contains(&"reload: Done".to_owned()), "{all:#?}");
    let (mut run, homes) = start(mode, &[], 2);
    get(homes[0], "/tell?reload");
    assert_eq!(run.nth_line("reload: ", 1), "Done");
    assert_ne!(outcome(&run, 3, "home", 0), outcome(&run, 1, "home", 0));
    run.stop();
}

fn variables(mode: Mode) {
    let mut run = Run::start("env", mode, &[]);
    let home = |id| address_of(&outcome(&run, id, "home", 0));
    let env = |id, name: &str| get(home(id), &format!("/env?{name}"));
    let expected = match mode {
        Mode::Processes => ["not set\n", "all\n", "b\n", "mine\n"],
        Mode::Threads => ["not set\n"; 4],
    };
    let found = [
        env(1, "A"),
        env(1, "FOR_ALL"),
        env(2, "A"),
        env(2, "FOR_ALL"),
    ];
    assert_eq!(found, expected);
    match mode {
        Mode::Processes => run.line("3 exit code 1: dead, is dead, by accident"),
        Mode::Threads => run.log_line("threads share the environment"),
    };
    let all = run.stop();
    let ends = all.iter().filter(|line| *line == "ran: ok").count();
    assert_eq!(ends, 1, "{all:#?}");
}

pub(crate) fn add(tests: &mut Tests) {
    tests.both_modes("listens::ports_are_shared", ports_are_shared);
    tests.both_modes("listens::beside_the_settings", beside_the_settings);
    tests.add("listens::one_of_two_is_stopped", one_of_two_is_stopped);
    tests.both_modes(
        "listens::sockets_of_their_own",
        one_of_two_with_sockets_of_their_own,
    );
    tests.both_modes("listens::a_path_is_shared", a_path_is_shared_and_goes);
    tests.both_modes("listens::a_path_of_one_alone", a_path_of_one_alone_goes);
    tests.both_modes("listens::an_address_in_use", an_address_in_use);
    tests.both_modes("listens::exclusive", exclusive);
    tests.both_modes(
        "listens::idle_connections",
        idle_connections_of_one_that_leaves,
    );
    tests.both_modes("listens::a_worker_knows_itself", a_worker_knows_itself);
    tests.both_modes("listens::nowhere", listening_nowhere_is_no_failure);
    tests.both_modes("listens::variables", variables);
}
