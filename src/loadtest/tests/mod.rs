//! The generator against servers that are not ours: blocking listeners in threads, which count what
//! they see and misbehave as told.

mod echo;
mod exact;
mod paced;
mod trouble;

use super::{Loadtest, Report};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// A usual answer.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The same, and the last of its connection.
const LAST_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// A listener with a thread for each connection. Ends when dropped.
struct Server {
    address: SocketAddr,
    seen: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `serve` has each connection, after which it is closed.
    fn new(serve: impl Fn(&mut Client) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (ends, serve) = (Arc::<AtomicBool>::default(), Arc::new(serve));
        let inner = (
            Arc::clone(&seen),
            Arc::clone(&connections),
            Arc::clone(&ends),
        );
        let thread = thread::spawn(move || {
            let (seen, connections, ends) = inner;
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let mut client = Client {
                    reader: BufReader::new(stream.try_clone().unwrap()),
                    stream,
                    seen: Arc::clone(&seen),
                };
                let serve = Arc::clone(&serve);
                threads.push(thread::spawn(move || serve(&mut client)));
            }
            drop(listener);
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
        Self {
            address,
            seen,
            connections,
            ends,
            thread: Some(thread),
        }
    }

    /// One that answers for as long as anybody asks, and closes when it is asked to.
    fn polite() -> Self {
        Self::new(|client| while client.take() && client.answer() {})
    }

    fn plan(&self) -> Loadtest {
        Loadtest::new(&format!("http://{}/", self.address)).cores(1)
    }

    /// Requests that came whole.
    fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking());
        }
    }
}

/// The server's end of a connection.
struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
    seen: Arc<AtomicU64>,
}

impl Client {
    /// Reads one request without a body; whether there was one.
    fn take(&mut self) -> bool {
        let mut line = String::new();
        loop {
            line.clear();
            match self.reader.read_line(&mut line) {
                Ok(0) | Err(_) => return false,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {}
            }
        }
        self.seen.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Waits for the next request, or the end, and leaves it unread.
    fn peek(&mut self) {
        // What was read ahead would be no evidence of a request that nobody has read.
        assert!(self.reader.buffer().is_empty());
        let _ = self.stream.peek(&mut [0]);
    }

    fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    fn answer(&mut self) -> bool {
        self.say(ANSWER)
    }
}

/// What must be true of every report.
fn assert_adds_up(report: &Report) {
    let answered = report.answered();
    assert_eq!(report.completed, answered + report.errors.total());
    assert_eq!(report.latency.count(), answered);
    let failures: u64 = report.statuses.range(400..).map(|(_, count)| count).sum();
    assert_eq!(report.total_errors, failures + report.errors.total());
    let in_time: u64 = report.timeline.iter().map(|one| one.answers).sum();
    let errors_in_time: u64 = report.timeline.iter().map(|one| one.errors).sum();
    assert_eq!((in_time, errors_in_time), (answered, report.total_errors));
    let in_stages: u64 = report.stages.iter().map(|stage| stage.answers).sum();
    assert_eq!(in_stages, answered);
    if let Some(planned) = &report.planned {
        assert_eq!(planned.count(), answered);
    }
}
