//! Both modes serve: many connections at once, every worker at work, handlers that occupy a
//! processor beside those that do not.

use crate::client::Client;
use crate::load::Load;
use crate::support::{Mode, Server, both_modes};
use crate::turns::alone;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

/// How long the load lasts. Shorter in haste, by a variable, for those who repeat it many times.
fn load_time() -> Duration {
    let seconds = std::env::var("MCLUSTER_IT_LOAD_SECONDS");
    let seconds = seconds.ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

fn serves_a_load(mode: Mode, policy: &str) {
    let _alone = alone();
    let server = Server::start(mode, &["--workers", "4", "--schedule", policy]);
    let load = Load::start(server.address(), 64);
    thread::sleep(load_time());
    load.go_on();
    let tally = load.stop();
    assert_eq!(tally.refused, 0);
    assert!(tally.lost.is_empty(), "{:?}", tally.lost);
    assert!(tally.wrong.is_empty(), "{:?}", tally.wrong);
    let workers = server.workers().into_iter();
    let workers: BTreeSet<String> = workers.map(|worker| worker.name(mode)).collect();
    let answering: BTreeSet<String> = tally.answers.keys().cloned().collect();
    eprintln!("{} {policy}: {:?}", mode.name(), tally.answers);
    match policy {
        "rr" => assert_eq!(answering, workers),
        // Which worker wakes is the kernel's choice.
        _ => assert!(answering.is_subset(&workers), "{answering:?}"),
    }
    let ended = server.stop();
    assert_eq!(ended.out.len(), 1, "{:?}", ended.out);
}

both_modes! {
    fn sixty_four_connections_under_round_robin(mode) {
        serves_a_load(mode, "rr");
    }

    fn sixty_four_connections_under_shared(mode) {
        serves_a_load(mode, "shared");
    }

    fn heavy_handlers_on_every_pool_thread_leave_the_loops_free(mode) {
        let _alone = alone();
        let server = Server::start(mode, &["--workers", "2", "--pool", "2"]);
        let address = server.address();
        let mut busy = Vec::new();
        let mut occupied = BTreeSet::new();
        // In turn each worker gets two: its whole pool. The first answer of each tells by whom,
        // and that the second request, read together with the first, is on its way.
        for _ in 0..4 {
            let mut client = Client::connect(address).unwrap();
            let both = "GET / HTTP/1.1\r\nHost: test\r\n\r\n\
                        GET /heavy?n=10000000000 HTTP/1.1\r\nHost: test\r\n\r\n";
            client.send(both).unwrap();
            occupied.insert(client.receive().unwrap().who());
            busy.push(client);
        }
        assert_eq!(occupied.len(), 2);
        let mut answering = BTreeSet::new();
        let mut others: Vec<_> = (0..4).map(|_| Client::connect(address).unwrap()).collect();
        for _ in 0..25 {
            for client in &mut others {
                answering.insert(client.get("/").unwrap().who());
            }
        }
        assert_eq!(answering, occupied);
        for client in &mut busy {
            assert!(client.is_silent(), "that should have taken longer");
        }
    }

    fn without_a_pool_a_heavy_handler_occupies_its_worker(mode) {
        let _alone = alone();
        let server = Server::start(mode, &["--workers", "2", "--pool", "0"]);
        let address = server.address();
        let (mut heavy, occupied) = Client::greeted(address);
        let (mut free, other) = Client::greeted(address);
        assert_ne!(occupied, other);
        let (mut waiting, who) = Client::greeted(address);
        assert_eq!(who, occupied);
        heavy.ask("/heavy?n=300000000").unwrap();
        // Behind the heavy one, since events come in the order in which they happened.
        waiting.ask("/").unwrap();
        let mut meanwhile = 0;
        while waiting.is_silent() {
            assert_eq!(free.get("/").unwrap().who(), other);
            meanwhile += 1;
        }
        assert!(!heavy.is_silent(), "{occupied} answered while it was busy");
        assert_eq!(heavy.receive().unwrap().text(), "Total: 300000000\n");
        assert_eq!(waiting.receive().unwrap().who(), occupied);
        assert!(meanwhile >= 10, "{other} answered {meanwhile} times");
    }
}
