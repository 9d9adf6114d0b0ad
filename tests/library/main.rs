//! The library's cluster API, tested from outside by programs that use it.
//!
//! This binary is both sides: without [`PROGRAM`] in its environment it is the driver, which runs
//! the tests; with it, it is the small cluster that the variable names (`programs`). So nothing
//! forks where there are threads, and each cluster starts in a process of its own. `harness` runs
//! the tests and keeps the habits of `cargo test`; `run` starts a program and reads what it says.

// Clippy knows tests by an attribute that these do not have.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[cfg(feature = "compare")]
mod compare;
mod ends;
#[cfg(feature = "programs")]
mod executed;
mod farewells;
mod harness;
mod http;
#[path = "../it/lines.rs"]
mod lines;
mod listens;
mod messages;
#[cfg(feature = "programs")]
mod nodes;
#[cfg(feature = "programs")]
mod outputs;
mod programs;
mod run;
#[cfg(feature = "sessions")]
mod sessions;
#[cfg(feature = "websocket")]
mod shouts;
#[cfg(feature = "redis")]
#[path = "../support_redis.rs"]
mod support_redis;
mod topics;
#[cfg(feature = "websocket")]
#[path = "../it/websocket.rs"]
mod websocket;

use std::process::ExitCode;

/// The variable that names a program and its mode, with further words behind them.
pub(crate) const PROGRAM: &str = "MCLUSTER_LIBRARY_PROGRAM";

fn main() -> ExitCode {
    if let Ok(words) = std::env::var(PROGRAM) {
        return programs::main(&words);
    }
    let mut tests = harness::Tests::default();
    #[cfg(feature = "compare")]
    compare::add(&mut tests);
    ends::add(&mut tests);
    #[cfg(feature = "programs")]
    executed::add(&mut tests);
    farewells::add(&mut tests);
    messages::add(&mut tests);
    listens::add(&mut tests);
    topics::add(&mut tests);
    #[cfg(feature = "programs")]
    nodes::add(&mut tests);
    #[cfg(feature = "programs")]
    outputs::add(&mut tests);
    #[cfg(feature = "sessions")]
    sessions::add(&mut tests);
    #[cfg(feature = "websocket")]
    shouts::add(&mut tests);
    tests.run()
}
