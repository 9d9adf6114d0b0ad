//! The whole command under load, in tables: `cargo bench --bench cluster`.
//!
//! What a busy `/heavy` does to `/` with and without a pool, how long a killed worker's place is
//! empty, and how connections spread over workers. Starts the release binary on free ports of
//! 127.0.0.1, ends every process that it started, and asserts nothing: it measures.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long each latency is sampled.
const SAMPLE: Duration = Duration::from_secs(4);

/// Requests a second to `/` while it is sampled.
const RATE: u32 = 200;

fn main() {
    // `cargo bench` passes flags of the standard harness; `--test` means: only see that it runs.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cpus} CPUs; mcluster, {}\n", env!("CARGO_PKG_VERSION"));
    latency_beside_heavy();
    recovery();
    spread();
}

/// A running cluster; killed with its workers when dropped.
struct Cluster {
    child: Child,
    address: SocketAddr,
    log: mpsc::Receiver<(Instant, String)>,
}

impl Cluster {
    fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcluster"))
            .args(["--listen", "127.0.0.1:0", "--control", "off", "--chaos"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        let (say, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if say.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line
            .trim()
            .rsplit('/')
            .next()
            .and_then(|word| word.parse().ok());
        Self {
            child,
            address: address.expect("an address after 'listening on'"),
            log,
        }
    }

    /// The next log line with `text` in it.
    fn wait_for(&self, text: &str) -> (Instant, String) {
        loop {
            let found = self
                .log
                .recv_timeout(Duration::from_secs(30))
                .expect("a line");
            if found.1.contains(text) {
                return found;
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Workers notice that their primary is gone, and go.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One keep-alive connection.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("TCP");
        Self(stream)
    }

    fn ask(&mut self, path: &str) -> std::io::Result<()> {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n")
    }

    /// The body of the next answer, which has a Content-Length.
    fn answer(&mut self) -> std::io::Result<String> {
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.0.read(&mut buffer)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(body.to_owned());
            }
        }
    }

    fn get(&mut self, path: &str) -> std::io::Result<String> {
        self.ask(path)?;
        self.answer()
    }
}

/// Samples `/` at a fixed rate, each from its planned time; returns the sorted latencies.
fn sample(address: SocketAddr) -> Vec<Duration> {
    let mut clients: Vec<_> = (0..16).map(|_| Client::connect(address)).collect();
    let (send, sampled) = mpsc::channel();
    let start = Instant::now();
    let threads: Vec<_> = clients
        .drain(..)
        .enumerate()
        .map(|(index, mut client)| {
            let send = send.clone();
            let count = (SAMPLE.as_millis() as u32 * RATE / 1000) / 16;
            std::thread::spawn(move || {
                for turn in 0..count {
                    let planned =
                        start + Duration::from_secs(1) * (turn * 16 + index as u32) / RATE;
                    std::thread::sleep(planned.saturating_duration_since(Instant::now()));
                    if client.get("/").is_ok() {
                        let _ = send.send(planned.elapsed());
                    }
                }
            })
        })
        .collect();
    drop(send);
    let mut latencies: Vec<_> = sampled.iter().collect();
    for thread in threads {
        let _ = thread.join();
    }
    latencies.sort_unstable();
    latencies
}

/// Keeps every pool thread of every worker busy with `/heavy` until told otherwise.
fn saturate(address: SocketAddr, clients: usize, stop: &Arc<AtomicBool>) {
    for _ in 0..clients {
        let stop = Arc::clone(stop);
        let mut client = Client::connect(address);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && client.get("/heavy?n=200000000").is_ok() {}
        });
    }
}

fn latency_beside_heavy() {
    println!("Latency of `/`, {RATE} a second over 16 connections, from the planned time:\n");
    println!("| mode | /heavy | p50 ms | p99 ms | max ms |");
    println!("|---|---|--:|--:|--:|");
    for mode in ["processes", "threads"] {
        let cases: [(&str, &[&str], usize); 3] = [
            ("idle", &[], 0),
            ("busy, on the pool", &[], 2),
            ("busy, --pool 0", &["--pool", "0"], 2),
        ];
        for (name, flags, factor) in cases {
            let flags = [&["--mode", mode], flags].concat();
            let cluster = Cluster::start(&flags);
            let stop = Arc::new(AtomicBool::new(false));
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            saturate(cluster.address, factor * cpus, &stop);
            let latencies = sample(cluster.address);
            stop.store(true, Ordering::Relaxed);
            let at = |share: f64| {
                let index = (latencies.len() as f64 * share) as usize;
                let index = index.min(latencies.len().saturating_sub(1));
                latencies
                    .get(index)
                    .map_or(f64::NAN, |one| one.as_secs_f64() * 1e3)
            };
            let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
            println!("| {mode} | {name} | {p50:.2} | {p99:.2} | {max:.2} |");
        }
    }
    println!();
}

fn recovery() {
    println!(
        "From the death of a worker to its successor's first answer (20 deaths, 2 workers):\n"
    );
    println!("| mode | by | median ms | worst ms |");
    println!("|---|---|--:|--:|");
    for (mode, by) in [("processes", "SIGKILL"), ("threads", "panic")] {
        let cluster = Cluster::start(&["--mode", mode, "--workers", "2"]);
        let mut times = Vec::new();
        for round in 0..20 {
            // Longer than a second apart, or the second death in a row would be a young one.
            std::thread::sleep(Duration::from_millis(1100));
            let death = match mode {
                "processes" => {
                    let mut client = Client::connect(cluster.address);
                    let body = client.get("/").expect("an answer");
                    let pid = body.split_whitespace().last().expect("a pid");
                    let at = Instant::now();
                    let killed = Command::new("kill").args(["-9", pid]).status();
                    assert!(killed.is_ok_and(|status| status.success()));
                    at
                }
                _ => {
                    let mut client = Client::connect(cluster.address);
                    let at = Instant::now();
                    assert!(client.get("/panic?worker").is_err(), "round {round}");
                    at
                }
            };
            let (_, line) = cluster.wait_for("; forking worker ");
            let successor = line.rsplit(' ').next().expect("an id").to_owned();
            // It answers: what is dealt to it comes back with its name in threads mode; in
            // processes mode the log names its pid.
            let (_, online) = cluster.wait_for(&format!("worker {successor} (pid "));
            let name = match mode {
                "processes" => online
                    .split("(pid ")
                    .nth(1)
                    .and_then(|rest| rest.split(')').next())
                    .map(|pid| format!("process {pid}")),
                _ => Some(format!("thread {successor}")),
            };
            let name = name.expect("a name");
            loop {
                let answer = Client::connect(cluster.address).get("/");
                if answer.is_ok_and(|body| body.trim_end().ends_with(&name)) {
                    break;
                }
            }
            times.push(death.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!("| {mode} | {by} | {:.1} | {:.1} |", times[10], times[19]);
    }
    println!();
}

fn spread() {
    println!("400 connections opened at once on 8 workers, and 10,000 one after another:\n");
    println!("| mode | policy | connections | smallest share | largest share | Jain |");
    println!("|---|---|--:|--:|--:|--:|");
    for mode in ["processes", "threads"] {
        for policy in ["rr", "shared"] {
            for count in [400usize, 10_000] {
                let flags = ["--mode", mode, "--schedule", policy, "--workers", "8"];
                let cluster = Cluster::start(&flags);
                let mut shares: BTreeMap<String, u32> = BTreeMap::new();
                let mut note = |body: String| *shares.entry(body).or_default() += 1;
                if count == 400 {
                    let open = || Client::connect(cluster.address);
                    let mut clients: Vec<_> = (0..count).map(|_| open()).collect();
                    for client in &mut clients {
                        client.ask("/").expect("open");
                    }
                    for client in &mut clients {
                        note(client.answer().expect("an answer"));
                    }
                } else {
                    for _ in 0..count {
                        note(
                            Client::connect(cluster.address)
                                .get("/")
                                .expect("an answer"),
                        );
                    }
                }
                let all: Vec<f64> = shares.values().map(|&share| f64::from(share)).collect();
                let sum: f64 = all.iter().sum();
                let squares: f64 = all.iter().map(|share| share * share).sum();
                // A worker that got none is missing from the shares, and counts as nothing.
                let jain = sum * sum / (8.0 * squares);
                let least = match all.len() {
                    8 => all.iter().copied().fold(f64::INFINITY, f64::min),
                    _ => 0.0,
                };
                let most = all.iter().copied().fold(0.0, f64::max);
                println!("| {mode} | {policy} | {count} | {least} | {most} | {jain:.3} |");
            }
        }
    }
}
