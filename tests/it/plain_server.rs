//! A server of the standard library alone: the other end of a load test, which is not ours.
//!
//! Owns its threads, one a connection, and the account of what came: every request octet by octet, and
//! when. What is answered is a script that the test writes; nothing here repairs it, so that a server
//! can be as wrong as a test wants.

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A connection needs little, and there are many.
const STACK_BYTES: usize = 256 * 1024;

/// How often a connection that waits looks whether the test is over.
const GLANCE: Duration = Duration::from_millis(20);

/// What the server does next on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Writes that at once.
    Say(Vec<u8>),
    /// Writes that octet by octet, each in a segment of its own.
    Trickle(Vec<u8>),
    /// Takes its time.
    Wait(Duration),
    /// Closes the connection in good order, and reads what still comes without an answer.
    Close,
    /// Closes the socket at once: what comes then is reset by the system.
    Leave,
    /// The same when the next request has come, unread.
    LeaveUnread,
    /// Resets the connection.
    Reset,
    /// Says nothing more until the client goes.
    Hang,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// When its last octet had come.
    pub(crate) at: Instant,
    /// Which request of its connection it is, from 1.
    pub(crate) number: u64,
    /// Which connection it came on, from 1.
    pub(crate) connection: u64,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The values of all fields of that name, in order.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let pairs = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        pairs
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    fn wants_close(&self) -> bool {
        let values = self.fields("connection");
        values.iter().any(|one| one.eq_ignore_ascii_case("close"))
    }
}

type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

struct Shared {
    script: Box<Script>,
    stop: AtomicBool,
    connections: AtomicU64,
    /// Those that are open, and the most that ever were at once.
    open: AtomicU64,
    most: AtomicU64,
    asked: Mutex<Vec<Asked>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A server that runs until it is dropped.
pub(crate) struct PlainServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// An answer of 200 with a body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", body)
}

/// An answer with that status and a body.
pub(crate) fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

impl PlainServer {
    /// Answers every request with 200.
    pub(crate) fn good() -> Self {
        Self::start(|_| vec![Step::Say(ok("hello\n"))])
    }

    /// Does what `script` says after each request.
    pub(crate) fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", script).unwrap()
    }

    /// The same at an address.
    pub(crate) fn at(
        address: &str,
        script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Box::new(script),
            stop: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            most: AtomicU64::new(0),
            asked: Mutex::default(),
            threads: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &accepting));
        Ok(Self {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Requests that came whole.
    pub(crate) fn count(&self) -> u64 {
        self.shared.asked.lock().unwrap().len() as u64
    }

    /// What came.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Connections that came.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once.
    pub(crate) fn most(&self) -> u64 {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for PlainServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Ends the wait for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap());
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(open, Ordering::SeqCst);
        let mine = Arc::clone(shared);
        let builder = thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(GLANCE));
            let mut connection = Connection {
                stream,
                number,
                ahead: Vec::new(),
                shared: &mine,
            };
            connection.serve();
            mine.open.fetch_sub(1, Ordering::SeqCst);
        });
        let mut threads = shared.threads.lock().unwrap();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread.unwrap());
    }
}

struct Connection<'a> {
    stream: TcpStream,
    number: u64,
    ahead: Vec<u8>,
    shared: &'a Shared,
}

impl Connection<'_> {
    fn serve(&mut self) {
        let mut number = 0;
        while let Some(asked) = self.request(number + 1) {
            number += 1;
            // Counted before it is answered: whoever has the answer finds it counted.
            self.shared.asked.lock().unwrap().push(asked.clone());
            let closes = asked.wants_close();
            for step in (self.shared.script)(&asked) {
                if !self.takes(step) {
                    return;
                }
            }
            if closes {
                self.takes(Step::Close);
                return;
            }
        }
    }

    /// Does what a script says; false when that ends the connection.
    fn takes(&mut self, step: Step) -> bool {
        match step {
            Step::Say(bytes) => self.stream.write_all(&bytes).is_ok(),
            Step::Trickle(bytes) => bytes
                .chunks(1)
                .all(|octet| self.stream.write_all(octet).is_ok()),
            Step::Wait(time) => {
                thread::sleep(time);
                true
            }
            Step::Close => {
                let _ = self.stream.shutdown(Shutdown::Write);
                self.until_gone();
                false
            }
            Step::Reset => {
                let now = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(&self.stream, sockopt::Linger, &now).unwrap();
                false
            }
            Step::Leave => false,
            Step::LeaveUnread => {
                // Each look waits for a glance.
                let waits = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
                loop {
                    let came = !self.stream.peek(&mut [0]).is_err_and(waits);
                    if came || self.shared.stop.load(Ordering::SeqCst) {
                        return false;
                    }
                }
            }
            Step::Hang => {
                self.until_gone();
                false
            }
        }
    }

    fn until_gone(&mut self) {
        while self.fill() {
            self.ahead.clear();
        }
    }

    /// The next request; none at the end of the connection.
    fn request(&mut self, number: u64) -> Option<Asked> {
        let end = loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None if self.fill() => {}
                None => return None,
            }
        };
        let head: Vec<u8> = self.ahead.drain(..end).collect();
        let mut asked = Asked {
            at: Instant::now(),
            number,
            connection: self.number,
            head: String::from_utf8(head).expect("a head of text"),
            body: Vec::new(),
        };
        let length = asked.fields("content-length").first().copied();
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        while self.ahead.len() < length {
            if !self.fill() {
                return None;
            }
        }
        asked.body = self.ahead.drain(..length).collect();
        asked.at = Instant::now();
        Some(asked)
    }

    /// Reads once; false at the end of the connection or of the test.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => {
                    self.ahead.extend_from_slice(&bytes[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.shared.stop.load(Ordering::SeqCst) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}
