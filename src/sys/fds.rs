//! Descriptors sent from one process to another: `SCM_RIGHTS`; see unix(7) and cmsg(3).
//!
//! One datagram with its descriptors at a time, on a `SOCK_SEQPACKET` socket; and, for `stream`, the
//! two calls beneath that. What the bytes say is left to whoever calls.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::retry;

/// The most descriptors that one datagram carries. The kernel would take 253 (`SCM_MAX_FD`).
pub(crate) const MAX_FDS: usize = 64;

/// The bytes that `MAX_FDS` descriptors take, without their header.
const FDS_LEN: libc::c_uint = (MAX_FDS * size_of::<RawFd>()) as libc::c_uint;

/// The bytes of a control message with `MAX_FDS` descriptors.
// SAFETY: CMSG_SPACE only reckons.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(FDS_LEN) } as usize;

/// Room for one control message, aligned as its header wants it.
#[repr(C)]
struct Control {
    alignment: [libc::cmsghdr; 0],
    bytes: [u8; CONTROL_LEN],
}

impl Control {
    const fn new() -> Control {
        Control {
            alignment: [],
            bytes: [0; CONTROL_LEN],
        }
    }
}

/// A message of one slice of bytes, with no control data yet.
pub(super) fn message(slice: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all zeros is a valid msghdr: every pointer null and every length zero.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut *slice;
    message.msg_iovlen = 1;
    message
}

/// Sends one datagram with descriptors; see sendmsg(2). The receiver gets duplicates, and ours stay
/// open. Allocates nothing and raises no `SIGPIPE`.
///
/// # Errors
///
/// `InvalidInput` for more than [`MAX_FDS`] descriptors, or for no bytes, which would look like the
/// end; `WouldBlock` when the socket is full, or when more descriptors are under way
/// than this process may have open; `EMSGSIZE` for a datagram larger than the socket's send buffer;
/// `EPIPE` when the receiver is gone.
pub(crate) fn send(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if fds.len() > MAX_FDS {
        return invalid(format!(
            "cannot send {} descriptors at once: at most {MAX_FDS}",
            fds.len()
        ));
    }
    if bytes.is_empty() {
        return invalid("cannot send a datagram of no bytes".to_owned());
    }
    let sent = post(fd, bytes, fds)?;
    if sent != bytes.len() {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            "a datagram was cut: not a SOCK_SEQPACKET socket?",
        ));
    }
    Ok(())
}

/// Sends bytes, at most [`MAX_FDS`] descriptors with the first of them, and says how many bytes went;
/// see sendmsg(2). Does not wait, and raises no `SIGPIPE`.
///
/// # Errors
///
/// `WouldBlock` when the socket is full, or when more descriptors are under way than this process may
/// have open; `EPIPE` when the receiver is gone.
///
/// # Panics
///
/// With more descriptors.
pub(super) fn post(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    assert!(fds.len() <= MAX_FDS, "the control data has no room");
    let mut control = Control::new();
    let mut slice = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut message = message(&mut slice);
    if !fds.is_empty() {
        // At most FDS_LEN, so the cast loses nothing.
        let fds_len = size_of_val(fds) as libc::c_uint;
        message.msg_control = (&raw mut control.bytes).cast();
        // SAFETY: `fds.len()` is at most MAX_FDS, as asserted, so the header and the descriptors lie within
        // `control`, which is aligned for the header. CMSG_FIRSTHDR is not null, since
        // msg_controllen has room for a header.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(fds_len) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(fds_len) as _;
            let data = libc::CMSG_DATA(header).cast::<RawFd>();
            for (index, fd) in fds.iter().enumerate() {
                data.add(index).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let sent = retry(|| {
        // SAFETY: `message` points to `slice`, thereby `bytes`, and to `control`, all alive;
        // sendmsg only reads them.
        Errno::result(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) })
    });
    let sent = match sent {
        // It passes when the receiver takes some, as a full socket does.
        Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        sent => sent?,
    };
    Ok(sent.unsigned_abs())
}

/// Receives one datagram: writes its bytes to `buf`, appends its descriptors, close-on-exec, to
/// `fds`, and answers with the number of bytes, where 0 is the end; see recvmsg(2).
///
/// # Errors
///
/// `WouldBlock` when none is there; `ECONNRESET` when the sender left with datagrams of ours
/// unread; `InvalidData` when the datagram is larger than `buf`, and `EMFILE` when it has
/// descriptors that could not be taken, because they are more than [`MAX_FDS`] or because this
/// process may not open as many.
/// Then the datagram is lost, what descriptors came are closed, and `fds` is as before.
pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let before = fds.len();
    let (received, flags) = take(fd, buf, fds)?;
    if flags & libc::MSG_CTRUNC != 0 {
        fds.truncate(before);
        return Err(Errno::EMFILE.into());
    }
    let problem = if flags & libc::MSG_TRUNC != 0 {
        "a datagram was larger than the buffer"
    } else {
        if received == 0 {
            // The end; or no bytes with descriptors, which `send` never sends and nobody would ask
            // for.
            fds.truncate(before);
        }
        return Ok(received);
    };
    fds.truncate(before);
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

/// Receives what one call gives: writes bytes to `buf`, appends descriptors, close-on-exec, to `fds`,
/// and answers with the number of bytes and the flags; see recvmsg(2). Does not wait.
///
/// # Errors
///
/// `WouldBlock` when nothing is there; those of recvmsg.
pub(super) fn take(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<(usize, libc::c_int)> {
    let mut control = Control::new();
    let mut slice = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    let mut message = message(&mut slice);
    message.msg_control = (&raw mut control.bytes).cast();
    message.msg_controllen = CONTROL_LEN as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: `message` points to `slice`, thereby `buf`, and to `control`, all alive, of the
    // lengths it says, and borrowed by nobody else; recvmsg writes there and to `message`.
    let received =
        retry(|| Errno::result(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) }))?;
    // SAFETY: recvmsg succeeded and filled `message` in, and `control` is alive.
    unsafe { take_descriptors(&message, fds) };
    Ok((received.unsigned_abs(), message.msg_flags))
}

/// Appends the descriptors of a received message, each owned from here on.
///
/// # Safety
///
/// recvmsg(2) filled `message` in, its control buffer is alive, and nobody took the descriptors
/// before.
pub(super) unsafe fn take_descriptors(message: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: `message` describes control data that the kernel wrote, so that the headers found by
    // these macros, and as many bytes after each as it says, lie within it. The kernel opened each
    // descriptor for this process alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for index in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use nix::fcntl::OFlag;
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use nix::unistd::pipe2;

    use super::super::{socket, testing};
    use super::*;

    /// A pipe's reading end, and what tells its duplicates from all other descriptors of this
    /// process.
    fn pipe() -> (OwnedFd, PathBuf) {
        let (reader, _) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe");
        let link = testing::link_of(&reader);
        (reader, link)
    }

    /// Sends what `send` would refuse.
    fn send_raw(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) {
        let control = [ControlMessage::ScmRights(fds)];
        sendmsg::<()>(
            fd.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &control,
            MsgFlags::empty(),
            None,
        )
        .expect("room");
    }

    #[test]
    fn descriptors_arrive_in_order_of_datagrams() {
        let (a, b) = socket::pair_seqpacket().expect("a pair");
        for count in [0, 1, 2, 63, MAX_FDS] {
            let (reader, link) = pipe();
            send(
                a.as_fd(),
                format!("carries {count}").as_bytes(),
                &vec![reader.as_fd(); count],
            )
            .expect("room");
            let mut buf = [0; 32];
            let mut fds = vec![];
            let length = receive(b.as_fd(), &mut buf, &mut fds).expect("a datagram");
            assert_eq!(&buf[..length], format!("carries {count}").as_bytes());
            assert_eq!(fds.len(), count);
            for fd in &fds {
                testing::assert_flags(fd);
                assert_eq!(testing::link_of(fd), link);
            }
            drop(fds);
            assert_eq!(testing::open_count(&link), 1, "only ours is left");
        }
    }

    #[test]
    fn what_was_there_stays() {
        let (a, b) = socket::pair_seqpacket().expect("a pair");
        let ((first, first_link), (second, second_link)) = (pipe(), pipe());
        let mut fds = vec![first];
        send(a.as_fd(), b"x", &[second.as_fd()]).expect("room");
        assert_eq!(
            receive(b.as_fd(), &mut [0; 1], &mut fds).expect("a datagram"),
            1
        );
        let links: Vec<_> = fds.iter().map(testing::link_of).collect();
        assert_eq!(links, [first_link, second_link]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let (a, b) = socket::pair_seqpacket().expect("a pair");
        let (reader, _) = pipe();
        let too_many = send(a.as_fd(), b"x", &[reader.as_fd(); MAX_FDS + 1]).expect_err("too many");
        assert_eq!(too_many.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            too_many.to_string(),
            "cannot send 65 descriptors at once: at most 64"
        );
        assert_eq!(
            send(a.as_fd(), b"", &[]).expect_err("no bytes").kind(),
            io::ErrorKind::InvalidInput
        );
        let nothing = receive(b.as_fd(), &mut [0; 1], &mut vec![]).expect_err("nothing was sent");
        assert!(socket::would_block(&nothing));
    }

    #[test]
    fn too_many_descriptors_leak_none() {
        let (a, b) = socket::pair_seqpacket().expect("a pair");
        let ((kept, _), (reader, link)) = (pipe(), pipe());
        let mut fds = vec![kept];
        for count in [MAX_FDS + 1, 253] {
            send_raw(a.as_fd(), b"x", &vec![reader.as_raw_fd(); count]);
            let error = receive(b.as_fd(), &mut [0; 8], &mut fds).expect_err("too many");
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            assert_eq!(fds.len(), 1, "as before");
            assert_eq!(testing::open_count(&link), 1, "only ours is left");
        }
    }

    #[test]
    fn a_cut_datagram_leaks_no_descriptors() {
        let (a, b) = socket::pair_seqpacket().expect("a pair");
        let (reader, link) = pipe();
        let mut fds = vec![];
        send(a.as_fd(), b"longer than four", &[reader.as_fd(); 3]).expect("room");
        send(a.as_fd(), b"four", &[]).expect("room");
        let error = receive(b.as_fd(), &mut [0; 4], &mut fds).expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!((fds.len(), testing::open_count(&link)), (0, 1));
        assert_eq!(
            receive(b.as_fd(), &mut [0; 4], &mut fds).expect("the next one is whole"),
            4
        );
    }

    #[test]
    fn descriptors_without_bytes_leak_none() {
        let (a, b) = socket::pair_seqpacket().expect("a pair");
        let (reader, link) = pipe();
        let mut fds = vec![];
        send_raw(a.as_fd(), b"", &[reader.as_raw_fd()]);
        assert_eq!(
            receive(b.as_fd(), &mut [0; 4], &mut fds).expect("looks like the end"),
            0
        );
        assert_eq!((fds.len(), testing::open_count(&link)), (0, 1));
    }

    #[test]
    fn a_peer_that_is_gone_is_the_end() {
        let (a, b) = socket::pair_seqpacket().expect("a pair");
        send(a.as_fd(), b"last", &[]).expect("room");
        drop(a);
        let mut buf = [0; 8];
        assert_eq!(
            receive(b.as_fd(), &mut buf, &mut vec![]).expect("a datagram"),
            4
        );
        assert_eq!(
            receive(b.as_fd(), &mut buf, &mut vec![]).expect("the end"),
            0
        );
        assert_eq!(
            send(b.as_fd(), b"x", &[]).expect_err("nobody").kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn a_full_socket_would_block_and_an_oversized_datagram_never_fits() {
        let (a, _b) = socket::pair_seqpacket().expect("a pair");
        socket::set_send_buffer(a.as_fd(), 8192).expect("a socket");
        let oversized = send(a.as_fd(), &vec![0; 1 << 20], &[]).expect_err("too large");
        assert_eq!(oversized.raw_os_error(), Some(libc::EMSGSIZE));
        let full = loop {
            if let Err(error) = send(a.as_fd(), &[0; 1024], &[]) {
                break error;
            }
        };
        assert!(socket::would_block(&full));
    }
}
