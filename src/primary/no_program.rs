//! A primary whose workers are all of its own kind: this library was built without the feature
//! `programs`.

use super::members::Member;
use super::supervisor::Patience;
use super::vessel::Carrier;
use super::{Error, Primary, SchedulingPolicy};
use crate::ipc::user::Message as UserMessage;
use crate::ipc::{Ask, Channel, Message, Refusal};
use crate::sorted::SortedSet;
use crate::sys::listener::Listener;
#[cfg(feature = "control")]
use crate::sys::process::Pid;
use crate::worker::WorkerId;
use std::io;
#[cfg(feature = "control")]
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// There is none of these.
#[derive(Clone, Debug)]
pub(super) enum Program {}

/// Nor of these.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) carrier: Carrier,
    pub(super) channel: Channel,
    pub(super) child: Child,
}

/// Nor of these.
#[derive(Debug)]
pub(super) enum Child {}

/// Nor ids that they have made.
#[derive(Debug, Default)]
pub(super) struct Owned;

impl Owned {
    pub(super) fn place(&self, _value: &[u8]) -> Option<usize> {
        None
    }
}

/// Nothing is known of them.
#[derive(Debug, Default)]
pub(super) struct Conduct;

impl Conduct {
    pub(super) fn begins(&mut self, _: Instant) {}

    pub(super) fn push(&mut self, _message: UserMessage) {}

    pub(super) fn note_listening(&mut self) {}

    pub(super) fn queued(&self) -> usize {
        0
    }

    pub(super) fn has_texts(&self) -> bool {
        false
    }
}

/// Nor of all of them.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) refusals: Refusals,
}

/// Nor of where they could not listen.
#[derive(Debug, Default)]
pub(super) struct Refusals;

impl Refusals {
    pub(super) fn note(&mut self, _id: WorkerId, _ask: &Ask, _refusal: &Refusal) {}

    pub(super) fn ends(&mut self, _id: WorkerId) {}
}

impl State {
    pub(super) fn note_listening(&mut self) {}
}

impl Program {
    pub(super) fn label(&self) -> String {
        match *self {}
    }

    pub(super) fn patience(&self, _drain: Duration) -> Patience {
        match *self {}
    }

    pub(super) fn fits(&self, _policy: &SchedulingPolicy) -> Result<(), String> {
        match *self {}
    }

    pub(super) fn prepare(&self, _listener: &Listener) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn is_dealt(&self) -> bool {
        match *self {}
    }
}

impl Member {
    pub(super) fn send_texts(&mut self) {}
}

/// Nothing is left of one to whoever takes this primary's place.
#[cfg(feature = "control")]
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) enum Left {}

#[cfg(feature = "control")]
impl Left {
    pub(super) fn is_of(&self, _program: Option<&Program>) -> bool {
        match *self {}
    }

    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        match *self {}
    }

    pub(super) fn begin(
        &mut self,
        _id: WorkerId,
        _pid: Pid,
        _channel: OwnedFd,
    ) -> io::Result<Started> {
        match *self {}
    }
}

/// Nor of all of them.
#[cfg(feature = "control")]
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct LeftByAll {}

#[cfg(feature = "control")]
impl Primary {
    pub(super) fn leave_program<'a>(
        &self,
        _member: &'a Member,
        _keep: &mut dyn FnMut(BorrowedFd<'a>) -> RawFd,
    ) -> Option<Box<Left>> {
        None
    }

    pub(super) fn leave_programs(&self) -> LeftByAll {
        LeftByAll {}
    }

    pub(super) fn resume_program(&mut self, _id: WorkerId, left: Left) {
        match left {}
    }

    pub(super) fn resume_programs(&mut self, _left: LeftByAll) {}
}

impl Primary {
    pub(super) fn hear_program(&mut self, _id: WorkerId, _message: Message) {}

    pub(super) fn program_leaves(&mut self, _id: WorkerId) {}

    pub(super) fn program_hung_up(&mut self, _id: WorkerId) {}

    pub(super) fn see_off_program(&mut self, _id: WorkerId, _hand_back: bool) {}

    pub(super) fn hopeless(&mut self, deaths: u32) -> Error {
        let last = std::mem::take(&mut self.last_exit);
        Error::Crashing { deaths, last }
    }

    pub(super) fn mind_programs(&mut self) {}

    pub(super) fn close_unused_later(&mut self) {}

    pub(super) fn kill_signal(&self) -> i32 {
        libc::SIGTERM
    }

    pub(super) fn dealt_listeners(&self) -> SortedSet<u32> {
        SortedSet::new()
    }

    pub(super) fn reload_for_policy(&mut self) {}

    pub(super) fn programs_deadline(&self) -> Option<Instant> {
        None
    }

    pub(super) fn report_texts(&mut self) {}

    pub(super) fn launch_program(
        &mut self,
        program: &Program,
        _id: WorkerId,
        _place: usize,
    ) -> io::Result<Started> {
        match *program {}
    }
}

/// What programs write: nothing.
#[derive(Debug)]
pub(super) enum Output {}

impl Output {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match *self {}
    }
}

pub(super) fn is_notice(_token: usize) -> bool {
    false
}

pub(super) fn is_output(_token: usize) -> bool {
    false
}

impl super::Cluster {
    pub(super) fn open_output(
        &self,
        _workers: Option<&crate::sys::privilege::Identity>,
    ) -> super::Result<Option<Output>> {
        Ok(None)
    }
}

impl Primary {
    pub(super) fn begin_output(&mut self, _id: WorkerId) {}

    pub(super) fn hear_output(&mut self, _ready: crate::net::Ready) {}

    pub(super) fn hear_last_output(&mut self, _id: WorkerId) {}

    pub(super) fn tend_output(&mut self) {}

    pub(super) fn reopen_output(&mut self, _own_log: bool) -> bool {
        false
    }

    pub(super) fn finish_output(&mut self) {}
}
