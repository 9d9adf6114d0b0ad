//! Writing responses: status lines, fields, chunks, all appended to a buffer. Which fields a response needs is the
//! server's; that names and values are fit to write is the caller's, by [`is_token`] and [`is_field_value`].

pub use super::grammar::{is_field_value, is_token};

/// The status codes with a phrase: one table for [`reason`] and for [`status_line`]'s ready lines.
macro_rules! statuses {
    ($($code:literal $phrase:literal)*) => {
        /// The standard phrase of a status code (RFC 9110 section 15 and the IANA registry), or `""` if it has none.
        ///
        /// # Examples
        ///
        /// ```
        /// assert_eq!(mcluster::http::reason(431), "Request Header Fields Too Large");
        /// assert_eq!(mcluster::http::reason(299), "");
        /// ```
        pub const fn reason(status: u16) -> &'static str {
            match status {
                $($code => $phrase,)*
                _ => "",
            }
        }

        const fn ready_line(status: u16) -> &'static [u8] {
            match status {
                $($code => concat!("HTTP/1.1 ", $code, " ", $phrase, "\r\n").as_bytes(),)*
                _ => b"",
            }
        }
    };
}

statuses! {
    100 "Continue"
    101 "Switching Protocols"
    102 "Processing"
    103 "Early Hints"
    200 "OK"
    201 "Created"
    202 "Accepted"
    203 "Non-Authoritative Information"
    204 "No Content"
    205 "Reset Content"
    206 "Partial Content"
    207 "Multi-Status"
    208 "Already Reported"
    226 "IM Used"
    300 "Multiple Choices"
    301 "Moved Permanently"
    302 "Found"
    303 "See Other"
    304 "Not Modified"
    305 "Use Proxy"
    307 "Temporary Redirect"
    308 "Permanent Redirect"
    400 "Bad Request"
    401 "Unauthorized"
    402 "Payment Required"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    406 "Not Acceptable"
    407 "Proxy Authentication Required"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    412 "Precondition Failed"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    416 "Range Not Satisfiable"
    417 "Expectation Failed"
    418 "I'm a teapot"
    421 "Misdirected Request"
    422 "Unprocessable Content"
    423 "Locked"
    424 "Failed Dependency"
    425 "Too Early"
    426 "Upgrade Required"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    451 "Unavailable For Legal Reasons"
    500 "Internal Server Error"
    501 "Not Implemented"
    502 "Bad Gateway"
    503 "Service Unavailable"
    504 "Gateway Timeout"
    505 "HTTP Version Not Supported"
    506 "Variant Also Negotiates"
    507 "Insufficient Storage"
    508 "Loop Detected"
    510 "Not Extended"
    511 "Network Authentication Required"
}

/// Appends the status line, `HTTP/1.1 200 OK` and CRLF (RFC 9112 section 4).
///
/// The version is the server's own, also in answer to HTTP/1.0 (RFC 9110 section 2.5). A status without a phrase keeps
/// the space before it. `status` is three digits, 100 to 999; anything else is written and is not HTTP.
pub fn status_line(out: &mut Vec<u8>, status: u16) {
    let line = ready_line(status);
    if line.is_empty() {
        out.extend_from_slice(b"HTTP/1.1 ");
        decimal(out, u64::from(status));
        out.extend_from_slice(b" \r\n");
    } else {
        out.extend_from_slice(line);
    }
}

/// Appends a field line, `Name: value` and CRLF (RFC 9112 section 5).
///
/// It checks nothing: whoever took `name` and `value` from elsewhere has asked [`is_token`] and [`is_field_value`].
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a Content-Length field for a body of `n` bytes (RFC 9110 section 8.6).
pub fn content_length(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, n);
    out.extend_from_slice(b"\r\n");
}

/// Appends `n` in decimal digits.
pub fn decimal(out: &mut Vec<u8>, n: u64) {
    digits::<10>(out, n);
}

/// Appends one chunk with `data` in it (RFC 9112 section 7.1). No data writes nothing, for an empty chunk would end
/// the body.
///
/// # Examples
///
/// ```
/// let mut out = Vec::new();
/// mcluster::http::chunk(&mut out, b"hello");
/// mcluster::http::chunk(&mut out, b"");
/// mcluster::http::last_chunk(&mut out);
/// assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
/// ```
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + 20);
    chunk_start(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk, for data that is sent from where it lies: `length` bytes and a CRLF must follow.
/// The length must not be 0, which would end the body.
pub fn chunk_start(out: &mut Vec<u8>, length: usize) {
    debug_assert_ne!(length, 0, "an empty chunk is the last one");
    digits::<16>(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk, without trailers: the end of a chunked body (RFC 9112 section 7.1).
pub fn last_chunk(out: &mut Vec<u8>) {
    last_chunk_start(out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of the last chunk, for a body with trailers: fields and a CRLF must follow (RFC 9112 section
/// 7.1.2).
pub fn last_chunk_start(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
}

/// Appends `n` in base `BASE`. By hand, for this is on every response, and `fmt` costs several times as much.
fn digits<const BASE: u64>(out: &mut Vec<u8>, mut n: u64) {
    // u64::MAX has twenty decimal digits.
    let mut buf = [0_u8; 20];
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b"0123456789abcdef"[(n % BASE) as usize];
        n /= BASE;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&buf[at..]);
}

/// Whether a response of that status never has a body: 1xx, 204, 304 (RFC 9110 section 6.4.1). Nor has one to HEAD,
/// which the status does not tell.
pub const fn has_no_body(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}
