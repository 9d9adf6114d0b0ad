//! What a Node worker runs before its application: what it adds to answers, how it lets go of connections,
//! and that the application notices nothing.

use crate::client::{Answer, Client};
use crate::node::{App, Setting, certificate, is_foreign, major, node_is_there};
use crate::support::wait_until;
use nix::sys::signal::Signal;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Heads in every way that Node has: the path, the application's own cookies, and whether ours is to come.
const HEADS: [(&str, &[&str], bool); 28] = [
    ("none", &[], true),
    ("object", &[], true),
    ("object_other", &[OTHER], true),
    ("object_two", &[OTHER, "more=2"], true),
    ("object_own", &[MINE], false),
    ("object_public", &[], false),
    ("frozen", &[], true),
    ("reason", &[], true),
    ("reason_alone", &[], true),
    ("undefined", &[], true),
    ("undefined_last", &[OTHER], true),
    ("array", &[], true),
    ("array_other", &[OTHER], true),
    ("array_own", &[MINE], false),
    ("pairs", &[], true),
    ("pairs_other", &[OTHER], true),
    ("pairs_own", &[MINE], false),
    ("set", &[], true),
    ("set_other", &[OTHER], true),
    ("set_two", &[OTHER, "more=2"], true),
    ("set_own", &[OTHER, MINE], false),
    ("set_public", &[], false),
    ("set_private", &[], true),
    ("both", &[OTHER], true),
    ("both_array", &[OTHER], true),
    ("both_public", &[], false),
    ("flushed", &[], true),
    ("keeps_object", &[], true),
];

const OTHER: &str = "other=1";
const MINE: &str = "at=mine";

/// How long idle connections wait where that is looked at: what is asked of them takes no time.
const HOLD: Duration = Duration::from_secs(3);

/// None where there is nothing to preload.
fn one(setting: Setting, policy: &str, hold: &str) -> Option<App> {
    if !node_is_there() || is_foreign() {
        return None;
    }
    let arguments = ["--schedule", policy, "--hold-idle", hold];
    Some(setting.count(1).start("preload.js", &arguments))
}

/// Has the first worker replaced, which then goes.
#[track_caller]
fn tell_to_go(app: &App) {
    app.server.signal(Signal::SIGHUP);
    app.said_by(1, "told to go");
}

/// Whether a cookie is one that names the first worker.
fn is_ours(cookie: &str) -> bool {
    let rest = cookie.strip_prefix("at=w1.");
    rest.and_then(|rest| rest.split_once(';'))
        .is_some_and(|(own, rest)| {
            own.len() == 8
                && own.bytes().all(|byte| byte.is_ascii_hexdigit())
                && rest == " Path=/; HttpOnly; SameSite=Lax"
        })
}

#[track_caller]
fn check_head(path: &str, answer: &Answer, others: &[&str], ours: bool) {
    let mut cookies = answer.fields("Set-Cookie");
    if ours {
        let last = cookies.pop();
        assert!(last.is_some_and(is_ours), "{path}: {answer:?}");
    }
    assert_eq!(cookies, others, "{path}: {answer:?}");
    let has_more = path != "none" && !path.starts_with("keeps");
    let more = has_more.then_some("1");
    assert_eq!(answer.field("X-A"), more, "{path}: {answer:?}");
    assert_eq!((answer.status, answer.text()), (200, path));
}

fn heads(setting: Setting) {
    let Some(app) = one(setting, "sticky-cookie:at", "1s") else {
        return;
    };
    let address = app.address();
    let mut client = Client::connect(address).unwrap();
    for (path, others, ours) in HEADS {
        let answer = client.get(&format!("/{path}")).unwrap();
        check_head(path, &answer, others, ours);
        // Who has a cookie of that name gets no other, whatever it says.
        for sent in ["at=w1.0", "x=y; at=w1", "at=what"] {
            let field = format!("Cookie: {sent}\r\n");
            let answer = client.request("GET", &format!("/{path}"), &field, "");
            check_head(path, &answer.unwrap(), others, false);
        }
    }
    let mut old = Client::connect(address).unwrap();
    old.send("GET /object HTTP/1.0\r\n\r\n").unwrap();
    let answer = old.receive().unwrap();
    assert!(answer.closes() && old.ends(), "{answer:?}");
    check_head("object", &answer, &[], true);
    for path in ["/raw", "/head"] {
        let mut client = Client::connect(address).unwrap();
        let upgrade = "Connection: Upgrade\r\nUpgrade: x\r\n";
        let answer = client.request("GET", path, upgrade, "").unwrap();
        let cookies = answer.fields("Set-Cookie");
        let connection = answer.field("Connection");
        assert_eq!((answer.status, connection), (101, Some("Upgrade")));
        assert!(cookies.is_empty(), "{answer:?}");
    }
    app.stop();
}

/// Connections of a worker that goes: whatever it says of them, each ends after its next answer.
fn leaving(setting: Setting) {
    let hold = format!("{}ms", HOLD.as_millis());
    let Some(app) = one(setting, "rr", &hold) else {
        return;
    };
    let address = app.address();
    let greeted = |path: &str| {
        let mut client = Client::connect(address).unwrap();
        assert!(!client.get("/seen").unwrap().closes());
        (path.to_owned(), client)
    };
    let paths = ["none", "object", "array", "pairs", "set", "keeps_set"];
    let paths = paths.into_iter().chain(["keeps_object", "keeps_array"]);
    let idle: Vec<_> = paths.map(greeted).collect();
    let (_, silent) = greeted("");
    let (_, mut going) = greeted("");
    let (_, mut waits) = greeted("");
    waits.ask("/waits").unwrap();
    let (_, mut headed) = greeted("");
    headed.ask("/headed").unwrap();
    assert!(!headed.until("\r\na").unwrap().contains("close"));
    tell_to_go(&app);
    let told = Instant::now();
    for (path, mut client) in idle {
        let answer = client.get(&format!("/{path}")).unwrap();
        assert!(answer.closes() && answer.text() == path, "{answer:?}");
        assert!(client.ends(), "{path}");
    }
    let answer = going.get("/go").unwrap();
    assert!(answer.closes() && answer.text() == "2", "{answer:?}");
    assert!(waits.receive().unwrap().closes() && waits.ends());
    // What had begun before says so one answer later.
    assert_eq!(headed.until("b").unwrap(), "b");
    let answer = headed.get("/none").unwrap();
    assert!(answer.closes() && headed.ends(), "{answer:?}");
    assert!(told.elapsed() < HOLD, "this machine was too slow to tell");
    assert!(silent.ends());
    // It was told a little before it said so.
    let waited = told.elapsed() + Duration::from_millis(500);
    assert!(waited > HOLD, "{waited:?}");
    wait_until("the old worker gone", || {
        app.server.workers().iter().all(|one| one.id > 1)
    });
    app.stop();
}

macro_rules! majors {
    ($($name:ident: $number:literal;)*) => { $(
        mod $name {
            use super::{Setting, major};

            #[test]
            fn heads() {
                if let Some(node) = major($number) {
                    super::heads(Setting::new().node(&node));
                }
            }

            #[test]
            fn leaving() {
                if let Some(node) = major($number) {
                    super::leaving(Setting::new().node(&node));
                }
            }
        }
    )* };
}

majors! {
    node18: 18;
    node20: 20;
    node22: 22;
    node24: 24;
}

/// An answer whose head was sent before and that ends when others are closed: its connection waits as
/// long as any.
#[test]
fn one_that_ends_late_waits_as_long() {
    let Some(app) = one(Setting::new(), "rr", "1s") else {
        return;
    };
    let mut headed = Client::connect(app.address()).unwrap();
    headed.ask("/headed").unwrap();
    headed.until("\r\na").unwrap();
    let mut going = Client::connect(app.address()).unwrap();
    going.get("/seen").unwrap();
    tell_to_go(&app);
    // A part of the time is over when it ends.
    thread::sleep(Duration::from_millis(500));
    let answer = going.get("/go").unwrap();
    assert!(answer.closes());
    headed.until("b").unwrap();
    let ended = Instant::now();
    assert!(headed.ends());
    let waited = ended.elapsed();
    assert!(waited > Duration::from_millis(900), "{waited:?}");
    app.stop();
}

/// Without, Node closes them at once.
#[test]
fn nothing_is_held_where_that_is_not_wanted() {
    let Some(app) = one(Setting::new(), "rr", "0") else {
        return;
    };
    let mut client = Client::connect(app.address()).unwrap();
    assert_eq!(client.get("/seen").unwrap().text(), "[[],[]]");
    let begun = Instant::now();
    tell_to_go(&app);
    assert!(client.ends());
    // Node's own limit for those that are idle is five seconds.
    assert!(begun.elapsed() < Duration::from_secs(4));
    app.stop();
}

/// Neither it nor what it starts sees anything of the script, and all of that works.
#[test]
fn the_application_does_not_see_it() {
    for policy in ["rr", "sticky-cookie:at", "sticky-query:sid"] {
        let Some(app) = one(Setting::new(), policy, "1s") else {
            return;
        };
        let mut client = Client::connect(app.address()).unwrap();
        for path in ["/seen", "/fork", "/thread"] {
            let answer = client.get(path).unwrap();
            assert_eq!(answer.text(), "[[],[]]", "{policy} {path}");
        }
        app.stop();
    }
}

#[test]
fn cookies_of_https_are_secure() {
    let Some(keys) = certificate() else {
        return;
    };
    let setting = Setting::new().env("KEYS", keys.file("").to_str().unwrap());
    let Some(app) = one(setting, "sticky-cookie:at", "1s") else {
        return;
    };
    let (_, port) = app.said(0, "secure on port");
    let script = "require('https').get({ port: process.argv[1], host: '127.0.0.1', path: '/object', \
        rejectUnauthorized: false }, (res) => console.log(res.headers['set-cookie'].join()))";
    let mut client = Command::new("node");
    let output = client.args(["-e", script, &port]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let plain = said.trim().strip_suffix("; Secure");
    assert!(plain.is_some_and(is_ours), "{said}");
    app.stop();
}
