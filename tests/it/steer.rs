//! The commands that look at a running cluster and change it, against a control server of these
//! tests' own: what they ask for, what they print, and how they end. The real server answers in
//! tests of its own.

use crate::support::{Directory, command, output};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const STATUS: &str = r#"{"schema":1,"name":"shop","version":"0.1.0","mode":"processes","schedule":"rr","pid":100,"uptime_s":12.5,"listeners":["http://127.0.0.1:3000"],"wanted":1,"workers":[{"id":7,"pid":107,"state":"listening","uptime_s":10,"requests":500,"new":1}]}"#;

/// Variables, flags, and what the answer names.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);

/// A control server that answers each request line with what it is told to, and closes.
struct Fake {
    path: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn at(path: PathBuf, answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let (lines, ending) = (asked.clone(), ends.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                let mut stream = BufReader::new(stream.unwrap());
                let head: Vec<String> = (&mut stream)
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let line = head.first().cloned().unwrap_or_default();
                let answer = answer(&line);
                lines.lock().unwrap().push(line);
                // Who has heard enough may be gone.
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        });
        Self {
            path,
            asked,
            ends,
            thread: Some(thread),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn response(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Word\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A runtime directory of its own, and the socket of the cluster `name` in it.
fn place(name: &str) -> (Directory, PathBuf) {
    let directory = Directory::new();
    fs::create_dir(directory.file("mcluster")).unwrap();
    let path = directory.file("mcluster").join(format!("{name}.sock"));
    (directory, path)
}

fn within(directory: &Directory, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("XDG_RUNTIME_DIR", directory.file("."));
    command
}

/// How a command ended: its status, what it printed, what it said on stderr.
#[track_caller]
fn ran(command: Command) -> (i32, String, String) {
    let output = output(command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

const ALL: [&[&str]; 9] = [
    &["status"],
    &["top"],
    &["scale", "2"],
    &["reload"],
    &["restart"],
    &["stop"],
    &["schedule", "shared"],
    &["kill", "1"],
    &["events"],
];

#[test]
fn who_is_not_there_cannot_be_reached() {
    let (directory, path) = place("mcluster");
    for arguments in ALL {
        let (status, out, log) = ran(within(&directory, arguments));
        assert_eq!((status, out.as_str()), (6, ""), "{arguments:?}: {log}");
        assert!(log.starts_with("mcluster: cannot reach the cluster \"mcluster\" at "));
        assert!(log.contains("mcluster.sock: No such file"), "{log}");
        assert!(log.ends_with("(is it running?)\n"), "{log}");
    }
    // Left behind by a dead process; and no socket at all.
    drop(UnixListener::bind(&path).unwrap());
    let (status, _, log) = ran(within(&directory, &["status", "--json"]));
    assert!(status == 6 && log.contains("Connection refused"), "{log}");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "hello").unwrap();
    assert_eq!(ran(within(&directory, &["stop"])).0, 6);
}

#[test]
fn the_cluster_is_found_by_flag_and_by_variable() {
    let (directory, _) = place("mcluster");
    let elsewhere = directory.file("elsewhere.sock");
    let elsewhere = elsewhere.to_str().unwrap();
    let cases: [Case<'_>; 7] = [
        (&[], &["--name", "shop"], "\"shop\""),
        (&[("MCLUSTER_NAME", "shop")], &[], "mcluster/shop.sock"),
        (
            &[("MCLUSTER_NAME", "shop")],
            &["--name", "a"],
            "mcluster/a.sock",
        ),
        (&[("MCLUSTER_NAME", "")], &[], "mcluster/mcluster.sock"),
        (&[], &["--control", elsewhere], elsewhere),
        (
            &[("MCLUSTER_CONTROL", elsewhere)],
            &["--name", "a"],
            "mcluster/a.sock",
        ),
        (
            &[("MCLUSTER_CONTROL", elsewhere), ("MCLUSTER_NAME", "shop")],
            &["a"],
            "mcluster/a.sock",
        ),
    ];
    for (variables, arguments, words) in cases {
        let mut all = vec!["reload"];
        all.extend(arguments);
        let mut command = within(&directory, &all);
        command.envs(variables.iter().copied());
        let (status, _, log) = ran(command);
        assert_eq!(status, 6, "{log}");
        assert!(log.contains(words), "no {words} in {log}");
    }
}

#[test]
fn nonsense_is_refused_before_anybody_is_asked() {
    let (directory, path) = place("mcluster");
    let server = Fake::at(path, |_| String::new());
    let cases: [(&[&str], &str); 19] = [
        (&["stop", "a", "--name", "b"], "both say"),
        (&["stop", "a", "--control", "b"], "both say"),
        (&["scale", "a", "2", "--name", "b"], "both say"),
        (&["top", "--name", "a", "--control", "b"], "both say"),
        (&["scale"], "<N>"),
        (&["scale", "0"], "1..=1024"),
        (&["scale", "1025"], "1..=1024"),
        (&["scale", "many"], "many"),
        (&["kill"], "<ID>"),
        (&["kill", "0"], "0"),
        (&["kill", "x"], "x"),
        (&["kill", "1", "--signal", "NOPE"], "NOPE"),
        (&["schedule", "fair"], "fair"),
        (&["schedule"], "<POLICY>"),
        (&["status", "--name", "../a"], "begins with a dot"),
        (&["status", "--name", "a/b"], "a/b"),
        (&["status", "--control", "off"], "cannot be steered"),
        (&["top", "--interval", "0s"], "0"),
        (&["list", "--name", "a"], "--name"),
    ];
    for (arguments, words) in cases {
        let (status, out, log) = ran(within(&directory, arguments));
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {log}");
        assert!(log.contains(words), "{arguments:?}: no {words:?} in {log}");
    }
    assert!(server.asked().is_empty());
}

#[test]
fn the_workers_as_a_table_and_as_json() {
    let (directory, path) = place("shop");
    let server = Fake::at(path, |_| response(200, STATUS));
    let (status, out, log) = ran(within(&directory, &["status", "--name", "shop"]));
    assert_eq!((status, log.as_str()), (0, ""));
    let lines: Vec<_> = out.lines().collect();
    let head = "shop 0.1.0 (pid 100): 1 workers as processes, schedule rr, up 12s, \
                on http://127.0.0.1:3000";
    assert_eq!(lines[0], head);
    assert!(lines[1].starts_with("ID  PID  STATE"), "{out}");
    let words: Vec<_> = lines[2].split_whitespace().take(6).collect();
    assert_eq!(words, ["7", "107", "listening", "10s", "50", "500"]);
    assert_eq!(lines.len(), 3);
    let (status, out, _) = ran(within(&directory, &["status", "--json", "--name", "shop"]));
    assert_eq!((status, out), (0, format!("{STATUS}\n")));
    assert_eq!(server.asked(), ["GET /status HTTP/1.1"; 2]);
}

#[test]
fn the_table_again_and_again() {
    let (directory, path) = place("mcluster");
    let server = Fake::at(path, |_| response(200, STATUS));
    let mut command = within(&directory, &["top", "--interval", "5ms"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Vec<_> = lines.by_ref().take(3).map(Result::unwrap).collect();
    assert_eq!(lines.next().unwrap().unwrap(), "");
    let second: Vec<_> = lines.by_ref().take(3).map(Result::unwrap).collect();
    assert_eq!(first[0], second[0]);
    assert!(!first.concat().contains('\x1b'));
    // Nobody reads on: it ends by itself.
    drop(lines);
    assert!(child.wait().unwrap().success());
    assert!(server.asked().len() >= 2);
}

#[test]
fn each_wish_waits_for_its_outcome_and_says_it() {
    let (directory, path) = place("mcluster");
    let server = Fake::at(path, |line| match line {
        line if line.contains("workers=3 ") => response(
            409,
            r#"{"outcome":"refused","what":"a reload is under way"}"#,
        ),
        line if line.contains("workers=4 ") => {
            response(500, r#"{"outcome":"failed","what":"worker 9 died"}"#)
        }
        line if line.contains("workers=5 ") => {
            response(400, r#"{"outcome":"refused","what":"5 is too many"}"#)
        }
        line if line.contains("/workers/6/") => response(
            404,
            r#"{"outcome":"refused","what":"there is no worker 6"}"#,
        ),
        _ => response(200, r#"{"outcome":"done","what":"it is so"}"#),
    });
    let done: [(&[&str], &str); 8] = [
        (&["scale", "2"], "/scale?workers=2"),
        (&["reload"], "/reload"),
        (&["restart"], "/restart"),
        (&["stop"], "/stop"),
        (&["schedule", "shared"], "/schedule?policy=shared"),
        (&["kill", "1"], "/workers/1/kill?signal=TERM"),
        (
            &["kill", "1", "--signal", "sigkill"],
            "/workers/1/kill?signal=KILL",
        ),
        (
            &["kill", "--signal", "1", "12"],
            "/workers/12/kill?signal=HUP",
        ),
    ];
    for (arguments, target) in done {
        let (status, out, log) = ran(within(&directory, arguments));
        assert_eq!((status, out.as_str(), log.as_str()), (0, "it is so\n", ""));
        assert_eq!(server.asked(), [format!("POST {target} HTTP/1.1")]);
    }
    let not: [(&[&str], i32, &str); 4] = [
        (&["scale", "3"], 8, "mcluster: a reload is under way\n"),
        (&["scale", "4"], 8, "mcluster: worker 9 died\n"),
        (&["scale", "5"], 2, "mcluster: 5 is too many\n"),
        (&["kill", "6"], 1, "mcluster: kill: there is no worker 6\n"),
    ];
    for (arguments, expected, words) in not {
        let (status, out, log) = ran(within(&directory, arguments));
        assert_eq!((status, out.as_str(), log.as_str()), (expected, "", words));
    }
    let (status, out, _) = ran(within(&directory, &["scale", "3", "--json"]));
    let body = "{\"outcome\":\"refused\",\"what\":\"a reload is under way\"}\n";
    assert_eq!((status, out.as_str()), (8, body));
}

#[test]
fn what_happens_a_line_each_until_the_cluster_ends() {
    let (directory, path) = place("mcluster");
    let stream = ": here\n\nevent: online\ndata: {\"worker\":3,\"pid\":103}\n\n\
                  event: exit\ndata: {\"worker\":1,\"pid\":101,\"how\":\"signal 9 (SIGKILL)\"}\n\n";
    let size = stream.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{head}{size:x}\r\n{stream}\r\n");
    // In good order; within a chunk.
    for end in ["0\r\n\r\n", "5\r\nev"] {
        let answer = format!("{chunk}{end}");
        let server = Fake::at(path.clone(), move |_| answer.clone());
        let (status, out, log) = ran(within(&directory, &["events"]));
        let words = "worker 3 is online (pid 103)\nworker 1 (pid 101) died: signal 9 (SIGKILL)\n";
        assert_eq!((status, out.as_str(), log.as_str()), (0, words, ""));
        let (status, out, _) = ran(within(&directory, &["events", "--json"]));
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(status, 0);
        assert_eq!(lines[0], r#"{"event":"online","pid":103,"worker":3}"#);
        assert!(lines[1].starts_with("{\"event\":\"exit\","), "{out}");
        assert_eq!(server.asked(), ["GET /events HTTP/1.1"; 2]);
        drop(server);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_a_failure() {
    let (directory, path) = place("mcluster");
    let answers = [
        String::new(),
        "garbage\r\n\r\n".to_owned(),
        response(200, "hello"),
        response(200, &STATUS.replace("\"schema\":1", "\"schema\":2")),
        response(503, ""),
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}".to_owned(),
    ];
    for answer in answers {
        let said = answer.clone();
        let server = Fake::at(path.clone(), move |_| said.clone());
        let (status, out, log) = ran(within(&directory, &["status"]));
        assert_eq!((status, out.as_str()), (1, ""), "{answer:?}: {log}");
        assert!(log.starts_with("mcluster: the control socket: "), "{log}");
        drop(server);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn every_cluster_of_this_user() {
    let nowhere = Directory::new();
    let (status, out, log) = ran(within(&nowhere, &["list", "--json"]));
    assert_eq!((status, out.as_str(), log.as_str()), (0, "[]\n", ""));
    let (directory, path) = place("shop");
    let server = Fake::at(path.clone(), |_| response(200, STATUS));
    let stale = path.with_file_name("old.sock");
    drop(UnixListener::bind(&stale).unwrap());
    fs::write(path.with_file_name("notes.txt"), "").unwrap();
    let (status, out, log) = ran(within(&directory, &["list"]));
    assert_eq!((status, log.as_str()), (0, ""));
    let rows: Vec<Vec<_>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{out}");
    assert_eq!(rows[0][0], "NAME");
    assert_eq!(rows[1][..6], ["old", "-", "-", "-", "-", "stale:"]);
    let row = [
        "shop",
        "100",
        "1",
        "processes",
        "12s",
        "http://127.0.0.1:3000",
    ];
    assert_eq!(rows[2], row);
    assert!(Path::new(&stale).exists(), "looking removes nothing");
    let (_, out, _) = ran(within(&directory, &["list", "--json"]));
    for words in [
        r#""name":"old""#,
        r#""stale":true"#,
        r#""name":"shop""#,
        r#""stale":false"#,
        r#""pid":100"#,
    ] {
        assert!(out.contains(words), "no {words} in {out}");
    }
    assert_eq!(server.asked(), ["GET /status HTTP/1.1"; 2]);
}
