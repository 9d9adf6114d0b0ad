//! Single frames: a client's header judged, a server's frame written (RFC 6455 section 5).
//!
//! `tungstenite` knows how a header is laid out; which headers a client may send is decided here,
//! so that each violation has its own close code. What frames make together is `assemble`'s.

use super::message::code;
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
pub(super) use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest header that a client sends.
pub(super) const MAX_HEADER: usize = 14;

/// The longest payload of a control frame (5.5).
const MAX_CONTROL: u8 = 125;

/// The longest reason of a Close frame: its code takes two bytes.
pub(super) const MAX_REASON: usize = 123;

/// What a client did wrong, and the code that its connection is closed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) what: &'static str,
}

/// A violation of the protocol as such.
pub(super) const fn wrong(what: &'static str) -> Violation {
    let code = code::PROTOCOL;
    Violation { code, what }
}

pub(super) const NOT_UTF8: Violation = Violation {
    code: code::INVALID,
    what: "text that is not UTF-8",
};

pub(super) const fn too_big(what: &'static str) -> Violation {
    let code = code::TOO_BIG;
    Violation { code, what }
}

/// What a client's header says, once it is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: OpCode,
    pub(super) is_final: bool,
    pub(super) mask: [u8; 4],
    pub(super) length: u64,
}

/// Reads the header at the front of `bytes`, and how long it is; `None` if more is needed to tell.
/// The mask is the last of it, and may not be whole yet: then the header is longer than `bytes`.
///
/// # Errors
///
/// For a header that no client may send, as soon as that is plain.
pub(super) fn header(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
    // RFC 6455, in the order of the bytes, so that any cut of them gives the same answer:
    //
    // 1. 5.2: opcodes 3 to 7 and 11 to 15 mean nothing (the one error of the parser).
    // 2. 5.2: a reserved bit means nothing without an extension, and none is ever accepted.
    // 3. 5.5: control frames are not fragmented.
    // 4. 5.1: a client masks every frame.
    // 5. 5.5: control frames carry 125 bytes at most.
    // 6. 5.2: the most significant bit of a 64-bit length is 0, and the shortest form is a must.
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let count = bytes.len().min(MAX_HEADER);
    let mut whole = [0; MAX_HEADER];
    whole[..count].copy_from_slice(&bytes[..count]);
    // What has not come yet is taken to be right: a mask, and a length that is none.
    let second = bytes.get(1).copied();
    let end = match second.map(|second| second & 0x7f) {
        None => MAX_HEADER,
        Some(126) => 4,
        Some(127) => 10,
        Some(_) => 2,
    };
    let known = count >= end;
    if !known {
        whole[1] = second.map_or(0x80, |second| second & 0x80);
    }
    let mut cursor = Cursor::new(&whole[..]);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| wrong("a reserved opcode"))?;
    let Some((header, length)) = parsed else {
        return Ok(None);
    };
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(wrong("a reserved bit"));
    }
    let is_control = matches!(header.opcode, OpCode::Control(_));
    debug_assert_eq!(is_control, first & 0x08 != 0);
    if is_control && !header.is_final {
        return Err(wrong("a control frame in fragments"));
    }
    let Some(mask) = header.mask else {
        return Err(wrong("a frame without a mask"));
    };
    if is_control && second.is_some_and(|second| second & 0x7f > MAX_CONTROL) {
        return Err(wrong("a control frame that is too long"));
    }
    if length >> 63 != 0 {
        return Err(wrong("a length beyond 63 bits"));
    }
    let used = cursor.position() as usize;
    if header.len(length) != used {
        return Err(wrong("a length in more bytes than needed"));
    }
    let header = Header {
        opcode: header.opcode,
        is_final: header.is_final,
        mask,
        length,
    };
    Ok(known.then_some((header, used)))
}

/// Takes the mask off `bytes`, which begin `at` bytes into the payload (5.3).
pub(super) fn unmask(bytes: &mut [u8], mut mask: [u8; 4], at: u64) {
    mask.rotate_left((at % 4) as usize);
    let mut fours = bytes.chunks_exact_mut(4);
    // By words, which the optimizer makes vectors of.
    for four in &mut fours {
        for (byte, key) in four.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in fours.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// Appends the header of a frame that is a whole message.
pub(super) fn write_header(out: &mut Vec<u8>, opcode: OpCode, length: usize) {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let written = header.format(length as u64, out);
    debug_assert!(written.is_ok(), "memory takes everything");
}

/// A whole frame.
pub(super) fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MAX_HEADER + payload.len());
    write_header(&mut frame, opcode, payload.len());
    frame.extend_from_slice(payload);
    frame
}

/// A Close frame; without a code where the peer gave none. A reason that is too long is cut.
pub(super) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let close = OpCode::Control(Control::Close);
    if code == code::NO_STATUS {
        return frame(close, &[]);
    }
    let mut payload = code.to_be_bytes().to_vec();
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    frame(close, &payload)
}

/// Whether a Close frame may carry `code` (7.4).
pub(super) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The code and reason in a Close frame's payload; [`code::NO_STATUS`] without one.
///
/// # Errors
///
/// For half a code, one that may not be sent, and a reason that is not text (5.5.1, 7.4, 8.1).
pub(super) fn close_payload(payload: &[u8]) -> Result<(u16, String), Violation> {
    match payload {
        [] => Ok((code::NO_STATUS, String::new())),
        [_] => Err(wrong("half a close code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                return Err(wrong("a close code that may not be sent"));
            }
            let reason = str::from_utf8(reason).map_err(|_| NOT_UTF8)?;
            Ok((code, reason.to_owned()))
        }
    }
}
