//! Random numbers from the kernel. Owns nothing: no state that a fork could double.

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
}
