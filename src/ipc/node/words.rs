//! Single lines: what one of a Node program says, and those that are said to it.
//!
//! Knows nothing of order, and keeps nothing. A message is Node's own when it is an object whose `cmd`
//! begins with `NODE_` and has more behind it; all others are the application's.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// The longest line of Node's own, but for one that brings a message of the application's along: a path
/// and the keys of TLS tickets are the longest that it has to say.
const LONGEST_OWN: usize = 64 * 1024;

pub(super) const ACK: &[u8] = b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n";
pub(super) const NACK: &[u8] = b"{\"cmd\":\"NODE_HANDLE_NACK\"}\n";

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// The descriptor came.
    Ack,
    /// The line came without its descriptor.
    Nack,
    /// A descriptor comes along, and what is said beside it, where that is the application's.
    Envelope(Option<Vec<u8>>),
    /// No sockets of this server (its name, as JSON) are wanted any longer: say when all are closed.
    NotifyClose(String),
    /// How many sockets of this server are there?
    GetCount(String),
    /// The reply to a connection that was handed over.
    Reply { ack: u64, accepted: bool },
    /// Of `cluster`: an act, its number, and what else there is.
    Act {
        act: String,
        seq: Option<u64>,
        fields: Map<String, Value>,
    },
    /// What runs in the program before its application says that an id was made there.
    Mine(String),
    /// A message of the application's: the line as it is.
    User,
    /// Node's own, and not for us.
    Other,
    /// No JSON.
    Nonsense,
}

/// What a line says.
pub(super) fn hear(line: &[u8]) -> Heard {
    if line == ACK.trim_ascii_end() {
        return Heard::Ack;
    }
    if let Some((ack, accepted)) = reply(line) {
        return Heard::Reply { ack, accepted };
    }
    let Ok(line) = str::from_utf8(line) else {
        return Heard::Nonsense;
    };
    let command = match Glance::of(line) {
        Some(Glance::Object(Some(command))) => command,
        Some(_) => return Heard::User,
        None => return Heard::Nonsense,
    };
    if command == "NODE_HANDLE" {
        return envelope(line);
    }
    if line.len() > LONGEST_OWN {
        return Heard::Other;
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return Heard::Nonsense;
    };
    let mut key = || fields.remove("key").unwrap_or_default().to_string();
    match command.as_str() {
        "NODE_HANDLE_ACK" => Heard::Ack,
        "NODE_HANDLE_NACK" => Heard::Nack,
        "NODE_SOCKET_NOTIFY_CLOSE" => Heard::NotifyClose(key()),
        "NODE_SOCKET_GET_COUNT" => Heard::GetCount(key()),
        "NODE_CLUSTER" => of_cluster(fields),
        "NODE_MCLUSTER" => match (fields.remove("act"), fields.remove("value")) {
            (Some(Value::String(act)), Some(Value::String(value))) if act == "mine" => {
                Heard::Mine(value)
            }
            _ => Heard::Other,
        },
        _ => Heard::Other,
    }
}

/// The line that follows each connection, as Node writes it: to read it as what it is takes longer.
fn reply(line: &[u8]) -> Option<(u64, bool)> {
    let rest = line.strip_prefix(b"{\"cmd\":\"NODE_CLUSTER\",\"ack\":")?;
    let (ack, rest) = number(rest)?;
    let rest = rest.strip_prefix(b",\"accepted\":")?;
    let (accepted, rest) = match rest.strip_prefix(b"true") {
        Some(rest) => (true, rest),
        None => (false, rest.strip_prefix(b"false")?),
    };
    let (_, rest) = number(rest.strip_prefix(b",\"seq\":")?)?;
    (rest == b"}").then_some((ack, accepted))
}

/// A number that JSON would take for one as well, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, rest) = bytes.split_at(digits);
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

fn envelope(line: &str) -> Heard {
    #[derive(serde::Deserialize)]
    struct Envelope<'l> {
        #[serde(borrow)]
        msg: Option<&'l RawValue>,
    }
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(line) else {
        return Heard::Nonsense;
    };
    let inner = envelope.msg.map(RawValue::get).filter(|inner| {
        let glance = Glance::of(inner);
        glance.is_some_and(|glance| !matches!(glance, Glance::Object(Some(_))))
    });
    Heard::Envelope(inner.map(|inner| inner.as_bytes().to_vec()))
}

fn of_cluster(mut fields: Map<String, Value>) -> Heard {
    let act = match fields.remove("act") {
        Some(Value::String(act)) => act,
        _ => {
            let accepted = fields.get("accepted") == Some(&Value::Bool(true));
            let ack = fields.get("ack").and_then(Value::as_u64);
            return ack.map_or(Heard::Other, |ack| Heard::Reply { ack, accepted });
        }
    };
    let seq = fields.get("seq").and_then(Value::as_u64);
    Heard::Act { act, seq, fields }
}

/// As much of a message as tells whose it is; all of it is JSON.
#[derive(Debug)]
enum Glance {
    /// A string that would make the object Node's own whose `cmd` it is.
    Command(String),
    /// An object, and such a `cmd` of it.
    Object(Option<String>),
    Else,
}

impl Glance {
    fn of(text: &str) -> Option<Self> {
        if text.trim_ascii_start().starts_with('{') {
            let object = serde_json::from_str(text).ok();
            if object.is_some() {
                return object;
            }
            // Half a character is fine in JavaScript, and no string here. As a name in an object, it
            // leaves open whether that is Node's own.
        }
        let IgnoredAny = serde_json::from_str(text).ok()?;
        Some(Self::Else)
    }
}

impl<'de> Deserialize<'de> for Glance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Glance;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Glance, E> {
        Ok(Glance::Else)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Glance, E> {
        Ok(Glance::Else)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Glance, E> {
        Ok(Glance::Else)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Glance, E> {
        Ok(Glance::Else)
    }

    fn visit_unit<E>(self) -> Result<Glance, E> {
        Ok(Glance::Else)
    }

    fn visit_str<E>(self, text: &str) -> Result<Glance, E> {
        let internal = text
            .strip_prefix("NODE_")
            .is_some_and(|rest| !rest.is_empty());
        Ok(if internal {
            Glance::Command(text.to_owned())
        } else {
            Glance::Else
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Glance, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Glance::Else)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Glance, A::Error> {
        let mut command = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == "cmd" {
                // The last of several, as in JavaScript.
                command = match map.next_value()? {
                    Glance::Command(command) => Some(command),
                    Glance::Object(_) | Glance::Else => None,
                };
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Glance::Object(command))
    }
}

/// The line of a message of the application's: JSON on one line, and what is no JSON as a string.
///
/// # Errors
///
/// `InvalidInput` for one that Node would take for its own.
pub(super) fn user(message: &[u8]) -> io::Result<Vec<u8>> {
    let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let text = str::from_utf8(message).ok();
    let mut line = match text.and_then(|text| Some((text, Glance::of(text)?))) {
        Some((_, Glance::Object(Some(command)))) => {
            return refuse(format!(
                "a message that Node would take for its own: {command}"
            ));
        }
        Some((text, Glance::Else)) if text.trim_ascii_start().starts_with('{') => {
            return refuse("a message with half a character in a name".to_owned());
        }
        Some(_) => compact(message),
        None => serde_json::to_vec(&String::from_utf8_lossy(message))?,
    };
    line.push(b'\n');
    Ok(line)
}

/// JSON without the white space between its parts.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut quoted, mut escaped) = (false, false);
    let mut line = Vec::with_capacity(json.len() + 1);
    line.extend(json.iter().filter(|&&byte| {
        if !quoted {
            quoted = byte == b'"';
            return !matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        }
        quoted = escaped || byte != b'"';
        escaped = !escaped && byte == b'\\';
        true
    }));
    line
}

/// A connection, beside its descriptor.
pub(super) fn newconn(listener: u32, seq: u64) -> Vec<u8> {
    let message =
        format!(r#"{{"cmd":"NODE_CLUSTER","act":"newconn","key":"{listener}","seq":{seq}}}"#);
    wrapped("net.Native", &message)
}

/// A listening socket or one of datagrams, beside its descriptor; `data` is JSON.
pub(super) fn shared(ack: u64, listener: u32, data: &str, datagrams: bool, seq: u64) -> Vec<u8> {
    let message = format!(
        r#"{{"cmd":"NODE_CLUSTER","errno":0,"key":"{listener}","ack":{ack},"data":{data},"seq":{seq}}}"#
    );
    let kind = if datagrams {
        "dgram.Native"
    } else {
        "net.Native"
    };
    wrapped(kind, &message)
}

fn wrapped(kind: &str, message: &str) -> Vec<u8> {
    format!("{{\"cmd\":\"NODE_HANDLE\",\"type\":\"{kind}\",\"msg\":{message}}}\n").into_bytes()
}

/// Connections will be handed over, of a socket bound to this.
pub(super) fn dealt(
    ack: u64,
    listener: u32,
    data: &str,
    bound: Option<SocketAddr>,
    seq: u64,
) -> Vec<u8> {
    let sockname = bound.map_or_else(String::new, |bound| {
        let family = if bound.is_ipv6() { "IPv6" } else { "IPv4" };
        let (address, port) = (bound.ip(), bound.port());
        format!(r#","sockname":{{"address":"{address}","family":"{family}","port":{port}}}"#)
    });
    let message = format!(
        r#"{{"cmd":"NODE_CLUSTER","errno":null,"key":"{listener}","ack":{ack},"data":{data}{sockname},"seq":{seq}}}"#
    );
    ended(message)
}

/// It cannot be listened there; `errno` is positive.
pub(super) fn refused(ack: u64, errno: i32, data: &str, seq: u64) -> Vec<u8> {
    ended(format!(
        r#"{{"cmd":"NODE_CLUSTER","errno":-{errno},"key":"","ack":{ack},"data":{data},"seq":{seq}}}"#
    ))
}

/// So be it.
pub(super) fn acknowledged(ack: u64, seq: u64) -> Vec<u8> {
    ended(format!(
        r#"{{"cmd":"NODE_CLUSTER","ack":{ack},"seq":{seq}}}"#
    ))
}

/// Go.
pub(super) fn disconnect(seq: u64) -> Vec<u8> {
    ended(format!(
        r#"{{"cmd":"NODE_CLUSTER","act":"disconnect","seq":{seq}}}"#
    ))
}

/// No socket of this server is left; its name is JSON.
pub(super) fn all_closed(key: &str) -> Vec<u8> {
    ended(format!(r#"{{"cmd":"NODE_SOCKET_ALL_CLOSED","key":{key}}}"#))
}

/// None is there.
pub(super) fn counted(key: &str) -> Vec<u8> {
    ended(format!(
        r#"{{"cmd":"NODE_SOCKET_COUNT","key":{key},"count":0}}"#
    ))
}

fn ended(mut message: String) -> Vec<u8> {
    message.push('\n');
    message.into_bytes()
}
