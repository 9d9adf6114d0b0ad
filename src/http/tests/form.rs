//! Escapes and queries.

use std::borrow::Cow;

use super::super::{percent_decode, query_pairs};

#[test]
fn escapes_are_decoded_or_refused() {
    let cases: [(&str, Option<&[u8]>); 9] = [
        ("", Some(b"")),
        ("a+b", Some(b"a+b")),
        ("a%20b%2F", Some(b"a b/")),
        ("%00%ff%C3%a9", Some(b"\0\xff\xc3\xa9")),
        ("%2541", Some(b"%41")),
        ("%", None),
        ("a%4", None),
        ("%4g", None),
        ("%+1", None),
    ];
    for (text, expected) in cases {
        assert_eq!(percent_decode(text).as_deref(), expected, "{text}");
    }
    assert!(matches!(percent_decode("plain"), Some(Cow::Borrowed(_))));
}

#[test]
fn queries_are_read_as_forms() {
    let cases: [(&str, &[(&str, &str)]); 9] = [
        ("", &[]),
        ("&&", &[]),
        ("a", &[("a", "")]),
        ("a=", &[("a", "")]),
        ("=b", &[("", "b")]),
        ("a=b&a=c=d", &[("a", "b"), ("a", "c=d")]),
        ("a+b=c%20d%2B", &[("a b", "c d+")]),
        ("a=%zz%4&b=%", &[("a", "%zz%4"), ("b", "%")]),
        ("a=%ff%C3%A9", &[("a", "\u{fffd}é")]),
    ];
    for (query, expected) in cases {
        let pairs: Vec<_> = query_pairs(query).collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(n, v)| (n.as_ref(), v.as_ref()))
            .collect();
        assert_eq!(pairs, expected, "{query}");
    }
}
