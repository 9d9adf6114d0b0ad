//! A WebSocket's client side (RFC 6455): messages out, and the same messages back.
//!
//! Owns what frames a server may send, and the handshake before them by `opening`; leaves sockets, and when
//! a message is sent, to `conn`. An echo is compared as it comes, so nothing of it is kept.

mod opening;

pub(crate) use opening::{Handshake, Opening};

use crate::http::Error;
use crate::sys::random;
use std::io::Cursor;
use std::sync::Arc;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest header that a server sends: it has no mask.
const LONGEST_HEADER: usize = 10;

/// The longest payload of a control frame (5.5).
const LONGEST_CONTROL: u64 = 125;

/// The frame of a whole message: text where it is UTF-8, else binary. The mask is by 5.3.
pub(crate) fn message_frame(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    frame(OpCode::Data(kind(payload)), payload, mask)
}

/// The frame that begins the end of a connection: nothing is wrong (1000).
pub(crate) fn close_frame(mask: [u8; 4]) -> Vec<u8> {
    frame(
        OpCode::Control(Control::Close),
        &1000_u16.to_be_bytes(),
        mask,
    )
}

/// A mask that nobody can guess.
pub(crate) fn mask() -> [u8; 4] {
    (random::number() as u32).to_ne_bytes()
}

fn kind(payload: &[u8]) -> Data {
    match str::from_utf8(payload) {
        Ok(_) => Data::Text,
        Err(_) => Data::Binary,
    }
}

fn frame(opcode: OpCode, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let header = FrameHeader {
        opcode,
        mask: Some(mask),
        ..FrameHeader::default()
    };
    let length = payload.len() as u64;
    let mut out = Vec::with_capacity(header.len(length) + payload.len());
    let written = header.format(length, &mut out);
    debug_assert!(written.is_ok(), "memory takes everything");
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(b, key)| b ^ key),
    );
    out
}

/// Something that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Echoed {
    /// The message, as it was sent.
    Message,
    /// The server asks whether anybody is there: the Pong frame to write.
    Ping(Vec<u8>),
    /// The server ends the connection: the Close frame to write, after which nothing may come.
    Close(Vec<u8>),
}

/// Reads frames of a server that sends each message back. Any split of the input gives the same.
#[derive(Debug)]
pub(crate) struct EchoReader {
    /// What is sent each time.
    sent: Arc<[u8]>,
    kind: Data,
    /// The beginning of a header.
    head: [u8; LONGEST_HEADER],
    head_len: usize,
    /// The frame whose payload is arriving, and how much of it is to come.
    frame: Option<(OpCode, bool, u64)>,
    /// How much of the message has come, if one has begun.
    message: Option<usize>,
    /// The payload of a control frame, which may come between fragments.
    control: Vec<u8>,
    closed: bool,
}

impl EchoReader {
    /// For messages of that payload.
    pub(crate) fn new(sent: Arc<[u8]>) -> Self {
        Self {
            kind: kind(&sent),
            sent,
            head: [0; LONGEST_HEADER],
            head_len: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            closed: false,
        }
    }

    /// Whether no byte of a message has come since the last one's end.
    pub(crate) fn is_idle(&self) -> bool {
        self.head_len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Takes bytes off the front of `input`: how many, and what is whole if they reach its end. Without that, all are
    /// taken.
    ///
    /// # Errors
    ///
    /// For what no server may send, and for a message that is not the one that was sent. Nothing after that makes
    /// sense.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Echoed>), Error> {
        let mut at = 0;
        loop {
            if self.closed {
                return Ok((input.len(), None));
            }
            let (opcode, is_final, left) = match self.frame {
                Some(frame) => frame,
                None => {
                    let Some(&byte) = input.get(at) else {
                        return Ok((at, None));
                    };
                    at += 1;
                    self.frame = self.header(byte)?;
                    match self.frame {
                        Some(frame) => frame,
                        None => continue,
                    }
                }
            };
            let rest = &input[at..];
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            let data = &rest[..rest.len().min(wanted)];
            at += data.len();
            self.payload(opcode, data)?;
            let left = left - data.len() as u64;
            if left > 0 {
                self.frame = Some((opcode, is_final, left));
                return Ok((at, None));
            }
            self.frame = None;
            if let Some(echoed) = self.end(opcode, is_final)? {
                return Ok((at, Some(echoed)));
            }
        }
    }

    /// One more byte of a header: the opcode, whether the frame ends its message, and the payload's length, once it is
    /// whole.
    fn header(&mut self, byte: u8) -> Result<Option<(OpCode, bool, u64)>, Error> {
        // There is always room: a header of a server is at most so long, and one with a mask is refused before.
        if let Some(place) = self.head.get_mut(self.head_len) {
            *place = byte;
            self.head_len += 1;
        }
        let head = &self.head[..self.head_len];
        if head.first().is_some_and(|first| first & 0x70 != 0) {
            return Err(wrong("a reserved bit"));
        }
        if head.get(1).is_some_and(|second| second & 0x80 != 0) {
            return Err(wrong("a frame with a mask"));
        }
        let mut cursor = Cursor::new(head);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| wrong("a reserved opcode"))?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        if header.len(length) != self.head_len {
            return Err(wrong("a length in more bytes than needed"));
        }
        self.head_len = 0;
        let (opcode, is_final) = (header.opcode, header.is_final);
        match opcode {
            OpCode::Control(_) if !is_final => return Err(wrong("a control frame in fragments")),
            OpCode::Control(_) if length > LONGEST_CONTROL => {
                return Err(wrong("a control frame that is too long"));
            }
            OpCode::Control(_) => self.control.clear(),
            OpCode::Data(Data::Continue) if self.message.is_none() => {
                return Err(wrong("the end of a message without its beginning"));
            }
            OpCode::Data(Data::Continue) => {}
            OpCode::Data(_) if self.message.is_some() => {
                return Err(wrong("a message inside another one"));
            }
            OpCode::Data(kind) if kind != self.kind => return Err(DIFFERENT),
            OpCode::Data(_) => self.message = Some(0),
        }
        let come = self.message.unwrap_or_default();
        if matches!(opcode, OpCode::Data(_)) && length > (self.sent.len() - come) as u64 {
            return Err(DIFFERENT);
        }
        Ok(Some((opcode, is_final, length)))
    }

    fn payload(&mut self, opcode: OpCode, data: &[u8]) -> Result<(), Error> {
        match opcode {
            OpCode::Control(_) => self.control.extend_from_slice(data),
            OpCode::Data(_) => {
                let come = self.message.unwrap_or_default();
                let end = come + data.len();
                if self.sent.get(come..end) != Some(data) {
                    return Err(DIFFERENT);
                }
                self.message = Some(end);
            }
        }
        Ok(())
    }

    /// A frame is whole.
    fn end(&mut self, opcode: OpCode, is_final: bool) -> Result<Option<Echoed>, Error> {
        Ok(match opcode {
            OpCode::Data(_) if !is_final => None,
            OpCode::Data(_) => match self.message.take() == Some(self.sent.len()) {
                true => Some(Echoed::Message),
                false => return Err(DIFFERENT),
            },
            OpCode::Control(Control::Ping) => {
                let pong = OpCode::Control(Control::Pong);
                Some(Echoed::Ping(frame(pong, &self.control, mask())))
            }
            // The code comes back as it came, without the reason (5.5.1).
            OpCode::Control(Control::Close) => {
                if self.control.len() == 1 {
                    return Err(wrong("half a close code"));
                }
                self.closed = true;
                let code = &self.control[..self.control.len().min(2)];
                let close = OpCode::Control(Control::Close);
                Some(Echoed::Close(frame(close, code, mask())))
            }
            // A Pong that nobody asked for may come any time (5.5.3); other opcodes were refused.
            OpCode::Control(_) => None,
        })
    }
}

const DIFFERENT: Error = wrong("a message that is not the one that was sent");

const fn wrong(what: &'static str) -> Error {
    Error::new(502, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_masked_as_in_the_rfc() {
        // 5.7: a single-frame masked text message.
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(message_frame(b"Hello", [0x37, 0xfa, 0x21, 0x3d]), hello);
        assert_eq!(
            message_frame(b"\xff", [0; 4]),
            [0x82, 0x81, 0, 0, 0, 0, 0xff]
        );
        assert_eq!(
            message_frame(&[b'a'; 300], [0; 4])[..4],
            [0x81, 0xfe, 1, 44]
        );
        assert_eq!(close_frame([0; 4]), [0x88, 0x82, 0, 0, 0, 0, 3, 232]);
    }

    /// What a server's bytes hold, as an error or as names, which no cut changes.
    fn read(sent: &[u8], bytes: &[u8]) -> Result<Vec<String>, &'static str> {
        let ways = (0..=bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
        let ways = ways.chain([bytes.chunks(1).collect()]);
        let mut results = ways.map(|pieces| {
            let mut reader = EchoReader::new(sent.into());
            let mut found = Vec::new();
            for mut piece in pieces {
                while !piece.is_empty() {
                    let (used, echoed) = reader.feed(piece).map_err(|error| error.what())?;
                    assert!(echoed.is_some() || used == piece.len());
                    piece = &piece[used..];
                    // The masks are by chance.
                    let unmasked = |frame: &[u8]| {
                        let (mask, payload) = frame[2..].split_at(4);
                        let bytes = payload.iter().zip(mask.iter().cycle());
                        let bytes: Vec<_> = bytes.map(|(b, key)| b ^ key).collect();
                        format!("{:x} {}", frame[0], bytes.escape_ascii())
                    };
                    found.extend(echoed.map(|echoed| match echoed {
                        Echoed::Message => "message".to_owned(),
                        Echoed::Ping(pong) => unmasked(&pong),
                        Echoed::Close(close) => unmasked(&close),
                    }));
                }
            }
            found.push(format!("idle {}", reader.is_idle()));
            Ok(found)
        });
        let first = results.next().unwrap();
        assert!(results.all(|other| other == first));
        first
    }

    #[test]
    fn echoes_pings_and_the_end() {
        let cases: [(&[u8], &[&str]); 10] = [
            (b"", &["idle true"]),
            (b"\x81\x02hi", &["message", "idle true"]),
            (
                b"\x81\x02hi\x81\x02hi\x81",
                &["message", "message", "idle false"],
            ),
            (b"\x81\x02h", &["idle false"]),
            (b"\x01\x01h\x80\x01i", &["message", "idle true"]),
            (b"\x01\x00\x00\x02hi\x80\x00", &["message", "idle true"]),
            (
                b"\x01\x01h\x89\x01p\x80\x01i",
                &["8a p", "message", "idle true"],
            ),
            (
                b"\x89\x00\x8a\x03abc\x81\x02hi",
                &["8a ", "message", "idle true"],
            ),
            (
                b"\x88\x05\x03\xe8bye\x81\x02no",
                &["88 \\x03\\xe8", "idle true"],
            ),
            (b"\x88\x00", &["88 ", "idle true"]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                read(b"hi", bytes).unwrap(),
                expected,
                "{}",
                bytes.escape_ascii()
            );
        }
        assert_eq!(read(b"", b"\x81\x00").unwrap(), ["message", "idle true"]);
        let long = [&[0x82, 126, 1, 44][..], &[0xff; 300]].concat();
        assert_eq!(read(&[0xff; 300], &long).unwrap(), ["message", "idle true"]);
    }

    #[test]
    fn what_is_no_echo_is_an_error() {
        let cases: [(&[u8], &str); 16] = [
            (b"\x81\x02ho", DIFFERENT.what()),
            (b"\x81\x01h", DIFFERENT.what()),
            (b"\x81\x03hi!", DIFFERENT.what()),
            (b"\x82\x02hi", DIFFERENT.what()),
            (b"\x01\x01h\x80\x02i!", DIFFERENT.what()),
            (
                b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
                DIFFERENT.what(),
            ),
            (b"\x80\x01h", "the end of a message without its beginning"),
            (b"\x01\x01h\x81\x01i", "a message inside another one"),
            (b"\xc1\x02hi", "a reserved bit"),
            (b"\x83\x00", "a reserved opcode"),
            (b"\x8b\x00", "a reserved opcode"),
            (b"\x81\x82\0\0\0\0hi", "a frame with a mask"),
            (b"\x81\x7e\x00\x02hi", "a length in more bytes than needed"),
            (b"\x09\x00", "a control frame in fragments"),
            (b"\x89\x7e\x00\x80", "a control frame that is too long"),
            (b"\x88\x01\x03", "half a close code"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                read(b"hi", bytes),
                Err(expected),
                "{}",
                bytes.escape_ascii()
            );
        }
    }
}
