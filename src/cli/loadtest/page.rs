//! Writing a page to a file, so that whoever reads it never sees a part of it.

use crate::{Error, Result};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Whether it can be written: better known before a long run than after it. The file beside that it is
/// first written to is made, and taken away again.
///
/// # Errors
///
/// When there is no such directory, when it is one, and when nothing can be made there.
pub(super) fn judge(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    match place(path) {
        _ if path.is_dir() => Err(unusable(path, "it is a directory")),
        _ if !folder.is_dir() => Err(unusable(path, "there is no such directory")),
        Ok(None) => Ok(()),
        Ok(Some(place)) => {
            let tried = beside(&place).and_then(|(_, name)| fs::remove_file(name));
            tried.map_err(|error| unusable(path, &error.to_string()))
        }
        Err(error) => Err(unusable(path, &error.to_string())),
    }
}

/// Where the file is, or will be: where a link leads to, which stays. None of what is no file.
fn place(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => Ok(None),
        Ok(_) => fs::canonicalize(path).map(Some),
        Err(_) => Ok(Some(path.to_owned())),
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
    let written = place(path).and_then(|place| match place {
        None => fs::write(path, text),
        Some(place) => replace(&place, text),
    });
    written.map_err(|error| Error::Failed(format!("--html {}: {error}", path.display())))
}

/// A new file beside it, and its name.
fn beside(path: &Path) -> io::Result<(fs::File, PathBuf)> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let name = PathBuf::from(name);
    Ok((fs::File::create_new(&name)?, name))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (mut file, name) = beside(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| fs::rename(&name, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&name);
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
        for path in [&page, Path::new("page.html"), Path::new("/dev/null")] {
            judge(path).unwrap();
            assert!(!page.exists());
        }
        // Where nobody may make a file, not even root.
        let nowhere = PathBuf::from("/proc/page.html");
        for path in [&folder, &folder.join("no/page.html"), &nowhere] {
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
