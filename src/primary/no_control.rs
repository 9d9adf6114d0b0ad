//! A primary without a control interface: this library was built without the feature `control`.

use super::{Event, Primary};
use crate::net::Ready;
use crate::sys::listener::Listener;
use std::time::Instant;

/// There is none of these.
#[derive(Debug)]
pub(super) enum Console {}

/// Nor of these.
#[derive(Debug)]
pub(super) struct Sockets;

impl Sockets {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Listener> {
        std::iter::empty()
    }
}

impl Console {
    pub(super) fn owns(_token: usize) -> bool {
        false
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match *self {}
    }
}

impl Primary {
    pub(super) fn serve_console(&mut self, _ready: &[Ready]) {}

    pub(super) fn conclude_changes(&mut self) {}

    pub(super) fn note(&mut self, _event: &Event) {}

    pub(super) fn close_console(&mut self, _failed: Option<&str>) {}
}
