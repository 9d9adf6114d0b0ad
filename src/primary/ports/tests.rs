//! What of the listeners shows without a cluster around them.

use super::super::rendezvous::Affinity;
use super::*;
use crate::net::{Listen, Reactor};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

fn any() -> Listener {
    let listen: Listen = "127.0.0.1:0".parse().unwrap();
    listen.bind().unwrap()
}

/// A connection from an address of the client's choice.
fn connect_from(source: IpAddr, address: SocketAddr) -> OwnedFd {
    let family = match source {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let source = SockaddrStorage::from(SocketAddr::new(source, 0));
    bind(fd.as_raw_fd(), &source).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    fd
}

/// Four hundred clients on one machine.
fn sources() -> impl Iterator<Item = IpAddr> {
    (1..=400).map(|number| Ipv4Addr::new(127, 1, (number / 200) as u8, (number % 200) as u8).into())
}

/// One listener with so many sockets, as their workers ask for them, from the last to the first.
struct Group {
    reactor: Reactor,
    ports: Ports,
    port: u16,
}

const STICKY: SchedulingPolicy = SchedulingPolicy::StickyIpReusePort;

impl Group {
    fn new(words: &str, places: usize) -> Option<Self> {
        let listener = words.parse::<Listen>().unwrap().bind();
        let Ok(listener) = listener else {
            // A machine without IPv6 has nothing to test.
            assert!(words.contains('['), "{words}: {listener:?}");
            return None;
        };
        let Address::Inet(address) = *listener.address() else {
            panic!("an address with a port");
        };
        let mut group = Self {
            reactor: Reactor::new().unwrap(),
            ports: Ports::new(),
            port: address.port(),
        };
        let registry = group.reactor.registry();
        group
            .ports
            .add(registry, listener, words.to_owned())
            .unwrap();
        group.ask_for(places);
        Some(group)
    }

    fn ask_for(&mut self, places: usize) {
        for place in (0..places).rev() {
            let socket = self
                .ports
                .socket(self.reactor.registry(), 0, place, &STICKY);
            assert!(socket.is_some(), "place {place}");
        }
        assert!(!self.ports.take_untold());
    }

    fn shut_and_open(&mut self) {
        self.ports.shut(self.reactor.registry());
        let now = self.reactor.now();
        self.ports.open_again(self.reactor.registry(), now);
    }

    /// The place of the socket where a new connection from `source` arrives.
    fn place_of(&self, source: IpAddr) -> usize {
        let host = match source {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => source,
        };
        let _client = connect_from(source, SocketAddr::new(host, self.port));
        let mut sockets = self.ports.own_sockets();
        let found = sockets.find(|(_, token)| {
            let listener = self.ports.gate.listener(*token).unwrap();
            listener.accept().is_ok()
        });
        found.expect("somewhere").0
    }

    /// How many of the clients arrive elsewhere than rendezvous hashing says.
    #[track_caller]
    fn strays(&self, places: usize) -> usize {
        let stray = |source: &IpAddr| {
            let affinity = Affinity::of_ip(*source);
            let heaviest = (0..places).max_by_key(|place| affinity.weight(*place));
            Some(self.place_of(*source)) != heaviest
        };
        sources().filter(stray).count()
    }

    fn close(mut self) {
        self.ports.close_all(self.reactor.registry());
    }
}

#[test]
fn the_kernel_chooses_as_rendezvous_hashing_does() {
    for words in ["127.0.0.1:0", "[::]:0", ":0"] {
        let Some(mut group) = Group::new(words, 5) else {
            continue;
        };
        if words != "[::]:0" {
            assert_eq!(group.strays(5), 0, "{words}");
            group.ask_for(8);
            assert_eq!(group.strays(8), 0, "{words}");
            group.shut_and_open();
            group.ask_for(8);
            assert_eq!(group.strays(8), 0, "{words}, closed and opened again");
        }
        if words != "127.0.0.1:0" && TcpStream::connect(("::1", group.port)).is_ok() {
            let source: IpAddr = "::1".parse().unwrap();
            let affinity = Affinity::of_ip(source);
            group.ports.own_sockets().for_each(|(_, token)| {
                let _ = group.ports.gate.listener(token).unwrap().accept();
            });
            for places in 8..16 {
                group.ask_for(places);
                let heaviest = (0..places).max_by_key(|place| affinity.weight(*place));
                assert_eq!(Some(group.place_of(source)), heaviest, "{words}, {places}");
            }
        }
        group.close();
    }
}

#[test]
fn another_policy_takes_the_choice_back() {
    let mut group = Group::new("127.0.0.1:0", 4).unwrap();
    let policy = &SchedulingPolicy::ReusePort;
    for _ in 0..2 {
        group
            .ports
            .mind(group.reactor.registry(), policy, |_, _| true);
        assert!(group.strays(4) > 200, "by all of the address and the port");
    }
    group
        .ports
        .mind(group.reactor.registry(), &STICKY, |_, _| true);
    assert_eq!(group.strays(4), 0);
    group.close();
}

#[cfg(feature = "programs")]
#[test]
fn nobody_is_led_to_places_that_are_to_be_empty() {
    let mut group = Group::new("127.0.0.1:0", 4).unwrap();
    let policy = &SchedulingPolicy::ReusePort;
    let lead = |group: &mut Group, places: usize| {
        group
            .ports
            .mind(group.reactor.registry(), policy, |_, _| true);
        group.ports.lead(&(0..places).collect());
        let reached: SortedSet<usize> = sources().map(|source| group.place_of(source)).collect();
        let past: Vec<usize> = (0..4)
            .filter(|place| group.ports.leads_past(*place))
            .collect();
        (Vec::from_iter(reached.iter().copied()), past)
    };
    assert_eq!(lead(&mut group, 2), (vec![0, 1], vec![2, 3]));
    assert_eq!(lead(&mut group, 1), (vec![0], vec![1, 2, 3]));
    assert_eq!(lead(&mut group, 3), (vec![0, 1, 2], vec![3]));
    group.ports.lead(&[1, 3].into_iter().collect());
    let reached: SortedSet<usize> = sources().map(|source| group.place_of(source)).collect();
    assert!(reached.iter().eq(&[1, 3]));
    let last = *group.ports.ports.get(&0).unwrap().beside.get(&3).unwrap();
    assert!(!group.ports.has_waiting(3));
    group.ports.lead(&(0..4).collect());
    let mut clients = Vec::new();
    while !group.ports.has_waiting(3) {
        clients.push(TcpStream::connect(("127.0.0.1", group.port)).unwrap());
    }
    drop(clients);
    for (_, token) in group.ports.own_sockets() {
        while group.ports.gate.listener(token).unwrap().accept().is_ok() {}
    }
    assert_eq!(lead(&mut group, 3), (vec![0, 1, 2], vec![3]));
    // What a worker has started may have its socket.
    let listener = group.ports.gate.listener(last).unwrap();
    let _copy = listener.as_fd().try_clone_to_owned().unwrap();
    group.ports.close_places(group.reactor.registry(), 3);
    assert!(group.ports.gate.listener(last).is_none());
    assert_eq!(lead(&mut group, 3), (vec![0, 1, 2], vec![]));
    let socket = group
        .ports
        .socket(group.reactor.registry(), 0, 3, policy)
        .is_some();
    assert!(socket);
    assert_eq!(lead(&mut group, 4), (vec![0, 1, 2, 3], vec![]));
    group.close();
}

#[test]
fn sockets_out_of_order_are_left_to_the_primary() {
    let mut group = Group::new("127.0.0.1:0", 3).unwrap();
    let open = |group: &mut Group| -> Vec<bool> {
        group
            .ports
            .mind(group.reactor.registry(), &STICKY, |_, _| true);
        let all = group.ports.own_sockets();
        all.map(|(_, token)| group.ports.gate.is_open(token))
            .collect()
    };
    assert_eq!(open(&mut group), [false; 3]);
    group.ports.shut(group.reactor.registry());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, group.port));
    let other = TcpListener::bind(address).unwrap();
    let now = group.reactor.now();
    group.ports.open_again(group.reactor.registry(), now);
    drop(other);
    assert!(group.ports.resume_at(group.reactor.registry(), now + RETRY));
    assert_eq!(open(&mut group), [true; 3]);
    assert!(group.ports.take_untold() && !group.ports.take_untold());
    for place in 0..3 {
        let socket = group
            .ports
            .socket(group.reactor.registry(), 0, place, &STICKY);
        assert!(socket.is_none(), "place {place}");
    }
    // The kernel may go by its own mind again, and once all have been closed, by ours.
    let plain = &SchedulingPolicy::ReusePort;
    let own = group.ports.socket(group.reactor.registry(), 0, 3, plain);
    assert!(own.is_some());
    assert_eq!(group.ports.own_sockets().count(), 4, "one more is its own");
    group.shut_and_open();
    group.ask_for(4);
    assert_eq!(group.strays(4), 0);
    assert_eq!(open(&mut group), [false; 4]);
    group.close();
}

#[test]
fn more_places_than_fit_are_left_to_the_primary() {
    let mut group = Group::new("127.0.0.1:0", 1).unwrap();
    // Older kernels have less, and take fewer.
    let most = std::fs::read_to_string("/proc/sys/net/core/optmem_max");
    if most.is_ok_and(|most| most.trim().parse().is_ok_and(|most: u32| most >= 1 << 17)) {
        group.ask_for(268);
        assert_eq!(group.strays(268), 0);
    }
    let registry = group.reactor.registry();
    assert!(group.ports.socket(registry, 0, 268, &STICKY).is_none());
    assert!(group.ports.socket(registry, 0, 0, &STICKY).is_none());
    assert!(group.ports.take_untold());
    group.close();
}

#[cfg(feature = "control")]
#[test]
fn what_the_kernel_cannot_choose_for_is_left_to_the_primary() {
    let reactor = Reactor::new().unwrap();
    let mut ports = Ports::new();
    let first = any();
    let before = Restored {
        number: 0,
        configured: None,
        ask: None,
        beside: vec![(2, first.sibling(8).unwrap())],
        first: First::Listener(first),
        steering: None,
        users: SortedSet::new(),
        data: None,
    };
    let restored = Ports::restored(reactor.registry(), vec![before], 1).unwrap();
    let socket = std::os::fd::AsFd::as_fd(&any()).try_clone_to_owned();
    let inherited = Listener::restored(socket.unwrap(), true);
    let inherited = inherited.unwrap();
    ports
        .add(reactor.registry(), inherited, String::new())
        .unwrap();
    for mut ports in [ports, restored] {
        for place in [0, 2] {
            let socket = ports.socket(reactor.registry(), 0, place, &STICKY);
            assert!(socket.is_none());
        }
        assert!(ports.take_untold());
        ports.mind(reactor.registry(), &STICKY, |_, _| true);
        let all_open = ports
            .own_sockets()
            .all(|(_, token)| ports.gate.is_open(token));
        assert!(all_open);
        assert!(ports.gate.is_open(LISTENERS));
        ports.close_all(reactor.registry());
    }
}

#[test]
fn workers_accept_what_they_are_granted_where_the_kernel_counts() {
    use SchedulingPolicy::{LeastConnections, ReusePort, RoundRobin, Shared, StickyIp};
    let mut reactor = Reactor::new().unwrap();
    let mut ports = Ports::new();
    let name = format!("mcluster-queue-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let words = ["127.0.0.1:0".to_owned(), format!("unix:{}", path.display())];
    for words in words {
        let listener = words.parse::<Listen>().unwrap().bind().unwrap();
        ports.add(reactor.registry(), listener, words).unwrap();
    }
    let (tcp, unix) = (0, 1);
    for policy in [RoundRobin, LeastConnections] {
        assert!(ports.queue(tcp, &policy).is_some());
        assert_eq!(ports.granted(&policy), [LISTENERS]);
        assert!(ports.queue(unix, &policy).is_none(), "{policy}");
        let own = ports.socket(reactor.registry(), tcp, 0, &policy);
        assert!(own.is_none(), "nobody accepts by himself");
    }
    for policy in [Shared, ReusePort, StickyIp] {
        assert!(ports.granted(&policy).is_empty(), "{policy}");
    }
    // It is told of each, however many wait.
    ports.mind(reactor.registry(), &RoundRobin, |_, _| false);
    let address = ports.get(tcp).unwrap().address.to_string();
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(TcpStream::connect(&address).unwrap());
        reactor.wait(None).unwrap();
        assert_eq!(reactor.ready().count(), 1);
        let now = reactor.now();
        reactor.wait(Some(now)).unwrap();
        assert_eq!(reactor.ready().count(), 0, "it would spin");
    }
    // Programs know no grants.
    ports.keeps = true;
    assert!(ports.granted(&RoundRobin).is_empty());
    ports.close_all(reactor.registry());
}

#[test]
fn an_address_that_was_lost_keeps_no_other_from_its_clients() {
    let mut reactor = Reactor::new().unwrap();
    let mut ports = Ports::new();
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let listener = any();
        addresses.push(listener.address().to_string());
        ports
            .add(reactor.registry(), listener, String::new())
            .unwrap();
    }
    let policy = &SchedulingPolicy::RoundRobin;
    ports.mind(reactor.registry(), policy, |_, _| false);
    ports.shut(reactor.registry());
    for address in &addresses {
        assert!(TcpStream::connect(address).is_err());
    }
    let other = TcpListener::bind(&addresses[0]).unwrap();
    let now = reactor.now();
    ports.open_again(reactor.registry(), now);
    let _clients = [&addresses[1], &addresses[2]].map(|one| TcpStream::connect(one).unwrap());
    reactor.wait(Some(now + RETRY)).unwrap();
    let ready: Vec<_> = reactor.ready().map(|one| one.token).collect();
    assert_eq!(ready.len(), 2, "{ready:?}: the lost one is not waited for");
    assert!(
        ports
            .socket(reactor.registry(), 0, 0, &SchedulingPolicy::Shared)
            .is_none(),
        "no worker gets it"
    );
    // It is tried again until its address is free.
    assert_eq!(ports.deadline(), Some(now + RETRY));
    assert!(!ports.resume_at(reactor.registry(), now));
    assert!(!ports.resume_at(reactor.registry(), now + RETRY));
    drop(other);
    assert!(ports.resume_at(reactor.registry(), now + 2 * RETRY));
    assert_eq!(ports.deadline(), None);
    let _client = TcpStream::connect(&addresses[0]).unwrap();
    let first = LISTENERS;
    let now = reactor.now();
    let accepted = ports.gate.accept(reactor.registry(), first, now);
    assert!(matches!(
        accepted,
        crate::server::gate::Accepted::Connection(..)
    ));
    ports.close_all(reactor.registry());
}
