//! The chunked decoder alone: how much it takes, when it refuses, and what it keeps.

use super::super::{
    ChunkedDecoder, Error, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES, MAX_TRAILER_FIELDS,
};

/// The body and the bytes used, whole and byte by byte, which must agree.
fn decode(input: &[u8], max_body: u64) -> Result<(Vec<u8>, usize, bool), Error> {
    let mut body = Vec::new();
    let whole = ChunkedDecoder::new(max_body)
        .decode(input, &mut body)
        .map(|(used, done)| (body, used, done));
    let mut decoder = ChunkedDecoder::new(max_body);
    let mut body = Vec::new();
    let mut by_byte = Ok((Vec::new(), 0, false));
    let mut used = 0;
    for byte in input {
        match decoder.decode(&[*byte], &mut body) {
            Ok((n, done)) => {
                used += n;
                by_byte = Ok((body.clone(), used, done));
            }
            Err(error) => by_byte = Err(error),
        }
    }
    assert_eq!(whole, by_byte);
    whole
}

fn status(input: &[u8], max_body: u64) -> u16 {
    decode(input, max_body).map_or_else(|error| error.status(), |_| 0)
}

#[test]
fn bytes_after_the_body_are_left() {
    let answer = decode(b"3\r\nabc\r\n0\r\n\r\nGET", 10);
    assert_eq!(answer, Ok((b"abc".to_vec(), 13, true)));
}

#[test]
fn a_finished_decoder_takes_nothing_more() {
    let mut decoder = ChunkedDecoder::new(10);
    let mut body = Vec::new();
    assert_eq!(decoder.decode(b"0\r\n\r\n", &mut body), Ok((5, true)));
    assert_eq!(decoder.decode(b"1\r\na", &mut body), Ok((0, true)));
    assert_eq!((body.len(), decoder.received()), (0, 0));
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = ChunkedDecoder::new(10);
    let mut body = Vec::new();
    let error = decoder.decode(b"x", &mut body);
    assert!(error.is_err());
    assert_eq!(decoder.decode(b"0\r\n\r\n", &mut body), error);
}

#[test]
fn the_limit_is_the_sum_of_the_sizes() {
    assert_eq!(status(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 5), 0);
    assert_eq!(status(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 4), 413);
    assert_eq!(status(b"0\r\n\r\n", 0), 0);
    // Announced is enough; and a size not yet whole is not.
    assert_eq!(status(b"6\r", 5), 413);
    assert_eq!(status(b"6;", 5), 413);
    assert_eq!(status(b"ffff", 5), 0);
    assert_eq!(status(b"ffffffffffffffff\r\n", u64::MAX), 0);
    assert_eq!(status(b"1\r\na\r\nffffffffffffffff\r\n", u64::MAX), 413);
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let lines = |n: usize| {
        let mut input = Vec::new();
        for _ in 0..n {
            input.extend_from_slice(b"1;ab\r\nx\r\n");
        }
        input
    };
    let most = MAX_EXTENSION_BYTES / 3;
    assert_eq!(status(&lines(most), 10_000), 0);
    assert_eq!(status(&lines(most + 1), 10_000), 400);
}

#[test]
fn trailers_are_kept_in_order_and_trimmed() {
    let mut decoder = ChunkedDecoder::new(10);
    let mut body = Vec::new();
    let input = b"0\r\nB: 1\r\na:\t2 \r\nHost: x\r\nb:\r\n\r\n";
    assert_eq!(decoder.decode(input, &mut body), Ok((input.len(), true)));
    let kept = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    assert_eq!(
        decoder.trailers(),
        [kept("B", b"1"), kept("a", b"2"), kept("b", b"")]
    );
}

#[test]
fn trailers_are_bounded() {
    let section = |lines: &[u8]| [b"0\r\n", lines, b"\r\n"].concat();
    let fill = MAX_TRAILER_BYTES - "X: \r\n".len();
    let line = |n: usize| [b"X: ", &b"a".repeat(n)[..], b"\r\n"].concat();
    assert_eq!(status(&section(&line(fill)), 0), 0);
    assert_eq!(status(&section(&line(fill + 1)), 0), 431);
    assert_eq!(
        status(&section(&b"X:\r\n".repeat(MAX_TRAILER_FIELDS)), 0),
        0
    );
    assert_eq!(
        status(&section(&b"X:\r\n".repeat(MAX_TRAILER_FIELDS + 1)), 0),
        431
    );
}
