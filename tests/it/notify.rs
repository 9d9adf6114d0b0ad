//! Under a service manager: what it is told by `NOTIFY_SOCKET`, and the sockets that it passes.

use crate::client::Client;
use crate::service::skip;
use crate::support::{Directory, Lines, Mode, Server, both_modes, command, command_by_shell};
use crate::turns::alone;
use crate::watch;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a service manager hears, each message as one line with `|` between its own.
struct Manager {
    place: PathBuf,
    heard: Lines,
    _directory: Directory,
}

struct Messages(UnixDatagram);

impl Read for Messages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let space = buffer.len() - 1;
        let length = self.0.recv(&mut buffer[..space])?;
        // An empty one is this test's own, and is the end.
        if length == 0 {
            return Ok(0);
        }
        for byte in &mut buffer[..length] {
            if *byte == b'\n' {
                *byte = b'|';
            }
        }
        buffer[length] = b'\n';
        Ok(length + 1)
    }
}

impl Manager {
    fn new() -> Self {
        let directory = Directory::new();
        let place = directory.file("notify");
        let socket = UnixDatagram::bind(&place).unwrap();
        Self {
            place,
            heard: Lines::of(Messages(socket)),
            _directory: directory,
        }
    }

    /// Starts a cluster of two under it.
    fn start(&self, mode: Mode, arguments: &[&str]) -> Server {
        let mut all = vec!["--mode", mode.name(), "-w", "2", "-l", "127.0.0.1:0"];
        all.extend(arguments);
        let mut command = command(&all);
        command.env("NOTIFY_SOCKET", &self.place);
        Server::launch(command)
    }

    /// Starts it with a watchdog that wants to hear from it every `micros`.
    fn start_watched(&self, mode: Mode, micros: &str, arguments: &[&str]) -> Server {
        let script = "WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
        let mut all = vec!["--mode", mode.name(), "-w", "2", "-l", "127.0.0.1:0"];
        all.extend(arguments);
        let mut command = command_by_shell(script, &all);
        command.env("NOTIFY_SOCKET", &self.place);
        command.env("WATCHDOG_USEC", micros);
        Server::launch(command)
    }

    /// The messages from `mark` on, up to the first that begins with `words`, which may not have
    /// come yet.
    #[track_caller]
    fn until(&self, mark: usize, words: &str) -> Vec<String> {
        let begins = |line: &str| line.starts_with(words);
        self.heard.find(mark, |line| begins(line).then_some(()));
        let all = self.heard.all();
        let last = (mark..all.len()).find(|&at| begins(&all[at])).unwrap();
        all[mark..=last].to_vec()
    }

    /// The one that begins with `words`.
    #[track_caller]
    fn wait(&self, mark: usize, words: &str) -> String {
        self.until(mark, words).pop().unwrap()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let own = UnixDatagram::unbound().and_then(|own| own.send_to(&[], &self.place));
        drop(own);
    }
}

/// The time that all processes share.
fn micros() -> u128 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    Duration::from(time).as_micros()
}

both_modes! {
    fn a_manager_hears_of_start_reload_scale_and_stop(mode) {
        let manager = Manager::new();
        let server = manager.start(mode, &[]);
        let mut start = manager.until(0, "READY=1");
        let ready = format!("READY=1|MAINPID={}|STATUS=2 of 2 workers serve", server.pid());
        assert_eq!(start.pop(), Some(ready));
        let starting = |line: &String| line.starts_with("STATUS=starting: ");
        assert!(start.iter().all(starting), "{start:?}");
        server.wait_for_workers(2);

        let (mark, before) = (manager.heard.mark(), micros());
        server.signal(Signal::SIGHUP);
        let reloading = manager.wait(mark, "RELOADING=1|MONOTONIC_USEC=");
        let since = reloading.split(['=', '|']).nth(3).unwrap();
        let since: u128 = since.parse().unwrap();
        assert!((before..=micros()).contains(&since), "{before}: {reloading}");
        let ready = manager.wait(mark, "READY=1");
        assert_eq!(ready, "READY=1|STATUS=2 of 2 workers serve; reloaded");
        server.log.wait(0, "reloaded: all workers are new");

        server.signal(Signal::SIGTTIN);
        manager.wait(mark, "STATUS=3 of 3 workers serve");
        let mark = manager.heard.mark();
        server.signal(Signal::SIGTTOU);
        manager.wait(mark, "STATUS=2 of 2 workers serve");

        let mark = manager.heard.mark();
        server.stop();
        manager.wait(mark, "STOPPING=1|STATUS=stopping, workers left: ");
        manager.wait(mark, "STATUS=stopped");
        let ready = manager.heard.all()[mark..].iter().any(|line| line.contains("READY"));
        assert!(!ready);
    }

    fn a_reload_that_fails_is_over_as_well(mode) {
        let manager = Manager::new();
        let server = manager.start(mode, &[]);
        manager.wait(0, "READY=1");
        let mark = manager.heard.mark();
        // With no descriptor left, no worker can be launched.
        let few = ["--pid", &server.pid().to_string(), "--nofile=6:6"];
        match Command::new("prlimit").args(few).status() {
            Ok(status) if status.success() => {}
            other => return skip("a reload that fails", &format!("prlimit: {other:?}")),
        }
        server.signal(Signal::SIGHUP);
        manager.wait(mark, "RELOADING=1");
        let ready = manager.wait(mark, "READY=1");
        let failed = "READY=1|STATUS=2 of 2 workers serve; not reloaded: cannot be launched";
        assert!(ready.starts_with(failed), "{ready}");
        server.signal(Signal::SIGTERM);
        manager.wait(mark, "STOPPING=1");
    }

    fn a_watchdog_hears_of_it_again_and_again(mode) {
        let _alone = alone();
        let manager = Manager::new();
        let server = manager.start_watched(mode, "1000000", &["--worker-timeout", "0"]);
        manager.wait(0, "READY=1");
        for _ in 0..4 {
            let mark = manager.heard.mark();
            manager.wait(mark, "WATCHDOG=1");
        }
        // In a stop too, which has a limit of its own.
        let mut client = Client::connect(server.address()).unwrap();
        client.ask("/slow?ms=1500").unwrap();
        let mark = manager.heard.mark();
        server.signal(Signal::SIGTERM);
        manager.wait(mark, "STOPPING=1");
        let mark = manager.heard.mark();
        manager.wait(mark, "WATCHDOG=1");
        let ended = server.ended();
        assert_eq!(ended.status.code(), Some(0));
        let unwell = |line: &String| line.contains("watchdog");
        assert!(!ended.log.iter().any(unwell), "{:#?}", ended.log);
    }

    fn listeners_of_a_manager_survive_a_reload(mode) {
        let directory = Directory::new();
        let path = directory.file("it.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        // As standard input and output they come, as 3 and 4 they are passed on.
        let script = "exec 3<&0 4<&1 1>&2 0</dev/null; \
            LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b exec \"$0\" \"$@\"";
        let mut command = command_by_shell(script, &["--mode", mode.name(), "-w", "2"]);
        command.stdin(OwnedFd::from(tcp));
        let server = Server::launch_to(command, Stdio::from(OwnedFd::from(unix)));
        server.log.wait(0, &format!("listening on http://{address}"));
        server.log.wait(0, &format!("listening on unix:{}", path.display()));
        let socket = watch::listener(address);
        assert!(watch::sockets(server.pid()).contains(&socket));
        let both_serve = || {
            for _ in 0..4 {
                Client::greeted(address);
                let mut client = Client::connect_unix(&path).unwrap();
                assert_eq!(client.get("/").unwrap().status, 200);
            }
        };
        both_serve();
        let (mut kept, before) = Client::greeted(address);
        server.signal(Signal::SIGHUP);
        server.log.wait(0, "reloaded: all workers are new");
        both_serve();
        assert_ne!(kept.get("/").unwrap().who(), before);
        assert_eq!(watch::listener(address), socket);
        server.stop();
        assert!(path.exists(), "it was the manager's");
    }
}

#[test]
fn the_next_program_goes_on_speaking() {
    let manager = Manager::new();
    let server = manager.start_watched(Mode::Processes, "60000000", &[]);
    manager.wait(0, "READY=1");
    let mark = manager.heard.mark();
    server.signal(Signal::SIGUSR2);
    manager.wait(mark, "WATCHDOG=1");
    manager.wait(mark, "RELOADING=1|MONOTONIC_USEC=");
    let ready = manager.wait(mark, "READY=1");
    assert_eq!(ready, "READY=1|STATUS=2 of 2 workers serve; reloaded");
    let mark = manager.heard.mark();
    server.stop();
    manager.wait(mark, "STOPPING=1");
}

#[test]
fn a_watchdog_hears_nothing_while_nobody_serves() {
    let _alone = alone();
    let manager = Manager::new();
    let server = manager.start_watched(Mode::Processes, "1000000", &[]);
    manager.wait(0, "READY=1");
    let workers = server.wait_for_workers(2);
    let content = |mark| manager.wait(mark, "WATCHDOG=1");
    // One of them alone is the worker timeout's business.
    workers[0].signal(Signal::SIGSTOP);
    for _ in 0..4 {
        content(manager.heard.mark());
    }
    workers[1].signal(Signal::SIGSTOP);
    server.log.wait(0, "nobody has served for ");
    let mark = manager.heard.mark();
    // As long as it takes for a manager to lose its patience.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(manager.heard.all()[mark..], [""; 0]);
    for worker in &workers {
        worker.signal(Signal::SIGCONT);
    }
    content(mark);
    server.log.wait(0, "watchdog is content again");
    Client::greeted(server.address());
    server.stop();
}

#[test]
fn a_worker_that_nothing_else_ends_is_a_matter_for_the_watchdog() {
    let _alone = alone();
    let manager = Manager::new();
    let arguments = ["--worker-timeout", "0"];
    let server = manager.start_watched(Mode::Processes, "400000", &arguments);
    manager.wait(0, "READY=1");
    let worker = server.wait_for_workers(2)[0];
    worker.signal(Signal::SIGSTOP);
    let words = format!("worker {} stands still for ", worker.id);
    server.log.wait(0, &words);
    worker.signal(Signal::SIGCONT);
    server.log.wait(0, "watchdog is content again");
    server.stop();
}

#[test]
fn a_manager_that_is_away_for_a_while_hears_of_it_later() {
    let directory = Directory::new();
    let place = directory.file("notify");
    let mut command = command(&["-w", "1", "-l", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &place);
    let server = Server::launch(command);
    server
        .log
        .wait(0, "the service manager cannot be told how it is");
    server.urls(1);
    let late = UnixDatagram::bind(&place).unwrap();
    let patience = Some(crate::support::PATIENCE);
    late.set_read_timeout(patience).unwrap();
    let mut buffer = [0; 500];
    loop {
        let length = late.recv(&mut buffer).unwrap();
        if buffer[..length].starts_with(b"READY=1\n") {
            break;
        }
    }
    server.stop();
}

#[test]
fn workers_do_not_speak_for_the_service() {
    let manager = Manager::new();
    let server = manager.start(Mode::Processes, &[]);
    manager.wait(0, "READY=1");
    let mut own = watch::sockets(server.pid());
    // They accept from that.
    assert!(own.remove(&watch::listener(server.address())));
    for worker in server.wait_for_workers(2) {
        let shared: Vec<_> = watch::sockets(worker.pid)
            .intersection(&own)
            .cloned()
            .collect();
        assert_eq!(shared, [""; 0]);
    }
    server.stop();
}
