//! URLs, what is kept, and servers that are none: played by a thread. The real one is in `tests/it`.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

fn id(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}

fn kept(data: &[u8]) -> Record {
    let now = SystemTime::now();
    Record {
        data: data.to_vec(),
        created: now,
        expires: now + Duration::from_secs(60),
    }
}

/// A store at a port where one connection after the other gets the next of `answers` to whatever it
/// says, and is closed.
fn played(answers: &[&'static str]) -> (RedisStore, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("its address"));
    let answers = answers.to_vec();
    let played = thread::spawn(move || {
        for answer in &answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
        answers.len()
    });
    let store = RedisStore::open(&url).expect("a URL");
    (store.timeout(Duration::from_secs(30)), played)
}

#[test]
fn a_url_is_looked_at_and_nothing_more() {
    for url in [
        "redis://127.0.0.1",
        "redis://127.0.0.1:1/15",
        "redis://user:secret@nowhere.invalid:6379",
        "redis://:secret@[::1]:7",
        "redis+unix:///nowhere/redis.sock?db=1",
        "valkey://127.0.0.1",
    ] {
        let store = RedisStore::open(url).expect(url);
        assert!(store.waits());
        assert!(!format!("{store:?}").contains("secret"), "{store:?}");
    }
    for (url, why) in [
        ("", "form"),
        ("127.0.0.1:6379", "form"),
        ("http://127.0.0.1:6379", "form"),
        ("redis://", "form"),
        ("redis://0.0.0.0", "form"),
        ("redis://x:secret@host:99999", "form"),
        ("redis://x:secret@host/name", "form"),
        ("redis://x:secret@host/-1", "number from 0"),
        ("rediss://x:secret@host", "TLS, which is not built in"),
        ("REDISS://x:secret@host", "TLS, which is not built in"),
    ] {
        let error = RedisStore::open(url).expect_err(url);
        assert!(matches!(error, StoreError::Broken(_)), "{url}: {error:?}");
        let words = error.to_string();
        assert!(words.contains(why) && !words.contains("secret"), "{words}");
    }
}

#[test]
fn times_are_kept_to_the_millisecond() {
    let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
    for number in [0, 1, 1_700_000_000_123, LAST] {
        assert_eq!(time(number.to_string().as_bytes()), Some(at(number)));
        assert_eq!(millis(at(number)), number);
    }
    assert_eq!(millis(at(LAST + 1)), LAST);
    assert_eq!(millis(UNIX_EPOCH - Duration::from_secs(1)), 0);
    for field in [
        "",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "inf",
        "99999999999999999999999",
        "\u{661}",
    ] {
        assert_eq!(time(field.as_bytes()), None, "{field}");
    }
}

#[test]
fn fields_that_are_not_all_there_are_no_session() {
    let whole = [&b"7"[..], b"1", b"2", b""].map(|field| Some(field.to_vec()));
    let (found, version) = record(whole.clone()).expect("ours").expect("one");
    assert_eq!((found.data, version), (Vec::new(), 7));
    assert_eq!(record([None, None, None, None]), Ok(None));
    for missing in 0..4 {
        let mut fields = whole.clone();
        fields[missing] = None;
        assert_eq!(record(fields), Err(()), "{missing}");
    }
    for wrong in 0..3 {
        let mut fields = whole.clone();
        fields[wrong] = Some(b"x".to_vec());
        assert_eq!(record(fields), Err(()), "{wrong}");
    }
}

#[test]
fn answers_and_what_they_mean() {
    for (answer, words) in [
        (
            "-LOADING Redis is loading the dataset in memory\r\n",
            "out of reach",
        ),
        ("-MASTERDOWN Link with MASTER is down\r\n", "out of reach"),
        (
            "-READONLY You can't write against a read only replica.\r\n",
            "out of reach",
        ),
        (
            "-MISCONF Redis is configured to save RDB snapshots\r\n",
            "out of reach",
        ),
        ("-ERR max number of clients reached\r\n", "out of reach"),
        (
            "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
            "full",
        ),
        (
            "-ERR Error running script: @user_script: 9: -OOM command not allowed\r\n",
            "full",
        ),
        (
            "-ERR Error running script: @user_script: 9: -READONLY You can't\r\n",
            "out of reach",
        ),
        ("-NOAUTH Authentication required.\r\n", "user and password"),
        ("-WRONGTYPE Operation against a key\r\n", "something else"),
        (
            "-ERR unknown command 'HMGET', with args: 'mcluster:session:01'\r\n",
            "answers ERR",
        ),
        ("-mcluster:session:01 odd\r\n", "answers an error"),
        ("-MOVED 1 127.0.0.1:1\r\n", "answers MOVED"),
        (":1\r\n", "cannot be used"),
        ("*1\r\n$-1\r\n", "cannot be used"),
        ("*4\r\n$1\r\n1\r\n$-1\r\n$-1\r\n$-1\r\n", "something else"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "cannot be used"),
        ("", "out of reach"),
        ("*4\r\n$1\r\n1", "out of reach"),
    ] {
        let (store, played) = played(&[answer]);
        let error = store.get(&id(1)).expect_err(answer);
        let text = error.to_string();
        assert!(text.contains(words), "{answer}: {text}");
        assert!(!text.contains("mcluster:session"), "{answer}: {text}");
        played.join().expect("the server");
    }
}

/// A lost answer may be that of a change that was made.
#[test]
fn a_change_is_not_made_twice() {
    let (store, played) = played(&[""]);
    let error = store
        .put(&id(1), &kept(b"x"), Some(1))
        .expect_err("no answer");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(played.join().expect("the server"), 1);
    // And nobody asks again at once: here is nobody who could answer.
    let error = store.get(&id(1)).expect_err("it is given time");
    assert!(error.to_string().contains("given time"), "{error}");
}

/// The connection that was kept is closed: whoever only reads makes another.
#[test]
fn a_dead_connection_costs_a_reader_nothing() {
    let none = "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n";
    let (store, played) = played(&[none, none, none]);
    for _ in 0..3 {
        assert_eq!(store.get(&id(1)).expect("an answer"), None);
    }
    assert_eq!(played.join().expect("the server"), 3);
}

#[test]
fn the_time_limit_is_of_the_whole_call() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("its address"));
    let limit = Duration::from_secs(1);
    let played = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut said = [0; 4096];
        let _ = stream.read(&mut said);
        let _ = stream.write_all(b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n");
        // The question whether it is there still is answered late, and what follows never.
        let _ = stream.read(&mut said);
        thread::sleep(limit * 7 / 10);
        let _ = stream.write_all(b"+PONG\r\n");
        while stream.read(&mut said).is_ok_and(|count| count > 0) {}
    });
    let store = RedisStore::open(&url).expect("a URL").timeout(limit);
    assert_eq!(store.get(&id(1)).expect("an answer"), None);
    thread::sleep(FRESH * 2);
    let begin = Instant::now();
    let outcome = store.put(&id(1), &kept(b"x"), None);
    let took = begin.elapsed();
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );
    assert!(took >= limit * 7 / 10 && took < limit * 3 / 2, "{took:?}");
    played.join().expect("the server");
}
