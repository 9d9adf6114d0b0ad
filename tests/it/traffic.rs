//! Traffic that must not notice anything: every request answered, every connection taken.
//!
//! Unlike `load`, whose connections belong to one worker for life, these may go from one worker to
//! another between two requests. Few threads with many connections each: what is under test shall
//! have the processors.

use crate::client::Client;
use crate::support::all_go_on;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Threads that keep connections busy.
const THREADS: usize = 2;

/// Failures that are worth reading.
const ENOUGH: usize = 10;

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    /// Rounds that each thread has made.
    rounds: Vec<AtomicU64>,
    answers: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Keeps `busy` connections busy, with requests of two kinds, and opens short connections one
    /// after the other.
    #[track_caller]
    pub(crate) fn start(address: SocketAddr, busy: usize) -> Self {
        let shared = Arc::new(Shared {
            address,
            stop: AtomicBool::new(false),
            rounds: (0..=THREADS).map(|_| AtomicU64::new(0)).collect(),
            answers: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let thread = |number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let ended = match number {
                    THREADS => shared.short_ones(),
                    number => shared.busy_ones(number, busy / THREADS),
                };
                if let Err(failure) = ended {
                    shared.failures.lock().unwrap().push(failure);
                    // Nobody shall wait for rounds that will not come.
                    shared.rounds[number].store(u64::MAX / 2, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..=THREADS).map(thread).collect();
        let traffic = Self { shared, threads };
        traffic.go_on();
        traffic
    }

    /// Waits until every connection has had two more answers: by then each has met whatever has
    /// happened before.
    #[track_caller]
    pub(crate) fn go_on(&self) {
        all_go_on("rounds of traffic", &self.shared.rounds);
        self.check();
    }

    #[track_caller]
    fn check(&self) {
        let failures = self.shared.failures.lock().unwrap();
        let some = &failures[..failures.len().min(ENOUGH)];
        assert!(some.is_empty(), "{} failures: {some:#?}", failures.len());
    }

    /// Ends the traffic, in which nothing may have failed; how many requests were answered.
    #[track_caller]
    pub(crate) fn stop(mut self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.check();
        self.shared.answers.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn round_done(&self, number: usize, answers: usize) {
        self.answers.fetch_add(answers as u64, Ordering::Relaxed);
        self.rounds[number].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections with a request in flight all the time, but for the time it takes to look at an
    /// answer.
    fn busy_ones(&self, number: usize, count: usize) -> Result<(), String> {
        let connect = |_| Client::connect(self.address);
        let clients: io::Result<Vec<_>> = (0..count).map(connect).collect();
        let mut clients = clients.map_err(|error| format!("a busy one connects: {error}"))?;
        let mut round = 0;
        for (at, client) in clients.iter_mut().enumerate() {
            ask(client, at, round).map_err(|error| format!("{at}, first: {error}"))?;
        }
        loop {
            let last = !self.goes_on();
            for (at, client) in clients.iter_mut().enumerate() {
                let failed = |what: String| format!("connection {at}, request {round}: {what}");
                check(client, at, round).map_err(failed)?;
                if !last {
                    ask(client, at, round + 1).map_err(|error| failed(error.to_string()))?;
                }
            }
            self.round_done(number, count);
            if last {
                return Ok(());
            }
            round += 1;
        }
    }

    fn short_ones(&self) -> Result<(), String> {
        while self.goes_on() {
            let failed = |error: io::Error| format!("a short connection: {error}");
            let mut client = Client::connect(self.address).map_err(failed)?;
            let answer = client.get("/").map_err(failed)?;
            if answer.status != 200 || answer.closes() {
                return Err(format!("a short connection: {answer:?}"));
            }
            self.round_done(THREADS, 1);
        }
        Ok(())
    }
}

/// Every third request has a body, which is different each time and sent in two pieces.
fn body(at: usize, round: usize) -> Option<String> {
    let word = format!("connection {at} round {round};");
    (at + round)
        .is_multiple_of(3)
        .then(|| word.repeat(1 + round % 40))
}

fn ask(client: &mut Client, at: usize, round: usize) -> io::Result<()> {
    let Some(body) = body(at, round) else {
        return client.ask("/");
    };
    let length = body.len();
    let (first, second) = body.split_at(length / 2);
    client.send(format!(
        "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{first}"
    ))?;
    client.send(second)
}

fn check(client: &mut Client, at: usize, round: usize) -> Result<(), String> {
    let answer = client.receive().map_err(|error| error.to_string())?;
    let right = match body(at, round) {
        Some(body) => answer.body == body.as_bytes(),
        None => answer.text().starts_with("Handled by process "),
    };
    match answer.status == 200 && right && !answer.closes() {
        true => Ok(()),
        false => Err(format!("{answer:?}")),
    }
}
