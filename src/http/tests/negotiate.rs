//! Accept-Encoding: who wins.

use super::super::negotiate::{AcceptEncoding, Coding};
use proptest::prelude::*;

fn choose(value: &str) -> Coding {
    AcceptEncoding::of([value.as_bytes()]).choose(&Coding::CODED)
}

#[test]
fn what_the_client_wants_most() {
    use Coding::{Brotli, Gzip, Identity, Zstd};
    for (value, expected) in [
        ("", Identity),
        ("gzip", Gzip),
        ("GZIP", Gzip),
        ("x-gzip", Gzip),
        ("gzip, deflate, br, zstd", Brotli),
        ("gzip, zstd", Zstd),
        ("gzip;q=1.0, br;q=0.9", Gzip),
        ("gzip ; q=0.001", Gzip),
        ("gzip;Q=0.5,br;q=0.4", Gzip),
        ("br;q=0, zstd;q=0.0, gzip;q=0.000", Identity),
        ("*", Brotli),
        ("*, br;q=0", Zstd),
        ("*;q=0, gzip", Gzip),
        ("*;q=0", Identity),
        ("*;q=0.5, gzip;q=0.6", Gzip),
        ("identity", Identity),
        ("identity, gzip", Gzip),
        ("identity;q=1, gzip;q=0.5", Identity),
        ("identity;q=0.5, gzip;q=0.5", Gzip),
        ("identity;q=0", Identity),
        ("deflate, compress", Identity),
        // Malformed members are as good as absent.
        ("gzip;q=2", Identity),
        ("gzip;q=1.001", Identity),
        ("gzip;q=0.1234", Identity),
        ("gzip;q=.5", Identity),
        ("gzip;q=-1", Identity),
        ("gzip;q=", Identity),
        ("gzip;q=0.5;q=1", Identity),
        ("gzip;level=1", Identity),
        ("gzip;q = 1", Identity),
        ("g zip", Identity),
        ("gzip;", Identity),
        ("br;q=x, gzip", Gzip),
        (",,gzip,,", Gzip),
        ("gzip;q=1., br;q=0.", Gzip),
        // The first word counts.
        ("gzip;q=0, gzip", Identity),
    ] {
        assert_eq!(choose(value), expected, "{value:?}");
    }
}

#[test]
fn what_there_is() {
    let accepts = AcceptEncoding::of([&b"br"[..], b"gzip;q=0.5"]);
    assert_eq!(accepts.choose(&[]), Coding::Identity);
    assert_eq!(accepts.choose(&[Coding::Gzip]), Coding::Gzip);
    assert_eq!(accepts.choose(&[Coding::Zstd, Coding::Gzip]), Coding::Gzip);
    assert_eq!(accepts.weight(Coding::Gzip), 500);
    assert_eq!(
        AcceptEncoding::of([]).choose(&Coding::CODED),
        Coding::Identity
    );
}

proptest! {
    #[test]
    fn nothing_that_was_refused(value in "[a-z*;=0-9., -]{0,40}|((br|gzip|zstd|\\*|identity)(;q=[01](\\.[0-9]{0,3})?)?,){0,6}") {
        let accepts = AcceptEncoding::of([value.as_bytes()]);
        let chosen = accepts.choose(&Coding::CODED);
        prop_assert!(chosen == Coding::Identity || accepts.weight(chosen) > 0);
        for coding in Coding::CODED {
            prop_assert!(chosen == Coding::Identity || accepts.weight(coding) <= accepts.weight(chosen));
        }
    }
}
