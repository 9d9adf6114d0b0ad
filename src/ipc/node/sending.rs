//! What goes to a Node program: lines in order, with a descriptor beside some of them.
//!
//! A line with a descriptor (an envelope, in what follows) has a sendmsg(2) of its own. The program
//! answers each, and hears what it carries one turn later than a plain line that is read with it: so
//! plain lines wait until all envelopes before them are answered, as in Node; envelopes do not.
//! Answers to its envelopes overtake all. Leaves what the lines say to `words`.

use crate::sys::{exec, socket, stream};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a program rests that had no room for a descriptor, and how often it is tried again: five
/// seconds in all.
const REST: Duration = Duration::from_millis(20);
const MOST_TRIES: u32 = 250;

/// What a line is, beside its bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Kind {
    Plain,
    /// A connection, by the number under which it will be answered: nobody needs it here once it is out.
    Connection(u64),
    /// The answer to a question, which must come through.
    Offer(Offer),
}

/// A socket to listen on or to receive datagrams at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    /// What it answers.
    pub(super) ack: u64,
    pub(super) listener: u32,
    /// What it says beside that, if there is anything, as JSON.
    pub(super) data: String,
    /// How often it has been said in vain.
    pub(super) tries: u32,
}

/// One line, whole.
#[derive(Debug)]
struct Frame {
    line: Vec<u8>,
    with: Option<OwnedFd>,
    kind: Kind,
}

/// The same in a file, with its descriptor's number.
#[derive(Debug, Serialize, Deserialize)]
struct FrameState {
    line: Vec<u8>,
    with: Option<RawFd>,
    kind: Kind,
}

impl Frame {
    fn state<'a>(&'a self, keep: &mut dyn FnMut(BorrowedFd<'a>) -> RawFd) -> FrameState {
        FrameState {
            line: self.line.clone(),
            with: self.with.as_ref().map(|with| keep(with.as_fd())),
            kind: self.kind.clone(),
        }
    }

    fn resumed(state: FrameState) -> io::Result<Self> {
        Ok(Self {
            line: state.line,
            with: state.with.map(exec::adopt).transpose()?,
            kind: state.kind,
        })
    }
}

/// What became of an envelope that came without its descriptor.
#[derive(Debug)]
pub(super) enum Lost {
    /// That connection was not taken.
    Connection(u64),
    /// This offer has failed for good.
    Offer(Offer),
}

/// Where the next frame is.
#[derive(Clone, Copy)]
enum Source {
    Answers,
    Again,
    Waiting,
}

/// All that one program has not been told or has not answered.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The first part of it is out, so many bytes.
    begun: Option<(Frame, usize)>,
    /// Answers to envelopes of the program's.
    answers: VecDeque<Frame>,
    /// Offers that the program had no room for, and when to say them again.
    again: VecDeque<Frame>,
    again_at: Option<Instant>,
    waiting: VecDeque<Frame>,
    /// Envelopes without an answer.
    unanswered: VecDeque<Frame>,
    /// Bytes of what waits.
    queued: usize,
}

/// The same in a file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SendingState {
    begun: Option<(FrameState, usize)>,
    answers: Vec<FrameState>,
    again: Vec<FrameState>,
    waiting: Vec<FrameState>,
    unanswered: Vec<FrameState>,
}

impl SendingState {
    /// The numbers of the descriptors in it.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let begun = self.begun.iter().map(|(frame, _)| frame);
        let others = [&self.answers, &self.again, &self.waiting, &self.unanswered];
        let all = begun.chain(others.into_iter().flatten());
        all.filter_map(|frame| frame.with)
    }
}

impl Sending {
    /// What goes on elsewhere.
    pub(super) fn state<'a>(
        &'a self,
        keep: &mut dyn FnMut(BorrowedFd<'a>) -> RawFd,
    ) -> SendingState {
        let begun = self.begun.as_ref();
        let begun = begun.map(|(frame, sent)| (frame.state(keep), *sent));
        let mut all = |frames: &'a VecDeque<Frame>| {
            let frames = frames.iter();
            frames.map(|frame| frame.state(keep)).collect()
        };
        SendingState {
            begun,
            answers: all(&self.answers),
            again: all(&self.again),
            waiting: all(&self.waiting),
            unanswered: all(&self.unanswered),
        }
    }

    /// One that goes on where another was.
    ///
    /// # Errors
    ///
    /// When a descriptor did not come, or more of a line is out than there is of it.
    pub(super) fn resumed(state: SendingState) -> io::Result<Self> {
        let all = |frames: Vec<FrameState>| -> io::Result<VecDeque<Frame>> {
            frames.into_iter().map(Frame::resumed).collect()
        };
        let mut sending = Self {
            begun: None,
            answers: all(state.answers)?,
            again: all(state.again)?,
            again_at: None,
            waiting: all(state.waiting)?,
            unanswered: all(state.unanswered)?,
            queued: 0,
        };
        let queues = [&sending.answers, &sending.again, &sending.waiting];
        let lengths = queues.into_iter().flatten().map(|frame| frame.line.len());
        sending.queued = lengths.sum();
        if let Some((frame, sent)) = state.begun {
            let frame = Frame::resumed(frame)?;
            let rest = frame.line.len().checked_sub(sent);
            let wrong = || io::Error::other("more of a line is out than there is of it");
            sending.queued += rest.ok_or_else(wrong)?;
            sending.begun = Some((frame, sent));
        }
        Ok(sending)
    }

    /// Takes a line without a descriptor.
    pub(super) fn push(&mut self, line: Vec<u8>) {
        self.push_frame(line, None, Kind::Plain);
    }

    /// Takes a line with one.
    pub(super) fn push_with(&mut self, line: Vec<u8>, with: OwnedFd, kind: Kind) {
        self.push_frame(line, Some(with), kind);
    }

    fn push_frame(&mut self, line: Vec<u8>, with: Option<OwnedFd>, kind: Kind) {
        self.queued += line.len();
        self.waiting.push_back(Frame { line, with, kind });
    }

    /// Takes the answer to an envelope.
    pub(super) fn answer(&mut self, line: &[u8]) {
        self.queued += line.len();
        let kind = Kind::Plain;
        let (line, with) = (line.to_vec(), None);
        self.answers.push_back(Frame { line, with, kind });
    }

    /// Says a line with a connection now, or keeps nothing of it.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when older lines wait or the socket is full; as sendmsg(2) otherwise.
    pub(super) fn connection(
        &mut self,
        socket: BorrowedFd<'_>,
        line: Vec<u8>,
        with: BorrowedFd<'_>,
        seq: u64,
    ) -> io::Result<()> {
        self.flush(socket)?;
        if self.count() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = stream::send(socket, &line, Some(with))?;
        self.queued += line.len();
        let kind = Kind::Connection(seq);
        let with = None;
        self.begun(Frame { line, with, kind }, sent);
        Ok(())
    }

    /// Sends what may go. True when nothing waits for room or for another try.
    ///
    /// # Errors
    ///
    /// When the other end is gone.
    pub(super) fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        loop {
            if let Some((frame, sent)) = self.begun.take() {
                match stream::send(socket, &frame.line[sent..], None) {
                    Ok(more) => self.progress(frame, sent, more),
                    Err(error) => {
                        self.begun = Some((frame, sent));
                        return blocked(error);
                    }
                }
                continue;
            }
            let Some(source) = self.next() else {
                return Ok(self.again.is_empty());
            };
            let Some(frame) = self.source(source).front() else {
                return Ok(true);
            };
            match stream::send(socket, &frame.line, frame.with.as_ref().map(AsFd::as_fd)) {
                Ok(sent) => {
                    let frame = self.source(source).pop_front();
                    frame.into_iter().for_each(|frame| self.begun(frame, sent));
                }
                Err(error) => return blocked(error),
            }
        }
    }

    fn begun(&mut self, frame: Frame, sent: usize) {
        self.progress(frame, 0, sent);
    }

    fn progress(&mut self, mut frame: Frame, sent: usize, more: usize) {
        self.queued -= more;
        if sent + more < frame.line.len() {
            self.begun = Some((frame, sent + more));
            return;
        }
        match frame.kind {
            Kind::Plain => return,
            Kind::Connection(_) => (frame.line, frame.with) = (Vec::new(), None),
            Kind::Offer(_) => {}
        }
        self.unanswered.push_back(frame);
    }

    fn source(&mut self, source: Source) -> &mut VecDeque<Frame> {
        match source {
            Source::Answers => &mut self.answers,
            Source::Again => &mut self.again,
            Source::Waiting => &mut self.waiting,
        }
    }

    /// Where the frame is that may go next.
    fn next(&self) -> Option<Source> {
        if !self.answers.is_empty() {
            return Some(Source::Answers);
        }
        if !self.again.is_empty() && self.again_at.is_none_or(|at| at <= Instant::now()) {
            return Some(Source::Again);
        }
        let front = self.waiting.front()?;
        let free = !matches!(front.kind, Kind::Plain) || self.all_answered();
        free.then_some(Source::Waiting)
    }

    fn all_answered(&self) -> bool {
        self.unanswered.is_empty() && self.again.is_empty()
    }

    /// The oldest envelope has come through.
    pub(super) fn acked(&mut self) {
        self.unanswered.pop_front();
    }

    /// It has not: what became of it, if it is not tried again.
    pub(super) fn nacked(&mut self) -> Option<Lost> {
        let mut frame = self.unanswered.pop_front()?;
        match frame.kind {
            Kind::Plain => None,
            Kind::Connection(seq) => Some(Lost::Connection(seq)),
            Kind::Offer(offer) if offer.tries >= MOST_TRIES => Some(Lost::Offer(offer)),
            Kind::Offer(mut offer) => {
                offer.tries += 1;
                frame.kind = Kind::Offer(offer);
                self.queued += frame.line.len();
                self.again.push_back(frame);
                self.again_at = Some(Instant::now() + REST);
                None
            }
        }
    }

    /// Nobody is there any longer.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether [`Sending::flush`] may find something to do that nothing else tells of.
    pub(super) fn has_unsent(&self) -> bool {
        self.begun.is_some() || !self.again.is_empty() || self.next().is_some()
    }

    /// Lines that wait, for whatever it is.
    pub(super) fn count(&self) -> usize {
        let begun = usize::from(self.begun.is_some());
        begun + self.answers.len() + self.again.len() + self.waiting.len()
    }

    /// Their bytes.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }
}

/// A full socket is no error.
fn blocked(error: io::Error) -> io::Result<bool> {
    if socket::would_block(&error) {
        return Ok(false);
    }
    Err(error)
}
