//! Answers that send the client elsewhere. Owns that no place, whoever chose it, becomes more than
//! the value of one field.

use super::Response;

impl Response {
    /// Sends the client to `location`, an absolute or relative reference (RFC 9110 10.2.2).
    ///
    /// | status | |
    /// |--:|---|
    /// | 303 | what was posted is done, now look there |
    /// | 302, 307 | for this time; 307 with the same method and body |
    /// | 301, 308 | for ever; 308 with the same method and body |
    ///
    /// Any other status makes it a 500 and a line in the log. Whatever may not stand in a
    /// reference (a line break, a space, a quote, a backslash, what is not ASCII) is
    /// percent-encoded, so that a name from a client cannot end the field. Where it leads is
    /// another matter: let no client choose how `location` begins, for `//example.com` is another
    /// host.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::Response;
    ///
    /// let response = Response::redirect(303, format!("/users/{}", "x\r\nSet-Cookie: a=b"));
    /// assert_eq!(response.status(), 303);
    /// ```
    pub fn redirect(status: u16, location: impl AsRef<str>) -> Self {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            log::error!("a handler redirected with status {status}; sent 500");
            return Self::new(500);
        }
        Self::plain(status).header("Location", reference(location.as_ref()))
    }
}

/// `location` with what RFC 3986 does not let stand in a reference percent-encoded.
fn reference(location: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(location.len());
    for &b in location.as_bytes() {
        match b {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 0x7f.. => {
                out.push('%');
                out.push(char::from(HEX[usize::from(b >> 4)]));
                out.push(char::from(HEX[usize::from(b & 15)]));
            }
            _ => out.push(char::from(b)),
        }
    }
    out
}
