//! Frames and messages: at every split, and each rule by its violation. A client's frames are
//! written here by hand, by RFC 6455 section 5.2 alone.

use super::assemble::{Assembler, Event, Sizes};
use super::frames::{self, Control, Data, OpCode};
use super::{Message, code};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame: its first byte, and what it carries.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// The payload of a Close frame.
pub(super) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

const SIZES: Sizes = Sizes {
    frame: 70_000,
    message: 80_000,
};

/// What comes of `input` in two parts: the events, and the code of a violation.
fn events_of(parts: [&[u8]; 2]) -> (Vec<Event>, Option<u16>) {
    let mut assembler = Assembler::new(SIZES);
    let mut events = Vec::new();
    for mut part in parts {
        loop {
            match assembler.next(&mut part) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation.code)),
            }
        }
        assert!(part.is_empty(), "all is taken");
    }
    (events, None)
}

fn text(text: &str) -> Event {
    Event::Message(Message::from(text))
}

fn binary(bytes: &[u8]) -> Event {
    Event::Message(Message::from(bytes))
}

/// Input, what is complete in it, and the code that it is closed with.
type Case = (&'static str, Vec<u8>, Vec<Event>, Option<u16>);

fn cases() -> Vec<Case> {
    let long = vec![b'x'; 300];
    let hello = || frame(0x81, b"hello");
    let mut cases = vec![
        ("empty text", frame(0x81, b""), vec![text("")], None),
        (
            "text",
            frame(0x81, "grüß".as_bytes()),
            vec![text("grüß")],
            None,
        ),
        (
            "binary",
            frame(0x82, &[0, 255, 7]),
            vec![binary(&[0, 255, 7])],
            None,
        ),
        ("126", frame(0x82, &[9; 126]), vec![binary(&[9; 126])], None),
        ("300", frame(0x82, &long), vec![binary(&long)], None),
        (
            "two",
            [hello(), frame(0x82, b"x")].concat(),
            vec![text("hello"), binary(b"x")],
            None,
        ),
        (
            "fragments, a character cut, controls between",
            [
                frame(0x01, &[b'a', 0xc3]),
                frame(0x89, b"ping"),
                frame(0x00, b""),
                frame(0x8a, b"pong"),
                frame(0x80, &[0xbc]),
            ]
            .concat(),
            vec![Event::Ping(b"ping".to_vec()), Event::Pong, text("aü")],
            None,
        ),
        (
            "ping of 125",
            frame(0x89, &[1; 125]),
            vec![Event::Ping(vec![1; 125])],
            None,
        ),
        (
            "close without a code",
            frame(0x88, b""),
            vec![Event::Close(code::NO_STATUS, String::new())],
            None,
        ),
        (
            "close with a reason",
            frame(0x88, &close(3000, "weil ü".as_bytes())),
            vec![Event::Close(3000, "weil ü".to_owned())],
            None,
        ),
    ];
    // Each after something that is right, which must come of it all the same.
    let wrong: Vec<(&'static str, Vec<u8>, u16)> = vec![
        ("rsv1", frame(0xc1, b"x"), 1002),
        ("rsv2", frame(0xa1, b"x"), 1002),
        ("rsv3", frame(0x91, b"x"), 1002),
        ("rsv1 on a ping", frame(0xc9, b"x"), 1002),
        ("opcode 3", frame(0x83, b"x"), 1002),
        ("opcode 7", frame(0x87, b""), 1002),
        ("opcode 11", frame(0x8b, b"x"), 1002),
        ("opcode 15", frame(0x8f, b""), 1002),
        ("no mask", b"\x81\x05hello".to_vec(), 1002),
        ("no mask on an empty ping", b"\x89\x00".to_vec(), 1002),
        (
            "126 for 125",
            [&[0x82, 0xfe, 0, 125], &MASK[..]].concat(),
            1002,
        ),
        (
            "127 for 65535",
            [&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 255, 255], &MASK[..]].concat(),
            1002,
        ),
        (
            "top bit",
            [&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], &MASK[..]].concat(),
            1002,
        ),
        ("fragmented ping", frame(0x09, b"x"), 1002),
        ("fragmented close", frame(0x08, b""), 1002),
        ("ping of 126", frame(0x89, &[0; 126]), 1002),
        (
            "close of 126",
            frame(0x88, &close(1000, &[b'x'; 124])),
            1002,
        ),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        ("open continuation of nothing", frame(0x00, b"x"), 1002),
        (
            "text in text",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            1002,
        ),
        (
            "binary in text",
            [frame(0x01, b"a"), frame(0x02, b"b")].concat(),
            1002,
        ),
        ("half a code", frame(0x88, &[3]), 1002),
        ("bad reason", frame(0x88, &close(1000, &[0xff])), 1007),
        ("cut reason", frame(0x88, &close(1000, &[0xc3])), 1007),
        ("bad text", frame(0x81, &[b'a', 0xff]), 1007),
        ("cut text", frame(0x81, &[b'a', 0xe2, 0x82]), 1007),
        ("surrogate", frame(0x81, &[0xed, 0xa0, 0x80]), 1007),
        ("overlong", frame(0x81, &[0xc0, 0xaf]), 1007),
        ("beyond", frame(0x81, &[0xf4, 0x90, 0x80, 0x80]), 1007),
        ("bad in the first fragment", frame(0x01, &[0xff]), 1007),
        (
            "cut at the last",
            [frame(0x01, &[0xe2]), frame(0x80, &[0x82])].concat(),
            1007,
        ),
        (
            "bad across",
            [frame(0x01, &[0xe2]), frame(0x00, &[0x28])].concat(),
            1007,
        ),
        (
            "frame too large",
            frame(0x82, &[0; 70_001])[..14].to_vec(),
            1009,
        ),
        (
            "message too large",
            [
                &frame(0x02, &[0; 60_000])[..],
                &frame(0x80, &[0; 20_001])[..8],
            ]
            .concat(),
            1009,
        ),
        (
            "2^63 - 1",
            [&[0x82, 0xff, 0x7f], &[255; 7][..], &MASK[..]].concat(),
            1009,
        ),
    ];
    for (name, bytes, code) in wrong {
        let input = [hello(), bytes].concat();
        cases.push((name, input, vec![text("hello")], Some(code)));
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        let input = [hello(), frame(0x88, &close(code, b""))].concat();
        cases.push((
            "a code that may not be sent",
            input,
            vec![text("hello")],
            Some(1002),
        ));
    }
    for code in [
        1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
    ] {
        let event = Event::Close(code, String::new());
        cases.push(("a code", frame(0x88, &close(code, b"")), vec![event], None));
    }
    cases
}

#[test]
fn every_split_gives_the_same_events() {
    for (name, input, events, code) in cases() {
        let step = 1 + input.len() / 2000;
        for at in (0..=input.len()).step_by(step) {
            let (head, tail) = input.split_at(at);
            let (seen, closed) = events_of([head, tail]);
            assert!(
                seen == events && closed == code,
                "{name}, cut at {at}: {seen:?} {closed:?}"
            );
        }
    }
}

#[test]
fn byte_by_byte_is_the_same_too() {
    for (name, input, events, code) in cases() {
        let mut assembler = Assembler::new(SIZES);
        let (mut seen, mut closed) = (Vec::new(), None);
        for byte in input.chunks(1) {
            let mut rest = byte;
            match assembler.next(&mut rest) {
                Ok(event) => seen.extend(event),
                Err(violation) => {
                    closed = Some(violation.code);
                    break;
                }
            }
        }
        assert!(
            seen == events && closed == code,
            "{name}: {seen:?} {closed:?}"
        );
    }
}

#[test]
fn text_that_cannot_become_utf8_is_not_waited_for() {
    // Of a frame that announces more.
    let bad = frame(0x81, &[b'a', 0xf4, 0x90, b'x', b'x', b'x']);
    assert_eq!(events_of([&bad[..8], &[]]), (vec![], None));
    assert_eq!(events_of([&bad[..9], &[]]), (vec![], Some(code::INVALID)));
}

#[test]
fn limits_hold_to_the_byte() {
    let most = frame(0x82, &vec![5; 70_000]);
    assert_eq!(events_of([&most, &[]]).1, None);
    let pieces = [frame(0x02, &vec![5; 60_000]), frame(0x80, &vec![5; 20_000])].concat();
    assert_eq!(events_of([&pieces, &[]]).1, None);
}

#[test]
fn the_servers_frames_are_plain() {
    let text = OpCode::Data(Data::Text);
    let ping = OpCode::Control(Control::Ping);
    assert_eq!(frames::frame(text, b"Hello"), b"\x81\x05Hello");
    assert_eq!(frames::frame(ping, b""), b"\x89\x00");
    assert_eq!(frames::frame(text, &[b'x'; 126])[..4], [0x81, 126, 0, 126]);
    assert_eq!(
        frames::frame(text, &[b'x'; 65536])[..10],
        [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]
    );
    assert_eq!(frames::close_frame(code::NO_STATUS, "x"), b"\x88\x00");
    let cut = frames::close_frame(1000, &"ü".repeat(100));
    assert_eq!(cut.len(), 2 + 2 + 122, "whole characters");
}

#[test]
fn masks_come_off_wherever_a_part_begins() {
    let plain: Vec<u8> = (0..40).collect();
    let masked: Vec<u8> = plain
        .iter()
        .zip(MASK.iter().cycle())
        .map(|(a, b)| a ^ b)
        .collect();
    for at in 0..plain.len() {
        let mut rest = masked[at..].to_vec();
        frames::unmask(&mut rest, MASK, at as u64);
        assert_eq!(rest, plain[at..]);
    }
}

#[test]
fn what_is_plain_from_half_a_header_is_not_waited_for() {
    let cases: [(&[u8], u16); 8] = [
        (b"\x83", code::PROTOCOL),
        (b"\xc1", code::PROTOCOL),
        (b"\x09", code::PROTOCOL),
        (b"\x81\x05", code::PROTOCOL),
        (b"\x89\xfe", code::PROTOCOL),
        (b"\x82\xfe\x00\x7d", code::PROTOCOL),
        (b"\x82\xff\x80\0\0\0\0\0\0\0", code::PROTOCOL),
        (b"\x82\xff\0\0\x01\0\0\0\0\0", code::TOO_BIG),
    ];
    for (bytes, code) in cases {
        let (events, end) = events_of([bytes, b""]);
        assert_eq!((events.len(), end), (0, Some(code)), "{bytes:x?}");
    }
}
