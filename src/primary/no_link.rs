//! A primary whose publications stay in its cluster: this library was built without the feature
//! `redis`.

use super::{ClusterHandle, Primary, Result};
use crate::net::Ready;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

/// No event has this token.
pub(super) const LINK: usize = 4;

/// Nothing can be asked for
#[derive(Debug, Default)]
pub(super) struct Wanted {}

/// and nobody is there.
#[derive(Debug, Default)]
pub(super) struct Link {}

/// What a program with a link has left.
#[derive(Debug, Default)]
#[cfg_attr(feature = "control", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Passage {
    pub(super) fd: Option<RawFd>,
}

impl Wanted {
    pub(super) fn check(&self) -> Result<()> {
        Ok(())
    }

    pub(super) fn open(&self, _passage: Option<&Passage>) -> Result<Link> {
        Ok(Link {})
    }
}

impl Link {
    pub(super) fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl ClusterHandle {
    pub(super) fn leave_link<'a>(
        &self,
        _link: &'a Link,
    ) -> Option<(Passage, Option<BorrowedFd<'a>>)> {
        None
    }

    pub(super) fn resume_link(
        &self,
        _link: &mut Link,
        _registry: &mio::Registry,
        _now: Instant,
        _passage: &Passage,
        _socket: Option<OwnedFd>,
    ) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn relay(&self, _written: &[u8]) {}

    pub(super) fn open_relay(&self, _link: &Link) {}
}

impl Primary {
    pub(super) fn hear_link(&mut self, _ready: Ready) {}

    pub(super) fn tend_link(&mut self) {}

    pub(super) fn send_to_link(&mut self) {}

    pub(super) fn finish_link(&mut self) {}
}
