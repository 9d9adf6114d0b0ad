//! Scenes of the path of a request whose instructions `benches/instructions.sh` counts under callgrind.
//!
//! `SCENE COUNT` plays a scene COUNT times; without words the names of all scenes are printed, each with the
//! requests (or connections) of one time. What is counted happens inside of `counted_step`; that a scene is
//! played some times before, so that nothing in it happens for the first time, and all that clients do, is not.

mod heads;

use heads::{BROWSER, PLAIN, in_turns};
use mcluster::http::{Head, HeadLimits, Parsed};
use mcluster::internals::{Border, Encoder, Loop, Routing};
use mcluster::{App, Files, Request, Response};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nConnection: close\r\n\r\n";

const FILE: &[u8] = b"GET /page.html HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\r\n";

/// How often a scene is played before it is counted.
const BEFORE: usize = 100;

type Outcome = io::Result<()>;

/// A name, the requests or connections of one time, and what plays it so many times.
type Scene = (&'static str, usize, fn(usize) -> Outcome);

/// The first is what the others are compared with where the recorded figures are another compiler's.
const SCENES: [Scene; 16] = [
    ("reference", 1, reference),
    ("parse-plain", 1, |times| parse(times, PLAIN)),
    ("parse-browser", 1, |times| parse(times, BROWSER)),
    ("route-plain", 1, |times| route(times, PLAIN)),
    ("route-parameters", 1, |times| route(times, BROWSER)),
    ("encode-head", 1, encode),
    ("idle-turn", 1, idle_turn),
    ("keep-alive", 1, |times| {
        keep_alive(times, app(), &in_turns(PLAIN), 1)
    }),
    ("keep-alive-repeated", 1, |times| {
        keep_alive(times, app(), &[PLAIN.to_vec()], 1)
    }),
    ("keep-alive-browser", 1, |times| {
        keep_alive(times, app(), &in_turns(BROWSER), 1)
    }),
    ("pipelined", 16, |times| {
        let all = in_turns(PLAIN).concat().repeat(8);
        keep_alive(times, app(), &[all], 16)
    }),
    ("pipelined-repeated", 16, |times| {
        keep_alive(times, app(), &[PLAIN.repeat(16)], 16)
    }),
    ("new-connection", 1, new_connection),
    ("file", 1, file),
    ("hand-over-1", 1, |times| hand_over(times, 1)),
    ("hand-over-64", 64, |times| hand_over(times, 64)),
];

fn main() -> Outcome {
    // cargo adds a word of its own.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<_> = words.collect();
    let Some(name) = words.first() else {
        for (name, of_one, _) in SCENES {
            println!("{name} {of_one}");
        }
        return Ok(());
    };
    let scene = SCENES.iter().find(|(known, ..)| known == name);
    let times = words.get(1).and_then(|count| count.parse().ok());
    match (scene, times) {
        (Some((.., play)), Some(times)) => play(times),
        _ => Err(io::Error::other("expected SCENE COUNT")),
    }
}

/// What is counted: callgrind knows it by its name, so it must have one of its own.
#[inline(never)]
fn counted_step<T>(step: impl FnOnce() -> T) -> T {
    step()
}

/// Plays `step` some times uncounted, then `times` counted. Both by the same code.
fn play(times: usize, mut step: impl FnMut(bool) -> Outcome) -> Outcome {
    (0..BEFORE).try_for_each(|_| step(false))?;
    (0..times).try_for_each(|_| step(true))
}

fn count<T>(counted: bool, step: impl FnOnce() -> T) -> T {
    match counted {
        true => counted_step(step),
        false => step(),
    }
}

fn ensure(right: bool, what: &str) -> Outcome {
    match right {
        true => Ok(()),
        false => Err(io::Error::other(what)),
    }
}

/// As many routes as a small application has.
fn app() -> App {
    let article = |request: Request| {
        black_box(request.param("slug").map(|slug| slug.len()));
        "hello\n"
    };
    App::new()
        .get("/", |_| "hello\n")
        .get("/health", |_| "well\n")
        .get("/users", |_| "all\n")
        .post("/users", |_| "made\n")
        .get("/users/{id}", |_| "one\n")
        .get("/users/{id}/articles", |_| "some\n")
        .get("/articles/{year}/{month}/{slug}", article)
        .get("/assets/{*path}", |_| "file\n")
}

fn reference(times: usize) -> Outcome {
    play(times, |counted| {
        let right = count(counted, || {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(black_box(BROWSER));
            matches!(black_box(parsed), Ok(httparse::Status::Complete(_)))
        });
        ensure(right, "not parsed")
    })
}

fn parse(times: usize, head: &[u8]) -> Outcome {
    let limits = HeadLimits::default();
    let mut parsed = Head::new();
    let [one, other] = in_turns(head);
    let mut heads = [one, other].into_iter().cycle();
    play(times, |counted| {
        let head = heads.next().unwrap_or_default();
        let outcome = count(counted, || parsed.parse(black_box(&head), &limits));
        let whole = Ok(Parsed::Complete(head.len()));
        ensure(outcome == whole, "not parsed")
    })
}

fn route(times: usize, head: &[u8]) -> Outcome {
    let mut routing = Routing::new(app(), head)?;
    play(times, |counted| {
        let status = count(counted, || routing.call());
        ensure(status == Some(200), "not found")
    })
}

fn encode(times: usize) -> Outcome {
    let encoder = Encoder::new(PLAIN, Response::text("hello\n"));
    let mut encoder = encoder.map_err(|error| io::Error::other(error.what()))?;
    play(times, |counted| {
        let length = count(counted, || encoder.encode());
        ensure(length > 0, "not encoded")
    })
}

/// A turn in which nothing has happened, beside a connection that is at rest.
fn idle_turn(times: usize) -> Outcome {
    let mut turning = Loop::new(app())?;
    let mut client = turning.connect()?;
    client.write_all(PLAIN)?;
    exchange(&mut turning, &mut client, false, 1, &mut [0; 4096])?;
    play(times, |counted| count(counted, || turning.look()))
}

/// Turns until `client` has read `answers` answers; the turns are counted.
fn exchange(
    turning: &mut Loop,
    client: &mut TcpStream,
    counted: bool,
    answers: usize,
    buffer: &mut [u8],
) -> Outcome {
    let mut missing = answers;
    while missing > 0 {
        count(counted, || turning.turn())?;
        match client.read(buffer) {
            Ok(0) => return ensure(false, "closed"),
            Ok(read) => {
                let starts = buffer[..read].windows(13);
                let good = starts.filter(|start| start == b"HTTP/1.1 200 ").count();
                missing = missing.saturating_sub(good);
                ensure(good > 0, "no answer")?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends each of `requests` in turns.
fn keep_alive(times: usize, app: App, requests: &[Vec<u8>], answers: usize) -> Outcome {
    let mut turning = Loop::new(app)?;
    let mut client = turning.connect()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut requests = requests.iter().cycle();
    play(times, |counted| {
        client.write_all(requests.next().map_or(&[], Vec::as_slice))?;
        exchange(&mut turning, &mut client, counted, answers, &mut buffer)
    })
}

/// A connection that the server accepts and that is closed behind its only answer.
fn new_connection(times: usize) -> Outcome {
    let mut turning = Loop::new(app())?;
    let mut buffer = vec![0; 4096];
    let heads = in_turns(CLOSE);
    let mut heads = heads.iter().cycle();
    play(times, |counted| {
        let mut client = turning.connect()?;
        client.write_all(heads.next().map_or(&[], Vec::as_slice))?;
        exchange(&mut turning, &mut client, counted, 1, &mut buffer)
    })
}

/// A directory with one page, removed in the end.
struct Site(PathBuf);

impl Site {
    fn new() -> io::Result<Self> {
        let name = format!("mcluster-instructions-{:010}", std::process::id());
        let site = Self(std::env::temp_dir().join(name));
        std::fs::create_dir(&site.0)?;
        std::fs::write(site.0.join("page.html"), [b'x'; 1024])?;
        Ok(site)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of 1 KiB that is open already.
fn file(times: usize) -> Outcome {
    let site = Site::new()?;
    let app = App::new().files("/", Files::new(&site.0)?);
    keep_alive(times, app, &in_turns(FILE), 1)
}

/// Connections from a primary to a worker in one message: what both do.
fn hand_over(times: usize, connections: usize) -> Outcome {
    let mut border = Border::new()?;
    play(times, |counted| {
        let arrived = count(counted, || border.hand_over(connections))?;
        ensure(arrived == connections, "lost")
    })
}
