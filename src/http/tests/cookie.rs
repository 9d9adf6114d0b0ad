//! Cookies: every byte where it may and may not stand.

use super::super::{cookie_pairs, is_cookie_domain, is_cookie_path, is_cookie_value};

type Case = (&'static [u8], &'static [(&'static str, &'static str)]);

#[test]
fn pairs_are_read_as_they_stand() {
    let cases: [Case; 14] = [
        (b"", &[]),
        (b";;", &[]),
        (b" ; ", &[]),
        (b"a=b", &[("a", "b")]),
        (b"a=", &[("a", "")]),
        (b"a", &[]),
        (b"=a", &[]),
        (b" = a", &[]),
        (b"=a=b; c=d", &[("c", "d")]),
        (b"a=b=c", &[("a", "b=c")]),
        (b"a=b;c=d ;\te = f", &[("a", "b"), ("c", "d"), ("e", "f")]),
        (
            b"a=\"b c\"; a=%41+, x",
            &[("a", "\"b c\""), ("a", "%41+, x")],
        ),
        // Quotes hide nothing.
        (b"a=\"b; c=d\"", &[("a", "\"b"), ("c", "d\"")]),
        (b"a=\xff; \xe9=1", &[("a", "\u{fffd}"), ("\u{fffd}", "1")]),
    ];
    for (value, expected) in cases {
        let pairs: Vec<_> = cookie_pairs(value).collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(n, v)| (n.as_ref(), v.as_ref()))
            .collect();
        assert_eq!(pairs, expected, "{}", value.escape_ascii());
    }
}

#[test]
fn values_are_checked_byte_by_byte() {
    for b in 0..=255_u8 {
        // RFC 6265 4.1.1, as it is written there.
        let octet = matches!(b, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
        assert_eq!(is_cookie_value(&[b'a', b]), octet, "{b:#x}");
        assert_eq!(is_cookie_value(&[b'"', b, b'"']), octet, "{b:#x}");
        let path = matches!(b, 0x20..=0x7e) && b != b';';
        assert_eq!(is_cookie_path(&[b'/', b, b'a']), path, "{b:#x}");
        let domain = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        assert_eq!(is_cookie_domain(&[b'a', b, b'a']), domain, "{b:#x}");
    }
    for good in [&b""[..], b"\"\"", b"a=b", b"{}"] {
        assert!(is_cookie_value(good));
    }
    for bad in [&b"\""[..], b"\"a", b"a\"", b"\"a\"b", b"\"\"\""] {
        assert!(!is_cookie_value(bad));
    }
}

#[test]
fn paths_and_domains_have_their_form() {
    for good in [&b"/"[..], b"/a/b c", b"//"] {
        assert!(is_cookie_path(good));
    }
    for bad in [&b""[..], b"a", b" /", b"/ ", b"/a\r\nX: y", b"/;Domain=a"] {
        assert!(!is_cookie_path(bad));
    }
    for good in [&b"a"[..], b"a.example", b"1.2.3.4", b"xn--a-b.c"] {
        assert!(is_cookie_domain(good));
    }
    for bad in [
        &b""[..],
        b".a",
        b"a.",
        b"a..b",
        b"-a",
        b"a-.b",
        b"a b",
        b"[::1]",
        b"a:1",
    ] {
        assert!(!is_cookie_domain(bad));
    }
    assert!(is_cookie_domain(&[b'a'; 63]) && !is_cookie_domain(&[b'a'; 64]));
    let long = b"a.".repeat(127);
    assert!(is_cookie_domain(&long[..253]) && !is_cookie_domain(&[&long[..], b"a"].concat()));
}
