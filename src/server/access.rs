//! The access log: one line for each answer.
//!
//! Owns what a line says, the worker's own buffer of whole lines, and what becomes of lines that
//! cannot be written: the server goes on, and says how many it lost. The file is the primary's to
//! open; `requests` and `conn` say when a request begins and when its answer is sent.

use super::date::Date;
use crate::app::Parts;
use crate::http::{Method, Version};
use crate::net::Seldom;
use crate::sys::lines::{self, Kind, WHOLE_IN_A_PIPE};
use crate::sys::listener::Peer;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So much is written at once, and no line waits longer than so long.
const FLUSH_BYTES: usize = 32 * 1024;
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// What may wait for a reader that does not read; more is lost.
const MOST_BYTES: usize = 1024 * 1024;

/// What is kept of a line that is no request's.
const LONGEST_LINE: usize = 1024;

/// The status of a request whose client did not wait for an answer; nginx's number for it.
const CLIENT_GONE: u16 = 499;

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// The common log format.
    #[default]
    Common,
    /// The same with the referring page and the client's name for itself.
    Combined,
    /// One JSON object a line.
    #[cfg(feature = "json")]
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common",
            Self::Combined => "combined",
            #[cfg(feature = "json")]
            Self::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "common" => Ok(Self::Common),
            "combined" => Ok(Self::Combined),
            #[cfg(feature = "json")]
            "json" => Ok(Self::Json),
            _ => Err(format!(
                "{word:?} is no format of a log (common, combined or json)"
            )),
        }
    }
}

/// What a line needs of one request and its answer. Boxed where it is kept.
#[derive(Debug)]
pub(super) struct Entry {
    since: Instant,
    client: Option<IpAddr>,
    unix: bool,
    /// Nothing for what was no request.
    line: Option<(Method, Version)>,
    /// The target (or the first line of what was no request), then the referring page, then the client's name for itself.
    text: Vec<u8>,
    target: usize,
    referer: usize,
    has: (bool, bool),
    id: Option<Box<str>>,
    answer: Option<Answer>,
}

/// What has gone out of an answer.
#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u16,
    /// Bytes that go out before its body.
    ahead: u64,
    sent: u64,
}

impl Entry {
    /// Of a request whose head is there.
    pub(super) fn of(parts: &Parts, peer: Peer, now: Instant) -> Self {
        let head = &parts.head;
        let (referer, agent) = (head.get("referer"), head.get("user-agent"));
        let words = [
            head.target().as_bytes(),
            referer.unwrap_or_default(),
            agent.unwrap_or_default(),
        ];
        Self {
            client: parts.client().ip,
            line: Some((head.method(), head.version())),
            target: words[0].len(),
            referer: words[1].len(),
            text: words.concat(),
            has: (referer.is_some(), agent.is_some()),
            id: parts.known_id().map(Into::into),
            ..Self::unknown(peer, None, now)
        }
    }

    /// Of what was no request.
    pub(super) fn unknown(peer: Peer, id: Option<Box<str>>, now: Instant) -> Self {
        Self {
            since: now,
            client: match peer {
                Peer::Inet(address) => Some(address.ip().to_canonical()),
                Peer::Unix | Peer::Elsewhere => None,
            },
            unix: peer == Peer::Unix,
            line: None,
            text: Vec::new(),
            target: 0,
            referer: 0,
            has: (false, false),
            id,
            answer: None,
        }
    }

    /// Keeps the first line of what could not be read as a request, as far as it is worth it.
    pub(super) fn began(mut self, input: &[u8]) -> Self {
        let start = input.iter().position(|byte| !b"\r\n".contains(byte));
        let line = &input[start.unwrap_or(input.len())..];
        let end = line.iter().position(|byte| b"\r\n".contains(byte));
        let end = end.unwrap_or(line.len()).min(LONGEST_LINE);
        self.text = line[..end].to_vec();
        self.target = end;
        self
    }

    /// Its answer is under way: `ahead` bytes go out before the answer's body.
    pub(super) fn answered(&mut self, status: u16, ahead: usize) {
        self.answer = Some(Answer {
            status,
            ahead: ahead as u64,
            sent: 0,
        });
    }

    /// So many bytes more have gone out; nothing counts before there is an answer.
    pub(super) fn sent(&mut self, count: u64) {
        if let Some(answer) = &mut self.answer {
            answer.sent += count;
        }
    }

    /// Whether its answer is under way.
    pub(super) fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// The request's id, where it has one.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    fn target(&self) -> &[u8] {
        &self.text[..self.target]
    }

    fn referer(&self) -> Option<&[u8]> {
        let from = self.target;
        self.has.0.then(|| &self.text[from..from + self.referer])
    }

    fn agent(&self) -> Option<&[u8]> {
        self.has.1.then(|| &self.text[self.target + self.referer..])
    }

    fn status(&self) -> u16 {
        self.answer.map_or(CLIENT_GONE, |answer| answer.status)
    }

    /// Bytes of the body that went out.
    fn bytes(&self) -> u64 {
        let answer = self.answer;
        answer.map_or(0, |answer| answer.sent.saturating_sub(answer.ahead))
    }

    fn client(&self) -> String {
        match self.client {
            Some(ip) => ip.to_string(),
            None if self.unix => "unix:".to_owned(),
            None => "-".to_owned(),
        }
    }
}

/// One worker's access log.
#[derive(Debug)]
pub(super) struct Log {
    file: Arc<File>,
    kind: Kind,
    format: LogFormat,
    worker: u32,
    /// Whole lines, but for the rest of one that is partly written.
    buffer: Vec<u8>,
    /// What was written last did not end a line.
    torn: bool,
    /// When to write what there is.
    flush_at: Option<Instant>,
    /// The reader does not read: nothing is written before `flush_at`.
    blocked: bool,
    lost: u64,
    /// When it is to be said that lines are lost.
    losing: Seldom,
}

impl Log {
    pub(super) fn new(file: Arc<File>, format: LogFormat, worker: u32) -> Self {
        Self {
            kind: kind_of(&file),
            file,
            format,
            worker,
            buffer: Vec::new(),
            torn: false,
            flush_at: None,
            blocked: false,
            lost: 0,
            losing: Seldom::default(),
        }
    }

    /// Adds the line of `entry`.
    pub(super) fn add(&mut self, entry: &Entry, date: &Date, now: Instant) {
        if self.buffer.len() >= MOST_BYTES {
            self.lose(1, None, now);
            return;
        }
        if self.buffer.is_empty() && std::mem::take(&mut self.torn) {
            // The line that could not be finished ends here.
            self.buffer.push(b'\n');
        }
        let date = date.text();
        match self.format {
            LogFormat::Common => common(&mut self.buffer, entry, date, false),
            LogFormat::Combined => common(&mut self.buffer, entry, date, true),
            #[cfg(feature = "json")]
            LogFormat::Json => json(&mut self.buffer, entry, date, self.worker),
        }
        self.flush_at.get_or_insert(now + FLUSH_AFTER);
        if self.buffer.len() >= FLUSH_BYTES && !self.blocked {
            self.flush(now);
        }
    }

    /// When [`Log::flush`] must be called at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.flush_at
    }

    /// Writes what there is, as far as it is taken.
    pub(super) fn flush(&mut self, now: Instant) {
        self.flush_at = None;
        self.blocked = false;
        let mut written = 0;
        while written < self.buffer.len() {
            let rest = &self.buffer[written..];
            let piece = match self.kind {
                // More would be mixed with others' lines.
                Kind::Pipe => &rest[..whole_lines(rest, WHOLE_IN_A_PIPE)],
                Kind::File | Kind::Socket => rest,
            };
            match lines::write(&self.file, self.kind, piece) {
                Ok(0) => {
                    self.give_up(&mut written, &io::ErrorKind::WriteZero.into(), now);
                }
                Ok(count) => {
                    self.torn = piece[count - 1] != b'\n';
                    written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    self.flush_at = Some(now + FLUSH_AFTER);
                    break;
                }
                Err(error) => self.give_up(&mut written, &error, now),
            }
        }
        self.buffer.drain(..written);
        self.buffer.shrink_to(2 * FLUSH_BYTES);
    }

    /// The lines that are not written are lost.
    fn give_up(&mut self, written: &mut usize, error: &io::Error, now: Instant) {
        let lines = memchr::memchr_iter(b'\n', &self.buffer[*written..]).count();
        *written = self.buffer.len();
        self.lose(lines as u64, Some(error), now);
    }

    fn lose(&mut self, lines: u64, why: Option<&io::Error>, now: Instant) {
        self.lost += lines;
        if self.losing.is_due(now) {
            if let Some(error) = why {
                log::error!("the access log of worker {}: {error}", self.worker);
            }
            self.say_lost();
        }
    }

    fn say_lost(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let worker = self.worker;
            log::error!("{lost} lines of the access log of worker {worker} are lost");
        }
    }

    /// Goes on in `file`; what there is goes to the one before, if that takes it.
    pub(super) fn reopen(&mut self, file: File, now: Instant) {
        self.flush(now);
        if std::mem::take(&mut self.torn) && !self.buffer.is_empty() {
            let rest = memchr::memchr(b'\n', &self.buffer);
            self.buffer
                .drain(..rest.map_or(self.buffer.len(), |end| end + 1));
            self.lose(1, None, now);
        }
        self.kind = kind_of(&file);
        self.file = Arc::new(file);
        self.blocked = false;
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush(Instant::now());
        self.lost += memchr::memchr_iter(b'\n', &self.buffer).count() as u64;
        self.say_lost();
    }
}

fn kind_of(file: &File) -> Kind {
    // What cannot be told apart is written as a file is.
    lines::kind(file).unwrap_or(Kind::File)
}

/// How many bytes of `bytes` are whole lines up to `most`; of a longer line, all of it.
fn whole_lines(bytes: &[u8], most: usize) -> usize {
    if bytes.len() <= most {
        return bytes.len();
    }
    let within = memchr::memrchr(b'\n', &bytes[..most]);
    let end = within.or_else(|| memchr::memchr(b'\n', bytes));
    end.map_or(bytes.len(), |end| end + 1)
}

/// The common log format; `combined` with two fields more.
fn common(out: &mut Vec<u8>, entry: &Entry, date: &str, combined: bool) {
    out.extend_from_slice(entry.client().as_bytes());
    let (day, month, year, time) = parts_of(date);
    let (status, bytes) = (entry.status(), entry.bytes());
    // Writing to memory does not fail.
    let _ = write!(out, " - - [{day}/{month}/{year}:{time} +0000] \"");
    match entry.line {
        Some((method, version)) => {
            let _ = write!(out, "{method} ");
            escaped(out, entry.target());
            let _ = write!(out, " {version}");
        }
        None if entry.target > 0 => escaped(out, entry.target()),
        None => out.push(b'-'),
    }
    let _ = write!(out, "\" {status} {bytes}");
    if combined {
        for field in [entry.referer(), entry.agent()] {
            out.extend_from_slice(b" \"");
            escaped(out, field.unwrap_or(b"-"));
            out.push(b'"');
        }
    }
    out.push(b'\n');
}

/// `bytes`, with `\xHH` for what could end its field or its line, or move a cursor.
fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=31 | 127.. => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            plain => out.push(plain),
        }
    }
}

/// Day, month, year and time of an HTTP date (RFC 9110 5.6.7).
fn parts_of(date: &str) -> (&str, &str, &str, &str) {
    let part = |from, to| date.get(from..to).unwrap_or_default();
    (part(5, 7), part(8, 11), part(12, 16), part(17, 25))
}

/// JSON in visible ASCII: a reader's terminal heeds more than serde_json escapes, such as C1
/// controls and what turns the direction of text.
#[cfg(feature = "json")]
struct Plain;

#[cfg(feature = "json")]
impl serde_json::ser::Formatter for Plain {
    fn write_string_fragment<W>(&mut self, out: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(|one: char| !matches!(one, ' '..='~')) {
            let (plain, from) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut after = from.chars();
            for unit in after.next().unwrap_or_default().encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = after.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(feature = "json")]
fn json(out: &mut Vec<u8>, entry: &Entry, date: &str, worker: u32) {
    use std::borrow::Cow;

    #[derive(serde::Serialize)]
    struct Line<'a> {
        time: String,
        client_ip: Option<IpAddr>,
        method: Option<String>,
        target: Option<Cow<'a, str>>,
        version: Option<String>,
        status: u16,
        bytes: u64,
        duration_s: f64,
        referer: Option<Cow<'a, str>>,
        user_agent: Option<Cow<'a, str>>,
        request_id: Option<&'a str>,
        worker: u32,
    }

    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (day, month, year, time) = parts_of(date);
    let month = 1 + MONTHS.iter().position(|name| *name == month).unwrap_or(0);
    let known = entry.line.is_some();
    let line = Line {
        time: format!("{year}-{month:02}-{day}T{time}Z"),
        client_ip: entry.client,
        method: entry.line.map(|(method, _)| method.to_string()),
        target: (known || entry.target > 0).then(|| String::from_utf8_lossy(entry.target())),
        version: entry.line.map(|(_, version)| version.to_string()),
        status: entry.status(),
        bytes: entry.bytes(),
        duration_s: entry.since.elapsed().as_micros() as f64 / 1e6,
        referer: entry.referer().map(String::from_utf8_lossy),
        user_agent: entry.agent().map(String::from_utf8_lossy),
        request_id: entry.id.as_deref(),
        worker,
    };
    let start = out.len();
    let mut writer = serde_json::Serializer::with_formatter(&mut *out, Plain);
    if let Err(error) = serde::Serialize::serialize(&line, &mut writer) {
        log::error!("a line of the access log cannot be written: {error}");
        return out.truncate(start);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
