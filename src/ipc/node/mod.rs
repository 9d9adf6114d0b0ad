//! The conversation in the language of Node's `child_process` and `cluster`: lines of JSON over a
//! stream socket, a descriptor beside some of them.
//!
//! Owns what is said how, and in which order: `words` is one line, either way, `sending` what may go out
//! when, `hearing` what came in, `asked` what the program was told where it may listen. What needs no
//! decision is answered here. Leaves polling to the loop that holds it.

mod asked;
mod hearing;
#[cfg(test)]
mod real;
mod sending;
mod state;
#[cfg(test)]
mod tests;
mod words;

use super::user::MAX_MESSAGE;
use super::{Ask, Message, Received, is_gone};
use crate::sys::listener::Address;
use crate::sys::socket;
use asked::Asked;
use hearing::{Hearing, Read};
use sending::{Kind, Lost, Offer, Sending};
use serde_json::{Map, Value};
pub(crate) use state::LinesState;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use words::Heard;

/// Buffers read in a row without a message in them: more than a socket holds, so that of a program that
/// is gone all is heard.
const MOST_READ: u32 = 8;

/// Lines that wait for a program, beyond which none of its own is answered.
const MOST_UNSENT: usize = 8192;

/// The primary's end of a conversation with a Node program.
#[derive(Debug)]
pub(crate) struct Lines {
    socket: OwnedFd,
    sending: Sending,
    hearing: Hearing,
    asked: Asked,
    /// The number of what is said next.
    seq: u64,
    /// Connections that were handed over, ever.
    handed: u64,
    /// Those that were not answered: under which number they were said, and which they are.
    unanswered: VecDeque<(u64, u64)>,
    /// It was told to go, or has said that it goes: a second time would be an error in it.
    going: bool,
}

impl Lines {
    /// The primary's end of a new conversation, and the program's, which it finds by
    /// `NODE_CHANNEL_FD`.
    ///
    /// # Errors
    ///
    /// As socketpair(2).
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socket::pair_stream()?;
        let lines = Self {
            socket: ours,
            sending: Sending::default(),
            hearing: Hearing::default(),
            asked: Asked::default(),
            seq: 0,
            handed: 0,
            unanswered: VecDeque::new(),
            going: false,
        };
        Ok((lines, theirs))
    }

    /// Has the log call the program `speaker`.
    pub(crate) fn name(&mut self, speaker: String) {
        self.hearing.name(speaker);
    }

    /// As [`Channel::send`](super::Channel::send): says a message now or later. One descriptor at most
    /// goes with a `Server`; a `Newconn` has as many as connections in its hand.
    ///
    /// # Errors
    ///
    /// `WouldBlock` for a message of the application's when so much waits already that it is not kept;
    /// `InvalidInput` for one that is too large, or that Node would take for its own.
    pub(crate) fn send(&mut self, message: &Message, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        if let Message::Newconn { listener, hand } = message {
            check(message, with, hand.len())?;
            let copies = copies(with)?;
            self.hand_over(*listener, copies);
        } else {
            self.push(message, with)?;
        }
        self.sending.flush(self.socket.as_fd()).map(drop)
    }

    /// As [`Channel::try_send`](super::Channel::try_send). Of a hand, the first connection is out or
    /// none is taken; of another message, nothing may wait before it.
    pub(super) fn try_send(
        &mut self,
        message: &Message,
        with: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if let Message::Newconn { listener, hand } = message {
            check(message, with, hand.len())?;
            let [first, rest @ ..] = with else {
                return Ok(());
            };
            // Before anything is out: there may be no room for them.
            let rest = copies(rest)?;
            let line = words::newconn(*listener, self.seq);
            let socket = self.socket.as_fd();
            self.sending.connection(socket, line, *first, self.seq)?;
            let _ = self.next_connection();
            self.hand_over(*listener, rest);
        } else {
            self.flush()?;
            if self.sending.count() > 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.push(message, with)?;
        }
        // What has an error now has it the next time as well.
        self.flush()
            .map(drop)
            .or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
    }

    /// As [`Channel::flush`](super::Channel::flush).
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        self.sending.flush(self.socket.as_fd())
    }

    /// Whether something waits for room, or to be tried again: not what waits for the program's word.
    pub(super) fn has_unsent(&self) -> bool {
        self.sending.has_unsent()
    }

    /// How many lines wait.
    pub(super) fn count_unsent(&self) -> usize {
        self.sending.count()
    }

    /// As [`Channel::has_unheard`](super::Channel::has_unheard).
    pub(super) fn has_unheard(&self) -> bool {
        self.hearing.has_line()
    }

    /// As [`Channel::receive`](super::Channel::receive): one message; [`Received::Nothing`] when none is
    /// whole, or when what came was for this room alone.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        for _ in 0..MOST_READ {
            while let Some(line) = self.hearing.next() {
                let heard = words::hear(self.hearing.line(line.clone()));
                let message = match heard {
                    Heard::User => Some(Message::Text(self.hearing.take(line))),
                    heard => self.heard(heard),
                };
                self.answer()?;
                if let Some(message) = message {
                    return Ok(Received::Message(message, Vec::new()));
                }
            }
            match self.hearing.read(self.socket.as_fd(), buffer)? {
                Read::Some => {}
                Read::Nothing => return Ok(Received::Nothing),
                Read::Closed => return Ok(Received::Closed),
            }
        }
        Ok(Received::Nothing)
    }

    /// Sends what was said in answer, and what the program's word has set free.
    fn answer(&mut self) -> io::Result<()> {
        if self.sending.count() > MOST_UNSENT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it does not listen to what it is told",
            ));
        }
        match self.flush() {
            // It may have said more before it went.
            Err(error) if is_gone(&error) => self.sending.forget(),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Ok(())
    }

    /// What a line says to the primary, if it does not end here.
    fn heard(&mut self, heard: Heard) -> Option<Message> {
        match heard {
            Heard::Ack => self.sending.acked(),
            Heard::Nack => match self.sending.nacked()? {
                Lost::Connection(seq) => return self.answered(seq, false),
                Lost::Offer(offer) => {
                    self.asked.forget(offer.listener);
                    self.refuse(offer.ack, libc::EMFILE, &offer.data);
                    // It would listen there by now, so far as the primary knows.
                    let listener = offer.listener;
                    return Some(Message::Close { listener });
                }
            },
            Heard::Envelope(message) => {
                let came = self.hearing.claim();
                self.sending
                    .answer(if came { words::ACK } else { words::NACK });
                return message.filter(|_| came).map(Message::Text);
            }
            Heard::NotifyClose(key) => self.sending.push(words::all_closed(&key)),
            Heard::GetCount(key) => self.sending.push(words::counted(&key)),
            Heard::Reply { ack, accepted } => return self.answered(ack, accepted),
            Heard::Act { act, seq, fields } => return self.act(&act, seq, &fields),
            Heard::Mine(value) => return Some(Message::Mine(value)),
            Heard::User | Heard::Other => {}
            Heard::Nonsense => self.hearing.nonsense(),
        }
        None
    }

    fn act(&mut self, act: &str, seq: Option<u64>, fields: &Map<String, Value>) -> Option<Message> {
        match act {
            "online" => Some(Message::Online),
            "queryServer" => {
                let seq = seq?;
                match self.asked.ask(seq, fields) {
                    Ok(bind) => Some(Message::QueryServer {
                        query: seq as u32,
                        ask: Ask::Bind(bind),
                    }),
                    Err(errno) => {
                        self.refuse(seq, errno, "null");
                        None
                    }
                }
            }
            "listening" => {
                let listener = self.asked.listening(fields)?;
                Some(Message::Listening { listener })
            }
            "close" => {
                let listener = fields.get("key")?.as_str()?.parse().ok()?;
                self.asked.forget(listener);
                Some(Message::Close { listener })
            }
            "exitedAfterDisconnect" => {
                let line = words::acknowledged(seq?, self.next_seq());
                self.sending.push(line);
                self.going = true;
                Some(Message::Disconnect {
                    hand_back: false,
                    more: false,
                })
            }
            _ => None,
        }
    }

    /// What became of a connection, by the number under which it was handed over.
    fn answered(&mut self, seq: u64, accepted: bool) -> Option<Message> {
        let index = self.unanswered.iter().position(|(one, _)| *one == seq)?;
        let (_, connection) = self.unanswered.remove(index)?;
        Some(Message::Answered {
            connection,
            accepted,
        })
    }

    fn refuse(&mut self, ack: u64, errno: i32, data: &str) {
        let line = words::refused(ack, errno, data, self.next_seq());
        self.sending.push(line);
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq - 1
    }

    /// The number of a connection that is handed over.
    fn next_connection(&mut self) -> u64 {
        let seq = self.next_seq();
        self.unanswered.push_back((seq, self.handed));
        self.handed += 1;
        seq
    }

    fn hand_over(&mut self, listener: u32, connections: Vec<OwnedFd>) {
        for connection in connections {
            let seq = self.next_connection();
            let line = words::newconn(listener, seq);
            self.sending
                .push_with(line, connection, Kind::Connection(seq));
        }
    }

    /// Has something said that is no connection.
    fn push(&mut self, message: &Message, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        match message {
            Message::Server {
                query,
                listener,
                shared,
                address,
                data,
            } => {
                check(message, with, usize::from(*shared))?;
                let with = with.first().map(|fd| fd.try_clone_to_owned()).transpose()?;
                self.grant(*query, *listener, address, data.as_deref(), with);
            }
            Message::Refused { query, why } => {
                if let Some((question, _)) = self.asked.take(*query) {
                    let errno = if why.errno > 0 {
                        why.errno
                    } else {
                        libc::EINVAL
                    };
                    let data = question.data.as_deref().unwrap_or("null");
                    self.refuse(question.seq, errno, data);
                }
            }
            Message::Disconnect { more, .. } => {
                if !more && !std::mem::replace(&mut self.going, true) {
                    let line = words::disconnect(self.next_seq());
                    self.sending.push(line);
                }
            }
            Message::Text(text) => {
                if text.len() > MAX_MESSAGE {
                    let what = format!("a message of {} bytes: at most {MAX_MESSAGE}", text.len());
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
                }
                if self.sending.queued() > MAX_MESSAGE {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.sending.push(words::user(text)?);
            }
            // Of workers of our own, or said by programs alone.
            Message::Sticky { .. }
            | Message::Sweep
            | Message::Mine(_)
            | Message::AccessLog
            | Message::Accept { .. }
            | Message::Queue { .. }
            | Message::Grant { .. }
            | Message::Data(_)
            | Message::Took(_)
            | Message::Newconn { .. }
            | Message::Online
            | Message::QueryServer { .. }
            | Message::Listening { .. }
            | Message::ListeningAlone { .. }
            | Message::Close { .. }
            | Message::Answered { .. }
            | Message::Ready
            | Message::Worn => {}
        }
        Ok(())
    }

    fn grant(
        &mut self,
        query: u32,
        listener: u32,
        address: &Address,
        data: Option<&str>,
        with: Option<OwnedFd>,
    ) {
        let Some(asked) = self.asked.take(query) else {
            return;
        };
        let bound = match address {
            Address::Inet(address) => Some(*address),
            Address::Unix(_) => None,
        };
        let question = &asked.0;
        let ack = question.seq;
        // A server of TLS takes the keys from the answer, and would not bear to find none.
        let data = data
            .or(question.data.as_deref())
            .unwrap_or("null")
            .to_owned();
        let datagrams = question.datagrams();
        if self.asked.is_granted(listener) {
            return self.refuse(ack, libc::EADDRINUSE, &data);
        }
        let port = bound.map(|bound| bound.port());
        self.asked.grant(asked, listener, port);
        let seq = self.next_seq();
        match with {
            Some(with) => {
                let line = words::shared(ack, listener, &data, datagrams, seq);
                let offer = Offer {
                    ack,
                    listener,
                    data,
                    tries: 0,
                };
                self.sending.push_with(line, with, Kind::Offer(offer));
            }
            None => self
                .sending
                .push(words::dealt(ack, listener, &data, bound, seq)),
        }
    }
}

/// Refuses what comes with other than `expected` descriptors, or with bytes that would be lost.
fn check(message: &Message, with: &[BorrowedFd<'_>], expected: usize) -> io::Result<()> {
    let invalid = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if with.len() != expected {
        return invalid("as many descriptors go with a message as it speaks of");
    }
    if let Message::Newconn { hand, .. } = message
        && hand.iter().any(|handed| !handed.bytes.is_empty())
    {
        return invalid("what was read of a connection cannot go with it to a program");
    }
    Ok(())
}

fn copies(with: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
    with.iter().map(|fd| fd.try_clone_to_owned()).collect()
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
