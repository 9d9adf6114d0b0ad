//! What goes wrong: stores, other requests, settings. And keys that change.

use super::*;

#[test]
fn cookies_of_an_older_key_are_signed_again() {
    let old = Rig::new();
    let cookie = old.begin("mine");
    let keys = format!("{OTHER}\n{KEY}");
    let both = Rig::with_keys(&keys, old.store.clone(), old.clock.clone());
    let answer = both.answer(with_cookie(&cookie), |session| session.data().to_vec());
    assert_eq!(answer.text(), "mine");
    let signed = answer.cookie().unwrap();
    assert_eq!(signed[..22], cookie[..22], "the same session");
    assert_ne!(signed, cookie);
    let new = Rig::with_keys(OTHER, old.store.clone(), old.clock.clone());
    assert_eq!(new.look(&signed).as_deref(), Some("mine"));
    assert_eq!(new.look(&cookie), None);
}

#[test]
fn others_that_come_first_are_respected() {
    let rig = Rig::new();
    let cookie = rig.begin("0");
    let more = |data: &[u8]| [data, b"+"].concat();
    rig.store.0.conflicts.store(5, Ordering::SeqCst);
    let answer = rig.answer(with_cookie(&cookie), move |session| {
        session.update(more).map(<[u8]>::to_vec)
    });
    assert_eq!(answer.text(), "0+");
    rig.store.0.conflicts.store(1, Ordering::SeqCst);
    let answer = rig.answer(with_cookie(&cookie), |session| session.set("mine"));
    assert_eq!(answer.0.status(), 409);
    rig.store.0.conflicts.store(u64::MAX, Ordering::SeqCst);
    let answer = rig.answer(with_cookie(&cookie), move |session| {
        let outcome = session.update(more).map(<[u8]>::to_vec);
        assert!(matches!(outcome, Err(SessionError::Conflict)));
        outcome
    });
    assert_eq!(answer.0.status(), 409, "not for ever");
    rig.store.0.conflicts.store(0, Ordering::SeqCst);
    assert_eq!(rig.look(&cookie).as_deref(), Some("0+"));
    // One that another request has ended does not come to life again.
    let (sessions, of_other) = (rig.sessions.clone(), cookie.clone());
    let answer = rig.answer(with_cookie(&cookie), move |session| {
        let other = sessions.with(|_, session| session.destroy());
        assert!(matches!(other(with_cookie(&of_other)), Reply::Now(_)));
        let outcome = session.update(more).map(<[u8]>::to_vec);
        assert!(matches!(outcome, Err(SessionError::Gone)));
        outcome
    });
    assert_eq!((answer.0.status(), answer.cookie()), (409, None));
    assert_eq!(rig.look(&cookie), None);
}

#[test]
fn ending_what_another_request_renews_is_told() {
    let rig = Rig::new();
    let cookie = rig.begin("mine");
    let (sessions, of_other) = (rig.sessions.clone(), cookie.clone());
    let renewed = Arc::new(Mutex::new(None));
    let of_renewed = Arc::clone(&renewed);
    let answer = rig.answer(with_cookie(&cookie), move |session| {
        let other = sessions.with(|_, session| session.renew());
        match other(with_cookie(&of_other)) {
            Reply::Now(response) => *of_renewed.lock().unwrap() = Answer(response).cookie(),
            other => panic!("{other:?}"),
        }
        let outcome = session.destroy();
        assert!(matches!(outcome, Err(SessionError::Gone)));
        outcome
    });
    assert_eq!(answer.0.status(), 409);
    let removed = answer.field("Set-Cookie").unwrap();
    assert!(removed.starts_with("sid=; Path=/; Expires=Thu, 01 Jan 1970"));
    let renewed = renewed.lock().unwrap().take().unwrap();
    assert_eq!(rig.look(&renewed).as_deref(), Some("mine"));
    // A change that comes first is ended with the session.
    let (sessions, of_other) = (rig.sessions.clone(), renewed.clone());
    let answer = rig.answer(with_cookie(&renewed), move |session| {
        let other = sessions.with(|_, session| session.set("newest"));
        assert!(matches!(other(with_cookie(&of_other)), Reply::Now(_)));
        session.destroy()
    });
    assert_eq!(answer.0.status(), 204);
    assert_eq!(rig.look(&renewed), None);
}

#[test]
fn a_handler_that_panics_loses_no_session() {
    let rig = Rig::new();
    let sessions = rig.sessions.clone();
    let app = crate::App::new().get(
        "/",
        sessions.with(|_, session| {
            session.update(|data| [data, b"+"].concat())?;
            session.renew()?;
            match session.data().len() {
                0..3 => panic!("after what was kept"),
                _ => Ok::<_, SessionError>("fine"),
            }
        }),
    );
    let app = Arc::new(app);
    let mut cookie: Option<String> = None;
    for status in [500, 500, 200] {
        let request = match &cookie {
            Some(cookie) => with_cookie(cookie),
            None => request(""),
        };
        let answer = match app.call(request, None) {
            Reply::Now(response) => Answer(response),
            other => panic!("{other:?}"),
        };
        assert_eq!(answer.0.status(), status);
        assert_eq!(answer.field("Cache-Control").as_deref(), Some("no-store"));
        cookie = Some(answer.cookie().expect("the new id"));
    }
    assert_eq!(rig.look(&cookie.unwrap()).as_deref(), Some("+++"));
}

#[test]
fn a_session_that_lives_is_found_behind_those_that_do_not() {
    let rig = Rig::new();
    let over = rig.begin("over");
    rig.answer(with_cookie(&over), Session::destroy);
    let cookie = rig.begin("mine");
    for (before, expected) in [(1, "mine"), (3, "mine"), (4, "")] {
        let others = format!("sid={over}; ").repeat(before);
        let fields = format!("Cookie: {others}sid={cookie}\r\n");
        let answer = rig.answer(request(&fields), |session| session.data().to_vec());
        assert_eq!(answer.text(), expected, "{before}");
    }
}

#[test]
fn a_store_that_is_away_is_said_quickly() {
    let rig = Rig::new();
    let cookie = rig.begin("mine");
    rig.store.0.away.store(true, Ordering::SeqCst);
    let called = Arc::new(AtomicBool::new(false));
    let calls = Arc::clone(&called);
    let answer = rig.answer(with_cookie(&cookie), move |_| {
        calls.store(true, Ordering::SeqCst)
    });
    assert_eq!(answer.0.status(), 503);
    assert_eq!(answer.field("Retry-After").as_deref(), Some("1"));
    assert_eq!(answer.cookie(), None, "it may keep what it has");
    assert!(!called.load(Ordering::SeqCst));
    // Who has no session needs no store.
    let answer = rig.answer(request(""), |_| "fine");
    assert_eq!(answer.text(), "fine");
    let answer = rig.answer(request(""), |session| session.set("x"));
    assert_eq!((answer.0.status(), answer.cookie()), (503, None));
    rig.store.0.away.store(false, Ordering::SeqCst);
    assert_eq!(rig.look(&cookie).as_deref(), Some("mine"));
}

#[test]
fn what_is_too_much_is_not_kept() {
    let mut rig = Rig::new();
    rig.sessions = rig.sessions.max_bytes(4);
    let cookie = rig.begin("four");
    let answer = rig.answer(with_cookie(&cookie), |session| {
        let outcome = session.set("fiver");
        assert!(matches!(
            outcome,
            Err(SessionError::TooLarge { bytes: 5, most: 4 })
        ));
        assert_eq!(session.data(), b"four");
        outcome
    });
    assert_eq!(answer.0.status(), 500);
    assert!(!answer.text().contains("bytes"), "that is for the log");
    assert_eq!(rig.look(&cookie).as_deref(), Some("four"));
    let full = Sessions::new(MemoryStore::new().max_bytes(300), Keys::random().unwrap());
    let set = full.with(|_, session| session.set("first"));
    let statuses = [0, 1].map(|_| match set(request("")) {
        Reply::Now(response) => response.status(),
        other => panic!("{other:?}"),
    });
    assert_eq!(statuses, [204, 503]);
}

#[test]
fn handlers_run_where_their_store_lets_them() {
    let rig = Rig::new();
    let reply = |rig: &Rig| rig.sessions.with(|_, session| session.set("x"))(request(""));
    assert!(matches!(reply(&rig), Reply::Now(_)));
    rig.store.0.waits.store(true, Ordering::SeqCst);
    assert!(matches!(reply(&rig), Reply::Blocking(_)));
}

#[test]
fn settings_that_make_no_sense_are_told() {
    let rig = Rig::new();
    let with = |change: fn(Sessions) -> Sessions| change(rig.sessions.clone()).check();
    assert_eq!(with(|sessions| sessions), Ok(()));
    let wrong: [fn(Sessions) -> Sessions; 7] = [
        |sessions| sessions.cookie_name("a b"),
        |sessions| sessions.cookie_name(""),
        |sessions| sessions.cookie_name("__Host-id"),
        |sessions| sessions.same_site(SameSite::None),
        |sessions| sessions.idle(Duration::ZERO),
        |sessions| sessions.lifetime(Duration::ZERO),
        |sessions| sessions.max_bytes(0),
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        assert!(with(change).is_err(), "{number}");
    }
    let secure = |sessions: Sessions| sessions.cookie_name("__Host-id").secure(true);
    assert_eq!(secure(rig.sessions.clone()).check(), Ok(()));
    let rig = Rig {
        sessions: secure(rig.sessions.clone()).same_site(SameSite::Strict),
        ..rig
    };
    let answer = rig.answer(request(""), |session| session.set("x"));
    let set = answer.field("Set-Cookie").unwrap();
    assert!(set.starts_with("__Host-id="), "{set}");
    assert!(
        set.ends_with("; Path=/; SameSite=Strict; Secure; HttpOnly"),
        "{set}"
    );
    // Ages that no clock has are as good as for ever.
    let rig = Rig {
        sessions: Rig::new()
            .sessions
            .idle(Duration::MAX)
            .lifetime(Duration::MAX),
        ..rig
    };
    let cookie = rig.begin("mine");
    assert_eq!(rig.look(&cookie).as_deref(), Some("mine"));
}

#[cfg(feature = "json")]
#[test]
fn values_are_kept_as_json() {
    let rig = Rig::new();
    let answer = rig.answer(request(""), |session| {
        assert_eq!(session.get::<Vec<u32>>()?, None);
        session.put(&[1, 2])?;
        let all = session.modify(|all: &mut Vec<u32>| all.push(3))?;
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(session.get::<Vec<u32>>()?, Some(all));
        assert!(matches!(
            session.get::<String>(),
            Err(SessionError::Data(_))
        ));
        Ok::<_, SessionError>(())
    });
    assert_eq!(
        rig.look(&answer.cookie().unwrap()).as_deref(),
        Some("[1,2,3]")
    );
}

#[test]
fn secrets_are_not_shown() {
    let rig = Rig::new();
    let cookie = rig.begin("secret");
    let shown = format!("{:?} {:?}", rig.sessions, rig.store.0.ids.lock().unwrap());
    let answer = rig.answer(with_cookie(&cookie), |session| format!("{session:?}"));
    for text in [shown, answer.text()] {
        assert!(!text.contains("secret") && !text.contains(KEY), "{text}");
        assert!(!text.contains(&cookie[..22]), "{text}");
    }
}
