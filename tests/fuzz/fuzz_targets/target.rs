//! Request targets, and what they carry: paths, escapes, queries, authorities.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::{Head, HeadLimits, Parsed, percent_decode, query_pairs};

fn parse(head: &mut Head, method: &str, target: &[u8]) -> bool {
    let lines = [
        method.as_bytes(),
        b" ",
        target,
        b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    .concat();
    head.parse(&lines, &HeadLimits::default()) == Ok(Parsed::Complete(lines.len()))
}

fuzz_target!(|data: &[u8]| {
    let mut head = Head::new();
    for method in ["GET", "OPTIONS"] {
        // A target that ends the line and begins another is the head's matter.
        if data.contains(&b'\n') || !parse(&mut head, method, data) {
            continue;
        }
        assert_eq!(head.target().as_bytes(), data);
        let path = head.path().to_owned();
        assert!(path.starts_with('/') || (path == "*" && method == "OPTIONS"));
        assert!(percent_decode(&path).is_some());
        for (name, value) in query_pairs(head.query().unwrap_or_default()) {
            assert!(name.len() + value.len() <= 3 * data.len());
        }
        let host = head.host().expect("HTTP/1.1 has one").to_owned();
        assert!(!host.contains(['@', '/', '?', '#', '\\', ' ']));
        let query = head.query().map(str::to_owned);
        // What was decoded stays as it is, and is a target itself.
        let mut again = Head::new();
        let target = match &query {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        assert!(parse(&mut again, method, target.as_bytes()), "{target}");
        assert_eq!((again.path(), again.query()), (&*path, query.as_deref()));
    }
    if let Ok(text) = str::from_utf8(data) {
        let _ = percent_decode(text);
        assert!(query_pairs(text).count() <= data.len().div_ceil(2).max(1));
    }
});
