//! Ten thousand idle connections: what they cost in memory, that others are served beside them and
//! limits of time are kept, and that nothing of them stays.
//!
//! The clients are a process of their own, since both ends of a connection take a descriptor.

use crate::client::Client;
use crate::descriptors::{counts, settled};
use crate::lines::Lines;
use crate::support::{Directory, Mode, Server, both_modes, wait_until};
use crate::turns::alone;
use crate::watch;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn};
use nix::sys::socket::{bind, connect, socket};
use std::fs;
use std::io::{Read, Write, stderr, stdin};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const WANTED: usize = 10_000;
/// Connections from each address of 127.0.0.0/8: fewer than there are ports for.
const OF_ONE_ADDRESS: usize = 1000;
/// What a process has open besides: files, listeners, pipes, and its share of what others ask for.
const OTHER_DESCRIPTORS: u64 = 300;

const FILE_BYTES: usize = 64 * 1024;
const HEAD_LIMIT: Duration = Duration::from_secs(1);
/// More than a connection may cost its worker.
const MOST_BYTES: u64 = 2048;

/// What the process of the clients is told: where to, and how many.
const ORDER: &str = "MCLUSTER_IT_IDLE";

/// The process that holds the idle connections.
struct Clients {
    child: Child,
    input: Option<ChildStdin>,
    said: Lines,
}

impl Clients {
    /// As many, each after one answer.
    fn start(address: SocketAddr, count: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["idle::clients", "--exact", "--ignored", "--nocapture"]);
        command.env(ORDER, format!("{address} {count}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Lines::of(child.stdout.take().unwrap());
        let input = child.stdin.take();
        let clients = Self { child, input, said };
        clients.wait("all are answered");
        clients
    }

    #[track_caller]
    fn wait(&self, words: &str) {
        self.said.wait(0, words);
    }

    /// Has each ask once more.
    #[track_caller]
    fn ask_again(&mut self) {
        self.input.as_ref().unwrap().write_all(b"!").unwrap();
        self.wait("all are answered again");
    }

    #[track_caller]
    fn end(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection from the address of this number.
fn connection(number: usize, to: SocketAddr) -> TcpStream {
    let SocketAddr::V4(to) = to else {
        panic!("{to} is not IPv4");
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    let last = u8::try_from(2 + number / OF_ONE_ADDRESS).unwrap();
    let from = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0));
    bind(made.as_raw_fd(), &from).unwrap();
    connect(made.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    TcpStream::from(made)
}

/// Not a test: what the process of the clients does.
#[test]
#[ignore = "the other process of a test"]
fn clients() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let (address, count) = order.split_once(' ').unwrap();
    let address = address.parse().unwrap();
    let connect = |number| {
        let mut client = Client::of(connection(number, address)).unwrap();
        assert_eq!(client.get("/").unwrap().text(), "home");
        client
    };
    let mut clients: Vec<_> = (0..count.parse().unwrap()).map(connect).collect();
    println!("all are answered");
    while stdin().read(&mut [0]).unwrap() > 0 {
        for client in &mut clients {
            client.ask("/").unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.receive().unwrap().text(), "home");
        }
        println!("all are answered again");
    }
}

/// Asks for the file and the page so often, on connections that stay and on new ones.
fn visit(address: SocketAddr, rounds: usize) {
    let mut stays = Client::connect(address).unwrap();
    for _ in 0..rounds {
        let file = stays.get("/file").unwrap();
        assert_eq!((file.status, file.body.len()), (200, FILE_BYTES));
        assert_eq!(stays.get("/").unwrap().text(), "home");
        let mut new = Client::connect(address).unwrap();
        let answer = new
            .request("GET", "/file", "Connection: close\r\n", "")
            .unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, FILE_BYTES));
        assert!(new.ends());
    }
}

fn visits(address: SocketAddr) {
    let visitors: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || visit(address, 50)))
        .collect();
    for visitor in visitors {
        visitor.join().unwrap();
    }
}

/// What the workers have for themselves.
fn memory(server: &Server, mode: Mode) -> u64 {
    match mode {
        Mode::Threads => watch::private_bytes(server.pid()),
        Mode::Processes => {
            let workers = server.wait_for_workers(2);
            workers
                .iter()
                .map(|worker| watch::private_bytes(worker.pid))
                .sum()
        }
    }
}

both_modes! {
    fn ten_thousand_cost_little_and_slow_nobody(mode) {
        let _alone = alone();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        // In threads mode one process has them all.
        let count = WANTED.min(usize::try_from(hard.saturating_sub(OTHER_DESCRIPTORS)).unwrap());
        let place = Directory::new();
        fs::write(place.file("index.html"), "home").unwrap();
        fs::write(place.file("file"), vec![b'f'; FILE_BYTES]).unwrap();
        let root = place.file("");
        let head_limit = format!("{}s", HEAD_LIMIT.as_secs());
        let limits = ["--workers", "2", "--header-timeout", &head_limit];
        let server = Server::start(mode, &[&limits[..], &["--root", root.to_str().unwrap()]].concat());
        let address = server.address();
        // What is allocated once for all is not theirs.
        visits(address);
        let descriptors = settled(&server, mode, 2);
        let before = memory(&server, mode);

        let mut clients = Clients::start(address, count);
        let idle = memory(&server, mode).saturating_sub(before) / count as u64;
        let line = format!(
            "{count} idle connections of {WANTED}, {}: {idle} bytes of memory each\n", mode.name()
        );
        let _ = stderr().write_all(line.as_bytes());
        assert!(idle < MOST_BYTES, "{line}");

        let begin = Instant::now();
        let mut slow = Client::connect(address).unwrap();
        slow.send("GET / HTTP/1.1\r\nHost: te").unwrap();
        visits(address);
        assert_eq!(slow.receive().unwrap().status, 408);
        assert!(begin.elapsed() >= HEAD_LIMIT);
        // All of them are still there.
        clients.ask_again();
        let used = memory(&server, mode).saturating_sub(before) / count as u64;
        assert!(used < MOST_BYTES, "{used} bytes each after they were used");
        clients.end();
        drop(slow);
        wait_until(&format!("as many descriptors as at the start: {descriptors:?}"), || {
            counts(&server, mode) == descriptors
        });
        server.stop();
    }
}
