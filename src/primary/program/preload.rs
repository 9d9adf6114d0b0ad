//! What a Node worker is given to run before its application: the script that lets it go without a
//! client noticing, and that tells whose its clients are.
//!
//! Owns the file that the script is in, since Node can only require files. Leaves what it does to
//! `preload.cjs`, and when it is wanted to `launch`.

use super::launch::Berth;
use super::{Program, Protocol};
use crate::primary::SchedulingPolicy;
use crate::server::sticky::value_of;
use crate::sys::privilege::Identity;
use crate::sys::{directory, process};
use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Variables for a worker.
type Told = Vec<(OsString, OsString)>;

/// The script.
const SCRIPT: &str = include_str!("preload.cjs");

/// Where every user can read temporary files.
const EVERYBODYS: &str = "/tmp";

/// What tells the script that a worker's connections may wait so long, in milliseconds, when it goes.
const HOLD_IDLE: &str = "MCLUSTER_PRELOAD_HOLD";

/// What tells it the cookie that says whose a client is: `NAME=VALUE`.
const STICKY_COOKIE: &str = "MCLUSTER_PRELOAD_COOKIE";

/// What tells it the key of a query that does.
const STICKY_QUERY: &str = "MCLUSTER_PRELOAD_QUERY";

impl Program {
    /// The script that a worker runs first, and what it is told, if it is to run it: Node alone can, and
    /// only where there is a script of the application's behind.
    pub(super) fn preload(&self, berth: &Berth<'_>) -> Option<(PathBuf, Told)> {
        let name = Path::new(&self.executable).file_name()?.to_str()?;
        let is_node = self.protocol == Protocol::Node && name.starts_with("node");
        let told = self.told(berth);
        if !is_node || self.script.is_none() || told.is_empty() {
            return None;
        }
        match file(berth.settings.identity.as_ref()) {
            Ok(path) => Some((path, told)),
            Err(error) => {
                let id = berth.id;
                log::warn!("worker {id} goes without its preloaded script: {error}");
                None
            }
        }
    }

    fn told(&self, berth: &Berth<'_>) -> Told {
        let mut told = Told::new();
        let mut tell = |name: &str, value: String| told.push((name.into(), value.into()));
        if !self.hold_idle.is_zero() {
            tell(HOLD_IDLE, self.hold_idle.as_millis().max(1).to_string());
        }
        match berth.policy {
            SchedulingPolicy::StickyCookie(name) => {
                tell(STICKY_COOKIE, format!("{name}={}", value_of(berth.place)));
            }
            SchedulingPolicy::StickyQuery(key) => tell(STICKY_QUERY, key.to_string()),
            _ => {}
        }
        told
    }
}

/// The file with the script, which is made where it is not there: whoever tidies the directory for
/// temporary files must not keep workers from starting. Workers may read it as any user, `worker` for
/// one: where that cannot look into this user's own directory, it is in everybody's.
///
/// # Errors
///
/// When it cannot be written, or lies where others could change it.
fn file(worker: Option<&Identity>) -> io::Result<PathBuf> {
    let name = format!("mcluster-preload-{}", process::user_id());
    let mut problem = None;
    for temporary in [std::env::temp_dir(), PathBuf::from(EVERYBODYS)] {
        match directory_for(worker, &temporary) {
            Ok(()) => return file_in(&temporary.join(name)),
            // That of the directory which was asked for says more.
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    Err(problem.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Whether the file may lie in a directory.
fn directory_for(worker: Option<&Identity>, temporary: &Path) -> io::Result<()> {
    directory::safe_directory(temporary)?;
    match worker {
        Some(worker) if !worker.may_search(temporary)? => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is closed to {worker}", temporary.display()),
        )),
        _ => Ok(()),
    }
}

fn file_in(place: &Path) -> io::Result<PathBuf> {
    directory::public_directory(place)?;
    // Whatever the umask.
    fs::set_permissions(place, Permissions::from_mode(0o755))?;
    let mut hasher = DefaultHasher::new();
    SCRIPT.hash(&mut hasher);
    let path = place.join(format!("{:016x}.cjs", hasher.finish()));
    if fs::read(&path).is_ok_and(|found| found == SCRIPT.as_bytes()) {
        return Ok(path);
    }
    // Renamed when it is whole: somebody else may be about to read it.
    let new = place.join(format!("{:016x}.{}", hasher.finish(), process::pid()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&new)?;
    file.write_all(SCRIPT.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    fs::rename(&new, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_the_worker_can_read_it() {
        let place =
            std::env::temp_dir().join(format!("mcluster-preload-private-{}", process::pid()));
        directory::private_directory(&place).unwrap();
        let other = Identity {
            uid: 3_999_999_999,
            gid: 3_999_999_999,
            name: None,
            home: None,
        };
        directory_for(None, &place).unwrap();
        let why = directory_for(Some(&other), &place).unwrap_err().to_string();
        assert!(why.contains("is closed to user 3999999999"), "{why}");
        directory_for(Some(&other), Path::new(EVERYBODYS)).unwrap();
        fs::remove_dir(&place).unwrap();
    }

    #[test]
    fn it_is_there_whoever_has_tidied_up() {
        let place = std::env::temp_dir().join(format!("mcluster-preload-test-{}", process::pid()));
        let path = file_in(&place).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), SCRIPT);
        fs::write(&path, "something else").unwrap();
        assert_eq!(file_in(&place).unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), SCRIPT);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(file_in(&place).unwrap(), path);
        fs::remove_dir_all(&place).unwrap();
    }
}
