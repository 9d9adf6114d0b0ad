//! One message of a user's, and why it was not sent. Plain values; how they travel is `user`'s.

use super::topic::MAX_TOPIC;
use super::user::MAX_MESSAGE;
use std::fmt;
#[cfg(feature = "json")]
use std::io;

/// A message between the primary and a worker: bytes, whatever they mean.
///
/// # Examples
///
/// ```
/// use mcluster::Message;
///
/// let message = Message::from("hello");
/// assert_eq!(message.text(), Some("hello"));
/// assert_eq!(Message::from(vec![1, 2, 3]).bytes(), [1, 2, 3]);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message(pub(super) Vec<u8>);

impl Message {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// `value` as JSON.
    ///
    /// # Errors
    ///
    /// When the value has no form in JSON, such as a map whose keys are no strings.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::Message;
    ///
    /// let message = Message::json(&("visits", 3)).unwrap();
    /// assert_eq!(message.text(), Some(r#"["visits",3]"#));
    /// let (what, count): (String, u32) = message.parse().unwrap();
    /// assert_eq!((what.as_str(), count), ("visits", 3));
    /// ```
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> io::Result<Self> {
        Ok(Self(serde_json::to_vec(value)?))
    }

    /// The value that the JSON stands for.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it is no JSON or another type's.
    #[cfg(feature = "json")]
    pub fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> io::Result<T> {
        serde_json::from_slice(&self.0)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) if text.len() <= 80 => write!(f, "Message({text:?})"),
            _ => write!(f, "Message({} bytes)", self.0.len()),
        }
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Why a message was not sent; it comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// It is larger than [`MAX_MESSAGE`](crate::MAX_MESSAGE).
    TooLarge(Message),
    /// The receiver has not taken more than twice [`MAX_MESSAGE`](crate::MAX_MESSAGE) of earlier ones.
    Full(Message),
    /// There is nobody at the other end.
    Gone(Message),
    /// It was to be published under what is no topic: those have 1 to 255 bytes.
    Topic(Message),
}

impl SendError {
    /// The message that was not sent.
    pub fn into_message(self) -> Message {
        match self {
            Self::TooLarge(message)
            | Self::Full(message)
            | Self::Gone(message)
            | Self::Topic(message) => message,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(message) => {
                let bytes = message.0.len();
                write!(f, "a message of {bytes} bytes: at most {MAX_MESSAGE}")
            }
            Self::Full(_) => f.write_str("the receiver does not keep up with its messages"),
            Self::Gone(_) => f.write_str("the receiver is gone"),
            Self::Topic(_) => write!(f, "a topic has 1 to {MAX_TOPIC} bytes"),
        }
    }
}

impl std::error::Error for SendError {}
