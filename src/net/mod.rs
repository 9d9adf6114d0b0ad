//! The reactor's parts: readiness, one clock reading a turn, time limits kept as queues, and words
//! from other threads.
//!
//! Owns the epoll set (through mio) and the order of deadlines. May use `sys`; leaves to `server`,
//! `worker` and `primary` what a token means and what a deadline is for.

mod gathering;
mod listen;
mod mailbox;
mod networks;
mod poll;
mod seldom;
mod timers;

pub(crate) use gathering::Gathering;
pub use listen::Listen;
pub(crate) use listen::{MAX_BACKLOG, bind_tcp, url};
pub(crate) use mailbox::{Line, Mailbox, on_loop};
pub use networks::Networks;
pub(crate) use poll::{
    Reactor, Ready, Waker, deregister, register, register_listener, register_once, register_reader,
    token,
};
pub(crate) use seldom::{Few, Seldom, Tally};
pub(crate) use timers::Timers;
