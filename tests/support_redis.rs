//! A real redis-server for a test: on a free port of this machine, in a directory of its own, ended
//! by its number and gone with its [`RedisServer`].
//!
//! Shared by the tests that need one, each by `#[path]`. Keeps nothing on disk unless a test asks
//! for it. Where the program is absent there is no server, and one line says so.

#![allow(dead_code, reason = "each who includes this needs a part of it")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const PROGRAM: &str = "redis-server";

/// The one limit of time here: it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, running or stopped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk, with further `options` of its command line, such as
    /// `["--appendonly", "yes"]`. `None` where there is no such program, with a line that says so.
    #[track_caller]
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let there = Command::new(PROGRAM)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if there.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            println!("skipped: there is no {PROGRAM} (Debian's package redis-server has it)");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mcluster-redis-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a directory for redis-server");
        let mut server = Self {
            child: None,
            port: 0,
            folder,
            options: options.iter().map(|&one| one.to_owned()).collect(),
        };
        for _ in 0..20 {
            server.port = free_port();
            if server.launch() {
                return Some(server);
            }
            // Somebody else took the port in between.
        }
        panic!("redis-server does not start:\n{}", server.log());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where its files are, when it keeps any.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends it a signal, such as SIGSTOP.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running redis-server");
        kill(Pid::from_raw(child.id() as i32), signal).expect("a signal to redis-server");
    }

    /// Ends it in good order, and waits for that.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.wait();
    }

    /// Ends it at once.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Starts it again on the same port, in the same directory.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let begin = Instant::now();
        while !self.launch() {
            let log = self.log();
            assert!(
                begin.elapsed() < PATIENCE,
                "it does not start again:\n{log}"
            );
        }
    }

    /// Says one command, in words without spaces, on a connection of its own; the first piece of
    /// what comes back, at most 4 KiB.
    #[track_caller]
    pub(crate) fn ask(&self, command: &str) -> String {
        ask(self.port, command).expect("an answer of redis-server")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Whether it answers now; it has ended if not.
    fn launch(&mut self) -> bool {
        let mut command = Command::new(PROGRAM);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--logfile", "log", "--dir", "."])
            .args(&self.options)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("redis-server");
        let begin = Instant::now();
        loop {
            if child.try_wait().expect("redis-server's state").is_some() {
                return false;
            }
            // Its own number: another server may have the port. NOAUTH comes from one with a
            // password, which is for its test to know.
            let own = format!("process_id:{}\r", child.id());
            let answer = ask(self.port, "INFO server").unwrap_or_default();
            if answer.contains(&own) || answer.starts_with("-NOAUTH") {
                self.child = Some(child);
                return true;
            }
            if begin.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("redis-server does not answer:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("-- redis-server's log:\n{}\n--", self.log());
        }
        if let Some(child) = &mut self.child {
            // Also one that was stopped by a signal.
            let _ = child.kill();
        }
        self.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port that nobody has at present.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its number").port()
}

fn ask(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}
