//! A WebSocket client that writes frames by hand, so that it can also write wrong ones. For the
//! tests of the command and for those of the library.
//!
//! Owns one connection, from its handshake on; knows RFC 6455 section 5.2 and no more.

use crate::lines::PATIENCE;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The handshake of RFC 6455 section 1.3, and what proves that a server has read it.
pub(crate) const HANDSHAKE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// First bytes of whole frames.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;

/// A frame of a server: its first byte and its payload.
pub(crate) type Frame = (u8, Vec<u8>);

/// A client's frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, key)| byte ^ key));
    frame
}

/// The beginning of a client's frame, with its mask.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..=125 => header.push(0x80 | length as u8),
        126..=0xffff => {
            header.push(0x80 | 126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend_from_slice(&length.to_be_bytes());
        }
    }
    header.extend_from_slice(&MASK);
    header
}

/// The payload of a Close frame.
pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// One connection.
pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    ahead: Vec<u8>,
}

impl Socket {
    /// One that has become a WebSocket.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let ahead = Vec::new();
        let mut socket = Self { stream, ahead };
        socket.send(format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\n{HANDSHAKE}\r\n"
        ));
        let head = socket.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.contains(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")),
            "{head}"
        );
        assert!(!head.contains("Extensions"), "{head}");
        socket
    }

    #[track_caller]
    fn head(&mut self) -> String {
        loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.ahead.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill(), "no answer to the handshake: {:?}", self.ahead);
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads once; false at the end.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        let count = self.stream.read(&mut bytes).unwrap();
        self.ahead.extend_from_slice(&bytes[..count]);
        count > 0
    }

    /// The next frame, or none at an end of the connection in good order.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((first, start, length)) = self.next()
                && self.ahead.len() >= start + length
            {
                let payload = self.ahead[start..start + length].to_vec();
                self.ahead.drain(..start + length);
                return Some((first, payload));
            }
            if !self.fill() {
                assert!(self.ahead.is_empty(), "half a frame: {:?}", self.ahead);
                return None;
            }
        }
    }

    /// The next frame's first byte, where its payload begins, and how long it is.
    fn next(&self) -> Option<(u8, usize, usize)> {
        let (&first, &second) = (self.ahead.first()?, self.ahead.get(1)?);
        assert_eq!(second & 0x80, 0, "a server masks nothing");
        match second {
            126 => {
                let length = self.ahead.get(2..4)?.try_into().unwrap();
                Some((first, 4, u16::from_be_bytes(length).into()))
            }
            127 => {
                let length = self.ahead.get(2..10)?.try_into().unwrap();
                Some((first, 10, u64::from_be_bytes(length) as usize))
            }
            length => Some((first, 2, length.into())),
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        let (seen, came) = self.frame().expect("a frame");
        let wanted = payload.as_ref();
        let same = seen == first && came == wanted;
        let shown = String::from_utf8_lossy(&came[..came.len().min(100)]).into_owned();
        assert!(same, "{seen:#x} {shown:?} of {} bytes", came.len());
    }

    /// All that comes until the end of the connection, and the code that it was closed with.
    #[track_caller]
    pub(crate) fn ends(mut self) -> (Vec<Frame>, Option<u16>) {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame() {
            frames.push(frame);
        }
        let code = match frames.last() {
            Some((CLOSE, payload)) => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                frames.pop();
                code
            }
            _ => None,
        };
        (frames, code)
    }

    /// Says goodbye, and sees that the other end does.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.send(frame(CLOSE, &close(1000, b"")));
        let (frames, code) = self.ends();
        assert_eq!((frames.len(), code), (0, Some(1000)));
    }
}
