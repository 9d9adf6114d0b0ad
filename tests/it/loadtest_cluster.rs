//! `mcluster loadtest` against a cluster of ours: who answered, and echoes of WebSocket messages.

use crate::generator::{plain, report};
use crate::plain_server::{Asked, PlainServer, Step, answer};
use crate::support::{Server, both_modes};
use crate::websocket::{BINARY, TEXT, frame};
use base64ct::{Base64, Encoding};
use std::collections::BTreeMap;

both_modes! {
    fn workers_are_told_apart(mode) {
        let server = Server::start(mode, &["--workers", "2"]);
        let workers = server.wait_for_workers(2);
        let url = format!("http://{}/", server.address());
        let run = report(&["-n", "400", "-c", "4", &url]);
        run.all_good("two workers", 400);
        let found: BTreeMap<String, u64> = run.json["workers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let name = one["worker"].as_str().unwrap().to_owned();
                (name, one["requests"].as_u64().unwrap())
            })
            .collect();
        let names = workers.iter().map(|one| {
            one.name(mode).trim_start_matches("Handled by ").to_owned()
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(found.keys().cloned().collect::<Vec<_>>(), names);
        assert_eq!(found.values().sum::<u64>(), 400);
        let (sum, squares) = found.values().fold((0.0, 0.0), |(sum, squares), &one| {
            (sum + one as f64, squares + (one as f64).powi(2))
        });
        let jain = run.float("jain");
        assert!((jain - sum * sum / (2.0 * squares)).abs() < 1e-6, "{jain}");
        assert!(jain > 0.8, "round robin: {found:?}");

        let text = plain(&["-n", "100", "-c", "4", &url]).out.join("\n");
        assert!(text.contains("Jain"), "{text}");
        for name in names {
            assert!(text.contains(&name), "no {name} in {text}");
        }
        server.stop();
    }

    fn messages_come_back(mode) {
        let server = Server::start(mode, &["--workers", "1"]);
        let url = format!("ws://{}/ws", server.address());
        let long = "x".repeat(70_000);
        let cases: [&[&str]; 5] = [
            &[],
            &["--data", "hello"],
            &["--data", &long],
            &["--data", "hello", "--rps", "1000"],
            &["--data", "hello", "--cores", "2"],
        ];
        for more in cases {
            let arguments = [&["-n", "200", "-c", "4", &url], more].concat();
            let run = report(&arguments);
            let what = format!("{:#} {:?}", run.json, run.log);
            assert_eq!(run.number("completed"), 200, "{what}");
            assert_eq!(run.number("total_errors"), 0, "{what}");
            assert_eq!(run.json["agent"], "websocket", "{what}");
            assert!((1..=4).contains(&run.number("connections")), "{what}");
            assert_eq!(run.json["latency_us"]["count"], 200, "{what}");
            assert_eq!(run.status, 0, "{what}");
        }
        server.stop();
    }
}

/// What proves that a handshake was read, for the key that came (RFC 6455 section 4.2.2).
fn switched(asked: &Asked) -> Vec<u8> {
    use sha1::{Digest, Sha1};
    let key = asked.fields("sec-websocket-key")[0];
    let octets = Base64::decode_vec(key).expect("a key in Base64");
    assert_eq!(octets.len(), 16, "{key}");
    let proof = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let proof = Base64::encode_string(&proof);
    format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {proof}\r\n\r\n").into_bytes()
}

/// A server's frame, which is not masked.
fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

/// Ten messages to a server that answers a handshake with that; all must fail.
fn goes_wrong(what: &str, steps: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) {
    let server = PlainServer::start(steps);
    let url = format!("ws://{}/", server.address);
    let run = report(&["-n", "10", "-c", "2", "-d", "300", "--data", "hello", &url]);
    let said = format!("{what}: {:#} {:?}", run.json, run.log);
    assert_eq!(run.number("completed"), 10, "{said}");
    assert_eq!(run.number("total_errors"), 10, "{said}");
    assert_eq!(run.status, 1, "{said}");
}

#[test]
fn what_is_no_echo() {
    let hello = |_: &Asked| vec![Step::Say(answer("200 OK", "x"))];
    goes_wrong("no WebSocket", hello);
    goes_wrong("not found", |_| {
        vec![Step::Say(answer("404 Not Found", "x"))]
    });
    goes_wrong("a wrong proof", |_| {
        let wrong = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        vec![Step::Say(wrong.into()), Step::Hang]
    });
    goes_wrong("another message", |asked| {
        let other = unmasked(TEXT, b"hallo");
        vec![Step::Say([switched(asked), other].concat()), Step::Hang]
    });
    goes_wrong("a masked frame of a server", |asked| {
        let masked = frame(TEXT, b"hello");
        vec![Step::Say([switched(asked), masked].concat()), Step::Hang]
    });
    goes_wrong("a reserved bit", |asked| {
        let odd = unmasked(BINARY | 0x40, b"hello");
        vec![Step::Say([switched(asked), odd].concat()), Step::Hang]
    });
    goes_wrong("silence", |asked| {
        vec![Step::Say(switched(asked)), Step::Hang]
    });
    goes_wrong("an end", |asked| {
        vec![Step::Say(switched(asked)), Step::Close]
    });
    goes_wrong("an endless frame", |asked| {
        let mut frame = vec![BINARY, 127];
        frame.extend_from_slice(&(u64::MAX / 2).to_be_bytes());
        vec![Step::Say([switched(asked), frame].concat()), Step::Hang]
    });
}
