//! Bytes as they come, into lines.

use serde::{Deserialize, Serialize};

/// The longest line that is passed on whole; a longer one goes on in pieces.
pub(super) const LONGEST: usize = 8 * 1024;

/// What has come of one stream's last line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::primary::program) struct Lines {
    rest: Vec<u8>,
    /// Pieces of that line have been passed on.
    begun: bool,
}

impl Lines {
    /// Passes on the lines that `bytes` complete, without their ends: LF, or CR LF. All other bytes
    /// are left as they are.
    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = &bytes[from..end];
            from = end + 1;
            if self.rest.is_empty() {
                self.line(line, each);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole, each);
            }
        }
        self.rest.extend_from_slice(&bytes[from..]);
        let mut done = 0;
        while self.rest.len() - done > LONGEST {
            let end = done + cut(&self.rest[done..]);
            each(&self.rest[done..end]);
            self.begun = true;
            done = end;
        }
        self.rest.drain(..done);
        self.rest.shrink_to(LONGEST);
    }

    /// Nothing more comes: a line without an end is one too.
    pub(super) fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest, each);
        }
    }

    fn line(&mut self, mut line: &[u8], each: &mut impl FnMut(&[u8])) {
        let mut begun = std::mem::take(&mut self.begun);
        while line.len() > LONGEST {
            let (piece, rest) = line.split_at(cut(line));
            each(piece);
            (line, begun) = (rest, true);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // What ends where a piece ended has been passed on.
        if !(begun && line.is_empty()) {
            each(line);
        }
    }
}

/// Where to cut a line that is too long: not within a character, if it is text.
fn cut(line: &[u8]) -> usize {
    let begins = |at: &usize| line[*at] & 0b1100_0000 != 0b1000_0000;
    let near = (LONGEST - 3..=LONGEST).rev().find(begins);
    near.unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut each = |line: &[u8]| found.push(line.to_vec());
        for piece in pieces {
            lines.feed(piece, &mut each);
        }
        lines.end(&mut each);
        found
    }

    #[test]
    fn lines_are_the_same_wherever_they_are_cut() {
        let text = b"one\n\ntwo\r\n\x1b[31mred\x1b[0m\r50%\r100%\n\xff\xfe\0\r\r\nlast";
        let expected: [&[u8]; 6] = [
            b"one",
            b"",
            b"two",
            b"\x1b[31mred\x1b[0m\r50%\r100%",
            b"\xff\xfe\0\r",
            b"last",
        ];
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(lines(pieces), expected, "cut at {first} and {second}");
            }
        }
        assert_eq!(lines([&b"a\n"[..]]), [b"a"]);
        assert!(lines([&b""[..]]).is_empty());
    }

    #[test]
    fn long_lines_go_on_in_pieces() {
        for (length, end) in [
            LONGEST - 1,
            LONGEST,
            LONGEST + 1,
            3 * LONGEST,
            3 * LONGEST + 5,
        ]
        .into_iter()
        .flat_map(|length| [(length, "\n"), (length, "\r\n"), (length, "")])
        {
            let text = [&b"x".repeat(length)[..], end.as_bytes(), b"next\n"].concat();
            let text = if end.is_empty() {
                &text[..length]
            } else {
                &text
            };
            let expected = lines([text]);
            assert_eq!(
                expected.concat().len(),
                length + 4 * usize::from(!end.is_empty())
            );
            assert!(
                expected
                    .iter()
                    .all(|line| !line.is_empty() && line.len() <= LONGEST)
            );
            for piece in [1000, 8191, 8192, 8193, 20_000] {
                assert_eq!(lines(text.chunks(piece)), expected, "{length} in {piece}");
            }
        }
    }

    #[test]
    fn a_character_is_not_cut() {
        for shift in 0..4 {
            let text = "a".repeat(shift) + &"\u{1F980}".repeat(LONGEST);
            let pieces = lines([text.as_bytes()]);
            assert!(pieces.iter().all(|one| std::str::from_utf8(one).is_ok()));
            assert_eq!(pieces.concat(), text.as_bytes());
        }
        let nonsense = vec![0x80; 2 * LONGEST];
        assert_eq!(lines([&nonsense[..]]).len(), 2);
    }

    #[test]
    fn what_waits_for_its_end_is_bounded() {
        let mut kept = Lines::default();
        for _ in 0..100 {
            kept.feed(&[b'x'; 65_536], &mut |_| {});
            assert!(kept.rest.len() <= LONGEST && kept.rest.capacity() <= 2 * LONGEST);
        }
    }
}
