//! Messages as datagrams: a tag byte, then the fields, integers in little-endian.
//!
//! Both ends speak the same [`VERSION`](super::VERSION): they are the same build, or a primary
//! that was replaced has checked. A datagram that does not decode is an error, never a panic.

use super::user::PIECE;
use super::{Ask, HAND, HAND_BYTES, HANDED_BYTES, Handed, Message, Refusal};
use crate::sys::listener::{Address, Peer};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;

/// Longer than any message: a full hand with all that it may bring along.
pub(crate) const MAX_DATAGRAM: usize = 64 * 1024;

const _: () = assert!(HAND <= u8::MAX as usize, "a hand's size is one byte");
const _: () = assert!(HANDED_BYTES <= u16::MAX as usize, "two bytes for a length");
const _: () = assert!(HAND_BYTES + HANDED_BYTES + HAND * 32 + 16 <= MAX_DATAGRAM);
const _: () = assert!(PIECE + 16 <= MAX_DATAGRAM);

const ONLINE: u8 = 1;
const QUERY_SERVER: u8 = 2;
const SERVER: u8 = 3;
const LISTENING: u8 = 4;
const NEWCONN: u8 = 5;
const DISCONNECT: u8 = 6;
const REFUSED: u8 = 7;
const ACCEPT: u8 = 8;
const LISTENING_ALONE: u8 = 9;
const WORN: u8 = 10;
const DATA: u8 = 11;
const TOOK: u8 = 12;
const READY: u8 = 13;
const ACCESS_LOG: u8 = 16;
const QUEUE: u8 = 18;
const GRANT: u8 = 19;
const SWEEP: u8 = 20;
const STICKY: u8 = 17;

const CONFIGURED: u8 = 0;
const ADDRESS: u8 = 1;

const UNIX: u8 = 0;
const ELSEWHERE: u8 = 1;
const V4: u8 = 4;
const V6: u8 = 6;

/// Appends the datagram of `message`.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Online => out.push(ONLINE),
        // Said in the language of Node alone; here it comes to nothing, which is not sent.
        Message::QueryServer {
            ask: Ask::Bind(_), ..
        }
        | Message::Close { .. }
        | Message::Answered { .. }
        | Message::Mine(_)
        | Message::Text(_) => {}
        Message::QueryServer { query, ask } => {
            out.push(QUERY_SERVER);
            out.extend(query.to_le_bytes());
            match ask {
                Ask::Bind(_) => {}
                Ask::Configured(number) => {
                    out.push(CONFIGURED);
                    out.extend(number.to_le_bytes());
                }
                Ask::Address { words, nth } => {
                    out.push(ADDRESS);
                    encode_bytes(words.as_bytes(), out);
                    out.extend(nth.to_le_bytes());
                }
            }
        }
        Message::Server {
            query,
            listener,
            shared,
            address,
            data: _,
        } => {
            out.push(SERVER);
            out.extend(query.to_le_bytes());
            out.extend(listener.to_le_bytes());
            out.push(u8::from(*shared));
            encode_address(address, out);
        }
        Message::Refused { query, why } => {
            out.push(REFUSED);
            out.extend(query.to_le_bytes());
            out.extend(why.errno.to_le_bytes());
            encode_bytes(why.why.as_bytes(), out);
        }
        Message::Accept { listener, shared } => {
            out.push(ACCEPT);
            out.extend(listener.to_le_bytes());
            out.push(u8::from(*shared));
        }
        Message::Queue { listener } => {
            out.push(QUEUE);
            out.extend(listener.to_le_bytes());
        }
        Message::Grant { listener, count } => {
            out.push(GRANT);
            out.extend(listener.to_le_bytes());
            out.extend(count.to_le_bytes());
        }
        Message::Listening { listener } => {
            out.push(LISTENING);
            out.extend(listener.to_le_bytes());
        }
        Message::ListeningAlone { address } => {
            out.push(LISTENING_ALONE);
            encode_address(address, out);
        }
        Message::Newconn { listener, hand } => {
            out.push(NEWCONN);
            out.extend(listener.to_le_bytes());
            out.push(hand.len() as u8);
            for one in hand {
                encode_peer(one.peer, out);
                out.push(u8::from(one.served));
                out.push(u8::from(one.announced));
                out.push(u8::from(one.strayed));
                encode_bytes(&one.bytes, out);
            }
        }
        Message::Disconnect { hand_back, more } => {
            out.push(DISCONNECT);
            out.push(u8::from(*hand_back));
            out.push(u8::from(*more));
        }
        Message::Ready => out.push(READY),
        Message::Worn => out.push(WORN),
        Message::AccessLog => out.push(ACCESS_LOG),
        Message::Sweep => out.push(SWEEP),
        Message::Sticky { cookie } => {
            out.push(STICKY);
            out.push(u8::from(cookie.is_some()));
            if let Some(cookie) = cookie {
                encode_bytes(cookie.as_bytes(), out);
            }
        }
        Message::Data(piece) => {
            out.push(DATA);
            out.extend(piece);
        }
        Message::Took(pieces) => {
            out.push(TOOK);
            out.extend(pieces.to_le_bytes());
        }
    }
}

/// Two bytes of length; what is longer is cut, which only happens to texts.
fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let bytes = &bytes[..bytes.len().min(u16::MAX as usize / 2)];
    out.extend((bytes.len() as u16).to_le_bytes());
    out.extend(bytes);
}

fn encode_address(address: &Address, out: &mut Vec<u8>) {
    match address {
        Address::Inet(address) => encode_peer(Peer::Inet(*address), out),
        Address::Unix(path) => {
            out.push(UNIX);
            encode_bytes(path.as_os_str().as_bytes(), out);
        }
    }
}

fn encode_peer(peer: Peer, out: &mut Vec<u8>) {
    match peer {
        Peer::Unix => out.push(UNIX),
        Peer::Elsewhere => out.push(ELSEWHERE),
        Peer::Inet(SocketAddr::V4(address)) => {
            out.push(V4);
            out.extend(address.ip().octets());
            out.extend(address.port().to_le_bytes());
        }
        Peer::Inet(SocketAddr::V6(address)) => {
            out.push(V6);
            out.extend(address.ip().octets());
            out.extend(address.port().to_le_bytes());
            out.extend(address.scope_id().to_le_bytes());
        }
    }
}

/// Reads one datagram.
///
/// # Errors
///
/// `InvalidData` when it is cut short, has a byte too many, or makes no sense.
pub(super) fn decode(datagram: &[u8]) -> io::Result<Message> {
    let mut reader = Reader(datagram);
    let message = match reader.byte()? {
        ONLINE => Message::Online,
        QUERY_SERVER => Message::QueryServer {
            query: reader.u32()?,
            ask: match reader.byte()? {
                CONFIGURED => Ask::Configured(reader.u32()?),
                ADDRESS => Ask::Address {
                    words: reader.text()?,
                    nth: reader.u32()?,
                },
                _ => return Err(senseless()),
            },
        },
        SERVER => Message::Server {
            query: reader.u32()?,
            listener: reader.u32()?,
            shared: reader.bool()?,
            address: reader.address()?,
            data: None,
        },
        REFUSED => Message::Refused {
            query: reader.u32()?,
            why: Refusal {
                errno: i32::from_le_bytes(reader.array()?),
                why: reader.text()?,
            },
        },
        ACCEPT => Message::Accept {
            listener: reader.u32()?,
            shared: reader.bool()?,
        },
        QUEUE => Message::Queue {
            listener: reader.u32()?,
        },
        GRANT => Message::Grant {
            listener: reader.u32()?,
            count: reader.u32()?,
        },
        LISTENING => Message::Listening {
            listener: reader.u32()?,
        },
        LISTENING_ALONE => Message::ListeningAlone {
            address: reader.address()?,
        },
        NEWCONN => {
            let listener = reader.u32()?;
            let count = usize::from(reader.byte()?);
            if count > HAND {
                return Err(senseless());
            }
            let hand = (0..count)
                .map(|_| reader.handed())
                .collect::<io::Result<_>>()?;
            Message::Newconn { listener, hand }
        }
        DISCONNECT => Message::Disconnect {
            hand_back: reader.bool()?,
            more: reader.bool()?,
        },
        READY => Message::Ready,
        WORN => Message::Worn,
        ACCESS_LOG => Message::AccessLog,
        SWEEP => Message::Sweep,
        STICKY => Message::Sticky {
            cookie: match reader.bool()? {
                true => Some(reader.text()?),
                false => None,
            },
        },
        DATA => Message::Data(std::mem::take(&mut reader.0).to_vec()),
        TOOK => Message::Took(reader.u32()?),
        _ => return Err(senseless()),
    };
    if reader.0.is_empty() {
        Ok(message)
    } else {
        Err(senseless())
    }
}

fn senseless() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a message between primary and worker makes no sense",
    )
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(senseless)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| senseless())
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn bool(&mut self) -> io::Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(senseless()),
        }
    }

    fn counted(&mut self) -> io::Result<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.bytes(length)
    }

    fn text(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(self.counted()?).into_owned())
    }

    fn handed(&mut self) -> io::Result<Handed> {
        Ok(Handed {
            peer: self.peer()?,
            served: self.bool()?,
            announced: self.bool()?,
            strayed: self.bool()?,
            bytes: self.counted()?.to_vec(),
        })
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn inet(&mut self, family: u8) -> io::Result<SocketAddr> {
        match family {
            V4 => {
                let ip = Ipv4Addr::from(self.array::<4>()?);
                Ok(SocketAddr::new(IpAddr::V4(ip), self.u16()?))
            }
            V6 => {
                let ip = Ipv6Addr::from(self.array::<16>()?);
                let (port, scope) = (self.u16()?, self.u32()?);
                Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
            }
            _ => Err(senseless()),
        }
    }

    fn peer(&mut self) -> io::Result<Peer> {
        match self.byte()? {
            UNIX => Ok(Peer::Unix),
            ELSEWHERE => Ok(Peer::Elsewhere),
            family => Ok(Peer::Inet(self.inet(family)?)),
        }
    }

    fn address(&mut self) -> io::Result<Address> {
        match self.byte()? {
            UNIX => {
                let path = std::ffi::OsStr::from_bytes(self.counted()?);
                Ok(Address::Unix(path.into()))
            }
            family => Ok(Address::Inet(self.inet(family)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        let v4: SocketAddr = "127.0.0.1:3000".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:65535".parse().unwrap();
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 7));
        let handed = |peer, served, bytes: &[u8]| Handed {
            peer,
            served,
            announced: served,
            strayed: served,
            bytes: bytes.to_vec(),
        };
        let full = vec![handed(Peer::Inet(scoped), true, &[b'x'; HAND_BYTES / HAND]); HAND];
        let words = "127.0.0.1:0".to_owned();
        vec![
            Message::Online,
            Message::Ready,
            Message::QueryServer {
                query: 3,
                ask: Ask::Configured(1),
            },
            Message::QueryServer {
                query: 4,
                ask: Ask::Address { words, nth: 2 },
            },
            Message::Server {
                query: 7,
                listener: 0,
                shared: true,
                address: Address::Inet(v4),
                data: None,
            },
            Message::Server {
                query: 7,
                listener: 1,
                shared: false,
                address: Address::Unix("/run/ü.sock".into()),
                data: None,
            },
            Message::Refused {
                query: 9,
                why: Refusal {
                    errno: 98,
                    why: "in use".to_owned(),
                },
            },
            Message::Accept {
                listener: 1,
                shared: false,
            },
            Message::Queue { listener: 3 },
            Message::Grant {
                listener: 3,
                count: HAND as u32,
            },
            Message::Listening { listener: u32::MAX },
            Message::ListeningAlone {
                address: Address::Inet(v6),
            },
            Message::Newconn {
                listener: 2,
                hand: vec![
                    handed(Peer::Unix, false, b""),
                    handed(Peer::Inet(v4), true, b"GET / HT"),
                    handed(Peer::Elsewhere, true, b""),
                    Handed::fresh(Peer::Inet(v6)),
                ],
            },
            Message::Newconn {
                listener: 2,
                hand: full,
            },
            Message::Disconnect {
                hand_back: true,
                more: false,
            },
            Message::Worn,
            Message::AccessLog,
            Message::Sweep,
            Message::Sticky {
                cookie: Some("at".to_owned()),
            },
            Message::Sticky { cookie: None },
            Message::Took(4),
        ]
    }

    #[test]
    fn what_is_said_is_understood() {
        for message in all() {
            let mut datagram = Vec::new();
            encode(&message, &mut datagram);
            assert!(datagram.len() <= MAX_DATAGRAM);
            assert_eq!(decode(&datagram).unwrap(), message);
        }
    }

    #[test]
    fn data_is_whatever_is_left() {
        for piece in [b"".to_vec(), vec![7; PIECE]] {
            let mut datagram = Vec::new();
            encode(&Message::Data(piece.clone()), &mut datagram);
            assert_eq!(decode(&datagram).unwrap(), Message::Data(piece));
        }
    }

    #[test]
    fn a_cut_or_padded_datagram_is_an_error() {
        for message in all() {
            let mut datagram = Vec::new();
            encode(&message, &mut datagram);
            for end in 0..datagram.len() {
                assert!(
                    decode(&datagram[..end]).is_err(),
                    "{message:?} cut at {end}"
                );
            }
            datagram.push(0);
            assert!(decode(&datagram).is_err(), "{message:?} padded");
        }
        assert!(decode(&[99]).is_err());
        assert!(decode(&[NEWCONN, 0, 0, 0, 0, 255]).is_err());
    }
}
