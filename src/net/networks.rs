//! A list of networks: who is trusted, in the words of the settings.
//!
//! Owns the words and the comparison; leaves to `server` what is believed of those in the list.

use crate::sys::listener::Peer;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// The word for peers over a unix socket.
const UNIX: &str = "unix";

/// Networks, and whether peers over unix sockets are among them.
///
/// Written as `10.0.0.0/8`, `2001:db8::/32`, a single address, or `unix`; several with commas
/// between them. An IPv4 address in its IPv6 clothes (`::ffff:10.0.0.1`) is the IPv4 address.
///
/// # Examples
///
/// ```
/// use mcluster::Networks;
///
/// let trusted: Networks = "10.0.0.0/8, ::1, unix".parse().unwrap();
/// assert!(trusted.contains("10.1.2.3".parse().unwrap()));
/// assert!(trusted.contains("::ffff:10.1.2.3".parse().unwrap()));
/// assert!(!trusted.contains("11.0.0.1".parse().unwrap()));
/// assert!("10.0.0.0/33".parse::<Networks>().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    networks: Vec<Network>,
    unix: bool,
}

/// The first bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Networks {
    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether `address` is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(address))
    }

    /// Whether peers over unix sockets are meant as well.
    pub fn contains_unix(&self) -> bool {
        self.unix
    }

    /// Adds those of another list.
    pub fn extend(&mut self, other: &Self) {
        self.networks.extend_from_slice(&other.networks);
        self.unix |= other.unix;
    }

    pub(crate) fn has(&self, peer: Peer) -> bool {
        match peer {
            Peer::Inet(address) => self.contains(address.ip()),
            Peer::Unix => self.unix,
            Peer::Elsewhere => false,
        }
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let rest = 32 - u32::from(self.bits);
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(rest).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let rest = 128 - u32::from(self.bits);
                let differing = own.to_bits() ^ other.to_bits();
                differing.checked_shr(rest).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let wrong = || format!("{words:?} is no network (such as 10.0.0.0/8, ::1 or unix)");
        let (address, bits) = match words.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (words, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|one| one.is_ascii_digit()) => {
                digits
                    .parse()
                    .ok()
                    .filter(|bits| *bits <= most)
                    .ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        // What peers are compared as.
        Ok(match address {
            IpAddr::V6(v6) if bits >= 96 => match v6.to_ipv4_mapped() {
                Some(v4) => Self {
                    address: v4.into(),
                    bits: bits - 96,
                },
                None => Self { address, bits },
            },
            _ => Self { address, bits },
        })
    }
}

impl FromStr for Networks {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let mut list = Self::default();
        for word in words.split(',').map(str::trim) {
            if word == UNIX {
                list.unix = true;
            } else {
                list.networks.push(word.parse()?);
            }
        }
        // An address of all IPv4 ones in IPv6 clothes is in none of the networks otherwise.
        let v4_in_v6 = |one: &Network| matches!(one.address, IpAddr::V6(_)) && one.bits == 0;
        if list.networks.iter().any(v4_in_v6) {
            list.networks.push(Network {
                address: Ipv4Addr::UNSPECIFIED.into(),
                bits: 0,
            });
        }
        Ok(list)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.address.is_ipv4() { 32 } else { 128 };
        match self.bits == most {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.bits),
        }
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.networks.iter().map(ToString::to_string);
        let unix = self.unix.then(|| UNIX.to_owned());
        f.write_str(&networks.chain(unix).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_a_network() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.9.9.9/8", "10.0.0.1", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1/32", "::ffff:127.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.1.1.1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("::/0", "2001:db8::1", true),
            ("::/0", "::ffff:1.2.3.4", true),
            ("192.0.2.128/25", "192.0.2.127", false),
            ("192.0.2.128/25", "192.0.2.129", true),
            ("1.2.3.4, 5.6.7.8", "5.6.7.8", true),
        ];
        for (words, address, expected) in cases {
            let list: Networks = words.parse().unwrap();
            let found = list.contains(address.parse().unwrap());
            assert_eq!(found, expected, "{address} in {words}");
            assert!(!list.contains_unix() && !list.is_empty());
        }
        let unix: Networks = "unix".parse().unwrap();
        assert!(unix.has(Peer::Unix) && !unix.contains("127.0.0.1".parse().unwrap()));
        assert!(!unix.has(Peer::Elsewhere));
        assert!(Networks::default().is_empty() && !Networks::default().has(Peer::Unix));
    }

    #[test]
    fn words_come_back() {
        for words in ["10.0.0.0/8,::1,unix", "unix", "192.0.2.1"] {
            let list: Networks = words.parse().unwrap();
            assert_eq!(list.to_string(), words);
        }
        let mut both: Networks = "10.0.0.1".parse().unwrap();
        both.extend(&"unix".parse().unwrap());
        assert_eq!(both.to_string(), "10.0.0.1,unix");
    }

    #[test]
    fn what_is_no_network() {
        for words in [
            "",
            ",",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "010.0.0.1",
            "localhost",
            "10.0.0.0/8,",
            "[::1]",
            "Unix",
            "1.2.3.4/8/8",
            "fe80::1%lo",
            "10.0.0.1:80",
        ] {
            assert!(words.parse::<Networks>().is_err(), "{words:?}");
        }
    }
}
