//! Node programs that are replaced: by a reload, and because they do not live long.

use super::*;

pub(super) fn reload() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    let address = ready(&run);
    let over = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(Mutex::new(BTreeSet::new()));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (over, answers) = (Arc::clone(&over), Arc::clone(&answers));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let who = get(address, "/");
                    answers.lock().unwrap().insert(who);
                }
            })
        })
        .collect();
    run.signal(Signal::SIGHUP);
    run.line("reload: Done");
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|one| one.join().unwrap());
    let new = [get(address, "/"), get(address, "/")];
    assert!(
        new.iter().all(|one| ["3", "4"].contains(&&**one)),
        "{new:?}"
    );
    run.stop();
}

pub(super) fn failed_reload() {
    let script = Script::new(SERVER);
    let mut run = script.start(&["timeout=2000"]);
    let address = ready(&run);
    fs::write(&script.0, "setInterval(() => {}, 1000);").unwrap();
    run.signal(Signal::SIGHUP);
    assert!(run.line("reload: ").starts_with("Began"));
    assert!(run.nth_line("reload: ", 1).starts_with("Failed"));
    assert!(["1", "2"].contains(&&*get(address, "/")));
    run.stop();
}

/// Each listens at a path of its own.
const BY_ID: &str = r#"
const { worker } = require('node:cluster');
const path = `${require('node:os').tmpdir()}/mcluster-nodes-${process.ppid}-${worker.id}.sock`;
require('node:http').createServer((_, response) => response.end()).listen(path);
"#;

pub(super) fn ports_by_id() {
    let script = Script::new(BY_ID);
    for (workers, late) in [("workers=2", false), ("workers=1", true)] {
        let mut run = script.start(&[workers, "timeout=1500"]);
        run.line("ready: ");
        let begin = Instant::now();
        run.signal(Signal::SIGHUP);
        assert!(run.line("reload: ").starts_with("Began"));
        assert_eq!(run.nth_line("reload: ", 1), "Done");
        if late {
            run.log_line("taken for ready, but does not listen on ");
        }
        assert!(!late || begin.elapsed() >= Duration::from_millis(1500));
        run.stop();
    }
}

pub(super) fn another_reload() {
    let script = Script::new(SERVER);
    let mut run = script.start(&[]);
    ready(&run);
    run.signal(Signal::SIGHUP);
    assert!(run.line("reload: ").starts_with("Began"));
    run.signal(Signal::SIGHUP);
    assert_eq!(run.nth_line("reload: ", 3), "Done");
    run.stop();
}

pub(super) fn short_lives() {
    let script = Script::new(
        "require('node:http').createServer().listen(0, () => setTimeout(() => process.exit(0), 20));",
    );
    let mut run = script.start(&["workers=1"]);
    let began = Instant::now();
    run.line("5 exit code 0");
    // The second one waits 100 ms, the third twice that, and so on.
    assert!(began.elapsed() >= Duration::from_millis(700));
    run.stop();
}
