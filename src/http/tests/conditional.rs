//! Conditional requests: tags by examples, and each precondition alone and beside the others.

use super::super::Method;
use super::super::conditional::{Conditions, ETag, Validators, Verdict};
use proptest::prelude::*;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use Verdict::{Failed, NotModified, Proceed};

/// Sun, 06 Nov 1994 08:49:37 GMT, and some of a second.
fn modified() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(784_111_777_500)
}

const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const EXACT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn judge(method: Method, fields: &[(&str, &str)]) -> Verdict {
    let tag = ETag::strong("a").unwrap();
    let current = Validators {
        etag: Some(&tag),
        modified: Some(modified()),
    };
    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    Conditions::of(fields).judge(method, current)
}

fn range(method: Method, tag: &ETag, fields: &[(&str, &str)]) -> bool {
    let current = Validators {
        etag: Some(tag),
        modified: Some(modified()),
    };
    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    Conditions::of(fields).range(method, current).is_some()
}

#[test]
fn tags() {
    let strong = ETag::strong("a,b").unwrap();
    let weak = ETag::weak("a,b").unwrap();
    assert_eq!((strong.as_str(), weak.as_str()), ("\"a,b\"", "W/\"a,b\""));
    assert!(weak.is_weak() && !strong.is_weak());
    for bad in ["a\"b", "a b", "\n", "é", "\u{7f}"] {
        assert!(
            ETag::strong(bad).is_none() && ETag::weak(bad).is_none(),
            "{bad:?}"
        );
    }
    // RFC 9110 section 8.8.3.2, the table.
    for (ours, theirs, strongly, weakly) in [
        (&weak, "W/\"a,b\"", false, true),
        (&weak, "W/\"c\"", false, false),
        (&weak, "\"a,b\"", false, true),
        (&strong, "\"a,b\"", true, true),
        (&strong, "W/\"a,b\"", false, true),
        (&strong, "w/\"a,b\"", false, false),
        (&strong, "\"a,b", false, false),
        (&strong, "a,b", false, false),
        (&strong, "\"a,b\" ", false, false),
        (&strong, "\"a,b\",\"c\"", false, false),
        (&strong, "", false, false),
    ] {
        assert_eq!(
            ours.matches_strongly(theirs.as_bytes()),
            strongly,
            "{ours} {theirs}"
        );
        assert_eq!(
            ours.matches_weakly(theirs.as_bytes()),
            weakly,
            "{ours} {theirs}"
        );
    }
}

#[test]
fn if_none_match() {
    for (value, matches) in [
        ("*", true),
        ("\"a\"", true),
        ("W/\"a\"", true),
        ("\"b\", \"a\"", true),
        ("\"b\",W/\"a\",\"c\"", true),
        (",, \"b\" ,\t\"a\" ,", true),
        ("\"b\"", false),
        ("\"A\"", false),
        ("a", false),
        ("", false),
        (",", false),
        ("\"a", false),
        ("\"b,\"a\"", false),
        ("\"a\" \"b\"", false),
        ("\"a\", *", false),
        ("**", false),
        ("w/\"a\"", false),
        ("W/ \"a\"", false),
    ] {
        let field = [("If-None-Match", value)];
        let read = if matches { NotModified } else { Proceed };
        let write = if matches { Failed } else { Proceed };
        assert_eq!(judge(Method::Get, &field), read, "{value:?}");
        assert_eq!(judge(Method::Head, &field), read, "{value:?}");
        assert_eq!(judge(Method::Put, &field), write, "{value:?}");
    }
    let twice = [("if-none-match", "\"b\""), ("IF-NONE-MATCH", "\"a\"")];
    assert_eq!(judge(Method::Get, &twice), NotModified);
}

#[test]
fn if_match() {
    for (value, matches) in [
        ("*", true),
        ("\"a\"", true),
        ("\"b\", \"a\"", true),
        ("W/\"a\"", false),
        ("\"b\"", false),
        ("", false),
        ("a", false),
    ] {
        let expected = if matches { Proceed } else { Failed };
        for method in [Method::Get, Method::Head, Method::Put] {
            assert_eq!(judge(method, &[("If-Match", value)]), expected, "{value:?}");
        }
    }
    let twice = [("If-Match", "\"b\""), ("If-Match", "\"a\"")];
    assert_eq!(judge(Method::Get, &twice), Proceed);
}

#[test]
fn dates() {
    let since = |value| judge(Method::Get, &[("If-Modified-Since", value)]);
    let until = |value| judge(Method::Get, &[("If-Unmodified-Since", value)]);
    for exact in [
        EXACT,
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ] {
        assert_eq!(
            (since(exact), until(exact)),
            (NotModified, Proceed),
            "{exact}"
        );
    }
    assert_eq!((since(BEFORE), until(BEFORE)), (Proceed, Failed));
    assert_eq!((since(AFTER), until(AFTER)), (NotModified, Proceed));
    for early in [
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
    ] {
        assert_eq!((since(early), until(early)), (Proceed, Failed), "{early}");
    }
    for nonsense in [
        "",
        "0",
        "Wed, 31 Dec 1969 25:59:59 GMT",
        "Wed, 31 Dec +969 23:59:59 GMT",
        "yesterday",
        "1994-11-06T08:49:37Z",
        "Sun, 32 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(
            (since(nonsense), until(nonsense)),
            (Proceed, Proceed),
            "{nonsense}"
        );
    }
    // Only for GET and HEAD, and only one.
    assert_eq!(
        judge(Method::Post, &[("If-Modified-Since", AFTER)]),
        Proceed
    );
    assert_eq!(
        judge(Method::Head, &[("If-Modified-Since", AFTER)]),
        NotModified
    );
    let twice = [("If-Modified-Since", AFTER), ("If-Modified-Since", AFTER)];
    assert_eq!(judge(Method::Get, &twice), Proceed);
}

#[test]
fn one_beside_the_other() {
    for (fields, expected) in [
        // The tag counts, not the date.
        (
            &[("If-None-Match", "\"b\""), ("If-Modified-Since", AFTER)][..],
            Proceed,
        ),
        (
            &[("If-None-Match", "\"a\""), ("If-Modified-Since", BEFORE)],
            NotModified,
        ),
        (
            &[("If-Match", "\"a\""), ("If-Unmodified-Since", BEFORE)],
            Proceed,
        ),
        (
            &[("If-Match", "\"b\""), ("If-Unmodified-Since", AFTER)],
            Failed,
        ),
        // What must hold comes before what would spare the client something.
        (&[("If-None-Match", "\"a\""), ("If-Match", "\"b\"")], Failed),
        (
            &[("If-None-Match", "\"a\""), ("If-Match", "\"a\"")],
            NotModified,
        ),
        (
            &[("If-None-Match", "\"a\""), ("If-Unmodified-Since", BEFORE)],
            Failed,
        ),
        (
            &[("If-Modified-Since", AFTER), ("If-Unmodified-Since", AFTER)],
            NotModified,
        ),
        (&[], Proceed),
    ] {
        assert_eq!(judge(Method::Get, fields), expected, "{fields:?}");
    }
    let nothing = Validators::default();
    let fields = [
        ("If-Match", &b"\"a\""[..]),
        ("If-Modified-Since", EXACT.as_bytes()),
    ];
    assert_eq!(Conditions::of(fields).judge(Method::Get, nothing), Failed);
    assert_eq!(
        Conditions::of(fields[1..].to_vec()).judge(Method::Get, nothing),
        Proceed
    );
}

#[test]
fn if_range() {
    let (strong, weak) = (ETag::strong("a").unwrap(), ETag::weak("a").unwrap());
    let with = |tag, value| {
        range(
            Method::Get,
            tag,
            &[("Range", "bytes=0-1"), ("If-Range", value)],
        )
    };
    assert!(range(Method::Get, &strong, &[("Range", "bytes=0-1")]));
    assert!(!range(Method::Head, &strong, &[("Range", "bytes=0-1")]));
    assert!(!range(Method::Post, &strong, &[("Range", "bytes=0-1")]));
    assert!(!range(Method::Get, &strong, &[("If-Range", "\"a\"")]));
    assert!(!range(
        Method::Get,
        &strong,
        &[("Range", "bytes=0-1"), ("Range", "bytes=2-3")]
    ));
    assert!(with(&strong, "\"a\"") && with(&strong, EXACT));
    assert!(with(&strong, "Sunday, 06-Nov-94 08:49:37 GMT"));
    for other in [
        "\"b\"",
        "W/\"a\"",
        "\"a\", \"b\"",
        "*",
        "",
        "a",
        BEFORE,
        AFTER,
    ] {
        assert!(!with(&strong, other), "{other:?}");
    }
    assert!(!with(&weak, "\"a\"") && !with(&weak, "W/\"a\""));
    let twice = [
        ("Range", "bytes=0-1"),
        ("If-Range", "\"a\""),
        ("If-Range", "\"a\""),
    ];
    assert!(!range(Method::Get, &strong, &twice));
}

proptest! {
    #[test]
    fn no_bytes_panic(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 6)) {
        let names = ["If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"];
        let tag = ETag::strong("a").unwrap();
        let current = Validators { etag: Some(&tag), modified: Some(modified()) };
        let fields = names.iter().zip(&values).map(|(name, value)| (*name, &value[..]));
        let conditions = Conditions::of(fields);
        let _ = (conditions.judge(Method::Get, current), conditions.range(Method::Get, current));
    }

    #[test]
    fn a_tag_is_found_wherever_it_stands(
        before in prop::collection::vec("(W/)?\"[!#-~]{0,5}\"", 0..4),
        after in prop::collection::vec("(W/)?\"[!#-~]{0,5}\"", 0..4),
        split in any::<bool>(),
    ) {
        let (before, after) = (before.join(" , "), after.join(","));
        let fields = match split {
            true => vec![("If-None-Match", before), ("If-None-Match", format!("\"a\",{after}"))],
            false => vec![("If-None-Match", format!("{before},\"a\",{after}"))],
        };
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        prop_assert_eq!(judge(Method::Get, &fields), NotModified);
    }
}
