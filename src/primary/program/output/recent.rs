//! The last lines, for whoever asks later what was written.

use crate::worker::WorkerId;
use std::collections::VecDeque;

/// What is kept at most.
const MOST_LINES: usize = 500;
const MOST_BYTES: usize = 64 * 1024;

/// The last lines, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    text: VecDeque<u8>,
    /// Whose each is, and how long with its end.
    lines: VecDeque<(WorkerId, usize)>,
}

impl Recent {
    /// Adds the lines of `batch`, each of which has its end.
    pub(super) fn add(&mut self, worker: WorkerId, batch: &[u8]) {
        for line in batch.split_inclusive(|&byte| byte == b'\n') {
            self.text.extend(line);
            self.lines.push_back((worker, line.len()));
            while self.lines.len() > MOST_LINES || self.text.len() > MOST_BYTES {
                let Some((_, length)) = self.lines.pop_front() else {
                    break;
                };
                self.text.drain(..length);
            }
        }
    }

    /// All of them, and whose each is.
    pub(super) fn all(&self) -> impl Iterator<Item = (WorkerId, Vec<u8>)> {
        let mut begin = 0;
        self.lines.iter().map(move |&(id, length)| {
            let line = begin..begin + length;
            begin = line.end;
            (id, self.text.range(line).copied().collect())
        })
    }

    /// The last lines, of one worker or of all, and so many at most.
    pub(super) fn last(&self, most: usize, worker: Option<WorkerId>) -> Vec<u8> {
        let (mut end, mut found) = (self.text.len(), Vec::new());
        for &(id, length) in self.lines.iter().rev() {
            if found.len() == most {
                break;
            }
            if worker.is_none_or(|worker| worker == id) {
                found.push(end - length..end);
            }
            end -= length;
        }
        let found = found.into_iter().rev();
        found
            .flat_map(|line| self.text.range(line))
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: WorkerId = WorkerId(1);
    const TWO: WorkerId = WorkerId(2);

    #[test]
    fn the_last_lines_of_one_or_of_all() {
        let mut recent = Recent::default();
        recent.add(ONE, b"1| a\n1| b\n");
        recent.add(TWO, b"2| c\n");
        recent.add(ONE, b"1| d\n");
        let last = |most, worker| String::from_utf8(recent.last(most, worker)).unwrap();
        assert_eq!(last(usize::MAX, None), "1| a\n1| b\n2| c\n1| d\n");
        assert_eq!(last(2, None), "2| c\n1| d\n");
        assert_eq!(last(2, Some(ONE)), "1| b\n1| d\n");
        assert_eq!(last(1, Some(TWO)), "2| c\n");
        assert_eq!(last(9, Some(WorkerId(3))), "");
        assert_eq!(last(0, None), "");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut recent = Recent::default();
        for n in 0..2000 {
            recent.add(ONE, format!("{n}\n").as_bytes());
        }
        let all = recent.last(usize::MAX, None);
        assert_eq!(
            all.iter().filter(|&&byte| byte == b'\n').count(),
            MOST_LINES
        );
        assert!(all.starts_with(b"1500\n") && all.ends_with(b"1999\n"));
        for _ in 0..100 {
            recent.add(ONE, &[&[b'x'; 8192][..], b"\n"].concat());
        }
        assert_eq!((recent.lines.len(), recent.text.len()), (7, 7 * 8193));
        assert!(recent.text.capacity() <= 2 * MOST_BYTES + 8193);
    }
}
