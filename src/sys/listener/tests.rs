//! Tests of listeners, on free ports and in directories of their own.

use std::fs;
use std::net::TcpStream;
use std::os::fd::IntoRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use nix::fcntl::FdFlag;
use nix::sys::socket::{UnixAddr, connect};

use super::super::{socket, testing};
use super::*;

const BACKLOG: i32 = 16;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn tcp() -> (Listener, SocketAddr) {
    let listener = Listener::tcp(local(0), BACKLOG, false).expect("a free port");
    let address = inet(&listener);
    (listener, address)
}

fn inet(listener: &Listener) -> SocketAddr {
    match listener.address() {
        Address::Inet(address) => *address,
        Address::Unix(path) => panic!("{} is not TCP", path.display()),
    }
}

#[test]
fn tcp_listens_on_the_port_it_tells() {
    let (listener, address) = tcp();
    assert_ne!(address.port(), 0);
    assert_eq!(
        listener.address().to_string(),
        format!("127.0.0.1:{}", address.port())
    );
    testing::assert_flags(&listener);
    assert!(socket::would_block(
        &listener.accept().expect_err("nobody waits")
    ));

    let client = TcpStream::connect(address).expect("it listens");
    let (fd, peer) = listener.accept().expect("somebody waits");
    assert_eq!(peer, Peer::Inet(client.local_addr().expect("an address")));
    testing::assert_flags(&fd);
    assert_eq!(
        getsockopt(&fd, sockopt::TcpNoDelay),
        Ok(true),
        "inherited from the listener"
    );
}

#[test]
fn tcp_listens_over_ipv6() {
    let any = SocketAddr::from(([0u16; 8], 0));
    for dual_stack in [false, true] {
        // A machine without IPv6 has nothing to test.
        let listener = match Listener::tcp(any, BACKLOG, dual_stack) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return,
            listener => listener.expect("a free port"),
        };
        assert_eq!(getsockopt(&listener, sockopt::Ipv6V6Only), Ok(!dual_stack));
        let port = inet(&listener).port();
        assert_eq!(listener.address().to_string(), format!("[::]:{port}"));
        let over_ipv4 = TcpStream::connect(local(port));
        assert_eq!(over_ipv4.is_ok(), dual_stack);
        if let Ok(client) = over_ipv4 {
            let (_, peer) = listener.accept().expect("somebody waits");
            let Peer::Inet(peer) = peer else {
                panic!("{peer:?} is not TCP")
            };
            assert_eq!(
                peer.to_string(),
                format!(
                    "[::ffff:127.0.0.1]:{}",
                    client.local_addr().expect("one").port()
                )
            );
        }
    }
}

#[test]
fn a_port_in_use_is_an_error() {
    let (_listener, address) = tcp();
    let error = Listener::tcp(address, BACKLOG, false).expect_err("in use");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_port_can_be_taken_again_at_once() {
    let (listener, address) = tcp();
    let client = TcpStream::connect(address).expect("it listens");
    drop(listener.accept().expect("somebody waits"));
    drop(listener);
    Listener::tcp(address, BACKLOG, false).expect("the port, though a connection of it lingers");
    drop(client);
}

/// The same listener, as another process gets it.
fn cloned(listener: &Listener) -> Listener {
    let fd = listener.as_fd().try_clone_to_owned().expect("a descriptor");
    Listener::from_fd(fd).expect("a listener")
}

#[test]
fn clones_accept_from_the_same_queue() {
    let (listener, address) = tcp();
    let clone = cloned(&listener);
    testing::assert_flags(&clone);
    assert_eq!(clone.address(), listener.address());
    let again = cloned(&clone);
    assert_eq!(again.address(), listener.address());
    drop(listener);
    let _client = TcpStream::connect(address).expect("the clones listen");
    again.accept().expect("somebody waits");
    assert!(clone.accept().is_err(), "only one did");
}

#[test]
fn unix_listens_until_unlinked() {
    let dir = testing::TempDir::new();
    let path = dir.join("x.sock");
    let listener = Listener::unix(&path, BACKLOG).expect("a free path");
    assert_eq!(
        listener.address().to_string(),
        format!("unix:{}", path.display())
    );
    testing::assert_flags(&listener);
    let _client = UnixStream::connect(&path).expect("it listens");
    let (fd, peer) = listener.accept().expect("somebody waits");
    testing::assert_flags(&fd);
    assert_eq!(peer, Peer::Unix);
    assert_eq!(cloned(&listener).address, listener.address);
    listener.unlink().expect("the file");
    assert!(!path.exists());
    listener.unlink().expect("gone already is fine");
}

#[test]
fn a_unix_socket_that_answers_is_in_use() {
    let dir = testing::TempDir::new();
    let path = dir.join("x.sock");
    let _first = Listener::unix(&path, 0).expect("a free path");
    // As often as it takes to fill the backlog, too.
    let _waiting: Vec<_> = (0..3)
        .map(|_| {
            let error = Listener::unix(&path, BACKLOG).expect_err("in use");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let client = stream_socket(AddressFamily::Unix).expect("a socket");
            let _ = connect(client.as_raw_fd(), &UnixAddr::new(&path).expect("short"));
            client
        })
        .collect();
    assert!(path.exists());
}

#[test]
fn a_unix_socket_left_behind_is_replaced() {
    let dir = testing::TempDir::new();
    let path = dir.join("x.sock");
    drop(Listener::unix(&path, BACKLOG).expect("a free path"));
    assert!(path.exists(), "dropping does not unlink");
    let listener = Listener::unix(&path, BACKLOG).expect("a stale path");
    let _client = UnixStream::connect(&path).expect("it listens");
    listener.accept().expect("somebody waits");
}

#[test]
fn what_is_no_stream_socket_is_left_alone() {
    let dir = testing::TempDir::new();
    let path = dir.join("file");
    fs::write(&path, "precious").expect("a file");
    let link = dir.join("link");
    std::os::unix::fs::symlink(dir.join("nowhere"), &link).expect("a link");
    for path in [&path, &link, &dir.join("")] {
        let error = Listener::unix(path, BACKLOG).expect_err("no socket");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            error.to_string(),
            format!("{} exists and is not a socket", path.display())
        );
    }
    assert_eq!(fs::read(&path).expect("still there"), b"precious");

    let datagrams = dir.join("datagrams");
    let _owner = UnixDatagram::bind(&datagrams).expect("a free path");
    let error = Listener::unix(&datagrams, BACKLOG).expect_err("somebody's");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let dir = testing::TempDir::new();
    let long = Listener::unix(&dir.join(&"x".repeat(200)), BACKLOG).expect_err("too long");
    assert_eq!(long.raw_os_error(), Some(libc::ENAMETOOLONG));
    let empty = Listener::unix(Path::new(""), BACKLOG).expect_err("empty");
    assert_eq!(empty.kind(), io::ErrorKind::InvalidInput);
    let nowhere = Listener::unix(&dir.join("no/such/dir"), BACKLOG).expect_err("no directory");
    assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
}

/// As execve(2) would leave it to us: without close-on-exec, blocking, owned by nobody here.
fn leave(fd: impl Into<OwnedFd>) -> RawFd {
    let fd = fd.into();
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).expect("open");
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::empty())).expect("open");
    fd.into_raw_fd()
}

/// What `inherited` says of a descriptor that it must refuse and leave open.
fn refusal(fd: impl Into<OwnedFd>) -> String {
    let number = leave(fd);
    let error = Listener::inherited(number).expect_err("not a listener");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    // SAFETY: it was refused, so it is still ours.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    assert_eq!(fcntl(&fd, FcntlArg::F_GETFD), Ok(0), "left as it was");
    let text = error.to_string();
    text.strip_prefix(&format!("fd {number} "))
        .expect("it is named")
        .to_owned()
}

#[test]
fn an_inherited_tcp_listener_is_taken_once() {
    let (listener, address) = tcp();
    setsockopt(&listener, sockopt::TcpNoDelay, &false).expect("an option");
    let number = leave(listener.fd);
    let listener = Listener::inherited(number).expect("a listener");
    assert_eq!(listener.as_raw_fd(), number);
    assert_eq!(inet(&listener), address);
    testing::assert_flags(&listener);
    assert_eq!(getsockopt(&listener, sockopt::TcpNoDelay), Ok(true));
    let again = Listener::inherited(number).expect_err("it is owned now");
    assert_eq!(
        again.to_string(),
        format!("fd {number} was not inherited: it is close-on-exec")
    );
    let _client = TcpStream::connect(address).expect("it listens");
    listener.accept().expect("somebody waits");
}

#[test]
fn an_inherited_unix_listener_is_taken() {
    let dir = testing::TempDir::new();
    let path = dir.join("x.sock");
    let number = leave(UnixListener::bind(&path).expect("a free path"));
    let listener = Listener::inherited(number).expect("a listener");
    assert_eq!(listener.address(), &Address::Unix(path));
    testing::assert_flags(&listener);
}

#[test]
fn an_abstract_listener_has_no_file() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("mcluster-sys-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("short");
    let number = leave(UnixListener::bind_addr(&address).expect("a free name"));
    let listener = Listener::inherited(number).expect("a listener");
    assert_eq!(listener.address().to_string(), format!("unix:@{name}"));
    listener.unlink().expect("nothing to unlink");
}

#[test]
fn what_is_no_listener_is_not_inherited() {
    for (number, what) in [
        (0, "fd 0 is standard input, output or error"),
        (2, "fd 2 is standard input, output or error"),
        (-1, "fd -1 is not a descriptor"),
        (1_000_000_000, "fd 1000000000 is not open"),
    ] {
        assert_eq!(
            Listener::inherited(number)
                .expect_err("not a listener")
                .to_string(),
            what
        );
    }
    assert_eq!(
        refusal(fs::File::open("/dev/null").expect("a file")),
        "is not a socket"
    );
    let (a, _b) = UnixStream::pair().expect("a pair");
    assert_eq!(refusal(a), "is not a listening socket");
    assert_eq!(
        refusal(UnixDatagram::unbound().expect("a socket")),
        "is not a listening socket"
    );
    assert_eq!(
        refusal(stream_socket(AddressFamily::Inet).expect("a socket")),
        "is not a listening socket"
    );
}

#[test]
fn only_failures_of_one_connection_are_passed_over() {
    for errno in [
        Errno::EINTR,
        Errno::ECONNABORTED,
        Errno::EPROTO,
        Errno::ENETDOWN,
        Errno::EHOSTUNREACH,
    ] {
        assert!(is_of_one_connection(errno));
    }
    for errno in [
        Errno::EAGAIN,
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::EINVAL,
        Errno::EBADF,
        Errno::EOPNOTSUPP,
    ] {
        assert!(!is_of_one_connection(errno));
    }
}

#[test]
fn a_suspended_listener_refuses_until_resumed() {
    let (listener, address) = tcp();
    assert!(listener.suspend().expect("it listens"));
    assert!(!listener.suspend().expect("it does not any more"));
    let refused = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    listener.resume(BACKLOG).expect("the address is still ours");
    let _client = TcpStream::connect(address).expect("it listens again");
    listener.accept().expect("somebody waits");
    let dir = testing::TempDir::new();
    let unix = Listener::unix(&dir.join("x.sock"), BACKLOG).expect("a free path");
    assert!(!unix.suspend().expect("nothing is done"));
}

/// How many connections wait, each of them taken.
fn take_all(listener: &Listener) -> usize {
    std::iter::from_fn(|| listener.accept().ok()).count()
}

#[test]
fn a_sibling_shares_the_address_and_has_its_own_queue() {
    let (first, address) = tcp();
    assert_eq!(getsockopt(&first, sockopt::ReusePort), Ok(false));
    let second = first.sibling(BACKLOG).expect("a second one");
    let third = second.sibling(BACKLOG).expect("and one of that");
    for sibling in [&second, &third] {
        testing::assert_flags(sibling);
        assert_eq!(inet(sibling), address);
        assert!(!sibling.is_inherited());
        assert_eq!(getsockopt(sibling, sockopt::TcpNoDelay), Ok(true));
    }
    let error = Listener::tcp(address, BACKLOG, false).expect_err("in use all the same");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

    // The kernel deals by a hash of the client's port; that one of three goes without all the time
    // is out of the question.
    let mut taken = [0; 3];
    let mut connections = 0;
    while taken.contains(&0) {
        let _client = TcpStream::connect(address).expect("they listen");
        connections += 1;
        taken[0] += take_all(&first);
        taken[1] += take_all(&second);
        taken[2] += take_all(&third);
        assert_eq!(taken.iter().sum::<usize>(), connections, "none is lost");
        assert!(connections < 1000, "{taken:?}");
    }
    for listener in [&first, &second, &third] {
        assert!(listener.suspend().expect("it listens"));
    }
    let refused = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    for listener in [&first, &second, &third] {
        listener.resume(BACKLOG).expect("the address is still ours");
    }
    drop(first);
    drop(third);
    let _client = TcpStream::connect(address).expect("the second listens still");
    assert_eq!(take_all(&second), 1);
}

#[test]
fn a_sibling_takes_the_same_families() {
    let any = SocketAddr::from(([0u16; 8], 0));
    for dual_stack in [false, true] {
        // A machine without IPv6 has nothing to test.
        let first = match Listener::tcp(any, BACKLOG, dual_stack) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return,
            listener => listener.expect("a free port"),
        };
        let second = first.sibling(BACKLOG).expect("a second one");
        assert_eq!(getsockopt(&second, sockopt::Ipv6V6Only), Ok(!dual_stack));
        assert_eq!(second.address(), first.address());
    }
}

#[test]
fn a_unix_socket_has_no_sibling() {
    let dir = testing::TempDir::new();
    let listener = Listener::unix(&dir.join("x.sock"), BACKLOG).expect("a free path");
    let error = listener.sibling(BACKLOG).expect_err("no such thing");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

#[test]
fn a_sibling_that_cannot_be_changes_nothing() {
    let (first, _) = tcp();
    let elsewhere = Listener {
        address: Address::Inet(SocketAddr::from(([192, 0, 2, 1], 1))),
        ..first
    };
    let error = elsewhere.sibling(BACKLOG).expect_err("not our address");
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    assert_eq!(getsockopt(&elsewhere, sockopt::ReusePort), Ok(false));
}

#[test]
fn a_private_unix_socket_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = testing::TempDir::new();
    let path = dir.join("x.sock");
    let mode = |path: &Path| {
        let found = fs::metadata(path).expect("a file");
        found.permissions().mode() & 0o777
    };
    // Between bind and listen too: nothing is called in between that could change it.
    let listener = Listener::unix_private(&path, BACKLOG).expect("a free path");
    assert_eq!(mode(&path), 0o600);
    testing::assert_flags(&listener);
    let _client = UnixStream::connect(&path).expect("it listens");
    listener.accept().expect("somebody waits");
    let error = Listener::unix_private(&path, BACKLOG).expect_err("in use");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    let _again = Listener::unix_private(&path, BACKLOG).expect("a stale path");
    assert_eq!(mode(&path), 0o600);
    // It is the socket that has the mode, not the umask: another one has what the umask leaves.
    let other = dir.join("y.sock");
    let _other = Listener::unix(&other, BACKLOG).expect("a free path");
    assert_eq!(mode(&other), 0o777 & !umask());
}

/// The mask of this process, without changing it; see proc_pid_status(5).
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(value.expect("since Linux 4.7").trim(), 8).expect("octal")
}

#[test]
fn a_restored_listener_is_what_it_was() {
    let (listener, address) = tcp();
    assert!(!listener.is_inherited());
    let restored = Listener::restored(listener.fd, true).expect("a listener");
    assert!(restored.is_inherited());
    assert_eq!(inet(&restored), address);
    assert!(!restored.suspend().expect("nothing is done"));
}

#[test]
fn connections_that_wait_are_counted() {
    let (listener, address) = tcp();
    let mut clients = Vec::new();
    for count in 0..3 {
        assert_eq!(listener.queued(), Some(count));
        clients.push(TcpStream::connect(address).unwrap());
    }
    listener.accept().unwrap();
    assert_eq!(listener.queued(), Some(2));
}
