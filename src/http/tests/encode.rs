//! Writing: what is written is what the other modules, and the RFC's examples, read.

use super::super::{
    ChunkedDecoder, chunk, content_length, decimal, field, has_no_body, is_field_value, is_token,
    last_chunk, reason, status_line,
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"|".to_vec();
    write(&mut out);
    String::from_utf8(out).expect("ASCII was written")
}

#[test]
fn status_lines_have_a_phrase_or_its_space() {
    assert_eq!(written(|out| status_line(out, 200)), "|HTTP/1.1 200 OK\r\n");
    assert_eq!(written(|out| status_line(out, 299)), "|HTTP/1.1 299 \r\n");
    for status in 100..=999 {
        let expected = format!("|HTTP/1.1 {status} {}\r\n", reason(status));
        assert_eq!(written(|out| status_line(out, status)), expected);
    }
}

#[test]
fn numbers_are_written_as_fmt_would() {
    for n in [0, 1, 9, 10, 99, 100, 12_345, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(written(|out| decimal(out, n)), format!("|{n}"));
        assert_eq!(
            written(|out| content_length(out, n)),
            format!("|Content-Length: {n}\r\n")
        );
    }
}

#[test]
fn fields_and_chunks() {
    assert_eq!(written(|out| field(out, "A", b"b c")), "|A: b c\r\n");
    assert_eq!(written(|out| field(out, "A", b"")), "|A: \r\n");
    assert_eq!(written(|out| chunk(out, b"")), "|");
    assert_eq!(
        written(|out| chunk(out, b"0123456789abcdef")),
        "|10\r\n0123456789abcdef\r\n"
    );
    assert_eq!(written(last_chunk), "|0\r\n\r\n");
}

#[test]
fn chunks_are_read_back() {
    for size in [1, 9, 15, 16, 255, 256, 70_000] {
        let data = vec![b'x'; size];
        let mut out = Vec::new();
        chunk(&mut out, &data);
        last_chunk(&mut out);
        let mut body = Vec::new();
        let answer = ChunkedDecoder::new(100_000).decode(&out, &mut body);
        assert_eq!(answer, Ok((out.len(), true)));
        assert_eq!(body, data);
    }
}

#[test]
fn some_statuses_have_no_body() {
    let without: Vec<u16> = (100..600).filter(|&status| has_no_body(status)).collect();
    let expected: Vec<u16> = (100..200).chain([204, 304]).collect();
    assert_eq!(without, expected);
}

#[test]
fn names_and_values_are_checked_byte_by_byte() {
    for b in 0..=255_u8 {
        let tchar = b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        assert_eq!(is_token(&[b'a', b]), tchar, "{b:#x}");
        let value_byte = matches!(b, b'\t' | 0x20..=0x7e | 0x80..);
        assert_eq!(is_field_value(&[b'a', b, b'a']), value_byte, "{b:#x}");
    }
    assert!(!is_token(b"") && is_field_value(b""));
    for value in [
        &b" a"[..],
        b"a ",
        b"\ta",
        b"a\t",
        b" ",
        b"a\r\n b",
        b"a\r\nB: c",
    ] {
        assert!(!is_field_value(value), "{value:?}");
    }
}
