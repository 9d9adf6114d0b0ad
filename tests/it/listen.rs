//! Everything that one can listen on.

use crate::client::{Client, is_refused};
use crate::support::{
    Directory, Mode, Server, address_of, both_modes, command, command_by_shell, run,
};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Moves the listener that comes as standard input to descriptor 3.
const TO_THREE: &str = "exec 3<&0 </dev/null; ";

fn launch(mode: Mode, arguments: &[&str]) -> Server {
    let mut all = vec!["--mode", mode.name(), "--workers", "2"];
    all.extend(arguments);
    Server::launch(command(&all))
}

/// `unix:PATH`.
fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Two workers serve at a path.
#[track_caller]
fn serves_at(path: &Path) {
    for _ in 0..4 {
        let mut client = Client::connect_unix(path).unwrap();
        assert_eq!(client.get("/").unwrap().status, 200);
    }
}

both_modes! {
    fn a_unix_socket_comes_and_goes(mode) {
        for policy in ["rr", "shared"] {
            let directory = Directory::new();
            let path = directory.file("it.sock");
            let server = launch(mode, &["-l", &unix(&path), "-s", policy]);
            assert_eq!(server.urls(1), [unix(&path)]);
            serves_at(&path);
            let ended = server.stop();
            assert_eq!(ended.out.len(), 1);
            assert!(!path.exists());
        }
    }

    fn several_addresses_at_once(mode) {
        for policy in ["rr", "shared"] {
            let directory = Directory::new();
            let path = directory.file("it.sock");
            let third = unix(&path);
            let all = ["-l", "127.0.0.1:0", "-l", "127.0.0.1:0", "-l", &third, "-s", policy];
            let server = launch(mode, &all);
            let urls = server.urls(3);
            assert_ne!(urls[0], urls[1]);
            assert_eq!(urls[2], third);
            for url in &urls[..2] {
                Client::greeted(address_of(url));
            }
            serves_at(&path);
            assert_eq!(server.stop().out.len(), 3);
            for url in &urls[..2] {
                assert!(is_refused(address_of(url)));
            }
        }
    }

    fn one_family_or_both(mode) {
        let server = launch(mode, &["-l", "[::1]:0"]);
        let address = address_of(&server.urls(1)[0]);
        assert_eq!(address.ip(), Ipv6Addr::LOCALHOST);
        Client::greeted(address);
        assert!(is_refused((Ipv4Addr::LOCALHOST, address.port()).into()));
        server.stop();
        let server = launch(mode, &["-l", ":0"]);
        let address = address_of(&server.urls(1)[0]);
        assert_eq!(address.ip(), Ipv6Addr::UNSPECIFIED);
        Client::greeted((Ipv4Addr::LOCALHOST, address.port()).into());
        Client::greeted((Ipv6Addr::LOCALHOST, address.port()).into());
        server.stop();
        let server = launch(mode, &["-l", "localhost:0"]);
        let address = address_of(&server.urls(1)[0]);
        assert!(address.ip().is_loopback());
        Client::greeted(address);
        server.stop();
    }

    fn an_inherited_listener_by_its_number(mode) {
        for policy in ["rr", "shared"] {
            let (listener, address) = bound();
            let script = format!("{TO_THREE} exec \"$0\" \"$@\"");
            let all = ["--mode", mode.name(), "-w", "2", "-l", "fd:3", "-s", policy];
            let mut command = command_by_shell(&script, &all);
            command.stdin(listener);
            let server = Server::launch(command);
            assert_eq!(server.address(), address);
            for _ in 0..4 {
                Client::greeted(address);
            }
            let ended = server.stop();
            assert_eq!(ended.out.len(), 1);
            // Our own copy went with the command that was launched.
            assert!(is_refused(address));
        }
    }

    fn listeners_of_systemd(mode) {
        let (listener, address) = bound();
        let script = format!("{TO_THREE} LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"");
        let mut command = command_by_shell(&script, &["--mode", mode.name(), "-w", "2"]);
        command.stdin(listener);
        let server = Server::launch(command);
        assert_eq!(server.address(), address);
        for _ in 0..4 {
            Client::greeted(address);
        }
        server.stop();
        assert!(is_refused(address));
    }
}

/// A listener as a descriptor, and where it listens.
fn bound() -> (OwnedFd, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

#[test]
fn listeners_meant_for_another_process_are_left_alone() {
    let (listener, address) = bound();
    let script = format!("{TO_THREE} LISTEN_PID=1 LISTEN_FDS=1 PORT=0 exec \"$0\" \"$@\"");
    let mut command = command_by_shell(&script, &["-w", "1"]);
    command.stdin(listener);
    let server = Server::launch(command);
    assert_ne!(server.address(), address);
    Client::greeted(server.address());
    server.stop();
}

#[test]
fn a_flag_is_stronger_than_listeners_of_systemd() {
    let (listener, address) = bound();
    let script = format!("{TO_THREE} LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"");
    let mut command = command_by_shell(&script, &["-w", "1", "-l", "127.0.0.1:0"]);
    command.stdin(listener);
    let server = Server::launch(command);
    assert_ne!(server.address(), address);
    Client::greeted(server.address());
    server.stop();
}

#[test]
fn descriptors_that_are_no_listeners_are_refused() {
    for (script, words) in [
        ("exec \"$0\" \"$@\"", "fd 3 is not open"),
        (
            "exec 3</dev/null; exec \"$0\" \"$@\"",
            "fd 3 is not a socket",
        ),
    ] {
        let ended = run(command_by_shell(script, &["-l", "fd:3"]));
        assert_eq!(ended.status.code(), Some(4));
        let last = ended.log.last().unwrap();
        assert!(
            last.contains(words) && last.contains("cannot listen on fd:3"),
            "{last}"
        );
        assert!(ended.out.is_empty());
    }
}

#[test]
fn a_socket_that_a_dead_process_left_is_replaced() {
    let directory = Directory::new();
    let path = directory.file("it.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a socket outlives its process");
    let server = launch(Mode::Processes, &["-l", &unix(&path)]);
    server.urls(1);
    serves_at(&path);
    server.stop();
    assert!(!path.exists());
}

#[test]
fn paths_that_are_taken_or_impossible() {
    let directory = Directory::new();
    let file = directory.file("file");
    fs::write(&file, "precious").unwrap();
    let answered = directory.file("answered.sock");
    let _listener = UnixListener::bind(&answered).unwrap();
    let long = directory.file(&"x".repeat(120));
    for path in [
        file.as_path(),
        &file.join("below.sock"),
        Path::new("/etc/passwd/x.sock"),
        &directory.file("absent/x.sock"),
        &long,
        &answered,
    ] {
        let ended = run(command(&["-l", &unix(path)]));
        let last = ended.log.last().unwrap();
        assert_eq!(ended.status.code(), Some(4), "{last}");
        assert!(last.contains(&*path.to_string_lossy()), "{last}");
        assert!(ended.out.is_empty());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let kind = fs::symlink_metadata(&answered).unwrap().file_type();
    assert!(kind.is_socket(), "somebody else's socket is left alone");
}
