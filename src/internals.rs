//! What the benches and the fuzz targets drive and no user should: single parts of the machinery, in a harness.
//!
//! Behind the feature `internals`; no promise of stability. `steps` has what instructions are counted of.

mod steps;

pub use steps::{Encoder, Loop, Routing};

use crate::app::App;
use crate::http::{AnswerReader, Error};
use crate::ipc::{BUFFER_BYTES, Channel, Handed, Message, Received};
use crate::net::Reactor;
use crate::server::{self, Limits, Server};
#[cfg(feature = "programs")]
use crate::sys::listener::Address;
use crate::sys::listener::Peer;
use crate::sys::socket;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

/// One connection through a whole server: loop, parsing, routing, encoding.
#[derive(Debug)]
pub struct Exchange {
    reactor: Reactor,
    server: Server,
    client: UnixStream,
    answer: Vec<u8>,
}

impl Exchange {
    /// A server for `app` with one open connection.
    ///
    /// # Errors
    ///
    /// When no descriptors are left.
    pub fn new(app: App) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let mut server = Server::new(Arc::new(app), Limits::default(), 1, 0, None, None);
        let (client, socket) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        server.begin(reactor.now());
        server.adopt(
            reactor.registry(),
            OwnedFd::from(socket),
            server::Handed::fresh(Peer::Unix, 0),
        );
        Ok(Self {
            reactor,
            server,
            client,
            answer: vec![0; 256 * 1024],
        })
    }

    /// Sends `requests`, lets the server do a turn, and returns how many bytes it answered.
    ///
    /// # Errors
    ///
    /// When the server closed the connection.
    pub fn turn(&mut self, requests: &[u8]) -> io::Result<usize> {
        self.client.write_all(requests)?;
        self.reactor.wait(None)?;
        self.server.begin(self.reactor.now());
        for ready in self.reactor.ready() {
            self.server.ready(self.reactor.registry(), ready);
        }
        self.server.proceed(self.reactor.registry());
        self.server.end();
        self.client.read(&mut self.answer)
    }

    /// A connection of its own to the same server: sends the pieces one after the other, each once
    /// the server has nothing more to do about those before, then the end; all that was answered.
    ///
    /// # Errors
    ///
    /// When no descriptors are left, and where a piece is more than a socket holds.
    ///
    /// # Panics
    ///
    /// When the server does not come to rest, or keeps the connection.
    pub fn talk<'b>(&mut self, pieces: impl IntoIterator<Item = &'b [u8]>) -> io::Result<Vec<u8>> {
        let (mut client, socket) = UnixStream::pair()?;
        client.set_nonblocking(true)?;
        socket.set_nonblocking(true)?;
        self.server.begin(self.reactor.now());
        self.server.adopt(
            self.reactor.registry(),
            OwnedFd::from(socket),
            server::Handed::fresh(Peer::Unix, 0),
        );
        self.server.end();
        let mut answer = Vec::new();
        for piece in pieces {
            match client.write_all(piece) {
                Ok(()) => self.settle(&mut client, &mut answer)?,
                // What is sent behind a last request may meet a socket that is gone.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(error),
            }
        }
        client.shutdown(Shutdown::Write)?;
        self.settle(&mut client, &mut answer)?;
        match client.read(&mut [0]) {
            Ok(0) => Ok(answer),
            other => panic!("the connection goes on: {other:?}"),
        }
    }

    /// Turns until nothing is ready, nor anybody has more to do.
    fn settle(&mut self, client: &mut UnixStream, answer: &mut Vec<u8>) -> io::Result<()> {
        for _ in 0..10_000 {
            let now = Instant::now();
            self.reactor.set_now(now);
            self.reactor.wait(Some(now))?;
            self.server.begin(self.reactor.now());
            let mut rest = true;
            for ready in self.reactor.ready() {
                rest = false;
                self.server.ready(self.reactor.registry(), ready);
            }
            self.server.proceed(self.reactor.registry());
            self.server.end();
            match client.read_to_end(answer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let due = self.server.deadline();
            if rest && due.is_none_or(|due| due > self.reactor.now()) {
                return Ok(());
            }
        }
        panic!("the server does not come to rest");
    }
}

/// The border between a primary and a worker.
#[derive(Debug)]
pub struct Border {
    primary: Channel,
    worker: Channel,
    connections: Vec<OwnedFd>,
    buffer: Vec<u8>,
}

impl Border {
    /// A channel, and as many connections as fit into one hand.
    ///
    /// # Errors
    ///
    /// When no descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (primary, worker) = Channel::pair()?;
        let connection = |_| Ok(File::open("/dev/null")?.into());
        let connections = (0..crate::ipc::HAND).map(connection);
        Ok(Self {
            primary,
            worker,
            connections: connections.collect::<io::Result<_>>()?,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Hands `count` connections over in one message, and takes them; how many arrived.
    ///
    /// # Errors
    ///
    /// When the channel fails.
    pub fn hand_over(&mut self, count: usize) -> io::Result<usize> {
        let with: Vec<_> = self
            .connections
            .iter()
            .take(count)
            .map(AsFd::as_fd)
            .collect();
        let hand = vec![Handed::fresh(Peer::Unix); with.len()];
        let message = Message::Newconn { listener: 0, hand };
        self.primary.try_send(&message, &with)?;
        match self.worker.receive(&mut self.buffer)? {
            Received::Message(_, fds) => Ok(fds.len()),
            Received::Nothing | Received::Closed => Ok(0),
        }
    }
}

/// One read and one write on a socket pair and nothing else: what [`Exchange`] cannot go below.
#[derive(Debug)]
pub struct Floor {
    client: UnixStream,
    server: UnixStream,
}

impl Floor {
    /// A connection.
    ///
    /// # Errors
    ///
    /// When no descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (client, server) = UnixStream::pair()?;
        Ok(Self { client, server })
    }

    /// Sends `request`, answers with `answer`, reads it.
    ///
    /// # Errors
    ///
    /// As read(2) and write(2).
    pub fn turn(&mut self, request: &[u8], answer: &[u8]) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        self.client.write_all(request)?;
        socket::receive(self.server.as_fd(), &mut buffer)?;
        socket::send(self.server.as_fd(), answer)?;
        self.client.read(&mut buffer)
    }
}

/// What reads answers for a client. An end is a status, and whether the connection goes on.
#[derive(Debug)]
pub struct Answers(AnswerReader);

impl Answers {
    /// For answers to HEAD, or to other methods.
    #[must_use]
    pub fn new(to_head: bool) -> Self {
        Self(AnswerReader::new(to_head))
    }

    /// Takes bytes off the front of `input`: how many, and the end of the answer if they reach it.
    ///
    /// # Errors
    ///
    /// For what is no answer.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<(u16, bool)>), Error> {
        let (used, end) = self.0.feed(input)?;
        Ok((used, end.map(|end| (end.status, end.keep_alive))))
    }

    /// The same, and appends what came of the body to `body`.
    ///
    /// # Errors
    ///
    /// For what is no answer.
    pub fn feed_into(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<(usize, Option<(u16, bool)>), Error> {
        let (used, end) = self.0.feed_into(input, body)?;
        Ok((used, end.map(|end| (end.status, end.keep_alive))))
    }

    /// The end of an answer that the connection's end ends.
    pub fn at_close(&mut self) -> Option<(u16, bool)> {
        self.0.at_close().map(|end| (end.status, end.keep_alive))
    }

    /// Whether no byte of an answer has come since the last one's end.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    /// Who gave the last answer.
    #[must_use]
    pub fn worker(&self) -> Option<&[u8]> {
        self.0.worker()
    }
}

/// What a Node program says, as the primary hears it.
#[cfg(feature = "programs")]
#[derive(Debug)]
pub struct Program {
    primary: crate::ipc::node::Lines,
    program: OwnedFd,
    buffer: Vec<u8>,
}

#[cfg(feature = "programs")]
impl Program {
    /// A channel.
    ///
    /// # Errors
    ///
    /// When no descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (primary, program) = crate::ipc::node::Lines::pair()?;
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Self {
            primary,
            program,
            buffer,
        })
    }

    /// Has the program say this, and grants it what it asks for: what was heard, in words. What it is
    /// told goes to nobody.
    ///
    /// # Errors
    ///
    /// For what ends the conversation.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<Vec<String>> {
        let mut heard = Vec::new();
        socket::write(self.program.as_fd(), bytes)?;
        while let Received::Message(message, _) = self.primary.receive(&mut self.buffer)? {
            heard.push(format!("{message:?}"));
            if let Message::QueryServer { query, .. } = message {
                let answer = Message::Server {
                    query,
                    listener: query,
                    shared: false,
                    address: Address::Unix("/".into()),
                    data: None,
                };
                self.primary.send(&answer, &[])?;
            }
        }
        loop {
            match socket::read(self.program.as_fd(), &mut self.buffer) {
                Ok(_) => {}
                Err(error) if socket::would_block(&error) => return Ok(heard),
                Err(error) => return Err(error),
            }
        }
    }
}
