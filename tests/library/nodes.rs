//! Node programs as workers: who gets connections, what becomes of them when a worker is blocked,
//! full or killed, and how workers come and go. Skipped, with a line, where there is no `node`.

mod reloads;

use crate::harness::Tests;
use crate::http::{ask, get};
use crate::run::{Mode, PATIENCE, Run, address_of};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A server that answers by who it is, and does what paths say.
const SERVER: &str = r#"
const http = require('node:http');
const cluster = require('node:cluster');
const id = cluster.worker.id;
const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://here');
  const word = decodeURIComponent(url.search.slice(1));
  const done = () => response.end(String(id));
  response.setHeader('Connection', 'close');
  switch (url.pathname) {
    case '/block': process.send('blocked', () => { for (;;); }); return;
    case '/nonsense': require('node:fs').writeSync(3, '\x02nonsense\n'); return done();
    case '/slow': return setTimeout(done, 300);
    case '/exit': return process.exit(7);
    case '/hang-up': done(); return process.disconnect();
    case '/leave': done(); return cluster.worker.disconnect();
    case '/close': done(); return server.close();
    case '/say': process.send(word);
    default: done();
  }
});
process.on('message', (message) => process.send(`hears ${message}`));
if (process.env.FULL) server.maxConnections = 1;
if (process.env.STAYS) setInterval(() => {}, 1000);
if (process.env.IGNORES) { process.on('disconnect', () => {}); process.on('SIGTERM', () => {}); }
server.listen(0, '127.0.0.1', () => {
  if (process.env.SAYS) setTimeout(() => process.send('ready'), 50);
});
"#;

/// A file that goes with its test.
struct Script(PathBuf);

impl Script {
    fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mcluster-node-{}-{count}.cjs", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn start(&self, words: &[&str]) -> Run {
        let mut all = vec![self.0.to_str().unwrap()];
        all.extend(words);
        Run::start("nodes", Mode::Processes, &all)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(crate) fn add(tests: &mut Tests) {
    let all: [(&str, fn()); 24] = [
        ("in_turn", in_turn),
        ("what_a_killed_one_left_unanswered_is_anothers", rescued),
        ("full_everywhere_costs_nothing", full),
        ("no_descriptors_left_is_a_refusal", no_descriptors),
        ("the_port_stays_open", port_stays),
        ("disconnect_by_the_primary", by_primary),
        ("disconnect_by_the_worker", by_worker),
        ("disconnect_of_all", of_all),
        ("closed_by_all_is_closed", closed_by_all),
        ("a_reload_loses_nothing", reloads::reload),
        ("a_reload_that_fails_keeps_the_old", reloads::failed_reload),
        ("without_a_server", without_server),
        ("ready_by_its_word", by_word),
        ("crashes_at_the_start", crashes),
        ("a_channel_that_is_closed", hangs_up),
        ("one_that_stays_is_killed", stays),
        ("a_blocked_one_dies_with_the_primary", orphans),
        ("messages_both_ways", messages),
        ("another_policy_by_a_reload", policies),
        ("a_socket_of_a_blocked_one_is_anothers", blocked_socket),
        ("ports_by_id_can_be_reloaded", reloads::ports_by_id),
        ("a_reload_during_a_reload", reloads::another_reload),
        (
            "short_lives_are_replaced_ever_more_slowly",
            reloads::short_lives,
        ),
        ("nonsense_is_not_heard", nonsense),
    ];
    for (name, promise) in all {
        tests.add(&format!("nodes::{name}"), move || {
            if has_node() {
                promise();
            } else {
                println!("nodes: skipped, there is no node");
            }
        });
    }
}

fn has_node() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let mut node = Command::new("node");
        let node = node.arg("--version").stdout(Stdio::null());
        node.status().is_ok_and(|status| status.success())
    })
}

/// Waits until both workers are ready; where they listen.
#[track_caller]
fn ready(run: &Run) -> SocketAddr {
    let all = run.line("ready: ");
    let url = all.split('"').nth(1).unwrap_or_else(|| panic!("{all}"));
    address_of(url)
}

/// Waits until something holds.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
    state.is_some_and(|state| state != b'Z')
}

/// Clock ticks that a process has used.
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = rest.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn in_turn() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let answers: Vec<String> = (0..8).map(|_| get(address, "/")).collect();
    for who in ["1", "2"] {
        assert_eq!(
            answers.iter().filter(|one| *one == who).count(),
            4,
            "{answers:?}"
        );
    }
    run.log_line("2 workers");
    assert!(run.log_line("2 workers").ends_with(", schedule rr"));
    run.stop();
}

/// A request in a thread of its own, which is answered by whom?
fn later(address: SocketAddr, target: &'static str) -> thread::JoinHandle<String> {
    thread::spawn(move || get(address, target))
}

fn rescued() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let (blocked, who) = block(&run, address);
    // One of these is handed to the blocked one, and answered by nobody but another.
    let waiting: Vec<_> = (0..4).map(|_| later(address, "/")).collect();
    until("three are answered", || {
        waiting.iter().filter(|one| one.is_finished()).count() == 3
    });
    run.signal_worker(who, Signal::SIGKILL);
    for answer in waiting {
        assert_ne!(answer.join().unwrap(), who.to_string());
    }
    run.line("3 listens on ");
    blocked.join().unwrap();
    run.stop();
}

/// Has a worker do nothing for ever: the request for that, and which it is.
#[track_caller]
fn block(run: &Run, address: SocketAddr) -> (thread::JoinHandle<()>, u32) {
    let blocked = thread::spawn(move || ask(address, "/block"));
    let says = |who: u32| run.said().contains(&format!("{who} says \"blocked\""));
    until("one is blocked", || says(1) || says(2));
    (blocked, if says(1) { 1 } else { 2 })
}

fn full() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["env=FULL"]);
    let address = ready(&run);
    // Kept open and silent: each fills one worker.
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..6 {
        held.push(TcpStream::connect(address).unwrap());
    }
    thread::sleep(Duration::from_millis(300));
    let pid = run.pid();
    let (before, begin) = (ticks(pid), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let used = (ticks(pid) - before) * 10;
    assert!(
        used <= 100,
        "{used} ms of CPU time in {:?}",
        begin.elapsed()
    );
    // Whoever has room again is found.
    drop(held);
    assert!(["1", "2"].contains(&&*get(address, "/")));
    run.stop();
}

fn no_descriptors() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let pid = run.pid_of(1);
    limit_descriptors(pid, Some(1));
    for _ in 0..6 {
        assert_eq!(get(address, "/"), "2");
    }
    limit_descriptors(pid, None);
    until("it is dealt to again", || get(address, "/") == "1");
    run.stop();
}

/// With prlimit(1): nothing more can be opened, or as much as before.
fn limit_descriptors(pid: i32, most: Option<u32>) {
    let most = most.map_or("1024".to_owned(), |most| most.to_string());
    let pid = format!("--pid={pid}");
    let mut command = Command::new("prlimit");
    let status = command.arg(pid).arg(format!("--nofile={most}:")).status();
    assert!(status.unwrap().success());
}

fn port_stays() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let over = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&over);
    let client = thread::spawn(move || {
        let mut count = 0;
        while !heard.load(Ordering::Relaxed) {
            // Killed in the middle of a request it has no answer; but it is never refused.
            drop(TcpStream::connect(address).unwrap());
            count += 1;
        }
        count
    });
    for id in [1, 2] {
        run.signal_worker(id, Signal::SIGKILL);
    }
    run.line("3 listens on ");
    run.line("4 listens on ");
    over.store(true, Ordering::Relaxed);
    assert!(client.join().unwrap() > 0);
    assert_eq!(get(address, "/").len(), 1);
    run.stop();
}

fn by_primary() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let slow: Vec<_> = (0..2).map(|_| later(address, "/slow")).collect();
    let who: u32 = get(address, "/say?disconnect%20me").parse().unwrap();
    run.line(&format!("{who} exit code 0: dead, is dead, voluntary"));
    for one in slow {
        assert_eq!(one.join().unwrap().len(), 1, "what it had is finished");
    }
    run.line("3 listens on ");
    assert_ne!(get(address, "/"), who.to_string());
    run.stop();
}

fn by_worker() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["workers=1"]);
    let address = ready(&run);
    assert_eq!(get(address, "/leave"), "1");
    run.line("1 exit code 0: dead, is dead, voluntary");
    assert_eq!(get(address, "/"), "2");
    run.stop();
}

fn of_all() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let slow = later(address, "/slow");
    get(address, "/say?disconnect%20all");
    slow.join().unwrap();
    let said = run.end();
    let at = |start: &str| said.iter().rposition(|line| line.contains(start)).unwrap();
    assert!(at("all are gone") > at(" exit code 0"));
}

fn closed_by_all() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["env=STAYS"]);
    let address = ready(&run);
    let mut closed = BTreeSet::new();
    while closed.len() < 2 {
        closed.insert(get(address, "/close"));
    }
    until("clients are refused", || {
        TcpStream::connect(address).is_err()
    });
    run.stop();
}

fn without_server() {
    let script = Script::new("setInterval(() => {}, 1000);");
    let mut run = script.start(&["timeout=300"]);
    run.line("ready: []");
    run.log_line("worker 1 (pid");
    run.stop();
}

fn by_word() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["wait-ready", "env=SAYS"]);
    let address = ready(&run);
    let said = run.said();
    let at = |line: &str| said.iter().position(|one| one.starts_with(line)).unwrap();
    assert!(at("ready: ") > at("1 says \"ready\"") && at("ready: ") > at("2 says \"ready\""));
    get(address, "/");
    run.stop();
}

fn crashes() {
    let script = Script::new("process.exit(3);");
    let mut run = script.start(&["workers=1"]);
    let said = run.silence();
    let exits = said.iter().filter(|line| line.contains(" exit code 3"));
    assert_eq!(exits.count(), 5, "{said:?}");
    let last = said.last().unwrap();
    assert!(last.starts_with("ran: "), "{last}");
}

fn hangs_up() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["env=STAYS"]);
    let address = ready(&run);
    // Node ends a worker that does so unasked.
    let who = get(address, "/hang-up");
    run.line(&format!("{who} exit code 0: dead, is dead, by accident"));
    run.line("3 listens on ");
    // One that has something else to do lives on after it has left, until it gets a signal.
    let who = get(address, "/leave");
    run.line(&format!("{who} exit signal 15: dead, is dead, voluntary"));
    run.line("4 listens on ");
    run.stop();
}

fn stays() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["workers=1", "env=STAYS", "env=IGNORES", "drain=1500"]);
    ready(&run);
    let begin = Instant::now();
    let said = run.stop();
    assert!(said.iter().any(|line| line.starts_with("1 exit signal 9")));
    assert!(begin.elapsed() >= Duration::from_millis(1500));
}

fn orphans() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let pids = [run.pid_of(1), run.pid_of(2)];
    let (blocked, _) = block(&run, address);
    run.kill_primary();
    until("all are gone", || !pids.iter().any(|pid| lives(*pid)));
    blocked.join().unwrap();
}

fn messages() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["workers=1"]);
    let address = ready(&run);
    get(address, "/say?tell%20me");
    run.line("1 says \"tell me\"");
    run.line("1 says \"hears a word\"");
    run.stop();
}

fn policies() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    for (nth, policy) in ["shared", "reuseport", "rr"].into_iter().enumerate() {
        get(address, &format!("/say?schedule%20{policy}"));
        let done = 2 * nth + 1;
        assert_eq!(run.nth_line("reload: ", done), "Done");
        for _ in 0..4 {
            let who: usize = get(address, "/").parse().unwrap();
            assert!(
                (2 * nth + 3..=2 * nth + 4).contains(&who),
                "{policy}: {who}"
            );
        }
    }
    get(address, "/say?schedule%20least-connections");
    run.log_line("least-connections: programs do not say");
    assert_eq!(run.count("reload: "), 6);
    run.stop();
}

fn blocked_socket() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["schedule=reuseport"]);
    let address = ready(&run);
    let (blocked, who) = block(&run, address);
    for _ in 0..12 {
        // About every second one comes to the socket of the blocked one.
        assert_ne!(get(address, "/"), who.to_string());
    }
    run.log_line("does not accept");
    run.signal_worker(who, Signal::SIGKILL);
    blocked.join().unwrap();
    run.line("3 listens on ");
    run.stop();
}

fn nonsense() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["workers=1"]);
    let address = ready(&run);
    get(address, "/nonsense");
    run.log_line("is not heard");
    assert_eq!(get(address, "/"), "1");
    run.stop();
}
