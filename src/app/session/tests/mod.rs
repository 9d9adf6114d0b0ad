//! Sessions by their cookies, with a clock of the test's own and stores that fail on purpose.

mod stores;
mod trouble;

use super::*;
use crate::app::{IntoReply, Reply, Request, Response, SameSite};
use crate::http::{HeadLimits, Parsed};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
const MINUTE: Duration = Duration::from_secs(60);

/// A request with these fields.
fn request(fields: &str) -> Request {
    let mut parts = crate::app::Parts::take();
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let parsed = parts.head.parse(text.as_bytes(), &HeadLimits::default());
    assert!(matches!(parsed, Ok(Parsed::Complete(_))));
    Request::new(parts)
}

fn with_cookie(value: &str) -> Request {
    request(&format!("Cookie: a=b; sid={value}\r\n"))
}

/// A clock that is set.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    /// Ahead of the real one, by which stores may forget.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self(Arc::new(AtomicU64::new(now.unwrap().as_secs() + 3600)))
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::SeqCst);
    }
}

/// A store in memory that does otherwise when it is told to.
#[derive(Clone, Default)]
struct Moody(Arc<Mood>);

#[derive(Default)]
struct Mood {
    store: MemoryStore,
    away: AtomicBool,
    waits: AtomicBool,
    /// So many changes are refused, as if another one had come first.
    conflicts: AtomicU64,
    touches: AtomicU64,
    /// The record under any id, to be found whatever it is.
    ids: Mutex<Vec<SessionId>>,
}

impl Moody {
    fn state(&self) -> Result<&MemoryStore, StoreError> {
        match self.0.away.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("away".to_owned())),
            false => Ok(&self.0.store),
        }
    }
}

impl SessionStore for Moody {
    fn get(&self, id: &SessionId) -> Result<Option<(Record, u64)>, StoreError> {
        self.state()?.get(id)
    }

    fn put(&self, id: &SessionId, record: &Record, known: Option<u64>) -> Result<u64, StoreError> {
        let store = self.state()?;
        let less = |n: u64| n.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.0.conflicts.fetch_update(order, order, less).is_ok() {
            return Err(StoreError::Conflict);
        }
        self.0.ids.lock().unwrap().push(*id);
        store.put(id, record, known)
    }

    fn remove(&self, id: &SessionId) -> Result<(), StoreError> {
        self.state()?.remove(id)
    }

    fn touch(&self, id: &SessionId, expires: SystemTime) -> Result<bool, StoreError> {
        self.0.touches.fetch_add(1, Ordering::SeqCst);
        self.state()?.touch(id, expires)
    }

    fn waits(&self) -> bool {
        self.0.waits.load(Ordering::SeqCst)
    }
}

/// Sessions in a moody store, by a set clock.
struct Rig {
    sessions: Sessions,
    store: Moody,
    clock: Clock,
}

impl Rig {
    fn new() -> Self {
        Self::with_keys(KEY, Moody::default(), Clock::new())
    }

    fn with_keys(keys: &str, store: Moody, clock: Clock) -> Self {
        let keys = Keys::from_text(keys).unwrap();
        let of_sessions = clock.clone();
        let sessions = Sessions::new(store.clone(), keys).clock(move || of_sessions.now());
        Self {
            sessions,
            store,
            clock,
        }
    }

    /// The answer of a handler to a request.
    fn answer<R: crate::app::IntoResponse + 'static>(
        &self,
        request: Request,
        handler: impl Fn(&mut Session) -> R + Send + Sync + 'static,
    ) -> Answer {
        let reply = self.sessions.with(move |_, session| handler(session))(request);
        match reply.into_reply() {
            Reply::Now(response) => Answer(response),
            Reply::Blocking(job) => Answer(job.0.run()),
            other => panic!("{other:?}"),
        }
    }

    /// The value of the cookie of a new session that holds `data`.
    fn begin(&self, data: &'static str) -> String {
        let answer = self.answer(request(""), move |session| session.set(data));
        assert_eq!(answer.0.status(), 204);
        answer.cookie().expect("a cookie")
    }

    /// What the session of that cookie holds; None where it is new.
    fn look(&self, cookie: &str) -> Option<String> {
        let answer = self.answer(with_cookie(cookie), |session| match session.is_new() {
            true => "new".to_owned(),
            false => format!("={}", String::from_utf8_lossy(session.data())),
        });
        answer.text().strip_prefix('=').map(str::to_owned)
    }
}

struct Answer(Response);

impl Answer {
    fn fields(&self) -> String {
        String::from_utf8_lossy(&self.0.all_fields()).into_owned()
    }

    fn field(&self, name: &str) -> Option<String> {
        let fields = self.fields();
        let line = fields.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_start_matches(": ").trim().to_owned())
    }

    fn cookie(&self) -> Option<String> {
        let set = self.field("Set-Cookie")?;
        let value = set.strip_prefix("sid=")?.split(';').next()?;
        Some(value.to_owned())
    }

    fn text(&self) -> String {
        match self.0.body() {
            crate::app::Body::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            crate::app::Body::Static(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_session_begins_with_its_first_change() {
    let rig = Rig::new();
    let answer = rig.answer(request(""), |session| {
        assert!(session.is_new() && session.data().is_empty());
        "nothing"
    });
    assert_eq!(answer.field("Set-Cookie"), None);
    assert_eq!(answer.field("Cache-Control").as_deref(), Some("private"));
    let answer = rig.answer(request(""), |session| session.set("one"));
    let set = answer.field("Set-Cookie").unwrap();
    assert!(
        set.ends_with("; Path=/; SameSite=Lax; HttpOnly"),
        "no Secure, no Max-Age: {set}"
    );
    assert_eq!(answer.field("Cache-Control").as_deref(), Some("no-store"));
    let cookie = answer.cookie().unwrap();
    assert_eq!(rig.look(&cookie).as_deref(), Some("one"));
    let answer = rig.answer(with_cookie(&cookie), |session| {
        assert!(!session.is_new());
        session.set("two").unwrap();
        assert_eq!(session.data(), b"two");
        Response::new(200).header("Cache-Control", "max-age=1")
    });
    assert_eq!(answer.cookie(), None, "it has that one");
    assert_eq!(answer.field("Cache-Control").as_deref(), Some("max-age=1"));
    assert_eq!(rig.look(&cookie).as_deref(), Some("two"));
}

#[test]
fn a_cookie_that_is_not_ours_is_as_none() {
    let rig = Rig::new();
    let cookie = rig.begin("mine");
    let (half, flipped) = (&cookie[..20], cookie.to_uppercase());
    let foreign = Rig::with_keys(OTHER, rig.store.clone(), rig.clock.clone()).begin("theirs");
    for forged in ["", half, &flipped, &foreign] {
        assert_eq!(rig.look(forged), None, "{forged}");
        let answer = rig.answer(with_cookie(forged), |session| session.set("fresh"));
        let fresh = answer.cookie().unwrap();
        assert_ne!(
            fresh[..22],
            forged[..forged.len().min(22)],
            "an id of its own"
        );
    }
    // One that another host has planted before it does not hide it.
    let both = request(&format!("Cookie: sid={foreign}; sid={cookie}\r\n"));
    let answer = rig.answer(both, |session| session.data().to_vec());
    assert_eq!(answer.text(), "mine");
}

#[test]
fn the_id_of_a_session_that_is_gone_is_not_taken_up_again() {
    let rig = Rig::new();
    let cookie = rig.begin("mine");
    let answer = rig.answer(with_cookie(&cookie), |session| {
        session.destroy()?;
        assert!(session.is_new() && session.data().is_empty());
        Ok::<_, SessionError>(())
    });
    let removed = answer.field("Set-Cookie").unwrap();
    assert!(removed.starts_with("sid=; Path=/; Expires=Thu, 01 Jan 1970"));
    assert_eq!(rig.look(&cookie), None, "replayed");
    let answer = rig.answer(with_cookie(&cookie), |session| session.set("again"));
    assert_ne!(answer.cookie().unwrap()[..22], cookie[..22]);
    // Ended and begun in one request: another session.
    let cookie = rig.begin("mine");
    let answer = rig.answer(with_cookie(&cookie), |session| {
        session.destroy()?;
        session.set("other")
    });
    assert_eq!(
        rig.look(&answer.cookie().unwrap()).as_deref(),
        Some("other")
    );
    assert_eq!(rig.look(&cookie), None);
}

#[test]
fn a_renewed_session_has_another_id_and_the_old_one_is_worth_nothing() {
    let rig = Rig::new();
    let cookie = rig.begin("mine");
    let answer = rig.answer(with_cookie(&cookie), |session| {
        session.renew()?;
        session.update(|data| [data, b" and more"].concat())?;
        Ok::<_, SessionError>(())
    });
    let renewed = answer.cookie().unwrap();
    assert_eq!(rig.look(&cookie), None, "replayed");
    assert_eq!(rig.look(&renewed).as_deref(), Some("mine and more"));
    // What another request kept in the meantime comes along.
    let (sessions, of_other) = (rig.sessions.clone(), renewed.clone());
    let answer = rig.answer(with_cookie(&renewed), move |session| {
        let other = sessions.with(|_, session| session.set("newest"));
        assert!(matches!(other(with_cookie(&of_other)), Reply::Now(_)));
        session.renew()
    });
    assert_eq!(
        rig.look(&answer.cookie().unwrap()).as_deref(),
        Some("newest")
    );
    // A new one has nothing to renew.
    let answer = rig.answer(request(""), Session::renew);
    assert_eq!((answer.0.status(), answer.cookie()), (204, None));
}

#[test]
fn sessions_end_when_they_are_idle_and_when_they_are_old() {
    let rig = Rig::new();
    let cookie = rig.begin("mine");
    rig.clock.pass(29 * MINUTE);
    assert_eq!(rig.look(&cookie).as_deref(), Some("mine"));
    rig.clock.pass(29 * MINUTE);
    assert_eq!(rig.look(&cookie).as_deref(), Some("mine"), "it was used");
    rig.clock.pass(30 * MINUTE);
    assert_eq!(rig.look(&cookie), None, "not used");
    let cookie = rig.begin("mine");
    for _ in 0..24 * 3 - 1 {
        rig.clock.pass(20 * MINUTE);
        let answer = rig.answer(with_cookie(&cookie), |session| session.set("used"));
        assert_eq!(answer.0.status(), 204);
        assert_eq!(answer.cookie(), None);
    }
    rig.clock.pass(20 * MINUTE);
    assert_eq!(rig.look(&cookie), None, "a day has passed");
    // What is renewed lives no longer either, and a shorter life counts at once.
    let cookie = rig.begin("mine");
    rig.clock.pass(20 * MINUTE);
    let answer = rig.answer(with_cookie(&cookie), Session::renew);
    let cookie = answer.cookie().unwrap();
    let shorter = Rig {
        sessions: rig.sessions.clone().lifetime(20 * MINUTE),
        ..rig
    };
    assert_eq!(shorter.look(&cookie), None);
}

#[test]
fn use_is_noted_each_tenth_of_the_idle_time() {
    let rig = Rig::new();
    let cookie = rig.begin("mine");
    let touches = || rig.store.0.touches.load(Ordering::SeqCst);
    for (pass, expected) in [(0, 0), (2, 0), (1, 1), (2, 1), (2, 2)] {
        rig.clock.pass(pass * MINUTE);
        assert!(rig.look(&cookie).is_some());
        assert_eq!(touches(), expected);
    }
    rig.clock.pass(10 * MINUTE);
    rig.answer(with_cookie(&cookie), |session| session.set("written"));
    assert_eq!(touches(), 2, "a change says it too");
}
