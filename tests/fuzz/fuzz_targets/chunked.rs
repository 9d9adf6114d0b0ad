//! Chunked bodies: the same answer however they are cut. The first two bytes say where.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::http::{ChunkedDecoder, Error, MAX_TRAILER_FIELDS, is_field_value, is_token};

const MAX_BODY: u64 = 512;

type Outcome = (
    Vec<u8>,
    Result<(usize, bool), Error>,
    Vec<(String, Vec<u8>)>,
);

fn read<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Outcome {
    let mut decoder = ChunkedDecoder::new(MAX_BODY);
    let mut body = Vec::new();
    let mut sum = 0;
    for piece in pieces {
        match decoder.decode(piece, &mut body) {
            Ok((used, done)) => {
                sum += used;
                assert!(done || used == piece.len(), "input left lying");
                assert_eq!(decoder.received(), body.len() as u64);
                if done {
                    assert_eq!(decoder.decode(b"x", &mut body), Ok((0, true)));
                    return (body, Ok((sum, true)), decoder.trailers().to_vec());
                }
            }
            Err(error) => {
                assert!(matches!(error.status(), 400 | 413 | 431));
                assert_eq!(decoder.decode(b"0\r\n\r\n", &mut body), Err(error));
                return (body, Err(error), Vec::new());
            }
        }
    }
    (body, Ok((sum, false)), decoder.trailers().to_vec())
}

fuzz_target!(|data: &[u8]| {
    let [first, second, data @ ..] = data else {
        return;
    };
    let whole = read([data]);
    assert!(whole.0.len() as u64 <= MAX_BODY && whole.0.len() <= data.len());
    assert!(whole.2.len() <= MAX_TRAILER_FIELDS);
    for (name, value) in &whole.2 {
        assert!(is_token(name.as_bytes()) && is_field_value(value));
    }
    let at = |byte: u8| usize::from(byte) * data.len() / 255;
    let (a, b) = (at(*first).min(at(*second)), at(*first).max(at(*second)));
    assert_eq!(read([&data[..a], &data[a..b], &data[b..]]), whole);
    assert_eq!(read(data.chunks(1)), whole);
});
