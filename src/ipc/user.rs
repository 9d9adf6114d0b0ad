//! What users say to each other: messages of any size, as a stream of pieces.
//!
//! A message goes out as its length and kind in four bytes and its own, one after another; the stream is
//! cut into pieces that fit a datagram, so a large message is many pieces and a piece is many
//! small messages. A window keeps the pieces under way few: the channel stays free for
//! connections, and a receiver that does not keep up is noticed by the sender, not by the kernel.

pub use super::message::{Message, SendError};
use std::collections::VecDeque;
use std::io;

/// The largest message, in bytes: 64 MiB.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// What may wait to be sent to one receiver, beyond which a message is refused.
pub(crate) const MAX_QUEUED: usize = 2 * MAX_MESSAGE;

/// More than this waiting is worth pausing for: Node's number.
pub(crate) const HIGH_WATER: usize = 128 * 1024;

/// Bytes of the stream in one datagram.
pub(crate) const PIECE: usize = 16 * 1024;

/// Pieces that may be under way.
const WINDOW: u32 = 4;

const LENGTH: usize = size_of::<u32>();

/// The bits of the four bytes that say the kind; a length never has them.
const KIND_SHIFT: u32 = 28;

/// Whom something in the stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The application at the other end.
    Message,
    /// The WebSocket connections of all workers: of the receiving one, or by way of the primary of
    /// all but the sending one. What it says is theirs to know.
    Broadcast,
    /// The subscribers of a topic in all workers: of the receiving one, or by way of the primary
    /// of all, the sending one included. See [`Publication`](super::topic::Publication).
    Publish,
}

impl Kind {
    fn head(self, length: usize) -> [u8; LENGTH] {
        let kind = match self {
            Self::Message => 0,
            Self::Broadcast => 1,
            Self::Publish => 2,
        };
        (length as u32 | kind << KIND_SHIFT).to_le_bytes()
    }

    fn of_head(head: [u8; LENGTH]) -> io::Result<(Self, usize)> {
        let word = u32::from_le_bytes(head);
        let length = (word & ((1 << KIND_SHIFT) - 1)) as usize;
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let kind = match word >> KIND_SHIFT {
            0 => Self::Message,
            1 => Self::Broadcast,
            2 => Self::Publish,
            other => return wrong(format!("a message of the unknown kind {other}")),
        };
        if length > MAX_MESSAGE {
            return wrong(format!(
                "a message of {length} bytes: at most {MAX_MESSAGE}"
            ));
        }
        Ok((kind, length))
    }
}

/// What a message takes of the stream, in bytes.
pub(crate) fn cost(message: &Message) -> usize {
    LENGTH + message.0.len()
}

/// What a message takes that waits by itself, beside its bytes: where it is, and what an allocation
/// costs. In the stream small messages share one.
pub(crate) const OVERHEAD: usize = 64;

/// Messages up to this size are copied behind their length.
const COPIED: usize = 1024;

/// Messages that wait to be sent to one receiver.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The stream: each message's length and its bytes, apart where a copy would cost; small ones
    /// together, so that a part is worth its allocation.
    stream: VecDeque<Vec<u8>>,
    /// Bytes of the first part that are out.
    sent: usize,
    /// Bytes of the stream that are not out.
    queued: usize,
    /// As many of them as end with the last [`Kind::Message`]: the others are for who is there, and
    /// are not waited for.
    awaited: usize,
    /// Pieces that the receiver has not taken.
    under_way: u32,
}

impl Outbox {
    /// One that goes on where another was; see [`Outbox::parts`].
    pub(crate) fn resumed(stream: Vec<u8>, awaited: usize, under_way: u32) -> Self {
        let queued = stream.len();
        Self {
            awaited: awaited.min(queued),
            stream: (!stream.is_empty()).then_some(stream).into_iter().collect(),
            sent: 0,
            queued,
            under_way,
        }
    }

    /// Takes a message. False when more than [`HIGH_WATER`] waits: worth a pause.
    ///
    /// # Errors
    ///
    /// Gives back a message that is too large, or one too many.
    pub(crate) fn push(&mut self, kind: Kind, message: Message) -> Result<bool, SendError> {
        if message.0.len() > MAX_MESSAGE {
            return Err(SendError::TooLarge(message));
        }
        if self.queued > MAX_QUEUED {
            return Err(SendError::Full(message));
        }
        self.queued += cost(&message);
        if kind == Kind::Message {
            self.awaited = self.queued;
        }
        let small = message.0.len() <= COPIED;
        self.append(
            &kind.head(message.0.len()),
            if small { &message.0 } else { &[] },
        );
        if !small {
            self.stream.push_back(message.0);
        }
        Ok(self.queued <= HIGH_WATER)
    }

    /// Adds a few bytes to the last part of the stream, or begins another.
    fn append(&mut self, head: &[u8], body: &[u8]) {
        let more = head.len() + body.len();
        match self.stream.back_mut() {
            Some(last) if last.len() + more <= PIECE => {
                last.extend_from_slice(head);
                last.extend_from_slice(body);
            }
            _ => self.stream.push_back([head, body].concat()),
        }
    }

    /// The next piece of the stream, if one may be under way.
    pub(crate) fn next_piece(&mut self) -> Option<Vec<u8>> {
        if !self.has_piece() {
            return None;
        }
        let mut piece = Vec::with_capacity(self.queued.min(PIECE));
        while let Some(part) = self.stream.front() {
            let rest = &part[self.sent..];
            let count = rest.len().min(PIECE - piece.len());
            piece.extend_from_slice(&rest[..count]);
            if count < rest.len() {
                self.sent += count;
                break;
            }
            self.sent = 0;
            self.stream.pop_front();
        }
        self.queued -= piece.len();
        self.awaited = self.awaited.saturating_sub(piece.len());
        self.under_way += 1;
        Some(piece)
    }

    /// The receiver has consumed `pieces`.
    pub(crate) fn took(&mut self, pieces: u32) {
        self.under_way = self.under_way.saturating_sub(pieces);
    }

    /// Bytes that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether everything is out.
    pub(crate) fn is_empty(&self) -> bool {
        self.stream.is_empty()
    }

    /// Bytes that wait up to the end of the last message to the application: 0 when whoever goes has
    /// been told all that was said to it alone.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited
    }

    /// Whether a piece could be sent now.
    pub(crate) fn has_piece(&self) -> bool {
        self.under_way < WINDOW && !self.stream.is_empty()
    }

    /// For who goes on in this one's place: the rest of the stream, and how many pieces are under
    /// way.
    pub(crate) fn parts(&self) -> (Vec<u8>, u32) {
        let mut rest: Vec<u8> = self.stream.iter().flatten().copied().collect();
        rest.drain(..self.sent);
        (rest, self.under_way)
    }
}

/// Messages that are arriving.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The beginning of a message, its length included.
    partial: Vec<u8>,
}

impl Inbox {
    /// One that goes on where another was.
    pub(crate) fn resumed(partial: Vec<u8>) -> Self {
        Self { partial }
    }

    /// What has come of a message that is not complete.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Takes the next piece of the stream; the messages that are complete with it.
    ///
    /// # Errors
    ///
    /// `InvalidData` for a message that is larger than any may be, or of an unknown kind.
    pub(crate) fn piece(&mut self, mut bytes: &[u8]) -> io::Result<Vec<(Kind, Message)>> {
        let mut complete = Vec::new();
        loop {
            if self.partial.len() < LENGTH {
                let missing = LENGTH - self.partial.len();
                let (head, rest) = bytes.split_at(missing.min(bytes.len()));
                self.partial.extend_from_slice(head);
                bytes = rest;
            }
            let Some(head) = self.partial.first_chunk::<LENGTH>() else {
                return Ok(complete);
            };
            let (kind, length) = Kind::of_head(*head)?;
            // Grows with what arrives, not with what is announced.
            let missing = LENGTH + length - self.partial.len();
            let (body, rest) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(body);
            bytes = rest;
            if body.len() < missing {
                return Ok(complete);
            }
            let mut message = std::mem::take(&mut self.partial);
            message.drain(..LENGTH);
            complete.push((kind, Message::from(message)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `sizes` across and gives what arrived, with the number of pieces.
    fn across(sizes: &[usize]) -> (Vec<usize>, u32) {
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        let message = |size: &usize| Message::from(vec![(*size % 251) as u8; *size]);
        for size in sizes {
            outbox.push(Kind::Message, message(size)).unwrap();
        }
        let (mut arrived, mut pieces) = (Vec::new(), 0);
        while let Some(piece) = outbox.next_piece() {
            assert!(piece.len() <= PIECE);
            pieces += 1;
            outbox.took(1);
            for (_, message) in inbox.piece(&piece).unwrap() {
                let size = message.0.len();
                assert!(message.0.iter().all(|&byte| byte == (size % 251) as u8));
                arrived.push(size);
            }
        }
        assert!(outbox.is_empty() && outbox.queued() == 0 && inbox.partial().is_empty());
        (arrived, pieces)
    }

    #[test]
    fn messages_of_all_sizes_arrive_in_order() {
        let cases: [&[usize]; 6] = [
            &[0],
            &[0, 0, 1, 2, 3],
            &[PIECE - LENGTH, 1],
            &[PIECE - 1, PIECE, PIECE + 1, 0, 5],
            &[PIECE - LENGTH - 2, 7, PIECE * 3],
            &[10 * 1024 * 1024, 1],
        ];
        for sizes in cases {
            assert_eq!(across(sizes).0, sizes);
        }
        // Around every border of a piece.
        for first in PIECE - 2 * LENGTH..PIECE + 2 {
            assert_eq!(across(&[first, 3, 0]).0, [first, 3, 0]);
        }
    }

    #[test]
    fn small_messages_share_a_piece() {
        let (arrived, pieces) = across(&[12; 10_000]);
        assert_eq!(arrived.len(), 10_000);
        assert_eq!(pieces, 10_000 * 16 / PIECE as u32 + 1);
    }

    #[test]
    fn what_waits_takes_little_more_than_its_bytes() {
        for size in [0, 1, 30, COPIED, COPIED + 1, 3000] {
            let mut outbox = Outbox::default();
            let mut bytes = 0;
            while bytes < 64 * PIECE {
                let message = Message::from(vec![1; size]);
                bytes += cost(&message);
                outbox.push(Kind::Publish, message).unwrap();
            }
            let part = size_of::<Vec<u8>>() + OVERHEAD;
            let held: usize = outbox.stream.iter().map(|one| one.capacity() + part).sum();
            assert!(held <= bytes * 5 / 2 + PIECE, "{size}: {held} for {bytes}");
            assert_eq!(outbox.queued(), bytes);
        }
    }

    #[test]
    fn every_cut_of_the_stream_is_the_same_stream() {
        let mut outbox = Outbox::default();
        for text in ["", "a", "some more"] {
            outbox.push(Kind::Message, Message::from(text)).unwrap();
        }
        let stream = outbox.next_piece().unwrap();
        for cut in 0..=stream.len() {
            let mut inbox = Inbox::default();
            let mut arrived = inbox.piece(&stream[..cut]).unwrap();
            let mut resumed = Inbox::resumed(inbox.partial().to_vec());
            arrived.extend(resumed.piece(&stream[cut..]).unwrap());
            let texts: Vec<_> = arrived.iter().map(|(_, one)| one.text().unwrap()).collect();
            assert_eq!(texts, ["", "a", "some more"], "cut at {cut}");
        }
    }

    #[test]
    fn the_window_holds_until_pieces_are_taken() {
        let mut outbox = Outbox::default();
        assert_eq!(
            outbox.push(Kind::Message, Message::from(vec![0; 10])),
            Ok(true)
        );
        assert_eq!(
            outbox.push(Kind::Message, Message::from(vec![0; PIECE * 10])),
            Ok(false)
        );
        let sent = std::iter::from_fn(|| outbox.next_piece()).count();
        assert_eq!(sent, WINDOW as usize);
        assert!(!outbox.has_piece());
        outbox.took(2);
        let sent = std::iter::from_fn(|| outbox.next_piece()).count();
        assert_eq!(sent, 2);
        let left = outbox.queued();
        let (rest, under_way) = outbox.parts();
        assert_eq!((rest.len(), under_way), (left, WINDOW));
        let mut resumed = Outbox::resumed(rest, left, under_way);
        assert!(!resumed.has_piece());
        resumed.took(WINDOW);
        assert_eq!(resumed.next_piece(), {
            outbox.took(WINDOW);
            outbox.next_piece()
        });
    }

    #[test]
    fn what_is_too_much_comes_back() {
        let mut outbox = Outbox::default();
        let large = Message::from(vec![0; MAX_MESSAGE + 1]);
        let back = outbox.push(Kind::Message, large.clone()).unwrap_err();
        assert_eq!(back, SendError::TooLarge(large));
        for _ in 0..2 {
            outbox
                .push(Kind::Message, Message::from(vec![0; MAX_MESSAGE]))
                .unwrap();
        }
        let back = outbox
            .push(Kind::Message, Message::from("late"))
            .unwrap_err();
        assert_eq!(back, SendError::Full(Message::from("late")));
        assert!(back.to_string().contains("keep up"));
    }

    #[test]
    fn kinds_share_the_stream() {
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        let large = Message::from(vec![7; MAX_MESSAGE]);
        outbox.push(Kind::Message, Message::from("a")).unwrap();
        outbox.push(Kind::Broadcast, large.clone()).unwrap();
        outbox.push(Kind::Publish, Message::from("b")).unwrap();
        let mut arrived = Vec::new();
        while let Some(piece) = outbox.next_piece() {
            outbox.took(1);
            arrived.extend(inbox.piece(&piece).unwrap());
        }
        let expected = [
            (Kind::Message, Message::from("a")),
            (Kind::Broadcast, large),
            (Kind::Publish, Message::from("b")),
        ];
        assert!(arrived == expected);
    }

    #[test]
    fn only_messages_are_waited_for() {
        let mut outbox = Outbox::default();
        let large = || Message::from(vec![0; 2 * PIECE]);
        outbox.push(Kind::Publish, large()).unwrap();
        assert_eq!(outbox.awaited(), 0);
        outbox.push(Kind::Message, Message::from("a")).unwrap();
        outbox.push(Kind::Broadcast, large()).unwrap();
        assert_eq!(outbox.awaited(), LENGTH + 2 * PIECE + LENGTH + 1);
        let (rest, under_way) = outbox.parts();
        let mut resumed = Outbox::resumed(rest, outbox.awaited(), under_way);
        while resumed.awaited() > 0 {
            assert!(resumed.next_piece().is_some());
        }
        assert_eq!(resumed.queued(), outbox.queued() - 3 * PIECE);
    }

    #[test]
    fn an_absurd_length_or_kind_is_an_error() {
        let absurd = [u32::MAX, MAX_MESSAGE as u32 + 1, 3 << KIND_SHIFT];
        for word in absurd {
            assert!(Inbox::default().piece(&word.to_le_bytes()).is_err());
        }
    }
}
