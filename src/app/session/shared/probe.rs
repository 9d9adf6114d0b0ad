//! Looking through a file of sessions in a child, which may die of what it finds.
//!
//! LMDB believes the pages that it maps: of a damaged one it ends the process, by an assertion or a
//! wild address. Owns that this befalls nobody who is needed; leaves what is read to `opened`.

use super::MAP_STEP;
use super::opened::{Opened, damaged};
use crate::app::session::StoreError;
use crate::sys::process::{self, Exit, Forked, Pid};
use std::panic::catch_unwind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take: of a file that is larger than can be read in this the rest is believed.
const LONGEST: Duration = Duration::from_secs(5);

/// What the child says by its code: all is well, as far as it can be used; or it is damaged.
const FINE: i32 = 0;
const DAMAGED: i32 = 1;

/// How a process ends that comes upon a damaged page.
const CRASHES: [i32; 5] = [
    libc::SIGABRT,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
];

/// Whether the file can be read from end to end, if this process has one thread and can have a child.
///
/// # Errors
///
/// [`StoreError::Broken`] when it is damaged. Any other trouble is left to whoever opens it.
pub(super) fn look_through(path: &Path) -> Result<(), StoreError> {
    let empty = std::fs::metadata(path).map_or(true, |about| about.len() == 0);
    // A process with several threads cannot fork.
    if empty || !process::thread_count().is_ok_and(|threads| threads == 1) {
        return Ok(());
    }
    let parent = process::pid();
    match process::fork() {
        Ok(Forked::Child) => {
            let alone = process::kill_after_parent_death(parent, LONGEST).is_ok_and(|alive| !alive);
            let found = catch_unwind(|| if alone { FINE } else { walk(path) });
            process::exit_now(found.unwrap_or(DAMAGED))
        }
        Ok(Forked::Parent(child)) => match outcome(child) {
            Some(Exit::Code(DAMAGED)) => Err(damaged(path)),
            Some(Exit::Signal { signal, .. }) if CRASHES.contains(&signal) => Err(damaged(path)),
            // Somebody may have ended it, or there was no memory for it.
            Some(_) | None => Ok(()),
        },
        Err(_) => Ok(()),
    }
}

fn walk(path: &Path) -> i32 {
    let walked = Opened::open(path, MAP_STEP).map(|opened| opened.walk());
    match walked {
        // What opening says this process will hear by itself.
        Ok(Ok(())) | Err(_) => FINE,
        Ok(Err(failure)) if failure.is_damage() => DAMAGED,
        Ok(Err(_)) => FINE,
    }
}

/// How the child ended; None when it took too long, or nobody can know.
fn outcome(child: Pid) -> Option<Exit> {
    let (begin, mut late) = (Instant::now(), false);
    loop {
        match process::try_wait(child) {
            Ok(Some(exit)) => return Some(exit).filter(|_| !late),
            Ok(None) => {}
            Err(_) => return None,
        }
        if !late && begin.elapsed() >= LONGEST {
            late = true;
            let _ = process::kill(child, libc::SIGKILL);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
