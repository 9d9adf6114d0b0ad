//! HTTP/1.1 as pure code: bytes in, values out, and values in, bytes out (RFC 9110, RFC 9112).
//!
//! What lies inside:
//!
//! - [`Head`] reads one request's head, and decides how its body is framed ([`Framing`]);
//! - `AnswerReader` reads answers, for who asks;
//! - [`ChunkedDecoder`] takes the chunks off a body;
//! - [`encode`] writes status lines, fields and chunks;
//! - [`ProxyHeader`] and [`forwarded_client`] read who a proxy says is behind it;
//! - [`ranges`], [`Conditions`] and [`AcceptEncoding`] read what a client wants of a representation, and which it has.
//! - [`percent_decode`] and [`query_pairs`] read what a target carries, [`cookie_pairs`] what a Cookie field does;
//!
//! What it promises: no I/O, no clock, no log, no `unsafe`, and no panic whatever a peer sends. Every parser answers
//! one of three things (done, more bytes wanted, refused) and gives the same answer however the input was cut up.
//! Where the RFCs let a recipient be lenient about a message's limits, this module is not: two recipients who disagree
//! about where a request ends are what request smuggling is made of (RFC 9112 section 11.2).
//!
//! It leaves to the server: buffers, timeouts, 408, whether a body may still come, and closing after an [`Error`].
//! It leaves to the application: routes, dot segments in a path, and what a field means beyond framing.

mod answer;
mod chunked;
mod conditional;
mod cookie;
pub mod encode;
mod error;
mod form;
mod forwarded;
mod framing;
mod grammar;
mod head;
mod lines;
mod method;
mod negotiate;
mod proxy;
mod range;
mod target;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(test)]
mod tests;

#[cfg_attr(
    not(feature = "loadtest"),
    allow(unused_imports, reason = "a load test alone names both")
)]
pub(crate) use answer::{AnswerEnd, AnswerReader};
pub use chunked::{ChunkedDecoder, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES, MAX_TRAILER_FIELDS};
pub use conditional::{Conditions, ETag, Validators, Verdict};
pub use cookie::{cookie_pairs, is_cookie_domain, is_cookie_path, is_cookie_value};
pub use encode::{
    chunk, chunk_start, content_length, decimal, field, has_no_body, is_field_value, is_token,
    last_chunk, last_chunk_start, reason, status_line,
};
pub use error::Error;
pub use form::{percent_decode, query_pairs};
pub use forwarded::{ForwardedClient, ForwardedFields, forwarded_client};
pub use framing::Framing;
pub(crate) use grammar::members;
pub use head::{Head, HeadLimits, MAX_FIELDS, Parsed};
pub use method::{Method, Version};
pub use negotiate::{AcceptEncoding, Coding};
pub use proxy::{MAX_PROXY_BLOCK, MAX_PROXY_LINE, ProxyHeader};
pub use range::{
    ByteRange, MAX_RANGES, Ranges, byteranges_end, byteranges_part, content_range, ranges,
    unsatisfied_range,
};
#[cfg(feature = "websocket")]
pub(crate) use websocket::websocket_accept;
