//! Ports for the debuggers of Node programs: each worker has one of its own.

use std::ffi::{OsStr, OsString};

/// Where Node listens for a debugger if nothing else is said.
const USUAL_PORT: u16 = 9229;

/// The first port that needs no privilege: there it goes on behind the last one.
const FIRST_PORT: u32 = 1024;

/// What names a port, behind `=` or, with the last two, as the next argument.
const NAMES: [&str; 5] = [
    "--inspect",
    "--inspect-brk",
    "--inspect-wait",
    "--inspect-port",
    "--debug-port",
];

/// The arguments of `node` for the `nth` worker, from 1 and never the same: where they ask for a
/// debugger, another one gives it a port so far behind the one that is asked for, as Node's cluster
/// does. So a worker does not find the port taken that it replaces one of. Port 0, any that is free,
/// stays as it is; and so does what Node will not understand.
pub(super) fn arrange(args: &[OsString], nth: u32) -> Vec<OsString> {
    let mut args = args.to_vec();
    if let Some(base @ 1..) = asked(&args) {
        args.push(format!("--inspect-port={}", moved(base, nth)).into());
    }
    args
}

/// The port that is asked for; none where no debugger is.
fn asked(args: &[OsString]) -> Option<u16> {
    let mut port = None;
    let mut args = args.iter();
    while let Some(argument) = args.next() {
        let Some(argument) = argument.to_str() else {
            continue;
        };
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument, None),
        };
        // Node takes one for the other.
        let name = name.replace('_', "-");
        if !NAMES.contains(&name.as_str()) {
            continue;
        }
        let value = match value {
            None if name.ends_with("-port") => args.next().map(OsString::as_os_str),
            value => value.map(OsStr::new),
        };
        // A later one without a port leaves it as it is.
        let named = match value {
            Some(value) => port_of(value.to_str()?)?,
            None => None,
        };
        port = named.or(port).or(Some(USUAL_PORT));
    }
    port
}

/// The port of `PORT`, `HOST:PORT` or `HOST`, where there is one; none at all where that is no
/// number of a port.
fn port_of(words: &str) -> Option<Option<u16>> {
    if words.starts_with('[') && words.ends_with(']') {
        return Some(None);
    }
    let digits = |words: &str| words.bytes().all(|byte| byte.is_ascii_digit());
    match words.rsplit_once(':') {
        Some((_, port)) => port.parse().ok().map(Some),
        None if digits(words) => words.parse().ok().map(Some),
        None => Some(None),
    }
}

fn moved(base: u16, by: u32) -> u32 {
    let last = u32::from(u16::MAX);
    let port = u32::from(base).saturating_add(by);
    match port.checked_sub(last + 1) {
        None => port,
        Some(over) => FIRST_PORT + over % (last + 1 - FIRST_PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_port_of_its_own() {
        let cases: [(&[&str], u32, Option<&str>); 22] = [
            (&[], 1, None),
            (&["--import", "tsx", "--enable-source-maps"], 1, None),
            (&["--inspect-publish-uid=http"], 1, None),
            (&["--inspect"], 1, Some("9230")),
            (&["--inspect"], 4, Some("9233")),
            (&["--inspect-brk"], 1, Some("9230")),
            (&["--inspect_wait"], 2, Some("9231")),
            (&["--inspect=9300"], 1, Some("9301")),
            (&["--inspect=0.0.0.0:9300"], 2, Some("9302")),
            (&["--inspect=localhost"], 1, Some("9230")),
            (&["--inspect=[::1]"], 1, Some("9230")),
            (&["--inspect-brk=[::1]:7000"], 1, Some("7001")),
            (&["--inspect-port=9300"], 1, Some("9301")),
            (&["--inspect-port", "9300", "--inspect"], 1, Some("9301")),
            (&["--inspect", "--debug-port", "9300"], 1, Some("9301")),
            (&["--inspect=9300", "--inspect=9400"], 1, Some("9401")),
            (&["--inspect=0"], 3, None),
            (&["--inspect=127.0.0.1:0"], 3, None),
            (&["--inspect=65535"], 1, Some("1024")),
            (&["--inspect=65534"], 3, Some("1025")),
            (&["--inspect=70000"], 1, None),
            (&["--inspect=host:x"], 1, None),
        ];
        for (words, nth, port) in cases {
            let args: Vec<OsString> = words.iter().map(OsString::from).collect();
            let mut expected = args.clone();
            expected.extend(port.map(|port| format!("--inspect-port={port}").into()));
            assert_eq!(arrange(&args, nth), expected, "{words:?}");
        }
    }

    #[test]
    fn no_number_is_beyond_the_ports() {
        for by in [0, 1, 64_511, 64_512, 100_000, u32::MAX] {
            for base in [1, 9229, u16::MAX] {
                let port = moved(base, by);
                assert!(u16::try_from(port).is_ok(), "{base} {by}: {port}");
            }
        }
    }
}
