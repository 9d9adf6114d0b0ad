//! Messages as datagrams: a tag byte, then the fields, integers in little-endian.
//!
//! Both ends are always the same build, so there is no version; a datagram that does not decode
//! is an error, never a panic.

use super::{HAND, Message};
use crate::sys::listener::{Address, Peer};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;

/// Longer than any message: a hand of v6 peers, or the longest path.
pub(super) const MAX_DATAGRAM: usize = 8192;

const ONLINE: u8 = 1;
const QUERY_SERVER: u8 = 2;
const SERVER: u8 = 3;
const LISTENING: u8 = 4;
const NEWCONN: u8 = 5;
const DISCONNECT: u8 = 6;

const UNIX: u8 = 0;
const V4: u8 = 4;
const V6: u8 = 6;

/// Appends the datagram of `message`.
pub(super) fn encode(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Online => out.push(ONLINE),
        Message::QueryServer { listener } => {
            out.push(QUERY_SERVER);
            out.extend(listener.to_le_bytes());
        }
        Message::Server {
            listener,
            shared,
            address,
        } => {
            out.push(SERVER);
            out.extend(listener.to_le_bytes());
            out.push(u8::from(*shared));
            match address {
                Address::Inet(address) => encode_peer(Peer::Inet(*address), out),
                Address::Unix(path) => {
                    out.push(UNIX);
                    let path = path.as_os_str().as_bytes();
                    out.extend((path.len() as u16).to_le_bytes());
                    out.extend(path);
                }
            }
        }
        Message::Listening { listener } => {
            out.push(LISTENING);
            out.extend(listener.to_le_bytes());
        }
        Message::Newconn { listener, peers } => {
            out.push(NEWCONN);
            out.extend(listener.to_le_bytes());
            out.push(peers.len() as u8);
            for peer in peers {
                encode_peer(*peer, out);
            }
        }
        Message::Disconnect => out.push(DISCONNECT),
    }
}

fn encode_peer(peer: Peer, out: &mut Vec<u8>) {
    match peer {
        Peer::Unix => out.push(UNIX),
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
            listener: reader.u32()?,
        },
        SERVER => Message::Server {
            listener: reader.u32()?,
            shared: reader.byte()? != 0,
            address: reader.address()?,
        },
        LISTENING => Message::Listening {
            listener: reader.u32()?,
        },
        NEWCONN => {
            let listener = reader.u32()?;
            let count = usize::from(reader.byte()?);
            if count > HAND {
                return Err(senseless());
            }
            let peers = (0..count)
                .map(|_| reader.peer())
                .collect::<io::Result<_>>()?;
            Message::Newconn { listener, peers }
        }
        DISCONNECT => Message::Disconnect,
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
            family => Ok(Peer::Inet(self.inet(family)?)),
        }
    }

    fn address(&mut self) -> io::Result<Address> {
        match self.byte()? {
            UNIX => {
                let length = usize::from(self.u16()?);
                let path = std::ffi::OsStr::from_bytes(self.bytes(length)?);
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
        let full = vec![Peer::Inet(scoped); HAND];
        vec![
            Message::Online,
            Message::QueryServer { listener: 3 },
            Message::Server {
                listener: 0,
                shared: true,
                address: Address::Inet(v4),
            },
            Message::Server {
                listener: 1,
                shared: false,
                address: Address::Unix("/run/ü.sock".into()),
            },
            Message::Listening { listener: u32::MAX },
            Message::Newconn {
                listener: 2,
                peers: vec![Peer::Unix, Peer::Inet(v4), Peer::Inet(v6)],
            },
            Message::Newconn {
                listener: 2,
                peers: full,
            },
            Message::Disconnect,
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
