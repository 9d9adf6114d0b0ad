//! Two machines behind a balancer, with one Redis, by the very files of `examples/two-machines`.
//!
//! Machines are network namespaces on one bridge, with the addresses that the files have; only the
//! places of secrets are others. Owns what a user would do by these files: sessions that count
//! across machines, one of them cut off or stopped. Where namespaces are not allowed or a tool is
//! absent, one line says so and the test passes.

use crate::client::{Answer, Client};
use crate::examples::{Missing, example, skipped, tool};
use crate::network::{Network, Tool};
use crate::support::{Directory, Server, command_by_shell, wait_until};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;

/// Where the files say that clients come in, and that Redis is.
const FRONT: &str = "10.0.0.5:80";
const REDIS: &str = "10.0.0.20:6379";
const MACHINES: [&str; 2] = ["a", "b"];

/// What only these tests know.
const PASSWORD: &str = "correct-horse-battery-staple";

/// Both machines, the balancer and Redis, and what they run on. Dropped in this order.
struct Site {
    machines: Vec<Server>,
    balancer: Tool,
    _redis: Tool,
    network: Network,
    _directory: Directory,
}

impl Site {
    /// Starts all of it, or says what is missing for that.
    fn start() -> Result<Self, Missing> {
        let (haproxy, redis) = (tool("haproxy")?, tool("redis-server")?);
        let network = Network::new()?;
        let hub = network.machine("hub", &["10.0.0.5/24", "10.0.0.20/24"]);
        let directory = Directory::new();
        let place = |name: &str| directory.file(name).to_str().unwrap().to_owned();

        let (password, data) = (place("password.conf"), place("redis"));
        fs::write(&password, format!("requirepass {PASSWORD}\n")).unwrap();
        fs::create_dir(&data).unwrap();
        let words = [
            ("/etc/redis/password.conf", password.as_str()),
            ("/var/lib/redis", &data),
        ];
        let conf = example(&directory, "redis.conf", &words);
        let redis = hub.run(&redis, &[&conf]);
        redis.said.wait(0, "Ready to accept connections");

        let key = place("session.key");
        fs::write(&key, "a key of 32 bytes or more, for both machines\n").unwrap();
        let words = [
            ("PASSWORD@", format!("{PASSWORD}@")),
            ("/etc/mcluster/session.key", key),
        ];
        let words: Vec<_> = words.iter().map(|(a, b)| (*a, b.as_str())).collect();
        let start = |(number, name): (usize, &&str)| {
            let address = format!("10.0.0.{}/24", 11 + number);
            let machine = network.machine(name, &[&address]);
            let conf = example(&directory, &format!("machine-{name}.toml"), &words);
            let script = format!("exec ip netns exec {} \"$0\" \"$@\"", machine.namespace);
            let server = Server::launch(command_by_shell(
                &script,
                &["--config", &conf, "--workers", "2"],
            ));
            server.urls(1);
            server
        };
        let machines = MACHINES.iter().enumerate().map(start).collect();

        let conf = example(&directory, "haproxy.cfg", &[]);
        let balancer = hub.run(&haproxy, &["-db", "-f", &conf]);
        let site = Self {
            machines,
            balancer,
            _redis: redis,
            network,
            _directory: directory,
        };
        wait_until("the balancer answers", || {
            site.get("/", "").is_ok_and(|answer| answer.status == 200)
        });
        Ok(site)
    }

    /// One request on a connection of its own, from beside the balancer.
    fn get(&self, target: &str, fields: &str) -> io::Result<Answer> {
        let front: SocketAddr = FRONT.parse().unwrap();
        let stream = self.network.connect("hub", front)?;
        Client::of(stream)?.request("GET", target, fields, "")
    }

    /// Which machine answered `GET /`.
    #[track_caller]
    fn machine_of(&self, answer: &Answer) -> usize {
        let who = answer.who();
        let has = |server: &Server| {
            let mut workers = server.workers().into_iter();
            workers.any(|worker| who == format!("Handled by process {}", worker.pid))
        };
        self.machines.iter().position(has).unwrap()
    }

    /// The machines that answer now.
    #[track_caller]
    fn machines(&self) -> BTreeSet<usize> {
        let answers = (0..8).map(|_| self.get("/", "").unwrap());
        answers.map(|answer| self.machine_of(&answer)).collect()
    }
}

/// Clients with a cookie each, and how often each was counted.
#[derive(Default)]
struct Visitors(BTreeMap<String, u32>);

impl Visitors {
    fn new(site: &Site, count: usize) -> Self {
        let mut visitors = Self::default();
        for _ in 0..count {
            let answer = site.get("/session", "").unwrap();
            assert_eq!(visits(&answer), 1);
            let cookie = answer.field("Set-Cookie").expect("a session");
            let cookie = cookie.split(';').next().unwrap().to_owned();
            assert!(visitors.0.insert(cookie, 1).is_none(), "an id of its own");
        }
        visitors
    }

    /// Each comes once more, and is counted once more.
    #[track_caller]
    fn come(&mut self, site: &Site) {
        for (cookie, count) in &mut self.0 {
            let fields = format!("Cookie: {cookie}\r\n");
            let answer = site.get("/session", &fields).unwrap();
            *count += 1;
            assert_eq!(visits(&answer), *count, "{answer:?}");
        }
    }
}

/// N of `visits N, worker ID`.
#[track_caller]
fn visits(answer: &Answer) -> u32 {
    assert_eq!(answer.status, 200, "{answer:?}");
    let rest = answer.text().strip_prefix("visits ");
    let number = rest.and_then(|rest| rest.split(',').next());
    number.expect("visits").parse().unwrap()
}

#[test]
fn redis_keeps_sessions_when_a_machine_is_cut_off() {
    let site = match Site::start() {
        Ok(site) => site,
        Err(missing) => return skipped("two machines", &missing),
    };
    let both = BTreeSet::from([0, 1]);
    wait_until("both machines serve", || site.machines() == both);
    let mut visitors = Visitors::new(&site, 20);
    // One counted by one machine and by the other in turn.
    visitors.come(&site);
    visitors.come(&site);

    let mark = site.balancer.said.mark();
    site.network.link("a", false);
    // At once, while the balancer does not know: it tries the other machine.
    visitors.come(&site);
    site.balancer.said.wait(mark, "Server machines/a is DOWN");
    assert_eq!(site.machines(), BTreeSet::from([1]));
    visitors.come(&site);

    let mark = site.balancer.said.mark();
    site.network.link("a", true);
    site.balancer.said.wait(mark, "Server machines/a is UP");
    assert_eq!(site.machines(), both);
    visitors.come(&site);
    visitors.come(&site);
}

/// Its health path says so before it refuses connections, and the balancer listens to that.
#[test]
fn redis_keeps_sessions_when_a_machine_is_stopped() {
    let mut site = match Site::start() {
        Ok(site) => site,
        Err(missing) => return skipped("two machines", &missing),
    };
    let both = BTreeSet::from([0, 1]);
    wait_until("both machines serve", || site.machines() == both);
    let mut visitors = Visitors::new(&site, 10);
    let mark = site.balancer.said.mark();
    site.machines[0].signal(Signal::SIGTERM);
    while site.machines[0].exited().is_none() {
        visitors.come(&site);
    }
    site.balancer.said.wait(mark, "Server machines/a is DOWN");
    visitors.come(&site);
    assert_eq!(site.machines(), BTreeSet::from([1]));
}

#[test]
fn redis_has_the_password_and_the_bound_of_its_file() {
    let site = match Site::start() {
        Ok(site) => site,
        Err(missing) => return skipped("two machines", &missing),
    };
    let ask = |words: &[&str]| -> String {
        let mut stream = site.network.connect("hub", REDIS.parse().unwrap()).unwrap();
        let mut said = String::new();
        for word in words {
            stream.write_all(word.as_bytes()).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"QUIT\r\n").unwrap();
        io::Read::read_to_string(&mut stream, &mut said).unwrap();
        said
    };
    assert!(ask(&["DBSIZE"]).starts_with("-NOAUTH"));
    let auth = format!("AUTH {PASSWORD}");
    let said = ask(&[
        &auth,
        "CONFIG GET maxmemory-policy",
        "CONFIG GET appendonly",
    ]);
    assert!(
        said.contains("noeviction") && said.contains("yes"),
        "{said}"
    );
    // Who only looks has no session; who is counted has one.
    let _visitors = Visitors::new(&site, 3);
    assert!(ask(&[&auth, "DBSIZE"]).contains(":3\r\n"));
}
