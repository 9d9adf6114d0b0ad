//! Node's cluster for Rust: one port, many workers, as processes or as threads, without an async
//! runtime.

mod app;
mod board;
pub mod http;
mod ipc;
mod metrics;
mod net;
mod pool;
mod server;
mod sys;

pub use app::{
    App, Body, Failure, IntoReply, IntoResponse, Next, Reply, Request, Response, abandon_worker,
    after, pooled,
};
pub use board::MAX_WORKERS;
pub use http::Method;
pub use server::Limits;
