//! What names a worker to its clients, and the cookie that tells it to them.
//!
//! Owns that form and when an answer sets the cookie; leaves dealing by it to the primary.

use super::edge::Edge;
use super::{Server, Turn};
use crate::app::{Parts, Response};
use crate::http::{cookie_pairs, members};
use crate::sys::random;

/// Digits of a place's number at most.
const MOST_DIGITS: usize = 4;

/// What names the worker at `place`: `w1` that at place 0.
pub(crate) fn value_of(place: usize) -> String {
    format!("w{}", place + 1)
}

/// The place that a value names: by our form alone, or by that and more behind `.`, `-` or `~`.
pub(crate) fn place_of(value: &[u8]) -> Option<usize> {
    let rest = value.strip_prefix(b"w")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    let ends = matches!(rest, [] | [b'.' | b'-' | b'~', ..]);
    if !ends || number.len() > MOST_DIGITS || number.starts_with(b"0") {
        return None;
    }
    let number: usize = std::str::from_utf8(number).ok()?.parse().ok()?;
    number.checked_sub(1)
}

/// The value of the first cookie called `name` in the Cookie fields with these values.
pub(crate) fn cookie_of<'a>(
    fields: impl Iterator<Item = &'a [u8]>,
    name: &str,
) -> Option<std::borrow::Cow<'a, str>> {
    let mut all = fields.flat_map(cookie_pairs);
    all.find_map(|(known, value)| (known == name).then_some(value))
}

/// The cookie by which clients come back to one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sticky {
    name: String,
    place: usize,
}

/// What an answer must set so that its client comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The client came by https.
    secure: bool,
}

impl Sticky {
    /// The cookie called `name`, of the worker at `place`.
    pub(crate) fn new(name: &str, place: usize) -> Self {
        Self {
            name: name.to_owned(),
            place,
        }
    }

    /// Whether the answer to a request is to set it: where it is not there, and where it names
    /// another worker that is not there, which the primary knows of a connection that has `strayed`.
    /// An application's own cookie of that name stands.
    fn mark(&self, parts: &Parts, strayed: bool) -> Option<Mark> {
        if let Some(value) = cookie_of(parts.head.get_all("cookie"), &self.name) {
            let place = place_of(value.as_bytes());
            if !strayed || place.is_none_or(|place| place == self.place) {
                return None;
            }
        }
        let secure = parts.client().https;
        Some(Mark { secure })
    }

    /// Behind the worker's name the value has `mine`, which differs from client to client: by that
    /// those of a worker that is gone are spread over the others.
    fn field(&self, mark: Mark, mine: u32) -> String {
        let prefixed = |prefix: &str| {
            let start = self.name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        // A browser takes such names with that alone.
        let secure = mark.secure || prefixed("__Host-") || prefixed("__Secure-");
        let (name, value) = (&self.name, value_of(self.place));
        let more = if secure { "; Secure" } else { "" };
        format!("{name}={value}.{mine:08x}; Path=/; HttpOnly; SameSite=Lax{more}")
    }
}

impl Edge {
    /// What the answer to a request is to set so that its client comes back.
    pub(super) fn mark(&self, parts: &Parts, strayed: bool) -> Option<Mark> {
        self.sticky.as_deref()?.mark(parts, strayed)
    }

    /// An answer with the cookie, unless its handler has set one of that name, or it is for caches
    /// that many clients share (RFC 9111 5.2.2): they would all be told the same.
    pub(super) fn marked(&self, answer: Response, mark: Mark) -> Response {
        match &self.sticky {
            Some(sticky) if !answer.sets_cookie(&sticky.name) && !is_shared(&answer) => {
                let mine = random::number() as u32;
                answer.header("Set-Cookie", sticky.field(mark, mine))
            }
            _ => answer,
        }
    }
}

/// Whether an answer says that it may be kept for other clients.
fn is_shared(answer: &Response) -> bool {
    let values = answer.values("cache-control");
    let mut directives = values.flat_map(members);
    directives.any(|directive| {
        let name = directive.split(|&byte| byte == b'=').next();
        let name = name.unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
    })
}

impl Server {
    /// Has clients come back by another cookie from now on, or by none.
    pub(crate) fn stick(&mut self, sticky: Option<Sticky>) {
        let Turn { edge, .. } = &mut self.turn;
        edge.sticky = sticky.map(Box::new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, HeadLimits};

    #[test]
    fn values_name_places() {
        for place in [0, 2, 9, 9998] {
            let value = value_of(place);
            assert_eq!(place_of(value.as_bytes()), Some(place));
            for more in [".", "-x", "~7", ".w1", "-\u{fc}"] {
                assert_eq!(place_of(format!("{value}{more}").as_bytes()), Some(place));
            }
        }
        let others = [
            "", "w", "w0", "w01", "w12345", "W1", "w1x", "w1 ", "w 1", "w+1", "w-1", "1", "w.1",
            "w1,", "\"w1\"", "w1_", "x1",
        ];
        for other in others {
            assert_eq!(place_of(other.as_bytes()), None, "{other:?}");
        }
    }

    fn parts(cookies: &[&str]) -> Box<Parts> {
        let mut parts = Parts::take();
        let fields = cookies.iter().map(|cookie| format!("Cookie: {cookie}\r\n"));
        let head = fields.collect::<String>();
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{head}\r\n");
        parts.head = Head::new();
        let parsed = parts.head.parse(head.as_bytes(), &HeadLimits::default());
        assert!(parsed.is_ok());
        parts
    }

    #[test]
    fn who_does_not_name_this_worker_is_told_its_name() {
        let sticky = Sticky::new("at", 2);
        let set = |cookies: &[&str]| sticky.mark(&parts(cookies), true).is_some();
        let at_home = |cookies: &[&str]| sticky.mark(&parts(cookies), false).is_some();
        assert!(set(&[]) && at_home(&[]) && at_home(&["id=1"]));
        assert!(!at_home(&["at=w2"]), "it will find who is there");
        assert!(set(&["id=1", "theme=dark"]));
        assert!(set(&["at=w2"]), "another worker");
        assert!(set(&["a=1; at=w2.x; at=w3"]), "the first one counts");
        assert!(set(&["At=w3"]), "names differ by case");
        assert!(!set(&["at=w3"]) && !set(&["id=1", "a=2; at=w3~7"]));
        assert!(
            !set(&["at=mine"]) && !set(&["at="]),
            "the application's own"
        );
    }

    #[test]
    fn the_cookie() {
        let field = |name, secure| Sticky::new(name, 2).field(Mark { secure }, 0xab);
        let plain = "at=w3.000000ab; Path=/; HttpOnly; SameSite=Lax";
        assert_eq!(field("at", false), plain);
        assert_eq!(field("at", true), format!("{plain}; Secure"));
        assert!(field("__Host-at", false).ends_with("; Secure"));
        assert!(field("__secure-at", false).ends_with("; Secure"));
        assert!(!field("__Host", false).ends_with("; Secure"));
    }

    #[test]
    fn a_handler_s_own_cookie_of_that_name_stands() {
        let mut edge = Edge::default();
        let mark = Mark { secure: false };
        let fields = |edge: &Edge, answer: Response| {
            let answer = edge.marked(answer, mark);
            String::from_utf8(answer.fields().to_vec()).unwrap()
        };
        let own = || Response::new(200).header("Set-Cookie", "at=mine; Path=/");
        assert_eq!(fields(&edge, Response::new(200)), "", "no such policy");
        edge.sticky = Some(Box::new(Sticky::new("at", 0)));
        assert_eq!(fields(&edge, own()).matches("Set-Cookie").count(), 1);
        for value in ["public, max-age=9", "max-age=1,S-MaxAge=9"] {
            let answer = Response::new(200).header("Cache-Control", value);
            assert!(!fields(&edge, answer).contains("Set-Cookie"), "{value}");
        }
        let answer = Response::new(200).header("Cache-Control", "private, max-age=9");
        assert!(fields(&edge, answer).contains("Set-Cookie"));
        let beside = Response::new(304).header("set-cookie", "atlas=1");
        let both = fields(&edge, beside);
        assert!(
            both.contains("atlas=1") && both.contains("at=w1."),
            "{both}"
        );
    }
}
