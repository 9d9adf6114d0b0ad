//! Where the built-in application keeps its sessions, and what signs their cookies.

use super::flags::Serve;
use super::show::without_password;
use crate::session::{Keys, MemoryStore, Sessions, SharedStore};
use crate::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The variable that holds keys themselves.
const KEY: &str = "MCLUSTER_SESSION_KEY";

/// How the URL of a server begins; of one kind only to be told that there is no such thing.
const SERVERS: [&str; 5] = ["redis:", "redis+unix:", "rediss:", "valkey:", "valkeys:"];

/// A place for sessions, as it is written.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The memory of each worker's process.
    Memory,
    /// A file for all workers.
    Shared(PathBuf),
    /// A server for several machines, by its URL.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "such a place cannot be named without it")
    )]
    Redis(String),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("Memory"),
            Self::Shared(path) => f.debug_tuple("Shared").field(path).finish(),
            Self::Redis(url) => f
                .debug_tuple("Redis")
                .field(&without_password(url))
                .finish(),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(words: &str) -> std::result::Result<Self, String> {
        let path = words.strip_prefix("shared:");
        match path {
            Some(path) if !path.is_empty() => Ok(Self::Shared(path.into())),
            None if words == "memory" => Ok(Self::Memory),
            None if SERVERS.iter().any(|scheme| words.starts_with(scheme)) => redis(words),
            // Not repeated, as it may hold a password.
            _ => Err(
                "that is no session store (memory, shared:PATH or redis://HOST:PORT)".to_owned(),
            ),
        }
    }
}

#[cfg(feature = "redis")]
fn redis(url: &str) -> std::result::Result<Place, String> {
    Ok(Place::Redis(url.to_owned()))
}

#[cfg(not(feature = "redis"))]
fn redis(_: &str) -> std::result::Result<Place, String> {
    Err("this mcluster was built without the feature redis".to_owned())
}

/// The sessions that the options ask for; their store is there and their keys are made.
///
/// # Errors
///
/// When the keys cannot be read or made, and when the store cannot be used.
pub(super) fn open(serve: &Serve) -> Result<Sessions> {
    match &serve.session_store {
        Place::Memory => Ok(Sessions::new(MemoryStore::new(), keys(serve, true)?)),
        Place::Shared(path) => {
            // Workers that become another user make the file themselves: it is to be theirs.
            let store = match serve.who.user.is_some() || serve.who.group.is_some() {
                true => SharedStore::judge(path).map(|()| SharedStore::at(path)),
                false => SharedStore::open(path),
            };
            let store = store.map_err(|error| unusable(&error))?;
            Ok(Sessions::new(store, keys(serve, true)?))
        }
        Place::Redis(url) => by_redis(url, keys(serve, true)?),
    }
}

/// Whether the options make sense, as far as can be told without making anything; sessions that are not to be used.
///
/// # Errors
///
/// As [`open`].
pub(super) fn check(serve: &Serve) -> Result<Sessions> {
    let keys = keys(serve, false)?;
    match &serve.session_store {
        Place::Memory => {}
        Place::Shared(path) => SharedStore::judge(path).map_err(|error| unusable(&error))?,
        Place::Redis(url) => drop(by_redis(url, keys.clone())?),
    }
    Ok(Sessions::new(MemoryStore::new(), keys))
}

/// What is said of a store that cannot be used, which names it itself.
fn unusable(error: &crate::session::StoreError) -> Error {
    Error::Configuration(format!("session-store: {error}"))
}

/// Sessions on a server; nothing is connected yet.
#[cfg(feature = "redis")]
fn by_redis(url: &str, keys: Keys) -> Result<Sessions> {
    let store = crate::session::RedisStore::open(url).map_err(|error| unusable(&error))?;
    Ok(Sessions::new(store, keys))
}

/// Such a place cannot be named without the feature.
#[cfg(not(feature = "redis"))]
fn by_redis(_: &str, _: Keys) -> Result<Sessions> {
    let what = "session-store: this mcluster was built without the feature redis";
    Err(Error::Configuration(what.to_owned()))
}

/// The keys that the options and the variable name; where they name none, those that come with the store, which
/// are only made when it `begins`.
fn keys(serve: &Serve, begins: bool) -> Result<Keys> {
    let wrong = |what: String| Error::Configuration(what);
    let by_itself = std::env::var_os(KEY).filter(|keys| !keys.is_empty());
    let file = serve.session_key_file.as_deref();
    let at = |path: &Path, keys: std::io::Result<Keys>| {
        keys.map_err(|error| wrong(format!("session keys: {}: {error}", path.display())))
    };
    match (by_itself, file, &serve.session_store) {
        (Some(_), Some(_), _) => Err(wrong(format!(
            "{KEY} and session-key-file both hold keys; which are meant?"
        ))),
        (Some(keys), None, _) => {
            let text = keys
                .to_str()
                .ok_or_else(|| wrong(format!("{KEY}: no text")))?;
            Keys::from_text(text).map_err(|error| wrong(format!("{KEY}: {error}")))
        }
        (None, Some(path), _) => at(path, Keys::from_file(path)),
        (None, None, Place::Shared(store)) if begins || beside(store).exists() => {
            let path = beside(store);
            at(&path, Keys::from_file_or_new(&path))
        }
        (None, None, Place::Memory | Place::Shared(_)) => {
            Keys::random().map_err(|error| wrong(format!("session keys: {error}")))
        }
        (None, None, Place::Redis(_)) => Err(wrong(format!(
            "session-store: machines that share sessions need the same keys: give all of them the \
             same session-key-file, or {KEY}"
        ))),
    }
}

/// Where the key of a shared store is that was given none.
fn beside(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".key");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let shared = |path: &str| Ok(Place::Shared(path.into()));
        assert_eq!("memory".parse(), Ok(Place::Memory));
        assert_eq!("shared:a:b".parse(), shared("a:b"));
        assert_eq!("shared:/run/x".parse(), shared("/run/x"));
        for words in ["", "Memory", "shared", "shared:", "file:x", "memcached:x"] {
            assert!(words.parse::<Place>().is_err(), "{words}");
        }
        let redis = "redis://127.0.0.1".parse::<Place>();
        match cfg!(feature = "redis") {
            true => assert!(redis.is_ok()),
            false => assert!(redis.unwrap_err().contains("without the feature redis")),
        }
        let place = Place::Redis("redis://me:secret@host".to_owned());
        assert_eq!(format!("{place:?}"), "Redis(\"redis://me:***@host\")");
        assert_eq!(beside(Path::new("a/b.db")), Path::new("a/b.db.key"));
    }
}
