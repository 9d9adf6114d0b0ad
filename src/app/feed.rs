//! A body whose pieces come from outside while it is being sent.
//!
//! Owns how much may wait for a client, and who waits for whom: [`Sender`] is its maker's end,
//! [`Feed`] the connection's.

use super::reply::LONGEST;
use crate::net::{Line, on_loop};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What may wait for a client before [`Sender::send`] waits as well.
const HIGH_WATER: usize = 64 * 1024;

/// What may wait at all.
const MOST: usize = 1024 * 1024;

/// The shortest silence that may call for a sign of life: less would be a busy loop.
const SHORTEST: Duration = Duration::from_millis(10);

/// A silence that a loop can wait for, and a clock add.
pub(super) fn bearable(silence: Duration) -> Duration {
    silence.clamp(SHORTEST, LONGEST)
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is complete.
    Whole,
    /// Its maker gave it up.
    Cut,
}

#[derive(Debug, Default)]
struct Waiting {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    end: Option<End>,
    /// Nobody will take any more.
    gone: bool,
    line: Option<Line>,
}

/// What both ends share.
#[derive(Debug, Default)]
struct Channel {
    waiting: Mutex<Waiting>,
    /// There is room again, or there never will be.
    room: Condvar,
}

impl Channel {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that could panic happens under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        let mut waiting = self.waiting();
        waiting.end.get_or_insert(end);
        let line = waiting.line.clone();
        drop(waiting);
        if let Some(line) = line {
            line.ring();
        }
    }
}

/// Why a piece was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsent {
    /// The client is gone, or the body has been ended.
    Gone,
    /// A megabyte waits for the client, and this thread must not wait for it.
    Full,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the client is gone, or the body has ended",
            Self::Full => "the client does not take what waits for it",
        })
    }
}

impl std::error::Error for Unsent {}

/// The last sender, when it is dropped, ends the body.
#[derive(Debug)]
struct Maker(Arc<Channel>);

impl Drop for Maker {
    fn drop(&mut self) {
        // The pieces of a thread that panicked must not look like a whole answer.
        let cut = std::thread::panicking();
        self.0.end(if cut { End::Cut } else { End::Whole });
    }
}

/// Feeds the body of an answer, from any thread; made by
/// [`Response::channel`](crate::Response::channel). Clones feed the same body, which ends when the
/// last one is dropped.
///
/// # Examples
///
/// ```
/// use mcluster::{App, Response};
///
/// let app = App::new().get("/count", |_| {
///     let (sender, response) = Response::channel();
///     std::thread::spawn(move || {
///         for n in 1..=3 {
///             if sender.send(format!("{n}\n")).is_err() {
///                 break; // The client is gone.
///             }
///         }
///     });
///     response
/// });
/// # assert!(app.check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Sender(Arc<Maker>);

/// The connection's end.
#[derive(Debug)]
pub struct Feed {
    channel: Arc<Channel>,
    /// What to send when there has been nothing for so long.
    heartbeat: Option<(Duration, &'static [u8])>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut waiting = self.channel.waiting();
        waiting.gone = true;
        waiting.line = None;
        waiting.pieces = VecDeque::new();
        waiting.bytes = 0;
        drop(waiting);
        self.channel.room.notify_all();
    }
}

/// What a feed has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    Piece(Vec<u8>),
    NothingYet,
    /// The body is complete.
    End,
    /// It will never be.
    Cut,
}

/// Both ends of a body.
pub(crate) fn channel(heartbeat: Option<(Duration, &'static [u8])>) -> (Sender, Feed) {
    let channel = Arc::new(Channel::default());
    let feed = Feed {
        channel: Arc::clone(&channel),
        heartbeat,
    };
    (Sender(Arc::new(Maker(channel))), feed)
}

impl Sender {
    /// Sends a piece. While 64 KiB wait for the client this waits as well, which lets a slow client
    /// slow its maker down; but never on a worker's loop, nor before the answer has been
    /// returned by its handler.
    ///
    /// # Errors
    ///
    /// [`Unsent::Gone`] when the client is gone; [`Unsent::Full`] where it may not wait, and a
    /// megabyte does already.
    pub fn send(&self, piece: impl Into<Vec<u8>>) -> Result<(), Unsent> {
        self.put(piece.into(), true)
    }

    /// The same, but it never waits.
    ///
    /// # Errors
    ///
    /// As [`Sender::send`].
    pub fn try_send(&self, piece: impl Into<Vec<u8>>) -> Result<(), Unsent> {
        self.put(piece.into(), false)
    }

    fn put(&self, piece: Vec<u8>, may_wait: bool) -> Result<(), Unsent> {
        let channel = &self.0.0;
        let mut waiting = channel.waiting();
        let may_wait = may_wait && waiting.line.is_some() && !on_loop();
        while may_wait && waiting.bytes >= HIGH_WATER && !waiting.gone && waiting.end.is_none() {
            let woken = channel.room.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.gone || waiting.end.is_some() {
            return Err(Unsent::Gone);
        }
        if piece.is_empty() {
            return Ok(());
        }
        if !may_wait && waiting.bytes > 0 && waiting.bytes + piece.len() > MOST {
            return Err(Unsent::Full);
        }
        waiting.bytes += piece.len();
        waiting.pieces.push_back(piece);
        let line = waiting.line.clone();
        drop(waiting);
        if let Some(line) = line {
            line.ring();
        }
        Ok(())
    }

    /// Whether nothing can be sent any more: the client is gone, or the body has been ended.
    pub fn is_closed(&self) -> bool {
        let waiting = self.0.0.waiting();
        waiting.gone || waiting.end.is_some()
    }

    /// Ends the body, complete.
    pub fn close(&self) {
        self.0.0.end(End::Whole);
    }

    /// Ends the body where it is, so that the client can tell that it is not complete.
    pub fn abort(&self) {
        self.0.0.end(End::Cut);
    }
}

impl Feed {
    /// Has `line` rung whenever there is something new.
    pub(crate) fn attach(&mut self, line: Line) {
        self.channel.waiting().line = Some(line);
    }

    /// The next piece.
    pub(crate) fn take(&mut self) -> Fed {
        let mut waiting = self.channel.waiting();
        let Some(piece) = waiting.pieces.pop_front() else {
            return match waiting.end {
                None => Fed::NothingYet,
                Some(End::Whole) => Fed::End,
                Some(End::Cut) => Fed::Cut,
            };
        };
        let was = waiting.bytes;
        waiting.bytes -= piece.len();
        let room = was >= HIGH_WATER && waiting.bytes < HIGH_WATER;
        drop(waiting);
        if room {
            self.channel.room.notify_all();
        }
        Fed::Piece(piece)
    }

    /// What to send after how much silence.
    pub(crate) fn heartbeat(&self) -> Option<(Duration, &'static [u8])> {
        self.heartbeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Mailbox;

    fn piece(feed: &mut Feed) -> Option<Vec<u8>> {
        match feed.take() {
            Fed::Piece(piece) => Some(piece),
            _ => None,
        }
    }

    #[test]
    fn pieces_come_in_order_until_the_end() {
        let (sender, mut feed) = channel(None);
        assert_eq!(feed.take(), Fed::NothingYet);
        for text in ["one", "", "two"] {
            assert_eq!(sender.send(text), Ok(()));
        }
        let other = sender.clone();
        drop(sender);
        assert_eq!(piece(&mut feed).as_deref(), Some(&b"one"[..]));
        other.close();
        assert_eq!(other.send("three"), Err(Unsent::Gone));
        assert!(other.is_closed());
        assert_eq!(piece(&mut feed).as_deref(), Some(&b"two"[..]));
        assert_eq!(feed.take(), Fed::End);
    }

    #[test]
    fn the_last_sender_ends_the_body_and_a_panic_cuts_it() {
        let (sender, mut feed) = channel(None);
        drop(sender.clone());
        assert_eq!(feed.take(), Fed::NothingYet);
        drop(sender);
        assert_eq!(feed.take(), Fed::End);
        let (sender, mut feed) = channel(None);
        let failed = std::thread::spawn(move || {
            let _sender = sender;
            panic!("in the middle");
        });
        assert!(failed.join().is_err());
        assert_eq!(feed.take(), Fed::Cut);
        let (sender, mut feed) = channel(None);
        sender.abort();
        assert_eq!(feed.take(), Fed::Cut);
    }

    #[test]
    fn a_loop_never_waits_for_itself() {
        let mailbox = Mailbox::new(None);
        for attached in [false, true] {
            let (sender, mut feed) = channel(None);
            if attached {
                feed.attach(mailbox.line(1));
            }
            let quarter = vec![0; MOST / 4];
            for _ in 0..4 {
                assert_eq!(sender.send(quarter.clone()), Ok(()));
            }
            assert_eq!(sender.send("x"), Err(Unsent::Full));
            assert_eq!(sender.try_send("x"), Err(Unsent::Full));
            assert!(!sender.is_closed());
            assert!(piece(&mut feed).is_some());
            assert_eq!(sender.send("x"), Ok(()));
        }
    }

    #[test]
    fn a_maker_on_another_thread_waits_for_room_and_not_for_the_gone() {
        let mailbox = Mailbox::new(None);
        let (sender, mut feed) = channel(None);
        feed.attach(mailbox.line(1));
        let maker = std::thread::spawn(move || {
            let mut sent = 0;
            while sender.send(vec![0; HIGH_WATER / 2]).is_ok() {
                sent += 1;
            }
            sent
        });
        let mut taken = 0;
        while taken < 10 {
            match feed.take() {
                Fed::Piece(_) => taken += 1,
                _ => std::thread::yield_now(),
            }
            assert!(feed.channel.waiting().bytes <= 2 * HIGH_WATER);
        }
        drop(feed);
        let sent = maker.join().unwrap();
        assert!((10..=14).contains(&sent), "{sent}");
    }
}
