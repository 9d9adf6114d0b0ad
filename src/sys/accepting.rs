//! Whether a program waits for connections at a listening socket, found in `/proc` without asking
//! it: see proc_pid_syscall(5) and `fdinfo` in proc_pid_fdinfo(5).
//!
//! Only what is so now. How often to look, and what follows, is left to whoever asks.

use crate::sorted::SortedSet;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::process::Pid;

/// Processes, threads of one, and entries of a set that are looked at: more are not.
const MOST_PROCESSES: usize = 64;
const MOST_THREADS: usize = 256;
const MOST_POLLED: u64 = 1024;

/// The number of a socket, which all its copies in all processes share.
///
/// # Errors
///
/// `InvalidInput` when it is no socket; those of fstat(2).
pub(crate) fn inode(socket: impl AsFd) -> io::Result<u64> {
    let link = format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd());
    match pointed_to(Path::new(&link)) {
        Some(Target::Socket(inode)) => Ok(inode),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Whether a process, or one that descends from it, waits for connections at one of the sockets with
/// the given `inodes`: in accept(2), poll(2) or select(2), or by a set of epoll(7). What waits by
/// io_uring(7) is not found.
///
/// # Errors
///
/// `NotFound` when there is no such process; `PermissionDenied` when this one may not look at it.
pub(crate) fn accepts(pid: Pid, inodes: &[u64]) -> io::Result<bool> {
    if one_accepts(pid.as_raw(), inodes)? {
        return Ok(true);
    }
    let mut queue: VecDeque<i32> = children(pid.as_raw()).into();
    let mut seen = 0;
    while let Some(child) = queue.pop_front().filter(|_| seen < MOST_PROCESSES) {
        seen += 1;
        // It may have ended by now.
        if one_accepts(child, inodes).unwrap_or(false) {
            return Ok(true);
        }
        queue.extend(children(child));
    }
    Ok(false)
}

/// What a descriptor is.
enum Target {
    Socket(u64),
    Epoll,
}

fn pointed_to(link: &Path) -> Option<Target> {
    let target = fs::read_link(link).ok()?;
    let target = target.to_str()?;
    if target == "anon_inode:[eventpoll]" {
        return Some(Target::Epoll);
    }
    let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
    Some(Target::Socket(inode.parse().ok()?))
}

fn one_accepts(pid: i32, inodes: &[u64]) -> io::Result<bool> {
    let mut sockets = SortedSet::new();
    let mut sets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        match (pointed_to(&entry.path()), number) {
            (Some(Target::Socket(inode)), Some(number)) if inodes.contains(&inode) => {
                sockets.insert(number);
            }
            (Some(Target::Epoll), Some(number)) => sets.push(number),
            _ => {}
        }
    }
    if sockets.is_empty() {
        return Ok(false);
    }
    let in_set = |number: &u64| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"));
        info.is_ok_and(|info| has_socket(&info, inodes, &sockets))
    };
    if sets.iter().any(in_set) {
        return Ok(true);
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    for thread in threads.take(MOST_THREADS) {
        let call = fs::read_to_string(thread.path().join("syscall"));
        if call.is_ok_and(|call| waits(pid, &call, &sockets)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The children of all threads of a process. None where the kernel does not tell.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let of_thread = |path: &Path| fs::read_to_string(path.join("children")).unwrap_or_default();
    let mut children = Vec::new();
    for thread in threads.flatten().take(MOST_THREADS) {
        let text = of_thread(&thread.path());
        let numbers = text
            .split_whitespace()
            .map_while(|pid| pid.parse::<i32>().ok());
        children.extend(numbers.take(MOST_PROCESSES));
    }
    children
}

/// Whether a set of epoll(7) waits for one of the sockets to be readable, by what `fdinfo` says.
fn has_socket(info: &str, inodes: &[u64], sockets: &SortedSet<u64>) -> bool {
    info.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |name: &str| {
            // `ino:1f` in one word, `tfd:` and its number in two.
            let mut here = words.iter().enumerate();
            here.find_map(|(at, word)| match word.strip_prefix(name)? {
                "" => words.get(at + 1).copied(),
                value => Some(value),
            })
        };
        let hex = |name| u64::from_str_radix(value(name)?, 16).ok();
        let Some(number) = value("tfd:").and_then(|number| number.parse().ok()) else {
            return false;
        };
        let readable = hex("events:").is_some_and(|events| events & libc::EPOLLIN as u64 != 0);
        // Before Linux 4.13 without the inode.
        let ours = match hex("ino:") {
            Some(inode) => inodes.contains(&inode),
            None => sockets.contains(&number),
        };
        readable && ours
    })
}

/// Whether a thread is in a system call that waits for one of the sockets.
fn waits(pid: i32, call: &str, sockets: &SortedSet<u64>) -> bool {
    let mut words = call.split_whitespace();
    // `running`, or -1 outside of a call.
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else {
        return false;
    };
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let arguments: Vec<u64> = words.map_while(hex).collect();
    let &[first, second, ..] = arguments.as_slice() else {
        return false;
    };
    match call_of(number) {
        // The upper half of a number's register says nothing.
        Some(Call::Accept) => sockets.contains(&u64::from(first as u32)),
        Some(Call::Poll) => polls(pid, first, second, sockets),
        Some(Call::Select) => selects(pid, first, second, sockets),
        None => false,
    }
}

enum Call {
    Accept,
    Poll,
    Select,
}

fn call_of(number: i64) -> Option<Call> {
    match number {
        libc::SYS_accept | libc::SYS_accept4 => Some(Call::Accept),
        libc::SYS_ppoll => Some(Call::Poll),
        libc::SYS_pselect6 => Some(Call::Select),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll => Some(Call::Poll),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_select => Some(Call::Select),
        _ => None,
    }
}

/// A piece of another process's memory.
fn peek_memory(pid: i32, address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}

/// Whether one of `count` entries of poll(2) at `address` is for a socket to be readable.
fn polls(pid: i32, address: u64, count: u64, sockets: &SortedSet<u64>) -> bool {
    let length = count.min(MOST_POLLED) as usize * size_of::<libc::pollfd>();
    let bytes = peek_memory(pid, address, length).unwrap_or_default();
    let (entries, _) = bytes.as_chunks::<{ size_of::<libc::pollfd>() }>();
    entries.iter().any(|&[a, b, c, d, e, f, ..]| {
        let fd = u32::from_ne_bytes([a, b, c, d]);
        let events = i16::from_ne_bytes([e, f]);
        events & libc::POLLIN != 0 && sockets.contains(&u64::from(fd))
    })
}

/// Whether one of the sockets is among those below `count` that select(2) waits for by the set at
/// `address`.
fn selects(pid: i32, count: u64, address: u64, sockets: &SortedSet<u64>) -> bool {
    if address == 0 {
        return false;
    }
    // The set is of words, so its bytes are in order only where the lowest comes first.
    let length = (count.min(MOST_POLLED) as usize).div_ceil(8);
    let bytes = peek_memory(pid, address, length).unwrap_or_default();
    let is_set = |number: u64| {
        let byte = bytes.get((number / 8) as usize);
        number < count && byte.is_some_and(|byte| byte >> (number % 8) & 1 == 1)
    };
    cfg!(target_endian = "little") && sockets.iter().any(|number| is_set(*number))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::super::process::pid;
    use super::*;

    /// Panics unless this process is found waiting for `socket` within a bound of looks.
    fn found(inode: u64) {
        let found = (0..1_000_000).any(|_| {
            thread::yield_now();
            accepts(pid(), &[inode]).expect("ourselves")
        });
        assert!(found, "not found waiting");
    }

    fn waiting(wait: impl FnOnce(&TcpListener) + Send) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let number = inode(&listener).expect("a socket");
        assert!(!accepts(pid(), &[number]).expect("ourselves"));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(&listener));
            found(number);
            let _client = TcpStream::connect(listener.local_addr().expect("its own"));
            waiter.join().expect("no panic");
        });
        assert!(!accepts(pid(), &[number]).expect("ourselves"));
    }

    #[test]
    fn who_waits_in_accept_is_found() {
        // By another descriptor of the same socket.
        waiting(|listener| drop(listener.try_clone().map(|other| other.accept())));
    }

    #[test]
    fn who_waits_in_poll_is_found() {
        waiting(|listener| {
            let (other, _open) = io::pipe().expect("a pipe");
            let mut fds = [other.as_raw_fd(), listener.as_raw_fd()].map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            });
            // SAFETY: two entries, which outlive the call.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) };
            assert_eq!(ready, 1);
        });
    }

    #[test]
    fn who_waits_in_select_is_found() {
        waiting(|listener| {
            let fd = listener.as_raw_fd();
            let none = std::ptr::null_mut();
            // SAFETY: all zeros is an empty set; `fd` is far below FD_SETSIZE in tests, and the set
            // outlives the call.
            let ready = unsafe {
                let mut set: libc::fd_set = std::mem::zeroed();
                libc::FD_SET(fd, &raw mut set);
                libc::select(fd + 1, &raw mut set, none, none, std::ptr::null_mut())
            };
            assert_eq!(ready, 1);
        });
    }

    #[test]
    fn who_waits_by_epoll_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let number = inode(&listener).expect("a socket");
        let set = mio::Poll::new().expect("a set");
        let token = mio::Token(0);
        let source = listener.as_raw_fd();
        let mut source = mio::unix::SourceFd(&source);
        let registry = set.registry();
        registry
            .register(&mut source, token, mio::Interest::WRITABLE)
            .expect("a new one");
        assert!(!accepts(pid(), &[number]).expect("ourselves"));
        registry
            .reregister(&mut source, token, mio::Interest::READABLE)
            .expect("a known one");
        assert!(accepts(pid(), &[number]).expect("ourselves"));
        assert!(!accepts(pid(), &[number + 1_000_000]).expect("ourselves"));
    }

    #[test]
    fn nobody_is_not_found() {
        let nobody = accepts(Pid::from_raw(i32::MAX), &[1]);
        assert_eq!(nobody.expect_err("nobody").kind(), io::ErrorKind::NotFound);
        assert!(inode(io::pipe().expect("a pipe").0).is_err());
    }

    #[test]
    fn sets_and_calls_are_read() {
        let ours = SortedSet::from_iter([3]);
        let line = "tfd:        3 events:       19 data:  7 pos:0 ino:1f sdev:8\n";
        let info = format!("pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t9\n{line}");
        assert!(has_socket(&info, &[31], &ours));
        assert!(!has_socket(&info, &[9], &ours));
        assert!(has_socket("tfd: 3 events: 1 data: 7", &[], &ours));
        for bad in [
            "",
            "tfd:",
            "tfd: 3",
            "tfd: x events: 1",
            "tfd: 3 events: 4 ino:1f",
        ] {
            assert!(!has_socket(bad, &[31], &ours), "{bad:?}");
        }
        let accept = libc::SYS_accept4;
        assert!(waits(1, &format!("{accept} 0x3 0x0 0x0"), &ours));
        assert!(waits(1, &format!("{accept} 0xffffffff00000003 0x0"), &ours));
        for bad in ["running", "-1 0x3 0x0", "", "x", "1 0x3 0x0"] {
            assert!(!waits(1, bad, &ours), "{bad:?}");
        }
        assert!(!waits(1, &format!("{accept} 0x4 0x0"), &ours));
        assert!(!waits(1, &format!("{accept}"), &ours));
    }
}
