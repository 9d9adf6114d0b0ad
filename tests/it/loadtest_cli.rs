//! `mcluster loadtest` as a command: what it prints where, its exit status, its files, its signals.
//!
//! The servers are a few lines here, so that what is tested is the command alone.

use crate::support::{Ended, Server, command, run};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

/// A server that answers each request by the same octets, for as long as the test runs. What it
/// answers none to it keeps open.
struct Answers {
    address: SocketAddr,
    /// A word for each request that came.
    came: mpsc::Receiver<()>,
}

impl Answers {
    fn with(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (says, came) = mpsc::channel();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), says) = (client, says.clone()) else {
                    return;
                };
                thread::spawn(move || serve(client, answer, &says));
            }
        });
        Self { address, came }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

fn serve(mut client: TcpStream, answer: &str, says: &mpsc::Sender<()>) {
    let (mut buffer, mut head) = ([0; 4096], Vec::new());
    while let Ok(1..) = client.read(&mut buffer[..1]) {
        head.push(buffer[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            // Whoever counts may have seen enough.
            let _ = says.send(());
            if client.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Worker: 7\r\n\r\nhi";
const BROKEN: &str = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";
const SILENT: &str = "";

#[track_caller]
fn loadtest(words: &str) -> Ended {
    let words: Vec<_> = ["loadtest"]
        .into_iter()
        .chain(words.split_whitespace())
        .collect();
    run(command(&words))
}

/// Runs it, and has it exit with `status`.
#[track_caller]
fn ends(words: &str, status: i32) -> Ended {
    let ended = loadtest(words);
    let said = ended.log.join("\n");
    assert_eq!(ended.status.code(), Some(status), "{words}: {said}");
    ended
}

#[test]
fn nonsense_is_a_usage_error() {
    let cases = [
        ("", "URL"),
        ("http://a/ http://b/", "http://b/"),
        ("http://a/ -n 0", "from 1 to"),
        ("http://a/ -t -1", "above 0"),
        ("http://a/ --rps NaN", "no rate"),
        ("http://a/ -p body.js", "is a program"),
        ("http://a/ -p /nowhere/at-all", "/nowhere/at-all"),
        (
            "http://a/ --html /nowhere/at/all.html",
            "/nowhere/at/all.html",
        ),
        ("http://a/ --insecure", "--insecure"),
        ("ftp://a/", "ftp://a/"),
        ("https://a/", "TLS"),
    ];
    for (words, expected) in cases {
        let ended = ends(words, 2);
        let said = ended.log.join("\n");
        assert!(
            ended.out.is_empty() && said.contains(expected),
            "{words}: {said}"
        );
    }
}

#[test]
fn a_run_in_text() {
    let server = Answers::with(FINE);
    let ended = ends(&format!("{} -n 20 -c 2 -k", server.url()), 0);
    assert!(ended.log.is_empty(), "{:?}", ended.log);
    let url = format!("Target URL:          {}", server.url());
    for expected in [
        &url,
        "Max requests:        20",
        "Concurrent clients:  2",
        "Agent:               keepalive",
        "Completed requests:  20",
        "Total errors:        0",
        "Percentage of requests served within a certain time",
        "Fairness (Jain):     1.000",
    ] {
        let found = ended.out.iter().any(|line| line == expected);
        assert!(found, "{expected}\nin\n{}", ended.out.join("\n"));
    }
    assert_eq!(server.came.try_iter().count(), 20);
}

#[test]
fn a_run_in_json_csv_and_html() {
    let server = Answers::with(FINE);
    let page = std::env::temp_dir().join(format!("mcluster-loadtest-{}.html", std::process::id()));
    let words = format!(
        "-n 20 -k --json --quiet --html {} --max-p99 1h --min-rps 0.01 {}",
        page.display(),
        server.url()
    );
    let ended = ends(&words, 0);
    let json: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    assert_eq!(
        (&json["completed"], &json["total_errors"]),
        (&20.into(), &0.into())
    );
    assert_eq!(json["statuses"]["200"], 20);
    assert_eq!(json["workers"][0]["requests"], 20);
    assert_eq!(json["thresholds"][0]["ok"], true);
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    assert!(html.starts_with("<!") && html.trim_end().ends_with("</html>"));

    let ended = ends(&format!("-n 20 -k --csv {}", server.url()), 0);
    assert!(
        ended.out[0].starts_with("at_s,length_s,answers"),
        "{:?}",
        ended.out
    );
    let answers = ended.out[1..].iter().map(|line| line.split(',').nth(2));
    let answers: u64 = answers
        .map(|cell| cell.unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(answers, 20);
}

#[test]
fn a_full_disk_does_not_cost_the_page() {
    let server = Answers::with(FINE);
    let page = std::env::temp_dir().join(format!("mcluster-full-{}.html", std::process::id()));
    let words = format!("loadtest -n 5 --html {} {}", page.display(), server.url());
    let words: Vec<_> = words.split_whitespace().collect();
    let full = std::fs::File::options().write(true).open("/dev/full");
    let ended = command(&words).stdout(full.unwrap()).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("stdout") && said.lines().count() == 1,
        "{said}"
    );
    assert!(std::fs::read_to_string(&page).unwrap().contains("</html>"));
    std::fs::remove_file(&page).unwrap();
}

#[test]
fn what_nobody_answered_has_no_latency() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let words = format!("-n 5 --max-p99 1h http://{}/", nobody.unwrap());
    let ended = ends(&format!("{words} --csv"), 7);
    let row: Vec<_> = ended.out[1].split(',').collect();
    assert_eq!(row[2..], ["0", "5", "", "", ""], "{:?}", ended.out);

    let ended = ends(&format!("{words} --json"), 7);
    let json: Value = serde_json::from_str(&ended.out.join("\n")).unwrap();
    let stretch = &json["timeline"][0];
    for none in [&stretch["p50_us"], &stretch["p99_us"], &stretch["max_us"]] {
        assert!(none.is_null(), "{stretch}");
    }
    assert!(json["latency_us"]["p50"].is_null() && json["latency_us"]["count"] == 0);
    let threshold = &json["thresholds"][0];
    assert!(
        threshold["got"].is_null() && threshold["ok"] == false,
        "{threshold}"
    );

    let ended = ends(&words, 7);
    let missed = "missed: max-p99: wanted at most 3600000.000 ms, got nothing";
    let said = ended.log.join("\n");
    assert!(
        said.contains(missed) && said.contains("none of 5 requests was answered"),
        "{said}"
    );
    assert_eq!(ended.log.len(), 2, "a line each: {said}");
}

#[test]
fn the_exit_status_tells() {
    let (fine, broken) = (Answers::with(FINE), Answers::with(BROKEN));
    let (fine, broken) = (fine.url(), broken.url());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let closed = format!("http://{}/", nobody.unwrap());
    let cases = [
        (&fine, "", 0, ""),
        (&fine, "--min-rps 9999999", 7, "min-rps: wanted at least"),
        (&fine, "--max-p99 1us", 7, "max-p99: wanted at most"),
        (&broken, "", 1, "5 of 5 requests failed"),
        (
            &broken,
            "--max-errors 99.9",
            7,
            "max-errors: wanted at most",
        ),
        (&broken, "--max-errors 100", 0, ""),
        (
            &closed,
            "--max-errors 100",
            1,
            "none of 5 requests was answered: refused 5",
        ),
    ];
    for (url, words, status, expected) in cases {
        let ended = ends(&format!("{url} -n 5 --quiet {words}"), status);
        let said = ended.log.join("\n");
        assert!(ended.out.is_empty(), "{words}: {:?}", ended.out);
        assert!(said.contains(expected), "{words}: {said}");
        assert_eq!(said.is_empty(), expected.is_empty(), "{words}: {said}");
    }
    let both = ends(&format!("{fine} -n 5 --min-rps 9999999 --max-p99 1us"), 7);
    assert_eq!(both.log.len(), 2, "a line each: {:?}", both.log);
}

#[test]
fn the_first_signal_ends_the_run() {
    let server = Answers::with(FINE);
    let running = Server::launch(command(&["loadtest", "-t", "1h", "-k", &server.url()]));
    server.came.recv().unwrap();
    running.signal(Signal::SIGINT);
    let ended = running.ended();
    assert_eq!(ended.status.code(), Some(0), "{:?}", ended.log);
    let out = ended.out.join("\n");
    assert!(out.contains("Total errors:        0"), "{out}");
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let server = Answers::with(SILENT);
    let running = Server::launch(command(&["loadtest", "-t", "1h", "-c", "1", &server.url()]));
    server.came.recv().unwrap();
    running.signal(Signal::SIGINT);
    running.signal(Signal::SIGTERM);
    let ended = running.ended();
    assert_eq!(ended.status.code(), Some(1), "{:?}", ended.log);
    assert!(ended.out.is_empty(), "{:?}", ended.out);
    assert!(
        ended.log.join("\n").contains("second signal"),
        "{:?}",
        ended.log
    );
}
