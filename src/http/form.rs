//! Reading what a target carries: escapes and queries. Splitting the target itself is `target`'s.

use std::borrow::Cow;

use super::grammar::escape;

/// The bytes that `text` stands for once its escapes are undone, or `None` if an escape is bad
/// (RFC 3986 section 2.1). Borrowed when there is none. A `+` stays a `+`.
///
/// # Examples
///
/// ```
/// use mcluster::http::percent_decode;
///
/// assert_eq!(percent_decode("a%20b").as_deref(), Some(&b"a b"[..]));
/// assert_eq!(percent_decode("100%"), None);
/// ```
pub fn percent_decode(text: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    let Some(first) = memchr::memchr(b'%', bytes) else {
        return Some(Cow::Borrowed(bytes));
    };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let [b, tail @ ..] = rest {
        if *b == b'%' {
            out.push(escape(rest)?);
            rest = &rest[3..];
        } else {
            out.push(*b);
            rest = tail;
        }
    }
    Some(Cow::Owned(out))
}

/// The names and values of a query or of a form body, in order (`application/x-www-form-urlencoded`, URL Standard
/// section 5.1).
///
/// `+` is a space; a bad escape is kept as it stands, and bytes that are no UTF-8 become U+FFFD, for a query is the
/// application's matter and no reason to refuse a request. A name without `=` has an empty value; empty pieces are
/// skipped.
///
/// # Examples
///
/// ```
/// use mcluster::http::query_pairs;
///
/// let pairs: Vec<_> = query_pairs("q=a+b%21&&flag").collect();
/// assert_eq!(pairs, [("q".into(), "a b!".into()), ("flag".into(), "".into())]);
/// ```
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            (form_decode(name), form_decode(value))
        })
}

fn form_decode(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [b, tail @ ..] = rest {
        if let Some(decoded) = escape(rest) {
            out.push(decoded);
            rest = &rest[3..];
            continue;
        }
        out.push(if *b == b'+' { b' ' } else { *b });
        rest = tail;
    }
    Cow::Owned(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}
