//! Descriptors that travel between the bytes of a `SOCK_STREAM` socket; see `SCM_RIGHTS` in unix(7).
//!
//! There are no borders there but one: the kernel gives bytes that were sent with descriptors to one
//! read together with those of before, never with those of after. Which bytes a descriptor belongs to
//! is left to whoever calls.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::fds;

/// Sends as much as fits, a descriptor with the first byte, and says how much; see sendmsg(2). The
/// receiver gets a duplicate, and ours stays open. Does not wait, and raises no `SIGPIPE`.
///
/// # Errors
///
/// `InvalidInput` for no bytes, with which no descriptor can go; `WouldBlock` when nothing fits, or when
/// more descriptors are under way than this process may have open; `EPIPE` when the receiver is gone.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    with: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    if bytes.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "cannot send no bytes",
        ));
    }
    fds::post(fd, bytes, with.as_slice())
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes; 0 is the end.
    pub(crate) length: usize,
    /// Descriptors were there that could not be taken: more than [`fds::MAX_FDS`], or than this process
    /// may have open. They are closed.
    pub(crate) cut: bool,
}

/// Reads what is there, appending descriptors, close-on-exec, to `with`; see recvmsg(2). Does not wait.
///
/// # Errors
///
/// `WouldBlock` when nothing is there; `ECONNRESET` when the sender left with bytes of ours unread, once
/// all of its own are read.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    with: &mut Vec<OwnedFd>,
) -> io::Result<Piece> {
    let (length, flags) = fds::take(fd, buf, with)?;
    let cut = flags & libc::MSG_CTRUNC != 0;
    Ok(Piece { length, cut })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::super::{socket, testing};
    use super::*;

    #[test]
    fn a_descriptor_comes_with_its_first_byte_and_ends_a_read() {
        let (a, b) = socket::pair_stream().expect("a pair");
        let (pipe, _) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let link = testing::link_of(&pipe);
        assert_eq!(send(a.as_fd(), b"before ", None).expect("room"), 7);
        assert_eq!(
            send(a.as_fd(), b"with", Some(pipe.as_fd())).expect("room"),
            4
        );
        assert_eq!(send(a.as_fd(), b" after", None).expect("room"), 6);
        let (mut buf, mut with) = ([0; 64], vec![]);
        let mut seen = Vec::new();
        for expected in [1, 0] {
            let before = with.len();
            let piece = receive(b.as_fd(), &mut buf, &mut with).expect("bytes");
            assert!(!piece.cut);
            assert_eq!(with.len() - before, expected);
            seen.push(buf[..piece.length].to_vec());
        }
        assert_eq!(seen, [b"before with".to_vec(), b" after".to_vec()]);
        assert_eq!(testing::link_of(&with[0]), link);
        drop(with);
        assert_eq!(testing::open_count(&link), 1, "only ours is left");
        let nothing = receive(b.as_fd(), &mut buf, &mut vec![]).expect_err("all is read");
        assert!(socket::would_block(&nothing));
        drop(a);
        let end = receive(b.as_fd(), &mut buf, &mut vec![]).expect("the end");
        assert_eq!(end.length, 0);
        let gone = send(b.as_fd(), b"x", None).expect_err("nobody");
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let (a, b) = socket::pair_stream().expect("a pair");
        socket::set_send_buffer(a.as_fd(), 4096).expect("a socket");
        assert!(send(a.as_fd(), b"", None).is_err());
        let (pipe, _) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let large = vec![b'x'; 1 << 20];
        let sent = send(a.as_fd(), &large, Some(pipe.as_fd())).expect("room for some");
        assert!(sent < large.len());
        let full = send(a.as_fd(), &large, Some(pipe.as_fd())).expect_err("full");
        assert!(socket::would_block(&full));
        let (mut buf, mut with, mut read) = (vec![0; 1 << 16], vec![], 0);
        while read < sent {
            let piece = receive(b.as_fd(), &mut buf, &mut with).expect("bytes");
            read += piece.length;
        }
        assert_eq!((read, with.len()), (sent, 1));
    }

    #[test]
    fn descriptors_too_many_are_cut_and_the_bytes_come() {
        use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
        use std::io::IoSlice;
        use std::os::fd::AsRawFd;
        let (a, b) = socket::pair_stream().expect("a pair");
        let (pipe, _) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let link = testing::link_of(&pipe);
        let many = vec![pipe.as_raw_fd(); fds::MAX_FDS + 1];
        let control = [ControlMessage::ScmRights(&many)];
        let bytes = [IoSlice::new(b"all of this")];
        sendmsg::<()>(a.as_raw_fd(), &bytes, &control, MsgFlags::empty(), None).expect("room");
        let (mut buf, mut with) = ([0; 64], vec![]);
        let piece = receive(b.as_fd(), &mut buf, &mut with).expect("bytes");
        assert_eq!((piece.length, piece.cut), (11, true));
        drop(with);
        assert_eq!(testing::open_count(&link), 1, "only ours is left");
    }
}
