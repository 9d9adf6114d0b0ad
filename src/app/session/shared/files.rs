//! Which files a store has: its own, and that of its locks.
//!
//! Owns how they are told from others that were put in their place. Leaves opening them to `opened`.

use crate::app::session::StoreError;
use crate::sys::lmdb;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The device and the number of the file and of its locks. Those of an open file are not given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files([(u64, u64); 2]);

impl Files {
    /// Those that are there now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Broken`] when one is not, since whoever asks has just opened them;
    /// [`StoreError::Unavailable`] when that cannot be told.
    pub(super) fn at(path: &Path) -> Result<Self, StoreError> {
        let locks = lmdb::locks(path);
        let mut found = [(0, 0); 2];
        for (known, path) in found.iter_mut().zip([path, &locks]) {
            let about = fs::metadata(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => replaced(path),
                _ => StoreError::Unavailable(format!("{}: {error}", path.display())),
            })?;
            *known = (about.dev(), about.ino());
        }
        Ok(Self(found))
    }

    /// Whether these are the ones at the path still.
    ///
    /// # Errors
    ///
    /// As [`Files::at`], and [`StoreError::Broken`] when others are.
    pub(super) fn are_at(&self, path: &Path) -> Result<(), StoreError> {
        let Self([file, locks]) = Self::at(path)?;
        match (file == self.0[0], locks == self.0[1]) {
            (true, true) => Ok(()),
            (false, _) => Err(replaced(path)),
            (true, false) => Err(replaced(&lmdb::locks(path))),
        }
    }
}

fn replaced(path: &Path) -> StoreError {
    let path = path.display();
    StoreError::Broken(format!(
        "{path} was removed or replaced while it was in use; restart the cluster"
    ))
}
