//! Bytes that are too many for memory: a file without a name, and then a view of it.
//!
//! What the bytes are is left to whoever writes them.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A file that only this process has, and that is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    length: usize,
}

impl Spool {
    /// An empty one on the file system of `directory`; see `O_TMPFILE` in open(2). Where that is
    /// not known the file has a name for a moment.
    ///
    /// # Errors
    ///
    /// Those of open.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        // With O_EXCL nobody can give it a name later.
        let unnamed = options
            .clone()
            .custom_flags(libc::O_TMPFILE | libc::O_EXCL)
            .open(directory);
        let file = match unnamed {
            Err(error) if is_unknown(&error) => named_for_a_moment(&mut options, directory)?,
            unnamed => unnamed?,
        };
        Ok(Self { file, length: 0 })
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// `ENOSPC` and the other errors of write(2).
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len();
        Ok(())
    }

    /// All bytes, as memory that the kernel may take back at any time and read again.
    ///
    /// # Errors
    ///
    /// Those of mmap(2).
    pub(crate) fn into_view(self) -> io::Result<View> {
        let Some(length) = NonZeroUsize::new(self.length) else {
            return Ok(View {
                start: NonNull::dangling(),
                length: 0,
            });
        };
        let (read, private) = (ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE);
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let start = unsafe { mmap(None, length, read, private, &self.file, 0) }?;
        Ok(View {
            start: start.cast(),
            length: length.get(),
        })
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOENT)
    )
}

fn named_for_a_moment(options: &mut OpenOptions, directory: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(".mcluster-{}-{number}", std::process::id());
        let path = directory.join(name);
        match options.create_new(true).open(&path) {
            // Somebody's who had our number before us, and died.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
        }
    }
}

/// What a [`Spool`] held.
#[derive(Debug)]
pub(crate) struct View {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and nobody writes to it.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped from `start` on until this is dropped (or there are
        // none, and the pointer is only well aligned). They are initialized, for they were written.
        // Nobody can change or cut them: the file never had a name that another process could have
        // opened it by for longer than a moment at its birth, when it was mode 0600, and its last
        // descriptor is closed.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping is this value's, which ends here, and so did all borrows of it.
            let unmapped = unsafe { munmap(self.start.cast::<c_void>(), self.length) };
            debug_assert!(unmapped.is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_leave_nothing_behind() {
        let directory = std::env::temp_dir().join(format!("mcluster-spool-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let mut unnamed = Spool::new(&directory).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = named_for_a_moment(&mut options, &directory).unwrap();
        let mut named = Spool { file, length: 0 };
        for spool in [&mut unnamed, &mut named] {
            spool.write(b"one ").unwrap();
            spool.write(&vec![b'x'; 100_000]).unwrap();
        }
        // Nothing has a name: the directory is empty, or this would fail.
        std::fs::remove_dir(&directory).unwrap();
        for spool in [unnamed, named] {
            let view = spool.into_view().unwrap();
            assert_eq!((view.len(), &view[..5]), (100_004, &b"one x"[..]));
        }
    }

    #[test]
    fn nothing_is_a_view_too() {
        let spool = Spool::new(&std::env::temp_dir()).unwrap();
        assert!(spool.into_view().unwrap().is_empty());
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(Spool::new(Path::new("/nowhere/at/all")).is_err());
    }
}
