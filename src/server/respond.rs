//! A response as bytes: the head, and how its body is framed (RFC 9112 6, RFC 9110 6.4.1).

use super::opening::Opening;
use super::sticky::Mark;
use crate::app::{Body, Response};
use crate::http::{self, Head, Method, Version};

/// What an answer must know of its request, after the request has gone to its handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    /// The method was HEAD: everything but the body.
    pub(super) head_only: bool,
    /// The client speaks HTTP/1.0: no chunks.
    pub(super) http10: bool,
    /// The client wants the connection to go on.
    pub(super) keep_alive: bool,
    /// The client reads trailers.
    pub(super) trailers: bool,
    /// What the answer is to set so that the client comes back to this worker.
    pub(super) mark: Option<Mark>,
}

impl Meta {
    pub(super) fn of(head: &Head) -> Self {
        Self {
            head_only: head.method() == Method::Head,
            http10: head.version() == Version::Http10,
            keep_alive: head.keep_alive(),
            trailers: head.get("te").is_some_and(reads_trailers),
            mark: None,
        }
    }

    /// For an answer to what could not be read as a request. What would be HEAD gets no body all the
    /// same: its client expects none (RFC 9110 9.3.2).
    pub(super) fn refused(input: &[u8]) -> Self {
        let start = input.iter().position(|byte| !b"\r\n".contains(byte));
        let line = &input[start.unwrap_or(input.len())..];
        Self {
            head_only: line.starts_with(b"HEAD "),
            ..Self::unknown()
        }
    }

    /// For an answer to what was no request: with a body, in HTTP/1.1, and then closed.
    pub(super) fn unknown() -> Self {
        Self {
            head_only: false,
            http10: false,
            keep_alive: false,
            trailers: false,
            mark: None,
        }
    }
}

/// Whether a TE field has the member `trailers` (RFC 9110 10.1.4).
fn reads_trailers(te: &[u8]) -> bool {
    te.split(|&byte| byte == b',')
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// How the body goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body follows.
    None,
    /// As many bytes as Content-Length said.
    Length,
    /// In chunks.
    Chunked,
    /// As it is, up to the end of the connection.
    UntilClose,
}

/// Appends the head of `response` and says how its body must follow. `keep` is whether the
/// connection goes on, so far as this server has a say.
pub(super) fn head(
    out: &mut Vec<u8>,
    response: &Response,
    meta: Meta,
    keep: bool,
    opening: &mut Opening,
) -> (Framing, bool) {
    let status = response.status();
    opening.put(out, response);
    out.extend_from_slice(response.fields());
    if let Some(protocol) = response.switches_to() {
        http::field(out, "Upgrade", protocol.as_bytes());
        out.extend_from_slice(b"Connection: Upgrade\r\n\r\n");
        return (Framing::None, true);
    }
    let length = match response.body() {
        Body::Empty => Some(0),
        Body::Static(bytes) => Some(bytes.len() as u64),
        Body::Bytes(bytes) => Some(bytes.len() as u64),
        Body::Shared(bytes) => Some(bytes.len() as u64),
        Body::Pieces(pieces) => Some(pieces.len()),
        Body::Stream(_) | Body::Feed(_) => None,
    };
    let mut keep = keep;
    let framing = match length {
        // RFC 9112 6.3, 1: these end with their head, whatever it says.
        _ if http::has_no_body(status) => Framing::None,
        // RFC 9110 15.3.6: 205 has no content, and says so.
        _ if status == 205 => {
            http::content_length(out, 0);
            Framing::None
        }
        Some(length) => {
            http::content_length(out, length);
            Framing::Length
        }
        None if meta.http10 => {
            keep = false;
            Framing::UntilClose
        }
        None => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            Framing::Chunked
        }
    };
    if !keep {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if meta.http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let framing = if meta.head_only {
        Framing::None
    } else {
        framing
    };
    (framing, keep)
}
