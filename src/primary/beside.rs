//! What whoever started the primary has beside it: processes that are nobody's worker, and a log.
//!
//! Owns when it is asked to look after them. Leaves what they are to the one who started them.

use super::Primary;
use crate::sys::process::{self, Exit, Pid};

/// Looks after them, in the primary.
pub(crate) trait Beside {
    /// A child of this process that was no worker has ended.
    fn ended(&mut self, pid: Pid, exit: Exit);

    /// The logs are to be opened again; whether one was.
    fn reopen_log(&mut self) -> bool;
}

impl Primary {
    /// Waits for those children that nobody else does: as process number 1, whatever lost its parent
    /// is a child of this one, and what was started beside it is in any case. To be called when the
    /// workers that have ended are buried: the kernel shows one dead child at a time, and behind a
    /// worker it would show no other.
    pub(super) fn reap_strangers(&mut self) {
        let all = process::pid().as_raw() == 1 && self.rules.mode != super::Mode::Threads;
        if !all && self.beside.is_none() {
            return;
        }
        while let Ok(Some(pid)) = process::peek_ended() {
            let worker = self.members.iter().any(|one| one.carrier.is(pid));
            let trial = self.trial.as_ref().is_some_and(|trial| trial.is(pid));
            if worker || trial {
                return;
            }
            let Ok(Some(exit)) = process::try_wait(pid) else {
                return;
            };
            log::debug!("process {pid}, which was no worker, is buried");
            if let Some(beside) = &mut self.beside {
                beside.ended(pid, exit);
            }
        }
    }

    /// Has the primary's own log opened again, if it has one; whether it was.
    pub(super) fn reopen_own_log(&mut self) -> bool {
        let beside = self.beside.as_mut();
        beside.is_some_and(|beside| beside.reopen_log())
    }
}
