//! Files of LMDB: what can be told of one before it is mapped, and mapping it.
//!
//! LMDB reads through a mapping, so a file that is shorter than it says would end the process by
//! SIGBUS. Owns that such a file is never mapped; leaves tables and what is in them to its callers.

use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

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

/// The bytes that a file must have for all its pages to be there; None for one that is empty.
///
/// # Errors
///
/// `InvalidData` when it is none of LMDB's, of another version or another kind of machine.
pub(crate) fn needed(file: &mut File) -> io::Result<Option<u64>> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "it is no file of sessions");
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    let (mut at, mut most) = (0, 0);
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
        most = most.max(end.ok_or_else(strange)?);
        at = page;
    }
    Ok(Some(most))
}

/// Maps the file, and makes it where there is none; `PATH-lock` beside it has the locks. Nothing waits for the disk: a
/// change that is committed outlives its process, and the machine once [`Env::force_sync`] has been called.
///
/// A file that lacks its last pages gets empty ones: LMDB leaves pages away that it has given up before
/// they were written, and of others says itself that they are not what they should be. Whether it did.
///
/// # Errors
///
/// As open(2) and mmap(2); what LMDB says of the file; `InvalidData` when it is none of its own.
pub(crate) fn open(
    path: &Path,
    map_bytes: usize,
    readers: u32,
    tables: u32,
) -> heed::Result<(Env<WithoutTls>, bool)> {
    let mut short = false;
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(mut file) => {
            let length = file.metadata()?.len();
            if let Some(needed) = needed(&mut file)?
                && needed > length
            {
                short = true;
                // Only ever makes a file longer, so it cannot cut off what another process adds.
                let (from, more) = (length as libc::off_t, (needed - length) as libc::off_t);
                super::retry(|| fallocate(&file, FallocateFlags::empty(), from, more))?;
            }
        }
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
    // SAFETY: what is mapped is only changed by LMDB: the file is ours by its format, as long as it says, and
    // no other program has a reason to write to it. heed maps a file once in a process. Its users here forget
    // what a fork has left them, and open it anew.
    let env = unsafe { options.open(path) }?;
    Ok((env, short))
}
