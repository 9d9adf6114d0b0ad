//! Properties: requests made at random are read back as they were made, however they are cut.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::grammar::trim_ows;
use super::super::{Framing, Method, chunk, field, is_field_value, is_token, last_chunk};
use super::{End, Outcome, plain, read_all, read_pieces};

/// One request as it was meant.
#[derive(Clone, Debug)]
struct Meant {
    method: Method,
    path: String,
    query: Option<String>,
    host: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Length(bytes) => bytes.clone(),
            Self::Chunked(chunks) => chunks.concat(),
        }
    }

    fn framing(&self) -> Framing {
        match self {
            Self::None => Framing::None,
            Self::Length(bytes) => Framing::Length(bytes.len() as u64),
            Self::Chunked(_) => Framing::Chunked,
        }
    }
}

impl Meant {
    fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {} HTTP/1.1\r\n", self.method, self.target()).as_bytes());
        let (before, after) = self.fields.split_at(self.fields.len() / 2);
        for (name, value) in before {
            field(out, name, value);
        }
        field(out, "Host", self.host.as_bytes());
        for (name, value) in after {
            field(out, name, value);
        }
        match &self.body {
            Body::None => out.extend_from_slice(b"\r\n"),
            Body::Length(bytes) => {
                field(out, "Content-Length", bytes.len().to_string().as_bytes());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(bytes);
            }
            Body::Chunked(chunks) => {
                field(out, "Transfer-Encoding", b"chunked");
                out.extend_from_slice(b"\r\n");
                for data in chunks {
                    chunk(out, data);
                }
                last_chunk(out);
            }
        }
    }
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::None),
        vec(any::<u8>(), 0..200).prop_map(Body::Length),
        vec(vec(any::<u8>(), 0..60), 0..6).prop_map(Body::Chunked),
    ]
}

/// Names that mean nothing to the server.
fn name() -> impl Strategy<Value = String> {
    vec(
        proptest::sample::select(&b"!#$%&'*+-.^_`|~09azAZ"[..]),
        0..12,
    )
    .prop_map(|bytes| "x".to_owned() + &String::from_utf8_lossy(&bytes))
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8],
        0..50,
    )
    .prop_map(|bytes| bytes.trim_ascii().to_vec())
}

/// A byte, mostly a harmless one.
fn odd_byte() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0x20..=0x7e_u8, 2 => Just(b'a'), 1 => any::<u8>(), 1 => proptest::sample::select(&b"\r\n\t \0"[..])]
}

/// A text of the characters a path may hold without an escape.
fn text(most: usize) -> impl Strategy<Value = String> {
    vec(
        proptest::sample::select(&b"abcXYZ019/-._~!$&'()*+,;=:@"[..]),
        0..most,
    )
    .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn meant() -> impl Strategy<Value = Meant> {
    (
        proptest::sample::select(&Method::ALL[..]),
        text(40),
        proptest::option::of(text(40)),
        proptest::sample::select(&["a", "a.example:8080", "[::1]:3", "127.0.0.1", ""][..]),
        vec((name(), value()), 0..80),
        body(),
    )
        .prop_map(|(method, path, query, host, fields, body)| Meant {
            method,
            path: "/".to_owned() + &path,
            query,
            host: host.to_owned(),
            fields,
            body,
        })
}

fn check(meant: &[Meant], outcome: &Outcome) {
    assert_eq!(outcome.end, End::Between);
    assert_eq!(outcome.requests.len(), meant.len());
    for (meant, read) in meant.iter().zip(&outcome.requests) {
        assert_eq!((read.method, &read.target), (meant.method, &meant.target()));
        assert_eq!((&read.path, &read.query), (&meant.path, &meant.query));
        assert_eq!(read.host.as_deref(), Some(&meant.host[..]));
        assert_eq!(read.framing, meant.body.framing());
        assert_eq!(read.body, meant.body.bytes());
        let others: Vec<_> = read
            .fields
            .iter()
            .filter(|(name, _)| name.starts_with('x'))
            .collect();
        assert!(others.into_iter().eq(&meant.fields));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_meant_is_read_however_it_is_cut(
        meant in vec(meant(), 1..4),
        cuts in vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        for request in &meant {
            request.write(&mut bytes);
        }
        let whole = read_all(&bytes);
        check(&meant, &whole);
        plain::compare(&bytes);

        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut.index(rest.len() + 1));
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
        prop_assert_eq!(read_pieces(pieces), whole);
    }

    #[test]
    fn anything_at_all_is_read_the_same_however_it_is_cut(
        bytes in vec(any::<u8>(), 0..200),
        cut in any::<proptest::sample::Index>(),
    ) {
        plain::compare(&bytes);
        let (front, back) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(read_pieces([front, back]), read_all(&bytes));
    }

    #[test]
    fn a_field_of_any_bytes_is_read_back_if_and_only_if_it_is_good(
        name in vec(odd_byte(), 0..6),
        value in vec(odd_byte(), 0..12),
    ) {
        // Such bytes make two fields, or end the head; whether those are good is another question.
        let breaks = |bytes: &[u8]| bytes.windows(2).any(|pair| pair == b"\r\n");
        prop_assume!(!name.contains(&b':') && !breaks(&name) && !breaks(&value));
        let mut bytes = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        bytes.extend([&name[..], b":", &value, b"\r\n\r\n"].concat());
        plain::compare(&bytes);
        let trimmed = trim_ows(&value);
        let read = read_all(&bytes);
        if is_token(&name) && is_field_value(trimmed) {
            let (read_name, read_value) = &read.requests[0].fields[1];
            prop_assert_eq!((read_name.as_bytes(), &read_value[..]), (&name[..], trimmed));
        } else {
            prop_assert!(matches!(read.end, End::Refused(_)));
        }
    }
}
