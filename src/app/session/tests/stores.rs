//! What every store promises, and what a file of LMDB is when it is none.

use super::*;
use crate::sys::random;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

/// A folder of its own, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("mcluster-store-{:016x}", random::number());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("sessions")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(number: u32) -> SessionId {
    let mut bytes = [7; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    SessionId::from_bytes(bytes)
}

/// A time that is whole milliseconds, ahead of the real one.
fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000 + seconds)
}

fn record(data: &[u8], expires: u64) -> Record {
    Record {
        data: data.to_vec(),
        created: time(0),
        expires: time(expires),
    }
}

fn promises(store: &dyn SessionStore) {
    let (one, two) = (record(b"one", 10), record(b"", 20));
    assert_eq!(store.get(&id(1)).unwrap(), None);
    let conflict = |outcome: Result<u64, StoreError>| matches!(outcome, Err(StoreError::Conflict));
    assert!(conflict(store.put(&id(1), &one, Some(1))));
    let first = store.put(&id(1), &one, None).unwrap();
    assert!(first >= 1);
    assert!(conflict(store.put(&id(1), &two, None)));
    assert!(conflict(store.put(&id(1), &two, Some(first + 1))));
    assert_eq!(store.get(&id(1)).unwrap(), Some((one, first)));
    let second = store.put(&id(1), &two, Some(first)).unwrap();
    assert_ne!(first, second);
    assert!(conflict(store.put(&id(1), &two, Some(first))));
    assert!(store.touch(&id(1), time(30)).unwrap());
    assert_eq!(store.get(&id(1)).unwrap(), Some((record(b"", 30), second)));
    assert!(!store.touch(&id(2), time(30)).unwrap());
    store.remove(&id(1)).unwrap();
    store.remove(&id(1)).unwrap();
    assert_eq!(store.get(&id(1)).unwrap(), None);
    assert!(conflict(store.put(&id(1), &two, Some(second))));
    // As the old id of a renewed session: gone, or over.
    let version = store.put(&id(3), &two, None).unwrap();
    let over = Record {
        expires: SystemTime::UNIX_EPOCH,
        ..record(b"", 0)
    };
    store.put(&id(3), &over, Some(version)).unwrap();
    let left = store.get(&id(3)).unwrap();
    assert!(left.is_none_or(|(record, _)| record.expires <= SystemTime::now()));
    store.remove(&id(3)).unwrap();
    // Many at once, of which some have ended.
    for number in 0..2500 {
        let end = u64::from(number % 5);
        store
            .put(&id(number), &record(&[1; 40], end), None)
            .unwrap();
    }
    store.touch(&id(0), time(100)).unwrap();
    assert_eq!(store.sweep(time(3)).unwrap(), 4 * 500 - 1);
    assert_eq!(store.sweep(time(3)).unwrap(), 0);
    for number in 0..2500 {
        let lives = number == 0 || number % 5 == 4;
        assert_eq!(store.get(&id(number)).unwrap().is_some(), lives, "{number}");
    }
    assert_eq!(store.sweep(time(1000)).unwrap(), 501);
    let large = record(&vec![3; 60_000], 10);
    let version = store.put(&id(1), &large, None).unwrap();
    assert_eq!(store.get(&id(1)).unwrap(), Some((large, version)));
}

/// Threads that count in a few sessions: no count is lost.
fn counts(store: &Arc<impl SessionStore>) {
    const SESSIONS: u32 = 5;
    const EACH: u32 = 200;
    for number in 0..SESSIONS {
        store.put(&id(number), &record(b"0", 10), None).unwrap();
    }
    let count = |record: &Record| -> u32 {
        let text = String::from_utf8_lossy(&record.data).into_owned();
        text.parse().unwrap()
    };
    let counters: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(store);
            thread::spawn(move || {
                for number in (0..SESSIONS).cycle().take((SESSIONS * EACH) as usize) {
                    loop {
                        let (old, version) = store.get(&id(number)).unwrap().unwrap();
                        let more = (count(&old) + 1).to_string();
                        match store.put(&id(number), &record(more.as_bytes(), 10), Some(version)) {
                            Ok(_) => break,
                            Err(StoreError::Conflict) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    counters.into_iter().for_each(|one| one.join().unwrap());
    for number in 0..SESSIONS {
        let (record, _) = store.get(&id(number)).unwrap().unwrap();
        assert_eq!(count(&record), 4 * EACH);
    }
}

#[test]
fn memory_keeps_what_it_promises() {
    promises(&MemoryStore::new());
    counts(&Arc::new(MemoryStore::new()));
}

#[test]
fn a_file_keeps_what_it_promises() {
    let folder = Folder::new();
    promises(&SharedStore::open(folder.file()).unwrap());
    fs::remove_file(folder.file()).unwrap();
    counts(&Arc::new(SharedStore::open(folder.file()).unwrap()));
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.file()), 0o600);
    assert_eq!(mode(folder.0.join("sessions-lock")), 0o600);
}

#[test]
fn a_full_store_says_so_and_has_room_again() {
    let folder = Folder::new();
    let file = SharedStore::open(folder.file()).unwrap().map_size(1);
    let memory = MemoryStore::new().max_bytes(1 << 20);
    let stores: [&dyn SessionStore; 2] = [&file, &memory];
    for store in stores {
        for round in 0..3 {
            let mut kept = BTreeMap::new();
            let full = (0..10_000).find(|&number| {
                let mut record = record(&vec![1; 100 + number as usize % 9000], 1);
                // In the order of their ends they lie anywhere.
                record.expires += Duration::from_millis(u64::from(number) * 7919 % 8009);
                match store.put(&id(number), &record, None) {
                    Ok(version) => kept.insert(number, (record, version)).is_some(),
                    Err(StoreError::Full) => true,
                    Err(error) => panic!("{round}, {number}: {error}"),
                }
            });
            assert!(full.is_some() && kept.len() > 100, "{}", kept.len());
            for (number, expected) in &kept {
                assert_eq!(store.get(&id(*number)).unwrap().as_ref(), Some(expected));
            }
            // What is there can still be changed, touched and ended.
            let (number, (old, version)) = kept.iter().next().unwrap();
            store.put(&id(*number), old, Some(*version)).unwrap();
            assert!(store.touch(&id(*number), time(5)).unwrap());
            for number in kept.keys().take(50) {
                store.remove(&id(*number)).unwrap();
            }
            assert_eq!(store.sweep(time(10)).unwrap(), kept.len() - 50);
        }
        // Without a sweep from outside what has ended makes room as well.
        let mut ended = record(&[1; 9000], 0);
        ended.expires = SystemTime::now() - MINUTE;
        for number in 0..1000 {
            store.put(&id(number), &ended, None).unwrap();
        }
    }
}

#[test]
fn a_small_file_that_is_full_is_swept() {
    let folder = Folder::new();
    for megabytes in [1, 4, 16] {
        let file = folder.0.join(megabytes.to_string());
        let store = SharedStore::open(file).unwrap();
        let store = store.map_size(megabytes << 20);
        for _ in 0..2 {
            let mut count = 0_u32;
            loop {
                // In the order of their ends, and anywhere by their ids.
                let mut record = record(&[1; 300], 1);
                record.expires += Duration::from_millis(u64::from(count));
                match store.put(&id(count.wrapping_mul(0x9E37_79B1)), &record, None) {
                    Ok(_) => count += 1,
                    Err(StoreError::Full) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(count > 1000, "{count}");
            assert_eq!(store.sweep(time(10_000)).unwrap(), count as usize);
        }
    }
}

#[test]
fn files_that_were_replaced_are_not_used() {
    let folder = Folder::new();
    let (file, aside) = (folder.file(), folder.0.join("aside"));
    let locks = folder.0.join("sessions-lock");
    let replaced = |error: StoreError, path: &Path| match error {
        StoreError::Broken(why) => {
            let path = path.display();
            assert!(
                why.contains(&format!("{path} was removed or replaced")),
                "{why}"
            );
        }
        other => panic!("{other}"),
    };
    for path in [&file, &locks] {
        // As a worker that was forked before.
        let store = SharedStore::open(&file).unwrap();
        fs::rename(path, &aside).unwrap();
        replaced(store.get(&id(1)).unwrap_err(), path);
        assert!(!path.exists(), "none was made in its place");
        fs::copy(&aside, path).unwrap();
        replaced(store.get(&id(1)).unwrap_err(), path);
        fs::rename(&aside, path).unwrap();
        assert_eq!(store.get(&id(1)).unwrap(), None);
        // And one that has them open.
        fs::rename(path, &aside).unwrap();
        replaced(store.sweep(time(1)).unwrap_err(), path);
        fs::rename(&aside, path).unwrap();
        store.sweep(time(1)).unwrap();
    }
    // Who makes the file itself has what it found first.
    let other = folder.0.join("other");
    let store = SharedStore::at(&other);
    store.put(&id(1), &record(b"x", 10), None).unwrap();
    fs::remove_file(&other).unwrap();
    replaced(store.sweep(time(1)).unwrap_err(), &other);
}

#[test]
fn locks_have_their_place_on_the_disk() {
    let folder = Folder::new();
    drop(SharedStore::open(folder.file()).unwrap());
    let about = fs::metadata(folder.0.join("sessions-lock")).unwrap();
    assert!(about.blocks() * 512 >= about.len() && about.len() >= 64 * 1024);
}

#[test]
fn what_another_process_has_made_larger_is_mapped_anew() {
    let folder = Folder::new();
    let store = SharedStore::open(folder.file()).unwrap().map_size(1);
    store.put(&id(0), &record(b"x", 10), None).unwrap();
    // Another name of the same file stands for another process.
    let name = folder.0.join("name");
    fs::hard_link(folder.file(), &name).unwrap();
    fs::hard_link(folder.0.join("sessions-lock"), folder.0.join("name-lock")).unwrap();
    let other = SharedStore::at(&name).map_size(8 << 20);
    for number in 1..500 {
        let kept = other.put(&id(number), &record(&[1; 9000], 10), None);
        kept.unwrap();
    }
    for number in 0..500 {
        assert!(store.get(&id(number)).unwrap().is_some(), "{number}");
    }
}

/// What opening the file comes to, in words.
fn refusal(path: &Path) -> String {
    let outcome = SharedStore::open(path);
    let judged = SharedStore::judge(path);
    let why = outcome.unwrap_err().to_string();
    assert!(why.contains(path.to_str().unwrap()), "{why}");
    if let Err(error) = judged {
        assert_eq!(error.to_string(), why);
    }
    why
}

#[test]
fn what_is_no_file_of_sessions_is_told() {
    let folder = Folder::new();
    let file = folder.file();
    let contents: [&[u8]; 3] = [b"x", b"a text\n", &[0xff; 20_000]];
    for content in contents {
        fs::write(&file, content).unwrap();
        assert!(refusal(&file).contains("no file of sessions"));
        assert_eq!(fs::read(&file).unwrap(), content, "left as it was");
    }
    assert!(refusal(&folder.0).contains("it is no file"));
    assert!(refusal(&folder.0.join("no/file")).contains("No such file"));
    // An empty file becomes one, and another table's does not.
    fs::write(&file, "").unwrap();
    drop(SharedStore::open(&file).unwrap());
    let other = folder.0.join("other");
    let env = crate::sys::lmdb::open(&other, 1 << 20, 8, 1).unwrap();
    let made = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
        opener.create_database::<heed::types::Bytes, heed::types::Bytes>(txn, Some("theirs"))?;
        Ok::<_, heed::Error>(heed::CommitOrAbort::<_, ()>::Commit(()))
    });
    assert!(made.is_ok());
    env.prepare_for_closing().wait();
    assert!(refusal(&other).contains("LMDB's, but no file of sessions"));
}

#[test]
fn a_file_that_is_cut_off_is_told_and_ends_nobody() {
    let folder = Folder::new();
    let whole = folder.0.join("whole");
    let store = SharedStore::at(&whole).map_size(1);
    for number in 0..300 {
        let kept = store.put(&id(number), &record(&[1; 500], 10), None);
        kept.unwrap();
    }
    let bytes = fs::read(&whole).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
    drop(store);
    let written = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    let file = folder.file();
    for end in (4096..bytes.len()).step_by(4096).chain([1, 4095, 4097]) {
        fs::write(&file, &bytes[..end]).unwrap();
        let store = SharedStore::at(&file).map_size(1);
        let found: Result<Vec<_>, _> = (0..300).map(|number| store.get(&id(number))).collect();
        match found {
            Ok(found) => {
                assert!(end > written / 4096 * 4096, "{end} of {written}");
                let whole = |one: &Option<(Record, u64)>| {
                    one.as_ref().is_some_and(|(one, _)| one.data == [1; 500])
                };
                assert!(found.iter().all(whole));
            }
            Err(StoreError::Broken(why)) => {
                assert!(end <= written + 8 * 4096, "{end} of {written}: {why}");
                assert!(refusal(&file).contains("it is"), "{why}");
            }
            Err(error) => panic!("{end}: {error}"),
        }
    }
}
