//! What workers wrote, told to those who ask at the control socket.

use super::super::super::Primary;
use super::Output;
use super::style::{count, notice};
use crate::app::{Response, Sender, Unsent};
use crate::worker::WorkerId;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::primary) struct Wish {
    /// So many of the last lines, at most.
    pub(in crate::primary) lines: usize,
    /// Of one worker alone.
    pub(in crate::primary) worker: Option<WorkerId>,
    /// And those that come.
    pub(in crate::primary) follow: bool,
}

/// Somebody who is told lines as they come.
#[derive(Debug)]
pub(super) struct Follower {
    feed: Sender,
    worker: Option<WorkerId>,
    /// Lines that there was no room for, and that it has not been told of.
    lost: u64,
}

impl Follower {
    /// Tells it the lines of `batch`, if there is room; false when nobody hears them any more.
    fn tell(&mut self, batch: &[u8]) -> bool {
        let text = match self.lost {
            0 => batch.to_vec(),
            lost => [&notice(lost, "they were not read in time")[..], batch].concat(),
        };
        match self.feed.try_send(text) {
            Ok(()) => self.lost = 0,
            Err(Unsent::Full) => self.lost += count(batch),
            Err(Unsent::Gone) => return false,
        }
        true
    }
}

impl Output {
    /// Tells those who follow the lines of `worker`.
    pub(super) fn tell_followers(&mut self, worker: WorkerId, batch: &[u8]) {
        self.followers.retain_mut(|follower| {
            let wanted = follower.worker.is_none_or(|one| one == worker);
            if wanted {
                follower.tell(batch)
            } else {
                !follower.feed.is_closed()
            }
        });
    }

    /// The answer to a wish.
    fn answer(&mut self, wish: Wish) -> Response {
        let last = self.recent.last(wish.lines, wish.worker);
        let response = if wish.follow {
            self.followers.retain(|follower| !follower.feed.is_closed());
            let (feed, response) = Response::channel();
            // Nothing has been sent yet, so there is room.
            let _ = feed.try_send(last);
            self.followers.push(Follower {
                feed,
                worker: wish.worker,
                lost: 0,
            });
            response
        } else {
            Response::bytes(last)
        };
        // No charset: programs write what they like.
        response
            .header("Content-Type", "text/plain")
            .header("Cache-Control", "no-store")
            .nosniff()
    }
}

impl Primary {
    /// What workers wrote; nothing where they are no programs, and write to where the primary does.
    pub(in crate::primary) fn told_output(&mut self, wish: Wish) -> Option<Response> {
        Some(self.output.as_mut()?.answer(wish))
    }

    /// Ends the answers to those who follow.
    pub(in crate::primary) fn end_followers(&mut self) {
        if let Some(output) = &mut self.output {
            output.followers.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Program;
    use super::super::Source;
    use super::*;
    use crate::app::{Body, Fed, Feed};
    use crate::primary::Protocol;
    use std::time::Instant;

    fn output() -> Output {
        let program = Program::new("true", Protocol::Sockets);
        let program = program.output("/dev/null").error("/dev/null");
        Output::open(&program.output, None).unwrap()
    }

    fn follow(output: &mut Output, lines: usize, worker: Option<WorkerId>) -> Feed {
        let wish = Wish {
            lines,
            worker,
            follow: true,
        };
        match output.answer(wish).into_parts().0 {
            Body::Feed(feed) => feed,
            body => panic!("{body:?}"),
        }
    }

    fn told(feed: &mut Feed) -> String {
        let mut text = Vec::new();
        while let Fed::Piece(piece) = feed.take() {
            text.extend(piece);
        }
        String::from_utf8(text).unwrap()
    }

    fn write(output: &mut Output, worker: u32, text: &str) {
        let worker = WorkerId(worker);
        let source = Source { worker, stream: 0 };
        output.take(source, text.as_bytes(), false, Instant::now());
    }

    #[test]
    fn lines_are_told_as_they_come() {
        let mut output = output();
        write(&mut output, 1, "a\nb\n");
        let mut all = follow(&mut output, 1, None);
        let mut second = follow(&mut output, 9, Some(WorkerId(2)));
        write(&mut output, 2, "c\nd");
        write(&mut output, 1, "e\n");
        assert_eq!(told(&mut all), "1| b\n2| c\n1| e\n");
        assert_eq!(told(&mut second), "2| c\n");
        drop(second);
        write(&mut output, 1, "f\n");
        assert_eq!(output.followers.len(), 1, "who has gone is forgotten");
        output.followers.clear();
        assert_eq!(told(&mut all), "1| f\n");
        assert_eq!(all.take(), Fed::End);
    }

    #[test]
    fn a_slow_reader_is_told_what_it_lost() {
        let mut output = output();
        let mut slow = follow(&mut output, 0, None);
        let line = "x".repeat(8000) + "\n";
        for _ in 0..1000 {
            write(&mut output, 1, &line);
        }
        let told_first = count(told(&mut slow).as_bytes());
        assert!(told_first < 200, "no more than may wait for a client");
        write(&mut output, 1, "end\n");
        let lost = 1000 - told_first;
        let expected =
            format!("mcluster: {lost} lines are lost here: they were not read in time\n1| end\n");
        assert_eq!(told(&mut slow), expected);
    }
}
