//! The sticky policies: every client stays with one worker, only those of a worker that is gone
//! move, and a cookie says whose they are.

use crate::client::{Client, is_loss};
use crate::edge::announced;
use crate::steered::Steered;
use crate::support::{Directory, Mode, Server, Worker, both_modes, command, wait_until};
use crate::turns::alone;
use crate::websocket::HANDSHAKE;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

const CLIENTS: u32 = 1000;

/// What a client is known by.
#[derive(Clone, Debug)]
enum By {
    Ip(Ipv4Addr),
    /// What it was given, once it was.
    Cookie(Option<String>),
    Query(String),
}

/// A new connection from one address of this machine.
fn connected_from(ip: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let flags = SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    let SocketAddr::V4(to) = to else {
        panic!("{to} is no IPv4 address");
    };
    let from = std::net::SocketAddrV4::new(ip, 0);
    bind(made.as_raw_fd(), &SockaddrIn::from(from)).unwrap();
    connect(made.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    TcpStream::from(made)
}

/// The cookie `at` in an answer, if it sets one.
fn given(answer: &crate::client::Answer) -> Option<String> {
    let field = answer.field("Set-Cookie")?;
    let value = field.strip_prefix("at=").unwrap();
    let value = value.strip_suffix("; Path=/; HttpOnly; SameSite=Lax");
    Some(value.unwrap_or_else(|| panic!("{field:?}")).to_owned())
}

impl By {
    /// One request on a connection of its own: who answered.
    fn visit(&mut self, address: SocketAddr) -> io::Result<String> {
        let (mut client, target, mut fields) = match self {
            Self::Ip(ip) => {
                let client = Client::of(connected_from(*ip, address))?;
                (client, "/".to_owned(), String::new())
            }
            Self::Cookie(cookie) => {
                let field = cookie
                    .as_ref()
                    .map(|cookie| format!("Cookie: a=b; at={cookie}\r\n"));
                let client = Client::connect(address)?;
                (client, "/".to_owned(), field.unwrap_or_default())
            }
            Self::Query(value) => {
                let target = format!("/?a=b&sid={value}");
                (Client::connect(address)?, target, String::new())
            }
        };
        fields.push_str("Connection: close\r\n");
        let answer = client.request("GET", &target, &fields, "")?;
        let given = given(&answer);
        if let Self::Cookie(cookie) = self {
            *cookie = given.or(cookie.take());
        } else {
            assert_eq!(given, None);
        }
        Ok(answer.who())
    }
}

/// A thousand clients of a kind.
fn clients(kind: &str) -> Vec<By> {
    let client = |number: u32| match kind {
        "sticky-ip" => By::Ip(Ipv4Addr::from_bits(0x7f01_0000 + number * 7)),
        "sticky-cookie:at" => By::Cookie(None),
        // Somebody else's cookies.
        "foreign" => By::Cookie(Some(format!("user-{number}"))),
        _ => By::Query(format!("{number:x}")),
    };
    (0..CLIENTS).map(client).collect()
}

/// Says it past libtest, which would keep the line of a test that passes to itself.
fn say(line: &str) {
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Who answers each client, the same in each of three visits.
#[track_caller]
fn homes(clients: &mut [By], address: SocketAddr) -> Vec<String> {
    let homes: Vec<_> = clients
        .iter_mut()
        .map(|client| client.visit(address).unwrap())
        .collect();
    for _ in 0..2 {
        for (client, home) in clients.iter_mut().zip(&homes) {
            assert_eq!(client.visit(address).unwrap(), *home, "{client:?}");
        }
    }
    homes
}

fn jain(shares: impl Iterator<Item = usize> + Clone) -> f64 {
    let sum = shares.clone().sum::<usize>() as f64;
    let squares: usize = shares.clone().map(|share| share * share).sum();
    sum * sum / (shares.count() * squares) as f64
}

#[track_caller]
fn everybody_stays(mode: Mode, kind: &str) {
    let _alone = alone();
    let policy = if kind == "foreign" {
        "sticky-cookie:at"
    } else {
        kind
    };
    let server = Server::start(mode, &["--workers", "8", "--schedule", policy]);
    let address = server.address();
    let workers = server.wait_for_workers(8);
    let mut clients = clients(kind);
    let homes = homes(&mut clients, address);
    let mut shares = BTreeMap::new();
    for home in &homes {
        *shares.entry(home).or_insert(0) += 1;
    }
    assert_eq!(shares.len(), 8, "{shares:?}");
    let index = jain(shares.values().copied());
    let counts: Vec<_> = shares.values().collect();
    let mode_name = mode.name();
    say(&format!(
        "{mode_name} {kind}: {counts:?}, Jain's index {index:.3}\n"
    ));
    assert!(index > 0.95);
    if mode == Mode::Processes {
        only_those_of_a_dead_worker_move(&server, workers[3], &mut clients, &homes);
        only_those_of_a_lost_place_move(&server, &mut clients);
    }
    server.stop();
}

#[track_caller]
fn only_those_of_a_dead_worker_move(
    server: &Server,
    dead: Worker,
    clients: &mut [By],
    homes: &[String],
) {
    let address = server.address();
    let name = dead.name(Mode::Processes);
    dead.signal(Signal::SIGKILL);
    // While it dies, is buried and has a successor.
    for (client, home) in clients.iter().zip(homes) {
        match client.clone().visit(address) {
            Ok(who) => assert!(who == *home || *home == name, "{client:?}"),
            Err(error) => assert!(*home == name && is_loss(&error), "{client:?}: {error}"),
        }
    }
    let successor = server.successor(dead, "died: signal 9 (SIGKILL)");
    let successor = successor.name(Mode::Processes);
    for (client, home) in clients.iter_mut().zip(homes) {
        let home = if *home == name { &successor } else { home };
        assert_eq!(client.visit(address).unwrap(), *home, "{client:?}");
    }
    let moved = homes.iter().filter(|home| **home == name).count();
    say(&format!(
        "{moved} clients have gone to the successor of their worker\n"
    ));
}

/// The last of the places goes: its clients spread over the others, and stay there.
#[track_caller]
fn only_those_of_a_lost_place_move(server: &Server, clients: &mut [By]) {
    let before = homes(clients, server.address());
    let gone: BTreeSet<_> = {
        let all = server.wait_for_workers(8);
        server.signal(Signal::SIGTTOU);
        let left = server.wait_for_workers(7);
        let gone = all.into_iter().filter(|worker| !left.contains(worker));
        gone.map(|worker| worker.name(Mode::Processes)).collect()
    };
    let after = homes(clients, server.address());
    let mut heirs = BTreeSet::new();
    for (before, after) in before.iter().zip(&after) {
        match gone.contains(before) {
            true => _ = heirs.insert(after),
            false => assert_eq!(before, after),
        }
    }
    assert_eq!(heirs.len(), 7);
}

both_modes! {
    fn by_address(mode) {
        everybody_stays(mode, "sticky-ip");
    }

    fn by_the_cookie_that_was_given(mode) {
        everybody_stays(mode, "sticky-cookie:at");
    }

    fn by_a_cookie_of_somebody_else(mode) {
        everybody_stays(mode, "foreign");
    }

    fn by_a_key_in_the_query(mode) {
        everybody_stays(mode, "sticky-query:sid");
    }

    fn a_value_that_names_a_worker_goes_there(mode) {
        for policy in ["sticky-query:sid", "sticky-cookie:at"] {
            let server = Server::start(mode, &["--workers", "4", "--schedule", policy]);
            let address = server.address();
            let mut workers = server.wait_for_workers(4);
            workers.sort_by_key(|worker| worker.id);
            for (place, worker) in workers.iter().enumerate() {
                for more in ["", ".xyz", "-7", "~"] {
                    let value = format!("w{}{more}", place + 1);
                    let mut client = match policy {
                        "sticky-query:sid" => By::Query(value),
                        _ => By::Cookie(Some(value)),
                    };
                    assert_eq!(client.visit(address).unwrap(), worker.name(mode), "{client:?}");
                }
            }
            // Of one that is not there they go to one of the others, and are told which.
            let mut stranger = By::Cookie(Some("w99".to_owned()));
            stranger.visit(address).unwrap();
            if let (By::Cookie(Some(value)), "sticky-cookie:at") = (&stranger, policy) {
                let (name, mine) = value.split_once('.').unwrap();
                assert!(["w1", "w2", "w3", "w4"].contains(&name) && mine.len() == 8, "{value}");
            }
            server.stop();
        }
    }

    fn at_a_unix_socket_too(mode) {
        let directory = Directory::new();
        let path = directory.file("s");
        let listen = format!("unix:{}", path.display());
        let policy = "sticky-cookie:at";
        let arguments = ["--mode", mode.name(), "-w4", "-l", &listen, "-s", policy];
        let server = Server::launch(command(&arguments));
        let mut workers = server.wait_for_workers(4);
        workers.sort_by_key(|worker| worker.id);
        for (place, worker) in workers.iter().enumerate() {
            let cookie = format!("Cookie: at=w{}\r\n", place + 1);
            let mut client = Client::connect_unix(&path).unwrap();
            let answer = client.request("GET", "/", &cookie, "").unwrap();
            assert_eq!((given(&answer), answer.who()), (None, worker.name(mode)));
        }
        server.stop();
    }

    fn the_cookie_is_secure_where_its_client_is(mode) {
        let trust = ["--trusted-proxies", "127.0.0.1", "--schedule", "sticky-cookie:at"];
        let server = Server::start(mode, &trust);
        for (scheme, secure) in [("https", true), ("http", false)] {
            let fields = format!("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: {scheme}\r\n");
            let mut client = Client::connect(server.address()).unwrap();
            // Whatever the answer is.
            for target in ["/", "/nothing", "/status/304"] {
                let answer = client.request("GET", target, &fields, "").unwrap();
                let cookie = answer.field("Set-Cookie").unwrap();
                assert_eq!(cookie.ends_with("; SameSite=Lax; Secure"), secure, "{cookie}");
            }
        }
        server.stop();
    }

    fn a_reload_keeps_connections_in_their_places(mode) {
        for policy in ["sticky-cookie:at", "sticky-query:sid"] {
            let server = Server::start(mode, &["--workers", "3", "--schedule", policy]);
            let address = server.address();
            let ask = |client: &mut Client, place: usize| {
                let target = format!("/?sid=w{place}");
                let cookie = format!("Cookie: at=w{place}\r\n");
                client.request("GET", &target, &cookie, "").unwrap().who()
            };
            let mut kept: Vec<_> = (0..30).map(|number| {
                let place = number % 3 + 1;
                let mut client = Client::connect(address).unwrap();
                let who = ask(&mut client, place);
                (client, place, who)
            }).collect();
            let mark = server.log.mark();
            server.signal(Signal::SIGHUP);
            server.log.wait(mark, "reloaded: all workers are new");
            for (client, place, before) in &mut kept {
                assert!(client.is_silent());
                let who = ask(client, *place);
                assert_ne!(who, *before);
                let mut fresh = Client::connect(address).unwrap();
                assert_eq!(ask(&mut fresh, *place), who, "{policy}");
            }
            server.stop();
        }
    }

    fn the_policy_changes_while_it_runs(mode) {
        let cluster = Steered::start(mode, &[]);
        let address = cluster.server.address();
        let set = |fields: &str| {
            let mut client = Client::connect(address).unwrap();
            let answer = client.request("GET", "/?sid=x", fields, "").unwrap();
            answer.field("Set-Cookie").map(str::to_owned)
        };
        let schedule = |policy: &str| {
            assert_eq!(cluster.steer(&["schedule", policy]), (0, format!("schedule {policy}")));
        };
        assert_eq!(set(""), None);
        for name in ["X", "a&b%+#'", "__Host-w"] {
            schedule(&format!("sticky-cookie:{name}"));
            // Workers hear of it in a moment.
            let mut found = None;
            wait_until("a cookie", || {
                found = set("");
                found.as_ref().is_some_and(|found| found.starts_with(name))
            });
            let found = found.unwrap();
            assert_eq!(found.ends_with("; Secure"), name == "__Host-w", "{found}");
            for place in ["w1", "w2"] {
                assert_eq!(set(&format!("Cookie: {name}={place}\r\n")), None);
            }
        }
        schedule("sticky-query:sid \u{fc}");
        schedule("rr");
        wait_until("no cookie", || set("").is_none() && set("").is_none());
        let (status, said) = cluster.steer(&["schedule", "sticky-cookie:a b"]);
        assert_eq!(status, 2, "{said}");
        cluster.server.stop();
    }

    fn a_websocket_comes_back_to_its_worker(mode) {
        let _alone = alone();
        for policy in ["sticky-cookie:at", "rr"] {
            let directory = Directory::new();
            let log = directory.file("access.log");
            let arguments = [
                "--workers", "4", "--schedule", policy, "--log-format", "json",
                "--access-log", log.to_str().unwrap(),
            ];
            let server = Server::start(mode, &arguments);
            let mut cookie = String::new();
            for _ in 0..11 {
                let mut client = Client::connect(server.address()).unwrap();
                let fields = format!("{HANDSHAKE}{cookie}");
                let answer = client.request("GET", "/ws", &fields, "").unwrap();
                assert_eq!(answer.status, 101);
                match given(&answer) {
                    Some(value) if cookie.is_empty() => cookie = format!("Cookie: at={value}\r\n"),
                    other => assert_eq!(other, None),
                }
            }
            let mut lines = Vec::new();
            wait_until("eleven lines", || {
                let text = fs::read_to_string(&log).unwrap_or_default();
                lines = text.lines().map(str::to_owned).collect();
                lines.len() == 11
            });
            let worker = |line: &String| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["status"], 101);
                line["worker"].as_u64().unwrap()
            };
            let workers: BTreeSet<_> = lines.iter().map(worker).collect();
            match policy {
                "rr" => assert_eq!(workers.len(), 4),
                _ => assert_eq!(workers.len(), 1),
            }
            server.stop();
        }
    }

    fn behind_a_proxy_its_header_counts(mode) {
        let proxy = ["--workers", "4", "--proxy-protocol", "127.0.0.1", "--schedule"];
        let start = |policy| Server::start(mode, &[&proxy[..], &[policy]].concat());
        let v1 = |number: u32| {
            let client = Ipv4Addr::from_bits(0xc633_6400 + number);
            format!("PROXY TCP4 {client} 192.0.2.2 56324 80\r\n").into_bytes()
        };
        let v2 = |number: u32| {
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
            header.extend((0xc633_6400 + number).to_be_bytes());
            header.extend([192, 0, 2, 2, 0xdc, 4, 0, 80]);
            header
        };
        let server = start("sticky-ip");
        let mut seen = BTreeSet::new();
        for number in 0..100 {
            let mut who = BTreeSet::new();
            for header in [v1(number), v2(number)] {
                who.insert(announced(server.address(), &header).get("/").unwrap().who());
                // In two pieces, the second of which comes with the request.
                let mut client = announced(server.address(), &header[..20]);
                Client::connect(server.address()).unwrap();
                client.send(&header[20..]).unwrap();
                who.insert(client.get("/").unwrap().who());
            }
            assert_eq!(who.len(), 1, "{who:?}");
            seen.extend(who);
        }
        assert_eq!(seen.len(), 4);
        // The proxy itself.
        let unknown = || announced(server.address(), "PROXY UNKNOWN\r\n").get("/").unwrap().who();
        let who = unknown();
        assert!((0..10).all(|_| unknown() == who));
        server.stop();
        let server = start("sticky-cookie:at");
        let mut homes = BTreeMap::new();
        for number in 0..40 {
            let place = number % 4 + 1;
            let header = if number % 3 == 0 { v1(number) } else { v2(number) };
            let mut client = announced(server.address(), header);
            let cookie = format!("Cookie: at=w{place}\r\n");
            let answer = client.request("GET", "/", &cookie, "").unwrap();
            assert_eq!(given(&answer), None);
            let who = answer.who();
            assert_eq!(*homes.entry(place).or_insert(who.clone()), who);
        }
        assert_eq!(homes.into_values().collect::<BTreeSet<_>>().len(), 4);
        server.stop();
    }
}
