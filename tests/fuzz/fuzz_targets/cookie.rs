//! Cookies, both ways: what is sent is read without harm, and what is set is one field or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::cookie_pairs;
use mcluster::{Cookie, Response};

fuzz_target!(|data: &[u8]| {
    for (name, value) in cookie_pairs(data) {
        assert!(!name.is_empty() && !name.contains(['=', ';']));
        assert!(!value.contains(';'));
    }
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let mut parts = text.splitn(4, '\n');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (name, value, path, domain) = (part(), part(), part(), part());
    let mut cookie = Cookie::new(name.clone(), value.clone()).secure(data.len() % 2 == 0);
    if !path.is_empty() {
        cookie = cookie.path(path);
    }
    if !domain.is_empty() {
        cookie = cookie.domain(domain);
    }
    let fine = cookie.check().is_ok();
    let status = Response::new(204).cookie(cookie).status();
    assert_eq!(status, if fine { 204 } else { 500 });
    if fine {
        // It comes back as it went.
        let back = format!("a=b; {name}={value}; c=d");
        let pairs: Vec<_> = cookie_pairs(back.as_bytes()).collect();
        assert_eq!(pairs.len(), 3);
        assert_eq!((&*pairs[1].0, &*pairs[1].1), (&*name, &*value));
    }
    assert!(matches!(Response::redirect(303, text).status(), 303));
});
