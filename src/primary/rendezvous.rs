//! Rendezvous hashing: which place a client's connections go to, as long as somebody is there.
//!
//! Each place has a weight for each key, and the heaviest one gets the connection. So a place that
//! is lost or added moves only the clients that were, or will be, its own. The weights are small
//! arithmetic on 32 bits, since a program in the kernel has to come to the same ones. Pure; leaves
//! who is there to `scheduler`.

use crate::server::sticky::place_of;
use std::net::IpAddr;

/// What keeps a connection with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "control", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Affinity {
    /// It was dealt to the worker at this place before, or names it. Where nobody is there, whoever
    /// is heaviest for the key.
    Place(usize, u32),
    /// Whoever is heaviest for the key.
    Key(u32),
}

impl Affinity {
    /// By the address of a client; an IPv4 one is the same in its IPv6 form.
    pub(super) fn of_ip(ip: IpAddr) -> Self {
        Self::Key(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_bits(),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                let words = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
                words.into_iter().fold(0, |key, word| mixed(key ^ word))
            }
        })
    }

    /// By what a client says: the place that it names, or whoever is heaviest for it.
    pub(super) fn of_value(value: &[u8]) -> Self {
        // FNV-1a, which no other build of this program changes: clients stay where they are.
        let start = 0x811c_9dc5_u32;
        let key = value.iter().fold(start, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        match place_of(value) {
            Some(place) => Self::Place(place, key),
            None => Self::Key(key),
        }
    }

    /// By what a client says, which is known to be of `place`.
    pub(super) fn of_owned(value: &[u8], place: usize) -> Self {
        match Self::of_value(value) {
            Self::Place(_, key) | Self::Key(key) => Self::Place(place, key),
        }
    }

    /// By where it was until now.
    pub(super) fn of_place(place: usize) -> Self {
        Self::Place(place, mixed(place as u32 + 1))
    }

    /// The place that it names, if it names one.
    pub(super) fn place(self) -> Option<usize> {
        match self {
            Self::Place(place, _) => Some(place),
            Self::Key(_) => None,
        }
    }

    /// How much `place` is the one; nothing is more than [`u64::MAX`].
    pub(super) fn weight(self, place: usize) -> u64 {
        match self {
            Self::Place(wanted, _) if wanted == place => u64::MAX,
            Self::Place(_, key) | Self::Key(key) => weight(key, place).into(),
        }
    }
}

/// The weight of `place` for a key.
pub(super) fn weight(key: u32, place: usize) -> u32 {
    mixed(key ^ salt(place))
}

/// What tells the places apart.
pub(super) fn salt(place: usize) -> u32 {
    mixed((place as u32 + 1).wrapping_mul(0x9e37_79b9))
}

/// Another number for each, in which every bit depends on all: the last step of MurmurHash3.
pub(super) fn mixed(mut number: u32) -> u32 {
    number ^= number >> 16;
    number = number.wrapping_mul(0x85eb_ca6b);
    number ^= number >> 13;
    number = number.wrapping_mul(0xc2b2_ae35);
    number ^ number >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The heaviest of `places`.
    fn heaviest(affinity: Affinity, places: &[usize]) -> usize {
        let all = places.iter().copied();
        all.max_by_key(|place| affinity.weight(*place)).unwrap()
    }

    fn clients() -> impl Iterator<Item = Affinity> {
        let v4 = (0..500).map(|n| IpAddr::from(Ipv4Addr::from_bits(0x7f00_0001 + n)));
        let v6 = (0..500).map(|n| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n)));
        let cookies = (0..500_u32).map(|n| Affinity::of_value(n.to_string().as_bytes()));
        v4.chain(v6).map(Affinity::of_ip).chain(cookies)
    }

    #[test]
    fn shares_are_fair_and_only_the_clients_of_a_place_move() {
        let all: Vec<usize> = (0..8).collect();
        let without: Vec<usize> = all.iter().copied().filter(|place| *place != 3).collect();
        let mut shares = [0; 8];
        for client in clients() {
            let (before, after) = (heaviest(client, &all), heaviest(client, &without));
            assert!(before == after || before == 3);
            shares[before] += 1;
        }
        assert!(
            shares.iter().all(|share| (120..260).contains(share)),
            "{shares:?}"
        );
    }

    #[test]
    fn values_have_the_same_key_for_ever() {
        assert_eq!(Affinity::of_value(b""), Affinity::Key(0x811c_9dc5));
        assert_eq!(Affinity::of_value(b"foobar"), Affinity::Key(0xbf9c_f968));
    }

    #[test]
    fn an_address_is_itself_in_both_forms() {
        let plain = Ipv4Addr::new(192, 0, 2, 7);
        let mapped = IpAddr::from(plain.to_ipv6_mapped());
        assert_eq!(Affinity::of_ip(plain.into()), Affinity::of_ip(mapped));
        assert_ne!(
            Affinity::of_ip(Ipv6Addr::LOCALHOST.into()),
            Affinity::of_ip(Ipv6Addr::UNSPECIFIED.into())
        );
    }

    #[test]
    fn a_place_that_is_named_goes_first_and_its_clients_spread_without_it() {
        assert_eq!(heaviest(Affinity::of_place(2), &[0, 1, 2, 3]), 2);
        let heirs = |all: &mut dyn Iterator<Item = Affinity>| {
            let heirs = all.map(|affinity| heaviest(affinity, &[0, 1, 2, 3]));
            heirs.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(heirs(&mut (4..68).map(Affinity::of_place)), 4);
        // Also those of one place, who say more than its name.
        let clients = (0..64).map(|n| Affinity::of_value(format!("w9.{n}").as_bytes()));
        assert_eq!(heirs(&mut { clients }), 4);
    }
}
