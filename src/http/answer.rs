//! The client's half: where an answer ends, and whether its connection may carry another one (RFC 9112 section 6.3).
//!
//! Owns partial heads and the framing of bodies; what becomes of a body and of a connection is left to whoever asked. A
//! bare LF ends a line, as the RFC allows (section 2.2): nobody relays what is read here.

use std::mem::{self, MaybeUninit};

use super::chunked::ChunkedDecoder;
use super::error::Error;
use super::framing::content_length;
use super::grammar::{is_ows, list};

/// The longest head.
const LONGEST_HEAD: usize = 64 << 10;

/// The most fields in a head.
const MOST_FIELDS: usize = 100;

/// The most answers that may come before the answer itself (1xx).
const MOST_INTERIM: u8 = 100;

/// How each answer begins; a later minor version would have to say 1.1 too.
const BEGINNING: &[u8] = b"HTTP/1.";

/// How far into a body somebody may say who answers.
const LOOKED_AT: usize = 256;

/// The longest name of who answers; what is longer is cut.
const LONGEST_NAME: usize = 64;

/// An answer that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerEnd {
    /// Its status.
    pub(crate) status: u16,
    /// Whether the connection may carry another request (RFC 9112 section 9.3).
    pub(crate) keep_alive: bool,
}

/// Reads one answer after the other from bytes as they come. Any split of the input gives the same answers.
///
/// An answer that is there in one piece is neither copied nor kept; of others, the head is until it is whole.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    /// Whether what was asked is HEAD: then no answer has a body.
    to_head: bool,
    state: State,
    /// The beginning of a head.
    partial: Vec<u8>,
    /// Answers that came before this one.
    interim: u8,
    status: u16,
    keep_alive: bool,
    who: Who,
}

#[derive(Debug)]
enum State {
    Head,
    /// Bytes of the body still to come.
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
    Failed(Error),
}

impl AnswerReader {
    /// For answers to HEAD, or to other methods.
    pub(crate) const fn new(to_head: bool) -> Self {
        Self {
            to_head,
            state: State::Head,
            partial: Vec::new(),
            interim: 0,
            status: 0,
            keep_alive: false,
            who: Who::new(),
        }
    }

    /// Takes bytes off the front of `input`: how many, and the end of the answer if they reach it. Those behind it are
    /// left for the next one; without an end, all are taken.
    ///
    /// # Errors
    ///
    /// 502, as a gateway would say, for what is no answer. The reader then stays failed.
    #[cfg_attr(
        not(any(feature = "loadtest", feature = "internals")),
        allow(dead_code, reason = "a load test alone asks")
    )]
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<AnswerEnd>), Error> {
        self.feed_to(input, &mut |_| {})
    }

    /// The same, and appends what came of the body to `body`.
    ///
    /// # Errors
    ///
    /// As [`AnswerReader::feed`]; `body` may have grown.
    pub(crate) fn feed_into(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<(usize, Option<AnswerEnd>), Error> {
        self.feed_to(input, &mut |data| body.extend_from_slice(data))
    }

    /// The end of an answer whose body goes on until the connection's end, which has come.
    pub(crate) fn at_close(&mut self) -> Option<AnswerEnd> {
        matches!(self.state, State::UntilClose).then(|| self.end())
    }

    /// Whether no byte of an answer has come since the last one's end.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.partial.is_empty() && self.interim == 0
    }

    /// The status of the answer whose body is on its way.
    pub(crate) fn status(&self) -> Option<u16> {
        let known = !matches!(self.state, State::Head | State::Failed(_));
        known.then_some(self.status)
    }

    /// Who gave the last whole answer: what its field X-Worker says, else its body, as `process 4711`,
    /// `process 4711 thread 2`, `worker 3` or `pid 4711`.
    #[cfg_attr(
        not(any(feature = "loadtest", feature = "internals")),
        allow(dead_code, reason = "a load test alone asks")
    )]
    pub(crate) fn worker(&self) -> Option<&[u8]> {
        self.who.name()
    }

    fn feed_to(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(usize, Option<AnswerEnd>), Error> {
        let fed = self.run(input, sink);
        if let Err(error) = fed {
            self.partial = Vec::new();
            self.state = State::Failed(error);
        }
        fed
    }

    fn run(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(usize, Option<AnswerEnd>), Error> {
        let mut at = 0;
        while matches!(self.state, State::Head) {
            let Some((used, framing)) = self.head(&input[at..])? else {
                return Ok((input.len(), None));
            };
            at += used;
            match framing {
                Some(State::Length(0)) => return Ok((at, Some(self.end()))),
                Some(framing) => self.state = framing,
                None => self.interim += 1,
            }
        }
        let rest = &input[at..];
        let (used, done) = match &mut self.state {
            State::Head => (0, false),
            State::Length(left) => {
                let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
                let data = &rest[..rest.len().min(wanted)];
                *left -= data.len() as u64;
                self.who.read(data, *left == 0);
                sink(data);
                (data.len(), *left == 0)
            }
            State::Chunked(decoder) => {
                let who = &mut self.who;
                let decoded = decoder.decode_to(rest, &mut |data: &[u8]| {
                    who.read(data, false);
                    sink(data);
                });
                decoded.map_err(|error| no_answer(error.what()))?
            }
            State::UntilClose => {
                self.who.read(rest, false);
                sink(rest);
                (rest.len(), false)
            }
            State::Failed(error) => return Err(*error),
        };
        let end = done.then(|| self.end());
        Ok((at + used, end))
    }

    /// Makes room for the next answer.
    fn end(&mut self) -> AnswerEnd {
        let keep_alive = self.keep_alive && !matches!(self.state, State::UntilClose);
        self.who.end();
        self.state = State::Head;
        self.interim = 0;
        AnswerEnd {
            status: self.status,
            keep_alive,
        }
    }

    /// Reads the head at the front of `input`, which what is kept comes before: how much of `input` it takes, and how
    /// its body is framed, which for an answer before the answer is not at all. None while it is not whole.
    fn head(&mut self, input: &[u8]) -> Result<Option<(usize, Option<State>)>, Error> {
        if self.partial.is_empty() {
            let parsed = self.parse(input)?;
            if parsed.is_none() {
                self.partial.extend_from_slice(input);
            }
            return Ok(parsed);
        }
        let mut partial = mem::take(&mut self.partial);
        let before = partial.len();
        let room = LONGEST_HEAD - before;
        partial.extend_from_slice(&input[..input.len().min(room)]);
        match self.parse(&partial)? {
            Some((length, framing)) => Ok(Some((length - before, framing))),
            None => {
                self.partial = partial;
                Ok(None)
            }
        }
    }

    /// Reads the head at the front of `bytes`: its length, and how its body is framed. None while it is not whole.
    fn parse(&mut self, bytes: &[u8]) -> Result<Option<(usize, Option<State>)>, Error> {
        // httparse would skip empty lines, which nothing allows before an answer.
        let front = bytes.len().min(BEGINNING.len());
        if bytes[..front] != BEGINNING[..front] {
            return Err(no_answer("not an answer of HTTP/1"));
        }
        let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let bounded = &bytes[..bytes.len().min(LONGEST_HEAD)];
        let config = httparse::ParserConfig::default();
        let length =
            match config.parse_response_with_uninit_headers(&mut response, bounded, &mut room) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if bounded.len() < LONGEST_HEAD => return Ok(None),
                Ok(httparse::Status::Partial) => return Err(no_answer("a head that is too long")),
                Err(httparse::Error::TooManyHeaders) => return Err(no_answer("too many fields")),
                Err(_) => return Err(no_answer("a malformed head")),
            };
        let (Some(status), Some(minor)) = (response.code, response.version) else {
            return Err(no_answer("a malformed head"));
        };
        let mut noted = Noted::default();
        for field in response.headers.iter() {
            noted.note(field.name.as_bytes(), field.value)?;
        }
        let framing = match status {
            101 => return Err(no_answer("another protocol, which nobody asked for")),
            100..200 if self.interim == MOST_INTERIM => {
                return Err(no_answer("no end of answers before the answer"));
            }
            100..200 => return Ok(Some((length, None))),
            200.. => noted.framing(status, minor, self.to_head)?,
            _ => return Err(no_answer("a status below 100")),
        };
        self.status = status;
        self.keep_alive = !noted.close && (minor == 1 || noted.keep_alive);
        self.who.begin(noted.worker);
        Ok(Some((length, Some(framing))))
    }
}

const fn no_answer(what: &'static str) -> Error {
    Error::new(502, what)
}

/// The fields that matter, noted as they pass.
#[derive(Default)]
struct Noted<'b> {
    length: Option<u64>,
    /// Whether Transfer-Encoding is there, and each time `chunked`.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
    worker: Option<&'b [u8]>,
}

impl<'b> Noted<'b> {
    /// Notes one field. By length first: most fields are none of these.
    fn note(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), Error> {
        match name.len() {
            8 if name.eq_ignore_ascii_case(b"x-worker") => self.worker = Some(value),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            // RFC 9112 section 6.3, rule 5: the same length several times is one length.
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                for digits in list(value) {
                    let length = content_length(digits).map_err(|e| no_answer(e.what()))?;
                    if self.length.is_some_and(|known| known != length) {
                        return Err(no_answer("lengths that contradict each other"));
                    }
                    self.length = Some(length);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let once = self.chunked.is_none();
                self.chunked = Some(once && value.eq_ignore_ascii_case(b"chunked"));
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, status: u16, minor: u8, to_head: bool) -> Result<State, Error> {
        // RFC 9112 section 6.3, by its numbers, for a client that does not ask for CONNECT:
        //
        // 1. No body in an answer to HEAD, nor with 1xx (read before), 204 and 304.
        // 3. Transfer-Encoding with Content-Length ought to be an error, and is. In HTTP/1.0 the framing is faulty
        //    (6.1), whatever it says.
        // 4. Transfer-Encoding: only chunked may be sent to who does not ask for more (RFC 9110 section 10.1.4).
        // 5, 6. Content-Length, which was read before.
        // 8. Until the connection closes.
        match (self.chunked, self.length) {
            _ if to_head || status == 204 || status == 304 => Ok(State::Length(0)),
            (Some(_), Some(_)) => Err(no_answer("Transfer-Encoding with Content-Length")),
            (Some(_), None) if minor == 0 => Err(no_answer("Transfer-Encoding in HTTP/1.0")),
            (Some(true), None) => Ok(State::Chunked(ChunkedDecoder::new(u64::MAX))),
            (Some(false), None) => Err(no_answer("a transfer coding that is not known")),
            (None, Some(length)) => Ok(State::Length(length)),
            (None, None) => Ok(State::UntilClose),
        }
    }
}

/// Finds who answers.
#[derive(Debug)]
struct Who {
    name: [u8; LONGEST_NAME],
    length: usize,
    /// Whether the body may still say it.
    looking: bool,
    /// The beginning of a body that comes in pieces. Its memory is kept.
    front: Vec<u8>,
}

impl Who {
    const fn new() -> Self {
        Self {
            name: [0; LONGEST_NAME],
            length: 0,
            looking: false,
            front: Vec::new(),
        }
    }

    #[cfg_attr(
        not(any(feature = "loadtest", feature = "internals")),
        allow(dead_code, reason = "a load test alone asks")
    )]
    fn name(&self) -> Option<&[u8]> {
        (self.length > 0).then(|| &self.name[..self.length])
    }

    /// An answer begins, and perhaps says it in a field.
    fn begin(&mut self, field: Option<&[u8]>) {
        self.length = 0;
        self.front.clear();
        self.write(field.unwrap_or_default());
        self.looking = self.length == 0;
    }

    /// Looks at the next piece of a body, which is its last as far as `is_last` tells.
    fn read(&mut self, data: &[u8], is_last: bool) {
        if !self.looking {
            return;
        }
        if self.front.is_empty() && (is_last || data.len() >= LOOKED_AT) {
            self.look(&data[..data.len().min(LOOKED_AT)]);
            return;
        }
        let room = LOOKED_AT - self.front.len();
        self.front.extend_from_slice(&data[..data.len().min(room)]);
        if self.front.len() == LOOKED_AT {
            self.end();
        }
    }

    /// The body is over, or enough of it was seen.
    fn end(&mut self) {
        if self.looking {
            let front = mem::take(&mut self.front);
            self.look(&front);
            self.front = front;
        }
    }

    fn look(&mut self, front: &[u8]) {
        self.looking = false;
        // The first number behind one of the words.
        for at in 1..front.len() {
            if !front[at].is_ascii_digit() || !matches!(front[at - 1], b' ' | b':' | b'=') {
                continue;
            }
            let (Some(word), Some(number)) = (word_before(&front[..at]), number_at(front, at))
            else {
                continue;
            };
            self.write(word);
            self.write(number);
            const THREAD: &[u8] = b" thread ";
            let at = at + number.len();
            if front[at..].starts_with(THREAD)
                && let Some(thread) = number_at(front, at + THREAD.len())
            {
                self.write(THREAD);
                self.write(thread);
            }
            return;
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let room = &mut self.name[self.length..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }
}

/// The word that `text` ends with and that a number may follow, with a space behind it: `process 1`, `pid=1`, `"pid": 1`.
fn word_before(text: &[u8]) -> Option<&'static [u8]> {
    const WORDS: [&[u8]; 3] = [b"process ", b"worker ", b"pid "];
    let without = |text: &mut &[u8], is: fn(u8) -> bool| {
        while let [rest @ .., last] = *text
            && is(*last)
        {
            *text = rest;
        }
    };
    let mut text = text;
    without(&mut text, is_ows);
    if let [rest @ .., b':' | b'='] = text {
        text = rest.strip_suffix(b"\"").unwrap_or(rest);
    }
    WORDS.into_iter().find(|word| {
        let word = &word[..word.len() - 1];
        let from = text.len().wrapping_sub(word.len());
        let ends = text.get(from..);
        ends.is_some_and(|end| end.eq_ignore_ascii_case(word))
            && !text[..from].last().is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// The number at `at`, if it is of ten digits at most and no part of a longer word. One that reaches the end of what is
/// looked at is none: it may go on.
fn number_at(front: &[u8], at: usize) -> Option<&[u8]> {
    let bytes = front.get(at..)?;
    let count = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = bytes.get(count).is_none_or(|b| !b.is_ascii_alphanumeric());
    (whole && (1..=10).contains(&count) && at + count < LOOKED_AT).then(|| &bytes[..count])
}
