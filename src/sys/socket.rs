//! What one does with a connected socket: read, write, shut down; and making connected ones, in
//! pairs or to somebody else.
//!
//! Plain system calls with `EINTR` taken out. Buffers, readiness and time-outs are left to whoever
//! calls.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::sendfile::sendfile;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send as nix_send, sendmsg,
    shutdown, socketpair,
};
use nix::sys::uio;
use nix::unistd;
#[cfg(any(feature = "redis", feature = "loadtest"))]
use nix::{
    errno::Errno,
    sys::socket::{SockaddrStorage, UnixAddr, connect as nix_connect, setsockopt, socket, sockopt},
};

use super::retry;

/// The most slices that one writev(2) takes (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// Reads what is there; 0 is the end. See read(2).
///
/// # Errors
///
/// `WouldBlock` when nothing is there yet; those of read.
pub(crate) fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    retry(|| unistd::read(fd, buf))
}

/// As [`read`], of a connected socket alone: recv(2) goes to the socket without the detour that a
/// read of any file takes, and costs a sixth less.
///
/// # Errors
///
/// As [`read`], and `ENOTSOCK`.
pub(crate) fn receive(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    retry(|| recv(fd.as_raw_fd(), buf, MsgFlags::empty()))
}

/// As [`write()`], of a connected socket alone, for the same reason; see send(2).
///
/// # Errors
///
/// As [`write()`], and `ENOTSOCK`.
pub(crate) fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    retry(|| nix_send(fd.as_raw_fd(), buf, MsgFlags::empty()))
}

/// As [`read`], of a connected socket, and what was there stays for whoever reads next; see
/// `MSG_PEEK` in recv(2). Never waits.
///
/// # Errors
///
/// `WouldBlock` when nothing is there yet; those of recv.
pub(crate) fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    retry(|| recv(fd.as_raw_fd(), buf, flags))
}

/// Writes as much as fits, and says how much. See write(2).
///
/// # Errors
///
/// `WouldBlock` when nothing fits; those of write. `EPIPE` comes with `SIGPIPE` unless
/// [`ignore_broken_pipe`](super::signal::ignore_broken_pipe) was called.
pub(crate) fn write(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    retry(|| unistd::write(fd, buf))
}

/// Writes as much of the slices, in order, as fits, and says how much. See writev(2). Of more
/// slices than the kernel takes, the first 1024.
///
/// # Errors
///
/// As [`write()`].
pub(crate) fn writev(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let slices = &slices[..slices.len().min(MAX_SLICES)];
    retry(|| uio::writev(fd, slices))
}

/// As [`writev`], of a connected socket, and more will follow at once, which the kernel may wait for
/// before it sends; see `MSG_MORE` in send(2).
///
/// # Errors
///
/// As [`write()`], and `ENOTSOCK`.
pub(crate) fn writev_more(fd: BorrowedFd<'_>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let slices = &slices[..slices.len().min(MAX_SLICES)];
    let flags = MsgFlags::from_bits_retain(libc::MSG_MORE) | MsgFlags::MSG_NOSIGNAL;
    if let [slice] = slices {
        // The kernel has less to read then: no header, no list.
        return retry(|| nix_send(fd.as_raw_fd(), slice, flags));
    }
    retry(|| sendmsg::<()>(fd.as_raw_fd(), slices, &[], flags, None))
}

/// Sends at most `count` bytes of `file` from `offset` on, and says how many; 0 is the end of the
/// file. Nothing of them enters this process. See sendfile(2).
///
/// # Errors
///
/// `WouldBlock` when nothing fits; those of sendfile, of which [`cannot_send_file`] says that the
/// file must be read instead.
pub(crate) fn send_file(
    fd: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    retry(|| sendfile(fd, file, Some(&mut offset), count))
}

/// Whether sendfile(2) failed only because that kind of file cannot be sent by it.
pub(crate) fn cannot_send_file(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

/// Tells the peer that nothing more will be written; see shutdown(2).
///
/// # Errors
///
/// `ENOTCONN` when the peer is gone already.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    retry(|| shutdown(fd.as_raw_fd(), Shutdown::Write))
}

/// Ends both directions, for every process that shares the socket; see shutdown(2).
///
/// # Errors
///
/// `ENOTCONN` when the peer is gone already.
pub(crate) fn shutdown_both(fd: BorrowedFd<'_>) -> io::Result<()> {
    retry(|| shutdown(fd.as_raw_fd(), Shutdown::Both))
}

/// Ends a TCP connection by a reset, whoever else holds a copy of it; see `AF_UNSPEC` in
/// connect(2). Other sockets, and connections that are gone, are left as they are.
pub(crate) fn reset(fd: BorrowedFd<'_>) {
    // SAFETY: all zeros is a valid sockaddr, whose family is then AF_UNSPEC.
    let mut nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `nowhere` is a sockaddr of that length and outlives the call, which only reads it.
    // What can fail is that there is nothing to end.
    let _ = unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, length) };
}

/// Two connected sockets that keep the borders of messages; see `SOCK_SEQPACKET` in unix(7).
/// Non-blocking and close-on-exec.
///
/// # Errors
///
/// Those of socketpair(2), such as `EMFILE`.
pub(crate) fn pair_seqpacket() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SockType::SeqPacket)
}

/// Two connected sockets that carry bytes; see `SOCK_STREAM` in unix(7). Non-blocking and
/// close-on-exec.
///
/// # Errors
///
/// Those of socketpair(2), such as `EMFILE`.
#[cfg(any(test, feature = "programs"))]
pub(crate) fn pair_stream() -> io::Result<(OwnedFd, OwnedFd)> {
    pair(SockType::Stream)
}

fn pair(kind: SockType) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, kind, None, flags)?)
}

/// Where somebody listens.
#[cfg(any(feature = "redis", feature = "loadtest"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// TCP, over IPv4 or IPv6.
    Inet(std::net::SocketAddr),
    /// A Unix socket's path.
    #[cfg_attr(
        not(feature = "redis"),
        allow(dead_code, reason = "load is made over TCP alone")
    )]
    Unix(std::path::PathBuf),
}

/// Begins to connect: the socket becomes writable when that is done, well or badly, as
/// [`take_error`] says. Non-blocking and close-on-exec; what is written is sent at once.
///
/// # Errors
///
/// Those of socket(2), and of connect(2) where it fails at once.
#[cfg(any(feature = "redis", feature = "loadtest"))]
pub(crate) fn connect(place: &Place) -> io::Result<OwnedFd> {
    let family = match place {
        Place::Inet(std::net::SocketAddr::V4(_)) => AddressFamily::Inet,
        Place::Inet(std::net::SocketAddr::V6(_)) => AddressFamily::Inet6,
        Place::Unix(_) => AddressFamily::Unix,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    let begun = match place {
        Place::Inet(address) => {
            setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
            nix_connect(fd.as_raw_fd(), &SockaddrStorage::from(*address))
        }
        Place::Unix(path) => nix_connect(fd.as_raw_fd(), &UnixAddr::new(path)?),
    };
    match begun {
        // A signal does not end what has begun; see connect(2).
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// What went wrong on a socket without a call having said so; see `SO_ERROR` in socket(7).
///
/// # Errors
///
/// That, if there is something.
#[cfg(any(feature = "redis", feature = "loadtest"))]
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    match nix::sys::socket::getsockopt(&fd, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Segments that were sent and that the peer's system has not acknowledged; of a socket that listens,
/// connections that wait to be accepted. See `TCP_INFO` in tcp(7).
///
/// # Errors
///
/// `EOPNOTSUPP` and the like when `fd` is no TCP socket.
pub(crate) fn unacknowledged(fd: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(tcp_info(fd)?.0.tcpi_unacked)
}

/// Bytes of what was written that the peer's system has acknowledged, also once the connection has ended;
/// `tcpi_bytes_acked` of `TCP_INFO` in tcp(7).
///
/// # Errors
///
/// Those of [`unacknowledged`], and `Unsupported` of a kernel before 4.1.
#[cfg(feature = "loadtest")]
pub(crate) fn acknowledged(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let (info, length) = tcp_info(fd)?;
    let end = std::mem::offset_of!(nix::libc::tcp_info, tcpi_bytes_acked) + size_of::<u64>();
    match length >= end {
        // The first one was the connection's opening (SYN).
        true => Ok(info.tcpi_bytes_acked.saturating_sub(1)),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// What the kernel says of a TCP socket, and of how many bytes of that it knows.
fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<(nix::libc::tcp_info, usize)> {
    // SAFETY: it is made of numbers alone, for which all zeros are fine.
    let mut info: nix::libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<nix::libc::tcp_info>() as nix::libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many, and how many to
    // `length`; both live through the call. The descriptor is open as long as it is borrowed.
    let result = unsafe {
        nix::libc::getsockopt(
            fd.as_raw_fd(),
            nix::libc::IPPROTO_TCP,
            nix::libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok((info, length as usize))
}

/// Asks for room for `bytes` of unread data; see `SO_SNDBUF` in socket(7). The kernel doubles the
/// number and keeps it under `net.core.wmem_max`.
///
/// # Errors
///
/// `ENOTSOCK` when `fd` is no socket.
#[cfg(test)]
pub(crate) fn set_send_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    // The kernel reads an int, and would take a larger number for a small one.
    let bytes = bytes.min(i32::MAX as usize);
    use nix::sys::socket::{setsockopt, sockopt};
    Ok(setsockopt(&fd, sockopt::SndBuf, &bytes)?)
}

/// Whether a call failed only because it would have had to wait.
pub(crate) fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::{signal, testing};
    use super::*;

    #[test]
    fn pairs_have_their_flags() {
        for (a, b) in [
            pair_stream().expect("a pair"),
            pair_seqpacket().expect("a pair"),
        ] {
            testing::assert_flags(&a);
            testing::assert_flags(&b);
        }
    }

    #[test]
    fn bytes_go_through_until_the_end() {
        let (a, b) = pair_stream().expect("a pair");
        let mut buf = [0; 16];
        assert!(would_block(
            &read(b.as_fd(), &mut buf).expect_err("nothing there")
        ));
        assert_eq!(write(a.as_fd(), b"one ").expect("room"), 4);
        let slices = [
            IoSlice::new(b"two "),
            IoSlice::new(b""),
            IoSlice::new(b"three"),
        ];
        assert_eq!(writev(a.as_fd(), &slices).expect("room"), 9);
        shutdown_write(a.as_fd()).expect("connected");
        assert_eq!(read(b.as_fd(), &mut buf).expect("there"), 13);
        assert_eq!(&buf[..13], b"one two three");
        assert_eq!(read(b.as_fd(), &mut buf).expect("the end"), 0);
        assert_eq!(write(b.as_fd(), b"back").expect("the other way is open"), 4);
        assert_eq!(read(a.as_fd(), &mut buf).expect("there"), 4);
    }

    #[test]
    fn what_is_peeked_at_stays() {
        let (a, b) = pair_stream().expect("a pair");
        let mut buf = [0; 16];
        assert!(would_block(
            &peek(b.as_fd(), &mut buf).expect_err("nothing there")
        ));
        write(a.as_fd(), b"one").expect("room");
        write(a.as_fd(), b"two").expect("room");
        for _ in 0..2 {
            assert_eq!(peek(b.as_fd(), &mut buf).expect("there"), 6);
            assert_eq!(&buf[..6], b"onetwo");
        }
        assert_eq!(peek(b.as_fd(), &mut buf[..2]).expect("there"), 2);
        assert_eq!(read(b.as_fd(), &mut buf).expect("still there"), 6);
        shutdown_write(a.as_fd()).expect("connected");
        assert_eq!(peek(b.as_fd(), &mut buf).expect("the end"), 0);
    }

    #[test]
    fn both_ways_end_at_once() {
        signal::ignore_broken_pipe();
        let (a, b) = pair_stream().expect("a pair");
        shutdown_both(a.as_fd()).expect("connected");
        assert_eq!(read(b.as_fd(), &mut [0; 4]).expect("the end"), 0);
        assert_eq!(
            write(b.as_fd(), b"x").expect_err("closed").kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn more_slices_than_the_kernel_takes_are_a_short_write() {
        let (a, _b) = pair_stream().expect("a pair");
        let slices = vec![IoSlice::new(b"x"); MAX_SLICES + 1];
        assert_eq!(writev(a.as_fd(), &slices).expect("room"), MAX_SLICES);
    }

    #[test]
    fn a_full_socket_would_block() {
        let (a, _b) = pair_stream().expect("a pair");
        set_send_buffer(a.as_fd(), 4096).expect("a socket");
        set_send_buffer(a.as_fd(), usize::MAX).expect("as much as allowed");
        set_send_buffer(a.as_fd(), 4096).expect("a socket");
        let error = loop {
            if let Err(error) = write(a.as_fd(), &[0; 4096]) {
                break error;
            }
        };
        assert!(would_block(&error));
    }
}
