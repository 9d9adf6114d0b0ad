//! Random numbers from the kernel. Owns nothing: no state that a fork could double.

use nix::errno::Errno;
use std::io;

/// Sixty-four bits that nobody can guess; what they are when the kernel has none yet, which happens
/// only while a machine starts, differs from process to process at least.
pub(crate) fn number() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is ours and as long as is said.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if got != bytes.len() as isize {
        let now = super::clock::monotonic().as_nanos() as u64;
        return now.rotate_left(32) ^ u64::from(std::process::id());
    }
    u64::from_ne_bytes(bytes)
}

/// Fills `bytes` with what nobody can guess, for secrets: waits until the kernel has such.
///
/// # Errors
///
/// As getrandom(2), which a kernel of ours does not fail.
#[cfg_attr(
    not(feature = "sessions"),
    allow(dead_code, reason = "sessions alone have secrets")
)]
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += super::retry(|| {
            // SAFETY: the buffer is ours and as long as is said.
            let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            Errno::result(got).map(|got| got as usize)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let mut all: Vec<_> = (0..64).map(|_| number()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 64);
    }

    #[test]
    fn all_bytes_are_filled() {
        let mut seen = [0u8; 1000];
        for _ in 0..8 {
            let mut bytes = [0u8; 1000];
            fill(&mut bytes).unwrap();
            seen.iter_mut()
                .zip(bytes)
                .for_each(|(sum, byte)| *sum |= byte);
        }
        // Each of them stays zero once in 2^64 times.
        assert!(seen.iter().all(|&byte| byte != 0));
    }
}
