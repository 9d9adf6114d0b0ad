//! Sessions on a Redis server, for several machines.
//!
//! Owns what is asked of the server, in which words, and what its answers mean; `pool` has the
//! connections, `backoff` says when to try again. Leaves expiry to the server.

mod backoff;
mod pool;

use super::{Record, SessionId, SessionStore, StoreError};
use pool::{Place, Pool};
use redis::{
    Client, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, Script, ServerErrorKind,
};
use std::fmt::{self, Write as _};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PREFIX: &str = "mcluster:session:";

const TIMEOUT: Duration = Duration::from_millis(500);

/// A connection on which nothing was said for longer may be dead, without a word of it.
const FRESH: Duration = Duration::from_millis(100);

/// The last moment that is kept, in milliseconds since 1970: the end of the year 9999. Redis refuses some later ones.
const LAST: u64 = 253_402_300_799_999;

/// Compare-and-swap. Versions come from the server's clock where it is ahead of them, so that an id
/// that was forgotten and comes again has other ones. What has expired already is forgotten at once, which
/// a full server does as well. The version; or why not.
const PUT: &str = "\
local key, expected, created, expires, data = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local have = redis.call('HGET', key, 'version')
if have and not tonumber(have) or not have and redis.call('EXISTS', key) == 1 then return -1 end
if (have or '') ~= expected then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local version = math.max((tonumber(have) or 0) + 1, now)
if tonumber(expires) * 1000 <= now then
  redis.call('DEL', key)
else
  redis.call('HSET', key, 'version', string.format('%.0f', version),
    'created', created, 'expires', expires, 'data', data)
  redis.call('PEXPIREAT', key, expires)
end
return version";

/// Another end. Whether there was a session; or why not.
const TOUCH: &str = "\
local key, expires = KEYS[1], ARGV[1]
if not redis.call('HGET', key, 'version') then
  if redis.call('EXISTS', key) == 1 then return -1 end
  return 0
end
redis.call('HSET', key, 'expires', expires)
redis.call('PEXPIREAT', key, expires)
return 1";

/// What the scripts answer when there is something else.
const FOREIGN: i64 = -1;

/// Sessions on a Redis server (or one that speaks like it, such as Valkey): all machines that name the
/// same server and prefix share them.
///
/// It connects at first use, in each worker anew, with 16 connections a process at most; a cluster
/// starts while the server is away. While it cannot be reached, calls fail at once with
/// [`StoreError::Unavailable`], and one in 100 ms to 2 s tries again: a request gets its 503 quickly.
///
/// # What is kept how
///
/// A session is a hash `PREFIX` + id in hexadecimal, with the fields `version`, `created`, `expires`
/// (milliseconds since 1970) and `data`, and expires by itself. So the clocks of the server and of the
/// machines should agree to a second or so. How much of it survives a restart of the server is the
/// server's to say: `appendonly yes` and `appendfsync` there. Its `maxmemory-policy` should be `noeviction`: then a
/// full server is [`StoreError::Full`] to whoever writes, and no session that lives is forgotten for another.
///
/// # When an answer is lost
///
/// A [`put`](SessionStore::put) whose answer does not arrive may have been done or not. It is reported as
/// [`StoreError::Unavailable`] and not repeated: the repetition would say [`StoreError::Conflict`] of our own
/// change. Whoever reads again sees which it was. Reading, [`remove`](SessionStore::remove) and
/// [`touch`](SessionStore::touch) are repeated once where a connection turns out to be dead that was kept from before.
///
/// # Examples
///
/// ```
/// use mcluster::session::RedisStore;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), mcluster::session::StoreError> {
/// let store = RedisStore::open("redis://sessions.example:6379/1")?
///     .prefix("shop:session:")
///     .timeout(Duration::from_millis(200));
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    client: Client,
    /// Where it is, for messages: without user and password.
    address: String,
    prefix: String,
    timeout: Duration,
    put: Script,
    touch: Script,
    pool: Pool,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.address)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store at `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` or
    /// `redis+unix:///PATH[?db=DATABASE&user=USER&pass=PASSWORD]`. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Broken`] when that is no such URL; and for `rediss://`, since TLS is not built in:
    /// a tunnel on this machine, such as stunnel's, or a private network has its place there. The
    /// URL is not repeated in it, as it may hold a password.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let wrong = |why: &str| StoreError::Broken(format!("the URL of the Redis server: {why}"));
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        if scheme.is_some_and(|one| {
            ["rediss", "valkeys"]
                .iter()
                .any(|tls| one.eq_ignore_ascii_case(tls))
        }) {
            let why = "rediss:// asks for TLS, which is not built in; use redis:// and a tunnel";
            return Err(wrong(why));
        }
        let form = "it is not of the form redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]";
        let info = url.into_connection_info().map_err(|_| wrong(form))?;
        let settings = info.redis_settings().clone();
        if settings.db() < 0 {
            return Err(wrong("a database has a number from 0 on"));
        }
        // Answers are the same in both protocols; the older one needs no word before the first question.
        let settings = settings
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            address => address.to_string(),
        };
        let client = Client::open(info.set_redis_settings(settings)).map_err(|_| wrong(form))?;
        Ok(Self {
            client,
            address,
            prefix: PREFIX.to_owned(),
            timeout: TIMEOUT,
            put: Script::new(PUT),
            touch: Script::new(TOUCH),
            pool: Pool::default(),
        })
    }

    /// What the keys begin with, so that several applications may use one server. Default `mcluster:session:`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a call may wait for one of the 16 connections to be free, and then for the server, whatever it takes: to
    /// connect, to write and to read. Default 500 ms. A name with several addresses may take so long for each. How long finding the address of a name may take is the system's to say
    /// (`resolv.conf`). A server that has forgotten the scripts, as after a restart, gets them in
    /// three steps, and each may take so long; and one that sends its answer byte by byte is waited for as long as
    /// each of them comes in time.
    ///
    /// # Panics
    ///
    /// When it is zero.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "a time limit of zero");
        self.timeout = timeout;
        self
    }

    fn key(&self, id: &SessionId) -> String {
        let mut key = self.prefix.clone();
        for byte in id.as_bytes() {
            let _ = write!(key, "{byte:02x}");
        }
        key
    }

    /// Asks the server. `again`: whether that may be done twice without harm.
    fn call<T>(
        &self,
        again: bool,
        ask: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let Some(era) = self.pool.may_try() else {
            return Err(self.unavailable("it did not answer lately and is given time"));
        };
        let Some(mut place) = self.pool.place(self.timeout) else {
            return Err(self.unavailable("all connections to it are in use"));
        };
        // Its own from here on: that others were served before says nothing of the server.
        let deadline = Instant::now() + self.timeout;
        let result = self.ask(&mut place, deadline, again, ask);
        let why = result.as_ref().err().map(meaning);
        match why {
            None | Some(Meaning::Full | Meaning::Refused) => {
                place.keep();
                if self.pool.succeeded() {
                    log::info!("redis at {} answers again", self.address);
                }
            }
            Some(Meaning::Away | Meaning::Garbage | Meaning::NotLetIn) => {
                self.pool.failed(era);
                place.discard();
            }
        }
        result.map_err(|error| self.told(&error))
    }

    fn ask<T>(
        &self,
        place: &mut Place<'_>,
        deadline: Instant,
        again: bool,
        ask: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        if let Some((connection, idle)) = place.kept() {
            // What may not be done twice is preceded by something that may.
            let alive = hurry(connection, deadline).and_then(|()| match !again && idle > FRESH {
                true => {
                    redis::cmd("PING").query::<()>(connection)?;
                    hurry(connection, deadline)
                }
                false => Ok(()),
            });
            let sure = again || alive.is_err();
            match alive.and_then(|()| ask(connection)) {
                // The server has gone since, and may be there again.
                Err(error) if sure && error.is_io_error() && !error.is_timeout() => place.discard(),
                other => return other,
            }
        }
        let connection = place.connect(&self.client, left(deadline)?)?;
        hurry(connection, deadline)?;
        ask(connection)
    }

    fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable(format!("redis at {}: {why}", self.address))
    }

    fn broken(&self, why: &str) -> StoreError {
        StoreError::Broken(format!("redis at {}: {why}", self.address))
    }

    /// An error in words of ours: those of the server may hold keys.
    fn told(&self, error: &RedisError) -> StoreError {
        let code = error.code().unwrap_or_default();
        let code = match code.bytes().all(|byte| byte.is_ascii_uppercase()) && code.len() < 20 {
            true => code,
            false => "an error",
        };
        match meaning(error) {
            Meaning::Full => StoreError::Full,
            Meaning::Away if error.is_timeout() => self.unavailable("no answer in time"),
            Meaning::Away if error.is_io_error() => {
                let source = std::error::Error::source(error);
                match source.and_then(|why| why.downcast_ref::<std::io::Error>()) {
                    Some(why) => self.unavailable(&why.to_string()),
                    None => self.unavailable("the connection has ended"),
                }
            }
            Meaning::Away => self.unavailable(&format!("it answers {code}")),
            Meaning::NotLetIn => self.broken("it does not accept the user and password"),
            Meaning::Garbage => self.broken("what answers there does not speak as Redis does"),
            Meaning::Refused if code == "WRONGTYPE" => self.foreign(),
            Meaning::Refused => self.broken(&format!("it answers {code}")),
        }
    }

    fn foreign(&self) -> StoreError {
        self.broken("under the key of a session is something else")
    }
}

/// What an error means for the connection and those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The server cannot be reached or cannot do its work for now.
    Away,
    /// It has no room.
    Full,
    /// It does not know us.
    NotLetIn,
    /// It is not a Redis server, or the connection is out of step.
    Garbage,
    /// It has answered that this cannot be done.
    Refused,
}

fn meaning(error: &RedisError) -> Meaning {
    use ServerErrorKind as Server;
    match error.kind() {
        ErrorKind::Io | ErrorKind::Client => Meaning::Away,
        ErrorKind::Server(
            Server::BusyLoading
            | Server::ReadOnly
            | Server::MasterDown
            | Server::ClusterDown
            | Server::TryAgain
            // It was loaded right before: the server has lost it again.
            | Server::NoScript,
        ) => Meaning::Away,
        ErrorKind::AuthenticationFailed => Meaning::NotLetIn,
        ErrorKind::Parse => Meaning::Garbage,
        ErrorKind::Extension | ErrorKind::Server(Server::ResponseError) => {
            // Before version 7 the code of what fails in a script is in the text.
            let inner = error.detail().and_then(|text| text.split_once(": -"));
            let inner = inner.and_then(|(_, rest)| rest.split_whitespace().next());
            let full = |text: &str| text.contains("max number of clients");
            match inner.or(error.code()).unwrap_or_default() {
                "OOM" => Meaning::Full,
                "LOADING" | "READONLY" | "MASTERDOWN" | "MISCONF" | "NOREPLICAS" | "BUSY" => {
                    Meaning::Away
                }
                "NOAUTH" | "WRONGPASS" => Meaning::NotLetIn,
                _ if error.detail().is_some_and(full) => Meaning::Away,
                _ => Meaning::Refused,
            }
        }
        _ => Meaning::Refused,
    }
}

/// The time until then, which is not zero.
fn left(deadline: Instant) -> RedisResult<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        false => Ok(left),
    }
}

/// Has what is said on the connection next take no longer than until then.
fn hurry(connection: &Connection, deadline: Instant) -> RedisResult<()> {
    let left = left(deadline)?;
    connection.set_read_timeout(Some(left))?;
    connection.set_write_timeout(Some(left))
}

/// Milliseconds since 1970, within what is kept.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).map_or(LAST, |millis| millis.min(LAST))
}

/// The number in a field.
fn number(field: &[u8]) -> Option<u64> {
    let digits = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).ok().filter(|_| digits)?;
    text.parse().ok()
}

fn time(field: &[u8]) -> Option<SystemTime> {
    let millis = number(field).filter(|millis| *millis <= LAST)?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// The fields `version`, `created`, `expires` and `data` of one key.
type Fields = [Option<Vec<u8>>; 4];

/// The session that was found, if one was; an error when it is none of ours.
fn record(fields: Fields) -> Result<Option<(Record, u64)>, ()> {
    let [version, created, expires, data] = match fields {
        [None, None, None, None] => return Ok(None),
        [Some(version), Some(created), Some(expires), Some(data)] => {
            [version, created, expires, data]
        }
        _ => return Err(()),
    };
    let record = Record {
        data,
        created: time(&created).ok_or(())?,
        expires: time(&expires).ok_or(())?,
    };
    let version = number(&version).ok_or(())?;
    Ok(Some((record, version)))
}

impl SessionStore for RedisStore {
    fn get(&self, id: &SessionId) -> Result<Option<(Record, u64)>, StoreError> {
        let key = self.key(id);
        let fields: Fields = self.call(true, |connection| {
            redis::cmd("HMGET")
                .arg(&key)
                .arg(&["version", "created", "expires", "data"])
                .query(connection)
        })?;
        record(fields).map_err(|()| self.foreign())
    }

    fn put(
        &self,
        id: &SessionId,
        record: &Record,
        expected: Option<u64>,
    ) -> Result<u64, StoreError> {
        let key = self.key(id);
        let expected = expected.map(|version| version.to_string());
        let answer: i64 = self.call(false, |connection| {
            self.put
                .key(&key)
                .arg(expected.as_deref().unwrap_or_default())
                .arg(millis(record.created))
                .arg(millis(record.expires))
                .arg(&record.data[..])
                .invoke(connection)
        })?;
        match answer {
            FOREIGN => Err(self.foreign()),
            0 => Err(StoreError::Conflict),
            version => u64::try_from(version).map_err(|_| self.foreign()),
        }
    }

    fn remove(&self, id: &SessionId) -> Result<(), StoreError> {
        let key = self.key(id);
        self.call(true, |connection| {
            redis::cmd("DEL").arg(&key).query::<()>(connection)
        })
    }

    fn touch(&self, id: &SessionId, expires: SystemTime) -> Result<bool, StoreError> {
        let key = self.key(id);
        let answer: i64 = self.call(true, |connection| {
            let expires = millis(expires);
            self.touch.key(&key).arg(expires).invoke(connection)
        })?;
        match answer {
            FOREIGN => Err(self.foreign()),
            answer => Ok(answer != 0),
        }
    }

    fn waits(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
