//! Node's cluster for Rust: one port, many workers, as processes or as threads, without an async
//! runtime.

mod sys;
