//! The programs by which the kernel chooses a socket for a client, in the instructions of classic
//! BPF: rendezvous hashing, and one of some by lot.
//!
//! Owns the programs, the first of which comes to what `rendezvous` does with a client's address.
//! Pure; leaves giving one to a group of sockets to `sys::listener`, and when to do so to `ports`.

use super::rendezvous::salt;
#[cfg(feature = "programs")]
use crate::sorted::SortedSet;
use crate::sys::listener::Instruction;
#[cfg(feature = "programs")]
use libc::BPF_MOD;
use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_IMM, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD,
    BPF_LDX, BPF_MEM, BPF_MISC, BPF_MUL, BPF_RET, BPF_RSH, BPF_ST, BPF_TAX, BPF_W, BPF_X, BPF_XOR,
};

/// Instructions that the kernel takes at most.
const MOST: usize = 4096;

/// Where the packet's network header starts; see the kernel's networking/filter document.
const NET: u32 = libc::SKF_NET_OFF as u32;

/// Words of memory: the key, the greatest weight so far, and whose it is.
const KEY: u32 = 0;
const HEAVIEST: u32 = 1;
const PLACE: u32 = 2;

fn plain(code: u32, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> Instruction {
    let code = code as u16;
    Instruction { code, jt, jf, k }
}

/// `A ^= A >> bits`; X is lost.
fn fold(bits: u32) -> [Instruction; 3] {
    [
        plain(BPF_MISC | BPF_TAX, 0),
        plain(BPF_ALU | BPF_RSH | BPF_K, bits),
        plain(BPF_ALU | BPF_XOR | BPF_X, 0),
    ]
}

/// The rest of `rendezvous::mixed`, after its first line.
fn mix() -> impl Iterator<Item = Instruction> {
    let times = |factor| [plain(BPF_ALU | BPF_MUL | BPF_K, factor)];
    let first = times(0x85eb_ca6b).into_iter().chain(fold(13));
    first.chain(times(0xc2b2_ae35)).chain(fold(16))
}

/// The key of an IPv6 address, in A.
fn key_v6() -> Vec<Instruction> {
    let mut program = Vec::new();
    for word in 0..4 {
        if word > 0 {
            program.push(plain(BPF_MISC | BPF_TAX, 0));
        }
        program.push(plain(
            BPF_LD | BPF_W | BPF_ABS,
            NET.wrapping_add(8 + 4 * word),
        ));
        if word > 0 {
            program.push(plain(BPF_ALU | BPF_XOR | BPF_X, 0));
        }
        program.extend(fold(16));
        program.extend(mix());
    }
    program
}

/// The program that answers which of the places below `places` is the heaviest for the address
/// that a packet comes from; nothing where they are too many for the kernel.
pub(super) fn program(places: usize) -> Option<Vec<Instruction>> {
    let of_v6 = key_v6();
    let mut program = vec![
        plain(BPF_LD | BPF_B | BPF_ABS, NET),
        plain(BPF_ALU | BPF_RSH | BPF_K, 4),
        jump(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, of_v6.len() as u8 + 1),
    ];
    program.extend(of_v6);
    program.push(plain(BPF_JMP | BPF_JA, 1));
    program.push(plain(BPF_LD | BPF_W | BPF_ABS, NET.wrapping_add(12)));
    // The first line of `mixed` of key and salt together is that of each, put together: so it is
    // done once rather than for each place.
    program.extend(fold(16));
    program.push(plain(BPF_ST, KEY));
    program.push(plain(BPF_LD | BPF_IMM, 0));
    program.push(plain(BPF_ST, HEAVIEST));
    program.push(plain(BPF_ST, PLACE));
    for place in 0..places {
        let salt = salt(place);
        program.push(plain(BPF_LD | BPF_MEM, KEY));
        program.push(plain(BPF_ALU | BPF_XOR | BPF_K, salt ^ salt >> 16));
        program.extend(mix());
        program.push(plain(BPF_LDX | BPF_MEM, HEAVIEST));
        // No two places weigh the same for one key, each step of the hash being one to one.
        program.push(jump(BPF_JMP | BPF_JGE | BPF_X, 0, 0, 3));
        program.push(plain(BPF_ST, HEAVIEST));
        program.push(plain(BPF_LD | BPF_IMM, place as u32));
        program.push(plain(BPF_ST, PLACE));
        if program.len() + 2 > MOST {
            return None;
        }
    }
    program.push(plain(BPF_LD | BPF_MEM, PLACE));
    program.push(plain(BPF_RET | BPF_A, 0));
    Some(program)
}

/// The program that answers with one of `places`, each as likely as the others; nothing where they are
/// none, or too many for the kernel.
#[cfg(feature = "programs")]
pub(super) fn by_lot(places: &SortedSet<usize>) -> Option<Vec<Instruction>> {
    const LOT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM) as u32;
    let mut program = vec![
        plain(BPF_LD | BPF_W | BPF_ABS, LOT),
        plain(BPF_ALU | BPF_MOD | BPF_K, places.len() as u32),
    ];
    for (nth, place) in places.iter().enumerate() {
        program.push(jump(BPF_JMP | BPF_JEQ | BPF_K, nth as u32, 0, 1));
        program.push(plain(BPF_RET | BPF_K, *place as u32));
    }
    // No number is left for this one, but a program ends by an answer.
    program.push(plain(BPF_RET | BPF_K, u32::MAX));
    (!places.is_empty() && program.len() <= MOST).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::super::rendezvous::Affinity;
    use super::*;
    use crate::board::MAX_WORKERS;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    /// What `program` answers for a packet with a network header; nothing where the kernel would
    /// not take it, or would read what is not there.
    fn run(program: &[Instruction], header: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [None; 16]);
        let mut at = 0;
        loop {
            let Instruction { code, jt, jf, k } = *program.get(at)?;
            at += 1;
            let offset = k.wrapping_sub(NET) as usize;
            let mut go = |yes: bool| at += usize::from(if yes { jt } else { jf });
            const BYTE: u32 = BPF_LD | BPF_B | BPF_ABS;
            const WORD: u32 = BPF_LD | BPF_W | BPF_ABS;
            const CONSTANT: u32 = BPF_LD | BPF_IMM;
            const LOAD: u32 = BPF_LD | BPF_MEM;
            const LOAD_X: u32 = BPF_LDX | BPF_MEM;
            const TO_X: u32 = BPF_MISC | BPF_TAX;
            const SHIFT: u32 = BPF_ALU | BPF_RSH | BPF_K;
            const TIMES: u32 = BPF_ALU | BPF_MUL | BPF_K;
            const XOR: u32 = BPF_ALU | BPF_XOR | BPF_K;
            const XOR_X: u32 = BPF_ALU | BPF_XOR | BPF_X;
            const EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;
            const AT_LEAST: u32 = BPF_JMP | BPF_JGE | BPF_X;
            const GO: u32 = BPF_JMP | BPF_JA;
            const ANSWER: u32 = BPF_RET | BPF_A;
            match u32::from(code) {
                BYTE => a = (*header.get(offset)?).into(),
                WORD => {
                    let word = header.get(offset..offset + 4)?;
                    a = u32::from_be_bytes(word.try_into().ok()?);
                }
                CONSTANT => a = k,
                LOAD => a = memory[k as usize]?,
                LOAD_X => x = memory[k as usize]?,
                BPF_ST => memory[k as usize] = Some(a),
                TO_X => x = a,
                SHIFT => a >>= k,
                TIMES => a = a.wrapping_mul(k),
                XOR => a ^= k,
                XOR_X => a ^= x,
                EQUAL => go(a == k),
                AT_LEAST => go(a >= x),
                GO => at += k as usize,
                ANSWER => return Some(a),
                _ => return None,
            }
        }
    }

    /// A network header with this source.
    fn header(source: IpAddr) -> Vec<u8> {
        match source {
            IpAddr::V4(ip) => [&[0x45; 12][..], &ip.octets(), &[127, 0, 0, 1]].concat(),
            IpAddr::V6(ip) => [&[0x60; 8][..], &ip.octets(), &[0; 16]].concat(),
        }
    }

    /// The same numbers each time: xorshift.
    fn numbers() -> impl FnMut() -> u64 {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    #[test]
    fn the_program_answers_what_rendezvous_does() {
        let programs: Vec<_> = (1..=64).map(|places| program(places).unwrap()).collect();
        let mut number = numbers();
        for round in 0..100_000 {
            let source = match round % 2 {
                0 => IpAddr::from(Ipv4Addr::from_bits(number() as u32)),
                // The kernel meets an IPv4 client by IPv4 whatever it connected to.
                _ => Ipv6Addr::from_bits(u128::from(number() | 1) << 64 | u128::from(number()))
                    .into(),
            };
            let affinity = Affinity::of_ip(source);
            let places = 1 + number() as usize % 64;
            let heaviest = (0..places).max_by_key(|place| affinity.weight(*place));
            let answer = run(&programs[places - 1], &header(source));
            assert_eq!(
                answer.map(|place| place as usize),
                heaviest,
                "{source}, {places} places"
            );
        }
    }

    #[test]
    fn the_program_fits_for_as_many_places_as_are_said() {
        let fits = (1..=MAX_WORKERS).take_while(|places| program(*places).is_some());
        assert_eq!(fits.count(), 268, "the manual says so");
        assert!(program(268).unwrap().len() <= MOST);
        assert!(program(MAX_WORKERS).is_none());
    }
}
