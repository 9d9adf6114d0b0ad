//! How workers end, in words, and what each end means for the one that comes next.

use crate::client::Client;
use crate::service::skip;
use crate::support::{Mode, Server, Worker, command_by_shell, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::process::id;
use std::time::Duration;

/// Sends SIGSEGV until the worker has died of it: the standard library takes the first, looks
/// whether a stack has overflowed, and leaves the next to the kernel.
fn segfault(server: &Server, worker: Worker) {
    let died = format!("worker {} (pid {}) died: ", worker.id, worker.pid);
    wait_until("the worker dies of SIGSEGV", || {
        let _ = kill(Pid::from_raw(worker.pid), Signal::SIGSEGV);
        server.log.all().iter().any(|line| line.contains(&died))
    });
}

/// What the log says of the end of `worker`.
#[track_caller]
fn end_of(server: &Server, worker: Worker) -> String {
    server.log.find(0, |line| {
        let (who, rest) = Worker::of_line(line)?;
        let end = rest.strip_prefix("died: ")?;
        (who == worker).then(|| end.to_owned())
    })
}

#[test]
fn ends_are_told_apart() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    // A program that takes core files takes them whatever their size may be.
    let dumped = if pattern.starts_with('|') {
        ", core dumped"
    } else {
        ""
    };
    let cases = [
        (Err("/panic?worker"), "code 101".to_owned()),
        (Err("/crash"), format!("signal 6 (SIGABRT){dumped}")),
        (Ok(Signal::SIGSEGV), format!("signal 11 (SIGSEGV){dumped}")),
        (Ok(Signal::SIGKILL), "signal 9 (SIGKILL)".to_owned()),
        (Ok(Signal::SIGILL), format!("signal 4 (SIGILL){dumped}")),
    ];
    let count = cases.len().to_string();
    // A worker for each: what one place went through slows that place alone.
    let server = Server::start(Mode::Processes, &["-w", &count, "--chaos"]);
    let workers = server.wait_for_workers(cases.len());
    for (worker, (by, how)) in workers.into_iter().zip(cases) {
        match by {
            Ok(Signal::SIGSEGV) => segfault(&server, worker),
            Ok(signal) => worker.signal(signal),
            Err(path) => {
                let name = worker.name(Mode::Processes);
                let mut client = Client::of_worker(server.address(), &name);
                client.ask(path).unwrap();
                assert!(client.ends());
            }
        }
        let end = end_of(&server, worker);
        assert!(end.starts_with(&format!("{how}; forking worker ")), "{end}");
    }
    server.stop();
}

/// A control group of its own, with little memory, that goes with its owner.
struct Group(PathBuf);

impl Group {
    const BYTES: &str = "50331648";

    /// In the hierarchy that has the memory controller: the unified one, or the old one.
    fn new() -> Result<Self, String> {
        let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let named = |prefix: &str| {
            let line = groups.lines().find(|line| line.contains(prefix))?;
            line.splitn(3, ':').nth(2).map(str::to_owned)
        };
        let below = |top: &str, path: String| PathBuf::from(format!("{top}{path}"));
        let own = match named(":memory:") {
            Some(path) => below("/sys/fs/cgroup/memory", path),
            None => below("/sys/fs/cgroup", named("0::").ok_or("no control groups")?),
        };
        let group = Self(own.join(format!("mcluster-it-{}", id())));
        let failed = |error| format!("{}: {error}", group.0.display());
        fs::create_dir(&group.0).map_err(failed)?;
        let limit = ["memory.max", "memory.limit_in_bytes"];
        let limit = limit.iter().map(|name| group.0.join(name));
        let limit = limit.into_iter().find(|path| path.exists());
        // Without the controller there is no such file.
        let limit = limit.ok_or("a control group without a limit of memory")?;
        fs::write(limit, Self::BYTES).map_err(failed)?;
        // Where there is any swap, it is not to help.
        let _ = fs::write(group.0.join("memory.swap.max"), "0");
        let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), Self::BYTES);
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn who_was_killed_for_want_of_memory_is_said_to_be() {
    let group = match Group::new() {
        Ok(group) => group,
        Err(why) => return skip("a memory kill", &why),
    };
    let script = format!(
        "echo $$ >{}/cgroup.procs; exec \"$0\" \"$@\"",
        group.0.display()
    );
    let arguments = [
        "-w",
        "2",
        "-l",
        "127.0.0.1:0",
        "--max-body",
        "1G",
        "--body-memory",
        "1G",
    ];
    let server = Server::launch(command_by_shell(&script, &arguments));
    let (mut client, who) = Client::greeted(server.address());
    let workers = server.wait_for_workers(2).into_iter();
    let named = |worker: &Worker| worker.name(Mode::Processes) == who;
    let worker = workers.into_iter().find(named).unwrap();
    let length = 512 << 20;
    client
        .send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ))
        .unwrap();
    let piece = vec![b'x'; 1 << 20];
    let sent = (0..length >> 20).take_while(|_| client.send(&piece).is_ok());
    assert!(sent.count() < length >> 20, "there was memory enough");
    let end = end_of(&server, worker);
    let how = "signal 9 (SIGKILL), killed for want of memory in its control group; forking ";
    assert!(end.starts_with(how), "{end}");
    // The next that is killed was killed by somebody.
    let worker = server.wait_for_workers(2)[0];
    worker.signal(Signal::SIGKILL);
    assert!(end_of(&server, worker).starts_with("signal 9 (SIGKILL); forking worker "));
    server.stop();
    wait_until("the control group is empty", || {
        fs::read_to_string(group.0.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
    });
}

/// How long the next worker is awaited, by the end of the one before.
fn pause(end: &str) -> Duration {
    let Some((_, pause)) = end.split_once("; forking another in ") else {
        assert!(end.contains("; forking worker "), "{end}");
        return Duration::ZERO;
    };
    let number = pause.trim_end_matches(|char: char| char.is_alphabetic());
    let unit = match &pause[number.len()..] {
        "ms" => 1e-3,
        "s" => 1.0,
        other => panic!("{other:?} in {end}"),
    };
    Duration::from_secs_f64(number.parse::<f64>().unwrap() * unit)
}

#[test]
fn a_worker_that_crashes_when_it_listens_is_awaited_longer_and_longer() {
    let server = Server::start(Mode::Processes, &["-w", "1"]);
    let mut pauses = Vec::new();
    let mut worker = server.wait_for_workers(1)[0];
    for _ in 0..5 {
        worker.signal(Signal::SIGABRT);
        pauses.push(pause(&end_of(&server, worker)));
        worker = server.wait_for_workers(1)[0];
    }
    // Crashes count less as time goes by, so a slow machine may miss one doubling.
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(pauses[2] > Duration::ZERO, "{pauses:?}");
    assert!(pauses[4] >= 2 * pauses[2], "{pauses:?}");
    server.stop();
}

#[test]
fn a_worker_that_somebody_kills_is_replaced_at_once_each_time() {
    let server = Server::start(Mode::Processes, &["-w", "1"]);
    let mut worker = server.wait_for_workers(1)[0];
    for _ in 0..8 {
        worker.signal(Signal::SIGKILL);
        worker = server.successor(worker, "died: signal 9 (SIGKILL)");
    }
    Client::of_worker(server.address(), &worker.name(Mode::Processes));
    server.stop();
}
