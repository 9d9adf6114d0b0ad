//! Every way for a worker to end, as a table: the events of its life, in Node's order, with what
//! its handle says at each, and whether another takes its place.

use crate::harness::Tests;
use crate::http::ask;
use crate::run::{Mode, Run};
use nix::sys::signal::Signal;

/// What ends the worker.
#[derive(Clone, Copy)]
enum By {
    /// A request to it.
    Request(&'static str),
    /// What the primary does when it is told to.
    Told(&'static str),
    /// A signal to its process.
    Signal(Signal),
    /// A signal to the primary.
    Stop,
}

/// How the worker's life ends: the events after `listening` and `message`, and its own word.
struct Case {
    name: &'static str,
    by: By,
    /// It makes sense where workers are threads.
    threads: bool,
    /// What its exit says, in processes and in threads mode.
    exit: [&'static str; 2],
    /// It is told, or asks, to go: then its application hears of it.
    voluntary: bool,
    /// With it the whole cluster ends.
    last: bool,
}

const CASES: [Case; 12] = [
    case("handle_disconnect", By::Told("disconnect")).voluntary(),
    case("cluster_disconnect", By::Told("disconnect-all"))
        .voluntary()
        .last(),
    case("worker_disconnect", By::Request("/leave")).voluntary(),
    case("sigterm", By::Signal(Signal::SIGTERM))
        .voluntary()
        .processes_only(),
    case("sigkill", By::Signal(Signal::SIGKILL))
        .exit("signal 9")
        .processes_only(),
    case("abort", By::Request("/abort"))
        .exit("signal 6")
        .processes_only(),
    case("panic", By::Request("/panic")).exit("code 101"),
    case("exit", By::Request("/exit"))
        .exit("code 7")
        .processes_only(),
    case("kill_sigterm", By::Told("kill-15")).voluntary(),
    // A thread gets no signal, and is told to go instead.
    Case {
        exit: ["signal 9", "code 0"],
        ..case("kill_sigkill", By::Told("kill-9"))
    },
    case("stop_by_handle", By::Told("stop")).voluntary().last(),
    case("stop_by_signal", By::Stop).voluntary().last(),
];

const fn case(name: &'static str, by: By) -> Case {
    Case {
        name,
        by,
        threads: true,
        exit: ["code 0"; 2],
        voluntary: false,
        last: false,
    }
}

impl Case {
    const fn exit(mut self, how: &'static str) -> Self {
        self.exit = [how; 2];
        self
    }

    const fn voluntary(mut self) -> Self {
        self.voluntary = true;
        self
    }

    const fn last(mut self) -> Self {
        self.last = true;
        self
    }

    const fn processes_only(mut self) -> Self {
        self.threads = false;
        self
    }

    /// The lines about worker 1.
    fn life(&self, mode: Mode) -> Vec<String> {
        let voluntary = self.is_voluntary(mode);
        let how = self.exit[mode as usize];
        let manner = if voluntary {
            "voluntary"
        } else {
            "by accident"
        };
        let mut life = vec![
            "1 fork: forked, connected".to_owned(),
            "1 online: online, connected".to_owned(),
            "1 listening: listening, connected".to_owned(),
        ];
        if matches!(self.by, By::Told(_)) {
            life.push("1 message: listening, connected".to_owned());
        }
        life.push("1 disconnect: disconnecting".to_owned());
        life.push(format!("1 exit {how}: dead, is dead, {manner}"));
        life
    }

    fn is_voluntary(&self, mode: Mode) -> bool {
        self.voluntary || (mode == Mode::Threads && matches!(self.by, By::Told("kill-9")))
    }

    fn check(&self, mode: Mode, managed: bool) {
        let words: &[&str] = if managed { &[] } else { &["unmanaged"] };
        let mut run = Run::start("ends", mode, words);
        let address = run.address(1);
        match self.by {
            By::Request(target) => ask(address, target),
            By::Told(words) => ask(address, &format!("/tell?{words}")),
            By::Signal(signal) => run.signal_worker(1, signal),
            By::Stop => run.signal(Signal::SIGTERM),
        }
        run.line("1 exit ");
        let replaced = managed && !self.last;
        let all = if replaced {
            assert_eq!(run.address(2), address, "another on the same address");
            run.stop()
        } else {
            run.end()
        };
        let setup = format!("setup: {} workers", u8::from(managed));
        assert_eq!(all[0], setup, "before all else");
        let of_life = |line: &&String| {
            let event = line.split_once(':').map_or("", |(event, _)| event);
            let words = ["fork", "online", "listening", "message", "disconnect"];
            let mut words = words.iter().map(|word| format!("1 {word}"));
            words.any(|word| word == event) || event.starts_with("1 exit")
        };
        let life: Vec<String> = all.iter().filter(of_life).cloned().collect();
        assert_eq!(life, self.life(mode), "{all:#?}");
        let forks = all.iter().filter(|line| line.contains(" fork: ")).count();
        assert_eq!(forks, 1 + usize::from(replaced), "{all:#?}");
        let stops = "worker 1 stops: Disconnected, voluntary true, connected true";
        let heard = all.iter().filter(|line| *line == stops).count();
        assert_eq!(heard, usize::from(self.is_voluntary(mode)), "{all:#?}");
        let goodbye = all.iter().filter(|line| *line == "all are gone").count();
        let wanted = matches!(self.by, By::Told("disconnect-all"));
        assert_eq!(goodbye, usize::from(wanted), "{all:#?}");
    }
}

/// The primary is killed: its workers find out, say so to their application, and end.
fn orphaned() {
    let mut run = Run::start("ends", Mode::Processes, &[]);
    run.address(1);
    run.kill_primary();
    let all = run.silence();
    let last = "worker 1 stops: Orphaned, voluntary false, connected false";
    assert_eq!(all.last().map(String::as_str), Some(last), "{all:#?}");
}

/// A reload that follows another at once takes nothing from it.
fn each_reload_has_its_outcome(mode: Mode) {
    let mut run = Run::start("reloads", mode, &[]);
    run.line("reload: Done");
    let all = run.stop();
    let reloads = all.iter().filter(|line| line.starts_with("reload: "));
    let words = reloads.filter_map(|line| line.split([' ', '{']).nth(1));
    let words: Vec<_> = words.collect();
    assert_eq!(words, ["Began", "Failed", "Began", "Done"], "{all:#?}");
}

pub(crate) fn add(tests: &mut Tests) {
    for case in &CASES {
        for mode in [Mode::Processes, Mode::Threads] {
            if mode == Mode::Threads && !case.threads {
                continue;
            }
            for managed in [true, false] {
                let kind = if managed { "managed" } else { "unmanaged" };
                let name = format!("ends::{}::{}::{kind}", case.name, mode.name());
                tests.add(&name, move || case.check(mode, managed));
            }
        }
    }
    tests.add("ends::orphaned::processes", orphaned);
    tests.both_modes("ends::reload_after_reload", each_reload_has_its_outcome);
}
