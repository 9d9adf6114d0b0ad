//! `mcluster start` with a real node: in the foreground, in the background, several at once, and with
//! files that change.

use crate::client::Client;
use crate::support::{Directory, Server, address_of, command, output, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const APP: &str = "const http = require('http');
http.createServer((asked, answer) => answer.end(`${process.argv.slice(2)} ${process.env.WORD} ${process.pid}\\n`))
  .listen(0, '127.0.0.1', () => process.send({ up: process.env.NODE_APP_INSTANCE }));
";

/// Whether there is a node; said aloud where there is none.
pub(crate) fn node() -> bool {
    let there = Command::new("node").arg("--version").output().is_ok();
    if !there {
        let line = "skipped: programs are not started: there is no node\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    there
}

/// A directory with an application in it, and with those of the user.
fn place() -> Directory {
    let directory = Directory::new();
    fs::write(directory.file("app.js"), APP).unwrap();
    for name in ["run", "state"] {
        fs::create_dir(directory.file(name)).unwrap();
    }
    directory
}

pub(crate) fn within(directory: &Directory, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command
        .current_dir(directory.file("."))
        .env("XDG_RUNTIME_DIR", directory.file("run"))
        .env("XDG_STATE_HOME", directory.file("state"));
    command
}

/// What a command that succeeds prints.
#[track_caller]
fn printed(command: Command) -> String {
    let output = output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The address in a line, of any host.
#[track_caller]
fn body(url: &str) -> String {
    let mut client = Client::connect(address_of(url)).unwrap();
    client.get("/").unwrap().text().to_owned()
}

#[test]
fn a_script_in_the_foreground() {
    if !node() {
        return;
    }
    let directory = place();
    let arguments = [
        "start",
        "app.js",
        "-w",
        "2",
        "--env",
        "WORD=hello",
        "--",
        "x",
        "-y",
    ];
    let server = Server::launch(within(&directory, &arguments));
    let url = server.urls(1).remove(0);
    assert!(body(&url).starts_with("x,-y hello "), "{url}");
    server.log.wait(0, "worker 1 says {\"up\":\"0\"}");
    let again = output(within(&directory, &["start", "app.js"]));
    assert_eq!(again.status.code(), Some(8));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("app runs already"), "{said}");
    let status = printed(within(&directory, &["status", "app"]));
    assert!(status.contains("app "), "{status}");
    printed(within(&directory, &["scale", "app", "1"]));
    server.stop();
}

#[test]
fn a_script_in_the_background() {
    if !node() {
        return;
    }
    let directory = place();
    let out = printed(within(
        &directory,
        &["start", "app.js", "-d", "-w1", "--name", "api"],
    ));
    let lines: Vec<_> = out.lines().collect();
    let url = lines[0].strip_prefix("listening on ").unwrap();
    assert!(body(url).starts_with(" undefined "), "{url}");
    let log = directory.file("state").join("mcluster/api.log");
    assert!(lines[1].starts_with("api runs as pid ") && lines[1].ends_with(log.to_str().unwrap()));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("primary"), "{text}");
    printed(within(&directory, &["reload", "api"]));
    let unit = printed(within(&directory, &["unit", "systemd", "--name", "api"]));
    assert!(unit.contains(" start app.js -w 1 --name api\n"), "{unit}");
    printed(within(&directory, &["stop", "api"]));
    fs::write(directory.file("bad.js"), "process.exit(3)").unwrap();
    let failed = output(within(&directory, &["start", "bad.js", "-d", "-w1"]));
    assert_eq!(failed.status.code(), Some(5), "{failed:?}");
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("bad: giving up") && said.contains("bad.log"),
        "{said}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listens = format!(
        "require('net').createServer().listen({}, '127.0.0.1')",
        address.port()
    );
    for (text, status, why) in [
        ("no no", 5, "SyntaxError: ".to_owned()),
        (&listens, 4, format!("cannot listen on {address}: ")),
    ] {
        fs::write(directory.file("bad.js"), text).unwrap();
        let failed = output(within(&directory, &["start", "bad.js", "-d", "-w1"]));
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(status), "{said}");
        assert!(said.contains(&why), "{said}");
    }
    // A primary that has failed leaves nothing that answers.
    wait_until("nothing runs", || {
        !directory.file("run/mcluster/bad.sock").exists()
    });
}

#[test]
fn what_cannot_be_executed_ends_the_start_at_once() {
    let directory = place();
    let cases = [
        ("/no/such/node", "No such file or directory"),
        ("/etc/passwd", "Permission denied"),
    ];
    for (interpreter, why) in cases {
        let arguments = ["start", "app.js", "-w2", "--interpreter", interpreter];
        let ended = output(within(&directory, &arguments));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let last = format!("mcluster: cannot execute {interpreter}: {why}");
        assert_eq!(said.lines().last(), Some(last.as_str()), "{said}");
    }
    let arguments = ["start", "app.js", "-d", "--interpreter", "/no/such/node"];
    let ended = output(within(&directory, &arguments));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot execute /no/such/node: "), "{said}");
}

#[test]
fn several_applications_of_one_file() {
    if !node() {
        return;
    }
    let directory = place();
    let file = "[[app]]\nname = 'a'\nprogram = 'app.js'\nworkers = 1\nargs = 'one'\n\
        [[app]]\nname = 'b'\nprogram = 'app.js'\nworkers = 1\nenv = { WORD = 'two' }\n";
    fs::write(directory.file("mcluster.toml"), file).unwrap();
    printed(within(&directory, &["check"]));
    let server = Server::launch(within(&directory, &["start"]));
    let mut bodies: Vec<_> = server.urls(2).iter().map(|url| body(url)).collect();
    bodies.sort();
    assert!(bodies[0].starts_with(" two ") && bodies[1].starts_with("one undefined "));
    let list = printed(within(&directory, &["list"]));
    assert_eq!(list.lines().count(), 3, "{list}");
    server.signal(Signal::SIGHUP);
    let mark = server.log.wait(0, "reloading");
    assert!(!mark.is_empty());
    server.stop();
    let one = Server::launch(within(&directory, &["start", "--only", "b"]));
    assert!(body(&one.urls(1)[0]).starts_with(" two "));
    one.stop();
    let none = output(within(&directory, &["start", "--only", "c"]));
    assert_eq!(none.status.code(), Some(3));
}

#[test]
fn files_that_change_reload_it() {
    if !node() {
        return;
    }
    let directory = place();
    let deep = directory.file("src").join("deep");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(directory.file("src").join("node_modules")).unwrap();
    let arguments = [
        "start", "app.js", "-w1", "--watch", "src", "--watch", "app.js",
    ];
    let server = Server::launch(within(&directory, &arguments));
    server.urls(1);
    server.log.wait(0, "watching ");
    let write = |path: &Path| fs::write(path, "// changed").unwrap();
    write(&directory.file("src").join("node_modules/x.js"));
    write(&directory.file("other.js"));
    let mark = server.log.mark();
    write(&deep.join("a.js"));
    server.log.wait(mark, "deep/a.js has changed: reloading");
    server.log.wait(mark, "reloaded");
    let early = server.log.all().join("\n");
    assert!(!early.contains("x.js has changed") && !early.contains("other.js has changed"));
    let mark = server.log.mark();
    fs::write(directory.file("app.js.new"), APP.replace("undefined", "")).unwrap();
    fs::rename(directory.file("app.js.new"), directory.file("app.js")).unwrap();
    server.log.wait(mark, "app.js has changed: reloading");
    server.log.wait(mark, "reloaded");
    server.stop();
}
