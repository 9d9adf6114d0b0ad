//! Writing a page to a file, so that whoever reads it never sees a part of it.

use crate::{Error, Result};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whether a file could be there at all: better known before a long run than after it.
///
/// # Errors
///
/// When there is no such directory, or when it is one.
pub(super) fn judge(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    match (path.is_dir(), folder.is_dir()) {
        (true, _) => Err(unusable(path, "it is a directory")),
        (false, false) => Err(unusable(path, "there is no such directory")),
        (false, true) => Ok(()),
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::Settings(format!("--html {}: {why}", path.display()))
}

/// Writes it beside and puts it in place. What is no file, such as a pipe, is written to.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let written = match fs::metadata(path) {
        Ok(there) if !there.is_file() => fs::write(path, text),
        // Through a link, which stays.
        Ok(_) => fs::canonicalize(path).and_then(|path| replace(&path, text)),
        Err(_) => replace(path, text),
    };
    written.map_err(|error| Error::Failed(format!("--html {}: {error}", path.display())))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = fs::File::create_new(&beside)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_as_a_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("mcluster-page-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let page = folder.join("page.html");
        assert!(judge(&page).is_ok() && judge(Path::new("page.html")).is_ok());
        for path in [&folder, &folder.join("no/page.html")] {
            let error = judge(path).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        write(&page, "one").unwrap();
        let link = folder.join("link.html");
        std::os::unix::fs::symlink(&page, &link).unwrap();
        write(&link, "two").unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), "two");
        assert!(link.is_symlink());
        write(Path::new("/dev/null"), "three").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        let error = write(&folder.join("no/page.html"), "four").unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("no/page.html"), "{error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing is left");
        fs::remove_dir_all(&folder).unwrap();
    }
}
