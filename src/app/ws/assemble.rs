//! Messages out of a client's bytes, however these are cut up (RFC 6455 sections 5.4 to 8.1).
//!
//! Owns fragments, limits and UTF-8; leaves what a header may say to `frames`, and what becomes of
//! an event to `session`. Sizes are judged when the header is there and memory grows with what
//! arrives, so what is announced costs nothing.

use super::Message;
use super::frames::{
    Control, Data, Header, MAX_HEADER, NOT_UTF8, OpCode, Violation, close_payload, header, too_big,
    unmask, wrong,
};

/// Something that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message(Message),
    Ping(Vec<u8>),
    Pong,
    /// The code and the reason.
    Close(u16, String),
}

/// Limits in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) frame: u64,
    pub(super) message: u64,
}

/// A frame whose payload is arriving.
#[derive(Clone, Copy, Debug)]
struct Open {
    header: Header,
    /// Bytes of the payload that have come.
    have: u64,
}

/// What has come of a message and is not complete.
#[derive(Debug)]
pub(super) struct Assembler {
    sizes: Sizes,
    /// The beginning of a header.
    head: [u8; MAX_HEADER],
    head_len: usize,
    frame: Option<Open>,
    /// The payload of a control frame, which may come between fragments.
    control: Vec<u8>,
    /// Whether the message is text, if one has begun and its last frame's header has not ended it.
    is_text: Option<bool>,
    /// Its payload.
    data: Vec<u8>,
    /// How much of it is known to be UTF-8; the rest is the beginning of one character.
    checked: usize,
}

impl Assembler {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            head: [0; MAX_HEADER],
            head_len: 0,
            frame: None,
            control: Vec::new(),
            is_text: None,
            data: Vec::new(),
            checked: 0,
        }
    }

    /// Takes bytes off the front of `input` until something is complete; `None` when all are taken.
    ///
    /// # Errors
    ///
    /// What the client did wrong. Nothing after that makes sense.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Violation> {
        loop {
            let open = match self.frame {
                Some(open) => open,
                None => match self.begin(input)? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let left = open.header.length - open.have;
            let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
            let (bytes, rest) = input.split_at(count);
            *input = rest;
            let is_control = matches!(open.header.opcode, OpCode::Control(_));
            let to = if is_control {
                &mut self.control
            } else {
                &mut self.data
            };
            let start = to.len();
            to.extend_from_slice(bytes);
            unmask(&mut to[start..], open.header.mask, open.have);
            let have = open.have + count as u64;
            let complete = have == open.header.length;
            self.frame = (!complete).then_some(Open { have, ..open });
            if !complete {
                self.check_text()?;
                return Ok(None);
            }
            match open.header.opcode {
                OpCode::Control(kind) => {
                    let payload = std::mem::take(&mut self.control);
                    return match kind {
                        Control::Ping => Ok(Some(Event::Ping(payload))),
                        Control::Pong => Ok(Some(Event::Pong)),
                        _ => close_payload(&payload)
                            .map(|(code, reason)| Some(Event::Close(code, reason))),
                    };
                }
                OpCode::Data(_) if open.header.is_final => {
                    return self.message().map(|message| Some(Event::Message(message)));
                }
                OpCode::Data(_) => self.check_text()?,
            }
        }
    }

    /// The next frame, once its header is there and is allowed here.
    fn begin(&mut self, input: &mut &[u8]) -> Result<Option<Open>, Violation> {
        let before = self.head_len;
        let count = input.len().min(MAX_HEADER - before);
        self.head[before..before + count].copy_from_slice(&input[..count]);
        let found = header(&self.head[..before + count])?;
        if let Some((header, _)) = found {
            self.judge(&header)?;
        }
        let whole = found.filter(|(_, used)| *used <= before + count);
        let Some((header, used)) = whole else {
            // Taken, for the next call to go on with.
            self.head_len += count;
            *input = &input[count..];
            return Ok(None);
        };
        *input = &input[used - before..];
        self.head_len = 0;
        if let OpCode::Data(kind @ (Data::Text | Data::Binary)) = header.opcode {
            self.is_text = Some(kind == Data::Text);
        }
        let open = Open { header, have: 0 };
        self.frame = Some(open);
        Ok(Some(open))
    }

    /// Whether a frame may come now.
    fn judge(&self, header: &Header) -> Result<(), Violation> {
        if let OpCode::Data(kind) = header.opcode {
            match (kind, self.is_text) {
                (Data::Continue, None) => return Err(wrong("a continuation of nothing")),
                (Data::Continue, Some(_)) | (_, None) => {}
                (_, Some(_)) => return Err(wrong("a new message inside another")),
            }
            if header.length > self.sizes.frame {
                return Err(too_big("a frame that is too large"));
            }
            if header.length > self.sizes.message.saturating_sub(self.data.len() as u64) {
                return Err(too_big("a message that is too large"));
            }
        }
        Ok(())
    }

    /// Whether the beginning of a message is there, or of a frame.
    pub(super) fn is_partial(&self) -> bool {
        self.head_len > 0 || self.frame.is_some() || self.is_text.is_some()
    }

    /// Checks what has come of a text so far, so that what cannot become one is not waited for.
    fn check_text(&mut self) -> Result<(), Violation> {
        if self.is_text != Some(true) {
            return Ok(());
        }
        match str::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }

    /// The message that is complete.
    fn message(&mut self) -> Result<Message, Violation> {
        let data = std::mem::take(&mut self.data);
        self.checked = 0;
        match self.is_text.take() {
            Some(true) => match String::from_utf8(data) {
                Ok(text) => Ok(Message::Text(text)),
                Err(_) => Err(NOT_UTF8),
            },
            _ => Ok(Message::Binary(data)),
        }
    }
}
