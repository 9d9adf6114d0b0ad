//! Conditional requests: entity tags, dates, and the order in which the fields about them count (RFC 9110 section 13).
//!
//! It decides and nothing else: what a representation's validators are, and what a 304 says, is the caller's.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::framing::Occurs;
use super::grammar::{is_etagc, is_ows};
use super::method::Method;

/// An entity tag (RFC 9110 section 8.8.3).
///
/// # Examples
///
/// ```
/// use mcluster::http::ETag;
///
/// let tag = ETag::strong("v1").unwrap();
/// assert_eq!(tag.to_string(), "\"v1\"");
/// assert!(tag.matches_weakly(b"W/\"v1\"") && !tag.matches_strongly(b"W/\"v1\""));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag {
    /// As it is sent: `"opaque"` or `W/"opaque"`.
    text: String,
}

impl ETag {
    /// A strong one: another tag whenever a byte of the representation is another. `None` if `opaque` has a character
    /// that a tag must not have (a quote, white space, a control, or one that is not ASCII).
    pub fn strong(opaque: &str) -> Option<Self> {
        Self::of(format!("\"{opaque}\""), opaque)
    }

    /// A weak one: the same for representations as good as each other. `None` as for [`ETag::strong`].
    pub fn weak(opaque: &str) -> Option<Self> {
        Self::of(format!("W/\"{opaque}\""), opaque)
    }

    fn of(text: String, opaque: &str) -> Option<Self> {
        let fine = opaque.bytes().all(|b| b.is_ascii() && is_etagc(b));
        fine.then_some(Self { text })
    }

    /// Whether it is weak.
    pub fn is_weak(&self) -> bool {
        self.text.starts_with('W')
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn tag(&self) -> Tag<'_> {
        let weak = self.is_weak();
        let quoted = if weak { &self.text[2..] } else { &self.text };
        Tag {
            weak,
            quoted: quoted.as_bytes(),
        }
    }

    /// Whether `sent` is one tag, and the same by the strong comparison (8.8.3.2): both strong, and equal.
    pub fn matches_strongly(&self, sent: &[u8]) -> bool {
        Tag::alone(sent).is_some_and(|sent| self.tag().is_strongly(sent))
    }

    /// Whether `sent` is one tag, and the same by the weak comparison (8.8.3.2): equal, weak or not.
    pub fn matches_weakly(&self, sent: &[u8]) -> bool {
        Tag::alone(sent).is_some_and(|sent| self.tag().is_weakly(sent))
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A tag in somebody else's bytes.
#[derive(Clone, Copy, Debug)]
struct Tag<'a> {
    weak: bool,
    /// With its quotes.
    quoted: &'a [u8],
}

impl<'a> Tag<'a> {
    /// The tag at the front of `bytes`, and what follows it.
    fn front(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, rest) = match bytes.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, bytes),
        };
        let inner = rest.strip_prefix(b"\"")?;
        let length = inner.iter().take_while(|&&byte| is_etagc(byte)).count();
        if inner.get(length) != Some(&b'"') {
            return None;
        }
        let (quoted, rest) = rest.split_at(length + 2);
        Some((Self { weak, quoted }, rest))
    }

    fn alone(bytes: &'a [u8]) -> Option<Self> {
        match Self::front(bytes)? {
            (tag, []) => Some(tag),
            _ => None,
        }
    }

    fn is_strongly(self, other: Tag<'_>) -> bool {
        !self.weak && !other.weak && self.quoted == other.quoted
    }

    fn is_weakly(self, other: Tag<'_>) -> bool {
        self.quoted == other.quoted
    }
}

/// Whether a list of tags, in one field or several, is well formed and has one that `found` wants; `*` is any.
fn any_tag(values: &[&[u8]], found: impl Fn(Tag<'_>) -> bool) -> bool {
    if let [b"*"] = values {
        return true;
    }
    let mut any = false;
    for value in values {
        let mut rest = *value;
        loop {
            // Before a member: white space, and empty members (5.6.1.2).
            while let [byte, tail @ ..] = rest
                && (is_ows(*byte) || *byte == b',')
            {
                rest = tail;
            }
            if rest.is_empty() {
                break;
            }
            let Some((tag, mut tail)) = Tag::front(rest) else {
                return false;
            };
            any |= found(tag);
            while let [byte, after @ ..] = tail
                && is_ows(*byte)
            {
                tail = after;
            }
            match tail {
                [] | [b',', ..] => rest = tail,
                _ => return false,
            }
        }
    }
    any
}

/// The date of a field, where there is one and it is one (13.1.3: a list, or what is no date, is ignored).
fn date(field: Occurs<&[u8]>) -> Option<u64> {
    match field {
        Occurs::Once(value) => http_date(value),
        Occurs::Never | Occurs::Again => None,
    }
}

/// A date in any of the three formats (RFC 9110 section 5.6.7), in seconds since 1970.
fn http_date(value: &[u8]) -> Option<u64> {
    let text = str::from_utf8(value).ok()?;
    match httpdate::parse_http_date(text) {
        Ok(time) => Some(seconds(time)),
        Err(_) => before_1970(text),
    }
}

/// A date that is good but for a year that `httpdate` does not know: as good as 1970, for it is
/// before whatever it is compared with.
#[cold]
fn before_1970(text: &str) -> Option<u64> {
    const YEAR: std::ops::Range<usize> = 12..16;
    let digits = text.get(YEAR)?;
    let year: u16 = digits.parse().ok()?;
    if digits.starts_with('+') {
        return None;
    }
    let mut known = text.to_owned();
    // After 400 years each date has the same day of the week again.
    known.replace_range(YEAR, &(year % 400 + 2000).to_string());
    (year < 1970 && httpdate::parse_http_date(&known).is_ok()).then_some(0)
}

/// Whole seconds: all that a date can say.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What is known of the representation that would be sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validators<'a> {
    /// Its entity tag.
    pub etag: Option<&'a ETag>,
    /// When it was last modified.
    pub modified: Option<SystemTime>,
}

/// What a request's preconditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Do what the method asks.
    Proceed,
    /// 304: the client has it (RFC 9110 section 15.4.5).
    NotModified,
    /// 412 (RFC 9110 section 15.5.13).
    Failed,
}

/// The fields of a request that make it conditional.
///
/// # Examples
///
/// ```
/// use mcluster::http::{Conditions, ETag, Method, Validators, Verdict};
///
/// let fields = [("If-None-Match", &b"\"v1\", \"v2\""[..])];
/// let tag = ETag::strong("v2");
/// let current = Validators { etag: tag.as_ref(), modified: None };
/// assert_eq!(Conditions::of(fields).judge(Method::Get, current), Verdict::NotModified);
/// assert_eq!(Conditions::of(fields).judge(Method::Put, current), Verdict::Failed);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Conditions<'a> {
    matching: Vec<&'a [u8]>,
    none_matching: Vec<&'a [u8]>,
    modified_since: Occurs<&'a [u8]>,
    unmodified_since: Occurs<&'a [u8]>,
    range: Occurs<&'a [u8]>,
    if_range: Occurs<&'a [u8]>,
}

impl<'a> Conditions<'a> {
    /// Those among the fields of a request; [`Head::fields`](super::Head::fields) gives such.
    pub fn of(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut conditions = Self::default();
        for (name, value) in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            if is("if-match") {
                conditions.matching.push(value);
            } else if is("if-none-match") {
                conditions.none_matching.push(value);
            } else if is("if-modified-since") {
                conditions.modified_since.add(value);
            } else if is("if-unmodified-since") {
                conditions.unmodified_since.add(value);
            } else if is("if-range") {
                conditions.if_range.add(value);
            } else if is("range") {
                conditions.range.add(value);
            }
        }
        conditions
    }

    /// Judges them in the order of RFC 9110 section 13.2.2, for a representation that exists.
    pub fn judge(&self, method: Method, current: Validators<'_>) -> Verdict {
        let tag = current.etag.map(ETag::tag);
        let modified = current.modified.map(seconds);
        // 1 and 2: a client that must not act on something else than it has.
        if !self.matching.is_empty() {
            let strongly = |sent: Tag<'_>| tag.is_some_and(|tag| tag.is_strongly(sent));
            if !any_tag(&self.matching, strongly) {
                return Verdict::Failed;
            }
        } else if let (Some(since), Some(modified)) = (date(self.unmodified_since), modified)
            && modified > since
        {
            return Verdict::Failed;
        }
        // 3 and 4: a client that has something already.
        let reads = matches!(method, Method::Get | Method::Head);
        if !self.none_matching.is_empty() {
            let weakly = |sent: Tag<'_>| tag.is_some_and(|tag| tag.is_weakly(sent));
            if any_tag(&self.none_matching, weakly) {
                return if reads {
                    Verdict::NotModified
                } else {
                    Verdict::Failed
                };
            }
        } else if let (true, Some(since), Some(modified)) =
            (reads, date(self.modified_since), modified)
            && modified <= since
        {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// Whether there is a Range at all, for which [`range`](Self::range) is to be asked.
    pub(crate) fn has_range(&self) -> bool {
        !matches!(self.range, Occurs::Never)
    }

    /// The value of Range, if it counts: the method is GET, there is one of it, and If-Range is absent or names exactly
    /// this representation, by a strong tag or by its date (RFC 9110 sections 13.1.5, 13.2.2 and 14.2).
    ///
    /// A date is a strong validator only when the representation cannot change once more within the second that it
    /// names (8.8.2.2): leave [`Validators::modified`] out while that is less than a second ago.
    pub fn range(&self, method: Method, current: Validators<'_>) -> Option<&'a [u8]> {
        let Occurs::Once(range) = self.range else {
            return None;
        };
        let same = match self.if_range {
            Occurs::Never => true,
            Occurs::Again => false,
            // 13.1.5: a quote among the first three characters tells a tag from a date.
            Occurs::Once(value) if value.iter().take(3).any(|&byte| byte == b'"') => {
                current.etag.is_some_and(|tag| tag.matches_strongly(value))
            }
            Occurs::Once(value) => {
                let date = http_date(value);
                date.is_some() && date == current.modified.map(seconds)
            }
        };
        (method == Method::Get && same).then_some(range)
    }
}
