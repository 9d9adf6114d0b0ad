//! WebSocket (RFC 6455): messages both ways on a connection that began as a request.
//!
//! [`upgrade`] makes one of a request; the handler returns what that gives. A [`Socket`] sends,
//! from any thread. A message to every connection of every worker is
//! [`Worker::broadcast`](crate::Worker::broadcast); to those that [`Socket::subscribe`] to a topic,
//! [`Worker::publish`](crate::Worker::publish).
//!
//! ```no_run
//! use mcluster::{App, Cluster, Request, Worker, ws};
//!
//! # fn main() -> mcluster::Result<()> {
//! // A room: what one says, all hear, whichever worker has them.
//! let app = App::new().get("/room", |request: Request| {
//!     ws::upgrade(&request)
//!         .origins(["https://example.org"])
//!         .on_message(|_, message| {
//!             if let Some(worker) = Worker::current() {
//!                 let _ = worker.broadcast(message);
//!             }
//!         })
//!         .on_close(|_, reason| log::debug!("somebody left: {reason}"))
//! });
//! Cluster::new(app).run()
//! # }
//! ```
//!
//! What a peer does wrong closes its connection with the code that RFC 6455 has for it, after what
//! came before has been delivered and answered. No extension is agreed on, so nothing is
//! compressed. When a worker is to end, its connections are closed with 1001: clients should
//! connect again, and reach another one.
//!
// `handshake` judges the request, `frames` one frame, `assemble` makes messages of frames,
// `session` is one connection's talk, `socket` what waits to be sent, `room` all connections of a
// loop, `topics` who subscribes to what. All but these three know no threads; none knows a socket of the kernel's.

mod assemble;
mod frames;
mod handshake;
mod message;
mod room;
mod session;
mod socket;
mod topics;
mod upgrade;

#[cfg(test)]
mod tests;

pub use message::{CloseReason, Message, SendError, code};
pub(crate) use room::{deliver, write_down};
pub use socket::Socket;
pub(crate) use topics::deliver_topic;
pub use upgrade::{Upgrade, upgrade};
