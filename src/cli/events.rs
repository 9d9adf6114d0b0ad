//! `mcluster events`: what a stream of server-sent events says, an event a line.
//!
//! Takes the stream apart and puts events into words or JSON; leaves reading to `client`.

use crate::status::Event;
use serde_json::{Map, Value};

/// No event of a cluster is as long; what is, is something else.
const LONGEST: usize = 1 << 20;

/// One event as it was sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    name: String,
    data: String,
}

/// Takes server-sent events apart, however they are cut (the HTML standard, section 9.2.6).
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The line that has no end yet.
    line: Vec<u8>,
    /// The last line ended in CR: a LF belongs to it.
    after_cr: bool,
    event: Sent,
    has_data: bool,
}

impl Parser {
    /// The events that `bytes` complete.
    ///
    /// # Errors
    ///
    /// When one is too long to be one.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Sent>, &'static str> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.line_ends()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.event.data.len() > LONGEST {
                return Err("an event is too long");
            }
        }
        Ok(events)
    }

    fn line_ends(&mut self) -> Option<Sent> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // Comments keep the connection; the rest is about connecting again.
            _ => {}
        }
        None
    }
}

impl Sent {
    /// One object: the data and the name of the event.
    pub(super) fn json(&self) -> String {
        let mut data = match serde_json::from_str(&self.data) {
            Ok(Value::Object(data)) => data,
            Ok(other) => Map::from_iter([("data".to_owned(), other)]),
            Err(_) => Map::from_iter([("data".to_owned(), self.data.clone().into())]),
        };
        // The stream's word for it counts, and comes first.
        data.remove("event");
        let name = Value::from(self.name.as_str());
        let rest = Value::Object(data).to_string();
        let comma = if rest == "{}" { "" } else { "," };
        format!("{{\"event\":{name}{comma}{}", &rest[1..])
    }

    /// A line in words, or what was sent where there are none for it.
    pub(super) fn words(&self) -> String {
        match serde_json::from_str::<Event>(&self.json()) {
            Ok(event) => event.to_string(),
            Err(_) => format!("{} {}", self.name, self.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nevent: online\ndata: {\"worker\":3,\"pid\":103}\n\n\
        retry: 5\r\nevent:fork\r\nid: 7\r\ndata:{\"worker\":4}\r\n\r\n\
        event: nothing\n\ndata: one\ndata: two\n\nevent: news\ndata: [1]\n\n\
        event: fork\ndata: {\"worker\"";

    #[test]
    fn streams_however_they_come() {
        for piece in 1..STREAM.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for bytes in STREAM.as_bytes().chunks(piece) {
                events.extend(parser.take(bytes).unwrap());
            }
            let words: Vec<_> = events.iter().map(Sent::words).collect();
            let expected = [
                "worker 3 is online (pid 103)",
                "worker 4 is forked",
                " one\ntwo",
                "news [1]",
            ];
            assert_eq!(words, expected);
            let json: Vec<_> = events.iter().map(Sent::json).collect();
            let expected = [
                r#"{"event":"online","pid":103,"worker":3}"#,
                r#"{"event":"fork","worker":4}"#,
                r#"{"event":"","data":"one\ntwo"}"#,
                r#"{"event":"news","data":[1]}"#,
            ];
            assert_eq!(json, expected);
        }
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut parser = Parser::default();
        let endless = vec![b'a'; LONGEST + 1];
        assert!(parser.take(&endless).is_err());
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "a".repeat(1000));
        let all = (0..2000).try_for_each(|_| parser.take(line.as_bytes()).map(drop));
        assert!(all.is_err());
    }
}
