//! Programs that abuse their channel: whatever one writes to it, the primary stays as it is, the other
//! workers serve, and the bad one is taken for what it says or goes.

use crate::client::Client;
use crate::node::{App, Setting, is_foreign, node_is_there};
use crate::support::wait_until;
use crate::watch;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MEGABYTE: u64 = 1 << 20;

/// How much a primary may have of its own at any time, and how much while a line of 100 MB comes.
const LITTLE: u64 = 20 * MEGABYTE;
const MUCH: u64 = 80 * MEGABYTE;

/// Lines of the log about it are few, whatever it writes.
const FEW: usize = 60;

/// Most memory that the primary has ever had, in bytes.
fn most(app: &App) -> u64 {
    let line = watch::status(app.server.pid(), "VmHWM").unwrap();
    line.trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// The way a worker goes wrong, what the primary may have, and whether the worker must go.
fn abused(way: &str, memory: u64, goes: bool) {
    if !node_is_there() || is_foreign() {
        return;
    }
    let app = Setting::new()
        .env("WAY", way)
        .start("hostile.js", &["--drain-timeout", "5s"]);
    let address = app.address();
    let descriptors = watch::descriptors(app.server.pid()).len();
    let (bad, _) = app.said(0, "begins");
    let pid = app.server.log.find(0, |line| {
        let (who, _) = crate::support::Worker::of_line(line)?;
        (who.id == bad).then_some(who.pid)
    });
    // Others serve meanwhile.
    let mut ended = false;
    wait_until("it has written all, or is gone", || {
        for _ in 0..4 {
            // By the bad one as well, which may be gone before it has answered.
            let _ = Client::connect(address).and_then(|mut client| client.get("/"));
        }
        ended = !app.server.workers().iter().any(|one| one.pid == pid);
        let lines = app.server.log.all();
        let words = [
            format!("{bad}| written"),
            format!("{bad}| stopped"),
            format!("{bad}| sent"),
        ];
        ended
            || lines
                .iter()
                .any(|line| words.iter().any(|word| line.starts_with(word)))
    });
    if goes {
        wait_until("the bad one is gone", || {
            !app.server.workers().iter().any(|one| one.pid == pid)
        });
    }
    // Who has taken answers from its own channel may be handed nothing more, but for that it is as any.
    let worker = app.server.workers().into_iter().find(|one| one.pid == pid);
    if let Some(worker) = worker.filter(|_| !goes) {
        // It may have ended by itself this very moment.
        let killed = kill(Pid::from_raw(worker.pid), Signal::SIGKILL);
        assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
        wait_until("the bad one is gone", || {
            !app.server.workers().contains(&worker)
        });
    }
    let workers = app.server.wait_for_workers(2);
    app.all_answer(address, &workers);
    println!(
        "{way}: {} MB at most, {}",
        most(&app) / MEGABYTE,
        if ended { "gone" } else { "stays" }
    );
    assert!(most(&app) < memory, "{way}: {} bytes", most(&app));
    let now = || watch::descriptors(app.server.pid()).len();
    wait_until("descriptors are as many as before", || {
        now() <= descriptors + 2
    });
    let log = app.server.log.all();
    let about = log.iter().filter(|line| line.contains(" (pid ")).count();
    assert!(about <= FEW, "{way}: {about} lines: {:#?}", &log[..40]);
    app.stop();
}

macro_rules! ways {
    ($($way:ident: $memory:ident, $goes:literal;)*) => { $(
        #[test]
        fn $way() {
            abused(stringify!($way), $memory, $goes);
        }
    )* };
}

ways! {
    garbage: LITTLE, false;
    not_json: LITTLE, false;
    half: LITTLE, false;
    empty: LITTLE, false;
    huge: MUCH, false;
    deep: LITTLE, false;
    messages: LITTLE, false;
    bare: LITTLE, false;
    acks: LITTLE, false;
    queries: LITTLE, false;
    closes: LITTLE, false;
    wrong: LITTLE, false;
    descriptors: LITTLE, false;
    shut: LITTLE, true;
}
