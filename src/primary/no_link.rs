//! A primary whose publications stay in its cluster: this library was built without the feature
//! `redis`.

use super::{ClusterHandle, Primary, Result};
use crate::net::Ready;
use std::time::Instant;

/// No event has this token.
pub(super) const LINK: usize = 4;

/// Nothing can be asked for
#[derive(Debug, Default)]
pub(super) struct Wanted {}

/// and nobody is there.
#[derive(Debug, Default)]
pub(super) struct Link {}

impl Wanted {
    pub(super) fn check(&self) -> Result<()> {
        Ok(())
    }

    pub(super) fn open(&self) -> Result<Link> {
        Ok(Link {})
    }
}

impl Link {
    pub(super) fn deadline(&self) -> Option<Instant> {
        None
    }

    pub(super) fn origin(&self) -> Option<[u8; 16]> {
        None
    }

    pub(super) fn set_origin(&mut self, _origin: Option<[u8; 16]>) {}
}

impl ClusterHandle {
    pub(super) fn relay(&self, _written: &[u8]) {}

    pub(super) fn open_relay(&self, _link: &Link) {}
}

impl Primary {
    pub(super) fn hear_link(&mut self, _ready: Ready) {}

    pub(super) fn tend_link(&mut self) {}

    pub(super) fn send_to_link(&mut self) {}
}
