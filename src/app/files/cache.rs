//! Answers prepared when a file was looked at, for those who allow them to count for a while.
//!
//! Owns which of them count, how many there are and how many bytes they hold; leaves what they say
//! to `answer`, and the descriptors of large files to `store`: an answer of one that is no longer
//! kept open is lost. Only what was found gets here, by the words of the request that found it, so
//! the rules about names and places are those of the look.

use super::store::Open;
use crate::app::{Request, SharedFields};
use crate::http::{AcceptEncoding, Coding, ETag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Instant;

/// A file up to this size is kept in memory, and leaves in the same write as its head.
pub(super) const SMALL: u64 = 16 * 1024;

/// Paths with prepared answers, of one thread and one directory.
const PATHS: usize = 1024;

/// The longest of these paths as a request writes it: what is longer is looked up each time.
const LONGEST: usize = 1024;

/// What the small files among them may hold, in bytes.
const BYTES: usize = 1024 * 1024;

/// How a file is sent, whatever is asked of it.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) coding: Coding,
    /// Another request may get another coding.
    pub(super) varies: bool,
    /// Its tag in a coding, which is not that of the file that has it.
    pub(super) coded: Option<ETag>,
    pub(super) media: Cow<'static, str>,
}

impl Variant {
    pub(super) fn tag<'a>(&'a self, open: &'a Open) -> &'a ETag {
        self.coded.as_ref().unwrap_or(&open.etag)
    }
}

/// The file of a prepared answer.
#[derive(Debug)]
pub(super) enum Held {
    Memory(Rc<Open>),
    /// Kept open by the store, for as long as it has room.
    File(Weak<Open>),
}

/// Fields that are sent as they are.
#[derive(Debug)]
pub(super) struct Fields {
    /// Of the whole file.
    pub(super) whole: SharedFields,
    /// Of a 304.
    pub(super) unchanged: SharedFields,
}

/// All that an answer needs but the request.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) variant: Variant,
    pub(super) fields: Fields,
    pub(super) held: Held,
    /// When it must be looked again.
    pub(super) until: Instant,
}

impl Prepared {
    fn bytes(&self) -> usize {
        match &self.held {
            Held::Memory(open) => open.facts.size as usize,
            Held::File(_) => 0,
        }
    }
}

#[derive(Debug)]
struct Entry {
    /// Of the last one.
    until: Instant,
    /// The codings that there were when it was last looked.
    available: Vec<Coding>,
    answers: Vec<Rc<Prepared>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.answers.iter().map(|answer| answer.bytes()).sum()
    }
}

/// One thread's prepared answers of one directory.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Box<str>, Entry>,
    bytes: usize,
}

impl Cache {
    /// What answers a request for `path`, if that counts still and its file is at hand.
    pub(super) fn find(
        &self,
        path: &str,
        request: &Request,
        now: Instant,
    ) -> Option<(Rc<Prepared>, Rc<Open>)> {
        let entry = self.entries.get(path)?;
        let coding = match entry.available.is_empty() {
            true => Coding::Identity,
            false => {
                let accepts = AcceptEncoding::of(request.header_all("accept-encoding"));
                accepts.choose(&entry.available)
            }
        };
        let mut answers = entry.answers.iter();
        let answer = answers.find(|answer| answer.variant.coding == coding)?;
        if answer.until <= now {
            return None;
        }
        let open = match &answer.held {
            Held::Memory(open) => Rc::clone(open),
            Held::File(open) => open.upgrade()?,
        };
        Some((Rc::clone(answer), open))
    }

    /// Keeps an answer that was prepared right now, beside those in other codings that are
    /// `available`. What was looked at longest ago makes room.
    pub(super) fn keep(&mut self, path: &str, available: &[Coding], answer: Rc<Prepared>) {
        if path.len() > LONGEST {
            return;
        }
        let mut entry = self.remove(path).unwrap_or_else(|| Entry {
            until: answer.until,
            available: available.to_vec(),
            answers: Vec::with_capacity(1),
        });
        if entry.available != available {
            entry.available = available.to_vec();
            entry.answers.clear();
        }
        let coding = answer.variant.coding;
        entry.answers.retain(|other| other.variant.coding != coding);
        entry.until = answer.until;
        entry.answers.push(answer);
        let bytes = entry.bytes();
        while self.entries.len() >= PATHS || self.bytes + bytes > BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            match oldest.map(|(path, _)| path.clone()) {
                Some(path) => self.remove(&path),
                None => break,
            };
        }
        self.bytes += bytes;
        self.entries.insert(path.into(), entry);
    }

    fn remove(&mut self, path: &str) -> Option<Entry> {
        let entry = self.entries.remove(path)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    /// Drops what counts no more.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.until > now);
        self.bytes = self.entries.values().map(Entry::bytes).sum();
    }

    /// Drops all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many paths, and bytes of their files.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}
