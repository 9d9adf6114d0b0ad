//! What a WebSocket connection carries, and why it ended: plain values.

use crate::ipc::user;
use std::fmt;

/// One message, whole.
///
/// # Examples
///
/// ```
/// use mcluster::ws::Message;
///
/// assert_eq!(Message::from("hello").text(), Some("hello"));
/// assert_eq!(Message::from(vec![1, 2, 3]).bytes(), [1, 2, 3]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// Text in UTF-8.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// The text, unless it is binary.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The bytes, of text too.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) if text.len() <= 80 => write!(f, "Text({text:?})"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(bytes.to_vec())
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has ended, or is being closed; of a broadcast: the primary is gone.
    Closed,
    /// Far too much waits already.
    Full,
    /// It is larger than a broadcast may be; see [`MAX_MESSAGE`](crate::MAX_MESSAGE).
    TooLarge,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::Full => "the receiver does not keep up",
            Self::TooLarge => "the message is too large for a broadcast",
        })
    }
}

impl std::error::Error for SendError {}

impl From<user::SendError> for SendError {
    /// Of a broadcast.
    fn from(error: user::SendError) -> Self {
        match error {
            user::SendError::TooLarge(_) => Self::TooLarge,
            user::SendError::Full(_) => Self::Full,
            // A broadcast has no topic.
            user::SendError::Gone(_) | user::SendError::Topic(_) => Self::Closed,
        }
    }
}

/// The codes of RFC 6455 (7.4.1) and of its registry that a connection is closed with.
pub mod code {
    /// What the connection was for is done.
    pub const NORMAL: u16 = 1000;
    /// The worker ends, or the page was left.
    pub const AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// A kind of message that is not taken here.
    pub const UNSUPPORTED: u16 = 1003;
    /// The peer closed without a code; never sent.
    pub const NO_STATUS: u16 = 1005;
    /// The connection ended without a word; never sent.
    pub const ABNORMAL: u16 = 1006;
    /// Text that is not UTF-8.
    pub const INVALID: u16 = 1007;
    /// Something that the application does not allow.
    pub const POLICY: u16 = 1008;
    /// A frame or a message beyond the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The server failed.
    pub const ERROR: u16 = 1011;
    /// Come back later.
    pub const TRY_AGAIN: u16 = 1013;
}

/// How a connection ended: the code and reason of whoever closed it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    code: u16,
    reason: String,
}

impl CloseReason {
    pub(super) fn new(code: u16, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { code, reason }
    }

    /// The code: one of [`code`], or another that the peer sent. [`code::NO_STATUS`] when the peer
    /// gave none, [`code::ABNORMAL`] when the connection was lost.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The reason in words; mostly empty.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        Ok(())
    }
}
