//! Which bytes may stand where, as one table, and the small rules built on it. It knows no message.

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const HOST: u8 = 4;
const PLAIN: u8 = 8;
const UNRESERVED: u8 = 16;
const VISIBLE: u8 = 32;

/// The classes of each byte: one load answers any question below.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let unreserved = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let sub_delim = matches!(
            b,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        );
        let tchar = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        if tchar {
            table[byte] |= TOKEN;
        }
        if matches!(b, b'\t' | b' '..=b'~' | 0x80..=0xff) {
            table[byte] |= VALUE;
        }
        if unreserved || sub_delim {
            table[byte] |= HOST;
        }
        if b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>') {
            table[byte] |= VISIBLE;
            if !matches!(b, b'%' | b'?' | b'\\' | b'`' | b'{' | b'}') {
                table[byte] |= PLAIN;
            }
        }
        if unreserved {
            table[byte] |= UNRESERVED;
        }
        byte += 1;
    }
    table
}

const fn is(b: u8, class: u8) -> bool {
    CLASSES[b as usize] & class != 0
}

/// tchar (RFC 9110 section 5.6.2).
pub(super) const fn is_tchar(b: u8) -> bool {
    is(b, TOKEN)
}

/// A byte that a field value or a quoted string may hold: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5).
pub(super) const fn is_value_byte(b: u8) -> bool {
    is(b, VALUE)
}

/// A byte of a registered name that needs no escape (RFC 3986 section 3.2.2).
pub(super) const fn is_host_byte(b: u8) -> bool {
    is(b, HOST)
}

/// A byte of a path that neither ends it nor begins an escape. Of those that RFC 3986 has no place for (section 3.3),
/// the ones that browsers send as they are: `[`, `]`, `^` and `|`.
pub(super) const fn is_plain(b: u8) -> bool {
    is(b, PLAIN)
}

/// A byte that a query may hold: visible ASCII but `#`, for a target has no fragment, and what browsers escape there
/// too: `"`, `<` and `>`.
pub(super) const fn is_target_byte(b: u8) -> bool {
    is(b, VISIBLE)
}

/// A byte that means the same escaped or not (RFC 3986 section 2.3).
pub(super) const fn is_unreserved(b: u8) -> bool {
    is(b, UNRESERVED)
}

/// etagc (RFC 9110 section 8.8.3): what may stand between the quotes of an entity tag.
pub(super) const fn is_etagc(b: u8) -> bool {
    matches!(b, 0x21 | 0x23..=0x7e | 0x80..=0xff)
}

/// Whether `bytes` is a token: one tchar or more (RFC 9110 section 5.6.2). Methods and field names are tokens.
///
/// # Examples
///
/// ```
/// use mcluster::http::is_token;
///
/// assert!(is_token(b"Content-Type"));
/// assert!(!is_token(b"Content Type") && !is_token(b""));
/// ```
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_tchar(b))
}

/// Whether `bytes` may be written as a field value (RFC 9110 section 5.5).
///
/// That is: no CR, LF, NUL or other control but HTAB, and no white space at either end. Empty is fine. A response with
/// a field that fails this could be split in two by whoever chose the value.
///
/// # Examples
///
/// ```
/// use mcluster::http::is_field_value;
///
/// assert!(is_field_value(b"text/html; charset=utf-8") && is_field_value(b""));
/// assert!(!is_field_value(b"x\r\nSet-Cookie: a=b") && !is_field_value(b" x"));
/// ```
pub fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| is_value_byte(b)) && trim_ows(bytes).len() == bytes.len()
}

/// Whether `b` is optional white space: SP or HTAB (RFC 9110 section 5.6.3).
pub(super) const fn is_ows(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

/// `bytes` without the SP and HTAB at its ends.
pub(super) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_ows(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_ows(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list (RFC 9110 section 5.6.1), trimmed; an empty one is kept for the caller to
/// judge.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim_ows)
}

/// The elements of a list that count: empty ones mean nothing to a recipient (RFC 9110 section 5.6.1.2).
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    list(value).filter(|element| !element.is_empty())
}

/// The value of a hexadecimal digit.
pub(super) const fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The byte that the escape at the front of `bytes` stands for, or `None` if it is no `%` and two digits
/// (RFC 3986 section 2.1).
pub(super) fn escape(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}
