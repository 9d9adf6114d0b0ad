//! The first bytes of connections under the sticky policies that look at them: in pieces, too
//! slow, too long, nonsense, or none at all.

use crate::client::Client;
use crate::descriptors::{counts, settled};
use crate::steered::Steered;
use crate::support::{Mode, Server, both_modes, command_by_shell, wait_until};
use crate::turns::alone;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::net::{SocketAddr, TcpStream};

const BOTH: [&str; 2] = ["sticky-cookie:at", "sticky-query:at"];

/// A request of the worker at the second place, by either policy.
const SECOND: &str = "GET /?at=w2 HTTP/1.1\r\nHost: test\r\nCookie: a=b; at=w2\r\nX: y\r\n\r\n";

fn start(mode: Mode, policy: &str, more: &[&str]) -> Server {
    let arguments = ["--workers", "4", "--schedule", policy];
    Server::start(mode, &[&arguments, more].concat())
}

/// Who is at the second place.
fn second(server: &Server, mode: Mode) -> String {
    let workers = server.wait_for_workers(4);
    let is_second = |worker: &&crate::support::Worker| worker.id == 2;
    workers.iter().find(is_second).unwrap().name(mode)
}

/// Whatever was sent before has been seen: the primary goes by the order of events.
fn pass(address: SocketAddr) {
    Client::greeted(address);
}

both_modes! {
    fn heads_in_pieces(mode) {
        for policy in BOTH {
            let server = start(mode, policy, &[]);
            let address = server.address();
            let second = second(&server, mode);
            for cut in 0..SECOND.len() {
                let mut client = Client::connect(address).unwrap();
                client.send(&SECOND[..cut]).unwrap();
                pass(address);
                client.send(&SECOND[cut..]).unwrap();
                assert_eq!(client.receive().unwrap().who(), second, "{policy}, cut at {cut}");
            }
            let mut client = Client::connect(address).unwrap();
            for byte in SECOND.as_bytes() {
                client.send([*byte]).unwrap();
                pass(address);
            }
            assert_eq!(client.receive().unwrap().who(), second, "{policy}");
            server.stop();
        }
    }

    fn what_follows_is_its_worker_s_too(mode) {
        for policy in BOTH {
            let server = start(mode, policy, &[]);
            let second = second(&server, mode);
            let mut client = Client::connect(server.address()).unwrap();
            // Whatever later requests say.
            let other = SECOND.replace("w2", "w3");
            client.send(format!("{SECOND}{other}{SECOND}")).unwrap();
            for _ in 0..3 {
                assert_eq!(client.receive().unwrap().who(), second, "{policy}");
            }
            let body = "POST /echo HTTP/1.1\r\nHost: test\r\nCookie: at=w2\r\nContent-Length: 9\r\n\r\n";
            client.send(body).unwrap();
            client.send("Cookie: x").unwrap();
            assert_eq!(client.receive().unwrap().text(), "Cookie: x");
            server.stop();
        }
    }

    fn bad_heads_are_their_worker_s_to_answer(mode) {
        for policy in BOTH {
            let server = start(mode, policy, &["--max-head", "1024"]);
            let cases = [
                ("\0garbage", 400),
                ("GET / HTTP/1.1\r\n\r\n", 400),
                ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
                ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
            ];
            let line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(1100));
            let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1100));
            let long = [(line.as_str(), 414), (head.as_str(), 431)];
            for (sent, status) in cases.into_iter().chain(long) {
                let mut client = Client::connect(server.address()).unwrap();
                client.send(sent).unwrap();
                let answer = client.receive().unwrap();
                assert_eq!(answer.status, status, "{policy}: {sent:?}");
                assert!(answer.field("Set-Cookie").is_none());
            }
            server.stop();
        }
    }

    fn the_slow_have_their_turn(mode) {
        for policy in BOTH {
            // Beyond the patience of the primary.
            let server = start(mode, policy, &["--header-timeout", "3s"]);
            let address = server.address();
            let silent = Client::connect(address).unwrap();
            let mut late = Client::connect(address).unwrap();
            late.send("GET / HT").unwrap();
            let mut never = Client::connect(address).unwrap();
            never.send("GET / HTTP/1.1\r\nHost: x\r\nCook").unwrap();
            for _ in 0..50 {
                Client::greeted(address);
            }
            // By the cluster's own clock.
            Client::connect(address).unwrap().get("/slow?ms=2500").unwrap();
            late.send("TP/1.1\r\nHost: x\r\n\r\n").unwrap();
            late.receive().unwrap().who();
            assert_eq!(never.receive().unwrap().status, 408);
            assert!(silent.ends());
            server.stop();
        }
    }

    fn thousands_of_silent_ones_hold_up_nobody_and_leave_nothing(mode) {
        let _alone = alone();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let server = start(mode, "sticky-cookie:at", &[]);
        let address = server.address();
        let before = settled(&server, mode, 4);
        for _ in 0..100 {
            drop(TcpStream::connect(address).unwrap());
            let mut begun = Client::connect(address).unwrap();
            begun.send("GET / HT").unwrap();
        }
        let silent: Vec<_> = (0..2000).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in 0..100 {
            Client::greeted(address);
        }
        drop(silent);
        wait_until(&format!("as many descriptors as at the start: {before:?}"), || {
            counts(&server, mode) == before
        });
        server.stop();
    }

    fn few_descriptors_suffice(mode) {
        let script = "ulimit -n 256 && exec \"$0\" \"$@\"";
        let arguments = ["--mode", mode.name(), "-l", "127.0.0.1:0", "-w2", "-s", BOTH[0]];
        let server = Server::launch(command_by_shell(script, &arguments));
        let address = server.address();
        // The oldest have their turn early, and so have those after them.
        let mut silent: Vec<_> = (0..100).map(|_| Client::connect(address).unwrap()).collect();
        for client in &mut silent {
            Client::greeted(address);
            client.get("/").unwrap().who();
        }
        let log = server.stop().log;
        assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:#?}");
    }

    fn those_that_are_looked_at_survive_a_change_of_the_policy(mode) {
        let cluster = Steered::start(mode, &["--schedule", "sticky-cookie:at"]);
        let address = cluster.server.address();
        let half = || {
            let mut client = Client::connect(address).unwrap();
            client.send(&SECOND[..SECOND.len() - 9]).unwrap();
            pass(address);
            client
        };
        for policy in ["sticky-query:at", "sticky-cookie:x", "sticky-ip", "shared", "rr"] {
            let mut client = half();
            let mut silent = Client::connect(address).unwrap();
            assert_eq!(cluster.steer(&["schedule", policy]).0, 0);
            client.send(&SECOND[SECOND.len() - 9..]).unwrap();
            client.receive().unwrap().who();
            silent.get("/").unwrap().who();
            assert_eq!(cluster.steer(&["schedule", "sticky-cookie:at"]).0, 0);
        }
        // Threads end with their program.
        if mode == Mode::Processes {
            let mut client = half();
            let mut silent = Client::connect(address).unwrap();
            pass(address);
            let mark = cluster.server.log.mark();
            cluster.server.signal(Signal::SIGUSR2);
            cluster.server.log.wait(mark, "upgraded: this program took over");
            client.send(&SECOND[SECOND.len() - 9..]).unwrap();
            client.receive().unwrap().who();
            silent.get("/").unwrap().who();
            cluster.server.log.wait(mark, "reloaded: all workers are new");
        }
        // And the end of the cluster: what was accepted is served.
        let mut client = half();
        cluster.server.signal(Signal::SIGTERM);
        cluster.server.log.wait(0, "stopping: 2 workers");
        client.send(&SECOND[SECOND.len() - 9..]).unwrap();
        client.receive().unwrap().who();
        let ended = cluster.server.ended();
        assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.log);
    }
}
