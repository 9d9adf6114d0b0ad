//! Moving a file aside when it has grown: `PATH` becomes `PATH.1`, that `PATH.2`, and so on.

use super::settings::Rotation;
use super::sink::open;
use crate::sys::privilege::Identity;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A file that is kept within its size.
#[derive(Debug)]
pub(super) struct Rotating {
    rotation: Rotation,
    size: u64,
    /// The size that it must not exceed: more than was asked for once moving it has failed.
    most: u64,
}

impl Rotating {
    pub(super) fn new(rotation: Rotation, size: u64) -> Self {
        let most = rotation.bytes;
        Self {
            rotation,
            size,
            most,
        }
    }

    /// It is another file now, of that size.
    pub(super) fn begin(&mut self, size: u64) {
        (self.size, self.most) = (size, self.rotation.bytes);
    }

    /// So many bytes were added.
    pub(super) fn grown(&mut self, bytes: usize) {
        self.size += bytes as u64;
    }

    /// How many bytes more it may have.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.most.saturating_sub(self.size)).unwrap_or(usize::MAX)
    }

    /// Moves `file` aside if it has no room for a line of `next` bytes; the one that lines go to
    /// from then on. Where that fails they stay where they are, and it is tried again when as much
    /// has come as was asked for.
    pub(super) fn make_room(
        &mut self,
        file: &File,
        path: &Path,
        next: usize,
        workers: Option<&Identity>,
    ) -> Option<File> {
        if self.size == 0 || next <= self.room() {
            return None;
        }
        // Somebody else may have cut it.
        self.size = file.metadata().map_or(self.size, |facts| facts.len());
        if self.size == 0 || next <= self.room() {
            return None;
        }
        match rotate(path, self.rotation.keep, workers) {
            Ok(file) => {
                self.begin(file.metadata().map_or(0, |facts| facts.len()));
                Some(file)
            }
            Err(error) => {
                log::error!("{} cannot be rotated: {error}", path.display());
                self.most = self.size.saturating_add(self.rotation.bytes);
                None
            }
        }
    }
}

/// Moves the file aside, and those that were before it; a new one in its place.
fn rotate(path: &Path, keep: u32, workers: Option<&Identity>) -> io::Result<File> {
    // Up to the first that is not there: whoever wants to keep a million has not all of them.
    let there = |number: &u32| fs::symlink_metadata(aside(path, *number)).is_ok();
    let last = (1..keep).take_while(there).last().unwrap_or(0);
    for number in (1..=last).rev() {
        fs::rename(aside(path, number), aside(path, number + 1))?;
    }
    let moved = match keep {
        0 => fs::remove_file(path),
        _ => fs::rename(path, aside(path, 1)),
    };
    match moved {
        // Somebody has moved it already.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    open(path, workers)
}

/// The name of one that was moved aside so many times.
fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::super::sink::Sink;
    use super::*;
    use crate::primary::program::output::testing::TempDir;
    use std::time::Instant;

    fn sink(path: &Path, bytes: u64, keep: u32) -> Sink {
        Sink::open(path, Some(Rotation { bytes, keep }), None).unwrap()
    }

    /// What is in the files, newest first; nothing where there is none.
    fn found(path: &Path) -> Vec<Option<String>> {
        let all = (0..5).map(|number| match number {
            0 => path.to_owned(),
            _ => aside(path, number),
        });
        all.map(|path| fs::read_to_string(path).ok()).collect()
    }

    fn some(texts: [&str; 5]) -> Vec<Option<String>> {
        let text = |text: &str| (text != "-").then(|| text.to_owned());
        texts.map(text).to_vec()
    }

    #[test]
    fn as_many_are_kept_as_were_asked_for() {
        let now = Instant::now();
        let cases: [(u32, [&str; 5]); 4] = [
            (0, ["7\n8\n", "-", "-", "-", "-"]),
            (1, ["7\n8\n", "4\n5\n6\n", "-", "-", "-"]),
            (2, ["7\n8\n", "4\n5\n6\n", "1\n2\n3\n", "-", "-"]),
            (
                u32::MAX,
                ["7\n8\n", "4\n5\n6\n", "1\n2\n3\n", "old..\n", "-"],
            ),
        ];
        for (keep, expected) in cases {
            for at_once in [true, false] {
                let place = TempDir::new();
                let path = place.join("log");
                fs::write(&path, "old..\n").unwrap();
                let mut sink = sink(&path, 6, keep);
                let text = "1\n2\n3\n4\n5\n6\n7\n8\n";
                match at_once {
                    true => sink.write(text.as_bytes(), None, now),
                    false => {
                        for line in text.split_inclusive('\n') {
                            sink.write(line.as_bytes(), None, now);
                        }
                    }
                }
                assert_eq!(found(&path), some(expected), "{keep} {at_once}");
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_has_a_file_of_its_own() {
        let place = TempDir::new();
        let path = place.join("log");
        let mut sink = sink(&path, 4, 3);
        sink.write(b"a\nlong line\nb\n", None, Instant::now());
        assert_eq!(found(&path), some(["b\n", "long line\n", "a\n", "-", "-"]));
    }

    #[test]
    fn what_cannot_be_moved_loses_no_lines() {
        let place = TempDir::new();
        let path = place.join("log");
        // A directory with something in it, which a file cannot take the place of.
        fs::create_dir_all(aside(&path, 1).join("full")).unwrap();
        let now = Instant::now();
        let mut sink = sink(&path, 4, 1);
        for line in ["1\n", "2\n", "3\n", "4\n"] {
            sink.write(line.as_bytes(), None, now);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n3\n4\n");
        fs::remove_dir_all(aside(&path, 1)).unwrap();
        sink.write(b"5\n", None, now);
        let expected = some(["5\n", "1\n2\n3\n4\n", "-", "-", "-"]);
        assert_eq!(found(&path), expected);
    }

    #[test]
    fn a_file_that_somebody_else_has_cut_or_moved_is_no_error() {
        let place = TempDir::new();
        let path = place.join("log");
        let now = Instant::now();
        let mut sink = sink(&path, 4, 2);
        sink.write(b"1\n2\n", None, now);
        fs::write(&path, "").unwrap();
        sink.write(b"3\n", None, now);
        assert_eq!(found(&path), some(["3\n", "-", "-", "-", "-"]));
        sink.write(b"4\n", None, now);
        fs::remove_file(&path).unwrap();
        sink.write(b"5\n", None, now);
        assert_eq!(found(&path), some(["5\n", "-", "-", "-", "-"]));
    }
}
