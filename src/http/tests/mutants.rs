//! A million requests, each a file of the corpus with a few things broken, none of which may panic or hang. The
//! generator is deterministic, so that a failure can be had again.

use super::{End, Reader, corpus, plain, read_all};

/// xorshift64*, for a test needs repeatable numbers and not good ones.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, or 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize) % end.max(1)
    }

    /// A byte, often one that means something.
    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\r\n\r\n\t :;,=\"\\%/?#*0159afgAF\0\x7f\x80\xff";
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => self.next() as u8,
        }
    }
}

/// Breaks one thing.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random, corpus: &[Vec<u8>]) {
    const LONGEST: usize = 4096;
    let at = random.below(bytes.len() + 1);
    let to = (at + random.below(24)).min(bytes.len());
    match random.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.byte(),
        2 => bytes.insert(at, random.byte()),
        3 => drop(bytes.drain(at..to)),
        4 => bytes.extend_from_within(at..to),
        5 => {
            let copy = bytes[at..to].to_vec();
            bytes.splice(at..at, copy);
        }
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            let end = (from + random.below(200)).min(other.len());
            bytes.splice(at..to, other[from..end].iter().copied());
        }
    }
    bytes.truncate(LONGEST);
}

#[test]
fn a_million_mutants_neither_panic_nor_hang() {
    // A long file is long by repetition, and slow to break.
    let short = |part| -> Vec<Vec<u8>> {
        let files = corpus::files(part).into_iter().map(|(_, bytes, _)| bytes);
        files.filter(|bytes| bytes.len() < 2048).collect()
    };
    let (valid, invalid) = (short("valid"), short("invalid"));
    let mut random = Random(0x9112_9110);
    let mut bytes = Vec::new();
    let (mut refused, mut read) = (0, 0);
    for round in 0..1_000_000 {
        let corpus = if random.below(3) == 0 {
            &invalid
        } else {
            &valid
        };
        bytes.clear();
        bytes.extend_from_slice(&corpus[random.below(corpus.len())]);
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &mut random, corpus);
        }
        let outcome = read_all(&bytes);
        assert!(outcome.requests.len() <= bytes.len(), "{bytes:?}");
        refused += usize::from(matches!(outcome.end, End::Refused(_)));
        read += outcome.requests.len();
        if round % 4 == 0 {
            plain::compare(&bytes);
            let (front, back) = bytes.split_at(random.below(bytes.len() + 1));
            let mut reader = Reader::new();
            reader.feed(front);
            reader.feed(back);
            assert_eq!(reader.outcome, outcome, "{bytes:?} cut at {}", front.len());
        }
    }
    // Else the mutants are too broken, or not enough, to say anything.
    assert!(refused > 100_000 && read > 100_000, "{refused} {read}");
}
