//! Servers that do well and badly, made of a shell's words.

use super::*;
use std::os::unix::process::ExitStatusExt;

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(60);

const SAYS: &str = "echo listening on http://127.0.0.1:1";

/// Starts a server quietly and waits, at most `patience`, until it says where it listens.
fn start(command: Command, patience: Duration) -> io::Result<Spawned> {
    let mut spawned = Spawned::launch(command, Voice::Quiet)?;
    match spawned.listens(patience)? {
        true => Ok(spawned),
        false => Err(spawned.too_slow(patience)),
    }
}

#[track_caller]
fn started(words: &str) -> Spawned {
    start(shell(words), LONG).unwrap()
}

#[track_caller]
fn refused(words: &str, patience: Duration) -> io::Error {
    start(shell(words), patience).unwrap_err()
}

#[track_caller]
fn soon(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "waited in vain");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn lines_however_they_come() {
    let text = b"one\n\ntwo\nrest";
    for piece in 1..=text.len() {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for bytes in text.chunks(piece) {
            lines.take(bytes, |line| found.push(line.to_vec()));
        }
        lines.rest(|line| found.push(line.to_vec()));
        assert_eq!(found, [&b"one"[..], b"", b"two", b"rest"], "{piece}");
    }
}

#[test]
fn a_line_without_end_costs_no_memory() {
    let (mut lines, mut found) = (Lines::default(), Vec::new());
    for _ in 0..1000 {
        lines.take(&[b'x'; 4096], |_| unreachable!());
    }
    assert!(lines.begun.capacity() <= 2 * LONGEST_LINE);
    lines.take(b"\ny\n", |line| found.push(line.len()));
    assert_eq!(found, [LONGEST_LINE, 1]);
}

#[test]
fn lines_that_say_where() {
    let cases = [
        (
            "listening on http://127.0.0.1:3000",
            Some("http://127.0.0.1:3000"),
        ),
        (
            "Server listening on http://[::1]:80 (pid 7)",
            Some("http://[::1]:80"),
        ),
        ("listening on unix:/run/a.sock", Some("unix:/run/a.sock")),
        (
            "\x1b[32mListening on \x1b[1;4mhttp://[::1]:80/a\x1b[0m.",
            Some("http://[::1]:80/a"),
        ),
        ("listening on 'http://a:1';", Some("http://a:1")),
        ("listening on <http://a:1>, pid 7", Some("http://a:1")),
        ("listening on \x1b[", None),
        ("listening on port 3000", None),
        ("listening on", None),
        ("listening on ", None),
        ("", None),
    ];
    for (line, expected) in cases {
        assert_eq!(url(line.as_bytes()).as_deref(), expected, "{line}");
    }
    assert_eq!(url(b"\xff listening on http://a/"), None);
}

#[test]
fn it_listens_and_is_stopped() {
    let words = format!("echo hello; {SAYS}; echo listening on http://127.0.0.1:2; exec sleep 600");
    let mut server = started(&words);
    soon(|| server.urls().len() == 2);
    assert_eq!(server.urls()[0], "http://127.0.0.1:1");
    assert_eq!(server.try_wait().unwrap(), None);
    assert!(server.has(server.pid()) && !server.has(process::pid()));
    assert_eq!(server.processes().unwrap(), [server.pid()]);
    let status = server.stop(LONG).unwrap();
    assert_eq!(status.signal(), Some(SIGTERM));
}

/// The shell ends by SIGTERM, and passes it on to nobody.
#[test]
fn those_that_outlive_the_first_are_asked_too() {
    let quit = "trap 'exit 7' TERM; while :; do sleep 0.01; done";
    let server = started(&format!("({SAYS}; {quit}) & wait"));
    let group = server.group();
    soon(|| server.processes().unwrap().len() >= 2);
    server.stop(LONG).unwrap();
    assert!(group::members(group).unwrap().is_empty());
}

#[test]
fn who_does_not_stop_is_killed() {
    let server = started(&format!(
        "trap '' TERM; {SAYS}; while :; do sleep 0.01; done"
    ));
    let group = server.group();
    let status = server.stop(Duration::from_millis(20)).unwrap();
    assert_eq!(status.signal(), Some(SIGKILL));
    assert!(group::members(group).unwrap().is_empty());
}

#[test]
fn dropped_it_leaves_nothing() {
    let server = started(&format!("sleep 600 & {SAYS}; sleep 600"));
    let group = server.group();
    soon(|| server.processes().unwrap().len() == 3);
    drop(server);
    assert!(group::members(group).unwrap().is_empty());
}

/// As when this process is killed: its end of the pipe is closed.
#[test]
fn it_ends_with_whoever_started_it() {
    let mut server = started(&format!("sleep 600 & {SAYS}; sleep 600"));
    drop(server.guard.stdin.take());
    soon(|| server.processes().unwrap().is_empty());
    let status = server.try_wait().unwrap().unwrap();
    assert_eq!(status.signal(), Some(SIGKILL));
}

#[test]
fn one_that_does_not_start() {
    let error = start(Command::new("/no/such/program"), LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = refused("echo trouble >&2; exit 3", LONG).to_string();
    assert!(
        error.starts_with("it ended before it listened (exit status: 3)"),
        "{error}"
    );
    assert!(error.ends_with("trouble"), "{error}");
    let error = refused("exec >&-; sleep 600", LONG).to_string();
    assert!(error.starts_with("it closed its stdout"), "{error}");
    let error = refused("sleep 600", Duration::from_millis(20));
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

/// Much more than a pipe takes, before and after it listens.
#[test]
fn it_is_never_held_up() {
    let much = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    let mut server = started(&format!("{much}; echo; {SAYS}; {much}; exit 5"));
    soon(|| server.try_wait().unwrap().is_some());
    assert_eq!(server.stop(LONG).unwrap().code(), Some(5));
}

/// Two listeners: the one that comes first cannot be asked.
#[test]
fn a_socket_first_is_no_failure() {
    let server = started(&format!(
        "echo listening on unix:/a; sleep 0.1; {SAYS}; exec sleep 600"
    ));
    assert_eq!(server.urls(), ["unix:/a", "http://127.0.0.1:1"]);
    let mut server = Spawned::launch(
        shell("echo listening on unix:/a; exec >&-; exec sleep 600"),
        Voice::Quiet,
    )
    .unwrap();
    soon(|| server.listens(LONG).unwrap());
    assert_eq!(server.urls(), ["unix:/a"]);
}

#[test]
fn who_has_had_enough_waits_no_longer() {
    let server = started(&format!(
        "trap '' TERM; {SAYS}; while :; do sleep 0.01; done"
    ));
    let start = Instant::now();
    let mut looks = 0;
    let status = server.stop_unless(LONG, || {
        looks += 1;
        looks == 2
    });
    assert_eq!(status.unwrap().signal(), Some(SIGKILL));
    assert!(start.elapsed() < LONG);
}

/// A server may send whatever it likes to its group.
#[test]
fn the_guard_outlives_what_can_be_ignored() {
    let mut guard = guard().unwrap();
    let pid = Pid::from_raw(guard.id() as i32);
    let not = [SIGKILL, 17, 19, 32, 33];
    for signal in (1..=64).filter(|signal| !not.contains(signal)) {
        process::kill(pid, signal).unwrap_or_else(|why| panic!("{signal}: {why}"));
    }
    drop(guard.stdin.take());
    assert_eq!(guard.wait().unwrap().signal(), Some(SIGKILL));
}

#[test]
fn what_it_says_is_passed_on() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let sink = Arc::new(move |line: &[u8]| ear.lock().unwrap().push(line.to_vec()));
    let words =
        format!("trap 'echo bye; exit' TERM; echo hello; {SAYS}; while :; do sleep 0.01; done");
    let mut server = Spawned::launch(shell(&words), Voice::Aloud(sink)).unwrap();
    soon(|| server.listens(LONG).unwrap());
    server.stop(LONG).unwrap();
    assert_eq!(*heard.lock().unwrap(), [&b"hello"[..], b"bye"]);
}
