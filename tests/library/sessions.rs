//! Sessions that all workers share: nothing that was confirmed is lost, whoever is killed.

use crate::harness::Tests;
use crate::http::Connection;
use crate::run::{Mode, Run};
use mcluster::session::{SessionStore, SharedStore};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::SystemTime;

/// Increments, unless the variable says more; a worker is killed after each so many of them.
const INCREMENTS: u64 = 100_000;
const VARIABLE: &str = "MCLUSTER_TEST_INCREMENTS";
const KILL_EVERY: u64 = 2_500;

const SESSIONS: usize = 100;
const CLIENTS: u64 = 8;

/// A folder of its own, removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One session, as its clients know it.
#[derive(Default)]
struct Counter {
    cookie: String,
    /// Increments that were confirmed, and those that nobody knows about: their worker was killed.
    confirmed: AtomicU64,
    unknown: AtomicU64,
}

/// The number and the process in an answer.
fn read(body: &str) -> (u64, i32) {
    let (count, pid) = body.split_once(' ').unwrap_or_else(|| panic!("{body:?}"));
    (count.parse().unwrap(), pid.parse().unwrap())
}

fn begin(address: SocketAddr) -> Counter {
    let (head, body) = Connection::open(address).try_ask("/more", "").unwrap();
    assert_eq!(read(&body).0, 1);
    let set = head.split("Set-Cookie: ").nth(1).expect("a cookie");
    Counter {
        cookie: format!("Cookie: {}\r\n", set.split(';').next().unwrap()),
        confirmed: AtomicU64::new(1),
        unknown: AtomicU64::new(0),
    }
}

/// What the session counts, asked on a connection of its own until somebody answers.
fn total(address: SocketAddr, counter: &Counter) -> u64 {
    let (_, body) = Connection::open(address)
        .try_ask("/count", &counter.cookie)
        .unwrap();
    read(&body).0
}

/// One client: adds one after the other, to a session after the other, until all together have made so many.
fn count_up(
    address: SocketAddr,
    counters: &[Counter],
    made: &AtomicU64,
    all: u64,
    own: u64,
    run: &Run,
) {
    let mut connection = Connection::open(address);
    let mut next = own.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    loop {
        let number = made.fetch_add(1, Ordering::Relaxed);
        if number >= all {
            return;
        }
        // A sequence that looks random and is the same each time.
        next ^= next << 13;
        next ^= next >> 7;
        next ^= next << 17;
        let counter = &counters[(next % SESSIONS as u64) as usize];
        let pid = match connection.try_ask("/more", &counter.cookie) {
            Ok((head, body)) if head.starts_with("HTTP/1.1 200") => {
                counter.confirmed.fetch_add(1, Ordering::Relaxed);
                Some(read(&body).1)
            }
            // Too many came first, or the queue was full: said, so it did not happen.
            Ok((head, _)) => {
                assert!(
                    head.starts_with("HTTP/1.1 409") || head.starts_with("HTTP/1.1 503"),
                    "{head}"
                );
                None
            }
            Err(_) => {
                counter.unknown.fetch_add(1, Ordering::Relaxed);
                connection = Connection::open(address);
                None
            }
        };
        if number == all / 2 {
            run.signal(Signal::SIGHUP);
        }
        if number % KILL_EVERY == KILL_EVERY - 1
            && let Some(pid) = pid
        {
            // It may be gone already: another client has killed it, or the reload has.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn nothing_that_was_confirmed_is_lost() {
    let variable = std::env::var(VARIABLE).ok();
    let all = variable.map_or(INCREMENTS, |words| words.parse().unwrap());
    let name = format!("mcluster-library-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    fs::create_dir(&folder.0).unwrap();
    let file = folder.0.join("sessions");
    let mut run = Run::start("sessions", Mode::Processes, &[file.to_str().unwrap()]);
    let address = run.address(1);
    run.line("ready: ");
    let counters: Vec<_> = (0..SESSIONS).map(|_| begin(address)).collect();
    let made = AtomicU64::new(0);
    thread::scope(|scope| {
        for own in 1..=CLIENTS {
            let (counters, made, run) = (&counters, &made, &run);
            scope.spawn(move || count_up(address, counters, made, all, own, run));
        }
    });
    run.line("reload: ");
    let (mut confirmed, mut unknown) = (0, 0);
    for counter in &counters {
        let (sure, perhaps) = (
            counter.confirmed.load(Ordering::Relaxed),
            counter.unknown.load(Ordering::Relaxed),
        );
        let total = total(address, counter);
        assert!(
            (sure..=sure + perhaps).contains(&total),
            "{total} is not {sure} and up to {perhaps} more"
        );
        confirmed += sure;
        unknown += perhaps;
    }
    assert!(confirmed > all / 2, "{confirmed} of {all}");
    println!("{confirmed} increments confirmed, {unknown} cut off by a death");
    run.stop();
    assert!(run.count("1 exit") > 0);
    // Nobody has it open now: it is whole, and so is its order of ends.
    let store = SharedStore::open(&file).unwrap();
    let late = SystemTime::now() + std::time::Duration::from_secs(3 * 24 * 3600);
    assert_eq!(store.sweep(late).unwrap(), SESSIONS);
}

/// How far one client counts by sixteen requests, each on a connection of its own.
fn counted(mode: Mode, store: &str) -> u64 {
    let mut run = Run::start("sessions", mode, &[store]);
    let address = run.address(1);
    run.line("ready: ");
    let counter = begin(address);
    let mut last = 0;
    for _ in 0..16 {
        let answer: io::Result<_> = Connection::open(address).try_ask("/more", &counter.cookie);
        last = last.max(read(&answer.unwrap().1).0);
    }
    run.stop();
    last
}

fn memory_is_each_processes_own() {
    // Sixteen requests in turn to eight workers that know nothing of each other.
    assert!(counted(Mode::Processes, "memory") < 16);
    assert_eq!(counted(Mode::Threads, "memory"), 17);
}

pub(crate) fn add(tests: &mut Tests) {
    tests.add(
        "sessions::nothing_that_was_confirmed_is_lost",
        nothing_that_was_confirmed_is_lost,
    );
    tests.add(
        "sessions::memory_is_each_processes_own",
        memory_is_each_processes_own,
    );
}
