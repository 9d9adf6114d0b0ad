//! The listening sockets that a service manager hands over, as sd_listen_fds(3) has it: which
//! descriptors they are. Taking them is left to `Listener::inherited`.

use std::env;
use std::ops::Range;
use std::os::fd::RawFd;

use super::super::process::{clear_variables, pid};

/// The first descriptor that socket activation hands over (`SD_LISTEN_FDS_START`).
const ACTIVATION_START: RawFd = 3;

/// More descriptors than this are taken for a mistake.
const ACTIVATION_MAX: RawFd = 4096;

/// The descriptors that a service manager started this program with; see sd_listen_fds(3). None
/// when there is no such manager, or when they were meant for another process.
pub(crate) fn activation_fds() -> Vec<RawFd> {
    let variable = |name| env::var(name).unwrap_or_default();
    parse_activation(
        &variable("LISTEN_PID"),
        &variable("LISTEN_FDS"),
        pid().as_raw(),
    )
    .collect()
}

fn parse_activation(listen_pid: &str, listen_fds: &str, own_pid: i32) -> Range<RawFd> {
    let for_us = listen_pid.parse() == Ok(own_pid);
    let count = listen_fds.parse().unwrap_or(0);
    let valid = for_us && (1..=ACTIVATION_MAX).contains(&count);
    ACTIVATION_START..ACTIVATION_START + if valid { count } else { 0 }
}

/// Removes what [`activation_fds`] reads, so that programs executed later do not take it for
/// theirs. Does nothing in a process with several threads, where one could be reading the
/// environment.
pub(crate) fn clear_activation_env() {
    clear_variables(&["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activation_is_for_one_process() {
        let cases = [
            ("70", "2", 3..5),
            ("70", "1", 3..4),
            ("70", "0", 3..3),
            ("70", "-1", 3..3),
            ("70", "many", 3..3),
            ("70", "2000000000", 3..3),
            ("71", "2", 3..3),
            ("", "2", 3..3),
            ("70", "", 3..3),
        ];
        for (pid, count, fds) in cases {
            assert_eq!(
                parse_activation(pid, count, 70),
                fds,
                "LISTEN_PID={pid} LISTEN_FDS={count}"
            );
        }
        // libtest has threads, so this must leave the environment alone.
        let before = env::vars_os().count();
        clear_activation_env();
        assert_eq!(env::vars_os().count(), before);
    }
}
