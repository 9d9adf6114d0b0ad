//! A worker's loop without its primary, and single steps of it, for counting their instructions.
//!
//! Owns what stands around the steps so that nothing else is counted; leaves counting to the bench.

use crate::app::{App, Parts, Reply, Request};
use crate::board::{Board, Slot};
use crate::http::HeadLimits;
use crate::net::Reactor;
use crate::net::token::LISTENERS;
pub use crate::server::Encoder;
use crate::server::{Limits, Server};
use crate::sys::listener::{Address, Listener};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// The loop of a worker that accepts by itself, with all that it does in a turn for its connections.
#[derive(Debug)]
pub struct Loop {
    reactor: Reactor,
    server: Server,
    slot: Slot,
    address: SocketAddr,
}

impl Loop {
    /// A loop for `app` with a listener on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no descriptors are left.
    pub fn new(app: App) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let slot = Board::new()?.slot(0);
        let limits = Limits::default();
        let mut server = Server::new(Arc::new(app), limits, 1, 0, None, Some(slot.clone()));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::tcp(any, 64, false)?;
        let Address::Inet(address) = *listener.address() else {
            return Err(io::Error::other("an address that is none"));
        };
        server.listen(reactor.registry(), listener, LISTENERS)?;
        Ok(Self {
            reactor,
            server,
            slot,
            address,
        })
    }

    /// A client, which the loop accepts in its next turn.
    ///
    /// # Errors
    ///
    /// As connect(2).
    pub fn connect(&self) -> io::Result<TcpStream> {
        let client = TcpStream::connect(self.address)?;
        client.set_nodelay(true)?;
        client.set_nonblocking(true)?;
        Ok(client)
    }

    /// One turn: waits, does what became ready, publishes what it counted.
    ///
    /// # Errors
    ///
    /// As epoll_wait(2).
    pub fn turn(&mut self) -> io::Result<()> {
        self.turn_by(self.server.deadline())
    }

    /// The same without waiting.
    ///
    /// # Errors
    ///
    /// As epoll_wait(2).
    pub fn look(&mut self) -> io::Result<()> {
        self.turn_by(Some(self.reactor.now()))
    }

    fn turn_by(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.reactor.wait(deadline)?;
        let now = self.reactor.now();
        self.slot.busy(now);
        self.server.begin(now);
        for ready in self.reactor.ready() {
            self.server.ready(self.reactor.registry(), ready);
        }
        self.server.proceed(self.reactor.registry());
        if let Some(now) = self.server.end() {
            self.reactor.set_now(now);
        }
        let waiting = self.server.pool_waiting();
        self.slot.publish(self.server.counters_mut(), waiting);
        self.slot.idle();
        Ok(())
    }
}

/// From a parsed request to its response: finding the route, calling the handler.
#[derive(Debug)]
pub struct Routing {
    app: Arc<App>,
    slot: Slot,
}

impl Routing {
    /// For the request with this head, whose memory is ready for it as it is after an earlier one.
    ///
    /// # Errors
    ///
    /// When no descriptors are left, and for what is no head.
    pub fn new(app: App, head: &[u8]) -> io::Result<Self> {
        let mut parts = Parts::take();
        let parsed = parts.head.parse(head, &HeadLimits::default());
        parsed.map_err(|error| io::Error::other(error.what()))?;
        drop(Request::new(parts));
        Ok(Self {
            app: Arc::new(app),
            slot: Board::new()?.slot(0),
        })
    }

    /// Calls the handler, if it answers on the loop; the status of its answer.
    pub fn call(&mut self) -> Option<u16> {
        // What the end of the last request put aside, its head still in it.
        let request = Request::new(Parts::take());
        match self.app.call(request, Some(&self.slot)) {
            Reply::Now(response) => Some(response.status()),
            _ => None,
        }
    }
}
