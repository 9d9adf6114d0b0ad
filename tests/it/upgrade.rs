//! Upgrade in place: another program in the same process, and no client that notices.

use crate::client::Client;
use crate::support::{BINARY, Directory, Mode, Server, command, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The binary in a place of its own, where another can take its place.
pub(crate) fn installed(directory: &Directory) -> PathBuf {
    let path = directory.file("mcluster");
    install_binary(&path);
    path
}

/// Puts the binary at `path`, as a package manager does: at once, under the running one.
pub(crate) fn install_binary(path: &Path) {
    install(path, Command::new("cp").arg(BINARY));
}

/// The same with a script.
pub(crate) fn script(path: &Path, text: &str) {
    let write = ["-c", "printf %s \"$0\" >\"$1\"", text];
    install(path, Command::new("sh").args(write));
}

/// By another process: a child of another test would have a file open that this one writes, and what
/// is being written cannot be executed.
fn install(path: &Path, make: &mut Command) {
    let new = path.with_extension("new");
    assert!(make.arg(&new).status().unwrap().success());
    fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Starts the program at `path`.
fn start(path: &Path, arguments: &[&str]) -> Server {
    let bare = command(&[]);
    let mut command = Command::new(path);
    command.env_clear();
    for (name, value) in bare.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.args(["--workers", "2", "--listen", "127.0.0.1:0"]);
    command.args(arguments);
    let server = Server::launch(command);
    server.urls(1);
    server
}

/// Has it upgraded, and waits until its workers are those of the new program.
#[track_caller]
fn upgrade(server: &Server) {
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR2);
    server
        .log
        .wait(mark, "upgraded: this program took over 2 workers");
    server.log.wait(mark, "reloaded: all workers are new");
}

#[test]
fn connections_outlive_the_program() {
    let directory = Directory::new();
    let path = installed(&directory);
    let server = start(&path, &[]);
    let address = server.address();
    let mut idle: Vec<Client> = (0..20).map(|_| Client::greeted(address).0).collect();
    let mut fresh = Client::connect(address).unwrap();
    let mut partial = Client::connect(address).unwrap();
    partial.send("GET / HTTP/1.1\r\nHo").unwrap();
    let mut slow = Client::connect(address).unwrap();
    slow.ask("/slow?ms=700").unwrap();
    let before = server.wait_for_workers(2);
    for _ in 0..3 {
        upgrade(&server);
    }
    let after = server.wait_for_workers(2);
    assert!(after.iter().all(|one| !before.contains(one)), "{after:?}");
    let names: Vec<_> = after.iter().map(|one| one.name(Mode::Processes)).collect();
    for client in &mut idle {
        let who = client.get("/").unwrap().text().trim_end().to_owned();
        assert!(names.contains(&who), "{who}");
    }
    assert_eq!(slow.receive().unwrap().text(), "waited 700 ms\n");
    assert_eq!(slow.get("/status/204").unwrap().status, 204);
    partial.send("st: x\r\n\r\n").unwrap();
    assert!(names.contains(&partial.receive().unwrap().text().trim_end().to_owned()));
    assert_eq!(fresh.get("/status/204").unwrap().status, 204);
    assert_eq!(server.stop().out.len(), 1, "it says once where it listens");
}

#[test]
fn a_worker_that_dies_after_an_upgrade_is_replaced() {
    let directory = Directory::new();
    let path = installed(&directory);
    let server = start(&path, &["--drain-timeout", "2s"]);
    upgrade(&server);
    let [victim, _] = server.wait_for_workers(2)[..] else {
        panic!("two workers");
    };
    victim.signal(Signal::SIGKILL);
    let successor = server.successor(victim, "died: signal 9 (SIGKILL)");
    Client::of_worker(server.address(), &successor.name(Mode::Processes));
    server.stop();
}

#[test]
fn a_program_that_does_not_start_leaves_the_old_one_running() {
    let directory = Directory::new();
    let path = installed(&directory);
    let server = start(&path, &["--start-timeout", "2s"]);
    let (mut client, who) = Client::greeted(server.address());
    let refused = |what: &str| {
        let mark = server.log.mark();
        server.signal(Signal::SIGUSR2);
        server.log.find(mark, |line| {
            (line.contains("no upgrade: ") && line.contains(what)).then_some(())
        });
    };
    script(&path, "#!/bin/sh\nexit 7\n");
    refused("exit status: 7");
    script(&path, "#!/bin/sh\nexit 0\n");
    refused("does not take over");
    script(&path, "#!/bin/sh\nexec sleep 600\n");
    refused("does not take over");
    script(&path, "no program at all");
    refused("Exec format error");
    fs::remove_file(&path).unwrap();
    refused("No such file");
    // None of it has cost anything.
    assert_eq!(client.get("/").unwrap().text().trim_end(), who);
    install_binary(&path);
    upgrade(&server);
    assert_eq!(client.get("/status/204").unwrap().status, 204);
    server.stop();
}

#[test]
fn a_configuration_that_makes_no_sense_leaves_the_old_one_running() {
    let directory = Directory::new();
    let path = installed(&directory);
    let file = directory.file("mcluster.toml");
    fs::write(&file, "pool = 1\n").unwrap();
    let server = start(&path, &["--config", file.to_str().unwrap()]);
    let mark = server.log.mark();
    fs::write(&file, "pool = \"many\"\n").unwrap();
    server.signal(Signal::SIGUSR2);
    server.log.wait(mark, "does not take over: exit status: 3");
    Client::greeted(server.address());
    // What is changed and makes sense is in effect afterwards.
    fs::write(&file, "pool = 1\nmax-body = 5\n").unwrap();
    upgrade(&server);
    let mut client = Client::connect(server.address()).unwrap();
    let answer = client
        .request("POST", "/echo", "Content-Length: 6\r\n", "123456")
        .unwrap();
    assert_eq!(answer.status, 413);
    server.stop();
}

#[test]
fn other_listeners_come_and_go_with_the_configuration() {
    let directory = Directory::new();
    let path = installed(&directory);
    let file = directory.file("mcluster.toml");
    let (one, two) = (directory.file("one.sock"), directory.file("two.sock"));
    let listen = |socket: &Path| format!("listen = [\"unix:{}\"]\n", socket.display());
    fs::write(&file, listen(&one)).unwrap();
    let mut command = command(&["-w", "2", "--config", file.to_str().unwrap()]);
    let envs: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = Command::new(&path);
    command.env_clear().envs(envs).args(arguments);
    let server = Server::launch(command);
    server.urls(1);
    Client::connect_unix(&one).unwrap().get("/").unwrap();
    fs::write(&file, listen(&two)).unwrap();
    upgrade(&server);
    Client::connect_unix(&two).unwrap().get("/").unwrap();
    wait_until("the old one is gone", || !one.exists());
    server.stop();
    assert!(!two.exists());
}

#[test]
fn threads_cannot_outlive_their_program() {
    let server = Server::start(Mode::Threads, &["--workers", "2"]);
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR2);
    server
        .log
        .wait(mark, "no upgrade: threads end with their program");
    Client::greeted(server.address());
    server.stop();
}

#[test]
fn a_stop_ends_an_upgrade_that_is_being_tried() {
    let directory = Directory::new();
    let path = installed(&directory);
    let server = start(&path, &[]);
    let (mut slow, _) = Client::greeted(server.address());
    slow.ask("/slow?ms=700").unwrap();
    wait_until("the request is taken", || slow.is_silent());
    // Willing, but in its own time.
    let text = format!("#!/bin/sh\nsleep 0.3\nexec {BINARY} \"$@\"\n");
    script(&path, &text);
    server.signal(Signal::SIGUSR2);
    server.log.wait(0, "upgrading: trying");
    server.signal(Signal::SIGTERM);
    assert_eq!(slow.receive().unwrap().text(), "waited 700 ms\n");
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0));
    let said = ended.log.join("\n");
    assert!(
        said.contains("no upgrade: the cluster is stopping"),
        "{said}"
    );
    assert!(!said.contains("becomes the new program"), "{said}");
}

#[test]
fn what_cannot_run_is_found_in_the_trial() {
    let directory = Directory::new();
    let path = installed(&directory);
    let file = directory.file("mcluster.toml");
    fs::write(&file, "pool = 1\n").unwrap();
    let server = start(&path, &["--config", file.to_str().unwrap()]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("admin = \"{}\"\n", taken.local_addr().unwrap());
    let cases = [
        (
            "health-path = \"/\"\n",
            "no upgrade: ",
            "has a handler already",
        ),
        (&admin, "no upgrade: ", "in use"),
    ];
    for (text, outcome, why) in cases {
        let mark = server.log.mark();
        fs::write(&file, text).unwrap();
        server.signal(Signal::SIGUSR2);
        server.log.wait(mark, outcome);
        let said = server.log.all()[mark..].join("\n");
        assert!(said.contains(why), "{why}: {said}");
        Client::greeted(server.address());
    }
    fs::write(&file, "pool = 1\n").unwrap();
    upgrade(&server);
    server.stop();
}

#[test]
fn two_listeners_of_the_same_words_stay_two() {
    let directory = Directory::new();
    let path = installed(&directory);
    let server = start(&path, &["--listen", "127.0.0.1:0"]);
    let urls = server.urls(2);
    upgrade(&server);
    for url in &urls {
        Client::greeted(crate::support::address_of(url));
    }
    server.stop();
}

#[test]
fn the_access_log_goes_on() {
    let directory = Directory::new();
    let program = installed(&directory);
    let path = directory.file("access.log");
    let server = start(&program, &["--access-log", path.to_str().unwrap()]);
    let (mut client, _) = Client::greeted(server.address());
    upgrade(&server);
    client.get("/").unwrap().who();
    let aside = directory.file("aside");
    fs::rename(&path, &aside).unwrap();
    let mark = server.log.mark();
    server.signal(Signal::SIGUSR1);
    server.log.wait(mark, "is open again");
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    // A request may be answered before its worker has heard of the new file.
    let mut asked = 2;
    wait_until("a line in the new file", || {
        client.get("/").unwrap().who();
        asked += 1;
        lines(&path) > 0
    });
    wait_until("all lines", || lines(&path) + lines(&aside) == asked);
    assert!(lines(&aside) >= 2);
    server.stop();
}
