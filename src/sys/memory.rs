//! Memory that forked processes share.
//!
//! Only words, and only atomic ones. What each word means is left to whoever asked for them.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::{io, slice};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc::off_t;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use super::retry;

/// A number of atomic words, all zero at first, that this process shares with the children it
/// forks.
///
/// A child's copy is the same memory, and so is one that another program makes from the descriptor,
/// by [`SharedWords::from_fd`]. Dropping one lets go of it in this process only.
#[derive(Debug)]
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    words: usize,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only ever seen as atomics.
unsafe impl Send for SharedWords {}
// SAFETY: as above; a shared reference gives out nothing but `&[AtomicU64]`, which is Sync.
unsafe impl Sync for SharedWords {}

/// The file keeps its length, and its seals: touching a page that was cut off would be SIGBUS.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SEAL);

impl SharedWords {
    /// Maps `words` of them; see memfd_create(2) and mmap(2). The `name` is shown in
    /// `/proc/PID/maps`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for no words at all, or more than could be addressed; those of the calls
    /// named.
    pub(crate) fn new(name: &str, words: usize) -> io::Result<SharedWords> {
        let length = file_length(words)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = retry(|| memfd_create(name, flags))?;
        retry(|| ftruncate(&file, length))?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
        SharedWords::map(file, words)
    }

    /// Maps what another `SharedWords` of as many words gave as its descriptor, in this process or
    /// in one that it was passed from. The flags of the descriptor stay as they are.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the file is not exactly that long, or could become shorter; those of
    /// mmap(2). Then it is closed.
    pub(crate) fn from_fd(file: OwnedFd, words: usize) -> io::Result<SharedWords> {
        let length = file_length(words)?;
        let found = fstat(&file)?.st_size;
        if found != length {
            return Err(invalid(format!(
                "shared memory of {found} bytes where {words} words should be"
            )));
        }
        // EINVAL for what is no memfd at all.
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS)
            .map_or(SealFlag::empty(), SealFlag::from_bits_retain);
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(invalid("a file that is not sealed is not shared".into()));
        }
        SharedWords::map(file, words)
    }

    /// Maps a file that has as many words and can have no fewer.
    fn map(file: OwnedFd, words: usize) -> io::Result<SharedWords> {
        let bytes = words * size_of::<AtomicU64>();
        let bytes = NonZeroUsize::new(bytes).ok_or_else(|| invalid("no words to share".into()))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so nothing that exists is mapped over. The file has
        // `bytes` bytes, and nobody can cut it shorter: it is sealed against that.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(SharedWords {
            start: start.cast(),
            words,
            file,
        })
    }
}

/// How long the file of as many words is.
fn file_length(words: usize) -> io::Result<off_t> {
    words
        .checked_mul(size_of::<AtomicU64>())
        .and_then(|bytes| off_t::try_from(bytes).ok())
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| invalid(format!("cannot share {words} words")))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl AsFd for SharedWords {
    /// The memory's file, close-on-exec.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page-aligned and leads to `words` words, which the kernel once filled
        // with zeros and which stay mapped until self is dropped. Other processes write to them, as they
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
    #[test]
    fn a_descriptor_leads_to_the_same_words() {
        let words = SharedWords::new("mcluster-test", 600).expect("memory");
        let clone = || words.as_fd().try_clone_to_owned().expect("a descriptor");
        words[599].store(7, Ordering::Relaxed);
        let other = SharedWords::from_fd(clone(), 600).expect("the same memory");
        assert_eq!(other.len(), 600);
        assert_eq!(other[599].load(Ordering::Relaxed), 7);
        other[0].store(8, Ordering::Relaxed);
        assert_eq!(words[0].load(Ordering::Relaxed), 8);
        for count in [0, 1, 599, 601, usize::MAX / 8] {
            let error = SharedWords::from_fd(clone(), count).expect_err("another length");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
        let flags = fcntl(&words, FcntlArg::F_GETFD).expect("open");
        assert_eq!(flags, nix::libc::FD_CLOEXEC);
        drop(words);
        assert_eq!(other[599].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn nobody_can_cut_it_shorter() {
        let words = SharedWords::new("mcluster-test", 2).expect("memory");
        for length in [0, 8, 4096] {
            assert!(ftruncate(&words, length).is_err());
        }
        // Nor is a file taken where somebody could.
        let file = memfd_create("mcluster-test", MFdFlags::MFD_CLOEXEC).expect("memory");
        ftruncate(&file, 16).expect("not sealed");
        let error = SharedWords::from_fd(file, 2).expect_err("not sealed");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let (a, _b) = super::super::socket::pair_stream().expect("a pair");
        assert!(SharedWords::from_fd(a, 2).is_err());
    }
}
