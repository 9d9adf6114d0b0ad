//! Node programs as workers: what the tests of them have in common.
//!
//! Owns where programs of the registries are (`tests/programs/setup` installs them, once for all tests),
//! and [`App`], `mcluster start` with a script of `tests/programs`. Where there is no node, no npm or no
//! registry, one line says so and the test is skipped. With `MCLUSTER_TESTS_PRIMARY` the scenarios run
//! under another primary, such as Node's own (`tests/programs/primary.js`): so it can be seen that they
//! tell right from wrong.

use crate::client::Client;
use crate::support::{Directory, Ended, Server, Worker, command, wait_until};
use crate::tidy::root;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// What `tests/programs/setup` says when something that it needs is absent.
const ABSENT: i32 = 75;

/// The folder of an installed part, such as `frameworks`; none where it cannot be installed.
pub(crate) fn installed(part: &str) -> Option<PathBuf> {
    static PARTS: Mutex<BTreeMap<String, Option<PathBuf>>> = Mutex::new(BTreeMap::new());
    let mut parts = PARTS.lock().unwrap_or_else(|lost| lost.into_inner());
    if let Some(known) = parts.get(part) {
        return known.clone();
    }
    let folder = match std::env::var_os("MCLUSTER_TESTS_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs"),
    };
    let mut setup = Command::new(root().join("tests/programs/setup"));
    let output = setup.arg(&folder).arg(part).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let found = match output.status.code() {
        Some(0) => Some(folder.join(part)),
        Some(ABSENT) => {
            eprintln!("{}", said.trim_end());
            None
        }
        _ => panic!("tests/programs/setup {part}: {said}"),
    };
    parts.insert(part.to_owned(), found.clone());
    found
}

/// Whether there is a node at all, with a line that says so where there is none.
pub(crate) fn node_is_there() -> bool {
    let mut node = Command::new("node");
    let there = node.arg("--version").stdout(Stdio::null()).status();
    if there.is_err() {
        eprintln!("skipped: there is no node (Debian's package nodejs has it)");
    }
    there.is_ok()
}

/// The folder of the binary of one major version of Node.
pub(crate) fn major(number: u32) -> Option<PathBuf> {
    let majors = installed("majors")?;
    Some(majors.join(format!("node_modules/node{number}/bin")))
}

/// A path among the tests' programs.
pub(crate) fn program(name: &str) -> PathBuf {
    root().join("tests/programs").join(name)
}

/// A directory with `key.pem` and `cert.pem`; none where nothing can make them.
pub(crate) fn certificate() -> Option<Directory> {
    let keys = Directory::new();
    let mut openssl = Command::new("openssl");
    let all = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
               -subj /CN=localhost -keyout key.pem -out cert.pem";
    openssl
        .args(all.split_whitespace())
        .current_dir(keys.file(""));
    let Ok(status) = openssl.stderr(Stdio::null()).status() else {
        eprintln!("skipped: there is no openssl to make a certificate");
        return None;
    };
    assert!(status.success(), "{status}");
    Some(keys)
}

/// Whether another primary is looked at, one that lets go of requests.
pub(crate) fn is_foreign() -> bool {
    std::env::var_os("MCLUSTER_TESTS_PRIMARY").is_some()
}

/// How a program is started.
#[derive(Debug)]
pub(crate) struct Setting {
    env: Vec<(String, String)>,
    /// Searched before the rest of `PATH`.
    node: Option<PathBuf>,
    count: usize,
}

impl Setting {
    /// Two workers, on any port.
    pub(crate) fn new() -> Self {
        Self {
            env: vec![
                ("PORT".to_owned(), "0".to_owned()),
                // Beside other tests the machine may be slow.
                ("MCLUSTER_LISTEN_TIMEOUT".to_owned(), "50s".to_owned()),
            ],
            node: None,
            count: 2,
        }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// So many workers.
    pub(crate) fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// By the node in that folder.
    pub(crate) fn node(mut self, folder: &Path) -> Self {
        self.node = Some(folder.to_owned());
        self
    }

    /// With the packages of that part.
    pub(crate) fn modules(self, part: &Path) -> Self {
        let modules = part.join("node_modules");
        self.env("NODE_PATH", modules.to_str().unwrap())
    }

    /// Starts a script of `tests/programs`, and does not wait.
    #[track_caller]
    pub(crate) fn launch(&self, script: &str, arguments: &[&str]) -> App {
        let directory = Directory::new();
        let (count, script) = (self.count.to_string(), program(script));
        let mut all = vec!["start", script.to_str().unwrap(), "-i", &count];
        all.extend(arguments);
        let mut command = match std::env::var_os("MCLUSTER_TESTS_PRIMARY") {
            Some(primary) => {
                let mut command = Command::new("node");
                command.arg(primary).args(&all).env_clear();
                command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
                command
            }
            None => command(&all),
        };
        command
            .current_dir(directory.file(""))
            .envs(self.env.iter().map(|(n, v)| (n, v)));
        if let Some(folder) = &self.node {
            let rest = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{rest}", folder.display()));
        }
        let server = Server::launch(command);
        App { server, directory }
    }

    /// Starts it, and waits until all workers listen.
    #[track_caller]
    pub(crate) fn start(&self, script: &str, arguments: &[&str]) -> App {
        let mut app = self.launch(script, arguments);
        wait_until("all workers listening", || {
            let ended = app.server.exited();
            assert!(ended.is_none(), "it ended: {ended:?}");
            app.server.workers().len() == self.count
        });
        app
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) server: Server,
    /// Where it runs.
    pub(crate) directory: Directory,
}

/// What a worker has said by a line of its output, and which worker.
pub(crate) fn output_of(line: &str) -> Option<(u32, &str)> {
    let (who, words) = line.split_once("| ")?;
    Some((who.trim().parse().ok()?, words))
}

impl App {
    /// Waits for a line of a worker's output that starts with `words`: who said it, and the rest of it.
    #[track_caller]
    pub(crate) fn said(&self, mark: usize, words: &str) -> (u32, String) {
        self.server.log.find(mark, |line| {
            let (who, said) = output_of(line)?;
            Some((who, said.strip_prefix(words)?.trim().to_owned()))
        })
    }

    /// The same of a certain worker.
    #[track_caller]
    pub(crate) fn said_by(&self, worker: u32, words: &str) -> String {
        self.server.log.find(0, |line| {
            let (_, said) = output_of(line).filter(|(who, _)| *who == worker)?;
            Some(said.strip_prefix(words)?.trim().to_owned())
        })
    }

    /// Where its workers listen.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        let (_, port) = self.said(0, "listening on port");
        SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
    }

    /// Whose pid answers `GET /` on a new connection.
    #[track_caller]
    pub(crate) fn pid_at(address: SocketAddr) -> i32 {
        let answer = Client::connect(address).unwrap().get("/").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().trim().parse().unwrap()
    }

    /// Asks on new connections until each worker has answered, and no others.
    #[track_caller]
    pub(crate) fn all_answer(&self, address: SocketAddr, workers: &[Worker]) {
        let wanted: BTreeSet<i32> = workers.iter().map(|worker| worker.pid).collect();
        let mut found = BTreeSet::new();
        // Under shared the kernel may wake the same worker each time but for many at once.
        wait_until("an answer from every worker", || {
            let connect = |_| Client::connect(address).unwrap();
            let mut clients: Vec<_> = (0..16).map(connect).collect();
            for client in &mut clients {
                client.ask("/").unwrap();
            }
            for mut client in clients {
                found.insert(client.receive().unwrap().text().trim().parse().unwrap());
            }
            found.is_superset(&wanted)
        });
        assert_eq!(found, wanted);
    }

    /// Replaces all workers, and waits until that is done.
    #[track_caller]
    pub(crate) fn reload(&self) {
        let mark = self.server.log.mark();
        self.server.signal(Signal::SIGHUP);
        self.server.log.wait(mark, "reloaded: all workers are new");
    }

    /// Stops it, and checks that nothing of it is left.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        self.server.stop()
    }
}
