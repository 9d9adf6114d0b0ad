//! What is published under a topic reaches every subscriber in every worker, once.

use crate::harness::Tests;
use crate::http::get;
use crate::programs::{MANY, PUBLISHED};
use crate::run::{Mode, Run};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddr;

fn publish(address: SocketAddr, topic: &str, text: &str) -> String {
    get(address, &format!("/publish?{topic}={text}"))
}

/// The first `count` messages that worker `id` has heard.
#[track_caller]
fn heard(run: &Run, id: u32, count: usize) -> Vec<String> {
    let start = format!("heard {id} ");
    (0..count).map(|nth| run.nth_line(&start, nth)).collect()
}

fn all_hear_each_once_in_order(mode: Mode) {
    let mut run = Run::start("topics", mode, &[]);
    let address = run.address(1);
    run.line("ready: ");
    publish(address, "nobody", "hears");
    let mut publishers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..30 {
        let text = format!("m{number}");
        let publisher = publish(address, "news", &text);
        publishers.entry(publisher).or_default().push(text);
    }
    assert_eq!(publishers.len(), 3);
    let first = heard(&run, 1, 30);
    for id in 1..=3 {
        // Also among each other.
        assert_eq!(heard(&run, id, 30), first);
    }
    for texts in publishers.values() {
        let of_one = first.iter().filter(|text| texts.contains(text));
        assert!(of_one.eq(texts));
    }
    assert_eq!(get(address, "/errors"), "as they should be");
    get(address, "/large");
    get(address, "/primary");
    for id in 1..=3 {
        let mut last = heard(&run, id, 32).split_off(30);
        last.sort();
        assert_eq!(
            last,
            [format!("{PUBLISHED} bytes"), "from the primary".to_owned()]
        );
    }
    run.stop();
    for id in 1..=3 {
        assert_eq!(run.count(&format!("heard {id} ")), 32);
    }
}

fn new_workers_hear_what_comes(mode: Mode) {
    let mut run = Run::start("topics", mode, &[]);
    let address = run.address(1);
    run.line("ready: ");
    publish(address, "news", "before");
    for id in 1..=3 {
        assert_eq!(heard(&run, id, 1), ["before"]);
    }
    run.signal(Signal::SIGHUP);
    // What is published meanwhile is heard by all there are.
    let during: Vec<_> = (0..20).map(|number| format!("d{number}")).collect();
    for text in &during {
        publish(address, "news", text);
    }
    run.line("reload: Done");
    publish(address, "news", "after");
    let said = |run: &Run, id: u32| {
        let start = format!("heard {id} ");
        let lines = run.said();
        let own = lines.iter().filter_map(|line| line.strip_prefix(&start));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    for id in 4..=6 {
        run.line(&format!("heard {id} after"));
    }
    run.stop();
    for id in 1..=6 {
        let mut own = said(&run, id);
        assert_eq!(own.iter().any(|text| text == "after"), id > 3);
        assert_eq!(own.iter().any(|text| text == "before"), id <= 3);
        let all = own.len();
        own.sort();
        own.dedup();
        assert_eq!(own.len(), all, "each once: {own:?}");
    }
}

fn a_slow_one_holds_nobody_up(mode: Mode) {
    let mut run = Run::start("topics", mode, &["slow"]);
    let address = run.address(1);
    run.line("ready: ");
    let texts: Vec<_> = (0..60).map(|number| format!("s{number}")).collect();
    let mut connection = crate::http::Connection::open(address);
    let publisher = connection.get("/publish?nobody=hears");
    for text in &texts {
        connection.get(&format!("/publish?news={text}"));
    }
    for id in [2, 3, 1] {
        assert_eq!(heard(&run, id, texts.len()), texts, "by {publisher}");
    }
    run.stop();
    assert_eq!(run.count("heard "), 3 * texts.len());
}

/// Whoever goes is not kept for news that it has no time for, with a handler for messages or without.
fn who_goes_is_not_kept_for_news(mode: Mode) {
    for words in [&["slow"][..], &["slow", "listening"]] {
        let mut run = Run::start("topics", mode, words);
        let address = run.address(1);
        run.line("ready: ");
        get(address, "/many");
        for id in [2, 3] {
            run.nth_line(&format!("heard {id} "), MANY - 1);
        }
        run.signal(Signal::SIGHUP);
        run.line("reload: Done");
        run.line("1 exit code 0");
        run.stop();
        let heard = run.count("heard 1 ");
        assert!((1..MANY).contains(&heard), "{heard} of {MANY}");
    }
}

#[cfg(feature = "websocket")]
fn sockets_subscribe(mode: Mode) {
    use crate::websocket::{BINARY, Socket, TEXT, frame};
    let mut run = Run::start("topics", mode, &[]);
    let address = run.address(1);
    run.line("ready: ");
    let (mut sockets, mut workers) = (Vec::new(), BTreeMap::new());
    while workers.len() < 3 || sockets.len() < 6 {
        assert!(sockets.len() < 1000);
        let mut socket = Socket::open(address, "/socket");
        for topic in ["tea", "coffee"] {
            socket.send(frame(TEXT, format!("join {topic}").as_bytes()));
            let (_, joined) = socket.frame().unwrap();
            workers.insert(joined, ());
        }
        sockets.push(socket);
    }
    for speaker in 0..sockets.len() {
        let said = format!("say tea from {speaker}");
        sockets[speaker].send(frame(TEXT, said.as_bytes()));
        for socket in &mut sockets {
            socket.expect(TEXT, format!("from {speaker}"));
        }
    }
    sockets[0].send(frame(TEXT, b"bytes coffee"));
    for socket in &mut sockets {
        socket.expect(BINARY, b"\xff\0");
    }
    // One leaves; another goes altogether.
    sockets[1].send(frame(TEXT, b"leave tea"));
    sockets[1].expect(TEXT, "left");
    sockets.remove(0).close();
    publish(address, "tea", "hot");
    for socket in &mut sockets[1..] {
        socket.expect(TEXT, "hot");
    }
    publish(address, "coffee", "black");
    for socket in &mut sockets {
        socket.expect(TEXT, "black");
    }
    for socket in sockets {
        socket.close();
    }
    run.stop();
}

#[cfg(feature = "redis")]
fn redis_carries_them_to_other_clusters(mode: Mode) {
    let Some(mut server) = crate::support_redis::RedisServer::start(&[]) else {
        return;
    };
    let through = format!("redis={}", server.url());
    let mut runs = [(); 2].map(|()| Run::start("topics", mode, &[&through]));
    for run in &runs {
        run.line("ready: ");
        run.log_line("publishing through Redis");
    }
    let addresses = [runs[0].address(1), runs[1].address(1)];
    for (number, address) in addresses.iter().enumerate() {
        publish(*address, "news", &format!("from{number}"));
        for run in &runs {
            for id in 1..=3 {
                assert_eq!(
                    run.nth_line(&format!("heard {id} "), number),
                    format!("from{number}")
                );
            }
        }
    }
    get(addresses[0], "/large");
    for run in &runs {
        for id in 1..=3 {
            assert_eq!(heard(run, id, 3)[2], format!("{PUBLISHED} bytes"));
        }
    }
    server.stop();
    for run in &runs {
        run.log_line("is away");
    }
    publish(addresses[0], "news", "local");
    for id in 1..=3 {
        assert_eq!(heard(&runs[0], id, 4)[3], "local");
    }
    server.start_again();
    for run in &runs {
        run.log_line("is back");
    }
    runs[0].log_line("is back: 1 messages");
    publish(addresses[1], "news", "again");
    publish(addresses[1], "news", "last");
    for (run, had) in runs.iter().zip([4, 3]) {
        for id in 1..=3 {
            let mut last = heard(run, id, had + 2).split_off(had);
            last.sort();
            assert_eq!(last, ["again", "last"]);
        }
    }
    for (run, count) in runs.iter_mut().zip([6, 5]) {
        run.stop();
        assert_eq!(run.count("heard "), 3 * count, "each once");
    }
}

pub(crate) fn add(tests: &mut Tests) {
    tests.both_modes(
        "topics::all_hear_each_once_in_order",
        all_hear_each_once_in_order,
    );
    tests.both_modes(
        "topics::new_workers_hear_what_comes",
        new_workers_hear_what_comes,
    );
    tests.both_modes(
        "topics::a_slow_one_holds_nobody_up",
        a_slow_one_holds_nobody_up,
    );
    tests.both_modes(
        "topics::who_goes_is_not_kept_for_news",
        who_goes_is_not_kept_for_news,
    );
    #[cfg(feature = "websocket")]
    tests.both_modes("topics::sockets_subscribe", sockets_subscribe);
    #[cfg(feature = "redis")]
    tests.both_modes(
        "topics::redis_carries_them_to_other_clusters",
        redis_carries_them_to_other_clusters,
    );
}
