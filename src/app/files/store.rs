//! What a thread has open of the files it serves.
//!
//! Each thread has its own, so there is no lock and workers are alike whatever carries them. A file
//! is kept open after an answer; before the next one its path is looked at once, and a difference in
//! anything that the kernel tells (which file it is, its size, its times) has it opened anew. Each look
//! stays below the directory, as opening does. Where answers may count for a while (`cache`), it is the
//! answer that is found first, and no look is taken.

use super::cache::{Cache, Prepared, SMALL};
use super::{Files, listing, media_type};
use crate::app::Request;
use crate::http::{Coding, ETag};
use crate::sys::beneath::{Beneath, Facts, Kind};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

/// Files that a thread keeps open, of all [`Files`] together, and at most half of those that it may
/// have open. Few, for descriptors are for connections and for what is being sent.
pub(super) const KEPT: usize = 32;

/// The same where answers count for a while: so many large files cost no look.
pub(super) const KEPT_CACHED: usize = 128;

/// One that nobody asked for as long is closed, so that the space of removed files comes free.
const UNUSED: Duration = Duration::from_secs(60);

/// How often it is looked for such.
const SWEEP: Duration = Duration::from_secs(10);

thread_local! {
    /// Few, so that looking through them is the fastest.
    static STORES: RefCell<Vec<Store>> = const { RefCell::new(Vec::new()) };
    /// What this thread opened: kept, being sent, and some that nobody has any more.
    static OPENED: RefCell<Vec<Weak<File>>> = const { RefCell::new(Vec::new()) };
}

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub(super) enum Content {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

/// A regular file, open or read.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) content: Content,
    pub(super) facts: Facts,
    pub(super) etag: ETag,
    /// When it was modified, for a field.
    pub(super) modified: String,
    /// By the ending of its name.
    pub(super) media: Cow<'static, str>,
    used: Cell<Instant>,
}

impl Open {
    fn new(file: File, facts: Facts, path: &[u8], now: Instant) -> io::Result<Self> {
        Ok(Self {
            content: Content::File(Arc::new(file)),
            etag: etag(&facts, Coding::Identity)?,
            modified: httpdate::fmt_http_date(dated(&facts)),
            media: media_type(path),
            used: Cell::new(now),
            facts,
        })
    }

    /// The same without a descriptor, if it is small and did not change while it was read.
    pub(super) fn in_memory(&self) -> Option<Self> {
        let Content::File(file) = &self.content else {
            return None;
        };
        if self.facts.size > SMALL {
            return None;
        }
        let mut bytes = vec![0; self.facts.size as usize];
        file.read_exact_at(&mut bytes, 0).ok()?;
        if Facts::of_open(file).ok()? != self.facts {
            return None;
        }
        Some(Self {
            content: Content::Memory(bytes.into()),
            facts: self.facts,
            etag: self.etag.clone(),
            modified: self.modified.clone(),
            media: self.media.clone(),
            used: self.used.clone(),
        })
    }

    /// The time for a field, which must not be later than the answer itself (RFC 9110 8.8.2.1).
    pub(super) fn modified_by(&self, now: SystemTime) -> String {
        match self.facts.modified() > now {
            true => httpdate::fmt_http_date(now),
            false => self.modified.clone(),
        }
    }
}

/// The time of a file, within what a date can say.
fn dated(facts: &Facts) -> SystemTime {
    // The last second of the year 9999, beyond which httpdate would panic.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    facts.modified().min(SystemTime::UNIX_EPOCH + LAST)
}

/// The tag of a file as it is now: another one when it is another file, or was written to since.
/// A hash, for what it is made of is nobody's business.
pub(super) fn etag(facts: &Facts, coding: Coding) -> io::Result<ETag> {
    // The same in every worker: without keys.
    let mut hasher = DefaultHasher::new();
    (facts.identity, facts.size, facts.modified, facts.changed).hash(&mut hasher);
    let hash = hasher.finish();
    let opaque = match coding.name() {
        None => format!("{hash:016x}-{:x}", facts.size),
        Some(name) => format!("{hash:016x}-{:x}-{name}", facts.size),
    };
    ETag::strong(&opaque).ok_or_else(|| io::Error::other("a tag that is none"))
}

/// One thread's open files of one [`Files`].
#[derive(Debug)]
pub(super) struct Store {
    /// Whose it is.
    files: u64,
    alive: Weak<()>,
    path: PathBuf,
    root: Beneath,
    kept: HashMap<Box<[u8]>, Rc<Open>>,
    pub(super) cache: Cache,
    /// How many it may keep.
    room: usize,
    /// How many the thread may have open.
    most: usize,
    pub(super) now: Instant,
    swept: Instant,
    boundaries: RandomState,
    boundary: u64,
    /// How far its clock is ahead.
    #[cfg(test)]
    ahead: Duration,
}

impl Store {
    /// Gives `act` this thread's store for `files`.
    ///
    /// # Errors
    ///
    /// When the directory cannot be opened.
    pub(super) fn with<T>(files: &Files, act: impl FnOnce(&mut Self) -> T) -> io::Result<T> {
        STORES.with_borrow_mut(|stores| {
            let known = stores.iter().position(|store| store.files == files.id);
            let at = match known {
                Some(at) => at,
                None => {
                    stores.retain(|store| store.alive.strong_count() > 0);
                    // What there is to keep is shared anew.
                    stores.iter_mut().for_each(|store| store.kept.clear());
                    stores.push(Self::new(files)?);
                    stores.len() - 1
                }
            };
            let kept = if files.cache.is_zero() {
                KEPT
            } else {
                KEPT_CACHED
            };
            let room = (kept / stores.len()).max(1);
            // None is kept where that could leave others nothing to send.
            let room = room.min(files.most / 2 / stores.len());
            let store = &mut stores[at];
            store.room = room;
            store.now = Instant::now();
            #[cfg(test)]
            {
                store.now += store.ahead;
            }
            let answer = act(store);
            store.sweep();
            Ok(answer)
        })
    }

    fn new(files: &Files) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            files: files.id,
            alive: Arc::downgrade(&files.alive),
            path: files.root.clone(),
            root: Beneath::open(&files.root)?,
            kept: HashMap::new(),
            cache: Cache::default(),
            room: KEPT,
            most: files.most,
            now,
            swept: now,
            boundaries: RandomState::new(),
            boundary: 0,
            #[cfg(test)]
            ahead: Duration::ZERO,
        })
    }

    /// A prepared answer to a request for what it calls `path`, if there is one that counts still.
    pub(super) fn prepared(
        &self,
        path: &str,
        request: &Request,
    ) -> Option<(Rc<Prepared>, Rc<Open>)> {
        let (prepared, open) = self.cache.find(path, request, self.now)?;
        open.used.set(self.now);
        Some((prepared, open))
    }

    /// What a path leads to now; empty for the directory itself.
    pub(super) fn facts(&mut self, path: &[u8]) -> io::Result<Facts> {
        let path = place(path);
        let found = self.opening(|root| root.facts(path));
        if self.root_was_removed(&found) {
            // Built anew at the same place, say: no reason to wait for a reload.
            self.root = Beneath::open(&self.path)?;
            self.kept.clear();
            self.cache.clear();
            return self.root.facts(path);
        }
        found
    }

    /// The same beside a file that was just found: that there is none says nothing of the directory.
    pub(super) fn neighbour(&mut self, path: &[u8]) -> io::Result<Facts> {
        self.opening(|root| root.facts(path))
    }

    fn root_was_removed(&self, found: &io::Result<Facts>) -> bool {
        let absent = match found {
            Ok(facts) => facts.gone,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        absent && self.root.own_facts().is_ok_and(|facts| facts.gone)
    }

    /// The file at a path whose `facts` were found right now; `None` if it is no regular file.
    pub(super) fn open(&mut self, path: &[u8], facts: &Facts) -> io::Result<Option<Rc<Open>>> {
        if let Some(kept) = self.kept.get(path) {
            if kept.facts == *facts {
                kept.used.set(self.now);
                return Ok(Some(Rc::clone(kept)));
            }
            self.kept.remove(path);
        }
        // Asked before it is opened: opening can have effects on what is no regular file.
        if facts.kind != Kind::Regular {
            return Ok(None);
        }
        self.make_place()?;
        let (file, facts) = self.opening(|root| root.file(path))?;
        if facts.kind != Kind::Regular {
            return Ok(None);
        }
        let open = Rc::new(Open::new(file, facts, path, self.now)?);
        if let Content::File(file) = &open.content {
            OPENED.with_borrow_mut(|opened| opened.push(Arc::downgrade(file)));
        }
        self.keep(path, &open);
        Ok(Some(open))
    }

    /// Sees to it that one more file may be open: those that are kept make room.
    ///
    /// # Errors
    ///
    /// `ResourceBusy` when as many are being sent as may be open.
    fn make_place(&mut self) -> io::Result<()> {
        if is_full(self.most) {
            self.kept.clear();
            if is_full(self.most) {
                let what = "as many are being sent as may be open";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
            }
        }
        Ok(())
    }

    /// Opens something; where no descriptor is left, those that are kept make room.
    fn opening<T>(&mut self, open: impl Fn(&Beneath) -> io::Result<T>) -> io::Result<T> {
        match open(&self.root) {
            Err(error) if is_out_of_descriptors(&error) && !self.kept.is_empty() => {
                self.kept.clear();
                open(&self.root)
            }
            answer => answer,
        }
    }

    fn keep(&mut self, path: &[u8], open: &Rc<Open>) {
        if self.room == 0 {
            return;
        }
        while self.kept.len() >= self.room {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used.get());
            match oldest.map(|(path, _)| path.clone()) {
                Some(path) => self.kept.remove(&path),
                None => break,
            };
        }
        self.kept.insert(path.into(), Rc::clone(open));
    }

    /// Keeps a file open no longer.
    pub(super) fn forget(&mut self, open: &Rc<Open>) {
        self.kept.retain(|_, kept| !Rc::ptr_eq(kept, open));
    }

    fn sweep(&mut self) {
        if self.now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = self.now;
        let now = self.now;
        self.kept
            .retain(|_, kept| now.saturating_duration_since(kept.used.get()) < UNUSED);
        self.cache.sweep(now);
    }

    /// What is in a directory, `most` names at most.
    pub(super) fn names(&mut self, path: &[u8], most: usize) -> io::Result<Vec<listing::Name>> {
        let path = place(path);
        self.opening(|root| root.names(path, most))
    }

    /// What separates the parts of an answer: another one each time.
    pub(super) fn boundary(&mut self) -> String {
        self.boundary = self.boundary.wrapping_add(1);
        format!("{:016x}", self.boundaries.hash_one(self.boundary))
    }

    /// Lets time pass for the store of these files.
    #[cfg(test)]
    pub(super) fn pass(files: u64, time: Duration) {
        STORES.with_borrow_mut(|stores| {
            let store = stores.iter_mut().find(|store| store.files == files);
            let store = store.expect("they were asked");
            store.ahead += time;
        });
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }
}

/// A path as the kernel wants it, which has no empty one.
fn place(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// Whether this thread has `most` files open.
fn is_full(most: usize) -> bool {
    OPENED.with_borrow_mut(|opened| {
        if opened.len() >= most.min(opened.capacity()) {
            opened.retain(|file| file.strong_count() > 0);
            // Half of it is room again, so that those that are gone are rarely looked for.
            opened.reserve(opened.len().min(most));
        }
        opened.len() >= most
    })
}

/// Whether it is descriptors that are missing, or would be for others.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let missing = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    missing || error.kind() == io::ErrorKind::ResourceBusy
}
