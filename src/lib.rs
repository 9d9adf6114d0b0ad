//! Node's cluster for Rust: one port, many workers, as processes or as threads, without an async
//! runtime.
//!
//! ```no_run
//! use mcluster::{pooled, App, Cluster, Mode};
//!
//! fn main() -> mcluster::Result<()> {
//!     let app = App::new()
//!         .get("/", |_| format!("Handled by process {}\n", std::process::id()))
//!         .get("/heavy", pooled(|_| {
//!             let total = (0..5_000_000u64).fold(0, |t, _| std::hint::black_box(t + 1));
//!             format!("Total: {total}\n")
//!         }));
//!
//!     Cluster::new(app).mode(Mode::Processes).listen("127.0.0.1:3000").run()
//! }
//! ```
//!
//! # Features
//!
//! | feature | what it adds | by default |
//! |---|---|---|
//! | `websocket` | [`ws`], `Worker::broadcast` and `ClusterHandle::broadcast` | by `cli` |
//! | `sessions` | [`session`]: cookies and stores of what is kept of a client | by `cli` |
//! | `redis` | sessions and messages past one machine (`Cluster::publish_through`); brings `sessions` | no |
//! | `json` | messages and bodies of any serde type, `LogFormat::Json` | by `cli` |
//! | `control` | the control socket, upgrade in place; brings `json` | by `cli` |
//! | `programs` | `Program`: Node programs, and any that takes inherited sockets, as workers; brings `control` | by `cli` |
//! | `loadtest` | [`loadtest`], the load generator; brings `json` and `websocket` | by `cli` |
//! | `compare` | [`compare`], processes and threads under the same load; brings `control` and `loadtest` | by `cli` |
//! | `cli` | the command, and [`cli`] for a program of its own kind | yes |
//!
//! # The floors
//!
//! A file uses its own folder and lower floors only; a test keeps this true.
//!
//! | floor | modules | owns |
//! |--:|---|---|
//! | 7 | `cli`, `demo`, `main` | flags, printing; the built-in application |
//! | 7 | `compare` | one application as processes and as threads under the same load |
//! | 6 | `primary` | the supervisor, the scheduler, what carries workers |
//! | 6 | `loadtest` | the load generator; it sees `net`, `http` and `metrics` alone |
//! | 5 | `worker` | one worker: its channel and its server, as a process or as a thread alike |
//! | 4 | `server` | one event loop's worth of HTTP connections |
//! | 3 | `app` | what users write against: routes, requests, responses |
//! | 2 | `ipc`, `pool` | the talk of primary and workers; threads for CPU-heavy handlers |
//! | 2 | `client` | the talk with a running cluster's control socket |
//! | 2 | `spawn` | servers that are started to be measured, and their end |
//! | 1 | `net`; `http`, `metrics`, `board` | readiness, timers; pure protocol, counters, the scoreboard |
//! | 1 | `status`, `runtime` | what a cluster says of itself, as JSON and Prometheus text; where its socket is |
//! | 0 | `sys` | every system call; the only `unsafe` |
//! | 0 | `sorted` | small sorted maps and sets, sorting |
//!
//! # The line of one request
//!
//! client → `primary` accepts → `scheduler` deals → `ipc` newconn → `sys::fds` ── border ── →
//! `worker` takes → `server::conn` reads → `http` head, framing → `app` route, handler (or `pool`)
//! → `server::respond` encodes → `server::output` writes → `board` counts → client.
//!
//! With the policy `shared` it begins at `server`. Each arrow is a call down or a value back.
//!
//! # What a request costs
//!
//! One read and one write. The loop reads into one buffer that all its connections share; a
//! connection owns memory only while it holds a part of a message. Sockets are registered once,
//! for both directions, edge-triggered; a short read means drained. After an accept the read is
//! tried at once, so a whole request is answered before its socket ever meets epoll. The clock is
//! read once a turn, the date formatted once a second, and what a worker counts is published to
//! shared memory without a system call.

#![cfg_attr(
    not(feature = "control"),
    allow(
        dead_code,
        unused_imports,
        reason = "the control interface is what uses some parts"
    )
)]

mod app;
mod board;
#[cfg(feature = "control")]
mod client;
#[cfg(feature = "compare")]
pub mod compare;
pub mod http;
mod ipc;
#[cfg(feature = "loadtest")]
pub mod loadtest;
mod metrics;
mod net;
mod pool;
mod primary;
#[cfg(feature = "control")]
mod runtime;
mod server;
mod sorted;
#[cfg(feature = "loadtest")]
mod spawn;
#[cfg(feature = "control")]
mod status;
mod sys;
mod worker;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod demo;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;

#[cfg(feature = "sessions")]
pub use app::session;
#[cfg(feature = "websocket")]
pub use app::ws;
pub use app::{
    App, Body, BodyError, BodyReader, Cookie, EventSender, Failure, Files, IntoReply, IntoResponse,
    Next, Pairs, Pieces, Reply, Request, Response, SameSite, Sender, ServerEvent, Unsent,
    abandon_worker, after, blocking, pooled,
};
pub use board::MAX_WORKERS;
pub use http::Method;
pub use ipc::topic::{Publication, SubscribeError};
pub use ipc::user::{MAX_MESSAGE, Message, SendError};
pub use net::{Listen, Networks};
pub use primary::{
    Cluster, ClusterHandle, Error, Event, Mode, Reload, Result, SchedulingPolicy, Settings,
    WorkerHandle, WorkerState, Workers,
};
#[cfg(feature = "programs")]
pub use primary::{Program, Protocol};
pub use server::{Limits, LogFormat, Trust};
pub use worker::{StopReason, Subscription, Worker, WorkerId};
