//! Load for Node programs: keep-alive connections and short ones, each of which knows what became of
//! its every request.
//!
//! A server may close a connection on which nothing is in flight at any time, while a request is on its
//! way to it (RFC 9112 9.3.1, 9.5), as a killed worker does: a client sends such a one again on a new
//! connection. So an end on a connection that had answers before, without a byte of the
//! answer asked for, is counted apart ([`Tally::again`]) from what is lost.

use crate::client::is_loss;
use crate::support::all_go_on;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A client needs little, and there are many.
const STACK_BYTES: usize = 256 * 1024;

/// How long a client rests between two requests, so that the workers have processors as well.
const REST: Duration = Duration::from_millis(10);

/// Only a server that hangs takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a request that was not answered.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Who had answered on that connection before.
    pub(crate) last: Option<i32>,
    /// Whether a part of the answer came.
    pub(crate) begun: bool,
    pub(crate) why: String,
}

/// What the clients have seen in all.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Answers by pid.
    pub(crate) answers: BTreeMap<i32, u64>,
    /// Requests sent again.
    pub(crate) again: Vec<Failure>,
    pub(crate) lost: Vec<Failure>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    rounds: Vec<AtomicU64>,
    failures: Mutex<Vec<Failure>>,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct NodeLoad {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<BTreeMap<i32, u64>>>,
}

impl NodeLoad {
    /// Starts so many clients that keep their connections, and so many that do not, and waits until
    /// each has had an answer.
    #[track_caller]
    pub(crate) fn start(address: SocketAddr, keeping: usize, short: usize) -> Self {
        let shared = Arc::new(Shared {
            address,
            stop: AtomicBool::new(false),
            rounds: (0..keeping + short).map(|_| AtomicU64::new(0)).collect(),
            failures: Mutex::default(),
        });
        let client = |number| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            let work = move || shared.client(number, number < keeping);
            builder.spawn(work).unwrap()
        };
        let threads = (0..keeping + short).map(client).collect();
        let load = Self { shared, threads };
        load.go_on();
        load
    }

    /// Waits until every client has made two more rounds: by then each has met whatever has happened
    /// before.
    #[track_caller]
    pub(crate) fn go_on(&self) {
        all_go_on("every client answered", &self.shared.rounds);
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
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        let is_again = |one: &Failure| one.last.is_some() && !one.begun;
        let (again, lost) = failures.into_iter().partition(is_again);
        Tally {
            answers,
            again,
            lost,
        }
    }
}

impl Drop for NodeLoad {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn client(&self, number: usize, keeps: bool) -> BTreeMap<i32, u64> {
        let mut answers = BTreeMap::new();
        let mut kept: Option<(TcpStream, i32)> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let last = kept.as_ref().map(|(_, who)| *who);
            let stream = match kept.take() {
                Some((stream, _)) => Ok(stream),
                None => TcpStream::connect(self.address),
            };
            let mut begun = false;
            match stream.and_then(|stream| ask(stream, keeps, &mut begun)) {
                Ok((stream, who)) => {
                    *answers.entry(who).or_default() += 1;
                    kept = stream.map(|stream| (stream, who));
                }
                Err(error) => {
                    let why = error.to_string();
                    let failure = Failure { last, begun, why };
                    self.failures.lock().unwrap().push(failure);
                    // Where all is refused, this shall not take the processors.
                    thread::sleep(REST);
                }
            }
            self.rounds[number].fetch_add(1, Ordering::Relaxed);
            thread::sleep(REST);
        }
        answers
    }
}

/// One request: who has answered, and the connection if it goes on.
fn ask(
    mut stream: TcpStream,
    keeps: bool,
    begun: &mut bool,
) -> io::Result<(Option<TcpStream>, i32)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let field = if keeps { "" } else { "Connection: close\r\n" };
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{field}\r\n");
    // What could not be sent may have been answered with an end before: that is what counts.
    if let Err(error) = stream.write_all(request.as_bytes())
        && !is_loss(&error)
    {
        return Err(error);
    }
    let mut bytes = Vec::new();
    let mut room = [0; 4096];
    loop {
        let count = match stream.read(&mut room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        *begun = true;
        bytes.extend_from_slice(&room[..count]);
        if let Some((ends, who)) = complete(&bytes)? {
            return Ok(((keeps && !ends).then_some(stream), who));
        }
    }
}

/// Whether the connection ends and who has answered, once all has come. The tests' applications say how
/// long their answers are.
fn complete(bytes: &[u8]) -> io::Result<Option<(bool, i32)>> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    let wrong = || io::Error::new(ErrorKind::InvalidData, format!("answer {text:?}"));
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let length = field("Content-Length").and_then(|length| length.parse().ok());
    let length: usize = length.ok_or_else(wrong)?;
    if body.len() < length {
        return Ok(None);
    }
    let ends = field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let who = body.trim().parse().ok();
    let who = who.filter(|_| head.starts_with("HTTP/1.1 200 "));
    Ok(Some((ends, who.ok_or_else(wrong)?)))
}
