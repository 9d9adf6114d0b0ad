//! Listening sockets: making, inheriting and accepting from them; see socket(7), tcp(7), unix(7).
//!
//! A listener owns its descriptor and knows its address. Who accepts from it, and when, is left to
//! whoever holds it.

use std::ffi::OsStr;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fmt, io, mem};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, getsockname,
    getsockopt, setsockopt, shutdown, socket, sockopt,
};

use super::{exec, is_ready, retry};

mod activation;
mod blocking;
mod group;
#[cfg(test)]
mod tests;
mod unix;

pub(crate) use activation::{activation_fds, clear_activation_env};
pub(crate) use group::Instruction;

/// Where one listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// TCP, over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A Unix socket's path. One in the abstract namespace, which has no file, starts with a zero
    /// byte.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(path) => match abstract_name(path) {
                Some(name) => write!(f, "unix:@{}", name.display()),
                None => write!(f, "unix:{}", path.display()),
            },
        }
    }
}

/// The name of a socket in the abstract namespace.
fn abstract_name(path: &Path) -> Option<&OsStr> {
    path.as_os_str()
        .as_bytes()
        .strip_prefix(b"\0")
        .map(OsStr::from_bytes)
}

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The other end's address; an IPv4 one may come as `::ffff:a.b.c.d` where the listener takes
    /// both.
    Inet(SocketAddr),
    /// A process on this machine, over a Unix socket.
    Unix,
    /// A process on another machine, over a Unix socket there: so says a proxy, never the kernel.
    Elsewhere,
}

/// A listening socket, non-blocking and close-on-exec.
///
/// Dropping it closes this process's descriptor; the file of a Unix socket stays until
/// [`Listener::unlink`].
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    address: Address,
    /// It came from outside, where others may listen on it as well.
    inherited: bool,
}

impl Listener {
    /// Listens on a TCP address; port 0 takes a free one, which [`Listener::address`] tells. An
    /// IPv6 listener takes IPv4 connections too if it is `dual_stack`. `SO_REUSEADDR` is set, and
    /// so is `TCP_NODELAY`, which accepted connections inherit.
    ///
    /// # Errors
    ///
    /// Those of socket(2), bind(2) and listen(2): `AddrInUse`, `AddrNotAvailable`,
    /// `PermissionDenied`, `EMFILE`.
    pub(crate) fn tcp(address: SocketAddr, backlog: i32, dual_stack: bool) -> io::Result<Listener> {
        let fd = tcp_socket(address, !dual_stack)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        listen(fd.as_fd(), backlog)?;
        Listener::from_fd(fd)
    }

    /// Another listener on the same TCP address, with a queue of its own; the kernel deals new
    /// connections out over both, by `SO_REUSEPORT` in socket(7). This one may have been bound
    /// without the option and is given it now. Both must be of one effective user; afterwards each
    /// lives as long as it likes.
    ///
    /// While both listen, other programs of that user can join in the same way. One that does not
    /// set the option is refused as before.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a Unix socket; `AddrInUse` where another user bound this one; those of
    /// [`Listener::tcp`]. Then this one is as it was.
    pub(crate) fn sibling(&self, backlog: i32) -> io::Result<Listener> {
        let Address::Inet(address) = self.address else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{} cannot have a second listener", self.address),
            ));
        };
        let v6_only = address.is_ipv6() && getsockopt(&self.fd, sockopt::Ipv6V6Only)?;
        let fd = tcp_socket(address, v6_only)?;
        setsockopt(&fd, sockopt::ReusePort, &true)?;
        let shared_before = getsockopt(&self.fd, sockopt::ReusePort)?;
        setsockopt(&self.fd, sockopt::ReusePort, &true)?;
        let bound = retry(|| bind(fd.as_raw_fd(), &SockaddrStorage::from(address)))
            .and_then(|()| listen(fd.as_fd(), backlog));
        if bound.is_err() {
            setsockopt(&self.fd, sockopt::ReusePort, &shared_before)?;
        }
        bound?;
        let sibling = Listener::from_fd(fd)?;
        sibling.block_as(self)?;
        Ok(sibling)
    }

    /// Takes over a listening socket that this program was started with, by its number.
    ///
    /// A number is no proof of ownership, so what else this process may have open is refused: 0 to
    /// 2, which are standard input, output and error; and descriptors that are close-on-exec, as
    /// all are that Rust opened and none that came through execve(2). As this function makes it
    /// close-on-exec, it takes a descriptor but once. Call it early, while nothing else looks for
    /// inherited descriptors.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, naming the descriptor and what is wrong with it; then the descriptor is left
    /// as it was.
    pub(crate) fn inherited(number: RawFd) -> io::Result<Listener> {
        Listener::taken(number, None)
    }

    /// As [`Listener::inherited`], but of one that does not listen yet too: it does from then on,
    /// with that `backlog`.
    ///
    /// # Errors
    ///
    /// As [`Listener::inherited`], and those of listen(2).
    pub(crate) fn inherited_or_bound(number: RawFd, backlog: i32) -> io::Result<Listener> {
        Listener::taken(number, Some(backlog))
    }

    fn taken(number: RawFd, backlog: Option<i32>) -> io::Result<Listener> {
        let refuse = |what: &str| exec::refusal(number, what);
        let fd = exec::look_at(number)?;
        let kind = match getsockopt(&fd, sockopt::SockType) {
            Err(Errno::ENOTSOCK) => return Err(refuse("is not a socket")),
            kind => kind.ok(),
        };
        let listens = getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
        if kind != Some(SockType::Stream) || !(listens || backlog.is_some()) {
            return Err(refuse("is not a listening socket"));
        }
        let address =
            local_address(fd).map_err(|e| refuse(&format!("has no usable address: {e}")))?;
        if let Address::Inet(_) = address {
            setsockopt(&fd, sockopt::TcpNoDelay, &true)
                .map_err(|e| refuse(&format!("is not a TCP socket: {e}")))?;
        }
        if let Some(backlog) = backlog.filter(|_| !listens) {
            listen(fd, backlog)?;
        }
        // Listening may have given it one.
        let address = match listens {
            true => address,
            false => local_address(fd)?,
        };
        let status = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        fcntl(fd, FcntlArg::F_SETFL(status | OFlag::O_NONBLOCK))?;
        let fd = exec::adopt(number)?;
        Ok(Listener {
            fd,
            address,
            inherited: true,
        })
    }

    /// Takes over a socket that listens already, such as one that another process sent. Its flags
    /// stay as they are.
    ///
    /// # Errors
    ///
    /// When it has no address of TCP or Unix sockets; then it is closed.
    pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Listener> {
        Listener::restored(fd, false)
    }

    /// As [`Listener::from_fd`], for one that was a `Listener` before and tells what
    /// [`Listener::is_inherited`] said then.
    ///
    /// # Errors
    ///
    /// As [`Listener::from_fd`].
    pub(crate) fn restored(fd: OwnedFd, inherited: bool) -> io::Result<Listener> {
        let address = local_address(fd.as_fd())?;
        Ok(Listener {
            fd,
            address,
            inherited,
        })
    }

    /// The same one, at a path that the kernel may know by another name.
    #[cfg(feature = "control")]
    pub(crate) fn known_at(self, path: PathBuf) -> Listener {
        let address = Address::Unix(path);
        Listener { address, ..self }
    }

    /// Whether it came from outside, where others may listen on it as well.
    pub(crate) fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// The same listener by another descriptor.
    ///
    /// # Errors
    ///
    /// Those of dup(2).
    pub(crate) fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener {
            fd: self.fd.try_clone()?,
            address: self.address.clone(),
            inherited: self.inherited,
        })
    }

    /// Where it listens, with the real port.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Takes the next connection, non-blocking and close-on-exec; see accept4(2). Connections that
    /// failed while they waited are passed over.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nobody waits; `EMFILE` and its like: then the connection still waits.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        loop {
            // SAFETY: all zeros is a valid sockaddr_storage, of no family.
            let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
            let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let start = (&raw mut storage).cast::<libc::sockaddr>();
            // SAFETY: `storage` has `length` bytes; both outlive the call, which writes no more
            // than that.
            let accepted =
                unsafe { libc::accept4(self.fd.as_raw_fd(), start, &raw mut length, flags) };
            match Errno::result(accepted) {
                Ok(number) => {
                    // SAFETY: accept4 has just opened it for us.
                    let fd = unsafe { OwnedFd::from_raw_fd(number) };
                    // SAFETY: accept4 wrote an address of `length` bytes to `storage`.
                    let peer = unsafe { SockaddrStorage::from_raw(start, Some(length)) };
                    let peer = peer
                        .as_ref()
                        .and_then(inet_address)
                        .map_or(Peer::Unix, Peer::Inet);
                    return Ok((fd, peer));
                }
                Err(errno) if is_of_one_connection(errno) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether a connection waits to be accepted; see poll(2).
    pub(crate) fn has_waiting(&self) -> bool {
        is_ready(self.fd.as_fd(), libc::POLLIN, 0).unwrap_or(false)
    }

    /// How many connections wait to be accepted, at a TCP socket: of another the kernel does not tell.
    pub(crate) fn queued(&self) -> Option<u32> {
        match self.address {
            // Of a socket that listens it tells the length of its queue there.
            Address::Inet(_) => super::socket::unacknowledged(self.fd.as_fd()).ok(),
            Address::Unix(_) => None,
        }
    }

    /// Stops listening without giving the address up: clients are refused until
    /// [`Listener::resume`], and connections that wait are reset. For every process that shares the
    /// socket. See shutdown(2); on Linux a TCP listener can listen again afterwards, a Unix one
    /// cannot, so that one is left alone and its clients wait; so is an inherited one, which is not
    /// ours alone.
    ///
    /// Answers whether it did.
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    pub(crate) fn suspend(&self) -> io::Result<bool> {
        if self.inherited || matches!(self.address, Address::Unix(_)) {
            return Ok(false);
        }
        match shutdown(self.fd.as_raw_fd(), Shutdown::Read) {
            // It did not listen.
            Err(Errno::ENOTCONN) => Ok(false),
            done => Ok(done.map(|()| true)?),
        }
    }

    /// Listens again after [`Listener::suspend`].
    ///
    /// # Errors
    ///
    /// Those of bind(2) and listen(2); `AddrInUse` when somebody else has the address by now.
    pub(crate) fn resume(&self, backlog: i32) -> io::Result<()> {
        if let Address::Inet(address) = self.address {
            // A port that the kernel had chosen was given back with the shutdown; one that was
            // asked for is still ours, which is what EINVAL says.
            match bind(self.fd.as_raw_fd(), &SockaddrStorage::from(address)) {
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        listen(self.fd.as_fd(), backlog)
    }

    /// Removes the file of a Unix socket, if there is one and it is ours. For its last owner, when nobody is to
    /// come any more.
    ///
    /// # Errors
    ///
    /// Those of unlink(2), except that the file is gone already.
    pub(crate) fn unlink(&self) -> io::Result<()> {
        match &self.address {
            Address::Unix(path)
                if !self.inherited
                    && !path.as_os_str().is_empty()
                    && abstract_name(path).is_none() =>
            {
                unix::remove(path)
            }
            Address::Unix(_) | Address::Inet(_) => Ok(()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(
        family,
        SockType::Stream,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// A socket to be bound to a TCP address. Connections inherit `TCP_NODELAY` from it.
fn tcp_socket(address: SocketAddr, v6_only: bool) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = stream_socket(family)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    if address.is_ipv6() {
        // In both cases, since a sysctl sets the default.
        setsockopt(&fd, sockopt::Ipv6V6Only, &v6_only)?;
    }
    Ok(fd)
}

/// See listen(2). libc's, since nix allows no backlog over 511.
fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: listen takes two numbers and touches no memory of ours.
    retry(|| Errno::result(unsafe { libc::listen(fd.as_raw_fd(), backlog) })).map(drop)
}

/// The address that a socket is bound to; see getsockname(2).
pub(super) fn local_address(fd: BorrowedFd<'_>) -> io::Result<Address> {
    let name: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    if let Some(address) = inet_address(&name) {
        return Ok(Address::Inet(address));
    }
    let Some(name) = name.as_unix_addr() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a TCP nor a Unix socket",
        ));
    };
    Ok(Address::Unix(match name.as_abstract() {
        Some(name) => PathBuf::from(OsStr::from_bytes(&[b"\0", name].concat())),
        None => name.path().unwrap_or(Path::new("")).to_owned(),
    }))
}

pub(super) fn inet_address(name: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = name.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*v4)));
    }
    name.as_sockaddr_in6()
        .map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
}

/// Whether accept(2) failed for the sake of the connection it would have given, so that the next
/// may do better.
///
/// Its manual page names `EOPNOTSUPP` too; but that is also the answer of a socket that can never
/// accept, and trying again would not end.
fn is_of_one_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINTR
            | Errno::ECONNABORTED
            | Errno::EPROTO
            | Errno::ENETDOWN
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
    )
}
