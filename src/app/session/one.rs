//! The session of one request: what its handler reads and changes.

use super::sessions::Sessions;
use super::{Record, SessionError, SessionId, StoreError};
use crate::app::{Cookie, Request, Response};
use crate::sys::random;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

/// How often a change is made again when other requests come first. Each time one of them has got on, so so many
/// of them at once are a flood.
const MOST_TRIES: u32 = 64;

/// How many cookies of ours are looked up: several hosts of a domain may each have set one.
const MOST_COOKIES: usize = 4;

/// What is said to the client about its cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    Set,
    Remove,
}

/// What is kept of a client, as its request found it.
///
/// A client without a session has an empty one, which is kept, and its cookie set, with the first change.
/// Changes are kept at once, not when the handler returns: what [`set`](Self::set) or
/// [`update`](Self::update) has confirmed is there.
pub struct Session {
    sessions: Arc<Sessions>,
    /// Where the store has it, once it does.
    kept: Option<(SessionId, u64)>,
    record: Record,
    new: bool,
    written: bool,
    say: Say,
    /// The client sent a cookie of this name, whatever it was worth.
    brought: bool,
    secure: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("new", &self.new)
            .field("bytes", &self.record.data.len())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The session that the request's cookie names, or an empty one.
    pub(super) fn load(sessions: Arc<Sessions>, request: &Request) -> Result<Self, SessionError> {
        let now = sessions.now();
        let mut session = Self {
            kept: None,
            record: empty(now),
            new: true,
            written: false,
            say: Say::Nothing,
            brought: false,
            secure: sessions.is_secure(request),
            sessions,
        };
        let Sessions { name, keys, .. } = &*session.sessions;
        // Another site of the same domain may have set one of that name too: the first that is ours, and
        // whose session lives, counts.
        let named = request.cookies().filter(|(known, _)| known == name);
        let verified = named.filter_map(|(_, value)| {
            session.brought = true;
            keys.verify(name, &value)
        });
        let verified: Vec<_> = verified.take(MOST_COOKIES).collect();
        for (id, key) in verified {
            if let Some((record, version)) = session.sessions.store.get(&id)?
                && session.sessions.is_alive(&record, now)
            {
                session.kept = Some((id, version));
                session.record = record;
                session.new = false;
                if key != 0 {
                    session.say = Say::Set;
                }
                break;
            }
        }
        Ok(session)
    }

    /// Whether the client came without a session, or with one that had ended; also after
    /// [`destroy`](Self::destroy).
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// What is kept; nothing in a new session.
    pub fn data(&self) -> &[u8] {
        &self.record.data
    }

    /// Keeps `data` in place of what was read.
    ///
    /// # Errors
    ///
    /// [`SessionError::Conflict`] when another request has changed the session since this one read it:
    /// nothing is changed then. [`SessionError::TooLarge`], and what a store may say.
    pub fn set(&mut self, data: impl Into<Vec<u8>>) -> Result<(), SessionError> {
        let data = data.into();
        let most = self.sessions.max_bytes;
        if data.len() > most {
            let bytes = data.len();
            return Err(SessionError::TooLarge { bytes, most });
        }
        let now = self.sessions.now();
        let created = match self.kept {
            Some(_) => self.record.created,
            None => now,
        };
        let expires = self.sessions.end(created, now);
        let record = Record {
            data,
            created,
            expires,
        };
        let store = &self.sessions.store;
        match &mut self.kept {
            Some((id, version)) => *version = store.put(id, &record, Some(*version))?,
            None => {
                let id = fresh_id()?;
                self.kept = Some((id, store.put(&id, &record, None)?));
                self.say = Say::Set;
            }
        }
        self.record = record;
        self.written = true;
        Ok(())
    }

    /// Keeps what `change` makes of what is kept. Where another request comes first, it is called again
    /// with what that one has kept, so it is to do nothing but return the new bytes.
    ///
    /// # Errors
    ///
    /// [`SessionError::Gone`] when the session was ended, [`SessionError::Conflict`] when others came first
    /// again and again, [`SessionError::TooLarge`], and what a store may say.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::session::{Session, SessionError};
    ///
    /// fn note(session: &mut Session, line: &str) -> Result<usize, SessionError> {
    ///     let all = session.update(|lines| [lines, line.as_bytes(), b"\n"].concat())?;
    ///     Ok(all.len())
    /// }
    /// ```
    pub fn update(
        &mut self,
        mut change: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<&[u8], SessionError> {
        self.try_update(|data| Ok(change(data)))?;
        Ok(&self.record.data)
    }

    fn try_update(
        &mut self,
        mut change: impl FnMut(&[u8]) -> Result<Vec<u8>, SessionError>,
    ) -> Result<(), SessionError> {
        self.insist(|session| {
            let data = change(&session.record.data)?;
            session.set(data)
        })
    }

    /// Tries again with what others have kept for as long as they come first.
    fn insist(
        &mut self,
        mut act: impl FnMut(&mut Self) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        for tried in 0..MOST_TRIES {
            match act(self) {
                Err(SessionError::Conflict) => {}
                other => return other,
            }
            self.read_again()?;
            match self.sessions.store.waits() {
                // Never for long, and each for another time, so that not all come again at once.
                true => {
                    let most = 200 << tried.min(6);
                    thread::sleep(Duration::from_micros(random::number() % most));
                }
                false => thread::yield_now(),
            }
        }
        Err(SessionError::Conflict)
    }

    fn read_again(&mut self) -> Result<(), SessionError> {
        let Some((id, _)) = self.kept else {
            return Ok(());
        };
        let now = self.sessions.now();
        match self.sessions.store.get(&id)? {
            Some((record, version)) if self.sessions.is_alive(&record, now) => {
                self.kept = Some((id, version));
                self.record = record;
                Ok(())
            }
            _ => {
                self.forget();
                Err(SessionError::Gone)
            }
        }
    }

    /// Gives the session a new id; the old one is worth nothing from then on. To be called whenever somebody gains
    /// rights, such as by logging in: who knew the id before does not gain them. What is kept stays, and
    /// so does the time at which the session ends.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); the session is as it was, unless the store does not know.
    pub fn renew(&mut self) -> Result<(), SessionError> {
        self.insist(Self::renew_once)
    }

    fn renew_once(&mut self) -> Result<(), SessionError> {
        let Some((old, version)) = self.kept else {
            return Ok(());
        };
        let store = &self.sessions.store;
        let id = fresh_id()?;
        let now = self.sessions.now();
        self.record.expires = self.sessions.end(self.record.created, now);
        let first = store.put(&id, &self.record, None)?;
        if let Err(error) = self.end_old(&old, version) {
            let _ = store.remove(&id);
            return Err(error.into());
        }
        self.kept = Some((id, first));
        self.say = Say::Set;
        self.written = true;
        Ok(())
    }

    /// Ends the session, as for logging out: what is kept is forgotten and the cookie is removed. What is kept
    /// after it is a new session. What other requests have kept in the meantime is forgotten as well.
    ///
    /// # Errors
    ///
    /// [`SessionError::Gone`] when another request was quicker. Either it has ended the session too; or it has
    /// [renewed](Self::renew) it, and then the session lives on by an id that only the answer to that
    /// request has. The cookie is removed all the same, but a client that hears the other answer last has the new
    /// one: it has to log out again. [`SessionError::Conflict`] when others came first again and again, and what a
    /// store may say; the session may go on then.
    pub fn destroy(&mut self) -> Result<(), SessionError> {
        let outcome = self.insist(Self::destroy_once);
        if matches!(outcome, Ok(()) | Err(SessionError::Gone)) {
            self.forget();
            if self.brought {
                self.say = Say::Remove;
            }
        }
        outcome
    }

    fn destroy_once(&mut self) -> Result<(), SessionError> {
        match self.kept {
            Some((id, version)) => Ok(self.end_old(&id, version)?),
            None => Ok(()),
        }
    }

    /// Ends what is kept under that id, if nobody has changed it since.
    fn end_old(&self, id: &SessionId, version: u64) -> Result<(), StoreError> {
        let store = &self.sessions.store;
        // What ended long ago stands in its place, so no change that was confirmed to another request is lost
        // unseen.
        store.put(id, &empty(SystemTime::UNIX_EPOCH), Some(version))?;
        if let Err(error) = store.remove(id) {
            log::debug!("a session's old id is left for the sweep: {error}");
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.kept = None;
        self.record = empty(self.sessions.now());
        self.new = true;
        self.say = Say::Nothing;
    }

    /// The handler's answer, with what its client has to know.
    pub(super) fn finish(self, response: Response) -> Response {
        self.touch();
        match self.cookie() {
            Some(cookie) => response
                .cookie(cookie)
                .or_header("Cache-Control", "no-store"),
            None => response.or_header("Cache-Control", "private"),
        }
    }

    /// The cookie that the client is to get, if any.
    pub(super) fn cookie(&self) -> Option<Cookie> {
        let name = self.sessions.name.clone();
        let cookie = match (self.say, &self.kept) {
            (Say::Set, Some((id, _))) => {
                Cookie::new(name.clone(), self.sessions.keys.sign(&name, id))
            }
            (Say::Remove, _) => Cookie::removal(name),
            (Say::Nothing | Say::Set, _) => return None,
        };
        Some(self.sessions.dressed(cookie, self.secure))
    }

    /// Has the session live on from now, where that has not been said for a while.
    fn touch(&self) {
        let Some((id, _)) = self.kept.as_ref().filter(|_| !self.written) else {
            return;
        };
        let end = self.sessions.end(self.record.created, self.sessions.now());
        let later = end.duration_since(self.record.expires).unwrap_or_default();
        if !later.is_zero()
            && later >= self.sessions.idle / 10
            && let Err(error) = self.sessions.store.touch(id, end)
        {
            // The answer is right all the same.
            SessionError::from(error).note();
        }
    }
}

/// Values in place of bytes, as JSON.
#[cfg(feature = "json")]
impl Session {
    /// What is kept, as a value; None in a new session.
    ///
    /// # Errors
    ///
    /// [`SessionError::Data`] when it is no such value.
    pub fn get<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>, SessionError> {
        read(&self.record.data)
    }

    /// Keeps a value in place of what was read.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), and [`SessionError::Data`] when the value cannot be written as JSON.
    pub fn put<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), SessionError> {
        let data = serde_json::to_vec(value).map_err(data)?;
        self.set(data)
    }

    /// Keeps what `change` makes of the value that is kept, or of the default one; called again as that of
    /// [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), [`get`](Self::get) and [`put`](Self::put).
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::session::{Session, SessionError};
    ///
    /// fn add(session: &mut Session, item: u64) -> Result<usize, SessionError> {
    ///     let cart: Vec<u64> = session.modify(|cart: &mut Vec<u64>| cart.push(item))?;
    ///     Ok(cart.len())
    /// }
    /// ```
    pub fn modify<T>(&mut self, mut change: impl FnMut(&mut T)) -> Result<T, SessionError>
    where
        T: Default + serde::Serialize + serde::de::DeserializeOwned,
    {
        let mut last = None;
        self.try_update(|bytes| {
            let mut value = read(bytes)?.unwrap_or_default();
            change(&mut value);
            let bytes = serde_json::to_vec(&value).map_err(data);
            last = Some(value);
            bytes
        })?;
        Ok(last.unwrap_or_default())
    }
}

#[cfg(feature = "json")]
fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<Option<T>, SessionError> {
    match bytes {
        [] => Ok(None),
        bytes => serde_json::from_slice(bytes).map(Some).map_err(data),
    }
}

#[cfg(feature = "json")]
fn data(error: serde_json::Error) -> SessionError {
    // Its place alone: the words of serde_json quote what is kept.
    let (line, column) = (error.line(), error.column());
    SessionError::Data(format!("JSON, line {line}, column {column}"))
}

fn empty(now: SystemTime) -> Record {
    Record {
        data: Vec::new(),
        created: now,
        expires: now,
    }
}

fn fresh_id() -> Result<SessionId, StoreError> {
    let mut bytes = [0; 16];
    match random::fill(&mut bytes) {
        Ok(()) => Ok(SessionId::from_bytes(bytes)),
        Err(error) => Err(StoreError::Unavailable(format!("no random id: {error}"))),
    }
}
