//! Encoding the head of an answer, alone: for the benches. What is encoded how is `respond`'s.

use super::opening::Opening;
use super::respond::{self, Meta};
use crate::app::Response;
use crate::http::{self, Head, HeadLimits};
use std::time::Instant;

/// An answer, and what its head is written to.
#[derive(Debug)]
pub struct Encoder {
    response: Response,
    meta: Meta,
    opening: Opening,
    out: Vec<u8>,
}

impl Encoder {
    /// For `response` to the request with this head.
    ///
    /// # Errors
    ///
    /// For what is no head.
    pub fn new(request: &[u8], response: Response) -> Result<Self, http::Error> {
        let mut head = Head::new();
        head.parse(request, &HeadLimits::default())?;
        Ok(Self {
            response,
            meta: Meta::of(&head),
            opening: Opening::new(Instant::now()),
            out: Vec::new(),
        })
    }

    /// Encodes it again; how many bytes the head has.
    pub fn encode(&mut self) -> usize {
        self.out.clear();
        respond::head(
            &mut self.out,
            &self.response,
            self.meta,
            true,
            &mut self.opening,
        );
        self.out.len()
    }
}
