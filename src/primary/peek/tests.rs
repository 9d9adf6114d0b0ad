//! What is seen in every beginning of what a client says.

use super::*;

fn sought(what: What<'_>) -> Sought<'_> {
    Sought {
        owned: Box::leak(Box::default()),
        what,
        announced: false,
        ip: "192.0.2.9".parse().ok(),
        limits: HeadLimits {
            bytes: 512,
            fields: 10,
        },
    }
}

fn whose(value: &str) -> Seen {
    Seen::Whose(Some(Affinity::of_value(value.as_bytes())))
}

const NOBODY: Seen = Seen::Whose(None);

/// Looks at every beginning of `input`: nothing is seen before what is seen at last, which comes
/// with the byte behind `words`.
#[track_caller]
fn at_every_split(sought: &Sought<'_>, input: &str, words: &str, expected: Seen) {
    let decided = input.find(words).unwrap() + words.len();
    for end in 0..=input.len() {
        let seen = match end < decided {
            true => Seen::Partial,
            false => expected,
        };
        assert_eq!(
            sought.look(&input.as_bytes()[..end]),
            seen,
            "{input:?} to {end}"
        );
    }
}

#[test]
fn cookies_at_every_split() {
    let cookie = sought(What::Cookie("at"));
    let request =
        "\r\nGET /?at=w9 HTTP/1.1\r\nHost: x\r\nCookie: a=1; at=w3.x; at=w4\r\nX: y\r\n\r\nGET";
    at_every_split(&cookie, request, "at=w4\r\n", whose("w3.x"));
    assert!(matches!(
        whose("w3.x"),
        Seen::Whose(Some(Affinity::Place(2, _)))
    ));
    let second = "GET / HTTP/1.1\r\ncookie: At=w1\r\nHost: x\r\nCOOKIE:\t at = some one \r\n\r\n";
    at_every_split(&cookie, second, "one \r\n", whose("some one"));
    let without = "GET / HTTP/1.1\r\nHost: x\r\nXCookie: at=w1\r\nCookie: b=at=w1\r\n\r\n";
    at_every_split(&cookie, without, "\r\n\r\n", NOBODY);
    // In the body it is none.
    let body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nCookie: at=w1\r\n";
    at_every_split(&cookie, body, "\r\n\r\n", NOBODY);
}

#[test]
fn queries_at_every_split() {
    let query = sought(What::Query("s id"));
    let line = "GET /?a=w1&s+id=w2%2E7&s%20id=w3 HTTP/1.1\r\nHost: x\r\n\r\n";
    at_every_split(&query, line, "1.1\r\n", whose("w2.7"));
    let absolute = "\r\n\r\nGET http://y/?s%20id= HTTP/1.0\r\n\r\n";
    at_every_split(&query, absolute, "1.0\r\n", whose(""));
    for without in ["/", "/?", "/?sid=w1", "/s%20id=w1", "/?S+id=w1"] {
        let request = format!("GET {without} HTTP/1.1\r\nHost: x\r\nCookie: s id=w1\r\n\r\n");
        at_every_split(&query, &request, "1.1\r\n", NOBODY);
    }
}

#[test]
fn what_is_no_head_is_nobody_s() {
    for what in [What::Cookie("at"), What::Query("at")] {
        let sought = sought(what);
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(600));
        let many = format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(11));
        let bad = [
            "\0",
            "BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/3.0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\n\r\n",
            &long[..512],
            &long,
        ];
        for bad in bad {
            assert_eq!(sought.look(bad.as_bytes()), NOBODY, "{bad:?}");
        }
        assert_eq!(sought.look(&long.as_bytes()[..511]), Seen::Partial);
        assert_eq!(sought.look(many.as_bytes()), NOBODY);
    }
}

#[test]
fn behind_proxies_at_every_split() {
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";
    let by_ip = |ip: &str| Seen::Whose(Some(Affinity::of_ip(ip.parse().unwrap())));
    let behind = |what| Sought {
        announced: true,
        ..sought(what)
    };
    let client = behind(What::Client);
    at_every_split(
        &client,
        &format!("{header}GET"),
        "80\r\n",
        by_ip("192.0.2.1"),
    );
    let unknown = "PROXY UNKNOWN\r\n";
    at_every_split(&client, unknown, "\r\n", by_ip("192.0.2.9"));
    let request = "GET /?at=w2 HTTP/1.1\r\nHost: x\r\nCookie: at=w3\r\n\r\n";
    let all = format!("{header}{request}");
    at_every_split(&behind(What::Cookie("at")), &all, "at=w3\r\n", whose("w3"));
    at_every_split(&behind(What::Query("at")), &all, "1.1\r\n", whose("w2"));
    for what in [What::Client, What::Cookie("at"), What::Query("at")] {
        assert_eq!(behind(what).look(request.as_bytes()), NOBODY, "no header");
    }
    // Version 2: a client, the proxy itself, and a unix socket's other end.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 1, 192, 0, 2, 2, 1, 1, 0, 80]);
    for end in 0..header.len() {
        assert_eq!(client.look(&header[..end]), Seen::Partial);
    }
    assert_eq!(client.look(&header), by_ip("192.0.2.1"));
    let whole = [&header, request.as_bytes()].concat();
    assert_eq!(behind(What::Cookie("at")).look(&whole), whose("w3"));
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    assert_eq!(client.look(local), by_ip("192.0.2.9"));
    let mut unix = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8".to_vec();
    unix.extend([0; 216]);
    assert_eq!(client.look(&unix), NOBODY);
}

#[cfg(feature = "programs")]
#[test]
fn ids_that_programs_have_made_are_whose_they_are_known_to_be() {
    let mut owned = Owned::default();
    owned.learn(b"abc", 5);
    let sought = Sought {
        owned: &owned,
        ..sought(What::Query("sid"))
    };
    let mine = Seen::Whose(Some(Affinity::of_owned(b"abc", 5)));
    at_every_split(
        &sought,
        "GET /?sid=abc HTTP/1.1\r\nHost: x\r\n\r\n",
        "1.1\r\n",
        mine,
    );
    let request = "GET /?sid=abd HTTP/1.1\r\nHost: x\r\n\r\n";
    at_every_split(&sought, request, "1.1\r\n", whose("abd"));
}
