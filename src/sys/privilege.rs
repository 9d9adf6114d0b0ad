//! Giving up root for another user and group; see credentials(7).
//!
//! Which user that is, and when to change, is left to whoever calls.

use std::ffi::CString;
#[cfg(feature = "programs")]
use std::fs;
#[cfg(feature = "programs")]
use std::os::unix::fs::MetadataExt;
#[cfg(feature = "programs")]
use std::path::Path;
use std::path::PathBuf;
use std::{fmt, io};

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, geteuid, getresgid, getresuid, initgroups, setgroups, setresgid,
    setresuid, setuid,
};

/// Whom a process is to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user's number.
    pub(crate) uid: u32,
    /// The group's number.
    pub(crate) gid: u32,
    /// The user's name, if it has one: its further groups are found by it.
    pub(crate) name: Option<String>,
    /// Where it is at home: at the root where the machine does not know it. None where it was a
    /// group alone that was asked for.
    pub(crate) home: Option<PathBuf>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "user {name} and group {}", self.gid),
            None => write!(f, "user {} and group {}", self.uid, self.gid),
        }
    }
}

/// Finds a user and a group, each by its name or else by its number. A user without a group means
/// its primary one; a group without a user keeps this process's user. `None` when neither is asked
/// for.
///
/// A number need not be known to the machine, as in many containers, except that a user without a
/// group must be.
///
/// # Errors
///
/// `NotFound`, naming what is unknown; those of the machine's user database. It is read, possibly
/// over the network, so call this before the first fork.
pub(crate) fn identity(user: Option<&str>, group: Option<&str>) -> io::Result<Option<Identity>> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let group = group.map(find_group).transpose()?;
    let (uid, known) = match user {
        Some(user) => find_user(user)?,
        // Its further groups are left behind with its old group.
        None => (geteuid(), None),
    };
    let primary = known.as_ref().map(|known| known.gid);
    let gid = group.or(primary).ok_or_else(|| {
        let what = format!("user {uid} is unknown, so a group must be given too");
        io::Error::new(io::ErrorKind::NotFound, what)
    })?;
    Ok(Some(Identity {
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        home: user.map(|_| match &known {
            Some(known) => known.dir.clone(),
            None => PathBuf::from("/"),
        }),
        name: known.map(|known| known.name),
    }))
}

/// The user's number, and what else is known of it.
fn find_user(user: &str) -> io::Result<(Uid, Option<User>)> {
    let mut found = known(User::from_name(user))?;
    let number = number(user).map(Uid::from_raw);
    if let (None, Some(number)) = (&found, number) {
        found = known(User::from_uid(number))?;
    }
    match (found, number) {
        (Some(found), _) => Ok((found.uid, Some(found))),
        (None, Some(number)) => Ok((number, None)),
        (None, None) => Err(unknown("user", user)),
    }
}

fn find_group(group: &str) -> io::Result<Gid> {
    let found = known(Group::from_name(group))?.map(|found| found.gid);
    found
        .or_else(|| number(group).map(Gid::from_raw))
        .ok_or_else(|| unknown("group", group))
}

/// A user's or group's number. The highest stands for none, and would change nothing.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

/// Nobody found, in the words that getpwnam(3) lists besides a plain answer.
fn known<T>(found: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => Ok(found?),
    }
}

fn unknown(kind: &str, name: &str) -> io::Error {
    let what = format!("there is no {kind} {name:?}");
    io::Error::new(io::ErrorKind::NotFound, what)
}

/// Whether this process may become another user: whether it is root's.
pub(crate) fn may_change() -> bool {
    geteuid().is_root()
}

impl Identity {
    /// Whether it may look into a directory, by the modes of that and of all above it. Its further
    /// groups are not asked.
    ///
    /// # Errors
    ///
    /// Those of stat(2) and realpath(3).
    #[cfg(feature = "programs")]
    pub(crate) fn may_search(&self, directory: &Path) -> io::Result<bool> {
        if self.uid == 0 {
            return Ok(true);
        }
        for one in directory.canonicalize()?.ancestors() {
            let found = fs::metadata(one)?;
            let class = match (found.uid() == self.uid, found.gid() == self.gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if found.mode() & class == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes this process, with all its threads, the user's and group's, for good: real, effective
    /// and saved ids, and the further groups that the user is in.
    ///
    /// The kernel forgets with it that the process is to be told of its parent's death, so
    /// [`kill_after_parent_death`](super::process::kill_after_parent_death) comes after this. What
    /// was opened before stays open.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` when this process is not root's, or could become root again: the calls
    /// named in credentials(7). Then part of it may have happened, and the process should leave.
    pub(crate) fn assume(&self) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let failed = |what: &str, error: Errno| {
            let error = io::Error::from(error);
            let what = format!("cannot become user {uid}, group {gid}: {what}: {error}");
            io::Error::new(error.kind(), what)
        };
        // The groups while root may still set them, the user last.
        match &self.name {
            Some(name) => {
                let name = CString::new(name.as_str())?;
                initgroups(&name, gid).map_err(|e| failed("initgroups", e))?;
            }
            None => setgroups(&[gid]).map_err(|e| failed("setgroups", e))?,
        }
        setresgid(gid, gid, gid).map_err(|e| failed("setresgid", e))?;
        setresuid(uid, uid, uid).map_err(|e| failed("setresuid", e))?;
        let (users, groups) = (getresuid()?, getresgid()?);
        let changed = [users.real, users.effective, users.saved] == [uid; 3]
            && [groups.real, groups.effective, groups.saved] == [gid; 3];
        // With a capability that was kept on purpose, root would be a call away.
        if !changed || (!uid.is_root() && setuid(Uid::from_raw(0)).is_ok()) {
            let what = format!("user {uid}, group {gid}: root could be regained");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        Ok(())
    }
}

/// That an identity is assumed is tested from outside: it is the whole process that changes.
#[cfg(test)]
mod tests {
    use nix::unistd::getegid;

    use super::*;

    fn found(user: Option<&str>, group: Option<&str>) -> Identity {
        let found = identity(user, group).expect("known");
        found.expect("asked for")
    }

    #[test]
    fn nothing_asked_is_nothing_to_change() {
        assert_eq!(identity(None, None).expect("nothing to find"), None);
        assert_eq!(may_change(), geteuid().as_raw() == 0);
    }

    #[test]
    fn names_and_numbers_are_found() {
        let root = Identity {
            uid: 0,
            gid: 0,
            name: Some("root".to_owned()),
            home: found(Some("root"), None).home,
        };
        assert_eq!(found(Some("root"), None), root);
        assert_eq!(found(Some("0"), None), root);
        assert_eq!(found(Some("root"), Some("root")), root);
        assert_eq!(found(Some("root"), Some("12345")).gid, 12345);
        let group_alone = found(None, Some("12345"));
        assert_eq!(group_alone.uid, geteuid().as_raw());
        assert_eq!((group_alone.gid, group_alone.name), (12345, None));
        // Beyond the numbers that distributions give.
        let number = found(Some("3999999999"), Some("3999999998"));
        let expected = Identity {
            uid: 3_999_999_999,
            gid: 3_999_999_998,
            name: None,
            home: Some(PathBuf::from("/")),
        };
        assert_eq!(number, expected);
    }

    #[cfg(feature = "programs")]
    #[test]
    fn private_directories_are_searched_by_their_owner() {
        use std::os::unix::fs::PermissionsExt;
        let directory = super::super::testing::TempDir::new();
        let (outer, inner) = (directory.join("outer"), directory.join("outer/inner"));
        fs::create_dir_all(&inner).expect("fresh");
        let found = fs::metadata(&outer).expect("just made");
        let identity = |uid, gid| Identity {
            uid,
            gid,
            name: None,
            home: None,
        };
        let other = identity(3_999_999_999, 3_999_999_999);
        let grouped = identity(3_999_999_999, found.gid());
        for (mode, by_group, by_all) in [
            (0o755, true, true),
            (0o710, true, false),
            (0o705, false, true),
        ] {
            fs::set_permissions(&outer, fs::Permissions::from_mode(mode)).expect("ours");
            let owner = identity(found.uid(), 3_999_999_999);
            assert!(owner.may_search(&outer).expect("there"), "{mode:o}");
            assert_eq!(
                grouped.may_search(&inner).expect("there"),
                by_group,
                "{mode:o}"
            );
            assert_eq!(other.may_search(&inner).expect("there"), by_all, "{mode:o}");
        }
        assert!(other.may_search(&directory.join("missing")).is_err());
    }

    #[test]
    fn the_unknown_is_named() {
        let error = |user, group| {
            let error = identity(user, group).expect_err("unknown");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            error.to_string()
        };
        let name = "no-such-name";
        assert_eq!(
            error(Some(name), None),
            r#"there is no user "no-such-name""#
        );
        assert_eq!(
            error(None, Some(name)),
            r#"there is no group "no-such-name""#
        );
        assert_eq!(error(Some(""), None), r#"there is no user """#);
        assert_eq!(error(Some("a\0b"), None), r#"there is no user "a\0b""#);
        // -1, which setresuid(2) takes for no change at all.
        for none in ["4294967295", "-1", "4294967296"] {
            error(Some(none), Some("0"));
            error(Some("0"), Some(none));
        }
        let text = "user 3999999999 is unknown, so a group must be given too";
        assert_eq!(error(Some("3999999999"), None), text);
    }

    #[test]
    fn only_root_becomes_another() {
        if may_change() {
            return;
        }
        let own = Identity {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            name: None,
            home: None,
        };
        let error = own.assume().expect_err("not root");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
