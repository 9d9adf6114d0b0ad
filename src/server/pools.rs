//! The threads of a worker beside its loop, where handlers run that would hold it up.
//!
//! Owns which of them are for whom, so that those who wait for one thing keep no thread from those
//! who wait for another; leaves queues and threads to `pool`.

use crate::app::Response;
use crate::net::Waker;
use crate::pool::{Done, OnStart, Pool};
use std::sync::Arc;

/// Threads for handlers that wait: for the bodies that they read while these arrive; or for a disk,
/// or the network. They wait more than they work, so there are more of them than CPUs.
pub(super) const WAITERS: usize = 16;

/// Where a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It needs a CPU.
    Heavy,
    /// It is as slow as its client.
    Reader,
    /// It is as slow as what it asks.
    Waiter,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Pools {
    heavy: Option<Pool<Response>>,
    readers: Option<Pool<Response>>,
    waiters: Option<Pool<Response>>,
}

impl Pools {
    /// Those of the worker with that number, with so many `threads` for what is CPU-heavy, if any;
    /// none at all where there is no `waker` for the loop.
    pub(super) fn new(worker: u32, threads: usize, waker: Option<&Waker>) -> Self {
        let pool = |name: &str, size| {
            let waker = waker.filter(|_| size > 0);
            waker.map(|waker| Pool::new(&format!("{name} {worker}"), size, waker.clone()))
        };
        Self {
            heavy: pool("pool", threads).map(Pool::making_way),
            readers: pool("reader", WAITERS),
            waiters: pool("waiter", WAITERS),
        }
    }

    /// The threads for handlers of that kind; without any they run on the loop.
    pub(super) fn of(&mut self, kind: Kind) -> Option<&mut Pool<Response>> {
        match kind {
            Kind::Heavy => self.heavy.as_mut(),
            Kind::Reader => self.readers.as_mut(),
            Kind::Waiter => self.waiters.as_mut(),
        }
    }

    /// The next answer of another thread.
    pub(super) fn next_done(&self) -> Option<Done<Response>> {
        let all = [&self.heavy, &self.readers, &self.waiters];
        all.into_iter().flatten().find_map(Pool::next_done)
    }

    /// Has each thread do `on_start` first.
    pub(super) fn on_start(&mut self, on_start: &OnStart) {
        let all = [&mut self.heavy, &mut self.readers, &mut self.waiters];
        for pool in all.into_iter().flatten() {
            pool.on_start(Arc::clone(on_start));
        }
    }

    /// CPU-heavy jobs that have not begun.
    pub(super) fn waiting(&self) -> usize {
        self.heavy.as_ref().map_or(0, Pool::waiting)
    }
}
