//! Why no worker was ever ready, for whoever has started them.
//!
//! Owns what is remembered for that: where the last worker that ended could not listen. What it
//! wrote last is with `output`.

use crate::ipc::{Ask, Refusal};
use crate::primary::{Error, Primary};
use crate::sorted::SortedMap;
use crate::worker::WorkerId;
use std::io;

/// So many lines are said of what a worker wrote.
const MOST_LINES: usize = 5;

/// Where workers could not listen.
#[derive(Debug, Default)]
pub(in crate::primary) struct Refusals {
    alive: SortedMap<WorkerId, (String, i32)>,
    /// That of the last one that has ended.
    last: Option<(String, i32)>,
    ended: Option<WorkerId>,
}

impl Refusals {
    /// A worker was refused a listener.
    pub(in crate::primary) fn note(&mut self, id: WorkerId, ask: &Ask, refusal: &Refusal) {
        if refusal.errno > 0 {
            self.alive.insert(id, (ask.to_string(), refusal.errno));
        }
    }

    /// A worker has ended.
    pub(in crate::primary) fn ends(&mut self, id: WorkerId) {
        self.last = self.alive.remove(&id);
        self.ended = Some(id);
    }
}

impl Primary {
    /// Why the cluster gives up, after so many deaths.
    pub(in crate::primary) fn hopeless(&mut self, deaths: u32) -> Error {
        let refusals = &mut self.programs.refusals;
        if let Some((address, errno)) = refusals.last.take() {
            let source = io::Error::from_raw_os_error(errno);
            return Error::Bind { address, source };
        }
        let mut last = std::mem::take(&mut self.last_exit);
        let written = self.output.as_ref().zip(refusals.ended);
        let written = written.map(|(output, id)| output.last_of(id));
        let said = cause(&String::from_utf8_lossy(&written.unwrap_or_default()));
        if !said.is_empty() {
            last = format!("{last}, and these lines: {said}");
        }
        Error::Crashing { deaths, last }
    }
}

/// What of the last lines says most, as one line: the last ones, or where Node has written a stack,
/// those before it.
fn cause(text: &str) -> String {
    let lines = text.lines();
    let lines: Vec<&str> = lines
        .map(|line| line.split_once("| ").map_or(line, |(_, line)| line))
        .collect();
    let is_stack = |line: &&str| line.starts_with("    at ");
    let end = lines.iter().rposition(is_stack).map(|last| {
        let before = lines[..last].iter().rposition(|line| !is_stack(line));
        before.map_or(0, |before| before + 1)
    });
    let lines = &lines[..end.unwrap_or(lines.len())];
    let said = lines.iter().map(|line| line.trim());
    let said: Vec<_> = said.filter(|line| !line.is_empty()).collect();
    let first = said.len().saturating_sub(MOST_LINES);
    said[first..].join(" | ").replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_say_most() {
        let cases = [
            ("", ""),
            ("1| a\n1| b\n", "a | b"),
            ("1| \u{1b}[31mred\n", "?[31mred"),
            ("1| 1\n1| 2\n1| 3\n1| 4\n1| 5\n1| 6\n", "2 | 3 | 4 | 5 | 6"),
            (
                "T 1| /a.js:1\nT 1| foo bar\nT 1|     ^^^\nT 1| \nT 1| SyntaxError: no\n\
                 T 1|     at one\nT 1|     at two\nT 1| \nT 1| Node.js v20\n",
                "/a.js:1 | foo bar | ^^^ | SyntaxError: no",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(cause(text), expected, "{text:?}");
        }
    }
}
