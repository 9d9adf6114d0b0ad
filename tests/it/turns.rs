//! Which tests may run beside each other.
//!
//! Most may; those that count on being given a processor soon, and those that take them all, run
//! alone. Every server holds a turn of its own unless its test runs alone.

use std::cell::Cell;
use std::sync::{Condvar, Mutex};

/// Who may run now: many tests beside each other, or one that needs the machine for itself.
static TURNS: (Mutex<(u32, bool)>, Condvar) = (Mutex::new((0, false)), Condvar::new());

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// A test's right to run.
#[derive(Debug)]
pub(crate) struct Turn {
    alone: bool,
}

/// Waits until no other test has a server, and keeps others waiting: for tests that count on
/// being given a processor within some hundred milliseconds, and for those that take them all.
pub(crate) fn alone() -> Turn {
    let (state, changed) = &TURNS;
    let free = |state: &mut (u32, bool)| *state != (0, false);
    let mut state = changed.wait_while(state.lock().unwrap(), free).unwrap();
    state.1 = true;
    ALONE.set(true);
    Turn { alone: true }
}

/// Waits until no test runs alone.
pub(crate) fn beside_others() -> Option<Turn> {
    if ALONE.get() {
        return None;
    }
    let (state, changed) = &TURNS;
    let taken = |state: &mut (u32, bool)| state.1;
    let mut state = changed.wait_while(state.lock().unwrap(), taken).unwrap();
    state.0 += 1;
    Some(Turn { alone: false })
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (state, changed) = &TURNS;
        // Not unwrap: a failed test must not take the others along.
        let mut state = state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.alone {
            state.1 = false;
            ALONE.set(false);
        } else {
            state.0 -= 1;
        }
        changed.notify_all();
    }
}
