//! `GET /session` under each store, cookies by hand, and what a store or its keys may be that they are not.

use crate::client::{Answer, Client};
use crate::support::{Directory, Mode, Server, both_modes, command, output};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, PermissionsExt};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// One request on a connection of its own, with that cookie.
fn ask(address: SocketAddr, cookie: Option<&str>) -> Answer {
    let fields = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    let mut client = Client::connect(address).unwrap();
    client.request("GET", "/session", &fields, "").unwrap()
}

/// The name and the value of the cookie that an answer sets.
fn cookie(answer: &Answer) -> Option<String> {
    let set = answer.field("Set-Cookie")?;
    assert!(set.ends_with("; Path=/; SameSite=Lax; HttpOnly"), "{set}");
    assert_eq!(answer.field("Cache-Control"), Some("no-store"));
    Some(set.split(';').next().unwrap().to_owned())
}

/// The visits and the worker.
#[track_caller]
fn visits(answer: &Answer) -> (u64, u32) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let rest = answer.text().strip_prefix("visits ").unwrap();
    let (visits, worker) = rest.trim_end().split_once(", worker ").unwrap();
    (visits.parse().unwrap(), worker.parse().unwrap())
}

/// How far `count` requests of one client count, and by how many workers.
fn counted(address: SocketAddr, count: u64) -> (u64, usize) {
    let first = ask(address, None);
    let cookie = cookie(&first).unwrap();
    let (mut most, worker) = visits(&first);
    let mut workers = std::collections::BTreeSet::from([worker]);
    for _ in 1..count {
        let (visits, worker) = visits(&ask(address, Some(&cookie)));
        most = most.max(visits);
        workers.insert(worker);
    }
    (most, workers.len())
}

both_modes! {
    fn one_worker_counts_in_memory(mode) {
        for pool in ["0", "1"] {
            let server = Server::start(mode, &["--workers", "1", "--pool", pool]);
            assert_eq!(counted(server.address(), 5), (5, 1));
            server.stop();
        }
    }

    fn four_workers_count_in_a_file(mode) {
        let place = Directory::new();
        let file = place.file("sessions");
        let store = format!("shared:{}", file.display());
        let arguments = ["--workers", "4", "--session-store", &store];
        let server = Server::start(mode, &arguments);
        let address = server.address();
        assert_eq!(counted(address, 16), (16, 4));
        let first = ask(address, None);
        let mine = cookie(&first).unwrap();
        assert_eq!(cookie(&ask(address, Some(&mine))), None, "set once");
        server.stop();
        for made in ["sessions", "sessions-lock", "sessions.key"] {
            let mode = fs::metadata(place.file(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{made}");
        }
        // The next cluster has the same sessions, and the same key.
        let server = Server::start(mode, &arguments);
        assert_eq!(visits(&ask(server.address(), Some(&mine))).0, 3);
        server.stop();
    }
}

#[test]
fn workers_with_memory_of_their_own_count_for_themselves() {
    let server = Server::start(Mode::Processes, &["--workers", "4"]);
    let (most, workers) = counted(server.address(), 16);
    assert!(most < 16 && workers > 1, "{most}, {workers}");
    server.stop();
    let server = Server::start(Mode::Threads, &["--workers", "4"]);
    assert_eq!(counted(server.address(), 16), (16, 4));
    server.stop();
}

#[test]
fn a_cookie_that_was_tampered_with_is_a_new_client() {
    let server = Server::start(Mode::Processes, &["--workers", "1"]);
    let address = server.address();
    let mine = cookie(&ask(address, None)).unwrap();
    let changed = |at: usize| {
        let mut bytes = mine.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let others = (4..mine.len()).map(changed);
    let cut = (4..mine.len()).map(|end| mine[..end].to_owned());
    for other in others.chain(cut) {
        let answer = ask(address, Some(&other));
        assert_eq!(visits(&answer).0, 1, "{other}");
        assert_ne!(cookie(&answer).unwrap()[..26], other[..26.min(other.len())]);
    }
    assert_eq!(visits(&ask(address, Some(&mine))).0, 2);
    server.stop();
}

#[test]
fn keys_come_from_a_file_or_a_variable_and_can_be_changed() {
    let place = Directory::new();
    let (file, keys) = (place.file("sessions"), place.file("keys"));
    let store = format!("shared:{}", file.display());
    let keys_at = keys.display().to_string();
    let arguments = ["--workers", "1", "--session-store", &store];
    let with_file = [&arguments[..], &["--session-key-file", &keys_at]].concat();
    fs::write(&keys, format!("# the first\n{KEY}\n")).unwrap();
    let server = Server::start(Mode::Processes, &with_file);
    let old = cookie(&ask(server.address(), None)).unwrap();
    server.stop();
    fs::write(&keys, format!("{}\n{KEY}\n", KEY.to_uppercase())).unwrap();
    let server = Server::start(Mode::Processes, &with_file);
    let answer = ask(server.address(), Some(&old));
    assert_eq!(visits(&answer).0, 2);
    let new = cookie(&answer).unwrap();
    server.stop();
    let mut by_variable = command(&[&["--listen", "127.0.0.1:0"], &arguments[..]].concat());
    by_variable.env("MCLUSTER_SESSION_KEY", KEY.to_uppercase());
    let server = Server::launch(by_variable);
    assert_eq!(visits(&ask(server.address(), Some(&new))).0, 3);
    assert_eq!(visits(&ask(server.address(), Some(&old))).0, 1);
    server.stop();
    assert!(!place.file("sessions.key").exists(), "none was needed");
}

#[test]
fn a_file_with_damaged_pages_is_told_at_the_start() {
    let place = Directory::new();
    let file = place.file("sessions");
    let store = format!("--session-store=shared:{}", file.display());
    let server = Server::start(Mode::Processes, &["--workers", "1", &store]);
    for _ in 0..50 {
        ask(server.address(), None);
    }
    server.stop();
    let opened = fs::OpenOptions::new().read(true).write(true).open(&file);
    let opened = opened.unwrap();
    let mut whole = vec![0; 1 << 20];
    opened.read_exact_at(&mut whole, 0).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap();
    // The first two pages say where everything is: they are as they were.
    let pages = &whole[8192..=end];
    let mut told = false;
    for with in [0x00, 0x5a, 0xff] {
        opened.write_all_at(&vec![with; pages.len()], 8192).unwrap();
        let output = output(command(&["--listen=127.0.0.1:0", &store]));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{with}: {errors}");
        // Or its tables cannot be found at all.
        let damaged = errors.contains("sessions: it is damaged; remove it");
        assert!(
            damaged || errors.contains("but no file of sessions"),
            "{errors}"
        );
        told |= damaged;
    }
    assert!(told);
    // Whole again, it is as it was.
    opened.write_all_at(pages, 8192).unwrap();
    let server = Server::start(Mode::Processes, &["--workers", "1", &store]);
    assert_eq!(visits(&ask(server.address(), None)).0, 1);
    server.stop();
}

#[test]
fn what_cannot_be_a_store_or_a_key_is_told_at_the_start() {
    let place = Directory::new();
    let path = |name: &str| place.file(name).display().to_string();
    fs::write(place.file("text"), "not a store\n").unwrap();
    fs::write(place.file("short"), "0123456789\n").unwrap();
    let shared = |name: &str| format!("--session-store=shared:{}", path(name));
    let key = format!("--session-key-file={}", path("short"));
    let no_key = format!("--session-key-file={}", path("nowhere"));
    let cases: [(&str, i32, &str); 7] = [
        (&shared("text"), 3, "text: it is no file of sessions"),
        (&shared("."), 3, "it is no file"),
        (&key, 3, "short: line 1: a key has 32 bytes at least"),
        (&no_key, 3, "nowhere: No such file"),
        ("--session-store=disk", 2, "is no session store"),
        ("--session-store=shared:", 2, "is no session store"),
        #[cfg(not(feature = "redis"))]
        ("--session-store=redis://x", 2, "without the feature redis"),
        #[cfg(feature = "redis")]
        ("--session-store=redis://x", 3, "need the same keys"),
    ];
    for (argument, status, words) in cases {
        for command_word in ["serve", "check"] {
            let output = output(command(&[command_word, "--listen=127.0.0.1:0", argument]));
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(status), "{argument}: {errors}");
            assert!(errors.contains(words), "{argument}: {errors}");
            assert!(output.stdout.is_empty());
        }
    }
    let nowhere = shared("no/where");
    let serve = output(command(&["--listen=127.0.0.1:0", &nowhere]));
    assert_eq!(serve.status.code(), Some(3));
    // Both at once: which is meant?
    let mut both = command(&["check", &key]);
    both.env("MCLUSTER_SESSION_KEY", KEY);
    assert_eq!(output(both).status.code(), Some(3));
    // To be checked is not to be made.
    let fine = output(command(&["check", &shared("fine")]));
    assert!(fine.status.success());
    let names = fs::read_dir(place.file(".")).unwrap().count();
    assert_eq!(names, 2, "nothing was made");
}
