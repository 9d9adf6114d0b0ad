//! What programs write: where it comes out, what is kept of it, and that nobody has to read it.

use crate::PROGRAM;
use crate::harness::Tests;
use crate::run::{Mode, PATIENCE, Run};
use nix::sys::signal::Signal;
use nix::sys::stat;
use nix::unistd::mkfifo;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Writes each line that comes to the fifo to stdout, or to stderr what begins with `!`.
const ECHO: &str = r#"exec 4<>"$PLACE/fifo"
echo begun
while read -r line <&4; do
    case $line in
    !*) echo "$line" >&2 ;;
    *) echo "$line" ;;
    esac
done"#;

/// A directory of its own, removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str, script: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcluster-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("script"), script).unwrap();
        mkfifo(&path.join("fifo"), stat::Mode::S_IRWXU).unwrap();
        Self(path)
    }

    fn start(&self, to: &str) -> Run {
        Run::start("outputs", Mode::Processes, &[self.0.to_str().unwrap(), to])
    }

    /// Has the script write lines.
    fn write(&self, lines: &str) {
        let mut fifo = File::options()
            .write(true)
            .open(self.0.join("fifo"))
            .unwrap();
        fifo.write_all(lines.as_bytes()).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Waits until a file holds `text`.
    #[track_caller]
    fn until(&self, name: &str, text: &str) {
        wait(name, || self.read(name) == text);
    }

    /// What `GET /logs` answers.
    fn ask(&self, query: &str) -> impl Read + use<> {
        ask(&self.0.join("sock"), query)
    }

    fn logs(&self, query: &str) -> String {
        let mut text = String::new();
        self.ask(query).read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for what is written elsewhere: files do not say when they change.
#[track_caller]
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what} is not as it should be");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ask(socket: &Path, query: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET /logs{query} HTTP/1.0\r\nHost: mcluster\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn lines_have_their_worker_before_them() {
    let script = "echo out; echo 'oh no' >&2; printf last; kill -9 $$";
    let place = Place::new("crash", script);
    let run = place.start("stderr");
    for id in [1, 2] {
        for line in ["out", "oh no", "last"] {
            assert_eq!(
                run.log_line(&format!("{id}| {line}")),
                format!("{id}| {line}")
            );
        }
    }
    // The last words come before their worker's end.
    run.log_line("worker 1 (pid");
    let died = |line: &String| line.contains("worker 1 (") && line.contains("died");
    wait("the log", || run.logged().iter().any(died));
    let all = run.logged();
    let of = |line: &str| all.iter().position(|one| one == line).unwrap();
    let end = all.iter().position(died).unwrap();
    assert!(
        of("1| out") < end && of("1| oh no") < end && of("1| last") < end,
        "{all:#?}"
    );
}

fn files_are_opened_again_and_lines_are_followed() {
    let place = Place::new("files", ECHO);
    let mut run = place.start("files");
    place.until("out", "1| begun\n");
    let mut followed = BufReader::new(place.ask("?lines=0&follow=1"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        followed.read_line(&mut head).unwrap();
    }
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/plain\r\n"),
        "{head}"
    );
    place.write("one\n!oh\n");
    place.until("out", "1| begun\n1| one\n");
    place.until("error", "1| !oh\n");
    fs::rename(place.0.join("out"), place.0.join("moved")).unwrap();
    run.signal(Signal::SIGUSR1);
    run.log_line("out is open again");
    run.log_line("error is open again");
    place.write("two\n");
    place.until("out", "1| two\n");
    assert_eq!(place.read("moved"), "1| begun\n1| one\n");
    assert!(place.logs("?lines=2").ends_with("\r\n\r\n1| !oh\n1| two\n"));
    assert!(place.logs("?worker=9").ends_with("\r\n\r\n"));
    assert!(place.logs("?lines=x").starts_with("HTTP/1.1 400"));
    // The command is there where it is built.
    if let Some(command) = option_env!("CARGO_BIN_EXE_mcluster") {
        let logs = |words: &[&str]| {
            let mut logs = Command::new(command);
            logs.arg("logs").arg("--control").arg(place.0.join("sock"));
            logs.args(words).stdout(Stdio::piped()).spawn().unwrap()
        };
        let told = logs(&["-n", "1"]).wait_with_output().unwrap();
        assert_eq!(
            (told.status.code(), &told.stdout[..]),
            (Some(0), &b"1| two\n"[..])
        );
        let mut following = logs(&["-f", "--lines", "2", "--worker", "1"]);
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        for line in ["1| !oh", "1| two"] {
            assert_eq!(lines.next().unwrap().unwrap(), line);
        }
        place.write("three\n");
        assert_eq!(lines.next().unwrap().unwrap(), "1| three");
        run.signal(Signal::SIGTERM);
        assert!(lines.next().is_none());
        assert_eq!(following.wait().unwrap().code(), Some(0));
        run.end();
    } else {
        place.write("three\n");
        place.until("out", "1| two\n1| three\n");
        run.stop();
    }
    let mut rest = String::new();
    followed.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "1| one\n1| !oh\n1| two\n1| three\n");
}

fn files_are_rotated() {
    let place = Place::new("rotated", ECHO);
    let run = place.start("rotated");
    place.until("log", "begun\n");
    for line in [
        "0123456789\n",
        "!123456789\n",
        "abc\n",
        "0123456789012345678\n",
        "d\n",
    ] {
        place.write(line);
        // What comes through two pipes has no order but that.
        wait("log", || place.read("log").ends_with(line));
    }
    assert_eq!(place.read("log"), "d\n");
    assert_eq!(place.read("log.1"), "0123456789012345678\n");
    assert_eq!(place.read("log.2"), "!123456789\nabc\n");
    assert!(!place.0.join("log.3").exists());
    // Whoever asks is told whose they were.
    assert!(place.logs("").ends_with("1| d\n"));
    drop(run);
}

/// A cluster whose stderr nobody reads.
struct Stalled(Child);

impl Drop for Stalled {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nobody_has_to_read() {
    let place = Place::new(
        "stalled",
        "head -c 3000000 /dev/zero | tr '\\0' '\\n'; echo done; read x <\"$PLACE/fifo\"; echo bye",
    );
    let words = format!("outputs processes {} stalled", place.0.display());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PROGRAM, words).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut stalled = Stalled(command.spawn().unwrap());
    let socket = place.0.join("sock");
    wait("the control socket", || {
        socket.exists() && UnixStream::connect(&socket).is_ok()
    });
    // All is heard of the worker, though none of it gets out.
    wait("the last line", || {
        place.logs("?lines=1").ends_with("1| done\n")
    });
    let mut stderr = BufReader::new(stalled.0.stderr.take().unwrap());
    let (mut empty, mut lost, mut line) = (0, None, String::new());
    while lost.is_none() {
        line.clear();
        assert!(
            stderr.read_line(&mut line).unwrap() > 0,
            "a word about what is lost"
        );
        match line.strip_prefix("mcluster: ") {
            Some(word) => lost = word.split(' ').next().unwrap().parse::<u32>().ok(),
            None => empty += u32::from(line == "1| \n"),
        }
    }
    assert_eq!(
        empty + lost.unwrap(),
        3_000_001,
        "every line is written or counted"
    );
    place.write("go\n");
    line.clear();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "1| bye\n");
}

pub(crate) fn add(tests: &mut Tests) {
    let add = |tests: &mut Tests, name: &str, promise: fn()| {
        tests.add(&format!("outputs::{name}"), promise);
    };
    add(
        tests,
        "lines_have_their_worker_before_them",
        lines_have_their_worker_before_them,
    );
    add(
        tests,
        "files_are_opened_again_and_lines_are_followed",
        files_are_opened_again_and_lines_are_followed,
    );
    add(tests, "files_are_rotated", files_are_rotated);
    add(tests, "nobody_has_to_read", nobody_has_to_read);
}
