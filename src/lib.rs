//! Node's cluster for Rust: one port, many workers, as processes or as threads, without an async
//! runtime.

mod board;
pub mod http;
mod ipc;
mod metrics;
mod net;
mod pool;
mod sys;

pub use board::MAX_WORKERS;
pub use http::Method;
