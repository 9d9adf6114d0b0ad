//! A WebSocket's client side through a whole server that echoes: the same answers however the bytes are cut, all of
//! them whole frames, and a Close frame last. The first byte says whether the rest is bytes as they come or frames to
//! be made of it, the next two where it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcluster::internals::Exchange;
use mcluster::{App, Request, ws};
use std::cell::RefCell;

const HANDSHAKE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

thread_local! {
    static SERVER: RefCell<Exchange> = RefCell::new(Exchange::new(app()).expect("descriptors"));
}

fn app() -> App {
    App::new().get("/", |request: Request| {
        ws::upgrade(&request)
            .max_frame(300)
            .max_message(500)
            .on_message(|socket, message| {
                let _ = socket.send(message);
            })
    })
}

fn said<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<u8> {
    let pieces = std::iter::once(HANDSHAKE).chain(pieces);
    let said = SERVER.with_borrow_mut(|server| server.talk(pieces));
    let mut said = said.expect("a connection");
    assert!(
        said.starts_with(b"HTTP/1.1 101 "),
        "{}",
        said.escape_ascii()
    );
    let end = said.windows(4).position(|w| w == b"\r\n\r\n");
    said.drain(..end.expect("a head") + 4);
    said
}

/// Frames with a mask and a length that are right, and all else as it comes: a byte for flags and opcode, one for the
/// length, the payload.
fn frames(mut data: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = Vec::new();
    while let [first, length, rest @ ..] = data {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        data = rest;
        // Mostly no reserved bits.
        out.push(if length % 16 == 7 {
            *first
        } else {
            *first & 0x8f
        });
        match payload.len() {
            short @ 0..=125 => out.push(0x80 | short as u8),
            long => out.extend([0xfe, 0, long as u8]),
        }
        out.extend(MASK);
        out.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(b, key)| b ^ key),
        );
    }
    out
}

/// Reads what a server sends, and gives the opcodes in order.
fn opcodes(mut said: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    while let [first, second, rest @ ..] = said {
        assert!(
            first & 0x70 == 0 && second & 0x80 == 0,
            "no reserved bits, no mask"
        );
        let (length, rest) = match (second, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(*high) << 8 | usize::from(*low), rest),
            (short @ 0..=125, rest) => (usize::from(*short), rest),
            _ => panic!("a length that no echo has"),
        };
        let (payload, rest) = rest.split_at(length);
        let opcode = first & 0x0f;
        if opcode == 1 {
            assert!(str::from_utf8(payload).is_ok());
        }
        if opcode >= 8 {
            assert!(first & 0x80 != 0 && length <= 125);
        }
        found.push(opcode);
        said = rest;
    }
    assert!(said.is_empty(), "half a frame");
    found
}

fuzz_target!(|data: &[u8]| {
    let [mode, first, second, data @ ..] = data else {
        return;
    };
    let data = match mode % 4 {
        0 => data.to_vec(),
        _ => frames(data),
    };
    let whole = said([&data[..]]);
    let opcodes = opcodes(&whole);
    let closes = opcodes.iter().filter(|&&opcode| opcode == 8).count();
    assert!(
        closes <= 1 && (closes == 0 || opcodes.last() == Some(&8)),
        "{opcodes:?}"
    );
    assert!(
        opcodes
            .iter()
            .all(|opcode| matches!(opcode, 1 | 2 | 8 | 10)),
        "{opcodes:?}"
    );
    let at = |byte: u8| usize::from(byte) * data.len() / 255;
    let (a, b) = (at(*first).min(at(*second)), at(*first).max(at(*second)));
    let cut = said([&data[..a], &data[a..b], &data[b..]]);
    assert!(
        cut == whole,
        "{}\nin place of {}",
        cut.escape_ascii(),
        whole.escape_ascii()
    );
});
