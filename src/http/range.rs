//! Ranges of bytes: reading the Range field, and writing what an answer in parts says (RFC 9110 section 14, 15.3.7).
//!
//! It knows no file: whether a range is allowed at all (the method, If-Range) is the caller's to ask first.

use super::encode::decimal;
use super::grammar::list;
use crate::sorted::sort_by_key;

/// The most ranges that a field may ask for; one with more is ignored (RFC 9110 section 17.15).
pub const MAX_RANGES: usize = 100;

/// A part of a representation: `length` bytes, never none, from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte's place.
    pub start: u64,
    /// How many bytes.
    pub length: u64,
}

impl ByteRange {
    /// The place behind its last byte.
    pub fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// What a Range field asks of a representation of a certain length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Nothing that could be understood: the field is to be ignored, and everything to be sent.
    Whole,
    /// Nothing that there is: 416, with a Content-Range by [`unsatisfied_range`].
    Unsatisfiable,
    /// One part: 206, with a Content-Range by [`content_range`].
    One(ByteRange),
    /// Several parts that neither overlap nor touch, in the order they were asked for: 206, with a body of
    /// `multipart/byteranges`.
    Several(Vec<ByteRange>),
}

/// Reads the value of a Range field for a representation of `length` bytes (RFC 9110 sections 14.1.2 and 14.2).
///
/// A unit other than bytes, and a set that is malformed anywhere, are ignored. Positions beyond any number are taken as
/// the largest. Ranges that overlap or touch become one, in the place of the first, so that no answer is longer than
/// the representation but for the heads of its parts.
///
/// # Examples
///
/// ```
/// use mcluster::http::{ByteRange, Ranges, ranges};
///
/// assert_eq!(ranges(b"bytes=0-4", 10), Ranges::One(ByteRange { start: 0, length: 5 }));
/// assert_eq!(ranges(b"bytes=-3", 10), Ranges::One(ByteRange { start: 7, length: 3 }));
/// assert_eq!(ranges(b"bytes=10-", 10), Ranges::Unsatisfiable);
/// assert_eq!(ranges(b"lines=0-4", 10), Ranges::Whole);
/// ```
pub fn ranges(value: &[u8], length: u64) -> Ranges {
    // 14.1: the names of units are compared without case.
    const UNIT: &[u8] = b"bytes=";
    let set = match value.split_at_checked(UNIT.len()) {
        Some((unit, set)) if unit.eq_ignore_ascii_case(UNIT) => set,
        _ => return Ranges::Whole,
    };
    let mut found: Vec<ByteRange> = Vec::new();
    let mut asked = 0;
    // 5.6.1.2: a recipient must take a reasonable number of empty elements; those count here too.
    for (elements, spec) in list(set).enumerate() {
        if elements >= 2 * MAX_RANGES {
            return Ranges::Whole;
        }
        if spec.is_empty() {
            continue;
        }
        asked += 1;
        match Spec::parse(spec) {
            Some(_) if asked > MAX_RANGES => return Ranges::Whole,
            Some(spec) => found.extend(spec.of(length)),
            None => return Ranges::Whole,
        }
    }
    match *found {
        [] if asked == 0 => Ranges::Whole,
        // A suffix of nothing is satisfiable (14.1.2), but no Content-Range can say it.
        [] if length == 0 && has_suffix(set) => Ranges::Whole,
        [] => Ranges::Unsatisfiable,
        [one] => Ranges::One(one),
        _ => {
            let apart = merge(found);
            match *apart {
                [one] => Ranges::One(one),
                _ => Ranges::Several(apart),
            }
        }
    }
}

/// One member of a set.
#[derive(Clone, Copy, Debug)]
enum Spec {
    From(u64),
    Between(u64, u64),
    Suffix(u64),
}

impl Spec {
    fn parse(spec: &[u8]) -> Option<Self> {
        let dash = spec.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&spec[..dash], &spec[dash + 1..]);
        match (first.is_empty(), last.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Self::Suffix(number(last)?)),
            (false, true) => Some(Self::From(number(first)?)),
            (false, false) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    fn of(self, length: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From(first) => (first, length),
            Self::Between(first, last) => (first, last.saturating_add(1).min(length)),
            Self::Suffix(count) => (length.saturating_sub(count), length),
        };
        (start < end).then(|| ByteRange {
            start,
            length: end - start,
        })
    }
}

/// A number of any size; what a `u64` cannot hold is as far as one can go.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

fn has_suffix(set: &[u8]) -> bool {
    list(set).any(|spec| matches!(Spec::parse(spec), Some(Spec::Suffix(1..))))
}

/// Makes one of those that overlap or touch, in the place of the first of them.
fn merge(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut sorted: Vec<(usize, ByteRange)> = ranges.into_iter().enumerate().collect();
    sort_by_key(&mut sorted, |(_, range)| range.start);
    let mut apart: Vec<(usize, ByteRange)> = Vec::with_capacity(sorted.len());
    for (place, range) in sorted {
        match apart.last_mut() {
            Some((first, last)) if range.start <= last.end() => {
                *first = place.min(*first);
                last.length = last.end().max(range.end()) - last.start;
            }
            _ => apart.push((place, range)),
        }
    }
    sort_by_key(&mut apart, |(place, _)| *place);
    apart.into_iter().map(|(_, range)| range).collect()
}

/// Appends the value of the Content-Range of a part: `bytes 0-4/10` (RFC 9110 section 14.4).
pub fn content_range(out: &mut Vec<u8>, range: ByteRange, length: u64) {
    out.extend_from_slice(b"bytes ");
    decimal(out, range.start);
    out.push(b'-');
    decimal(out, range.end().saturating_sub(1));
    out.push(b'/');
    decimal(out, length);
}

/// Appends the value of the Content-Range of a 416: `bytes */10` (RFC 9110 section 15.5.17).
pub fn unsatisfied_range(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"bytes */");
    decimal(out, length);
}

/// Appends what stands before a part of a `multipart/byteranges` body, the line end behind an earlier part included
/// (RFC 9110 section 14.6).
///
/// # Examples
///
/// ```
/// use mcluster::http::{ByteRange, byteranges_end, byteranges_part};
///
/// let mut out = Vec::new();
/// byteranges_part(&mut out, "x", "text/plain", ByteRange { start: 2, length: 1 }, 5);
/// out.extend_from_slice(b"c");
/// byteranges_end(&mut out, "x");
/// assert_eq!(
///     out,
///     b"\r\n--x\r\nContent-Type: text/plain\r\nContent-Range: bytes 2-2/5\r\n\r\nc\r\n--x--\r\n"
/// );
/// ```
pub fn byteranges_part(
    out: &mut Vec<u8>,
    boundary: &str,
    content_type: &str,
    range: ByteRange,
    length: u64,
) {
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary.as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: ");
    out.extend_from_slice(content_type.as_bytes());
    out.extend_from_slice(b"\r\nContent-Range: ");
    content_range(out, range, length);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends the end of a `multipart/byteranges` body.
pub fn byteranges_end(out: &mut Vec<u8>, boundary: &str) {
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary.as_bytes());
    out.extend_from_slice(b"--\r\n");
}
