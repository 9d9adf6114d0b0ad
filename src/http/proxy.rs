//! The PROXY protocol's header, version 1 and 2: who is at the other end of a connection that came
//! by way of a proxy (HAProxy's specification, proxy-protocol.txt).
//!
//! Owns the grammar and nothing else: whom to believe, and that it stands once and first, is the
//! server's business.

use super::error::{Error, bad};
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// The longest header of version 1, its line end included.
pub const MAX_PROXY_LINE: usize = 107;

/// The most that a header of version 2 may have behind its first sixteen bytes: eight times what
/// every receiver must take.
pub const MAX_PROXY_BLOCK: usize = 4096;

const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2.
const FIXED: usize = 16;

const TLV_CRC32C: u8 = 3;

/// What a header says of the other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Nothing: it is the proxy itself (LOCAL), or one whose address it does not know (UNKNOWN).
    Unknown,
    /// A process that had reached the proxy by a unix socket, of the proxy's machine.
    Unix,
    /// A client with this address.
    Inet(SocketAddr),
}

impl ProxyHeader {
    /// Reads a header from the beginning of `input`: what it says and how long it is, or nothing
    /// while it is incomplete. However the input is cut up, the answer is the same.
    ///
    /// # Errors
    ///
    /// For what is no such header, or one of a connection that is no stream.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::http::ProxyHeader;
    ///
    /// let input = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\nGET / HTTP/1.1\r\n";
    /// let client = ProxyHeader::Inet("192.0.2.1:56324".parse().unwrap());
    /// assert_eq!(ProxyHeader::parse(input), Ok(Some((client, 41))));
    /// assert_eq!(ProxyHeader::parse(b"PROXY TC"), Ok(None));
    /// assert!(ProxyHeader::parse(b"GET /").is_err());
    /// ```
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        if is_prefix_or_longer(input, V2) {
            return version_2(input);
        }
        if is_prefix_or_longer(input, V1) {
            return version_1(input);
        }
        Err(bad("no PROXY header"))
    }

    /// Whether `input` begins as a header of version 2 does, as far as it goes: whoever sends that
    /// reads no text.
    pub fn is_binary(input: &[u8]) -> bool {
        !input.is_empty() && is_prefix_or_longer(input, V2)
    }
}

/// Whether `input` begins by `start`, or is the beginning of it.
fn is_prefix_or_longer(input: &[u8], start: &[u8]) -> bool {
    let common = input.len().min(start.len());
    input[..common] == start[..common]
}

fn version_1(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, Error> {
    let within = &input[..input.len().min(MAX_PROXY_LINE)];
    let Some(end) = within
        .iter()
        .position(|&byte| matches!(byte, b'\r' | b'\n'))
    else {
        return match within.len() == MAX_PROXY_LINE {
            true => Err(bad("a PROXY line without an end")),
            false => Ok(None),
        };
    };
    match within.get(end..end + 2) {
        Some(b"\r\n") => {}
        // The line may end in the next byte.
        None if within[end] == b'\r' && end + 1 == input.len() && end + 2 <= MAX_PROXY_LINE => {
            return Ok(None);
        }
        _ => return Err(bad("a PROXY line with a bad end")),
    }
    let wrong = || bad("a malformed PROXY line");
    let line = std::str::from_utf8(&within[V1.len().min(end)..end]).map_err(|_| wrong())?;
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" && end >= V1.len() {
        return Ok(Some((ProxyHeader::Unknown, end + 2)));
    }
    let (Some(source), Some(to), Some(source_port), Some(to_port), None) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    ) else {
        return Err(wrong());
    };
    let both = match family {
        "TCP4" => {
            let parse = |word: &str| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
            parse(source).zip(parse(to))
        }
        "TCP6" => {
            let parse = |word: &str| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
            parse(source).zip(parse(to))
        }
        _ => None,
    };
    let (source, _) = both.ok_or_else(wrong)?;
    let source_port = port(source_port).ok_or_else(wrong)?;
    port(to_port).ok_or_else(wrong)?;
    let client = SocketAddr::new(source, source_port);
    Ok(Some((ProxyHeader::Inet(client), end + 2)))
}

/// Digits alone, and none that could be left out.
fn port(word: &str) -> Option<u16> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = word == "0" || !word.starts_with('0');
    (digits && shortest).then(|| word.parse().ok()).flatten()
}

fn version_2(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, Error> {
    let wrong = || bad("a malformed PROXY header");
    if let Some(&command) = input.get(12)
        && !matches!(command, 0x20 | 0x21)
    {
        return Err(bad(
            "a PROXY header of another version, or with another command",
        ));
    }
    let (Some(&command), Some(&family), Some(length)) =
        (input.get(12), input.get(13), input.get(14..FIXED))
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > MAX_PROXY_BLOCK {
        return Err(bad("a PROXY header that is too long"));
    }
    let local = command == 0x20;
    let addresses = match family {
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        0x00 => 0,
        _ if local => 0,
        _ => return Err(bad("a PROXY header of a connection that is no stream")),
    };
    if !local && length < addresses {
        return Err(wrong());
    }
    let Some(block) = input.get(FIXED..FIXED + length) else {
        return Ok(None);
    };
    let used = FIXED + length;
    if local {
        // The rest is to be left alone, whatever it is.
        return Ok(Some((ProxyHeader::Unknown, used)));
    }
    let (address, more) = block.split_at(addresses);
    check_additions(&input[..used], more)?;
    let inet = |ip: IpAddr, port: [u8; 2]| {
        ProxyHeader::Inet(SocketAddr::new(ip, u16::from_be_bytes(port)))
    };
    let header = match *address {
        [a, b, c, d, _, _, _, _, p, q, _, _] => inet(Ipv4Addr::new(a, b, c, d).into(), [p, q]),
        [] => ProxyHeader::Unknown,
        _ if addresses == 36 => {
            let (ip, rest) = address.split_first_chunk::<16>().ok_or_else(wrong)?;
            inet(Ipv6Addr::from(*ip).into(), [rest[16], rest[17]])
        }
        _ => ProxyHeader::Unix,
    };
    Ok(Some((header, used)))
}

/// Whether what follows the addresses is well-formed, and the checksum right if there is one.
fn check_additions(header: &[u8], more: &[u8]) -> Result<(), Error> {
    let mut rest = more;
    let mut checked = false;
    while let [kind, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, after) = behind
            .split_at_checked(length)
            .ok_or_else(|| bad("an addition to a PROXY header that is cut short"))?;
        if *kind == TLV_CRC32C {
            let sum: [u8; 4] = value
                .try_into()
                .map_err(|_| bad("a PROXY header's checksum of another length"))?;
            let at = header.len() - behind.len();
            let zeroed = [&header[..at], &[0; 4][..], &header[at + 4..]];
            let right = crc32c(zeroed.into_iter().flatten()) == u32::from_be_bytes(sum);
            if !right || std::mem::replace(&mut checked, true) {
                return Err(bad("a PROXY header with a wrong checksum"));
            }
        }
        rest = after;
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err(bad("an addition to a PROXY header that is cut short")),
    }
}

/// CRC32C (RFC 3720 B.4), bit by bit: once a connection, over some hundred bytes.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let shift = |sum: u32| (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg());
    let add = |sum: u32, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), |sum, _| shift(sum));
    !bytes.fold(u32::MAX, add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let mut header = V2.to_vec();
        header.extend([command, family]);
        header.extend((block.len() as u16).to_be_bytes());
        header.extend(block);
        header
    }

    const TCP4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xDC, 0x04, 0, 80];

    fn tcp6() -> Vec<u8> {
        let ip: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let mut block = ip.octets().to_vec();
        block.extend(Ipv6Addr::LOCALHOST.octets());
        block.extend([0x01, 0xBB, 0, 80]);
        block
    }

    /// Behind the addresses a NOOP, an unknown addition, and the right checksum.
    fn with_checksum() -> Vec<u8> {
        let mut block = TCP4.to_vec();
        block.extend([4, 0, 2, 0, 0, 0xE4, 0, 1, 7, TLV_CRC32C, 0, 4, 0, 0, 0, 0]);
        let mut header = v2(0x21, 0x11, &block);
        let sum = crc32c(header.iter());
        let at = header.len() - 4;
        header[at..].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn good() -> Vec<(Vec<u8>, ProxyHeader)> {
        let inet = |words: &str| ProxyHeader::Inet(words.parse().unwrap());
        let text = |words: &str| words.as_bytes().to_vec();
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), MAX_PROXY_LINE);
        vec![
            (
                text("PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n"),
                inet("192.0.2.1:56324"),
            ),
            (
                text("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n"),
                inet("255.255.255.255:65535"),
            ),
            (
                text("PROXY TCP6 2001:db8::1 ::1 0 443\r\n"),
                inet("[2001:db8::1]:0"),
            ),
            (text("PROXY UNKNOWN\r\n"), ProxyHeader::Unknown),
            (
                text("PROXY UNKNOWN anything at all\r\n"),
                ProxyHeader::Unknown,
            ),
            (text(longest), ProxyHeader::Unknown),
            (v2(0x21, 0x11, &TCP4), inet("192.0.2.1:56324")),
            (v2(0x21, 0x21, &tcp6()), inet("[2001:db8::1]:443")),
            (v2(0x21, 0x31, &[0; 216]), ProxyHeader::Unix),
            (v2(0x21, 0x00, b""), ProxyHeader::Unknown),
            (v2(0x20, 0x00, b""), ProxyHeader::Unknown),
            (v2(0x20, 0x12, b"anything"), ProxyHeader::Unknown),
            (v2(0x20, 0x00, &[0; MAX_PROXY_BLOCK]), ProxyHeader::Unknown),
            (with_checksum(), inet("192.0.2.1:56324")),
        ]
    }

    #[test]
    fn good_headers_at_every_split() {
        for (header, expected) in good() {
            let shown = String::from_utf8_lossy(&header).into_owned();
            for end in 0..header.len() {
                assert_eq!(
                    ProxyHeader::parse(&header[..end]),
                    Ok(None),
                    "{shown:?} to {end}"
                );
            }
            for behind in ["", "G", "GET / HTTP/1.1\r\n", "\r\n", "PROXY "] {
                let input = [&header, behind.as_bytes()].concat();
                let found = ProxyHeader::parse(&input);
                assert_eq!(found, Ok(Some((expected, header.len()))), "{shown:?}");
            }
        }
    }

    #[test]
    fn bad_lines() {
        let lines = [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
            " PROXY UNKNOWN\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3 1 1\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 256.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY TCP6 [::1] ::1 1 1\r\n",
            "PROXY TCP6 fe80::1%lo ::1 1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4  1\r\n",
            "PROXY TCP4\t1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
            "PROXY UNIX /a /b 1 1\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY unknown\r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN\rX",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
            "PROXY TCP4 1.2.3.4 1.2.3.\u{664} 1 1\r\n",
        ];
        for line in lines {
            refused(line.as_bytes());
        }
        refused(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).as_bytes());
        refused(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes());
        refused(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \xff\r\n");
    }

    /// Refused, and at no split taken for something else.
    fn refused(input: &[u8]) {
        let shown = String::from_utf8_lossy(input);
        assert!(ProxyHeader::parse(input).is_err(), "{shown:?}");
        let mut partial = true;
        for end in 0..input.len() {
            match ProxyHeader::parse(&input[..end]) {
                Ok(None) => assert!(partial, "{shown:?} to {end}"),
                Ok(Some(_)) => panic!("{shown:?} to {end}"),
                Err(_) => partial = false,
            }
        }
    }

    #[test]
    fn bad_headers() {
        refused(&v2(0x11, 0x11, &TCP4));
        refused(&v2(0x31, 0x11, &TCP4));
        refused(&v2(0x22, 0x11, &TCP4));
        for family in [0x01, 0x10, 0x12, 0x22, 0x32, 0x41, 0x13, 0xFF] {
            refused(&v2(0x21, family, &[0; 216]));
        }
        refused(&v2(0x21, 0x11, &TCP4[..11]));
        refused(&v2(0x21, 0x21, &TCP4));
        refused(&v2(0x21, 0x31, &[0; 215]));
        refused(&v2(0x21, 0x11, &[0; MAX_PROXY_BLOCK + 1]));
        for more in [
            &[4][..],
            &[4, 0],
            &[4, 0, 1],
            &[4, 0xFF, 0xFF, 0],
            &[3, 0, 3, 0, 0, 0],
        ] {
            refused(&v2(0x21, 0x11, &[&TCP4, more].concat()));
        }
        let good = with_checksum();
        // But for the byte that says that a checksum follows.
        let kind = good.len() - 7;
        for at in (FIXED..good.len()).filter(|at| *at != kind) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(ProxyHeader::parse(&bad).is_err(), "byte {at}");
        }
        let mut almost = good;
        almost[3] = b'X';
        refused(&almost);
    }

    #[test]
    fn the_checksum_is_the_standards() {
        assert_eq!(crc32c(b"123456789".iter()), 0xE306_9283);
    }

    #[test]
    fn binary_or_text() {
        assert!(ProxyHeader::is_binary(b"\r\n\r\n\0") && !ProxyHeader::is_binary(b"PROXY"));
        assert!(!ProxyHeader::is_binary(b""));
    }

    proptest! {
        /// What is decided stays decided, whatever follows; before that more is wanted.
        #[test]
        fn any_split_of_any_bytes(
            start in 0..4usize,
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            change in any::<(prop::sample::Index, u8)>(),
        ) {
            let start = [&b""[..], V1, b"PROXY TCP4 1.2.3.4 ", V2][start];
            let mut input = [start, &bytes].concat();
            unchanged(&input)?;
            for (mut good, _) in good() {
                let at = change.0.index(good.len());
                good[at] ^= change.1;
                input = good;
                unchanged(&input)?;
            }
        }
    }

    fn unchanged(input: &[u8]) -> Result<(), TestCaseError> {
        let whole = ProxyHeader::parse(input);
        for end in 0..input.len() {
            let found = ProxyHeader::parse(&input[..end]);
            let same = match (found, whole) {
                (Ok(None), _) | (Err(_), Err(_)) => true,
                (found, whole) => found == whole,
            };
            prop_assert!(same, "{found:?} at {end}, then {whole:?}");
        }
        Ok(())
    }
}
