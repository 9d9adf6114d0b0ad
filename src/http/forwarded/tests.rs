//! The grammar of the fields, the walk through them, and which of them are read.

use super::*;

/// By fields as `Name: value`, from 10.0.0.1, with 10.0.0.0/8 and `fd00::1` trusted.
fn found_by(kind: ForwardedFields, fields: &[(&str, &'static str)]) -> (String, bool) {
    let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    let trusted = |ip: IpAddr| {
        let ip = ip.to_string();
        ip.starts_with("10.") || ip == "fd00::1"
    };
    let client = forwarded_client(fields, kind, "10.0.0.1".parse().ok(), trusted);
    let ip = client.ip.map_or_else(String::new, |ip| ip.to_string());
    (ip, client.https)
}

fn usual(fields: &[(&str, &'static str)]) -> (String, bool) {
    found_by(ForwardedFields::XForwarded, fields)
}

fn standard(fields: &[(&str, &'static str)]) -> (String, bool) {
    found_by(ForwardedFields::Forwarded, fields)
}

#[test]
fn the_standard_field() {
    let cases = [
        (
            "for=192.0.2.60;proto=https;by=203.0.113.43",
            "192.0.2.60",
            true,
        ),
        (
            "For=\"[2001:db8:cafe::17]:4711\"",
            "2001:db8:cafe::17",
            false,
        ),
        (
            "for=192.0.2.43, for=\"[2001:db8::1]\"",
            "2001:db8::1",
            false,
        ),
        (
            "for=6.6.6.6, for=192.0.2.43;proto=https, for=10.0.0.2;proto=http",
            "192.0.2.43",
            true,
        ),
        (
            "for=192.0.2.43;proto=https,for=\"[fd00::1]:80\"",
            "192.0.2.43",
            true,
        ),
        ("for=10.0.0.3,for=10.0.0.2", "10.0.0.3", false),
        ("for=\"192.0.2.1:80\"", "192.0.2.1", false),
        ("for=\"192.0.2.1:_port\"", "192.0.2.1", false),
        ("for=\"\\192.0.2.1\"", "192.0.2.1", false),
        ("for=\"::ffff:1.2.3.4\"", "10.0.0.1", false),
        ("for=\"[::ffff:192.0.2.1]\"", "192.0.2.1", false),
        ("for=_hidden;proto=https", "10.0.0.1", true),
        ("for=unknown, for=10.0.0.2", "10.0.0.2", false),
        ("for=6.6.6.6, for=_secret", "10.0.0.1", false),
        (",, for=192.0.2.1 ; proto=https ,", "192.0.2.1", true),
        ("proto=https", "10.0.0.1", true),
        ("host=a;for=192.0.2.1;x=y", "192.0.2.1", false),
        ("host=\"a,b;c\";for=192.0.2.1", "192.0.2.1", false),
    ];
    for (value, ip, https) in cases {
        let fields = [("Forwarded", value)];
        assert_eq!(standard(&fields), (ip.to_owned(), https), "{value}");
    }
}

#[test]
fn what_is_malformed_ends_the_walk() {
    let values = [
        "for",
        "for=",
        "=192.0.2.1",
        "for =192.0.2.1",
        "for= 192.0.2.1",
        "for=192.0.2.1:80",
        "for=[2001:db8::1]",
        "for=2001:db8::1",
        "for=\"192.0.2.1",
        "for=\"192.0.2.1\"x",
        "for=192.0.2.1 proto=https",
        "for=192.0.2.1;for=192.0.2.1",
        "proto=http;proto=https",
        "for=192.0.2.1;proto=gopher",
        "for=192.0.2.256",
        "for=\"[fe80::1%lo]\"",
        "for=example.com",
        "for=\"192.0.2.1:\"",
        "for=\"192.0.2.1:65536\"",
        "for=\"192.0.2.1:+1\"",
        "for=_",
        "for=\"[2001:db8::1]x\"",
        "for=\"\\",
    ];
    for value in values {
        assert_eq!(
            standard(&[("Forwarded", value)]),
            ("10.0.0.1".to_owned(), false),
            "{value}"
        );
    }
    // A client's open quote must not swallow what the proxy added behind it.
    for value in [
        "for=6.6.6.6;by=\", for=192.0.2.1",
        "for=6.6.6.6;by=\", for=\"[2001:db8::1]\"",
    ] {
        assert_eq!(standard(&[("Forwarded", value)]).0, "10.0.0.1", "{value}");
    }
    let lines = [("Forwarded", "for=\""), ("Forwarded", "for=10.0.0.2")];
    assert_eq!(standard(&lines).0, "10.0.0.2");
}

#[test]
fn the_usual_fields() {
    let cases = [
        ("192.0.2.1", "", "192.0.2.1", false),
        ("192.0.2.1", "https", "192.0.2.1", true),
        ("6.6.6.6, 192.0.2.1, 10.0.0.2", "HTTPS", "192.0.2.1", true),
        (
            "6.6.6.6, 192.0.2.1, 10.0.0.2",
            "http, https, http",
            "192.0.2.1",
            true,
        ),
        ("6.6.6.6, 192.0.2.1", "https, http", "192.0.2.1", false),
        ("192.0.2.1", "https, http, http", "192.0.2.1", false),
        ("192.0.2.1:4711", "", "192.0.2.1", false),
        ("2001:db8::1", "", "2001:db8::1", false),
        ("[2001:db8::1]", "", "2001:db8::1", false),
        ("[2001:db8::1]:80", "", "2001:db8::1", false),
        ("::ffff:192.0.2.1", "", "192.0.2.1", false),
        ("192.0.2.1, nonsense", "", "10.0.0.1", false),
        ("192.0.2.1, unknown, 10.0.0.2", "", "10.0.0.2", false),
        ("192.0.2.01", "", "10.0.0.1", false),
        ("", "https", "10.0.0.1", true),
        ("", "gopher", "10.0.0.1", false),
        (", ,", "", "10.0.0.1", false),
    ];
    for (hosts, schemes, ip, https) in cases {
        let fields = [("X-Forwarded-For", hosts), ("x-forwarded-proto", schemes)];
        assert_eq!(
            usual(&fields),
            (ip.to_owned(), https),
            "{hosts:?} {schemes:?}"
        );
    }
    let lines = [
        ("X-Forwarded-For", "6.6.6.6, 192.0.2.1"),
        ("X-Forwarded-For", "10.0.0.2"),
    ];
    assert_eq!(usual(&lines).0, "192.0.2.1");
}

#[test]
fn what_the_proxies_do_not_write_is_not_read() {
    let by_proxy = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "http"),
    ];
    let by_client = [
        "for=203.0.113.9;proto=https",
        "for=6.6.6.6;proto=https",
        "x",
        "",
    ];
    for words in by_client {
        let both = [("Forwarded", words), by_proxy[0], by_proxy[1]];
        let expected = ("203.0.113.9".to_owned(), false);
        assert_eq!(usual(&both), expected, "{words}");
    }
    // The scheme is known, the client is not.
    let both = [("Forwarded", "for=6.6.6.6"), ("X-Forwarded-Proto", "https")];
    assert_eq!(usual(&both), ("10.0.0.1".to_owned(), true));
    let both = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=203.0.113.9"),
    ];
    assert_eq!(standard(&both), ("203.0.113.9".to_owned(), false));
    assert_eq!(standard(&both[..2]), ("10.0.0.1".to_owned(), false));
    assert_eq!(usual(&[]), standard(&[]));
}

#[test]
fn words_come_back() {
    for words in ["x-forwarded", "forwarded"] {
        let kind: ForwardedFields = words.parse().unwrap();
        assert_eq!(kind.to_string(), words);
    }
    assert_eq!(ForwardedFields::default().to_string(), "x-forwarded");
    assert!("Forwarded".parse::<ForwardedFields>().is_err());
}

#[test]
fn any_bytes_are_survived() {
    let pieces = [
        "for", "=", "\"", ",", ";", "[", "]", ":", "\\", " ", "1.2.3.4", "::1", "_x", "proto",
        "https",
    ];
    // All strings of three pieces, and some of six.
    for number in 0..pieces.len().pow(3) * 8 {
        let (mut number, mut value) = (number * 5 + 1, String::new());
        while number > 0 {
            value += pieces[number % pieces.len()];
            number /= pieces.len();
        }
        let fields = [
            ("Forwarded", value.as_bytes()),
            ("X-Forwarded-For", value.as_bytes()),
        ];
        for kind in [ForwardedFields::XForwarded, ForwardedFields::Forwarded] {
            let found = forwarded_client(fields.into_iter(), kind, None, |_| true);
            assert!(!found.https || value.contains("https"));
        }
    }
}
