//! Files of LMDB: what can be told of one before it is mapped, and mapping it.
//!
//! LMDB reads through a mapping, so a file that is shorter than it says would end the process by
//! SIGBUS. Owns that such a file is never mapped; leaves tables and what is in them to its callers.

use super::retry;
use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What every file of LMDB has, in the machine's own byte order.
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;

/// `MDB_page.mp_flags` of the two pages that say where everything is.
const IS_META: u16 = 0x08;

/// How LMDB lays these out (`MDB_page`, `MDB_meta`, `MDB_db` in its mdb.c), by the length of a word.
const WORD: usize = size_of::<usize>();
const HEAD: usize = WORD + 8;
const PAGE_BYTES: usize = HEAD + 8 + 2 * WORD;
const TABLE: usize = 8 + 5 * WORD;
const LAST_PAGE: usize = PAGE_BYTES + 2 * TABLE;
const META: usize = LAST_PAGE + 2 * WORD;

/// Whether a file is whole, as far as can be told from its first two pages; an empty one is.
///
/// # Errors
///
/// `InvalidData` when it is none of LMDB's, of another version or another kind of machine, or cut off.
pub(crate) fn judge(file: &mut File) -> io::Result<()> {
    let wrong = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let strange = || wrong("it is no file of sessions");
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let (mut at, mut needed) = (0, 0);
    for _ in 0..2 {
        let mut meta = [0; META];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut meta).map_err(|_| strange())?;
        let short = |at: usize| u16::from_ne_bytes([meta[at], meta[at + 1]]);
        let long = |at: usize| {
            let bytes = [meta[at], meta[at + 1], meta[at + 2], meta[at + 3]];
            u32::from_ne_bytes(bytes)
        };
        let mut word = [0; WORD];
        word.copy_from_slice(&meta[LAST_PAGE..LAST_PAGE + WORD]);
        let last = usize::from_ne_bytes(word) as u64;
        let page = u64::from(long(PAGE_BYTES));
        let known = short(WORD + 2) & IS_META != 0
            && (long(HEAD), long(HEAD + 4)) == (MAGIC, VERSION)
            && page.is_power_of_two()
            && (512..=65536).contains(&page);
        if !known {
            return Err(strange());
        }
        let end = last
            .checked_add(1)
            .and_then(|pages| pages.checked_mul(page));
        needed = needed.max(end.ok_or_else(strange)?);
        at = page;
    }
    // Asked last: it only grows.
    match file.metadata()?.len() < needed {
        true => Err(wrong("it is cut off")),
        false => Ok(()),
    }
}

/// Maps the file, and makes it where there is none; `PATH-lock` beside it has the locks. Nothing waits for the disk: a
/// change that is committed outlives its process, and the machine once [`Env::force_sync`] has been called.
///
/// The file is as long as the map from then on, and mostly a hole. LMDB leaves pages away that it has given up
/// before they were written, so without that a file may be whole and shorter than it says.
///
/// # Errors
///
/// As open(2) and mmap(2); what LMDB says of the file; `InvalidData` when it is none of its own, or is cut off.
pub(crate) fn open(
    path: &Path,
    map_bytes: usize,
    readers: u32,
    tables: u32,
) -> heed::Result<Env<WithoutTls>> {
    match File::open(path) {
        Ok(mut file) => judge(&mut file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options
        .map_size(map_bytes)
        .max_readers(readers)
        .max_dbs(tables);
    // SAFETY: without these syncs a failure of the machine may cost the file, but no process's death
    // does; and the file may be one by itself, not in a directory.
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_SYNC) };
    allocate_locks(path, readers)?;
    // SAFETY: what is mapped is only changed by LMDB: the file is ours by its format, as long as it says, and
    // no other program has a reason to write to it. heed maps a file once in a process. Its users here forget
    // what a fork has left them, and open it anew.
    let env = unsafe { options.open(path) }?;
    lengthen(path, map_bytes as u64)?;
    Ok(env)
}

/// Makes the file so long, if it is shorter.
fn lengthen(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    // Of two that do so at once none cuts off what the other has added.
    let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    match file.metadata()?.len() < bytes {
        true => file.set_len(bytes),
        false => Ok(()),
    }
}

/// Where the locks of a file are.
pub(crate) fn locks(path: &Path) -> PathBuf {
    let mut locks = path.as_os_str().to_owned();
    locks.push("-lock");
    locks.into()
}

/// Gives the locks their place on the disk. LMDB makes them a hole and writes by a mapping, which on a full file
/// system ends the process by SIGBUS.
///
/// # Errors
///
/// As open(2) and fallocate(2), with the path.
fn allocate_locks(path: &Path, readers: u32) -> io::Result<()> {
    /// What LMDB has for a reader, and before the first (`MDB_reader`, `MDB_txninfo` in its mdb.c).
    const READER: u64 = 64;
    const BEFORE: u64 = 128;
    let locks = locks(path);
    let bytes = BEFORE + u64::from(readers) * READER;
    let whole = |about: fs::Metadata| about.len() >= bytes && about.blocks() * 512 >= bytes;
    // Not opened without need: a process that closes the file gives up what it has locked in it.
    if fs::metadata(&locks).is_ok_and(whole) || is_open_here(path) {
        return Ok(());
    }
    let told = |error: io::Error| {
        let text = format!("{}: {error}", locks.display());
        io::Error::new(error.kind(), text)
    };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&locks)
        .map_err(told)?;
    let length = libc::off_t::try_from(bytes).unwrap_or(libc::off_t::MAX);
    let outcome = retry(|| fallocate(&file, FallocateFlags::empty(), 0, length));
    match outcome {
        // A file system that promises no place: as it was without asking.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        outcome => outcome.map_err(told),
    }
}

/// Whether this process has the file open.
fn is_open_here(path: &Path) -> bool {
    let path = fs::canonicalize(path);
    path.is_ok_and(|path| heed::env_closing_event(path).is_some())
}
