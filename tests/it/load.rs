//! A load of many keep-alive connections, each of which knows what became of its every request.

use crate::client::{Client, is_loss};
use crate::support::all_go_on;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A client needs little, and there are many.
const STACK_BYTES: usize = 256 * 1024;

/// Whose answers a connection had before it was lost; none if it never had one.
pub(crate) type Lost = Option<String>;

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    /// Answers that each client has had.
    answered: Vec<AtomicU64>,
    refused: AtomicU64,
    lost: Mutex<Vec<Lost>>,
    /// Anything that no server should do.
    wrong: Mutex<Vec<String>>,
}

/// What the clients have seen in all.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Answers by worker.
    pub(crate) answers: BTreeMap<String, u64>,
    pub(crate) refused: u64,
    pub(crate) lost: Vec<Lost>,
    pub(crate) wrong: Vec<String>,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

impl Load {
    /// Starts `clients` clients and waits until each has had an answer.
    #[track_caller]
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        let shared = Arc::new(Shared {
            address,
            stop: AtomicBool::new(false),
            answered: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            refused: AtomicU64::new(0),
            lost: Mutex::default(),
            wrong: Mutex::default(),
        });
        let client = |number| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            builder.spawn(move || shared.client(number)).unwrap()
        };
        let threads = (0..clients).map(client).collect();
        let load = Self { shared, threads };
        load.go_on();
        load
    }

    /// Waits until every client has had two more answers: by then each has met whatever has
    /// happened before.
    #[track_caller]
    pub(crate) fn go_on(&self) {
        all_go_on("every client answered", &self.shared.answered);
    }

    /// What was lost since this was last asked.
    pub(crate) fn lost(&self) -> Vec<Lost> {
        std::mem::take(&mut *self.shared.lost.lock().unwrap())
    }

    /// Ends the load.
    pub(crate) fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut answers = BTreeMap::new();
        for thread in self.threads.drain(..) {
            for (who, count) in thread.join().unwrap() {
                *answers.entry(who).or_default() += count;
            }
        }
        Tally {
            answers,
            refused: self.shared.refused.load(Ordering::Relaxed),
            lost: self.lost(),
            wrong: std::mem::take(&mut *self.shared.wrong.lock().unwrap()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn client(&self, number: usize) -> BTreeMap<String, u64> {
        let mut answers = BTreeMap::new();
        while !self.stop.load(Ordering::Relaxed) {
            match Client::connect(self.address) {
                Ok(connection) => self.converse(connection, number, &mut answers),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                }
                Err(error) if is_loss(&error) => self.lost.lock().unwrap().push(None),
                Err(error) => return self.gives_up(format!("connect: {error}"), answers),
            }
        }
        answers
    }

    /// One connection for as long as it goes on.
    fn converse(&self, mut connection: Client, number: usize, answers: &mut BTreeMap<String, u64>) {
        let mut last = None;
        while !self.stop.load(Ordering::Relaxed) {
            match connection.get("/") {
                Ok(answer) if answer.status == 200 && !answer.closes() => {
                    let who = answer.who();
                    // A connection belongs to one worker for life.
                    if last.as_ref().is_some_and(|last| *last != who) {
                        let wrong = format!("{last:?}, then {who}");
                        self.wrong.lock().unwrap().push(wrong);
                    }
                    *answers.entry(who.clone()).or_default() += 1;
                    last = Some(who);
                    self.answered[number].fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => {
                    let wrong = format!("{answer:?}");
                    return self.wrong.lock().unwrap().push(wrong);
                }
                Err(error) if is_loss(&error) => return self.lost.lock().unwrap().push(last),
                Err(error) => {
                    let wrong = format!("{last:?}: {error}");
                    return self.wrong.lock().unwrap().push(wrong);
                }
            }
        }
    }

    fn gives_up(&self, why: String, answers: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        self.wrong.lock().unwrap().push(why);
        answers
    }
}
