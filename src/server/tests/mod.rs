//! Tests of the server: a whole loop, a client at the other end of a real socket, and what the
//! client reads. What the bytes mean is read here by hand, apart from the code under test.
//!
//! Nothing sleeps: the clients are in the loop's own set, so a turn ends when either end has
//! something to do, or when the server's deadline has come.

mod bodies;
mod delays;
mod edge;
mod ends;
mod errors;
mod fed;
mod flow;
mod handlers;
mod limits;
mod output;
mod regressions;
mod streamed;
mod upgraded;
mod wire;

use super::{Handed, Limits, Server};
use crate::app::App;
use crate::metrics::Counters;
use crate::net::token::{FIRST, Key};
use crate::net::{Reactor, Ready, register};
use crate::sys::listener::{Address, Listener, Peer};
use crate::sys::socket;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WAKER: usize = 1;
const LISTENER: usize = 16;
const CLIENTS: usize = 1000;

/// After so long without an end a test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same in turns, against loops that spin.
const TURNS: u32 = 200_000;

/// A limit of time that a test waits for.
const SHORT: Duration = Duration::from_millis(30);

/// How a client saw its connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Eof,
    Reset,
}

/// The client's end of a connection.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    /// What came and was not looked at yet.
    got: Vec<u8>,
    end: Option<End>,
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Client {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            got: Vec::new(),
            end: None,
        }
    }

    /// Reads what is there, at most `limit` bytes.
    fn read(&mut self, mut limit: usize) {
        let mut buffer = [0; 16 * 1024];
        while self.end.is_none() && limit > 0 {
            let room = limit.min(buffer.len());
            match socket::read(self.socket.as_fd(), &mut buffer[..room]) {
                Ok(0) => self.end = Some(End::Eof),
                Ok(count) => {
                    self.got.extend_from_slice(&buffer[..count]);
                    limit -= count;
                }
                Err(error) if socket::would_block(&error) => return,
                Err(_) => self.end = Some(End::Reset),
            }
        }
    }

    /// Writes what fits.
    fn write(&self, bytes: &[u8]) -> usize {
        match socket::write(self.socket.as_fd(), bytes) {
            Ok(count) => count,
            Err(error) if socket::would_block(&error) => 0,
            Err(error) => panic!("the client cannot write: {error}"),
        }
    }

    /// Says that nothing more will be sent.
    fn finish(&self) {
        socket::shutdown_write(self.socket.as_fd()).unwrap();
    }
}

/// A loop with a server in it.
struct Rig {
    reactor: Reactor,
    server: Server,
    clients: usize,
    /// What the last turn brought to the server.
    seen: Vec<Ready>,
}

impl Rig {
    fn new(app: App) -> Self {
        Self::with(app, Limits::default())
    }

    fn with(app: App, limits: Limits) -> Self {
        Self::pooled(app, limits, 0)
    }

    fn pooled(app: App, limits: Limits, threads: usize) -> Self {
        assert_eq!(app.check(), Ok(()));
        let reactor = Reactor::new().unwrap();
        let waker = Some(reactor.waker(WAKER).unwrap());
        Self {
            server: Server::new(Arc::new(app), limits, 7, threads, waker, None),
            reactor,
            clients: 0,
            seen: Vec::new(),
        }
    }

    fn counters(&mut self) -> &mut Counters {
        self.server.counters_mut()
    }

    /// A client whose socket the loop waits for as well.
    fn client(&mut self, socket: OwnedFd) -> Client {
        let client = Client::new(socket);
        let token = CLIENTS + self.clients;
        self.clients += 1;
        assert!(token < FIRST);
        register(self.reactor.registry(), &client, token).unwrap();
        client
    }

    /// A connection over a Unix pair, handed over like one of the primary's.
    fn connect(&mut self) -> Client {
        self.connect_after(b"")
    }

    /// The same, with bytes that are there before the server first looks.
    fn connect_after(&mut self, bytes: &[u8]) -> Client {
        let (theirs, ours) = socket::pair_stream().unwrap();
        let client = self.client(ours);
        assert_eq!(client.write(bytes), bytes.len());
        self.adopt(theirs, Peer::Unix);
        client
    }

    /// The same, where the server's end holds few unread bytes.
    fn connect_narrow(&mut self) -> Client {
        let (theirs, ours) = socket::pair_stream().unwrap();
        socket::set_send_buffer(theirs.as_fd(), 4096).unwrap();
        let client = self.client(ours);
        self.adopt(theirs, Peer::Unix);
        client
    }

    /// A connection over TCP, where closing with unread bytes is a reset.
    fn connect_tcp(&mut self) -> Client {
        let (listener, address) = listener();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let client = self.client(stream.into());
        let end = Instant::now() + PATIENCE;
        let (socket, peer) = loop {
            // On a busy machine the last step of the handshake may come a moment later.
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) => assert!(socket::would_block(&error) && Instant::now() < end),
            }
            std::thread::yield_now();
        };
        self.adopt(socket, peer);
        client
    }

    fn adopt(&mut self, socket: OwnedFd, peer: Peer) {
        self.begin();
        let handed = Handed::fresh(peer, 0);
        self.server.adopt(self.reactor.registry(), socket, handed);
        self.server.end();
    }

    fn begin(&mut self) {
        // The clock goes on even where no wait has moved it.
        let now = Instant::now();
        self.reactor.set_now(now);
        self.reactor.wait(Some(now)).unwrap();
        let now = self.reactor.now();
        self.server.begin(now);
        self.hear();
    }

    fn hear(&mut self) {
        self.seen.clear();
        for ready in self.reactor.ready() {
            if ready.token == WAKER || (CLIENTS..FIRST).contains(&ready.token) {
                continue;
            }
            self.seen.push(ready);
            self.server.ready(self.reactor.registry(), ready);
        }
    }

    /// One turn, that begins when there is something to do, or at `end`.
    fn turn_until(&mut self, end: Instant) {
        let deadline = self.server.deadline().map_or(end, |at| at.min(end));
        // A test may have taken its time since the last turn.
        self.reactor.set_now(Instant::now());
        self.reactor.wait(Some(deadline)).unwrap();
        self.server.begin(self.reactor.now());
        self.hear();
        self.server.proceed(self.reactor.registry());
        self.server.end();
    }

    /// One turn with what is ready now.
    fn turn(&mut self) {
        self.turn_until(Instant::now());
    }

    /// Turns until nothing is ready and nobody has more to do; for Unix pairs, where bytes are
    /// there at once.
    fn settle(&mut self) {
        for _ in 0..TURNS {
            self.turn();
            if self.seen.is_empty() && self.server.again.is_empty() {
                return;
            }
        }
        panic!("the loop does not come to rest");
    }

    /// Turns until `done`; `look` is what the clients do in between.
    fn pump(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        for _ in 0..TURNS {
            if done(self) {
                return;
            }
            assert!(Instant::now() < end, "nothing happens any more");
            self.turn_until(end);
        }
        panic!("the loop spins");
    }

    /// Turns until the client has read enough.
    fn until(&mut self, client: &mut Client, mut done: impl FnMut(&Client) -> bool) {
        self.pump(|_| {
            client.read(usize::MAX);
            done(client)
        });
    }

    /// Sends all of `bytes`.
    fn send(&mut self, client: &Client, bytes: impl AsRef<[u8]>) {
        let mut rest = bytes.as_ref();
        self.pump(|_| {
            rest = &rest[client.write(rest)..];
            rest.is_empty()
        });
    }

    /// The next whole answer; `head` when it has no body because its request was HEAD.
    fn next(&mut self, client: &mut Client, head: bool) -> Answer {
        let mut answer = None;
        self.until(client, |client| {
            answer = Answer::parse(&client.got, head, client.end.is_some());
            assert!(
                answer.is_some() || client.end.is_none(),
                "ended {:?} after {:?}",
                client.end,
                String::from_utf8_lossy(&client.got)
            );
            answer.is_some()
        });
        let answer = answer.unwrap();
        client.got.drain(..answer.size);
        answer
    }

    fn answer(&mut self, client: &mut Client) -> Answer {
        self.next(client, false)
    }

    /// Sends a request and gives its answer.
    fn ask(&mut self, client: &mut Client, request: impl AsRef<[u8]>) -> Answer {
        self.send(client, request);
        self.answer(client)
    }

    /// Turns until the server has ended the connection, having said nothing more.
    fn eof(&mut self, client: &mut Client) {
        self.until(client, |client| client.end.is_some());
        assert_eq!(client.end, Some(End::Eof));
        assert_eq!(String::from_utf8_lossy(&client.got), "");
    }

    /// Turns until the server has no connection; then nothing may be left of any.
    fn empty(&mut self) {
        self.pump(|rig| rig.server.is_empty());
        let counters = self.counters();
        assert_eq!((counters.open, counters.in_flight), (0, 0));
        assert_eq!(counters.classes.iter().sum::<u64>(), counters.requests);
        assert_eq!(self.server.timers.next_deadline(), None);
    }

    /// The connection still answers, and ends when its client goes.
    fn alive(&mut self, mut client: Client) {
        assert_eq!(self.ask(&mut client, get("/")).text(), "home");
        client.finish();
        self.eof(&mut client);
        self.empty();
    }
}

/// A listener on a free port.
fn listener() -> (Listener, SocketAddr) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::tcp(any, 64, false).unwrap();
    let Address::Inet(address) = *listener.address() else {
        panic!("not TCP");
    };
    (listener, address)
}

/// An answer as it came.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    /// Lower-case names.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes that it took.
    size: usize,
}

impl Answer {
    /// Reads one from the front of `bytes`; nothing when it is not complete yet.
    fn parse(bytes: &[u8], head: bool, ended: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = str::from_utf8(&bytes[..end - 4]).unwrap();
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap();
        let rest = first.strip_prefix("HTTP/1.1 ").expect("a status line");
        assert_eq!(rest.as_bytes()[3], b' ', "{first}");
        let fields: Vec<_> = lines
            .map(|line| line.split_once(": ").expect("a field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Self {
            status: rest[..3].parse().unwrap(),
            fields,
            body: Vec::new(),
            size: end,
        };
        if head || matches!(answer.status, 100..200 | 204 | 304) {
            return Some(answer);
        }
        let rest = &bytes[end..];
        if let Some(coding) = answer.get("transfer-encoding") {
            assert_eq!(coding, "chunked");
            assert_eq!(answer.get("content-length"), None);
            let (body, used) = chunks(rest)?;
            answer.body = body;
            answer.size += used;
        } else if let Some(length) = answer.get("content-length") {
            let length: usize = length.parse().unwrap();
            answer.body = rest.get(..length)?.to_vec();
            answer.size += length;
        } else if ended {
            answer.body = rest.to_vec();
            answer.size = bytes.len();
        } else {
            return None;
        }
        Some(answer)
    }

    /// The only field of that name.
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    fn closes(&self) -> bool {
        self.get("connection") == Some("close")
    }
}

/// The data of a chunked body and the bytes that it took; nothing when it is not complete.
fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let line = at + bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = str::from_utf8(&bytes[at..line]).unwrap();
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        at = line + 2;
        let chunk = bytes.get(at..at + size + 2)?;
        assert_eq!(&chunk[size..], b"\r\n", "behind a chunk");
        data.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Some((data, at));
        }
    }
}

/// A request without a body.
fn get(path: &str) -> String {
    request("GET", path, "", "")
}

/// A request with more fields (each with its line end), and what follows its head.
fn request(method: &str, path: &str, fields: &str, rest: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{rest}")
}

/// Bytes that tell their place, so that a lost or swapped piece is seen.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// An application with a plain answer, an echo and one that repeats its path.
fn app() -> App {
    App::new()
        .get("/", |_| "home")
        .post("/echo", |request: crate::app::Request| request.into_body())
        .get("/n/{n}", |request: crate::app::Request| {
            request.param("n").unwrap_or_default().into_owned()
        })
}
