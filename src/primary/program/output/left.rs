//! What a primary leaves of its workers' output to the one that takes its place: lines that are not
//! whole, and those that are not written.

use super::split::Lines;
use super::{Output, Source};
use crate::worker::WorkerId;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What there is of no single stream.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::primary::program) struct Lasting {
    /// What was not written of stdout and stderr; nothing of the second where that goes to the same
    /// place.
    unwritten: [Vec<u8>; 2],
    /// The last lines, and whose each is.
    recent: Vec<(u32, Vec<u8>)>,
}

impl Output {
    /// What a worker has begun to write.
    pub(in crate::primary::program) fn partial(&self, worker: WorkerId) -> [Lines; 2] {
        [0, 1].map(|stream| {
            let source = Source { worker, stream };
            self.lines.get(&source).cloned().unwrap_or_default()
        })
    }

    /// Goes on with it.
    pub(in crate::primary::program) fn resume_partial(
        &mut self,
        worker: WorkerId,
        partial: [Lines; 2],
    ) {
        for (stream, lines) in partial.into_iter().enumerate() {
            self.lines.insert(Source { worker, stream }, lines);
        }
    }

    /// What nobody has read yet where lines go, and what may be asked for later.
    pub(in crate::primary::program) fn lasting(&self) -> Lasting {
        let [first, second] = self.to;
        let of = |sink: usize| self.sinks[sink].unwritten().to_vec();
        let second = match second == first {
            true => Vec::new(),
            false => of(second),
        };
        let recent = self.recent.all();
        Lasting {
            unwritten: [of(first), second],
            recent: recent.map(|(worker, line)| (worker.0, line)).collect(),
        }
    }

    /// Goes on with it.
    pub(in crate::primary::program) fn resume_lasting(&mut self, lasting: Lasting, now: Instant) {
        for (worker, line) in lasting.recent {
            self.recent.add(WorkerId(worker), &line);
        }
        for (to, bytes) in self.to.into_iter().zip(lasting.unwritten) {
            if !bytes.is_empty() {
                self.sinks[to].write(&bytes, self.workers.as_ref(), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::super::testing::TempDir;
    use super::*;
    use std::fs;

    #[test]
    fn lines_go_on_where_they_were() {
        let place = TempDir::new();
        let file = place.join("log");
        let wanted = Wanted {
            paths: [Some(file.clone()), Some(file.clone())],
            ..Wanted::default()
        };
        let now = Instant::now();
        let worker = WorkerId(3);
        let mut said = &b"one\ntwo\n\xffthree\n"[..];
        let mut output = Output::open(&wanted, None).unwrap();
        while let Some((byte, rest)) = said.split_first() {
            let source = Source { worker, stream: 1 };
            output.take(source, &[*byte], false, now);
            said = rest;
            let state = (output.partial(worker), output.lasting());
            let text = serde_json::to_vec(&state).unwrap();
            let (partial, lasting) = serde_json::from_slice(&text).unwrap();
            output = Output::open(&wanted, None).unwrap();
            output.resume_lasting(lasting, now);
            output.resume_partial(worker, partial);
        }
        let all = b"3| one\n3| two\n3| \xffthree\n";
        assert_eq!(fs::read(&file).unwrap(), all);
        assert_eq!(output.recent.last(usize::MAX, None), all);
    }
}
