//! The sessions of an application: their cookie, how long they live, and what carries them to handlers.

use super::{Keys, Record, Session, SessionStore};
use crate::app::{Cookie, IntoResponse, Reply, Request, Response, SameSite, parting};
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longer lives are cut to this, so that no clock overflows.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Sessions for the handlers of an [`App`](crate::App): each client that has one sends a signed cookie
/// with its id, and what it holds is in a [`SessionStore`].
///
/// The cookie is of the whole host (`Path=/`), `HttpOnly`, `SameSite=Lax`, gone when the browser is closed,
/// and `Secure` where its request came by https, as a trusted proxy says
/// ([`Request::scheme`](crate::Request::scheme)). Behind TLS say [`secure(true)`](Self::secure) and name it
/// `__Host-..`: then no other host can set it. It is set when a session begins, when it is renewed, and when it
/// was signed by a key that is not the first; an answer with it is `Cache-Control: no-store`, the others are
/// `private`, unless the handler has said something about caching itself (RFC 9111 7.3: a cookie keeps no
/// cache from storing an answer).
///
/// A session ends when it was not used for [`idle`](Self::idle), and [`lifetime`](Self::lifetime) after it
/// began. That it was used is noted each tenth of the idle time, so it may end so much early.
///
/// # Examples
///
/// ```
/// use mcluster::App;
/// use mcluster::session::{Keys, MemoryStore, Session, SessionError, Sessions};
///
/// # fn main() -> std::io::Result<()> {
/// let sessions = Sessions::new(MemoryStore::new(), Keys::random()?);
/// let visits = sessions.with(|_, session: &mut Session| {
///     let visits = session.update(|visits| [visits, b"I"].concat())?;
///     Ok::<_, SessionError>(format!("{} visits\n", visits.len()))
/// });
/// let app = App::new().get("/", visits);
/// # assert!(app.check().is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Sessions {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) keys: Keys,
    pub(super) name: Cow<'static, str>,
    pub(super) idle: Duration,
    pub(super) max_bytes: usize,
    lifetime: Duration,
    /// None is by the request.
    secure: Option<bool>,
    same_site: Option<SameSite>,
    clock: Clock,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("name", &self.name)
            .field("keys", &self.keys)
            .field("idle", &self.idle)
            .field("lifetime", &self.lifetime)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// Sessions that are kept in `store`, by cookies that `keys` sign.
    ///
    /// To be made before the cluster starts: the primary has its workers
    /// [`sweep`](SessionStore::sweep) the stores that it knows of, once a minute.
    pub fn new(store: impl SessionStore, keys: Keys) -> Self {
        let store: Arc<dyn SessionStore> = Arc::new(store);
        super::sweep::register(&store);
        Self {
            store,
            keys,
            name: "sid".into(),
            idle: Duration::from_secs(30 * 60),
            lifetime: Duration::from_secs(24 * 3600),
            max_bytes: 64 * 1024,
            secure: None,
            same_site: Some(SameSite::Lax),
            clock: Arc::new(SystemTime::now),
        }
    }

    /// The cookie's name, in place of `sid`.
    #[must_use]
    pub fn cookie_name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// A session that is not used for so long has ended; 30 minutes unless said otherwise.
    #[must_use]
    pub fn idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }

    /// How long a session lives however much it is used; 24 hours unless said otherwise.
    #[must_use]
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = time;
        self
    }

    /// What a session may hold, in bytes; 64 KiB unless said otherwise.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Whether the cookie is sent over TLS alone; unless said otherwise it is where its request came by https.
    #[must_use]
    pub fn secure(mut self, yes: bool) -> Self {
        self.secure = Some(yes);
        self
    }

    /// To which requests from other sites the cookie is added; `Lax` unless said otherwise.
    #[must_use]
    pub fn same_site(mut self, rule: impl Into<Option<SameSite>>) -> Self {
        self.same_site = rule.into();
        self
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    ///
    /// Says which does not: a cookie that browsers drop ([`Cookie::check`]), such as one named `__Host-..` or
    /// with `SameSite=None` that is not always [`secure`](Self::secure); a life without length; no bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::session::{Keys, MemoryStore, Sessions};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let sessions = Sessions::new(MemoryStore::new(), Keys::random()?).cookie_name("__Host-id");
    /// assert!(sessions.check().is_err());
    /// assert!(sessions.secure(true).check().is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn check(&self) -> Result<(), String> {
        let value = self
            .keys
            .sign(&self.name, &super::SessionId::from_bytes([0; 16]));
        let cookie = Cookie::new(self.name.clone(), value);
        let cookie = self.dressed(cookie, self.secure.unwrap_or(false));
        cookie
            .check()
            .map_err(|why| format!("the session cookie {:?}: {why}", self.name))?;
        if self.idle.is_zero() || self.lifetime.is_zero() {
            return Err("a session without time would have ended before it began".to_owned());
        }
        match self.max_bytes {
            0 => Err("a session of no bytes holds nothing".to_owned()),
            _ => Ok(()),
        }
    }

    /// A handler that has its client's session, for what takes handlers, such as
    /// [`App::get`](crate::App::get). Where the store [`waits`](SessionStore::waits) it runs as
    /// [`blocking`](crate::blocking) has it, else on the loop.
    ///
    /// A cookie that is forged or truncated, and one whose session has ended, is as none: the session is
    /// new, and gets an id of its own. When the store is out of reach the answer is that of
    /// [`SessionError`](super::SessionError), and the handler is not called. When the handler panics, the 500 that
    /// is made of it has the cookie that its answer would have had.
    pub fn with<F, R>(
        &self,
        handler: F,
    ) -> impl Fn(Request) -> Reply + Send + Sync + 'static + use<F, R>
    where
        F: Fn(Request, &mut Session) -> R + Send + Sync + 'static,
        R: IntoResponse,
    {
        let sessions = Arc::new(self.clone());
        let handler = Arc::new(handler);
        move |request| {
            if !sessions.store.waits() {
                return Reply::Now(answer(&sessions, request, &*handler));
            }
            let (sessions, handler) = (Arc::clone(&sessions), Arc::clone(&handler));
            Reply::blocking(move || answer(&sessions, request, &*handler))
        }
    }

    /// Has it ask `clock` for the time.
    #[cfg(test)]
    pub(super) fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    /// When a session ends that began at `created` and is used `now`.
    pub(super) fn end(&self, created: SystemTime, now: SystemTime) -> SystemTime {
        after(now, self.idle).min(after(created, self.lifetime))
    }

    /// Whether a session has not ended: also by a lifetime that was longer when it was written.
    pub(super) fn is_alive(&self, record: &Record, now: SystemTime) -> bool {
        now < record.expires.min(after(record.created, self.lifetime))
    }

    pub(super) fn is_secure(&self, request: &Request) -> bool {
        self.secure.unwrap_or_else(|| request.scheme() == "https")
    }

    /// A cookie with the attributes of all of them.
    pub(super) fn dressed(&self, cookie: Cookie, secure: bool) -> Cookie {
        cookie.secure(secure).same_site(self.same_site)
    }
}

/// What is kept may say any time: one that no clock has is none later.
fn after(from: SystemTime, time: Duration) -> SystemTime {
    from.checked_add(time.min(LONGEST)).unwrap_or(from)
}

fn answer<F, R>(sessions: &Arc<Sessions>, request: Request, handler: &F) -> Response
where
    F: Fn(Request, &mut Session) -> R,
    R: IntoResponse,
{
    let mut session = match Session::load(Arc::clone(sessions), &request) {
        Ok(session) => session,
        Err(error) => return error.into_response(),
    };
    let called = AssertUnwindSafe(|| handler(request, &mut session).into_response());
    match catch_unwind(called) {
        Ok(response) => session.finish(response),
        // What was kept is kept: without its cookie the client would lose it.
        Err(panic) => parting::resume(panic, session.cookie()),
    }
}
