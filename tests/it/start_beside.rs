//! What `mcluster start` has beside a primary: what it keeps open, its log that is moved aside, the
//! process that watches files, and files that are replaced.

use crate::start::{node, within};
use crate::support::{Directory, Server, output, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const APP: &str =
    "require('http').createServer((asked, answer) => answer.end()).listen(0, '127.0.0.1');\n";

fn place() -> Directory {
    let directory = Directory::new();
    fs::write(directory.file("app.js"), APP).unwrap();
    for name in ["run", "state", "src"] {
        fs::create_dir(directory.file(name)).unwrap();
    }
    directory
}

/// The children of a process that have not executed anything.
fn watchers(primary: i32) -> Vec<i32> {
    let path = format!("/proc/{primary}/task/{primary}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let own = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.starts_with("mcluster"))
    };
    children.filter(own).collect()
}

fn has_ended(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat"));
    status.is_err()
}

fn targets(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

#[test]
fn one_in_the_background_has_its_own_things_alone() {
    if !node() {
        return;
    }
    let directory = place();
    let start = within(
        &directory,
        &["start", "app.js", "-d", "-w1", "--watch", "src"],
    );
    let mut shell = Command::new("sh");
    let script = "exec 9>lock && exec \"$@\"";
    shell.args(["-c", script, "sh"]).arg(start.get_program());
    shell
        .args(start.get_args())
        .current_dir(directory.file("."));
    for (name, value) in start.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    let begun = output(shell);
    let said = String::from_utf8(begun.stdout).unwrap();
    let (_, rest) = said.split_once("runs as pid ").unwrap();
    let primary: i32 = rest.split(',').next().unwrap().parse().unwrap();
    let log = directory.file("state").join("mcluster/app.log");
    let [watcher] = watchers(primary)[..] else {
        panic!("{:?}", watchers(primary));
    };
    for pid in [primary, watcher] {
        let targets = targets(pid);
        assert!(
            !targets.iter().any(|link| link.ends_with("/lock")),
            "{targets:?}"
        );
    }
    assert!(
        !targets(watcher)
            .iter()
            .any(|link| link.contains("memfd") || link.contains("signalfd"))
    );
    let moved = directory.file("moved");
    fs::rename(&log, &moved).unwrap();
    kill(Pid::from_raw(primary), Signal::SIGUSR1).unwrap();
    wait_until("the log is open again", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("is open again"))
    });
    wait_until("nobody writes the one that was moved", || {
        let all = [primary, watcher].into_iter().flat_map(targets);
        all.into_iter().all(|link| !link.ends_with("/moved"))
    });
    // One that ends at once is not begun anew.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    kill(Pid::from_raw(watcher), Signal::SIGKILL).unwrap();
    wait_until("another watches", || {
        watchers(primary)
            .first()
            .is_some_and(|other| *other != watcher)
    });
    assert!(has_ended(watcher), "a zombie is left");
    wait_until("it has begun to", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("watching "))
    });
    fs::write(directory.file("src").join("a"), "").unwrap();
    wait_until("it has reloaded", || {
        fs::read_to_string(&log)
            .is_ok_and(|text| text.contains("there is another") && text.contains("reloaded"))
    });
    assert!(
        output(within(&directory, &["stop", "app"]))
            .status
            .success()
    );
}

#[test]
fn directories_that_are_replaced_are_watched() {
    if !node() {
        return;
    }
    let directory = place();
    for release in ["one", "two"] {
        fs::create_dir(directory.file(release)).unwrap();
    }
    let link = directory.file("current");
    symlink("one", &link).unwrap();
    let arguments = [
        "start", "app.js", "-w1", "--watch", "src", "--watch", "current",
    ];
    let server = Server::launch(within(&directory, &arguments));
    server.urls(1);
    let mark = server.log.mark();
    symlink("two", directory.file("new")).unwrap();
    fs::rename(directory.file("new"), &link).unwrap();
    server.log.wait(mark, "current has changed: reloading");
    server.log.wait(mark, "reloaded");
    let mark = server.log.mark();
    fs::write(directory.file("two").join("a.js"), "").unwrap();
    server.log.wait(mark, "two/a.js has changed: reloading");
    server.log.wait(mark, "reloaded");
    let mark = server.log.mark();
    let src = directory.file("src");
    fs::remove_dir(&src).unwrap();
    fs::create_dir(&src).unwrap();
    server.log.wait(mark, "src has changed: reloading");
    server.log.wait(mark, "reloaded");
    let mark = server.log.mark();
    fs::write(src.join("b.js"), "").unwrap();
    server.log.wait(mark, "src/b.js has changed: reloading");
    server.log.wait(mark, "reloaded");
    server.stop();
}
