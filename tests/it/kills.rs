//! Workers killed again and again while connections come without a pause: what a worker has not
//! taken, another answers.

use crate::client::{Client, is_loss};
use crate::support::{Directory, Mode, Server, command, output, wait_until};
use crate::turns::alone;
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From one opening to the next: 2,000 a second.
const PAUSE: Duration = Duration::from_micros(500);

/// Some connections ask when so many more have been opened.
const LATER: usize = 20;

/// Who waits for answers.
const READERS: usize = 2;

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    opened: AtomicU64,
    answered: AtomicU64,
    /// Accepted, and ended without an answer.
    lost: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Counts {
    fn count(&self, number: &AtomicU64) {
        number.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self, why: String) {
        self.failures.lock().unwrap().push(why);
    }
}

/// Connections of one request each, opened by the clock, whatever has become of those before.
struct Openings {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Openings {
    fn start(address: SocketAddr) -> Self {
        let counts = Arc::new(Counts::default());
        let mut threads = Vec::new();
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (sender, opened) = channel();
            let counts = Arc::clone(&counts);
            readers.push(sender);
            threads.push(thread::spawn(move || read(&counts, &opened)));
        }
        let of_opener = Arc::clone(&counts);
        threads.push(thread::spawn(move || open(&of_opener, address, &readers)));
        Self { counts, threads }
    }

    fn opened(&self) -> u64 {
        self.counts.opened.load(Ordering::Relaxed)
    }

    /// Waits until so many more have been opened.
    #[track_caller]
    fn more(&self, count: u64) {
        let before = self.opened();
        wait_until("more connections", || self.opened() >= before + count);
    }

    fn stop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Openings {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
    }
}

/// Every other connection asks at once, the rest when `LATER` more have been opened: so workers have
/// some that they have taken and cannot answer yet.
fn open(counts: &Counts, address: SocketAddr, readers: &[Sender<Client>]) {
    let ask = |mut client: Client, reader: usize| match client.ask("/") {
        Ok(()) => readers[reader].send(client).unwrap(),
        Err(error) => ended(counts, &error),
    };
    let mut later = VecDeque::new();
    let start = Instant::now();
    for number in 0.. {
        if counts.stop.load(Ordering::Relaxed) {
            break;
        }
        let due = start + PAUSE * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match Client::connect(address) {
            Ok(client) => {
                counts.count(&counts.opened);
                match number % 2 {
                    0 => ask(client, 0),
                    _ => later.push_back(client),
                }
            }
            Err(error) => counts.failed(format!("connect: {error}")),
        }
        if later.len() > LATER / 2 {
            later.pop_front().into_iter().for_each(|one| ask(one, 1));
        }
    }
    later.into_iter().for_each(|one| ask(one, 1));
}

fn read(counts: &Counts, opened: &Receiver<Client>) {
    while let Ok(mut client) = opened.recv() {
        match client.receive() {
            Ok(answer) if answer.status == 200 && answer.text().starts_with("Handled by") => {
                counts.count(&counts.answered);
            }
            Ok(answer) => counts.failed(format!("{answer:?}")),
            Err(error) => ended(counts, &error),
        }
    }
}

fn ended(counts: &Counts, error: &std::io::Error) {
    match is_loss(error) {
        true => counts.count(&counts.lost),
        false => counts.failed(error.to_string()),
    }
}

/// The connections that the workers which died had taken and not finished, by the cluster's own
/// account.
fn lost_by_status(directory: &Directory) -> u64 {
    let control = directory.file("control.sock");
    let control = control.to_str().unwrap();
    let output = output(command(&["status", "--json", "--control", control]));
    assert!(output.status.success(), "{output:?}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["lost"]["connections"].as_u64().unwrap()
}

fn a_hundred_kills(policy: &str) {
    let _alone = alone();
    let directory = Directory::new();
    let control = directory.file("control.sock");
    let control = control.to_str().unwrap();
    let arguments = ["-w", "4", "--schedule", policy, "--control", control];
    let server = Server::start(Mode::Processes, &arguments);
    let mut openings = Openings::start(server.address());
    let mut workers = server.wait_for_workers(4);
    for number in 0..100 {
        openings.more(10);
        let worker = workers.remove(0);
        if number % 2 == 1 {
            // So that it has been handed what it has not taken.
            worker.signal(Signal::SIGSTOP);
            openings.more(10);
        }
        worker.signal(Signal::SIGKILL);
        workers.push(server.successor(worker, "died: signal 9 (SIGKILL)"));
    }
    openings.more(100);
    openings.stop();
    let counts = &openings.counts;
    let [opened, answered, lost] =
        [&counts.opened, &counts.answered, &counts.lost].map(|one| one.load(Ordering::Relaxed));
    let had_open = lost_by_status(&directory);
    let log = server.log.all().into_iter();
    let passed_on = log.filter(|line| line.contains("never took go to others"));
    eprintln!(
        "{policy}: {opened} opened, {answered} answered, {lost} lost of {had_open} open in the \
         dead; {} times what one never took went to others",
        passed_on.count()
    );
    let failures = counts.failures.lock().unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(answered + lost, opened);
    assert!(lost <= had_open, "{lost} lost, {had_open} open in the dead");
    drop(failures);
    server.stop();
}

#[test]
fn a_hundred_kills_under_round_robin() {
    a_hundred_kills("rr");
}

#[test]
fn a_hundred_kills_under_least_connections() {
    a_hundred_kills("least-connections");
}
