//! Programs that are executed as workers: what they are given, that nothing of them is left, and
//! what is said of those that cannot be.

use crate::harness::Tests;
use crate::lines::Lines;
use crate::run::{Mode, PATIENCE, Run};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::stat::Mode as Permissions;
use nix::unistd::{Pid, mkfifo};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// The bits of two signals that nobody else can change, for whoever started the tests to ignore.
const OF_THE_C_LIBRARY: u64 = 0b11 << 31;

pub(crate) fn add(tests: &mut Tests) {
    tests.add("executed::sockets_are_inherited_and_nothing_else", || {
        sockets_are_inherited();
    });
    tests.add("executed::node_programs_have_a_channel", || {
        node_programs_have_a_channel();
    });
    tests.add("executed::a_group_ends_with_its_first", || {
        a_group_ends_with_its_first();
    });
    tests.add("executed::nobody_outlives_the_primary", || {
        nobody_outlives_the_primary();
    });
    tests.add("executed::what_cannot_be_executed_is_named", || {
        what_cannot_be_executed_is_named();
    });
}

/// A program that says what it was given, and has a pipe open for as long as it, or its child, lives.
struct Executed {
    run: Run,
    facts: Lines,
    life: Receiver<()>,
    directory: PathBuf,
}

impl Executed {
    #[track_caller]
    fn start(protocol: &str, then: &str) -> Self {
        let name = format!("mcluster-executed-{}-{protocol}-{then}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        let [facts, life] = ["facts", "life"].map(|name| {
            let path = directory.join(name);
            mkfifo(&path, Permissions::S_IRWXU).unwrap();
            path
        });
        let words = [
            protocol,
            then,
            facts.to_str().unwrap(),
            life.to_str().unwrap(),
        ];
        let run = Run::start("executed", Mode::Processes, &words);
        // Open for writing as well, it does not end between two that write.
        let facts = OpenOptions::new().read(true).write(true).open(facts);
        let (over, lived) = channel();
        thread::spawn(move || {
            let mut file = File::open(life).unwrap();
            let _ = file.read_to_end(&mut Vec::new());
            let _ = over.send(());
        });
        Self {
            run,
            facts: Lines::of(facts.unwrap()),
            life: lived,
            directory,
        }
    }

    /// What follows `start` in the first line that has it.
    #[track_caller]
    fn fact(&self, start: &str) -> String {
        self.facts.until(start, |lines, _| {
            let mut rest = lines.iter().filter_map(|line| line.strip_prefix(start));
            rest.next().map(str::to_owned)
        })
    }

    /// All that it said, with its process.
    #[track_caller]
    fn all(&self) -> (Vec<String>, Pid) {
        self.fact("lives");
        let pid = self.fact("pid ").parse().unwrap();
        (self.facts.all(), Pid::from_raw(pid))
    }

    #[track_caller]
    fn is_over(&self) {
        self.life.recv_timeout(PATIENCE).unwrap();
    }
}

impl Drop for Executed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("-- it was given:\n{}\n--", self.facts.all().join("\n"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What its descriptors are, by their numbers.
fn descriptors(facts: &[String]) -> Vec<(u32, String)> {
    let link = |line: &String| {
        let (rest, target) = line.split_once(" -> ")?;
        let number = rest.rsplit(' ').next()?.parse().ok()?;
        Some((number, target.split(':').next()?.to_owned()))
    };
    let mut all: Vec<_> = facts.iter().filter_map(link).collect();
    all.sort();
    all
}

#[track_caller]
fn assert_has(facts: &[String], lines: &[&str]) {
    for line in lines {
        assert!(facts.iter().any(|fact| fact == line), "no {line:?}");
    }
}

/// Standard input, output and error, and `sockets` more.
fn given(sockets: u32) -> Vec<(u32, String)> {
    let standard = [(0, "/dev/null"), (1, "pipe"), (2, "pipe")];
    let sockets = (3..3 + sockets).map(|number| (number, "socket"));
    let all = standard.into_iter().chain(sockets);
    all.map(|(number, what)| (number, what.to_owned()))
        .collect()
}

fn sockets_are_inherited() {
    let executed = Executed::start("sockets", "alone");
    let (facts, pid) = executed.all();
    assert_eq!(descriptors(&facts), given(2));
    assert_has(
        &facts,
        &[
            "SigBlk:\t0000000000000000",
            "A=1",
            "B=2",
            "C=3",
            "LISTEN_FDS=2",
            "EINHORN_FD_COUNT=2",
            "EINHORN_FD_1=4",
            "nice 1",
            "/",
            &format!("LISTEN_PID={pid}"),
            &format!("group {pid}"),
            // Only to write to, and waiting for room.
            "stdout\t01",
        ],
    );
    assert!(!facts.iter().any(|fact| fact.starts_with("NODE_")));
    let ignored = u64::from_str_radix(&executed.fact("SigIgn:\t"), 16).unwrap();
    assert_eq!(ignored & !OF_THE_C_LIBRARY, 0, "{ignored:x}");
    kill(pid, Signal::SIGKILL).unwrap();
    executed.is_over();
}

fn node_programs_have_a_channel() {
    let executed = Executed::start("node", "alone");
    let (facts, pid) = executed.all();
    assert_eq!(descriptors(&facts), given(1));
    assert_has(
        &facts,
        &[
            "NODE_CHANNEL_FD=3",
            "NODE_CHANNEL_SERIALIZATION_MODE=json",
            "NODE_UNIQUE_ID=1",
            "NODE_APP_INSTANCE=0",
            &format!("group {pid}"),
        ],
    );
    assert!(!facts.iter().any(|fact| fact.starts_with("LISTEN_")));
    kill(pid, Signal::SIGKILL).unwrap();
    executed.is_over();
}

fn a_group_ends_with_its_first() {
    let mut executed = Executed::start("sockets", "parent");
    let (_, pid) = executed.all();
    kill(pid, Signal::SIGKILL).unwrap();
    executed.is_over();
    executed.run.end();
}

fn nobody_outlives_the_primary() {
    for protocol in ["sockets", "node"] {
        let mut executed = Executed::start(protocol, "alone");
        let (_, pid) = executed.all();
        executed.run.kill_primary();
        executed.is_over();
        let _ = killpg(pid, Signal::SIGKILL);
    }
}

fn what_cannot_be_executed_is_named() {
    let cases = [
        (
            "missing",
            "cannot execute /no/such/program: No such file or directory",
        ),
        (
            "nowhere",
            "cannot run in /no/such/place: No such file or directory",
        ),
        ("unsearched", "cannot execute sh: No such file or directory"),
    ];
    for (word, why) in cases {
        let run = Run::start("executed", Mode::Processes, &[word]);
        run.log_line(&format!("worker 1 cannot be launched: {why}"));
    }
}
