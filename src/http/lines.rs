//! The lines of a head: that CRLF ends each, and where a field's value lies in its own. What the parts say is `head`'s.

use super::error::{Error, bad};
use super::grammar::is_ows;
use super::target::Span;

/// The place after the CRLF at `at`. `httparse` takes a bare LF too, which another recipient may not (RFC 9112
/// section 2.2 only allows it).
pub(super) fn after_crlf(lines: &[u8], at: usize) -> Result<usize, Error> {
    match lines.get(at..at + 2) {
        Some(b"\r\n") => Ok(at + 2),
        _ => Err(bad("a bare LF in the head")),
    }
}

/// Where the value of the field line at `at` lies, and where the next line begins, if nothing but a colon and white
/// space separates them (RFC 9112 section 5).
pub(super) fn separate(
    lines: &[u8],
    at: usize,
    header: &httparse::Header<'_>,
) -> Result<(Span, usize), Error> {
    let colon = at + header.name.len();
    let end = colon + 2 + header.value.len();
    // As nearly everybody writes it; what httparse calls the value is what stands there.
    if lines.get(colon..colon + 2) == Some(b": ")
        && lines.get(end..end + 2) == Some(b"\r\n")
        && lines[colon + 2..].as_ptr() == header.value.as_ptr()
    {
        return Ok((Span::new(colon + 2, end), end + 2));
    }
    let skip_ows = |mut at: usize| {
        while lines.get(at).is_some_and(|&b| is_ows(b)) {
            at += 1;
        }
        at
    };
    if lines.get(colon) != Some(&b':') {
        return Err(bad("a malformed field line"));
    }
    let start = skip_ows(colon + 1);
    let end = start + header.value.len();
    let next = after_crlf(lines, skip_ows(end))?;
    debug_assert_eq!(lines.get(start..end), Some(header.value));
    Ok((Span::new(start, end), next))
}
