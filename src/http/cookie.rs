//! Cookies as text: reading a Cookie field, and what may stand in a Set-Cookie field (RFC 6265 sections 4.1 and 5.4).
//! Which cookies there are, and what their attributes mean together, is the application's.

use std::borrow::Cow;

use super::grammar::trim_ows;

/// The names and values of a Cookie field, in order (RFC 6265 section 4.2.1).
///
/// Read as servers do: split at `;`, white space around each part dropped, name and value split at the first `=`.
/// Nothing else is interpreted: quotes stay, nothing is decoded, bytes that are no UTF-8 become U+FFFD. What has no
/// name is skipped, for a browser may send a cookie without one whose value looks like another cookie
/// (`=__Host-id=evil`).
///
/// # Examples
///
/// ```
/// use mcluster::http::cookie_pairs;
///
/// let pairs: Vec<_> = cookie_pairs(b"id=7; theme=\"dark\"; =odd; flag").collect();
/// assert_eq!(pairs, [("id".into(), "7".into()), ("theme".into(), "\"dark\"".into())]);
/// ```
pub fn cookie_pairs(value: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    value.split(|&b| b == b';').filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let name = trim_ows(&pair[..equals]);
        let value = trim_ows(&pair[equals + 1..]);
        let text = |bytes| String::from_utf8_lossy(bytes);
        (!name.is_empty()).then(|| (text(name), text(value)))
    })
}

/// Whether `value` may be a cookie's value: cookie-octets, perhaps in quotes (RFC 6265 section 4.1.1).
///
/// No control, white space, quote within, comma, semicolon or backslash, and ASCII alone. Empty is fine.
///
/// # Examples
///
/// ```
/// use mcluster::http::is_cookie_value;
///
/// assert!(is_cookie_value(b"a=b") && is_cookie_value(b"\"a\"") && is_cookie_value(b""));
/// assert!(!is_cookie_value(b"a; Domain=b") && !is_cookie_value(b"a b") && !is_cookie_value(b"\""));
/// ```
pub fn is_cookie_value(value: &[u8]) -> bool {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    };
    inner
        .iter()
        .all(|&b| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\'))
}

/// Whether `value` may be a cookie's Path: it begins with `/`, else a browser takes another one (RFC 6265 section
/// 5.2.4), and holds no control, no `;` and ASCII alone (section 4.1.1).
pub fn is_cookie_path(value: &[u8]) -> bool {
    let fits = |&b: &u8| matches!(b, b' '..=b'~') && b != b';';
    // A space at the end would be dropped.
    value.starts_with(b"/") && value.iter().all(fits) && !value.ends_with(b" ")
}

/// Whether `value` may be a cookie's Domain: letters, digits and hyphens between dots, in the places that RFC 1034
/// section 3.5 and RFC 1123 section 2.1 allow them, to which RFC 6265 section 4.1.1 refers.
pub fn is_cookie_domain(value: &[u8]) -> bool {
    let label = |label: &[u8]| {
        let fits = label
            .iter()
            .all(|&b| b.is_ascii_alphanumeric() || b == b'-');
        matches!(label.len(), 1..=63) && fits && label[0] != b'-' && !label.ends_with(b"-")
    };
    value.len() <= 253 && value.split(|&b| b == b'.').all(label)
}
