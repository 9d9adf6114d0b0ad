//! Ranges, preconditions and codings wanted: fields that files are asked for with. The first eight bytes are the length
//! of the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::{
    AcceptEncoding, Coding, Conditions, ETag, MAX_RANGES, Method, Ranges, Validators, Verdict,
    ranges,
};
use std::time::{Duration, SystemTime};

fuzz_target!(|data: &[u8]| {
    let Some((length, value)) = data.split_first_chunk::<8>() else {
        return;
    };
    let length = u64::from_le_bytes(*length);
    // Of a usual size, and of any.
    for length in [length % 100, length] {
        for value in [value, &[b"bytes=", value].concat()] {
            check_ranges(value, length);
        }
    }
    conditions(value);
});

fn check_ranges(value: &[u8], length: u64) {
    let found = match ranges(value, length) {
        Ranges::Whole | Ranges::Unsatisfiable => return,
        Ranges::One(one) => vec![one],
        Ranges::Several(several) => {
            assert!((2..=MAX_RANGES).contains(&several.len()));
            several
        }
    };
    let mut sorted = found.clone();
    sorted.sort_by_key(|range| range.start);
    let mut end = None;
    for range in sorted {
        assert!(range.length > 0 && range.end() <= length);
        assert!(end.is_none_or(|end| range.start > end), "{found:?}");
        end = Some(range.end());
    }
}

fn conditions(data: &[u8]) {
    const NAMES: [&str; 6] = [
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "range",
        "if-range",
    ];
    let lines = data.split(|&b| b == b'\n').take(20);
    let fields: Vec<_> = lines
        .filter_map(|line| line.split_first())
        .map(|(&name, value)| (NAMES[usize::from(name) % NAMES.len()], value))
        .collect();
    let tag = ETag::strong("v1").expect("a tag");
    let current = Validators {
        etag: Some(&tag),
        modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
    };
    let conditions = Conditions::of(fields.iter().copied());
    for method in Method::ALL {
        let verdict = conditions.judge(method, current);
        let reads = matches!(method, Method::Get | Method::Head);
        assert!(reads || verdict != Verdict::NotModified);
        if let Some(range) = conditions.range(method, current) {
            assert_eq!(method, Method::Get);
            check_ranges(range, 10);
        }
    }
    let accepts = AcceptEncoding::of(fields.iter().map(|&(_, value)| value));
    let chosen = accepts.choose(&Coding::CODED);
    assert!(chosen == Coding::Identity || accepts.weight(chosen) > 0);
}
