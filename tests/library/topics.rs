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
    let mut hearers = BTreeMap::new();
    for id in 1..=6 {
        let mut own = said(&run, id);
        assert_eq!(own.iter().any(|text| text == "after"), id > 3);
        assert_eq!(own.iter().any(|text| text == "before"), id <= 3);
        let all = own.len();
        own.sort();
        own.dedup();
        assert_eq!(own.len(), all, "each once: {own:?}");
        for text in own {
            *hearers.entry(text).or_insert(0) += 1;
        }
    }
    // At each place, whoever has it at the time.
    for text in &during {
        let count = hearers.get(text).copied();
        assert!(count >= Some(3), "{text} has {count:?} hearers");
    }
}

fn a_slow_one_holds_nobody_up(mode: Mode) {
    let name = format!("mcluster-until-{}-{}", std::process::id(), mode.name());
    let path = std::env::temp_dir().join(name);
    let until = format!("until={}", path.display());
    let mut run = Run::start("topics", mode, &[&until]);
    let address = run.address(1);
    run.line("ready: ");
    let texts: Vec<_> = (0..60).map(|number| format!("s{number}")).collect();
    // Not the slow one itself, whose loop stands still.
    let mut connection = loop {
        let mut connection = crate::http::Connection::open(address);
        if connection.get("/publish?nobody=hears") != "1" {
            break connection;
        }
    };
    for text in &texts {
        connection.get(&format!("/publish?news={text}"));
    }
    for id in [2, 3] {
        assert_eq!(heard(&run, id, texts.len()), texts);
    }
    assert_eq!(run.count("heard 1 "), 0, "it waits");
    std::fs::write(&path, "").unwrap();
    let last = heard(&run, 1, texts.len());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(last, texts);
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

/// What comes from either side while one program takes another's place.
#[cfg(all(feature = "redis", feature = "control"))]
fn an_upgrade_misses_nothing() {
    let Some(server) = crate::support_redis::RedisServer::start(&[]) else {
        return;
    };
    let through = format!("redis={}", server.url());
    let mut runs = [(); 2].map(|()| Run::start("topics", Mode::Processes, &[&through]));
    for run in &runs {
        run.line("ready: ");
        run.log_line("publishing through Redis");
    }
    let addresses = [runs[0].address(1), runs[1].address(1)];
    runs[0].signal(Signal::SIGUSR2);
    let mut count = 0;
    while count < 20 || runs[0].count("reload: Done") == 0 {
        for (from, address) in addresses.iter().enumerate() {
            publish(*address, "news", &format!("{from}-{count}"));
        }
        count += 1;
        assert!(count < 100_000);
    }
    for (from, address) in addresses.iter().enumerate() {
        publish(*address, "news", &format!("{from}-last"));
    }
    for (run, ids) in [(&runs[0], [4, 5, 6]), (&runs[1], [1, 2, 3])] {
        for id in ids {
            for from in 0..2 {
                run.line(&format!("heard {id} {from}-last"));
            }
        }
    }
    for run in &mut runs {
        run.stop();
    }
    let heard = |run: &Run, id: u32| {
        let start = format!("heard {id} ");
        let lines = run.said();
        let own = lines.iter().filter_map(|line| line.strip_prefix(&start));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    for from in 0..2 {
        let all: Vec<_> = (0..count)
            .map(|number| format!("{from}-{number}"))
            .collect();
        // The others all hear it all, in the order of those who are the only publisher there.
        for id in 1..=3 {
            let own = heard(&runs[1], id);
            let missing: Vec<_> = all.iter().filter(|text| !own.contains(text)).collect();
            assert!(missing.is_empty(), "{id} of the others misses {missing:?}");
            assert_eq!(own.len(), 2 * count + 2, "each once");
        }
        // Here each is heard by whoever has a place at the time.
        for text in &all {
            let hearers = (1..=6).filter(|id| heard(&runs[0], *id).contains(text));
            assert!(hearers.count() >= 3, "{text} is missed");
        }
    }
}

#[cfg(feature = "redis")]
fn last_words_reach_other_clusters(mode: Mode) {
    let Some(server) = crate::support_redis::RedisServer::start(&[]) else {
        return;
    };
    let through = format!("redis={}", server.url());
    let mut goes = Run::start("topics", mode, &[&through, "farewell"]);
    let mut stays = Run::start("topics", mode, &[&through]);
    for run in [&goes, &stays] {
        run.line("ready: ");
        run.log_line("publishing through Redis");
    }
    goes.stop();
    for id in 1..=3 {
        for of in 1..=3 {
            stays.line(&format!("heard {id} goodbye of {of}"));
        }
    }
    stays.stop();
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
    #[cfg(all(feature = "redis", feature = "control"))]
    tests.add(
        "topics::an_upgrade_misses_nothing",
        an_upgrade_misses_nothing,
    );
    #[cfg(feature = "redis")]
    tests.both_modes(
        "topics::last_words_reach_other_clusters",
        last_words_reach_other_clusters,
    );
    #[cfg(feature = "redis")]
    tests.both_modes(
        "topics::redis_carries_them_to_other_clusters",
        redis_carries_them_to_other_clusters,
    );
}
