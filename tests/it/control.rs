//! The control interface of a running cluster: what it says, what it changes, and that nothing a
//! client does there harms the cluster.

use crate::client::{Answer, Client};
use crate::steered::Steered;
use crate::support::{Directory, Mode, Server, both_modes, command, output, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

impl Steered {
    fn ask(&self, method: &str, target: &str) -> Answer {
        let mut client = Client::connect_unix(&self.socket).unwrap();
        client.request(method, target, "", "").unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        let answer = self.ask("GET", "/status");
        assert_eq!(answer.field("Content-Type"), Some("application/json"));
        serde_json::from_slice(&answer.body).unwrap()
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// `"what"` of the answer to a change.
fn what(answer: &Answer) -> String {
    let value: Value = serde_json::from_slice(&answer.body).unwrap();
    value["what"].as_str().unwrap().to_owned()
}

/// A number in the metrics, by its name and labels.
fn metric(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| {
        let (found, value) = line.rsplit_once(' ')?;
        (found == name).then(|| value.parse().unwrap())
    });
    value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

both_modes! {
    fn changes_are_answered_when_they_have_come_about(mode) {
        let cluster = Steered::start(mode, &[]);
        assert_eq!(cluster.steer(&["scale", "4"]), (0, "4 workers".to_owned()));
        assert_eq!(cluster.status()["workers"].as_array().unwrap().len(), 4);
        assert_eq!(cluster.steer(&["scale", "1"]).0, 0);
        let status = cluster.status();
        assert_eq!(status["workers"].as_array().unwrap().len(), 1);
        assert_eq!(status["workers"][0]["state"], "listening");
        let before = status["workers"][0]["id"].as_u64().unwrap();
        assert_eq!(cluster.steer(&["reload"]), (0, "reloaded: 1 new workers".to_owned()));
        let after = cluster.status()["workers"][0]["id"].as_u64().unwrap();
        assert!(after > before);
        assert_eq!(cluster.steer(&["restart"]).0, 0);
        assert!(cluster.status()["workers"][0]["id"].as_u64().unwrap() > after);
        for policy in ["shared", "reuseport", "least-connections", "sticky-ip", "sticky-query:a+b", "rr"] {
            assert_eq!(cluster.steer(&["schedule", policy]), (0, format!("schedule {policy}")));
            assert_eq!(cluster.status()["schedule"], policy);
            Client::greeted(cluster.address());
        }
        let id = cluster.status()["workers"][0]["id"].to_string();
        let answer = cluster.ask("POST", &format!("/workers/{id}/disconnect"));
        assert_eq!(answer.status, 200, "{}", what(&answer));
        assert!(what(&answer).contains(" is gone: "));
        let id = cluster.status()["workers"][0]["id"].to_string();
        assert_eq!(cluster.steer(&["kill", &id]).0, 0);
        assert_eq!(cluster.steer(&["stop"]), (0, "stopped".to_owned()));
        let ended = cluster.server.ended();
        assert_eq!(ended.status.code(), Some(0));
        assert!(!cluster.socket.exists());
    }

    fn what_makes_no_sense_is_refused_and_harms_nothing(mode) {
        let cluster = Steered::start(mode, &[]);
        let refused = [
            ("POST", "/scale?workers=0", 400, "from 1 to 1024"),
            ("POST", "/scale?workers=1000000", 400, "from 1 to 1024"),
            ("POST", "/scale?workers=-1", 400, "no number"),
            ("POST", "/scale", 400, "workers is missing"),
            ("POST", "/schedule?policy=fair", 400, "no policy"),
            ("POST", "/workers/99/kill", 404, "no worker 99"),
            ("POST", "/workers/99/disconnect", 404, "no worker 99"),
            ("POST", "/workers/x/kill", 400, "no worker's number"),
            ("POST", "/workers/1/kill?signal=NOPE", 400, "no signal"),
        ];
        for (method, target, status, why) in refused {
            let answer = cluster.ask(method, target);
            assert_eq!(answer.status, status, "{target}");
            assert!(what(&answer).contains(why), "{target}: {}", what(&answer));
        }
        assert_eq!(cluster.ask("GET", "/scale?workers=3").status, 405);
        assert_eq!(cluster.ask("GET", "/nothing").status, 404);
        assert_eq!(cluster.steer(&["kill", "99"]).0, 1);
        for garbage in ["\0\u{1}\u{2}", "GET\r\n\r\n", "POST /scale HTTP/9.9\r\n\r\n"] {
            let mut client = Client::connect_unix(&cluster.socket).unwrap();
            client.send(garbage).unwrap();
            // Ended, or answered as no request; the rest of the clients see nothing of it.
            let _ = client.receive();
        }
        let status = cluster.status();
        assert_eq!(status["workers"].as_array().unwrap().len(), 2);
        assert_eq!(status["lost"]["workers"], 0);
        Client::greeted(cluster.address());
        cluster.server.stop();
    }
}

#[test]
fn a_reload_during_a_reload_is_refused() {
    let cluster = Steered::start(Mode::Processes, &[]);
    // A worker that answers slowly keeps the reload from being over.
    let mut client = Client::connect(cluster.address()).unwrap();
    client.ask("/slow?ms=1500").unwrap();
    wait_until("the request is at its handler", || {
        let workers = cluster.status()["workers"].as_array().unwrap().clone();
        workers.iter().any(|worker| worker["in_flight"] == 1)
    });
    let mut first = Client::connect_unix(&cluster.socket).unwrap();
    first
        .send("POST /reload HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    cluster.server.log.wait(0, "reloading: ");
    // The old workers are gone from the set of those that matter at once, so it is a race whether
    // a second one is refused or begins after the first: never are there two at a time.
    let (status, text) = cluster.steer(&["reload"]);
    match status {
        8 => assert!(text.contains("under way already"), "{text}"),
        _ => assert_eq!((status, text.as_str()), (0, "reloaded: 2 new workers")),
    }
    assert_eq!(client.receive().unwrap().text(), "waited 1500 ms\n");
    assert_eq!(first.receive().unwrap().status, 200);
    cluster.server.stop();
}

#[test]
fn figures_outlive_the_workers_that_made_them() {
    let cluster = Steered::start(Mode::Processes, &["--chaos"]);
    let (mut client, _) = Client::greeted(cluster.address());
    for _ in 0..9 {
        client.get("/").unwrap();
    }
    assert_eq!(client.get("/status/404").unwrap().status, 404);
    let metrics = || cluster.ask("GET", "/metrics").text().to_owned();
    let requests = |class: &str| {
        let name = format!("mcluster_requests_total{{class=\"{class}\"}}");
        metric(&metrics(), &name)
    };
    wait_until("figures are published", || {
        (requests("2xx"), requests("4xx")) == (10.0, 1.0)
    });
    assert_eq!(cluster.steer(&["reload"]).0, 0);
    assert_eq!((requests("2xx"), requests("4xx")), (10.0, 1.0));
    let [victim, _] = cluster.server.wait_for_workers(2)[..] else {
        panic!("two workers");
    };
    victim.signal(Signal::SIGKILL);
    cluster.server.successor(victim, "died: signal 9 (SIGKILL)");
    assert_eq!(requests("2xx"), 10.0);
    assert_eq!(metric(&metrics(), "mcluster_lost_workers_total"), 1.0);
    let status = cluster.status();
    assert_eq!(status["lost"]["workers"], 1);
    assert_eq!(status["totals"]["requests"], 11);
    cluster.server.stop();
}

#[test]
fn events_come_as_they_happen() {
    let cluster = Steered::start(Mode::Processes, &[]);
    let mut stream = UnixStream::connect(&cluster.socket).unwrap();
    stream
        .write_all(b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(
        head.contains(&"Content-Type: text/event-stream".to_owned()),
        "{head:?}"
    );
    let [victim, _] = cluster.server.wait_for_workers(2)[..] else {
        panic!("two workers");
    };
    assert_eq!(lines.next().unwrap(), "retry: 1000");
    victim.signal(Signal::SIGKILL);
    let names: Vec<String> = lines
        .filter_map(|line| Some(line.strip_prefix("event: ")?.to_owned()))
        .take(5)
        .collect();
    assert_eq!(names, ["disconnect", "exit", "fork", "online", "listening"]);
    cluster.server.stop();
}

#[test]
fn clients_that_never_read_cost_the_others_nothing() {
    let cluster = Steered::start(Mode::Processes, &[]);
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut client = UnixStream::connect(&cluster.socket).unwrap();
        client.set_nonblocking(true).unwrap();
        let asked = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
        // As much as fits; nothing is ever read.
        let _ = client.write(&asked);
        deaf.push(client);
    }
    for _ in 0..20 {
        assert_eq!(cluster.steer(&["status"]).0, 0);
        Client::greeted(cluster.address());
    }
    drop(deaf);
    cluster.server.stop();
}

/// Where the admin pages of `cluster` are.
fn admin_of(cluster: &Steered) -> SocketAddr {
    cluster.server.log.find(0, |line| {
        line.split_once("admin pages on http://")?.1.parse().ok()
    })
}

/// One that asks without end, and takes the answers, has the cluster's time but now and then.
#[test]
fn a_client_that_asks_without_end_costs_the_others_nothing() {
    let cluster = Steered::start(Mode::Processes, &["--admin", "127.0.0.1:0"]);
    let greedy = TcpStream::connect(admin_of(&cluster)).unwrap();
    let (mut reads, mut writes) = (greedy.try_clone().unwrap(), greedy.try_clone().unwrap());
    let writer = thread::spawn(move || {
        let asked = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
        while writes.write_all(&asked).is_ok() {}
    });
    let reader = thread::spawn(move || std::io::copy(&mut reads, &mut std::io::sink()));
    for _ in 0..10 {
        assert_eq!(cluster.steer(&["status"]).0, 0);
        Client::greeted(cluster.address());
    }
    assert_eq!(cluster.steer(&["reload"]).0, 0);
    // It still asks, and the cluster ends all the same.
    cluster.server.stop();
    drop(greedy);
    writer.join().unwrap();
    // Ended or reset: both are an end.
    let _ = reader.join().unwrap();
}

/// Streams to look at have no end: as many as there may be keep nobody from steering.
#[test]
fn those_who_look_on_keep_nobody_from_steering() {
    let cluster = Steered::start(Mode::Processes, &["--admin", "127.0.0.1:0"]);
    let address = admin_of(&cluster);
    let subscribe = |_| {
        let mut client = TcpStream::connect(address).unwrap();
        client
            .write_all(b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n")
            .unwrap();
        client
    };
    let first = subscribe(0);
    let mut lines = BufReader::new(&first).lines().map(Result::unwrap);
    assert_eq!(
        lines.find(|line| line.starts_with("retry")).unwrap(),
        "retry: 1000"
    );
    let onlookers: Vec<TcpStream> = (0..300).map(subscribe).collect();
    cluster.server.log.wait(0, "no room for more connections");
    assert_eq!(cluster.steer(&["scale", "3"]).0, 0);
    // Those who have come in are told as well.
    assert_eq!(
        lines.find(|line| line.starts_with("event")).unwrap(),
        "event: fork"
    );
    drop(onlookers);
    let mut client = Client::connect(address).unwrap();
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    cluster.server.stop();
}

#[test]
fn the_pages_on_tcp_are_to_read_only() {
    let cluster = Steered::start(Mode::Processes, &["--admin", "127.0.0.1:0"]);
    let address = admin_of(&cluster);
    let ask = |method: &str, target: &str| {
        let mut client = Client::connect(address).unwrap();
        client.request(method, target, "", "").unwrap()
    };
    for target in ["/status", "/metrics", "/healthz", "/"] {
        let answer = ask("GET", target);
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
    }
    let page = ask("GET", "/");
    assert!(page.text().contains("<title>"));
    assert!(page.field("Content-Security-Policy").is_some());
    for target in [
        "/scale?workers=5",
        "/reload",
        "/restart",
        "/stop",
        "/schedule?policy=rr",
        "/workers/1/kill",
        "/workers/1/disconnect",
    ] {
        let answer = ask("POST", target);
        assert_eq!(answer.status, 403, "{target}");
    }
    assert_eq!(cluster.status()["workers"].as_array().unwrap().len(), 2);
    cluster.server.stop();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn health_is_that_a_worker_serves() {
    let cluster = Steered::start(Mode::Processes, &["--worker-timeout", "0"]);
    assert_eq!(cluster.ask("GET", "/healthz").status, 200);
    let workers = cluster.server.wait_for_workers(2);
    for worker in &workers {
        worker.signal(Signal::SIGSTOP);
    }
    // That they stand still shows by what they leave undone.
    let waiting: Vec<_> = (0..4)
        .map(|_| TcpStream::connect(cluster.address()).unwrap())
        .collect();
    wait_until("nobody serves", || {
        cluster.ask("GET", "/healthz").status == 503
    });
    for worker in &workers {
        worker.signal(Signal::SIGCONT);
    }
    wait_until("they serve again", || {
        cluster.ask("GET", "/healthz").status == 200
    });
    drop(waiting);
    cluster.server.stop();
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    let cluster = Steered::start(Mode::Processes, &[]);
    let mode = fs::metadata(&cluster.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    cluster.server.stop();
}

/// A cluster with the name `name` in a runtime directory.
fn named(directory: &Directory, name: &str) -> Server {
    let mut command = command(&["-w", "1", "-l", "127.0.0.1:0", "--name", name]);
    command.env("XDG_RUNTIME_DIR", directory.file("."));
    Server::launch(command)
}

fn socket_of(directory: &Directory, name: &str) -> PathBuf {
    directory.file("mcluster").join(format!("{name}.sock"))
}

#[test]
fn names_tell_clusters_apart() {
    let directory = Directory::new();
    let first = named(&directory, "one");
    first.urls(1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.file("mcluster")), 0o700);
    // The same name again is refused; another one is not.
    let again = named(&directory, "one").ended();
    assert_eq!(again.status.code(), Some(4));
    let said = again.log.join("\n");
    assert!(
        said.contains("a cluster of this name runs already"),
        "{said}"
    );
    let second = named(&directory, "two");
    second.urls(1);
    let mut list = command(&["list"]);
    list.env("XDG_RUNTIME_DIR", directory.file("."));
    let list = String::from_utf8(output(list).stdout).unwrap();
    assert!(list.contains("one") && list.contains("two"), "{list}");
    first.stop();
    second.stop();
    assert!(!socket_of(&directory, "one").exists());
}

#[test]
fn a_socket_is_replaced_only_when_nobody_answers_there() {
    let directory = Directory::new();
    fs::create_dir(directory.file("mcluster")).unwrap();
    let private = PermissionsExt::from_mode(0o700);
    fs::set_permissions(directory.file("mcluster"), private).unwrap();
    // One that a dead cluster left.
    drop(UnixListener::bind(socket_of(&directory, "left")).unwrap());
    let server = named(&directory, "left");
    server.urls(1);
    server.stop();
    // One where somebody listens who is no cluster at all.
    let path = socket_of(&directory, "other");
    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(named(&directory, "other").ended().status.code(), Some(4));
    drop(other);
    // What is no socket stays what it is.
    fs::write(socket_of(&directory, "file"), "precious").unwrap();
    assert_eq!(named(&directory, "file").ended().status.code(), Some(4));
    let kept = fs::read_to_string(socket_of(&directory, "file")).unwrap();
    assert_eq!(kept, "precious");
    // A directory that others may look into.
    let open = PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.file("mcluster"), open).unwrap();
    let refused = named(&directory, "left").ended();
    assert_eq!(refused.status.code(), Some(4));
    assert!(refused.log.join("\n").contains("open to others"));
}
