//! The connections of one process to a Redis server.
//!
//! Owns how many there are and who has which; made at first use, and again by a process that was
//! forked since. Leaves what is said on them to `redis`.

use super::backoff::{BackOff, Era};
use redis::{Client, Connection, RedisResult};
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// As many as a worker has threads for handlers that wait. In threads mode all workers share them.
const MAX_CONNECTIONS: usize = 16;

#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose connections these are. Those of another process are the parent's still.
    pid: u32,
    /// The one that was used last is on top, so that those not needed grow old.
    idle: Vec<(Connection, Instant)>,
    /// How many there are, those in use included.
    count: usize,
    off: BackOff,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = std::process::id();
        if state.pid != pid {
            // Dropped, they close here alone: nothing is said on what is another's.
            *state = State::default();
            state.pid = pid;
        }
        state
    }

    /// Whether a call may be made now; `None` while the server is given time.
    pub(super) fn may_try(&self) -> Option<Era> {
        self.state().off.may_try(Instant::now())
    }

    /// The server has answered. Whether it had not before.
    pub(super) fn succeeded(&self) -> bool {
        self.state().off.succeeded()
    }

    /// The server cannot be reached.
    pub(super) fn failed(&self, era: Era) {
        let chance = crate::sys::random::number();
        self.state().off.failed(era, Instant::now(), chance);
    }

    /// A place for one connection, with one in it if any is idle; `None` when all were in use for
    /// as long as `limit`.
    pub(super) fn place(&self, limit: Duration) -> Option<Place<'_>> {
        let full = |state: &mut State| state.idle.is_empty() && state.count >= MAX_CONNECTIONS;
        let (mut state, waited) = self
            .returned
            .wait_timeout_while(self.state(), limit, full)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return None;
        }
        let (connection, used) = state.idle.pop().unzip();
        if connection.is_none() {
            state.count += 1;
        }
        Some(Place {
            pool: self,
            connection,
            used,
        })
    }

    /// Forgets all that nobody uses: where one is dead, so are they.
    fn forget_idle(&self) {
        let mut state = self.state();
        state.count -= state.idle.len();
        let old = std::mem::take(&mut state.idle);
        drop(state);
        drop(old);
        self.returned.notify_all();
    }
}

/// One of the connections there may be, for one call.
pub(super) struct Place<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    used: Option<Instant>,
}

impl Place<'_> {
    /// The connection that was here already, and for how long nothing was said on it.
    pub(super) fn kept(&mut self) -> Option<(&mut Connection, Duration)> {
        let idle = self.used.map(|used| used.elapsed()).unwrap_or_default();
        self.connection.as_mut().map(|one| (one, idle))
    }

    /// Connects, with a time limit on this alone.
    pub(super) fn connect(
        &mut self,
        client: &Client,
        limit: Duration,
    ) -> RedisResult<&mut Connection> {
        let connection = client.get_connection_with_timeout(limit)?;
        Ok(self.connection.insert(connection))
    }

    /// Gives up the connection, and all that are idle.
    pub(super) fn discard(&mut self) {
        self.connection = None;
        self.pool.forget_idle();
    }

    /// Leaves the connection for others.
    pub(super) fn keep(mut self) {
        if let Some(connection) = self.connection.take() {
            let mut state = self.pool.state();
            state.idle.push((connection, Instant::now()));
            // What dropping the place takes away.
            state.count += 1;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.count = state.count.saturating_sub(1);
        drop(state);
        self.pool.returned.notify_one();
    }
}
