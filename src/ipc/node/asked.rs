//! What a Node program has asked to listen on, and what it was told.
//!
//! Owns what its words mean, and which of our numbers they are about: an answer names the question, and
//! `listening` repeats it.

use super::super::{Bind, Place};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Questions without an answer, beyond which another is refused.
const MOST_ASKED: usize = 256;

/// The longest of its strings: an address, a path, or the keys of TLS tickets.
const LONGEST: usize = 4096;

/// `UV_TCP_IPV6ONLY` and `UV_UDP_IPV6ONLY`; `UV_UDP_REUSEADDR`.
const V6_ONLY: i64 = 1;
const REUSE_ADDRESS: i64 = 4;

/// One `queryServer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// Its number, of which the primary is told what fits.
    pub(super) seq: u64,
    words: Words,
    /// What it wants all others to be told, as JSON.
    pub(super) data: Option<String>,
}

impl Question {
    /// Whether it is about datagrams.
    pub(super) fn datagrams(&self) -> bool {
        matches!(self.words.kind.as_str(), Some("udp4" | "udp6"))
    }
}

/// What tells one place of a program from another; the port aside, it says the same of it when it
/// listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Words {
    address: Value,
    kind: Value,
    fd: Value,
    index: Value,
}

impl Words {
    /// None if they are longer than words of sense are.
    fn of(fields: &Map<String, Value>) -> Option<Self> {
        let word = |name| match fields.get(name) {
            None => Some(Value::Null),
            Some(Value::String(text)) if text.len() > LONGEST => None,
            Some(Value::Array(_) | Value::Object(_)) => None,
            Some(value) => Some(value.clone()),
        };
        Some(Self {
            address: word("address")?,
            kind: word("addressType")?,
            fd: word("fd")?,
            index: word("index")?,
        })
    }
}

/// A place where it may listen.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Granted {
    listener: u32,
    words: Words,
    /// What it asked for, and what it got.
    ports: [Option<i64>; 2],
}

/// All questions of one program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Asked {
    open: Vec<(Question, Option<i64>)>,
    granted: Vec<Granted>,
}

impl Asked {
    /// Takes a question, which waits for its answer from now on.
    ///
    /// # Errors
    ///
    /// The errno to answer it with at once.
    pub(super) fn ask(&mut self, seq: u64, fields: &Map<String, Value>) -> Result<Bind, i32> {
        if self.open.len() >= MOST_ASKED {
            return Err(libc::ENOBUFS);
        }
        let words = Words::of(fields).ok_or(libc::EINVAL)?;
        let bind = bind(fields).ok_or(libc::EINVAL)?;
        let question = Question {
            seq,
            words,
            data: bind.data.clone(),
        };
        self.open.push((question, number(fields, "port")));
        Ok(bind)
    }

    /// What was asked under this number, which is answered now.
    pub(super) fn take(&mut self, query: u32) -> Option<(Question, Option<i64>)> {
        let about = |(one, _): &(Question, _)| one.seq as u32 == query;
        let index = self.open.iter().position(about)?;
        Some(self.open.remove(index))
    }

    /// Whether it may listen there already: it would not bear to be told twice.
    pub(super) fn is_granted(&self, listener: u32) -> bool {
        self.granted.iter().any(|one| one.listener == listener)
    }

    /// It may listen there.
    pub(super) fn grant(
        &mut self,
        (question, port): (Question, Option<i64>),
        listener: u32,
        bound: Option<u16>,
    ) {
        self.granted.push(Granted {
            listener,
            words: question.words,
            ports: [port, bound.map(i64::from)],
        });
    }

    /// It listens there no longer.
    pub(super) fn forget(&mut self, listener: u32) {
        self.granted.retain(|one| one.listener != listener);
    }

    /// Our number of the place where it says that it listens.
    pub(super) fn listening(&self, fields: &Map<String, Value>) -> Option<u32> {
        let words = Words::of(fields)?;
        let port = number(fields, "port");
        // One that came by its number has whatever port it has.
        let same = |one: &&Granted| {
            one.words == words && (one.ports[0].is_none() || one.ports.contains(&port))
        };
        // The last one: what it asked for before, it may have closed without a word.
        self.granted.iter().rev().find(same).map(|one| one.listener)
    }
}

fn number(fields: &Map<String, Value>, name: &str) -> Option<i64> {
    fields.get(name)?.as_i64()
}

/// What it asks for; None if that makes no sense.
fn bind(fields: &Map<String, Value>) -> Option<Bind> {
    let kind = fields.get("addressType").unwrap_or(&Value::Null);
    let datagrams = matches!(kind.as_str(), Some("udp4" | "udp6"));
    let place = match number(fields, "fd").filter(|fd| *fd >= 0) {
        Some(fd) => Place::Fd {
            fd: i32::try_from(fd).ok()?,
            datagrams,
        },
        None if datagrams => udp(fields, kind == "udp6")?,
        None if number(fields, "port")? < 0 => unix(fields)?,
        None => tcp(fields, kind.as_i64()?)?,
    };
    let data = fields.get("data").filter(|data| !data.is_null());
    let data = data.map(Value::to_string);
    if data.as_ref().is_some_and(|data| data.len() > LONGEST) {
        return None;
    }
    let backlog = number(fields, "backlog").filter(|backlog| *backlog > 0);
    Some(Bind {
        place,
        nth: match fields.get("index") {
            None | Some(Value::Null) => 0,
            Some(index) => index.as_u64()?.try_into().ok()?,
        },
        backlog: backlog.map(|backlog| i32::try_from(backlog).unwrap_or(i32::MAX)),
        data,
    })
}

fn has_flag(fields: &Map<String, Value>, flag: i64) -> bool {
    number(fields, "flags").is_some_and(|flags| flags & flag != 0)
}

/// The address, where there is one: None in the first place if it is none.
fn address(fields: &Map<String, Value>) -> Option<Option<IpAddr>> {
    match fields.get("address") {
        None | Some(Value::Null) => Some(None),
        Some(address) => Some(Some(address.as_str()?.parse().ok()?)),
    }
}

fn tcp(fields: &Map<String, Value>, kind: i64) -> Option<Place> {
    let address = address(fields)?;
    let v6 = match kind {
        4 => false,
        6 => true,
        _ => return None,
    };
    if address.is_some_and(|address| address.is_ipv6() != v6) {
        return None;
    }
    Some(Place::Tcp {
        address,
        port: number(fields, "port")?.try_into().ok()?,
        v6_only: has_flag(fields, V6_ONLY),
    })
}

fn udp(fields: &Map<String, Value>, v6: bool) -> Option<Place> {
    let any: IpAddr = if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let address = address(fields)?.unwrap_or(any);
    if address.is_ipv6() != v6 {
        return None;
    }
    Some(Place::Udp {
        address,
        port: number(fields, "port").unwrap_or(0).try_into().ok()?,
        v6_only: has_flag(fields, V6_ONLY),
        reuse_address: has_flag(fields, REUSE_ADDRESS),
    })
}

fn unix(fields: &Map<String, Value>) -> Option<Place> {
    let path = fields.get("address")?.as_str()?;
    // A zero byte is the end of a path, but for the first, which makes it a name without a file.
    if path.is_empty() || path.chars().skip(1).any(|one| one == '\0') {
        return None;
    }
    let is_true = |name| fields.get(name) == Some(&Value::Bool(true));
    Some(Place::Unix {
        path: PathBuf::from(path),
        readable_all: is_true("readableAll"),
        writable_all: is_true("writableAll"),
    })
}
