//! Where running clusters of this user have their control sockets, and what a cluster may be called.
//!
//! Names paths only: making, checking and opening them is left to who uses them.

use crate::sys::process;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a cluster is called that nobody has named.
pub(crate) const USUAL_NAME: &str = "mcluster";

const LONGEST_NAME: usize = 64;

/// What the control sockets' names end in.
pub(crate) const EXTENSION: &str = "sock";

/// The control socket of the cluster `name`.
pub(crate) fn control_path(name: &str) -> PathBuf {
    directory().join(format!("{name}.{EXTENSION}"))
}

/// Where the control sockets of this user's clusters are. It need not exist.
pub(crate) fn directory() -> PathBuf {
    let session = std::env::var_os("XDG_RUNTIME_DIR");
    place(session, process::user_id(), &std::env::temp_dir())
}

/// The directory by the session's variable, else by user.
fn place(session: Option<OsString>, user: u32, temporary: &Path) -> PathBuf {
    // The variable has no meaning when relative, by the specification that has it.
    let session = session.map(PathBuf::from).filter(|path| path.is_absolute());
    match (session, user) {
        (Some(session), _) => session.join("mcluster"),
        (None, 0) => PathBuf::from("/run/mcluster"),
        (None, user) => temporary.join(format!("mcluster-{user}")),
    }
}

/// Whether a cluster may be called so: a file's name, that no shell and no option trips over.
///
/// # Errors
///
/// Why it may not.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(format!("a name has 1 to {LONGEST_NAME} characters"));
    }
    if name.starts_with(['.', '-']) {
        return Err(format!("{name:?} begins with a dot or a dash"));
    }
    match name.bytes().all(fine) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} has more than letters, digits, dots, dashes and underscores"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let cases = [
            (Some("/run/user/7"), 7, "/run/user/7/mcluster"),
            (Some("/run/user/0"), 0, "/run/user/0/mcluster"),
            (Some("relative"), 7, "/var/tmp/mcluster-7"),
            (Some(""), 0, "/run/mcluster"),
            (None, 7, "/var/tmp/mcluster-7"),
            (None, 0, "/run/mcluster"),
        ];
        for (session, user, expected) in cases {
            let found = place(session.map(OsString::from), user, Path::new("/var/tmp"));
            assert_eq!(found, Path::new(expected), "{session:?} {user}");
        }
        let path = control_path("shop");
        assert_eq!(path.file_name().unwrap(), "shop.sock");
        assert_eq!(path.parent(), Some(directory().as_path()));
    }

    #[test]
    fn names() {
        let longest = "a".repeat(LONGEST_NAME);
        for name in ["mcluster", "a", "shop-2.eu_west", "0", &longest] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let longer = "a".repeat(LONGEST_NAME + 1);
        for name in [
            "", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "é", "a\0", &longer,
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
