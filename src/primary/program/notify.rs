//! What a program says of itself by sd_notify(3), at a socket that is there for it alone.
//!
//! Owns the words: `READY=1`, `STOPPING=1` and `STATUS=`; the others are for a service manager and
//! are passed over. Only what processes of the worker's group say is heard. Leaves what follows to
//! `conduct`.

use crate::ipc::Message;
use crate::net::register_reader;
use crate::net::token::{NOTICES, PEEKED};
use crate::primary::Primary;
use crate::sys::notices::{LONGEST_NOTICE, NoticeSocket};
use crate::sys::socket;
use crate::worker::WorkerId;

/// Notices of one worker that are read in one turn.
const NOTICES_PER_TURN: usize = 16;

/// The longest status that is kept, in characters.
const LONGEST_STATUS: usize = 300;

/// Whether an event with this token is of such a socket.
pub(in crate::primary) fn is_notice(token: usize) -> bool {
    (NOTICES..PEEKED).contains(&token)
}

/// What one notice says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Notice {
    ready: bool,
    stopping: bool,
    status: Option<String>,
}

/// Reads a notice: lines of a name and a value. The last one of a name counts.
fn parse(notice: &[u8]) -> Notice {
    let mut said = Notice::default();
    for line in notice.split(|&byte| byte == b'\n') {
        match line {
            b"READY=1" => said.ready = true,
            b"STOPPING=1" => said.stopping = true,
            _ => {
                if let Some(status) = line.strip_prefix(b"STATUS=") {
                    let text = String::from_utf8_lossy(status);
                    let plain = text.chars().filter(|one| !one.is_control());
                    said.status = Some(plain.take(LONGEST_STATUS).collect());
                }
            }
        }
    }
    said
}

/// What leads a program to the socket.
pub(super) fn variable(notices: &NoticeSocket) -> (String, String) {
    let name = notices.name().to_string_lossy();
    ("NOTIFY_SOCKET".to_owned(), name.into_owned())
}

impl Primary {
    /// Has the loop told of what a new worker says.
    pub(super) fn listen_to_notices(&self, id: WorkerId, notices: &NoticeSocket) {
        let token = NOTICES + id.0 as usize;
        if let Err(error) = register_reader(self.reactor.registry(), notices, token) {
            log::error!("worker {id} cannot say how it is: {error}");
        }
    }

    /// Hears some of what a worker says of itself; the rest in the next turn.
    pub(in crate::primary) fn hear_notices(&mut self, id: WorkerId) {
        let mut buffer = [0; LONGEST_NOTICE];
        for _ in 0..NOTICES_PER_TURN {
            let Some(member) = self.members.get(id) else {
                return;
            };
            let program = member.program.as_ref();
            let Some(notices) = program.and_then(|child| child.notices.as_ref()) else {
                return;
            };
            match notices.receive(&mut buffer) {
                Ok(Some((length, sender))) if sender.is_of_group(member.carrier.pid()) => {
                    self.noticed(id, parse(&buffer[..length]));
                }
                // Of somebody else, or too long.
                Ok(_) => log::debug!("{member}: a notice that is not its own"),
                Err(error) if socket::would_block(&error) => return,
                Err(error) => return log::debug!("{member}: no notice: {error}"),
            }
        }
    }

    fn noticed(&mut self, id: WorkerId, notice: Notice) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.conduct.said_ready |= notice.ready;
        if let Some(status) = notice.status
            && let Some(child) = &mut member.program
            && child.status.as_ref() != Some(&status)
        {
            log::debug!("worker {id} says: {status}");
            child.status = Some(status);
        }
        // One that was told to go says so as well.
        if notice.stopping && !member.leaving {
            let (hand_back, more) = (false, false);
            self.heard(id, Message::Disconnect { hand_back, more }, Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::is_output;
    use super::*;

    #[test]
    fn tokens_are_nobody_elses() {
        let of_another_server = (1 << 63) + (1 << 33);
        for token in [
            PEEKED,
            of_another_server,
            1 << 33,
            crate::net::token::OUTPUT,
        ] {
            assert!(!is_notice(token), "{token:x}");
        }
        assert!(is_notice(NOTICES) && is_notice(NOTICES + u32::MAX as usize));
        assert!(!is_output(NOTICES));
    }

    #[test]
    fn notices_are_read() {
        let said = |ready, stopping, status: Option<&str>| Notice {
            ready,
            stopping,
            status: status.map(str::to_owned),
        };
        let cases: [(&[u8], Notice); 9] = [
            (b"READY=1", said(true, false, None)),
            (b"STOPPING=1\n", said(false, true, None)),
            (b"READY=0", said(false, false, None)),
            (b"READY=1\nSTATUS=ok", said(true, false, Some("ok"))),
            (b"STATUS=a\nSTATUS=b", said(false, false, Some("b"))),
            (b"STATUS=\x1b[1mx\r", said(false, false, Some("[1mx"))),
            (b"RELOADING=1\nMAINPID=1", said(false, false, None)),
            (b"\xff\n\n=\nREADY=1", said(true, false, None)),
            (b"", said(false, false, None)),
        ];
        for (notice, expected) in cases {
            assert_eq!(parse(notice), expected);
        }
        let long = [b"STATUS=".to_vec(), vec![b'x'; 4000]].concat();
        let kept = parse(&long).status.expect("a status");
        assert_eq!(kept.len(), LONGEST_STATUS);
    }
}
