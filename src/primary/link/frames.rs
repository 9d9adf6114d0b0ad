//! Where a value of Redis ends: cuts what comes into whole ones, each byte looked at once.
//!
//! Owns the bounds of a value, which are judged by its heads before anything is kept of it: nothing
//! that is asked for is large but the bytes of a message. What a value means is the crate's to say.

use crate::ipc::user::MAX_MESSAGE;

/// The largest value: a message with its origin, and what stands around it.
pub(super) const MOST_VALUE: usize = MAX_MESSAGE + 64 * 1024;

/// The longest line: what a number or an error is.
const MOST_LINE: usize = 4096;

/// Elements of one value, those of its elements included. The greatest is the answer to HELLO, with
/// a few words about each module.
const MOST_ELEMENTS: usize = 2048;

/// Aggregates within each other: modules in that answer have lists of words.
const MOST_DEPTH: usize = 8;

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The rest of a line that began here.
    Line(usize),
    /// So many bytes, the end of their line included.
    Bytes(usize),
}

/// The value that is arriving.
#[derive(Debug)]
pub(super) struct Frames {
    /// What has come of it.
    value: Vec<u8>,
    next: Next,
    /// Aggregates that have begun, and how many elements each lacks.
    open: Vec<usize>,
    elements: usize,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            value: Vec::new(),
            next: Next::Line(0),
            open: Vec::new(),
            elements: 0,
        }
    }

    /// What has come of a value that is not complete.
    pub(super) fn partial(&self) -> &[u8] {
        &self.value
    }

    /// Takes of `bytes` what belongs to the value that is arriving; gives it once it is complete.
    ///
    /// # Errors
    ///
    /// In words, when it can be none that was asked for.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, String> {
        loop {
            let over = match self.next {
                Next::Line(begin) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    self.take(bytes, end.map_or(bytes.len(), |at| at + 1));
                    if self.value.len() - begin > MOST_LINE {
                        return Err(format!("a line of more than {MOST_LINE} bytes"));
                    }
                    if end.is_none() {
                        return Ok(None);
                    }
                    self.line(begin)?
                }
                Next::Bytes(count) => {
                    let now = count.min(bytes.len());
                    self.take(bytes, now);
                    self.next = Next::Bytes(count - now);
                    if now < count {
                        return Ok(None);
                    }
                    self.next = Next::Line(self.value.len());
                    true
                }
            };
            if over && self.is_complete() {
                let value = std::mem::replace(self, Self::new()).value;
                return Ok(Some(value));
            }
        }
    }

    fn take(&mut self, bytes: &mut &[u8], count: usize) {
        let (taken, rest) = bytes.split_at(count);
        self.value.extend_from_slice(taken);
        *bytes = rest;
    }

    /// A line is complete. Whether something ends with it.
    fn line(&mut self, begin: usize) -> Result<bool, String> {
        let nonsense = || Err("it says what is not the protocol of Redis".to_owned());
        let line = &self.value[begin..];
        let (Some(kind), Some(rest)) = (line.first(), line.get(1..line.len().saturating_sub(2)))
        else {
            return nonsense();
        };
        let number = std::str::from_utf8(rest).ok();
        let number = number.and_then(|text| text.parse::<i64>().ok());
        let kind = *kind;
        self.next = Next::Line(self.value.len());
        self.elements += 1;
        if self.elements > MOST_ELEMENTS {
            return Err(format!("an answer of more than {MOST_ELEMENTS} elements"));
        }
        match (kind, number) {
            (b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(', _) => Ok(true),
            (b'$' | b'*', Some(-1)) => Ok(true),
            (b'$' | b'!' | b'=', Some(length)) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > MOST_VALUE.saturating_sub(self.value.len()) {
                    return Err(format!("an answer of more than {MOST_VALUE} bytes"));
                }
                self.next = Next::Bytes(length + 2);
                Ok(false)
            }
            (b'*' | b'~' | b'>' | b'%' | b'|', Some(count)) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                if count > MOST_ELEMENTS || self.open.len() == MOST_DEPTH {
                    return Err("an answer of more parts than anybody asked for".to_owned());
                }
                let count = match kind {
                    b'%' => 2 * count,
                    // Behind an attribute stands what it is of.
                    b'|' => 2 * count + 1,
                    _ => count,
                };
                if count > 0 {
                    self.open.push(count);
                }
                Ok(count == 0)
            }
            _ => nonsense(),
        }
    }

    /// One element is complete. Whether all are.
    fn is_complete(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_values_are_cut_out_wherever_they_are_split() {
        let values: [&[u8]; 9] = [
            b"+OK\r\n",
            b":7\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"$0\r\n\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$-1\r\n",
            b"%2\r\n+a\r\n*2\r\n:1\r\n:2\r\n+b\r\n_\r\n",
            b"|1\r\n+a\r\n+b\r\n:1\r\n",
            b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n",
        ];
        let stream = values.concat();
        for cut in 0..=stream.len() {
            let mut frames = Frames::new();
            let mut found = Vec::new();
            for mut part in [&stream[..cut], &stream[cut..]] {
                while let Some(value) = frames.next(&mut part).unwrap() {
                    assert!(redis::parse_redis_value(&value).is_ok(), "{value:?}");
                    found.push(value);
                }
                assert!(part.is_empty());
            }
            assert_eq!(found, values, "cut at {cut}");
            assert!(frames.partial().is_empty());
        }
    }

    #[test]
    fn what_is_too_much_is_refused_by_its_head() {
        let absurd: [Vec<u8>; 9] = [
            b"$9223372036854775807\r\n".to_vec(),
            b"$99999999999999999999\r\n".to_vec(),
            b"*9223372036854775807\r\n".to_vec(),
            b">1000000000\r\n".to_vec(),
            b"%4611686018427387903\r\n".to_vec(),
            format!("*{}\r\n", MOST_ELEMENTS + 1).into_bytes(),
            b"*1\r\n".repeat(MOST_DEPTH + 1),
            vec![b'+'; MOST_LINE + 1],
            [
                &b"*2000\r\n"[..],
                &b"*2000\r\n".repeat(2),
                &b":1\r\n".repeat(MOST_ELEMENTS),
            ]
            .concat(),
        ];
        for bytes in absurd {
            let mut frames = Frames::new();
            assert!(frames.next(&mut &bytes[..]).is_err(), "{bytes:?}");
            // Nothing was made room for.
            assert!(frames.value.capacity() < 64 * 1024);
        }
    }
}
