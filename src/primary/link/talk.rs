//! What is said on a connection to Redis: bytes in, what they mean out. No socket and no clock.
//!
//! The redis crate makes the commands and reads the answers, each once `frames` has it whole. Owns
//! which answers make sense when.

use super::frames::Frames;
use redis::{PushKind, ServerError, Value};

/// Bytes in front of each message that say which cluster published it.
pub(super) const ORIGIN: usize = 16;

/// How far the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// HELLO is not answered.
    Greeted,
    /// Nor is SUBSCRIBE.
    Asked,
    /// What is published comes.
    Up,
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// From now on what is published comes.
    Up,
    /// This was, by somebody: the origin and what is written behind it.
    Message(Vec<u8>),
    /// The server does not do what it was asked to, and says why.
    Refused(String),
}

pub(super) struct Talk {
    frames: Frames,
    stage: Stage,
    channel: String,
    /// What was published and not answered.
    unanswered: u64,
    /// Values that have come.
    values: u64,
}

impl Talk {
    /// The greeting has been, or is to be, sent.
    pub(super) fn new(channel: &str) -> Self {
        Self {
            frames: Frames::new(),
            stage: Stage::Greeted,
            channel: channel.to_owned(),
            unanswered: 0,
            values: 0,
        }
    }

    /// One that goes on where another was, which was up; see [`Talk::partial`].
    ///
    /// # Errors
    ///
    /// As [`Talk::received`].
    pub(super) fn resumed(channel: &str, partial: &[u8], unanswered: u64) -> Result<Self, String> {
        let mut talk = Self {
            stage: Stage::Up,
            unanswered,
            ..Self::new(channel)
        };
        talk.received(partial).map(|_| talk)
    }

    /// What has come of a value that is not complete.
    pub(super) fn partial(&self) -> &[u8] {
        self.frames.partial()
    }

    /// How many publications were said and not answered.
    pub(super) fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// How many values have come.
    pub(super) fn values(&self) -> u64 {
        self.values
    }

    /// The command by which `written` reaches all others; its answer is waited for.
    pub(super) fn publish(&mut self, origin: &[u8; ORIGIN], written: &[u8]) -> Vec<u8> {
        self.unanswered += 1;
        publish(&self.channel, origin, written)
    }

    pub(super) fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// Takes what has come.
    ///
    /// # Errors
    ///
    /// In words, why there is nothing more to be heard: nonsense, or a greeting that was refused.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, String> {
        let mut all = Vec::new();
        let mut rest = bytes;
        while let Some(value) = self.frames.next(&mut rest)? {
            let value = redis::parse_redis_value(&value)
                .map_err(|_| "it says what is not the protocol of Redis".to_owned())?;
            self.values += 1;
            all.extend(self.heard(value)?);
        }
        Ok(all)
    }

    fn heard(&mut self, value: Value) -> Result<Option<Heard>, String> {
        match (self.stage, value) {
            (Stage::Greeted, Value::Map(_)) => {
                self.stage = Stage::Asked;
                Ok(None)
            }
            (
                Stage::Asked,
                Value::Push {
                    kind: PushKind::Subscribe,
                    ..
                },
            ) => {
                self.stage = Stage::Up;
                Ok(Some(Heard::Up))
            }
            (
                Stage::Up,
                Value::Push {
                    kind: PushKind::Message,
                    data,
                },
            ) => Ok(self.message(data).map(Heard::Message)),
            // Of a publication: how many have heard it.
            (Stage::Up, Value::Int(_)) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                Ok(None)
            }
            (Stage::Up, Value::SimpleString(answer)) if answer == "PONG" => Ok(None),
            (Stage::Up, Value::ServerError(error)) => {
                self.unanswered = self.unanswered.saturating_sub(1);
                Ok(Some(Heard::Refused(words(&error))))
            }
            (_, Value::ServerError(error)) => Err(words(&error)),
            // News that nobody asked for, such as of its memory.
            (_, Value::Push { .. }) => Ok(None),
            _ => Err("it answers what was not asked".to_owned()),
        }
    }

    /// What is published: the channel's name and the bytes.
    fn message(&self, data: Vec<Value>) -> Option<Vec<u8>> {
        let Ok([channel, payload]) = <[Value; 2]>::try_from(data) else {
            return None;
        };
        match (channel, payload) {
            (Value::BulkString(channel), Value::BulkString(payload))
                if channel == self.channel.as_bytes() =>
            {
                Some(payload)
            }
            _ => None,
        }
    }
}

/// The command by which `written` reaches all others.
pub(super) fn publish(channel: &str, origin: &[u8; ORIGIN], written: &[u8]) -> Vec<u8> {
    let payload = [&origin[..], written].concat();
    let mut command = redis::cmd("PUBLISH");
    command.arg(channel).arg(payload).get_packed_command()
}

/// The command that is answered at once.
pub(super) fn ping() -> Vec<u8> {
    redis::cmd("PING").get_packed_command()
}

/// What a server says of its error, cut and in visible characters: it goes to the log.
fn words(error: &ServerError) -> String {
    let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
    let visible = |c: char| if c.is_control() { '?' } else { c };
    text.trim_end().chars().take(120).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::super::frames::MOST_VALUE;
    use super::*;
    use crate::ipc::user::MAX_MESSAGE;
    use std::time::{Duration, Instant};

    const HELLO: &[u8] = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n";
    const SUBSCRIBED: &[u8] = b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
    const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\na\r\n\0b\r\n";

    fn up() -> Talk {
        let mut talk = Talk::new("c");
        assert_eq!(talk.received(HELLO), Ok(vec![]));
        assert!(!talk.is_up());
        assert_eq!(talk.received(SUBSCRIBED), Ok(vec![Heard::Up]));
        assert!(talk.is_up());
        talk
    }

    #[test]
    fn every_cut_of_the_answers_is_the_same() {
        let other = b">3\r\n$7\r\nmessage\r\n$1\r\nd\r\n$1\r\nx\r\n";
        let stream = [
            HELLO,
            SUBSCRIBED,
            MESSAGE,
            b":2\r\n+PONG\r\n",
            other,
            MESSAGE,
        ]
        .concat();
        let message = || Heard::Message(b"a\r\n\0b".to_vec());
        let expected = vec![Heard::Up, message(), message()];
        for cut in 0..=stream.len() {
            let mut talk = Talk::new("c");
            let mut all = talk.received(&stream[..cut]).unwrap();
            all.extend(talk.received(&stream[cut..]).unwrap());
            assert_eq!(all, expected, "cut at {cut}");
        }
        let mut talk = Talk::new("c");
        let one_by_one = stream
            .iter()
            .flat_map(|byte| talk.received(&[*byte]).unwrap());
        assert_eq!(one_by_one.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_refused_greeting_is_the_end() {
        let refusals: [&[u8]; 3] = [
            b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
            b"-NOPROTO unsupported protocol version\r\n",
            b"-ERR unknown command 'HELLO'\x1b[2J\r\n",
        ];
        for refusal in refusals {
            let why = Talk::new("c").received(refusal).unwrap_err();
            assert!(!why.contains('\x1b') && why.len() > 10, "{why}");
        }
        let mut talk = Talk::new("c");
        talk.received(HELLO).unwrap();
        assert!(talk.received(b"-NOPERM no\r\n").is_err());
        let refused = up().received(b"-NOPERM no\r\n").unwrap();
        assert_eq!(refused, [Heard::Refused("NOPERM no".to_owned())]);
    }

    #[test]
    fn nonsense_is_an_error() {
        let nonsense: [&[u8]; 8] = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\0\0\0\0\r\n",
            b"+OK\r\n",
            b":x\r\n",
            b"*3\r\n+a\r\n+b\r\n+c\r\n",
            b"$-1\r\n",
            b"_\r\n",
            b"%-1\r\nx",
        ];
        for bytes in nonsense {
            assert!(Talk::new("c").received(bytes).is_err(), "{bytes:?}");
            assert!(up().received(bytes).is_err(), "{bytes:?}");
        }
        let nested = b"*1\r\n".repeat(10_000);
        assert!(Talk::new("c").received(&nested).is_err());
    }

    #[test]
    fn what_never_ends_is_cut_off_in_linear_time() {
        let begin = Instant::now();
        let largest = format!("${}\r\n", MOST_VALUE - 100);
        for start in [largest.as_bytes(), b"+", b"*2000\r\n$3\r\n"] {
            let mut talk = up();
            talk.received(start).unwrap();
            let piece = vec![b'x'; 64 * 1024];
            let pieces = (0..2000).take_while(|_| talk.received(&piece).is_ok());
            assert!(pieces.count() <= MOST_VALUE / piece.len());
        }
        // Quadratic work would take hours.
        assert!(begin.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn one_goes_on_where_another_was() {
        let mut talk = up();
        talk.publish(&[1; ORIGIN], b"x");
        let cut = MESSAGE.len() - 4;
        assert_eq!(talk.received(&MESSAGE[..cut]), Ok(vec![]));
        let mut next = Talk::resumed("c", talk.partial(), talk.unanswered()).unwrap();
        assert!(next.is_up());
        let expected = Heard::Message(b"a\r\n\0b".to_vec());
        assert_eq!(next.received(&MESSAGE[cut..]), Ok(vec![expected]));
        assert_eq!(next.unanswered(), 1);
        next.received(b":1\r\n").unwrap();
        assert_eq!(next.unanswered(), 0);
    }

    #[test]
    fn the_largest_message_arrives() {
        let command = publish("c", &[7; ORIGIN], &vec![1; MAX_MESSAGE]);
        assert!(command.len() < MOST_VALUE);
        let mut talk = up();
        let length = MAX_MESSAGE + ORIGIN;
        let head = format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${length}\r\n");
        talk.received(head.as_bytes()).unwrap();
        let payload = vec![1; length];
        for piece in payload.chunks(64 * 1024) {
            assert_eq!(talk.received(piece), Ok(vec![]));
        }
        let all = talk.received(b"\r\n").unwrap();
        assert!(all == [Heard::Message(payload)]);
    }
}
