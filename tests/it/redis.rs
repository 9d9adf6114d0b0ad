//! Sessions on a real redis-server: the store by itself, and clusters that share one.
//!
//! Each test is skipped, with a line that says so, where there is no redis-server.

use crate::client::{Answer, Client};
use crate::support::{Directory, Server, command, wait_until};
use crate::support_redis::{RedisServer, free_port};
use mcluster::session::{Record, RedisStore, SessionId, SessionStore, StoreError};
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// More than any answer takes that does not wait for a server, on a busy machine too.
const QUICK: Duration = Duration::from_secs(5);

fn store(server: &RedisServer) -> RedisStore {
    let store = RedisStore::open(&server.url()).unwrap();
    // Only a server that hangs takes that long.
    store.timeout(Duration::from_secs(30))
}

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

/// The key of that, as it is documented.
fn key(number: u8) -> String {
    format!("mcluster:session:{}", format!("{number:02x}").repeat(16))
}

/// A session that ends then.
fn record(data: &[u8], end: Duration) -> Record {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now);
    Record {
        data: data.to_vec(),
        created: now,
        expires: now + end,
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn redis_compares_and_swaps() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = store(&server);
    let first = record(b"one \0\r\n\xff", HOUR);
    assert_eq!(store.get(&id(1)).unwrap(), None);
    let version = store.put(&id(1), &first, None).unwrap();
    assert!(version >= 1);
    assert_eq!(store.get(&id(1)).unwrap(), Some((first.clone(), version)));
    let conflict = |result| matches!(result, Err(StoreError::Conflict));
    let second = record(b"", HOUR);
    for wrong in [None, Some(0), Some(version + 1), Some(u64::MAX)] {
        assert!(conflict(store.put(&id(1), &second, wrong)), "{wrong:?}");
    }
    assert!(conflict(store.put(&id(2), &second, Some(version))));
    let next = store.put(&id(1), &second, Some(version)).unwrap();
    assert!(next > version);
    assert_eq!(store.get(&id(1)).unwrap(), Some((second.clone(), next)));
    // An id that comes again has other versions.
    store.remove(&id(1)).unwrap();
    store.remove(&id(1)).unwrap();
    assert_eq!(store.get(&id(1)).unwrap(), None);
    let again = store.put(&id(1), &first, None).unwrap();
    assert!(again > next);
    // A prefix is a store of its own.
    let other = RedisStore::open(&server.url()).unwrap().prefix("other:");
    assert_eq!(other.get(&id(1)).unwrap(), None);
}

#[test]
fn redis_counts_what_many_threads_add() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = store(&server);
    let add = || loop {
        let found = store.get(&id(1)).unwrap();
        let version = found.as_ref().map(|(_, version)| *version);
        let text = found.map_or(b"0".to_vec(), |(record, _)| record.data);
        let count: u64 = String::from_utf8(text).unwrap().parse().unwrap();
        let more = record((count + 1).to_string().as_bytes(), HOUR);
        match store.put(&id(1), &more, version) {
            Ok(_) => break,
            Err(StoreError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    };
    // More threads than connections.
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| (0..20).for_each(|_| add()));
        }
    });
    let (found, _) = store.get(&id(1)).unwrap().unwrap();
    assert_eq!(found.data, b"400");
}

#[test]
fn redis_forgets_what_has_expired() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = store(&server);
    let past = SystemTime::UNIX_EPOCH;
    let dead = Record {
        expires: past,
        ..record(b"x", HOUR)
    };
    // The end of one that lives, and of one that never did.
    let version = store.put(&id(1), &record(b"x", HOUR), None).unwrap();
    assert!(store.put(&id(1), &dead, Some(version)).unwrap() > version);
    assert_eq!(store.get(&id(1)).unwrap(), None);
    store.put(&id(2), &dead, None).unwrap();
    assert_eq!(server.ask("DBSIZE"), ":0\r\n");
    // By itself.
    let short = record(b"x", Duration::from_millis(200));
    store.put(&id(3), &short, None).unwrap();
    wait_until("it expires", || store.get(&id(3)).unwrap().is_none());
    assert!(short.expires <= SystemTime::now() + Duration::from_millis(1));
    // Touched: longer, then over; bytes and version stay.
    let first = record(b"y", Duration::from_secs(60));
    let version = store.put(&id(4), &first, None).unwrap();
    let later = first.expires + HOUR;
    assert!(store.touch(&id(4), later).unwrap());
    let longer = Record {
        expires: later,
        ..first
    };
    assert_eq!(store.get(&id(4)).unwrap(), Some((longer, version)));
    let left = server.ask(&format!("TTL {}", key(4)));
    let left: u64 = left.trim_start_matches(':').trim_end().parse().unwrap();
    assert!(left > 3000, "{left}");
    assert!(store.touch(&id(4), past).unwrap());
    assert!(!store.touch(&id(4), later).unwrap());
    assert_eq!(server.ask("DBSIZE"), ":0\r\n");
}

#[test]
fn redis_that_is_full_says_so() {
    let Some(server) = RedisServer::start(&["--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let store = store(&server);
    let first = record(b"x", HOUR);
    let version = store.put(&id(1), &first, None).unwrap();
    assert_eq!(server.ask("CONFIG SET maxmemory 1"), "+OK\r\n");
    let more = store.put(&id(2), &first, None).unwrap_err();
    assert!(matches!(more, StoreError::Full), "{more:?}");
    // Reading goes on, and so does what makes room.
    assert_eq!(store.get(&id(1)).unwrap(), Some((first.clone(), version)));
    let dead = Record {
        expires: SystemTime::UNIX_EPOCH,
        ..first.clone()
    };
    store.put(&id(1), &dead, Some(version)).unwrap();
    store.remove(&id(1)).unwrap();
    assert_eq!(server.ask("CONFIG SET maxmemory 0"), "+OK\r\n");
    store.put(&id(2), &first, None).unwrap();
}

#[test]
fn redis_with_something_else_under_the_key() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let store = store(&server);
    let broken = |what: &str, result: Result<(), StoreError>| {
        let error = result.expect_err(what);
        let text = error.to_string();
        assert!(matches!(error, StoreError::Broken(_)), "{what}: {text}");
        assert!(!text.contains(&key(1)), "{what}: {text}");
    };
    let session = record(b"x", HOUR);
    let end = session.expires;
    server.ask(&format!("SET {} text", key(1)));
    broken("get", store.get(&id(1)).map(drop));
    broken("put", store.put(&id(1), &session, None).map(drop));
    broken("put", store.put(&id(1), &session, Some(1)).map(drop));
    broken("touch", store.touch(&id(1), end).map(drop));
    server.ask(&format!("DEL {}", key(1)));
    server.ask(&format!("HSET {} field x", key(1)));
    broken("put", store.put(&id(1), &session, None).map(drop));
    broken("touch", store.touch(&id(1), end).map(drop));
    server.ask(&format!("HSET {} version x", key(1)));
    broken("get", store.get(&id(1)).map(drop));
    broken("put", store.put(&id(1), &session, None).map(drop));
    // A server with a password, and none or another one is given.
    assert_eq!(server.ask("CONFIG SET requirepass secret"), "+OK\r\n");
    let port = server.port();
    for user in ["", ":wrong-one@", ":secret@"] {
        let url = format!("redis://{user}127.0.0.1:{port}");
        let result = RedisStore::open(&url).unwrap().get(&id(2));
        match user {
            ":secret@" => assert_eq!(result.unwrap(), None),
            _ => {
                let error = result.unwrap_err();
                assert!(error.to_string().contains("user and password"), "{error}");
                assert!(!error.to_string().contains("wrong-one"), "{error}");
            }
        }
    }
}

/// A put on a connection from before must not fail for that.
#[test]
fn redis_that_was_started_again_is_found_again() {
    let Some(mut server) = RedisServer::start(&[]) else {
        return;
    };
    let store = store(&server);
    let session = record(b"x", HOUR);
    store.put(&id(1), &session, None).unwrap();
    server.stop();
    let away = |error| matches!(error, StoreError::Unavailable(_));
    assert!(away(store.get(&id(1)).unwrap_err()));
    server.start_again();
    wait_until("it is tried again", || match store.get(&id(1)) {
        Ok(found) => {
            // This server keeps nothing.
            assert_eq!(found, None);
            true
        }
        Err(error) => {
            assert!(away(error));
            false
        }
    });
    store.put(&id(1), &session, None).unwrap();
    // Nobody asked while it was away.
    server.stop();
    server.start_again();
    assert_eq!(store.get(&id(1)).unwrap(), None);
}

fn cluster(redis: &str, keys: &Path) -> Server {
    let keys = keys.to_str().unwrap();
    let arguments = ["--workers", "2", "--listen", "127.0.0.1:0"];
    let sessions = ["--session-store", redis, "--session-key-file", keys];
    let server = Server::launch(command(&[&arguments[..], &sessions].concat()));
    server.urls(1);
    server
}

/// A directory with a file of keys.
fn keys() -> (Directory, std::path::PathBuf) {
    let directory = Directory::new();
    let path = directory.file("keys");
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    (directory, path)
}

/// What `/session` answers to whoever has that cookie, on a connection of its own.
fn visit(address: SocketAddr, cookie: &str) -> Answer {
    let mut client = Client::connect(address).unwrap();
    let fields = match cookie {
        "" => String::new(),
        cookie => format!("Cookie: {cookie}\r\n"),
    };
    client.request("GET", "/session", &fields, "").unwrap()
}

/// How many visits the answer counts.
#[track_caller]
fn count(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    let rest = answer.text().strip_prefix("visits ").unwrap();
    rest.split(',').next().unwrap().parse().unwrap()
}

/// A new session's cookie.
#[track_caller]
fn begin(address: SocketAddr) -> String {
    let answer = visit(address, "");
    assert_eq!(count(&answer), 1);
    let cookie = answer.field("Set-Cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// The store is away: 503 for sessions, quickly, and the rest is served.
#[track_caller]
fn is_refused_quickly(address: SocketAddr, cookie: &str) {
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let begin = Instant::now();
        let answer = visit(address, cookie);
        longest = longest.max(begin.elapsed());
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.field("Retry-After"), Some("1"));
        Client::greeted(address);
    }
    assert!(longest < QUICK, "{longest:?}");
}

#[test]
fn redis_carries_sessions_from_one_cluster_to_the_other() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    let (_directory, keys) = keys();
    let clusters = [(); 2].map(|()| cluster(&redis.url(), &keys));
    let [one, other] = [clusters[0].address(), clusters[1].address()];
    let cookie = begin(one);
    for number in 1..=20 {
        assert_eq!(count(&visit(other, &cookie)), 2 * number);
        assert_eq!(count(&visit(one, &cookie)), 2 * number + 1);
    }
    // Another client has another.
    assert_ne!(begin(other), cookie);
    for cluster in clusters {
        cluster.stop();
    }
}

#[test]
fn redis_may_stop_and_start_again() {
    let Some(mut redis) = RedisServer::start(&["--appendonly", "yes"]) else {
        return;
    };
    let (_directory, keys) = keys();
    let clusters = [(); 2].map(|()| cluster(&redis.url(), &keys));
    let addresses = clusters.each_ref().map(Server::address);
    let cookie = begin(addresses[0]);
    assert_eq!(count(&visit(addresses[1], &cookie)), 2);
    redis.stop();
    for address in addresses {
        is_refused_quickly(address, &cookie);
    }
    redis.start_again();
    let mut last = 2;
    for address in addresses {
        // What got an answer counts; a change whose answer was lost cannot be: the server is up.
        wait_until("sessions work again", || {
            let answer = visit(address, &cookie);
            answer.status == 200 && {
                assert_eq!(count(&answer), last + 1);
                last += 1;
                true
            }
        });
    }
    for cluster in clusters {
        cluster.stop();
    }
}

#[test]
fn redis_may_stand_still() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    let (_directory, keys) = keys();
    let cluster = cluster(&redis.url(), &keys);
    let address = cluster.address();
    let cookie = begin(address);
    redis.signal(Signal::SIGSTOP);
    is_refused_quickly(address, &cookie);
    // Many at once wait for nobody either, and the loops are free meanwhile.
    let begin = Instant::now();
    let mut clients: Vec<_> = (0..64).map(|_| Client::connect(address).unwrap()).collect();
    for client in &mut clients {
        let request = format!("GET /session HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n");
        client.send(request).unwrap();
    }
    Client::greeted(address);
    for mut client in clients {
        assert_eq!(client.receive().unwrap().status, 503);
    }
    assert!(begin.elapsed() < QUICK, "{:?}", begin.elapsed());
    redis.signal(Signal::SIGCONT);
    wait_until("sessions work again", || {
        visit(address, &cookie).status == 200
    });
    cluster.stop();
}

#[test]
fn redis_may_come_after_the_cluster() {
    let (_directory, keys) = keys();
    let nobody = format!("redis://:secret@127.0.0.1:{}", free_port());
    let cluster = cluster(&nobody, &keys);
    is_refused_quickly(cluster.address(), "");
    let line = cluster.log.wait(0, "out of reach");
    assert!(!line.contains("secret"), "{line}");
    cluster.stop();
}

#[test]
fn redis_urls_that_are_none_are_said_at_once() {
    let (_directory, keys) = keys();
    for (url, words) in [
        ("rediss://x:secret@127.0.0.1", "TLS"),
        ("redis://x:secret@127.0.0.1/name", "form"),
    ] {
        let keys = keys.to_str().unwrap();
        let arguments = ["--session-store", url, "--session-key-file", keys];
        let ended = Server::launch(command(&arguments)).ended();
        assert_eq!(ended.status.code(), Some(3), "{ended:#?}");
        let log = ended.log.join("\n");
        assert!(log.contains(words) && !log.contains("secret"), "{log}");
    }
    // Machines that share sessions need the same keys.
    let url = ["--session-store", "redis://127.0.0.1"];
    let ended = Server::launch(command(&url)).ended();
    assert_eq!(ended.status.code(), Some(3), "{ended:#?}");
    let log = ended.log.join("\n");
    assert!(log.contains("session-key-file"), "{log}");
}
