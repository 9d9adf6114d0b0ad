//! Single parts of the path of a request, each for itself: `cargo bench --features internals --bench parts`.

mod heads;

use divan::{Bencher, black_box};
use heads::{BROWSER, PLAIN, in_turns};
use mcluster::App;
use mcluster::http::{self, ChunkedDecoder, Head, HeadLimits};
use mcluster::internals::{Answers, Border, Exchange, Floor};

fn main() {
    divan::main();
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Date: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Length: 6\r\n\r\nhello\n";

#[divan::bench(args = ["plain", "browser"])]
fn parse_head(bencher: Bencher<'_, '_>, client: &str) {
    let head = if client == "plain" { PLAIN } else { BROWSER };
    let limits = HeadLimits::default();
    let mut parsed = Head::new();
    let [one, other] = in_turns(head);
    let mut heads = [&one, &other].into_iter().cycle();
    bencher.bench_local(|| {
        let head = heads.next().map_or(&[][..], Vec::as_slice);
        parsed.parse(black_box(head), &limits)
    });
}

/// An answer as a client reads it, whole and in two pieces.
#[divan::bench(args = ["whole", "cut"])]
fn read_answer(bencher: Bencher<'_, '_>, how: &str) {
    let (first, second) = ANSWER.split_at(if how == "whole" { ANSWER.len() } else { 40 });
    let mut answers = Answers::new(false);
    bencher.bench_local(|| {
        let ended = answers.feed(black_box(first));
        match second {
            [] => ended,
            second => answers.feed(black_box(second)),
        }
    });
}

#[divan::bench]
fn encode_head(bencher: Bencher<'_, '_>) {
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        http::status_line(&mut out, black_box(200));
        http::field(&mut out, "Content-Type", b"text/plain; charset=utf-8");
        http::content_length(&mut out, black_box(12345));
        out.len()
    });
}

#[divan::bench]
fn decode_chunks(bencher: Bencher<'_, '_>) {
    let mut chunked = Vec::new();
    for _ in 0..16 {
        http::chunk(&mut chunked, &[b'x'; 1000]);
    }
    http::last_chunk(&mut chunked);
    let mut body = Vec::with_capacity(16_000);
    bencher.bench_local(|| {
        body.clear();
        ChunkedDecoder::new(1 << 20).decode(black_box(&chunked), &mut body)
    });
}

/// A message with descriptors to a worker and back out of the channel.
#[divan::bench(args = [1, 8, 64])]
fn hand_over(bencher: Bencher<'_, '_>, count: usize) {
    let mut border = Border::new().expect("descriptors");
    bencher
        .counter(divan::counter::ItemsCount::new(count))
        .bench_local(|| border.hand_over(count).expect("a channel"));
}

/// The whole server: a request in at a socket pair, its answer out. The client's own write and
/// read are in the figure, as they are in `floor`.
#[divan::bench(args = [1, 16])]
fn full_request(bencher: Bencher<'_, '_>, pipelined: usize) {
    let app = App::new().get("/", |_| "hello\n");
    let mut exchange = Exchange::new(app).expect("descriptors");
    let requests = in_turns(PLAIN).concat().repeat(pipelined);
    let mut turns = requests.chunks(requests.len() / 2).cycle();
    bencher
        .counter(divan::counter::ItemsCount::new(pipelined))
        .bench_local(|| {
            let requests = turns.next().unwrap_or_default();
            exchange.turn(requests).expect("an answer")
        });
}

/// The same system calls without a server between them (but for epoll_wait).
#[divan::bench]
fn floor(bencher: Bencher<'_, '_>) {
    let mut floor = Floor::new().expect("descriptors");
    bencher.bench_local(|| floor.turn(PLAIN, ANSWER).expect("an answer"));
}

#[cfg(feature = "sessions")]
mod sessions {
    //! Reads and writes of the stores, with a thousand sessions of 200 bytes in them. The file is on the
    //! disk that has the directory for temporary files.

    use divan::{Bencher, black_box};
    use mcluster::session::{MemoryStore, Record, SessionId, SessionStore, SharedStore};
    use std::time::{Duration, SystemTime};

    const SESSIONS: u64 = 1000;

    fn id(number: u64) -> SessionId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        SessionId::from_bytes(bytes)
    }

    fn record() -> Record {
        let now = SystemTime::now();
        Record {
            data: vec![b'x'; 200],
            created: now,
            expires: now + Duration::from_secs(3600),
        }
    }

    /// A store by its name, and the file that is to be removed.
    fn store(name: &str) -> (Box<dyn SessionStore>, Option<std::path::PathBuf>) {
        let (store, file): (Box<dyn SessionStore>, _) = match name {
            "memory" => (Box::new(MemoryStore::new()), None),
            _ => {
                let name = format!("mcluster-bench-{}", std::process::id());
                let file = std::env::temp_dir().join(name);
                (
                    Box::new(SharedStore::open(&file).expect("a store")),
                    Some(file),
                )
            }
        };
        for number in 0..SESSIONS {
            store.put(&id(number), &record(), None).expect("room");
        }
        (store, file)
    }

    fn remove(file: Option<std::path::PathBuf>) {
        for file in file.iter() {
            let mut lock = file.clone().into_os_string();
            lock.push("-lock");
            let _ = std::fs::remove_file(file).and(std::fs::remove_file(lock));
        }
    }

    #[divan::bench(args = ["memory", "shared"])]
    fn get(bencher: Bencher<'_, '_>, name: &str) {
        let (store, file) = store(name);
        let mut next = (0..SESSIONS).cycle().map(id);
        bencher
            .counter(divan::counter::ItemsCount::new(1_usize))
            .bench_local(|| {
                store
                    .get(black_box(&next.next().expect("endless")))
                    .expect("a session")
            });
        drop(store);
        remove(file);
    }

    #[divan::bench(args = ["memory", "shared"])]
    fn put(bencher: Bencher<'_, '_>, name: &str) {
        let (store, file) = store(name);
        let mut next = (0..SESSIONS).cycle().map(id);
        let record = record();
        bencher
            .counter(divan::counter::ItemsCount::new(1_usize))
            .bench_local(|| {
                let id = next.next().expect("endless");
                let (_, version) = store.get(&id).expect("a store").expect("a session");
                store
                    .put(&id, black_box(&record), Some(version))
                    .expect("room")
            });
        drop(store);
        remove(file);
    }
}
