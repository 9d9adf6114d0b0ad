//! How a request's body is framed, whether its connection persists, and what it expects: all that the fields of a head
//! decide for the server. Finding the fields is `head`'s; reading the body is `chunked`'s and the server's.

use super::error::{Error, bad};
use super::grammar::{is_token, list};
use super::method::Version;
use super::target::Span;

/// How a request's body is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body: neither Content-Length nor Transfer-Encoding was sent.
    None,
    /// A body of that many bytes, perhaps none.
    Length(u64),
    /// A chunked body, for [`ChunkedDecoder`](super::ChunkedDecoder).
    Chunked,
}

/// A field that should stand once in a head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Occurs<T> {
    #[default]
    Never,
    Once(T),
    Again,
}

impl<T> Occurs<T> {
    pub(super) fn add(&mut self, value: T) {
        *self = match self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Again => Self::Again,
        };
    }

    fn is_present(&self) -> bool {
        !matches!(self, Self::Never)
    }
}

/// The fields that concern the server, noted as they pass.
#[derive(Debug, Default)]
pub(super) struct Noted<'b> {
    /// And where its value lies.
    pub(super) host: Occurs<(&'b [u8], Span)>,
    transfer_encoding: Occurs<&'b [u8]>,
    content_length: Occurs<&'b [u8]>,
    expect: Occurs<&'b [u8]>,
    close: bool,
    keep_alive: bool,
}

impl<'b> Noted<'b> {
    /// Notes one field. By length first: most fields are none of these, and a length is one comparison.
    pub(super) fn note(&mut self, name: &[u8], value: &'b [u8], span: Span) {
        match name.len() {
            4 if name == b"Host" || name.eq_ignore_ascii_case(b"host") => {
                self.host.add((value, span))
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.expect.add(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.note_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length.add(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.transfer_encoding.add(value);
            }
            _ => {}
        }
    }

    /// Connection options are whole tokens: `closed` or `x-close` is not `close` (RFC 9110 section 7.6.1).
    fn note_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether the connection may carry another request after this one (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        match version {
            Version::Http10 => self.keep_alive && !self.close,
            Version::Http11 => !self.close,
        }
    }

    /// Decides the body's framing.
    ///
    /// # Errors
    ///
    /// 400 for whatever two recipients could read in two ways, 501 for a transfer coding not served.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, Error> {
        // RFC 9112 sections 6.1 to 6.3, for a server:
        //
        // 1. Transfer-Encoding together with Content-Length: 6.1 lets a server refuse it, and this one does.
        // 2. Transfer-Encoding in HTTP/1.0: the framing is faulty (6.1), whatever it says.
        // 3. Transfer-Encoding: exactly `chunked` is served. Other codings before a final chunked are not
        //    implemented (6.1: 501). If chunked is not final the length cannot be known (6.3: 400), and so for
        //    chunked twice (6.1), parameters, empty elements and repeated fields.
        // 4. Content-Length: one field, digits only, that fits (6.3: 400). A list of equal numbers could be
        //    repaired, and is not.
        // 5. Neither: no body.
        match (self.transfer_encoding, self.content_length) {
            (te, cl) if te.is_present() && cl.is_present() => {
                Err(bad("Transfer-Encoding with Content-Length"))
            }
            (te, _) if te.is_present() && version == Version::Http10 => {
                Err(bad("Transfer-Encoding in HTTP/1.0"))
            }
            (Occurs::Once(codings), _) => transfer_encoding(codings),
            (Occurs::Again, _) => Err(bad("a second Transfer-Encoding")),
            (Occurs::Never, Occurs::Once(digits)) => content_length(digits).map(Framing::Length),
            (Occurs::Never, Occurs::Again) => Err(bad("a second Content-Length")),
            (Occurs::Never, Occurs::Never) => Ok(Framing::None),
        }
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    ///
    /// # Errors
    ///
    /// 417 for an expectation other than that one. An HTTP/1.0 client's is ignored.
    pub(super) fn expects_continue(
        &self,
        version: Version,
        framing: Framing,
    ) -> Result<bool, Error> {
        if version == Version::Http10 {
            return Ok(false);
        }
        match self.expect {
            Occurs::Never => Ok(false),
            Occurs::Once(value) if value.eq_ignore_ascii_case(b"100-continue") => {
                Ok(!matches!(framing, Framing::None | Framing::Length(0)))
            }
            Occurs::Once(_) | Occurs::Again => Err(Error::new(417, "an unknown expectation")),
        }
    }
}

fn transfer_encoding(codings: &[u8]) -> Result<Framing, Error> {
    const CHUNKED: &[u8] = b"chunked";
    if codings.eq_ignore_ascii_case(CHUNKED) {
        return Ok(Framing::Chunked);
    }
    let mut chunked = 0;
    let mut chunked_is_last = false;
    for coding in list(codings) {
        if !is_token(coding) {
            return Err(bad("a malformed Transfer-Encoding"));
        }
        chunked_is_last = coding.eq_ignore_ascii_case(CHUNKED);
        chunked += usize::from(chunked_is_last);
    }
    if chunked == 1 && chunked_is_last {
        return Err(Error::new(501, "a transfer coding beside chunked"));
    }
    Err(bad("a Transfer-Encoding that does not end the body"))
}

/// The number that `digits` are.
pub(super) fn content_length(digits: &[u8]) -> Result<u64, Error> {
    const BAD: Error = bad("a bad Content-Length");
    if digits.is_empty() {
        return Err(BAD);
    }
    // By hand: `u64::from_str` takes a sign, and a length with one must be refused.
    digits.iter().try_fold(0_u64, |length, digit| {
        let digit = digit
            .is_ascii_digit()
            .then(|| u64::from(digit - b'0'))
            .ok_or(BAD)?;
        length
            .checked_mul(10)
            .and_then(|length| length.checked_add(digit))
            .ok_or(BAD)
    })
}
