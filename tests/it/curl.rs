//! curl against the binary: what it does with its switches for ranges, uploads and old versions,
//! and that it gets whole answers when a limit is met.
//!
//! What curl makes of single files is in `files`. Where there is no curl the tests say so and pass.

use crate::descriptors::{counts, settled};
use crate::support::{Directory, Server, both_modes, wait_until};
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// How curl ended.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    /// What it says with `-v`.
    pub(crate) said: String,
}

impl Done {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// That nothing failed, and this came.
    #[track_caller]
    fn is(&self, body: &[u8]) -> &Self {
        assert_eq!(self.code, 0, "{}", self.said);
        let lengths = (self.out.len(), body.len());
        assert!(self.out == body, "{lengths:?} bytes: {}", self.said);
        self
    }

    /// How often the server told it to go on with its body.
    fn told_to_go_on(&self) -> usize {
        self.said.matches("< HTTP/1.1 100 Continue").count()
    }
}

/// curl with these arguments, on a path, with this on its standard input; none where there is none.
pub(crate) fn curl(
    address: SocketAddr,
    path: &str,
    arguments: &[&str],
    input: &[u8],
) -> Option<Done> {
    let mut curl = Command::new("curl");
    // First, or else the configuration of whoever runs this counts.
    curl.args(["-q", "-sS", "--max-time", "60"]).args(arguments);
    curl.arg(format!("http://{address}{path}"));
    curl.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match curl.stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            // Past libtest, which would keep the line of a test that passes to itself.
            let line = format!("skipped: nothing is asked for by curl: {error}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
    };
    let mut pipe = child.stdin.take().unwrap();
    let done = thread::scope(|scope| {
        scope.spawn(move || match pipe.write_all(input) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
            // It need not take all of it.
            _ => {}
        });
        child.wait_with_output().unwrap()
    });
    Some(Done {
        code: done.status.code()?,
        out: done.stdout,
        said: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

/// Bytes of which no two stretches are alike, so that a mistake in a position shows.
fn bytes(count: u32) -> Vec<u8> {
    (0..count / 4).flat_map(u32::to_be_bytes).collect()
}

fn is_there(server: &Server) -> bool {
    curl(server.address(), "/", &[], b"").is_some()
}

fn at(path: &Path) -> String {
    format!("@{}", path.display())
}

both_modes! {
    fn a_download_that_was_cut_is_gone_on_with(mode) {
        let place = Directory::new();
        fs::create_dir(place.file("root")).unwrap();
        let whole = bytes(8 << 20);
        fs::write(place.file("root/big"), &whole).unwrap();
        let root = place.file("root");
        let server = Server::start(mode, &["-w1", "--root", root.to_str().unwrap()]);
        if is_there(&server) {
            curl(server.address(), "/big", &["-r", "0-0"], b"");
            let descriptors = settled(&server, mode, 1);
            let ask = |more: &[&str]| curl(server.address(), "/big", more, b"").unwrap();
            ask(&["-r", "5000000-5999999"]).is(&whole[5_000_000..6_000_000]);
            ask(&["-r", "-1000"]).is(&whole[whole.len() - 1000..]);
            let copy = place.file("copy");
            let name = copy.to_str().unwrap();
            ask(&["-r", "0-2999999", "-o", name]).is(b"");
            assert_eq!(copy.metadata().unwrap().len(), 3_000_000);
            ask(&["-v", "-C", "-", "-o", name]).is(b"");
            assert!(fs::read(&copy).unwrap() == whole);
            ask(&["--limit-rate", "32M"]).is(&whole);
            ask(&["--compressed"]).is(&whole);
            ask(&["-0"]).is(&whole);
            wait_until("all descriptors are back", || counts(&server, mode) == descriptors);
        }
        server.stop();
    }

    fn uploads_of_any_kind_come_back(mode) {
        let place = Directory::new();
        let big = place.file("big");
        let whole = bytes(3 << 20);
        fs::write(&big, &whole).unwrap();
        let (body, file) = (at(&big), big.to_str().unwrap());
        let limits = ["-w1", "--body-memory", "64k", "--max-body", "4M"];
        let server = Server::start(mode, &limits);
        if is_there(&server) {
            let descriptors = settled(&server, mode, 1);
            let ask = |more: &[&str], input: &[u8]| {
                let all = [&["-v", "-X", "POST"], more].concat();
                curl(server.address(), "/echo", &all, input).unwrap()
            };
            // So large that curl waits for being told to go on, and larger than what is kept in memory.
            for more in [
                &["--data-binary", &body][..],
                &["-T", file],
                &["-T", file, "-H", "Transfer-Encoding: chunked"],
                &["--data-binary", &body, "-H", "Transfer-Encoding: chunked"],
            ] {
                let said = ask(&[more, &["-H", "Expect: 100-continue"]].concat(), b"");
                assert_eq!(said.is(&whole).told_to_go_on(), 1, "{more:?}: {}", said.said);
                let unsaid = ask(&[more, &["-H", "Expect:"]].concat(), b"");
                assert_eq!(unsaid.is(&whole).told_to_go_on(), 0, "{more:?}: {}", unsaid.said);
            }
            // By its own decision.
            assert_eq!(ask(&["--data-binary", &body], b"").is(&whole).told_to_go_on(), 1);
            // Of a length that is not known.
            for input in [&whole[..], b"few"] {
                ask(&["-T", "-"], input).is(input);
                ask(&["-T", "-", "-H", "Expect:"], input).is(input);
            }
            ask(&["-0", "--data-binary", &body], b"").is(&whole);
            ask(&["--data-binary", &body, "--limit-rate", "32M"], b"").is(&whole);
            ask(&["--compressed", "--data-binary", "@-"], b"few").is(b"few");
            wait_until("all descriptors are back", || counts(&server, mode) == descriptors);
        }
        server.stop();
    }

    fn too_large_a_body_is_told_so(mode) {
        const REFUSAL: &[u8] = b"413 Content Too Large\n413";
        let place = Directory::new();
        let big = place.file("big");
        fs::write(&big, bytes(8 << 20)).unwrap();
        let (body, file) = (at(&big), big.to_str().unwrap());
        let server = Server::start(mode, &["-w1"]);
        if is_there(&server) {
            let descriptors = settled(&server, mode, 1);
            for more in [
                &["--data-binary", &body][..],
                &["--data-binary", &body, "-H", "Expect:"],
                &["-X", "POST", "-T", file, "-H", "Transfer-Encoding: chunked"],
                &["-X", "POST", "-T", file, "-H", "Transfer-Encoding: chunked", "-H", "Expect:"],
                &["-0", "--data-binary", &body],
            ] {
                let all = [&["-v", "-w", "%{http_code}"], more].concat();
                curl(server.address(), "/echo", &all, b"").unwrap().is(REFUSAL);
            }
            wait_until("all descriptors are back", || counts(&server, mode) == descriptors);
        }
        server.stop();
    }

    fn who_does_not_wait_is_forgotten(mode) {
        let place = Directory::new();
        let path = place.file("access.log");
        let log = ["-w1", "--log-format", "json", "--access-log", path.to_str().unwrap()];
        let server = Server::start(mode, &log);
        if is_there(&server) {
            let descriptors = settled(&server, mode, 1);
            let ask = |path: &str, more: &[&str]| curl(server.address(), path, more, b"").unwrap();
            assert_eq!(ask("/slow?ms=1000", &["--max-time", "0.2"]).code, 28);
            assert_eq!(ask("/stream?n=1000000000000", &["--max-time", "0.2"]).code, 28);
            // Each has its line: who is cut off while an answer comes, and who is before it does.
            for target in ["/stream?n=1000000000000", "/slow?ms=1000"] {
                wait_until("a line about who did not wait", || {
                    fs::read_to_string(&path).is_ok_and(|text| text.contains(target))
                });
            }
            let lines: String = (1..=1000).map(|n| format!("{n}\n")).collect();
            ask("/stream?n=1000", &["--limit-rate", "1M"]).is(lines.as_bytes());
            // To the end of the connection, as there were no chunks then.
            let old = ask("/stream?n=1000", &["-v", "-0"]);
            assert!(!old.is(lines.as_bytes()).said.contains("< Transfer-Encoding"), "{}", old.said);
            wait_until("all descriptors are back", || counts(&server, mode) == descriptors);
        }
        // Which does not wait for them.
        server.stop();
    }

    fn it_can_be_a_proxy(mode) {
        let server = Server::start(mode, &["-w1", "--proxy-protocol", "127.0.0.0/8"]);
        if is_there(&server) {
            let descriptors = settled(&server, mode, 1);
            let ask = |more: &[&str]| {
                let all = [&["-w", "%{http_code}"], more].concat();
                curl(server.address(), "/status/204", &all, b"").unwrap()
            };
            ask(&["--haproxy-protocol"]).is(b"204");
            ask(&["--haproxy-protocol", "-0"]).is(b"204");
            ask(&[]).is(b"400 Bad Request\n400");
            wait_until("all descriptors are back", || counts(&server, mode) == descriptors);
        }
        server.stop();
    }
}
