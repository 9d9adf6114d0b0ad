//! Both ways of resolving a path, held against each other and against those who would get out.

use super::super::testing::{TempDir, assert_flags};
use super::{Beneath, Kind, Way};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const WAYS: [Way; 2] = [Way::Kernel, Way::Walk];

/// Says that it is over, also when a test fails: a thread that is waited for must end then.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether this kernel has openat2(2): else only the walk is to be tested.
fn has(way: Way, root: &Beneath) -> bool {
    way == Way::Walk || root.resolve_by(way, b".", OFlag::O_PATH).is_ok()
}

/// A secret, and beside it a directory to look below.
fn tree() -> (TempDir, Beneath) {
    let place = TempDir::new();
    fs::write(place.join("secret"), "secret").unwrap();
    fs::create_dir_all(place.join("root/a/b")).unwrap();
    fs::write(place.join("root/file"), "file").unwrap();
    fs::write(place.join("root/a/b/deep"), "deep").unwrap();
    let link = |to: &str, name: &str| symlink(to, place.join("root").join(name)).unwrap();
    link("a/b/deep", "inside");
    link("a/b", "down");
    link("../file", "a/up");
    link("../../a/../file", "a/b/round");
    link("inside", "twice");
    link("/etc/passwd", "absolute");
    link("../secret", "out");
    link("..", "parent");
    link("loop", "loop");
    link("nowhere", "dangling");
    link("/proc/self/fd", "magic");
    let root = Beneath::open(&place.join("root")).unwrap();
    (place, root)
}

fn open(root: &Beneath, way: Way, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    root.resolve_by(way, path.as_bytes(), flags)
}

fn read(root: &Beneath, way: Way, path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::from(open(root, way, path)?).read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn paths_that_stay_below() {
    let (_place, root) = tree();
    for way in WAYS.into_iter().filter(|way| has(*way, &root)) {
        for (path, expected) in [
            ("file", "file"),
            ("./file", "file"),
            ("a/../file", "file"),
            ("a//b/deep", "deep"),
            ("inside", "deep"),
            ("twice", "deep"),
            ("down/deep", "deep"),
            ("down/../up", "file"),
            ("a/up", "file"),
            ("a/b/round", "file"),
        ] {
            let found = read(&root, way, path);
            assert_eq!(found.ok().as_deref(), Some(expected), "{way:?} {path}");
        }
        for directory in [".", "a", "a/", "a/b/.", "down", "down/"] {
            assert_flags(open(&root, way, directory).unwrap());
        }
    }
}

#[test]
fn paths_that_lead_out() {
    let (_place, root) = tree();
    for way in WAYS.into_iter().filter(|way| has(*way, &root)) {
        for (path, expected) in [
            ("..", Errno::EXDEV),
            ("../secret", Errno::EXDEV),
            ("a/../../secret", Errno::EXDEV),
            ("/etc/passwd", Errno::EXDEV),
            ("absolute", Errno::EXDEV),
            ("out", Errno::EXDEV),
            ("parent/secret", Errno::EXDEV),
            ("parent/root/file", Errno::EXDEV),
            ("magic/0", Errno::EXDEV),
            ("loop", Errno::ELOOP),
            ("dangling", Errno::ENOENT),
            ("nothing", Errno::ENOENT),
            ("", Errno::ENOENT),
            ("file/", Errno::ENOTDIR),
            ("file/x", Errno::ENOTDIR),
        ] {
            let error = open(&root, way, path).unwrap_err();
            let errno = error.raw_os_error();
            assert_eq!(errno, Some(expected as i32), "{way:?} {path}: {error}");
        }
    }
}

/// Somebody swaps a directory for a link out, back and forth: what is read is the file or nothing.
#[test]
fn renaming_meanwhile_leads_nowhere() {
    let (place, root) = tree();
    fs::create_dir(place.join("deep-outside")).unwrap();
    fs::write(place.join("deep-outside/deep"), "secret").unwrap();
    symlink("../../deep-outside", place.join("root/a/swap")).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&done);
        let renaming = scope.spawn(|| {
            let at = |name: &str| place.join("root/a").join(name);
            while !done.load(Ordering::Relaxed) {
                fs::rename(at("b"), at("kept")).unwrap();
                fs::rename(at("swap"), at("b")).unwrap();
                fs::rename(at("b"), at("swap")).unwrap();
                fs::rename(at("kept"), at("b")).unwrap();
            }
        });
        for way in WAYS.into_iter().filter(|way| has(*way, &root)) {
            // Some must be found; on a busy machine the names can be away for many rounds at once.
            let (mut found, mut rounds) = (0, 0);
            while rounds < 3000 || (found == 0 && !renaming.is_finished()) {
                rounds += 1;
                for path in ["a/b/deep", "inside", "a/b/../b/deep"] {
                    if let Ok(text) = read(&root, way, path) {
                        assert_eq!(text, "deep", "{way:?}");
                        found += 1;
                    }
                }
            }
        }
    });
}

/// A directory on the way is moved out of the tree: its parent is then somebody else's.
#[test]
fn a_directory_that_moves_out_takes_nobody_along() {
    let (place, root) = tree();
    fs::create_dir_all(place.join("elsewhere/x")).unwrap();
    fs::write(place.join("elsewhere/file"), "secret").unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&done);
        scope.spawn(|| {
            let (inside, outside) = (place.join("root/a/b"), place.join("elsewhere/b"));
            while !done.load(Ordering::Relaxed) {
                fs::rename(&inside, &outside).unwrap();
                fs::rename(&outside, &inside).unwrap();
            }
        });
        for way in WAYS.into_iter().filter(|way| has(*way, &root)) {
            for _ in 0..3000 {
                if let Ok(text) = read(&root, way, "a/b/../../file") {
                    assert_eq!(text, "file", "{way:?}");
                }
                if let Ok(text) = read(&root, way, "a/b/../file") {
                    panic!("{way:?}: {text}");
                }
            }
        }
    });
}

#[test]
fn a_fifo_does_not_block() {
    let (place, root) = tree();
    mkfifo(&place.join("root/fifo"), Mode::S_IRWXU).unwrap();
    assert_eq!(root.facts(b"fifo").unwrap().kind, Kind::Other);
    let (_, facts) = root.file(b"fifo").unwrap();
    assert_eq!(facts.kind, Kind::Other);
    for way in WAYS.into_iter().filter(|way| has(*way, &root)) {
        open(&root, way, "fifo").unwrap();
    }
}

#[test]
fn facts_tell_one_file_from_another() {
    let (place, root) = tree();
    let (mut file, first) = root.file(b"file").unwrap();
    assert_flags(&file);
    assert_eq!(
        (first.kind, first.size, first.gone),
        (Kind::Regular, 4, false)
    );
    assert_eq!(root.facts(b"file").unwrap(), first);
    assert_eq!(root.facts(b"a/up").unwrap(), first);
    assert_eq!(root.facts(b"a").unwrap().kind, Kind::Directory);
    let known = fs::metadata(place.join("root/file")).unwrap();
    assert_eq!(first.modified(), known.modified().unwrap());
    // Edited in place, to the same length and with its time set back.
    let mut edited = File::options()
        .write(true)
        .open(place.join("root/file"))
        .unwrap();
    edited.write_all(b"FILE").unwrap();
    edited.set_modified(first.modified()).unwrap();
    let second = root.facts(b"file").unwrap();
    assert_eq!(second.modified, first.modified);
    assert_eq!(second.identity, first.identity);
    // Replaced, and the old one still open here.
    fs::write(place.join("root/new"), "file").unwrap();
    fs::rename(place.join("root/new"), place.join("root/file")).unwrap();
    let third = root.facts(b"file").unwrap();
    assert_ne!(third.identity, first.identity);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "FILE");
    assert!(root.facts(b"nothing").is_err());
}

#[test]
fn a_root_that_is_removed_is_gone() {
    let (place, root) = tree();
    assert!(!root.own_facts().unwrap().gone);
    fs::remove_dir_all(place.join("root")).unwrap();
    assert!(root.own_facts().unwrap().gone);
    assert!(Beneath::open(&place.join("root")).is_err());
    assert!(Beneath::open(&place.join("secret")).is_err());
}

#[test]
fn names_and_what_they_lead_to() {
    let (place, root) = tree();
    mkfifo(&place.join("root/a/fifo"), Mode::S_IRWXU).unwrap();
    let mut names = root.names(b"a", 100).unwrap();
    names.sort();
    let expected = [
        ("b", Kind::Directory),
        ("fifo", Kind::Other),
        ("up", Kind::Regular),
    ];
    assert_eq!(names, expected.map(|(name, kind)| (name.into(), kind)));
    assert_eq!(root.names(b"a", 2).unwrap().len(), 2);
    assert!(root.names(b"parent", 2).is_err() && root.names(b"file", 2).is_err());
    // Links out: there is something, and it is nobody's business what.
    let kinds = root.names(b".", 100).unwrap();
    let kind = |wanted: &str| kinds.iter().find(|(name, _)| name == wanted).unwrap().1;
    assert_eq!(
        ["a", "file", "inside", "down"].map(kind),
        [
            Kind::Directory,
            Kind::Regular,
            Kind::Regular,
            Kind::Directory
        ]
    );
    for out in ["absolute", "out", "parent", "magic", "dangling", "loop"] {
        assert_eq!(kind(out), Kind::Other, "{out}");
    }
}

#[test]
fn nothing_outside_is_looked_at() {
    let (_place, root) = tree();
    for path in ["absolute", "out", "parent", "parent/secret", "magic/0"] {
        let error = root.facts(path.as_bytes()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EXDEV as i32), "{path}");
    }
    for directory in ["a", ".", "down", "down/", "a/.."] {
        let facts = root.facts(directory.as_bytes()).unwrap();
        assert_eq!(facts.kind, Kind::Directory, "{directory}");
    }
    assert_eq!(root.facts(b"twice").unwrap().kind, Kind::Regular);
}

#[test]
fn what_may_not_be_read() {
    let (place, root) = tree();
    let closed = fs::Permissions::from_mode(0o0);
    fs::set_permissions(place.join("root/file"), closed).unwrap();
    if File::open(place.join("root/file")).is_ok() {
        // Root may read everything.
        return;
    }
    let error = root.file(b"file").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}
