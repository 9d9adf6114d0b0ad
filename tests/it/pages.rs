//! Pages in a real browser: images, a sound that is sought in, types, a reload by condition,
//! server-sent events and WebSocket over a reload of the cluster.
//!
//! Where Chromium or ChromeDriver is missing the tests say so and pass.

use crate::support::{Directory, Mode, Server, wait_until};
use crate::webdriver::Browser;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>pictures and a sound</title>
<link rel="icon" href="small0.svg">
<link rel="stylesheet" href="page.css">
<script src="page.js"></script>
<script src="script.txt" onerror="refused = true"></script>
<img src="small0.svg"><img src="small1.svg"><img src="small2.svg"><img src="small3.svg">
<img src="large0.bmp"><img src="large1.bmp">
<audio preload="auto"></audio>
"#;

/// Whether all pictures are there and as wide as they were made.
const PICTURES: &str = r#"[...document.images].map((image) => image.complete && image.naturalWidth).join() === "10,11,12,13,1000,1001""#;

/// What a second of the sound has: 44100 samples, two channels, 16 bits.
const SOUND_BYTES_A_SECOND: u32 = 44_100 * 4;
const SOUND_SECONDS: u32 = 1000;
const SOUND: &str = "document.querySelector('audio')";

/// A browser, or a line that says what is missing.
fn browser(what: &str) -> Option<Browser> {
    let line = match Browser::start() {
        Ok(browser) => return Some(browser),
        Err(why) => format!("skipped: {what}: {why}\n"),
    };
    // Past libtest, which would keep the line of a test that passes to itself.
    let _ = std::io::stderr().write_all(line.as_bytes());
    None
}

/// A picture of so many pixels, 24 bits each and not packed: some megabytes.
fn bitmap(width: u32, height: u32) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let size = 54 + row * height;
    let mut bytes = b"BM".to_vec();
    for field in [
        size,
        0,
        54,
        40,
        width,
        height,
        1 | 24 << 16,
        0,
        0,
        0,
        0,
        0,
        0,
    ] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.resize(size as usize, 0x7f);
    bytes
}

/// Silence of a thousand seconds: a head, and behind it nothing that takes room on the disk.
fn sound(path: &Path) {
    let size = SOUND_SECONDS * SOUND_BYTES_A_SECOND;
    let mut head = b"RIFF".to_vec();
    head.extend((36 + size).to_le_bytes());
    head.extend(b"WAVEfmt ");
    // Uncompressed, in two channels; bytes a frame and bits a sample.
    for field in [16, 1 | 2 << 16, 44_100, SOUND_BYTES_A_SECOND, 4 | 16 << 16] {
        head.extend(field.to_le_bytes());
    }
    head.extend(b"data");
    head.extend(size.to_le_bytes());
    fs::write(path, head).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(44 + u64::from(size)).unwrap();
}

fn tree(place: &Directory) {
    let root = place.file("root");
    fs::create_dir(&root).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(root.join(name), bytes).unwrap();
    write("index.html", PAGE.as_bytes());
    write("page.css", b"img { width: 77px }");
    write("page.js", b"var loaded = 1, refused = false;");
    write("script.txt", b"var executed = true;");
    for number in 0..4 {
        let width = 10 + number;
        let text =
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"9\"/>");
        write(&format!("small{number}.svg"), text.as_bytes());
    }
    for number in 0..2 {
        write(&format!("large{number}.bmp"), &bitmap(1000 + number, 1000));
    }
    sound(&root.join("sound.wav"));
}

/// What the access log says of a target.
fn answers(log: &Path, target: &str) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["target"] == target)
        .collect()
}

/// The statuses among them in rising order: each worker writes its lines when it gets to it.
fn statuses(log: &Path, target: &str) -> Vec<u64> {
    let all = answers(log, target);
    let found = all.iter().filter_map(|line| line["status"].as_u64());
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    found
}

#[test]
fn a_page_with_pictures_and_a_sound() {
    let Some(browser) = browser("no page is opened") else {
        return;
    };
    for mode in [Mode::Processes, Mode::Threads] {
        let place = Directory::new();
        tree(&place);
        let (root, log) = (place.file("root"), place.file("access.log"));
        let server = Server::start(
            mode,
            &[
                "--workers",
                "2",
                "--root",
                root.to_str().unwrap(),
                "--cache-control",
                "no-cache",
                "--access-log",
                log.to_str().unwrap(),
                "--log-format",
                "json",
            ],
        );
        browser.open(&format!("http://{}/", server.address()));
        browser.wait(PICTURES);
        let styled = "return [...document.images].map((image) => image.width)";
        assert_eq!(browser.run(styled), json!([77, 77, 77, 77, 77, 77]));
        // A text is no script, and is not taken for one.
        let scripts = "return [loaded, refused, typeof executed]";
        assert_eq!(browser.run(scripts), json!([1, true, "undefined"]));
        let errors = browser.errors();
        assert!(
            errors.len() == 1 && errors[0].contains("script.txt"),
            "{errors:?}"
        );

        // The page again: nothing has changed, and nothing is sent again.
        browser.reload();
        browser.wait(PICTURES);
        for target in ["/", "/page.css", "/page.js", "/large0.bmp", "/large1.bmp"] {
            wait_until("the second answer", || statuses(&log, target) == [200, 304]);
        }
        browser.errors();

        // Far ahead of what it can have got by then.
        browser.run(&format!("{SOUND}.src = 'sound.wav'"));
        browser.wait(&format!("{SOUND}.readyState >= 2"));
        assert_eq!(
            browser.run(&format!("return {SOUND}.duration")),
            SOUND_SECONDS
        );
        for (number, second) in [900, 300, 999].into_iter().enumerate() {
            browser.run(&format!(
                "window.sought = 0; {SOUND}.onseeked = () => sought = 1; {SOUND}.currentTime = {second}"
            ));
            browser.wait("sought");
            assert_eq!(browser.run(&format!("return {SOUND}.currentTime")), second);
            wait_until("an answer that was left for another", || {
                statuses(&log, "/sound.wav").len() > number
            });
        }
        browser.run(&format!("{SOUND}.removeAttribute('src'); {SOUND}.load()"));
        wait_until("an answer for each place", || {
            statuses(&log, "/sound.wav").len() >= 4
        });
        let all = answers(&log, "/sound.wav");
        // A browser that is slow asks whether what it has of it still counts.
        let part = |line: &Value| line["status"] == 206 || line["status"] == 304;
        assert!(all.iter().all(part), "{all:?}");
        let sent: u64 = all.iter().filter_map(|line| line["bytes"].as_u64()).sum();
        let whole = u64::from(SOUND_SECONDS * SOUND_BYTES_A_SECOND);
        assert!(sent < whole / 2, "{sent} bytes of {whole}");
        assert_eq!(browser.errors(), [""; 0]);
        browser.open("about:blank");
        server.stop();
    }
}

/// A stream of ticks and a WebSocket, and what comes of them.
const TALK: &str = r#"
    window.ticks = [];
    window.cuts = 0;
    window.source = new EventSource("/events");
    source.onmessage = (event) => ticks.push([Number(event.lastEventId), event.data]);
    source.onerror = () => cuts++;
    window.said = [];
    window.ended = null;
    window.talk = () => {
        window.socket = new WebSocket(`ws://${location.host}/ws`);
        socket.binaryType = "arraybuffer";
        socket.onopen = () => {
            socket.send("κόσμε");
            socket.send(new Uint8Array([0, 255, 128, 10]));
            socket.send("");
            socket.send("x".repeat(200000));
        };
        socket.onmessage = ({data}) => said.push(
            typeof data !== "string" ? [...new Uint8Array(data)] : data.length < 100 ? data : data.length);
        socket.onclose = (event) => ended = [event.code, event.wasClean];
    };
    talk();
"#;

#[test]
fn events_and_sockets_over_a_reload() {
    let Some(browser) = browser("no events are listened to") else {
        return;
    };
    for mode in [Mode::Processes, Mode::Threads] {
        let server = Server::start(mode, &["--workers", "2"]);
        browser.open(&format!("http://{}/", server.address()));
        browser.run(TALK);
        let all_said = json!(["κόσμε", [0, 255, 128, 10], "", 200_000]);
        browser.wait("said.length === 4");
        assert_eq!(browser.run("return said"), all_said);
        browser.wait("ticks.length >= 2");
        assert_eq!(browser.run("return [cuts, ended]"), json!([0, null]));

        let mark = server.log.mark();
        server.signal(Signal::SIGHUP);
        server.log.wait(mark, "reloaded: all workers are new");
        browser.wait("ended");
        assert_eq!(browser.run("return ended"), json!([1001, true]));
        // On with the number that the page had: none is missing, and none comes twice.
        let had = browser.run("return ticks.length").as_u64().unwrap();
        browser.wait(&format!("cuts === 1 && ticks.length >= {}", had + 2));
        let ticks = browser.run("return ticks");
        let ticks = ticks.as_array().unwrap();
        let expected: Vec<_> = (1..=ticks.len())
            .map(|n| json!([n, format!("tick {n}")]))
            .collect();
        assert_eq!(*ticks, expected);
        browser.run("said.length = 0; talk()");
        browser.wait("said.length === 4");
        assert_eq!(browser.run("return said"), all_said);
        browser.errors();
        browser.open("about:blank");
        server.stop();
    }
}
