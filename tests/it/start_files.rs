//! What `mcluster start` refuses and reads before anything runs, and the units that it prints.

use crate::start::{node, within};
use crate::support::{Directory, Server, output};
use std::fs;
use std::process::Command;

/// How a command ended, and what it said on stderr.
#[track_caller]
fn failed(directory: &Directory, arguments: &[&str]) -> (i32, String) {
    let output = output(within(directory, arguments));
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

#[test]
fn what_makes_no_sense_is_refused() {
    let directory = Directory::new();
    fs::write(directory.file("app.js"), "").unwrap();
    fs::write(
        directory.file("bad.toml"),
        "[[app]]\nprogram = 'app.js'\nworkerz = 1\n",
    )
    .unwrap();
    fs::write(directory.file("none.toml"), "workers = 1\n").unwrap();
    let twice = "[[app]]\nprogram = 'app.js'\n".repeat(2);
    fs::write(directory.file("twice.toml"), twice).unwrap();
    let cases: [(&[&str], i32, &str); 12] = [
        (&["start"], 2, "start what?"),
        (&["start", "missing.js"], 2, "no such file or program"),
        (&["start", "npm", "--", "start"], 2, "process of its own"),
        (
            &["start", "app.js", "--env", "production"],
            2,
            "no KEY=VALUE",
        ),
        (
            &["start", "app.js", "--rotate", "1M"],
            2,
            "rotate: there is no file",
        ),
        (
            &["start", "app.js", "-s", "least-connections"],
            2,
            "least-connections",
        ),
        (&["start", "app.js", "--watch", "nowhere"], 2, "watch: "),
        (
            &["start", "app.js", "--config", "bad.toml"],
            2,
            "--config is for",
        ),
        (
            &["start", "--config", "bad.toml"],
            3,
            "bad.toml:3: workerz: there is no such key; did you mean workers?",
        ),
        (&["start", "--config", "none.toml"], 3, "no [[app]] in it"),
        (
            &["start", "--config", "twice.toml"],
            3,
            "two applications are named app",
        ),
        (
            &["check", "--config", "bad.toml"],
            3,
            "did you mean workers?",
        ),
    ];
    for (arguments, status, expected) in cases {
        let (code, said) = failed(&directory, arguments);
        assert_eq!(code, status, "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn starting_and_checking_find_the_same_mistakes() {
    let directory = Directory::new();
    fs::write(directory.file("app.js"), "").unwrap();
    let cases = [
        ("cwd = 'nowhere'", "a.toml: app: app.js: cwd: "),
        ("watch = 'nowhere'", "a.toml: app: watch: "),
        ("output = 'nowhere/log'", "a.toml: app: output: "),
        (
            "control = 'c'\n[[app]]\nprogram = 'app'\nname = 'b'\ncontrol = 'c'",
            "a.toml: app and b have the same control socket",
        ),
    ];
    for (line, expected) in cases {
        let file = format!("[[app]]\nprogram = 'app.js'\n{line}\n");
        fs::write(directory.file("a.toml"), file).unwrap();
        for command in ["start", "check"] {
            let (code, said) = failed(&directory, &[command, "--config", "a.toml"]);
            assert_eq!(code, 3, "{command}, {line}: {said}");
            assert!(said.contains(expected), "{command}, {line}: {said}");
        }
    }
}

#[test]
fn policies_in_variables_mean_node_programs() {
    let directory = Directory::new();
    fs::write(directory.file("app.js"), "").unwrap();
    let node = ["start", "app.js", "--watch", "nowhere"];
    let other = ["start", "sh", "-l", "127.0.0.1:0", "--watch", "nowhere"];
    for (arguments, policy, expected) in [
        (&node[..], "fair", "NODE_CLUSTER_SCHED_POLICY"),
        (&node, "rr", "watch: "),
        (&other, "fair", "watch: "),
        (&other, "rr", "watch: "),
    ] {
        let mut command = within(&directory, arguments);
        command.env("NODE_CLUSTER_SCHED_POLICY", policy);
        let output = output(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(expected), "{arguments:?} {policy}: {said}");
    }
}

#[test]
fn an_ecosystem_file_is_run() {
    if !node() {
        return;
    }
    let directory = Directory::new();
    fs::create_dir(directory.file("run")).unwrap();
    let app =
        "require('http').createServer((asked, answer) => answer.end()).listen(0, '127.0.0.1');
process.send(process.env.NODE_ENV + process.argv[2]);";
    fs::write(directory.file("app.js"), app).unwrap();
    let file = "module.exports = { apps: [{ name: 'api', script: 'app.js', args: 'x', cron_restart: '0 0 * * *',
        env: { NODE_ENV: 'development' }, env_production: { NODE_ENV: 'production' } }] };";
    fs::write(directory.file("ecosystem.config.js"), file).unwrap();
    let arguments = ["start", "ecosystem.config.js", "--env", "production"];
    let server = Server::launch(within(&directory, &arguments));
    server.log.wait(0, "api: not supported here: cron_restart");
    server.urls(1);
    server.log.wait(0, "says \"productionx\"");
    server.stop();
}

#[test]
fn the_unit_of_an_application() {
    let directory = Directory::new();
    fs::write(directory.file("app.js"), "").unwrap();
    fs::write(
        directory.file("mcluster.toml"),
        "[[app]]\nprogram = 'app.js'\n",
    )
    .unwrap();
    let printed = output(within(&directory, &["unit", "systemd", "--name", "app"]));
    assert!(printed.status.success(), "{printed:?}");
    let unit = String::from_utf8(printed.stdout).unwrap();
    for line in [
        "Type=notify\n",
        "KillMode=mixed\n",
        "Restart=always\n",
        " --only app\n",
        "TimeoutStopSec=35\n",
    ] {
        assert!(unit.contains(line), "{line}: {unit}");
    }
    let (code, said) = failed(&directory, &["unit", "systemd", "--name", "other"]);
    assert_eq!(code, 6, "{said}");
    let path = directory.file("app.service");
    fs::write(&path, unit).unwrap();
    let judged = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output();
    if let Ok(judged) = judged {
        let said = String::from_utf8_lossy(&judged.stderr).into_owned();
        let ours = said.lines().filter(|line| line.contains("app.service"));
        assert_eq!(ours.count(), 0, "{said}");
    }
}
