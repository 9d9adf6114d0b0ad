//! What a program has in memory without needing it: code that it called before, and free heap.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Lets go of the program's code, and that of its libraries, as far as it is in this process's memory:
/// what is called again comes back from the page cache (see `MADV_DONTNEED` in madvise(2)). Gives free
/// heap back to the system too; see malloc_trim(3).
///
/// For the border between two phases of a program that have little code in common.
///
/// # Errors
///
/// Those of reading `/proc/self/smaps`, and of madvise(2).
pub(crate) fn release_unused() -> io::Result<()> {
    for (start, length) in unchanged_code(&fs::read_to_string("/proc/self/smaps")?) {
        let Some(address) = NonNull::new(start as *mut c_void) else {
            continue;
        };
        // SAFETY: a private mapping of a file that cannot be written to and of which no page differs from
        // the file (see `unchanged_code`). Its pages can only come back with the bytes that they had: the
        // kernel lets nobody write to a file that is executed, and libraries are replaced, not rewritten.
        unsafe { madvise(address, length, MmapAdvise::MADV_DONTNEED) }?;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and locks what it looks at.
    unsafe {
        nix::libc::malloc_trim(0)
    };
    Ok(())
}

/// Where code of files is mapped of which this process has no pages of its own (as a debugger would make
/// them): starts and lengths.
fn unchanged_code(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut last = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some("0")) => found.extend(last.take()),
            (Some("Anonymous:"), _) => last = None,
            (Some(range), Some("r-xp")) => last = of_file(range, words.nth(2)),
            // The first line of another mapping.
            (Some(range), Some(_)) if !range.ends_with(':') => last = None,
            _ => {}
        }
    }
    found
}

/// A range, where an inode stands behind it.
fn of_file(range: &str, inode: Option<&str>) -> Option<(usize, usize)> {
    inode.filter(|inode| *inode != "0")?;
    let (start, end) = range.split_once('-')?;
    let number = |digits| usize::from_str_radix(digits, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_alone_and_only_unchanged() {
        let smaps = "\
1000-2000 r--p 00000000 08:00 7 /bin/program
Anonymous:             0 kB
2000-5000 r-xp 00001000 08:00 7 /bin/program
Rss:                  12 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
5000-6000 rw-p 00004000 08:00 7 /bin/program
Anonymous:             4 kB
7000-9000 r-xp 00000000 08:00 8 /lib/with a breakpoint
Anonymous:             4 kB
a000-b000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
c000-d000 r-xp 00000000 08:00 9 /lib/cut short
d000-e000 r--p 00000000 08:00 9 /lib/cut short
Anonymous:             0 kB
";
        assert_eq!(unchanged_code(smaps), [(0x2000, 0x3000)]);
        assert_eq!(unchanged_code("nonsense\n\n-\n"), []);
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        let smaps = fs::read_to_string("/proc/self/smaps").expect("of this process");
        assert!(!unchanged_code(&smaps).is_empty());
        release_unused().expect("nothing of it is locked");
        assert_eq!(format!("{:.3}", 2.0_f64.ln()), "0.693");
    }
}
