//! Workers that are replaced though nothing is wrong with them: after so many requests, and with so
//! much memory; and idle ones, which are not. Those that stand still are with `standstill`.

use crate::client::Client;
use crate::support::{Mode, Server, Worker, both_modes, command, run, wait_until};
use crate::turns::alone;
use crate::watch;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Asks on one connection until told to stop; how often it was answered.
fn keep_asking(address: SocketAddr, stop: &AtomicBool) -> Result<usize, String> {
    let mut client = Client::connect(address).map_err(|error| format!("connect: {error}"))?;
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            return Ok(count);
        }
        match client.get("/") {
            Ok(answer) if answer.status == 200 && !answer.closes() => {}
            other => return Err(format!("request {count}: {other:?}")),
        }
    }
    unreachable!("nobody counts that far")
}

both_modes! {
    fn workers_that_have_answered_enough_are_replaced_and_nobody_notices(mode) {
        let _alone = alone();
        let server = Server::start(mode, &["-w", "2", "--max-requests", "50:10"]);
        let address = server.address();
        let stop = AtomicBool::new(false);
        let answered = thread::scope(|scope| {
            let ask = || keep_asking(address, &stop);
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let worn = |line: &&String| line.contains("has answered as many requests as it should");
            wait_until("many workers answer enough", || {
                let over = clients.iter().any(thread::ScopedJoinHandle::is_finished);
                over || server.log.all().iter().filter(worn).count() >= 8
            });
            stop.store(true, Ordering::Relaxed);
            let all = clients.into_iter().map(|client| client.join().unwrap());
            all.collect::<Result<Vec<usize>, String>>()
        });
        let answered: usize = answered.unwrap().into_iter().sum();
        assert!(answered >= 8 * 50, "{answered}");
        let ended = server.stop();
        let gone = |line: &&String| {
            let rest = Worker::of_line(line).map(|(_, rest)| rest);
            rest.is_some_and(|rest| rest.starts_with("exited: "))
        };
        assert!(ended.log.iter().filter(gone).count() >= 8);
        assert!(!ended.log.iter().any(|line| line.contains(" died: ")));
    }

    fn an_idle_worker_does_not_stand_still(mode) {
        let _alone = alone();
        let server = Server::start(mode, &["-w", "2", "--worker-timeout", "400ms"]);
        let workers = server.wait_for_workers(2);
        let loops: Vec<String> = match mode {
            Mode::Processes => workers.iter().map(|one| one.pid.to_string()).collect(),
            Mode::Threads => {
                let all = watch::threads(server.pid()).into_iter();
                let own = all.filter(|(_, name)| name.starts_with("worker "));
                own.map(|(thread, _)| thread).collect()
            }
        };
        assert_eq!(loops.len(), 2);
        // A loop that turns goes to sleep each time: four times in the time that it has.
        let turns = |one: &String| watch::numbers(one, "voluntary_ctxt_switches")[0];
        let before: Vec<u32> = loops.iter().map(turns).collect();
        wait_until("ten beats of each", || {
            let mut now = loops.iter().map(turns).zip(&before);
            now.all(|(now, before)| now >= before + 10)
        });
        assert_eq!(server.workers(), workers);
        let ended = server.stop();
        assert!(!ended.log.iter().any(|line| line.contains("stands still")));
    }
}

#[test]
fn a_worker_that_has_too_much_memory_is_replaced() {
    let server = Server::start(Mode::Processes, &["-w", "2", "--max-memory", "64k"]);
    let first = server.wait_for_workers(2)[0];
    let (mut client, _) = Client::greeted(server.address());
    let about = format!("worker {} (pid {}) has ", first.id, first.pid);
    let line = server.log.wait(0, &about);
    assert!(line.contains(" kB of memory, more than 64 kB"), "{line}");
    let exited = format!("worker {} (pid {}) exited: code 0", first.id, first.pid);
    server.log.wait(0, &exited);
    client.get("/").unwrap().who();
    assert!(!server.log.all().iter().any(|line| line.contains(" died: ")));
    server.stop();
}

#[test]
fn threads_have_no_memory_of_their_own() {
    let ended = run(command(&["--mode", "threads", "--max-memory", "1G"]));
    assert_eq!(ended.status.code(), Some(2));
    let last = ended.log.last().unwrap();
    assert!(
        last.contains("threads share the memory of one process"),
        "{last}"
    );
    assert!(ended.out.is_empty());
}
