//! What programs ask for, with real sockets.

use super::super::SchedulingPolicy;
use super::*;
use crate::net::Reactor;
use crate::sys::listener::Address;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Listeners of a cluster of programs, and who asks for them.
struct Node {
    reactor: Reactor,
    ports: Ports,
}

impl Node {
    fn new() -> Self {
        let mut ports = Ports::new();
        ports.keeps = true;
        let reactor = Reactor::new().unwrap();
        Self { reactor, ports }
    }

    fn ask(&mut self, who: u32, bind: &Bind) -> Result<u32, Refusal> {
        let ask = Ask::Bind(bind.clone());
        self.ports
            .find(self.reactor.registry(), &ask, WorkerId(who), false)
    }

    #[track_caller]
    fn errno(&mut self, who: u32, bind: &Bind) -> i32 {
        self.ask(who, bind).unwrap_err().errno
    }

    fn address(&self, number: u32) -> SocketAddr {
        match self.ports.get(number).unwrap().address {
            Address::Inet(address) => address,
            Address::Unix(_) => panic!("an address with a port"),
        }
    }

    fn release(&mut self, who: u32, number: u32) {
        self.ports.release(number, WorkerId(who));
    }

    fn close_unused(&mut self) {
        self.ports.close_unused(self.reactor.registry());
    }

    fn forget(&mut self, who: u32) {
        self.ports.forget(self.reactor.registry(), WorkerId(who));
    }
}

fn at(place: Place) -> Bind {
    Bind {
        place,
        nth: 0,
        backlog: None,
        data: None,
    }
}

fn tcp(address: Option<IpAddr>, port: u16) -> Bind {
    at(Place::Tcp {
        address,
        port,
        v6_only: false,
    })
}

fn nth(nth: u32, bind: Bind) -> Bind {
    Bind { nth, ..bind }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn the_same_place_is_the_same_listener_for_all() {
    let mut node = Node::new();
    let bind = tcp(Some(LOCALHOST), free_port());
    let number = node.ask(1, &bind).unwrap();
    assert_eq!(node.ask(2, &nth(3, bind.clone())), Ok(number));
    let _client = TcpStream::connect(node.address(number)).unwrap();
    // Once more for one who has it: as if by itself.
    assert_eq!(node.errno(1, &bind), libc::EADDRINUSE);
    assert_eq!(node.errno(2, &nth(1, bind.clone())), libc::EADDRINUSE);
    node.release(1, number);
    assert_eq!(node.ask(1, &bind), Ok(number));
}

#[test]
fn each_nth_free_port_is_the_same_for_all() {
    let mut node = Node::new();
    let bind = tcp(Some(LOCALHOST), 0);
    let first = node.ask(1, &bind).unwrap();
    let second = node.ask(1, &nth(1, bind.clone())).unwrap();
    assert_ne!(node.address(first).port(), node.address(second).port());
    assert_eq!(node.ask(2, &nth(1, bind.clone())), Ok(second));
    assert_eq!(node.ask(2, &bind), Ok(first));
    assert_eq!(node.errno(2, &bind), libc::EADDRINUSE);
}

#[test]
fn what_failed_is_tried_again() {
    let mut node = Node::new();
    let other = TcpListener::bind((LOCALHOST, 0)).unwrap();
    let bind = tcp(Some(LOCALHOST), other.local_addr().unwrap().port());
    assert_eq!(node.errno(1, &bind), libc::EADDRINUSE);
    assert_eq!(node.ports.addresses(), [""; 0]);
    drop(other);
    assert!(node.ask(1, &bind).is_ok());
    let nowhere = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(
        node.errno(1, &tcp(Some(nowhere), 0)),
        libc::EADDRNOTAVAIL,
        "as the kernel says"
    );
}

#[test]
fn what_the_first_one_tells_is_told_to_all() {
    let mut node = Node::new();
    let bind = tcp(Some(LOCALHOST), 0);
    let mut keys = |who: u32, data: Option<&str>| {
        let bind = Bind {
            data: data.map(str::to_owned),
            ..bind.clone()
        };
        let number = node.ask(who, &bind).unwrap();
        node.ports.get(number).unwrap().data.clone()
    };
    assert_eq!(keys(1, None), None);
    assert_eq!(keys(2, Some("first")).as_deref(), Some("first"));
    assert_eq!(keys(3, Some("second")).as_deref(), Some("first"));
    assert_eq!(keys(4, None).as_deref(), Some("first"));
}

#[test]
fn what_the_living_close_goes_and_what_the_dead_had_stays() {
    let mut node = Node::new();
    let bind = tcp(Some(LOCALHOST), 0);
    let number = node.ask(1, &bind).unwrap();
    let address = node.address(number);
    node.ask(2, &bind).unwrap();
    node.release(1, number);
    node.release(1, number);
    node.forget(2);
    node.release(2, number);
    assert_eq!(node.ports.addresses(), [format!("http://{address}")]);
    assert!(TcpStream::connect(address).is_ok(), "nobody is refused");
    assert_eq!(node.ask(3, &bind), Ok(number), "who comes next has it");
    node.close_unused();
    assert!(node.ports.get(number).is_some());
    node.release(3, number);
    node.close_unused();
    assert!(node.ports.get(number).is_none());
    assert!(TcpStream::connect(address).is_err());

    let number = node.ask(4, &bind).unwrap();
    node.forget(4);
    node.close_unused();
    assert!(node.ports.get(number).is_none());

    // Not so where workers are no programs.
    node.ports.keeps = false;
    let number = node.ask(5, &bind).unwrap();
    node.forget(5);
    assert!(node.ports.get(number).is_none());
}

#[test]
fn a_listener_is_split_and_shared_as_any() {
    let mut node = Node::new();
    let number = node.ask(1, &tcp(Some(LOCALHOST), 0)).unwrap();
    let registry = node.reactor.registry();
    for (policy, places) in [
        (SchedulingPolicy::RoundRobin, 0),
        (SchedulingPolicy::Shared, 1),
        (SchedulingPolicy::ReusePort, 3),
    ] {
        let sockets = (0..3).filter_map(|place| {
            let socket = node.ports.socket(registry, number, place, &policy);
            socket.map(|socket| socket.as_raw_fd())
        });
        let sockets: std::collections::BTreeSet<_> = sockets.collect();
        assert_eq!(sockets.len(), places, "{policy}");
    }
}

fn unix(path: &Path, readable_all: bool, writable_all: bool) -> Bind {
    at(Place::Unix {
        path: path.to_owned(),
        readable_all,
        writable_all,
    })
}

/// A directory of its own, gone with this.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let own = format!("mcluster-bind-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(own);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn paths_have_the_rights_that_are_asked_for_and_go_with_their_users() {
    let directory = Directory::new("modes");
    let mut node = Node::new();
    let plain = directory.0.join("plain");
    let number = node.ask(1, &unix(&plain, false, false)).unwrap();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    let usual = mode(&plain);
    for (readable, writable, more) in [
        (true, false, 0o444),
        (false, true, 0o222),
        (true, true, 0o666),
    ] {
        let path = directory.0.join(format!("{more:o}"));
        let number = node.ask(1, &unix(&path, readable, writable)).unwrap();
        assert_eq!(mode(&path), usual | more);
        assert_eq!(node.ask(2, &unix(&path, readable, writable)), Ok(number));
        node.release(1, number);
        node.close_unused();
        assert!(UnixStream::connect(&path).is_ok());
        node.release(2, number);
        node.close_unused();
        assert!(!path.exists());
    }
    assert_eq!(node.errno(1, &unix(&plain, false, false)), libc::EADDRINUSE);
    // What is no socket, and what answers, is somebody's.
    let file = directory.0.join("file");
    fs::write(&file, "precious").unwrap();
    assert_eq!(node.errno(1, &unix(&file, false, false)), libc::EADDRINUSE);
    assert_eq!(node.errno(1, &unix(&plain, true, true)), libc::EADDRINUSE);
    let nowhere = directory.0.join("no/such/directory");
    assert_eq!(node.errno(1, &unix(&nowhere, false, false)), libc::ENOENT);
    assert_eq!(
        node.errno(1, &unix(Path::new(""), false, false)),
        libc::EINVAL
    );
    node.forget(1);
    assert!(plain.exists(), "for whoever comes next");
    assert_eq!(node.ask(2, &unix(&plain, false, false)), Ok(number));
    node.ports.close_all(node.reactor.registry());
    assert!(!plain.exists());
}

#[test]
fn a_path_may_be_longer_than_the_kernel_takes() {
    let directory = Directory::new("long");
    let deep = directory.0.join("d".repeat(120));
    fs::create_dir(&deep).unwrap();
    let path = deep.join("s".repeat(80));
    let mut node = Node::new();
    let number = node.ask(1, &unix(&path, true, true)).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o666, 0o666);
    let port = node.ports.get(number).unwrap();
    assert_eq!(port.address, Address::Unix(path.clone()));
    let other = deep.join("s".repeat(108));
    assert_eq!(
        node.errno(1, &unix(&other, false, false)),
        libc::ENAMETOOLONG
    );
    node.release(1, number);
    node.close_unused();
    assert!(!path.exists());
}

fn udp(port: u16, reuse_address: bool) -> Bind {
    at(Place::Udp {
        address: LOCALHOST,
        port,
        v6_only: false,
        reuse_address,
    })
}

#[test]
fn datagrams_are_shared_whatever_the_policy() {
    let mut node = Node::new();
    let number = node.ask(1, &udp(0, false)).unwrap();
    assert_eq!(node.ask(2, &udp(0, false)), Ok(number));
    let address = node.address(number);
    assert_eq!(node.ports.addresses(), [format!("udp://{address}")]);
    let client = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    for policy in [
        SchedulingPolicy::RoundRobin,
        SchedulingPolicy::Shared,
        SchedulingPolicy::ReusePort,
        SchedulingPolicy::StickyIpReusePort,
    ] {
        let registry = node.reactor.registry();
        node.ports.mind(registry, &policy, |_, _| false);
        let socket = node.ports.socket(registry, number, 1, &policy).unwrap();
        let server = UdpSocket::from(socket.try_clone_to_owned().unwrap());
        client.send_to(b"x", address).unwrap();
        assert_eq!(server.recv(&mut [0; 8]).unwrap(), 1, "{policy}");
    }
    node.ports.shut(node.reactor.registry());
    let now = node.reactor.now();
    node.ports.open_again(node.reactor.registry(), now);
    assert_eq!(node.errno(3, &udp(address.port(), false)), libc::EADDRINUSE);
    node.release(1, number);
    node.forget(2);
    node.close_unused();
    assert!(UdpSocket::bind(address).is_ok());
}

#[test]
fn one_worker_has_a_udp_address_several_times_if_it_says_so() {
    let mut node = Node::new();
    let other = UdpSocket::bind((LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    drop(other);
    let first = node.ask(1, &udp(port, true)).unwrap();
    let second = node.ask(1, &nth(1, udp(port, true))).unwrap();
    assert_ne!(first, second);
    assert_eq!(node.ask(2, &nth(4, udp(port, true))), Ok(first));
    assert_eq!(node.ask(2, &nth(5, udp(port, true))), Ok(second));
    assert_eq!(node.errno(3, &udp(port, false)), libc::EADDRINUSE);
}

/// As execve(2) would leave it to us: without close-on-exec.
fn leave(fd: impl Into<OwnedFd>) -> i32 {
    let fd = fd.into();
    exec::keep_across_exec(fd.as_fd(), true).unwrap();
    fd.into_raw_fd()
}

fn fd(fd: i32, datagrams: bool) -> Bind {
    at(Place::Fd { fd, datagrams })
}

#[test]
fn the_settings_listeners_have_numbers_of_descriptors() {
    let mut node = Node::new();
    for _ in 0..2 {
        let listener = bind_tcp(Some(LOCALHOST), 0, false, 8).unwrap();
        let registry = node.reactor.registry();
        node.ports.add(registry, listener, String::new()).unwrap();
    }
    for who in [1, 2] {
        assert_eq!(node.ask(who, &fd(3, false)), Ok(0));
        assert_eq!(node.ask(who, &fd(4, false)), Ok(1));
        assert_eq!(node.errno(who, &fd(4, false)), libc::EADDRINUSE);
    }
    node.release(1, 1);
    node.release(2, 1);
    node.close_unused();
    assert!(node.ports.get(1).is_some(), "it is the settings'");
}

#[test]
fn descriptors_are_those_that_were_inherited() {
    let mut node = Node::new();
    let own = TcpListener::bind((LOCALHOST, 0)).unwrap();
    for number in [i32::MIN, -1, 0, 2, 1_000_000_000, own.as_raw_fd()] {
        assert_eq!(node.errno(1, &fd(number, false)), libc::EBADF, "{number}");
        assert_eq!(node.errno(1, &fd(number, true)), libc::EBADF, "{number}");
    }
    let address = own.local_addr().unwrap();
    let listener = leave(own);
    assert_eq!(node.errno(1, &fd(listener, true)), libc::EINVAL);
    let number = node.ask(1, &fd(listener, false)).unwrap();
    assert_eq!(node.ask(2, &fd(listener, false)), Ok(number));
    assert_eq!(node.address(number), address);

    // One that is bound and does not listen yet.
    let bound = bind_only();
    let bound = node.ask(1, &fd(leave(bound), false)).unwrap();
    assert!(TcpStream::connect(node.address(bound)).is_ok());

    let datagrams = leave(UdpSocket::bind((LOCALHOST, 0)).unwrap());
    assert_eq!(node.errno(1, &fd(datagrams, false)), libc::EINVAL);
    let number = node.ask(1, &fd(datagrams, true)).unwrap();
    assert!(node.ports.get(number).unwrap().url().starts_with("udp://"));

    let (end, _other) = UnixStream::pair().unwrap();
    assert_eq!(node.errno(1, &fd(leave(end), false)), libc::EINVAL);
}

fn bind_only() -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    let address = SocketAddr::new(LOCALHOST, 0);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    fd
}

#[test]
fn workers_of_another_user_get_nothing_by_the_primarys_rights() {
    let mut node = Node::new();
    let directory = Directory::new("dropped");
    let path = directory.0.join("x.sock");
    let cases = [
        tcp(Some(LOCALHOST), 80),
        tcp(None, 1023),
        unix(&path, false, false),
        fd(7, false),
        at(Place::Udp {
            address: LOCALHOST,
            port: 53,
            v6_only: false,
            reuse_address: true,
        }),
    ];
    for bind in cases {
        let ask = Ask::Bind(bind);
        let registry = node.reactor.registry();
        let found = node.ports.find(registry, &ask, WorkerId(1), true);
        assert_eq!(found.unwrap_err().errno, libc::EACCES, "{ask:?}");
    }
    for number in 0..asked::MOST_ASKED as u32 {
        let ask = Ask::Bind(nth(number, tcp(Some(LOCALHOST), 0)));
        let registry = node.reactor.registry();
        let found = node.ports.find(registry, &ask, WorkerId(1), true);
        assert_eq!(found, Ok(number));
    }
    assert_eq!(node.errno(1, &nth(99, tcp(None, 0))), libc::EMFILE);
}

#[test]
fn both_families_are_served_unless_one_is_asked_for() {
    let mut node = Node::new();
    let number = node.ask(1, &tcp(None, 0)).unwrap();
    let port = node.address(number).port();
    assert!(TcpStream::connect((LOCALHOST, port)).is_ok());
    if node.address(number).is_ipv4() {
        // A machine without IPv6 has nothing more to test.
        return;
    }
    let v6 = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    for v6_only in [false, true] {
        let bind = at(Place::Tcp {
            address: Some(v6),
            port: 0,
            v6_only,
        });
        let number = node.ask(1, &bind).unwrap();
        let port = node.address(number).port();
        let over_ipv4 = TcpStream::connect((LOCALHOST, port));
        assert_eq!(over_ipv4.is_ok(), !v6_only);
    }
}
