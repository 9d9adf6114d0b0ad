//! Node's cluster for Rust: one port, many workers, as processes or as threads, without an async
//! runtime.

pub mod http;
mod sys;

pub use http::Method;
