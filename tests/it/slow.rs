//! Peers that are slow on purpose: a byte now and then in the head, in the body, in taking the
//! answer, or no byte at all of a very large one. Each meets its limit, none costs memory, and
//! others are served meanwhile.

use crate::client::Client;
use crate::descriptors::{counts, settled};
use crate::support::{Directory, Mode, Server, both_modes, wait_until};
use crate::watch;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two bytes: less than any limit here, so that it is not the pause that ends them.
const PAUSE: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(1);
/// No limit is missed by so much on any machine.
const LATE: Duration = Duration::from_secs(15);

const LIMITS: [&str; 6] = [
    "--header-timeout",
    "1s",
    "--body-timeout",
    "1s",
    "--write-timeout",
    "1s",
];

const GIGABYTE: u64 = 1 << 30;
const PEERS: usize = 16;
/// More than a peer that does not read may cost.
const MOST_BYTES: u64 = 256 * 1024;

/// Sends `begin`, then one byte after the other without an end, and gives what comes and when.
fn drips(address: SocketAddr, begin: &'static str, bytes: &'static [u8]) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PAUSE)).unwrap();
        stream.write_all(begin.as_bytes()).unwrap();
        let start = Instant::now();
        let mut came = Vec::new();
        for byte in bytes.iter().cycle() {
            assert!(start.elapsed() < LATE, "{begin:?} goes on");
            // Which fails once the other end is gone; what it said before is read below.
            let _ = stream.write_all(&[*byte]);
            match stream.read_to_end(&mut came) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        assert!(start.elapsed() >= LIMIT - PAUSE, "{begin:?}: too soon");
        String::from_utf8(came).unwrap()
    })
}

/// Asks for `target` and takes a byte of the answer now and then, until it is told to stop.
fn sips(address: SocketAddr, target: &'static str) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = channel();
    let peer = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
            // There is enough in the buffers on the way, also after the other end is gone.
            let _ = stream.read(&mut [0]);
        }
    });
    (stop, peer)
}

/// The line of the access log about `target`, once there is one.
#[track_caller]
fn line(log: &Path, target: &str) -> Value {
    let mut found = None;
    wait_until(&format!("the end of {target}"), || {
        let text = fs::read_to_string(log).unwrap_or_default();
        let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        found = lines.find(|line: &Value| line["target"] == target);
        found.is_some()
    });
    found.unwrap()
}

fn with_a_gigabyte() -> Directory {
    let place = Directory::new();
    fs::create_dir(place.file("root")).unwrap();
    fs::write(place.file("root/index.html"), "home").unwrap();
    let big = File::create(place.file("root/big")).unwrap();
    big.set_len(GIGABYTE).unwrap();
    place
}

fn memory(server: &Server, mode: Mode) -> u64 {
    let pid = match mode {
        Mode::Threads => server.pid(),
        Mode::Processes => server.wait_for_workers(1)[0].pid,
    };
    watch::private_bytes(pid)
}

/// What a worker has for itself once it does nothing more.
#[track_caller]
fn settled_memory(server: &Server, mode: Mode) -> u64 {
    let (mut last, mut same) = (0, 0);
    wait_until("the memory settles", || {
        let now = memory(server, mode);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == 100
    });
    last
}

both_modes! {
    fn a_byte_now_and_then_ends_by_its_limit(mode) {
        let place = with_a_gigabyte();
        let (root, log) = (place.file("root"), place.file("access.log"));
        let logged = ["--access-log", log.to_str().unwrap(), "--log-format", "json"];
        let all = |more: &[&'static str]| -> Vec<&str> { [&LIMITS, &logged[..], &["-w1"], more].concat() };
        let app = Server::start(mode, &all(&[]));
        let files = Server::start(mode, &[&all(&[])[..], &["--root", root.to_str().unwrap()]].concat());
        let at = app.address();
        let senders = [
            drips(at, "", b"\r\n"),
            drips(at, "GET /", b"a"),
            drips(at, "GET / HTTP/1.1\r\nHost: test\r\nX: ", b"a"),
            drips(at, "GET / HTTP/1.1\r\nHost: test\r\n", b"a:\r\n"),
            drips(at, "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n", b"a"),
            drips(at, "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
            drips(at, "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a:\r\n"),
        ];
        let readers = [sips(at, "/stream?n=1000000000000"), sips(files.address(), "/big")];
        let (mut other, _) = Client::greeted(at);
        let mut of_files = Client::connect(files.address()).unwrap();
        let mut served = 0;
        while !senders.iter().all(JoinHandle::is_finished) {
            assert_eq!(other.get("/").unwrap().status, 200);
            assert_eq!(of_files.get("/").unwrap().text(), "home");
            served += 1;
        }
        assert!(served > 10, "{served} others");
        for (number, sender) in senders.into_iter().enumerate() {
            let came = sender.join().unwrap();
            // Who has not said a thing gets no answer.
            let told = came.starts_with("HTTP/1.1 408 ") && came.contains("\r\nConnection: close\r\n");
            assert!(told || (number == 0 && came.is_empty()), "{number}: {came:?}");
        }
        for target in ["/stream?n=1000000000000", "/big"] {
            let line = line(&log, target);
            assert_eq!(line["status"], 200);
            assert!(line["bytes"].as_u64().unwrap() < GIGABYTE, "{line}");
            let took = line["duration_s"].as_f64().unwrap();
            assert!((LIMIT.as_secs_f64()..LATE.as_secs_f64()).contains(&took), "{line}");
        }
        for (stop, reader) in readers {
            stop.send(()).unwrap();
            reader.join().unwrap();
        }
        app.stop();
        files.stop();
    }

    fn a_gigabyte_that_nobody_reads_costs_little(mode) {
        let place = with_a_gigabyte();
        let root = place.file("root");
        for (more, target) in [
            (&["--root", root.to_str().unwrap()][..], "/big"),
            (&[], "/stream?n=1000000000000"),
        ] {
            let server = Server::start(mode, &[&["-w1", "--max-body", "64k"], more].concat());
            let ask = || {
                let mut client = Client::connect(server.address()).unwrap();
                client.ask(target).unwrap();
                wait_until("the beginning", || !client.is_silent());
                client
            };
            let mut other = Client::connect(server.address()).unwrap();
            let served = |client: &mut Client| {
                assert_eq!(client.get("/").unwrap().status, 200);
                assert_eq!(client.request("HEAD", target, "", "").unwrap().status, 200);
            };
            served(&mut other);
            let descriptors = settled(&server, mode, 1);
            let nothing_stays = || wait_until(&format!("as many descriptors as at the start: {descriptors:?}"), || {
                counts(&server, mode) == descriptors
            });
            // What the first answer of its kind allocates is for all of them.
            drop(ask());
            nothing_stays();
            let before = settled_memory(&server, mode);
            let peers: Vec<_> = (0..PEERS).map(|_| ask()).collect();
            let each = settled_memory(&server, mode).saturating_sub(before) / PEERS as u64;
            let line = format!("{target} that is not read, {}: {each} bytes of memory each\n", mode.name());
            let _ = std::io::stderr().write_all(line.as_bytes());
            assert!(each < MOST_BYTES, "{line}");
            served(&mut other);
            drop(peers);
            nothing_stays();
            drop(other);
            server.stop();
        }
    }
}
