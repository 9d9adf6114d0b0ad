//! What a primary leaves of its programs to the one that takes its place in an upgrade, and how that
//! goes on with them.
//!
//! Owns what there is of a worker beside what all workers have. What is rare and soon made good is
//! not left: who rests after a refusal, when somebody was last looked at, ids that were learned.
//! Leaves the file that it is written to, and keeping descriptors open, to `upgrade`.

use super::output::{Lasting, Partial};
use super::{Child, Program, Protocol, Started};
use crate::ipc::Channel;
use crate::ipc::node::{Lines, LinesState};
use crate::ipc::user::Message as UserMessage;
use crate::primary::Primary;
use crate::primary::members::Member;
use crate::primary::vessel::Carrier;
use crate::sorted::SortedSet;
use crate::sys::exec;
use crate::sys::notices::NoticeSocket;
use crate::sys::process::Pid;
use crate::worker::WorkerId;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// One worker that is a program.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::primary) struct Left {
    /// What is under way in the channel of a Node program; none of one that is not spoken to.
    node: Option<LinesState>,
    streams: [Option<RawFd>; 2],
    /// The lines that it has begun to write there.
    partial: [Partial; 2],
    notices: Option<RawFd>,
    status: Option<String>,
    shares: SortedSet<u32>,
    said_ready: bool,
    accepts: bool,
    goes: bool,
    /// For how many microseconds its channel has been closed, and whether it had its signal.
    closed: Option<(u64, bool)>,
    /// It has listened somewhere.
    #[serde(default)]
    listened: bool,
    /// It gets its signal when what waits at its sockets is accepted.
    #[serde(default)]
    clears: bool,
    /// The place whose sockets it has; before that was written down, its own.
    #[serde(default)]
    sockets_of: Option<usize>,
    texts: Vec<Vec<u8>>,
}

/// All of them together.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::primary) struct LeftByAll {
    ever: bool,
    reload: bool,
    output: Lasting,
}

impl Left {
    /// Whether `program` is spoken to as this one is.
    pub(in crate::primary) fn is_of(&self, program: Option<&Program>) -> bool {
        let protocol = match self.node {
            Some(_) => Protocol::Node,
            None => Protocol::Sockets,
        };
        program.is_some_and(|program| program.protocol == protocol)
    }

    /// The numbers of the descriptors in it.
    pub(in crate::primary) fn descriptors(&self) -> Vec<RawFd> {
        let own = self.streams.iter().chain([&self.notices]).flatten();
        let lines = self.node.iter().flat_map(LinesState::descriptors);
        own.copied().chain(lines).collect()
    }

    /// The program, of which `channel` is what the primary has in its place.
    ///
    /// # Errors
    ///
    /// When a descriptor did not come.
    pub(in crate::primary) fn begin(
        &mut self,
        id: WorkerId,
        pid: Pid,
        channel: OwnedFd,
    ) -> io::Result<Started> {
        let channel = match self.node.take() {
            Some(state) => {
                let mut lines = Lines::resumed(channel, state)?;
                lines.name(format!("worker {id} (pid {pid})"));
                Channel::of_node(lines)
            }
            None => Channel::mute(channel),
        };
        let mut child = Child {
            status: self.status.take(),
            ..Child::default()
        };
        for (stream, number) in child.streams.iter_mut().zip(self.streams) {
            *stream = number.map(exec::adopt).transpose()?;
        }
        if let Some(number) = self.notices {
            child.notices = Some(NoticeSocket::restored(exec::adopt(number)?)?);
        }
        Ok(Started {
            carrier: Carrier::Program(pid),
            channel,
            child,
        })
    }
}

impl Primary {
    /// What is left of a worker, if it is a program; `keep` notes a descriptor, and says its number.
    pub(in crate::primary) fn leave_program<'a>(
        &self,
        member: &'a Member,
        keep: &mut dyn FnMut(BorrowedFd<'a>) -> RawFd,
    ) -> Option<Box<Left>> {
        let child = member.program.as_ref()?;
        let conduct = &member.conduct;
        let now = self.reactor.now();
        let age = |since: Instant| now.saturating_duration_since(since).as_micros() as u64;
        let output = self.output.as_ref();
        Some(Box::new(Left {
            node: member.channel.node_state(keep),
            streams: child
                .streams
                .each_ref()
                .map(|stream| stream.as_ref().map(|fd| keep(fd.as_fd()))),
            partial: output.map_or_else(Default::default, |one| one.partial(member.id)),
            notices: child.notices.as_ref().map(|one| keep(one.as_fd())),
            status: child.status.clone(),
            shares: member.shares.clone(),
            said_ready: conduct.said_ready,
            accepts: conduct.accepts,
            goes: conduct.goes,
            listened: conduct.listened,
            clears: conduct.clears.is_some(),
            sockets_of: Some(child.sockets_of),
            closed: conduct.closed.map(|since| (age(since), conduct.signalled)),
            texts: conduct
                .texts
                .iter()
                .map(|one| one.bytes().to_vec())
                .collect(),
        }))
    }

    /// What is left of all of them.
    pub(in crate::primary) fn leave_programs(&self) -> LeftByAll {
        let output = self.output.as_ref();
        LeftByAll {
            ever: self.programs.ever,
            reload: self.wishes.reload_again,
            output: output.map_or_else(Default::default, |one| one.lasting()),
        }
    }

    /// Goes on with a worker that has just been added.
    pub(in crate::primary) fn resume_program(&mut self, id: WorkerId, left: Left) {
        let now = self.reactor.now();
        if let Some(output) = &mut self.output {
            output.resume_partial(id, left.partial);
        }
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.shares = left.shares;
        if let Some(child) = &mut member.program {
            child.sockets_of = left.sockets_of.unwrap_or(member.place);
        }
        let conduct = &mut member.conduct;
        conduct.said_ready = left.said_ready;
        conduct.accepts = left.accepts;
        conduct.goes = left.goes;
        conduct.listened = left.listened || !member.listens.is_empty();
        conduct.clears = left.clears.then_some(now);
        conduct.signalled = left.closed.is_some_and(|(_, signalled)| signalled);
        conduct.closed = left.closed.map(|(age, _)| {
            let since = now.checked_sub(Duration::from_micros(age));
            since.unwrap_or(now)
        });
        for text in left.texts {
            conduct.push(UserMessage::from(text));
        }
        if let Some(member) = self.members.get(id)
            && let Some(child) = &member.program
            && let Some(notices) = &child.notices
        {
            self.listen_to_notices(id, notices);
        }
        self.begin_output(id);
    }

    /// Goes on with all of them, once they are there.
    pub(in crate::primary) fn resume_programs(&mut self, left: LeftByAll) {
        if self.rules.program.is_none() {
            return;
        }
        let now = self.reactor.now();
        self.programs.ever = left.ever;
        self.wishes.reload_again |= left.reload;
        if let Some(output) = &mut self.output {
            output.resume_lasting(left.output, now);
        }
        self.close_unused_later();
        // What was read and not heard, no event tells of.
        let unheard = self.members.iter().filter(|one| one.channel.has_unheard());
        for id in unheard.map(|one| one.id).collect::<Vec<_>>() {
            self.hear(id);
        }
    }
}
