//! Choosing a content coding by Accept-Encoding (RFC 9110 section 12.5.3).

use super::grammar::{is_token, list, trim_ows};

/// A content coding that a representation may be kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Brotli, RFC 7932.
    Brotli,
    /// Zstandard, RFC 8878.
    Zstd,
    /// gzip, RFC 1952.
    Gzip,
    /// None.
    Identity,
}

impl Coding {
    /// Those that are codings, the one that usually is the smallest first.
    pub const CODED: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// Its name in Content-Encoding; the identity has none, for it is not named there (RFC 9110 section 8.4.1).
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
            Self::Identity => None,
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match () {
            () if is("br") => Some(Self::Brotli),
            () if is("zstd") => Some(Self::Zstd),
            // 8.4.1.3: the same.
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("identity") => Some(Self::Identity),
            () => None,
        }
    }
}

/// What a client takes, in thousandths; `None` is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptEncoding {
    brotli: Option<u16>,
    zstd: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl AcceptEncoding {
    /// Reads the fields of that name, of which there may be several. Members that are malformed are ignored; of two for
    /// one coding the first counts.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcluster::http::{AcceptEncoding, Coding};
    ///
    /// let accepts = AcceptEncoding::of([&b"gzip, br;q=0.5, *;q=0"[..]]);
    /// assert_eq!(accepts.choose(&[Coding::Brotli, Coding::Gzip]), Coding::Gzip);
    /// assert_eq!(accepts.choose(&[Coding::Zstd]), Coding::Identity);
    /// ```
    pub fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut accepts = Self::default();
        for member in values.into_iter().flat_map(list) {
            let Some((name, weight)) = parse(member) else {
                continue;
            };
            let place = match (name, Coding::of(name)) {
                (b"*", _) => &mut accepts.any,
                (_, Some(Coding::Brotli)) => &mut accepts.brotli,
                (_, Some(Coding::Zstd)) => &mut accepts.zstd,
                (_, Some(Coding::Gzip)) => &mut accepts.gzip,
                (_, Some(Coding::Identity)) => &mut accepts.identity,
                (_, None) => continue,
            };
            place.get_or_insert(weight);
        }
        accepts
    }

    /// How much the client wants a coding, from 0 (not at all) to 1000. Without a word about it a coding is not wanted,
    /// and the identity is taken for want of better.
    pub fn weight(&self, coding: Coding) -> u16 {
        match coding {
            Coding::Brotli => self.brotli.or(self.any).unwrap_or(0),
            Coding::Zstd => self.zstd.or(self.any).unwrap_or(0),
            Coding::Gzip => self.gzip.or(self.any).unwrap_or(0),
            Coding::Identity => self.identity.unwrap_or(0),
        }
    }

    /// The one of `available` that the client wants most, the first of equals; the identity where it wants that more,
    /// or none of them.
    pub fn choose(&self, available: &[Coding]) -> Coding {
        let mut best = Coding::Identity;
        for &coding in available {
            let weight = self.weight(coding);
            let better = match best {
                // What is coded is shorter, so it wins between equals.
                Coding::Identity => weight >= self.weight(best),
                _ => weight > self.weight(best),
            };
            if weight > 0 && better {
                best = coding;
            }
        }
        best
    }
}

/// `codings [ OWS ";" OWS "q=" qvalue ]`: a name, and a weight in thousandths (RFC 9110 section 12.4.2).
fn parse(member: &[u8]) -> Option<(&[u8], u16)> {
    let (name, weight) = match member.iter().position(|&byte| byte == b';') {
        None => (member, 1000),
        Some(at) => match trim_ows(&member[at + 1..]) {
            [b'q' | b'Q', b'=', value @ ..] => (trim_ows(&member[..at]), qvalue(value)?),
            _ => return None,
        },
    };
    // `*` is a token as well.
    is_token(name).then_some((name, weight))
}

/// `0`, `1`, and up to three digits behind a point, in thousandths.
fn qvalue(value: &[u8]) -> Option<u16> {
    let (whole, digits) = match value {
        [b'0'] => (0, &[][..]),
        [b'1'] => (1000, &[][..]),
        [b'0', b'.', digits @ ..] => (0, digits),
        [b'1', b'.', digits @ ..] => (1000, digits),
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let parts = digits.iter().zip([100, 10, 1]);
    let part: u16 = parts
        .map(|(&digit, unit)| u16::from(digit - b'0') * unit)
        .sum();
    (whole + part <= 1000).then_some(whole + part)
}
