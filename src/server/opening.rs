//! What most heads begin with, put together once and copied from then on: the status line, the
//! Content-Type, the field against guessing it, the Date.
//!
//! Owns the copy and when it is right no longer; leaves all that differs from answer to answer to
//! `respond`.

use super::date::Date;
use crate::app::{NOSNIFF, Response};
use crate::http;
use std::time::Instant;

/// The beginning of the last answer's head, and the date in it.
#[derive(Debug)]
pub(super) struct Opening {
    date: Date,
    bytes: Vec<u8>,
    /// What `bytes` were made of; nothing when they are out of date.
    of: Option<(u16, Option<&'static str>, bool)>,
}

impl Opening {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            date: Date::new(now),
            bytes: Vec::new(),
            of: None,
        }
    }

    /// Formats the date anew if a second has begun.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.date.refresh(now) {
            self.of = None;
        }
    }

    /// The date of now.
    pub(super) fn date(&self) -> &Date {
        &self.date
    }

    /// Appends the beginning of the head of `response`.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, response: &Response) {
        if response.has_date() {
            return begin(out, response);
        }
        if !self.is_of(response) {
            self.bytes.clear();
            begin(&mut self.bytes, response);
            self.bytes.extend_from_slice(self.date.field());
            self.of = Some((
                response.status(),
                response.content_type(),
                response.is_nosniff(),
            ));
        }
        out.extend_from_slice(&self.bytes);
    }

    fn is_of(&self, response: &Response) -> bool {
        let Some((status, content_type, nosniff)) = self.of else {
            return false;
        };
        // The same words elsewhere are put together again, which is all.
        let same_type = match (content_type, response.content_type()) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same_type && status == response.status() && nosniff == response.is_nosniff()
    }
}

fn begin(out: &mut Vec<u8>, response: &Response) {
    http::status_line(out, response.status());
    if let Some(content_type) = response.content_type() {
        http::field(out, "Content-Type", content_type.as_bytes());
    }
    if response.is_nosniff() {
        http::field(out, NOSNIFF.0, NOSNIFF.1.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn put(opening: &mut Opening, response: &Response) -> String {
        let mut out = Vec::new();
        opening.put(&mut out, response);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_answer_has_its_own_beginning() {
        let mut opening = Opening::new(Instant::now());
        let date = String::from_utf8(opening.date().field().to_vec()).unwrap();
        let text = "Content-Type: text/plain; charset=utf-8\r\n";
        let guess = "X-Content-Type-Options: nosniff\r\n";
        for _ in 0..2 {
            let answers = [
                (Response::text("a"), format!("200 OK\r\n{text}{date}")),
                (
                    Response::text("a").nosniff(),
                    format!("200 OK\r\n{text}{guess}{date}"),
                ),
                (Response::new(204), format!("204 No Content\r\n{date}")),
                (
                    Response::text("").with_status(404),
                    format!("404 Not Found\r\n{text}{date}"),
                ),
                (
                    Response::new(200).header("Date", "then"),
                    "200 OK\r\n".to_owned(),
                ),
            ];
            for (response, expected) in answers {
                for _ in 0..2 {
                    let said = put(&mut opening, &response);
                    assert_eq!(said, format!("HTTP/1.1 {expected}"));
                }
            }
        }
    }

    #[test]
    fn a_new_second_has_a_new_date() {
        let now = Instant::now();
        let mut opening = Opening::new(now);
        let before = put(&mut opening, &Response::new(204));
        assert!(opening.of.is_some());
        opening.refresh(now);
        assert!(opening.of.is_some() || put(&mut opening, &Response::new(204)) != before);
        opening.refresh(now + Duration::from_secs(2));
        assert_eq!(opening.of, None);
    }
}
