//! What both halves of a WebSocket's opening handshake have in common (RFC 6455).

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};

/// What every server puts behind the key (1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of Sec-WebSocket-Accept: what proves that a server has read `key` (4.2.2).
pub(crate) fn websocket_accept(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    Base64::encode_string(&hash.finalize())
}
