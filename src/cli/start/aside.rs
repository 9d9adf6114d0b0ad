//! What `mcluster start` has beside a primary: the process that watches files, and the log of one in
//! the background.
//!
//! Owns who of them is told what; leaves the rest to `watch` and `detach`.

use super::detach;
use super::watch::Watched;
use crate::primary::Beside;
use crate::sys::process::{Exit, Pid};
use std::cell::RefCell;
use std::rc::Rc;

/// As the primary has it, and whoever observes it.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    /// The name of a cluster in the background.
    pub(super) background: Option<String>,
    pub(super) watched: Rc<RefCell<Option<Watched>>>,
}

impl Aside {
    /// The primary heeds signals.
    pub(super) fn go(&self) {
        if let Some(watched) = self.watched.borrow_mut().as_mut() {
            watched.go();
        }
    }
}

impl Beside for Aside {
    fn ended(&mut self, pid: Pid, exit: Exit) {
        if let Some(watched) = self.watched.borrow_mut().as_mut() {
            watched.ended(pid, exit);
        }
    }

    fn reopen_log(&mut self) -> bool {
        let Some(name) = &self.background else {
            return false;
        };
        match detach::reopen(name) {
            Ok(path) => log::info!("the log {} is open again", path.display()),
            Err(error) => log::error!("it cannot be opened again: {error}"),
        }
        if let Some(watched) = self.watched.borrow_mut().as_mut() {
            watched.reopen_log();
        }
        true
    }
}
