//! Directories that nobody else can look into, for sockets that give power to whoever reaches them.
//!
//! Where they lie, and what goes into them, is left to whoever asks.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::unistd::geteuid;

/// Makes sure of a directory of this user's alone: makes it with mode 0700, or checks the one that
/// is there. The directory it lies in must exist.
///
/// # Errors
///
/// `PermissionDenied`, saying what is wrong, when what lies there is no directory (and a symbolic
/// link is none), belongs to another user, or lets the group or others in; `NotFound` and others of
/// mkdir(2).
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    own_directory(path, 0o700, 0o077)
}

/// The same of one that others may look into, with mode 0755: what is in it is this user's all the
/// same.
///
/// # Errors
///
/// As [`private_directory`], where others could write there.
#[cfg(feature = "programs")]
pub(crate) fn public_directory(path: &Path) -> io::Result<()> {
    own_directory(path, 0o755, 0o022)
}

fn own_directory(path: &Path, mode: u32, forbidden: u32) -> io::Result<()> {
    // Without a slash or dot at its end, which would follow a symbolic link.
    let path = path.components().as_path();
    match DirBuilder::new().mode(mode).create(path) {
        // Checked all the same: whoever may write to the directory above may have replaced it.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            let what = format!("cannot make {}: {error}", path.display());
            return Err(io::Error::new(error.kind(), what));
        }
    }
    let found = fs::symlink_metadata(path)?;
    let refuse = |what: &str| {
        let what = format!("{} {what}", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    };
    if found.is_symlink() {
        return refuse("is a symbolic link, not a directory");
    }
    if !found.is_dir() {
        return refuse("is not a directory");
    }
    let (owner, ours) = (found.uid(), geteuid().as_raw());
    if owner != ours {
        return refuse(&format!("belongs to user {owner}, not to user {ours}"));
    }
    let found = found.mode() & 0o777;
    if found & forbidden != 0 {
        return refuse(&format!(
            "is open to others: its mode is {found:04o}, not {mode:04o}"
        ));
    }
    Ok(())
}

/// Checks that nobody else may replace what this user puts into a directory: it belongs to this
/// user or to root, and others may not write there, unless it is sticky, as `/tmp` is.
///
/// # Errors
///
/// `PermissionDenied`, saying what is wrong; those of stat(2).
pub(crate) fn safe_directory(path: &Path) -> io::Result<()> {
    // The parent of a name alone.
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    let found = fs::metadata(path)?;
    let refuse = |what: &str| {
        let what = format!("{} {what}", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
    };
    let owner = found.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return refuse(&format!("belongs to user {owner}"));
    }
    let mode = found.mode();
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let mode = mode & 0o777;
        return refuse(&format!("may be changed by others: its mode is {mode:04o}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use super::super::testing::TempDir;
    use super::*;

    fn refusal(path: &Path) -> String {
        let error = private_directory(path).expect_err("not private");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let text = error.to_string();
        let plain = path.components().as_path().display().to_string();
        let what = text.strip_prefix(&plain).expect("it is named");
        what.trim_start().to_owned()
    }

    #[test]
    fn it_is_made_once_and_found_again() {
        let dir = TempDir::new();
        let path = dir.join("private");
        for _ in 0..2 {
            private_directory(&path).expect("ours");
            let found = fs::metadata(&path).expect("there");
            assert_eq!(found.mode() & 0o777, 0o700);
        }
        // It may have less, and things in it.
        fs::write(path.join("file"), "").expect("ours");
        fs::set_permissions(&path, Permissions::from_mode(0o500)).expect("ours");
        private_directory(&path).expect("ours");
        let slash = PathBuf::from(format!("{}/./", path.display()));
        private_directory(&slash).expect("the same");
        let error = private_directory(&dir.join("no/such")).expect_err("two levels");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("cannot make "), "{error}");
    }

    #[test]
    fn what_others_reach_is_refused() {
        let dir = TempDir::new();
        let path = dir.join("open");
        fs::create_dir(&path).expect("a fresh directory");
        for mode in [0o710, 0o704, 0o777, 0o755] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            let what = format!("is open to others: its mode is 0{mode:o}, not 0700");
            assert_eq!(refusal(&path), what);
        }
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = TempDir::new();
        let file = dir.join("file");
        fs::write(&file, "").expect("a file");
        assert_eq!(refusal(&file), "is not a directory");
        private_directory(&dir.join("real")).expect("ours");
        for (name, target) in [("link", "real"), ("dangling", "nowhere")] {
            let link = dir.join(name);
            symlink(dir.join(target), &link).expect("a link");
            let what = "is a symbolic link, not a directory";
            assert_eq!(refusal(&link), what);
            // With a slash, the kernel would look at what it leads to.
            assert_eq!(refusal(&link.join("")), what);
        }
    }

    #[test]
    fn what_belongs_to_another_is_refused() {
        // Only root can give a directory away; others have one that is root's.
        let dir = TempDir::new();
        let mut path = dir.join("given");
        private_directory(&path).expect("ours");
        let (owner, ours) = match geteuid().as_raw() {
            0 => {
                chown(&path, Some(12345), None).expect("root may");
                (12345, 0)
            }
            ours => {
                path = PathBuf::from("/proc");
                (0, ours)
            }
        };
        let what = format!("belongs to user {owner}, not to user {ours}");
        assert_eq!(refusal(&path), what);
    }

    #[test]
    fn a_directory_is_safe_when_others_cannot_change_it() {
        let directory = TempDir::new();
        let path = directory.join("d");
        fs::create_dir(&path).expect("made");
        let cases = [(0o700, true), (0o755, true), (0o775, false), (0o1777, true)];
        for (mode, safe) in cases {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            assert_eq!(safe_directory(&path).is_ok(), safe, "{mode:o}");
        }
        assert!(safe_directory(&directory.join("none")).is_err());
        assert!(safe_directory(Path::new("")).is_ok(), "the current one");
    }
}
