//! Ecosystem files of many shapes: their keys as tables, and what a real node makes of files.

use super::*;
use serde_json::json;
use std::fs;
use std::io::Write;

/// What an application becomes, as `ID WORDS` in the order of the ids, and what is not supported.
fn words(
    app: Value,
    environment: Option<&str>,
) -> std::result::Result<(Vec<String>, Vec<String>), String> {
    let entries = applications(&app, environment)?;
    let entry = &entries[0];
    let settings = entry.settings.iter();
    let mut lines: Vec<_> = settings
        .map(|setting| format!("{} {}", setting.id, setting.words.join(" ")))
        .collect();
    if !entry.node_args.is_empty() {
        lines.push(format!("node_args {}", entry.node_args.join("|")));
    }
    lines.sort();
    Ok((lines, entry.unsupported.clone()))
}

#[test]
fn keys_become_options() {
    let cases = [
        (json!({"script": "a.js"}), "program a.js, workers 1"),
        (
            json!({"script": "a.js", "instances": "max"}),
            "program a.js, workers max",
        ),
        (
            json!({"script": "a.js", "instances": 0}),
            "program a.js, workers max",
        ),
        (
            json!({"script": "a.js", "instances": -1}),
            "program a.js, workers max-1",
        ),
        (
            json!({"script": "a.js", "instances": "4", "exec_mode": "cluster"}),
            "program a.js, workers 4",
        ),
        (
            json!({"script": "a.js", "name": "my api"}),
            "name my-api, program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "args": "-p 80 'a b'"}),
            "args -p 80 a b, program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "args": ["-p", 80]}),
            "args -p 80, program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "env": {"A": 1, "B": true, "C": "x"}, "port": 80}),
            "env A=1 B=true C=x PORT=80, program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "max_memory_restart": "300M", "kill_timeout": 3000, "listen_timeout": "8s", "restart_delay": 0, "wait_ready": true}),
            "drain_timeout 3000ms, listen_timeout 8s, max_memory 300M, program a.js, restart_delay 0ms, wait_ready true, workers 1",
        ),
        (
            json!({"script": "a.js", "watch": true, "ignore_watch": ["logs", "*.tmp"]}),
            "ignore_watch logs *.tmp, program a.js, watch ., workers 1",
        ),
        (
            json!({"script": "a.js", "watch": ["src", "lib"]}),
            "program a.js, watch src lib, workers 1",
        ),
        (
            json!({"script": "a.js", "watch": false}),
            "program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "node_args": "--inspect -r 'a b'", "source_map_support": true}),
            "node_args --inspect|-r|a b|--enable-source-maps, program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "node_args": ["--title=it's \"x\"", ""]}),
            "node_args --title=it's \"x\"|, program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "out_file": "NULL", "error_file": "e.log", "time": true, "merge_logs": true}),
            "error e.log, output /dev/null, program a.js, time true, workers 1",
        ),
        (
            json!({"script": "a.js", "log_file": "all.log"}),
            "error all.log, output all.log, program a.js, workers 1",
        ),
        (
            json!({"script": "a.py", "interpreter": "python3", "uid": "www", "gid": 33}),
            "group 33, interpreter python3, program a.py, user www, workers 1",
        ),
        (
            json!({"script": "a.js", "name": null, "cwd": "", "out_file": "", "instances": null, "watch": null, "kill_timeout": false, "env": null, "args": null, "port": null}),
            "program a.js, workers 1",
        ),
        (
            json!({"script": "a.js", "autorestart": true, "cron_restart": null, "instance_var": "NODE_APP_INSTANCE"}),
            "program a.js, workers 1",
        ),
    ];
    for (app, expected) in cases {
        let (lines, unsupported) = words(app.clone(), None).unwrap();
        assert_eq!(lines.join(", "), expected, "{app}");
        assert!(unsupported.is_empty(), "{app}: {unsupported:?}");
    }
}

#[test]
fn what_is_not_done_is_named() {
    let app = json!({
        "script": "a.js", "cron_restart": "0 * * * *", "autorestart": false, "min_uptime": "1h",
        "max_restarts": 3, "exp_backoff_restart_delay": 100, "instance_var": "PLACE",
        "increment_var": "PORT", "shutdown_with_message": true, "post_update": ["x"], "namespace": "a",
        "log_date_format": "YYYY", "no_such_key": 1, "env_other": {"A": 1},
    });
    let (_, mut unsupported) = words(app, None).unwrap();
    unsupported.sort();
    let expected = "autorestart, cron_restart, exp_backoff_restart_delay, increment_var, \
        instance_var, log_date_format (times are those of RFC 3339), max_restarts, min_uptime, \
        namespace, no_such_key, post_update, shutdown_with_message";
    assert_eq!(unsupported.join(", "), expected);
}

#[test]
fn environments_stand_above_each_other() {
    let app = json!({"script": "a.js", "env": {"A": 1, "B": 1}, "env_production": {"B": 2}, "env_test": {"B": 3}});
    for (name, expected) in [
        (None, "env A=1 B=1"),
        (Some("production"), "env A=1 B=2"),
        (Some("test"), "env A=1 B=3"),
        (Some("other"), "env A=1 B=1"),
    ] {
        let (lines, _) = words(app.clone(), name).unwrap();
        assert_eq!(lines[0], expected);
    }
}

#[test]
fn files_have_several_shapes() {
    let one = json!({"script": "a.js"});
    let two = json!([{"script": "a.js"}, {"script": "b.js"}]);
    for (file, count) in [
        (json!({"apps": one, "deploy": {}}), 1),
        (json!({"apps": two}), 2),
        (two.clone(), 2),
        (one.clone(), 1),
        (json!([]), 0),
    ] {
        assert_eq!(applications(&file, None).unwrap().len(), count, "{file}");
    }
    for (file, why) in [
        (json!({}), "no apps"),
        (json!({"name": "a", "dependencies": {}}), "no apps"),
        (json!("a"), "an object"),
        (json!({"apps": [1]}), "an object"),
        (json!({"script": "a.js", "name": []}), "no text"),
        (
            json!({"script": "a.js", "name": "x", "env": 1}),
            "x: env: it is no object",
        ),
        (
            json!({"script": "a.js", "args": {}}),
            "an application: args: ",
        ),
        (
            json!({"script": "a.js", "exec_mode": "threads"}),
            "exec_mode: \"threads\" is no mode",
        ),
        (
            json!({"script": "a.js", "name": "x", "kill_timeout": 1.5}),
            "x: kill_timeout: ",
        ),
        (
            json!({"script": "a.js", "instances": "x"}),
            "instances: \"x\"",
        ),
        (
            json!({"script": "a.js", "max_memory_restart": "much"}),
            "max_memory_restart: ",
        ),
    ] {
        let found = applications(&file, None).unwrap_err();
        assert!(found.contains(why), "{file}: {found}");
    }
}

#[test]
fn what_is_one_goes_by_the_name() {
    for (name, expected) in [
        ("ecosystem.config.js", true),
        ("/a/pm2.config.cjs", true),
        ("x.config.mjs", true),
        ("process.json", true),
        ("app.js", false),
        ("config.js", false),
        ("app.json/server", false),
    ] {
        assert_eq!(is_one(OsStr::new(name)), expected, "{name}");
    }
}

#[test]
fn node_reads_them() {
    if Command::new("node").arg("--version").output().is_err() {
        let line = "skipped: ecosystem files are not read: there is no node\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let directory = std::env::temp_dir().join(format!("mcluster-ecosystem-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let cases = [
        (
            "a.config.js",
            "console.log('noise'); module.exports = { apps: [{ script: 'a.js', name: require('path').basename(__filename) }] }",
            Ok("a.config.js"),
        ),
        (
            "b.config.cjs",
            "exports.apps = { script: 'a.js', name: 'b', ready() {} }",
            Ok("b"),
        ),
        (
            "c.config.mjs",
            "export default { apps: [{ script: 'a.js', name: 'c' }] }",
            Ok("c"),
        ),
        (
            "d.json",
            "// by hand\n{ \"apps\": [{ script: 'a.js', \"name\": \"d\", }] }\n// end",
            Ok("d"),
        ),
        (
            "e.config.js",
            "throw new Error('out of\\norder')",
            Err("out of, order"),
        ),
        (
            "f.config.js",
            "process.exit(1)",
            Err("without having read it"),
        ),
        ("g.json", "{", Err("Unexpected")),
        (
            "i.config.js",
            "module.exports = {\n  apps: [}",
            Err("i.config.js:2"),
        ),
        (
            "j.config.js",
            "throw new Error('\\u001b[31mred')",
            Err("?[31mred"),
        ),
        (
            "k.config.js",
            "require('child_process').spawn('sleep', ['5'], { stdio: 'inherit' }); module.exports = { script: 'a.js', name: 'k' }",
            Ok("k"),
        ),
        (
            "h.config.js",
            "module.exports = { apps: { script: 'x'.repeat(2 << 20) } }",
            Err("longer than 1M"),
        ),
    ];
    for (name, text, expected) in cases {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        let found = run(&path).and_then(|said| words(said, None));
        match (found, expected) {
            (Ok((lines, _)), Ok(app)) => assert_eq!(lines[0], format!("name {app}"), "{name}"),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{name}: {why}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
    fs::remove_dir_all(&directory).unwrap();
}
