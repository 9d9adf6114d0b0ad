//! Ranges: the grammar by examples, and that no field makes more of a representation than there is.

use super::super::range::{
    ByteRange, MAX_RANGES, Ranges, content_range, ranges, unsatisfied_range,
};
use proptest::prelude::*;

/// `start-end/start-end`, or a word.
fn of(value: &str, length: u64) -> String {
    let text = |range: &ByteRange| format!("{}-{}", range.start, range.end());
    match ranges(value.as_bytes(), length) {
        Ranges::Whole => "whole".to_owned(),
        Ranges::Unsatisfiable => "none".to_owned(),
        Ranges::One(range) => text(&range),
        Ranges::Several(several) => several.iter().map(text).collect::<Vec<_>>().join(" "),
    }
}

#[test]
fn single_ranges() {
    for (value, expected) in [
        ("bytes=0-0", "0-1"),
        ("bytes=0-9", "0-10"),
        ("bytes=0-10", "0-10"),
        ("bytes=3-", "3-10"),
        ("bytes=9-", "9-10"),
        ("bytes=-1", "9-10"),
        ("bytes=-10", "0-10"),
        ("bytes=-11", "0-10"),
        ("BYTES=2-3", "2-4"),
        ("bytes=002-003", "2-4"),
        ("bytes= 2-3 ", "2-4"),
        ("bytes=,\t2-3,,", "2-4"),
        // Numbers are clamped and do not wrap.
        ("bytes=5-18446744073709551615", "5-10"),
        ("bytes=5-18446744073709551616", "5-10"),
        ("bytes=5-18446744073709551621", "5-10"),
        ("bytes=-340282366920938463463374607431768211456", "0-10"),
        ("bytes=4294967296-", "none"),
        ("bytes=18446744073709551616-", "none"),
        ("bytes=18446744073709551616-18446744073709551617", "none"),
        ("bytes=10-", "none"),
        ("bytes=10-20", "none"),
        ("bytes=-0", "none"),
        ("bytes=-0,10-", "none"),
    ] {
        assert_eq!(of(value, 10), expected, "{value}");
    }
}

#[test]
fn what_is_no_range_is_ignored() {
    for value in [
        "",
        "bytes",
        "bytes=",
        "bytes= ",
        "bytes=,",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=a-b",
        "bytes=1-a",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=0-1;2-3",
        "bytes=0 - 1",
        "bytes =0-1",
        "bytes:0-1",
        "byte=0-1",
        "lines=0-1",
        "none",
        " bytes=0-1",
        "bytes=0-1 2-3",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1--2",
        "bytes=0-1,x",
        "bytes=1.0-2",
        "bytes=0-1, bytes=2-3",
    ] {
        assert_eq!(of(value, 10), "whole", "{value:?}");
    }
}

#[test]
fn several_ranges() {
    for (value, expected) in [
        ("bytes=0-1,4-5", "0-2 4-6"),
        ("bytes=4-5,0-1", "4-6 0-2"),
        ("bytes=-1,0-0", "9-10 0-1"),
        ("bytes=0-1 , 4-5", "0-2 4-6"),
        ("bytes=0-1,2-3", "0-4"),
        ("bytes=2-3,0-1", "0-4"),
        ("bytes=0-5,3-8", "0-9"),
        ("bytes=0-,-1,5-", "0-10"),
        ("bytes=8-8,0-0,4-4,1-3", "8-9 0-5"),
        ("bytes=0-0,2-2,1-1", "0-3"),
        ("bytes=0-1,20-30", "0-2"),
        ("bytes=20-30,0-1", "0-2"),
        ("bytes=0-1,0-1,0-1", "0-2"),
    ] {
        assert_eq!(of(value, 10), expected, "{value}");
    }
}

#[test]
fn nothing_at_all() {
    assert_eq!(of("bytes=0-", 0), "none");
    assert_eq!(of("bytes=0-0", 0), "none");
    assert_eq!(of("bytes=-0", 0), "none");
    // Satisfiable, but nothing could say which bytes they are.
    assert_eq!(of("bytes=-5", 0), "whole");
}

#[test]
fn too_many_are_ignored() {
    let many = |count: u64| {
        let each: Vec<_> = (0..count).map(|n| format!("{}-{}", 2 * n, 2 * n)).collect();
        format!("bytes={}", each.join(","))
    };
    match ranges(many(MAX_RANGES as u64).as_bytes(), 1000) {
        Ranges::Several(several) => assert_eq!(several.len(), MAX_RANGES),
        other => panic!("{other:?}"),
    }
    assert_eq!(of(&many(MAX_RANGES as u64 + 1), 1000), "whole");
    assert_eq!(of(&format!("bytes=0-1{}", ",".repeat(5000)), 10), "whole");
}

#[test]
fn values_of_content_range() {
    let mut out = Vec::new();
    content_range(
        &mut out,
        ByteRange {
            start: 2,
            length: 3,
        },
        10,
    );
    out.push(b' ');
    unsatisfied_range(&mut out, 0);
    assert_eq!(out, b"bytes 2-4/10 bytes */0");
}

/// A value that is nearly a Range.
fn value() -> impl Strategy<Value = String> {
    let position = prop_oneof![0..30_u64, any::<u64>()];
    let spec = prop_oneof![
        (position.clone(), position.clone()).prop_map(|(a, b)| format!("{a}-{b}")),
        position.clone().prop_map(|n| format!("{n}-")),
        position.prop_map(|n| format!("-{n}")),
        "[-0-9, ]{0,6}",
    ];
    prop::collection::vec(spec, 0..8).prop_map(|specs| format!("bytes={}", specs.join(",")))
}

proptest! {
    #[test]
    fn parts_lie_apart_and_inside(value in value(), length in 0..40_u64) {
        let several = match ranges(value.as_bytes(), length) {
            Ranges::Whole | Ranges::Unsatisfiable => Vec::new(),
            Ranges::One(range) => vec![range],
            Ranges::Several(several) => {
                prop_assert!(several.len() > 1);
                several
            }
        };
        for (at, range) in several.iter().enumerate() {
            prop_assert!(range.length > 0 && range.end() <= length);
            for other in &several[at + 1..] {
                prop_assert!(range.end() < other.start || other.end() < range.start);
            }
        }
    }

    #[test]
    fn every_byte_that_was_asked_for_and_no_other(
        asked in prop::collection::vec((0..30_u64, 0..10_u64), 1..12),
        length in 1..40_u64,
    ) {
        let specs: Vec<_> = asked.iter().map(|(start, more)| format!("{start}-{}", start + more)).collect();
        let value = format!("bytes={}", specs.join(","));
        let several = match ranges(value.as_bytes(), length) {
            Ranges::Unsatisfiable => Vec::new(),
            Ranges::One(range) => vec![range],
            Ranges::Several(several) => several,
            Ranges::Whole => return Err(TestCaseError::fail("ignored")),
        };
        for byte in 0..length {
            let wanted = asked.iter().any(|(start, more)| (*start..=start + more).contains(&byte));
            let got = several.iter().any(|range| (range.start..range.end()).contains(&byte));
            prop_assert_eq!(wanted, got, "byte {}", byte);
        }
    }

    #[test]
    fn no_bytes_panic(value in prop::collection::vec(any::<u8>(), 0..40), length in any::<u64>()) {
        let _ = ranges(&value, length);
        let _ = ranges(&[b"bytes=", &value[..]].concat(), length);
    }
}
