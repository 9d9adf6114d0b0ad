//! As a service: other users, priorities and processors for the workers, a health check for load
//! balancers, and being process 1.
//!
//! What a machine does not allow is skipped, with a line that says so.

use crate::client::Client;
use crate::support::{
    BINARY, Directory, Mode, Server, Worker, both_modes, command, run, wait_until,
};
use crate::turns::alone;
use crate::watch;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Group, Pid, User, geteuid};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

/// Says that a test is not made here.
pub(crate) fn skip(what: &str, why: &str) {
    // Past libtest, which would keep the line of a test that passes to itself.
    let line = format!("skipped: {what}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether a process or a thread is a user's, in a group and no other, and has no privilege left.
#[track_caller]
fn belongs_to(process: &str, uid: u32, gid: u32) {
    assert_eq!(watch::numbers(process, "Uid"), [uid; 4], "{process}");
    assert_eq!(watch::numbers(process, "Gid"), [gid; 4], "{process}");
    assert_eq!(watch::numbers(process, "Groups"), [gid], "{process}");
    let able = watch::status(process, "CapEff").unwrap();
    assert_eq!(u64::from_str_radix(&able, 16), Ok(0), "{process}");
}

/// The numbers of somebody who may nothing, if this test may become that.
fn nobody() -> Option<(u32, u32)> {
    let user = User::from_name("nobody").ok().flatten();
    let group = Group::from_name("nogroup").ok().flatten();
    match (user, group) {
        (Some(user), Some(group)) if geteuid().is_root() => {
            Some((user.uid.as_raw(), group.gid.as_raw()))
        }
        _ => {
            skip("other users", "only root may be nobody, in nogroup");
            None
        }
    }
}

const NOBODY: [&str; 4] = ["--user", "nobody", "--group", "nogroup"];

#[test]
fn workers_are_somebody_else_and_the_primary_stays() {
    let Some((uid, gid)) = nobody() else { return };
    let mut arguments = vec!["-w", "2", "--chaos", "--drain-timeout", "500ms"];
    arguments.extend(NOBODY);
    let mut server = Server::start(Mode::Processes, &arguments);
    assert_eq!(watch::numbers(server.pid(), "Uid"), [0; 4]);
    let workers = server.wait_for_workers(2);
    for worker in &workers {
        belongs_to(&worker.pid.to_string(), uid, gid);
    }
    workers[0].signal(Signal::SIGKILL);
    let next = server.successor(workers[0], "died: signal 9 (SIGKILL)");
    belongs_to(&next.pid.to_string(), uid, gid);
    server.signal(Signal::SIGHUP);
    server.log.wait(0, "reloaded: all workers are new");
    for worker in server.wait_for_workers(2) {
        belongs_to(&worker.pid.to_string(), uid, gid);
    }
    // One that hangs learns of the primary's death from the kernel alone, which forgets it when a
    // process becomes somebody else.
    let (mut client, _) = Client::greeted(server.address());
    client.ask("/hang?ms=3600000").unwrap();
    server.kill_primary();
    assert!(client.ends());
    let ends = server.orphans_end();
    assert_eq!(ends.len(), 2);
    let stuck = |end: &WaitStatus| matches!(end, WaitStatus::Signaled(_, Signal::SIGALRM, _));
    assert!(ends.iter().any(stuck), "{ends:?}");
}

#[test]
fn threads_are_somebody_else_together() {
    let Some((uid, gid)) = nobody() else { return };
    let mut arguments = vec!["-w", "2", "--chaos"];
    arguments.extend(NOBODY);
    let server = Server::start(Mode::Threads, &arguments);
    let threads = watch::threads(server.pid());
    assert!(threads.len() >= 3, "{threads:?}");
    for (thread, _) in threads {
        belongs_to(&thread, uid, gid);
    }
    let worker = server.wait_for_workers(2)[0];
    let mut client = Client::of_worker(server.address(), &worker.name(Mode::Threads));
    client.ask("/panic?worker").unwrap();
    server.successor(worker, "died: panic: ");
    for (thread, _) in watch::threads(server.pid()) {
        belongs_to(&thread, uid, gid);
    }
    server.stop();
}

#[test]
fn root_opens_no_log_that_somebody_else_laid_there() {
    if nobody().is_none() {
        return;
    }
    let directory = Directory::new();
    let (path, target) = (directory.file("access.log"), directory.file("target"));
    symlink(&target, &path).unwrap();
    let mut own = vec!["--workers", "1", "--access-log", path.to_str().unwrap()];
    own.extend(NOBODY);
    for mode in ["processes", "threads"] {
        let mut all = vec!["--listen", "127.0.0.1:0", "--mode", mode];
        all.extend(&own);
        let ended = run(command(&all));
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let shown = path.display();
        let words = format!("opening the access log: {shown}: it is a symbolic link");
        assert!(
            ended.log.iter().any(|line| line.contains(&words)),
            "{ended:?}"
        );
    }
    assert!(!target.exists());
    fs::remove_file(&path).unwrap();
    let server = Server::start(Mode::Processes, &own);
    let aside = directory.file("aside");
    fs::rename(&path, &aside).unwrap();
    symlink(&target, &path).unwrap();
    server.signal(Signal::SIGUSR1);
    server
        .log
        .wait(0, "cannot be opened again: it is a symbolic link");
    Client::greeted(server.address());
    wait_until("a line", || fs::metadata(&aside).unwrap().len() > 0);
    assert!(!target.exists());
    server.stop();
}

/// What the workers run as: processes, or threads of one.
fn carriers(server: &Server, mode: Mode) -> Vec<String> {
    let workers = server.wait_for_workers(2).into_iter();
    match mode {
        Mode::Processes => workers.map(|one| one.pid.to_string()).collect(),
        Mode::Threads => {
            let all = watch::threads(server.pid()).into_iter();
            let own = all.filter(|(_, name)| name.starts_with("worker "));
            own.map(|(thread, _)| thread).collect()
        }
    }
}

both_modes! {
    fn workers_yield_to_others(mode) {
        let server = Server::start(mode, &["-w", "2", "--nice", "5"]);
        let workers = carriers(&server, mode);
        assert_eq!(workers.len(), 2);
        for worker in workers {
            assert_eq!(watch::nice(worker), 5);
        }
        assert_eq!(watch::nice(server.pid()), watch::nice("self"));
        server.stop();
    }

    fn workers_keep_to_a_processor_each(mode) {
        let server = Server::start(mode, &["-w", "2", "--cpu-affinity"]);
        let list = "Cpus_allowed_list";
        let kept = carriers(&server, mode).into_iter();
        let kept: Vec<String> = kept.map(|one| watch::status(one, list).unwrap()).collect();
        for processor in &kept {
            assert!(processor.parse::<u32>().is_ok(), "{kept:?}");
        }
        let ours = watch::status("self", list);
        let several = ours.as_ref().is_some_and(|ours| ours.parse::<u32>().is_err());
        let distinct: BTreeSet<&String> = kept.iter().collect();
        assert_eq!(distinct.len(), if several { 2 } else { 1 }, "{kept:?}");
        assert_eq!(watch::status(server.pid(), list), ours);
        server.stop();
    }

    fn load_balancers_turn_away_before_it_drains(mode) {
        let _alone = alone();
        let arguments = ["-w", "2", "--health-path", "/health", "--drain-delay", "2s"];
        let server = Server::start(mode, &arguments);
        let address = server.address();
        let health = || Client::connect(address).unwrap().get("/health").unwrap();
        assert_eq!((health().status, health().text()), (200, "ok\n"));
        let (mut idle, _) = Client::greeted(address);
        server.signal(Signal::SIGTERM);
        wait_until("a health of 503", || health().status == 503);
        // All else goes on, connections old and new.
        idle.get("/").unwrap().who();
        let (mut busy, _) = Client::greeted(address);
        busy.ask("/slow?ms=3000").unwrap();
        let delayed = server.log.wait(0, "stopping");
        assert!(delayed.contains("stopping in 2s"), "{delayed}");
        assert!(!server.log.all().iter().any(|line| line.contains("stopping: ")));
        assert!(idle.ends());
        server.log.wait(0, "stopping: 2 workers finish what they have");
        let answer = busy.receive().unwrap();
        assert_eq!(answer.text(), "waited 3000 ms\n");
        assert!(answer.closes() && busy.ends());
        assert_eq!(server.ended().status.code(), Some(0));
    }

    fn a_second_signal_does_not_wait_for_load_balancers(mode) {
        let arguments = ["-w", "2", "--health-path", "/health", "--drain-delay", "1h"];
        let server = Server::start(mode, &arguments);
        server.signal(Signal::SIGTERM);
        server.log.wait(0, "stopping in 3600s");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.ended().status.code(), Some(0));
    }
}

/// The processes of a namespace whose first is `init`, by its children.
fn named(init: i32, name: &str) -> Vec<i32> {
    let all = watch::children(init).into_iter();
    all.filter(|pid| watch::status(pid, "Name").as_deref() == Some(name))
        .collect()
}

/// Leaves a process behind that is nobody's in the namespace of `init`.
fn leave_behind(init: i32) {
    let target = init.to_string();
    let script = "(sleep 3600 </dev/null >/dev/null 2>&1 &)";
    let mut command = Command::new("nsenter");
    command.args(["--target", &target, "--pid", "sh", "-c", script]);
    assert!(command.status().unwrap().success());
}

fn end(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn process_one_buries_everybody_and_judges_its_own() {
    let namespace = ["--pid", "--fork", "--mount-proc"];
    let mut trial = Command::new("unshare");
    trial.args(namespace).arg("true").stderr(Stdio::null());
    if !trial.status().is_ok_and(|status| status.success()) {
        return skip("being process 1", "no namespace of processes can be made");
    }
    // Some are there before the program is.
    let script = "(sleep 3600 </dev/null >/dev/null 2>&1 &); exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", script, BINARY]);
    command.args(["-w", "2", "-l", "127.0.0.1:0"]);
    command.stdin(Stdio::null());
    let server = Server::launch(command);
    let address = server.address();
    let init = watch::children(server.pid())[0];
    let workers = server.wait_for_workers(2);
    let pids = |worker: &Worker| worker.pid;
    assert!(workers.iter().map(pids).all(|pid| pid < 20), "{workers:?}");

    let [orphan] = named(init, "sleep")[..] else {
        panic!("it inherits who lost a parent");
    };
    end(orphan, Signal::SIGKILL);
    wait_until("the orphan is buried", || named(init, "sleep").is_empty());

    // Some come later, and end in the same moment as a worker.
    for _ in 0..3 {
        leave_behind(init);
    }
    // They have that name when the shell has become them.
    wait_until("three orphans", || named(init, "sleep").len() == 3);
    let orphans = named(init, "sleep");
    let worker = named(init, "mcluster")[0];
    end(init, Signal::SIGSTOP);
    wait_until("process 1 stands still", || watch::is_stopped(init));
    end(worker, Signal::SIGKILL);
    for &orphan in &orphans {
        end(orphan, Signal::SIGSEGV);
    }
    let mut dead = orphans;
    dead.push(worker);
    wait_until("all are dead", || {
        dead.iter().all(|&one| watch::is_unburied(one))
    });
    end(init, Signal::SIGCONT);
    wait_until("nobody lies about", || {
        let all = watch::children(init);
        all.len() == 2 && !all.into_iter().any(watch::is_unburied)
    });
    server.wait_for_workers(2);
    Client::greeted(address);
    let deaths = server.log.all();
    let deaths: Vec<_> = deaths
        .iter()
        .filter(|line| line.contains(" died: "))
        .collect();
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    assert!(deaths[0].contains("died: signal 9 (SIGKILL); forking worker 3"));

    leave_behind(init);
    end(init, Signal::SIGUSR2);
    server
        .log
        .wait(0, "upgraded: this program took over 2 workers");
    server.log.wait(0, "reloaded: all workers are new");
    Client::greeted(address);
    end(named(init, "sleep")[0], Signal::SIGTERM);
    wait_until("nobody lies about", || watch::children(init).len() == 2);

    end(init, Signal::SIGTERM);
    let ended = server.ended();
    assert_eq!(ended.status.code(), Some(0), "{:#?}", ended.log);
    assert!(ended.log.last().unwrap().contains("primary 1 has stopped"));
}
