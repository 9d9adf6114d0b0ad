//! The load generator: many clients against one address, and an honest account of what they saw.
//!
//! Owns the pacing of requests, the client's half of HTTP/1.1 and WebSocket connections, and what is
//! counted; may use `net`, `http` and `metrics`, and knows nothing of clusters. Flags, progress and
//! faults that are scripted are the command's.
//!
//! # The line of one request
//!
//! `plan` says what is wanted → `pace` says when → `lane` (one thread, one loop) picks a connection →
//! `conn` writes, reads → `speech`, `http` head, framing → `tally` counts → `outcome` adds up → `report`.

mod addresses;
mod conn;
pub(crate) mod echo;
mod error;
mod lane;
mod latency;
mod outcome;
mod pace;
mod plan;
pub(crate) mod report;
mod running;
pub(crate) mod show;
mod speech;
mod tally;
pub(crate) mod target;
pub(crate) mod template;
mod timeline;

#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use latency::Latency;
pub use plan::Loadtest;
pub use report::{Agent, Bytes, Errors, Generator, Interval, Report, Share, Stage, Trouble};
pub use running::{Progress, Running};

/// The version of the report as JSON. It grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;
