//! Heads of requests: the same answer however they are cut, and nothing in it that the grammar forbids.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::{Framing, Head, HeadLimits, Parsed, Version, is_field_value, is_token};

fuzz_target!(|data: &[u8]| {
    // Small, so that the limits are met too.
    let limits = HeadLimits {
        bytes: 2048,
        fields: 70,
    };
    let mut head = Head::new();
    let whole = head.parse(data, &limits);
    match whole {
        Ok(Parsed::Complete(used)) => {
            assert!(used <= data.len() && used <= limits.bytes);
            complete(&head, &limits);
            // Without its last byte it is a good beginning; with it alone it is the same.
            let mut other = Head::new();
            assert_eq!(other.parse(&data[..used - 1], &limits), Ok(Parsed::Partial));
            assert_eq!(other.parse(&data[..used], &limits), whole);
            assert!(head.fields().eq(other.fields()));
            assert_eq!(
                (head.path(), head.query(), head.host()),
                (other.path(), other.query(), other.host())
            );
        }
        Ok(Parsed::Partial) => {
            assert!(data.len() < limits.bytes);
            empty(&head);
        }
        Err(error) => {
            assert!(matches!(error.status(), 400 | 414 | 417 | 431 | 501 | 505));
            assert!(!error.what().is_empty());
            empty(&head);
        }
    }
    // What a beginning says holds of the whole: refused once is refused for good.
    let cut = data
        .first()
        .map_or(0, |&b| usize::from(b) * data.len() / 256);
    if let Err(error) = head.parse(&data[..cut], &limits) {
        let refused = whole.expect_err("a beginning was refused");
        // A longer one may be found too long before it is read.
        assert!(refused == error || matches!(refused.status(), 400..=505));
    }
});

fn empty(head: &Head) {
    assert_eq!((head.target(), head.fields().count()), ("", 0));
}

fn complete(head: &Head, limits: &HeadLimits) {
    assert!(head.path().starts_with('/') || head.path() == "*");
    assert!(head.target().bytes().all(|b| b.is_ascii_graphic()));
    assert!(head.fields().count() <= limits.fields);
    for (name, value) in head.fields() {
        assert!(is_token(name.as_bytes()) && is_field_value(value));
    }
    let count = |wanted: &str| {
        let names = head.fields().map(|(name, _)| name);
        names
            .filter(|name| name.eq_ignore_ascii_case(wanted))
            .count()
    };
    let (te, cl) = (count("transfer-encoding"), count("content-length"));
    match head.framing() {
        Framing::None => assert_eq!((te, cl), (0, 0)),
        Framing::Length(_) => assert_eq!((te, cl), (0, 1)),
        Framing::Chunked => assert_eq!((te, cl), (1, 0)),
    }
    let hosts = count("host");
    match head.version() {
        Version::Http10 => assert!(hosts <= 1 && head.framing() != Framing::Chunked),
        Version::Http11 => assert_eq!((hosts, head.host().is_some()), (1, true)),
    }
    assert!(!head.expects_continue() || head.framing() != Framing::None);
}
