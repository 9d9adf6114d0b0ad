//! A primary that cannot be upgraded in place: this library was built without the feature
//! `control`.

use super::link::Passage;
use super::ports::Ports;
use super::{Cluster, Error, Primary, Result};
use crate::board::Board;
use crate::net::Listen;
use crate::sys::listener::Listener;
use crate::sys::process::Pid;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// No event has this token.
pub(super) const TRIAL: usize = 3;

/// There is none of these.
#[derive(Debug)]
pub(super) enum Trial {}

impl Trial {
    pub(super) fn until(&self) -> Instant {
        match *self {}
    }

    pub(super) fn is(&self, _pid: Pid) -> bool {
        match *self {}
    }
}

/// Nor of these.
#[derive(Debug)]
pub(super) enum Inheritance {}

impl Inheritance {
    pub(super) fn find(_settings: &Cluster) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn give_up(&self, _why: Error) -> Error {
        match *self {}
    }

    pub(super) fn board(&self) -> io::Result<Arc<Board>> {
        match *self {}
    }

    pub(super) fn passage(&self) -> Option<&Passage> {
        match *self {}
    }

    pub(super) fn listened(&self) -> Vec<Listen> {
        match *self {}
    }

    pub(super) fn ports(&mut self, _registry: &mio::Registry) -> io::Result<Ports> {
        match *self {}
    }

    pub(super) fn conclude_trial<'a>(&self, _made: impl Iterator<Item = &'a Listener>) {
        match *self {}
    }

    pub(super) fn look_over(&self) -> Result<()> {
        match *self {}
    }
}

pub(super) fn program() -> PathBuf {
    PathBuf::new()
}

impl Primary {
    pub(super) fn upgrade(&mut self) {
        log::warn!("no upgrade: this program was built without it");
    }

    pub(super) fn hear_trial(&mut self) {}

    pub(super) fn hand_on(&mut self) {}

    pub(super) fn abandon_upgrade(&mut self) {}

    pub(super) fn resume(&mut self, inheritance: Inheritance) -> io::Result<()> {
        match inheritance {}
    }
}
