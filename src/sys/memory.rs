//! Memory that forked processes share.
//!
//! Only words, and only atomic ones. What each word means is left to whoever asked for them.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::{io, slice};

use nix::libc::off_t;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use super::retry;

/// A number of atomic words, all zero at first, that this process shares with the children it
/// forks.
///
/// A child's copy is the same memory. Dropping one lets go of it in this process only.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only ever seen as atomics.
unsafe impl Send for SharedWords {}
// SAFETY: as above; a shared reference gives out nothing but `&[AtomicU64]`, which is Sync.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps `words` of them; see memfd_create(2) and mmap(2). The `name` is shown in
    /// `/proc/PID/maps`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for no words at all, or more than could be addressed; those of the calls
    /// named.
    pub(crate) fn new(name: &str, words: usize) -> io::Result<SharedWords> {
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot share {words} words"),
            )
        };
        let bytes = words
            .checked_mul(size_of::<AtomicU64>())
            .and_then(NonZeroUsize::new)
            .ok_or_else(invalid)?;
        let length = off_t::try_from(bytes.get()).map_err(|_| invalid())?;
        let file = retry(|| memfd_create(name, MFdFlags::MFD_CLOEXEC))?;
        retry(|| ftruncate(&file, length))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so nothing that exists is mapped over. The file has
        // `bytes` bytes, and nobody can cut it shorter: its only descriptor is closed below.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(SharedWords {
            start: start.cast(),
            words,
        })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page-aligned and leads to `words` words, which the kernel filled with
        // zeros and which stay mapped until self is dropped. Other processes write to them, as they
        // may: all see them as atomics.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: these are the bounds of the mapping, which is ours alone; nobody borrows self any
        // more.
        let unmapped = unsafe {
            munmap(
                self.start.cast::<c_void>(),
                self.words * size_of::<AtomicU64>(),
            )
        };
        debug_assert_eq!(unmapped, Ok(()), "what was mapped can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;

    #[test]
    fn words_start_at_zero_and_are_shared_by_threads() {
        let words = Arc::new(SharedWords::new("mcluster-test", 1000).expect("memory"));
        assert_eq!(words.len(), 1000);
        assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let words = Arc::clone(&words);
                thread::spawn(move || {
                    words.iter().for_each(|word| {
                        word.fetch_add(1, Ordering::Relaxed);
                    })
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 4));
    }

    #[test]
    fn the_mapping_is_shared_and_goes_when_dropped() {
        let maps = || fs::read_to_string("/proc/self/maps").expect("/proc");
        let words = SharedWords::new("mcluster-test-dropped", 1).expect("memory");
        let line = maps()
            .lines()
            .find(|line| line.contains("mcluster-test-dropped"))
            .map(str::to_owned);
        assert!(line.expect("mapped").contains(" rw-s "));
        drop(words);
        assert!(!maps().contains("mcluster-test-dropped"));
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        for words in [0, usize::MAX, usize::MAX / 8] {
            let error = SharedWords::new("mcluster-test", words).expect_err("no such memory");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(SharedWords::new("a\0b", 1).is_err());
    }
}
