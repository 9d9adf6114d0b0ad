//! The head alone: what the corpus cannot say, such as limits, reuse and the order of refusals.

use super::super::{Error, Framing, HeadLimits, MAX_FIELDS, Method, Version};
use super::{Head, Parsed, parse, refused};

/// Everything that is known of a head, but what is remembered of others.
fn all_of(head: &Head) -> String {
    let all = format!("{head:?} {:?}", head.host());
    let (before, after) = all.split_once("good_host: [").expect("a field of Head");
    let (_, after) = after.split_once(']').expect("its end");
    format!("{before}{after}")
}

#[test]
fn what_is_repeated_is_read_as_the_first_time() {
    let limits = HeadLimits::default();
    let files: Vec<_> = ["valid", "invalid"]
        .into_iter()
        .flat_map(super::corpus::files)
        .collect();
    let mut kept = Head::new();
    let mut repeated = 0;
    for (at, (name, bytes, _)) in files.iter().enumerate() {
        let other = &files[(at + 1) % files.len()].1;
        let followed = [&bytes[..], other].concat();
        let cut = &bytes[..bytes.len() - bytes.len().min(1)];
        for input in [&bytes[..], &bytes[..], &followed, cut, bytes, other, bytes] {
            let mut fresh = Head::new();
            let expected = fresh.parse(input, &limits);
            repeated += usize::from(kept.is_repeated_by(input, &limits));
            assert_eq!(kept.parse(input, &limits), expected, "{name}");
            assert_eq!(all_of(&kept), all_of(&fresh), "{name}");
        }
    }
    assert!(repeated > files.len() / 2, "{repeated}");
}

#[test]
fn what_is_repeated_keeps_to_the_limits_of_now() {
    let mut head = Head::new();
    let usual = HeadLimits::default();
    let (fewer, shorter) = (
        HeadLimits { fields: 0, ..usual },
        HeadLimits {
            bytes: SIMPLE.len() - 1,
            ..usual
        },
    );
    for (limits, status) in [(fewer, 431), (shorter, 431)] {
        assert_eq!(
            head.parse(SIMPLE, &usual),
            Ok(Parsed::Complete(SIMPLE.len()))
        );
        let refused = head.parse(SIMPLE, &limits).map_err(|error| error.status());
        assert_eq!(refused, Err(status));
    }
}

const SIMPLE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn an_error_reads_as_status_and_words() {
    let error = Error::new(400, "bare LF in the head");
    assert_eq!(error.to_string(), "400: bare LF in the head");
    assert_eq!((error.status(), error.what()), (400, "bare LF in the head"));
}

#[test]
fn methods_go_there_and_back() {
    let longest = Method::ALL.iter().map(|method| method.as_str().len()).max();
    assert_eq!(longest, Some(super::super::head::LONGEST_METHOD));
    for method in Method::ALL {
        assert_eq!(Method::from_bytes(method.as_str().as_bytes()), Some(method));
        assert_eq!(method.to_string(), method.as_str());
    }
    for other in [&b""[..], b"get", b"GETS", b"TRACE", b"CONNECT", b" GET"] {
        assert_eq!(Method::from_bytes(other), None);
    }
    assert_eq!(Version::Http10.to_string(), "HTTP/1.0");
    assert_eq!(Version::Http11.to_string(), "HTTP/1.1");
}

#[test]
fn a_head_is_reused_without_a_trace_of_the_last() {
    let limits = HeadLimits::default();
    let mut head = Head::new();
    let long = b"POST http://b/%41?q HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(head.parse(long, &limits), Ok(Parsed::Complete(long.len())));
    assert_eq!(head.path(), "/A");
    assert_eq!(head.host(), Some("b"));

    assert_eq!(
        head.parse(SIMPLE, &limits),
        Ok(Parsed::Complete(SIMPLE.len()))
    );
    assert_eq!(
        (head.method(), head.version()),
        (Method::Get, Version::Http11)
    );
    assert_eq!((head.target(), head.path(), head.query()), ("/", "/", None));
    assert_eq!((head.host(), head.framing()), (Some("a"), Framing::None));
    assert_eq!(head.fields().count(), 1);

    for input in [&b"POST /x HT"[..], b"POST /x HTTP/1.1\r\n\r\n"] {
        assert!(!matches!(
            head.parse(input, &limits),
            Ok(Parsed::Complete(_))
        ));
        assert_eq!((head.method(), head.target()), (Method::Get, ""));
        assert_eq!((head.path(), head.host()), ("", None));
        assert_eq!(head.fields().count(), 0);
    }
}

#[test]
fn a_head_may_fill_its_limit_and_no_more() {
    let mut head = Head::new();
    let mut limits = HeadLimits {
        bytes: SIMPLE.len(),
        fields: 1,
    };
    assert_eq!(
        head.parse(SIMPLE, &limits),
        Ok(Parsed::Complete(SIMPLE.len()))
    );
    let mut followed = SIMPLE.to_vec();
    followed.extend_from_slice(b"more");
    assert_eq!(
        head.parse(&followed, &limits),
        Ok(Parsed::Complete(SIMPLE.len()))
    );
    // Empty lines before it count.
    let status = |answer: Result<Parsed, Error>| answer.map_err(|error| error.status());
    assert_eq!(
        status(head.parse(&[b"\r\n", SIMPLE].concat(), &limits)),
        Err(431)
    );
    for bytes in 0..SIMPLE.len() {
        limits.bytes = bytes;
        // The request line ends with its LF, the sixteenth byte.
        let expected = if bytes < 16 { 414 } else { 431 };
        assert_eq!(status(head.parse(SIMPLE, &limits)), Err(expected));
        // The same once the limit is reached, though more could follow.
        assert_eq!(status(head.parse(&SIMPLE[..bytes], &limits)), Err(expected));
    }
    assert_eq!(
        status(head.parse(&b"\r\n".repeat(9000), &HeadLimits::default())),
        Err(414)
    );
}

#[test]
fn fields_are_counted() {
    let with = |n: usize| {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        for _ in 1..n {
            bytes.extend_from_slice(b"X: y\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    };
    let mut head = Head::new();
    for most in [1, 63, 64, 65, 100, MAX_FIELDS] {
        let limits = HeadLimits {
            bytes: 16 * 1024,
            fields: most,
        };
        let bytes = with(most);
        assert_eq!(
            head.parse(&bytes, &limits),
            Ok(Parsed::Complete(bytes.len()))
        );
        assert_eq!(head.fields().count(), most);
        let error = head.parse(&with(most + 1), &limits).err();
        assert_eq!(error.map(|error| error.status()), Some(431), "{most}");
    }
    let limits = HeadLimits {
        bytes: 16 * 1024,
        fields: usize::MAX,
    };
    assert!(head.parse(&with(MAX_FIELDS + 1), &limits).is_err());
}

#[test]
fn fields_are_found_by_name_in_any_case() {
    let (head, answer) =
        parse(b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-one: 2\r\nEmpty: \r\n\r\n");
    assert!(answer.is_ok());
    assert_eq!(head.get("X-ONE"), Some(&b"1"[..]));
    assert_eq!(head.get("empty"), Some(&b""[..]));
    assert_eq!((head.get("x-on"), head.get("")), (None, None));
    let fields: Vec<_> = head.fields().collect();
    let expected: [(&str, &[u8]); 4] = [
        ("Host", b"a"),
        ("X-One", b"1"),
        ("x-one", b"2"),
        ("Empty", b""),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_version_cut_short_is_neither_taken_nor_refused() {
    for version in ["HTTP/2.0\r\n", "HTTP/1.7\r\n", "HTTP/9.9\r\n"] {
        for end in 0..version.len() {
            let line = format!("GET / {}", &version[..end]);
            assert_eq!(parse(line.as_bytes()).1, Ok(Parsed::Partial), "{line}");
        }
    }
    assert_eq!(refused(b"GET / HTTP/2.0\r\n"), 505);
    assert_eq!(refused(b"GET / HTTP/2x"), 400);
    assert_eq!(refused(b"GET / HTTP/1.7 "), 400);
}

#[test]
fn the_largest_length_is_read() {
    let (head, answer) =
        parse(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n");
    assert!(answer.is_ok());
    assert_eq!(head.framing(), Framing::Length(u64::MAX));
}

#[test]
fn every_single_byte_in_a_target_name_and_value_is_judged() {
    for b in 0..=255_u8 {
        let line = [b"GET /a", &[b][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let good = b.is_ascii_graphic() && !b"#%\"<>\\`{}".contains(&b);
        assert_eq!(refused(&line) == 0, good, "path with {b:#x}");

        let line = [b"GET /?a", &[b][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let good = b.is_ascii_graphic() && !b"#\"<>".contains(&b);
        assert_eq!(refused(&line) == 0, good, "query with {b:#x}");

        let line = [b"GET / HTTP/1.1\r\nHost: a\r\nX", &[b][..], b"a: b\r\n\r\n"].concat();
        let good = super::super::is_token(&[b]) || b == b':';
        assert_eq!(refused(&line) == 0, good, "name with {b:#x}");

        // Late in a long value too: httparse reads those many bytes at a time.
        for pad in [0, 7, 15, 31, 64] {
            let value = [&b"x".repeat(pad)[..], &[b], b"x"].concat();
            let line = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &value[..], b"\r\n\r\n"].concat();
            let good = matches!(b, b'\t' | 0x20..=0x7e | 0x80..);
            assert_eq!(refused(&line) == 0, good, "value with {b:#x} after {pad}");
        }
    }
}

#[test]
fn a_head_can_travel() {
    fn check<T: Send + Sync + Default + 'static>() {}
    check::<Head>();
}

#[test]
fn each_host_is_judged_whatever_was_before() {
    let mut kept = Head::new();
    let hosts = [
        "x", "x", "", "x:80", "x:", "x:8a", "x:80", "x:8a", "x y", "x",
    ];
    let hosts = hosts.map(str::to_owned).into_iter();
    let long = ["y".repeat(300), "y".repeat(300) + "/", "y".repeat(300)];
    for host in hosts.chain(long) {
        // The target differs, so that nothing is repeated as a whole.
        for target in ["/a", "/b"] {
            let input = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let mut fresh = Head::new();
            let limits = HeadLimits::default();
            let expected = fresh.parse(input.as_bytes(), &limits);
            assert_eq!(kept.parse(input.as_bytes(), &limits), expected, "{host}");
            assert_eq!(kept.host(), fresh.host());
        }
    }
}
