//! What is published under a topic: how it is written down for its way through the cluster, and as
//! its subscribers read it. Leaves the way to `user`, and who subscribes to the workers.

use super::message::{Message, SendError};
use super::user::MAX_MESSAGE;
use std::fmt;
#[cfg(feature = "json")]
use std::io;

/// The longest topic, in bytes: its length is written down in one.
pub(crate) const MAX_TOPIC: usize = 255;

/// Whether it is a topic.
pub(crate) fn is_topic(topic: &str) -> bool {
    (1..=MAX_TOPIC).contains(&topic.len())
}

/// A message as the subscribers of its topic get it.
///
/// # Examples
///
/// ```no_run
/// # fn start(worker: &mcluster::Worker) -> Result<(), mcluster::SubscribeError> {
/// worker.subscribe("prices", |_, publication| {
///     println!("{}: {:?}", publication.topic(), publication.text());
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Publication {
    /// The topic's length in one byte, the topic, the message.
    written: Vec<u8>,
    /// Where the message begins.
    begin: usize,
}

impl Publication {
    /// `message` under `topic`.
    ///
    /// # Errors
    ///
    /// Gives the message back when that is no topic, or when both together are too large.
    pub(crate) fn new(topic: &str, message: Message) -> Result<Self, SendError> {
        if !is_topic(topic) {
            return Err(SendError::Topic(message));
        }
        let begin = 1 + topic.len();
        if begin + message.bytes().len() > MAX_MESSAGE {
            return Err(SendError::TooLarge(message));
        }
        let mut written = Vec::with_capacity(begin + message.bytes().len());
        written.push(topic.len() as u8);
        written.extend_from_slice(topic.as_bytes());
        written.extend_from_slice(message.bytes());
        Ok(Self { written, begin })
    }

    /// What [`Publication::into_written`] gave elsewhere; nothing if it makes no sense.
    pub(crate) fn read(written: Vec<u8>) -> Option<Self> {
        let length = usize::from(*written.first()?);
        let begin = 1 + length;
        let topic = std::str::from_utf8(written.get(1..begin)?).ok()?;
        let fine = is_topic(topic) && written.len() <= MAX_MESSAGE;
        fine.then_some(Self { written, begin })
    }

    /// All of it, for the way.
    pub(crate) fn into_written(self) -> Message {
        Message::from(self.written)
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        // It was UTF-8 when this was made.
        std::str::from_utf8(&self.written[1..self.begin]).unwrap_or_default()
    }

    /// The message.
    pub fn bytes(&self) -> &[u8] {
        &self.written[self.begin..]
    }

    /// The message, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()).ok()
    }

    /// The value that the message, as JSON, stands for.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it is no JSON or another type's.
    #[cfg(feature = "json")]
    pub fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> io::Result<T> {
        serde_json::from_slice(self.bytes())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, bytes) = (self.topic(), self.bytes().len());
        match self.text() {
            Some(text) if text.len() <= 80 => write!(f, "Publication({topic:?}, {text:?})"),
            _ => write!(f, "Publication({topic:?}, {bytes} bytes)"),
        }
    }
}

/// Why nobody subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// It is no topic: those have 1 to 255 bytes.
    Topic,
    /// A WebSocket connection has as many topics as it may.
    TooMany,
    /// The WebSocket connection has ended.
    Closed,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic => write!(f, "a topic has 1 to {MAX_TOPIC} bytes"),
            Self::TooMany => f.write_str("too many topics for one connection"),
            Self::Closed => f.write_str("the connection is closed"),
        }
    }
}

impl std::error::Error for SubscribeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::user::{Inbox, Kind, Outbox};

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(MAX_TOPIC);
        let cases = [
            ("a", ""),
            ("news", "hello"),
            ("\u{e9}t\u{e9}", "\0"),
            (&long, "y"),
        ];
        for (topic, text) in cases {
            let publication = Publication::new(topic, Message::from(text)).unwrap();
            let read = Publication::read(publication.clone().into_written().into_bytes()).unwrap();
            assert_eq!((read.topic(), read.text()), (topic, Some(text)));
            assert_eq!(read, publication);
        }
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let bad: [&[u8]; 6] = [b"", b"\0", b"\0abc", b"\x01", b"\x03ab", b"\x02\xc3("];
        for written in bad {
            assert_eq!(Publication::read(written.to_vec()), None, "{written:?}");
        }
        assert!(Publication::read(b"\x02ab".to_vec()).is_some());
    }

    #[test]
    fn bounds_hold_for_topic_and_message_together() {
        let message = || Message::from(vec![1; MAX_MESSAGE - 3]);
        assert!(Publication::new("ab", message()).is_ok());
        let back = Publication::new("abc", message()).unwrap_err();
        assert_eq!(back, SendError::TooLarge(message()));
        for topic in [String::new(), "x".repeat(MAX_TOPIC + 1)] {
            let back = Publication::new(&topic, Message::from("m")).unwrap_err();
            assert_eq!(back, SendError::Topic(Message::from("m")));
        }
    }

    #[test]
    fn every_cut_of_the_stream_is_the_same_publication() {
        let publication = Publication::new("news", Message::from("hello")).unwrap();
        let mut outbox = Outbox::default();
        outbox.push(Kind::Message, Message::from("x")).unwrap();
        let written = publication.clone().into_written();
        outbox.push(Kind::Publish, written).unwrap();
        let stream = outbox.next_piece().unwrap();
        for cut in 0..=stream.len() {
            let mut inbox = Inbox::default();
            let mut arrived = inbox.piece(&stream[..cut]).unwrap();
            arrived.extend(inbox.piece(&stream[cut..]).unwrap());
            let (kind, message) = arrived.pop().unwrap();
            assert_eq!((kind, arrived.len()), (Kind::Publish, 1));
            let read = Publication::read(message.into_bytes());
            assert_eq!(read.as_ref(), Some(&publication), "cut at {cut}");
        }
    }
}
