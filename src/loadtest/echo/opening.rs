//! The opening handshake of a WebSocket: a request with a key, and an answer that proves it was read.
//!
//! Owns what the answer must say (RFC 6455 section 4.1); what follows is `echo`'s.

use super::wrong;
use crate::http::{Error, members, websocket_accept};
use crate::loadtest::target::Target;
use crate::loadtest::{Loadtest, Result, template};
use crate::sys::random;
use base64ct::{Base64, Encoding};

/// The longest head of an answer.
const LONGEST_HEAD: usize = 64 << 10;

/// The most answers of 1xx before the one that counts.
const MOST_INTERIM: u32 = 100;

/// The most fields in it.
const MOST_FIELDS: usize = 100;

/// What the user may not say in a handshake: it says the protocol.
const RESERVED: [&str; 7] = [
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Upgrade",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Extensions",
];

/// Stands where each connection puts a key of its own: as long as one, and nothing that base64 gives.
const NO_KEY: &str = "................------==";

/// The requests that open connections, made once for a whole test but for their keys.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    bytes: Vec<u8>,
    key_at: usize,
    /// Whether a subprotocol is asked for.
    asks_protocol: bool,
}

impl Handshake {
    /// For a test of `target`.
    ///
    /// # Errors
    ///
    /// For a field or cookie that cannot be sent, and for fields that say the protocol.
    pub(crate) fn new(plan: &Loadtest, target: &Target) -> Result<Self> {
        // First of all fields, so that the user's cannot be taken for it.
        let ours = [
            ("Sec-WebSocket-Key", NO_KEY),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
        ];
        let bytes = template::head(plan, target, "GET", &ours, &RESERVED)?;
        let start = b"\r\nSec-WebSocket-Key: ";
        let found = bytes.windows(start.len()).position(|part| part == start);
        let key_at = found.map_or(0, |at| at + start.len());
        debug_assert!(bytes[key_at..].starts_with(NO_KEY.as_bytes()));
        let asks_protocol = plan
            .headers
            .iter()
            .any(|(name, _)| name.trim().eq_ignore_ascii_case("Sec-WebSocket-Protocol"));
        Ok(Self {
            bytes,
            key_at,
            asks_protocol,
        })
    }

    /// The request for one connection, and what judges its answer.
    pub(crate) fn begin(&self) -> (Vec<u8>, Opening) {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&random::number().to_ne_bytes());
        octets[8..].copy_from_slice(&random::number().to_ne_bytes());
        self.begin_with(octets)
    }

    fn begin_with(&self, octets: [u8; 16]) -> (Vec<u8>, Opening) {
        let key = Base64::encode_string(&octets);
        let mut bytes = self.bytes.clone();
        bytes[self.key_at..self.key_at + key.len()].copy_from_slice(key.as_bytes());
        let opening = Opening {
            accept: websocket_accept(key.as_bytes()),
            asks_protocol: self.asks_protocol,
            partial: Vec::new(),
            interim: 0,
        };
        (bytes, opening)
    }
}

/// Reads the answer to a handshake.
#[derive(Debug)]
pub(crate) struct Opening {
    accept: String,
    asks_protocol: bool,
    partial: Vec<u8>,
    interim: u32,
}

impl Opening {
    /// Takes bytes off the front of `input`: how many, and the status once its head is whole. With 101 the connection
    /// is open, and what is left are frames; with another one the server does not speak WebSocket there.
    ///
    /// # Errors
    ///
    /// For what is no answer, and for 101 without what proves that the handshake was read (4.1).
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
    ) -> std::result::Result<(usize, Option<u16>), Error> {
        let before = self.partial.len();
        self.partial.extend_from_slice(input);
        let mut at = 0;
        loop {
            let bytes = &self.partial[at..];
            let Some((length, status)) = self.judge(bytes)? else {
                // What came before the answer itself says nothing here.
                self.partial.drain(..at);
                return Ok((input.len(), None));
            };
            at += length;
            if status == 101 || status >= 200 {
                self.partial = Vec::new();
                return Ok((at - before, Some(status)));
            }
            self.interim += 1;
            if self.interim > MOST_INTERIM {
                return Err(wrong("too many answers before the answer"));
            }
        }
    }

    /// The length and status of the head at the front of `bytes`; None while it is not whole.
    fn judge(&self, bytes: &[u8]) -> std::result::Result<Option<(usize, u16)>, Error> {
        let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut room);
        let length = match response.parse(&bytes[..bytes.len().min(LONGEST_HEAD)]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(wrong("a head that is too long")),
            Err(_) => return Err(wrong("not an answer of HTTP/1")),
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            return Ok(Some((length, status)));
        }
        // RFC 6455 section 4.1, by the numbers of what a client checks of an answer:
        //
        // 1. The status: done. 2. Upgrade is websocket. 3. Connection names upgrade.
        // 4. Sec-WebSocket-Accept proves that the key was read.
        // 5. No extension was asked for. 6. No subprotocol but one that was.
        let all = |name: &'static str| {
            let fields = response.headers.iter();
            let same = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
            same.map(|field| field.value.trim_ascii())
        };
        let names = |name, token: &str| {
            let token = token.as_bytes();
            all(name).any(|value| members(value).any(|one| one.eq_ignore_ascii_case(token)))
        };
        let mut accepts = all("Sec-WebSocket-Accept");
        let accepted = accepts.next() == Some(self.accept.as_bytes()) && accepts.next().is_none();
        match () {
            () if !names("Upgrade", "websocket") => Err(wrong("101 without Upgrade: websocket")),
            () if !names("Connection", "upgrade") => Err(wrong("101 without Connection: Upgrade")),
            () if !accepted => Err(wrong("101 without the right Sec-WebSocket-Accept")),
            () if all("Sec-WebSocket-Extensions").next().is_some() => {
                Err(wrong("an extension that nobody asked for"))
            }
            () if !self.asks_protocol && all("Sec-WebSocket-Protocol").next().is_some() => {
                Err(wrong("a subprotocol that nobody asked for"))
            }
            () => Ok(Some((length, status))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(plan: &Loadtest) -> Result<Handshake> {
        Handshake::new(plan, &Target::parse(&plan.url)?)
    }

    fn plan() -> Loadtest {
        Loadtest::new("ws://localhost:3000/room?a")
    }

    /// The RFC's example (1.3).
    fn example() -> Opening {
        let (bytes, opening) = handshake(&plan()).unwrap().begin_with(*b"the sample nonce");
        let bytes = String::from_utf8(bytes).unwrap();
        assert!(bytes.starts_with("GET /room?a HTTP/1.1\r\nHost: localhost:3000\r\n"));
        assert!(bytes.contains("\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
        assert!(bytes.contains("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"));
        assert!(bytes.ends_with("\r\n\r\n") && !bytes.contains(NO_KEY));
        opening
    }

    #[test]
    fn keys_differ_and_the_protocol_is_ours_to_say() {
        let handshake_of = handshake(&plan()).unwrap();
        assert_ne!(handshake_of.begin().0, handshake_of.begin().0);
        for name in RESERVED {
            assert!(handshake(&plan().header(name, "1")).is_err(), "{name}");
        }
        let own = plan().header("Origin", "http://a").cookie("a=b");
        let (bytes, _) = handshake(&own).unwrap().begin();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\nOrigin: http://a\r\n") && text.contains("\r\nCookie: a=b\r\n"));
    }

    const RIGHT: [&str; 3] = [
        "Upgrade: WebSocket",
        "Connection: keep-alive, upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ];

    #[test]
    fn a_right_answer_opens_however_it_is_cut() {
        let head = format!("HTTP/1.1 101 Yes\r\n{}\r\n\r\n", RIGHT.join("\r\n"));
        let early = "HTTP/1.1 103 Hints\r\n\r\n";
        for head in [head.clone(), format!("{early}{early}{head}")] {
            let bytes = format!("{head}frames");
            for at in 0..bytes.len() {
                let mut opening = example();
                let mut used = 0;
                let mut status = None;
                for piece in [&bytes[..at], &bytes[at..]] {
                    if status.is_none() {
                        let fed = opening.feed(piece.as_bytes()).unwrap();
                        used += fed.0;
                        status = fed.1;
                    }
                }
                assert_eq!((used, status), (head.len(), Some(101)), "at {at}");
            }
        }
    }

    #[test]
    fn other_answers_do_not_open() {
        let refused = b"HTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\na";
        assert_eq!(example().feed(refused), Ok((refused.len() - 1, Some(404))));
        let more = [
            "Sec-WebSocket-Extensions: permessage-deflate",
            "Sec-WebSocket-Protocol: chat",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        ];
        let without = (0..RIGHT.len()).map(|gone| {
            let fields = RIGHT.iter().enumerate().filter(|(at, _)| *at != gone);
            fields.map(|(_, field)| *field).collect::<Vec<_>>()
        });
        let with = more.iter().map(|field| [&RIGHT[..], &[*field]].concat());
        for fields in without.chain(with) {
            let head = format!("HTTP/1.1 101 Yes\r\n{}\r\n\r\n", fields.join("\r\n"));
            assert!(example().feed(head.as_bytes()).is_err(), "{fields:?}");
        }
        let early = b"HTTP/1.1 103 Hints\r\n\r\n";
        let mut opening = example();
        for _ in 0..MOST_INTERIM {
            assert_eq!(opening.feed(early), Ok((early.len(), None)));
        }
        assert!(opening.feed(early).is_err());
        assert!(example().feed(b"garbage").is_err());
        let long = format!("HTTP/1.1 101 Yes\r\nA: {}", "a".repeat(LONGEST_HEAD));
        assert!(example().feed(long.as_bytes()).is_err());
    }

    #[test]
    fn a_subprotocol_that_was_asked_for_may_come() {
        let asks = plan().header("sec-websocket-protocol", "chat");
        let (_, mut opening) = handshake(&asks).unwrap().begin_with(*b"the sample nonce");
        let fields = [&RIGHT[..], &["Sec-WebSocket-Protocol: chat"]].concat();
        let head = format!("HTTP/1.1 101 Yes\r\n{}\r\n\r\n", fields.join("\r\n"));
        assert_eq!(opening.feed(head.as_bytes()), Ok((head.len(), Some(101))));
    }
}
