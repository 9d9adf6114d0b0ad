//! The conversation with real programs: those of the `node` in `PATH`, or of the ones that the variable
//! `MCLUSTER_NODES` names, with colons between them. Skipped where there is none.

use super::super::{Bind, Handed, Place, Refusal};
use super::*;
use crate::ipc::BUFFER_BYTES;
use crate::sys::listener::Peer;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process};

/// Nobody waits for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the application does is told by its messages.
const APP: &str = r"
const cluster = require('cluster'), fs = require('fs'), net = require('net');
let full = [], given = null, server = null;
const say = (what) => process.send(what);
const orders = {
  http: (port) => {
    server = require('http').createServer((q, a) => a.end('pid ' + process.pid));
    server.on('error', (error) => say(error.code)).listen(port, '127.0.0.1');
  },
  net: (path) => { server = net.createServer((c) => c.end('hello')).listen(path); },
  udp: () => {
    const socket = require('dgram').createSocket('udp4');
    socket.on('message', (m, from) => socket.send('back ' + m, from.port, from.address));
    socket.bind(0, '127.0.0.1');
  },
  give: () => {
    server = net.createServer((c) => { given = c; process.send('taken?', c); say('after'); });
    server.listen(0, '127.0.0.1');
  },
  fill: (time) => {
    try { for (;;) full.push(fs.openSync('/dev/null')); } catch (e) { say('full'); }
    if (time) setTimeout(orders.free, time);
  },
  free: () => { for (const fd of full.splice(0)) fs.closeSync(fd); say('free'); },
  leave: () => cluster.worker.disconnect(),
  echo: (what) => say(what),
};
process.on('message', ([order, what]) => orders[order](what));
say('ready');
";

struct Program {
    lines: Lines,
    child: Child,
    poll: Poll,
    buffer: Vec<u8>,
    script: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.script);
    }
}

/// Has `test` talk to a program of each Node that there is.
fn each(name: &str, test: impl Fn(&mut Program)) {
    let nodes = env::var("MCLUSTER_NODES").unwrap_or_else(|_| "node".to_owned());
    for node in nodes.split(':') {
        let there = Command::new(node).arg("--version").output();
        let Ok(version) = there else {
            println!("skipped: no {node} here");
            continue;
        };
        println!(
            "{name} with {}",
            String::from_utf8_lossy(&version.stdout).trim()
        );
        let mut program = Program::start(node, name);
        program.expect(&Message::Online);
        program.expect_text("\"ready\"");
        test(&mut program);
    }
}

impl Program {
    fn start(node: &str, name: &str) -> Self {
        let script = env::temp_dir().join(format!("mcluster-{}-{name}.js", process::id()));
        fs::write(&script, APP).unwrap();
        let (lines, theirs) = Lines::pair().unwrap();
        let poll = Poll::new().unwrap();
        let fd = lines.as_fd().as_raw_fd();
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut SourceFd(&fd), Token(0), both)
            .unwrap();
        let child = Command::new("sh")
            .args([
                "-c",
                "ulimit -n 128; exec \"$0\" \"$@\" 3<&0 </dev/null",
                node,
            ])
            .arg(&script)
            .env("NODE_CHANNEL_FD", "3")
            .env("NODE_CHANNEL_SERIALIZATION_MODE", "json")
            .env("NODE_UNIQUE_ID", "1")
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let buffer = vec![0; BUFFER_BYTES];
        Self {
            lines,
            child,
            poll,
            buffer,
            script,
        }
    }

    /// What it says next; None at its end.
    fn hear(&mut self) -> Option<Message> {
        let (begin, mut events) = (Instant::now(), Events::with_capacity(8));
        while begin.elapsed() < PATIENCE {
            match self.lines.receive(&mut self.buffer).unwrap() {
                Received::Message(message, with) => {
                    assert!(with.is_empty());
                    return Some(message);
                }
                Received::Closed => return None,
                Received::Nothing => {
                    if self.lines.has_unsent() {
                        self.lines.flush().unwrap();
                    }
                    let soon = Some(super::super::FLUSH_AGAIN);
                    self.poll.poll(&mut events, soon).unwrap();
                }
            }
        }
        panic!("it says nothing");
    }

    fn expect(&mut self, message: &Message) {
        assert_eq!(self.hear().as_ref(), Some(message));
    }

    fn expect_text(&mut self, text: &str) {
        self.expect(&Message::Text(text.as_bytes().to_vec()));
    }

    fn order(&mut self, order: &str) {
        self.lines
            .send(&Message::Text(order.as_bytes().to_vec()), &[])
            .unwrap();
    }

    fn question(&mut self) -> (u32, Bind) {
        match self.hear() {
            Some(Message::QueryServer {
                query,
                ask: Ask::Bind(bind),
            }) => (query, bind),
            other => panic!("{other:?}"),
        }
    }

    /// Lets it listen at what `bound` is, by itself if that has a socket.
    fn grant(&mut self, query: u32, address: Address, socket: Option<BorrowedFd<'_>>) {
        self.grant_as(7, query, address, socket);
    }

    fn grant_as(
        &mut self,
        listener: u32,
        query: u32,
        address: Address,
        socket: Option<BorrowedFd<'_>>,
    ) {
        let message = Message::Server {
            query,
            listener,
            shared: socket.is_some(),
            address,
            data: None,
        };
        self.lines.send(&message, socket.as_slice()).unwrap();
    }

    /// Has it listen where connections are handed over.
    fn listen(&mut self, order: &str) -> TcpListener {
        self.order(order);
        let (query, bind) = self.question();
        assert!(matches!(bind.place, Place::Tcp { port: 0, .. }), "{bind:?}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.grant(query, Address::Inet(listener.local_addr().unwrap()), None);
        self.expect(&Message::Listening { listener: 7 });
        listener
    }

    fn hand_over(&mut self, listener: &TcpListener, count: usize) -> Vec<TcpStream> {
        let address = listener.local_addr().unwrap();
        let pair = |_| {
            let client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let (taken, _) = listener.accept().unwrap();
            taken.set_nonblocking(true).unwrap();
            (client, taken)
        };
        let (clients, taken): (Vec<_>, Vec<_>) = (0..count).map(pair).unzip();
        let with: Vec<_> = taken.iter().map(AsFd::as_fd).collect();
        let hand = vec![Handed::fresh(Peer::Unix); count];
        let message = Message::Newconn { listener: 7, hand };
        self.lines.try_send(&message, &with).unwrap();
        clients
    }

    fn expect_answers(&mut self, connections: std::ops::Range<u64>, accepted: bool) {
        for connection in connections {
            self.expect(&Message::Answered {
                connection,
                accepted,
            });
        }
    }

    fn expect_end(&mut self) {
        assert_eq!(self.hear(), None);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

const GO: Message = Message::Disconnect {
    hand_back: false,
    more: false,
};

fn get(mut client: &TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn connections_are_handed_over_and_served() {
    each("dealt", |program| {
        let listener = program.listen(r#"["http", 0]"#);
        let clients = program.hand_over(&listener, 1);
        program.expect_answers(0..1, true);
        let answer = get(&clients[0]);
        let pid = format!("pid {}", program.child.id());
        assert!(answer.ends_with(&pid), "{answer}");
        let clients = program.hand_over(&listener, 20);
        program.expect_answers(1..21, true);
        assert!(clients.iter().all(|client| get(client).ends_with(&pid)));
        program.lines.send(&GO, &[]).unwrap();
        program.lines.send(&GO, &[]).unwrap();
        program.expect(&Message::Close { listener: 7 });
        program.expect_end();
    });
}

#[test]
fn a_program_may_listen_by_itself() {
    each("shared", |program| {
        program.order(r#"["http", 0]"#);
        let (query, _) = program.question();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        program.grant(query, Address::Inet(address), Some(listener.as_fd()));
        program.expect(&Message::Listening { listener: 7 });
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(get(&client).contains("pid "));
        // And it takes what is handed over there as well.
        listener.set_nonblocking(false).unwrap();
        let (theirs, ours) = {
            let other = TcpListener::bind("127.0.0.1:0").unwrap();
            (program.hand_over(&other, 1), other)
        };
        program.expect_answers(0..1, true);
        assert!(get(&theirs[0]).contains("pid "));
        drop(ours);
        program.order(r#"["leave"]"#);
        let said = [program.hear().unwrap(), program.hear().unwrap()];
        assert!(
            said.contains(&GO) && said.contains(&Message::Close { listener: 7 }),
            "{said:?}"
        );
        program.expect_end();
    });
}

#[test]
fn messages_go_both_ways() {
    each("messages", |program| {
        let large = "x".repeat(1 << 20);
        for text in [
            "null",
            "{\"a\":[1,\"\\n\"]}",
            "\"\u{fc}\u{1f600}\"",
            &format!("\"{large}\""),
        ] {
            program.order(&format!("[\"echo\",\n {text}]"));
            program.expect_text(text);
        }
        let internal = Message::Text(br#"{"cmd":"NODE_CLUSTER","act":"disconnect"}"#.to_vec());
        let refused = program.lines.send(&internal, &[]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_refusal_is_an_error_there() {
    each("refused", |program| {
        program.order(r#"["http", 80]"#);
        let (query, bind) = program.question();
        let place = Place::Tcp {
            address: Some([127, 0, 0, 1].into()),
            port: 80,
            v6_only: false,
        };
        assert_eq!(bind.place, place);
        let why = Refusal {
            errno: libc::EACCES,
            why: String::new(),
        };
        program
            .lines
            .send(&Message::Refused { query, why }, &[])
            .unwrap();
        program.expect_text("\"EACCES\"");
    });
}

#[test]
fn datagrams_and_paths() {
    each("places", |program| {
        program.order(r#"["udp"]"#);
        let (query, bind) = program.question();
        assert!(matches!(bind.place, Place::Udp { port: 0, .. }), "{bind:?}");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = socket.local_addr().unwrap();
        program.grant(query, Address::Inet(address), Some(socket.as_fd()));
        program.expect(&Message::Listening { listener: 7 });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"and forth", address).unwrap();
        let mut buffer = [0; 64];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"back and forth");
        let path = PathBuf::from("/nowhere/at/all");
        program.order(r#"["net", "/nowhere/at/all"]"#);
        let (query, bind) = program.question();
        let place = Place::Unix {
            path: path.clone(),
            readable_all: false,
            writable_all: false,
        };
        assert_eq!(bind.place, place);
        program.grant_as(8, query, Address::Unix(path), None);
        program.expect(&Message::Listening { listener: 8 });
        // One number for two of its servers would be its end.
        program.order(r#"["http", 81]"#);
        let (query, _) = program.question();
        program.grant(query, Address::Inet(([127, 0, 0, 1], 81).into()), None);
        program.expect_text("\"EADDRINUSE\"");
    });
}

#[test]
fn sockets_that_it_gives_away_are_closed() {
    each("given", |program| {
        let listener = program.listen(r#"["give"]"#);
        let clients = program.hand_over(&listener, 1);
        program.expect_answers(0..1, true);
        program.expect_text("\"taken?\"");
        program.expect_text("\"after\"");
        assert_eq!((&clients[0]).read(&mut [0]).unwrap(), 0, "closed");
        program.lines.send(&GO, &[]).unwrap();
        program.expect(&Message::Close { listener: 7 });
        program.expect_end();
    });
}

#[test]
fn a_program_without_room_for_descriptors_has_them_later() {
    each("full", |program| {
        let listener = program.listen(r#"["http", 0]"#);
        program.order(r#"["fill"]"#);
        program.expect_text("\"full\"");
        program.hand_over(&listener, 2);
        program.expect_answers(0..2, false);
        program.order(r#"["free"]"#);
        program.expect_text("\"free\"");
        let clients = program.hand_over(&listener, 1);
        program.expect_answers(2..3, true);
        assert!(get(&clients[0]).contains("pid "));
        // And once more, with what must come through.
        program.order(r#"["fill", 300]"#);
        program.expect_text("\"full\"");
        program.order(r#"["http", 0]"#);
        let (query, _) = program.question();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        let address = Address::Inet(other.local_addr().unwrap());
        program.grant_as(8, query, address, Some(other.as_fd()));
        program.order(r#"["echo", "last"]"#);
        program.expect_text("\"free\"");
        let said = [program.hear().unwrap(), program.hear().unwrap()];
        assert!(
            said.contains(&Message::Listening { listener: 8 }),
            "{said:?}"
        );
        assert!(
            said.contains(&Message::Text(b"\"last\"".to_vec())),
            "{said:?}"
        );
    });
}
