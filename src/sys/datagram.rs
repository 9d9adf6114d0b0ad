//! Sockets that datagrams come to, over UDP: making and inheriting them; see udp(7).
//!
//! Who receives is left to whoever gets a copy of the descriptor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockopt, setsockopt, socket,
    sockopt,
};

use super::exec;
use super::listener::{Address, local_address};

/// A bound socket of UDP, non-blocking and close-on-exec. Dropping it closes this process's
/// descriptor.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    fd: OwnedFd,
    address: Address,
}

impl DatagramSocket {
    /// Binds one; port 0 takes a free one, which [`DatagramSocket::address`] tells. One on `::`
    /// hears IPv4 too unless it is `v6_only`. With `reuse_address` others may bind the same address
    /// if they say so as well.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and bind(2).
    pub(crate) fn udp(
        address: SocketAddr,
        v6_only: bool,
        reuse_address: bool,
    ) -> io::Result<DatagramSocket> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &reuse_address)?;
        if address.is_ipv6() {
            // In both cases, since a sysctl sets the default.
            setsockopt(&fd, sockopt::Ipv6V6Only, &v6_only)?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        DatagramSocket::restored(fd)
    }

    /// Takes over one that this program was started with, by its number: as
    /// [`Listener::inherited`](super::listener::Listener::inherited) does.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, naming the descriptor and what is wrong with it.
    pub(crate) fn inherited(number: RawFd) -> io::Result<DatagramSocket> {
        let refuse = |what: &str| exec::refusal(number, what);
        let fd = exec::look_at(number)?;
        match getsockopt(&fd, sockopt::SockType) {
            Ok(SockType::Datagram) => {}
            Err(Errno::ENOTSOCK) => return Err(refuse("is not a socket")),
            _ => return Err(refuse("is not a socket of datagrams")),
        }
        match local_address(fd) {
            Ok(Address::Inet(_)) => {}
            _ => return Err(refuse("is not a socket of UDP")),
        }
        let status = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        fcntl(fd, FcntlArg::F_SETFL(status | OFlag::O_NONBLOCK))?;
        DatagramSocket::restored(exec::adopt(number)?)
    }

    /// One that was bound before.
    ///
    /// # Errors
    ///
    /// When it has no address; then it is closed.
    pub(crate) fn restored(fd: OwnedFd) -> io::Result<DatagramSocket> {
        let address = local_address(fd.as_fd())?;
        Ok(DatagramSocket { fd, address })
    }

    /// Where it is bound, with the real port.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{FromRawFd, IntoRawFd};

    use nix::fcntl::FdFlag;

    use super::super::testing;
    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn inet(socket: &DatagramSocket) -> SocketAddr {
        match socket.address() {
            Address::Inet(address) => *address,
            Address::Unix(path) => panic!("{} is not UDP", path.display()),
        }
    }

    #[test]
    fn datagrams_come_to_the_port_that_it_tells() {
        let bound = DatagramSocket::udp(local(0), false, false).expect("a free port");
        testing::assert_flags(&bound);
        let client = UdpSocket::bind(local(0)).expect("a free port");
        client.send_to(b"x", inet(&bound)).expect("it is bound");
        let server = UdpSocket::from(bound.fd);
        let (length, from) = server.recv_from(&mut [0; 8]).expect("it has come");
        assert_eq!(
            (length, from),
            (1, client.local_addr().expect("an address"))
        );
    }

    #[test]
    fn an_address_is_used_again_where_both_say_so() {
        for (first, second, works) in [
            (false, false, false),
            (true, false, false),
            (false, true, false),
            (true, true, true),
        ] {
            let bound = DatagramSocket::udp(local(0), false, first).expect("a free port");
            let again = DatagramSocket::udp(inet(&bound), false, second);
            assert_eq!(again.is_ok(), works, "{first}, {second}");
            if let Err(error) = again {
                assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
            }
        }
    }

    #[test]
    fn an_inherited_one_is_taken_once() {
        let socket = UdpSocket::bind(local(0)).expect("a free port");
        let address = socket.local_addr().expect("an address");
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("open");
        let number = socket.into_raw_fd();
        let bound = DatagramSocket::inherited(number).expect("bound");
        testing::assert_flags(&bound);
        assert_eq!(inet(&bound), address);
        assert!(DatagramSocket::inherited(number).is_err(), "it is owned");

        let listener = std::net::TcpListener::bind(local(0)).expect("a free port");
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).expect("open");
        let number = listener.into_raw_fd();
        let error = DatagramSocket::inherited(number).expect_err("no datagrams");
        let what = format!("fd {number} is not a socket of datagrams");
        assert_eq!(error.to_string(), what);
        // SAFETY: it was refused, so it is still ours.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}
